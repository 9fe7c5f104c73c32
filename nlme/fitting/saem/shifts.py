"""Which parameters only shift random effects: found in any model, asked of no user.

A parameter u_k shifts the random effects of subject i by D_ik if moving u_k is the same as moving eta:

    d psi_i / d u_k = (d psi_i / d eta) D_ik      and      d log p(y_ij) / d u_k = (d log p(y_ij) / d eta) D_ik

for the individual parameters psi_i and every sample j, with the same D_ik whatever eta.  So it is with a typical value under a
log-normal, normal, logit-normal or any other shape h^-1(mu_i + eta), and with the coefficient of a covariate in mu_i.  Both are
tested, in numbers, at two sets of random effects; in a mixture in every subpopulation, each of which has a D_ik of its own
(0 where the typical value is another's).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.language.anatomy import Anatomy, rows_of
from nlme.language.density import effects_from, log_densities, moments
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.language.solution import expand
from nlme.linalg import inverse_lower, solve_positive
from nlme.parameters.inventory import Inventory

_TOLERANCE = 1e-6


def shift_of(inventory: Inventory, model: Model, anatomy: Anatomy, data, u, eta):
    """D (q, P) of one subject by least squares in psi, what it leaves of d psi/du (R, P), and d psi/du."""

    def individual(u, eta):
        rows = rows_of(inventory.at_unconstrained(model, u), anatomy, eta, data.covariates, data.timeline.rows)
        return jnp.concatenate([jnp.ravel(x) for x in rows.values()])

    by_u, by_eta = jax.jacfwd(individual, (0, 1))(u, eta)
    # rows of psi have units of their own
    size = jnp.sqrt(jnp.sum(by_eta**2, axis=1, keepdims=True))
    scale = 1.0 / jnp.where(size > 0, size, 1.0)
    a, c = by_eta * scale, by_u * scale
    # a shift of all occasions is one of the subject's own effect: what that can explain is not left to the occasions'
    shift, left = [], c
    for columns in (a[:, : anatomy.own], a[:, anatomy.own :]):
        if columns.shape[1]:
            shift.append(solve_positive(columns.T @ columns + 1e-14 * jnp.eye(columns.shape[1]), columns.T @ left))
            left = left - columns @ shift[-1]
    return jnp.concatenate(shift), left, c


@eqx.filter_jit
def _derivatives(
    inventory: Inventory, model: Model, anatomy: Anatomy, arrays: Ragged, index: tuple[int, ...], b, tolerances: Tolerances
):
    start, chosen = inventory.unconstrained(model), np.array(index, int)
    factor = anatomy.cholesky(model)

    def belonging(data, b):
        shift, left, whole = (x[:, chosen] for x in shift_of(inventory, model, anatomy, data, start, factor @ b))

        def terms(v, b):
            at = inventory.at_unconstrained(model, start.at[chosen].set(v))
            eta = effects_from(anatomy, at, b)
            m = moments(at, anatomy, data, expand(at, anatomy, eta, data.covariates, data.known, 1, tolerances)(at, eta))
            return jnp.where(data.mask, jnp.stack([log_densities(m), m.mean, jnp.log(m.variance)]), 0.0)

        by_u, by_b = jax.jacrev(terms, (0, 1))(start[chosen], b)
        odd = jnp.max(jnp.abs(by_u[0] - by_b[0] @ inverse_lower(factor) @ shift), axis=0)
        largest = jnp.max(jnp.abs(by_u), axis=1)
        return shift, jnp.max(jnp.abs(left), axis=0), jnp.max(jnp.abs(whole), axis=0), odd, *largest

    def of_subject(data, b):
        if not anatomy.mixture:
            return belonging(data, b), ()
        members = jnp.arange(len(anatomy.subpopulations), dtype=float)
        return jax.vmap(lambda k: belonging(data.belonging(k), b))(members), ()

    return over_subjects(of_subject, arrays, b)[0]


def shifting(
    inventory: Inventory, model: Model, anatomy: Anatomy, arrays: Ragged, n: int, asked: np.ndarray, tolerances
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) which of the parameters ``asked`` only shift random effects, and which only move the variance of the observations."""
    shifts, spreads, q = np.zeros(len(asked), bool), np.zeros(len(asked), bool), len(anatomy.effects)
    random, index = np.random.default_rng(0), tuple(int(k) for k in np.flatnonzero(asked))
    if not index:
        return shifts, spreads
    seen = [
        _derivatives(inventory, model, anatomy, arrays, index, random.normal(size=(n, q)) * 0.5, tolerances) for _ in range(2)
    ]
    if anatomy.mixture:  # subpopulations side by side, as if they were subjects
        seen = [[x.reshape(-1, *x.shape[2:]) for x in found] for found in seen]
    seen = [[np.asarray(x) for x in found] for found in seen]
    first, second = seen[0][0], seen[1][0]
    found = np.any(np.abs(first) > 0, axis=(0, 1))
    found &= np.all(np.abs(first - second) <= _TOLERANCE * (1.0 + np.abs(first)), axis=(0, 1))
    still, wide = np.ones(len(index), bool), np.zeros(len(index), bool)
    for _, left, whole, odd, slope, mean, variance in seen:
        found &= np.all(left <= _TOLERANCE * np.maximum(whole, 1e-300), axis=0) | (whole.max(axis=0) == 0)
        found &= np.all(np.isfinite(odd)) & (odd.max(axis=0) <= _TOLERANCE * (1.0 + slope.max(axis=0)))
        still &= np.all(mean == 0, axis=0)
        wide |= np.any(variance != 0, axis=0)
    shifts[asked], spreads[asked] = found, still & wide
    return shifts, spreads
