"""What covariates do to individual parameters: a forest plot, and accumulated local effects."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from nlme.errors import ModelError
from nlme.learning.effects import accumulated_effects, covariate_effects, subjects_of
from nlme.plots.style import BLUE, INK, axis_label, legend, new_figure, picture

_ACROSS = 3


@picture
def forest(
    fit, parameters=None, *, margin: tuple[float, float] = (0.8, 1.25), labels: dict[str, str] | None = None, table=None
) -> Figure:
    """What a 5th to 95th percentile change of each covariate does to each individual parameter of a reference subject.

    Dots are ratios to the reference (medians, the most common categories), the grey band is ``margin``, within which a change is commonly
    taken for irrelevant (80-125 %). The numbers, with their intervals (lines) where the fit has a covariance, are those of
    :func:`nlme.covariate_effects`, or a ``table`` that it made before, of whatever ``parameters`` it holds.

    Raises
    ------
    ModelError
        No covariates, an unknown parameter, none that a covariate changes.
    """
    table, labels = covariate_effects(fit, parameters) if table is None else table, labels or {}
    if not len(table):
        raise ModelError(f"No covariate changes an individual parameter of {type(fit.model).__name__}.")
    names = list(dict.fromkeys(table.parameter))
    rows = table[table.parameter == names[0]]
    figure = new_figure(0.9 + 0.27 * len(rows), width=1.8 + 2.2 * len(names))
    places = np.arange(len(rows))[::-1]
    for k, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), k + 1)
        own = table[table.parameter == name]
        band = axes.axvspan(*margin, color=INK, alpha=0.08, linewidth=0)
        axes.axvline(1.0, color=INK, linewidth=0.8, alpha=0.6)
        lines = axes.hlines(places, own.lower, own.upper, color=BLUE, linewidth=1.2)
        (dots,) = axes.plot(own.ratio, places, "o", color=BLUE, markersize=4)
        axes.set(title=labels.get(name, name), xlabel="ratio to the reference", ylim=(-0.7, len(rows) - 0.3))
        axes.set_yticks(
            places, [f"{labels.get(c, c)} {level}" for c, level in zip(rows.covariate, rows.level, strict=True)] if k == 0 else []
        )
    handles, words = [dots, band], ["ratio", f"{margin[0]:g} to {margin[1]:g}"]
    if table.lower.notna().any():
        share = table.attrs.get("confidence")
        handles.insert(1, lines)
        words.insert(1, "its interval" if share is None else f"{100 * share:g} % interval")
    legend(figure, handles, words, loc="outside upper left", ncols=len(words))
    return figure


@picture
def accumulated(fit, parameters=None, *, labels: dict[str, str] | None = None) -> Figure:
    """Accumulated local effects of every covariate on every individual parameter; see :func:`nlme.learning.effects.accumulated_effects`.

    Ticks are the subjects' values.

    Raises
    ------
    ModelError
        No covariates, an unknown parameter, none that a covariate changes.
    """
    table, labels = accumulated_effects(fit, parameters), labels or {}
    pairs = list(dict.fromkeys(zip(table.parameter, table.covariate, strict=True)))
    pairs = [p for p in pairs if parameters is not None or np.ptp(_of(table, *p).effect) > 1e-12]
    if not pairs:
        raise ModelError(f"No covariate changes an individual parameter of {type(fit.model).__name__}.")
    subjects = subjects_of(fit)
    across = min(_ACROSS, len(pairs))
    down = -(-len(pairs) // across)
    figure = new_figure(0.6 + 2.2 * down, width=max(4.2, 2.9 * across))
    for k, (parameter, covariate) in enumerate(pairs):
        axes, own = figure.add_subplot(down, across, k + 1), _of(table, parameter, covariate)
        axes.axhline(0.0, color=INK, linewidth=0.6, alpha=0.5)
        axes.plot(own.x, own.effect, color=BLUE, linewidth=1.8)
        seen = subjects.told[covariate]
        axes.plot(seen, np.full(len(seen), 0.02), "|", color=INK, markersize=5, alpha=0.4, transform=axes.get_xaxis_transform())
        axes.set(
            xlabel=axis_label(labels.get(covariate, covariate), subjects.units.get(covariate)),
            ylabel=f"{labels.get(parameter, parameter)}, difference",
        )
    title = "Accumulated local effects at random effects zero, from the mean"
    figure.suptitle(textwrap.fill(title, int(12 * figure.get_figwidth())), fontsize="medium")
    return figure


def _of(table, parameter: str, covariate: str):
    return table[(table.parameter == parameter) & (table.covariate == covariate)]
