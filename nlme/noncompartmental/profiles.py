"""Profiles: what a subject's records say of the time after each of its doses.

A profile begins with a dose and ends with the next one (a sample at the time of the next dose ends it and begins the next; one
without a concentration only begins the next, which may come weeks later); the last one ends with the records.  A reset (EVID 3
or 4) begins a subject's history anew.  Additional doses (ADDL, II) are doses; after a dose at steady state (SS) nothing of the time
before it is known.  What is sampled at the nominal time of an additional dose is the trough before it: to a fit, whose events an additional
dose precedes (NONMEM's rule), such a sample says nothing new after a bolus; here it would be its C0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from nlme.data.subject import Subject
from nlme.errors import DataError

ROUTES = ("extravascular", "intravenous")


@dataclass(frozen=True)
class Given:
    """One dose: when, how much, over how long (0: at once), by which route; ``interval`` is 0 where the record names none."""

    time: float
    amount: float
    duration: float
    route: str
    interval: float
    steady: bool
    order: float  # place among the records; a sample at the time of an additional dose is the trough before it

    @property
    def bolus(self) -> bool:
        return self.route == "intravenous" and self.duration == 0


@dataclass(frozen=True)
class Samples:
    """Samples of one endpoint: times, values, whether below the limit, the limit (NaN: none known), places among the records."""

    time: Float[np.ndarray, " n"]
    value: Float[np.ndarray, " n"]
    below: Bool[np.ndarray, " n"]
    limit: Float[np.ndarray, " n"]
    order: Float[np.ndarray, " n"]

    def where(self, chosen: np.ndarray) -> Samples:
        return Samples(*(getattr(self, name)[chosen] for name in ("time", "value", "below", "limit", "order")))


@dataclass(frozen=True)
class Profile:
    """The samples after one dose, in time after it.

    Attributes
    ----------
    id, number : whose, and after which dose of theirs (1, 2, ...)
    dose : the dose
    samples : what was seen, before the rules for values below the limit
    interval : dosing interval tau; None where there is none
    begins : nothing of earlier doses is there (the first dose, or one after a reset)
    before : last value seen before the dose, 0 below the limit; None where there is none
    """

    id: Any
    number: int
    dose: Given
    samples: Samples
    interval: float | None
    begins: bool
    before: float | None

    @property
    def words(self) -> str:
        """Subject and dose, for messages."""
        return f"subject {self.id}" + (f", dose {self.number}" if self.number > 1 else "")


def profiles_of(subject: Subject, endpoint: int, routes: Any, tau: float | None, lloq: float | None) -> list[Profile]:
    """Every profile of a subject that has a sample after its dose.

    Raises
    ------
    DataError
        A dose whose route or duration is not known, two doses at once by different ways, a negative concentration, two samples at
        one time, a value above the upper limit.
    """
    found: list[Profile] = []
    count = 0
    for records in _histories(subject):
        given = _doses(subject, records, routes)
        seen = _samples(subject, records, endpoint, lloq)
        for k, dose in enumerate(given):
            following = given[k + 1] if k + 1 < len(given) else None
            own, before = _after(seen, dose, following)
            length = np.inf if following is None else following.time - dose.time
            if np.any((own.time > 0) & (own.time < length)):
                interval = tau or _interval(given, k, own.time.max())
                begins = k == 0 and not dose.steady
                found.append(Profile(subject.id, count + k + 1, dose, own, interval, begins, before))
        count += len(given)
    return found


def _histories(subject: Subject) -> Iterator[np.ndarray]:
    """Records of the subject from one reset to the next."""
    resets = np.flatnonzero((subject.evid == 3) | (subject.evid == 4))
    for a, b in zip([0, *resets], [*resets, len(subject)], strict=True):
        if b > a:
            yield np.arange(a, b)


def _doses(subject: Subject, records: np.ndarray, routes: Any) -> list[Given]:
    last = float(subject.time[records].max())
    found = []
    for j in records[subject.is_dose[records]]:
        if not subject.amt[j] > 0:
            raise DataError(f"Subject {subject.id}: the dose at time {subject.time[j]:g} has the amount {subject.amt[j]:g}.")
        route = _route(subject, j, routes)
        dose = Given(
            float(subject.time[j]), float(subject.amt[j]), _duration(subject, j, route), route, float(subject.ii[j]),
            bool(subject.ss[j]), float(j),
        )  # fmt: skip
        found.append(dose)
        for k in range(1, int(subject.addl[j]) + 1):
            at = dose.time + k * dose.interval
            if at <= last:
                found.append(replace(dose, time=at, order=np.inf))
    found.sort(key=lambda d: (d.time, d.order))
    return _together(subject, found)


def _together(subject: Subject, doses: list[Given]) -> list[Given]:
    """Doses at one time as one dose."""
    out: list[Given] = []
    for dose in doses:
        if out and dose.time == out[-1].time:
            other = out[-1]
            if (dose.route, dose.duration) != (other.route, other.duration):
                raise DataError(
                    f"Subject {subject.id}: two doses at time {dose.time:g} by different ways ({_way(other)} and {_way(dose)}); the "
                    "analysis needs one way for each profile."
                )
            out[-1] = replace(other, amount=other.amount + dose.amount, steady=other.steady or dose.steady)
        else:
            out.append(dose)
    return out


def _way(dose: Given) -> str:
    return dose.route if dose.duration == 0 else f"{dose.route}, over {dose.duration:g}"


def _route(subject: Subject, j: int, routes: Any) -> str:
    """How the dose of record j is given."""
    if isinstance(routes, str):
        return routes
    if isinstance(routes, Mapping):
        place = subject.cmt_name[j] or int(subject.cmt[j])
        if place in routes:
            return routes[place]
        raise DataError(
            f"Subject {subject.id}: a dose at time {subject.time[j]:g} into compartment {place}, for which route= says nothing; it has: "
            f"{', '.join(map(str, routes))}."
        )
    if subject.rate[j] > 0 or subject.duration[j] > 0:
        return "intravenous"
    raise DataError(
        f"Subject {subject.id}: the dose at time {subject.time[j]:g} is given at once, and the data do not say where. Say "
        "route='extravascular' or route='intravenous', or one for each compartment: route={1: 'extravascular', 2: 'intravenous'}."
    )


def _duration(subject: Subject, j: int, route: str) -> float:
    rate, duration = float(subject.rate[j]), float(subject.duration[j])
    if route == "extravascular":
        return 0.0
    if rate in (-1.0, -2.0):
        raise DataError(
            f"Subject {subject.id}: RATE = {rate:g} at time {subject.time[j]:g} leaves the length of the infusion to a model; an "
            "analysis without one needs the rate or the duration in the data."
        )
    return float(subject.amt[j]) / rate if rate > 0 else duration


def _samples(subject: Subject, records: np.ndarray, endpoint: int, lloq: float | None) -> Samples:
    rows = records[subject.is_observation[records] & (subject.endpoint[records] == endpoint)]
    rows = rows[np.argsort(subject.time[rows], kind="stable")]
    time, value, cens = subject.time[rows], subject.dv[rows], subject.cens[rows]
    if np.any(cens == -1):
        raise DataError(
            f"Subject {subject.id}: the value at time {time[cens == -1][0]:g} is above an upper limit (CENS -1): not known."
        )
    if np.any(value < 0):
        raise DataError(
            f"Subject {subject.id}: the concentration {value[value < 0][0]:g} at time {time[value < 0][0]:g} is negative. Is DV the "
            "logarithm of the concentration?"
        )
    below = cens == 1
    limit = np.where(below, value, np.nan)
    if lloq is not None:
        low = ~below & (value < lloq)
        below, limit = below | low, np.where(low, lloq, limit)
    return Samples(time, value, below, limit, rows.astype(float))


def _after(seen: Samples, dose: Given, following: Given | None) -> tuple[Samples, float | None]:
    """Samples of a dose's profile in time after the dose, and the last value before it."""
    starts = seen.time >= dose.time
    if dose.bolus:  # what is sampled before a bolus is no part of the profile, though its time is the same
        starts = (seen.time > dose.time) | ((seen.time == dose.time) & (seen.order > dose.order))
    inside = starts
    if following is not None:
        ends = (seen.time < following.time) | ((seen.time == following.time) & ~seen.below & (seen.value > 0))
        if following.bolus:
            ends = ends & ((seen.time < following.time) | (seen.order < following.order))
        inside = starts & ends
    earlier = np.flatnonzero((seen.time <= dose.time) & ~(starts & dose.bolus))
    before = None
    if len(earlier):
        k = earlier[-1]
        before = 0.0 if seen.below[k] else float(seen.value[k])
    own = seen.where(inside)
    return replace(own, time=own.time - dose.time), before


def _interval(given: list[Given], k: int, reached: float) -> float | None:
    """Dosing interval after a dose: its own II; else the time to the next dose, or that since the one before, where the samples reach
    half of it (after a washout of weeks the next dose is no next dose of the same regimen)."""
    if given[k].interval > 0:
        return given[k].interval
    if len(given) == 1:
        return None
    gap = given[k + 1].time - given[k].time if k + 1 < len(given) else given[k].time - given[k - 1].time
    return gap if reached >= 0.5 * gap else None
