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
import numpy as np
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
_DEGREES = 5  # a whole number: squares of normals make the denominator
_AROUND = 2  # proposals around the mode
_INNER = 30  # iterations of a mode's search; a proposal need not be perfect
_EVEN = 0.2  # of the weights a_k, alike for all subpopulations


class Proposal(NamedTuple):
    """Where independent proposals for a subject come from: K modes, the factors of their Hessians, and log a_k."""

    mode: Float[Array, "K q"]
    sharp: Float[Array, "K q q"]
    log_weight: Float[Array, " K"]


class Draws(NamedTuple):
    """The random numbers of one iteration of a chain: standard normal and uniform ones."""

    normal: Float[Array, "... D"]
    uniform: Float[Array, "... S"]


def proposals(ode: Tolerances, anatomy: Anatomy, model: Model, arrays: Ragged, eta: Float[Array, "N q"]) -> Proposal:
    """Of every subject, modes searched from ``eta``; the prior where a search came to nothing."""
    factor = anatomy.cholesky(model)
    q = factor.shape[0]
    # where samples are normal the expected second derivatives are near enough, and the program is half as long
    order = 1 if anatomy.plain else 2

    def around(data, start):
        def curvature(b):
            return curvature_at(Laplace(ode=ode), anatomy, data, model, b, order)

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


def draws(random: np.random.Generator, shape: tuple[int, ...], q: int) -> Draws:
    """What one iteration of chains of ``shape`` needs."""
    sizes = 2 * q + _AROUND * (q + _DEGREES), _AROUND + 2 + _AROUND + q
    return Draws(random.normal(size=(*shape, sizes[0])), random.uniform(size=(*shape, sizes[1])))


def transitions(log_likelihood: Callable, drawn: Draws, b: Float[Array, " q"], scale: Float[Array, " q"], given: Proposal):
    """The kernels of one chain: its new place, acceptance rates of the random walks (q,), log p(y, b).

    One loop over all kernels, so that the compiled program holds the likelihood once.
    """
    q = b.shape[0]
    free, walk, spread = jnp.split(drawn.normal, [q, 2 * q])
    which, uniform = jnp.split(drawn.uniform, [_AROUND])
    around = _around(given, which, spread.reshape(_AROUND, q + _DEGREES))
    # the first only finds the density where the chain stands; a walk's are its steps
    proposed = jnp.concatenate([b[None], around, free[None], jnp.diag(scale * walk)])
    close, walks = (np.arange(2 + _AROUND + q) - 1 < _AROUND).astype(float), np.arange(2 + _AROUND + q) >= 2 + _AROUND
    close[0] = 0.0
    size = given.log_weight + jnp.sum(jnp.log(jnp.diagonal(given.sharp, axis1=1, axis2=2)), axis=1)

    def log_around(b):
        x = jnp.einsum("kqr,kq->kr", given.sharp, b - given.mode)
        return logsumexp(size - 0.5 * (_DEGREES + q) * jnp.log1p(jnp.sum(x**2, axis=1) / _DEGREES))

    def metropolis(place, kernel):
        old, value = place
        move, close, walks, log_uniform = kernel
        new = move + walks * old

        def excess(b):  # of the target's logarithm over the proposal's, but for the likelihood
            return -0.5 * (close + walks) * (b @ b) - close * log_around(b)

        there = log_likelihood(new)
        accept = log_uniform < there - value + excess(new) - excess(old)
        return jax.tree.map(lambda x, y: jnp.where(accept, x, y), (new, there), (old, value)), accept

    kernels = proposed, jnp.asarray(close), jnp.asarray(walks, float), jnp.log(uniform)
    (b, value), accepted = jax.lax.scan(metropolis, (b, jnp.asarray(-jnp.inf)), kernels)
    return b, accepted[-q:].astype(float), value - 0.5 * b @ b


def _around(given: Proposal, uniform: Float[Array, " n"], normal: Float[Array, "n q+nu"]) -> Float[Array, "n q"]:
    """Draws from the mixture of t's; the square of the denominator is a sum of nu squares."""
    q = given.mode.shape[1]
    t = normal[:, :q] / jnp.sqrt(jnp.sum(normal[:, q:] ** 2, axis=1, keepdims=True) / _DEGREES)
    spread = jnp.swapaxes(jax.vmap(inverse_lower)(given.sharp), 1, 2)
    if len(given.mode) == 1:
        return given.mode[0] + t @ spread[0].T
    below = jnp.cumsum(jnp.exp(given.log_weight))[:-1]
    k = jnp.sum(uniform[:, None] > below, axis=1)
    return given.mode[k] + jnp.einsum("nqr,nr->nq", spread[k], t)
