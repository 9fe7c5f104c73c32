"""Predicted curves on a fine grid of times, for the pictures of single subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nlme.data.after_dose import additional_doses
from nlme.diagnostics.replicated import endpoints_of
from nlme.errors import DataError
from nlme.fitting.result import Evaluated

if TYPE_CHECKING:
    import pandas as pd

POINTS = 120  # per subject, about, spread over the intervals between doses and observations


def events_of(fit) -> list[str]:
    """The endpoints that are times of events: a 0 or 1 for each record, beside which a survival says nothing of one subject."""
    laws = endpoints_of(fit, fit.population) if isinstance(fit, Evaluated) else {}
    return [name for name, law in laws.items() if law.of_events]


def endpoints_with_curves(fit) -> list[str]:
    """The endpoints whose observations can be drawn on a subject's curve, in the order of the data."""
    events = events_of(fit)
    return [name for name in dict.fromkeys(fit.predictions["ENDPOINT"]) if name not in events]


def fine_curves(fit, population) -> dict[str, pd.DataFrame]:
    """Population and individual predictions on a fine grid, from each subject's first record to its last.

    Parameters
    ----------
    fit : a fit, for its model, etas, subpopulations and tolerances
    population : the subjects wanted, a part of the fit's own

    Returns
    -------
    dict from endpoint to a DataFrame with columns ID TIME PRED IPRED
        Where a subject's clock restarts within its record a grid has no place, and where states have system noise predictions are
        those given the observations before; then the predictions at the observations stand instead, for all subjects.
    """
    from nlme.simulation.predict import predict

    if fit.layout.anatomy.diffusion:
        return at_observations(fit, population)
    try:
        grid = population.with_times(_grid)
    except DataError:
        return at_observations(fit, population)
    typical, individual = predict(fit, grid, eta="typical"), predict(fit, grid)
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
    doses = np.flatnonzero(subject.is_dose)
    later, of = additional_doses(subject)
    whose = np.r_[doses, of]
    starts = np.r_[subject.time[doses], later - subject.clock[of] + subject.time[of]]
    lasting = subject.duration[whose]
    by_rate = subject.rate[whose] > 0
    lasting[by_rate] = subject.amt[whose[by_rate]] / subject.rate[whose[by_rate]]
    last = float(np.max(subject.time))
    order = np.lexsort((starts, whose))
    starts, lasting = starts[order], lasting[order]
    ends = np.minimum(starts + np.maximum(lasting, 0.0), last)
    return starts[starts <= last], ends[starts <= last]


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
