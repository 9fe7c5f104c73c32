"""Linked pictures for the page: the observations by five views, what is chosen in one chosen in all (brushing and linking).

Drawn by Bokeh, whose script is written into the page, which so stays one file that asks nobody for anything.

Source: Becker & Cleveland (1987), Technometrics 29:127, doi:10.1080/00401706.1987.10488204.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import FitError
from nlme.plots.curves import events_of
from nlme.plots.style import BLUE, axis_label, chosen_log, units_of
from nlme.reporting.blocks import Fragment

if TYPE_CHECKING:
    import pandas as pd

MOST = 20_000  # observations of an endpoint; a page of more than 5 MB is none that one sends around
_COLUMNS = ("ID", "TIME", "DV", "PRED", "IPRED", "CWRES")
_SIDE = 300


def require() -> None:
    """Refuse, before anything is computed, to draw without Bokeh.

    Raises
    ------
    FitError
        It is not installed.
    """
    try:
        import bokeh  # noqa: F401
    except ImportError:
        raise FitError("report(interactive=True) needs Bokeh: pip install 'nlme[interactive]'.") from None


def observations(fit, units: Mapping[str, str] | None) -> list[Fragment]:
    """One fragment for each endpoint, the script with the first."""
    units, found = units_of(fit, units), []
    predictions, events = fit.predictions, events_of(fit)
    for name in dict.fromkeys(predictions["ENDPOINT"]):
        if name in events:
            found.append(Fragment("", f"{name}: times of events have neither predictions nor residuals to explore."))
            continue
        rows = predictions[predictions["ENDPOINT"] == name]
        if len(rows) > MOST:
            text = f"{name}: {len(rows):,} observations are too many for an interactive picture (at most {MOST:,})."
            found.append(Fragment("", text))
            continue
        text = (
            f"{name}: every observation in five views. Point at one to read it; draw a box or click to choose observations, which are then "
            "chosen in all views (Shift adds, Esc lets go). The wheel zooms once its tool is on."
        )
        found.append(Fragment(_drawn(rows, name, units), text))
    drawn = [k for k, one in enumerate(found) if one.html]
    if drawn:
        first = found[drawn[0]]
        found[drawn[0]] = Fragment(_script() + first.html, first.text)
    return found


@functools.cache
def _script() -> str:
    from bokeh.resources import Resources

    return Resources(mode="inline", components=["bokeh"], log_level="error").render_js()


def _drawn(rows: pd.DataFrame, name: str, units: Mapping[str, str]) -> str:
    from bokeh.embed import components
    from bokeh.layouts import gridplot
    from bokeh.models import ColumnDataSource

    log = chosen_log(None, name, rows["DV"], rows["PRED"], rows["IPRED"])
    table = {column: rows[column].to_numpy() for column in _COLUMNS}
    table["ID"] = rows["ID"].astype(str).to_numpy()
    source, unit = ColumnDataSource(table), units.get(name)
    observed, time = axis_label(f"Observed {name}", unit), axis_label("Time", units.get("time"))
    population, own = axis_label("Population prediction", unit), axis_label("Individual prediction", unit)
    views = [
        _view(source, "TIME", "DV", time, observed, None, (False, log)),
        _view(source, "PRED", "DV", population, observed, "identity", (log, log)),
        _view(source, "IPRED", "DV", own, observed, "identity", (log, log)),
        _view(source, "TIME", "CWRES", time, f"CWRES of {name}", "residuals", (False, False)),
        _view(source, "PRED", "CWRES", population, f"CWRES of {name}", "residuals", (log, False)),
    ]
    grid = gridplot(views, ncols=3, width=_SIDE, height=_SIDE, toolbar_location="above", merge_tools=True)
    script, place = components(grid)
    return f'<div class="wide">{place}</div>{script}'


def _view(source, x: str, y: str, xlabel: str, ylabel: str, line: str | None, log: tuple[bool, bool]):
    from bokeh.models import HoverTool, Slope, Span
    from bokeh.plotting import figure

    kinds = ["log" if one else "linear" for one in log]
    made = figure(
        x_axis_type=kinds[0],
        y_axis_type=kinds[1],
        x_axis_label=xlabel,
        y_axis_label=ylabel,
        tools="box_select,tap,pan,wheel_zoom,reset,save",
        active_drag="box_select",
    )
    points = made.scatter(x, y, source=source, size=6, color=BLUE, alpha=0.55, nonselection_alpha=0.08, selection_alpha=0.95)
    told = [(name, f"@{name}" if name == "ID" else f"@{name}{{0.[000]}}") for name in _COLUMNS]
    made.add_tools(HoverTool(renderers=[points], tooltips=told))
    if line == "identity" and log[0]:  # a slope is straight in the axes' own coordinates only where these are linear
        both = np.concatenate([source.data[x], source.data[y]])
        both = both[np.isfinite(both) & (both > 0)]
        ends = [float(both.min()), float(both.max())] if both.size else []
        made.line(ends, ends, color="#555555", line_dash="dashed")
    elif line == "identity":
        made.add_layout(Slope(gradient=1.0, y_intercept=0.0, line_color="#555555", line_dash="dashed"))
    elif line == "residuals":
        for level, dash in ((0.0, "solid"), (-1.96, "dotted"), (1.96, "dotted")):
            made.add_layout(Span(location=level, dimension="width", line_color="#555555", line_dash=dash, line_width=1))
    return made
