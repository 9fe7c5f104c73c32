"""Which terms a network has learned, and with which coefficients."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from nlme.plots.style import BLUE, GREY, INK, PALE, new_figure, picture

_MOST = 12  # terms shown
_SETS = 8


@picture
def inclusion(discovery, most: int = _MOST) -> Figure:
    """Terms with their probabilities, with their coefficients where they are in, and the sets of terms they come in.

    Left: the share of draws whose best set holds the term.  Middle: its coefficient in these draws, median and 90 % interval, on a
    scale that is even about zero and logarithmic further out.  Right: the most frequent sets, a column for each with its share.

    Parameters
    ----------
    discovery : what :func:`nlme.discover` returned
    most : terms shown, the most probable
    """
    table = discovery.table.iloc[:most][::-1]
    terms, at = list(table.index), np.arange(len(table))
    sets = [(names, share) for names, share in discovery.sets if set(names) <= set(terms)][:_SETS]
    figure = new_figure(1.0 + 0.32 * max(len(terms), 3), width=8.2)
    grid = figure.subplots(1, 3, sharey=True, width_ratios=[1.0, 1.2, 0.4 + 0.13 * max(len(sets), 1)])
    left, middle, right = grid
    left.barh(at, table["probability"], color=PALE, edgecolor=BLUE, linewidth=0.6)
    for y, p in zip(at, table["probability"], strict=True):
        left.text(min(p + 0.02, 0.82), y, f"{p:.2f}", va="center", fontsize="x-small", color=INK)
    left.set(xlim=(0, 1), xlabel="Probability", yticks=at, yticklabels=terms)
    for y, (_, row) in zip(at, table.iterrows(), strict=True):
        middle.plot([row["lower"], row["upper"]], [y, y], color=BLUE, linewidth=1.6)
        middle.plot(row["coefficient"], y, "o", color=BLUE, markersize=4)
    middle.axvline(0.0, color=GREY, linewidth=0.8)
    sizes = np.abs(table["coefficient"].to_numpy())
    if len(sizes) and np.nanmax(sizes) > 30.0 * max(np.nanmin(sizes), 1e-12):
        middle.set_xscale("symlog", linthresh=max(float(np.nanmin(sizes)), 1e-6))
    middle.set_xlabel("Coefficient, given inclusion")
    for k, (names, share) in enumerate(sets):
        rows = [terms.index(name) for name in names]
        right.plot([k] * len(rows), rows, "-o", color=INK, markersize=4, linewidth=1.0)
        right.text(k, len(terms) - 0.4, f"{100 * share:.0f} %", ha="center", va="bottom", fontsize="x-small", rotation=90)
    right.set(xlim=(-0.6, max(len(sets), 1) - 0.4), xticks=[], xlabel="Sets")
    left.set_ylim(-0.6, len(terms) - 0.4)
    return figure
