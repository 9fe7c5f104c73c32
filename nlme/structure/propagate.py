"""The states of one subject at its samples, as jets.

The inputs of the solution (individual parameters of every parameter row, and population parameters that the dynamics use
directly) come as one packed vector, and so does everything computed from them: event times (a lag moves its dose), infusion
rates, initial states.  Every derivative of the result is that of this one computation.

In general it is one scan over the events: between events the structure moves the states, by its closed form or by the solver;
at an event, amounts are added, rates switched, compartments emptied.  A linear structure with constant parameters and few
doses per sample is summed dose by dose instead (``nlme.structure.superposition``), which vectorises better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.structure.arrivals import Arriving, refuse_steady_state
from nlme.structure.base import LinearStructure
from nlme.structure.chain import Occupied, Sparse, elements, through, whole
from nlme.structure.dosing import StructureAt, changes_infusions, doses
from nlme.structure.events import BOLUS, FILL, NOTHING, OFF, START, STOP, Timeline
from nlme.structure.jets import Columns, Jet
from nlme.structure.solvers import SOLVED, Pace, Tolerances, integrate
from nlme.structure.steady import fills
from nlme.structure.superposition import superpose, worthwhile
from nlme.structure.system import System, occupied_states


def propagate(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    tolerances: Tolerances,
    reversible: bool = False,
    occupied: Sequence[Occupied] | None = None,
) -> tuple[Jet, Int[Array, ""]]:
    """Jet of the states at the samples of one subject.

    Parameters
    ----------
    structure_at : the structure for a vector of inputs and a parameter row, at a time if parameters may change within the row
    packed : jets of the inputs
    columns : which derivatives are carried
    reversible : whether JAX shall differentiate the result in reverse (an ODE; closed forms always can be)
    occupied : which columns each input occupies, if not all of them

    Returns
    -------
    jet of the states (T, s), and how the solve ended (see ``solvers.SENTENCES``)
    """
    if isinstance(structure_at(packed[:, 0], 0), LinearStructure) and worthwhile(timeline):
        return superpose(structure_at, packed, columns, timeline), jnp.asarray(SOLVED)
    course = _course(structure_at, packed, columns, timeline, tolerances, reversible, occupied)
    return columns.unpack(course.states[course.where[timeline.sample]]), course.status


class Sets(NamedTuple):
    """Which columns are occupied by each input, by each state in the beginning and after doses, by rates and by times."""

    inputs: tuple[Occupied, ...]
    entering: tuple[Occupied, ...]
    rates: Occupied
    times: Occupied


class Course(NamedTuple):
    """The states (packed) after every event in order, the times of the events, and how each interval before one ended."""

    states: Float[Array, "E s C"]
    time: Float[Array, " E"]
    ended: Int[Array, " E"]
    where: Int[Array, " E"]  # place in this order of each event of the timeline
    status: Int[Array, ""]  # the worst ending of all


def trace(structure_at: StructureAt, inputs: Float[Array, " m"], timeline: Timeline, tolerances: Tolerances) -> Course:
    """The whole course of one subject's states, to see where a solve failed."""
    return _course(structure_at, inputs[:, None], Columns(), timeline, tolerances, False, None)


def _course(structure_at, packed, columns, timeline, tolerances, reversible, occupied) -> Course:
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    linear = isinstance(probe, LinearStructure)
    moving = bool(probe.lag is not None or timeline.breaks or (timeline.infusions and changes_infusions(probe)))

    arriving = isinstance(probe, Arriving)
    everything = Occupied.all_of(columns)
    sparse = occupied is not None and not arriving
    vector = elements(packed, columns, occupied if sparse else [everything] * packed.shape[0])

    def moved(z):
        at = doses(structure_at, z, timeline)
        return at.time, at.amount, at.rate, at.left

    given = through(columns, moved, vector)
    time, amount, rate, left = (whole(x, columns) for x in given)
    begun = through(columns, lambda z: structure_at(z, 0).start(), vector)
    start = jnp.stack([whole(x, columns) for x in begun])
    sets = None
    if sparse:
        at, amounts, rates, _ = (x.occupied for x in given)
        sets = Sets(tuple(occupied), tuple(x.occupied | amounts for x in begun), rates, at | rates | amounts)

    def mover_of(structure_at, packed):
        return Mover(
            structure_at, packed, columns, tolerances, size, linear, timeline.infusions, moving, reversible, timeline.rows, sets
        )

    mover = mover_of(structure_at, packed)
    running = left[:, 0] > 0.0
    order = jnp.arange(timeline.time.shape[0])
    row = timeline.row
    if moving:
        order = jnp.argsort(jax.lax.stop_gradient(time[:, 0]), stable=True)
        time, amount, rate = time[order], amount[order], rate[order]
        row = _rows_after_sorting(timeline, order) if timeline.rows > 1 else row[order]
    where = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0])) if moving else order
    receives = jnp.asarray(probe.receives() if arriving else (False,) * size)
    if arriving and timeline.steady:
        refuse_steady_state(probe)
    filled_states, status = (None, SOLVED)
    if timeline.steady:
        filled_states, status = fills(structure_at, mover, columns, packed, timeline)

    def event(carry, e):
        state, rates, before, pace, epoch, off, status = carry
        k = order[e]
        move = mover
        if arriving:
            under_way = (where[timeline.doses] < e) & (timeline.epoch[timeline.doses] == epoch)
            move = mover_of(*_with_doses_given(structure_at, packed, timeline, under_way, time[where], amount[where]))
        switched = off if timeline.switches else None
        state, pace, ended = move(state, rates, before, time[e], row[e], pace, switched, status == SOLVED)
        here = (jnp.arange(size) == timeline.compartment[k])[:, None]
        if timeline.resets:
            emptied = timeline.reset[k] == 1
            # back to the initial states, as NONMEM does (A_0 is evaluated again at a reset record)
            state, rates = jnp.where(emptied, start, state), jnp.where(emptied, 0.0, rates)
            epoch, off = epoch + timeline.reset[k], off & ~emptied
        valid = (timeline.epoch[k] == epoch) & (running[k] if timeline.steady else True)
        kind = jnp.where(valid, timeline.kind[k], 0)
        if timeline.steady:
            filled = filled_states[timeline.fill[k]]
            state = jnp.where(kind == FILL, filled + jnp.where(timeline.adds[k] == 1, state, 0.0), state)
        if timeline.switches:
            # whatever goes on in a compartment, a dose too, switches it on
            off = jnp.where(here[:, 0] & (kind != NOTHING) & (kind != STOP), kind == OFF, off)
            state = jnp.where(off[:, None], 0.0, state)
        enters = here & (kind == BOLUS) & (~receives[:, None] if arriving else True)
        state = state + jnp.where(enters, amount[e], 0.0)
        if timeline.infusions:
            change = jnp.where(kind == START, 1.0, jnp.where(kind == STOP, -1.0, 0.0))
            rates = rates + jnp.where(here, change * rate[e], 0.0)
        status = jnp.maximum(status, ended)
        return (state, rates, time[e], pace, epoch, off, status), (state, jnp.asarray(ended))

    carry = (
        start,
        jnp.zeros((size, columns.count)),
        columns.constant(timeline.start),
        Pace.first(),
        jnp.zeros((), int),
        jnp.zeros(size, bool),
        jnp.asarray(status),
    )
    if reversible:
        event = jax.checkpoint(event)  # an interval is gone through again on the way back, so that its steps need not be kept
    carry, (states, ended) = jax.lax.scan(event, carry, jnp.arange(timeline.time.shape[0]))
    return Course(states, time[:, 0], ended, where, carry[-1])


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

    def arriving_at(z, row, t=None):
        times, amounts = jnp.split(z[inputs:], 2)
        return structure_at(z[:inputs], row, t).receiving(times, amounts, timeline.compartment[events], given)

    return arriving_at, jnp.concatenate([packed, time[events], amount[events]])


class Mover:
    """Moves packed states over an interval between events; lengths of zero leave them as they are."""

    def __init__(self, structure_at, packed, columns, tolerances, size, linear, infused, moving, reversible, rows, sets):
        self.structure_at, self.packed, self.columns, self.tolerances = structure_at, packed, columns, tolerances
        self.size, self.linear, self.infused, self.moving = size, linear, infused, moving
        self.reversible, self.rows, self.sets = reversible, rows, sets

    def along(self, columns, packed) -> Mover:
        """The same with other directions of the jets."""
        kept = (self.tolerances, self.size, self.linear, self.infused, self.moving, self.reversible, self.rows)
        return Mover(self.structure_at, packed, columns, *kept, None)

    def __call__(self, state, rates, begin, end, row, pace, off=None, going=True):
        """States at ``end`` from states at ``begin`` (packed times), the pace to go on with, and how the solve ended.

        Nothing happens in a state where ``off`` is True, and none is solved for unless ``going``: after a failure that is in vain.
        """
        size, columns = self.size, self.columns

        if self.linear:

            def advance(x):
                amounts, inputs, (t0, t1), z = x[:size], x[size : 2 * size], x[2 * size : 2 * size + 2], x[2 * size + 2 :]
                rates = tuple(inputs) if self.infused else None
                return jnp.stack(self.structure_at(z, row).advance(tuple(amounts), rates, t1 - t0))

            x = jnp.concatenate([state, rates, begin[None], end[None], self.packed])
            return columns.apply(advance, x), pace, SOLVED

        # the equations are looked at strictly inside the interval, where `t < event time` has one answer
        furthest = jnp.maximum(jnp.abs(begin[0]), jnp.abs(end[0]))
        edge = jax.lax.stop_gradient(1e-12 + 1e-15 * furthest / jnp.maximum(end[0] - begin[0], 1e-9 * (1.0 + furthest)))

        def flow(u, amounts, z, inputs=None, times=None):
            t0, t1 = (begin[0], end[0]) if times is None else times
            t = t0 + (edge + u * (1.0 - 2.0 * edge)) * (t1 - t0)
            # an index that is known lets each input keep its own columns
            slopes = self.structure_at(z, 0 if self.rows == 1 else row, t).flow(t, amounts)
            if inputs is not None:
                slopes = tuple(slope + rate for slope, rate in zip(slopes, inputs, strict=True))
            if off is not None:
                slopes = tuple(jnp.where(off[k], 0.0, slope) for k, slope in enumerate(slopes))
            return tuple((t1 - t0) * slope for slope in slopes)

        # what cannot move with the directions is left out of their columns
        everything = Occupied.all_of(columns)
        sets = self.sets or Sets((everything,) * len(self.packed), (everything,) * size, everything, everything)
        inputs, moved = [columns.unpack(self.packed)], [sets.inputs]
        if self.infused or self.moving:
            inputs.append(columns.unpack(rates))
            moved.append((sets.rates,) * size)
        if self.moving:
            inputs.append(columns.unpack(jnp.stack([begin, end])))
            moved.append((sets.times,) * 2)
        kept = (everything,) * size
        if self.sets and self.tolerances.solver in ("explicit", "explicit8"):
            kept = occupied_states(columns, flow, tuple(moved), sets.entering)
        length = end[0] - begin[0]
        active = (length > 0) & going
        safe = jnp.where(active, length, 1.0)
        state = tuple(Sparse.of(columns.unpack(x), of_state, columns).jet() for x, of_state in zip(state, kept, strict=True))
        relative = pace._replace(step=pace.step / safe)
        system = System(columns, flow, tuple(inputs), tuple(moved), kept)
        begun = state
        state, relative, status = integrate(system, begun, relative, active, self.tolerances, self.reversible)
        if self.moving and columns.directions:
            # two events at one time, of which one moves with the parameters: the length between them is zero, its derivatives are
            # not.  A midpoint step is exact to the second order in the length.
            half = jax.tree.map(lambda y, slope: y + 0.5 * slope, begun, system.slope(0.0, begun))
            tie = jax.tree.map(lambda y, slope: y + slope, begun, system.slope(0.5, half))
            state = jax.tree.map(lambda moved, still: jnp.where(active, moved, still), state, tie)
        step = jnp.where(active, relative.step * safe, pace.step)
        state = [whole(Sparse(*jet, of_state), columns) for jet, of_state in zip(state, kept, strict=True)]
        return jnp.stack(state), relative._replace(step=step), status
