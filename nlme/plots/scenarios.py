"""What would have been: the same subjects under several regimens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nlme.errors import DataError, name_error
from nlme.plots.style import (
    BLUE,
    INK,
    OBSERVED,
    VERMILION,
    axis_label,
    known_units,
    legend,
    log_axis,
    new_figure,
    picture,
    subject_title,
    wants_log,
)

if TYPE_CHECKING:
    import pandas as pd

_LOOKS = (
    dict(color=BLUE, linewidth=1.5, linestyle="-"),
    dict(color=VERMILION, linewidth=1.5, linestyle=(0, (4, 2))),
    dict(color=INK, linewidth=1.3, linestyle=(0, (1, 1.5))),
    dict(color="#009E73", linewidth=1.5, linestyle=(0, (6, 2, 1, 2))),
)


@picture
def counterfactual(
    scenarios: Mapping[str, pd.DataFrame],
    quantity: str,
    observed: pd.DataFrame | None = None,
    subjects: Sequence | None = None,
    columns: int = 4,
    max_subjects: int = 12,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """One panel per subject, one curve per scenario.

    Parameters
    ----------
    scenarios : name -> frame with columns ID, TIME and ``quantity``, as :func:`nlme.predict` returns it; two to four
    quantity : column to draw: an endpoint or a state
    observed : frame with columns ID, TIME, DV, drawn as circles (``fit.predictions`` will do)
    subjects : IDs to draw instead of the first ``max_subjects``
    units : units by quantity and "time", for the labels

    Raises
    ------
    DataError
        A scenario without that column, more than four scenarios, or none; a unit of something that is no column.
    """
    if not 1 <= len(scenarios) <= len(_LOOKS):
        raise DataError(f"counterfactual draws one to {len(_LOOKS)} scenarios; got {len(scenarios)}.")
    for name, frame in scenarios.items():
        if quantity not in frame:
            raise DataError(name_error("column", quantity, frame.columns, f"The scenario {name!r}"))
    units = known_units(units, [name for frame in scenarios.values() for name in frame])
    first = next(iter(scenarios.values()))
    chosen = list(dict.fromkeys(first["ID"]))[:max_subjects] if subjects is None else list(subjects)
    columns = max(1, min(columns, len(chosen)))
    lines = -(-len(chosen) // columns)
    figure = new_figure(0.5 + 1.75 * lines, width=max(3.6, 2.0 * columns))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    log = wants_log(*[frame[quantity] for frame in scenarios.values()])
    for axes, identity in zip(grid.ravel(), chosen, strict=False):
        for look, frame in zip(_LOOKS, scenarios.values(), strict=False):
            rows = frame[frame["ID"] == identity]
            axes.plot(rows["TIME"], rows[quantity], **look)
        if observed is not None:
            rows = observed[observed["ID"] == identity]
            axes.plot(rows["TIME"], rows["DV"], **OBSERVED)
        axes.set_title(subject_title(identity), loc="left", pad=3)
    for axes in grid.ravel()[len(chosen) :]:
        axes.set_visible(False)
    if log:
        log_axis(grid[0, 0], "y")
    for k, column in enumerate(grid.T):
        visible = [axes for axes in column if axes.get_visible()]
        visible[-1].set_xlabel(axis_label("Time", units.get("time")))
        visible[-1].tick_params(labelbottom=True)
        if k == 0:
            for axes in visible:
                axes.set_ylabel(axis_label(quantity, units.get(quantity)))
    lines = grid[0, 0].get_lines()
    words = [*map(str, scenarios), *(["observed"] if observed is not None else [])]
    legend(figure, lines[: len(words)], words, loc="outside upper left", ncols=min(len(words), columns + 1))
    return figure
