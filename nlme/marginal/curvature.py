"""Phi of one subject with its gradient and Hessians in the random effects, by forward jets alone: what a search for modes needs.

The states' jet in the standardised effects b is pushed through the error model to the jets of (m - z)_j, log g_j and the log
factors l_j, and with r = z - m, w = 1/g, a = d(m - z)/db, c = dlog g/db

    dPhi_i    = sum_j [ -r w a_i + 1/2 (1 - r^2 w) c_i - l_i ] + b_i
    d2Phi_ik  = sum_j [ w a_i a_k + r w (a_i c_k + c_i a_k) + 1/2 r^2 w c_i c_k - r w (m - z)_ik
                        + 1/2 (1 - r^2 w) (log g)_ik - l_ik ] + (i = k)

``Subject.curvature`` gives the same numbers as functions that can be differentiated in the population parameters.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied
from nlme.language.anatomy import Anatomy
from nlme.language.density import Moments, moments
from nlme.language.model import Model
from nlme.language.solution import EffectsJet
from nlme.language.stacking import SubjectData
from nlme.marginal.base import Curvature, Method, Subject


def curvature_at(
    method: Method, anatomy: Anatomy, data: SubjectData, model: Model, b: Float[Array, " q"], order: int = 2
) -> Curvature:
    """Phi, its gradient, and its exact and expected Hessian at ``b``; to order 1 the expected one stands for both."""
    q = len(b)
    columns = Columns.of_order(order, q)
    factor = anatomy.cholesky(model)
    value = factor @ data.standard(b)
    effects = jnp.concatenate([value[:, None], factor[:, :q], jnp.zeros((len(value), len(columns.pairs)))], axis=1)
    solver = EffectsJet(model, anatomy, data.covariates, data.known, method.ode)
    # an effect moves with the standardised ones of its own block, one that is held with none
    positions = anatomy.omega(model).positions() if q else []
    occupied = [Occupied(tuple(sorted(j for i, j in positions if i == k and j < q))) for k in range(len(value))]
    states, status = solver(model, effects, columns, occupied)

    residual = None
    if not method.interaction:
        zero = jnp.zeros(q)
        residual = Subject(method, anatomy, data, model, zero, 0).moments(model, zero)

    def observed(states, eta):
        m = moments(model, anatomy, data, solver.solution(model, eta, states), residual)
        varying = (m.mean - m.transformed, jnp.log(m.variance))
        return varying if anatomy.plain else (*varying, m.log_factor)

    jets = columns.push(observed, states, columns.unpack(effects))
    at = moments(model, anatomy, data, solver.solution(model, effects[:, 0], states.value), residual)
    return _assemble(columns, data, at, b, *jets)._replace(status=status)


def _assemble(
    columns: Columns, data: SubjectData, at: Moments, b, mean: Jet, log_variance: Jet, factor: Jet | None = None
) -> Curvature:
    mask = data.mask
    weight = jnp.where(mask, 1.0 / at.variance, 0.0)
    residual = jnp.where(mask, at.transformed - at.mean, 0.0)
    pull, surplus = residual * weight, 0.5 * jnp.where(mask, 1.0 - residual**2 * weight, 0.0)
    terms = residual * pull + jnp.where(mask, log_variance.value - 2.0 * at.log_factor, 0.0)
    value = 0.5 * jnp.sum(terms) + 0.5 * b @ b
    q = columns.directions
    if not q:
        return Curvature(value, jnp.zeros(0), jnp.zeros((0, 0)), jnp.zeros((0, 0)), None)
    a, c = mean.first, log_variance.first
    slope = surplus * c - pull * a
    pairs = Columns.of_order(2, q)
    a_i, a_k, c_i, c_k = a[pairs.left], a[pairs.right], c[pairs.left], c[pairs.right]
    both = c_i * c_k
    expected = weight * a_i * a_k + jnp.where(mask, 0.5 * both, 0.0)
    if factor is not None:
        slope = slope - jnp.where(mask, factor.first, 0.0)
        expected = expected + jnp.where(mask & ~at.normal, factor.first[pairs.left] * factor.first[pairs.right], 0.0)
    gradient = jnp.sum(slope, axis=1) + b
    eye = jnp.eye(q)

    def symmetric(values):
        matrix = jnp.zeros((q, q)).at[pairs.left, pairs.right].set(jnp.sum(values, axis=1))
        return matrix + matrix.T - matrix * eye + eye

    if not columns.pairs:
        return Curvature(value, gradient, symmetric(expected), symmetric(expected), None)
    exact = (
        weight * a_i * a_k
        + pull * (a_i * c_k + c_i * a_k)
        + 0.5 * residual * pull * both
        - pull * mean.second
        + surplus * log_variance.second
    )
    if factor is not None:
        exact = exact - jnp.where(mask, factor.second, 0.0)
    return Curvature(value, gradient, symmetric(exact), symmetric(expected), None)
