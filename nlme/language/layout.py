"""Does this model fit these data, and if so: the data as padded arrays, one leading axis over subjects.

``lay_out`` checks names and compartments, expands additional doses and steady-state records into events, orders them as NONMEM
does (record order decides at equal times; an additional dose comes before a record at its time), and gathers the samples
endpoint by endpoint.  Nothing here depends on a parameter.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from nlme.data.population import Population, Subject
from nlme.errors import DataError, ModelError, name_error
from nlme.language.model import Model
from nlme.language.anatomy import Anatomy, anatomy_of
from nlme.language.observed import check_observed
from nlme.language.ragged import Part, Ragged, padded_members, size_classes
from nlme.structure.events import (
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
    Fills,
    Timeline,
)

_BOLUS_HOW = -1
_FIELDS = ("time", "kind", "record", "amount", "given", "how", "compartment", "reset", "epoch", "fill", "adds", "ahead")
_FILL_FIELDS = ("amount", "given", "how", "compartment", "interval", "row")


class SubjectData(eqx.Module):
    """Arrays of one subject (or, with a leading axis, of all): its timeline, its covariates and its observations.

    Samples are grouped by endpoint: endpoint e owns ``spans[e][0] : spans[e][1]`` of the T samples.  Where ``mask`` is False a
    sample is padding: a copy of another sample whose observation does not count.
    """

    timeline: Timeline
    covariates: dict[str, Float[Array, " K"]]
    observed: Float[Array, " T"]
    cens: Float[Array, " T"]  # 0; 1: below ``observed``; -1: above it
    limit: Float[Array, " T"]  # the other end of a censored interval; NaN: none
    mask: Bool[Array, " T"]
    number: Int[Array, ""]  # position of the subject in the population
    spans: tuple[tuple[int, int], ...] = eqx.field(static=True)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A model and a population that fit together.

    ``arrays`` holds the subjects by size class (see ``nlme.language.ragged``).  In the widest arrangement of samples, where
    endpoint e owns ``spans[e]``, ``positions[i, t]`` is the record of subject i behind sample t (-1: none).
    """

    anatomy: Anatomy
    population: Population
    arrays: Ragged
    spans: tuple[tuple[int, int], ...]
    positions: np.ndarray

    @property
    def n_subjects(self) -> int:
        return len(self.population)

    @property
    def n_observations(self) -> int:
        return int((self.positions >= 0).sum())

    @property
    def observed(self) -> np.ndarray:
        """(N, T) observations, NaN where a subject has none."""
        found = np.full(self.positions.shape, np.nan)
        for i, subject in enumerate(self.population):
            real = self.positions[i] >= 0
            found[i, real] = subject.dv[self.positions[i, real]]
        return found

    def subject(self, i: int) -> tuple[SubjectData, np.ndarray]:
        """The arrays of one subject, and the record behind each of its own samples (-1: padding)."""
        for part in self.arrays.parts:
            where = np.flatnonzero(np.asarray(part.members) == i)
            if len(where):
                data = jax.tree.map(lambda x: x[where[0]], part.data)  # noqa: B023 (used at once)
                return data, self.positions[i, np.asarray(part.places)]
        raise IndexError(i)


@dataclasses.dataclass
class _Event:
    time: float
    key: tuple[float, float]  # (time at which it happens if no parameter moves it, order among equals)
    kind: int = NOTHING
    record: int = 0
    row: int = -1
    amount: float = 0.0
    given: float = 0.0
    how: int = _BOLUS_HOW
    compartment: int = 0
    dose_row: int = 0
    reset: int = 0
    epoch: int = 0
    fill: int = 0
    adds: int = 0
    ahead: float = 0.0
    index: int = -1  # record behind this event, for samples


def lay_out(model: Model, population: Population, samples: str = "observations", mesh: Mesh | None = None) -> Layout:
    """The padded arrays of ``population`` for ``model``.

    ``samples``: "observations" for the likelihood, "records" to sample every record (doses too).  ``mesh``: devices over which
    the subjects are spread.

    Raises
    ------
    ModelError
        A covariate or endpoint of the model is not in the data, a dose goes to a compartment that the structure does not have,
        a modelled rate or duration is asked for by the data and not given by the model.
    DataError
        An observation cannot come from its endpoint's distribution (``nlme.language.observed``).
    """
    if not isinstance(population, Population):
        raise ModelError(
            f"The data must be a Population, as nlme.read_nonmem(path or DataFrame, ...) returns; got {type(population).__name__}"
            + (f" {population!r}." if isinstance(population, str) else ".")
        )
    anatomy = anatomy_of(model)
    _check_covariates(model, anatomy, population)
    endpoint_of = _match_endpoints(model, anatomy, population)
    if samples == "observations":
        check_observed(population, anatomy, endpoint_of, type(model).__name__)
    between = {name: population.covariates[name].interpolation for name in anatomy.covariates}
    lines = [name for name, how in between.items() if how == "linear" and not population.covariates[name].constant]
    if lines and anatomy.states and anatomy.linear:
        raise ModelError(
            f"Covariate {lines[0]!r} is interpolated linearly, but {anatomy.structure} holds its parameters constant between "
            f"records. Write the model with nlme.ODE, or read the data with interpolation={{{lines[0]!r}: 'nocb'}}."
        )
    subjects = [_subject(s, anatomy, endpoint_of, samples, type(model).__name__, between, lines) for s in population]
    groups = len(anatomy.endpoints)
    lengths = [max(len(s["groups"][e]) for s in subjects) for e in range(groups)]
    edges = np.r_[0, np.cumsum(lengths)]
    spans = tuple((int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))
    positions = np.full((len(subjects), int(edges[-1])), -1)
    sizes = np.array([len(s["events"]) + sum(map(len, s["groups"])) for s in subjects])
    parts, order = [], []
    for members in size_classes(sizes):
        data, own = _stack(anatomy, [subjects[i] for i in members])
        places = np.concatenate([np.arange(a, a + d - c) for (a, _), (c, d) in zip(spans, data.spans, strict=True)]).astype(int)
        positions[np.ix_(members, places)] = own
        filled, chunks = padded_members(members, int(sizes[members].max()), 1 if mesh is None else mesh.size)
        take = np.searchsorted(members, filled)
        data = jax.tree.map(lambda x: jnp.asarray(x[take]), data)  # noqa: B023 (used at once)
        data = dataclasses.replace(data, number=jnp.asarray(filled))
        parts.append(Part(data, jnp.asarray(filled), jnp.asarray(places), chunks))
        order.append(filled)
    back = np.zeros(len(subjects), int)
    for k, i in enumerate(np.concatenate(order)):
        back[i] = k
    return Layout(anatomy, population, Ragged(tuple(parts), jnp.asarray(back), positions.shape[1], mesh), spans, positions)


def _check_covariates(model: Model, anatomy: Anatomy, population: Population) -> None:
    for name in anatomy.covariates:
        if name not in population.covariates:
            raise ModelError(
                f"{type(model).__name__} needs covariate {name!r}. "
                + name_error("covariate", name, population.covariates, "The population")
                + f" Read the data with covariates=[{name!r}, ...]."
            )


def _match_endpoints(model: Model, anatomy: Anatomy, population: Population) -> list[int]:
    """Position among the model's endpoints of each of the population's."""
    if len(population.endpoints) == 1 and len(anatomy.endpoints) == 1:
        return [0]  # one of each: the names need not agree
    for name in population.endpoints:
        if name not in anatomy.endpoints:
            raise ModelError(
                f"The data's endpoint {name!r} is not one that the model observes. "
                + name_error("endpoint", name, anatomy.endpoints, type(model).__name__)
                + " Name the data's endpoints with read_nonmem(..., dvid={1: ...})."
            )
    return [anatomy.endpoints.index(name) for name in population.endpoints]


def _subject(subject: Subject, anatomy: Anatomy, endpoint_of: list[int], samples: str, model: str, between, lines) -> dict[str, Any]:
    """Events, fills, samples and covariate rows of one subject."""
    n = len(subject.time)
    clock = _clock(subject)
    rows, before, table, anchor, drift = _parameter_rows(subject, clock, between, lines)
    events: list[_Event] = []
    fills: list[tuple] = []
    epoch = 0
    switched = {-int(c) for c, evid in zip(subject.cmt, subject.evid, strict=True) if evid == 2 and c < 0}
    wanted = np.ones(n, bool) if samples == "records" else subject.is_observation
    if not wanted.any():
        raise DataError(f"Subject {subject.id} has no {samples}; drop it before the fit: population.filter(...).")
    last = clock[np.flatnonzero(wanted)[-1]]
    for j in range(n):
        t, evid = float(clock[j]), int(subject.evid[j])
        if evid in (3, 4):
            epoch += 1
            events.append(_Event(t, (t, j), reset=1, epoch=epoch))
        if evid in (1, 4):
            epoch = _dose(subject, j, t, rows[j], epoch, anatomy, model, events, fills, last)
        elif evid == 2 and switched:
            _switch(subject, j, t, epoch, anatomy, model, switched, events)
        events.append(_Event(t, (t, j), record=1, row=int(before[j]), epoch=epoch, index=j))
    begin = float(clock[0])
    events += [_Event(begin, (begin, -0.5), kind=BREAK, compartment=k) for k in range(anatomy.event_times)]
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
        "start": float(clock[0]),
    }


def _clock(subject: Subject) -> np.ndarray:
    """Times that never run backwards: after a reset that restarts the clock, time goes on from where it was."""
    time = np.asarray(subject.time, dtype=float)
    back = np.minimum(np.diff(time, prepend=time[0]), 0.0)
    return time - np.cumsum(back)


def _parameter_rows(subject: Subject, clock: np.ndarray, between: dict[str, str], lines: list[str]):
    """Parameter rows: of every record, and of the interval that ends at it; covariates by row, and how they drift.

    A row is what stays the same, so neighbours that agree share one.  Over an interval a covariate has the value of the record
    that ends it ("nocb"), of the one that begins it ("locf"), or goes from the one to the other ("linear").
    """
    n, names = len(subject.time), list(between)
    if not names:
        return np.zeros(n, int), np.zeros(n, int), {}, np.zeros(1), {}
    values = np.stack([np.asarray(subject.covariates[name], dtype=float) for name in names], axis=1)
    earlier = np.r_[values[:1], values[:-1]]
    starts = np.r_[clock[:1], clock[:-1]]
    later = np.array([between[name] == "nocb" for name in names])
    length = (clock - starts)[:, None]
    straight = np.array([name in lines for name in names])
    slope = np.where(straight & (length > 0), (values - earlier) / np.where(length > 0, length, 1.0), 0.0)
    # interval and record in turn; a row with a drift is anchored at the interval's beginning
    rows = np.stack([np.where(later, values, earlier), values], axis=1).reshape(2 * n, -1)
    slopes = np.stack([slope, np.zeros_like(slope)], axis=1).reshape(2 * n, -1)
    drifting = np.any(slopes != 0.0, axis=1)
    anchors = np.where(drifting, np.stack([starts, clock], axis=1).ravel(), 0.0)
    whole = np.concatenate([rows, slopes, anchors[:, None]], axis=1)
    changed = np.r_[False, np.any(whole[1:] != whole[:-1], axis=1)]
    first, number = np.r_[0, np.flatnonzero(changed)], np.cumsum(changed)
    table = {name: rows[first, k] for k, name in enumerate(names)}
    drift = {name: slopes[first, names.index(name)] for name in lines}
    return number[1::2], number[0::2], table, anchors[first], drift


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
        events.append(_Event(t, (t, j), kind=OFF if number < 0 else ON, epoch=epoch, compartment=abs(number) - 1))


def _dose(subject, j, t, row, epoch, anatomy, model, events, fills, last) -> int:
    """Append the events of dose record ``j``; the epoch, one later if the record resets the system."""
    compartment = _compartment(subject, j, anatomy, model)
    amount, interval = float(subject.amt[j]), float(subject.ii[j])
    steady, additional = int(subject.ss[j]), int(subject.addl[j])
    given, how = 0.0, _BOLUS_HOW
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
    common = dict(amount=amount, given=given, how=how, compartment=compartment, dose_row=int(row))
    if steady:
        if steady == 1:
            epoch += 1
        constant = amount == 0.0
        slot = len(fills)
        fills.append((amount, given, how, compartment, 0.0 if constant else interval, int(row)))
        events.append(_Event(t, (t, j), kind=FILL, reset=int(steady == 1), epoch=epoch, fill=slot, adds=int(steady == 2)))
        if constant:
            return epoch
    length = _length(amount, given, how)

    def infuse(at, order, ahead=0.0):
        events.append(_Event(at, (at, order), kind=START, epoch=epoch, ahead=ahead, **common))
        events.append(_Event(at, (at + length - ahead, order), kind=STOP, epoch=epoch, ahead=ahead, **common))

    if steady and how != _BOLUS_HOW:
        for n in range(1, _still_running(length, how, interval, anatomy) + 1):
            infuse(t, j, ahead=n * interval)
    for k in range(additional + 1):
        at = t + k * interval
        if k and at > last:
            break
        order = -1.0 if k else j
        if how == _BOLUS_HOW:
            events.append(_Event(at, (at, order), kind=BOLUS, epoch=epoch, **common))
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


def _stack(anatomy: Anatomy, subjects: list[dict[str, Any]]) -> tuple[SubjectData, np.ndarray]:
    """Pad every subject's arrays to the largest and stack them; and the record behind every sample."""
    n = len(subjects)
    n_events = max(len(s["events"]) for s in subjects)
    incoming = [[k for k, e in enumerate(s["events"]) if e.kind in (BOLUS, START, FILL)] for s in subjects]
    doses = np.zeros((n, max(1, max(map(len, incoming)))), int)
    n_fills = max(1, max(len(s["fills"]) for s in subjects))
    rows = max(len(s["anchor"]) for s in subjects)
    lengths = [max(len(s["groups"][e]) for s in subjects) for e in range(len(anatomy.endpoints))]
    edges = np.r_[0, np.cumsum(lengths)]
    spans = tuple((int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))
    total = int(edges[-1])

    event = {name: np.zeros((n, n_events), float if name in ("time", "amount", "given", "ahead") else int) for name in _FIELDS}
    event["how"][:] = _BOLUS_HOW
    event["row"], event["dose_row"] = np.zeros((2, n, n_events), int)
    fill = {
        "amount": np.zeros((n, n_fills)),
        "given": np.zeros((n, n_fills)),
        "how": np.full((n, n_fills), _BOLUS_HOW),
        "compartment": np.zeros((n, n_fills), int),
        "interval": np.ones((n, n_fills)),
        "row": np.zeros((n, n_fills), int),
    }
    sample, sample_row = np.zeros((2, n, total), int)
    sample_time = np.zeros((n, total))
    observed, cens, limit = np.ones((n, total)), np.zeros((n, total)), np.full((n, total), np.nan)
    # what padding holds must be a value that the endpoint can take
    possible = np.ones(len(anatomy.endpoints))
    for s in subjects:
        for e, group in enumerate(s["groups"]):
            values = s["subject"].dv[[record for _, record in group]]
            possible[e] = next(iter(values[np.isfinite(values)]), possible[e])
    positions = np.full((n, total), -1)
    covariates = {name: np.zeros((n, rows)) for name in anatomy.covariates}
    drift = {name: np.zeros((n, rows)) for name in subjects[0]["drift"]}
    anchor, start = np.zeros((n, rows)), np.zeros(n)
    for i, s in enumerate(subjects):
        events, subject = s["events"], s["subject"]
        used = len(events)
        for name in (*_FIELDS, "row", "dose_row"):
            event[name][i, :used] = [getattr(e, name) for e in events]
        # padding: nothing happens, at the last time, in the last epoch
        event["time"][i, used:] = max(e.key[0] for e in events)
        event["epoch"][i, used:] = events[-1].epoch
        event["row"][i, used:] = event["row"][i, used - 1]
        event["record"][i, used:] = 1
        silent = next(k for k, e in enumerate(events) if e.kind == NOTHING)
        doses[i] = incoming[i] + [silent] * (doses.shape[1] - len(incoming[i]))
        for k, values in enumerate(s["fills"]):
            for name, value in zip(_FILL_FIELDS, values, strict=True):
                fill[name][i, k] = value
        start[i] = s["start"]
        spare = next(g[-1] for g in s["groups"] if g)
        for e, (group, (a, b)) in enumerate(zip(s["groups"], spans, strict=True)):
            observed[i, a:b] = possible[e]
            filled = group + [group[-1] if group else spare] * (b - a - len(group))
            for t, (position, record) in zip(range(a, b), filled, strict=True):
                sample[i, t], sample_row[i, t] = position, s["rows"][record]
                sample_time[i, t] = subject.time[record]
                real = t - a < len(group)
                positions[i, t] = record if real else -1
                if real and np.isfinite(subject.dv[record]):
                    observed[i, t], cens[i, t], limit[i, t] = subject.dv[record], subject.cens[record], subject.limit[record]
        filled = [*((covariates[name], v) for name, v in s["table"].items()), *((drift[name], v) for name, v in s["drift"].items())]
        for target, values in [*filled, (anchor, s["anchor"])]:
            target[i] = np.r_[values, np.full(rows - len(values), values[-1])]

    timeline = Timeline(
        start=start,
        **event,
        doses=doses,
        sample=sample,
        sample_clock=np.take_along_axis(event["time"], sample, axis=1),
        sample_epoch=np.take_along_axis(event["epoch"], sample, axis=1),
        sample_row=sample_row,
        sample_time=sample_time,
        fills=Fills(**fill),
        anchor=anchor,
        drift=drift,
        dosed=tuple(int(k) for k in np.unique(event["compartment"][np.isin(event["kind"], (BOLUS, START, STOP, FILL))])),
        infusions=bool((event["how"] != _BOLUS_HOW).any() or (fill["how"] != _BOLUS_HOW).any()),
        resets=bool(event["reset"].any()),
        steady=any(s["fills"] for s in subjects),
        switches=bool((event["kind"] == OFF).any()),
        breaks=anatomy.event_times,
        rows=rows,
    )
    arrays = SubjectData(timeline, covariates, observed, cens, limit, positions >= 0, np.zeros(n, int), spans)
    return arrays, positions
