"""Random effects: their distribution against the one estimated, and what covariates still say about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nlme.errors import DataError, name_error
from nlme.plots.smoothing import lowess
from nlme.plots.style import BLUE, GREY, IDENTITY, INK, OBSERVED, PALE, TREND, axis_label, dense, new_figure, picture

ACROSS = 5  # covariates side by side
MANY_VALUES = 6  # a covariate of integers with fewer different values than this is drawn as categories


@picture
def eta_distributions(fit) -> Figure:
    """Histogram of each random effect's modes with the density N(0, omega2) of the fit; shrinkage in the title.

    With large shrinkage the modes crowd at zero and the histogram is narrower than the curve by right.

    Raises
    ------
    DataError
        A model without random effects.
    """
    eta = _effects(fit)
    columns = min(3, eta.shape[1])
    lines = -(-eta.shape[1] // columns)
    figure = new_figure(0.3 + 2.3 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    variances = {row.random_effect: row.value for row in fit.parameters if row.kind == "variance"}
    for axes, name in zip(panels, eta.columns, strict=False):
        values = np.asarray(fit.modes[name], dtype=float)
        values = values[np.isfinite(values)]
        word = name.split("[")[0]  # of an effect that every occasion has anew
        sd = np.sqrt(variances.get(word, np.nan))
        if np.isfinite(sd) and sd > 0:
            reach = max(3.2 * sd, 1.05 * np.abs(values).max(initial=0.0))
            grid = np.linspace(-reach, reach, 200)
            density = np.exp(-0.5 * (grid / sd) ** 2) / (sd * np.sqrt(2 * np.pi))
            axes.plot(grid, density, color=BLUE, linewidth=1.6, label="N(0, ω²), as estimated")
        if len(values):
            axes.hist(values, bins=_bins(values), density=True, color=PALE, edgecolor=INK, linewidth=0.6, zorder=0)
        axes.plot(values, np.zeros_like(values), linestyle="none", marker="|", color=INK, markersize=7, clip_on=False)
        axes.axvline(0.0, **IDENTITY)
        axes.set(xlabel=f"η {name}", ylabel="Density", title=f"{name}: shrinkage {fit.shrinkage.get(word, np.nan):.1f} %")
    for axes in panels[eta.shape[1] :]:
        axes.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside upper left")
    return figure


def _effects(fit):
    """The modes, one column per random effect; not a number on an occasion that the subject was never seen on.

    Raises
    ------
    DataError
        The model has none.
    """
    if fit.eta.shape[1] == 0:
        raise DataError(f"{type(fit.model).__name__} has no random effects, so there is nothing to draw.")
    return fit.eta_met


def _bins(values: np.ndarray) -> int:
    """Number of bars: Sturges' rule, at most 40."""
    return int(min(40, np.ceil(np.log2(len(values)) + 1)))


@picture
def eta_pairs(fit) -> Figure:
    """Each random effect's modes against each other's, with the ellipse that holds 95 % of N(0, Omega) as estimated.

    In a corner stands Spearman's rank correlation of the modes.  Shrunken modes lie within the ellipse by right; a correlation
    where Omega has none asks for a covariance.

    Raises
    ------
    DataError
        A model with fewer than two random effects.
    """
    eta = _effects(fit)
    names = list(eta.columns)
    if len(names) < 2:
        raise DataError(f"{type(fit.model).__name__} has one random effect, {names[0]}: there is no pair to draw.")
    count = len(names)
    figure = new_figure(0.3 + 1.9 * (count - 1), width=max(3.6, 0.6 + 1.9 * (count - 1)))
    grid = figure.subplots(count - 1, count - 1, squeeze=False, sharex="col", sharey="row")
    omega = _omega(fit)
    for i, j in ((i, j) for i in range(1, count) for j in range(count - 1)):
        axes = grid[i - 1, j]
        axes.set_visible(j < i)
        if j >= i:
            continue
        x, y = eta[names[j]].to_numpy(dtype=float), eta[names[i]].to_numpy(dtype=float)
        axes.plot(x, y, **{**OBSERVED, **dense(len(x))})
        pair = [name.split("[")[0] for name in (names[j], names[i])]
        if all(name in omega for name in pair) and names[i].partition("[")[2] == names[j].partition("[")[2]:
            block = np.array([[omega[a].get(b, 0.0) for b in pair] for a in pair])
            _ellipse(axes, block)
        axes.axhline(0.0, **IDENTITY)
        axes.axvline(0.0, **IDENTITY)
        _note_correlation(axes, x, y)
        if i == count - 1:
            axes.set_xlabel(f"η {names[j]}")
        if j == 0:
            axes.set_ylabel(f"η {names[i]}")
    return figure


def _omega(fit) -> dict[str, dict[str, float]]:
    """Variances and covariances of the random effects by their names."""
    found: dict[str, dict[str, float]] = {}
    for row in fit.parameters:
        if row.kind in ("variance", "covariance"):
            pair = row.name.partition(".")[2].split(",")
            a, b = pair[0], pair[-1]
            found.setdefault(a, {})[b] = row.value
            found.setdefault(b, {})[a] = row.value
    return found


def _ellipse(axes: Axes, block: np.ndarray) -> None:
    """95 % of a bivariate normal distribution: x' S^-1 x = -2 log 0.05."""
    values, vectors = np.linalg.eigh(block)
    if values[0] <= 0:
        return
    angle = np.linspace(0, 2 * np.pi, 200)
    points = np.sqrt(-2.0 * np.log(0.05)) * (vectors * np.sqrt(values)) @ np.stack([np.cos(angle), np.sin(angle)])
    axes.plot(*points, color=BLUE, linewidth=1.2)


@picture
def eta_covariates(fit, covariates: Sequence[str] | None = None) -> Figure:
    """Each random effect against each covariate: points with a trend, or boxes for categories.

    A covariate that varies in time counts with its first value in the subject. The figure in a corner is Spearman's rank
    correlation.

    Parameters
    ----------
    fit : Fit
    covariates : which; all by default

    Raises
    ------
    DataError
        The population has no covariates, or not this one; the model has no random effects.
    """
    names = chosen_covariates(fit.population, covariates)
    eta = _effects(fit)
    across = min(len(names), ACROSS)
    bands = -(-len(names) // across)  # many covariates continue below, all effects again
    effects = eta.shape[1]
    figure = new_figure(bands * (0.35 + 1.9 * effects), width=max(3.6, 0.7 + 2.0 * across))
    grid = figure.subplots(bands * effects, across, squeeze=False, sharey="row")
    for axes in grid.ravel()[grid.size - effects * across :]:
        axes.set_visible(False)  # the last band may have room to spare
    for place, name in enumerate(names):
        band, column = divmod(place, across)
        info = fit.population.covariates[name]
        values = np.array([subject.covariates[name][0] for subject in fit.population], dtype=float)
        categories = categories_of(info, values)
        for line, effect in enumerate(eta.columns):
            axes = grid[band * effects + line, column]
            axes.set_visible(True)
            axes.tick_params(labelbottom=line == effects - 1)
            if categories is None:
                scatter(axes, values, eta[effect].to_numpy(dtype=float))
            else:
                boxes(axes, values, eta[effect].to_numpy(dtype=float), categories, info)
            axes.axhline(0.0, **IDENTITY)
            axes.margins(y=0.08)
        first = "" if info.constant else ", first value"
        grid[band * effects + effects - 1, column].set_xlabel(axis_label(f"{name}{first}", info.unit))
    for line in range(bands * effects):
        grid[line, 0].set_ylabel(f"η {eta.columns[line % effects]}")
    return figure


def categories_of(info, values: np.ndarray) -> list[float] | None:
    """The levels of a categorical covariate, None for a continuous one."""
    seen = sorted(set(values[np.isfinite(values)].tolist()))
    if info.categories:
        return seen
    return seen if len(seen) < MANY_VALUES and all(float(v).is_integer() for v in seen) else None


def scatter(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Points with a trend, and their rank correlation."""
    axes.plot(x, y, **{**OBSERVED, **dense(len(x))})
    axes.plot(*lowess(x, y), **TREND, zorder=4)
    _note_correlation(axes, x, y)


def boxes(axes: Axes, x: np.ndarray, y: np.ndarray, categories: Sequence[float], info) -> None:
    """A box for each category, and the subjects themselves beside the middle in a fixed zigzag."""
    places = np.arange(len(categories))
    groups = [y[(x == level) & np.isfinite(y)] for level in categories]
    axes.boxplot(
        groups,
        positions=places,
        widths=0.5,
        showfliers=False,
        medianprops=dict(color=TREND["color"], linewidth=1.8),
        boxprops=dict(color=GREY),
        whiskerprops=dict(color=GREY),
        capprops=dict(color=GREY),
        manage_ticks=False,
    )
    for place, group in zip(places, groups, strict=True):
        offset = 0.16 * (np.arange(len(group)) % 5 - 2) / 2
        axes.plot(place + offset, group, **{**OBSERVED, **dense(4 * len(y))})
    words = [info.categories[int(level)] if info.categories else f"{level:g}" for level in categories]
    axes.set_xticks(places, [f"{word}\n(n={len(group)})" for word, group in zip(words, groups, strict=True)])
    axes.set_xlim(-0.6, len(categories) - 0.4)


def _note_correlation(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    seen = np.isfinite(x) & np.isfinite(y)
    if seen.sum() > 3 and np.ptp(x[seen]) > 0 and np.ptp(y[seen]) > 0:
        rank_x, rank_y = _ranks(x[seen]), _ranks(y[seen])
        axes.set_title(f"ρ = {np.corrcoef(rank_x, rank_y)[0, 1]:.2f}", loc="right", fontsize=8, pad=2)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, ties sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]


def chosen_covariates(population, covariates: Sequence[str] | None) -> list[str]:
    """The covariates asked for, all by default.

    Raises
    ------
    DataError
        The population has no covariates, or not one of these.
    """
    known = population.covariates
    names = list(known) if covariates is None else list(covariates)
    if not names:
        raise DataError('This population has no covariates. Name them when reading: read_nonmem(path, covariates=["wt"]).')
    for name in names:
        if name not in known:
            raise DataError(name_error("covariate", name, known, "The population"))
    return names
