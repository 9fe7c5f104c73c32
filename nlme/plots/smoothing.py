"""A trend through a cloud of points."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def lowess(x: ArrayLike, y: ArrayLike, fraction: float | None = None, at: ArrayLike | None = None) -> tuple[NDArray, NDArray]:
    """Locally weighted straight lines (Cleveland 1979, doi:10.1080/01621459.1979.10481038), without robustness passes.

    At each place the line is fitted to the nearest ``fraction`` of the points, tricube weights.

    Parameters
    ----------
    x, y : (n,) points; those with a NaN are left out
    fraction : share of the points that each line sees, 0 to 1; by default two thirds, and all of fewer than 15
    at : (m,) places to smooth at; by default 60 quantiles of x, so that the trend ends where the data end

    Returns
    -------
    (m,) places and (m,) smoothed values; both empty with fewer than four points or a single x
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    seen = np.isfinite(x) & np.isfinite(y)
    x, y = x[seen], y[seen]
    if len(x) < 4 or np.ptp(x) == 0:
        return np.empty(0), np.empty(0)
    at = np.unique(np.quantile(x, np.linspace(0, 1, 60))) if at is None else np.asarray(at, dtype=float)
    if fraction is None:
        fraction = max(2 / 3, min(1.0, 15 / len(x)))
    count = min(len(x), max(4, int(np.ceil(fraction * len(x)))))
    smooth = np.empty(len(at))
    for k, place in enumerate(at):
        distance = np.abs(x - place)
        reach = np.partition(distance, count - 1)[count - 1]
        # Points at the very edge weigh nothing, so many ties (samples at one nominal time) could leave one x alone:
        # the reach then grows to take in a second one.
        if not (distance[distance < reach] > 0).any():
            reach = max(reach, distance[distance > 0].min()) * 1.0001
        weight = np.clip(1 - (distance / reach) ** 3, 0, None) ** 3
        total = weight.sum()
        mean_x, mean_y = weight @ x / total, weight @ y / total
        spread = weight @ (x - mean_x) ** 2
        slope = weight @ ((x - mean_x) * (y - mean_y)) / spread if spread > 1e-12 * total * np.ptp(x) ** 2 else 0.0
        smooth[k] = mean_y + slope * (place - mean_x)
    return at, smooth
