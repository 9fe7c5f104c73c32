"""Stochastic equations: the states' mean and covariance between records, and what a record or a draw makes of them.

    dx = f(x, t) dt + diag(sigma) dw

is followed by the continuous-discrete extended Kalman filter.  Between events the states' mean x and covariance P move by

    dx/dt = f(x, t),    dP/dt = A P + P A' + diag(sigma)^2,    A = df/dx at x,

which are equations like any others (``Filtered``), solved with their derivatives by what solves those.  A dose adds to x alone; a reset
leaves the initial states and P = 0.  At a record x and P are those given the records before; then they are conditioned on the record,
by a function of the model (``nlme.language.filtering``), and go on from there.

A path of the states is drawn with the same equations: over a stretch of time from a state that is known (P = 0),

    x <- x + L e,    L L' = P,    e ~ N(0, I),    and P = 0 again,

which is exact for a linear f whatever the stretch, and of weak order 1 in its length for any other (local linearisation).  An interval
between two events is as many stretches as there are draws for it.

Sources: Overgaard, Jonsson, Tornoe & Madsen (2005), J Pharmacokinet Pharmacodyn 32:85, doi:10.1007/s10928-005-2104-x; Tornoe et al.
(2005), Pharm Res 22:1247, doi:10.1007/s11095-005-5269-5; Klim et al. (2009), doi:10.1016/j.cmpb.2009.02.001; Jazwinski (1970),
*Stochastic Processes and Filtering Theory*; Biscay et al. (1996), Ann Inst Stat Math 48:631 (local linearisation).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.dynamics.batching import OfSubject
from nlme.dynamics.dosing import StructureAt
from nlme.dynamics.events import Measured, Timeline
from nlme.dynamics.solvers import where
from nlme.dynamics.system import State
from nlme.jets.jet import Columns, Jet
from nlme.structure.base import DOSE_RULES, Structure


def triangle(size: int) -> list[tuple[int, int]]:
    """The elements (row, column) of a symmetric matrix that are followed, in order."""
    return [(i, j) for i in range(size) for j in range(i + 1)]


def parted(states, size: int) -> tuple[list, list[list]]:
    """x, and the rows of P, of the states of a ``Filtered`` structure: arrays with these on their first axis, or sequences."""
    found = dict(zip(triangle(size), [states[k] for k in range(size, len(states))], strict=True))
    return [states[k] for k in range(size)], [[found[max(i, j), min(i, j)] for j in range(size)] for i in range(size)]


class Filtered(Structure):
    """The states of a structure with ``diffusion``, and after them the lower triangle of their covariance, row by row."""

    body: Any

    def __init__(self, body: Structure):
        self.body = body
        self.event_times = body.event_times
        for which in DOSE_RULES:
            setattr(self, which, getattr(body, which))

    @property
    def states(self) -> tuple[str, ...]:
        names = self.body.states
        return (*names, *(f"cov({names[i]}, {names[j]})" for i, j in triangle(len(names))))

    def start(self) -> tuple:
        return (*self.body.start(), *(jnp.zeros(()) for _ in triangle(len(self.body.states))))

    def flow(self, t, amounts: tuple) -> tuple:
        names = self.body.states
        x, covariance = parted(amounts, len(names))
        slopes, along = jax.linearize(lambda *x: self.body.flow(t, x), *x)
        turned = [along(*row) for row in covariance]  # (A P)' row by row: P is symmetric
        noise = [jnp.square(jnp.asarray(self.body.diffusion.get(name, 0.0), dtype=jnp.float64)) for name in names]
        spread = [turned[i][j] + turned[j][i] + (noise[i] if i == j else 0.0) for i, j in triangle(len(names))]
        return (*slopes, *spread)


def filtered(structure_at: StructureAt) -> StructureAt:
    """The same structures with the covariance of their states."""
    return lambda *where: Filtered(structure_at(*where))


class Conditioning(eqx.Module):
    """Conditions states on what is measured at an event: ``given(states, z, row, measured)`` are the states afterwards.

    ``given`` takes and returns one array of all states of a ``Filtered`` structure; z are the inputs of the solution.
    """

    given: OfSubject

    def __init__(self, given: Callable, size: int, inputs: int, timeline: Timeline):
        none = jnp.zeros((), int)
        example = Measured(*(jnp.zeros((), jnp.asarray(x).dtype) for x in timeline.measured))
        self.given = OfSubject(given, jnp.zeros(size), jnp.zeros(inputs), none, example)

    def __call__(self, columns: Columns, state: State, inputs: Jet, row, measured: Measured) -> State:
        """Jets of the states after an event; as they were where nothing is measured there."""
        there = measured.endpoint >= 0

        def given(x, z):
            # a state that is 0 where nothing is measured may have no logarithm, which would be NaN in reverse
            return self.given(jnp.where(there, x, jnp.abs(jax.lax.stop_gradient(x)) + 1.0), z, row, measured)

        new = columns.push(given, Jet.of_elements(state), inputs)
        return tuple(where(there, new.at((k,)), old) for k, old in enumerate(state))


def moved_at_random(transition: Callable, state: State, begin: Jet, end: Jet, pace, draws: Float[Array, "K n ..."]):
    """A path of the states over an interval, in K stretches, from standard normal ``draws``: states, pace and how it ended.

    ``transition(state, begin, end, pace)`` moves the states of a ``Filtered`` structure; they carry no derivatives.  The last draw is
    left to be taken after what happens at the end.
    """
    count, size = draws.shape[:2]
    length = (end.value - begin.value) / count

    def stretch(carry, given):
        state, pace, status = carry
        k, draw = given
        edges = (Jet(begin.value + (k + ahead) * length, None, None) for ahead in (0.0, 1.0))
        state, pace, ended = transition(state, *edges, pace)
        return (where(k < count - 1.0, drawn(state, draw), state), pace, jnp.maximum(status, jnp.asarray(ended))), None

    status = jnp.zeros(begin.value.shape, int)
    (state, pace, status), _ = jax.lax.scan(stretch, (state, pace, status), (jnp.arange(count, dtype=float), draws))
    return state, pace, status


def drawn(state: State, draw: Float[Array, "n ..."]) -> State:
    """The states where a standard normal ``draw`` puts them, known for certain."""
    size = draw.shape[0]
    x, covariance = parted([s.value for s in state], size)
    factor = semidefinite_factor(covariance)
    x = [x[i] + sum(factor[i][j] * draw[j] for j in range(i + 1)) for i in range(size)]
    values = [*x, *(jnp.zeros_like(x[0]) for _ in triangle(size))]
    return tuple(Jet(value, None, None) for value in values)


def semidefinite_factor(rows: list[list]) -> list[list]:
    """Lower triangular L with L L' = P, the rows of a matrix that may be singular: a column is 0 where its pivot is."""
    size = len(rows)
    factor = [[jnp.zeros_like(rows[0][0])] * size for _ in range(size)]
    for j in range(size):
        pivot = rows[j][j] - sum(jnp.square(factor[j][k]) for k in range(j))
        there = pivot > np.finfo(float).eps * rows[j][j]
        root = jnp.sqrt(jnp.where(there, pivot, 1.0))
        for i in range(j, size):
            rest = rows[i][j] - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = jnp.where(there, rest / root, 0.0)
    return factor
