"""Steady states: what an endless train of identical doses leads to.

A linear structure's is solved for (``dosing.linear_steady_state``).  A non-linear one is the fixed point of one dosing interval,

    a = F(a, z),

with z the individual's parameters.  On jets, A = F(A, Z), it is found by Newton's method with the Jacobian of the values alone,

    A <- A + (1 - M)^-1 (F(A, Z) - A),        M = dF/da at the value,

in every column at once: F's first derivatives are M A_i + F_z Z_i, so that once the value is there the first derivatives are
right after one step, and then the second derivatives after one more.  Where a step does not bring the residual down the
system is dosed once more instead, and after some such failures it is only dosed, as a person would be.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.dosing import course, linear_steady_state
from nlme.dynamics.solvers import NO_STEADY_STATE, SOLVED, Pace
from nlme.jets.jet import Columns
from nlme.linalg import solve

_CYCLES = 2000  # doses given before a steady state is declared absent
_NEAR = 1e-3  # of its size, how far Newton's step may still want to move a state that counts as settled
_FARTHEST = 1e12  # times the dose of an interval: beyond this what is given is lost in rounding
_PATIENCE = 4  # Newton steps that may fail


class _Search(NamedTuple):
    state: Float[Array, "s C"]
    best: Float[Array, ""]  # the least residual yet
    failures: Int[Array, ""]
    count: Int[Array, ""]
    pace: Pace
    settled: Bool[Array, ""]
    status: Int[Array, ""]


def fills(structure_at, transition, columns: Columns, packed, timeline, status, reversible: bool = False):
    """Jets of the steady states of every fill slot: (slots, states, C), and how their search ended.

    ``transition`` moves the states over an interval (``nlme.dynamics.transition``).  ``status``: nothing is searched for after a failure.
    ``reversible``: whether JAX shall differentiate them in reverse.
    """
    size, slots = transition.size, timeline.fills

    def linear(f):
        return columns.apply(lambda z: linear_steady_state(structure_at, z, timeline, f, size), packed), status

    def nonlinear(f):
        return _fixed_point(structure_at, transition, columns, packed, timeline, f, status, reversible)

    states, ended = jax.vmap(linear if transition.linear else nonlinear)(jnp.arange(slots.amount.shape[0]))
    return states, jnp.max(jnp.asarray(ended))


def _fixed_point(structure_at, transition, columns: Columns, packed, timeline, slot, status, reversible: bool):
    size = transition.size

    def flat_course(z):
        return jnp.concatenate([jnp.atleast_1d(x) for x in course(structure_at, z, timeline, slot, size)])

    train = columns.apply(flat_course, packed)
    bolus, rate = train[:size], train[size : 2 * size]
    always, extra, interval, phase = train[2 * size :]
    row = jnp.asarray(timeline.fills.row)[slot]

    def cycle(transition, state, train, pace, reversible=False):
        """One dosing interval."""
        bolus, rate, (always, extra, interval, _) = train[:size], train[size : 2 * size], train[2 * size :]
        state, settled = transition.packed_settled(state, state + bolus, jnp.zeros_like(extra), row, reversible)
        state, pace, first = transition.packed(
            state, rate * (always[0] + 1.0), jnp.zeros_like(extra), extra, row, pace, reversible
        )
        state, pace, second = transition.packed(state, rate * always[0], extra, interval, row, pace, reversible)
        return state, pace, jnp.maximum(settled, jnp.maximum(first, second))

    # the search itself is never differentiated
    held, train_held = jax.lax.stop_gradient(eqx.partition(transition, eqx.is_inexact_array)[0]), jax.lax.stop_gradient(train)
    held = eqx.combine(held, transition)
    along = Columns(size)
    by_state = held.along(along, along.unpack(along.constant(jax.lax.stop_gradient(packed[:, 0]))))

    def jacobian(value, pace):
        moved, _, _ = cycle(by_state, along.seed(value, jnp.ones(size)), along.constant(train_held[:, 0]), pace)
        return moved[:, 1:]

    given = jnp.sum(bolus[:, 0]) + jnp.sum(rate[:, 0]) * (always[0] * interval[0] + extra[0])
    farthest = _FARTHEST * jnp.maximum(given, 1.0)
    scale_of = 10 * transition.tolerances.relative, 10 * transition.tolerances.absolute

    def leap_of(slope, change):
        # a hair more than 1, so that a compartment which nothing enters or leaves has a Newton step, of zero
        return solve((1.0 + 1e-14) * jnp.eye(size) - slope, change)

    def step(search: _Search) -> _Search:
        new, pace, ended = cycle(held, search.state, train_held, search.pace)
        change = new - search.state
        largest = jnp.maximum(jnp.abs(new), jnp.abs(new[:, :1]))
        residual = jnp.max(jnp.abs(change) / (scale_of[0] * largest + scale_of[1]))
        fails = residual > search.best  # the last step made it worse
        failures = search.failures + fails
        slope = jacobian(search.state[:, 0], search.pace)
        newton = search.state + leap_of(slope, change)
        usable = jnp.all(jnp.isfinite(newton)) & jnp.all((newton[:, 0] >= 0.0) | (new[:, 0] < 0.0))
        leap = usable & ~fails & (failures < _PATIENCE) & (search.count > 0)
        # a state that grows without end changes less and less for its size; the fixed point is far all the same
        away = jnp.max(jnp.abs(newton[:, 0] - search.state[:, 0]) / (_NEAR * largest[:, 0] + scale_of[1]))
        settled = (residual <= 1.0) & (away <= 1.0) & (jnp.max(largest[:, 0]) <= farthest)
        state = jnp.where(leap & ~settled, newton, new)
        best = jnp.where(search.count > 0, jnp.minimum(search.best, residual), residual)
        return _Search(state, best, failures, search.count + 1, pace, settled, jnp.maximum(search.status, ended))

    def going(search: _Search):
        return ~search.settled & (search.count < _CYCLES) & (search.status == SOLVED)

    begin = columns.apply(lambda z: jnp.stack(structure_at(z, row).start()), packed)
    begin, settled = held.packed_settled(*[jax.lax.stop_gradient(begin)] * 2, jnp.zeros_like(train[0]), row)
    begin = _Search(
        begin,
        jnp.asarray(jnp.inf),
        jnp.zeros((), int),
        jnp.zeros((), int),
        Pace.first(),
        jnp.asarray(False),
        jnp.maximum(jnp.asarray(status), settled),
    )
    end = jax.lax.while_loop(going, step, begin)
    status = jnp.where((end.status == SOLVED) & ~end.settled, NO_STEADY_STATE, end.status)
    state, pace = end.state, end.pace
    if reversible:
        # Newton steps from the fixed point, their matrix held, have its derivative: one step for the values', one more for that of
        # their first derivatives
        slope = jacobian(state[:, 0], pace)
        for _ in range(2 if columns.directions else 1):
            new, _, _ = cycle(transition, state, train, pace, reversible)
            state = state + leap_of(slope, new - state)
    if structure_at(packed[:, 0], 0).lag is not None:
        infused = jnp.where(phase[0] <= extra[0], phase, extra)
        state, _ = transition.packed_settled(state, state + bolus, jnp.zeros_like(extra), row, reversible)
        state, pace, _ = transition.packed(state, rate * (always[0] + 1.0), jnp.zeros_like(extra), infused, row, pace, reversible)
        state, _, _ = transition.packed(state, rate * always[0], infused, phase, row, pace, reversible)
    return state, status
