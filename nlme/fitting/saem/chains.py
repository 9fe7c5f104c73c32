"""The chains of SAEM: Metropolis-Hastings kernels for the random effects of one subject.

In b = L^-1 eta the target is log p(y | theta, L b) - b'b/2.  In turn every chain makes

1. two independent proposals from a multivariate t around the mode b^, as wide as the curvature H there says (renewed every few
   iterations; a proposal that does not depend on the chain keeps its stationary distribution),
2. an independent proposal from the prior N(0, I),
3. a random walk in each component, its scale adapted by subject towards an acceptance of 0.4.

In a mixture of subpopulations membership is summed over in the target, which so may have a mode for each of them.  The first
kind of proposal then comes from a mixture of t's, each around its subpopulation's mode,

    q(b) = sum_k a_k t(b; b^_k, H_k^-1),      a_k = 0.8 P(k | y) + 0.2 / K,      P(k | y) ~ p_k exp(-Phi_k(b^_k)) |H_k|^-1/2

(Laplace's approximation, kept from zero), whose whole density is in the acceptance: chains go from mode to mode as they should.

Source: Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.033 (kernels 2 and 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from nlme.dynamics.solvers import Tolerances
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.linalg import cholesky, inverse_lower, solve_lower
from nlme.marginal.curvature import curvature_at
from nlme.marginal.laplace import Laplace
from nlme.marginal.mode import begin_mode, search_mode

WANTED = 0.4  # acceptance of the random walks
_DEGREES = 5.0
_INNER = 30  # iterations of a mode's search; a proposal need not be perfect
_EVEN = 0.2  # of the weights a_k, alike for all subpopulations


class Proposal(NamedTuple):
    """Where independent proposals for a subject come from: K modes, the factors of their Hessians, and log a_k."""

    mode: Float[Array, "K q"]
    sharp: Float[Array, "K q q"]
    log_weight: Float[Array, " K"]


def proposals(ode: Tolerances, anatomy: Anatomy, model: Model, arrays: Ragged, eta: Float[Array, "N q"]) -> Proposal:
    """Of every subject, modes searched from ``eta``; the prior where a search came to nothing."""
    factor = anatomy.cholesky(model)
    q = factor.shape[0]

    def around(data, start):
        def curvature(b):
            return curvature_at(Laplace(ode=ode), anatomy, data, model, b)

        mode = search_mode(curvature, begin_mode(start), 1e-4, _INNER, _INNER)
        sharp = cholesky(mode.hessian)
        usable = jnp.all(jnp.isfinite(sharp)) & jnp.all(jnp.isfinite(mode.b)) & jnp.isfinite(mode.decrement)
        weight = jnp.where(usable, -mode.value - jnp.sum(jnp.log(jnp.diagonal(sharp))), -jnp.inf)
        return jnp.where(usable, mode.b, 0.0), jnp.where(usable, sharp, jnp.eye(q)), weight

    def of_subject(data, eta):
        start = solve_lower(factor, eta)
        if not anatomy.mixture:
            mode, sharp, _ = around(data, start)
            return Proposal(mode[None], sharp[None], jnp.zeros(1)), ()
        count = len(anatomy.subpopulations)
        mode, sharp, weight = jax.vmap(lambda k: around(data.belonging(k), start))(jnp.arange(count, dtype=float))
        weight = weight + jnp.log(getattr(model, anatomy.mixture).shares)
        likely = jnp.where(jnp.any(jnp.isfinite(weight)), jax.nn.softmax(weight), 1.0 / count)
        return Proposal(mode, sharp, jnp.log((1.0 - _EVEN) * likely + _EVEN / count)), ()

    return over_subjects(of_subject, arrays, eta)[0]


def transitions(log_likelihood: Callable, key, b: Float[Array, " q"], scale: Float[Array, " q"], given: Proposal):
    """The kernels of one chain: its new place, acceptance rates of the random walks (q,), log p(y, b)."""
    q = b.shape[0]
    keys = jax.random.split(key, 4)
    spread = jnp.swapaxes(jax.vmap(inverse_lower)(given.sharp), 1, 2)
    size = given.log_weight + jnp.sum(jnp.log(jnp.diagonal(given.sharp, axis1=1, axis2=2)), axis=1)

    def around(key):
        normal, gamma = jax.random.split(key)
        k = jax.random.categorical(jax.random.fold_in(key, 2), given.log_weight)
        x = jax.random.normal(normal, (q,)) / jnp.sqrt(2.0 * jax.random.gamma(gamma, 0.5 * _DEGREES) / _DEGREES)
        return given.mode[k] + spread[k] @ x

    def log_around(b):
        x = jnp.einsum("kqr,kq->kr", given.sharp, b - given.mode)
        return logsumexp(size - 0.5 * (_DEGREES + q) * jnp.log1p(jnp.sum(x**2, axis=1) / _DEGREES))

    def metropolis(place, new, correction, key):
        old, value = place
        there = log_likelihood(new)
        accept = jnp.log(jax.random.uniform(key)) < there - value + correction
        return jax.tree.map(lambda x, y: jnp.where(accept, x, y), (new, there), (old, value)), accept

    def prior(b):
        return -0.5 * b @ b

    def independent(place, key):
        draw, toss = jax.random.split(key)
        new = around(draw)
        correction = prior(new) - prior(place[0]) - log_around(new) + log_around(place[0])
        return metropolis(place, new, correction, toss)

    def walk(place, given):
        key, k = given
        draw, toss = jax.random.split(key)
        new = place[0].at[k].add(scale[k] * jax.random.normal(draw))
        return metropolis(place, new, prior(new) - prior(place[0]), toss)

    place = b, log_likelihood(b)
    place, _ = jax.lax.scan(independent, place, jax.random.split(keys[0], 2))
    draw, toss = jax.random.split(keys[1])
    place, _ = metropolis(place, jax.random.normal(draw, (q,)), 0.0, toss)
    place, accepted = jax.lax.scan(walk, place, (jax.random.split(keys[2], q), jnp.arange(q)))
    return place[0], accepted.astype(float), place[1] + prior(place[0])
