"""Predicted curves on a fine grid of times, for the pictures of single subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

POINTS = 120  # per subject, about, spread over the intervals between doses and observations


def fine_curves(fit, population) -> dict[str, pd.DataFrame]:
    """Population and individual predictions on a fine grid, from each subject's first record to its last.

    Parameters
    ----------
    fit : Fit, for its model and etas
    population : the subjects wanted, a part of the fit's own

    Returns
    -------
    dict from endpoint to a DataFrame with columns ID TIME PRED IPRED
        Where a subject's clock restarts within its record a grid has no place, and the predictions at the observations stand
        instead, for all subjects.
    """
    from nlme.simulation.predict import predict

    try:
        grid = population.with_times(_grid)
    except DataError:
        return at_observations(fit, population)
    typical = predict(fit.model, grid)
    individual = predict(fit.model, grid, eta=fit.eta.loc[list(population.ids)])
    return {
        endpoint: typical[["ID", "TIME"]].assign(PRED=typical[endpoint], IPRED=individual[endpoint])
        for endpoint in dict.fromkeys(fit.predictions["ENDPOINT"])
    }


def at_observations(fit, population) -> dict[str, pd.DataFrame]:
    """The same at the observation times only."""
    rows = fit.predictions[fit.predictions["ID"].isin(list(population.ids))].sort_values("TIME", kind="stable")
    columns = ["ID", "TIME", "PRED", "IPRED"]
    return {endpoint: rows.loc[rows["ENDPOINT"] == endpoint, columns] for endpoint in dict.fromkeys(fit.predictions["ENDPOINT"])}


def dose_times(subject) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of every dose of a subject, additional doses included, up to its last record (end = start: a bolus).

    A dose at steady state counts once; the doses that led to it lie before the record.
    """
    starts, ends = [], []
    last = float(np.max(subject.time))
    for k in np.flatnonzero((subject.evid == 1) | (subject.evid == 4)):
        duration = float(subject.duration[k])
        if subject.rate[k] > 0:
            duration = float(subject.amt[k] / subject.rate[k])
        for repeat in range(int(subject.addl[k]) + 1):
            start = float(subject.time[k] + repeat * subject.ii[k])
            if start <= last:
                starts.append(start)
                ends.append(min(start + max(duration, 0.0), last))
    return np.array(starts), np.array(ends)


def _grid(subject) -> np.ndarray:
    """Times that follow what happens: between any two doses or observations, evenly and also crowding towards the earlier one.

    A record may run over months with its doses in two of its days; there an even grid would miss every peak. The time just
    before each dose is among them, so that a trough is drawn before its peak.
    """
    first, last = float(np.min(subject.time)), float(np.max(subject.time))
    starts, ends = dose_times(subject)
    knots = np.unique(np.concatenate([[first, last], starts, ends, subject.time[subject.is_observation]]))
    count = int(np.clip(POINTS // len(knots), 3, 40))
    shares = np.concatenate([np.linspace(0, 1, count), np.geomspace(1e-3, 1, count)])
    between = knots[:-1, None] + np.diff(knots)[:, None] * shares
    before = starts - 1e-6 * max(last - first, 1e-12)
    return np.unique(np.concatenate([knots, between.ravel(), before[before >= first]]))
