"""A small multilayer network as a part of a model, its weights fixed effects with names.

    h_0 = (x - center) / scale
    h_k = activation(W_k h_{k-1} + b_k),    k = 1 .. depth
    correction = W h_depth + b

W and b of the last layer start at zero: the network starts as no correction at all, so that the model around it starts as the
model without it.  The hidden weights start as N(0, 1 / number of inputs of the layer) (LeCun et al. 1998,
doi:10.1007/3-540-49430-8_2), the hidden biases at zero.

A network that rises or falls with some inputs has the squares of its weights on the way from these: W = w^2 (Sill 1998,
"Monotonic networks"; squares instead of exponentials, so that no correction is a point inside, w = 0, to which a penalty leads).
There its slope in w is zero, so it starts near it: the last layer's weights sum to 0.01, the hidden biases are N(0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.neural.correction import Correction, declared, field_of, seed
from nlme.neural.term import learned
from nlme.parameters.domains import is_numeric, require_whole

#: Smooth ones only: the likelihood takes second derivatives of a network, which a kink does not have.
ACTIVATIONS = {
    "tanh": jnp.tanh,
    "softplus": jax.nn.softplus,
    "swish": jax.nn.swish,
    "gelu": jax.nn.gelu,
    "sigmoid": jax.nn.sigmoid,
}
_RISING = ("tanh", "softplus", "sigmoid")
START = 0.1  # root of the slope with which a monotone term starts


class MLP(Correction):
    """Multilayer network; make one with :func:`mlp` (a field of a model) or :func:`build` (a value).

    Attributes
    ----------
    weights : (out, in) matrix of every layer, from the first hidden one to the output
    biases : (out,) vector of every layer; none of the last where there is no constant
    activation : name of the hidden units' function
    """

    weights: tuple[Float[Array, "out in"], ...] = learned("Network weight")
    biases: tuple[Float[Array, " out"], ...] = learned("Network bias")
    activation: str = eqx.field(static=True)

    @property
    def last(self):
        return self.weights[-1], self.biases[len(self.weights) - 1 :]

    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        activation, z = ACTIVATIONS[self.activation], self.output.turned(z)
        *hidden, last = self.output.rising(self.weights)
        for w, b in zip(hidden, self.biases, strict=False):
            z = activation(w @ z + b)
        return last @ z + self.biases[-1] if self.output.constant else last @ z

    @property
    def form(self) -> str:
        return "-".join(map(str, [self.n_inputs, *(w.shape[0] for w in self.weights)])) + f" {self.activation}"


def mlp(
    *,
    inputs: int | Sequence[str],
    outputs: int | Sequence[str],
    width: int,
    depth: int,
    key,
    activation: str = "tanh",
    center: float | Sequence[float] | Mapping[str, float] | None = None,
    scale: float | Sequence[float] | Mapping[str, float] | None = None,
    initial_scale: float = 0.0,
    output="real",
    init=None,
    monotone=None,
    vanishing=False,
    constant=True,
):
    """Field of a network whose weights are fixed effects: ``net: nlme.MLP = nlme.mlp(inputs=("wt", "age"), ...)``.

    Parameters
    ----------
    inputs, outputs : how many, or their names; named outputs come back as a namespace, counted ones as a vector
    width, depth : units of each hidden layer, and number of hidden layers (0: a linear map)
    key : seed of the hidden starting weights, an int or a JAX key
    activation : "tanh", "softplus", "swish", "gelu" or "sigmoid"
    center, scale : standardise the inputs, (x - center) / scale: one number, one per input, or a dict by name.  Inputs that are
        made of covariates alone and have neither are standardised by the mean and the standard deviation in the first population
        that the model meets, and the model that comes back (``fit.model``) carries these numbers; random effects and states are
        left as they are
    initial_scale : 0 starts the last layer at zero (no correction); otherwise it starts like the others, times this
    output : "real", "positive" or two bounds (lower, upper): where the outputs may lie (:mod:`nlme.neural.output`)
    init : outputs where there is no correction, in their own units: one number, one per output, or a dict by name
    monotone : "increasing" or "decreasing" with all inputs, or a dict by input
    vanishing : the inputs with which the outputs vanish, by name, or True for all: the output is that many times what ``output``
        says; with an input that it rises with, what it has risen since that was zero (an effect that levels off)
    constant : False for a network that is no correction where every input is at its ``center``, and has no constant for it: a typical
        value that it corrects, ``cl * exp(net(cov) + eta.cl)``, is that of average covariates.  With a constant the data would determine
        the two together only

    Raises
    ------
    ModelError
        A size that is not a positive whole number, an unknown activation, a scale that is not positive, a start outside its
        range.
    """
    return field_of(build, dict(locals()))


def build(
    *,
    inputs,
    outputs,
    width,
    depth,
    key,
    activation="tanh",
    center=None,
    scale=None,
    initial_scale=0.0,
    output="real",
    init=None,
    monotone=None,
    vanishing=False,
    constant=True,
) -> MLP:
    """The network that :func:`mlp` would declare, as a value."""
    fields, count = declared("nlme.mlp", locals())
    require_whole("nlme.mlp", "width", width, 1)
    require_whole("nlme.mlp", "depth", depth, 0)
    if not is_numeric(initial_scale) or jnp.ndim(initial_scale) or not math.isfinite(initial_scale):
        raise ModelError(f"nlme.mlp: initial_scale is a number; got {initial_scale!r}.")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ModelError(name_error("activation", str(activation), ACTIVATIONS, "nlme.mlp"))
    rising = fields["output"].is_monotone
    if rising and activation not in _RISING:
        raise ModelError(f"nlme.mlp: a monotone network has units that rise, {', '.join(_RISING)}; {activation} does not.")
    sizes = [len(fields["center"]), *[width] * depth, count]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    # one draw for all layers: one small program to compile
    draws = jax.random.normal(seed("nlme.mlp", key), (sum(a * b for a, b in shapes) + rising * width * depth,), dtype=jnp.float64)
    weights, start = [], 0
    for shape in shapes:
        stop = start + shape[0] * shape[1]
        weights.append(draws[start:stop].reshape(shape) / math.sqrt(shape[1]))
        start = stop
    weights[-1] = weights[-1] * initial_scale
    biases = [jnp.zeros(b) for b, _ in (shapes if constant else shapes[:-1])]
    if rising:
        biases[:depth] = jnp.split(draws[start:], depth) if depth else []
        weights[-1] = weights[-1] if initial_scale else jnp.full(shapes[-1], START / math.sqrt(sizes[-2]))
    return MLP(**fields, weights=tuple(weights), biases=tuple(biases), activation=activation)
