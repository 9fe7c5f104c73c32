"""A learned term that is linear in its weights: a response surface of first or second degree.

    z = (x - center) / scale,     out_k = sum_a weight_ka phi_a(z)

    degree 1:   phi = (z_1 .. z_n)
    degree 2:   phi = (z_1 .. z_n, z_1^2 - 1, z_1 z_2, .. z_n^2 - 1)

Box & Wilson (1951), doi:10.1111/j.2517-6161.1951.tb00067.x: with few people it is found where a network of hidden units is not.  It has no
constant, which would be the typical value a second time.  Beyond the data it grows with its inputs, or their squares.
"""

from __future__ import annotations

import itertools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.neural.term import LearnedTerm, learned


class ResponseSurface(LearnedTerm):
    """Linear terms of standardised inputs, at degree 2 with their squares and products."""

    weights: Float[Array, "out terms"] = learned("Coefficient")
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    center: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)
    degree: int = eqx.field(static=True)

    @property
    def n_inputs(self) -> int:
        return len(self.center)

    @property
    def terms(self) -> tuple[str, ...]:
        """What each weight belongs to: "wt", "wt^2", "wt age"."""
        pairs = itertools.combinations_with_replacement(self.inputs, 2) if self.degree == 2 else ()
        return (*self.inputs, *(f"{a}^2" if a == b else f"{a} {b}" for a, b in pairs))

    def basis(self, x: Float[Array, " inputs"]) -> Float[Array, " terms"]:
        """phi of one set of inputs."""
        z = (x - jnp.array(self.center)) / jnp.array(self.scale)
        if self.degree == 1:
            return z
        pairs = itertools.combinations_with_replacement(range(self.n_inputs), 2)
        return jnp.concatenate([z, jnp.stack([z[i] * z[j] - (i == j) for i, j in pairs])])

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""
        return self.weights @ self.basis(x)

    @property
    def form(self) -> str:
        return f"{self.weights.shape[1]} linear{', squared and product' if self.degree == 2 else ''} terms"

    def __repr__(self) -> str:
        return f"ResponseSurface({', '.join(self.inputs)} -> {', '.join(self.outputs)}; {self.form})"
