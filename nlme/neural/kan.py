"""A Kolmogorov-Arnold network as a part of a model: a learned curve on every edge, sums at the nodes.

    h_0 = (x - center) / scale
    h_k,o = sum_i f_koi(h_{k-1,i}),      f(z) = sum_j weight_j I_j(z),      correction = h_last + bias

Every edge is a natural cubic spline on knots from -2 to 2, a straight line beyond them (:mod:`nlme.neural.natural_splines`),
which spans the straight line too, so that no residual function beside it is needed (Liu et al. 2024, arXiv:2404.19756, have
B-splines and a silu). The last layer's edges start at zero, no correction; the hidden ones as straight lines of slope N(0, 1 /
inputs of the layer), bent a little.  Where the outputs rise with inputs, the slopes on the way from these are weight^2, as in
:mod:`nlme.neural.network`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.neural.correction import Correction, declared, field_of, plus_constant, seed
from nlme.neural.natural_splines import FEWEST, basis_on, even_knots, integrals
from nlme.neural.network import START
from nlme.neural.term import learned
from nlme.parameters.domains import require_whole

_BENT = 0.3  # spread of a hidden edge's slopes about their mean, in units of that


class KAN(Correction):
    """Kolmogorov-Arnold network; make one with :func:`kan`.

    Attributes
    ----------
    weights : (out, in, K - 1) slopes of the edges of every layer
    biases : (outputs,); (0,) without a constant
    knots : how many every edge has
    """

    weights: tuple[Float[Array, "out in slopes"], ...] = learned("Slope of an edge")
    biases: Float[Array, " outputs"] = learned("Constant of the network")
    knots: int = eqx.field(static=True)

    @property
    def last(self):
        return self.weights[-1], self.biases

    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        basis, z = basis_on(even_knots(self.knots)), self.output.turned(z)
        for w in self.output.rising(self.weights):
            z = jnp.reshape(w, (w.shape[0], -1)) @ jnp.ravel(integrals(basis, z))
        return plus_constant(z, self.biases)

    @property
    def form(self) -> str:
        widths = [self.n_inputs, *(w.shape[0] for w in self.weights)]
        return "-".join(map(str, widths)) + f" splines on {self.knots} knots"


def kan(
    *,
    inputs: int | Sequence[str],
    outputs: int | Sequence[str],
    width: int = 2,
    depth: int = 1,
    knots: int = 5,
    key,
    center: float | Sequence[float] | Mapping[str, float] | None = None,
    scale: float | Sequence[float] | Mapping[str, float] | None = None,
    output="real",
    init=None,
    monotone=None,
    vanishing=False,
    constant=True,
):
    """Field of a Kolmogorov-Arnold network whose slopes are fixed effects: ``net: nlme.KAN = nlme.kan(inputs=("wt", "age"),
    outputs=1, key=0)``.

    Parameters
    ----------
    width, depth : nodes of each hidden layer, and number of hidden layers (0: a curve for each input and output)
    knots : of the spline on every edge
    key : seed of the hidden starting weights, an int or a JAX key
    inputs, outputs, center, scale, output, init, monotone, vanishing, constant : as in :func:`nlme.mlp`

    Raises
    ------
    ModelError
        Fewer than three knots, a size that is not positive, and as in :func:`nlme.mlp`.
    """
    return field_of(build, dict(locals()))


def build(
    *,
    inputs,
    outputs,
    width=2,
    depth=1,
    knots=5,
    key,
    center=None,
    scale=None,
    output="real",
    init=None,
    monotone=None,
    vanishing=False,
    constant=True,
) -> KAN:
    """The network that :func:`kan` would declare, as a value."""
    fields, n_out = declared("nlme.kan", locals())
    require_whole("nlme.kan", "width", width, 1)
    require_whole("nlme.kan", "depth", depth, 0)
    require_whole("nlme.kan", "knots", knots, FEWEST)
    sizes = [len(fields["center"]), *[width] * depth, n_out]
    edges = [(b, a) for a, b in zip(sizes[:-2], sizes[1:-1], strict=True)]
    drawn = jax.random.normal(seed("nlme.kan", key), (sum(a * b for a, b in edges), knots), dtype=jnp.float64)
    slopes = drawn[:, :1] * (1.0 + _BENT * drawn[:, 1:])
    weights, start = [], 0
    for b, a in edges:
        weights.append(slopes[start : start + a * b].reshape(b, a, knots - 1) / math.sqrt(a))
        start += a * b
    small = START / math.sqrt(sizes[-2]) if fields["output"].is_monotone else 0.0
    weights.append(jnp.full((n_out, sizes[-2], knots - 1), small))
    return KAN(**fields, weights=tuple(weights), biases=jnp.zeros(n_out if constant else 0), knots=int(knots))
