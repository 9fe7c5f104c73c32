"""Systems of many equations: the states side by side in one vector, and linear algebra of whole matrices.

What ``System`` does state by state, with only the columns that each can have, is done here for all states at once and in all
columns, by JAX's forward mode: a program whose size does not grow with the number of states.  The linear systems of the stiff
method are solved by the inverse of W = M / (h gamma) - df/dy (Gauss and Jordan's elimination, rows exchanged) with one refinement.
Their jets need no jet of the matrix, only of its products (``rosenbrock``):

    W u_i  = b_i  + (f_y w)_i,     w = u held             W u_ij = b_ij + (f_y w)_ij,    w = u + sum_i u_i e_i.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.dynamics.system import State
from nlme.jets.jet import Columns, Jet


class DenseSystem:
    """dy/du = flow(u, y, inputs) on 0 <= u <= 1, or 0 = flow where ``algebraic``, with ``y`` a vector of s numbers.

    A state is a tuple of one jet.  Arrays may have a last axis over subjects.  See :class:`nlme.dynamics.system.System`.
    """

    lookback, looped = None, True

    def __init__(
        self,
        columns: Columns,
        flow: Callable,
        inputs: tuple[Jet, ...],
        algebraic: tuple[bool, ...],
        longest: Callable | None = None,
    ):
        self.longest = longest
        self.columns, self.flow, self.inputs, self.size = columns, flow, inputs, len(algebraic)
        self._batch = inputs[0].value.shape[1:]
        self.begin = jnp.zeros(self._batch)  # of the interval
        self._differential = self._beside(~np.array(algebraic))
        self.slope = jax.jit(self._slope)  # traced once for all stages

    def _beside(self, vector: np.ndarray):
        """A vector of states beside jets of them."""
        return vector.reshape(-1, *(1,) * len(self._batch))

    def _time(self, u) -> Float[Array, ...]:
        return jnp.broadcast_to(jnp.asarray(u, float), self._batch)

    def remembering(self, past) -> DenseSystem:
        return self

    def materialised(self, u, compute: Callable):
        return compute()

    def where_differential(self, of: State, otherwise: State) -> State:
        return jax.tree.map(lambda a, b: jnp.where(self._differential, a, b), of, otherwise)

    def _slope(self, u, y: State) -> State:
        u = self._time(u)
        return (self.columns.push(lambda y, *inputs: self.flow(u, y, *inputs), *y, *self.inputs),)

    def implicit(self, u, state: State, diagonal) -> tuple[State, Callable[[State], State]]:
        """Jets of df/du, and the solution of W x = b for jets."""
        (y,), u = state, self._time(u)
        values = [jet.value for jet in self.inputs]

        def along(y, w, *inputs):
            """f_y w"""
            return jax.jvp(lambda y: self.flow(u, y, *inputs), (y,), (w,))[1]

        def by_time(y, *inputs):
            return jax.jvp(lambda u: self.flow(u, y, *inputs), (u,), (jnp.ones_like(u),))[1]

        units = [jnp.broadcast_to(e.reshape(-1, *(1,) * len(self._batch)), y.value.shape) for e in jnp.eye(self.size)]
        jacobian = jax.vmap(lambda e: along(y.value, e, *values), out_axes=1)(jnp.stack(units))
        mass = self._beside(np.eye(self.size)).reshape(self.size, self.size, *(1,) * len(self._batch))
        w = mass * self._differential * diagonal - jacobian
        inverse = inverted(w)

        def solved(b: Float[Array, "k s ..."]) -> Float[Array, "k s ..."]:
            x = _product(inverse, b)
            return x + _product(inverse, b - _product(w, x))

        first_only = Columns(self.columns.directions)

        @jax.jit
        def solve(b: Jet) -> Jet:
            value = solved(b.value[None])[0]
            first = second = None
            if self.columns.directions:
                moved = [Jet(jet.value, jet.first, None) for jet in (y, *self.inputs)]
                held = first_only.push(lambda y, *inputs: along(y, value, *inputs), *moved)
                first = solved(b.first + held.first)
            if self.columns.pairs:
                direction = Jet(value, first, jnp.zeros_like(b.second))
                second = solved(b.second + self.columns.push(along, y, direction, *self.inputs).second)
            return Jet(value, first, second)

        return (self.columns.push(by_time, y, *self.inputs),), lambda right: (solve(*right),)


def inverted(matrix: Float[Array, "s s ..."]) -> Float[Array, "s s ..."]:
    """The inverse, by Gauss and Jordan's elimination; not finite where there is none."""
    size = matrix.shape[0]
    rows = jnp.arange(size).reshape(-1, *(1,) * (matrix.ndim - 2))

    def turn(k, both):
        column = both[:, k]
        pivot = jnp.argmax(jnp.where(rows >= k, jnp.abs(column), -1.0), axis=0)
        upper, lower = both[k], jnp.take_along_axis(both, pivot[None, None], axis=0)[0]
        both = jnp.where((rows == pivot)[:, None], upper[None], both)
        lower = lower / lower[k]
        rest = both - both[:, k][:, None] * lower[None]
        return jnp.where((rows == k)[:, None], lower[None], rest)

    unit = jnp.broadcast_to(jnp.eye(size).reshape(size, size, *(1,) * (matrix.ndim - 2)), matrix.shape)
    return jax.lax.fori_loop(0, size, turn, jnp.concatenate([matrix, unit], axis=1))[:, size:]


def _product(matrix: Float[Array, "s s ..."], vectors: Float[Array, "k s ..."]) -> Float[Array, "k s ..."]:
    return jnp.einsum("ij...,kj...->ki...", matrix, vectors)
