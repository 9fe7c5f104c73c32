"""Percentiles of values some of which are known only to lie beyond a limit."""

from __future__ import annotations

import numpy as np


def percentiles(values: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(p, ...) quantiles along the last axis, the line between order statistics (type 7 of Hyndman & Fan 1996).

    -inf and inf are values beyond a limit of quantification and count in the order; a quantile between one of them and a number
    lies beyond the limit, too.  NaN are left out; where nothing else is there, the quantile is NaN.
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    count = (~np.isnan(ordered)).sum(axis=-1)
    found = []
    for share in np.atleast_1d(shares):
        place = share * np.maximum(count - 1, 0)
        low = np.floor(place + 1e-12).astype(int)
        part = np.maximum(place - low, 0.0)
        a, b = (
            np.take_along_axis(ordered, k[..., None], axis=-1)[..., 0]
            for k in (low, np.minimum(low + 1, np.maximum(count - 1, 0)))
        )
        with np.errstate(invalid="ignore"):
            between = a + part * (b - a)
        inside = np.isfinite(a) & np.isfinite(b)
        beyond = np.where(np.isinf(a), a, b)
        found.append(np.where(count == 0, np.nan, np.where(inside, between, np.where(part > 1e-9, beyond, a))))
    return np.array(found)


def band(simulated: np.ndarray, level: float) -> np.ndarray:
    """(3, ...) lower end, median and upper end of a central interval over the replicates, the first axis."""
    return percentiles(np.moveaxis(simulated, 0, -1), np.array([0.5 - level / 2, 0.5, 0.5 + level / 2]))
