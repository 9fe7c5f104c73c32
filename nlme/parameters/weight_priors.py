"""Priors of a network's weights, said for the whole network: ``priors={"net": nlme.weight_prior("horseshoe", 0.1)}``.

With n the inputs that a weight's unit has (1 of a bias), and z_j ~ N(0, 1) throughout:

| name             | weight j, in group g                                                                                          |
|------------------|---------------------------------------------------------------------------------------------------------------|
| ``gaussian``     | w_j = scale z_j / sqrt(n)                                                                                     |
| ``hierarchical`` | w_j = tau_g z_j / sqrt(n),          tau_g ~ HalfNormal(scale)                                                  |
| ``horseshoe``    | w_j = tau_g lambda~_j z_j / sqrt(n),  tau_g ~ HalfCauchy(scale),  lambda_j ~ HalfCauchy(1),                     |
|                  | lambda~_j = c lambda_j / sqrt(c^2 + tau_g^2 lambda_j^2), c the slab: the most that a weight's scale can be     |

A group is a layer or the network; its scale tau_g is learned with the weights.  What moves is z, log tau and log lambda (the
parametrisation without centres): given little data the weights' own coordinates have a funnel, these do not.

Sources: Neal (1996), Bayesian Learning for Neural Networks, Springer, 2.1 (scales by layer, divided by the root of the inputs);
Gelman (2006), Bayesian Analysis 1:515, doi:10.1214/06-BA117A (half normal and half Cauchy scales); Piironen & Vehtari (2017),
Electron J Stat 11:5018, doi:10.1214/17-EJS1337SI (regularised horseshoe); Ghosh, Yao & Doshi-Velez (2019), J Mach Learn Res 20:182
(horseshoes for networks).
"""

from __future__ import annotations

import dataclasses
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.parameters.domains import is_numeric
from nlme.parameters.inventory import Entry

KINDS = ("gaussian", "hierarchical", "horseshoe")
GROUPS = ("layer", "network")


@dataclasses.dataclass(frozen=True)
class WeightPrior:
    """A prior of all weights of a network; make one with :func:`weight_prior`."""

    kind: str
    scale: float
    by: str
    slab: float
    fan_in: bool

    def __repr__(self) -> str:
        own = [repr(self.kind), f"{self.scale:.4g}"]
        own += [f"by={self.by!r}"] if self.kind != "gaussian" else []
        own += [f"slab={self.slab:.4g}"] if self.kind == "horseshoe" else []
        return f"weight_prior({', '.join(own + ([] if self.fan_in else ['fan_in=False']))})"


def weight_prior(kind: str, scale: float, *, by: str = "layer", slab: float = 2.0, fan_in: bool = True) -> WeightPrior:
    """A prior of a network's weights, for ``priors=`` under the network's name; formulas: :mod:`nlme.parameters.weight_priors`.

    Parameters
    ----------
    kind : "gaussian", "hierarchical" (one learned scale for each group) or "horseshoe" (and one for each weight: few large ones,
        the others next to none)
    scale : of a gaussian the weights' standard deviation, otherwise that of the scales' own prior; positive
    by : "layer" or "network": the weights that share a learned scale
    slab : of a horseshoe, the largest scale that a weight can have
    fan_in : divide by the root of the number of inputs of a weight's unit, so that the learned function's spread does not grow with
        the width of the network

    Raises
    ------
    ModelError
        Another kind or group, a scale that is not positive.
    """
    if kind not in KINDS:
        raise ModelError(f"weight_prior: kind is one of {', '.join(map(repr, KINDS))}; got {kind!r}.")
    if by not in GROUPS:
        raise ModelError(f"weight_prior: by is 'layer' or 'network', the weights that share a learned scale; got {by!r}.")
    for name, value in (("scale", scale), ("slab", slab)):
        if not is_numeric(value) or np.ndim(value) or not 0.0 < value < np.inf:
            raise ModelError(f"weight_prior: {name} is a positive number; got {value!r}.")
    if not isinstance(fan_in, bool):
        raise ModelError(f"weight_prior: fan_in is True or False; got {fan_in!r}.")
    return WeightPrior(kind, float(scale), by, float(slab), fan_in)


class WeightSite:
    """The weights under one ``WeightPrior`` (see ``nlme.parameters.priors.Site``): u = (log tau, log lambda, z), what there is of it.

    Parameters
    ----------
    key : under which the prior was given
    prior : what was given
    parts : (field, positions in it) of every field of the network
    model : says how many inputs the units have
    """

    moves_to_a_mode = True

    def __init__(self, key: str, prior: WeightPrior, parts: list[tuple[Entry, np.ndarray]], model):
        self.key, self.prior, self.parts = key, prior, parts
        kinds = {kind for entry, index in parts for kind in np.array(entry.kinds)[index]}
        if kinds != {"weight"}:
            other = min(kinds - {"weight"})
            raise ModelError(
                f"priors: {prior!r} is of a network's weights, and {key!r} is a {other}: give a NumPyro distribution."
            )
        names = [entry.names[k] for entry, index in parts for k in index]
        groups = [_layer(name) if prior.by == "layer" else key for name in names]
        labels = list(dict.fromkeys(groups))
        self._group = np.array([labels.index(g) for g in groups])
        inputs = np.concatenate([_inputs(entry.get(model))[index] for entry, index in parts])
        self._root = np.sqrt(inputs) if prior.fan_in else np.ones(len(names))
        self.count = len(names)
        learned, local = prior.kind != "gaussian", prior.kind == "horseshoe"
        self.scale_labels = tuple(labels) * learned  # what is learned; () of a gaussian
        self._taus, self._lambdas = len(self.scale_labels), local * self.count
        self.size = self._taus + self._lambdas + self.count

    @property
    def of_weights(self) -> np.ndarray:
        """(size,) whether a coordinate is a weight's own, and not a scale that a group shares."""
        return np.arange(self.size) >= self._taus

    def _split(self, u: Float[Array, " size"]):
        return jnp.split(u, [self._taus, self._taus + self._lambdas])

    @property
    def _law_of_scales(self):
        """The prior of tau."""
        from numpyro.distributions import HalfCauchy, HalfNormal

        return (HalfCauchy if self._lambdas else HalfNormal)(self.prior.scale)

    def _scale(self, logs: Float[Array, " G"], local: Float[Array, " n"]) -> Float[Array, " n"]:
        """The standard deviation of every weight given the scales."""
        if not self._taus:
            return self.prior.scale / self._root
        tau = jnp.exp(logs)[self._group]
        if self._lambdas:
            # tau lambda~ = c t / sqrt(c^2 + t^2), t = tau lambda, written so that a large t overflows nothing
            tau = self.prior.slab / jnp.sqrt(1.0 + (self.prior.slab * jnp.exp(-local) / tau) ** 2)
        return tau / self._root

    def placed(self, model, u: Float[Array, " size"]):
        """``model`` with the weights at ``u``, and the log density of u."""
        from numpyro.distributions import HalfCauchy, Normal

        logs, local, z = self._split(u)
        density = jnp.sum(Normal(0.0, 1.0).log_prob(z))
        if self._taus:
            density = density + jnp.sum(self._law_of_scales.log_prob(jnp.exp(logs)) + logs)
        if self._lambdas:
            density = density + jnp.sum(HalfCauchy(1.0).log_prob(jnp.exp(local)) + local)
        values, start = self._scale(logs, local) * z, 0
        for entry, index in self.parts:
            new = entry.natural(model).at[index].set(values[start : start + len(index)])
            model, start = eqx.tree_at(entry.get, model, entry.at_natural(model, new)), start + len(index)
        return model, density

    def start(self, model) -> Float[Array, " size"]:
        """u of the weights of ``model``, which say nothing of the scales: these at their prior's own."""
        logs, local = jnp.full(self._taus, jnp.log(self.prior.scale)), jnp.zeros(self._lambdas)
        return jnp.concatenate([logs, local, self._read(model) / self._scale(logs, local)])

    def drawn(self, key, count: int) -> Float[Array, "count size"]:
        """So many u from the prior."""
        from numpyro.distributions import HalfCauchy

        first, second, third = jax.random.split(key, 3)
        logs = jnp.log(self._law_of_scales.sample(first, (count, self._taus)))
        local = jnp.log(HalfCauchy(1.0).sample(second, (count, self._lambdas)))
        return jnp.concatenate([logs, local, jax.random.normal(third, (count, self.count))], axis=1)

    def scales(self, u: Float[Array, " size"]) -> Float[Array, " G"]:
        """The learned scale of every group."""
        return jnp.exp(self._split(u)[0])

    def log_density(self, model) -> Float[Array, ""]:
        """Log density of the weights on their own scale, where there is one with a mode.

        Raises
        ------
        ModelError
            Learned scales: the density of the weights alone is infinite where all are 0.
        """
        from numpyro.distributions import Normal

        if self._taus:
            raise ModelError(
                f"priors: {self.prior!r} has no mode to search: with scales that are learned the density is infinite where all "
                f"weights are 0. nlme.sample samples it; for a maximum a posteriori give weight_prior('gaussian', ...)."
            )
        return jnp.sum(Normal(0.0, self.prior.scale / self._root).log_prob(self._read(model)))

    def _read(self, model) -> Float[Array, " n"]:
        return jnp.concatenate([entry.natural(model)[index] for entry, index in self.parts])


def _layer(name: str) -> str:
    """The layer of a weight: "layer 1" of net.weights[0][2,3] and net.biases[0][2]; the field where there are no layers."""
    leaf = re.sub(r"\[[\d,]+\]$", "", name)
    found = re.search(r"\[(\d+)\]", leaf)
    return f"layer {int(found[1]) + 1}" if found else leaf.rpartition(".")[2]


def _inputs(value) -> np.ndarray:
    """For every number of a field, the inputs of its unit: rows of matrices; 1 of a vector."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(value)]
    return np.concatenate([np.full(int(np.prod(shape, dtype=int)), float(np.prod(shape[1:], dtype=int))) for shape in shapes])
