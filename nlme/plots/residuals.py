"""Weighted residuals: their size against the prediction, their distribution, their memory, and what covariates say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nlme.errors import DataError
from nlme.plots import normal
from nlme.plots.random_effects import ACROSS, boxes, categories_of, chosen_covariates, scatter
from nlme.plots.smoothing import lowess
from nlme.plots.style import IDENTITY, OBSERVED, TREND, axis_label, chosen_log, dense, log_axis, new_figure, picture, units_of

RESIDUALS = ("IWRES", "CWRES", "WRES")


@picture
def residuals(fit, residual: str = "IWRES", units: Mapping[str, str] | None = None, log: bool | None = None) -> Figure:
    """One row for each endpoint: residual and its absolute value against IPRED, quantiles, and each against the one before.

    Solid: local trend; a trend of the absolute value says that the error model has the wrong spread.  The last panel has pairs of
    consecutive observations of one subject: a correlation there is a memory that the model does not have (``nlme.ar1``).  Values
    beyond ±3 are named by their subject.

    Parameters
    ----------
    fit : a fit, or what ``nlme.evaluate`` returned
    residual : "IWRES", "CWRES" or "WRES"
    units : units by endpoint name
    log : logarithmic predictions; None where they are positive and span more than 20-fold

    Raises
    ------
    DataError
        An unknown residual, or none: no endpoint is normal on any scale; a unit of something that is not there.
    """
    frame = _known(fit, residual)
    units = units_of(fit, units)
    endpoints = list(dict.fromkeys(frame["ENDPOINT"]))
    figure = new_figure(5.4 if len(endpoints) == 1 else 2.6 * len(endpoints), width=7.2 if len(endpoints) == 1 else 10.5)
    grid = figure.subplots(2, 2).reshape(1, 4) if len(endpoints) == 1 else figure.subplots(len(endpoints), 4, squeeze=False)
    for panels, name in zip(grid, endpoints, strict=True):
        rows = frame[frame["ENDPOINT"] == name]
        x, y, ids = rows["IPRED"].to_numpy(dtype=float), rows[residual].to_numpy(dtype=float), list(rows["ID"])
        logarithmic = chosen_log(log, name, x)
        for axes, values, word in ((panels[0], y, residual), (panels[1], np.abs(y), f"|{residual}|")):
            axes.plot(x, values, **{**OBSERVED, **dense(len(x))})
            place, trend = lowess(np.log(x) if logarithmic else x, values)
            axes.plot(np.exp(place) if logarithmic else place, trend, **TREND, zorder=4)
            normal.name_far(axes, x, values, ids)
            axes.set(xlabel=axis_label("Individual prediction", units.get(name)), ylabel=f"{word} of {name}")
            if logarithmic:
                log_axis(axes, "x")
        panels[0].axhline(0.0, **IDENTITY)
        reach = max(3.2, 1.08 * np.abs(y).max())
        panels[0].set_ylim(-reach, reach)
        panels[1].set_ylim(0.0, reach)
        normal.quantiles(panels[2], y, ids, residual)
        _memory(panels[3], rows, residual)
    return figure


def _known(fit, residual: str):
    if residual not in RESIDUALS:
        raise DataError(f"residual={residual!r}: it is one of {', '.join(map(repr, RESIDUALS))}.")
    frame = fit.predictions
    frame = frame[np.isfinite(frame[residual])]
    if not len(frame):
        raise DataError(f"There is no {residual}: no endpoint is normal on any scale. Use nlme.npde, or nlme.vpc.")
    return frame


def _memory(axes, rows, residual: str) -> None:
    """Each residual against the one before of the same subject."""
    before, after, ids = [], [], []
    for identity, own in rows.groupby("ID", sort=False):
        values = own.sort_values("TIME", kind="stable")[residual].to_numpy(dtype=float)
        before.append(values[:-1])
        after.append(values[1:])
        ids += [identity] * (len(values) - 1)
    x, y = np.concatenate(before), np.concatenate(after)
    scatter(axes, x, y)
    axes.axhline(0.0, **IDENTITY)
    axes.axvline(0.0, **IDENTITY)
    if len(x) > 3:
        axes.set_title(f"r = {np.corrcoef(x, y)[0, 1]:.2f} ({len(x)} pairs)", loc="right", fontsize=8, pad=2)
    axes.set(xlabel=f"{residual}, one before", ylabel=residual)


@picture
def residual_covariates(fit, residual: str = "CWRES", covariates: Sequence[str] | None = None) -> Figure:
    """Weighted residuals by covariate at the time of each observation: points with a trend, or boxes for categories.

    Parameters
    ----------
    fit : a fit, or what ``nlme.evaluate`` returned
    residual : "CWRES", "IWRES" or "WRES"
    covariates : which; all by default

    Raises
    ------
    DataError
        The population has no covariates, or not this one; there are no residuals.
    """
    names = chosen_covariates(fit.population, covariates)
    finite = np.isfinite(fit.predictions[residual].to_numpy(dtype=float)) if residual in RESIDUALS else None
    frame = _known(fit, residual)
    values = frame[residual].to_numpy(dtype=float)
    endpoints = list(dict.fromkeys(frame["ENDPOINT"]))
    across = min(len(names), ACROSS - 1)
    bands = -(-len(names) // across)
    figure = new_figure(0.4 + 2.1 * bands * len(endpoints), width=max(3.6, 0.7 + 2.3 * across))
    grid = figure.subplots(bands * len(endpoints), across, squeeze=False)
    for axes in grid.ravel():
        axes.set_visible(False)
    for place, name in enumerate(names):
        band, column = divmod(place, across)
        info = fit.population.covariates[name]
        every = np.concatenate([s.covariates[name][s.is_observation] for s in fit.population]).astype(float)[finite]
        for line, endpoint in enumerate(endpoints):
            axes = grid[band * len(endpoints) + line, column]
            axes.set_visible(True)
            own = (frame["ENDPOINT"] == endpoint).to_numpy()
            levels = categories_of(info, every)
            if levels is None:
                scatter(axes, every[own], values[own])
            else:
                boxes(axes, every[own], values[own], levels, info)
            axes.axhline(0.0, **IDENTITY)
            axes.set_xlabel(axis_label(name, info.unit))
            axes.set_ylabel(f"{residual} of {endpoint}" if column == 0 else "")
    return figure
