"""Visual and numerical predictive checks: what was observed over what the model says would have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nlme.errors import DataError
from nlme.plots.style import (
    BLUE,
    CENSORED,
    GREY,
    INK,
    OBSERVED,
    VERMILION,
    axis_label,
    chosen_log,
    dense,
    legend,
    log_axis,
    new_figure,
    picture,
)

if TYPE_CHECKING:
    import pandas as pd

    from nlme.diagnostics.npc import NPC
    from nlme.diagnostics.vpc import VPC

ACROSS = 3  # strata, or categories, side by side
_LINES = {"middle": "-", "outer": (0, (5, 2))}


@picture
def vpc(
    check: VPC,
    units: Mapping[str, str] | None = None,
    log: bool | None = None,
    log_time: bool = False,
    points: bool = True,
) -> Figure:
    """A visual predictive check: lines are observed, bands the simulated interval of each.

    Of a continuous endpoint one panel per stratum, with the observations, and below it the fraction beyond a limit of
    quantification where there is one; of categories one panel each; of events steps.  Ticks at the upper edge: edges of the bins.

    Parameters
    ----------
    check : what :func:`nlme.vpc` returns
    units : units by endpoint name and "time"; those of anything else have no place here
    log : logarithmic values; None where all are positive and span more than 20-fold
    log_time : logarithmic time
    points : draw the observations

    Raises
    ------
    DataError
        Not a check, or a logarithm of what is not positive.
    """
    if not hasattr(check, "quantities"):
        raise DataError(
            f"plots.vpc draws what nlme.vpc returns; got {type(check).__name__}: nlme.plots.vpc(nlme.vpc(fit, key=1))."
        )
    units = units or {}
    if check.kind == "continuous":
        return _continuous(check, units, log, log_time, points)
    return _shares(check, units, log_time)


def _continuous(check: VPC, units, log, log_time: bool, points: bool) -> Figure:
    limits = list(check.beyond)
    main = [name for name in check.quantities if name not in limits]
    shown = check.observations["SHOWN"].to_numpy(dtype=float)
    log = chosen_log(log, check.endpoint, shown)
    across = min(ACROSS, len(check.strata))
    down = -(-len(check.strata) // across)
    heights = [3.0 if across > 1 else 3.6, *[1.25] * len(limits)] * down
    figure = new_figure(0.6 + sum(heights), width=max(5.6, 2.7 * across))
    grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    rows = 1 + len(limits)
    for k, stratum in enumerate(check.strata):
        line, column = divmod(k, across)
        panels = grid[line * rows : (line + 1) * rows, column]
        table = check.table[check.table["STRATUM"] == stratum]
        seen = check.observations[check.observations["STRATUM"] == stratum]
        _percentiles(panels[0], check, table, seen, main, log, points)
        for axes, name in zip(panels[1:], limits, strict=True):
            _line(axes, table[table["QUANTITY"] == name], INK, "-", GREY)
            axes.set_ylim(-0.02, max(0.1, 1.1 * float(table.loc[table["QUANTITY"] == name, ["OBSERVED", "UPPER"]].max().max())))
            axes.set_ylabel(f"Fraction\n{name}" if column == 0 else "")
        if stratum:
            panels[0].set_title(stratum, loc="left")
        panels[0].set_ylabel(_value_label(check, units) if column == 0 else "")
        _time_axes(panels, check, table, units, log_time)
    for axes in grid[-rows:, len(check.strata) - (down - 1) * across :].ravel():
        axes.set_visible(False)
    _share_limits(grid[::rows].ravel())
    _legend(figure, check, points, np.isfinite(check.limit) and not check.correction, limits)
    return figure


def _percentiles(axes: Axes, check: VPC, table, seen, names, log: bool, points: bool) -> None:
    known = seen["CENS"].to_numpy() == 0
    values = seen["SHOWN"].to_numpy(dtype=float)
    shown = np.concatenate(
        [values[known], *(table.loc[table["QUANTITY"].isin(names), c] for c in ("OBSERVED", "LOWER", "UPPER"))]
    )
    shown = shown[np.isfinite(shown) & ((shown > 0) if log else True)]
    low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
    low, high = (low / 1.4, high * 1.25) if log else (low - 0.04 * (high - low), high + 0.06 * (high - low))
    if points:
        x = seen["X"].to_numpy(dtype=float)
        axes.plot(
            x[known], values[known], **{**OBSERVED, "markersize": 3, "markeredgecolor": GREY, **dense(known.sum())}, zorder=2
        )
        if (~known).any() and not check.correction:
            axes.plot(x[~known], values[~known], **{**CENSORED, "markersize": 3.5}, zorder=2)
    middle = names[len(names) // 2] if len(names) % 2 else None
    for name in names:
        own = table[table["QUANTITY"] == name]
        inner = name == middle
        _line(axes, own, INK, _LINES["middle" if inner else "outer"], VERMILION if inner else BLUE, (low, high))
    if np.isfinite(check.limit) and not check.correction:
        axes.axhline(check.limit, color=INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.set_ylim(low, high)
    if log:
        log_axis(axes, "y")


def _line(axes: Axes, own: pd.DataFrame, color, dashes, fill, ends=(-np.inf, np.inf), step: str | None = None) -> None:
    """The observed line over its band; values beyond a limit are drawn to the end of the axis, and the line has a gap."""
    x = own["TIME"].to_numpy(dtype=float)
    observed, lower, upper = (own[name].to_numpy(dtype=float) for name in ("OBSERVED", "LOWER", "UPPER"))
    expected = own["EXPECTED"].to_numpy(dtype=float)
    if len(own) == 1 and step is None:  # one bin is drawn as wide as it is
        x = own[["FROM", "TO"]].to_numpy(dtype=float).ravel()
        observed, lower, upper, expected = (np.repeat(v, 2) for v in (observed, lower, upper, expected))
    if step:
        x = np.append(own["FROM"].to_numpy(dtype=float)[:1], x)
        start = 1.0 if own["QUANTITY"].iloc[0] == "survival" else 0.0
        observed, lower, upper, expected = (np.append(start, v) for v in (observed, lower, upper, expected))
    seen = ~(np.isnan(lower) | np.isnan(upper))
    axes.fill_between(
        x, np.clip(lower, *ends), np.clip(upper, *ends), where=seen, color=fill, alpha=0.25, linewidth=0, step=step, zorder=1
    )
    style = dict(drawstyle=f"steps-{step}") if step else {}
    axes.plot(x, np.where(np.isfinite(expected), expected, np.nan), color=fill, linewidth=0.9, alpha=0.9, zorder=3, **style)
    marker = dict(marker="o", markersize=2.5) if step is None else {}
    axes.plot(
        x,
        np.where(np.isfinite(observed), observed, np.nan),
        color=color,
        linewidth=1.4,
        linestyle=dashes,
        zorder=4,
        **marker,
        **style,
    )


def _shares(check: VPC, units, log_time: bool) -> Figure:
    """Panels of fractions, means or curves: quantities by strata."""
    event = check.kind in ("event", "events")
    several = len(check.quantities) > 1
    across = min(ACROSS, len(check.quantities if several else check.strata))
    count = len(check.quantities) if several else len(check.strata)
    bands = -(-count // across)
    down = bands * (len(check.strata) if several else 1)
    figure = new_figure(0.6 + 2.4 * down, width=max(4.6, 2.5 * across))
    grid = figure.subplots(down, across, squeeze=False)
    panels = list(grid.ravel())
    pairs = [(s, q) for s in check.strata for q in check.quantities]
    places = [
        (i // len(check.quantities) * bands * across + i % len(check.quantities)) if several else i for i in range(len(pairs))
    ]
    for (stratum, name), place in zip(pairs, places, strict=True):
        axes = panels[place]
        own = check.table[(check.table["STRATUM"] == stratum) & (check.table["QUANTITY"] == name)]
        _line(axes, own, INK, "-", BLUE, step="post" if event else None)
        top = 1.04 if name not in ("mean", "mean cumulative count") else None
        axes.set_ylim(-0.03 if top else 0.0, top)
        words = [stratum, *([name] if several else [])]
        axes.set_title(", ".join(filter(None, words)), loc="left")
        if place % across == 0:
            axes.set_ylabel(_share_label(check, name, units))
        _time_axes([axes], check, own, units, log_time, ticks=not event)
    used = set(places)
    for place, axes in enumerate(panels):
        axes.set_visible(place in used)
    _share_legend(figure, check)
    return figure


def _share_label(check: VPC, name: str, units) -> str:
    words = {"mean": axis_label(f"Mean {check.endpoint}", units.get(check.endpoint)), "survival": "Fraction without event"}
    return words.get(name, "Mean cumulative count" if name == "mean cumulative count" else "Fraction")


def _value_label(check: VPC, units) -> str:
    label = axis_label(check.endpoint, units.get(check.endpoint))
    return f"Prediction-corrected {label}" if check.correction else label


def _time_axes(panels, check: VPC, table: pd.DataFrame, units, log_time: bool, ticks: bool = True) -> None:
    """Time at the lowest of the panels of one stratum, the edges of its bins at the top."""
    word = "Time" if check.time == "time" else "Time after dose"
    if log_time and (table["TIME"] <= 0).any():
        raise DataError("log_time=True: a bin has its middle at time 0 or before.")
    for axes in panels:
        if log_time:
            log_axis(axes, "x")
        axes.tick_params(labelbottom=axes is panels[-1])
    if ticks:
        edges = np.unique(table[["FROM", "TO"]].to_numpy(dtype=float))
        edges, top = edges[edges > 0] if log_time else edges, panels[0].get_xaxis_transform()
        panels[0].plot(edges, np.ones(len(edges)), "|", color=GREY, markersize=5, transform=top, clip_on=False)
    panels[-1].set_xlabel(axis_label(word, units.get("time")))


def _share_limits(panels) -> None:
    """One range of values for all strata, so that they can be compared."""
    seen = [axes for axes in panels if axes.get_visible()]
    low, high = min(axes.get_ylim()[0] for axes in seen), max(axes.get_ylim()[1] for axes in seen)
    for axes in seen:
        axes.set_ylim(low, high)


def _legend(figure: Figure, check: VPC, points: bool, limit: bool, limits) -> None:
    names = [name for name in check.quantities if name not in limits]
    middle = names[len(names) // 2] if len(names) % 2 else None
    outer = [name for name in names if name != middle]
    handles, words = [], []

    def add(handle, word):
        handles.append(handle)
        words.append(word)

    if points:
        add(Line2D([], [], **{**OBSERVED, "markersize": 3, "markeredgecolor": GREY}), "observations")
    listed = {"outer": ", ".join(name.removesuffix(" %") for name in outer) + " %" if outer else "", "middle": middle}
    for which, fill in (("outer", BLUE), ("middle", VERMILION)):
        if listed[which]:
            add(Line2D([], [], color=INK, linewidth=1.4, linestyle=_LINES[which]), f"observed {listed[which]}")
            add(Patch(color=fill, alpha=0.25, linewidth=0), f"{100 * check.level:g} % interval of simulated {listed[which]}")
    if limit:
        add(Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (1, 2))), "limit of quantification")
    legend(figure, handles, words, loc="outside upper left", ncols=2, columnspacing=1.4)


def _share_legend(figure: Figure, check: VPC) -> None:
    handles = [Line2D([], [], color=INK, linewidth=1.4), Patch(color=BLUE, alpha=0.25, linewidth=0)]
    legend(figure, handles, ["observed", f"{100 * check.level:g} % interval, simulated"], loc="outside upper left", ncols=2)


@picture
def npc(check: NPC) -> Figure:
    """A numerical predictive check: % of the observations below and above each prediction interval, over what is expected.

    Parameters
    ----------
    check : what :func:`nlme.npc` returns

    Raises
    ------
    DataError
        Not a check.
    """
    if not hasattr(check, "outside"):
        raise DataError(f"plots.npc draws what nlme.npc returns; got {type(check).__name__}.")
    figure = new_figure(3.1)
    panels = figure.subplots(1, 2, sharey=True)
    place = np.arange(len(check.table))
    for axes, side in zip(panels, ("BELOW", "ABOVE"), strict=True):
        expected, lower, upper = (check.table[f"{side} {name}"].to_numpy() for name in ("EXPECTED", "LOWER", "UPPER"))
        seen = check.table[side].to_numpy()
        outside = (seen < lower) | (seen > upper)
        axes.vlines(place, lower, upper, color=BLUE, alpha=0.3, linewidth=9)
        axes.plot(place, expected, linestyle="none", marker="_", color=BLUE, markersize=11, markeredgewidth=1.6)
        axes.plot(place[~outside], seen[~outside], linestyle="none", marker="o", markersize=4.5, color=INK)
        axes.plot(place[outside], seen[outside], linestyle="none", marker="D", markersize=5, color=VERMILION, markeredgecolor=INK)
        axes.set_xticks(place, [f"{level:g}" for level in check.table.index])
        axes.set(xlabel="Prediction interval (%)", title=f"{side.capitalize()} the interval")
        axes.set_ylim(0.0, None)
    panels[0].set_ylabel(f"Observations of {check.endpoint} (%)")
    handles = [
        Line2D([], [], linestyle="none", marker="o", markersize=4.5, color=INK),
        Line2D([], [], linestyle="none", marker="D", markersize=5, color=VERMILION, markeredgecolor=INK),
        Line2D([], [], linestyle="none", marker="_", color=BLUE, markersize=11, markeredgewidth=1.6),
        Patch(color=BLUE, alpha=0.3, linewidth=0),
    ]
    words = ["observed", "observed, outside", "expected", f"{100 * check.level:g} % interval"]
    legend(figure, handles, words, loc="outside upper left", ncols=4)
    return figure
