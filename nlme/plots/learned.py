"""Learned functions: those of a fit's networks over what the data visited, and one with its posterior band."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.figure import Figure

from nlme.errors import DataError
from nlme.learning.curves import Curve, learned_curves
from nlme.plots.style import BLUE, INK, POPULATION, legend, log_axis, new_figure, picture, wants_log

_ACROSS = 3  # panels in a row


@picture
def learned(
    fit, network: str | None = None, *, bands="laplace", level: float = 0.9, model=None, labels: dict[str, str] | None = None
) -> Figure:
    """Every output of the networks of a fit or a posterior over each input, the others at their medians; see
    :func:`nlme.learning.curves.learned_curves`.

    A curve is drawn where the data asked for it and nowhere else; ticks are the values visited.

    Parameters
    ----------
    fit, network, bands, level, model : as there
    labels : input or output -> what its axis says, with units

    Raises
    ------
    ModelError, FitError
        As there.
    """
    found, labels = learned_curves(fit, network, bands=bands, level=level, model=model), labels or {}
    across = min(_ACROSS, len(found.curves))
    down = -(-len(found.curves) // across)
    figure = new_figure(0.6 + 2.4 * down, width=max(4.2, 2.9 * across))
    for k, curve in enumerate(found.curves):
        _panel(figure.add_subplot(down, across, k + 1), curve, labels)
    title = textwrap.fill(f"Learned functions: {found.words}", int(12 * figure.get_figwidth()))  # a line of the figure's width
    figure.suptitle(title, fontsize="medium")
    return figure


def _panel(axes, curve: Curve, labels: dict[str, str]) -> None:
    if curve.lower is not None:
        axes.fill_between(curve.x, curve.lower, curve.upper, color=BLUE, alpha=0.2, linewidth=0)
    axes.plot(curve.x, curve.y, color=BLUE, linewidth=1.8)
    asked = np.unique(curve.asked)
    asked = asked[:: max(1, len(asked) // 200)]
    axes.plot(asked, np.full(asked.size, 0.02), "|", color=INK, markersize=5, alpha=0.5, transform=axes.get_xaxis_transform())
    name = f"{curve.network}: {curve.output}"
    axes.set(xlabel=labels.get(curve.input, curve.input), ylabel=labels.get(curve.output, name), xlim=(curve.x[0], curve.x[-1]))


@picture
def learned_function(
    x,
    curves,
    *,
    reference=None,
    reference_label: str = "reference",
    observed=None,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    levels: tuple[float, ...] = (0.5, 0.9),
    shown: int = 12,
) -> Figure:
    """Posterior of a function of one variable: median, credible bands at every point, and some of the draws.

    Parameters
    ----------
    x : (points,) where the function was evaluated
    curves : (draws, points) its values, one row for every posterior draw (see :func:`nlme.posterior_models`)
    reference : (points,) a curve to compare with, such as the truth of a simulation or the model without a network
    observed : values of x in the data, drawn as ticks: beyond them the curve is the prior's
    levels : probabilities of the bands, pointwise
    shown : how many of the draws to draw

    Raises
    ------
    DataError
        ``curves`` does not have one column for every point, or holds numbers that are not finite.
    """
    x, curves = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    if curves.ndim != 2 or x.shape != curves.shape[1:]:
        raise DataError(f"learned_function: curves is (draws, {x.size}) for the {x.size} points given; got {curves.shape}.")
    if not np.isfinite(curves).all():
        bad = int((~np.isfinite(curves).all(axis=1)).sum())
        raise DataError(f"learned_function: {bad} of {len(curves)} draws of the curve are not finite.")
    figure = new_figure(3.4, width=5.2)
    axes = figure.add_subplot()
    named = {}
    for k, level in enumerate(sorted(levels, reverse=True)):
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        band = axes.fill_between(x, low, high, color=BLUE, alpha=0.16 + 0.14 * k, linewidth=0)
        named[f"{100 * level:g} % credible"] = band
    for curve in curves[:: max(1, len(curves) // max(shown, 1))][:shown]:
        axes.plot(x, curve, color=INK, linewidth=0.4, alpha=0.35)
    (named["median"],) = axes.plot(x, np.median(curves, axis=0), color=BLUE, linewidth=1.8)
    if reference is not None:
        (named[reference_label],) = axes.plot(x, np.broadcast_to(reference, x.shape), **POPULATION)
    axes.set(xlabel=x_label, ylabel=y_label, title=title, xlim=(x.min(), x.max()))
    axes.set_ylim(bottom=0 if curves.min() >= 0 else None)
    if wants_log(x):
        log_axis(axes, "x")
    if observed is not None:
        axes.plot(np.asarray(observed, float), np.full(np.size(observed), 0.015), "|", color=INK, markersize=5, alpha=0.5,
                  transform=axes.get_xaxis_transform(), clip_on=True)  # fmt: skip
        axes.set_xlim(x.min(), x.max())
    legend(axes, list(named.values()), list(named), loc="best")
    return figure
