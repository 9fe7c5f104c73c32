"""The way of the search: objective and gradient at every iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nlme.errors import DataError
from nlme.plots.style import BLUE, IDENTITY, INK, log_axis, new_figure, picture

if TYPE_CHECKING:
    import pandas as pd


@picture
def objective_history(fit) -> Figure:
    """Distance of the objective from its best value, and size of the gradient, by iteration (both logarithmic).

    The distance shows late progress that the objective itself, on one scale with its starting value, would hide.  Of a fit by
    stochastic approximation: -2 log L of the data and the random effects drawn, and the largest step of a parameter; dashed:
    where smoothing begins.

    Raises
    ------
    DataError
        Nothing was searched (``nlme.evaluate``).
    """
    history = getattr(fit, "history", None)
    if history is None:
        raise DataError(f"{type(fit).__name__} has no history: objective_history shows the search of a fit.")
    figure = new_figure(2.5)
    left, right = figure.subplots(1, 2)
    if "smoothing" in history:
        _stochastic(left, right, history)
    else:
        _descending(left, right, history)
    for axes in (left, right):
        axes.set_xlabel("Iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _descending(left, right, history: pd.DataFrame) -> None:
    line = dict(marker="o", markersize=3, linewidth=1.2)
    objective = history["objective"].to_numpy(dtype=float)
    distance = objective - np.nanmin(objective, initial=np.inf)
    seen = distance > 0
    left.plot(history["iteration"][seen], distance[seen], color=BLUE, **line)
    left.set_ylabel(f"Objective above {np.nanmin(objective, initial=np.inf):.3f}")
    gradient = history["gradient"].to_numpy(dtype=float)
    positive = gradient > 0
    right.plot(history["iteration"][positive], gradient[positive], color=INK, **line)
    right.set_ylabel("Gradient (largest component)")
    for axes, drawn in ((left, seen), (right, positive)):
        if drawn.any():
            log_axis(axes, "y")


def _stochastic(left, right, history: pd.DataFrame) -> None:
    step = history["gradient"].to_numpy(dtype=float)
    left.plot(history["iteration"], history["objective"], color=BLUE, linewidth=0.8)
    left.set_ylabel("Complete-data −2 log L")
    right.plot(history["iteration"][step > 0], step[step > 0], color=INK, linewidth=0.8)
    right.set_ylabel("Largest step of a parameter")
    if (step > 0).any():
        log_axis(right, "y")
    if history["smoothing"].any():
        for axes in (left, right):
            axes.axvline(history["iteration"][history["smoothing"]].iloc[0], **IDENTITY)
