"""A learned term that is linear in its weights: inputs, their squares and their pairwise products.

    z = (x - center) / scale,     out_k = sum_a weight_ka phi_a(z),     phi = (z_1 .. z_n, z_1^2 - 1, z_1 z_2, .. z_n^2 - 1)

What a response surface is made of (Box & Wilson 1951, doi:10.1111/j.2517-6161.1951.tb00067.x): with few people it is found where a network of
hidden units is not. Beyond the data it grows with the square of its inputs.
"""

from __future__ import annotations

import itertools

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.neural.term import LearnedTerm, learned


class Quadratic(LearnedTerm):
    """Linear, squared and product terms of standardised inputs."""

    weights: Float[Array, "out terms"] = learned("Coefficient")
    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    center: tuple[float, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)

    @property
    def n_inputs(self) -> int:
        return len(self.center)

    @property
    def terms(self) -> tuple[str, ...]:
        """What each weight belongs to: "wt", "wt^2", "wt age"."""
        pairs = [f"{a}^2" if a == b else f"{a} {b}" for a, b in itertools.combinations_with_replacement(self.inputs, 2)]
        return (*self.inputs, *pairs)

    def basis(self, x: Float[Array, " inputs"]) -> Float[Array, " terms"]:
        """phi of one set of inputs."""
        z = (x - jnp.array(self.center)) / jnp.array(self.scale)
        pairs = itertools.combinations_with_replacement(range(self.n_inputs), 2)
        return jnp.concatenate([z, jnp.stack([z[i] * z[j] - (i == j) for i, j in pairs])])

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""
        return self.weights @ self.basis(x)

    @property
    def form(self) -> str:
        return f"{self.weights.shape[1]} linear, squared and product terms"

    def __repr__(self) -> str:
        return f"Quadratic({', '.join(self.inputs)} -> {', '.join(self.outputs)}; {self.weights.shape[1]} terms)"
