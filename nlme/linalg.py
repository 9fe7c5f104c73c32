"""Small dense linear algebra, Cholesky first."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def log_det(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """log det of a positive definite matrix; NaN where it is not positive definite."""
    if matrix.shape[-1] == 0:
        return jnp.zeros(())
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(matrix))))


def solve_positive(matrix: Float[Array, "n n"], vector: Float[Array, " n"]) -> Float[Array, " n"]:
    """Solution of a positive definite system; NaN where the matrix is not positive definite."""
    if matrix.shape[-1] == 0:
        return vector
    factor = jnp.linalg.cholesky(matrix)
    return jax.scipy.linalg.cho_solve((factor, True), vector)
