"""Derivatives carried in the numbers that a function depends on, where these are fewer than the directions asked for.

The matrix exponential of two compartments has four rates, made of five parameters; with a jet in the rates it has 15 columns
instead of 21, each rate moves along one direction only, and the chain rule from rates to parameters is applied once, to the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from nlme.jets.chain import Chain
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse, combined


def push_composed(columns: Columns, function: Callable, jets: Sequence[Jet], ndim: int) -> tuple[Jet, ...]:
    """``columns.push(function, *jets)`` for a function that goes element by element through arrays of ``ndim`` axes.

    Parameters
    ----------
    function : returns a tuple of arrays of ``ndim`` axes
    jets : of its arguments, which spread over the last of these axes; one with all ``ndim`` is as many arguments as it is long
    """
    parts = [[jet] if jet.value.ndim < ndim else [jet.at((k,)) for k in range(len(jet.value))] for jet in jets]
    inner = [one for several in parts for one in several]
    own = Columns.of_order(2 if columns.pairs else 1, len(inner))
    if not (columns.directions and jets) or own.count >= columns.count:
        return columns.push(function, *jets)

    def of_numbers(*values):
        given = iter(values)
        found = [[next(given) for _ in several] for several in parts]
        return function(*(x[0] if jet.value.ndim < ndim else jnp.stack(x) for x, jet in zip(found, jets, strict=True)))

    every = Occupied.all_of(own)
    seeds = [Sparse(u.value, jnp.ones((1, *u.value.shape)), None, Occupied((k,))) for k, u in enumerate(inner)]
    if own.pairs:
        outer = [x.into(every).jet() for x in Chain(own, of_numbers, (), seeds)()]
    else:
        outer = own.push(of_numbers, *(x.into(every).jet() for x in seeds))
    return tuple(compose(columns, jet, own, inner) for jet in outer)


def compose(columns: Columns, outer: Jet, own: Columns, inner: Sequence[Jet]) -> Jet:
    """The jet of y = f(u), element by element, from that of f (``outer``, in ``own`` columns) and those of u (``inner``).

    y_i = sum_a f_a u_a,i         y_ij = sum_ab f_ab u_a,i u_b,j + sum_a f_a u_a,ij

    ``own`` has one direction for each of ``inner``, to the same order as ``columns``.
    """
    every, ndim = Occupied.all_of(columns), outer.value.ndim

    def across(u: Jet) -> Sparse:
        """With the axes of the result."""
        more = (1,) * (ndim - u.value.ndim)
        parts = (None if part is None else part.reshape(len(part), *more, *part.shape[1:]) for part in (u.first, u.second))
        return Sparse(u.value.reshape(*more, *u.value.shape), *parts, every)

    given = [across(u) for u in inner]
    crossed = [] if outer.second is None else zip(outer.second, own.pairs, strict=True)
    crossed = [(0.5 * f if a == b else f, given[a], given[b]) for f, (a, b) in crossed]
    return combined(columns, outer.value, list(zip(outer.first, given, strict=True)), crossed).jet()
