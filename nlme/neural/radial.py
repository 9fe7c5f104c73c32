"""Gaussian radial bases as a part of a model: a smooth bump around each of some places, which fades away from them.

    correction = bias + sum_u weight_u exp(-|z - place_u|^2 / (2 width^2))

Places and width stay: evenly over -2 to 2 for one input, at the normal quantiles of a Halton sequence for several, the width the
mean distance between neighbours.  Far from all places nothing is left but the bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.neural.correction import Correction, declared, field_of, plus_constant
from nlme.neural.natural_splines import even_knots
from nlme.neural.term import learned
from nlme.parameters.domains import is_numeric, require_whole


class Radial(Correction):
    """Gaussian radial bases; make one with :func:`radial`.

    Attributes
    ----------
    weights : (outputs, U) heights of the bumps
    biases : (outputs,); (0,) without a constant
    places : (U, inputs) where the bumps stand, in standardised inputs
    width : of the bumps
    """

    weights: Float[Array, "outputs units"] = learned("Height of a radial basis")
    biases: Float[Array, " outputs"] = learned("Constant of a radial basis")
    places: tuple[tuple[float, ...], ...] = eqx.field(static=True)
    width: float = eqx.field(static=True)

    word = "The radial basis"

    @property
    def last(self):
        return self.weights, self.biases

    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        apart = (z - np.array(self.places)) / self.width
        return plus_constant(self.weights @ jnp.exp(-0.5 * jnp.sum(apart * apart, axis=1)), self.biases)

    @property
    def form(self) -> str:
        return f"{len(self.places)} Gaussians of width {self.width:.2g}"


def radial(
    *,
    inputs: int | Sequence[str],
    outputs: int | Sequence[str],
    units: int,
    width: float | None = None,
    center: float | Sequence[float] | Mapping[str, float] | None = None,
    scale: float | Sequence[float] | Mapping[str, float] | None = None,
    output="real",
    init=None,
    vanishing=False,
    constant=True,
):
    """Field of Gaussian radial bases whose heights are fixed effects: ``effect: nlme.Radial = nlme.radial(inputs=("wt", "age"),
    outputs=1, units=12)``.

    Parameters
    ----------
    units : how many
    width : standard deviation of each in standardised inputs; by default the mean distance to the nearest neighbour
    inputs, outputs, center, scale, output, init, vanishing, constant : as in :func:`nlme.mlp`.  A sum of bumps is not monotone: take
        splines, :func:`nlme.kan` or :func:`nlme.mlp` for what is

    Raises
    ------
    ModelError
        A number of units or a width that is not positive, and as in :func:`nlme.mlp`.
    """
    return field_of(build, dict(locals()))


def build(
    *, inputs, outputs, units, width=None, center=None, scale=None, output="real", init=None, vanishing=False, constant=True
) -> Radial:
    """The radial bases that :func:`radial` would declare, as a value."""
    fields, n_out = declared("nlme.radial", dict(locals(), monotone=None))
    require_whole("nlme.radial", "units", units, 1)
    places = _places(units, len(fields["center"]))
    if width is None:
        width = _spacing(places)
    if not is_numeric(width) or np.ndim(width) or not 0 < width < np.inf:
        raise ModelError(f"nlme.radial: the width is a positive number of standardised inputs; got {width!r}.")
    listed = tuple(tuple(place) for place in places.tolist())
    return Radial(
        **fields, weights=jnp.zeros((n_out, units)), biases=jnp.zeros(n_out if constant else 0), places=listed, width=float(width)
    )


def _places(units: int, n_inputs: int) -> np.ndarray:
    """(U, inputs) spread like standardised inputs."""
    if n_inputs == 1:
        return np.array(even_knots(units) if units > 1 else (0.0,))[:, None]
    from scipy.special import ndtri
    from scipy.stats.qmc import Halton

    return ndtri(Halton(n_inputs, scramble=False).random(units + 1)[1:])  # the first of the sequence is the origin of the cube


def _spacing(places: np.ndarray) -> float:
    if len(places) == 1:
        return 1.0
    apart = np.linalg.norm(places[:, None] - places, axis=-1)
    return float(np.mean(np.min(apart + np.where(np.eye(len(places)) > 0, np.inf, 0.0), axis=1)))
