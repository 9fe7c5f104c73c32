"""Profiles of a non-compartmental analysis with their terminal lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nlme.errors import DataError
from nlme.noncompartmental.analysis import NCA
from nlme.noncompartmental.parameters import Analysed
from nlme.plots.style import (
    BLUE,
    GREY,
    OBSERVED,
    VERMILION,
    axis_label,
    log_axis,
    new_figure,
    picture,
    subject_title,
)
from nlme.tables.numbers import significant

_USED = dict(OBSERVED, markerfacecolor=VERMILION, markeredgecolor=VERMILION)
_CURVE = dict(color=BLUE, linewidth=1.0)
_LINE = dict(color=VERMILION, linewidth=1.3)
_BEYOND = dict(_LINE, linestyle=(0, (3, 2)))


@picture
def nca(analysis: NCA, columns: int = 4, max_profiles: int = 12, subjects: Sequence | None = None) -> Figure:
    """One panel per profile: concentrations on a logarithmic axis in time after the dose, joined; the points of the terminal line
    filled, the line through them solid and on to the end of the panel dashed, its half-life in the corner.

    The curve also goes through what was put in (C0 of a bolus, values below the limit), without a point.  Concentrations of zero
    cannot be drawn there; panels of profiles without a terminal line say so.

    Parameters
    ----------
    analysis : of nlme.nca
    columns : panels side by side
    max_profiles : the first so many are drawn
    subjects : IDs to draw instead of the first ones

    Raises
    ------
    DataError
        An ID that has no profile.
    """
    chosen = list(analysis.drawable)
    if subjects is not None:
        known = {str(found.profile.id) for found in chosen}
        for identity in subjects:
            if str(identity) not in known:
                raise DataError(
                    f"Subject {identity!r} has no profile with a concentration; the analysis has: {', '.join(known)}."
                )
        wanted = {str(identity) for identity in subjects}
        chosen = [found for found in chosen if str(found.profile.id) in wanted]
    else:
        chosen = chosen[:max_profiles]
    if not chosen:
        raise DataError("There is no profile with a concentration to draw.")
    columns = max(1, min(columns, len(chosen)))
    lines = -(-len(chosen) // columns)
    figure = new_figure(0.6 + 1.8 * lines, width=max(3.8, 2.05 * columns))
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    units, time = analysis.given_units, axis_label("Time after dose", analysis.given_units.time)
    for k, axes in enumerate(grid.flat):
        if k >= len(chosen):
            axes.set_visible(False)
            continue
        _panel(axes, chosen[k], units.time, several=any(found.profile.number > 1 for found in chosen))
        if k % columns == 0:
            axes.set_ylabel(axis_label(analysis.endpoint if analysis.endpoint != "DV" else "Concentration", units.conc))
        if k + columns >= len(chosen):
            axes.set_xlabel(time)
    _view(grid.flat[0], chosen)
    figure.legend(handles=_handles(), loc="outside upper left", ncols=2 if columns < 3 else 4, columnspacing=1.4)
    return figure


def _panel(axes: Axes, found: Analysed, unit: str, several: bool) -> None:
    curve, line = found.curve, found.line
    shown, seen = curve.conc > 0, found.measured
    axes.plot(curve.time[shown], curve.conc[shown], **_CURVE, zorder=2)
    used = np.zeros(len(shown), dtype=bool) if line is None else line.used
    axes.plot(curve.time[seen & ~used], curve.conc[seen & ~used], **OBSERVED, zorder=4)
    title = subject_title(found.profile.id) + (f", dose {found.profile.number}" if several else "")
    axes.set_title(title, loc="left", pad=3)
    corner = dict(transform=axes.transAxes, ha="right", va="top", fontsize=7.5)
    if line is None:
        axes.text(0.98, 0.98, "no terminal line", color=GREY, **corner)
        return
    axes.plot(curve.time[used], curve.conc[used], **_USED, zorder=5)
    ends = np.array([line.lower, line.upper])
    axes.plot(ends, line.at(ends), **_LINE, zorder=3)
    length = curve.time[-1] - curve.time[0]
    further = np.array([line.upper, max(line.upper, curve.time[-1]) + 0.15 * length])
    axes.plot(further, line.at(further), **_BEYOND, zorder=3)
    axes.text(0.98, 0.98, f"t½ {significant(line.half_life, 3)} {unit}".rstrip(), **corner)


def _view(axes: Axes, chosen: Sequence[Analysed]) -> None:
    """One logarithmic axis for all panels, ruled by the concentrations."""
    seen = np.concatenate([found.curve.conc for found in chosen])
    seen = seen[seen > 0]
    axes.set_ylim(seen.min() / 2, seen.max() * 2.2)
    log_axis(axes, "y")


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], label="concentration", **OBSERVED),
        Line2D([], [], label="of the terminal line", **_USED),
        Line2D([], [], label="terminal line", **_LINE),
        Line2D([], [], label="extrapolated", **_BEYOND),
    ]
