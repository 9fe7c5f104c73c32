"""Prediction correction of observed and simulated values in a bin, so that doses and covariates no longer scatter them.

With PRED_i the prediction of the typical subject for record i, PRED the median of these in the bin, and lb the lowest value that
a prediction can have:

| correction      | corrected value                              |
|-----------------|----------------------------------------------|
| "proportional"  | lb + (y_i - lb) (PRED - lb) / (PRED_i - lb)  |
| "additive"      | y_i + PRED - PRED_i, for data on a log scale |

Variability correction: PRED + (pc_i - PRED) sd / sd_i, with sd_i the standard deviation of the corrected value of record i over
the replicates, and sd the median of these in the bin.
Source: Bergstrand, Hooker, Wallin & Karlsson (2011), doi:10.1208/s12248-011-9255-z.
"""

from __future__ import annotations

import numpy as np

CORRECTIONS = ("proportional", "additive")


def correctable(pred: np.ndarray, how: str, lowest: float) -> np.ndarray:
    """(n,) records that can be corrected: all but those whose prediction is the lowest that it can be."""
    return np.isfinite(pred) & ((pred > lowest) if how == "proportional" else True)


def corrected(values: np.ndarray, pred: np.ndarray, bins: np.ndarray, how: str, lowest: float) -> np.ndarray:
    """(..., n) corrected values; ``bins`` (n,) are the bins of the records.  Infinite values (beyond a limit) stay."""
    middle = _median_of_bins(pred, bins)
    if how == "additive":
        return values + (middle - pred)
    return lowest + (values - lowest) * ((middle - lowest) / (pred - lowest))


def even_variability(values: np.ndarray, sd: np.ndarray, pred: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(..., n) corrected values with the variability of their bin; ``sd`` (n,) over the replicates."""
    middle = _median_of_bins(pred, bins)
    return middle + (values - middle) * (_median_of_bins(sd, bins) / sd)


def _median_of_bins(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """(n,) of every record the median of its bin."""
    found = np.empty(len(values))
    for k in np.unique(bins):
        found[bins == k] = np.median(values[bins == k])
    return found
