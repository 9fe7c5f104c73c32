"""What moves the jets of the states over an interval between events: a closed form, or the solver.

States are tuples with one jet per compartment, which carries only the columns that can differ from zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.batching import OfSubject, batch_last
from nlme.dynamics.consistency import follow, with_derivatives
from nlme.dynamics.delays import Lookback
from nlme.dynamics.dense import DenseSystem
from nlme.dynamics.dosing import StructureAt
from nlme.dynamics.solvers import SOLVED, Pace, Tolerances, integrate
from nlme.dynamics.system import State, System, occupied_states
from nlme.jets.dependence import dependence
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse
from nlme.structure.arrivals import Arriving
from nlme.structure.base import Structure

_SHORTEST = 1e-3  # of an interval that begins with a dose: at most the first step into it, where equations follow time


class Sets(NamedTuple):
    """Which columns are occupied by each input, by each state in the beginning and after doses, by rates and by times."""

    inputs: tuple[Occupied, ...]
    entering: tuple[Occupied, ...]
    rates: Occupied
    times: Occupied

    @classmethod
    def everything(cls, columns: Columns, inputs: int, states: int) -> Sets:
        every = Occupied.all_of(columns)
        return cls((every,) * inputs, (every,) * states, every, every)


class Moment(NamedTuple):
    """When and with which parameters the equations are looked at; see :class:`Stepping`."""

    time: Float[Array, ...]
    row: Int[Array, ...]
    given: Bool[Array, "D ..."] | None = None
    ahead: Float[Array, ...] | None = None


class ClosedForm:
    """Moves the states of a linear structure by its closed form; all columns of them."""

    linear = True
    constrained = ramps = False

    def __init__(self, structure_at: StructureAt, inputs: Jet, columns: Columns, size: int, infused: bool):
        self.structure_at, self.inputs, self.columns = structure_at, inputs, columns
        self.size, self.infused = size, infused
        self.kept = (Occupied.all_of(columns),) * size

    def __call__(
        self,
        state: State,
        rates: Jet | None,
        begin: Jet,
        end: Jet,
        row,
        pace,
        off=None,
        going=True,
        given=None,
        ahead=None,
        reversible=False,
        since=None,
    ):
        """As :meth:`Stepping.__call__`."""

        def advance(t0, t1, z, inputs, *amounts):
            moved = self.structure_at(z, row).advance(amounts, tuple(inputs) if self.infused else None, t1 - t0)
            return tuple(jnp.asarray(x, float) for x in moved)

        inputs = rates if self.infused else self.columns.unpack(self.columns.constant(jnp.zeros(0)))
        return self.columns.push(advance, begin, end, self.inputs, inputs, *state), pace, SOLVED


class Stepping(eqx.Module):
    """Moves the states of any structure by the solver.

    ``equations(t, amounts, z, row, given, ahead, rows)`` are the slopes, ``given`` telling which doses are on their way (structures with
    arrivals), ``ahead`` how far ``t`` is ahead of the time of the data, ``rows`` what the ``delays`` look back at; where ``dense``, with
    the states as one vector.  ``longest_step(t, z, row, given, ahead)`` bounds the steps (structures with arrivals); where it ``ramps``, no
    step is longer than the time since the last dose.  Intervals of length zero leave the states as they are.
    """

    equations: OfSubject
    longest_step: OfSubject | None
    inputs: Jet
    columns: Columns = eqx.field(static=True)
    sets: Sets = eqx.field(static=True)
    kept: tuple[Occupied, ...] = eqx.field(static=True)
    tolerances: Tolerances = eqx.field(static=True)
    infused: bool = eqx.field(static=True)
    moving: bool = eqx.field(static=True)
    algebraic: tuple[bool, ...] = eqx.field(static=True)
    dense: bool = eqx.field(static=True)
    ramps: bool = eqx.field(static=True)
    delays: Float[Array, "M ..."]

    linear = False

    def __init__(
        self,
        equations: OfSubject,
        inputs: Jet,
        columns: Columns,
        sets: Sets,
        tolerances: Tolerances,
        *,
        infused: bool,
        moving: bool,
        algebraic: tuple[bool, ...] = (),
        dense: bool = False,
        delays: Float[Array, " M"] | None = None,
        doses: int = 0,
        longest_step: OfSubject | None = None,
        ramps: bool = False,
    ):
        self.longest_step, self.ramps = longest_step, ramps
        self.dense = dense  # the equations take the states as one vector, and return one
        self.delays = jnp.zeros(0) if delays is None else delays
        self.equations, self.inputs, self.columns, self.sets, self.tolerances = equations, inputs, columns, sets, tolerances
        self.infused, self.moving, self.algebraic = infused, moving, algebraic or (False,) * len(sets.entering)
        flow = self._flow(jnp.zeros(()), jnp.ones(()), jnp.zeros((), int), None, jnp.zeros(doses, bool), jnp.zeros(()))
        self.kept = occupied_states(columns, flow, self._moved(), sets.entering)

    @property
    def size(self) -> int:
        return len(self.sets.entering)

    @property
    def constrained(self) -> bool:
        """Whether there are algebraic states."""
        return any(self.algebraic)

    def _moved(self) -> tuple[tuple[Occupied, ...], ...]:
        rates, times = (self.sets.rates,) * self.size, (self.sets.times,) * 2
        return (self.sets.inputs, *[rates] * self.infused, *[times] * self.moving)

    def _flow(self, begin, end, row, off, given, ahead):
        """The equations on the unit interval."""

        def flow(u, amounts, z, *others):
            others = list(others)
            rates = others.pop(0) if self.infused else None
            t0, t1 = others.pop(0) if self.moving else (begin, end)
            rows = others.pop(0) if others else ()
            t = _inside(begin, end, u, t0, t1)
            slopes = self.equations(t, self._taken(amounts), z, jnp.asarray(row, int), given, ahead, rows)
            if self.dense:
                fixed = np.array(self.algebraic).reshape(-1, *(1,) * jnp.ndim(t))
                moved = slopes if rates is None else slopes + rates
                moved = (t1 - t0) * (moved if off is None else jnp.where(off, 0.0, moved))
                return jnp.where(fixed, slopes, moved) if self.constrained else moved

            def per_length(k, slope):
                if self.algebraic[k]:
                    return slope
                slope = slope if rates is None else slope + rates[k]
                return (t1 - t0) * (slope if off is None else jnp.where(off[k], 0.0, slope))

            return tuple(per_length(k, slope) for k, slope in enumerate(slopes))

        return flow

    def _taken(self, amounts):
        """The states as the equations take them."""
        if not self.dense:
            return tuple(amounts)
        return amounts if hasattr(amounts, "ndim") else jnp.stack(amounts)

    def __call__(
        self,
        state: State,
        rates: Jet | None,
        begin: Jet,
        end: Jet,
        row: Int[Array, ...],
        pace: Pace,
        off: Bool[Array, "s ..."] | None = None,
        going: Bool[Array, ...] | bool = True,
        given: Bool[Array, "D ..."] | None = None,
        ahead: Float[Array, ...] | None = None,
        reversible: bool = False,
        since: Float[Array, ...] | None = None,
    ) -> tuple[State, Pace, Int[Array, ...]]:
        """States at ``end`` from states at ``begin``, the pace to go on with, and how the solve ended.

        Nothing happens in a state where ``off`` is True, and none is solved for unless ``going``: after a failure that is in vain.
        ``reversible``: whether JAX shall differentiate it in reverse; ``since``: the time of the last dose, which
        steps are not to be longer ago than.
        """
        given = jnp.zeros((0, *end.value.shape), bool) if given is None else given
        ahead = jnp.zeros_like(end.value) if ahead is None else ahead
        inputs = (self.inputs, *[rates] * self.infused, *[Jet.of_elements([begin, end])] * self.moving)
        length = end.value - begin.value
        active = (length > 0) & going
        safe = jnp.where(active, length, 1.0)
        flow = self._flow(begin.value, end.value, row, off, given, ahead)
        several = self.equations.several
        lookback = Lookback(self.columns, begin, end, self.delays) if len(self.delays) else None
        longest = self._longest(begin.value, end.value, row, given, ahead, since, safe)
        if self.dense:
            system = DenseSystem(self.columns, flow, inputs, self.algebraic, longest)
            state = (Jet.of_elements(state),)
        else:
            system = System(self.columns, flow, inputs, self._moved(), self.kept, self.algebraic, several, lookback, longest)
        relative = pace._replace(step=pace.step / safe)
        moved, relative, status = integrate(system, state, relative, active, self.tolerances, reversible)
        if self.moving and self.columns.directions:
            # two events at one time, of which one moves with the parameters: the length between them is zero, its derivatives are
            # not.  A midpoint step is exact to the second order in the length.
            system = system.remembering(pace.past)
            half = jax.tree.map(lambda y, slope: y + 0.5 * slope, state, system.slope(0.0, state))
            tie = jax.tree.map(lambda y, slope: y + slope, state, system.slope(0.5, half))
            moved = jax.tree.map(lambda new, still: jnp.where(active, new, still), moved, tie)
        if self.dense:
            moved = tuple(moved[0].at((k,)) for k in range(self.size))
        step = jnp.where(active, relative.step * safe, pace.step)
        return moved, relative._replace(step=step), status

    def _longest(self, begin, end, row, given, ahead, since, length) -> Callable | None:
        """The longest step from ``u`` of an interval, in its lengths."""
        if self.longest_step is None and since is None:
            return None
        begin, end, length, z = jax.lax.stop_gradient((begin, end, length, self.inputs.value))
        first = jnp.minimum(_SHORTEST * length, Pace.first().step)

        def longest(u):
            t, found = inside(begin, end, u), jnp.inf
            if self.longest_step is not None:
                found = self.longest_step(t, z, jnp.broadcast_to(jnp.asarray(row, int), t.shape), given, ahead)
            if since is not None:
                found = jnp.minimum(found, jnp.maximum(t - since, first))
            return found / length

        return longest

    def settled(
        self,
        before: State,
        after: State,
        time: Jet,
        was: Moment,
        now: Moment,
        going: Bool[Array, ...] | bool = True,
        changes: bool = True,
        reversible: bool = False,
    ) -> tuple[State, Int[Array, ...]]:
        """``after`` with its algebraic states solved for, at ``time``, and how that ended; see ``nlme.dynamics.consistency``.

        Their values are looked for from ``before`` on, which holds at the moment that ``was``.  Unless ``changes`` the equations are
        those of ``now`` there too.
        """
        batch = after[0].value.shape
        held = jax.lax.stop_gradient(eqx.partition((self.equations, self.inputs.value), eqx.is_inexact_array)[0])
        equations, z = eqx.combine(held, (self.equations, self.inputs.value))
        was, now = (
            at._replace(
                row=jnp.broadcast_to(jnp.asarray(at.row, int), batch),
                given=jnp.zeros((0, *batch), bool) if at.given is None else at.given,
                ahead=jnp.zeros(batch) if at.ahead is None else at.ahead,
            )
            for at in (was, now)
        )

        def residuals(at: Moment):
            at = jax.lax.stop_gradient(at)

            def of(amounts):
                found = equations(at.time, self._taken(amounts), z, at.row, at.given, at.ahead, ())
                return [g for g, algebraic in zip(found, self.algebraic, strict=True) if algebraic]

            return of

        ending = residuals(now)
        values = [tuple(jax.lax.stop_gradient(x.value) for x in state) for state in (before, after)]
        going = jnp.broadcast_to(jnp.asarray(going), batch)
        found, status = follow(
            residuals(was) if changes else ending, ending, *values, self.algebraic, self.tolerances.absolute, going
        )
        found = iter(found)
        state = tuple(
            old._replace(value=jax.lax.stop_gradient(next(found))) if algebraic else new
            for old, new, algebraic in zip(before, after, self.algebraic, strict=True)
        )

        def flow(u, amounts, z, *t):
            slopes = self.equations(t[0][0] if t else now.time, self._taken(amounts), z, now.row, now.given, now.ahead, ())
            return tuple(x if algebraic else jnp.zeros_like(x) for x, algebraic in zip(slopes, self.algebraic, strict=True))

        inputs = (self.inputs, *[Jet.of_elements([time])] * self.moving)
        moved = (self.sets.inputs, *[(self.sets.times,)] * self.moving)
        system = System(self.columns, flow, inputs, moved, self.kept, self.algebraic, materialise=self.equations.several)
        order = 2 if self.columns.pairs else 1 if self.columns.directions else 0
        return with_derivatives(system, state, order + reversible), status

    def packed_settled(
        self, before: Float[Array, "s C"], after: Float[Array, "s C"], time: Float[Array, " C"], row, reversible: bool = False
    ) -> tuple[Float[Array, "s C"], Int[Array, ""]]:
        """The same for packed jets of one subject, while its parameters stay; ``after`` itself without algebraic states."""
        if not self.constrained:
            return after, jnp.asarray(SOLVED)
        before, after = (tuple(self.columns.unpack(x) for x in state) for state in (before, after))
        time = self.columns.unpack(time)
        at = Moment(time.value, row)
        state, status = self.settled(before, after, time, at, at, changes=False, reversible=reversible)
        return jnp.stack([x.packed() for x in state]), status

    def packed(
        self, state: Float[Array, "s C"], rates, begin, end, row, pace, reversible: bool = False
    ) -> tuple[Float[Array, "s C"], Pace, Int[Array, ""]]:
        """The same for packed jets of one subject."""
        columns = self.columns
        state = tuple(Sparse.of(columns.unpack(x), kept, columns).jet() for x, kept in zip(state, self.kept, strict=True))
        arguments = (
            state,
            columns.unpack(rates) if self.infused else None,
            *(columns.unpack(t) for t in (begin, end)),
            row,
            pace,
        )
        moved = self(*arguments, reversible=True) if reversible else batch_last(Stepping.__call__, self, *arguments)
        state, pace, status = moved
        every = Occupied.all_of(columns)
        state = [Sparse(*jet, kept).into(every).jet().packed() for jet, kept in zip(state, self.kept, strict=True)]
        return jnp.stack(state), pace, status

    def along(self, columns: Columns, inputs: Jet) -> Stepping:
        """The same with other directions of the jets."""
        sets = Sets.everything(columns, inputs.value.shape[0], self.size)
        flags = dict(infused=self.infused, moving=self.moving, algebraic=self.algebraic, dense=self.dense)
        return Stepping(
            self.equations, inputs, columns, sets, self.tolerances, longest_step=self.longest_step, ramps=self.ramps, **flags
        )


def follows_time(structure: Structure) -> bool:
    """Whether the equations have the time itself in them, beside what arrives by a function of it.

    What such equations say of a dose given before, an absorption written by hand for instance, begins where the solver sees nothing of
    it yet: steps must grow anew.
    """
    structure = structure.body if isinstance(structure, Arriving) else structure
    number, size = jnp.zeros(()), len(structure.states)
    if structure.wide:
        reach = dependence(structure.flow_vector, number, jnp.zeros(size))
    else:
        past = ((number,) * size,) * len(structure.delays or ())
        reach = dependence(lambda t, a: structure.flow(t, a, *[past] * bool(past)), number, (number,) * size)
    return any(of_output[0] for of_output in reach)


def _inside(begin, end, u, t0, t1):
    """The time at ``u`` between ``begin`` and ``end``, strictly inside, where ``t < event time`` has one answer; ``t0`` and ``t1``
    are the two with their derivatives."""
    furthest = jnp.maximum(jnp.abs(begin), jnp.abs(end))
    edge = jax.lax.stop_gradient(1e-12 + 1e-15 * furthest / jnp.maximum(end - begin, 1e-9 * (1.0 + furthest)))
    return t0 + (edge + u * (1.0 - 2.0 * edge)) * (t1 - t0)


def inside(begin: Float[Array, ...], end: Float[Array, ...], u: float) -> Float[Array, ...]:
    """Where the equations of the interval are looked at for its ``u`` (0 to 1)."""
    return _inside(begin, end, u, begin, end)
