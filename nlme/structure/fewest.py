"""Derivatives carried in the numbers that a function depends on, where these are fewer than the directions asked for.

The matrix exponential of two compartments has four rates, made of five parameters; with a jet in the rates it has 15 columns
instead of 21, each rate moves along one direction only, and the chain rule from rates to parameters is applied once, to the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from nlme.structure.chain import Chain
from nlme.structure.jets import Columns, Jet
from nlme.structure.sparse import Occupied, Sparse


def push_in_fewest(columns: Columns, function: Callable, jets: Sequence[Jet], ndim: int) -> tuple[Jet, ...]:
    """``columns.push(function, *jets)`` for a function that goes element by element through arrays of ``ndim`` axes.

    Parameters
    ----------
    function : returns a tuple of arrays of ``ndim`` axes
    jets : of its arguments, which spread over the last of these axes; one with all ``ndim`` is as many arguments as it is long
    """
    if not jets:
        return tuple(columns.unpack(columns.constant(y)) for y in function())
    parts = [[jet] if jet.value.ndim < ndim else [jet.at((k,)) for k in range(len(jet.value))] for jet in jets]
    inner = [one for several in parts for one in several]
    own = Columns.of_order(2 if columns.pairs else 1, len(inner))
    if not columns.directions or own.count >= columns.count:
        return columns.push(function, *jets)

    def of_numbers(*values):
        given = iter(values)
        found = [[next(given) for _ in several] for several in parts]
        return function(*(x[0] if jet.value.ndim < ndim else jnp.stack(x) for x, jet in zip(found, jets, strict=True)))

    if own.pairs:
        seeds = [Sparse(u.value, jnp.ones((1, *u.value.shape)), None, Occupied((k,))) for k, u in enumerate(inner)]
        every = Occupied.all_of(own)
        outer = [x.into(every).jet() for x in Chain(own, of_numbers, (), seeds)()]
    else:
        outer = own.push(of_numbers, *(own.variable(k, u.value) for k, u in enumerate(inner)))
    return tuple(columns.compose(jet, own, inner) for jet in outer)
