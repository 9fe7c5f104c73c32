"""Jets: a value with its first and second derivatives in chosen directions, carried through functions and solvers.

A packed array has a last axis of ``C`` columns: column 0 the value, columns 1..D the first derivatives in D directions,
then one column for each pair (i, j) of directions in ``Columns.pairs``: the second derivative d2/(de_i de_j).

``apply`` is the chain rule for packed arrays (Faa di Bruno to second order), built from nested forward-mode derivatives:

    y_i  = f'(x) x_i                y_ij = f''(x)[x_i, x_j] + f'(x) x_ij

``Polynomial`` turns a jet back into something that JAX differentiates: the local Taylor polynomial, exact at the point to
the order of the jet.  This is how a likelihood is differentiated without differentiating through a solver
(Griewank & Walther, Evaluating Derivatives, 2nd ed. 2008, ch. 13).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which derivatives a jet carries: ``directions`` first derivatives and the second derivatives of ``pairs`` (i <= j)."""

    directions: int = 0
    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_order(cls, order: int, directions: int, carriers: np.ndarray | None = None) -> Columns:
        """Columns to ``order`` 0, 1 or 2; of the second order only pairs with at least one direction among ``carriers``."""
        if order == 0:
            return cls()
        if order == 1:
            return cls(directions)
        carries = np.ones(directions, bool) if carriers is None else np.asarray(carriers, bool)
        pairs = tuple((i, j) for i in range(directions) for j in range(i, directions) if carries[i] or carries[j])
        return cls(directions, pairs)

    def __post_init__(self):
        if self.pairs and {i for pair in self.pairs for i in pair} != set(range(self.directions)):
            raise ValueError("every direction of a jet with second derivatives must be in one of its pairs")

    @property
    def count(self) -> int:
        return 1 + self.directions + len(self.pairs)

    @functools.cached_property
    def left(self) -> np.ndarray:
        return np.array([i for i, _ in self.pairs], dtype=int)

    @functools.cached_property
    def right(self) -> np.ndarray:
        return np.array([j for _, j in self.pairs], dtype=int)

    @functools.cached_property
    def _found(self) -> np.ndarray:
        """Where among (left, right) members of the pairs each direction is found."""
        members = np.concatenate([self.left, self.right])
        return np.array([int(np.flatnonzero(members == i)[0]) for i in range(self.directions)])

    def constant(self, value: Float[Array, "..."]) -> Float[Array, "... C"]:
        """A packed array whose derivatives are all zero."""
        value = jnp.asarray(value)
        return jnp.concatenate([value[..., None], jnp.zeros((*value.shape, self.count - 1))], axis=-1)

    def seed(self, value: Float[Array, " D"], scale: Float[Array, " D"]) -> Float[Array, "D C"]:
        """The independent variables themselves: direction i moves variable i by ``scale[i]``."""
        first = jnp.diag(scale) if self.directions else jnp.zeros((value.shape[0], 0))
        return jnp.concatenate([value[:, None], first, jnp.zeros((value.shape[0], len(self.pairs)))], axis=-1)

    def apply(self, function: Callable, packed: Float[Array, "m C"]) -> Float[Array, "n C"]:
        """``function`` from (m,) to (n,) applied to a jet, as a jet."""
        value = packed[:, 0]
        if not self.directions:
            return function(value)[:, None]
        first = packed[:, 1 : 1 + self.directions].T

        def slope(x, v):
            return jax.jvp(function, (x,), (v,))

        if not self.pairs:
            y, y_first = jax.vmap(slope, (None, 0), (None, 0))(value, first)
            return jnp.concatenate([y[None], y_first]).T
        second = packed[:, 1 + self.directions :].T

        def bend(x_i, x_j, x_ij):
            return jax.jvp(slope, (value, x_i), (x_j, x_ij))

        # one trace of `function` gives the value, both first derivatives of every pair, and the second
        (y, y_left), (y_right, y_second) = jax.vmap(bend, out_axes=((None, 0), (0, 0)))(
            first[self.left], first[self.right], second
        )
        y_first = jnp.concatenate([y_left, y_right])[self._found]
        return jnp.concatenate([y[None], y_first, y_second]).T


class Polynomial:
    """The local Taylor polynomial of a jet, as a function of the displacement of its directions.

    value + sum_i y_i d_i + 1/2 sum_ij y_ij d_i d_j, where pairs that the jet does not carry are taken as zero.
    """

    def __init__(self, columns: Columns, packed: Float[Array, "... C"]):
        self.columns, self.packed = columns, packed

    def __call__(self, displacement: Float[Array, " D"]) -> Float[Array, "..."]:
        columns = self.columns
        weights = [jnp.ones(1)]
        if columns.directions:
            weights.append(displacement)
        if columns.pairs:
            half = np.where(columns.left == columns.right, 0.5, 1.0)
            weights.append(half * displacement[columns.left] * displacement[columns.right])
        return jnp.sum(self.packed * jnp.concatenate(weights), axis=-1)
