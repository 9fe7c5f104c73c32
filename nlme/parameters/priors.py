"""Prior distributions of population parameters, by name, and the unconstrained coordinates in which a sampler moves.

A prior is a NumPyro distribution on the natural scale of what its name says:

| name                                | prior of                                                                               |
|-------------------------------------|----------------------------------------------------------------------------------------|
| ``"cl"``, ``"net.weights[0][1,2]"`` | one parameter                                                                          |
| ``"beta"``, ``"net"``               | every element of a field, or of a network, independently; of a network also            |
|                                     | ``nlme.weight_prior(...)``, of all its weights together, with scales that are learned   |
| ``"omega.sd.cl"``, ``"omega.sd"``   | the standard deviation of one random effect, or of each of them                        |
| ``"omega.cl"``                      | the variance of one random effect (its name in every table)                            |
| ``"omega.correlation"``             | the correlations of a block: ``LKJ(n, concentration)``; with several blocks            |
|                                     | ``"omega.correlation.cl,v"`` is the block of cl and v                                  |
| ``"omega.covariance"``              | a block as a whole, in place of both: ``InverseWishart(df, scale_matrix=S)``, density  |
|                                     | ~ det(Omega)^(-(df + n + 1)/2) exp(-tr(S Omega^-1)/2); ``"omega.covariance.cl,v"``     |

The most particular name wins.  What moves is u on the real line, value = biject_to(support)(u), with the Jacobian in the
density of u.  The support is that of the prior within the parameter's domain: a Normal prior on a positive parameter is a
Normal cut off at zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.parameters.block_priors import BlockSite
from nlme.parameters.covariance import Covariance
from nlme.parameters.domains import POSITIVE, Domain
from nlme.parameters.inventory import Entry, Inventory
from nlme.parameters.weight_priors import WeightPrior, WeightSite

_REDRAWN = 1000  # times that numbers outside of a domain are drawn again


@dataclasses.dataclass(frozen=True)
class Site:
    """Numbers that share a prior: where they sit in the model, and their map from the real line.

    ``part`` is what of a field they are: "value", or of a covariance "sd", "variance" or "factor" (the Cholesky factor of a
    block's correlation).  ``index`` counts elements of the field, or random effects of the covariance.
    """

    entry: Entry
    part: str
    index: np.ndarray
    distribution: Any
    bijection: Any
    size: int  # length of u
    scale_labels: ClassVar[tuple[str, ...]] = ()  # of scales that are learned with the numbers

    def read(self, model) -> Array:
        """The numbers as they are in ``model``."""
        field = self.entry.get(model)
        if self.part == "value":
            return self.entry.natural(model)[self.index]
        if self.part == "factor":
            return field.factor[np.ix_(self.index, self.index)]
        return field.sd[self.index] ** (2 if self.part == "variance" else 1)

    def write(self, model, value):
        """``model`` with these numbers."""
        field = self.entry.get(model)
        if self.part == "value":
            new = self.entry.at_natural(model, self.entry.natural(model).at[self.index].set(value))
        elif self.part == "factor":
            new = eqx.tree_at(lambda f: f.factor, field, field.factor.at[np.ix_(self.index, self.index)].set(value))
        else:
            sd = jnp.sqrt(value) if self.part == "variance" else value
            new = eqx.tree_at(lambda f: f.sd, field, field.sd.at[self.index].set(sd))
        return eqx.tree_at(self.entry.get, model, new)

    @property
    def of_weights(self) -> np.ndarray:
        """(size,) whether a coordinate is a weight of a network."""
        return np.full(self.size, "weight" in self.entry.kinds)

    @property
    def moves_to_a_mode(self) -> bool:
        """Whether the joint density with the random effects has a useful mode in these numbers: not in the effects' spread."""
        return self.part == "value"

    def placed(self, model, u: Float[Array, " size"]):
        """``model`` with the numbers at ``u``, and the log density of u."""
        value = self.bijection(u)
        jacobian = self.bijection.log_abs_det_jacobian(u, value)
        return self.write(model, value), jnp.sum(self.distribution.log_prob(value)) + jnp.sum(jacobian)

    def start(self, model) -> Float[Array, " size"]:
        """u of the numbers of ``model``."""
        return jnp.ravel(self.bijection.inv(self.read(model)))

    def log_density(self, model) -> Float[Array, ""]:
        """Log density of the numbers of ``model`` on their own scale: of a correlation R = L L' that of R, log p(L) - log |dR/dL| with
        |dR/dL| = prod_k L_kk^(n - k), k = 1 ... n."""
        value = self.read(model)
        density = jnp.sum(self.distribution.log_prob(value))
        if self.part != "factor":
            return density
        return density - jnp.sum(jnp.arange(len(value) - 1, -1, -1) * jnp.log(jnp.diagonal(value)))

    def drawn(self, key, count: int) -> Float[Array, "count size"]:
        """So many u of the site, see ``Priors.drawn``."""
        one = self.distribution if self.part == "factor" else self.distribution.expand((len(self.index),))
        value = one.sample(key, (count,))
        for _ in range(_REDRAWN):
            outside = ~self.bijection.codomain(value)
            if self.part == "factor" or not bool(jnp.any(outside)):
                return jax.vmap(self.bijection.inv)(value).reshape(count, self.size)
            key, again = jax.random.split(key)
            value = jnp.where(outside, one.sample(again, (count,)), value)
        raise ModelError(
            f"priors: {describe(self.distribution)} of {self.entry.names[int(self.index[0])]!r} is hardly ever within its domain."
        )


def require_priors(priors) -> None:
    """Refuse what is no table of distributions by name.

    Raises
    ------
    ModelError
        It is none.
    """
    if not isinstance(priors, Mapping):
        raise ModelError(
            "priors= is a dict of name -> NumPyro distribution, such as {'cl': dist.LogNormal(jnp.log(0.1), 0.5)}; "
            f"nlme.weakly_informative(model) makes wide ones to begin with. Got {priors!r}."
        )


class Priors:
    """The prior of a model's free parameters, in ``size`` unconstrained coordinates.

    Parameters
    ----------
    model : the model; its values are the starting values and the values of what is fixed
    priors : name -> NumPyro distribution, see the table of this module
    fixed : names of parameters held at the model's values
    complete : whether every free parameter must have one

    Raises
    ------
    ModelError
        A free parameter without a prior (all are listed), a prior for something that does not exist or is fixed, a
        distribution that cannot be a prior of it, a starting value outside its prior's support.
    """

    def __init__(self, model, priors: Mapping[str, Any], fixed: Iterable[str] = (), complete: bool = True):
        require_priors(priors)
        self._model = model
        self.inventory = Inventory(model, fixed)
        self._used: set[str] = set()
        self._missing: list[str] = []
        self._given = dict(priors)
        self.sites: list[Site | BlockSite | WeightSite] = []
        self._networks: dict[str, list[tuple[Entry, np.ndarray]]] = {}  # what is under one weight_prior
        for entry in self.inventory.entries:
            free = [name not in self.inventory.fixed for name in entry.names]
            if any(free):
                build = self._covariance if isinstance(entry.get(model), Covariance) else self._values
                build(entry, np.array(free))
        self.sites += [WeightSite(key, self._given[key], parts, model) for key, parts in self._networks.items()]
        self._refuse_unused()
        if self._missing and complete:
            raise ModelError(
                "Every free parameter needs a prior; none is given for: " + ", ".join(self._missing) + ".\n"
                "Add them to priors=, for example {'cl': dist.LogNormal(jnp.log(0.1), 0.5), 'omega.sd': dist.HalfNormal(0.5)}; "
                "hold parameters fixed with fixed=; or begin from nlme.weakly_informative(model) and look at what it gives."
            )

    @property
    def size(self) -> int:
        return sum(site.size for site in self.sites)

    def unconstrained(self, model) -> Float[Array, " P"]:
        """u of the values of ``model``."""
        return jnp.concatenate([site.start(model) for site in self.sites])

    def model_and_density(self, u: Float[Array, " P"]):
        """The model at ``u``, and the log density of u."""
        model, total = self._model, jnp.zeros(())
        for site, piece in self._pieces(u):
            model, density = site.placed(model, piece)
            total = total + density
        return model, total

    def learned_scales(self, u: Float[Array, " P"]) -> dict[str, Float[Array, " G"]]:
        """Prior of a network's weights -> the scales learned with them, one for each of ``scale_labels``."""
        return {f"{site.key}.weight_scale": site.scales(piece) for site, piece in self._pieces(u) if site.scale_labels}

    @property
    def scale_labels(self) -> dict[str, tuple[str, ...]]:
        """What each learned scale is of."""
        return {f"{site.key}.weight_scale": site.scale_labels for site in self.sites if site.scale_labels}

    @property
    def of_weights(self) -> np.ndarray:
        """(P,) whether a coordinate is a weight of a network."""
        return np.concatenate([site.of_weights for site in self.sites])

    def _pieces(self, u):
        """Every site with its part of u."""
        ends = np.cumsum([site.size for site in self.sites])
        return zip(self.sites, jnp.split(u, ends[:-1]), strict=True)

    def drawn(self, key, count: int) -> Float[Array, "count P"]:
        """So many u from the prior; of a distribution wider than its parameter's domain, those within.

        Raises
        ------
        ModelError
            A distribution that is hardly ever within the domain.
        """
        keys = jax.random.split(key, len(self.sites))
        return jnp.concatenate([site.drawn(k, count) for site, k in zip(self.sites, keys, strict=True)], axis=1)

    def _values(self, entry: Entry, free: np.ndarray) -> None:
        groups: dict[str, list[int]] = {}
        for k in np.flatnonzero(free):
            key = self._closest(_wider(entry.names[k]))
            if key is None:
                self._missing.append(entry.names[k])
            else:
                groups.setdefault(key, []).append(int(k))
        for key, index in groups.items():
            if isinstance(self._given[key], WeightPrior):
                self._networks.setdefault(key, []).append((entry, np.array(index)))
                continue
            self._interval(key, entry, "value", np.array(index), entry.declaration.domain)

    def _covariance(self, entry: Entry, free: np.ndarray) -> None:
        field, stem = ".".join(entry.path), entry.get(self._model)
        fixed = {name for name, is_free in zip(entry.names, free, strict=True) if not is_free}
        for block in stem.blocks:
            names = [stem.names[i] for i in block]
            if f"{field}.{names[0]}" in fixed:  # a block is fixed as a whole
                continue
            if len(block) > 1 and (key := self._closest([f"{field}.covariance.{','.join(names)}", f"{field}.covariance"])):
                self._matrix(key, entry, field, np.array(block))
                continue
            for i, name in zip(block, names, strict=True):
                self._spread(entry, field, i, name)
            if len(block) > 1:
                key = self._closest([f"{field}.correlation.{','.join(names)}", f"{field}.correlation"])
                if key is None:
                    self._missing.append(f"{field}.correlation" + (f".{','.join(names)}" if len(stem.blocks) > 1 else ""))
                else:
                    self._correlation(key, entry, np.array(block))

    def _spread(self, entry: Entry, field: str, i: int, name: str) -> None:
        variance, sd = f"{field}.{name}", self._closest([f"{field}.sd.{name}", f"{field}.sd"])
        if variance in self._given and sd == f"{field}.sd.{name}":
            raise ModelError(f"priors: {variance!r} (a variance) and {sd!r} are the same parameter; give one of them.")
        if variance in self._given:
            self._used.add(variance)
            self._interval(variance, entry, "variance", np.array([i]), POSITIVE)
        elif sd is not None:
            self._interval(sd, entry, "sd", np.array([i]), POSITIVE)
        else:
            self._missing.append(f"{field}.sd.{name}")

    def _interval(self, key: str, entry: Entry, part: str, index: np.ndarray, domain: Domain) -> None:
        """A site of independent numbers."""
        prior = _checked(key, self._given[key])
        if prior.event_dim or prior.batch_shape not in ((), (len(index),)):
            raise ModelError(
                f"priors: {key!r} is {'one number' if len(index) == 1 else f'{len(index)} numbers, independently'}; the "
                f"distribution given has shape {tuple(prior.batch_shape) + tuple(prior.event_shape)}."
            )
        lower = np.maximum(np.asarray(getattr(prior.support, "lower_bound", -np.inf)), domain.lower)
        upper = np.minimum(np.asarray(getattr(prior.support, "upper_bound", np.inf)), domain.upper)
        if not np.all(lower < upper):
            raise ModelError(f"priors: the support of {key!r} has no value in common with its domain, {domain}.")
        site = Site(entry, part, index, prior, _bijection(lower, upper), len(index))
        start = np.asarray(site.read(self._model))
        if not np.all((start > lower) & (start < upper)):
            raise ModelError(
                f"priors: the model's value {key} = {np.ravel(start)[0]:g}, where sampling starts, is outside the prior's support "
                f"({np.max(lower):g}, {np.min(upper):g}). Start elsewhere, or use a prior that allows it."
            )
        self.sites.append(site)

    def _correlation(self, key: str, entry: Entry, block: np.ndarray) -> None:
        from numpyro.distributions import LKJ, LKJCholesky, biject_to

        prior, n = self._given[key], len(block)
        if isinstance(prior, LKJ):
            prior = LKJCholesky(prior.dimension, prior.concentration)
        if not isinstance(prior, LKJCholesky) or prior.dimension != n:
            raise ModelError(f"priors: {key!r} is the correlation of {n} random effects; give dist.LKJ({n}, concentration).")
        self.sites.append(Site(entry, "factor", block, prior, biject_to(prior.support), n * (n - 1) // 2))

    def _matrix(self, key: str, entry: Entry, field: str, block: np.ndarray) -> None:
        from numpyro.distributions import InverseWishart

        prior, n = self._given[key], len(block)
        if not isinstance(prior, InverseWishart) or prior.event_shape != (n, n) or prior.batch_shape:
            raise ModelError(
                f"priors: {key!r} is the covariance of {n} random effects; give dist.InverseWishart(df, scale_matrix=S), S {n} x {n}."
            )
        names = [entry.get(self._model).names[i] for i in block]
        parts = [f"{field}.correlation.{','.join(names)}", *(f"{field}{of}.{name}" for name in names for of in ("", ".sd"))]
        if twice := [name for name in parts if name in self._given]:
            raise ModelError(f"priors: {key!r} is the prior of the whole block, of {', '.join(twice)} too; give one of them.")
        self.sites.append(BlockSite(entry, block, prior))

    def _closest(self, keys: list[str]) -> str | None:
        """The first of the keys that has a prior."""
        for key in keys:
            if key in self._given:
                self._used.add(key)
                return key
        return None

    def _refuse_unused(self) -> None:
        for key in self._given:
            if key in self._used:
                continue
            parts = [name for name in self.inventory.all_names if key in _wider(name) or _part_of(key, name)]
            if parts and all(name in self.inventory.fixed for name in parts):
                raise ModelError(f"priors: {key!r} has a prior, but it is fixed. Take it out of one of the two.")
            if parts and any("," in name and key == name for name in parts):
                raise ModelError(
                    f"priors: {key!r} is a covariance; its block has priors of standard deviations and of the correlation "
                    f"({key.rsplit('.', 1)[0]}.sd, {key.rsplit('.', 1)[0]}.correlation), or of the whole "
                    f"({key.rsplit('.', 1)[0]}.covariance)."
                )
            if not parts:
                raise ModelError("priors: " + name_error("parameter", key, self._offered(), type(self._model).__name__))
            field, _, of = key.rpartition(".")
            if of in ("correlation", "covariance") and all("," not in name for name in parts):
                raise ModelError(f"priors: {key!r}: the random effects of {field!r} are independent; take it out.")
            raise ModelError(
                f"priors: {key!r} is of nothing: {', '.join(parts[:5])}{', ...' * (len(parts) > 5)} have more particular ones, or one of "
                "their block. Take it out, or these."
            )

    def _offered(self) -> list[str]:
        offered: list[str] = []
        for entry in self.inventory.entries:
            field = ".".join(entry.path)
            value = entry.get(self._model)
            if not isinstance(value, Covariance):
                offered.append(entry.path[0] if "weight" in entry.kinds else field)
                continue
            offered += [f"{field}.sd", *(f"{field}.sd.{name}" for name in value.names)]
            offered += [f"{field}.{value.names[block[0]]}" for block in value.blocks if len(block) == 1]
            offered += [f"{field}.correlation", f"{field}.covariance"] if any(len(block) > 1 for block in value.blocks) else []
        return list(dict.fromkeys(offered))


class PriorTable(dict):
    """Priors by name, printed one to a line."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:<{width}}  ~ {describe(prior)}" for name, prior in self.items())


def weakly_informative(model, fixed: Iterable[str] = ()) -> PriorTable:
    """Wide priors around a model's own values, to look at, change and pass on to :func:`nlme.sample`.

    Positive: LogNormal(log value, 1).  Real: Normal(value, max(2 |value|, 1)).  Bounded: Uniform.  Standard deviations of random
    effects: HalfNormal(2 value).  Correlations: LKJ(n, 2).  Weights: Normal(0, 1).  The values should come from outside these
    data (the literature, another study): priors around a fit to the same data use the data twice.
    """
    import numpyro.distributions as dist

    if isinstance(model, type):
        raise ModelError(
            f"weakly_informative takes a model, whose values the priors are around; got the class: {model.__name__}()."
        )
    found = PriorTable()
    inventory = Inventory(model, fixed)
    inventory.require_searchable(model)
    for entry in inventory.entries:
        if all(name in inventory.fixed for name in entry.names):
            continue
        name, value, domain = ".".join(entry.path), entry.get(model), entry.declaration.domain
        if isinstance(value, Covariance):
            for i, effect in enumerate(value.names):
                if f"{name}.{effect}" not in inventory.fixed:
                    found[f"{name}.sd.{effect}"] = dist.HalfNormal(2.0 * float(value.sd[i]))
            blocks = [block for block in value.blocks if len(block) > 1]
            for block in blocks:
                members = ",".join(value.names[i] for i in block)
                if f"{name}.{value.names[block[0]]}" not in inventory.fixed:
                    found[f"{name}.correlation" + (f".{members}" if len(blocks) > 1 else "")] = dist.LKJ(len(block), 2.0)
            continue
        if "weight" in entry.kinds:
            found[entry.path[0] if len(entry.path) == 2 else name] = dist.Normal(0.0, 1.0)
            continue
        for element, number in zip(entry.names, np.asarray(entry.natural(model)), strict=True):
            if element not in inventory.fixed:
                found[element] = _wide(dist, domain, float(number))
    return found


def _wide(dist, domain: Domain, value: float):
    if np.isfinite(domain.lower) and np.isfinite(domain.upper):
        return dist.Uniform(domain.lower, domain.upper)
    if domain.lower == 0.0:
        return dist.LogNormal(np.log(value), 1.0)
    return dist.Normal(value, max(2.0 * abs(value), 1.0))


def describe(prior) -> str:
    """A distribution in words: its name and its numbers."""
    if isinstance(prior, WeightPrior):
        return repr(prior)
    numbers = []
    for name in prior.arg_constraints:
        value = getattr(prior, name, None)
        if value is not None:
            numbers.append(f"{name}={float(value):.4g}" if np.ndim(value) == 0 else f"{name}={np.shape(value)}")
    if hasattr(prior, "dimension"):
        numbers.insert(0, str(prior.dimension))
    return f"{type(prior).__name__}({', '.join(numbers)})"


def _checked(key: str, prior):
    """``prior``, if it is a continuous distribution."""
    from numpyro.distributions import Distribution

    if not isinstance(prior, Distribution):
        raise ModelError(
            f"priors: {key!r} must have a NumPyro distribution, such as numpyro.distributions.LogNormal(0.0, 1.0); got {prior!r}."
            + (" To hold it at a value, set it in the model and name it in fixed=." if np.isscalar(prior) else "")
        )
    if prior.support is None or prior.support.is_discrete:
        raise ModelError(f"priors: {key!r} is continuous; {type(prior).__name__} is not.")
    return prior


def _bijection(lower, upper):
    from numpyro.distributions import biject_to, constraints

    below, above = np.all(np.isfinite(lower)), np.all(np.isfinite(upper))
    if below and above:
        return biject_to(constraints.interval(lower, upper))
    if below:
        return biject_to(constraints.positive if np.all(lower == 0) else constraints.greater_than(lower))
    return biject_to(constraints.less_than(upper) if above else constraints.real)


def _wider(name: str) -> list[str]:
    """A parameter's name and the names of the groups it is in, most particular first: net.w[0][1,2], net.w[0], net.w, net."""
    found = [name]
    while "[" in name:
        name = name[: name.rindex("[")]
        found.append(name)
    while "." in name:
        name = name.rsplit(".", 1)[0]
        found.append(name)
    return found


def _part_of(key: str, name: str) -> bool:
    """Whether ``key`` names the spread, the correlation or a block of the covariance that ``name`` is an element of."""
    field, _, effect = name.rpartition(".")
    if key in (f"{field}.sd", f"{field}.correlation", f"{field}.covariance", f"{field}.sd.{effect}"):
        return bool(field)
    return "," in effect and key in (f"{field}.correlation.{effect}", f"{field}.covariance.{effect}")
