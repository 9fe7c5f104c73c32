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
from jaxtyping import Array, Float, Int

from nlme.dynamics.events import (
    BOLUS,
    BREAK,
    GIVEN_DURATION,
    GIVEN_RATE,
    MODELLED_DURATION,
    MODELLED_RATE,
    START,
    STOP,
    Timeline,
)
from nlme.linalg import solve
from nlme.structure.base import Structure

StructureAt = Callable[[Float[Array, " m"], Int[Array, ""]], Structure]

_NEUTRAL = {"lag": 0.0, "bioavailability": 1.0, "duration": 1.0, "rate": 1.0}


class Doses(NamedTuple):
    """Events as they happen to this individual; one entry per event."""

    time: Float[Array, " e"]
    amount: Float[Array, " e"]
    rate: Float[Array, " e"]
    length: Float[Array, " e"]  # of an infusion, from its time here to its end
    left: Float[Array, " e"] | None  # not positive: ended before the record; None: no infusion of a steady-state train can have


def doses(structure_at: StructureAt, z, timeline: Timeline, events: Int[Array, " e"] | None = None) -> Doses:
    """The doses behind ``events`` (all by default)."""
    if events is None:
        events = np.arange(timeline.time.shape[0])
    rules = _rules(structure_at, z, timeline)
    kind, given, how = timeline.kind[events], timeline.given[events], timeline.how[events]
    row, compartment, amount = timeline.dose_row[events], timeline.compartment[events], timeline.amount[events]

    pick = _picking(rules, row, compartment)
    lag = jnp.where((kind == BOLUS) | (kind == START) | (kind == STOP), pick("lag"), 0.0)
    time = timeline.time[events]
    rate = length = jnp.zeros_like(amount)
    left = None
    if timeline.infusions:
        rate, length = _infusion(given, how, amount, *(pick(which) for which in ("bioavailability", "duration", "rate")))
    if timeline.infusions and timeline.steady:
        ahead = timeline.ahead[events]
        train = ahead > 0.0
        left = jnp.where(train, lag + length - ahead, 1.0)
        end = jnp.where(kind == STOP, length - ahead, 0.0)
        # an infusion of a train that has ended is dropped; its stop must not lie before the record
        time = time + jnp.where(left > 0.0, jnp.where(train & (kind == START), 0.0, lag) + end, 0.0)
        length = jnp.where(train, left, length)
    else:
        time = time + lag + (jnp.where(kind == STOP, length, 0.0) if timeline.infusions else 0.0)
    if timeline.breaks:
        table = _over_rows(
            lambda k: jnp.stack([jnp.asarray(t, dtype=jnp.float64) for t in structure_at(z, k).event_times]), timeline
        )
        own = table[row, jnp.minimum(compartment, timeline.breaks - 1)]
        # outside of the record nothing happens at an event time
        time = jnp.where(kind == BREAK, jnp.clip(own, timeline.start, jnp.max(timeline.time)), time)
    return Doses(time, amount * pick("bioavailability"), rate, length, left)


class Course(NamedTuple):
    """One interval of an endless train of doses: bolus at its start, ``always`` infusions all through, one more for ``extra``."""

    bolus: Float[Array, " s"]
    rate: Float[Array, " s"]
    always: Float[Array, ""]
    extra: Float[Array, ""]
    interval: Float[Array, ""]
    lag: Float[Array, ""]


def course(structure_at: StructureAt, z, timeline: Timeline, slot: Int[Array, ""], size: int) -> Course:
    """The train of doses behind a steady-state slot."""
    slots = timeline.fills
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
        rate=jnp.where(here & infused, jnp.where(constant, slots.given[slot], rate), 0.0),
        always=always,
        extra=length - always * interval,
        interval=interval,
        lag=pick("lag"),
    )


def linear_steady_state(structure_at: StructureAt, z, timeline: Timeline, slot: Int[Array, ""], size: int):
    """(states,) of a linear structure at the time of a steady-state record, by solving (1 - M) a = b.

    M is the map over one dosing interval, b its response to one dose.
    """
    structure = structure_at(z, timeline.fills.row[slot])
    train = course(structure_at, z, timeline, slot, size)

    def advance(state, rates, length):
        return jnp.stack(structure.advance(tuple(state), tuple(rates) if timeline.infusions else None, length))

    def cycle(state, scale):
        state = advance(state + scale * train.bolus, scale * train.rate * (train.always + 1.0), train.extra)
        return advance(state, scale * train.rate * train.always, train.interval - train.extra)

    response = cycle(jnp.zeros(size), 1.0)
    decay = jax.vmap(lambda e: cycle(e, 0.0), out_axes=1)(jnp.eye(size))
    trough = solve(jnp.eye(size) - decay, response)
    if structure.lag is None:
        return trough
    # at the record's time the system is `lag` before the next dose of the train
    remaining = train.interval - train.lag
    infused = jnp.minimum(remaining, train.extra)
    state = advance(trough + train.bolus, train.rate * (train.always + 1.0), infused)
    return advance(state, train.rate * train.always, remaining - infused)


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
