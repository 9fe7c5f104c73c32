"""What moves the jets of the states over an interval between events: a closed form, or the solver.

States are tuples with one jet per compartment, which carries only the columns that can differ from zero.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.batching import OfSubject, batch_last
from nlme.dynamics.dosing import StructureAt
from nlme.dynamics.solvers import SOLVED, Pace, Tolerances, integrate
from nlme.dynamics.system import State, System, occupied_states
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse


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


class ClosedForm:
    """Moves the states of a linear structure by its closed form; all columns of them."""

    linear = True

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
    ):
        """As :meth:`Stepping.__call__`."""

        def advance(t0, t1, z, inputs, *amounts):
            moved = self.structure_at(z, row).advance(amounts, tuple(inputs) if self.infused else None, t1 - t0)
            return tuple(jnp.asarray(x, float) for x in moved)

        inputs = rates if self.infused else self.columns.unpack(self.columns.constant(jnp.zeros(0)))
        return self.columns.push(advance, begin, end, self.inputs, inputs, *state), pace, SOLVED


class Stepping(eqx.Module):
    """Moves the states of any structure by the solver.

    ``equations(t, amounts, z, row, given, ahead)`` are the slopes, ``given`` telling which doses are on their way (structures with
    arrivals), ``ahead`` how far ``t`` is ahead of the time of the data.  Intervals of length zero leave the states as they are.
    """

    equations: OfSubject
    inputs: Jet
    columns: Columns = eqx.field(static=True)
    sets: Sets = eqx.field(static=True)
    kept: tuple[Occupied, ...] = eqx.field(static=True)
    tolerances: Tolerances = eqx.field(static=True)
    infused: bool = eqx.field(static=True)
    moving: bool = eqx.field(static=True)

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
        doses: int = 0,
    ):
        self.equations, self.inputs, self.columns, self.sets, self.tolerances = equations, inputs, columns, sets, tolerances
        self.infused, self.moving = infused, moving
        flow = self._flow(jnp.zeros(()), jnp.ones(()), jnp.zeros((), int), None, jnp.zeros(doses, bool), jnp.zeros(()))
        self.kept = occupied_states(columns, flow, self._moved(), sets.entering)

    @property
    def size(self) -> int:
        return len(self.sets.entering)

    def _moved(self) -> tuple[tuple[Occupied, ...], ...]:
        rates, times = (self.sets.rates,) * self.size, (self.sets.times,) * 2
        return (self.sets.inputs, *[rates] * self.infused, *[times] * self.moving)

    def _flow(self, begin, end, row, off, given, ahead):
        """The equations on the unit interval."""
        # they are looked at strictly inside the interval, where `t < event time` has one answer
        furthest = jnp.maximum(jnp.abs(begin), jnp.abs(end))
        edge = jax.lax.stop_gradient(1e-12 + 1e-15 * furthest / jnp.maximum(end - begin, 1e-9 * (1.0 + furthest)))

        def flow(u, amounts, z, *others):
            others = list(others)
            rates = others.pop(0) if self.infused else None
            t0, t1 = others.pop(0) if self.moving else (begin, end)
            t = t0 + (edge + u * (1.0 - 2.0 * edge)) * (t1 - t0)
            slopes = self.equations(t, tuple(amounts), z, jnp.asarray(row, int), given, ahead)
            if rates is not None:
                slopes = tuple(slope + rate for slope, rate in zip(slopes, rates, strict=True))
            if off is not None:
                slopes = tuple(jnp.where(off[k], 0.0, slope) for k, slope in enumerate(slopes))
            return tuple((t1 - t0) * slope for slope in slopes)

        return flow

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
    ) -> tuple[State, Pace, Int[Array, ...]]:
        """States at ``end`` from states at ``begin``, the pace to go on with, and how the solve ended.

        Nothing happens in a state where ``off`` is True, and none is solved for unless ``going``: after a failure that is in vain.
        ``reversible``: whether JAX shall differentiate it in reverse.
        """
        given = jnp.zeros((0, *end.value.shape), bool) if given is None else given
        ahead = jnp.zeros_like(end.value) if ahead is None else ahead
        inputs = (self.inputs, *[rates] * self.infused, *[Jet.of_elements([begin, end])] * self.moving)
        length = end.value - begin.value
        active = (length > 0) & going
        safe = jnp.where(active, length, 1.0)
        flow = self._flow(begin.value, end.value, row, off, given, ahead)
        system = System(self.columns, flow, inputs, self._moved(), self.kept, materialise=self.equations.several)
        relative = pace._replace(step=pace.step / safe)
        moved, relative, status = integrate(system, state, relative, active, self.tolerances, reversible)
        if self.moving and self.columns.directions:
            # two events at one time, of which one moves with the parameters: the length between them is zero, its derivatives are
            # not.  A midpoint step is exact to the second order in the length.
            half = jax.tree.map(lambda y, slope: y + 0.5 * slope, state, system.slope(0.0, state))
            tie = jax.tree.map(lambda y, slope: y + slope, state, system.slope(0.5, half))
            moved = jax.tree.map(lambda new, still: jnp.where(active, new, still), moved, tie)
        step = jnp.where(active, relative.step * safe, pace.step)
        return moved, relative._replace(step=step), status

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
        flags = dict(infused=self.infused, moving=self.moving)
        return Stepping(self.equations, inputs, columns, sets, self.tolerances, **flags)
