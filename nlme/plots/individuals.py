"""Individual fits: every subject's observations with its own and the typical curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nlme.errors import DataError
from nlme.plots.curves import at_observations, dose_times, endpoints_with_curves, fine_curves
from nlme.plots.goodness import with_limits
from nlme.plots.style import (
    CENSORED,
    DOSE,
    INDIVIDUAL,
    INK,
    OBSERVED,
    POPULATION,
    axis_label,
    chosen_log,
    log_axis,
    new_figure,
    picture,
    subject_title,
    units_of,
)

if TYPE_CHECKING:
    import pandas as pd


@picture
def individual_fits(
    fit,
    columns: int = 4,
    max_subjects: int = 12,
    subjects: Sequence | None = None,
    units: Mapping[str, str] | None = None,
    fine: bool = True,
    log: bool | None = None,
) -> Figure:
    """One panel per subject: observations (circles), individual (solid) and population (dashed) prediction, doses.

    Several endpoints make one row of panels each; times of events are on no curve, and have none. At the foot of a panel, triangles
    are doses and bars infusions; filled triangles pointing down are observations below or above the limit of quantification, at DV.

    Parameters
    ----------
    fit : Fit
    columns : panels side by side
    max_subjects : the first so many are drawn
    subjects : IDs to draw instead of the first ones
    units : units by endpoint name and "time"
    fine : curves on a fine grid of times; otherwise through the predictions at the observations
    log : logarithmic values; None where all of an endpoint are positive and span more than 20-fold

    Raises
    ------
    DataError
        An ID that the population does not have, a logarithm of what is not positive, a unit of something that is not there, or
        nothing to draw but times of events.
    """
    units = units_of(fit, units)
    if subjects is None:
        chosen = list(fit.population)[:max_subjects]
    else:
        chosen = [fit.population.subject(identity) for identity in subjects]
    return _draw(fit, chosen, _curves(fit, chosen, fine), columns, units, log)


@picture
def individual_fit_pages(
    fit,
    per_page: int = 12,
    columns: int = 4,
    max_subjects: int | None = None,
    units: Mapping[str, str] | None = None,
    log: bool | None = None,
) -> list[Figure]:
    """The same as :func:`individual_fits` in several figures of at most ``per_page`` subjects; the model is solved once."""
    units, chosen = units_of(fit, units), list(fit.population)[:max_subjects]
    curves = _curves(fit, chosen, fine=True)
    return [_draw(fit, chosen[k : k + per_page], curves, columns, units, log) for k in range(0, len(chosen), per_page)]


def _curves(fit, chosen: Sequence, fine: bool) -> dict[str, pd.DataFrame]:
    if not endpoints_with_curves(fit):
        raise DataError(
            f"{', '.join(dict.fromkeys(fit.predictions['ENDPOINT']))}: times of events have no curve of a subject to draw them on; "
            "nlme.vpc(fit, key=1).plot() shows how many have happened by when, beside what the model simulates."
        )
    wanted = {subject.id for subject in chosen}
    shown = fit.population.filter(lambda subject: subject.id in wanted)
    return fine_curves(fit, shown) if fine else at_observations(fit, shown)


def _draw(
    fit, chosen: Sequence, curves: dict[str, pd.DataFrame], columns: int, units: Mapping[str, str], log: bool | None
) -> Figure:
    observed = _observed(fit)
    endpoints = list(observed)
    columns = max(1, min(columns, len(chosen)))
    blocks = [chosen[k : k + columns] for k in range(0, len(chosen), columns)]
    lines = len(blocks) * len(endpoints)
    figure = new_figure(0.5 + 1.75 * lines, width=max(3.6, 2.0 * columns))
    grid = figure.subplots(lines, columns, squeeze=False)
    logs = {name: chosen_log(log, name, observed[name]["DV"]) for name in endpoints}
    for line, panels in enumerate(grid):
        block, endpoint = blocks[line // len(endpoints)], endpoints[line % len(endpoints)]
        for k, axes in enumerate(panels):
            if k >= len(block):
                axes.set_visible(False)
                continue
            person = block[k]
            _panel(axes, person, _of(observed[endpoint], person), _of(curves[endpoint], person), logs[endpoint])
            axes.set_title(subject_title(person.id), loc="left", pad=3)
        panels[0].set_ylabel(axis_label(endpoint, units.get(endpoint)))
    _label_feet(grid, axis_label("Time", units.get("time")))
    _legend(figure, any((rows["CENS"] != 0).any() for rows in observed.values()))
    return figure


def _observed(fit) -> dict[str, pd.DataFrame]:
    """Observations by endpoint, with their censoring flag: predictions and records are both in file order."""
    rows = with_limits(fit)[["ID", "TIME", "ENDPOINT", "DV", "CENS"]]
    return {endpoint: rows[rows["ENDPOINT"] == endpoint] for endpoint in endpoints_with_curves(fit)}


def _of(rows: pd.DataFrame, person) -> pd.DataFrame:
    return rows[rows["ID"] == person.id]


def _panel(axes: Axes, person, observed: pd.DataFrame, curve: pd.DataFrame, log: bool) -> None:
    drawn = curve[(curve["PRED"] > 0) & (curve["IPRED"] > 0)] if log else curve
    axes.plot(drawn["TIME"], drawn["PRED"], **POPULATION)
    axes.plot(drawn["TIME"], drawn["IPRED"], **INDIVIDUAL)
    censored = observed["CENS"] != 0
    axes.plot(observed["TIME"][~censored], observed["DV"][~censored], **OBSERVED, zorder=4)
    axes.plot(observed["TIME"][censored], observed["DV"][censored], **CENSORED, zorder=4)
    foot = axes.get_xaxis_transform()
    for start, end in zip(*dose_times(person), strict=True):
        axes.plot([start], [0.0], transform=foot, **DOSE, clip_on=False, zorder=5)
        if end > start:
            axes.plot(
                [start, end], [0.0, 0.0], transform=foot, color=INK, linewidth=3.0, clip_on=False, solid_capstyle="butt", zorder=1
            )
    if log:
        # On a logarithmic axis a curve may fall far below the last observation; the observations rule the view.
        seen = np.concatenate([observed["DV"], drawn["IPRED"][drawn["TIME"].isin(observed["TIME"])]])
        seen = seen[np.isfinite(seen) & (seen > 0)]
        if seen.size:
            axes.set_ylim(seen.min() / 2, max(seen.max(), drawn["IPRED"].max() if len(drawn) else 0.0) * 1.5)
        log_axis(axes, "y")
    else:
        axes.margins(y=0.08)


def _label_feet(grid: np.ndarray, label: str) -> None:
    """The time label under the lowest visible panel of each column."""
    for column in grid.T:
        visible = [axes for axes in column if axes.get_visible()]
        if visible:
            visible[-1].set_xlabel(label)


def _legend(figure: Figure, censored: bool) -> None:
    from matplotlib.lines import Line2D

    entries = [
        Line2D([], [], label="observed", **OBSERVED),
        Line2D([], [], label="individual prediction", **INDIVIDUAL),
        Line2D([], [], label="population prediction", **POPULATION),
        Line2D([], [], label="dose", **DOSE),
    ]
    if censored:
        entries.insert(1, Line2D([], [], label="censored", **CENSORED))
    narrow = figure.get_figwidth() < 6
    figure.legend(handles=entries, loc="outside upper left", ncols=2 if narrow else len(entries), columnspacing=1.4)
