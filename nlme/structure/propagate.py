"""The states of one subject at its samples, as jets.

The inputs of the solution (individual parameters of every parameter row, and population parameters that the dynamics use
directly) come as one packed vector, and so does everything computed from them: event times (a lag moves its dose), infusion
rates, initial states.  Every derivative of the result is that of this one computation.

In general it is one scan over the events: between events the structure moves the states, by its closed form or by the solver;
at an event, amounts are added, rates switched, compartments emptied.  A linear structure with constant parameters and few
doses per sample is summed dose by dose instead (``nlme.structure.superposition``), which vectorises better.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.structure.arrivals import Arriving, refuse_steady_state
from nlme.structure.base import LinearStructure
from nlme.structure.dosing import StructureAt, changes_infusions, course, doses, linear_steady_state
from nlme.structure.events import BOLUS, FILL, START, STOP, Timeline
from nlme.structure.jets import Columns, Jet
from nlme.structure.solvers import NO_STEADY_STATE, SOLVED, Tolerances, integrate
from nlme.structure.superposition import superpose, worthwhile

_CYCLES = 2000  # doses given to a non-linear system before its steady state is declared absent


def propagate(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    tolerances: Tolerances,
) -> tuple[Jet, Int[Array, ""]]:
    """Jet of the states at the samples of one subject.

    Parameters
    ----------
    structure_at : the structure for a vector of inputs and a parameter row
    packed : jets of the inputs
    columns : which derivatives are carried

    Returns
    -------
    jet of the states (T, s), and how the solve ended (see ``solvers.SENTENCES``)
    """
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    linear = isinstance(probe, LinearStructure)
    if linear and worthwhile(timeline):
        return superpose(structure_at, packed, columns, timeline), jnp.asarray(SOLVED)
    moving = bool(probe.lag is not None or (timeline.infusions and changes_infusions(probe)))

    def mover_of(structure_at, packed):
        return _Mover(structure_at, packed, columns, tolerances, size, linear, timeline.infusions)

    mover = mover_of(structure_at, packed)

    def moved(z):
        at = doses(structure_at, z, timeline)
        return jnp.concatenate([at.time, at.amount, at.rate, at.left])

    time, amount, rate, left = jnp.split(columns.apply(moved, packed), 4)
    running = left[:, 0] > 0.0
    order = jnp.arange(timeline.time.shape[0])
    row = timeline.row
    if moving:
        order = jnp.argsort(jax.lax.stop_gradient(time[:, 0]), stable=True)
        time, amount, rate = time[order], amount[order], rate[order]
        row = _rows_after_sorting(timeline, order) if timeline.rows > 1 else row[order]
    where = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0])) if moving else order
    arriving = isinstance(probe, Arriving)
    receives = jnp.asarray(probe.receives() if arriving else (False,) * size)
    if arriving and timeline.steady:
        refuse_steady_state(probe)
    fills, status = (None, SOLVED)
    if timeline.steady:
        fills, status = _fills(structure_at, mover, columns, packed, timeline)

    def event(carry, e):
        state, rates, before, step, epoch, status = carry
        k = order[e]
        move = mover
        if arriving:
            given = (where[timeline.doses] < e) & (timeline.epoch[timeline.doses] == epoch)
            move = mover_of(*_with_doses_given(structure_at, packed, timeline, given, time[where], amount[where]))
        state, step, ended = move(state, rates, before, time[e], row[e], step)
        here = (jnp.arange(size) == timeline.compartment[k])[:, None]
        if timeline.resets:
            emptied = timeline.reset[k] == 1
            # back to the initial states, as NONMEM does (A_0 is evaluated again at a reset record)
            state, rates = jnp.where(emptied, start, state), jnp.where(emptied, 0.0, rates)
            epoch = epoch + timeline.reset[k]
        valid = (timeline.epoch[k] == epoch) & (running[k] if timeline.steady else True)
        kind = jnp.where(valid, timeline.kind[k], 0)
        if timeline.steady:
            filled = fills[timeline.fill[k]]
            state = jnp.where(kind == FILL, filled + jnp.where(timeline.adds[k] == 1, state, 0.0), state)
        enters = here & (kind == BOLUS) & (~receives[:, None] if arriving else True)
        state = state + jnp.where(enters, amount[e], 0.0)
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
    return columns.unpack(states[where[timeline.sample]]), carry[-1]


def _rows_after_sorting(timeline: Timeline, order):
    """Parameter row of the interval ending at each event: that of the next record in the new order."""
    events = order.shape[0]
    position = jnp.where(timeline.record[order] == 1, jnp.arange(events), events - 1)
    following = jnp.flip(jax.lax.cummin(jnp.flip(position)))
    return timeline.row[order][following]


def _with_doses_given(structure_at, packed, timeline: Timeline, given, time, amount):
    """The structure while the ``given`` doses are on their way, and its packed inputs: times and amounts of doses join them."""
    events, inputs = timeline.doses, packed.shape[0]
    given = given & (timeline.kind[events] == BOLUS)

    def arriving_at(z, row):
        times, amounts = jnp.split(z[inputs:], 2)
        return structure_at(z[:inputs], row).receiving(times, amounts, timeline.compartment[events], given)

    return arriving_at, jnp.concatenate([packed, time[events], amount[events]])


class _Mover:
    """Moves packed states over an interval between events; lengths of zero leave them as they are."""

    def __init__(self, structure_at, packed, columns, tolerances, size, linear, infused):
        self.structure_at, self.packed, self.columns, self.tolerances = structure_at, packed, columns, tolerances
        self.size, self.linear, self.infused = size, linear, infused

    def __call__(self, state, rates, begin, end, row, step):
        """States at ``end`` from states at ``begin`` (packed times), the step to try next, and how the solve ended."""
        size, columns = self.size, self.columns

        def split(x):
            return x[:size], x[size : 2 * size], x[2 * size], x[2 * size + 1], x[2 * size + 2 :]

        if self.linear:

            def advance(x):
                amounts, inputs, t0, t1, z = split(x)
                rates = tuple(inputs) if self.infused else None
                return jnp.stack(self.structure_at(z, row).advance(tuple(amounts), rates, t1 - t0))

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

    A linear structure's is solved for; a non-linear one is dosed until nothing changes any more, derivatives included.
    """
    size, slots = mover.size, timeline.fills

    def linear(f):
        return columns.apply(lambda z: linear_steady_state(structure_at, z, timeline, f, size), packed), SOLVED

    def dosed(f):
        def flat_course(z):
            return jnp.concatenate([jnp.atleast_1d(x) for x in course(structure_at, z, timeline, f, size)])

        flat = columns.apply(flat_course, packed)
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
