"""Natural cubic splines as a part of a model, one for each input, added.

    correction_o = bias_o + sum_i f_oi(z_i),      f_oi(z) = sum_j weight_oij I_j(z)

The weights are the curves' slopes near the knots (:mod:`nlme.neural.natural_splines`): all zero is no correction, all alike is a
straight line, and a penalty leads from a bent curve to a flat one.  Where the outputs rise with an input, the slopes are
weight^2.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.neural.correction import Correction, declared, field_of, plus_constant
from nlme.neural.natural_splines import FEWEST, basis_on, even_knots, integrals
from nlme.neural.network import START
from nlme.neural.term import learned
from nlme.parameters.domains import is_numeric, require_whole


class Splines(Correction):
    """Additive natural cubic splines; make one with :func:`splines`.

    Attributes
    ----------
    weights : (outputs, inputs, K - 1) slopes
    biases : (outputs,) corrections where every standardised input is zero; (0,) without a constant
    knots : of every input, in its own units; None where they are not known yet
    count : how many knots each input has
    """

    weights: Float[Array, "outputs inputs slopes"] = learned("Slope of a spline")
    biases: Float[Array, " outputs"] = learned("Constant of a spline")
    knots: tuple[tuple[float, ...] | None, ...] = eqx.field(static=True)
    count: int = eqx.field(static=True)

    word = "The spline"
    numbers = "center", "scale", "knots"

    @property
    def last(self):
        return self.weights, self.biases

    @property
    def standard_knots(self) -> list[tuple[float, ...]]:
        """Of every input, in its standardised units."""
        pairs = zip(self.knots, self._centers, self._scales, strict=True)
        return [even_knots(self.count) if k is None else tuple(((np.array(k) - c) / s).tolist()) for k, c, s in pairs]

    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        curves = integrals(basis_on(*self.standard_knots), z)
        return plus_constant(jnp.reshape(self._slopes, (len(self.weights), -1)) @ jnp.ravel(curves), self.biases)

    @property
    def _slopes(self):
        rising = np.array(self.output.monotone)[:, None]
        return jnp.where(rising != 0, rising * self.weights**2, self.weights) if self.output.is_monotone else self.weights

    def written(self, seen: Mapping[int, np.ndarray]):
        """The term standardised by the values seen of some of its inputs, with knots at their quantiles."""
        new = super().written(seen)
        knots = [quantiles(seen[k], self.count) if own is None and k in seen else own for k, own in enumerate(self.knots)]
        return dataclasses.replace(new, knots=tuple(knots))

    @property
    def form(self) -> str:
        return f"natural splines on {self.count} knots"


def splines(
    *,
    inputs: int | Sequence[str],
    outputs: int | Sequence[str],
    knots=5,
    center: float | Sequence[float] | Mapping[str, float] | None = None,
    scale: float | Sequence[float] | Mapping[str, float] | None = None,
    output="real",
    init=None,
    monotone=None,
    vanishing=False,
    constant=True,
):
    """Field of natural cubic splines whose slopes are fixed effects: ``effect: nlme.Splines = nlme.splines(inputs=("wt",),
    outputs=1)``.

    A curve for each input, added; cubic between the knots, straight beyond them.

    Parameters
    ----------
    knots : how many for each input, or where: a sequence in the units of the only input, or a dict of such by input (the others
        have as many as the longest).  Where they are only counted they stand at quantiles of the population's values, 5 % to 95
        %; of an input that is not made of covariates alone evenly from 2 scales below its center to 2 above
    inputs, outputs, center, scale, output, init, monotone, vanishing, constant : as in :func:`nlme.mlp`; knots that are given standardise
    their input

    Raises
    ------
    ModelError
        Fewer than three knots, knots that do not ascend, and as in :func:`nlme.mlp`.
    """
    return field_of(build, dict(locals()))


def build(
    *, inputs, outputs, knots=5, center=None, scale=None, output="real", init=None, monotone=None, vanishing=False, constant=True
) -> Splines:
    """The splines that :func:`splines` would declare, as a value."""
    fields, n_out = declared("nlme.splines", locals())
    places, count = _knots(knots, fields["inputs"], len(fields["center"]))
    pairs = list(zip(places, fields["center"], fields["scale"], strict=True))
    fields["center"] = tuple(float(np.mean(k)) if k and c is None else c for k, c, _ in pairs)
    fields["scale"] = tuple((k[-1] - k[0]) / 4.0 if k and c is None else s for k, c, s in pairs)
    rising = np.array(fields["output"].monotone)[None, :, None] != 0
    slopes = np.broadcast_to(np.where(rising, START, 0.0), (n_out, len(pairs), count - 1))
    return Splines(**fields, weights=jnp.asarray(slopes), biases=jnp.zeros(n_out if constant else 0), knots=places, count=count)


def quantiles(values: np.ndarray, count: int) -> tuple[float, ...]:
    """Knots at quantiles of values, as Harrell (2001) places them; evenly over their range where values are too much alike."""
    outer = {3: 0.1}.get(count, 0.05)
    found = np.quantile(values, np.linspace(outer, 1.0 - outer, count))
    if np.min(np.diff(found)) < 1e-3 * np.std(values):
        found = np.linspace(np.min(values), np.max(values), count)
    return tuple(found.tolist())


def _knots(given, names: tuple[str, ...], n_inputs: int) -> tuple[tuple[tuple[float, ...] | None, ...], int]:
    """Knots of every input, None where they are only counted, and how many."""
    who = "nlme.splines"
    if isinstance(given, (int, np.integer)):
        require_whole(who, "knots", given, FEWEST)
        return (None,) * n_inputs, int(given)
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"{who}, knots: " + name_error("input", name, names, "The term"))
        listed = [given.get(name) for name in names]
    elif n_inputs == 1:
        listed = [given]
    else:
        raise ModelError(f"{who}: knots is their number, or a dict from input to their places; got {given!r}.")
    told = [own for own in listed if own is not None]
    ascending = all(is_numeric(k) and np.ndim(k) == 1 and np.all(np.isfinite(k)) and np.all(np.diff(k) > 0) for k in told)
    if not told or not ascending or len({len(k) for k in told}) > 1 or len(told[0]) < FEWEST:
        raise ModelError(
            f"{who}: the knots of an input are at least {FEWEST} ascending numbers, as many for each; got {given!r}."
        )
    return tuple(None if own is None else tuple(map(float, own)) for own in listed), len(told[0])
