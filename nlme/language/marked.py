"""Learned terms that stay visible in a trace: each is called through a function with a name of its own."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np

from nlme.neural.term import LearnedTerm, is_term, place_of

MARK = "NN_"


class Marked(LearnedTerm):
    """A learned term whose calls stand in a trace as calls of ``NN_<place>``; everything else is its own."""

    term: Any
    place: str = eqx.field(static=True)

    def __getattr__(self, name: str):
        if name.startswith("__") or name == "term":
            raise AttributeError(name)
        return getattr(self.term, name)

    @property
    def word(self) -> str:
        return self.term.word

    @property
    def n_inputs(self) -> int:
        return self.term.n_inputs

    @property
    def form(self) -> str:
        return self.term.form

    def outputs_at(self, x):
        arrays, rest = eqx.partition(self.term, eqx.is_inexact_array)

        def call(arrays, x):
            return eqx.combine(arrays, rest).outputs_at(x)

        call.__name__ = MARK + self.place
        return jax.jit(call)(arrays, x)


def marked(model: Any):
    """The model with every learned term marked by its place."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(model, is_leaf=is_term)
    return jax.tree.unflatten(tree, [Marked(leaf, place_of(path)) if is_term(leaf) else leaf for path, leaf in leaves])


def number_of_weights(term: LearnedTerm) -> int:
    return sum(np.size(x) for x in jax.tree.leaves(eqx.filter(term, eqx.is_inexact_array)))
