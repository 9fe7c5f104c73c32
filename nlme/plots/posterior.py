"""Pictures of posteriors: beside their priors, their chains, of one patient's future, and of their calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from nlme.errors import FitError, name_error
from nlme.parameters.priors import Priors
from nlme.plots.style import (
    BLUE,
    COLOURS,
    GREY,
    INK,
    OBSERVED,
    PALE,
    axis_label,
    known_units,
    legend,
    log_axis,
    new_figure,
    picture,
    subject_title,
    wants_log,
)
from nlme.posterior.draws import scalars

_BINS = 40
_PRIOR_DRAWS = 4000


@picture
def prior_posterior(
    posterior: Any, model: Any, priors: Mapping[str, Any], fixed: Sequence[str] = (), parameters: Sequence[str] | None = None
) -> Figure:
    """One panel per parameter: the posterior's draws as a histogram, the prior's as a line, over the posterior's range and around.

    Where both look the same the data have said nothing of the parameter.

    Parameters
    ----------
    posterior : what ``nlme.sample`` returned
    model, priors, fixed : what it was given
    parameters : names to draw instead of all with a number of their own

    Raises
    ------
    FitError
        A parameter that the posterior does not have.
    """
    import jax

    prior = Priors(model, priors, fixed)
    known = [name for name in prior.inventory.names if name in posterior.posterior and posterior.posterior[name].ndim == 2]
    for name in parameters or ():
        if name not in known:
            raise FitError(name_error("parameter", name, known, "The posterior"))
    chosen = list(parameters or known)
    u = prior.drawn(jax.random.key(0), _PRIOR_DRAWS)
    natural = np.asarray(jax.vmap(lambda u: prior.inventory.natural(prior.model_and_density(u)[0]))(u))
    figure, panels = _panels(len(chosen))
    for axes, name in zip(panels, chosen, strict=True):
        draws, before = np.ravel(posterior.posterior[name]), natural[:, prior.inventory.names.index(name)]
        low, high = _range(draws, before)
        edges = np.linspace(low, high, _BINS + 1)
        axes.hist(draws, bins=edges, density=True, color=PALE, edgecolor=BLUE, linewidth=0.4)
        inside = np.histogram(before, bins=edges)[0] / (len(before) * np.diff(edges))
        axes.stairs(inside, edges, color=INK, linewidth=1.1)
        axes.set(xlabel=name, yticks=[])
    first = panels[0]
    legend(figure, [first.patches[0], first.patches[-1]], ["posterior", "prior"], loc="outside upper left", ncols=2)
    return figure


@picture
def traces(posterior: Any, parameters: Sequence[str] | None = None) -> Figure:
    """One panel per parameter: its draws in order, a line for each chain.  Chains that agree cannot be told apart.

    Parameters
    ----------
    posterior : what ``nlme.sample`` returned
    parameters : names to draw instead of all but weights of networks, which permute

    Raises
    ------
    FitError
        A parameter that the posterior does not have, or nothing to draw.
    """
    draws = scalars(posterior)
    weights = {row["name"] for row in json.loads(posterior.attrs.get("parameters", "[]")) if row["kind"] == "weight"}
    for name in parameters or ():
        if name not in draws:
            raise FitError(name_error("parameter", name, draws, "The posterior"))
    chosen = {name: draws[name] for name in parameters or [name for name in draws if name not in weights]}
    if not chosen:
        raise FitError("traces: the posterior has weights of networks alone; name those to be drawn.")
    figure, panels = _panels(len(chosen))
    for axes, (name, values) in zip(panels, chosen.items(), strict=True):
        for chain, own in enumerate(values):
            axes.plot(np.arange(1, len(own) + 1), own, color=COLOURS[chain % len(COLOURS)], linewidth=0.4, alpha=0.8)
        axes.set(ylabel=name, xlabel="Draw", xlim=(1, max(2, values.shape[1])))
    return figure


def _panels(count: int) -> tuple[Figure, list]:
    """A figure with ``count`` panels, at most three side by side."""
    columns = min(3, count)
    lines = -(-count // columns)
    figure = new_figure(0.4 + 1.8 * lines, width=2.4 * columns)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, list(grid[:count])


def _range(draws: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """Of the posterior and half as much to both sides, no further than the prior goes."""
    low, high = np.quantile(draws, [0.001, 0.999])
    apart = max(0.5 * (high - low), 1e-12)
    return max(low - apart, min(before.min(), low)), min(high + apart, max(before.max(), high))


@picture
def forecast(forecast: Any, units: Mapping[str, str] | None = None, target: tuple[float, float] | None = None) -> Figure:
    """One panel per patient and endpoint: the median, the band of the patient's own curve, and that of a new observation.

    Parameters
    ----------
    forecast : what :func:`nlme.forecast` returned
    units : units by endpoint and "time"
    target : a range to shade

    Raises
    ------
    DataError
        A unit of something that is not there.
    """
    frame, units = forecast.frame, known_units(units, forecast.frame["ENDPOINT"])
    panels = list(frame.groupby(["ID", "ENDPOINT"], sort=False))
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(0.6 + 2.6 * lines, width=max(4.2, 3.6 * columns))
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, ((identity, endpoint), rows) in zip(grid.ravel(), panels, strict=False):
        if target is not None:
            axes.axhspan(*target, color=GREY, alpha=0.18, linewidth=0)
        wide = axes.fill_between(rows.TIME, rows.DV_LOWER, rows.DV_UPPER, color=PALE, alpha=0.6, linewidth=0)
        own = axes.fill_between(rows.TIME, rows.LOWER, rows.UPPER, color=BLUE, alpha=0.35, linewidth=0)
        (line,) = axes.plot(rows.TIME, rows.MEDIAN, color=BLUE, linewidth=1.5)
        seen = forecast.observed[(forecast.observed.ID == identity) & (forecast.observed.ENDPOINT == endpoint)]
        (points,) = axes.plot(seen.TIME, seen.DV, **OBSERVED)
        if wants_log(rows.MEDIAN, rows.DV_LOWER, seen.DV):
            log_axis(axes, "y")
        axes.set(xlabel=axis_label("Time", units.get("time")), ylabel=axis_label(endpoint, units.get(endpoint)))
        axes.set_title(subject_title(identity), loc="left", pad=3)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    level = f"{100 * forecast.level:.6g} %"
    handles = [line, own, wide, points]
    words = ["median", f"{level}, patient's curve", f"{level}, new observation", "samples used"]
    if target is not None:
        handles.append(Patch(color=GREY, alpha=0.18, linewidth=0))
        words.append(f"target, {target[0]:g} to {target[1]:g}")
    legend(figure, handles, words, loc="outside upper left", ncols=2)
    return figure


@picture
def calibration(calibration: Any) -> Figure:
    """Histogram of the ranks of each parameter, with the band in which 99 % of the bars of uniform ranks are.

    Parameters
    ----------
    calibration : what :func:`nlme.calibrate` returned
    """
    from scipy.stats import binom

    names, bins, count = list(calibration.ranks), calibration.bins, len(calibration.ranks)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure = new_figure(0.3 + 1.9 * lines, width=2.4 * columns)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    low, high = binom.ppf([0.005, 0.995], count, 1 / bins)
    edges = np.linspace(-0.5, calibration.draws + 0.5, bins + 1)
    most = max(high, max(np.histogram(calibration.ranks[name], edges)[0].max() for name in names))
    for axes, name in zip(grid.ravel(), names, strict=False):
        axes.axhspan(low, high, color=PALE, alpha=0.7, linewidth=0)
        axes.axhline(count / bins, color=GREY, linewidth=0.8)
        axes.hist(calibration.ranks[name], bins=edges, histtype="step", color=BLUE, linewidth=1.3)
        axes.set(xlabel=f"Rank of {name}", ylim=(0, 1.1 * most))
        axes.set_title(f"p = {calibration.table.p[name]:.2g}", loc="left", pad=3)
    for axes in grid.ravel()[len(names) :]:
        axes.set_visible(False)
    return figure
