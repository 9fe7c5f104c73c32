"""Variational inference: a Gaussian posterior of every subject's random effects, and the bound that it gives.

With q_i = N(m, C C') in the standardised random effects b, C lower triangular, and p(b) = N(0, I) inside Phi (``nlme.marginal.base``),

    -2 log L_i  <=  -2 ELBO_i = 2 E_q[Phi(b)] - q - 2 log det C,        E_q[f] ~ 1/K sum_k f(m + C z_k)

where the nodes z_k are draws of N(0, I), each with its opposite, made to have exactly the identity for their second moment: a posterior
that is Gaussian is found exactly, and the bound is then -2 log L.  The nodes are held while the parameters move.  The bound is minimised
over (m, C) for every value of the parameters, so that its gradient in these is that at held (m, C) (envelope theorem).  It needs first
derivatives of the states alone, and no mode.

The minimum over (m, C) is where, with g = C' E[dPhi/db] and G the lower triangle of C' E[dPhi/db z'] mirrored, g = 0 and G = I (Bonnet's
and Price's theorems: C'^-1 G C^-1 = E[d2Phi/db2]).  A step is

    m <- m - t C G^-1 g,        C C' <- C ((1 - t) I + t G)^-1 C'

with t = 1 unless the bound rises; of a quadratic Phi it leads to the minimum at once.

Sources: Opper & Archambeau (2009), doi:10.1162/neco.2008.08-07-592 (Gaussian approximation, stationary points); Kucukelbir et al. (2017),
J Mach Learn Res 18:14; Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519 (importance-weighted bound).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.solvers import SOLVED
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.stacking import SubjectData
from nlme.linalg import cholesky, inverse_lower, inverse_positive, raised, solve_lower
from nlme.marginal.base import Method
from nlme.marginal.curvature import curvature_at
from nlme.marginal.mode import ModeSearch
from nlme.marginal.quadrature import phi_at
from nlme.parameters.domains import require_whole

_LEAST = 0.05  # eigenvalue of G that a step goes by, and so the most by which a variance grows in one is 20
_FARTHEST = 4.0  # standard deviations of the random effects that the mean moves in one step
_SHORTEST = 1e-8  # step


@dataclasses.dataclass(frozen=True, repr=False)
class Variational(Method):
    """Variational inference: a Gaussian posterior with full covariance for each subject's random effects, for models with many.

    The objective is the bound -2 ELBO, never below -2 log L and equal to it where the posteriors are Gaussian; ``fit.tightness`` says by
    how much it lies above, by importance sampling.  ``draws`` nodes for each subject, at least four for each random effect; ``seed`` says
    which.

    Raises
    ------
    ModelError
        Fewer than two draws.
    """

    draws: int = 32
    seed: int = 0
    inner_tolerance: float = 1e-10

    title: ClassVar[str] = "Variational inference (Gaussian posteriors)"
    order: ClassVar[int] = 1
    gaussian: ClassVar[bool] = True
    sites: ClassVar[bool] = False

    def __post_init__(self):
        require_whole("nlme.Variational", "draws", self.draws, 2)

    def objective(self, subject, model, b):
        """Without random effects; with some it is that of ``at_posterior``."""
        m = subject.moments(model, b)
        return 2.0 * subject.phi(m, jnp.log(m.variance), b)

    def standard_nodes(self, number: Int[Array, ""], q: int) -> Float[Array, "K q"]:
        """z_k of the subject with this number: in opposite pairs, and their second moment the identity."""
        pairs = -(-max(self.draws, 4 * q) // 2)
        z = jax.random.normal(jax.random.fold_in(jax.random.key(self.seed), number), (pairs, q))
        z = solve_lower(cholesky(z.T @ z / pairs), z.T).T
        return jnp.concatenate([z, -z])


class _Posterior(NamedTuple):
    """State of the search for one subject's (m, C)."""

    trial_mean: Float[Array, " q"]
    trial_factor: Float[Array, "q q"]
    mean: Float[Array, " q"]
    factor: Float[Array, "q q"]
    value: Float[Array, ""]  # half the bound, without its constant
    decrement: Float[Array, ""]
    length: Float[Array, ""]  # t
    count: Int[Array, ""]
    status: Int[Array, ""]
    slope: Float[Array, " q"]  # g
    curvature: Float[Array, "q q"]  # G


def at_posterior(
    method: Variational,
    anatomy: Anatomy,
    held: tuple[SubjectData, Model],
    data: SubjectData,
    model: Model,
    search: ModeSearch,
    most: int,
    second_order: Float[Array, "q q"],
    tolerance: float | Float[Array, ""],
):
    """(objective, m, search, precision - I) of one subject after at most ``most`` further steps: what ``subjects.at_mode`` returns.

    The search's ``b`` and ``hessian`` are the posterior's mean and precision; it begins at the precision I + ``second_order``.
    """
    q = len(search.b)
    z = method.standard_nodes(data.number, q)
    precision = jnp.where(search.count == 0, jnp.eye(q) + second_order, search.hessian)
    found = _searched(method, anatomy, held, z, search, precision, most, tolerance)
    mean, factor = jax.lax.stop_gradient((found.mean, found.factor))
    values = _phi_of_nodes(method, anatomy, data, model, mean + z @ factor.T)
    bound = 2.0 * jnp.mean(values) - q - 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))
    inverse = inverse_lower(factor)
    precision = inverse.T @ inverse
    at_end = search._replace(
        b=mean, value=found.value, hessian=precision, decrement=found.decrement, count=found.count, status=found.status
    )
    return bound, mean, at_end, precision - jnp.eye(q)


def _phi_of_nodes(method, anatomy, data: SubjectData, model: Model, nodes: Float[Array, "K q"]) -> Float[Array, " K"]:
    shared, alone = data.shared, dataclasses.replace(data, shared=None)
    return jax.vmap(lambda b: phi_at((model, b, shared), method, anatomy, alone))(nodes)


def log_weights(
    method: Variational, anatomy: Anatomy, data: SubjectData, model: Model, mean, precision, z: Float[Array, "K q"]
) -> Float[Array, " K"]:
    """log of p(y, b_k) / q(b_k), b_k = m + C z_k, without the constant that -2 log L leaves out."""
    factor = _factor_of(precision)
    values = _phi_of_nodes(method, anatomy, data, model, mean + z @ factor.T)
    return jnp.sum(jnp.log(jnp.diagonal(factor))) + 0.5 * jnp.sum(z**2, axis=1) - values


def _factor_of(precision: Float[Array, "q q"]) -> Float[Array, "q q"]:
    """Lower triangular C, C C' the inverse."""
    return cholesky(inverse_positive(precision))


def _searched(method, anatomy, held, z, search: ModeSearch, precision, most: int, tolerance) -> _Posterior:
    data, model = held
    noise = 1e-10 if anatomy.linear else max(1e-10, method.ode.relative)
    eye = jnp.eye(len(search.b))

    def at(mean, factor):
        """Half the bound, g, G and how the solves ended."""
        each = jax.vmap(lambda b: curvature_at(method, anatomy, data, model, b, order=1))(mean + z @ factor.T)
        g = factor.T @ jnp.mean(each.gradient, axis=0)
        lower = jnp.tril(factor.T @ (each.gradient.T @ z) / len(z))
        mirrored = lower + jnp.tril(lower, -1).T
        return jnp.mean(each.value) - jnp.sum(jnp.log(jnp.diagonal(factor))), g, mirrored, jnp.max(each.status)

    def step(now: _Posterior) -> _Posterior:
        value, slope, curvature, status = at(now.trial_mean, now.trial_factor)
        finite = (status == SOLVED) & jnp.isfinite(value) & jnp.all(jnp.isfinite(slope)) & jnp.all(jnp.isfinite(curvature))
        first, alike = jnp.isinf(now.value), noise * (1.0 + jnp.abs(now.value))
        off = curvature - eye
        left = slope @ slope + 0.5 * jnp.sum(off * off)
        # where the bound's digits tell nothing the gradient decides: a step that overshoots for ever gains none of it
        accept = finite & (first | (value < now.value - alike) | ((value <= now.value + alike) & (left < now.decrement)))
        mean, factor = jnp.where(accept, now.trial_mean, now.mean), jnp.where(accept, now.trial_factor, now.factor)
        slope, curvature = jnp.where(accept, slope, now.slope), jnp.where(accept, curvature, now.curvature)
        value = jnp.where(accept, value, now.value)
        decrement = jnp.where(accept, left, now.decrement)
        length = jnp.where(accept, jnp.minimum(2.0 * now.length, 1.0), 0.25 * now.length)
        usable = raised(curvature, _LEAST)
        root = inverse_lower(cholesky(usable))
        move = -factor @ (root.T @ (root @ slope))
        size = jnp.sqrt(move @ move)
        move = move * jnp.minimum(1.0, _FARTHEST / jnp.maximum(size, 1e-300))
        blended = inverse_lower(cholesky((1.0 - length) * eye + length * usable)) @ factor.T
        trial_factor = cholesky(blended.T @ blended)
        # nowhere yet that the states could be solved: closer around the mean
        nowhere = jnp.isinf(value)
        return _Posterior(
            jnp.where(nowhere, mean, mean + length * move),
            jnp.where(nowhere, 0.5 * now.trial_factor, trial_factor),
            mean,
            factor,
            value,
            decrement,
            length,
            now.count + 1,
            jnp.where(accept | first, status, now.status),
            slope,
            curvature,
        )

    factor = _factor_of(precision)
    begin = _Posterior(
        search.b,
        factor,
        search.b,
        factor,
        jnp.asarray(jnp.inf),
        jnp.asarray(jnp.inf),
        jnp.ones(()),
        search.count,
        search.status,
        jnp.zeros(len(search.b)),
        eye,
    )
    stop = jnp.minimum(search.count + most, method.inner_iterations)
    return jax.lax.while_loop(
        lambda now: (now.decrement > tolerance) & (now.count < stop) & (now.length > _SHORTEST), step, begin
    )
