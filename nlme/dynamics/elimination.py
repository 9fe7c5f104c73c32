"""Factors of a small matrix whose elements are arrays, such as one number for each subject side by side.

Elimination is written out, operation by operation, so that every operation is one loop over the subjects.  Rows are exchanged,
subject by subject, from the row ``first`` on: the Jacobians of compartments do not need it, and for others a pivot close to zero
makes the error estimate of a step large, so that it is tried again with another size, which moves every pivot; algebraic equations
may stand in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
