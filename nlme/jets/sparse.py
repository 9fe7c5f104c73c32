"""Jets that hold only the columns that can differ from zero.

In a system of compartments few columns of a jet are ever occupied: an individual parameter moves along one direction, the depot
along that of ``ka``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nlme.jets.jet import Columns, Jet


@dataclasses.dataclass(frozen=True)
class Occupied:
    """The columns of a jet that may differ from zero, besides the value: sorted directions and pairs of directions."""

    directions: tuple[int, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def all_of(cls, columns: Columns) -> Occupied:
        return cls(tuple(range(columns.directions)), columns.pairs)

    def __or__(self, other: Occupied) -> Occupied:
        if self == other:
            return self
        return Occupied(tuple(sorted({*self.directions, *other.directions})), tuple(sorted({*self.pairs, *other.pairs})))

    def times(self, other: Occupied, columns: Columns) -> Occupied:
        """Those of a product."""
        both = self | other
        crossed = {
            (i, j)
            for i, j in columns.pairs
            if (i in self.directions and j in other.directions) or (j in self.directions and i in other.directions)
        }
        return Occupied(both.directions, tuple(sorted({*both.pairs, *crossed})))


class Sparse:
    """A jet of which only the ``occupied`` columns are there, on leading axes of ``first`` and ``second`` (None for none)."""

    def __init__(self, value, first=None, second=None, occupied: Occupied = Occupied()):
        self.value, self.first, self.second, self.occupied = value, first, second, occupied

    @classmethod
    def of(cls, jet: Jet, occupied: Occupied, columns: Columns) -> Sparse:
        """The occupied columns of a jet with all of them."""
        first = second = None
        if occupied.directions:
            first = _rows(jet.first, range(columns.directions), occupied.directions)
        if occupied.pairs:
            second = _rows(jet.second, columns.pairs, occupied.pairs)
        return cls(jet.value, first, second, occupied)

    def jet(self) -> Jet:
        return Jet(self.value, self.first, self.second)

    def into(self, occupied: Occupied) -> Sparse:
        """The same with these columns, at least those that it has."""
        if occupied == self.occupied:
            return self
        first = _placed(self.first, self.occupied.directions, occupied.directions, self.value)
        second = _placed(self.second, self.occupied.pairs, occupied.pairs, self.value)
        return Sparse(self.value, first, second, occupied)

    def element(self, k: int, occupied: Occupied) -> Sparse:
        """The jet of ``value[k]``, which occupies only these of the columns."""
        first = second = None
        if occupied.directions:
            first = _rows(self.first, self.occupied.directions, occupied.directions)[:, k]
        if occupied.pairs:
            second = _rows(self.second, self.occupied.pairs, occupied.pairs)[:, k]
        return Sparse(self.value[k], first, second, occupied)


def whole(x: Sparse, columns: Columns) -> Array:
    """A jet packed with all its columns."""
    return x.into(Occupied.all_of(columns)).jet().packed()


def along(function: Callable, x: Sparse) -> Sparse:
    """A linear function of one array, in every column."""
    first, second = (None if part is None else jax.vmap(function)(part) for part in (x.first, x.second))
    return Sparse(function(x.value), first, second, x.occupied)


def combined(columns: Columns, value, linear: list, crossed: Sequence = ()) -> Sparse:
    """sum_k c_k x_k + sum_k c_k (a_k b_k' + b_k a_k'): ``linear`` is (c, x), ``crossed`` (c, a, b)."""
    linear = [(c, x) for c, x in linear if x.occupied != Occupied()]
    crossed = [(c, a, b) for c, a, b in crossed if a.occupied.directions and b.occupied.directions]
    occupied = Occupied()
    for _, x in linear:
        occupied = occupied | x.occupied
    if columns.pairs:
        for _, a, b in crossed:
            occupied = occupied | a.occupied.times(b.occupied, columns)
    ndim = value.ndim
    first = second = None
    if occupied.directions:
        terms = [(c, _placed(x.first, x.occupied.directions, occupied.directions, x.value)) for c, x in linear]
        first = _added(terms, ndim)
    if occupied.pairs:
        terms = [(c, _placed(x.second, x.occupied.pairs, occupied.pairs, x.value)) for c, x in linear if x.occupied.pairs]
        terms += [(c, _outer(a, b, occupied.pairs)) for c, a, b in crossed]
        second = _added(terms, ndim)
    # a term may be a scalar beside an array
    shape = value.shape
    first, second = (None if p is None else jnp.broadcast_to(p, (p.shape[0], *shape)) for p in (first, second))
    return Sparse(value, first, second, occupied)


def _rows(part: Array, have: Sequence, wanted: Sequence) -> Array:
    """The columns ``wanted`` of a part that has the columns ``have``."""
    have, wanted = list(have), list(wanted)
    if have == wanted:
        return part
    at = [have.index(column) for column in wanted]
    if at == list(range(at[0], at[0] + len(at))):
        return part[at[0] : at[0] + len(at)]
    return part.at[np.array(at)].get(mode="promise_in_bounds")


def _placed(part: Array | None, have: Sequence, wanted: Sequence, value: Array) -> Array | None:
    """A part with the columns ``have`` among the columns ``wanted``, zero in those that it has not."""
    if not wanted or tuple(have) == tuple(wanted):
        return part
    if part is None:
        return jnp.zeros((len(wanted), *value.shape), value.dtype)
    there = np.array([column in have for column in wanted])
    if len(have) > 1:
        at = np.array([have.index(column) if column in have else 0 for column in wanted])
        part = part.at[at].get(mode="promise_in_bounds")
    return jnp.where(there.reshape(-1, *(1,) * value.ndim), part, 0.0)


def _outer(a: Sparse, b: Sparse, pairs: Sequence[tuple[int, int]]) -> Array:
    """a_i b_j + a_j b_i of every pair."""
    ndim = max(a.value.ndim, b.value.ndim)
    if len(a.occupied.directions) == 1:
        a, b = b, a
    if len(b.occupied.directions) == 1:
        (k,) = b.occupied.directions
        other = [j if i == k else i for i, j in pairs]
        times = [(2.0 if i == j else 1.0) if k in (i, j) else 0.0 for i, j in pairs]
        return _spread(_taken(a, other, times), ndim) * _spread(b.first, ndim)
    left, right = [i for i, _ in pairs], [j for _, j in pairs]
    if a is b:
        return 2.0 * _taken(a, left) * _taken(a, right)
    (a_i, a_j), (b_i, b_j) = ([_spread(_taken(x, side), ndim) for side in (left, right)] for x in (a, b))
    return a_i * b_j + a_j * b_i


def _taken(x: Sparse, directions: Sequence[int], times: Sequence[float] | None = None) -> Array:
    """Rows of first derivatives, each ``times`` a number; zero in directions that are not occupied."""
    have = x.occupied.directions
    factor = np.array([float(i in have) for i in directions]) * (1.0 if times is None else np.array(times))
    if len(have) > 1:
        at = np.array([have.index(i) if i in have else 0 for i in directions])
        rows = x.first.at[at].get(mode="promise_in_bounds")
    else:
        rows = x.first
    if np.all(factor == 1.0):
        return jnp.broadcast_to(rows, (len(directions), *rows.shape[1:]))
    return rows * factor.reshape(-1, *(1,) * x.value.ndim)


def _spread(x: Array, ndim: int) -> Array:
    """A part of a jet of a scalar, to go with parts of arrays of ``ndim`` dimensions."""
    return x.reshape(x.shape + (1,) * (1 + ndim - x.ndim))


def _added(terms: list, ndim: int) -> Array:
    """sum of c x, with the factors that are 1 or -1 left out."""
    total = None
    for c, x in terms:
        x = _spread(x, ndim)
        term = x if isinstance(c, float) and abs(c) == 1.0 else c * x
        if isinstance(c, float) and c == -1.0:
            total = -term if total is None else total - term
        else:
            total = term if total is None else total + term
    return total
