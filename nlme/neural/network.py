"""A small multilayer network as a part of a model, its weights fixed effects with names.

    h_0 = (x - center) / scale
    h_k = activation(W_k h_{k-1} + b_k),    k = 1 .. depth
    out = W h_depth + b

W and b of the last layer start at zero: the network starts as no correction at all, so that the model around it starts as the
model without it.  The hidden weights start as N(0, 1 / number of inputs of the layer) (LeCun et al. 1998,
doi:10.1007/3-540-49430-8_2), the hidden biases at zero.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.parameters.domains import METADATA, REAL, Declaration, is_numeric
from nlme.typing import Named

#: Smooth ones only: the likelihood takes second derivatives of a network, which a kink does not have.
ACTIVATIONS = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "swish": jax.nn.swish,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
}


def _weights(label: str):
    return eqx.field(metadata={METADATA: Declaration(REAL, "", label, kind="weight")})


class LearnedTerm(eqx.Module):
    """A function of named or counted numbers inside a model: how it is called, whatever computes it.

    Its ``inputs`` and ``outputs`` are names, or () where they are only counted.
    """

    @property
    @abc.abstractmethod
    def n_inputs(self) -> int:
        """How many numbers it takes."""

    @abc.abstractmethod
    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""

    def __call__(self, *values, **named):
        """The outputs for one set of inputs.

        The inputs are given as scalars in order (``net(cov.wt, eta.cl)``), as one vector, or by name: as keywords
        (``net(wt=cov.wt)``), or out of namespaces that hold them among others (``net(cov, eta)``).

        Returns
        -------
        (outputs,) vector; a namespace (``net(cov).cl``) if the outputs have names

        Raises
        ------
        ModelError
            Another number of inputs than the network has, a missing, unknown or doubtful name.
        """
        out = self.outputs_at(self.gather(*values, **named))
        return Named({name: out[k] for k, name in enumerate(self.outputs)}, "output", "The network") if self.outputs else out

    def gather(self, *values, **named) -> Float[Array, " inputs"]:
        """The inputs of a call, in order; see ``__call__``."""
        count = self.n_inputs
        if named or any(isinstance(v, Named) for v in values):
            return self._by_name(values, named)
        if len(values) == 1 and jnp.ndim(values[0]) == 1:
            values = tuple(values[0])
        if len(values) != count or any(jnp.ndim(v) != 0 for v in values):
            listed = f" ({', '.join(self.inputs)})" if self.inputs else ""
            shapes = ", ".join(str(jnp.shape(v)) for v in values)
            raise ModelError(
                f"The network has {count} input{'s' if count != 1 else ''}{listed}, each a number; "
                f"it was called with {len(values)} of shapes {shapes or 'none'}."
            )
        return jnp.stack([jnp.asarray(v, dtype=jnp.float64) for v in values])

    def _by_name(self, values, named):
        if not self.inputs:
            raise ModelError("This network's inputs have no names: declare them, nlme.mlp(inputs=('wt', 'age'), ...).")
        if not all(isinstance(v, Named) for v in values):
            raise ModelError(
                "A network is called with numbers in order or with names, not with both: net(cov.wt, cov.age), net(cov) or net(wt=...)."
            )
        for name in named:
            if name not in self.inputs:
                raise ModelError(name_error("input", name, self.inputs, "The network"))
        sources = [Named(named, "input"), *values]
        found = []
        for name in self.inputs:
            holders = [source[name] for source in sources if name in source]
            if not holders:
                offered = [key for source in sources for key in source]
                raise ModelError(
                    f"The network was called without its input {name!r}. " + name_error("input", name, offered, "The call")
                )
            if len(holders) > 1:
                raise ModelError(
                    f"The network's input {name!r} is in more than one of the namespaces it was called with; "
                    f"give inputs different names, or call it with numbers in order."
                )
            found.append(jnp.asarray(holders[0], dtype=jnp.float64))
        return jnp.stack(found)


class MLP(LearnedTerm):
    """Multilayer network; make one with :func:`mlp` (a field of a model) or :func:`build` (a value).

    Attributes
    ----------
    weights : (out, in) matrix of every layer, from the first hidden one to the output
    biases : (out,) vector of every layer
    inputs, outputs : names, or () where they are only counted
    center, scale : what the inputs are standardised with
    """

    weights: tuple[Float[Array, "out in"], ...] = _weights("Network weight")
    biases: tuple[Float[Array, " out"], ...] = _weights("Network bias")
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    activation: str = eqx.field(static=True)
    center: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)

    @property
    def n_inputs(self) -> int:
        return len(self.center)

    @property
    def size(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(np.shape(x))) for x in (*self.weights, *self.biases))

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""
        x = (x - np.array(self.center)) / np.array(self.scale)
        activation = ACTIVATIONS[self.activation]
        for w, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = activation(w @ x + b)
        return self.weights[-1] @ x + self.biases[-1]

    def __repr__(self) -> str:
        ins = ", ".join(self.inputs) or f"{len(self.center)} inputs"
        widths = [len(self.center), *(b.shape[0] for b in self.biases)] if all(hasattr(b, "shape") for b in self.biases) else []
        outs = f" -> {', '.join(self.outputs)}" if self.outputs else ""
        return f"MLP({ins}{outs}; {'-'.join(map(str, widths))} {self.activation})"


def mlp(
    *,
    inputs: int | Sequence[str],
    outputs: int | Sequence[str],
    width: int,
    depth: int,
    key,
    activation: str = "tanh",
    center: float | Sequence[float] | Mapping[str, float] = 0.0,
    scale: float | Sequence[float] | Mapping[str, float] = 1.0,
    initial_scale: float = 0.0,
):
    """Field of a network whose weights are fixed effects: ``net: nlme.MLP = nlme.mlp(inputs=("wt", "age"), ...)``.

    Parameters
    ----------
    inputs, outputs : how many, or their names; named outputs come back as a namespace, counted ones as a vector
    width, depth : units of each hidden layer, and number of hidden layers (0: a linear map)
    key : seed of the hidden starting weights, an int or a JAX key
    activation : "tanh", "softplus", "swish", "gelu" or "sigmoid"
    center, scale : standardise the inputs, (x - center) / scale: one number, one per input, or a dict by name (inputs left out
        are taken as they are).  A network on raw inputs (weights in kg, creatinine in umol/L) saturates and does not learn;
        random effects can be left as they are.  :func:`standardise` gives both from a population.
    initial_scale : 0 starts the last layer at zero (no correction); otherwise it starts like the others, times this

    Raises
    ------
    ModelError
        A size that is not a positive whole number, an unknown activation, a scale that is not positive.
    """
    options = dict(
        inputs=inputs,
        outputs=outputs,
        width=width,
        depth=depth,
        key=key,
        activation=activation,
        center=center,
        scale=scale,
        initial_scale=initial_scale,
    )
    _checked(options)
    return eqx.field(default_factory=lambda: build(**options))


def build(*, inputs, outputs, width, depth, key, activation="tanh", center=0.0, scale=1.0, initial_scale=0.0) -> MLP:
    """The network that :func:`mlp` would declare, as a value."""
    names_in, count_in, names_out, count_out, center, scale = _checked(locals())
    sizes = [count_in, *[width] * depth, count_out]
    shapes = [(b, a) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
    # one draw for all layers: one small program to compile
    draws = jax.random.normal(_key(key), (sum(a * b for a, b in shapes),), dtype=jnp.float64)
    weights, start = [], 0
    for shape in shapes:
        stop = start + shape[0] * shape[1]
        weights.append(draws[start:stop].reshape(shape) / math.sqrt(shape[1]))
        start = stop
    weights[-1] = weights[-1] * initial_scale
    biases = [jnp.zeros(b) for b, _ in shapes]
    return MLP(tuple(weights), tuple(biases), names_in, names_out, activation, center, scale)


def standardise(population, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """``center`` and ``scale`` for :func:`mlp`: mean and standard deviation of covariates over the subjects' first records.

    Returns {"center": {name: mean}, "scale": {name: sd}}, so that ``nlme.mlp(inputs=names, **standardise(...), ...)``; a model
    that is to be used elsewhere writes the numbers down instead.

    Raises
    ------
    ModelError
        A covariate the population does not have, or one that is the same for everybody.
    """
    center, scale = {}, {}
    for name in names:
        if name not in population.covariates:
            raise ModelError(name_error("covariate", name, population.covariates, "The population"))
        values = np.array([subject.covariates[name][0] for subject in population], dtype=float)
        center[name], scale[name] = float(np.mean(values)), float(np.std(values))
        if not scale[name] > 0:
            raise ModelError(f"Covariate {name!r} is {center[name]:g} for every subject: a network can learn nothing from it.")
    return {"center": center, "scale": scale}


def _key(key):
    return jax.random.key(key) if isinstance(key, (int, np.integer)) else key


def _checked(o: Mapping):
    """(input names, inputs, output names, outputs, center, scale), or a sentence about what is wrong."""
    names_in, count_in = _names("inputs", o["inputs"])
    names_out, count_out = _names("outputs", o["outputs"])
    for what, least in (("width", 1), ("depth", 0)):
        if isinstance(o[what], bool) or not isinstance(o[what], (int, np.integer)) or o[what] < least:
            raise ModelError(f"nlme.mlp: {what} is a whole number of at least {least}; got {o[what]!r}.")
    if not isinstance(o["key"], (int, np.integer, jax.Array)):
        raise ModelError(f"nlme.mlp: key is a whole number or a JAX key, the seed of the starting weights; got {o['key']!r}.")
    if not isinstance(o["activation"], str) or o["activation"] not in ACTIVATIONS:
        raise ModelError(name_error("activation", str(o["activation"]), ACTIVATIONS, "nlme.mlp"))
    center = _per_input("center", o["center"], 0.0, names_in, count_in)
    scale = _per_input("scale", o["scale"], 1.0, names_in, count_in)
    if not all(s > 0 for s in scale):
        raise ModelError(f"nlme.mlp: every scale must be positive; got {scale}.")
    return names_in, count_in, names_out, count_out, center, scale


def _names(what: str, given) -> tuple[tuple[str, ...], int]:
    if isinstance(given, (int, np.integer)) and given > 0:
        return (), int(given)
    if isinstance(given, str) or not isinstance(given, Sequence) or not given or not all(isinstance(n, str) for n in given):
        raise ModelError(f"nlme.mlp: {what} is a number of {what} or their names, such as ('wt', 'age'); got {given!r}.")
    if len(set(given)) != len(given):
        raise ModelError(f"nlme.mlp: {what} names one twice: {', '.join(given)}.")
    return tuple(given), len(given)


def _per_input(what: str, given, neutral: float, names: tuple[str, ...], count: int) -> tuple[float, ...]:
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"nlme.mlp, {what}: " + name_error("input", name, names, "The network"))
        values = [given.get(name, neutral) for name in names]
    else:
        values = list(np.ravel(given)) if is_numeric(given) else []
        values = values * count if len(values) == 1 else values
    if len(values) != count or not is_numeric(values) or not np.all(np.isfinite(values)):
        raise ModelError(f"nlme.mlp: {what} is one finite number, or one for each of the {count} inputs; got {given!r}.")
    return tuple(float(v) for v in values)
