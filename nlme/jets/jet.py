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
from collections.abc import Callable, Sequence
from typing import NamedTuple

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

    def constant(self, value: Float[Array, ...]) -> Float[Array, "... C"]:
        """A packed array whose derivatives are all zero."""
        value = jnp.asarray(value)
        return jnp.concatenate([value[..., None], jnp.zeros((*value.shape, self.count - 1))], axis=-1)

    def seed(self, value: Float[Array, " D"], scale: Float[Array, " D"]) -> Float[Array, "D C"]:
        """The independent variables themselves: direction i moves variable i by ``scale[i]``."""
        first = jnp.diag(scale) if self.directions else jnp.zeros((value.shape[0], 0))
        return jnp.concatenate([value[:, None], first, jnp.zeros((value.shape[0], len(self.pairs)))], axis=-1)

    def push(self, function: Callable, *jets: Jet):
        """``function`` of arrays applied to their jets: the jet of its result, or of each array of a tuple."""
        values = tuple(jet.value for jet in jets)
        if not self.directions:
            return jax.tree.map(lambda y: Jet(y, None, None), function(*values))
        if not jets:
            return jax.tree.map(lambda y: self.unpack(self.constant(y)), function())
        first = tuple(jet.first for jet in jets)

        def slope(x, v):
            return jax.jvp(function, x, v)

        if not self.pairs:
            y, y_first = jax.vmap(slope, (None, 0), (None, 0))(values, first)
            return jax.tree.map(lambda y, d: Jet(y, d, None), y, y_first)
        second = tuple(jet.second for jet in jets)

        def second_derivative(x_i, x_j, x_ij):
            return jax.jvp(slope, (values, x_i), (x_j, x_ij))

        # one trace of `function` gives the value, both first derivatives of every pair, and the second
        left, right = (tuple(f[side] for f in first) for side in (self.left, self.right))
        (y, y_left), (y_right, y_second) = jax.vmap(second_derivative, out_axes=((None, 0), (0, 0)))(left, right, second)

        def found(y_left, y_right):
            return jnp.stack([(y_left, y_right)[k // len(self.pairs)][k % len(self.pairs)] for k in self._found])

        return jax.tree.map(lambda y, a, b, c: Jet(y, found(a, b), c), y, y_left, y_right, y_second)

    def parts(self, function: Callable, packed: Float[Array, "m C"]) -> Jet:
        """``function`` from (m,) to an array, applied to a packed array."""
        return self.push(function, self.unpack(packed))

    def apply(self, function: Callable, packed: Float[Array, "m C"]) -> Float[Array, "n C"]:
        """``function`` from (m,) to (n,) applied to a jet, as a packed array."""
        return self.parts(function, packed).packed()

    def unpack(self, packed: Float[Array, "... C"]) -> Jet:
        """The parts of a packed array."""
        columns = jnp.moveaxis(packed, -1, 0)
        first = columns[1 : 1 + self.directions] if self.directions else None
        return Jet(columns[0], first, columns[1 + self.directions :] if self.pairs else None)


class Jet(NamedTuple):
    """A value with its first derivatives (D, ...) and second derivatives (pairs, ...); None where they are not carried.

    Unlike a packed array its parts are separate, which lets XLA compute each of them as one vectorised loop.
    """

    value: Float[Array, ...]
    first: Float[Array, "D ..."] | None
    second: Float[Array, "P ..."] | None

    @classmethod
    def of_elements(cls, jets: Sequence[Jet]) -> Jet:
        """The jet of the vector whose elements have these jets."""
        value, first, second = zip(*jets, strict=True)
        return cls(jnp.stack(value), *(None if part[0] is None else jnp.stack(part, axis=1) for part in (first, second)))

    def packed(self) -> Float[Array, "... C"]:
        """The columns side by side on a last axis."""
        parts = [self.value[None], *(part for part in (self.first, self.second) if part is not None)]
        return jnp.moveaxis(jnp.concatenate(parts), 0, -1)

    def at(self, index) -> Jet:
        """The jet of ``value[index]``."""
        return Jet(
            self.value[index],
            None if self.first is None else self.first[(slice(None), *index)],
            None if self.second is None else self.second[(slice(None), *index)],
        )


class Polynomial:
    """The local Taylor polynomial of a jet, as a function of the displacement of its directions.

    value + sum_i y_i d_i + 1/2 sum_ij y_ij d_i d_j, where pairs that the jet does not carry are taken as zero.
    """

    def __init__(self, columns: Columns, jet: Jet):
        self.columns, self.jet = columns, jet

    def __call__(self, displacement: Float[Array, " D"]) -> Float[Array, ...]:
        columns, (total, first, second) = self.columns, self.jet
        if first is not None:
            total = total + _weighted(displacement, first)
        if second is not None:
            half = np.where(columns.left == columns.right, 0.5, 1.0)
            total = total + _weighted(half * displacement[columns.left] * displacement[columns.right], second)
        return total


def _weighted(weights: Float[Array, " k"], terms: Float[Array, "k ..."]) -> Float[Array, ...]:
    return jnp.sum(weights.reshape(-1, *(1,) * (terms.ndim - 1)) * terms, axis=0)
