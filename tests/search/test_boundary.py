"""A covariance at the edge of its range is left exactly where the objective falls inside."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory
from nlme.search.boundary import off_the_edge
from nlme.search.minimise import minimise
from nlme.search.problem import Problem


class Line(nlme.Model):
    """y = level + slope t with a block of two random effects: linear, so that FOCEI is exact."""

    level: nlme.Scalar = nlme.real(1.0)
    slope: nlme.Scalar = nlme.real(0.5)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(("level", "slope"), [[0.5], [0.0, 0.5]])

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


T = np.arange(5.0)


def population(omega, n=40, seed=0):
    rng = np.random.default_rng(seed)
    eta = rng.multivariate_normal([0, 0], omega, n, method="svd")
    subjects = [
        nlme.Subject(i + 1, T, dv=1.0 + a + (0.5 + b) * T + 0.5 * rng.normal(size=5), evid=np.zeros(5, int))
        for i, (a, b) in enumerate(eta)
    ]
    return nlme.Population(tuple(subjects))


def problem_of(model, data, fixed=()):
    return Problem(nlme.FOCEI(), model, lay_out(model, data), Inventory(model, fixed))


def exact(problem, u):
    """-2 log L of the linear model without n log 2 pi."""
    m = problem.at(u)
    z = np.stack([np.ones(5), T], axis=1)
    v = z @ np.asarray(m.omega.matrix) @ z.T + float(m.sd) ** 2 * np.eye(5)
    r = np.array([s.dv - float(m.level) - float(m.slope) * T for s in problem.layout.population])
    return len(r) * np.linalg.slogdet(v)[1] + np.einsum("ni,ij,nj->", r, np.linalg.inv(v), r)


def at(model, data, matrix):
    problem = problem_of(model, data)
    m = Line(omega=matrix)
    u = np.asarray(problem.inventory.unconstrained(m))
    return problem, u, problem.evaluate(u, np.zeros((len(data), 2)))


@pytest.mark.slow
@pytest.mark.parametrize("variance", [1e-14, 1e-9])
def test_variances_near_zero_are_raised_where_that_lowers_the_objective(variance):
    problem, u, here = at(Line(), population([[0.5, 0.2], [0.2, 0.3]]), [[variance, 0.9 * variance], [0.9 * variance, variance]])
    found = off_the_edge(problem, u, here, np.ones(len(u), int))
    assert found.gain > 10.0
    assert min(exact(problem, p) for p in found.points) < exact(problem, u) - 0.5 * found.gain


@pytest.mark.slow
def test_a_correlation_of_one_is_left():
    """Effects that go together in the model and against each other in the data."""
    problem, u, here = at(Line(), population([[0.5, -0.2], [-0.2, 0.3]]), [[0.5, 0.38729], [0.38729, 0.3]])
    found = off_the_edge(problem, u, here, np.zeros(len(u), int))
    assert found is not None and exact(problem, found.points[0]) < exact(problem, u)


@pytest.mark.slow
def test_an_edge_that_is_a_minimum_stays():
    """Lines that are the same in all subjects, errors orthogonal to them: variances of zero, and the audit says so."""
    z = np.stack([np.ones(5), T], axis=1)
    off = np.eye(5) - z @ np.linalg.solve(z.T @ z, z.T)
    rng = np.random.default_rng(3)
    subjects = [nlme.Subject(i + 1, T, dv=1.0 + 0.5 * T + off @ rng.normal(size=5), evid=np.zeros(5, int)) for i in range(40)]
    fit = nlme.fit(Line(omega=[[0.05, 0.0], [0.0, 0.05]]), nlme.Population(tuple(subjects)), progress=False)
    assert fit.converged and "omega.level" in fit.at_bounds and "no variability of level" in fit.at_bounds["omega.level"]
    problem = problem_of(fit.model, fit.population)
    u = problem.start
    names = problem.inventory.names
    for k, name in enumerate(names):
        if name.startswith("omega"):
            continue
        for side in (-1e-3, 1e-3):
            moved = u.copy()
            moved[k] += side
            assert exact(problem, moved) > exact(problem, u) - 1e-6
    for raised in (
        [[1e-3, 0], [0, 1e-12]],
        [[1e-3, 3e-4], [3e-4, 1e-4]],
        [[1e-3, -3e-4], [-3e-4, 1e-4]],
        [[1e-12, 0], [0, 1e-4]],
    ):
        matrix = np.asarray(fit.model.omega.matrix) + np.array(raised) + 1e-13 * np.eye(2)
        other = np.asarray(
            problem.inventory.unconstrained(Line(level=fit.model.level, slope=fit.model.slope, sd=fit.model.sd, omega=matrix))
        )
        assert exact(problem, other) > exact(problem, u) - 1e-4


@pytest.mark.parametrize(
    "start", [[[1e-12, 0.0], [0.0, 1e-12]], [[1e-10, -0.999e-10], [-0.999e-10, 1e-10]], [[50.0, 49.9], [49.9, 50.0]]]
)
def test_from_any_edge_the_search_ends_at_the_same_minimum(start):
    data = population([[0.5, 0.2], [0.2, 0.3]])
    best = minimise(problem_of(Line(), data))
    found = minimise(problem_of(Line(omega=start), data))
    assert found.search.value == pytest.approx(best.search.value, abs=1e-5)
    np.testing.assert_allclose(found.search.x, best.search.x, atol=2e-3)


def test_a_fixed_block_is_left_alone():
    data = population([[0.5, 0.2], [0.2, 0.3]])
    problem = problem_of(Line(omega=[[1e-10, 0.0], [0.0, 1e-10]]), data, ["omega"])
    found = minimise(problem)
    assert off_the_edge(problem, found.search.x, found.at, np.ones(3, int)) is None
    np.testing.assert_allclose(np.asarray(problem.at(found.search.x).omega.matrix), 1e-10 * np.eye(2), rtol=1e-6)
    assert jnp.isfinite(found.search.value)
