"""Prediction distribution errors: are they standard normal, at every time and every prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nlme.errors import DataError
from nlme.plots import normal
from nlme.plots.style import BLUE, VERMILION, axis_label, legend, log_axis, new_figure, picture

if TYPE_CHECKING:
    from nlme.diagnostics.npde import PredictionErrors


@picture
def npde(errors: PredictionErrors, which: str = "NPDE", units: Mapping[str, str] | None = None, log_time: bool = False) -> Figure:
    """Quantiles, histogram, over time and over the mean prediction; bands hold 95 % of what independent N(0, 1) numbers give.

    Solid and dashed: median, 5th and 95th percentile by bins.  Values beyond ±3 are named by their subject.

    Parameters
    ----------
    errors : what :func:`nlme.npde` returns
    which : "NPDE", or "NPD" without decorrelation
    units : units by endpoint name and "time"; those of anything else have no place here
    log_time : logarithmic time

    Raises
    ------
    DataError
        Not what ``nlme.npde`` returns, or an unknown ``which``.
    """
    if not hasattr(errors, "decorrelation"):
        raise DataError(
            f"plots.npde draws what nlme.npde returns; got {type(errors).__name__}: nlme.plots.npde(nlme.npde(fit, key=1))."
        )
    if which not in ("NPDE", "NPD"):
        raise DataError(f'which={which!r}: it is "NPDE" or "NPD".')
    units = units or {}
    frame = errors.frame
    values, ids = frame[which].to_numpy(dtype=float), list(frame["ID"])
    figure = new_figure(5.8)
    grid = figure.subplots(2, 2)
    normal.quantiles(grid[0, 0], values, ids, which)
    normal.histogram(grid[0, 1], values, which)
    for axes, column, word, unit in (
        (grid[1, 0], "TIME", "Time", units.get("time")),
        (grid[1, 1], "YPRED", f"Mean prediction of {errors.endpoint}", units.get(errors.endpoint)),
    ):
        normal.course(axes, frame[column].to_numpy(dtype=float), values, ids)
        axes.set(xlabel=axis_label(word, unit), ylabel=which)
    if log_time:
        if not (frame["TIME"] > 0).all():
            raise DataError("log_time=True: an observation is at time 0 or before.")
        log_axis(grid[1, 0], "x")
    handles = [Patch(color=BLUE, alpha=0.3, linewidth=0), Line2D([], [], color=VERMILION, linewidth=1.5)]
    legend(figure, handles, [f"{100 * normal.LEVEL:g} % of what N(0, 1) gives", "N(0, 1)"], loc="outside upper left", ncols=2)
    mean, variance = errors.moments.loc[which, ["mean", "variance"]]
    grid[0, 1].set_title(f"mean {mean:.2f}, variance {variance:.2f}", loc="right", fontsize=8)
    return figure
