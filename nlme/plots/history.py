"""The way of the search: objective and gradient at every iteration."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nlme.errors import DataError
from nlme.plots.style import BLUE, INK, log_axis, new_figure, picture


@picture
def objective_history(fit) -> Figure:
    """Distance of the objective from its best value, and size of the gradient, by iteration (both logarithmic).

    The distance shows late progress that the objective itself, on one scale with its starting value, would hide.

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
    line = dict(marker="o", markersize=3, linewidth=1.2)
    objective = history["objective"].to_numpy(dtype=float)
    distance = objective - np.nanmin(objective, initial=np.inf)
    seen = distance > 0
    left.plot(history["iteration"][seen], distance[seen], color=BLUE, **line)
    left.set(xlabel="Iteration", ylabel=f"Objective above {np.nanmin(objective, initial=np.inf):.3f}")
    gradient = history["gradient"].to_numpy(dtype=float)
    positive = gradient > 0
    right.plot(history["iteration"][positive], gradient[positive], color=INK, **line)
    right.set(xlabel="Iteration", ylabel="Gradient (largest component)")
    for axes, drawn in ((left, seen), (right, positive)):
        if drawn.any():
            log_axis(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
