"""What the records of one subject amount to: events in order, steady states to fill in, samples, parameter rows.

Additional doses and steady-state records are expanded, and events are ordered as NONMEM does: record order decides at equal
times; an additional dose comes before a record at its time.  Nothing here depends on a parameter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from nlme.data.population import Subject
from nlme.dynamics.events import (
    BOLUS,
    BREAK,
    FILL,
    GIVEN_DURATION,
    GIVEN_RATE,
    MODELLED_DURATION,
    MODELLED_RATE,
    NOTHING,
    OFF,
    ON,
    START,
    STOP,
)
from nlme.errors import DataError, ModelError, name_error
from nlme.language.anatomy import OCCASION, Anatomy

BOLUS_HOW = -1


@dataclasses.dataclass
class Event:
    time: float
    key: tuple[float, float]  # (time at which it happens if no parameter moves it, order among equals)
    kind: int = NOTHING
    record: int = 0
    row: int = -1
    amount: float = 0.0
    given: float = 0.0
    how: int = BOLUS_HOW
    compartment: int = 0
    dose_row: int = 0
    reset: int = 0
    epoch: int = 0
    fill: int = 0
    adds: int = 0
    ahead: float = 0.0
    index: int = -1  # record behind this event, for samples


def records_of(
    subject: Subject, anatomy: Anatomy, endpoint_of: list[int], samples: str, model: str, between, lines
) -> dict[str, Any]:
    """Events, fills, samples and covariate rows of one subject."""
    n = len(subject.time)
    clock = _clock(subject)
    at_records, course = _told(subject, anatomy, clock)
    if anatomy.by_occasion:
        between = {**between, OCCASION: "nocb"}
    rows, before, marks, table, anchor, drift = _parameter_rows(at_records, clock, course, between, lines)
    events: list[Event] = []
    fills: list[tuple] = []
    epoch = 0
    switched = {-int(c) for c, evid in zip(subject.cmt, subject.evid, strict=True) if evid == 2 and c < 0}
    wanted = np.ones(n, bool) if samples == "records" else subject.is_observation
    if not wanted.any():
        raise DataError(f"Subject {subject.id} has no {samples}; drop it before the fit: population.filter(...).")
    last = clock[np.flatnonzero(wanted)[-1]]
    for j in range(n):
        t, evid = float(clock[j]), int(subject.evid[j])
        while marks and marks[0][0] <= t:
            at, row = marks.pop(0)
            events.append(Event(at, (at, -0.25), record=1, row=row, epoch=epoch))
        if evid in (3, 4):
            epoch += 1
            events.append(Event(t, (t, j), reset=1, epoch=epoch))
        if evid in (1, 4):
            epoch = _dose(subject, j, t, rows[j], epoch, anatomy, model, events, fills, last)
        elif evid == 2 and switched:
            _switch(subject, j, t, epoch, anatomy, model, switched, events)
        events.append(Event(t, (t, j), record=1, row=int(before[j]), epoch=epoch, index=j))
    begin = float(min(clock[0], course[""][0]))
    events += [Event(begin, (begin, -0.5), kind=BREAK, compartment=k) for k in range(anatomy.event_times)]
    events.sort(key=lambda e: e.key)
    following = int(rows[-1])
    for event in reversed(events):
        if event.record:
            following = event.row
        event.row = following
    groups: list[list[tuple[int, int]]] = [[] for _ in anatomy.endpoints]
    for position, event in enumerate(events):
        if event.index >= 0 and wanted[event.index]:
            endpoint = endpoint_of[int(subject.endpoint[event.index])] if samples == "observations" else 0
            groups[endpoint].append((position, event.index))
    return {
        "events": events,
        "fills": fills,
        "groups": groups,
        "table": table,
        "anchor": anchor,
        "drift": drift,
        "subject": subject,
        "rows": rows,
        "clock": clock,
        "start": begin,
    }


def _clock(subject: Subject) -> np.ndarray:
    """Times that never run backwards: after a reset that restarts the clock, time goes on from where it was."""
    time = np.asarray(subject.time, dtype=float)
    back = np.minimum(np.diff(time, prepend=time[0]), 0.0)
    return time - np.cumsum(back)


def _told(subject: Subject, anatomy: Anatomy, clock: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What ``individual`` is told by the records, and at the points of the subject's course (their times under "")."""

    def values(known) -> dict[str, np.ndarray]:
        told = {name: np.asarray(known.covariates[name], dtype=float) for name in anatomy.covariates}
        if anatomy.by_occasion:
            told[OCCASION] = np.array([anatomy.occasions.index(str(occasion)) for occasion in known.occasion], dtype=float)
        return told

    at_records = values(subject)
    if subject.course is None:
        return at_records, {"": clock, **at_records}
    return at_records, {"": subject.course.time, **values(subject.course)}


def _parameter_rows(
    known: dict[str, np.ndarray], clock: np.ndarray, course: dict[str, np.ndarray], between: dict[str, str], lines: list[str]
):
    """Parameter rows: of every record, of the interval that ends at it, and of those that end at a mark; covariates by row, and
    how they drift.

    A mark is a time at which the course changes, where the course is not that of the records.  A row is what stays the same, so
    neighbours that agree share one.  Over an interval a covariate has the value of the course's next point ("nocb"), of its
    last ("locf"), or goes from the one to the other ("linear").
    """
    names, points = list(between), course[""]
    marks = np.zeros(0, int) if points is clock else _marks(np.stack([points, *(course[name] for name in names)], axis=1), clock)
    order = np.lexsort((np.repeat([0, 1], [len(marks), len(clock)]), np.r_[points[marks], clock]))
    time, is_record = np.r_[points[marks], clock][order], order >= len(marks)
    n = len(time)
    if not names:
        rows = np.zeros(n, int)
        return rows[is_record], rows[is_record], [(float(t), 0) for t in time[~is_record]], {}, np.zeros(1), {}
    told = np.stack([course[name] for name in names], axis=1)
    values = np.concatenate([told[marks], np.stack([known[name] for name in names], axis=1)])[order]
    starts = np.r_[time[:1], time[:-1]]
    passes = (time > starts)[:, None]
    last = np.maximum(np.searchsorted(points, starts, side="right") - 1, 0)
    following = np.minimum(np.searchsorted(points, time, side="left"), len(points) - 1)
    earlier = np.where(passes, told[last], np.r_[values[:1], values[:-1]])
    later = np.where(passes, told[following], values)
    length = (points[following] - points[last])[:, None]
    straight = np.array([name in lines for name in names])
    slope = np.where(straight & passes & (length > 0), (later - earlier) / np.where(length > 0, length, 1.0), 0.0)
    nocb = np.array([between[name] == "nocb" for name in names])
    # interval and record in turn; a row with a drift is anchored where its line begins; nobody looks at the row of a mark
    ahead, drifts = np.where(nocb, later, earlier), np.any(slope != 0.0, axis=1)
    ahead = np.concatenate([ahead, slope, np.where(drifts, points[last], 0.0)[:, None]], axis=1)
    here = np.where(is_record[:, None], np.concatenate([values, np.zeros_like(slope), np.zeros((n, 1))], axis=1), ahead)
    whole = np.stack([ahead, here], axis=1).reshape(2 * n, -1)
    changed = np.r_[False, np.any(whole[1:] != whole[:-1], axis=1)]
    first, number = np.r_[0, np.flatnonzero(changed)], np.cumsum(changed)
    table = {name: whole[first, k] for k, name in enumerate(names)}
    drift = {name: whole[first, len(names) + names.index(name)] for name in lines}
    ends, own = number[0::2], number[1::2]
    at_marks = [(float(t), int(row)) for t, row in zip(time[~is_record], ends[~is_record], strict=True)]
    return own[is_record], ends[is_record], at_marks, table, whole[first, -1], drift


def _marks(points: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Which points of a course (time, then values) the events need, up to the last record: its beginning if that is before the
    first record, and those that differ from a neighbour."""
    differs = np.any(points[1:, 1:] != points[:-1, 1:], axis=1)
    needed = np.r_[points[0, 0] < clock[0], differs] | np.r_[differs, False]
    return np.flatnonzero(needed & (points[:, 0] <= clock[-1]))


def _where(subject: Subject, j: int) -> str:
    """Which record: its row in the file, or (one that the library made) its time."""
    place = f"row {subject.rows[j]}" if subject.rows[j] else f"{'dose' if subject.evid[j] in (1, 4) else 'record'} at time {subject.time[j]:g}"
    return f"Subject {subject.id}, {place}"


def _compartment(subject: Subject, j: int, anatomy: Anatomy, model: str) -> int:
    where = _where(subject, j)
    if not anatomy.states:
        raise ModelError(f"{where}: the data has a dose, but {model}.dynamics gives no structure for it to enter.")
    name = subject.cmt_name[j] if subject.cmt_name else None
    if name is not None:
        if name not in anatomy.states:
            raise ModelError(f"{where}: " + name_error("state", name, anatomy.states, anatomy.structure))
        return anatomy.states.index(name)
    number = int(subject.cmt[j])
    if not 0 <= number <= len(anatomy.states):
        listed = ", ".join(f"{k + 1} = {s}" for k, s in enumerate(anatomy.states))
        raise ModelError(f"{where}: dose into CMT {number}, but {anatomy.structure} has {listed}.")
    return max(number - 1, 0)


def _switch(subject, j, t, epoch, anatomy, model, switched, events) -> None:
    """Append the event of record ``j`` if it switches a compartment off (CMT < 0) or on again (EVID 2 with its number)."""
    number = int(subject.cmt[j])
    where = _where(subject, j)
    if abs(number) > len(anatomy.states):
        listed = ", ".join(f"{k + 1} = {s}" for k, s in enumerate(anatomy.states)) or "none"
        raise ModelError(f"{where}: CMT {number} switches off a compartment, but {anatomy.structure or model} has {listed}.")
    if number < 0 and anatomy.linear:
        raise ModelError(
            f"{where}: CMT {number} switches {anatomy.states[-number - 1]!r} off, which {anatomy.structure} cannot do in its closed "
            f"form. Write the model with nlme.ODE."
        )
    if abs(number) in switched:
        events.append(Event(t, (t, j), kind=OFF if number < 0 else ON, epoch=epoch, compartment=abs(number) - 1))


def _dose(subject, j, t, row, epoch, anatomy, model, events, fills, last) -> int:
    """Append the events of dose record ``j``; the epoch, one later if the record resets the system."""
    compartment = _compartment(subject, j, anatomy, model)
    amount, interval = float(subject.amt[j]), float(subject.ii[j])
    steady, additional = int(subject.ss[j]), int(subject.addl[j])
    given, how = 0.0, BOLUS_HOW
    rate, duration = float(subject.rate[j]), float(subject.duration[j])
    if rate > 0:
        given, how = rate, GIVEN_RATE
    elif duration > 0:
        given, how = duration, GIVEN_DURATION
    elif rate in (-1.0, -2.0):
        how = MODELLED_RATE if rate == -1.0 else MODELLED_DURATION
        rule = "rate" if rate == -1.0 else "duration"
        if rule not in anatomy.rules:
            raise ModelError(
                f"{_where(subject, j)}: RATE = {rate:g} asks for a modelled {rule}, "
                f"but {anatomy.structure} is given no {rule}=."
            )
    if steady and amount == 0.0 and how != GIVEN_RATE:
        raise DataError(f"{_where(subject, j)}: AMT = 0 with SS is a constant infusion, which needs its RATE (> 0) in the data.")
    common = dict(amount=amount, given=given, how=how, compartment=compartment, dose_row=int(row))
    if steady:
        if steady == 1:
            epoch += 1
        constant = amount == 0.0
        slot = len(fills)
        fills.append((amount, given, how, compartment, 0.0 if constant else interval, int(row)))
        events.append(Event(t, (t, j), kind=FILL, reset=int(steady == 1), epoch=epoch, fill=slot, adds=int(steady == 2)))
        if constant:
            return epoch
    length = _length(amount, given, how)

    def infuse(at, order, ahead=0.0):
        events.append(Event(at, (at, order), kind=START, epoch=epoch, ahead=ahead, **common))
        events.append(Event(at, (at + length - ahead, order), kind=STOP, epoch=epoch, ahead=ahead, **common))

    if steady and how != BOLUS_HOW:
        for n in range(1, _still_running(length, how, interval, anatomy) + 1):
            infuse(t, j, ahead=n * interval)
    for k in range(additional + 1):
        at = t + k * interval
        if k and at > last:
            break
        order = -1.0 if k else j
        if how == BOLUS_HOW:
            events.append(Event(at, (at, order), kind=BOLUS, epoch=epoch, **common))
        else:
            infuse(at, order)
    return epoch


def _length(amount: float, given: float, how: int) -> float:
    """Length of an infusion as far as the data give it (bioavailability 1)."""
    if how == GIVEN_RATE:
        return amount / given
    return given if how == GIVEN_DURATION else 0.0


def _still_running(length: float, how: int, interval: float, anatomy: Anatomy) -> int:
    """How many infusions of a steady-state train may still run at the record's time; unused ones are dropped later."""
    count = math.ceil(length / interval)
    modelled = how in (MODELLED_RATE, MODELLED_DURATION) or anatomy.rules
    return max(count, 1) + 1 if modelled else max(count - 1, 0)
