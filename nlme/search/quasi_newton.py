"""The outer search: scoring, then BFGS, with a backtracking line search, as a state and one step per evaluation of the objective.

``propose`` says where to evaluate next and ``absorb`` takes the answer in, so that a single evaluation stands in the compiled
program and the same search runs one fit under a progress display or many fits under ``vmap``.

Source: Nocedal & Wright, Numerical Optimization, 2nd ed. 2006, algorithms 3.1 and 6.1, eq. 3.57 for the interpolated step.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.linalg import inverse_positive

SEARCHING, CONVERGED, NO_DECREASE, EVALUATION_LIMIT, BAD_START, RAN_AWAY = range(6)

SENTENCES = {
    SEARCHING: "The search was interrupted before it converged; these are the best values found so far.",
    CONVERGED: "The search converged.",
    NO_DECREASE: "The search stopped: no step lowers the objective further, yet the gradient is not zero.",
    EVALUATION_LIMIT: "The search stopped at its limit of evaluations before it converged.",
    BAD_START: "The objective is not a finite number at the starting values.",
    RAN_AWAY: "A parameter ran off without end: the objective has no minimum here (an error or a variance shrinks to nothing).",
}

_SUFFICIENT = 1e-4
_LONGER = 3.0  # times the last step taken, at most
_FAR = 0.02  # gain that the scores promise, of the number of subjects, above which they are the metric
_AS_TOLD = 2.0  # times what was promised, up or down
_LONGEST = 1.0  # largest change of one unconstrained (log-scale) parameter in one step; 2 led warfarin's sigmoid to a power of 120
_FIRST = 0.5  # in the first, before which nothing is known of how far a direction can be trusted


class Search(NamedTuple):
    """State of one search in P unconstrained parameters."""

    x: Float[Array, " P"]
    value: Float[Array, ""]
    gradient: Float[Array, " P"]
    inverse: Float[Array, "P P"]  # approximation of the inverse Hessian
    direction: Float[Array, " P"]
    step: Float[Array, ""]
    evaluations: Int[Array, ""]
    iterations: Int[Array, ""]
    restarts: Int[Array, ""]  # consecutive times the metric was thrown away without a decrease since
    quiet: Int[Array, ""]  # consecutive iterations that met the tolerance
    scoring: Bool[Array, ""]  # whether the information in the scores has told well so far what a step gains
    status: Int[Array, ""]


def begin(x: Float[Array, " P"]) -> Search:
    size = x.shape[0]
    zero = jnp.zeros((), int)
    return Search(
        x,
        jnp.array(jnp.inf, float),
        jnp.zeros(size),
        jnp.eye(size),
        jnp.zeros(size),
        jnp.ones(()),
        zero,
        zero,
        zero,
        zero,
        jnp.asarray(True),
        zero,
    )


def propose(search: Search) -> Float[Array, " P"]:
    """The point to evaluate next."""
    return search.x + search.step * search.direction


def absorb(
    search: Search, value, gradient, scores: Float[Array, "N P"] | None, tolerance: float, limit: int
) -> tuple[Search, Bool[Array, ""]]:
    """The search after ``value`` and ``gradient`` at the proposed point, and whether that point was taken.

    The first metric is the inverse of half the sum of outer products of ``scores`` s_i (gradients of each subject's -2 log L), the
    expected Hessian of the objective (Berndt, Hall, Hall & Hausman 1974); without scores, a scaled identity.  While a great gain
    is promised, g' M g / 2 > 0.02 N, the metric is made anew at every point taken,

        M = ( 1/2 sum_i (s_i - s)(s_i - s)' )^-1,      s the mean score, g = N s the gradient

    (far from the optimum the mean score is not small, and would shorten every step), until for the first time a step gains less
    than half or more than twice of what was promised: few subjects, or scores that vary otherwise than the model says.  From then
    on, and near the optimum, it is updated by BFGS.
    """
    size = search.x.shape[0]
    first = search.evaluations == 0
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))
    slope = search.gradient @ search.direction
    noise = 1e-9 * (1.0 + jnp.abs(search.value))
    enough = value <= search.value + _SUFFICIENT * search.step * slope + noise
    accept = finite & (first | enough)
    moved = search.step * search.direction
    x = jnp.where(accept, search.x + moved, search.x)

    change = gradient - search.gradient
    curvature = moved @ change
    useful = accept & ~first & (curvature > 1e-12 * jnp.sqrt((moved @ moved) * (change @ change)))
    rho = 1.0 / jnp.where(useful, curvature, 1.0)
    left = jnp.eye(size) - rho * jnp.outer(moved, change)
    updated = left @ search.inverse @ left.T + rho * jnp.outer(moved, moved)
    inverse = jnp.where(useful, updated, search.inverse)
    inverse = jnp.where(first, _first_metric(gradient, scores), inverse)
    scoring = search.scoring
    if scores is not None:
        promised = -slope * search.step * (1.0 - 0.5 * search.step)
        gained = search.value - value
        as_told = (gained > promised / _AS_TOLD) & (gained < promised * _AS_TOLD)
        scoring = scoring & (first | ~accept | as_told)
        scored = _scoring_metric(gradient, scores)
        far = 0.5 * gradient @ scored @ gradient > _FAR * scores.shape[0]
        inverse = jnp.where(accept & scoring & far, scored, inverse)

    value_now = jnp.where(accept, value, search.value)
    gradient_now = jnp.where(accept, gradient, search.gradient)
    exhausted = ~accept & (search.step < 1e-9)
    inverse = jnp.where(exhausted, _first_metric(gradient_now, scores), inverse)
    direction = -inverse @ gradient_now
    downhill = direction @ gradient_now < 0
    direction = jnp.where(downhill, direction, -gradient_now)
    longest = jnp.max(jnp.abs(direction))
    full = jnp.minimum(1.0, jnp.where(first, _FIRST, _LONGEST) / jnp.maximum(longest, 1e-300))
    # where the last step had to be shortened, the metric is still too long: begin near what was right for it
    full = jnp.where(accept & ~first, jnp.minimum(full, _LONGER * search.step), full)
    # minimum of the parabola through value, slope and the failed trial
    curved = 2.0 * (value - search.value - search.step * slope)
    shorter = jnp.where(finite, -slope * search.step / jnp.where(curved > 0, curved, 1.0), 0.1)
    shorter = search.step * jnp.clip(shorter, 0.1, 0.5)
    fresh = accept | exhausted
    direction = jnp.where(fresh, direction, search.direction)
    step = jnp.where(fresh, full, shorter)

    decrement = 0.5 * gradient_now @ inverse @ gradient_now
    met = decrement < tolerance
    # the metric of the first steps is a guess: believe it only when two iterations in a row agree, or no step helps
    quiet = jnp.where(accept, jnp.where(met, search.quiet + 1, 0), search.quiet)
    restarts = jnp.where(accept & (search.value - value > noise), 0, search.restarts + exhausted)
    evaluations = search.evaluations + 1
    status = search.status
    status = jnp.where(evaluations >= limit, EVALUATION_LIMIT, status)
    status = jnp.where(restarts >= 2, jnp.where(decrement < 100 * tolerance, CONVERGED, NO_DECREASE), status)
    status = jnp.where((quiet >= 2) | (met & exhausted), CONVERGED, status)
    status = jnp.where(first & ~finite, BAD_START, status)
    return (
        Search(
            x,
            value_now,
            gradient_now,
            inverse,
            direction,
            step,
            evaluations,
            search.iterations + (accept & ~first),
            restarts,
            quiet,
            scoring,
            status,
        ),
        accept,
    )


def corrected(search: Search, value, gradient) -> Search:
    """The search with a better ``value`` and ``gradient`` of the point where it stands, and a new direction from there."""
    direction = -search.inverse @ gradient
    direction = jnp.where(direction @ gradient < 0, direction, -gradient)
    step = jnp.minimum(1.0, _LONGEST / jnp.maximum(jnp.max(jnp.abs(direction)), 1e-300))
    return search._replace(value=value, gradient=gradient, direction=direction, step=step)


def _scoring_metric(gradient, scores):
    """Inverse of half the scatter of the scores about their mean; not finite, so that nothing is far by it, where that is singular."""
    size = gradient.shape[0]
    information = 0.5 * (scores.T @ scores - jnp.outer(gradient, gradient) / scores.shape[0])
    return inverse_positive(information + 1e-6 * jnp.trace(information) / size * jnp.eye(size))


def _first_metric(gradient, scores):
    size = gradient.shape[0]
    plain = jnp.eye(size) / jnp.maximum(jnp.sqrt(gradient @ gradient), 1.0)
    if scores is None:
        return plain
    information = 0.5 * scores.T @ scores
    ridge = 1e-3 * jnp.trace(information) / size + 1e-8
    inverse = inverse_positive(information + ridge * jnp.eye(size))
    return jnp.where(jnp.all(jnp.isfinite(inverse)), inverse, plain)
