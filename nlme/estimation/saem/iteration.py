"""One iteration of SAEM for a whole population: Metropolis-Hastings in the random effects, then the parameters.

E-step.  Every chain of every subject makes, in b = L^-1 eta, target log p(y | theta, L b) - b'b/2,

1. independent proposals from N(b^, H^-1) widened to a multivariate t, b^ and H the mode and its curvature (renewed every few
   iterations; a proposal that does not depend on the chain keeps its stationary distribution),
2. an independent proposal from the prior N(0, I),
3. a random walk in each component, its scale adapted by subject towards an acceptance of 0.4.

M-step.  With gamma_k the step size and <.> the mean over chains,

    s1_i <- s1_i + gamma (<eta_i> - s1_i)            s2 <- s2 + gamma (mean_i <eta_i eta_i'> - s2)
    shifts   delta = (sum_i D_i' Omega^-1 D_i)^-1 sum_i D_i' Omega^-1 s1_i,      u <- u + delta,  eta_i <- eta_i - D_i delta
    Omega    s2 after the shift, in the declared blocks, where not fixed; that of occasions from the mean over them
    others   F <- F + gamma (sum <score score'> - F),      u <- u + gamma F^-1 sum_ij <score_ij>,
             score_ij = d log p(y_ij | u, eta_i) / du

The second row is the closed form of a regression on the scale on which the random effects are added (``shifts``).  Where the
chains stand in individual parameters does not change by it, which is what makes EM quick for such parameters.

EM creeps where the random effects are not well seen (a variance under high shrinkage).  So while smoothing all parameters move
together by a stochastic Newton step.  S_i, the score of a subject, is the mean over its chains of the derivative of its
complete-data log density, in expectation that of log L_i (Fisher's identity); Delta_i is its running mean, I_c the complete-data
information, which with c = 0.1 (P/N)^2 guards the first sum where subjects are few:

    u <- u + gamma ( sum_i Delta_i Delta_i' + c I_c )^-1 sum_i S_i

Both steps stand still at the same point, sum_i E S_i = 0.  With more than 200 parameters without closed form EM goes on instead.

Sources: Delyon, Lavielle & Moulines (1999), doi:10.1214/aos/1018031103; Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.033;
Gu & Kong (1998), doi:10.1073/pnas.95.13.7270, and Delattre & Kuhn (2023), doi:10.48550/arXiv.1909.06094 (the Newton step).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.estimation.joint import pointwise
from nlme.estimation.saem.shifts import shift_of
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.linalg import cholesky, inverse_lower, inverse_positive, log_det, solve_lower, solve_positive
from nlme.marginal.curvature import curvature_at
from nlme.marginal.laplace import Laplace
from nlme.marginal.mode import find_mode
from nlme.parameters.covariance import Covariance, joined, pooled
from nlme.parameters.inventory import Inventory
from nlme.structure.solvers import SOLVED, Tolerances

LONGEST = 0.3  # largest change of a parameter that has no closed form, in one iteration (unconstrained: log-like)
SHRINK = 0.95  # of a variance in one iteration of annealing, at least
_DEGREES = 5.0
_WANTED = 0.4
_INNER = 30  # iterations of a mode's search; a proposal need not be perfect
_MEMORY = 0.05  # largest step of the smoothed scores
_COMPLETE = 0.1  # times (P / N)^2: part of the complete-data information that guards the empirical one where subjects are few
_DENSE = 200  # parameters without closed form up to which F is a full matrix


@dataclasses.dataclass(frozen=True)
class Parts:
    """Positions in the vector of free parameters: what each part of the M-step moves.

    ``omega`` are the elements of Omega, ``omega_free`` their positions in the vectors of its levels (per subject, per occasion)
    one after another; ``residual`` marks those of ``others`` that move variances and no mean.
    """

    omega: tuple[int, ...]
    omega_free: tuple[int, ...]
    shifts: tuple[int, ...]
    others: tuple[int, ...]
    residual: tuple[bool, ...]


class State(NamedTuple):
    """All that the next iteration needs: N subjects, M chains, q random effects, P parameters, G without closed form."""

    u: Float[Array, " P"]
    eta: Float[Array, "N M q"]
    scale: Float[Array, "N q"]  # of the random walks
    s1: Float[Array, "N q"]
    s2: Float[Array, "q q"]
    information: Float[Array, "G G"]  # F; its diagonal (G,) where there are many parameters
    scores: Float[Array, "N P"]  # of the subjects, smoothed


class Step(NamedTuple):
    """What an iteration is told: the key of its draws, its step size, whether it anneals, whether it smooths."""

    key: Array
    gamma: Array
    anneal: Array
    smooth: Array


def begin(parts: Parts, anatomy: Anatomy, u, model: Model, n: int, chains: int, key) -> State:
    """Chains drawn from the prior at the starting values."""
    omega = anatomy.omega(model)
    q, g = len(omega.names), len(parts.others)
    b = jax.random.normal(key, (n, chains, q))
    return State(
        u, b @ omega.cholesky.T, jnp.full((n, q), 0.5), jnp.zeros((n, q)), omega.matrix,
        jnp.eye(g) if g <= _DENSE else jnp.ones(g), jnp.zeros((n, u.shape[0])),
    )  # fmt: skip


@eqx.filter_jit
def advance(
    ode: Tolerances,
    parts: Parts,
    anatomy: Anatomy,
    inventory: Inventory,
    model: Model,
    arrays: Ragged,
    penalty,
    state: State,
    steps: Step,
):
    """Several iterations at once: the state after them; of each the parameters, complete-data -2 log L and Newton direction."""
    proposals = _proposals(ode, anatomy, inventory.at_unconstrained(model, state.u), arrays, state.s1)

    def one(state, step):
        return iterate(ode, parts, anatomy, inventory, model, arrays, penalty, proposals, state, step)

    return jax.lax.scan(one, state, steps)


def _proposals(ode: Tolerances, anatomy: Anatomy, model: Model, arrays: Ragged, eta):
    """Mode and factor of its Hessian, in b, of every subject; the prior where the search came to nothing."""
    factor = anatomy.cholesky(model)
    q = factor.shape[0]

    def of_subject(data, eta):
        start = solve_lower(factor, eta)
        mode = find_mode(lambda b: curvature_at(Laplace(ode=ode), anatomy, data, model, b), start, 1e-4, _INNER)
        sharp = cholesky(mode.hessian)
        usable = jnp.all(jnp.isfinite(sharp)) & jnp.all(jnp.isfinite(mode.b)) & jnp.isfinite(mode.decrement)
        return (jnp.where(usable, mode.b, 0.0), jnp.where(usable, sharp, jnp.eye(q))), ()

    return over_subjects(of_subject, arrays, eta)[0]


def iterate(
    ode: Tolerances, parts: Parts, anatomy: Anatomy, inventory: Inventory, model: Model, arrays, penalty, proposals, state, step
):
    """One iteration."""
    current = inventory.at_unconstrained(model, state.u)
    factor = anatomy.cholesky(current)
    others = np.array(parts.others, int)

    def of_subject(data, eta, scale, mode, sharp):
        def log_likelihood(b):
            terms, status = pointwise(current, anatomy, data, b, 0, ode)
            total = jnp.sum(terms)
            return jnp.where((status == SOLVED) & jnp.isfinite(total), total, -jnp.inf)

        keys = jax.random.split(jax.random.fold_in(step.key, data.number), eta.shape[0])
        b = solve_lower(factor, eta.T).T
        b, rates, value = jax.vmap(lambda key, b: _transitions(log_likelihood, key, b, scale, mode, sharp))(keys, b)
        new = b @ factor.T
        score, information = _scores(b, data) if len(others) else (jnp.zeros(0), state.information)
        scale = jnp.clip(scale * jnp.exp(0.5 * (jnp.mean(rates, axis=0) - _WANTED)), 1e-3, 10.0)
        moments = jnp.mean(new, axis=0), new.T @ new / new.shape[0]
        shift = shift_of(inventory, model, anatomy, data, state.u, jnp.mean(new, axis=0))[0] if parts.shifts else ()
        return (new, scale, *moments, score, information, shift, jnp.mean(value)), ()

    def _scores(b, data):
        def terms(v, b):
            at = inventory.at_unconstrained(model, state.u.at[others].set(v))
            return pointwise(at, anatomy, data, b, 1, ode)[0]

        s = jax.vmap(jax.jacrev(terms), (None, 0))(state.u[others], b)  # (M, T, G)
        # a chain that stands where no derivative exists tells nothing
        s = jnp.where(jnp.all(jnp.isfinite(s), axis=(1, 2), keepdims=True), s, 0.0)
        square = jnp.einsum("mtg,mth->gh", s, s) if len(others) <= _DENSE else jnp.sum(s**2, axis=(0, 1))
        return jnp.sum(jnp.mean(s, axis=0), axis=0), square / b.shape[0]

    found, _ = over_subjects(of_subject, arrays, state.eta, state.scale, *proposals)
    eta, scale, mean, second, score, information, shift, value = found
    u, gamma, index = state.u, step.gamma, np.array(parts.shifts, int)
    s1 = state.s1 + gamma * (mean - state.s1)
    s2 = state.s2 + gamma * (jnp.mean(second, axis=0) - state.s2)
    levels = anatomy.levels(current)
    precision = inverse_positive(anatomy.omega(current).matrix)
    d = shift[:, :, index] if parts.shifts else jnp.zeros((*mean.shape, 0))
    regression = jnp.einsum("nqk,qr,nrl->kl", d, precision, d)
    delta = solve_positive(regression + 1e-10 * jnp.eye(len(index)), jnp.einsum("nqk,qr,nr->k", d, precision, s1))
    move = jnp.zeros_like(u).at[index].set(jnp.clip(delta, -1.0, 1.0))

    kept = state.information + gamma * (jnp.sum(information, axis=0) - state.information)
    pull, weight = jnp.sum(score, axis=0), kept
    if penalty is not None and len(others):

        def cost(v):  # on the scale of -2 log L
            return 0.5 * penalty(inventory.at_unconstrained(model, state.u.at[others].set(v)))

        slope, bend = jax.jvp(jax.grad(cost), (state.u[others],), (jnp.ones(len(others)),))
        pull = pull - slope
        weight = weight + (jnp.diag(jnp.abs(bend)) if kept.ndim == 2 else jnp.abs(bend))
    if kept.ndim == 2:
        free = solve_positive(weight + jnp.diag(1e-8 * jnp.diagonal(weight) + 1e-10), pull)
    else:
        free = pull / (weight + 1e-10)
    free = jnp.clip(jnp.where(jnp.isfinite(free), free, 0.0), -LONGEST, LONGEST)
    slow = step.anneal & np.array(parts.residual, bool)
    free = jnp.where(slow, jnp.maximum(free, 0.5 * np.log(SHRINK)), free)
    move = move.at[others].set(gamma * free)

    scores = state.scores
    newton, direction = kept.ndim == 2, move
    if newton:
        guard = min(_COMPLETE * (len(u) / mean.shape[0]) ** 2, 1.0)
        of_omega, size = np.array(parts.omega, int), jnp.zeros((len(u), len(u)))
        by_omega, complete = _of_omega(levels, anatomy.occasions, np.array(parts.omega_free, int), second)
        each = jnp.zeros_like(scores).at[:, others].set(score).at[:, of_omega].set(by_omega)
        each = each.at[:, index].set(jnp.einsum("nqk,qr,nr->nk", d, precision, mean))
        scores = scores + jnp.minimum(gamma, _MEMORY) * (each - scores)
        for where, block in ((others, weight), (of_omega, complete), (index, regression)):
            size = size.at[np.ix_(where, where)].set(guard * block)
        total = jnp.sum(each, axis=0).at[others].set(pull)
        observed = scores.T @ scores + size
        full = solve_positive(observed + jnp.diag(1e-8 * jnp.diagonal(observed) + 1e-10), total)
        direction = jnp.where(jnp.isfinite(full), full, 0.0)
        full = jnp.clip(direction, -LONGEST, LONGEST)
        move = jnp.where(step.smooth, gamma * full, move)

    u = u + move
    along = d @ move[index]
    eta, s1_moved = eta - along[:, None, :], s1 - along
    cross = jnp.mean(along[:, :, None] * s1[:, None, :], axis=0)
    s2 = s2 - cross - cross.T + jnp.mean(along[:, :, None] * along[:, None, :], axis=0)
    if parts.omega:
        elements = []
        for level, moments in zip(levels, pooled(levels, anatomy.occasions, s2), strict=True):
            least = jnp.where(step.anneal, SHRINK * jnp.diagonal(level.matrix), 0.0)
            stretch = jnp.sqrt(jnp.maximum(jnp.diagonal(moments), least) / jnp.diagonal(moments))
            wanted = moments * stretch[:, None] * stretch[None, :]
            elements.append(level.at_natural(jnp.stack([wanted[i, j] for i, j in level.positions()])).unconstrained())
        elements = jnp.concatenate(elements)
        closed = u.at[np.array(parts.omega)].set(elements[np.array(parts.omega_free)])
        u = jnp.where(step.smooth, u, closed) if newton else closed
    return State(u, eta, scale, s1_moved, s2, kept, scores), (u, -2.0 * jnp.sum(value), direction)


def _of_omega(levels: tuple[Covariance, ...], occasions, free, second):
    """Scores (N, K) of the free unconstrained elements of Omega, given <eta eta'> of every subject, and their information."""
    starts = [level.unconstrained() for level in levels]
    start = jnp.concatenate(starts)
    ends = np.cumsum([len(x) for x in starts])[:-1]

    def matrix(v):
        pieces = jnp.split(start.at[free].set(v), ends)
        moved = [level.at_unconstrained(piece) for level, piece in zip(levels, pieces, strict=True)]
        return joined(moved, occasions).matrix

    def log_density(v, second):
        inside = matrix(v)
        return -0.5 * (log_det(inside) + jnp.sum(inverse_positive(inside) * second))

    scores = jax.vmap(jax.grad(log_density), (None, 0))(start[free], second)
    slopes = inverse_positive(matrix(start[free])) @ jnp.moveaxis(jax.jacfwd(matrix)(start[free]), -1, 0)  # (K, q, q)
    return scores, 0.5 * second.shape[0] * jnp.einsum("kij,lji->kl", slopes, slopes)


def _transitions(log_likelihood, key, b, scale, mode, sharp):
    """The kernels of one chain: its new place, acceptance rates of the random walks (q,), log p(y, b)."""
    q = b.shape[0]
    keys = jax.random.split(key, 4)
    spread = inverse_lower(sharp).T

    def around(key):
        normal, gamma = jax.random.split(key)
        x = jax.random.normal(normal, (q,)) / jnp.sqrt(2.0 * jax.random.gamma(gamma, 0.5 * _DEGREES) / _DEGREES)
        return mode + spread @ x

    def log_around(b):
        x = sharp.T @ (b - mode)
        return -0.5 * (_DEGREES + q) * jnp.log1p(x @ x / _DEGREES)

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
