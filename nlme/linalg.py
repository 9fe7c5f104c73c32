"""Small dense linear algebra, Cholesky first, of matrices as large as a subject's random effects.

Written out in elementwise operations, so that ``vmap`` over subjects, draws or replicates makes each operation one loop over all of
them.  jaxlib (0.10) hands batches of matrices to LAPACK instead, matrix by matrix; what is worse, with batches large enough to be
shared out among its threads two such calls can wait for each other's threads for ever (seen on two cores: ``ParallelBatchMap``
blocks inside the pool that it waits for).  Matrices with more than ``LARGEST`` rows do go to LAPACK; there is one of them at a time.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

LARGEST = 40
_SWEEPS = 20  # of rotations at most; six or seven do for matrices this small


def _times(a, b):
    """a @ b as a sum of products, which XLA joins with what is around it; b a matrix or a vector."""
    if len(a) > LARGEST:
        return a @ b
    return jnp.sum(a[:, :, None] * b[None], axis=1) if b.ndim == 2 else jnp.sum(a * b, axis=1)


@jax.custom_jvp
def cholesky(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower triangular L with L L' = matrix; not finite where that is not positive definite.  Only the lower triangle is read."""
    n = matrix.shape[-1]
    if n > LARGEST:
        return jnp.linalg.cholesky(matrix, symmetrize_input=False)
    columns, rows = [], np.arange(n)
    for j in range(n):
        pivot = matrix[j, j]
        column = jnp.where(rows >= j, matrix[:, j], 0.0) / jnp.sqrt(jnp.where(pivot > 0.0, pivot, jnp.nan))
        matrix = matrix - column[:, None] * column
        columns.append(column)
    return jnp.stack(columns, axis=1) if n else matrix


@cholesky.defjvp
def _cholesky_jvp(primals, tangents):
    """dL = L phi(L^-1 dA L^-T), phi the lower triangle with half the diagonal (Smith 1995, doi:10.1080/10618600.1995.10474671)."""
    factor, change = cholesky(primals[0]), tangents[0]
    lower = jnp.tril(change, -1)
    inverse = inverse_lower(factor)
    middle = _times(_times(inverse, lower + lower.T + jnp.diag(jnp.diagonal(change))), inverse.T)
    half = np.tril(np.ones(change.shape), -1) + 0.5 * np.eye(change.shape[-1])
    return factor, _times(factor, half * middle)


@jax.custom_jvp
def inverse_lower(factor: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a lower triangular matrix."""
    n = factor.shape[-1]
    if n > LARGEST:
        return jax.scipy.linalg.solve_triangular(factor, jnp.eye(n), lower=True)
    rows = []
    for i in range(n):
        right = jnp.eye(n)[i]
        if rows:
            right = right - jnp.sum(factor[i, :i, None] * jnp.stack(rows), axis=0)
        rows.append(right / factor[i, i])
    return jnp.stack(rows) if n else factor


@inverse_lower.defjvp
def _inverse_lower_jvp(primals, tangents):
    inverse = inverse_lower(primals[0])
    return inverse, -_times(_times(inverse, jnp.tril(tangents[0])), inverse)


def solve_lower(factor: Float[Array, "n n"], right: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """L^-1 right, L lower triangular; ``right`` a vector or the columns of a matrix."""
    return _times(inverse_lower(factor), right)


def solved(factor: Float[Array, "n n"], right: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """(L L')^-1 right, L lower triangular."""
    inverse = inverse_lower(factor)
    return _times(inverse.T, _times(inverse, right))


@jax.custom_jvp
def log_det(matrix: Float[Array, "n n"]) -> Float[Array, ""]:
    """log det of a positive definite matrix; NaN where it is not positive definite."""
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(cholesky(matrix))))


@log_det.defjvp
def _log_det_jvp(primals, tangents):
    factor = cholesky(primals[0])
    inverse = inverse_lower(factor)
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor))), jnp.sum(_times(inverse.T, inverse) * tangents[0])


@jax.custom_jvp
def solve_positive(matrix: Float[Array, "n n"], right: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """Solution of a positive definite system, of a vector or the columns of a matrix; NaN where it is not positive definite."""
    return solved(cholesky(matrix), right)


@solve_positive.defjvp
def _solve_positive_jvp(primals, tangents):
    factor = cholesky(primals[0])
    x = solved(factor, primals[1])
    return x, solved(factor, tangents[1] - _times(tangents[0], x))


def inverse_positive(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The inverse of a positive definite matrix; NaN where it is not positive definite."""
    return solve_positive(matrix, jnp.eye(matrix.shape[-1]))


def solve(matrix: Float[Array, "n n"], right: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """Solution of any system, of a vector or the columns of a matrix, by elimination with row exchanges; not finite if singular."""
    return _times(_inverse(matrix), right)


@jax.custom_jvp
def _inverse(matrix):
    """Gauss-Jordan elimination with row exchanges."""
    n = matrix.shape[-1]
    if n > LARGEST:
        return jnp.linalg.inv(matrix)
    work, rows = jnp.concatenate([matrix, jnp.eye(n)], axis=1), np.arange(n)
    for j in range(n):
        largest = jnp.argmax(jnp.where(rows >= j, jnp.abs(work[:, j]), -1.0))
        chosen = (rows == largest)[:, None]
        there, here = jnp.sum(jnp.where(chosen, work, 0.0), axis=0), work[j]
        work = jnp.where(chosen, here, work)
        pivot = there / there[j]
        work = jnp.where((rows == j)[:, None], pivot, work - jnp.where(rows == j, 0.0, work[:, j])[:, None] * pivot)
    return work[:, n:]


@_inverse.defjvp
def _inverse_jvp(primals, tangents):
    inverse = _inverse(primals[0])
    return inverse, -_times(_times(inverse, tangents[0]), inverse)


def eigen(matrix: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """Eigenvalues, in no order, and eigenvectors (columns) of a symmetric matrix, by Jacobi's rotations (Golub & Van Loan 8.5).

    Not to be differentiated.
    """
    n = matrix.shape[-1]
    if n < 2:
        return jnp.diagonal(matrix), jnp.eye(n)
    if n > LARGEST:
        return jnp.linalg.eigh(matrix)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, n)])

    def rotated(k, found):
        a, v = found
        i, j = jnp.asarray(pairs)[k]
        one, other = jax.nn.one_hot(i, n), jax.nn.one_hot(j, n)
        off = a[i, j]
        small = jnp.abs(off) < 1e-300
        theta = (a[j, j] - a[i, i]) / (2.0 * jnp.where(small, 1.0, off))
        t = jnp.where(small, 0.0, jnp.where(theta < 0, -1.0, 1.0) / (jnp.abs(theta) + jnp.sqrt(theta**2 + 1.0)))
        c = 1.0 / jnp.sqrt(t**2 + 1.0)
        s = t * c
        to_one, to_other = (c - 1.0) * one + s * other, (c - 1.0) * other - s * one

        def turned(m):
            return m + m[:, i][:, None] * to_one + m[:, j][:, None] * to_other

        return turned(turned(a).T), turned(v)

    def going(found):
        sweep, a, _ = found
        beside = jnp.sum(jnp.square(jnp.where(np.eye(n, dtype=bool), 0.0, a)))
        return (sweep < _SWEEPS) & (beside > 1e-31 * jnp.sum(jnp.square(a)))

    def swept(found):
        sweep, a, v = found
        return (sweep + 1, *jax.lax.fori_loop(0, len(pairs), rotated, (a, v)))

    _, a, v = jax.lax.while_loop(going, swept, (jnp.zeros((), int), matrix, jnp.eye(n)))
    return jnp.diagonal(a), v


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def raised(matrix: Float[Array, "n n"], least: float) -> Float[Array, "n n"]:
    """The symmetric matrix with its eigenvalues raised to ``least`` where they are below.

    Continuous, with the derivative V (F o V'dM V) V', F_ij = (f(l_i) - f(l_j)) / (l_i - l_j), which repeated eigenvalues do not
    disturb (Daleckii & Krein 1965; Higham 2008, Functions of Matrices, theorem 3.11, doi:10.1137/1.9780898717778).
    """
    values, vectors = eigen(matrix)
    return (vectors * jnp.maximum(values, least)) @ vectors.T


@raised.defjvp
def _raised_jvp(least, primals, tangents):
    values, vectors = eigen(primals[0])
    change = values[:, None] - values[None, :]
    new = jnp.maximum(values, least)
    near = jnp.abs(change) <= 1e-8 * (1.0 + jnp.abs(values[:, None]))
    slope = jnp.where(
        near, jnp.where(values[:, None] > least, 1.0, 0.0), (new[:, None] - new[None, :]) / jnp.where(near, 1.0, change)
    )
    return (vectors * new) @ vectors.T, vectors @ (slope * (vectors.T @ tangents[0] @ vectors)) @ vectors.T
