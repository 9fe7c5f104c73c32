"""Algebraic states at one moment: the solution z of 0 = g(t, y, z) that goes on from where they stood.

The equations may have several solutions (the quadratic of binding equilibrium has a negative one), and Newton's method from the old
z may find another than the one meant, without a sign that it did.  So a change of y (a dose), of the parameters (covariates, an
occasion) or of the equations (an event time) is gone through as if it took a vanishing time: along

    H(z, s) = (1 - s) (g_before(y_s, z) - r) + s g_after(y_s, z) = 0,    y_s = (1 - s) y_before + s y_after,    0 <= s <= 1,

with r = g_before(y_before, z_before), which is zero but where z is only a guess: a consistent start.  Each step is predicted by the
tangent, -H_z^-1 H_s, and corrected by Newton's method; it is taken if the correction is small beside the prediction, contracts, and
the determinant of H_z has kept its sign, else a shorter one is tried (Deuflhard, Newton Methods for Nonlinear Problems 2004, 5.1).
Beyond a pole of H all this may hold on another branch, whose slope far from the pole is the same (free drug after a large dose of its
target: 82, then 0.18, or the -226 to which the tangent points).  Poles of quotients of amounts lie beyond zero, so that no step may take a
state to less than a tenth of what it was, or through zero, unless it was zero beside what the path began with.

The path is of values alone.  At its end the jets follow: Newton steps whose matrix is held give first derivatives exactly after one
step and second ones after two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.elimination import Factors
from nlme.dynamics.solvers import INCONSISTENT, SOLVED, where
from nlme.dynamics.system import State, System
from nlme.jets.jet import Jet

_LEAST = 0.1  # of what a state was, that a step may leave of it
_ZERO = 1e-6  # of what a state was at the beginning of a path, that counts as zero
_CLOSE = 0.25  # of a prediction, that its correction may be
_CONTRACTION = 0.1  # of one correction by the next
_EXACT = 1e-9  # relative size of a correction after which the next is lost in rounding
_SHORTEST = 1e-9  # step of s
_MOST = 400  # steps tried

Numbers = tuple[Array, ...]
Residuals = Callable[[Numbers], list[Array]]  # of the algebraic equations, from the values of all states


class _Path(NamedTuple):
    s: Float[Array, ...]
    z: Numbers
    step: Float[Array, ...]
    exact: Bool[Array, ...]
    count: Int[Array, ...]


def follow(
    before: Residuals, after: Residuals, begin: Numbers, end: Numbers, algebraic: tuple[bool, ...], absolute: float, going
) -> tuple[Numbers, Int[Array, ...]]:
    """Values of the algebraic states at the end of the path, and how it ended.

    Parameters
    ----------
    before, after : residuals of the equations on either side of the change
    begin, end : values of all states on either side; of the algebraic ones only those of ``begin`` are looked at
    absolute : size below which a state counts as zero
    going : False where nothing is to be found any more
    """
    places = [k for k, is_algebraic in enumerate(algebraic) if is_algebraic]
    shift = before(begin)
    zeros = [absolute + _ZERO * jnp.abs(begin[k]) for k in places]

    def residual(s, z: Numbers) -> list[Array]:
        y = [a + s * (b - a) for a, b in zip(begin, end, strict=True)]
        for k, value in zip(places, z, strict=True):
            y[k] = value
        found = before(tuple(y))
        if after is before:
            return [x - (1.0 - s) * r for x, r in zip(found, shift, strict=True)]
        return [(1.0 - s) * (x - r) + s * new for x, r, new in zip(found, shift, after(tuple(y)), strict=True)]

    def matrix(s, z: Numbers) -> Factors:
        return _matrix(lambda *z: residual(s, z), z)

    def correction(factors: Factors, s, z: Numbers) -> Numbers:
        return tuple(-x for x in factors.solve(residual(s, z)))

    def forward(path: _Path) -> _Path:
        s = jnp.minimum(path.s + path.step, 1.0)
        here = matrix(path.s, path.z)
        by_s = jax.jvp(lambda s: residual(s, path.z), (path.s,), (jnp.ones_like(path.s),))[1]
        ahead = tuple(-(s - path.s) * x for x in here.solve(by_s))
        predicted = _plus(path.z, ahead)
        first = correction(matrix(s, predicted), s, predicted)
        corrected = _plus(predicted, first)
        there = matrix(s, corrected)
        second = correction(there, s, corrected)
        new = _plus(corrected, second)
        sizes = [absolute + jnp.maximum(jnp.abs(a), jnp.abs(b)) for a, b in zip(path.z, new, strict=True)]
        large, small, moved = _size(first, sizes), _size(second, sizes), _size(ahead, sizes)
        taken = (small <= jnp.maximum(_CONTRACTION * large, _EXACT)) & (here.sign() * there.sign() > 0.0)
        taken &= (large <= _CLOSE * moved + 1e-6) | (path.s >= 1.0)
        for was, now, nothing in zip(path.z, new, zeros, strict=True):
            taken &= (jnp.abs(was) <= nothing) | (now * jnp.sign(was) >= _LEAST * jnp.abs(was))
        return _Path(
            s=jnp.where(taken, s, path.s),
            z=where(taken, new, path.z),
            step=jnp.where(taken, 2.0 * path.step, 0.25 * path.step),
            exact=taken & (s >= 1.0) & (small <= _EXACT),
            count=path.count + 1,
        )

    def unfinished(path: _Path):
        return going & ~path.exact & (path.step > _SHORTEST) & (path.count < _MOST)

    def turn(path: _Path) -> _Path:
        return where(unfinished(path), forward(path), path)

    zero = jnp.zeros_like(begin[0])
    start = _Path(zero, tuple(begin[k] for k in places), zero + 1.0, zero > 0.0, zero.astype(int))
    found = jax.lax.while_loop(lambda path: jnp.any(unfinished(path)), turn, start)
    return found.z, jnp.where(found.exact | ~going, SOLVED, INCONSISTENT)


def with_derivatives(system: System, state: State, rounds: int) -> State:
    """The state with the jets of its algebraic elements, whose values are right already.

    ``system`` : its ``flow`` of algebraic elements is g at this moment
    ``rounds`` : Newton steps, the highest order of what is to be right
    """
    places = [k for k, is_algebraic in enumerate(system.algebraic) if is_algebraic]
    at = jnp.zeros_like(state[0].value)
    values, inputs = jax.lax.stop_gradient(([x.value for x in state], [x.value for x in system.inputs]))

    def residual(*z):
        y = list(values)
        for k, value in zip(places, z, strict=True):
            y[k] = value
        found = system.flow(at, tuple(y), *inputs)
        return [found[k] for k in places]

    factors = _matrix(residual, tuple(values[k] for k in places))
    for _ in range(rounds):
        residuals = system.slope(at, state)
        parts = [factors.solve(part) if part[0] is not None else [None] * len(places) for part in _parts(residuals, places)]
        state = list(state)
        for n, k in enumerate(places):
            state[k] = jax.tree.map(jnp.subtract, state[k], Jet(*(part[n] for part in parts)))
        state = tuple(state)
    return state


def _matrix(residual: Callable, z: Numbers) -> Factors:
    """Factors of the derivative of the residuals in z."""
    one, none = jnp.ones_like(z[0]), jnp.zeros_like(z[0])
    units = [tuple(one if j == k else none for j in range(len(z))) for k in range(len(z))]
    columns = [jax.jvp(residual, z, unit)[1] for unit in units]
    return Factors([[column[i] for column in columns] for i in range(len(z))], first=0)


def _parts(jets: State, places: list[int]) -> list[list[Array | None]]:
    """Values, first and second derivatives of the jets at these places."""
    return [[getattr(jets[k], part) for k in places] for part in Jet._fields]


def _plus(a: Numbers, b: Numbers) -> Numbers:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _size(change: Numbers, sizes: list[Array]) -> Array:
    """The largest change relative to the sizes."""
    relative = [jnp.abs(x) / size for x, size in zip(change, sizes, strict=True)]
    found = relative[0]
    for one in relative[1:]:
        found = jnp.maximum(found, one)
    return found
