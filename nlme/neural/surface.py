"""A learned term that is linear in its weights: a response surface of first or second degree.

    z = (x - center) / scale,     out_o = sum over its terms of weight x phi(z)

    degree 1:   phi one of z_1 .. z_n
    degree 2:   phi one of z_1 .. z_n, z_1^2 - 1, z_1 z_2, .. z_n^2 - 1

It holds the terms that were chosen (``nlme.learning.stepwise``), each with the output that it is part of.  With few people it is found where
a network of hidden units is not.  It has no constant, which would be the typical value a second time.  Beyond the data it grows with its
inputs, or their squares.  Box & Wilson (1951), doi:10.1111/j.2517-6161.1951.tb00067.x.
"""

from __future__ import annotations

import itertools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.neural.term import LearnedTerm, learned


class ResponseSurface(LearnedTerm):
    """Linear terms of standardised inputs, their squares and products: those that are in it, and no others.

    Attributes
    ----------
    weights : one for each term
    at : the output and the inputs of each term: (0, (2,)) is z_2 in output 0, (0, (1, 1)) is z_1^2 - 1
    """

    weights: Float[Array, " terms"] = learned("Coefficient")
    at: tuple[tuple[int, tuple[int, ...]], ...] = eqx.field(static=True)
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    center: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)

    @property
    def n_inputs(self) -> int:
        return len(self.center)

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""
        z = (x - jnp.array(self.center)) / jnp.array(self.scale)
        out = [jnp.zeros(())] * len(self.outputs)
        for weight, (o, of) in zip(self.weights, self.at, strict=True):
            out[o] = out[o] + weight * term_of(z, of)
        return jnp.stack(out)

    @property
    def form(self) -> str:
        """Its terms: "cl: wt, wt age; v: wt"."""
        of = {name: ", ".join(self._named(of) for o, of in self.at if o == k) for k, name in enumerate(self.outputs)}
        return "; ".join(f"{name}: {terms}" for name, terms in of.items() if terms) or "none"

    def _named(self, of: tuple[int, ...]) -> str:
        if len(of) == 2 and of[0] == of[1]:
            return f"{self.inputs[of[0]]}^2"
        return " ".join(self.inputs[k] for k in of)

    def __repr__(self) -> str:
        return f"ResponseSurface({self.form})"


def terms_of(inputs: int, degree: int) -> tuple[tuple[int, ...], ...]:
    """The inputs of every term up to a degree."""
    pairs = itertools.combinations_with_replacement(range(inputs), 2) if degree == 2 else ()
    return (*((k,) for k in range(inputs)), *pairs)


def term_of(z, of: tuple[int, ...]):
    """phi of the inputs ``of`` out of standardised ones (.., inputs)."""
    if len(of) == 1:
        return z[..., of[0]]
    return z[..., of[0]] * z[..., of[1]] - (of[0] == of[1])
