"""A learned function with its uncertainty: what a network inside a model has become."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from nlme.errors import DataError
from nlme.plots.style import BLUE, INK, log_axis, new_figure, picture, wants_log

FAINT_CURVES = 12  # single draws, to show what shape a curve inside the band has


@picture
def learned_function(
    x: ArrayLike,
    curves: ArrayLike,
    x_label: str = "",
    y_label: str = "",
    title: str = "",
    observed: ArrayLike | None = None,
) -> Figure:
    """Posterior of a function: median, pointwise 50 % and 90 % bands, a few single draws.

    Parameters
    ----------
    x : (n,) places
    curves : (draws, n) the function at those places, one row per posterior draw
    x_label, y_label, title : texts, the labels with their units
    observed : values of x in the data, as ticks at the foot: outside them the band shows the prior more than the data

    Raises
    ------
    DataError
        Curves that do not have one column per place.
    """
    x, curves = np.asarray(x, dtype=float), np.asarray(curves, dtype=float)
    if curves.ndim != 2 or curves.shape[1] != x.shape[0]:
        raise DataError(f"learned_function needs curves of shape (draws, {len(x)}), one column per place; got {curves.shape}.")
    low, first, middle, third, high = np.quantile(curves, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    figure = new_figure(3.4, width=5.2)
    axes = figure.subplots()
    axes.fill_between(x, low, high, color=BLUE, alpha=0.15, linewidth=0, label="90 %")
    axes.fill_between(x, first, third, color=BLUE, alpha=0.25, linewidth=0, label="50 %")
    some = np.linspace(0, len(curves) - 1, min(FAINT_CURVES, len(curves))).round().astype(int)
    for k in some:
        axes.plot(x, curves[k], color=INK, alpha=0.25, linewidth=0.5)
    axes.plot(x, middle, color=BLUE, linewidth=2.0, label="median")
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    if observed is not None:
        values = np.asarray(observed, dtype=float)
        foot = axes.get_xaxis_transform()
        axes.plot(
            values, np.zeros_like(values), linestyle="none", marker="|", color=INK, markersize=6, transform=foot, clip_on=False
        )
    axes.margins(x=0)
    if wants_log(x):
        log_axis(axes, "x")
    figure.legend(loc="outside upper right", ncols=3)
    return figure
