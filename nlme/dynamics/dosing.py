"""What the doses of a timeline amount to, given the individual: when they arrive, how much, how fast.

Lag, bioavailability and modelled rates or durations are applied here, as plain functions of the inputs ``z`` of the solution, so
that a jet of the inputs gives the jet of everything computed from them.

Bioavailability scales the amount of a bolus, the duration of an infusion given by its rate, and the rate of an infusion given
by its duration (NONMEM Users Guide Part VI).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.events import (
    BOLUS,
    BREAK,
    ECHO,
    GIVEN_DURATION,
    GIVEN_RATE,
    MODELLED_DURATION,
    MODELLED_RATE,
    ROUNDING,
    START,
    STOP,
    Timeline,
)
from nlme.linalg import solve
from nlme.structure.base import Structure

StructureAt = Callable[[Float[Array, " m"], Int[Array, ""]], Structure]

_NEUTRAL = {"lag": 0.0, "bioavailability": 1.0, "duration": 1.0, "rate": 1.0}
_NEWTON = 4  # steps
_SQUARINGS = 40


class Domain(NamedTuple):
    """The values that a dose rule may have."""

    holds: Callable
    words: str


DOMAINS = {
    "lag": Domain(lambda x: (x >= 0.0) & (x < jnp.inf), "a time of at least 0"),
    "bioavailability": Domain(lambda x: (x >= 0.0) & (x < jnp.inf), "a fraction of at least 0"),
    "duration": Domain(lambda x: (x > 0.0) & (x < jnp.inf), "a time above 0 (a dose given at once is one with RATE = 0)"),
    "rate": Domain(lambda x: (x > 0.0) & (x < jnp.inf), "an amount per time above 0"),
}


class Doses(NamedTuple):
    """Events as they happen to this individual; one entry per event."""

    time: Float[Array, " e"]
    amount: Float[Array, " e"]
    rate: Float[Array, " e"]  # 0: an infusion of a steady-state train that is over before the record
    length: Float[Array, " e"]  # of an infusion, from its time here to its end


def doses(structure_at: StructureAt, z, timeline: Timeline, events: Int[Array, " e"] | None = None) -> Doses:
    """The doses behind ``events`` (all by default)."""
    if events is None:
        events = np.arange(timeline.time.shape[0])
    rules = _rules(structure_at, z, timeline)
    kind, given, how = timeline.kind[events], timeline.given[events], timeline.how[events]
    row, compartment, amount = timeline.dose_row[events], timeline.compartment[events], timeline.amount[events]

    pick = _picking(rules, row, compartment)
    wait = lag = jnp.where((kind == BOLUS) | (kind == START) | (kind == STOP), pick("lag"), 0.0)
    rate = length = jnp.zeros_like(amount)
    if timeline.infusions:
        rate, length = _infusion(given, how, amount, *(pick(which) for which in ("bioavailability", "duration", "rate")))
    if timeline.infusions and timeline.steady:
        queue, rest = timeline.queue[events], timeline.rest[events]
        count, left = _queued(queue, rest, length, timeline.fills.interval[timeline.slot[events]], lag)
        begun = queue > 0
        rate, length = rate * count, jnp.where(begun, left, length)
        wait = jnp.where(begun, 0.0, lag)
    time = timeline.time[events] + wait
    if timeline.infusions:
        time = time + jnp.where(kind == STOP, length, 0.0)
    if timeline.event_times:
        time = jnp.where(kind == BREAK, _break_times(structure_at, z, timeline)[timeline.slot[events]], time)
    if timeline.delays:
        time = jnp.where(kind == ECHO, _echo_times(structure_at, z, timeline, time)[timeline.slot[events]], time)
    return Doses(time, amount * pick("bioavailability"), rate, length)


def _queued(queue, rest, length, interval, lag):
    """Of the infusions of a steady-state train under way at its record: how many an entry of the queue stands for, and how long
    the first of them still goes on.

    At the record the train is a time p = max(interval - lag, 0) past the beginning of an infusion, so that (length - p) / interval of
    them, rounded up, are under way.  That n intervals ago has lag + length - n interval left, also where the lag is longer than an
    interval (it then goes on for longer than an infusion takes: NONMEM's rule, and continuous in the lag).
    """
    begun = (length - _phase(interval, lag)) / interval
    # one that ends at the record counts for its derivative: the steady state, too, is looked at from longer infusions
    running = jax.lax.stop_gradient(jnp.where(lag > interval, jnp.ceil(begun), 1.0 + jnp.floor(begun + ROUNDING)))
    later = jnp.maximum(running, 0.0) - queue + 1.0  # that end no sooner than this one
    count = jnp.where(queue > 0, jnp.clip(later, 0.0, jnp.where(rest > 0, jnp.inf, 1.0)), 1.0)
    # entries that stand for none end in their order too: where no parameter moves an event, events are not sorted again
    left = lag + length - later * interval
    return count, left + jax.lax.stop_gradient(jnp.maximum(-left, 0.0))


def _phase(interval, lag):
    """How far past the last dose of a steady-state train its record is: steady state as without a lag, then on by interval - lag."""
    return jnp.where(lag < interval, interval - lag, 0.0)


def _break_times(structure_at: StructureAt, z, timeline: Timeline) -> Float[Array, " B"]:
    """When each event time of the structure is reached, on the clock of the events; outside of its interval nothing happens at it."""
    slots = timeline.breaks

    def times(row, *t):
        return jnp.stack([jnp.asarray(x, dtype=jnp.float64) for x in structure_at(z, row, *t).event_times])

    if timeline.drift:
        own = jax.vmap(lambda *slot: _meeting(times, *slot))(slots.row, slots.number, slots.begin, slots.ahead)
    else:
        own = _over_rows(times, timeline)[slots.row, slots.number] + slots.ahead
    return jnp.clip(own, slots.begin, slots.end)


def _echo_times(structure_at: StructureAt, z, timeline: Timeline, time: Float[Array, " E"]) -> Float[Array, " F"]:
    """When each echo arrives, at the last record if that is earlier; ``time`` of all events."""
    slots = timeline.echoes
    begin = jnp.where(slots.of < 0, timeline.start, time[slots.of])
    return jnp.minimum(begin + slots.counts @ _delays(structure_at(z, 0)), jnp.max(timeline.time))


def _delays(structure: Structure) -> Float[Array, " M"]:
    return jnp.stack([jnp.asarray(x, dtype=jnp.float64) for x in structure.delays.values()])


def delays_allowed(structure_at: StructureAt, z, timeline: Timeline) -> Bool[Array, ""]:
    """Whether every delay is above 0 and the same in all parameter rows of the subject."""
    table = _over_rows(lambda k: _delays(structure_at(z, k)), timeline)
    return jnp.all((table > 0.0) & (table < jnp.inf) & (table == table[0]))


def _meeting(times: Callable, row, number, begin, ahead):
    """The clock when an event time that changes with a covariate is reached, by Newton's method."""

    def late(t):
        return t - ahead - times(row, t)[number]

    t = begin
    for _ in range(_NEWTON):
        value, slope = jax.jvp(late, (t,), (jnp.ones_like(t),))
        t = t - value / jnp.where(slope == 0.0, 1.0, slope)
    return t


class Course(NamedTuple):
    """One interval of an endless train of doses: bolus at its start, ``always`` infusions all through, one more for ``extra``."""

    bolus: Float[Array, " s"]
    rate: Float[Array, " s"]
    always: Float[Array, ""]
    extra: Float[Array, ""]
    interval: Float[Array, ""]
    phase: Float[Array, ""]  # of the record


def course(structure_at: StructureAt, z, timeline: Timeline, slot: Int[Array, ""], size: int) -> Course:
    """The train of doses behind a steady-state slot."""
    slots = jax.tree.map(jnp.asarray, timeline.fills)  # the slot's number may be traced, the timeline known
    rules = _rules(structure_at, z, timeline)
    pick = _picking(rules, slots.row[slot], slots.compartment[slot])
    bioavailability = pick("bioavailability")
    rate, length = _infusion(
        slots.given[slot], slots.how[slot], slots.amount[slot], bioavailability, pick("duration"), pick("rate")
    )
    infused = slots.how[slot] >= 0
    here = jnp.arange(size) == slots.compartment[slot]
    interval = slots.interval[slot]
    constant = interval <= 0.0  # a constant infusion: its steady state does not depend on the interval used
    interval = jnp.where(constant, 1.0, interval)
    length = jnp.where(infused, jnp.where(constant, 1.0, length), 0.0)
    always = jnp.floor(jax.lax.stop_gradient(length / interval))
    return Course(
        bolus=jnp.where(here & ~infused, slots.amount[slot] * bioavailability, 0.0),
        rate=jnp.where(here & infused, rate, 0.0),
        always=always,
        extra=length - always * interval,
        interval=interval,
        phase=_phase(interval, jnp.where(constant, 0.0, pick("lag"))),  # one that has no beginning knows no lag
    )


class LinearTrain:
    """A linear structure under the train of doses behind a steady-state slot: over one interval a -> M a + b."""

    def __init__(self, structure_at: StructureAt, z, timeline: Timeline, slot: Int[Array, ""], size: int):
        self.structure = structure_at(z, jnp.asarray(timeline.fills.row)[slot])
        self.train, self._infused = course(structure_at, z, timeline, slot, size), timeline.infusions
        self.decay = jax.vmap(lambda e: self._cycle(e, 0.0), out_axes=1)(jnp.eye(size))  # M
        self.response = self._cycle(jnp.zeros(size), 1.0)  # b

    def advance(self, state, rates, length):
        return jnp.stack(self.structure.advance(tuple(state), tuple(rates) if self._infused else None, length))

    def _cycle(self, state, scale):
        train = self.train
        state = self.advance(state + scale * train.bolus, scale * train.rate * (train.always + 1.0), train.extra)
        return self.advance(state, scale * train.rate * train.always, train.interval - train.extra)

    @property
    def settles(self) -> Bool[Array, ""]:
        """Whether doses without end lead somewhere: M^n b, which the n-th dose adds, goes to 0; n = 2^40 is looked at."""
        power = jax.lax.fori_loop(0, _SQUARINGS, lambda _, m: m @ m, self.decay)
        return jnp.sum(jnp.abs(power @ self.response)) <= 0.5 * jnp.sum(jnp.abs(self.response))


def all_settle(structure_at: StructureAt, z, timeline: Timeline, size: int) -> Bool[Array, ""]:
    """Whether every train of doses brings a linear structure to a steady state."""
    slots = jnp.arange(timeline.fills.amount.shape[0])
    return jnp.all(jax.vmap(lambda f: LinearTrain(structure_at, z, timeline, f, size).settles)(slots))


def linear_steady_state(structure_at: StructureAt, z, timeline: Timeline, slot: Int[Array, ""], size: int):
    """(states,) of a linear structure at the time of a steady-state record, by solving (1 - M) a = b."""
    under = LinearTrain(structure_at, z, timeline, slot, size)
    train, advance = under.train, under.advance
    trough = solve(jnp.eye(size) - under.decay, under.response)
    if under.structure.lag is None:
        return trough
    infused = jnp.where(train.phase <= train.extra, train.phase, train.extra)
    state = advance(trough + train.bolus, train.rate * (train.always + 1.0), infused)
    return advance(state, train.rate * train.always, train.phase - infused)


def restarted(structure_at: StructureAt, z, timeline: Timeline) -> tuple[Float[Array, " E"], ...]:
    """Every state where each event would be a reset: its initial value in the parameter row of the event's own record."""
    table = _over_rows(lambda k: jnp.stack(structure_at(z, k).start()), timeline)
    return tuple(table[timeline.dose_row].T)


class Used(NamedTuple):
    """The values of a rule at the events of ``timeline.doses``, and which of these use it."""

    value: Float[Array, " D"]
    used: Bool[Array, " D"]


def used_rules(structure_at: StructureAt, z, timeline: Timeline) -> dict[str, Used]:
    """What the doses of a timeline take from the rules of the structure."""
    rules, events = _rules(structure_at, z, timeline), timeline.doses
    kind, how = timeline.kind[events], timeline.how[events]
    enters = (kind == BOLUS) | (kind == START)
    needs = {
        "lag": enters,
        "bioavailability": enters,
        "duration": how == MODELLED_DURATION,
        "rate": how == MODELLED_RATE,
    }
    pick = _picking(rules, timeline.dose_row[events], timeline.compartment[events])
    return {which: Used(pick(which), needs[which]) for which in rules}


def rules_allowed(structure_at: StructureAt, z, timeline: Timeline) -> Bool[Array, ""] | None:
    """Whether every dose gets values that a dose can have, and no event time is NaN; None where there is nothing to ask."""
    allowed = [jnp.all(~at.used | DOMAINS[which].holds(at.value)) for which, at in used_rules(structure_at, z, timeline).items()]
    if timeline.event_times:
        allowed.append(~jnp.any(jnp.isnan(_break_times(structure_at, z, timeline))))
    return jnp.all(jnp.stack(allowed)) if allowed else None


def changes_infusions(structure: Structure) -> bool:
    """Whether the individual's parameters move the ends of infusions."""
    return any(getattr(structure, rule) is not None for rule in ("bioavailability", "duration", "rate"))


def _infusion(given, how, amount, bioavailability, duration, rate):
    """(rate, duration) of an infusion of ``amount``, by whichever of the two the record or the model gives."""
    scaled = amount * bioavailability
    length = jnp.where(how == GIVEN_DURATION, given, jnp.where(how == MODELLED_DURATION, duration, 1.0))
    speed = jnp.where(how == GIVEN_RATE, given, jnp.where(how == MODELLED_RATE, rate, 1.0))
    by_rate = (how == GIVEN_RATE) | (how == MODELLED_RATE)
    return jnp.where(by_rate, speed, scaled / length), jnp.where(by_rate, scaled / speed, length)


def _rules(structure_at, z, timeline: Timeline) -> dict[str, Float[Array, "rows s"]]:
    """Dose rules of every parameter row, those that the structure has, with their neutral values for states without."""

    def of_row(k):
        structure = structure_at(z, k)
        return {
            which: structure.rule_vector(which, default)
            for which, default in _NEUTRAL.items()
            if getattr(structure, which) is not None
        }

    return _over_rows(of_row, timeline)


def _picking(rules: dict, row, compartment) -> Callable:
    """The value of a rule, by its name, at these places."""
    return lambda which: rules[which][row, compartment] if which in rules else jnp.asarray(_NEUTRAL[which])


def _over_rows(function, timeline: Timeline):
    """``function(row)`` of every parameter row, with a leading axis over rows."""
    if timeline.rows == 1:
        return jax.tree.map(lambda x: x[None], function(0))
    return jax.vmap(function)(jnp.arange(timeline.rows))
