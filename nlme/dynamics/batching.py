"""Subjects side by side, on the last axis of every array.

``jax.vmap`` puts them first, before the columns of a jet, and the innermost loops of a compiled program are then over 1, 5 or 15
columns.  Over all subjects of a chunk they take a third of the time (``docs/principles.md``).  So the solution of a system of
equations is written for arrays that may have one more axis, over subjects, at their end: operations from element to element,
indices on leading axes only.  What the user wrote is a function of one subject's numbers all the same (``OfSubject``).
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float


class OfSubject(eqx.Module):
    """A function of one subject's arrays that can be called for several, side by side.

    Parameters
    ----------
    function : may close over arrays of the subject
    examples : arrays like its arguments
    """

    closed: Callable
    mark: Float[Array, ...]  # a number of one subject: its shape tells whether there are several

    def __init__(self, function: Callable, *examples):
        self.closed = eqx.filter_closure_convert(function, *examples)
        self.mark = jnp.zeros(())

    @property
    def several(self) -> bool:
        return self.mark.ndim > 0

    def __call__(self, *arguments):
        if not self.several:
            return self.closed(*arguments)
        own, rest = eqx.partition(self.closed, eqx.is_array)

        def one(own, *arguments):
            return eqx.combine(own, rest)(*arguments)

        return jax.vmap(one, -1, -1)(own, *arguments)


def batch_last(function: Callable, *arguments):
    """``function(*arguments)`` of one subject, which under vmap is computed with the subjects on the last axis of every array.

    Parameters
    ----------
    function : of arrays with or without that axis; it closes over no array
    arguments : pytrees
    """
    own, rest = eqx.partition(arguments, eqx.is_array)
    leaves, structure = jax.tree.flatten(own)

    def called(leaves):
        return function(*eqx.combine(jax.tree.unflatten(structure, leaves), rest))

    @custom_vmap
    def one(*leaves):
        return called(leaves)

    @one.def_vmap
    def several(size, batched, *leaves):
        if not any(batched):  # derivatives are pushed through: of one subject, along many directions
            end = called(leaves)
            return end, jax.tree.map(lambda _: False, end)
        spread = [
            x if is_batched else jnp.broadcast_to(x, (size, *jnp.shape(x))) for x, is_batched in zip(leaves, batched, strict=True)
        ]
        end = called([jnp.moveaxis(x, 0, -1) for x in spread])
        return jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), end), jax.tree.map(lambda _: True, end)

    return one(*leaves)
