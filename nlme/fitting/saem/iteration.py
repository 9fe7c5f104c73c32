"""One iteration of SAEM for a whole population: the chains of the random effects (``chains``), then the parameters.

M-step.  With gamma_k the step size and <.> the mean over a subject's chains; w_ik, in a mixture, the probability that the subject
of a chain belongs to subpopulation k given the chain's place (without a mixture, 1 for the only one):

    s1_ik <- s1_ik + gamma (<w_ik eta_i> - s1_ik),      r_ik <- r_ik + gamma (<w_ik> - r_ik)
    s2 <- s2 + gamma (mean_i <eta_i eta_i'> - s2)
    shifts   delta = (sum_ik r_ik D_ik' Omega^-1 D_ik)^-1 sum_ik D_ik' Omega^-1 s1_ik,
             u <- u + delta,  eta_i <- eta_i - sum_k w_ik D_ik delta
    Omega    s2 after the shift, in the declared blocks, where not fixed; that of occasions from the mean over them
    others   F <- F + gamma (sum <w_ik score score'> - F),      u <- u + gamma F^-1 sum_ijk <w_ik score_ijk>,
             score_ijk = d log p(y_ij | u, eta_i, k) / du, and in a mixture d log p_k / du as one sample more

The second row is the closed form of a regression on the scale on which the random effects are added (``shifts``): EM where the
complete data are the individual parameters and the membership.  Where the chains stand in individual parameters does not change
by it, which is what makes EM quick for such parameters.

EM creeps where the random effects are not well seen (a variance under high shrinkage).  So while smoothing all parameters move
together by a stochastic Newton step.  With s_imk the derivative of the complete-data log density of a subject, in chain m and
subpopulation k, S_im = sum_k w_imk s_imk and S_i = <S_im>, which is in expectation that of log L_i (Fisher's identity), the
information of the data is that of the complete data less what is missing (Louis),

    J = I_c - V,      V <- V + gamma ( sum_i [ cov_m(S_im) + <sum_k w_imk (s_imk - S_im)(s_imk - S_im)'> ] - V ),
    u <- u + gamma J^-1 sum_i S_i

where the covariance over a subject's chains, which are independent given its data, is unbiased with two of them.  I_c is made of
the blocks above: F, that of Omega, that of the regression.  Of no combination of parameters are the data taken to show less than
3 % of what the complete data would: J is a difference of noisy matrices, and far from the estimate it need not be positive.

Both steps stand still at the same point, sum_i E S_i = 0.  With more than 200 parameters without closed form EM goes on instead.

Sources: Delyon, Lavielle & Moulines (1999), doi:10.1214/aos/1018031103; Kuhn & Lavielle (2005), doi:10.1016/j.csda.2004.07.033;
Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x, and Gu & Kong (1998), doi:10.1073/pnas.95.13.7270 (the Newton step).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from nlme.dynamics.solvers import Tolerances
from nlme.fitting.saem.chains import WANTED, Draws, Proposal, proposals, transitions
from nlme.fitting.saem.shifts import shift_of
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.linalg import solve_lower
from nlme.marginal.joint import by_subpopulation
from nlme.parameters.covariance import Covariance, joined, pooled
from nlme.parameters.inventory import Inventory

LONGEST = 0.3  # largest change of a parameter that has no closed form, in one iteration (unconstrained: log-like)
SHRINK = 0.95  # of a variance in one iteration of annealing, at least
MEMORY = 0.05  # largest step of V
_SHOWN = 0.03  # least share of the complete data's information, in any direction
_FORWARD = 8  # parameters without closed form up to which their scores are differentiated forwards
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
    """All that the next iteration needs: N subjects, M chains, q effects, K subpopulations, P parameters, G of them by scores."""

    u: Float[Array, " P"]
    eta: Float[Array, "N M q"]
    scale: Float[Array, "N q"]  # of the random walks
    s1: Float[Array, "N K q"]
    members: Float[Array, "N K"]  # r
    s2: Float[Array, "q q"]
    information: Float[Array, "G G"]  # F; its diagonal (G,) where there are many parameters
    missing: Float[Array, "P P"]  # V
    observed: Float[Array, "P P"]  # J; none where there are many parameters, and neither of the following
    complete: Float[Array, "P P"]  # I_c, with F of the last iteration alone
    scores: Float[Array, "2 N P"]  # mean of S_i over iterations, from one half of the chains and from the other


class Step(NamedTuple):
    """What an iteration is told: its chains' random numbers, its step size, whether it anneals, whether it smooths, the step of V and
    of the scores."""

    drawn: Draws  # (N, M, ...)
    gamma: Array
    anneal: Array
    smooth: Array
    learn: Array


def begin(parts: Parts, anatomy: Anatomy, u, model: Model, n: int, chains: int, seed: int) -> State:
    """Chains drawn from the prior at the starting values."""
    omega = anatomy.omega(model)
    q, g, count, p = len(omega.names), len(parts.others), max(1, len(anatomy.subpopulations)), u.shape[0]
    b = np.random.default_rng(seed).normal(size=(n, chains, q))
    information = np.zeros((p, p) if g <= _DENSE else (0, 0))
    scores = np.zeros((2, n, p) if g <= _DENSE else (2, 0, 0))
    return State(
        np.asarray(u), b @ np.asarray(omega.cholesky).T, np.full((n, q), 0.5), np.zeros((n, count, q)), np.full((n, count), 1 / count),
        np.asarray(omega.matrix), np.eye(g) if g <= _DENSE else np.ones(g), information, information,
        information, scores,
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
    around = proposals(ode, anatomy, inventory.at_unconstrained(model, state.u), arrays, jnp.sum(state.s1, axis=1))

    def one(state, step):
        return iterate(ode, parts, anatomy, inventory, model, arrays, penalty, around, state, step)

    return jax.lax.scan(one, state, steps)


def iterate(
    ode: Tolerances,
    parts: Parts,
    anatomy: Anatomy,
    inventory: Inventory,
    model: Model,
    arrays: Ragged,
    penalty,
    around: Proposal,
    state: State,
    step: Step,
):
    """One iteration."""
    current = inventory.at_unconstrained(model, state.u)
    factor = anatomy.cholesky(current)
    others = np.array(parts.others, int)

    def of_subject(data, eta, scale, around, drawn):
        def log_likelihood(b):
            return logsumexp(by_subpopulation(current, anatomy, data, b, 0, ode)[1])

        b = solve_lower(factor, eta.T).T
        b, rates, value = jax.vmap(lambda drawn, b: transitions(log_likelihood, drawn, b, scale, around))(drawn, b)
        new = b @ factor.T
        w = _membership(b, data)
        score, information = _scores(b, data, w) if len(others) else (jnp.zeros((*w.shape, 0)), state.information)
        scale = jnp.clip(scale * jnp.exp(0.5 * (jnp.mean(rates, axis=0) - WANTED)), 1e-3, 10.0)
        means = jnp.mean(w, axis=0), w.T @ new / len(w), new.T @ new / len(w)
        shift = _shifts(data, jnp.mean(new, axis=0)) if parts.shifts else ()
        return (new, w, scale, *means, score, information, shift, jnp.mean(value)), ()

    def _membership(b, data):
        """w (M, K)."""
        if not anatomy.mixture:
            return jnp.ones((len(b), 1))
        total = jax.vmap(lambda b: by_subpopulation(current, anatomy, data, b, 0, ode)[1])(b)
        w = jax.nn.softmax(total, axis=1)
        return jnp.where(jnp.isfinite(w), w, 1.0 / w.shape[1])  # a chain that has no place yet

    def _scores(b, data, w):
        def terms(v, b):
            at = inventory.at_unconstrained(model, state.u.at[others].set(v))
            return by_subpopulation(at, anatomy, data, b, 1, ode)[0]

        # forward, where what differentiates the states allows it, a few parameters cost less than many samples in reverse
        forward = len(others) <= _FORWARD and (anatomy.linear or not anatomy.states)
        slopes = (jax.jacfwd if forward else jax.jacrev)(terms)
        s = jax.vmap(slopes, (None, 0))(state.u[others], b)  # (M, K, T + 1, G)
        # a chain that stands where no derivative exists tells nothing
        s = jnp.where(jnp.all(jnp.isfinite(s), axis=(2, 3), keepdims=True), s, 0.0)
        square = jnp.einsum("mk,mktg,mkth->gh", w, s, s) if len(others) <= _DENSE else jnp.einsum("mk,mktg->g", w, s**2)
        return jnp.sum(s, axis=2), square / len(b)

    def _shifts(data, eta):
        """D (K, q, P)."""
        if not anatomy.mixture:
            return shift_of(inventory, model, anatomy, data, state.u, eta)[0][None]
        members = jnp.arange(len(anatomy.subpopulations), dtype=float)
        return jax.vmap(lambda k: shift_of(inventory, model, anatomy, data.belonging(k), state.u, eta)[0])(members)

    found, _ = over_subjects(of_subject, arrays, state.eta, state.scale, around, step.drawn)
    eta, w, scale, membership, mean, second, score, information, shift, value = found
    u, gamma, index = state.u, step.gamma, np.array(parts.shifts, int)
    s1 = state.s1 + gamma * (mean - state.s1)
    s2 = state.s2 + gamma * (jnp.mean(second, axis=0) - state.s2)
    r = state.members + gamma * (membership - state.members)
    levels = anatomy.levels(current)
    precision = _solved(anatomy.omega(current).matrix, jnp.eye(state.eta.shape[2]))
    d = shift[:, :, :, index] if parts.shifts else jnp.zeros((*mean.shape, 0))
    regression = jnp.einsum("nm,nmqk,qr,nmrl->kl", r, d, precision, d)
    delta = _solved(regression + 1e-10 * jnp.eye(len(index)), jnp.einsum("nmqk,qr,nmr->k", d, precision, s1))
    move = jnp.zeros_like(u).at[index].set(jnp.clip(delta, -1.0, 1.0))

    kept = state.information + gamma * (jnp.sum(information, axis=0) - state.information)
    pull, weight = jnp.einsum("nck,nckg->g", w, score) / w.shape[1], kept
    if penalty is not None and len(others):

        def cost(v):  # on the scale of -2 log L
            return 0.5 * penalty(inventory.at_unconstrained(model, state.u.at[others].set(v)))

        slope, curvature = jax.jvp(jax.grad(cost), (state.u[others],), (jnp.ones(len(others)),))
        pull = pull - slope
        weight = weight + (jnp.diag(jnp.abs(curvature)) if kept.ndim == 2 else jnp.abs(curvature))
    if kept.ndim == 2:
        free = _solved(weight + jnp.diag(1e-8 * jnp.diagonal(weight) + 1e-10), pull)
    else:
        free = pull / (weight + 1e-10)
    free = jnp.clip(jnp.where(jnp.isfinite(free), free, 0.0), -LONGEST, LONGEST)
    slow = step.anneal & np.array(parts.residual, bool)
    free = jnp.where(slow, jnp.maximum(free, 0.5 * np.log(SHRINK)), free)
    move = move.at[others].set(gamma * free)

    missing, observed, direction = state.missing, state.observed, move
    complete, scores = state.complete, state.scores
    newton = kept.ndim == 2
    if newton:
        of_omega, complete = np.array(parts.omega, int), jnp.zeros((len(u), len(u)))
        by_omega, of_effects = _of_omega(levels, anatomy.occasions, np.array(parts.omega_free, int), eta, precision)
        each = jnp.zeros((*w.shape, len(u))).at[..., others].set(score).at[..., of_omega].set(by_omega[:, :, None])
        each = each.at[..., index].set(jnp.einsum("nkqa,qr,ncr->ncka", d, precision, eta))
        for where, block in ((others, weight), (of_omega, of_effects), (index, regression)):
            complete = complete.at[np.ix_(where, where)].set(block)
        by_chain = jnp.einsum("nck,ncka->nca", w, each)
        missing = missing + step.learn * (_missing(w, each, by_chain) - missing)
        observed = _observed(complete, missing)
        # a mean over parameters that moved would hide what only vanishes at each of them
        complete = complete.at[np.ix_(others, others)].add(jnp.sum(information, axis=0) - kept)
        half = w.shape[1] // 2
        halves = jnp.stack([jnp.mean(by_chain[:, :half], axis=1), jnp.mean(by_chain[:, half:], axis=1)])
        scores = scores + step.learn * (halves - scores)
        total = (jnp.sum(by_chain, axis=(0, 1)) / w.shape[1]).at[others].set(pull)
        full = _solved(observed, total)
        direction = jnp.where(jnp.isfinite(full), full, 0.0)
        full = jnp.clip(direction, -LONGEST, LONGEST)
        move = jnp.where(step.smooth, gamma * full, move)

    u = u + move
    along = d @ move[index]  # (N, K, q)
    eta = eta - jnp.einsum("nck,nkq->ncq", w, along)
    cross = jnp.einsum("nkq,nkr->qr", along, s1) / len(s1)
    s2 = s2 - cross - cross.T + jnp.einsum("nk,nkq,nkr->qr", r, along, along) / len(s1)
    s1 = s1 - r[:, :, None] * along
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
    return State(u, eta, scale, s1, r, s2, kept, missing, observed, complete, scores), (u, -2.0 * jnp.sum(value), direction)


def _solved(matrix: Float[Array, "n n"], right: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """Solution of a positive definite system; NaN where it is not.  One system for all subjects, which LAPACK solves (``nlme.linalg``
    writes a batch of small ones out, and the program with them)."""
    return cho_solve((jnp.linalg.cholesky(matrix), True), right)


def _missing(w: Float[Array, "N M K"], each: Float[Array, "N M K P"], by_chain: Float[Array, "N M P"]) -> Float[Array, "P P"]:
    """V of one iteration."""
    apart = by_chain - jnp.mean(by_chain, axis=1, keepdims=True)
    within = each - by_chain[:, :, None]
    between = jnp.einsum("nca,ncb->ab", apart, apart) / (w.shape[1] - 1)
    return between + jnp.einsum("nck,ncka,nckb->ab", w, within, within) / w.shape[1]


def _observed(complete: Float[Array, "P P"], missing: Float[Array, "P P"]) -> Float[Array, "P P"]:
    """J = L (I - L^-1 V L^-T) L', L L' = I_c, the eigenvalues in brackets raised to the least share."""
    size = jnp.sqrt(jnp.diagonal(complete) + 1e-10)
    factor = jnp.linalg.cholesky(complete / size[:, None] / size + 1e-8 * jnp.eye(len(size)))
    inverse = solve_triangular(factor, jnp.eye(len(size)), lower=True) / size
    values, vectors = jnp.linalg.eigh(jnp.eye(len(size)) - inverse @ missing @ inverse.T)
    root = size[:, None] * (factor @ vectors)
    return (root * jnp.maximum(values, _SHOWN)) @ root.T


def _of_omega(levels: tuple[Covariance, ...], occasions, free, eta: Float[Array, "N M q"], precision: Float[Array, "q q"]):
    """Scores (N, M, K) of the free unconstrained elements of Omega, and their information (K, K)."""
    starts = [level.unconstrained() for level in levels]
    start = jnp.concatenate(starts)
    ends = np.cumsum([len(x) for x in starts])[:-1]

    def matrix(v):
        pieces = jnp.split(start.at[free].set(v), ends)
        moved = [level.at_unconstrained(piece) for level, piece in zip(levels, pieces, strict=True)]
        return joined(moved, occasions).matrix

    # d log N(eta; 0, Omega) = 1/2 tr(Omega^-1 dOmega (Omega^-1 eta eta' - I))
    slopes = precision @ jnp.moveaxis(jax.jacfwd(matrix)(start[free]), -1, 0)  # (K, q, q)
    whitened = eta @ precision
    scores = 0.5 * (jnp.einsum("ncr,krs,ncs->nck", eta, slopes, whitened) - jnp.trace(slopes, axis1=1, axis2=2))
    return scores, 0.5 * len(eta) * jnp.einsum("kij,lji->kl", slopes, slopes)
