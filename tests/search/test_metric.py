"""Metrics of many parameters, held as a diagonal and columns, are those that the matrices are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlme.search import metric as metrics
from nlme.search import quasi_newton
from nlme.search.metric import Dense, Factored, metric_from, of_scores, round_metric
from nlme.search.quasi_newton import CONVERGED, SEARCHING, Answer, absorb, arrays_of, begin, boxed_step, search_from


def matrix_of(found) -> np.ndarray:
    return np.stack([found.times(row) for row in np.eye(len(found.diagonal))])


@pytest.fixture
def both(monkeypatch):
    """(factored, dense) of the same scores, ten parameters, seven subjects, three pairs of BFGS."""
    rng = np.random.default_rng(3)
    scores, diagonal = rng.normal(size=(7, 10)), rng.uniform(0.1, 2.0, 10)
    dense = of_scores(scores, diagonal)
    monkeypatch.setattr(metrics, "DENSE", 5)
    factored = of_scores(scores, diagonal)
    assert isinstance(dense, Dense) and isinstance(factored, Factored)
    for _ in range(3):
        moved = rng.normal(size=10)
        change = dense.times(moved) + 0.1 * rng.normal(size=10)
        dense, factored = dense.updated(moved, change), factored.updated(moved, change)
    return factored, dense


def test_products_solutions_scales_and_updates_are_the_matrix_own(both):
    factored, dense = both
    rng = np.random.default_rng(4)
    np.testing.assert_allclose(matrix_of(factored), dense.matrix, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(factored.diagonal, dense.diagonal, rtol=1e-10)
    right, among, factor = rng.normal(size=10), rng.uniform(size=10) < 0.7, rng.uniform(0.1, 10.0, 10)
    x = factored.solved(right, among)
    np.testing.assert_allclose(x, dense.solved(right, among), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose((dense.matrix @ x)[among], right[among], rtol=1e-8)
    assert np.all(x[~among] == 0.0)
    np.testing.assert_allclose(matrix_of(factored.scaled(factor)), dense.scaled(factor).matrix, rtol=1e-10, atol=1e-10)
    again = metric_from(factored.arrays())
    np.testing.assert_array_equal(matrix_of(again), matrix_of(factored))


def test_the_newest_pair_holds_exactly_and_old_ones_are_forgotten(both):
    factored, dense = both
    rng = np.random.default_rng(5)
    for _ in range(metrics._PAIRS + 5):
        moved = rng.normal(size=10)
        change = dense.times(moved)
        factored = factored.updated(moved, change)
        np.testing.assert_allclose(factored.times(moved), change, rtol=1e-8, atol=1e-9)
    assert len(factored.moves) == metrics._PAIRS


def test_steps_in_a_box_are_the_same(both):
    factored, dense = both
    rng = np.random.default_rng(6)
    for _ in range(20):
        g, radius, free = 5.0 * rng.normal(size=10), rng.uniform(0.1, 2.0, 10), rng.uniform(size=10) < 0.8
        np.testing.assert_allclose(
            boxed_step(factored, g, radius, free), boxed_step(dense, g, radius, free), rtol=1e-7, atol=1e-10
        )


def test_scores_of_more_subjects_than_columns_keep_their_diagonal_and_leading_directions(monkeypatch):
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(40, 30)) * np.logspace(0, -4, 30)
    whole = of_scores(scores, np.ones(30)).matrix
    monkeypatch.setattr(metrics, "DENSE", 5)
    monkeypatch.setattr(metrics, "_COLUMNS", 12)
    found = of_scores(scores, np.ones(30))
    assert found.factor.shape == (30, 12)
    np.testing.assert_allclose(found.diagonal, np.diagonal(whole), rtol=1e-10)
    np.testing.assert_allclose(matrix_of(found), whole, atol=0.02 * np.max(whole))
    assert np.linalg.eigvalsh(matrix_of(found))[0] > 0


def network(weights, x):
    hidden = jnp.tanh(x @ weights[:80].reshape(4, 20) + weights[80:100])
    return hidden @ weights[100:]


@jax.jit
def regression(u, x, y):
    """Scores of y ~ N(network, 0.1^2)."""

    def one(u, x, y):
        return (y - network(u, x)) ** 2 / 0.01

    scores = jax.vmap(jax.grad(one), (None, 0, 0))(u, x, y)
    return jnp.sum(jax.vmap(one, (None, 0, 0))(u, x, y)), scores


def test_a_network_is_fitted_without_a_matrix_of_its_weights(monkeypatch):
    monkeypatch.setattr(metrics, "DENSE", 100)
    penalty = 1000.0
    rng = np.random.default_rng(8)
    x = rng.normal(size=(50, 4))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.1 * rng.normal(size=50)
    start = rng.normal(size=120) * 0.1
    search = begin(start)
    while search.status == SEARCHING:
        u = search.proposal
        value, scores = map(np.asarray, regression(u, x, y))
        found = Answer(
            float(value) + penalty * float(u @ u), scores.sum(axis=0) + 2 * penalty * u, scores, np.full(120, 2 * penalty)
        )
        absorb(search, found, 1e-7, 400)
    assert search.status == CONVERGED and isinstance(search.metric, Factored)
    assert search.columns.size == 0
    assert np.max(np.abs(search.gradient)) < 0.05
    again = search_from(arrays_of(search))
    np.testing.assert_array_equal(matrix_of(again.metric), matrix_of(search.metric))


def test_the_penalty_is_part_of_the_curvature():
    """A parameter that no score depends on is at the penalty's minimum after one step of the right length."""
    search = begin(np.array([0.5, 0.8]))
    rng = np.random.default_rng(9)
    y = rng.normal(size=30)
    for _ in range(3):
        u = search.proposal
        scores = np.stack([2 * (u[0] - y), np.zeros(30)], axis=1)
        value = np.sum((u[0] - y) ** 2) + 50.0 * (u[1] - 0.5) ** 2
        absorb(search, Answer(value, scores.sum(axis=0) + [0.0, 100.0 * (u[1] - 0.5)], scores, np.array([0.0, 100.0])), 1e-10, 50)
    assert search.x[1] == pytest.approx(0.5, abs=0.05)


def test_round_metrics(monkeypatch):
    assert isinstance(round_metric(3, 2.0), Dense)
    monkeypatch.setattr(metrics, "DENSE", 2)
    np.testing.assert_array_equal(matrix_of(round_metric(3, 2.0)), 2.0 * np.eye(3))
    assert quasi_newton.begin(np.zeros(3)).metric.flat.tolist() == [1.0] * 3


def test_a_diagonal_that_is_nothing_beside_the_rest_leaves_no_singular_matrix():
    """Differences of a gradient can have it: in units of such a diagonal the others are 1e16, and a floor of 1e-5 is rounding."""
    found = Dense(np.array([[1.0, 1e-4, 1e-4], [1e-4, 1e-40, 0.0], [1e-4, 0.0, 1e-40]])).positive()
    assert np.linalg.cond(found.matrix / np.sqrt(np.outer(found.diagonal, found.diagonal))) < 1e14
    assert np.isfinite(found.solved(np.ones(3), np.ones(3, bool))).all()


def test_a_gradient_whose_square_is_no_number_goes_to_the_sides():
    step = boxed_step(
        Dense(np.array([[1.0, 0.99999], [0.99999, 1.0]])), np.array([1e-161, -1e-161]), np.ones(2), np.ones(2, bool)
    )
    assert np.isfinite(step).all() and step[0] <= 0.0 <= step[1]
