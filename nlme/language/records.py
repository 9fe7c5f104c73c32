"""What the records of one subject amount to: events in order, steady states to fill in, samples, parameter rows.

Additional doses and steady-state records are expanded, and events are ordered as NONMEM does: record order decides at equal
times; an additional dose comes before a record at its time.  Nothing here depends on a parameter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from nlme.data.population import Subject
from nlme.dynamics.events import (
    BOLUS,
    BREAK,
    ECHO,
    FILL,
    GIVEN_DURATION,
    GIVEN_RATE,
    MODELLED_DURATION,
    MODELLED_RATE,
    NOTHING,
    OFF,
    ON,
    ROUNDING,
    START,
    STOP,
)
from nlme.errors import DataError, ModelError, name_error
from nlme.language.anatomy import Anatomy
from nlme.language.parameter_rows import parameter_rows

BOLUS_HOW = -1
_JUST_AFTER = 1e-75  # time 0: powers of it and their third derivatives are numbers


class _Told(NamedTuple):
    """What samples hold: of every record, and behind these, counted from the end, of places that hold no observation."""

    time: np.ndarray
    dv: np.ndarray
    cens: np.ndarray
    limit: np.ndarray
    features: dict[str, np.ndarray]


@dataclasses.dataclass
class Event:
    time: float
    key: tuple[float, float]  # (time at which it happens if no parameter moves it, order among equals)
    kind: int = NOTHING
    record: int = 0
    row: int = -1
    now: int = -1
    amount: float = 0.0
    given: float = 0.0
    how: int = BOLUS_HOW
    compartment: int = 0
    dose_row: int = 0
    reset: int = 0
    epoch: int = 0
    slot: int = 0
    adds: int = 0
    queue: int = 0
    rest: int = 0
    ahead: float = 0.0
    origin: int = 0
    index: int = -1  # record behind this event, for samples
    beside: int = -1  # which of the places on both sides of resets this is, for samples
    source: int = -1  # record that a dose comes from


def records_of(
    subject: Subject, anatomy: Anatomy, endpoint_of: list[int], samples: str, model: str, between, lines
) -> dict[str, Any]:
    """Events, fills, samples and covariate rows of one subject."""
    n = len(subject.time)
    clock = subject.clock
    told = parameter_rows(subject, anatomy, clock, between, lines)
    rows, before, marks = told.own, told.before, told.marks
    events: list[Event] = []
    fills: list[tuple] = []
    epoch = 0
    switched = {-int(c) for c, evid in zip(subject.cmt, subject.evid, strict=True) if evid == 2 and c < 0}
    wanted = np.ones(n, bool) if samples == "records" else subject.is_observation
    if not wanted.any():
        raise DataError(f"Subject {subject.id} has no {samples}; drop it before the fit: population.filter(...).")
    last = clock[np.flatnonzero(wanted)[-1]]
    risks = [k for k, law in enumerate(anatomy.laws) if law.of_events]
    resets = np.isin(subject.evid, (3, 4)) | ((subject.evid == 1) & (subject.ss == 1))
    resets &= bool(risks) & (np.arange(n) > 0)  # those on both sides of which a risk is looked at
    sides: list[tuple[float, int]] = []  # time and parameter row of these places
    if samples == "observations" and anatomy.observed:
        begun = wanted & (clock == told.time[0])
        _require_time_at_risk(subject, begun, {k: anatomy.endpoints[m] for k, m in enumerate(endpoint_of) if m in risks})
    for j in range(n):
        t, evid = float(clock[j]), int(subject.evid[j])
        while marks and marks[0][0] <= t:
            at, row = marks.pop(0)
            events.append(Event(at, (at, -0.25), record=1, row=row, epoch=epoch))
        if resets[j]:
            at = float(subject.time[j - 1]) if subject.time[j] < subject.time[j - 1] else float(subject.time[j])
            events.append(Event(t, (t, j), record=1, row=int(before[j]), epoch=epoch, beside=len(sides)))
            sides += [(at, int(rows[j])), (float(subject.time[j]), int(rows[j]))]
        if evid in (3, 4):
            epoch += 1
            events.append(Event(t, (t, j), reset=1, epoch=epoch, dose_row=int(rows[j])))
        if evid in (1, 4):
            epoch = _dose(subject, j, t, rows[j], epoch, anatomy, model, events, fills, last)
        elif evid == 2 and switched:
            _switch(subject, j, t, epoch, anatomy, model, switched, events)
        own = dict(record=1, row=int(before[j]), now=int(rows[j]), epoch=epoch)
        events.append(Event(t, (t, j), index=j, beside=len(sides) - 1 if resets[j] else -1, **own))
    shift = clock - np.asarray(subject.time, dtype=float)
    breaks = [
        (k, row, begin, end, ahead)
        for row, begin, end, ahead in (told.stretches(shift) if anatomy.event_times else ())
        for k in range(anatomy.event_times)
    ]
    events += [Event(at[2], (at[2], -0.5), kind=BREAK, slot=slot) for slot, at in enumerate(breaks)]
    events.sort(key=lambda e: e.key)
    echoes = _with_echoes(events, len(anatomy.delays), float(told.time[0])) if anatomy.delays else []
    row, ahead = int(rows[-1]), float(shift[-1])
    for event in reversed(events):
        if event.record:
            row, ahead = event.row, float(shift[event.index]) if event.index >= 0 else ahead
        event.row, event.ahead, event.now = row, ahead, row if event.now < 0 else event.now
    groups: list[list[tuple[int, int]]] = [[] for _ in anatomy.endpoints]
    for position, event in enumerate(events):
        if event.index >= 0 and wanted[event.index]:
            endpoint = endpoint_of[int(subject.endpoint[event.index])] if samples == "observations" else 0
            groups[endpoint].append((position, event.index))
        elif event.beside >= 0:
            for endpoint in risks if samples == "observations" else [0]:
                groups[endpoint].append((position, event.beside - len(sides)))
    told_by = _Told(*(getattr(subject, name) for name in _Told._fields))
    if sides:
        # powers of time may have no derivative at 0
        times, own = np.array([at or _JUST_AFTER for at, _ in sides]), np.array([row for _, row in sides])
        blank = np.full(len(sides), np.nan)
        columns = (times, blank, np.zeros(len(sides), int), blank)
        told_by = _Told(*map(np.append, told_by[:-1], columns), subject.features)
        rows = np.append(rows, own)
    return {
        "events": events,
        "fills": fills,
        "breaks": breaks,
        "echoes": echoes,
        "groups": groups,
        "table": told.table,
        "anchor": told.anchor,
        "drift": told.drift,
        "subject": told_by,
        "rows": rows,
        "clock": clock,
        "start": float(told.time[0]),
    }


def _require_time_at_risk(subject: Subject, begun: np.ndarray, events: dict[int, str]) -> None:
    """Refuse an event among the records ``begun``, at which the subject's states begin; ``events``: endpoints of times of events.

    At TIME 0 the risk begins by the data's own clock, and nothing is lost.

    Raises
    ------
    DataError
        A cumulative hazard that is a state would be 0 at the event, as if the subject had not been at risk before.
    """
    for j in np.flatnonzero(begun & (subject.dv > 0) & (subject.time != 0)):
        name = events.get(int(subject.endpoint[j]))
        if name is not None:
            raise DataError(
                f"{_where(subject, j)}: its event in {name!r} is at TIME {subject.time[j]:g}, the time of the subject's first record, where "
                "the states begin: a cumulative hazard that is one of them would be 0 there, as if nobody had been at risk before. Give "
                "every subject a record at the time from which it is at risk (EVID = 2 at TIME 0)."
            )


def _with_echoes(events: list[Event], delays: int, start: float) -> list[tuple]:
    """Put the echoes of everything that jumps among the events, in order; what they are, slot by slot.

    A jump of a state or of its slope is followed by one of the slope after each delay, and of the second derivative after two.
    """
    stations = [e for e in events if e.record]
    for here, following in zip(stations, [*stations[1:], stations[-1]], strict=True):
        now = here.row if here.now < 0 else here.now
        here.origin = int(here.row != now or following.row != now)
    for event in events:
        event.origin |= int(event.kind in (BOLUS, START, STOP, OFF, ON, BREAK))
    counts = np.eye(delays, dtype=int)
    after = [(tuple(one), k) for k, one in enumerate(counts)]
    after += [(tuple(counts[k] + counts[m]), -1) for k in range(delays) for m in range(k + 1)]
    origins = [None, *(e for e in events if e.origin or e.reset)]
    slots = []
    for origin in origins:
        time, key, epoch = (start, (start, -np.inf), 0) if origin is None else (origin.time, origin.key, origin.epoch)
        for count, first in after:
            events.append(Event(time, key, kind=ECHO, epoch=epoch, slot=len(slots)))
            slots.append((origin, count, first))
    events.sort(key=lambda e: e.key)
    places = {id(event): k for k, event in enumerate(events)}
    return [(-1 if origin is None else places[id(origin)], count, first) for origin, count, first in slots]


def _where(subject: Subject, j: int) -> str:
    """Which record: its row in the file, or (one that the library made) its time."""
    place = (
        f"row {subject.rows[j]}"
        if subject.rows[j]
        else f"{'dose' if subject.evid[j] in (1, 4) else 'record'} at time {subject.time[j]:g}"
    )
    return f"Subject {subject.id}, {place}"


def compartment_of(subject: Subject, j: int, anatomy: Anatomy, model: str) -> int:
    """Position of the state that the dose of record ``j`` enters.

    Raises
    ------
    ModelError
        The model has no such state.
    """
    where = _where(subject, j)
    if not anatomy.states:
        raise ModelError(f"{where}: the data has a dose, but {model}.dynamics gives no structure for it to enter.")
    name = subject.cmt_name[j] if subject.cmt_name else None
    if name is not None:
        if name not in anatomy.states:
            raise ModelError(f"{where}: " + name_error("state", name, anatomy.states, anatomy.structure))
    else:
        number = int(subject.cmt[j])
        if not 0 <= number <= len(anatomy.states):
            listed = ", ".join(f"{k + 1} = {s}" for k, s in enumerate(anatomy.states))
            raise ModelError(f"{where}: dose into CMT {number}, but {anatomy.structure} has {listed}.")
        name = anatomy.states[max(number - 1, 0)]
    if name in anatomy.algebraic:
        others = ", ".join(s for s in anatomy.states if s not in anatomy.algebraic)
        raise ModelError(
            f"{where}: the dose would enter {name!r}, an algebraic state, which has an equation and no rate of change. Say which other "
            f"state it enters (CMT, into=): {others}."
        )
    return anatomy.states.index(name)


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
    if anatomy.states[abs(number) - 1] in anatomy.algebraic:
        raise ModelError(
            f"{where}: CMT {number} is {anatomy.states[abs(number) - 1]!r}, an algebraic state, which cannot be switched off."
        )
    if number < 0 and anatomy.diffusion:
        raise ModelError(
            f"{where}: CMT {number} switches {anatomy.states[-number - 1]!r} off, which the filter of stochastic equations does not follow."
        )
    if abs(number) in switched:
        events.append(Event(t, (t, j), kind=OFF if number < 0 else ON, epoch=epoch, compartment=abs(number) - 1))


def _dose(subject, j, t, row, epoch, anatomy, model, events, fills, last) -> int:
    """Append the events of dose record ``j``; the epoch, one later if the record resets the system."""
    compartment = compartment_of(subject, j, anatomy, model)
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
                f"{_where(subject, j)}: RATE = {rate:g} asks for a modelled {rule}, but {anatomy.structure} is given no {rule}=."
            )
    if steady and anatomy.delays:
        raise ModelError(
            f"{_where(subject, j)}: steady-state records (SS) cannot be combined with delays, which look back at how the steady state was "
            f"reached: give the doses that lead to it (ADDL, II)."
        )
    if steady == 2 and anatomy.diffusion:
        raise ModelError(
            f"{_where(subject, j)}: SS = 2 adds a steady state to what is there, and with diffusion the uncertainty of the two would be "
            "counted twice: give the doses that lead to the steady state (ADDL, II)."
        )
    if steady and amount == 0.0 and how != GIVEN_RATE:
        raise DataError(f"{_where(subject, j)}: AMT = 0 with SS is a constant infusion, which needs its RATE (> 0) in the data.")
    common = dict(amount=amount, given=given, how=how, compartment=compartment, dose_row=int(row), source=j)
    if steady:
        if steady == 1:
            epoch += 1
        constant = amount == 0.0
        common |= dict(slot=len(fills))
        fills.append((amount, given, how, compartment, 0.0 if constant else interval, int(row)))
        events.append(Event(t, (t, j), kind=FILL, reset=int(steady == 1), epoch=epoch, adds=int(steady == 2), **common))
        if constant:
            return epoch
    length = _length(amount, given, how)

    def infuse(at, order, left, **queued):
        events.append(Event(at, (at, order), kind=START, epoch=epoch, **queued, **common))
        events.append(Event(at, (at + left, order), kind=STOP, epoch=epoch, **queued, **common))

    if steady and how != BOLUS_HOW:
        running, laid_out = _under_way(length, how, interval, anatomy.rules, last - t)
        for n in range(1, laid_out + 1):
            left = max(length - (running - n + 1) * interval, 0.0)
            infuse(t, j, left, queue=n, rest=int(n == laid_out))
    for k in range(additional + 1):
        at = t + k * interval
        if k and at > last:
            break
        order = -1.0 if k else j
        if how == BOLUS_HOW:
            events.append(Event(at, (at, order), kind=BOLUS, epoch=epoch, **common))
        else:
            infuse(at, order, length)
    return epoch


def _length(amount: float, given: float, how: int) -> float:
    """Length of an infusion as far as the data give it (bioavailability 1)."""
    if how == GIVEN_RATE:
        return amount / given
    return given if how == GIVEN_DURATION else 0.0


def _under_way(length: float, how: int, interval: float, rules: tuple[str, ...], followed: float) -> tuple[int, int]:
    """How many infusions of a steady-state train are under way at its record as far as the data tell, and for how many there have to
    be events: as many as parameters may make of them, but of those that end later than what is ``followed`` only one.
    """
    running = math.floor(length / interval + ROUNDING)
    seen = math.ceil(max(followed, 0.0) / interval) + 1
    moves = how in (MODELLED_RATE, MODELLED_DURATION) or (how == GIVEN_RATE and "bioavailability" in rules)
    if moves:
        return running, seen
    return running, min(running + 1, seen) if running or "lag" in rules else 0
