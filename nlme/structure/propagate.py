"""The states of one subject at its samples, as jets: one scan over the events of its timeline.

The inputs of the solution (individual parameters of every parameter row, and population parameters that the dynamics use
directly) come as one packed vector, and so does everything computed from them: event times (a lag moves its dose), infusion
rates, initial states.  Between events the structure moves the states, by its closed form or by the solver; at an event,
amounts are added, rates switched, compartments emptied.  Every derivative of the result is that of this one computation.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.structure.base import LinearStructure, Structure
from nlme.structure.events import (
    BOLUS,
    FILL,
    GIVEN_DURATION,
    GIVEN_RATE,
    MODELLED_DURATION,
    MODELLED_RATE,
    START,
    STOP,
    Timeline,
)
from nlme.structure.jets import Columns
from nlme.structure.solvers import NO_STEADY_STATE, SOLVED, Tolerances, integrate

StructureAt = Callable[[Float[Array, " m"], Int[Array, ""]], Structure]

_CYCLES = 2000  # doses given to a non-linear system before its steady state is declared absent


def propagate(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    tolerances: Tolerances,
) -> tuple[Float[Array, "T s C"], Int[Array, ""]]:
    """Jets of the states at the samples of one subject.

    Parameters
    ----------
    structure_at : the structure for a vector of inputs and a parameter row
    packed : jets of the inputs
    columns : which derivatives are carried

    Returns
    -------
    (T, states, C) packed states, and how the solve ended (see ``solvers.SENTENCES``)
    """
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    moving = bool(probe.lag is not None or (timeline.infusions and _changes_infusions(probe)))
    mover = _Mover(structure_at, packed, columns, tolerances, size, isinstance(probe, LinearStructure))

    time, amount, rate, running = _doses(structure_at, packed, columns, timeline)
    order = jnp.arange(timeline.time.shape[0])
    row = timeline.row
    if moving:
        order = jnp.argsort(jax.lax.stop_gradient(time[:, 0]), stable=True)
        time, amount, rate = time[order], amount[order], rate[order]
        row = _rows_after_sorting(timeline, order) if timeline.rows > 1 else row[order]
    fills, status = (None, SOLVED)
    if timeline.steady:
        fills, status = _fills(structure_at, mover, columns, packed, timeline)

    def event(carry, e):
        state, rates, before, step, epoch, status = carry
        k = order[e]
        state, step, ended = mover(state, rates, before, time[e], row[e], step)
        here = (jnp.arange(size) == timeline.compartment[k])[:, None]
        if timeline.resets:
            emptied = timeline.reset[k] == 1
            state, rates = jnp.where(emptied, 0.0, state), jnp.where(emptied, 0.0, rates)
            epoch = epoch + timeline.reset[k]
        valid = (timeline.epoch[k] == epoch) & (running[k] if timeline.steady else True)
        kind = jnp.where(valid, timeline.kind[k], 0)
        if timeline.steady:
            filled = fills[timeline.fill[k]]
            state = jnp.where(kind == FILL, filled + jnp.where(timeline.adds[k] == 1, state, 0.0), state)
        state = state + jnp.where(here & (kind == BOLUS), amount[e], 0.0)
        if timeline.infusions:
            change = jnp.where(kind == START, 1.0, jnp.where(kind == STOP, -1.0, 0.0))
            rates = rates + jnp.where(here, change * rate[e], 0.0)
        status = jnp.maximum(status, ended)
        return (state, rates, time[e], step, epoch, status), state

    start = columns.apply(lambda z: jnp.stack(structure_at(z, 0).start()), packed)
    carry = (
        start,
        jnp.zeros((size, columns.count)),
        columns.constant(timeline.start),
        jnp.asarray(0.01),
        jnp.zeros((), int),
        jnp.asarray(status),
    )
    carry, states = jax.lax.scan(event, carry, jnp.arange(timeline.time.shape[0]))
    where = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0])) if moving else order
    return states[where[timeline.sample]], carry[-1]


def _changes_infusions(structure: Structure) -> bool:
    return any(getattr(structure, rule) is not None for rule in ("bioavailability", "duration", "rate"))


def _infusion(given, how, amount, bioavailability, duration, rate):
    """(rate, duration) of an infusion of ``amount``, by whichever of the two the record or the model gives."""
    scaled = amount * bioavailability
    length = jnp.where(how == GIVEN_DURATION, given, jnp.where(how == MODELLED_DURATION, duration, 1.0))
    speed = jnp.where(how == GIVEN_RATE, given, jnp.where(how == MODELLED_RATE, rate, 1.0))
    by_rate = (how == GIVEN_RATE) | (how == MODELLED_RATE)
    return jnp.where(by_rate, speed, scaled / length), jnp.where(by_rate, scaled / speed, length)


def _doses(structure_at, packed, columns, timeline):
    """Jets of (time, amount, rate) of every event, with lag, bioavailability and modelled infusions applied.

    The last result says which events happen at all: an infusion of a steady-state train that began ``ahead`` of the record's
    own dose is still running at the record's time only if it is long enough.
    """
    events = timeline.time.shape[0]

    def compute(z):
        rules = _rules(structure_at, z, timeline.rows)

        def pick(which):
            return rules[which][timeline.dose_row, timeline.compartment]

        dose = (timeline.kind == BOLUS) | (timeline.kind == START) | (timeline.kind == STOP)
        train = timeline.ahead > 0.0
        lag = jnp.where(dose, pick("lag"), 0.0)
        time = timeline.time + jnp.where(train & (timeline.kind == START), 0.0, lag)
        amount = timeline.amount * pick("bioavailability")
        rate = jnp.zeros(events)
        length = jnp.zeros(events)
        if timeline.infusions:
            rate, length = _infusion(
                timeline.given, timeline.how, timeline.amount, pick("bioavailability"), pick("duration"), pick("rate")
            )
            time = time + jnp.where(timeline.kind == STOP, length - timeline.ahead, 0.0)
        left = jnp.where(train, lag + length - timeline.ahead, 1.0)
        # an infusion of a train that has ended is dropped; its stop must not lie before the record
        time = jnp.where(left > 0.0, time, timeline.time)
        return jnp.concatenate([time, amount, rate, left])

    flat = columns.apply(compute, packed)
    time, amount, rate, left = (flat[k * events : (k + 1) * events] for k in range(4))
    return time, amount, rate, left[:, 0] > 0.0


def _rules(structure_at, z, rows: int) -> dict[str, Float[Array, "rows s"]]:
    """Dose rules of every parameter row, with their neutral values where the structure has none."""
    neutral = {"lag": 0.0, "bioavailability": 1.0, "duration": 1.0, "rate": 1.0}

    def of_row(k):
        structure = structure_at(z, k)
        return {which: structure.rule_vector(which, default) for which, default in neutral.items()}

    if rows == 1:
        return jax.tree.map(lambda x: x[None], of_row(0))
    return jax.vmap(of_row)(jnp.arange(rows))


def _rows_after_sorting(timeline: Timeline, order):
    """Parameter row of the interval ending at each event: that of the next record in the new order."""
    events = order.shape[0]
    position = jnp.where(timeline.record[order] == 1, jnp.arange(events), events - 1)
    following = jnp.flip(jax.lax.cummin(jnp.flip(position)))
    return timeline.row[order][following]


class _Mover:
    """Moves packed states over an interval between events; lengths of zero leave them as they are."""

    def __init__(self, structure_at, packed, columns, tolerances, size, linear):
        self.structure_at, self.packed, self.columns, self.tolerances = structure_at, packed, columns, tolerances
        self.size, self.linear = size, linear

    def __call__(self, state, rates, begin, end, row, step):
        """States at ``end`` from states at ``begin`` (packed times), the step to try next, and how the solve ended."""
        size, columns = self.size, self.columns

        def split(x):
            return x[:size], x[size : 2 * size], x[2 * size], x[2 * size + 1], x[2 * size + 2 :]

        if self.linear:

            def advance(x):
                amounts, inputs, t0, t1, z = split(x)
                return jnp.stack(self.structure_at(z, row).advance(tuple(amounts), tuple(inputs), t1 - t0))

            x = jnp.concatenate([state, rates, begin[None], end[None], self.packed])
            return columns.apply(advance, x), step, SOLVED

        def flow(s, state):
            def rhs(x):
                amounts, inputs, t0, t1, z = split(x)
                slope = jnp.stack(self.structure_at(z, row).flow(t0 + s * (t1 - t0), tuple(amounts)))
                return (t1 - t0) * (slope + inputs)

            return columns.apply(rhs, jnp.concatenate([state, rates, begin[None], end[None], self.packed]))

        length = end[0] - begin[0]
        active = length > 0
        safe = jnp.where(active, length, 1.0)
        state, relative, status = integrate(flow, state, step / safe, active, self.tolerances)
        return state, jnp.where(active, relative * safe, step), status


def _fills(structure_at, mover: _Mover, columns, packed, timeline):
    """Jets of the steady states of every fill slot: (slots, states, C), and how their search ended.

    A linear structure solves (1 - M) a = b, with M the map over one dosing interval and b its response to one dose; a
    non-linear one is dosed until nothing changes any more, derivatives included.
    """
    size = mover.size
    slots = timeline.fills

    def course(z, f):
        rules = _rules(structure_at, z, timeline.rows)
        at = (slots.row[f], slots.compartment[f])
        rate, length = _infusion(
            slots.given[f], slots.how[f], slots.amount[f], *(rules[r][at] for r in ("bioavailability", "duration", "rate"))
        )
        infused = slots.how[f] >= 0
        here = jnp.arange(size) == slots.compartment[f]
        lag = rules["lag"][at]
        bolus = jnp.where(here & ~infused, slots.amount[f] * rules["bioavailability"][at], 0.0)
        interval = slots.interval[f]
        constant = interval <= 0.0  # a constant infusion: its steady state does not depend on the interval used
        interval = jnp.where(constant, 1.0, interval)
        rate = jnp.where(constant, slots.given[f], rate)
        length = jnp.where(infused, jnp.where(constant, 1.0, length), 0.0)
        always = jnp.floor(jax.lax.stop_gradient(length / interval))  # infusions that never stop before the next begins
        extra = length - always * interval
        rate = jnp.where(here & infused, rate, 0.0)
        return bolus, rate, always, extra, interval, lag

    def linear(f):
        def solve(z):
            structure = structure_at(z, slots.row[f])
            bolus, rate, always, extra, interval, lag = course(z, f)

            def cycle(state, scale):
                state = tuple(state + scale * bolus)
                state = structure.advance(state, tuple(scale * rate * (always + 1.0)), extra)
                return jnp.stack(structure.advance(state, tuple(scale * rate * always), interval - extra))

            response = cycle(jnp.zeros(size), 1.0)
            decay = jax.vmap(lambda e: cycle(e, 0.0), out_axes=1)(jnp.eye(size))
            trough = jnp.linalg.solve(jnp.eye(size) - decay, response)
            if structure.lag is None:
                return trough
            # at the record's time the system is `lag` before the next dose of the train
            state = tuple(trough + bolus)
            remaining = interval - lag
            infused = jnp.minimum(remaining, extra)
            state = structure.advance(state, tuple(rate * (always + 1.0)), infused)
            return jnp.stack(structure.advance(state, tuple(rate * always), remaining - infused))

        return columns.apply(solve, packed), SOLVED

    def dosed(f):
        flat = columns.apply(lambda z: jnp.concatenate([jnp.atleast_1d(x) for x in course(z, f)]), packed)
        bolus, rate = flat[:size], flat[size : 2 * size]
        always, extra, interval, lag = flat[2 * size :]
        zero = jnp.zeros_like(extra)
        row = slots.row[f]
        relative, absolute = 10 * mover.tolerances.relative, 10 * mover.tolerances.absolute

        def cycle(carry):
            state, _, count, step, status = carry
            new, step, first = mover(state + bolus, rate * (always[0] + 1.0), zero, extra, row, step)
            new, step, second = mover(new, rate * always[0], extra, interval, row, step)
            size_of = jnp.maximum(jnp.abs(new), jnp.abs(new[:, :1]))
            settled = jnp.all(jnp.abs(new - state) <= absolute + relative * size_of)
            return new, settled, count + 1, step, jnp.maximum(status, jnp.maximum(first, second))

        def going(carry):
            _, settled, count, _, status = carry
            return ~settled & (count < _CYCLES) & (status == SOLVED)

        begin = columns.apply(lambda z: jnp.stack(structure_at(z, row).start()), packed)
        begin = (begin, jnp.asarray(False), jnp.zeros((), int), jnp.asarray(0.01), jnp.asarray(SOLVED))
        state, settled, _, step, status = jax.lax.while_loop(going, cycle, begin)
        status = jnp.where((status == SOLVED) & ~settled, NO_STEADY_STATE, status)
        if structure_at(packed[:, 0], 0).lag is not None:
            remaining = interval - lag
            pick = remaining[0] < extra[0]
            infused = jnp.where(pick, remaining, extra)
            state, step, _ = mover(state + bolus, rate * (always[0] + 1.0), zero, infused, row, step)
            state, _, _ = mover(state, rate * always[0], infused, remaining, row, step)
        return state, status

    states, ended = jax.vmap(linear if mover.linear else dosed)(jnp.arange(slots.amount.shape[0]))
    return states, jnp.max(jnp.asarray(ended))
