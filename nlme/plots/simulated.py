"""Pictures of simulations: probability of target attainment, and paired differences between regimens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from nlme.errors import DataError, name_error
from nlme.plots.style import BLUE, COLOURS, GREY, VERMILION, axis_label, legend, log_axis, new_figure, picture

if TYPE_CHECKING:
    from nlme.simulation.attainment import Attainment
    from nlme.simulation.counterfactuals import Counterfactual

_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (2, 1)), (0, (8, 2)))
_MOST = 60  # persons with a name of their own


@picture
def attainment(found: Attainment, x: str | None = None, wanted: float = 0.9, unit: str | None = None) -> Figure:
    """Probability of target attainment with its band: a curve over MIC or a numeric column ``x``, else a point for each group.

    Parameters
    ----------
    found : of :func:`nlme.attainment`
    x : column on the axis; MIC if there is one, else the last numeric one grouped by, else the groups themselves
    wanted : probability at which a line is drawn
    unit : of ``x``

    Raises
    ------
    DataError
        ``x`` is no column of the table.
    """
    table = found.table
    groups = [c for c in table.columns if c not in ("probability", "lower", "upper", "n")]
    numeric = [c for c in groups if table[c].dtype.kind in "if"]
    if x is not None and x not in groups:
        raise DataError(name_error("column", x, groups, "The table"))
    x = x or ("MIC" if "MIC" in groups else numeric[-1] if numeric else None)
    others = [c for c in groups if c != x]
    figure = new_figure(3.2, 5.4)
    axes = figure.subplots()
    axes.axhline(wanted, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    if x is None or x not in numeric:
        _points(axes, table, groups)
    else:
        _curves(figure, axes, table, x, others, unit)
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel(f"Probability: {found.target}")
    return figure


def _points(axes, table, groups: list[str]) -> None:
    place = np.arange(len(table))
    p = table["probability"].to_numpy(float)
    errors = np.maximum(np.stack([p - table["lower"], table["upper"] - p]), 0.0)
    axes.errorbar(place, p, yerr=errors, color=BLUE, fmt="o", markersize=5, linewidth=1.2, capsize=3)
    words = [" ".join(map(str, row)) or "all" for row in table[groups].itertuples(index=False)]
    axes.set_xticks(place, words, rotation=0 if len(words) < 6 else 45, ha="center" if len(words) < 6 else "right")
    axes.set_xlim(-0.6, len(table) - 0.4)
    axes.set_xlabel(", ".join(groups))


def _curves(figure, axes, table, x: str, others: list[str], unit: str | None) -> None:
    grouped = table.groupby(others, sort=False, observed=True) if others else [((), table)]
    lines, words = [], []
    for k, (key, own) in enumerate(grouped):
        own, look = own.sort_values(x), k % len(COLOURS)
        axes.fill_between(own[x], own["lower"], own["upper"], color=COLOURS[look], alpha=0.15, linewidth=0)
        lines += axes.plot(
            own[x], own["probability"], color=COLOURS[look], linestyle=_DASHES[look], marker="o", markersize=3.5, linewidth=1.5
        )
        words.append(" ".join(map(str, key if isinstance(key, tuple) else (key,))))
    if x == "MIC" and table[x].min() > 0:
        log_axis(axes, "x")
        axes.set_xticks(sorted(table[x].unique()))
    axes.set_xlabel(axis_label(x, unit))
    if others:
        legend(figure, lines, words, loc="outside upper left", ncols=min(3, len(words)))


@picture
def paired(found: Counterfactual, measure: str | None = None, ratio: bool = False, unit: str | None = None) -> Figure:
    """Each person's difference (``ratio``: ratio) between a scenario and the baseline with its interval, in order of size, and the
    population's below them; one panel a scenario.

    Raises
    ------
    DataError
        ``measure`` is none of those asked for.
    """
    known = list(dict.fromkeys(found.persons.index.get_level_values("MEASURE")))
    measure = measure or known[0]
    if measure not in known:
        raise DataError(name_error("measure", measure, known, "The counterfactual"))
    word, scenarios = "ratio" if ratio else "difference", list(dict.fromkeys(found.persons.index.get_level_values("SCENARIO")))
    count = found.persons.index.get_level_values("ID").nunique()
    figure = new_figure(min(9.0, 1.6 + 0.16 * min(count, _MOST)), max(3.8, 3.4 * min(len(scenarios), 3)))
    for axes, name in zip(np.ravel(figure.subplots(1, len(scenarios), sharex=True)), scenarios, strict=True):
        table = found.persons.xs((name, measure)).sort_values(word)
        place = np.arange(len(table))
        axes.hlines(place, table[f"{word}.lower"], table[f"{word}.upper"], color=BLUE, linewidth=1.0 if count <= _MOST else 0.5)
        axes.plot(table[word], place, "o", color=BLUE, markersize=3 if count <= _MOST else 1.5)
        whole = found.population.loc[(name, measure)]
        axes.hlines([-2], whole[f"{word}.lower"], whole[f"{word}.upper"], color=VERMILION, linewidth=2.2)
        axes.plot([whole[word]], [-2], "D", color=VERMILION, markersize=5)
        axes.axvline(1.0 if ratio else 0.0, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        ids = [str(i) for i in table.index] if count <= _MOST else []
        axes.set_yticks([-2, *place[: len(ids)]], ["all", *ids], fontsize=6.5 if count > 25 else 8)
        axes.set_title(str(name), loc="left", pad=3)
        axes.set_xlabel(axis_label(f"{word.capitalize()} in {measure}", None if ratio else unit))
    figure.axes[0].set_ylabel("Person" if count <= _MOST else f"{count} persons")
    return figure
