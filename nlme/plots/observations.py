"""The data before any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nlme.data.after_dose import times_after_dose
from nlme.diagnostics.strata import strata_of
from nlme.errors import DataError, name_error
from nlme.plots.curves import dose_times
from nlme.plots.style import (
    BLUE,
    CENSORED,
    DOSE,
    GREY,
    OBSERVED,
    axis_label,
    chosen_log,
    dense,
    known_units,
    legend,
    log_axis,
    new_figure,
    picture,
)

ACROSS = 3


@picture
def data(
    population,
    endpoints: str | Sequence[str] | None = None,
    stratify: str | Sequence[str] | Mapping[str, Any] | None = None,
    units: Mapping[str, str] | None = None,
    log: bool | None = None,
    time: str = "time",
    lines: bool = True,
) -> Figure:
    """Every subject's observations over time: a row of panels for each endpoint, a panel for each stratum.

    Filled triangles pointing down: beyond a limit of quantification, drawn at the limit.  Triangles at the foot: times of doses.

    Parameters
    ----------
    population : what ``nlme.read_nonmem`` returns
    endpoints : which; all by default
    stratify : a column, several, or {"wt": [60, 80]} with the points that cut it
    units : units by endpoint name and "time"
    log : logarithmic values; None where all of an endpoint are positive and span more than 20-fold
    time : "time", or "tad" for the time after the last dose
    lines : join the observations of a subject

    Raises
    ------
    DataError
        An unknown endpoint or column, a unit of something else, a logarithm of what is not positive, time after dose without one.
    """
    if time not in ("time", "tad"):
        raise DataError(f'time={time!r}: it is "time" or "tad".')
    known = list(population.endpoints)
    names = known if endpoints is None else [endpoints] if isinstance(endpoints, str) else list(endpoints)
    for name in names:
        if name not in known:
            raise DataError(name_error("endpoint", name, known, "The population"))
    units = known_units(units, known)
    rows = _rows(population, time)
    codes, words = strata_of(population, rows["record"], stratify)
    across = min(ACROSS, len(words))
    bands = -(-len(words) // across)
    figure = new_figure(0.5 + 2.5 * bands * len(names), width=max(4.6, 2.6 * across))
    grid = figure.subplots(bands * len(names), across, squeeze=False)
    for axes in grid.ravel():
        axes.set_visible(False)
    for line, name in enumerate(names):
        of_endpoint = rows["endpoint"] == known.index(name)
        values = rows["dv"][of_endpoint]
        logarithmic = chosen_log(log, name, values)
        low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
        for k, word in enumerate(words):
            band, column = divmod(k, across)
            axes = grid[line * bands + band, column]
            axes.set_visible(True)
            _panel(axes, population, rows, of_endpoint & (codes == k), lines, time)
            if logarithmic:
                axes.set_ylim(low / 1.5, high * 1.5)
                log_axis(axes, "y")
            else:
                margin = 0.06 * (high - low) or 1.0
                axes.set_ylim(low - margin, high + margin)
            axes.set_title(word, loc="left")
            axes.set_ylabel(axis_label(name, units.get(name)) if column == 0 else "")
            axes.set_xlabel(axis_label("Time" if time == "time" else "Time after dose", units.get("time")))
    _legend(figure, rows, time == "time" and len(_doses(population)) > 0)
    return figure


def _rows(population, time: str) -> dict[str, np.ndarray]:
    """Of every observation: record, subject, x, dv, cens, endpoint."""
    observed = np.concatenate([s.is_observation for s in population])
    record = np.flatnonzero(observed)
    found = {name: np.concatenate([getattr(s, name) for s in population])[record] for name in ("dv", "cens", "endpoint")}
    found["subject"] = np.repeat(np.arange(len(population)), [len(s) for s in population])[record]
    x = np.concatenate([s.time if time == "time" else times_after_dose(s) for s in population])[record]
    if np.isnan(x).any():
        who = population.ids[found["subject"][np.isnan(x)][0]]
        raise DataError(f'time="tad": {np.isnan(x).sum()} observations have no dose to count from (the first: subject {who}).')
    return found | {"record": record, "x": x}


def _panel(axes, population, rows, own: np.ndarray, lines: bool, time: str) -> None:
    subjects = rows["subject"]
    for i in np.unique(subjects[own]):
        mine = np.flatnonzero(own & (subjects == i))
        if lines:
            mine = mine[np.argsort(rows["x"][mine], kind="stable")] if time == "time" else mine
            x, y = rows["x"][mine], rows["dv"][mine]
            cuts = np.flatnonzero(np.diff(x) < 0) + 1  # a new dose begins a new line
            for a, b in zip(np.split(x, cuts), np.split(y, cuts), strict=True):
                axes.plot(a, b, color=BLUE, linewidth=0.7, alpha=0.45, zorder=1)
    known = own & (rows["cens"] == 0)
    axes.plot(rows["x"][known], rows["dv"][known], **{**OBSERVED, "markersize": 3, **dense(known.sum())}, zorder=2)
    beyond = own & (rows["cens"] != 0)
    axes.plot(rows["x"][beyond], rows["dv"][beyond], **{**CENSORED, "markersize": 4}, zorder=3)
    if time == "time":
        doses = _doses([population[int(i)] for i in np.unique(subjects[own])])
        if len(doses):
            foot = axes.get_xaxis_transform()
            axes.plot(doses, np.zeros(len(doses)), transform=foot, **{**DOSE, "markersize": 3.5, "color": GREY}, clip_on=False)


def _doses(people) -> np.ndarray:
    """Times at which any of these subjects is dosed."""
    return np.unique(np.concatenate([np.empty(0), *(dose_times(s)[0] for s in people)]))


def _legend(figure: Figure, rows, doses: bool) -> None:
    entries = [(Line2D([], [], **{**OBSERVED, "markersize": 3}), "observed")]
    if (rows["cens"] != 0).any():
        entries.append((Line2D([], [], **{**CENSORED, "markersize": 4}), "beyond a limit of quantification"))
    if doses:
        entries.append((Line2D([], [], **{**DOSE, "markersize": 3.5, "color": GREY}), "dose"))
    legend(figure, *zip(*entries, strict=True), loc="outside upper left", ncols=len(entries))
