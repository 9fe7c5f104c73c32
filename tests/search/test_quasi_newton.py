"""The search for a minimum: its steps, its ends, and modes searched as closely as is worth it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_dose import AWAY, TIMES, drawn, two_compartments

import nlme
from nlme.search import problem, quasi_newton
from nlme.search.metric import Dense
from nlme.search.quasi_newton import (
    CONVERGED,
    EVALUATION_LIMIT,
    RAN_AWAY,
    SEARCHING,
    Answer,
    absorb,
    arrays_of,
    begin,
    boxed_step,
    corrected,
    search_from,
)

Y = np.random.default_rng(5).normal(3.0, 1.0, 200)


def normal(x, y):
    """-2 log density of a normal sample with mean x_0 and log standard deviation x_1 + x_0 / 10."""
    log_sd = x[1] + 0.1 * x[0]
    return 2.0 * log_sd + (y - x[0]) ** 2 * jnp.exp(-2.0 * log_sd)


@jax.jit
def evaluated(x):
    scores = jax.vmap(jax.grad(normal), (None, 0))(x, jnp.asarray(Y))
    return jnp.sum(jax.vmap(normal, (None, 0))(x, jnp.asarray(Y))), jnp.sum(scores, axis=0), scores


def minimised(start, stretch=None, limit=300, of=evaluated):
    """The end of a search with scores times ``stretch``; without scores if None."""
    search = begin(np.asarray(start, float))
    while search.status == SEARCHING:
        value, gradient, scores = map(np.asarray, of(search.proposal))
        absorb(search, Answer(float(value), gradient, None if stretch is None else stretch * scores), 1e-10, limit)
    return search


def test_scores_that_tell_wrongly_are_given_up():
    expected = [Y.mean(), np.log(Y.std()) - 0.1 * Y.mean()]
    right, wrong, without = (minimised([1.0, 0.5], stretch) for stretch in (1.0, 0.2, None))
    for search in (right, wrong, without):
        assert search.status == CONVERGED
        np.testing.assert_allclose(search.x, expected, atol=1e-5)
    assert right.scoring and not wrong.scoring
    assert right.evaluations < without.evaluations


def test_scale_does_not_matter():
    """A metric and a step in coordinates of other sizes are those of the plain ones."""
    rng, sizes = np.random.default_rng(1), np.array([1e-6, 1.0, 1e5])
    for _ in range(20):
        matrix, g, radius = rng.normal(size=(3, 3)), rng.normal(size=3), rng.uniform(0.1, 2.0, 3)
        matrix = matrix + matrix.T
        plain = Dense(matrix).positive(0.01)
        assert np.linalg.eigvalsh(plain.matrix)[0] > 0
        other = Dense(matrix).scaled(sizes).positive(0.01)
        np.testing.assert_allclose(other.matrix, plain.scaled(sizes).matrix, rtol=1e-9)
        step = boxed_step(plain, g, radius, np.ones(3, bool))
        other = boxed_step(plain.scaled(sizes), g * sizes, radius / sizes, np.ones(3, bool))
        np.testing.assert_allclose(other * sizes, step, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("start", [-30.0, -10.0, 3.0])
def test_a_variance_leaves_its_end_and_one_without_influence_is_held(start):
    """-2 log L of y_i ~ N(0, 1 + exp(u)): from any start to the estimate, or to u at minus infinity where there is no excess."""

    def program(y):
        def one(x, y):
            variance = 1.0 + jnp.exp(x[0])
            return jnp.log(variance) + y**2 / variance

        def of(x):
            scores = jax.vmap(jax.grad(one), (None, 0))(x, y)
            return jnp.sum(jax.vmap(one, (None, 0))(x, y)), jnp.sum(scores, axis=0), scores

        return jax.jit(of)

    y = np.random.default_rng(2).normal(0.0, 1.0, 50)
    y = y / np.sqrt(np.mean(y**2))
    found = minimised([start], 1.0, of=program(jnp.asarray(1.5 * y)))
    assert found.status == CONVERGED and not found.held.any()
    assert np.exp(found.x[0]) == pytest.approx(1.25, rel=1e-5)
    nothing = minimised([start], 1.0, of=program(jnp.asarray(0.9 * y)))
    assert nothing.status == CONVERGED and nothing.value == pytest.approx(50 * 0.81, abs=1e-4)


def test_one_runaway_does_not_hold_the_others():
    """exp(-u) has no minimum; the quadratic beside it is solved as fast as alone."""

    def of(x):
        gradient = np.array([-np.exp(-x[0]), 2.0 * (x[1] - 40.0)])
        return np.exp(-x[0]) + (x[1] - 40.0) ** 2, gradient, None

    found = minimised([0.0, 0.0], None, of=lambda x: of(x)[:2] + (np.zeros((0, 2)),))
    assert found.status == CONVERGED and found.ended.tolist() == [1, 0]
    assert found.x[1] == pytest.approx(40.0, abs=1e-6) and found.evaluations < 40


def test_an_objective_without_a_minimum_is_said():
    found = minimised([0.0], None, of=lambda x: (x[0], np.array([1.0]), np.zeros((0, 1))))
    assert found.status == EVALUATION_LIMIT
    search = begin(np.zeros(1), 35.0)
    while search.status == SEARCHING:
        absorb(search, Answer(float(search.proposal[0]), np.array([1.0])), 1e-7, 500)
    assert search.status == RAN_AWAY and search.evaluations < 60


def test_a_step_in_a_box_lowers_the_model_at_least_as_much_as_its_cauchy_point():
    rng = np.random.default_rng(0)
    for size in (1, 2, 5, 9):
        for _ in range(50):
            a = rng.normal(size=(size, size)) * 10.0 ** rng.uniform(-2, 2, size)
            b, g, radius = a.T @ a + 1e-6 * np.eye(size), 10.0 * rng.normal(size=size), rng.uniform(0.1, 2.0, size)
            free = rng.uniform(size=size) < 0.8
            d = boxed_step(Dense(b), g, radius, free)
            assert np.all(np.abs(d) <= radius * (1 + 1e-9)) and np.all(d[~free] == 0.0)
            unit = 1.0 / np.sqrt(np.diagonal(b))

            def model(d, b=b, g=g):
                return g @ d + 0.5 * d @ b @ d

            path = [np.where(free, np.clip(-t * unit**2 * g, -radius, radius), 0.0) for t in np.logspace(-4, 2, 40)]
            first = next((k for k in range(1, 40) if model(path[k]) > model(path[k - 1])), 40)
            assert model(d) <= model(path[first - 1]) + 1e-9 * abs(model(d))


def test_wrong_curvature_is_not_taken_for_an_end():
    """Where steps no longer help, the metric is made from differences before the search is called converged."""
    calls = []

    def of(x):
        calls.append(np.array(x))
        value = 100.0 * (x[1] - x[0] ** 2) ** 2 + (1.0 - x[0]) ** 2
        return value, np.array([-400.0 * x[0] * (x[1] - x[0] ** 2) - 2.0 * (1.0 - x[0]), 200.0 * (x[1] - x[0] ** 2)]), None

    search = begin(np.array([-1.2, 1.0]))
    while search.status == SEARCHING:
        value, gradient, _ = of(search.proposal)
        absorb(search, Answer(value, gradient), 1e-10, 400)
    assert search.status == CONVERGED
    np.testing.assert_allclose(search.x, [1.0, 1.0], atol=1e-4)


def test_its_state_goes_through_arrays():
    search = begin([1.0, 0.5])
    for _ in range(4):
        value, gradient, scores = map(np.asarray, evaluated(search.proposal))
        absorb(search, Answer(float(value), gradient, scores), 1e-10, 300)
    again = search_from(arrays_of(search))
    for one in (search, again):
        while one.status == SEARCHING:
            value, gradient, scores = map(np.asarray, evaluated(one.proposal))
            absorb(one, Answer(float(value), gradient, scores), 1e-10, 300)
    np.testing.assert_array_equal(again.x, search.x)
    assert again.evaluations == search.evaluations


def test_correction_begins_anew_from_the_same_point():
    search = begin([0.0, 1.0])
    for _ in range(5):
        value, gradient, scores = map(np.asarray, evaluated(search.proposal))
        absorb(search, Answer(float(value), gradient, scores), 1e-10, 300)
    x = search.x.copy()
    value, gradient, scores = map(np.asarray, evaluated(x))
    search.value, search.gradient = search.value - 3.0, search.gradient + 1.0
    corrected(search, Answer(float(value), gradient, scores))
    np.testing.assert_array_equal(search.x, x)
    assert search.value == float(value) and search.gradient @ search.step < 0


@pytest.mark.slow
def test_scoring_saves_evaluations(monkeypatch):
    """Eleven parameters, 200 subjects: 19 evaluations instead of 27, and the same optimum."""
    data = drawn(two_compartments(equations=False)(), 200, TIMES)
    calls, evaluate = [], problem.evaluate_population
    monkeypatch.setattr(problem, "evaluate_population", lambda *a, **k: calls.append(1) or evaluate(*a, **k))
    found = {}
    for far in (quasi_newton._FAR, np.inf):
        monkeypatch.setattr(quasi_newton, "_FAR", far)
        calls.clear()
        found[far] = nlme.fit(two_compartments(equations=False)(**AWAY), data, nlme.FOCEI(), starts=0).objective, len(calls)
    (with_scores, few), (without, many) = found.values()
    assert with_scores == pytest.approx(without, abs=1e-5) and 4 * few < 3 * many


class Saturable(nlme.Model):
    vmax: nlme.Scalar = nlme.positive(30.0)
    v: nlme.Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(vmax=0.1, v=0.05)
    prop: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(vmax=self.vmax * jnp.exp(eta.vmax), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            return {"central": -ind.vmax * c / (5.0 + c)}

        return nlme.ODE(rhs, ("central",))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


@pytest.mark.slow
def test_modes_are_searched_less_closely_far_from_the_optimum(monkeypatch):
    data = drawn(Saturable(), 25, [0.5, 2.0, 6.0, 12.0])
    tolerances, evaluate = [], problem.evaluate_population

    def noted(*args, tolerance=None, **options):
        tolerances.append(tolerance)
        return evaluate(*args, tolerance=tolerance, **options)

    monkeypatch.setattr(problem, "evaluate_population", noted)
    away = Saturable(vmax=15.0, v=50.0, prop=0.3)
    fit = nlme.fit(away, data, nlme.FOCEI(), starts=0)
    asked = [t for t in tolerances if t is not None]
    assert asked[0] == 1e-4 and asked[-1] == nlme.FOCEI().inner_tolerance and tolerances[-1] is None
    monkeypatch.setattr(nlme.FOCEI, "loosest", 0.0)
    closely = nlme.fit(away, data, nlme.FOCEI(), starts=0)
    assert fit.objective == pytest.approx(closely.objective, abs=1e-6)
    assert fit.inner_converged.all() and (fit.decrement <= nlme.FOCEI().inner_tolerance).all()


def test_scores_of_subjects_that_are_there_twice_count_once():
    scores = np.random.default_rng(3).normal(size=(6, 8))
    again = np.tile(scores, (4, 1))
    assert Answer(0.0, np.zeros(8), again).usable is None  # 24 subjects, of whom 6 differ, for 8 parameters
    others = np.random.default_rng(4).normal(size=(24, 8))
    assert Answer(0.0, np.zeros(8), others).usable is others
