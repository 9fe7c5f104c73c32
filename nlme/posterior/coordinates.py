"""Coordinates in which a joint posterior of parameters and random effects is about standard normal.

Two changes of variables, both fixed before sampling starts:

**Partial centring.**  Where a subject's data say much about its random effects, eta is what they determine; where they say
little, the standardised b = eta / sd keeps clear of the funnel.  So y_k = eta_k / (sd_k^c_k r_k^(1 - c_k)), with r_k the standard
deviation of the model given and c_k the share of effect k's variance that the data leave, between 0 and 1
(Papaspiliopoulos, Roberts & Skoeld 2007, doi:10.1214/088342307000000014; Gorinova, Moore & Hoffman 2020, ICML).

**Whitening.**  With x = (u, y_1 .. y_N), u the unconstrained population parameters, the information (expected Hessian of minus
the log posterior) is an arrow,

        | A   B_1' .. B_N' |
    H = | B_1 D_1          |        S = A - sum_i B_i' D_i^-1 B_i
        | ..        ..     |
        | B_N          D_N |

and x = x^ + H^(-1/2) w, at a mode x^, costs no more than the subjects' blocks:

    u = u^ + S^(-T/2) w_u,        y_i = y_i^ - D_i^-1 B_i (u - u^) + D_i^(-T/2) w_i

The effects of sites, which subjects share, stand with u: x = (u, sites' effects, y_1 .. y_N), centred likewise.

This takes away the ridges along which typical values and random effects trade off.  The mode is found by Fisher scoring with
Levenberg-Marquardt damping (Fahrmeir & Tutz 2001, Multivariate Statistical Modelling Based on Generalized Linear Models, 2nd ed.,
appendix B.4).  Any centre and any matrices make valid coordinates; good ones make a fast sampler.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nlme.dynamics.solvers import SOLVED, Tolerances
from nlme.language.anatomy import Anatomy
from nlme.language.density import effects_from, moments
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects
from nlme.language.solution import Expansion
from nlme.language.stacking import SubjectData
from nlme.linalg import cholesky, eigen, inverse_lower, inverse_positive, solve_lower, solved
from nlme.parameters.covariance import Covariance
from nlme.parameters.priors import Priors

_LIMIT = 60
_TOLERANCE = 1e-4  # expected further gain in log density


class Centring(NamedTuple):
    """How far each random effect is centred: c_k (0 centred, 1 not) and the reference r_k; those of the site, if any, last."""

    exponent: Float[Array, " q"]
    reference: Float[Array, " q"]

    def of(self, part: slice) -> Centring:
        return Centring(self.exponent[part], self.reference[part])

    def standard(self, omega: Covariance | None, y: Float[Array, " q"]):
        """b of one subject (or site), and log |db / dy|."""
        if not y.shape[0]:
            return y, jnp.zeros(())
        scale = omega.sd**self.exponent * self.reference ** (1.0 - self.exponent)
        factor = omega.cholesky
        b = solve_lower(factor, scale * y)
        return b, jnp.sum(jnp.log(scale)) - jnp.sum(jnp.log(jnp.diagonal(factor)))


class Coordinates(NamedTuple):
    """The map from w to (u, b), with its centre.  After the P parameters, u holds the effects of the sites: G numbers."""

    centring: Centring
    u: Float[Array, " G"]
    y: Float[Array, "N q"]
    spread: Float[Array, "G G"]  # S^(-T/2)
    follow: Float[Array, "N q G"]  # D_i^-1 B_i
    scatter: Float[Array, "N q q"]  # D_i^(-T/2)
    iterations: Int[Array, ""]  # of the search for the mode

    def __call__(self, w: dict) -> tuple[Float[Array, " G"], Float[Array, "N q"]]:
        """(u, y) at w = {"population": (G,), "effects": (N, q)}; without random effects "effects" is left out."""
        moved = self.spread @ w["population"]
        if "effects" not in w:
            return self.u + moved, self.y
        return self.u + moved, self.y - self.follow @ moved + jnp.einsum("nij,nj->ni", self.scatter, w["effects"])

    def standard(self, omega: Covariance | None, y: Float[Array, "N q"]):
        """(b, log |db / dy|) of all subjects, in their own effects."""
        b, jacobian = jax.vmap(self.centring.of(slice(y.shape[1])).standard, (None, 0))(omega, y)
        return b, jnp.sum(jacobian)

    def standard_of_all(self, layout: Layout, model: Model, shared: Float[Array, " Ss"], y: Float[Array, "N q"]):
        """The same with the effects of each one's site last in b: those that ``shared``, the end of u, stands for."""
        anatomy = layout.anatomy
        b, jacobian = self.standard(anatomy.own_omega(model), y)
        if not anatomy.by_site:
            return b, jacobian
        z, stretched = _of_sites(anatomy, model, self.centring, shared)
        return jnp.concatenate([b, z[layout.sites.of]], axis=1), jacobian + jnp.sum(stretched)


class _Arrow(NamedTuple):
    """Minus the log posterior of x with its gradient and information at one point."""

    value: Float[Array, ""]
    gradient_u: Float[Array, " P"]
    gradient_y: Float[Array, "N q"]
    a: Float[Array, "P P"]
    b: Float[Array, "N q P"]
    d: Float[Array, "N q q"]


class _Search(NamedTuple):
    trial: tuple  # (u, y) to look at next
    point: tuple  # the best so far
    here: _Arrow  # what is known there
    centring: Centring
    damping: Float[Array, ""]
    gain: Float[Array, ""]  # in log density, that the next step promises
    count: Int[Array, ""]


def coordinates(prior: Priors, layout: Layout, model: Model, ode: Tolerances) -> Coordinates:
    """Coordinates for the posterior of ``model``'s free parameters; its values are where the search for the mode begins."""
    n, q, anatomy = layout.n_subjects, layout.anatomy.inner, layout.anatomy
    shared = 0 if layout.sites is None else len(layout.sites) * anatomy.by_site
    size = prior.size + shared
    start = (jnp.concatenate([prior.unconstrained(model), jnp.zeros(shared)]), jnp.zeros((n, q)))
    site_of = jnp.zeros(n, int) if layout.sites is None else jnp.asarray(layout.sites.of)

    def at(u, y, centring) -> _Arrow:
        (value, gradient, information), _ = over_subjects(
            lambda data, y, site: (_subject(prior, layout, data, centring, u, y, site, ode), ()), layout.arrays, y, site_of
        )

        def minus_prior(u):
            return _minus_prior(u, prior, anatomy, centring)

        own, slope, hessian = minus_prior(u), jax.grad(minus_prior)(u), jax.hessian(minus_prior)(u)
        return _Arrow(
            jnp.sum(value) + own,
            jnp.sum(gradient[:, :size], axis=0) + slope,
            gradient[:, size:],
            jnp.sum(information[:, :size, :size], axis=0) + _positive_part(hessian),
            information[:, size:, :size],
            information[:, size:, size:],
        )

    # the joint density has no useful mode in the spread of the random effects, which stays at the model's
    moving = np.concatenate([*(np.full(site.size, site.moves_to_a_mode) for site in prior.sites), np.ones(shared, bool)])
    count = len(anatomy.effects)
    reference = anatomy.omega(model).sd if count else jnp.ones(0)

    def going(search):
        return (search.gain > _TOLERANCE) & (search.count < _LIMIT)

    def step(search: _Search) -> _Search:
        there = at(*search.trial, search.centring)
        better = (there.value < search.here.value) & jnp.all(jnp.isfinite(there.gradient_u))
        # the first look is not centred and says how far to centre, the second begins the search
        begins = search.count == 1
        point, here = jax.tree.map(
            lambda new, old: jnp.where(better | begins, new, old), (search.trial, there), (search.point, search.here)
        )
        damping = jnp.where(better, search.damping * 0.2, jnp.maximum(search.damping * 8.0, 1e-3))
        damping = jnp.where(search.count < 2, 1e-3, jnp.where(damping < 1e-6, 0.0, damping))
        du, dy, gain = _scoring_step(_held(here, moving), damping)
        # no step of more than two units of the unconstrained scale
        shorter = jnp.minimum(1.0, 2.0 / jnp.maximum(jnp.max(jnp.abs(du)), 1e-300))
        trial = (point[0] + shorter * du, point[1] + shorter * dy)
        first = search.count == 0
        return _Search(
            jax.tree.map(lambda old, new: jnp.where(first, old, new), start, trial),
            point,
            here,
            search.centring._replace(
                exponent=jnp.where(first, _shares_left(there, anatomy.by_site, shared), search.centring.exponent)
            ),
            damping,
            jnp.where(first, jnp.inf, gain),
            search.count + 1,
        )

    of_u, of_y = jnp.zeros(size), jnp.zeros((n, q))
    nothing = _Arrow(jnp.asarray(jnp.inf), of_u, of_y, jnp.zeros((size, size)), jnp.zeros((n, q, size)), jnp.zeros((n, q, q)))
    search = _Search(
        start, start, nothing, Centring(jnp.ones(count), reference), jnp.asarray(1e-3), jnp.asarray(jnp.inf), jnp.zeros((), int)
    )
    # one loop holds the only copy of the solve, to keep compilation short
    search = jax.lax.while_loop(going, step, search)
    here, (u, y) = search.here, search.point
    factor_s, factor_d, follow = _factors(here, 0.0)
    scatter = jax.vmap(lambda f: inverse_lower(f).T)(factor_d) if q else here.d
    spread = inverse_lower(factor_s).T
    return Coordinates(search.centring, u, y, spread, follow, scatter, search.count)


def _shares_left(at: _Arrow, by_site: int, shared: int) -> Float[Array, " q"]:
    """Share of the variance of every random effect that a subject's (a site's) data leave, on average."""
    left = []
    if at.d.shape[-1]:
        left.append(jnp.mean(jax.vmap(lambda d: jnp.diagonal(inverse_positive(d)))(at.d), axis=0))
    if shared:
        _, _, follow = _factors(at, 0.0)
        given = (at.a - jnp.einsum("nqp,nqr->pr", at.b, follow))[-shared:, -shared:]
        left.append(jnp.mean(jnp.diagonal(inverse_positive(given)).reshape(-1, by_site), axis=0))
    if not left:
        return jnp.ones(0)
    return jnp.clip(jnp.nan_to_num(jnp.concatenate(left), nan=1.0), 0.0, 1.0)


def _of_sites(anatomy: Anatomy, model: Model, centring: Centring, y: Float[Array, " Ss"]):
    """(z, log |dz / dy|) of all sites."""
    standard = centring.of(slice(anatomy.inner, None)).standard
    return jax.vmap(standard, (None, 0))(model.between_sites(), y.reshape(-1, anatomy.by_site))


def _subject(prior: Priors, layout: Layout, data: SubjectData, centring: Centring, u, y, site, ode: Tolerances):
    """Minus log p(observations, y | u) of one subject with its gradient and information in x = (u, y)."""
    anatomy, size = layout.anatomy, u.shape[0]
    x = jnp.concatenate([u, y])

    def parts(x):
        model, _ = prior.model_and_density(x[: prior.size])
        own, jacobian = centring.of(slice(anatomy.inner)).standard(anatomy.own_omega(model), x[size:])
        if anatomy.by_site:
            z, _ = _of_sites(anatomy, model, centring, x[prior.size : size])
            return model, jnp.concatenate([own, z[site]]), jacobian
        return model, own, jacobian

    model, b, _ = parts(x)
    expansion = Expansion(model, anatomy, effects_from(anatomy, model, b), data.covariates, data.known, 1, ode)

    def values(x):
        model, b, _ = parts(x)
        m = moments(model, anatomy, data, expansion(model, effects_from(anatomy, model, b)))
        return (m.mean - m.transformed, jnp.log(m.variance), m.log_factor), m

    (minus_residual, log_variance, log_factor), push, m = jax.linearize(values, x, has_aux=True)
    slope_mean, slope_variance, slope_factor = jax.vmap(push)(jnp.eye(x.shape[0]))

    def keep(terms):
        return jnp.where(data.mask, terms, 0.0)

    weighted, squared = keep(-minus_residual / m.variance), keep(jnp.square(minus_residual) / m.variance)
    a, c = keep(slope_mean / jnp.sqrt(m.variance)), keep(slope_variance)
    value = 0.5 * jnp.sum(squared + keep(log_variance - 2.0 * log_factor))
    gradient = -keep(slope_mean) @ weighted + 0.5 * c @ keep(1.0 - squared) - jnp.sum(keep(slope_factor), axis=1)
    score = keep(jnp.where(m.normal, 0.0, slope_factor))  # of a sample that is not normal; its square has the information's mean
    information = a @ a.T + 0.5 * c @ c.T + score @ score.T

    def effects(x):
        _, b, jacobian = parts(x)
        return 0.5 * b[: anatomy.inner] @ b[: anatomy.inner] - jacobian

    own, slope = jax.value_and_grad(effects)(x)
    value = jnp.where(m.status == SOLVED, value + own, jnp.inf)
    return value, gradient + slope, information + _effects_information(parts, anatomy, centring, x, size)


def _effects_information(parts, anatomy, centring: Centring, x, size: int):
    """Information in x of the random effects' own distribution: of y given the spread, and of the spread."""
    if x.shape[0] == size:
        return jnp.zeros((size, size))

    q = anatomy.inner

    def log_variance(u):  # of y
        omega = anatomy.own_omega(parts(jnp.concatenate([u, x[size:]]))[0])
        return 2.0 * (1.0 - centring.exponent[:q]) * jnp.log(omega.sd)

    of_y = jax.jacfwd(lambda y: parts(jnp.concatenate([x[:size], y]))[1][:q])(x[size:])
    of_u = jax.jacfwd(log_variance)(x[:size])
    return jax.scipy.linalg.block_diag(0.5 * of_u.T @ of_u, of_y.T @ of_y)


def _minus_prior(u, prior: Priors, anatomy: Anatomy, centring: Centring):
    """Minus the log density of all that subjects share: of the parameters, and of the sites' effects given them."""
    model, density = prior.model_and_density(u[: prior.size])
    if not anatomy.by_site:
        return -density
    z, jacobian = _of_sites(anatomy, model, centring, u[prior.size :])
    return 0.5 * jnp.sum(jnp.square(z)) - jnp.sum(jacobian) - density


def _positive_part(matrix):
    """The nearest positive semidefinite matrix, and a little more on the diagonal."""
    values, vectors = eigen(0.5 * (matrix + matrix.T))
    return (vectors * jnp.maximum(values, 0.0)) @ vectors.T + 1e-6 * jnp.eye(matrix.shape[0])


def _factors(at: _Arrow, damping):
    """Cholesky factors of S and of every D_i, and D_i^-1 B_i, with the diagonal of H raised by ``damping``."""
    if at.d.shape[-1]:
        factor_d = jax.vmap(cholesky)(at.d * (1.0 + damping * jnp.eye(at.d.shape[-1])))
        follow = jax.vmap(solved)(factor_d, at.b)
    else:
        factor_d, follow = at.d, at.b
    s = at.a * (1.0 + damping * jnp.eye(at.a.shape[0])) - jnp.einsum("nqp,nqr->pr", at.b, follow)
    # rounding may leave S a little indefinite where data and prior say next to nothing
    return cholesky(s + 1e-9 * jnp.diag(jnp.diagonal(at.a))), factor_d, follow


def _held(at: _Arrow, moving: np.ndarray) -> _Arrow:
    """The same problem with only the coordinates ``moving`` of u free to move."""
    return at._replace(
        gradient_u=jnp.where(moving, at.gradient_u, 0.0),
        a=jnp.where(moving[:, None] & moving[None, :], at.a, jnp.eye(len(moving))),
        b=jnp.where(moving, at.b, 0.0),
    )


def _scoring_step(at: _Arrow, damping):
    """(du, dy) = -H^-1 gradient, and the gain in log density it promises."""
    factor_s, factor_d, follow = _factors(at, damping)
    du = -solved(factor_s, at.gradient_u - jnp.einsum("nqp,nq->p", follow, at.gradient_y))
    dy = -follow @ du
    if at.d.shape[-1]:
        dy = dy - jax.vmap(solved)(factor_d, at.gradient_y)
    return du, dy, -0.5 * (at.gradient_u @ du + jnp.sum(at.gradient_y * dy))
