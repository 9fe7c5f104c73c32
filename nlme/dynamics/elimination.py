"""Factors of a small matrix whose elements are arrays, such as one number for each subject side by side.

Elimination is written out, operation by operation, so that every operation is one loop over the subjects.  Rows are exchanged,
subject by subject, from the row ``first`` on: the Jacobians of compartments do not need it, and for others a pivot close to zero
makes the error estimate of a step large, so that it is tried again with another size, which moves every pivot; algebraic equations
may stand in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from nlme.jets.jet import Columns, Jet


class Factors:
    """P A = L U of the square matrix with these ``rows``, each a list of arrays of one shape."""

    def __init__(self, rows: Sequence[Sequence[Array]], first: int | None = None):
        w = [list(row) for row in rows]
        size = len(w)
        first = size if first is None else first
        self._exchanges: list[tuple[int, int, Bool[Array, ...]]] = []
        self._inverse_pivots = []
        for k in range(size):
            for i in range(k + 1, size) if k >= first else ():
                self._exchange(w, k, i, jnp.abs(w[i][k]) > jnp.abs(w[k][k]))
            self._inverse_pivots.append(1.0 / w[k][k])
            for i in range(k + 1, size):
                w[i][k] = w[i][k] * self._inverse_pivots[k]
                for j in range(k + 1, size):
                    w[i][j] = w[i][j] - w[i][k] * w[k][j]
        self._factors = w

    def _exchange(self, w, k: int, i: int, larger: Bool[Array, ...]) -> None:
        self._exchanges.append((k, i, larger))
        w[k], w[i] = _exchanged(w[k], w[i], larger)

    def sign(self) -> Float[Array, ...]:
        """Of the determinant; 0 or NaN where there is none."""
        found = jnp.sign(self._inverse_pivots[0])
        for pivot in self._inverse_pivots[1:]:
            found = found * jnp.sign(pivot)
        for _, _, larger in self._exchanges:
            found = jnp.where(larger, -found, found)
        return found

    def solve(self, right: Sequence[Array]) -> list[Array]:
        """A^-1 of a list with one array per row, which may have further axes before those of the matrix."""
        w, x = self._factors, list(right)
        for k, i, larger in self._exchanges:
            (x[k],), (x[i],) = _exchanged([x[k]], [x[i]], larger)
        for i in range(len(x)):
            for k in range(i):
                x[i] = x[i] - w[i][k] * x[k]
        for i in reversed(range(len(x))):
            for k in range(i + 1, len(x)):
                x[i] = x[i] - w[i][k] * x[k]
            x[i] = x[i] * self._inverse_pivots[i]
        return x


def _exchanged(upper: list[Array], lower: list[Array], larger) -> tuple[list[Array], list[Array]]:
    """Two rows, exchanged where the lower one is ``larger``."""
    pairs = [(jnp.where(larger, b, a), jnp.where(larger, a, b)) for a, b in zip(upper, lower, strict=True)]
    return [a for a, _ in pairs], [b for _, b in pairs]


class Elimination:
    """Solves W x = b for jets, W = M diagonal - df/dy with the jets of the ``rows`` of df/dy (``nlme.dynamics.rosenbrock``).

    Algebraic equations come last, and exchange rows.  ``materialised`` computes arrays once and keeps them.
    """

    def __init__(
        self,
        columns: Columns,
        rows: Sequence[Jet],
        algebraic: tuple[bool, ...],
        diagonal: Float[Array, ...],
        materialised: Callable,
    ):
        self.columns, self.rows, self.materialised = columns, rows, materialised
        self.order = sorted(range(len(rows)), key=lambda k: algebraic[k])
        mass = [0.0 if is_algebraic else diagonal for is_algebraic in algebraic]
        w = [[-rows[i].value[k] + (mass[i] if i == k else 0.0) for k in self.order] for i in self.order]
        self.factors = Factors(w, first=len(rows) - sum(algebraic))

    def __call__(self, right: tuple[Jet, ...]) -> tuple[Jet, ...]:
        left, other = self.columns.left, self.columns.right
        value = self.materialised(lambda: self._substitute([b.value for b in right]))
        first = second = [None] * len(value)
        if self.columns.directions:
            moved_first = [b.first + _product(row.first, value) for b, row in zip(right, self.rows, strict=True)]
            first = self.materialised(lambda: self._substitute(moved_first))
        if self.columns.pairs:
            moved = []
            for b, row in zip(right, self.rows, strict=True):
                crossed = _product(row.first[left], [x[other] for x in first]) + _product(
                    row.first[other], [x[left] for x in first]
                )
                moved.append(b.second + _product(row.second, value) + crossed)
            second = self._substitute(moved)
        return tuple(Jet(*parts) for parts in zip(value, first, second, strict=True))

    def _substitute(self, right: list[Array]) -> list[Array]:
        """W^-1 of a list with one array per state."""
        found = self.factors.solve([right[k] for k in self.order])
        return [found[self.order.index(k)] for k in range(len(right))]


def _product(row: Float[Array, "D k ..."], vector: list[Array]) -> Float[Array, "D ..."]:
    """sum_k row_k vector_k, over the elements of the vector."""
    return sum(row[:, k] * x for k, x in enumerate(vector))
