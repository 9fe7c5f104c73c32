"""Bins of time for observations that were not all taken at the same times.

Given K, the bins are those whose observations lie closest to the bin's mean (least squares over every way to cut, found exactly
by dynamic programming over the distinct times):

    J(K) = min sum_k sum_{i in bin k} (u_i - mean_k)^2

The number of bins has the smallest  log J(K) + PENALTY K,  as Lavielle & Bleakley (2011), doi:10.1007/s10928-011-9223-3; u is
half the time and half its rank, each scaled to a length of 1, so that samples that crowd soon after a dose are told apart as well
as late ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlme.errors import DataError

PENALTY = 0.3
MOST = 20  # bins found automatically
DISTINCT = 600  # times beyond which neighbours are joined before the search
_SMALLEST = 1e-5  # of the scatter of all observations: bins that are tighter count as points


def edges_of(time: np.ndarray, bins: str | int | Sequence[float] = "auto") -> np.ndarray:
    """(B + 1,) edges of bins, each with its left edge and without its right one, the last with both.

    Parameters
    ----------
    time : (n,) times of the observations
    bins : "auto" (as above), the number of bins, or the edges themselves

    Raises
    ------
    DataError
        Edges that do not increase, no time within them, or more bins than distinct times.
    """
    if isinstance(bins, str):
        if bins != "auto":
            raise DataError(f'bins={bins!r}: bins are "auto", a number of bins, or their edges, such as [0, 1, 4, 12, 24].')
        return _automatic(time)
    if isinstance(bins, (int, np.integer)) and not isinstance(bins, bool):
        return _counted(time, int(bins))
    edges = np.asarray(bins, dtype=float)
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.isfinite(edges)) or np.any(np.diff(edges) <= 0):
        raise DataError(f"bins={bins!r}: the edges of bins are at least two increasing numbers, such as [0, 1, 4, 12, 24].")
    if not ((time >= edges[0]) & (time <= edges[-1])).any():
        raise DataError(
            f"bins={bins!r}: no observation lies between {edges[0]:g} and {edges[-1]:g}; "
            f"they are from {time.min():g} to {time.max():g}."
        )
    return edges


def members_of(time: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) bin of every observation; -1 outside of all."""
    found = np.searchsorted(edges, time, side="right") - 1
    found[time == edges[-1]] = len(edges) - 2
    return np.where((time >= edges[0]) & (time <= edges[-1]), found, -1)


def _automatic(time: np.ndarray) -> np.ndarray:
    first, last, weights = _groups(time)
    most = min(MOST, len(first), max(1, len(time) // 5))
    scatter, cuts = _least_squares(_spread_out(first, weights), weights, most)
    floor = max(_SMALLEST * scatter[0], np.finfo(float).tiny)
    score = np.log(np.maximum(scatter, floor)) + PENALTY * np.arange(1, most + 1)
    return _edges(first, last, cuts[int(np.argmin(score))])


def _counted(time: np.ndarray, count: int) -> np.ndarray:
    first, last, weights = _groups(time)
    if not 1 <= count <= len(first):
        raise DataError(f"bins={count}: the times of the observations make 1 to {len(first)} bins.")
    return _edges(first, last, _least_squares(_spread_out(first, weights), weights, count)[1][-1])


def _groups(time: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and last of each group of times, and how many observations it has: the distinct times, joined where very many."""
    values, weights = np.unique(time, return_counts=True)
    if len(values) <= DISTINCT:
        return values, values, weights
    group = (np.cumsum(weights) - weights) * DISTINCT // weights.sum()
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return values[starts], values[np.append(starts[1:], len(values)) - 1], np.add.reduceat(weights, starts)


def _spread_out(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    rank = np.cumsum(weights) - 0.5 * weights
    return 0.5 * (values - values[0]) / max(np.ptp(values), 1e-300) + 0.5 * rank / weights.sum()


def _least_squares(u: np.ndarray, weights: np.ndarray, most: int) -> tuple[np.ndarray, list[list[int]]]:
    """J(1..most), and for each the first value of every bin."""
    total = [np.concatenate([[0.0], np.cumsum(weights * u**power)]) for power in (0, 1, 2)]
    n = len(u)
    i, j = np.arange(n)[:, None], np.arange(1, n + 1)[None]
    mass, first, second = (part[j] - part[i] for part in total)
    with np.errstate(invalid="ignore", divide="ignore"):
        cost = np.where(j > i, np.maximum(second - first**2 / mass, 0.0), np.inf)  # of a bin from i to before j
    best, back = [cost[0]], []
    for _ in range(most - 1):
        before = np.concatenate([[np.inf], best[-1][:-1]])  # all before i, in one bin less
        whole = before[:, None] + cost
        back.append(np.argmin(whole, axis=0))
        best.append(whole.min(axis=0))
    cuts = []
    for k in range(most):
        starts, end = [], n - 1
        for level in range(k - 1, -1, -1):
            starts.append(int(back[level][end]))
            end = starts[-1] - 1
        cuts.append([0, *starts[::-1]])
    return np.array([part[-1] for part in best]), cuts


def _edges(first: np.ndarray, last: np.ndarray, starts: list[int]) -> np.ndarray:
    """Edges midway between the last value of a bin and the first of the next."""
    inner = [0.5 * (last[s - 1] + first[s]) for s in starts[1:]]
    return np.array([first[0], *inner, last[-1] if last[-1] > first[0] else first[0] + 1.0])
