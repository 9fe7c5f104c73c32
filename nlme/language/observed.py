"""Can these observations come from these distributions?  What can be said before any number is computed, is said here."""

from __future__ import annotations

import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError
from nlme.language.anatomy import Anatomy


def check_observed(population: Population, anatomy: Anatomy, endpoint_of: list[int], model: str) -> None:
    """Refuse observations that their endpoint's distribution cannot give.

    Raises
    ------
    DataError
        An observation without a value, a censored record of an endpoint that says nothing of censoring, a LIMIT beyond the model's own, a value outside the whole
        numbers that the endpoint can take, two records of an autocorrelated endpoint at one time.
    """
    for subject in population:
        empty = subject.is_observation & np.isnan(subject.dv)
        if empty.any():
            at = int(np.flatnonzero(empty)[0])
            raise DataError(
                f"Subject {subject.id}, record {at + 1} (time {subject.time[at]:g}): an observation without a value (DV). Such a subject "
                "can be simulated and predicted, and has no likelihood: write the values, or MDV = 1 (EVID = 2) on records to predict."
            )
    for k, (name, law) in enumerate(zip(anatomy.endpoints, anatomy.laws, strict=True)):
        if not law.censoring:
            _refuse(
                population,
                endpoint_of,
                k,
                lambda s: s.cens != 0,
                f"censored (CENS is not 0), and {model}.observe does not say what that means for endpoint {name!r} "
                f"({law.words}). "
                + (
                    "Code an event at an unknown time since the record before as DV = 2, without CENS."
                    if law.of_events
                    else "Give it to nlme.censored(...), or leave the records out: drop the rows, or set MDV = 1 on them."
                ),
            )
        for side, limit in zip((1, -1), law.limits, strict=True):
            if isinstance(limit, float):
                _refuse(
                    population,
                    endpoint_of,
                    k,
                    lambda s, side=side, limit=limit: (s.cens == side) & (side * (s.limit - limit) >= 0.0),
                    f"{'below' if side > 0 else 'above'} the limit {limit:g} that {model}.observe gives endpoint {name!r}, and LIMIT, the other "
                    f"end of the interval, is {'not below' if side > 0 else 'not above'} it. Correct LIMIT, or the model's limit.",
                )
        if law.whole is not None:
            lowest, highest = law.whole
            many = f"{lowest:g} to {highest:g}" if np.isfinite(highest) else f"{lowest:g} or above"
            _refuse(
                population,
                endpoint_of,
                k,
                lambda s, lo=lowest, hi=highest: ~((s.dv == np.round(s.dv)) & (s.dv >= lo) & (s.dv <= hi)),
                f"not a whole number {many}, and endpoint {name!r} of {model} is {law.words}.",
            )
        if law.link == "ar1":
            _refuse(
                population,
                endpoint_of,
                k,
                lambda s, k=k: _after(s, endpoint_of, k, lambda i, j: (s.time[i] == s.time[j]) & (s.period[i] == s.period[j])),
                f"at the time of the record before: residuals of endpoint {name!r} would be correlated by 1 there. "
                "Keep one of the two, or take nlme.ar1 away.",
            )
        if law.link == "event":
            _refuse(
                population,
                endpoint_of,
                k,
                lambda s, k=k: _after(s, endpoint_of, k, lambda i, j: s.dv[i] > 0),
                f"after the subject's event (DV 1 or 2) in endpoint {name!r}, which has one event. "
                "Give nlme.time_to_event(..., repeated=True) if events recur, or drop the rows.",
            )


def _after(subject, endpoint_of, k: int, wrong) -> np.ndarray:
    """Records j of endpoint ``k`` where ``wrong(i, j)`` is true of the record i before."""
    mine = subject.is_observation & (np.array([*endpoint_of, -1])[subject.endpoint] == k)
    found, at = np.zeros(len(mine), bool), np.flatnonzero(mine)
    found[at[1:]] = wrong(at[:-1], at[1:])
    return found


def _refuse(population: Population, endpoint_of: list[int], k: int, wrong, why: str) -> None:
    """Raise, naming the first rows where ``wrong(subject)`` among the observations of endpoint ``k``."""
    rows, first = [], None
    for subject in population:
        mine = subject.is_observation & np.isfinite(subject.dv) & (np.array([*endpoint_of, -1])[subject.endpoint] == k)
        bad = np.flatnonzero(mine & wrong(subject))
        rows.extend(int(subject.rows[j]) for j in bad)
        if first is None and len(bad):
            first = f"subject {subject.id}, time {subject.time[bad[0]]:g}, DV {subject.dv[bad[0]]:g}"
    if rows:
        listed = ", ".join(map(str, rows[:5])) + (" ..." if len(rows) > 5 else "")
        count = "1 observation is" if len(rows) == 1 else f"{len(rows)} observations are"
        raise DataError(f"{count} {why} Row{'s' if len(rows) > 1 else ''} {listed}; the first: {first}.")
