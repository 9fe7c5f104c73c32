"""What a regimen is to achieve: one number of a patient's predicted curve, and the range in which it should lie.

| target                                   | m                                                     | distance from the aim a    |
|------------------------------------------|-------------------------------------------------------|----------------------------|
| ``Target.trough(at, low, high)``         | the prediction at a time, before a dose given then    | (log m - log a)^2          |
| ``Target.auc(start, end, low, high)``    | its integral                                          | (log m - log a)^2          |
| ``Target.time_above(limit, start, end)`` | the share of the time from start to end above a limit | (m - a)^2                  |
| ``Target.of(function, times)``           | the user's function of times and predictions          | as ``scale`` says          |

The aim is given, or sqrt(low high) on the log scale and (low + high) / 2 on the other.  Integrals are Gauss-Legendre's, panel by
panel between the doses and ends of infusions, where a curve is smooth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.parameters.domains import is_numeric

_HALVED = np.r_[0.0, 2.0 ** np.arange(-6, 1)]  # pieces of a panel, each twice as long as the one before: curves bend after a dose
_RULE = np.polynomial.legendre.leggauss(8)
_NODES = np.concatenate([a + 0.5 * (b - a) * (1.0 + _RULE[0]) for a, b in zip(_HALVED[:-1], _HALVED[1:], strict=True)])
_WEIGHTS = np.concatenate([0.5 * (b - a) * _RULE[1] for a, b in zip(_HALVED[:-1], _HALVED[1:], strict=True)])
_CELLS = 32  # of a panel, for the time above a limit

When = float | Callable[..., float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """See the module; times may be functions of the numbers searched, ``lambda amount, interval: 10 * interval``.

    Attributes
    ----------
    words : what is aimed at
    window : the times, or the start and the end, between which the curve is looked at
    grid : times (T,) from the window and the panels' edges
    metric : number from times (T,), the edges and predictions (T,)
    low, high, aim : the range that counts as met, and the value that is best
    scale : "log" or "linear"
    endpoint : whose prediction; the model's only one by default
    """

    words: str
    window: tuple[When, ...]
    grid: Callable[[np.ndarray], np.ndarray]
    metric: Callable[..., Any]
    low: float
    high: float
    aim: float
    scale: str
    endpoint: str | None = None
    panels: bool = False  # whether the window is a start and an end

    @classmethod
    def trough(
        cls, at: When, low: float, high: float = math.inf, aim: float | None = None, endpoint: str | None = None
    ) -> Target:
        """The prediction at a time, before a dose that is given then."""

        def metric(times, edges, values):
            return values[0]

        return _target("trough", (at,), lambda edges: edges[:1], metric, low, high, aim, "log", endpoint)

    @classmethod
    def auc(
        cls, start: When, end: When, low: float, high: float = math.inf, aim: float | None = None, endpoint: str | None = None
    ) -> Target:
        """The integral of the prediction from one time to another."""

        def grid(edges):
            width = np.diff(edges)
            return (edges[:-1, None] + width[:, None] * _NODES).ravel()

        def metric(times, edges, values):
            return jnp.sum(jnp.diff(edges)[:, None] * _WEIGHTS * values.reshape(-1, len(_NODES)))

        return _target("AUC", (start, end), grid, metric, low, high, aim, "log", endpoint, True)

    @classmethod
    def time_above(
        cls,
        limit: float,
        start: When,
        end: When,
        low: float,
        high: float = 1.0,
        aim: float | None = None,
        endpoint: str | None = None,
    ) -> Target:
        """The share of the time from start to end during which the prediction is above a limit."""
        middles = (np.arange(_CELLS) + 0.5) / _CELLS

        def grid(edges):
            return (edges[:-1, None] + np.diff(edges)[:, None] * middles).ravel()

        def metric(times, edges, values):
            above = values.reshape(-1, _CELLS) - limit
            # the curve is followed in a straight line from the middle of a cell to that of the next, and as straight to the ends
            first, last = 1.5 * above[:, :1] - 0.5 * above[:, 1:2], 1.5 * above[:, -1:] - 0.5 * above[:, -2:-1]
            knots = jnp.concatenate([first, above, last], axis=1)
            width = jnp.asarray(np.r_[0.5, np.ones(_CELLS - 1), 0.5] / _CELLS)
            share = jnp.sum(width * _share_above(knots[:, :-1], knots[:, 1:]), axis=1)
            return jnp.sum(jnp.diff(edges) * share) / (edges[-1] - edges[0])

        return _target(f"time above {limit:g}", (start, end), grid, metric, low, high, aim, "linear", endpoint, True)

    @classmethod
    def of(
        cls,
        function: Callable[[Any, Any], Any],
        times,
        low: float,
        high: float = math.inf,
        aim: float | None = None,
        scale: str = "log",
        endpoint: str | None = None,
    ) -> Target:
        """``function(times (T,), predictions (T,))`` in ``jax.numpy``, at ``times``: numbers in order, or a function of those searched."""
        name = getattr(function, "__name__", "the user's function")

        def metric(t, edges, values):
            return function(t, values)

        window = (times,) if callable(times) else tuple(float(t) for t in np.atleast_1d(times))
        return _target(name, window, lambda edges: edges, metric, low, high, aim, scale, endpoint)

    def distance(self, m):
        """Of values from the aim, squared."""
        if self.scale == "log":
            return jnp.square(jnp.log(m) - math.log(self.aim))
        return jnp.square(m - self.aim)

    def met(self, m) -> np.ndarray:
        return (np.asarray(m) >= self.low) & (np.asarray(m) <= self.high)

    def edges(self, values: dict[str, float], breaks: np.ndarray) -> np.ndarray:
        """Ends of the panels: the window's, with all ``breaks`` moved into it, so that there are as many whatever the regimen."""
        at = np.concatenate([np.atleast_1d(np.asarray(w(**values) if callable(w) else w, float)) for w in self.window])
        if np.any(np.diff(at) < 0) or not np.isfinite(at).all() or at[0] < 0:
            raise ModelError(f"The times of the target ({self.words}) are not in order from 0 on: {at.tolist()}.")
        if not self.panels:
            return at
        if not at[1] > at[0]:
            raise ModelError(f"The target ({self.words}) needs an end after its start; got {at[0]:g} to {at[1]:g}.")
        return np.sort(np.concatenate([at, np.clip(breaks, *at)]))

    def __repr__(self) -> str:
        end = "" if math.isinf(self.high) else f" to {self.high:g}"
        return f"{self.words} {'at least ' if not end else ''}{self.low:g}{end}, aim {self.aim:.4g}"


def _share_above(a, b):
    """Share of a straight line from a to b that is above 0."""
    rise = jnp.abs(b - a)
    inside = jnp.maximum(jnp.maximum(a, b), 0.0) / jnp.where(rise > 0, rise, 1.0)
    return jnp.where((a > 0) & (b > 0), 1.0, jnp.where((a <= 0) & (b <= 0), 0.0, inside))


def _target(words, window, grid, metric, low, high, aim, scale, endpoint, panels=False) -> Target:
    if scale not in ("log", "linear"):
        raise ModelError(f"A target's scale is 'log' or 'linear'; got {scale!r}.")
    if not all(is_numeric(x) and np.ndim(x) == 0 for x in (low, high)):
        raise ModelError(f"The target ({words}): low and high are numbers; got {low!r} and {high!r}.")
    if not low <= high or (scale == "log" and not low >= 0):
        raise ModelError(f"The target ({words}) is a range: low <= high, on the log scale from 0 on; got {low!r} to {high!r}.")
    if aim is None:
        if not math.isfinite(high) or (scale == "log" and low == 0):
            raise ModelError(f"The target ({words}) has no middle from {low:g} to {high:g}: say what is best, aim=...")
        aim = math.sqrt(low * high) if scale == "log" else 0.5 * (low + high)
    if scale == "log" and not aim > 0:
        raise ModelError(f"The aim of the target ({words}) is positive on the log scale; got {aim!r}.")
    return Target(
        words=words,
        window=window,
        grid=grid,
        metric=metric,
        low=float(low),
        high=float(high),
        aim=float(aim),
        scale=scale,
        endpoint=endpoint,
        panels=panels,
    )
