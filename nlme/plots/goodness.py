"""Goodness of fit: observations against predictions, conditional weighted residuals against time and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nlme.errors import DataError
from nlme.plots.normal import name_far
from nlme.plots.smoothing import lowess
from nlme.plots.style import (
    CENSORED,
    GREY,
    IDENTITY,
    OBSERVED,
    TREND,
    axis_label,
    chosen_log,
    dense,
    log_axis,
    new_figure,
    picture,
    units_of,
)

if TYPE_CHECKING:
    import pandas as pd

LARGE = 4.0  # residual that is named by its subject


@picture
def goodness_of_fit(fit, units: Mapping[str, str] | None = None, log: bool | None = None) -> Figure:
    """DV against PRED, DV against IPRED, CWRES against time, CWRES against PRED.

    One endpoint gives two rows of two panels, several endpoints one row of four each. Dashed: identity, or zero and +-1.96;
    solid: local trend (lowess) of what was measured; grey triangles: values beyond a limit of quantification, at the limit. Observations
    with |CWRES| beyond 4 are named by their subject.  Endpoints without residuals (events, categories, counts) have no such picture:
    :func:`nlme.vpc` compares them with what the model simulates.

    Parameters
    ----------
    fit : Fit
    units : units by endpoint name and "time"
    log : logarithmic axes of DV and predictions; None where all are positive and span more than 20-fold

    Raises
    ------
    DataError
        A logarithm of what is not positive; no endpoint has residuals; a unit of something that is not there.
    """
    units = units_of(fit, units)
    predictions, endpoints = with_limits(fit), endpoints_with_residuals(fit)
    if not endpoints:
        raise DataError(
            f"{', '.join(dict.fromkeys(predictions['ENDPOINT']))}: no residuals, so there is no goodness of fit to draw; "
            "nlme.vpc(fit, key=1) compares the data with what the model simulates."
        )
    if len(endpoints) == 1:
        figure = new_figure(5.8)
        grid = figure.subplots(2, 2).reshape(1, 4)
    else:
        figure = new_figure(2.6 * len(endpoints), width=10.5)
        grid = figure.subplots(len(endpoints), 4, squeeze=False)
    for panels, name in zip(grid, endpoints, strict=True):
        _row(panels, predictions[predictions["ENDPOINT"] == name], name, units, log)
    if (predictions["CENS"] != 0).any():
        entry = Line2D([], [], label="beyond a limit of quantification, at the limit", **CENSORED)
        figure.legend(handles=[entry], loc="outside upper left")
    return figure


def with_limits(fit) -> pd.DataFrame:
    """The predictions with CENS, which observations are beyond a limit: predictions and records are both in file order."""
    return fit.predictions.assign(CENS=np.concatenate([subject.cens[subject.is_observation] for subject in fit.population]))


def endpoints_with_residuals(fit) -> list[str]:
    """Names of the endpoints that have any, in the order of the data."""
    known = fit.predictions[["IWRES", "CWRES"]].notna().any(axis=1)
    return list(dict.fromkeys(fit.predictions.loc[known, "ENDPOINT"]))


def _row(panels, rows: pd.DataFrame, name: str, units: Mapping[str, str], log: bool | None) -> None:
    unit = units.get(name)
    observed, pred, ipred = rows["DV"], rows["PRED"], rows["IPRED"]
    log, limits = chosen_log(log, name, observed, pred, ipred), rows["CENS"] != 0
    agreement(panels[0], pred, observed, log, limits)
    panels[0].set(xlabel=axis_label("Population prediction", unit), ylabel=axis_label(f"Observed {name}", unit))
    agreement(panels[1], ipred, observed, log, limits)
    panels[1].set(xlabel=axis_label("Individual prediction", unit), ylabel=axis_label(f"Observed {name}", unit))
    _residuals(panels[2], rows["TIME"], rows["CWRES"], rows["ID"], False)
    panels[2].set(xlabel=axis_label("Time", units.get("time")), ylabel=f"CWRES of {name}")
    _residuals(panels[3], pred, rows["CWRES"], rows["ID"], log)
    panels[3].set(xlabel=axis_label("Population prediction", unit), ylabel=f"CWRES of {name}")


def agreement(axes: Axes, predicted: pd.Series, observed: pd.Series, log: bool, limits: pd.Series | None = None) -> None:
    """Observations over predictions on equal axes, so that the identity line is the diagonal; ``limits``: which are beyond one."""
    known = np.ones(len(observed), bool) if limits is None else ~limits.to_numpy()
    axes.plot(predicted[known], observed[known], **{**OBSERVED, **dense(len(observed))})
    axes.plot(predicted[~known], observed[~known], **{**CENSORED, "markersize": 3.5})
    both = np.concatenate([predicted, observed])
    both = both[np.isfinite(both)]
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    if log:
        margin = (high / low) ** 0.04
        low, high = low / margin, high * margin
    else:
        margin = 0.04 * (high - low) or 1.0
        low, high = low - margin, high + margin
    axes.plot([low, high], [low, high], **IDENTITY, zorder=3)
    if log:
        x, y = lowess(np.log(predicted[known]), np.log(observed[known]))
        axes.plot(np.exp(x), np.exp(y), **TREND, zorder=4)
    else:
        axes.plot(*lowess(predicted[known], observed[known]), **TREND, zorder=4)
    axes.set(xlim=(low, high), ylim=(low, high))
    if log:
        log_axis(axes, "both")
    else:
        for axis in (axes.xaxis, axes.yaxis):  # the same ticks on both, as the diagonal asks
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_aspect("equal", adjustable="box")


def _residuals(axes: Axes, x: pd.Series, residual: pd.Series, ids: pd.Series, log: bool) -> None:
    """Residuals around zero; the faint lines hold 95 % of standard normal ones. The axis is symmetric."""
    axes.plot(x, residual, **{**OBSERVED, **dense(len(x))})
    axes.axhline(0.0, **IDENTITY)
    for level in (-1.96, 1.96):
        axes.axhline(level, **{**IDENTITY, "linewidth": 0.6, "linestyle": (0, (1, 3))})
    if log:
        place, trend = lowess(np.log(x), residual)
        place = np.exp(place)
    else:
        place, trend = lowess(x, residual)
    axes.plot(place, trend, **TREND, zorder=4)
    name_far(axes, x, residual, list(ids), beyond=LARGE)
    finite = residual[np.isfinite(residual)]
    if not len(finite):
        axes.text(0.5, 0.75, "none: not normal on any scale", transform=axes.transAxes, ha="center", fontsize=8, color=GREY)
    reach = max(2.5, 1.08 * float(np.abs(finite).max())) if len(finite) else 2.5
    axes.set_ylim(-reach, reach)
    if log:
        log_axis(axes, "x")
