"""The D-criterion of a design as a differentiable function of its sampling times.

The rows of ``nlme.design.moments`` are smooth in time between the events of the doses.  They are computed once, at many times of
each group's windows, and joined by cubic splines; log det M is then an explicit function of the times, which JAX differentiates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline

from nlme.design.groups import Design
from nlme.design.information import layout_of
from nlme.design.moments import Question, Rows, rows_of

_POINTS = 240  # of a spline between two events, evenly and again as many that crowd towards the first
_JUST = 1e-7  # of the time axis, before an event


class Spline(eqx.Module):
    """A piecewise cubic in time: ``coefficients`` (4, K, m) on the K pieces from ``knots`` on."""

    knots: Float[Array, " K"]
    coefficients: Float[Array, "4 K m"]

    def __call__(self, t: Float[Array, " n"]) -> Float[Array, "n m"]:
        k = jnp.clip(jnp.searchsorted(self.knots, t, side="right") - 1, 0, len(self.knots) - 1)
        h, c = (t - self.knots[k])[:, None], self.coefficients[:, k]
        return ((c[0] * h + c[1]) * h + c[2]) * h + c[3]


@dataclass(frozen=True)
class Criterion:
    """log det M / P of the times of all samples, group by group, endpoint by endpoint.

    ``splines[g][m][e]`` holds group g at linearisation m and endpoint e; ``counts[g][e]`` is the number of its samples, ``mean`` says
    which parameters move the mean, ``scale`` (P,) divides rows and columns of M.
    """

    splines: tuple
    counts: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    effects: int
    mean: tuple[bool, ...]
    reduced: bool
    scale: np.ndarray

    def value(self, times: np.ndarray) -> float:
        return float(_value(self.splines, jnp.asarray(times), *self._rest))

    def value_and_slope(self, times: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = _slope(self.splines, jnp.asarray(times), *self._rest)
        return float(value), np.asarray(slope)

    @property
    def _rest(self) -> tuple:
        return self.counts, self.sizes, self.effects, self.mean, self.reduced, self.scale


def criterion_of(
    model, design: Design, spans: Sequence[dict[str, tuple[float, float]]], asked: Question, form: str, scale: np.ndarray
) -> Criterion:
    """The criterion of designs like ``design`` with samples of group g and endpoint e within ``spans[g][e]``.

    Raises
    ------
    ModelError
        A time in a window at which the prediction has no distribution.
    """
    edges = [_events(group) for group in design.groups]
    grids = [{e: _grid(*span, events) for e, span in own.items()} for own, events in zip(spans, edges, strict=True)]
    layout = layout_of(model, design.with_times(grids))
    splines, mean = [], np.zeros(len(asked.inventory), dtype=bool)
    for g, points in enumerate(rows_of(asked, layout)):
        subject = layout.population[g]
        seen = subject.is_observation
        time, which = subject.time[seen], subject.endpoint[seen]
        names = layout.population.endpoints
        own = []
        for rows in points:
            mean |= np.any(rows.d_mean != 0.0, axis=0)
            of = {e: which == (names.index(e) if e else 0) for e in spans[g]}
            own.append(tuple(_spline(time[of[e]], _columns(rows.where(of[e])), edges[g]) for e in spans[g]))
        splines.append(tuple(own))
    return Criterion(
        tuple(splines), tuple(tuple(len(t) for t in group.times.values()) for group in design.groups),
        tuple(group.size for group in design.groups), asked.etas.shape[1], tuple(mean.tolist()), form == "reduced", scale,
    )  # fmt: skip


def _columns(rows: Rows) -> np.ndarray:
    """(n, m) everything of a row but its mean, side by side."""
    n = len(rows.mean)
    return np.concatenate([rows.d_mean, rows.variance[:, None], rows.d_variance, rows.a, rows.d_a.reshape(n, -1)], axis=1)


def _events(group) -> np.ndarray:
    """Times at which doses begin or infusions end."""
    found = []
    for d in () if group.dose is None else group.dose.doses:
        at = d.time + d.interval * np.arange(d.additional + 1)
        length = 0.0
        if not callable(d.rate) and not callable(d.amount) and d.rate > 0:
            length = d.amount / d.rate
        elif not callable(d.duration):
            length = d.duration
        found += [at, at + length]
    return np.unique(np.concatenate(found)) if found else np.zeros(0)


def _grid(low: float, high: float, events: np.ndarray) -> np.ndarray:
    """Times from low to high, crowding after every event, and just before each."""
    if low == high:
        return np.array([low])
    just = _JUST * max(1.0, high)
    inner = events[(events > low + 2 * just) & (events < high - 2 * just)]
    starts, ends = np.r_[low, inner], np.r_[inner - just, high]
    points = max(12, _POINTS // len(starts))
    pieces = []
    for a, b in zip(starts, ends, strict=True):
        share = np.unique(np.r_[np.linspace(0, 1, points), 0.0, np.geomspace(1e-3, 1, points)])
        pieces.append(a + (b - a) * share)
    return np.concatenate(pieces)


def _spline(time: np.ndarray, columns: np.ndarray, events: np.ndarray) -> Spline:
    if len(time) == 1:
        return Spline(jnp.asarray(time), jnp.asarray(np.r_[np.zeros((3, 1, columns.shape[1])), columns[None]]))
    just = _JUST * max(1.0, time[-1])
    cuts = [np.searchsorted(time, e - 0.5 * just) for e in events if time[0] + 2 * just < e < time[-1] - 2 * just]
    knots, coefficients = [], []
    for a, b in zip([0, *cuts], [*cuts, len(time)], strict=True):
        piece = CubicSpline(time[a:b], columns[a:b])
        knots.append(piece.x[:-1])
        coefficients.append(piece.c)
    return Spline(jnp.asarray(np.concatenate(knots)), jnp.asarray(np.concatenate(coefficients, axis=1)))


def _log_det(splines, times, counts, sizes, effects, mean, reduced, scale):
    parameters = len(mean)
    total, start = jnp.zeros((parameters, parameters)), 0
    for own, numbers, size in zip(splines, counts, sizes, strict=True):
        edges = start + np.r_[0, np.cumsum(numbers)]
        here = [times[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
        start = int(edges[-1])
        for point in own:
            columns = jnp.concatenate([spline(t) for spline, t in zip(point, here, strict=True)])
            total += size / len(own) * _information(columns, effects, mean, reduced)
    scaled = total / jnp.outer(scale, scale)
    return jnp.linalg.slogdet(scaled + 1e-12 * jnp.eye(parameters))[1] / parameters


def _information(columns, effects: int, mean: tuple[bool, ...], reduced: bool):
    """As ``information.information_of``, in JAX."""
    p, n = len(mean), columns.shape[0]
    d_mean, variance, d_variance = columns[:, :p], columns[:, p], columns[:, p + 1 : 2 * p + 1]
    a = columns[:, 2 * p + 1 : 2 * p + 1 + effects]
    d_a = columns[:, 2 * p + 1 + effects :].reshape(n, effects, p)
    inverse = jnp.linalg.inv(a @ a.T + jnp.diag(variance))
    slopes = jnp.einsum("iqk,jq->ijk", d_a, a)
    d_v = slopes + slopes.transpose(1, 0, 2) + jnp.eye(n)[:, :, None] * d_variance[:, None, :]
    if reduced:
        d_v = d_v * ~np.array(mean)
    turned = jnp.einsum("ij,jlk->ilk", inverse, d_v)
    return d_mean.T @ inverse @ d_mean + 0.5 * jnp.einsum("ijk,jil->kl", turned, turned)


_STATIC = (2, 3, 4, 5, 6)
_value = jax.jit(_log_det, static_argnums=_STATIC)
_slope = jax.jit(jax.value_and_grad(_log_det, argnums=1), static_argnums=_STATIC)
