"""The states of one subject at its samples, as jets.

The inputs of the solution (individual parameters of every parameter row, and population parameters that the dynamics use
directly) come as one packed vector, and so does everything computed from them: event times (a lag moves its dose), infusion
rates, initial states.  Every derivative of the result is that of this one computation.

In general it is one scan over the events: between events the structure moves the states, by its closed form or by the solver;
at an event, amounts are added, rates switched, compartments emptied.  A linear system with constant parameters and few doses per
sample is summed dose by dose instead (``nlme.dynamics.superposition``), which vectorises better: a linear structure, and
equations that prove linear (``nlme.dynamics.recognition``) unless a solver is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.batching import OfSubject, batch_last
from nlme.dynamics.delays import Past, hermite
from nlme.dynamics.diffusion import Conditioning, drawn, filtered, moved_at_random
from nlme.dynamics.dosing import StructureAt, all_settle, changes_infusions, delays_allowed, doses, restarted, rules_allowed
from nlme.dynamics.events import BOLUS, ECHO, FILL, NOTHING, OFF, START, STOP, Measured, Timeline
from nlme.dynamics.modal import by_modes, follow_modes
from nlme.dynamics.recognition import as_exponential, flows_of
from nlme.dynamics.solvers import DELAY, DOSE_RULE, NO_STEADY_STATE, NOT_FINITE, SOLVED, Pace, Tolerances, for_algebraic, where
from nlme.dynamics.steady import fills
from nlme.dynamics.superposition import superpose, worthwhile
from nlme.dynamics.system import Rows, State
from nlme.dynamics.transition import ClosedForm, Moment, Sets, Stepping, follows_time, inside
from nlme.jets.chain import through
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse, whole
from nlme.structure.arrivals import Arriving, refuse_steady_state
from nlme.structure.base import LinearStructure, Structure

_WRITTEN_OUT = 12  # states; elimination operation by operation takes ever longer to compile beyond


def propagate(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    tolerances: Tolerances,
    reversible: bool = False,
    occupied: Sequence[Occupied] | None = None,
    conditioned: Callable | None = None,
) -> tuple[Jet, Int[Array, ""]]:
    """Jet of the states at the samples of one subject.

    Parameters
    ----------
    structure_at : the structure for a vector of inputs and a parameter row, at a time if parameters may change within the row
    packed : jets of the inputs
    columns : which derivatives are carried
    reversible : whether JAX shall differentiate the result in reverse (an ODE; closed forms always can be)
    occupied : which columns each input occupies, if not all of them
    conditioned : of stochastic equations, what a record makes of the states (``nlme.dynamics.diffusion.Conditioning``)

    Returns
    -------
    jet of the states (T, s), and how the solve ended (see ``solvers.SENTENCES``).  Stochastic equations that are filtered, or of which
    a path is drawn, have the states of ``nlme.dynamics.diffusion.Filtered``, at a sample given the records before it
    """
    stochastic = timeline.measured is not None or timeline.draws is not None
    if stochastic:
        structure_at, occupied = filtered(structure_at), None
    exponential_at = _recognised(structure_at, packed[:, 0], timeline, tolerances)
    begun = _begun(exponential_at or structure_at, packed[:, 0], timeline)
    probe, summed = structure_at(packed[:, 0], 0), None
    if exponential_at is not None:
        summed = superpose(exponential_at, packed, columns, timeline, reversible, occupied)
    elif _summed(probe) and worthwhile(timeline):
        summed = superpose(structure_at, packed, columns, timeline, reversible, occupied)
    elif _summed(probe) and by_modes(probe, timeline):
        summed = follow_modes(structure_at, packed, columns, timeline, reversible, occupied)
    if summed is not None:
        return summed, jnp.maximum(begun, _ending(summed.value))
    course = _course(structure_at, packed, columns, timeline, tolerances, reversible, occupied, begun, conditioned)
    at = course.where[timeline.sample]
    every = Occupied.all_of(columns)
    # (T, K) of each state, where K counts the columns it has
    states = [jax.tree.map(lambda x: x[at], state) for state in course.states]
    states = [jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), state) for state in states]
    states = [Sparse(*state, kept).into(every).jet() for state, kept in zip(states, course.kept, strict=True)]
    jet = jax.tree.map(lambda *parts: jnp.stack(parts, axis=-1), *states)
    return jet, jnp.maximum(course.status, _ending(jet.value)) if isinstance(probe, LinearStructure) else course.status


def _recognised(structure_at: StructureAt, inputs, timeline: Timeline, tolerances: Tolerances) -> StructureAt | None:
    """The matrix exponentials by which equations are to be solved: linear ones, where it costs less and no solver is asked for."""
    if tolerances.solver is not None or not worthwhile(timeline, stepped=True):
        return None
    found = flows_of(structure_at(inputs, 0))
    return None if found is None else lambda z, row: as_exponential(structure_at(z, row), found)


def _begun(structure_at: StructureAt, inputs, timeline: Timeline) -> Int[Array, ""]:
    """Whether there is anything to solve: not with doses that nobody can give, nor a linear steady state that does not exist."""
    allowed = rules_allowed(structure_at, inputs, timeline)
    begun = jnp.asarray(SOLVED) if allowed is None else jnp.where(allowed, SOLVED, DOSE_RULE)
    if timeline.steady and isinstance(probe := structure_at(inputs, 0), LinearStructure):
        settled = all_settle(structure_at, jax.lax.stop_gradient(inputs), timeline, len(probe.states))
        begun = jnp.maximum(begun, jnp.where(settled, SOLVED, NO_STEADY_STATE))
    return jnp.where(delays_allowed(structure_at, inputs, timeline), begun, DELAY) if timeline.delays else begun


def _summed(structure) -> bool:
    """Whether the states are the sum of the responses to the doses: a linear structure that begins with nothing in it."""
    return isinstance(structure, LinearStructure) and type(structure).start is LinearStructure.start


def _ending(states: Float[Array, "... s"]) -> Int[Array, ...]:
    """How it ended that a sum over doses, or a closed form, gave these states."""
    return jnp.where(jnp.all(jnp.isfinite(states)), SOLVED, NOT_FINITE)


class Course(NamedTuple):
    """The states after every event in order, the times of the events, and how each interval before one ended."""

    states: State  # of every state, with its columns behind an axis over events
    kept: tuple[Occupied, ...]  # the columns that each state has
    time: Float[Array, " E"]
    ended: Int[Array, " E"]
    where: Int[Array, " E"]  # place in this order of each event of the timeline
    status: Int[Array, ""]  # the worst ending of all


class Trace(NamedTuple):
    """One subject's states after every event, times of the events, how each interval before one ended, and the worst of these."""

    states: Float[Array, "E s"]
    time: Float[Array, " E"]
    ended: Int[Array, " E"]
    status: Int[Array, ""]


def trace(
    structure_at: StructureAt,
    inputs: Float[Array, " m"],
    timeline: Timeline,
    tolerances: Tolerances,
    conditioned: Callable | None = None,
) -> Trace:
    """The whole course of one subject's states, to see where a solve failed."""
    if timeline.measured is not None:
        structure_at = filtered(structure_at)
    exponential_at = _recognised(structure_at, inputs, timeline, tolerances)
    columns, at = Columns(), exponential_at or structure_at
    begun = _begun(at, inputs, timeline)
    course = _course(at, inputs[:, None], columns, timeline, tolerances, False, None, begun, conditioned)
    states, ended = jnp.stack([state.value for state in course.states], axis=-1), course.ended
    if isinstance(at(inputs, 0), LinearStructure):
        ended = jnp.where(begun == SOLVED, jax.vmap(_ending)(states), SOLVED)
    return Trace(states, course.time, ended, jnp.maximum(course.status, jnp.max(ended)))


class _Events(eqx.Module):
    """What happens, in order: arrays with a leading axis over events; None for what the population has not got.

    Jets have it before their columns.
    """

    time: Jet
    amount: Jet
    rate: Jet | None
    kind: Int[Array, " E"]
    row: Int[Array, " E"]
    now: Int[Array, " E"] | None  # the row at the event itself, where there are algebraic states or records to filter by
    compartment: Int[Array, " E"]
    origin: Int[Array, " E"] | None
    echo: Int[Array, " E"] | None  # of which delay this is the first echo of an origin; -1: of none
    epoch: Int[Array, " E"] | None
    reset: Int[Array, " E"] | None
    anew: State | None  # what a reset leaves, where that may differ from the beginning
    ahead: Float[Array, " E"] | None
    filled: State | None
    adds: Int[Array, " E"] | None
    measured: Measured | None
    draws: Float[Array, "E K n"] | None


class _Doses(eqx.Module):
    """The doses that may be under way: where in the order each is, and of which epoch."""

    place: Int[Array, " D"]
    epoch: Int[Array, " D"]


def _course(
    structure_at, packed, columns: Columns, timeline: Timeline, tolerances, reversible, occupied, begun, conditioned
) -> Course:
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    linear = isinstance(probe, LinearStructure)
    changing = timeline.infusions and changes_infusions(probe)
    moving = bool(probe.lag is not None or timeline.event_times or timeline.delays or changing)
    again = timeline.resets and timeline.rows > 1  # initial states may differ from record to record
    arriving = isinstance(probe, Arriving)
    algebraic = tuple(state in probe.algebraic for state in probe.states)
    tolerances = for_algebraic(tolerances) if any(algebraic) else tolerances
    every = Occupied.all_of(columns)
    # what the equations are told of doses on their way moves with everything
    stiff = tolerances.solver in ("stiff", "auto") and not timeline.delays
    dense = not linear and (probe.wide or (stiff and size > _WRITTEN_OUT))
    sparse = occupied is not None and not (arriving or linear or timeline.delays or dense)
    sparse = sparse and tolerances.solver in (None, "explicit", "explicit8")
    pushed = functools.partial(through, columns, packed=packed, occupied=occupied if sparse else None)

    def moved(z):
        at = doses(structure_at, z, timeline)
        return at.time, at.amount, at.rate

    time, amount, rate = pushed(moved)
    start = pushed(lambda z: structure_at(z, 0).start())
    restarts = pushed(lambda z: restarted(structure_at, z, timeline)) if again else []

    order = jnp.arange(timeline.time.shape[0])
    if moving:
        order = jnp.argsort(jax.lax.stop_gradient(time.value), stable=True)
        following = _records_after_sorting(timeline, order)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0])) if moving else order

    def sorted_(x):
        return x[order] if moving else x

    def over_interval(x):
        """What holds over the interval that ends at each event."""
        return x[following] if moving else x

    def jets(x: Sparse, kept: Occupied) -> Jet:
        """Jets of one event after another."""
        return jax.tree.map(lambda part: sorted_(jnp.moveaxis(part, -1, 0)), x.into(kept).jet())

    if linear:
        transition = ClosedForm(structure_at, columns.unpack(packed), columns, size, timeline.infusions)
    else:
        sets = None
        if sparse:
            entering = [x.occupied | amount.occupied for x in start]
            entering = tuple(a | b.occupied for a, b in zip(entering, restarts or start, strict=True))
            sets = Sets(tuple(occupied), entering, rate.occupied, time.occupied | rate.occupied | amount.occupied)
        on_their_way = [whole(x, columns)[timeline.doses] for x in (time, amount)] if arriving else []
        inputs = jnp.concatenate([packed, *on_their_way])
        equations, longest_step = _equations(structure_at, timeline, packed.shape[0], arriving, size, dense)
        transition = Stepping(
            equations,
            columns.unpack(inputs),
            columns,
            sets or Sets.everything(columns, len(inputs), size),
            tolerances,
            infused=timeline.infusions,
            moving=moving,
            algebraic=algebraic,
            dense=dense,
            delays=jnp.stack([jnp.asarray(x, float) for x in probe.delays.values()]) if probe.delays else None,
            doses=timeline.doses.shape[0] if arriving else 0,
            longest_step=longest_step,
            ramps=follows_time(probe),
        )
    receives = probe.receives() if arriving else (False,) * size
    filled, status = None, begun
    if timeline.steady:
        if arriving:
            refuse_steady_state(probe)
        found, status = fills(structure_at, transition, columns, packed, timeline, begun, reversible)
        slot = jnp.where(timeline.kind == FILL, timeline.slot, 0)
        found = [columns.unpack(found[slot, k]) for k in range(size)]
        filled = tuple(jets(Sparse.of(x, kept, columns), kept) for x, kept in zip(found, transition.kept, strict=True))

    events = _Events(
        time=jets(time, every) if moving or linear else Jet(time.value, None, None),
        amount=jets(amount, amount.occupied),
        rate=jets(rate, every) if timeline.infusions else None,
        kind=sorted_(timeline.kind),
        row=over_interval(timeline.row),
        now=_current_rows(timeline, sorted_, over_interval) if any(algebraic) or timeline.measured is not None else None,
        compartment=sorted_(timeline.compartment),
        origin=sorted_(timeline.origin) if timeline.delays else None,
        echo=sorted_(jnp.where(timeline.kind == ECHO, timeline.echoes.first[timeline.slot], -1)) if timeline.delays else None,
        epoch=sorted_(timeline.epoch) if timeline.resets else None,
        reset=sorted_(timeline.reset) if timeline.resets else None,
        anew=tuple(jets(x, kept) for x, kept in zip(restarts, transition.kept, strict=True)) if again else None,
        ahead=over_interval(timeline.ahead) if timeline.restarts else None,
        filled=filled,
        adds=sorted_(timeline.adds) if timeline.steady else None,
        measured=None if timeline.measured is None else Measured(*map(sorted_, timeline.measured)),
        draws=None if timeline.draws is None else sorted_(timeline.draws),
    )
    conditioning = None if timeline.measured is None else Conditioning(conditioned, size, packed.shape[0], timeline)
    under_way = _Doses(place[timeline.doses], timeline.epoch[timeline.doses]) if arriving else None
    start = tuple(x.into(kept).jet() for x, kept in zip(start, transition.kept, strict=True))
    first = columns.unpack(columns.constant(timeline.start))
    jumps = timeline.rows > 1 or timeline.event_times > 0
    receives = tuple(takes or k not in timeline.dosed for k, takes in enumerate(receives))
    through_events = _Loop(columns, amount.occupied, receives, timeline.switches, jumps)
    first = first if moving or linear else Jet(first.value, None, None)
    arguments = (transition, events, under_way, start, first, status, conditioning)
    if linear or reversible:
        states, ended, status = through_events(*arguments, reversible)
    else:
        states, ended, status = batch_last(through_events, *arguments)
    return Course(states, transition.kept, events.time.value, ended, place, status)


def _equations(
    structure_at: StructureAt, timeline: Timeline, inputs: int, arriving: bool, size: int, dense: bool
) -> tuple[OfSubject, OfSubject | None]:
    """The slopes of the states and, where doses arrive over time, the longest step; see :class:`nlme.dynamics.transition.Stepping`."""
    on_their_way = timeline.doses[: timeline.doses.shape[0] if arriving else 0]

    def structure_when(t, z, row, given, ahead):
        # an index that is known lets each input keep its own columns
        structure = structure_at(z[:inputs], 0 if timeline.rows == 1 else row, t)
        if not arriving:
            return structure
        times, dosed = jnp.split(z[inputs:], 2)
        given = given & (timeline.kind[on_their_way] == BOLUS)
        return structure.receiving(times - ahead, dosed, timeline.compartment[on_their_way], given)

    def equations(t, amounts, z, row, given, ahead, rows):
        ahead = ahead if timeline.restarts else 0.0
        structure = structure_when(t, z, row, given, ahead)
        looked = zip(structure.delays.values(), rows, strict=True) if rows else ()
        past = tuple(_looked_up(structure, t, delay, row, ahead) for delay, row in looked)
        if dense:
            return structure.flow_vector(t - ahead, amounts)
        slopes = structure.flow(t - ahead, amounts, past) if rows else structure.flow(t - ahead, amounts)
        return tuple(jnp.asarray(slope, float) for slope in slopes)

    def longest_step(t, z, row, given, ahead):
        ahead = ahead if timeline.restarts else 0.0
        return structure_when(t, z, row, given, ahead).longest_step(t - ahead)

    number, count = jnp.zeros(()), len(on_their_way)
    rows = (Rows(jnp.zeros((6, size)), jnp.zeros(2), jnp.zeros((), bool)),) * timeline.delays
    amounts = jnp.zeros(size) if dense else (number,) * size
    there = jnp.zeros(inputs + 2 * count), jnp.zeros((), int), jnp.zeros(count, bool), number
    return (
        OfSubject(equations, number, amounts, *there, rows),
        OfSubject(longest_step, number, *there) if arriving else None,
    )


def _looked_up(structure: Structure, t, delay, row: Rows, ahead) -> tuple:
    """The states a ``delay`` before ``t``."""
    time = t - delay
    before = jnp.stack([jnp.asarray(x, float) for x in structure.before(time - ahead)])
    return tuple(jnp.where(row.early, before, hermite(row.piece, row.times, time)))


class _Loop:
    """One scan over the events; every array may have a last axis over subjects."""

    def __init__(self, columns: Columns, amounts: Occupied, receives: tuple[bool, ...], switches: bool, jumps: bool):
        self.columns, self.amounts, self.receives, self.switches = columns, amounts, receives, switches
        self.jumps = jumps  # whether the equations may change at an event

    def __call__(
        self,
        transition,
        events: _Events,
        under_way: _Doses | None,
        start: State,
        begin: Jet,
        status,
        conditioning: Conditioning | None = None,
        reversible: bool = False,
    ):
        """States after every event, how the interval before each ended, and the worst of these and of ``status``."""
        size = transition.size
        batch = begin.value.shape

        def event(carry, now):
            state, rates, before, pace, epoch, off, status, row, dosed_at = carry
            here, e = now
            given = None
            if under_way is not None:
                given = (under_way.place < e) & (under_way.epoch == epoch)
            going = status == SOLVED
            begun = none
            if transition.constrained:
                begins, ends = (Moment(inside(before.value, here.time.value, u), here.row, given, here.ahead) for u in (0.0, 1.0))
                if self.jumps:
                    was = Moment(before.value, row, given, here.ahead)
                    state, begun = transition.settled(state, state, before, was, begins, going, reversible=reversible)
                    going = going & (begun == SOLVED)

            def advance(state, begin, end, pace, here=here, rates=rates, off=off, going=going, given=given):
                told = here.row, pace, off, going, given, here.ahead
                return transition(state, rates, begin, end, *told, reversible=reversible, since=dosed_at)

            if here.draws is None:
                state, pace, ended = advance(state, before, here.time, pace)
            else:
                state, pace, ended = moved_at_random(advance, state, before, here.time, pace, here.draws)
            ended = jnp.maximum(begun, jnp.asarray(ended))
            undosed = state
            kind = here.kind
            if here.reset is not None:
                emptied = here.reset == 1
                # back to the initial states, as NONMEM does (A_0 is evaluated again at a reset record)
                state, epoch = where(emptied, start if here.anew is None else here.anew, state), epoch + here.reset
                undosed = state
                rates = where(emptied, jax.tree.map(jnp.zeros_like, rates), rates)
                # a dose at steady state leaves compartments off that are
                off = None if off is None else off & ~(emptied & (kind != FILL))
                kind = jnp.where(here.epoch == epoch, kind, NOTHING)
                pace = pace if pace.past is None else pace._replace(past=pace.past.forgotten(emptied))
            if pace.past is not None:
                live = True if here.reset is None else (here.epoch == epoch)
                past = pace.past.passing((here.origin == 1) & live, jnp.where(live, here.echo, -1))
                pace = pace._replace(past=past)
            if here.filled is not None:
                adds = here.adds == 1
                filled = jax.tree.map(lambda new, old: new + jnp.where(adds, old, 0.0), here.filled, state)
                state = where(kind == FILL, filled, state)
                undosed = where(adds, undosed, state)
            places = [here.compartment == k for k in range(size)]
            if off is not None:
                # whatever goes on in a compartment, a dose too, switches it on
                does = (kind != NOTHING) & (kind != STOP)
                off = jnp.stack([jnp.where(place & does, kind == OFF, off[k]) for k, place in enumerate(places)])
                state = tuple(where(off[k], jax.tree.map(jnp.zeros_like, x), x) for k, x in enumerate(state))
            dosed = [kind == BOLUS if not receives else False for receives in self.receives]
            state = tuple(
                self._added(x, kept, here.amount, place & enters)
                for x, kept, place, enters in zip(state, transition.kept, places, dosed, strict=True)
            )
            if dosed_at is not None:
                disturbed = (kind == BOLUS) | (kind == START) | (kind == STOP) | (kind == FILL)
                disturbed = disturbed if here.reset is None else disturbed | (here.reset == 1)
                dosed_at = jnp.where(disturbed, jax.lax.stop_gradient(here.time.value), dosed_at)
            if here.rate is not None:
                change = jnp.where(kind == START, 1.0, jnp.where(kind == STOP, -1.0, 0.0))
                changes = [jnp.where(place, change, 0.0) for place in places]
                into = [jax.tree.map(lambda part, x=x: x * part, here.rate) for x in changes]
                rates = jax.tree.map(jnp.add, rates, Jet.of_elements(into))
            if transition.constrained:
                still = Moment(here.time.value, here.now, given, here.ahead)
                going = (status == SOLVED) & (ended == SOLVED)
                state, found = transition.settled(undosed, state, here.time, ends, still, going, self.jumps, reversible)
                ended, row = jnp.maximum(ended, found), here.now
            status = jnp.maximum(status, ended)
            if here.draws is not None:
                state = drawn(state, here.draws[-1])
            found = state
            if here.measured is not None:
                state = conditioning(self.columns, state, transition.inputs, here.now, here.measured)
            return (state, rates, here.time, pace, epoch, off, status, row, dosed_at), (found, ended)

        zero = jnp.zeros(batch)
        none = zero.astype(int)
        delays = 0 if transition.linear else transition.delays.shape[0]
        past = Past.nothing(self.columns, size, delays, batch) if delays else None
        row = none
        if transition.constrained:
            row, doses = events.now[0], 0 if under_way is None else under_way.place.shape[0]
            ahead = None if events.ahead is None else events.ahead[0]
            at = Moment(begin.value, row, jnp.zeros((doses, *batch), bool), ahead)
            start, found = transition.settled(start, start, begin, at, at, status == SOLVED, False, reversible)
            status = jnp.maximum(status, found)
        carry = (
            start,
            None
            if events.rate is None
            else Jet.of_elements([jax.tree.map(lambda x: jnp.zeros(x.shape[1:]), events.rate)] * size),
            begin,
            jax.tree.map(lambda x: x + zero, Pace.first())._replace(past=past),
            none,
            jnp.zeros((size, *batch), bool) if self.switches else None,
            status,
            row,
            jax.lax.stop_gradient(begin.value) if transition.ramps else None,
        )
        if reversible:
            event = jax.checkpoint(event)  # an interval is gone through again on the way back, so that its steps need not be kept
        carry, (states, ended) = jax.lax.scan(event, carry, (events, jnp.arange(events.kind.shape[0])))
        return states, ended, carry[6]

    def _added(self, x: Jet, kept: Occupied, amount: Jet, where) -> Jet:
        """A state with the amount of a dose."""
        if where is False:
            return x
        amount = Sparse(*amount, self.amounts).into(kept).jet()
        return jax.tree.map(lambda old, more: old + jnp.where(where, more, 0.0), x, amount)


def _current_rows(timeline: Timeline, sorted_, over_interval):
    """The parameter row at every event itself, in the new order: a record's own, and otherwise that of the interval it lies in."""
    return jnp.where(sorted_(timeline.record) == 1, sorted_(timeline.now), over_interval(timeline.row))


def _records_after_sorting(timeline: Timeline, order):
    """The event that ends the interval between records in which each event lies, in the new order: the next record."""
    events = order.shape[0]
    position = jnp.where(timeline.record[order] == 1, jnp.arange(events), events - 1)
    return order[jnp.flip(jax.lax.cummin(jnp.flip(position)))]
