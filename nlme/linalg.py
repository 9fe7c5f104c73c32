"""Small dense linear algebra, Cholesky first."""

from __future__ import annotations

import functools

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


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def raised(matrix: Float[Array, "n n"], least: float) -> Float[Array, "n n"]:
    """The symmetric matrix with its eigenvalues raised to ``least`` where they are below.

    Continuous, with the derivative V (F o V'dM V) V', F_ij = (f(l_i) - f(l_j)) / (l_i - l_j), which repeated eigenvalues do not
    disturb (Daleckii & Krein 1965; Higham 2008, Functions of Matrices, theorem 3.11, doi:10.1137/1.9780898717778).
    """
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.maximum(values, least)) @ vectors.T


@raised.defjvp
def _raised_jvp(least, primals, tangents):
    values, vectors = jnp.linalg.eigh(primals[0])
    change = values[:, None] - values[None, :]
    new = jnp.maximum(values, least)
    near = jnp.abs(change) <= 1e-8 * (1.0 + jnp.abs(values[:, None]))
    slope = jnp.where(near, jnp.where(values[:, None] > least, 1.0, 0.0), (new[:, None] - new[None, :]) / jnp.where(near, 1.0, change))
    return (vectors * new) @ vectors.T, vectors @ (slope * (vectors.T @ tangents[0] @ vectors)) @ vectors.T
