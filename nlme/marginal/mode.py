"""The mode of a subject's joint density: its search, and its derivative.

``find_mode`` is a Levenberg-Marquardt iteration in standardised random effects, written for one subject and vectorised over
all (More 1978, doi:10.1007/BFb0067700, for the damping).  It uses the exact Hessian H where that is positive definite, so that it ends
quadratically.  Where the density bends the wrong way it is H + t (E - H), E the expected Hessian, with as small a share t as leaves that
positive definite: E alone is too large along a valley from which a mode has vanished, and its steps too short.

``search_mode`` carries a search on by a few iterations, for programs in which many searches wait for each other.

``with_derivative`` turns the mode, a number, into a function of the population parameters: one Newton step from the mode with
the Hessian held constant has the mode's value and exactly its implicit derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.solvers import SOLVED
from nlme.linalg import cholesky, solve_positive
from nlme.marginal.base import Curvature

_SHARE, _LEAST_SHARE = 1 / 16, 1 / 256
_GIVEN_UP = 1e12  # a damping of steps that are none


class Mode(NamedTuple):
    """Where a subject's density is highest, and how sure that is."""

    b: Float[Array, " q"]
    hessian: Float[Array, "q q"]  # exact if positive definite, else between that and the expected one
    decrement: Float[Array, ""]  # g' H^-1 g at b: twice the gain still expected
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]
    status: Int[Array, ""]  # of the ODE solve


class ModeSearch(NamedTuple):
    """State of the search for one subject's mode."""

    trial: Float[Array, " q"]
    b: Float[Array, " q"]
    value: Float[Array, ""]
    gradient: Float[Array, " q"]
    hessian: Float[Array, "q q"]
    damping: Float[Array, ""]
    decrement: Float[Array, ""]
    expected_gain: Float[Array, ""]
    share: Float[Array, ""]  # t, of the expected Hessian where the exact one is not positive definite
    count: Int[Array, ""]
    status: Int[Array, ""]


def begin_mode(start: Float[Array, " q"]) -> ModeSearch:
    q = start.shape[0]
    return ModeSearch(
        trial=start,
        b=start,
        value=jnp.asarray(jnp.inf),
        gradient=jnp.zeros(q),
        hessian=jnp.eye(q),
        damping=jnp.zeros(()),
        decrement=jnp.asarray(jnp.inf),
        expected_gain=jnp.zeros(()),
        share=jnp.asarray(_SHARE),
        count=jnp.zeros((), int),
        status=jnp.zeros((), int),
    )


def restarted(search: ModeSearch, tolerance: float, limit: int) -> ModeSearch:
    """Where the search has not ended, one from where it stands, as if nothing were known of it but its iterations."""
    anew = begin_mode(search.b)._replace(count=search.count)
    return jax.tree.map(lambda a, b: jnp.where(unfinished(search, tolerance, limit), a, b), anew, search)


def unfinished(search: ModeSearch, tolerance: float, limit: int) -> Bool[Array, ""]:
    """Whether the search would go on."""
    return (search.decrement > tolerance) & (search.count < limit) & (search.damping < _GIVEN_UP)


def find_mode(
    curvature: Callable[[Float[Array, " q"]], Curvature], start: Float[Array, " q"], tolerance: float, limit: int
) -> Mode:
    """Minimise Phi from ``start`` until the Newton decrement is below ``tolerance``."""
    end = search_mode(curvature, begin_mode(start), tolerance, limit, limit)
    return Mode(end.b, end.hessian, end.decrement, end.count, end.decrement <= tolerance, end.status)


def search_mode(
    curvature: Callable[[Float[Array, " q"]], Curvature],
    search: ModeSearch,
    tolerance: float,
    limit: int,
    most: int,
    noise: float = 1e-10,
) -> ModeSearch:
    """Carry the search on by at most ``most`` iterations; a rise of Phi by ``noise`` of its size is none."""
    eye = jnp.eye(search.b.shape[0])

    def step(state: ModeSearch) -> ModeSearch:
        at = curvature(state.trial)
        mixed = at.hessian + state.share * (at.expected - at.hessian)
        exactly, usable = _positive(at.hessian), _positive(mixed)
        hessian = jnp.where(exactly, at.hessian, jnp.where(usable, mixed, at.expected))
        finite = (
            (at.status == SOLVED) & jnp.isfinite(at.value) & jnp.all(jnp.isfinite(at.gradient)) & jnp.all(jnp.isfinite(hessian))
        )
        # an adaptive solve makes Phi jitter in its last digits: a rise below that noise is no failure
        gain = state.value - at.value
        accept = finite & (gain >= -noise * (1.0 + jnp.abs(state.value)))
        good = gain >= 0.75 * state.expected_gain
        # where the density cannot be had at the start there is no direction to shorten: the search is over
        raised = jnp.where(jnp.isinf(state.value), _GIVEN_UP, jnp.maximum(state.damping * 10.0, 1e-2))
        damping = jnp.where(accept, jnp.where(good, state.damping * 0.1, state.damping), raised)
        damping = jnp.where(damping < 1e-6, 0.0, damping)
        b = jnp.where(accept, state.trial, state.b)
        value = jnp.where(accept, at.value, state.value)
        gradient = jnp.where(accept, at.gradient, state.gradient)
        hessian = jnp.where(accept, hessian, state.hessian)
        decrement = jnp.where(accept, gradient @ solve_positive(hessian, gradient), state.decrement)
        other = jnp.where(usable, jnp.where(good, 0.25, 1.0), 4.0) * state.share
        share = jnp.where(accept & ~exactly, jnp.clip(other, _LEAST_SHARE, 1.0), state.share)
        move = -solve_positive(hessian + damping * eye, gradient)
        # standardised effects: no single step of more than a few standard deviations
        length = jnp.sqrt(move @ move)
        move = move * jnp.minimum(1.0, 4.0 / jnp.maximum(length, 1e-300))
        expected_gain = -gradient @ move - 0.5 * move @ hessian @ move
        # how the solve ended at b; at the start where nothing has been accepted
        status = jnp.where(accept | jnp.isinf(state.value), at.status, state.status)
        return ModeSearch(
            b + move, b, value, gradient, hessian, damping, decrement, expected_gain, share, state.count + 1, status
        )

    stop = search.count + most
    return jax.lax.while_loop(lambda state: unfinished(state, tolerance, limit) & (state.count < stop), step, search)


def _positive(matrix: Float[Array, "q q"]) -> Bool[Array, ""]:
    return jnp.all(jnp.isfinite(cholesky(matrix)))


def with_derivative(
    gradient: Callable[[Float[Array, " q"]], Float[Array, " q"]], mode: Float[Array, " q"], hessian: Float[Array, "q q"]
) -> Float[Array, " q"]:
    """The mode as a differentiable function: b - H^-1 dPhi/db(parameters, b), with b and H constant.

    ``gradient`` closes over the population parameters that are differentiated.
    """
    mode, hessian = jax.lax.stop_gradient((mode, hessian))
    return mode - solve_positive(hessian, gradient(mode))
