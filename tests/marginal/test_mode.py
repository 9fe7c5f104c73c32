"""The search for a mode: quadratic at its end, quick where the density bends the wrong way, honest when it does not end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlme.marginal.base import Curvature
from nlme.marginal.mode import find_mode


def curvature_of(phi, expected):
    def at(b):
        return Curvature(phi(b), jax.grad(phi)(b), jax.hessian(phi)(b), expected(b), jnp.zeros((), int))

    return at


def search(phi, expected, start, limit=100):
    return jax.jit(lambda b: find_mode(curvature_of(phi, expected), b, 1e-16, limit))(jnp.asarray(start))


def test_a_quadratic_takes_one_step():
    a = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    found = search(lambda b: 0.5 * (b - 1) @ a @ (b - 1), lambda b: 10 * jnp.eye(2), [0.0, 3.0])
    np.testing.assert_allclose(found.b, [1.0, 1.0], atol=1e-12)
    assert bool(found.converged) and int(found.iterations) == 2  # the start, and the mode


def test_a_long_slope_that_bends_the_wrong_way():
    """Tails like log: the exact Hessian is negative there, the expected one so large that its steps alone would take 400."""

    def phi(b):
        return jnp.sum(5.0 * jnp.log1p(0.5 * (b - 20.0) ** 2))

    for start, most in (([0.0, 0.0], 25), ([0.0, 5.0], 60)):
        found = search(phi, lambda b: 10 * jnp.eye(2), start)
        assert bool(found.converged) and int(found.iterations) < most
        np.testing.assert_allclose(found.b, [20.0, 20.0], atol=1e-8)


def test_a_step_that_overshoots_is_taken_back():
    """A wall behind the mode: long steps meet it, and the search still ends."""

    def phi(b):
        return jnp.sum(3.0 * jnp.log1p(b**2) + jnp.exp(8.0 * (b - 0.5)))

    found = search(phi, lambda b: 30 * jnp.eye(1), [-40.0])
    gradient = jax.grad(phi)(found.b)
    assert bool(found.converged)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_along_a_valley_from_which_a_mode_has_vanished():
    """A minimum at 1/sqrt(3) along a bent valley ends where the slope c reaches 2/sqrt(27) = 0.3849: just above it the valley is nearly flat,
    and the expected Hessian, which does not lie along it, alone took 284 and more than 400 iterations."""

    def phi(b):
        along = b[0] + b[1]
        return 0.25 * along**4 - 0.5 * along**2 + 0.385 * along + 30.0 * (b[0] - b[1] - along**2) ** 2

    for tilt in (0.8, 0.9):

        def expected(b, tilt=tilt):
            across = jnp.array([1.0, -1.0]) - 2.0 * tilt * (b[0] + b[1])
            return 60.0 * jnp.outer(across, across) + 3.0 * jnp.ones((2, 2))

        found = search(phi, expected, [0.4545, 0.1225])
        assert bool(found.converged) and int(found.iterations) < 60
        np.testing.assert_allclose(jax.grad(phi)(found.b), 0.0, atol=1e-7)
        assert found.b.sum() == pytest.approx(-1.1547, abs=1e-4)


@pytest.mark.parametrize("limit", [1, 3])
def test_a_search_cut_short_says_so(limit):
    found = search(lambda b: jnp.sum(jnp.cosh(b - 3.0)), lambda b: jnp.eye(1), [-4.0], limit)
    assert not bool(found.converged) and int(found.iterations) == limit


def test_where_the_solve_fails_is_no_mode():
    """States left half way have a density, too, here a better one: the search turns back, and a start there says how it ended."""

    def phi(b):
        return jnp.sum(jnp.sqrt(1.0 + (b - 1.0) ** 2))

    def at(b):
        failed = b[0] > 1.5
        value = jnp.where(failed, -100.0, phi(b))
        return Curvature(value, jax.grad(phi)(b), jax.hessian(phi)(b), jnp.eye(1), jnp.where(failed, 2, 0))

    found = jax.jit(lambda b: find_mode(at, b, 1e-16, 100))(jnp.array([-0.3]))  # Newton's step leads to 3.2
    assert bool(found.converged) and int(found.status) == 0
    np.testing.assert_allclose(found.b, 1.0, atol=1e-6)
    failing = jax.jit(lambda b: find_mode(at, b, 1e-16, 100))(jnp.array([1.6]))
    assert not bool(failing.converged) and int(failing.status) == 2


def test_a_start_where_the_density_cannot_be_had_ends_at_once():
    """There is no direction in which to go: fifteen solutions of a stiff system at the same point led to nothing better."""
    found = search(lambda b: jnp.sum(jnp.sqrt(b)), lambda b: jnp.eye(2), [-1.0, 4.0])
    assert not bool(found.converged) and int(found.iterations) == 1
