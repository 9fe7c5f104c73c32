"""The Hessian of minus a marginal log posterior at a mode, where networks make it too large to difference.

Rows of what is no weight are central differences of the exact gradient.  Between the weights w it is the generalised Gauss-Newton
matrix of the marginal that FOCEI linearises: with f the predictions, A = df/db at the modes b^, J = df/dw there, R the residual
variances, and the like for log variances (Fisher scoring) and for samples that are not normal (their scores),

    sum_i J_i' (R_i + A_i A_i')^-1 J_i  =  sum_i [ J'R^-1 J - J'R^-1 A (A'R^-1 A + I)^-1 A'R^-1 J ]  +  prior's curvature

It is positive definite wherever the weights are, also where a search left off before the mode; exact curvature need not be.

Sources: Schraudolph (2002), Neural Comput 14:1723 (generalised Gauss-Newton); Immer, Korzepa & Bauer (2021), AISTATS 130:703,
arXiv:2008.08400 (Laplace approximations of networks by it).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.dynamics.solvers import Tolerances
from nlme.language.anatomy import Anatomy
from nlme.language.density import effects_from, moments
from nlme.language.solution import expand
from nlme.linalg import cholesky, solved

_APART = 1e-3  # of central differences of the gradient, for coordinates of the size 1
_UNKNOWN = 1e-2  # curvature in a direction of which neither data nor prior say anything, on the scale of the others
_ROUNDING = 1e-12
_SURE = 1e-3  # curvature, with ones on the diagonal, that is not for want of exactness
_STEPS, CLOSE, _HIGHEST = 100, 1e-4, 1e8  # of a descent: most of them, gain that is worth one more, damping at which it gives up
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the part between weights and others, that are tried


def rows_by_differences(minus: Callable, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(rows, G) of the Hessian of ``minus`` (value and gradient) at ``x``."""
    steps = (_APART * (1.0 + np.abs(x)) * np.eye(len(x)))[rows]
    return np.array([(minus(x + h)[1] - minus(x - h)[1]) / (2.0 * h.sum()) for h in steps]).reshape(len(rows), len(x))


def gauss_newton(told: Callable, anatomy: Anatomy, w: Float[Array, " W"], b: Float[Array, " q"], ode: Tolerances):
    """(W, W) information that one subject's data have of the weights ``w``, its random effects integrated around ``b``.

    ``told(w)`` gives the model with these weights, and the subject's data.
    """

    def values(w, b):
        model, data = told(w)
        eta = effects_from(anatomy, model, data.standard(b))
        # made in here: a solution by one pass back through the steps is differentiated in the model that it was made with
        solution = expand(model, anatomy, eta, data.covariates, data.known, 1, ode)(model, eta)
        m = moments(model, anatomy, data, solution)
        return (m.mean - m.transformed, jnp.log(m.variance), jnp.where(m.normal, 0.0, m.log_factor)), m.variance

    slopes, variance = jax.jacrev(values, (0, 1), has_aux=True)(w, b)
    _, data = told(w)
    by_mean, by_variance, score = slopes

    def whitened(k):
        """Rows whose outer products add up to the information, in w (k = 0) or b (1)."""
        rows = by_mean[k] / jnp.sqrt(variance)[:, None], jnp.sqrt(0.5) * by_variance[k], score[k]
        return jnp.concatenate([jnp.where(data.mask[:, None], one, 0.0) for one in rows])

    j, a = whitened(0), whitened(1)
    if not b.shape[0]:
        return j.T @ j
    cross = a.T @ j
    return j.T @ j - cross.T @ solved(cholesky(a.T @ a + jnp.eye(b.shape[0])), cross)


def outer_products(scores: Float[np.ndarray, "N W"]) -> np.ndarray:
    """The information by the subjects' scores, of which the Gauss-Newton matrix is the expectation."""
    return scores.T @ scores


def joined(rows: np.ndarray, information: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(G, G) of the rows (O, G) of what is no weight and the ``information`` (W, W) of the ``weights`` (G,).

    The part between them is exact where the whole is then positive definite, and less of it where it is not.
    """
    own, others = np.flatnonzero(weights), np.flatnonzero(~weights)
    found = np.zeros((len(weights), len(weights)))
    found[np.ix_(own, own)] = information
    found[np.ix_(others, others)] = 0.5 * (rows[:, others] + rows[:, others].T)
    scales = np.outer(_scales(found), _scales(found))
    least = min(0.2 * float(np.linalg.eigvalsh(found / scales)[0]), _SURE)
    for share in _SHARES:
        found[np.ix_(others, own)] = share * rows[:, own]
        found[np.ix_(own, others)] = found[np.ix_(others, own)].T
        if np.linalg.eigvalsh(found / scales)[0] > least:
            break
    return found


def descended(minus: Callable, hessian: Callable, x: np.ndarray) -> tuple[np.ndarray, float]:
    """From ``x`` to a minimum of ``minus`` (value and gradient) by Levenberg-Marquardt steps with ``hessian``: the best point found, and
    what an undamped step would gain there."""

    def gain() -> float:
        return 0.5 * float(np.sum(np.square(spread_of(curved).T @ slope)))

    value, slope = minus(x)
    damping, curved = 1e-2, hessian(x)
    for _ in range(_STEPS):
        if gain() < CLOSE or damping > _HIGHEST:
            break
        step = -np.linalg.solve(curved + damping * np.diag(_scales(curved) ** 2), slope)
        there, uphill = minus(x + step) if slope @ step < 0.0 else (np.inf, slope)
        if there < value:
            x, value, slope, damping = x + step, there, uphill, 0.2 * damping
            curved = hessian(x)
        else:
            damping *= 8.0
    return x, gain()


def spread_of(hessian: np.ndarray) -> np.ndarray:
    """H^(-1/2), whatever the units: a factor F with F F' = H^-1.

    Of D^-1 H D^-1, D the roots of H's diagonal, a curvature that is not positive counts by its size, or as ``_UNKNOWN``.
    """
    scales = _scales(hessian)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T) / np.outer(scales, scales))
    curvatures = np.where(values > _ROUNDING, values, np.maximum(np.abs(values), _UNKNOWN))
    return vectors / np.sqrt(curvatures) / scales[:, None]


def _scales(hessian: np.ndarray) -> np.ndarray:
    """Roots of the sizes of the diagonal."""
    diagonal = np.abs(np.diagonal(hessian))
    return np.sqrt(np.where(diagonal > 0.0, diagonal, _UNKNOWN))
