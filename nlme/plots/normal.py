"""Numbers that should be standard normal: quantiles, histogram and course, with the bands that chance gives them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from nlme.diagnostics.binning import edges_of, members_of
from nlme.plots.style import BLUE, IDENTITY, INK, OBSERVED, PALE, VERMILION, dense

LEVEL = 0.95  # of the bands
FAR = 3.0  # beyond which a value is named by its subject
_DRAWS = 2000


def quantiles(axes: Axes, values: np.ndarray, ids, name: str) -> None:
    """Ordered values over the quantiles of N(0, 1); the band holds each order statistic with probability ``LEVEL``."""
    from scipy import special

    order = np.argsort(values)
    n = len(values)
    rank = np.arange(1, n + 1)
    theory = special.ndtri((rank - 0.5) / n)
    low, high = (special.ndtri(special.betaincinv(rank, n - rank + 1, q)) for q in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2))
    axes.fill_between(theory, low, high, color=BLUE, alpha=0.25, linewidth=0, zorder=1)
    axes.axline((0.0, 0.0), slope=1.0, **IDENTITY, zorder=2)
    axes.plot(theory, values[order], **{**OBSERVED, **dense(n)}, zorder=3)
    name_far(axes, theory, values[order], [ids[k] for k in order])
    axes.set(xlabel="Quantiles of N(0, 1)", ylabel=f"Quantiles of {name}")


def histogram(axes: Axes, values: np.ndarray, name: str) -> None:
    """Bars of density with N(0, 1), and the interval of each bar that chance gives it."""
    from scipy import special, stats

    n = len(values)
    reach = max(3.0, float(np.abs(values).max()))
    edges = np.linspace(-reach, reach, 2 * int(np.clip(np.ceil(np.sqrt(n) / 2), 3, 15)) + 1)
    width = edges[1] - edges[0]
    axes.hist(values, bins=edges, density=True, color=PALE, edgecolor=INK, linewidth=0.6, zorder=1)
    inside = np.diff(special.ndtr(edges))
    low, high = (stats.binom.ppf(q, n, inside) / (n * width) for q in (0.5 - LEVEL / 2, 0.5 + LEVEL / 2))
    axes.vlines(0.5 * (edges[1:] + edges[:-1]), low, high, color=BLUE, alpha=0.45, linewidth=4, zorder=2)
    grid = np.linspace(-reach, reach, 200)
    axes.plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi), color=VERMILION, linewidth=1.5, zorder=3)
    axes.set(xlabel=name, ylabel="Density")


def course(axes: Axes, x: np.ndarray, values: np.ndarray, ids, shares=(0.05, 0.5, 0.95), bins="auto") -> None:
    """Values over ``x`` with their percentiles by bins, each over the interval that independent N(0, 1) numbers give it."""
    axes.plot(x, values, **{**OBSERVED, "markersize": 3, **dense(len(x))}, zorder=2)
    if np.ptp(x) > 0:
        members = members_of(x, edges_of(x, bins))
        random = np.random.default_rng(1)
        found = []
        for b in np.unique(members):
            own = members == b
            made = np.quantile(random.standard_normal((_DRAWS, own.sum())), shares, axis=1)
            ends = np.quantile(made, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=1)
            found.append((np.median(x[own]), np.quantile(values[own], shares), *ends))
        place, seen, low, high = (np.array(part) for part in zip(*found, strict=True))
        for k, share in enumerate(shares):
            inner = share == 0.5
            fill = VERMILION if inner else BLUE
            axes.fill_between(place, low[:, k], high[:, k], color=fill, alpha=0.25, linewidth=0, zorder=1)
            axes.plot(place, seen[:, k], color=INK, linewidth=1.3, linestyle="-" if inner else (0, (5, 2)), zorder=4)
    reach = max(3.2, 1.08 * float(np.abs(values).max()))
    axes.set_ylim(-reach, reach)
    name_far(axes, x, values, ids)


def name_far(axes: Axes, x, y, ids, beyond: float = FAR, most: int = 8) -> None:
    """The IDs of the farthest values, beside them."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    far = np.flatnonzero(np.isfinite(x) & (np.abs(y) > beyond))
    for k in far[np.argsort(-np.abs(y[far]))][:most]:
        word = str(ids[k])
        axes.annotate(
            word if len(word) <= 10 else word[:9] + "…",
            (x[k], y[k]),
            xytext=(4, 1),
            textcoords="offset points",
            fontsize=7,
            zorder=6,
        )
