"""Draws of subjects: each one's objective is its own, their weighted gradients average to that of everybody, and a search finishes."""

from __future__ import annotations

import dataclasses

import numpy as np
import optax
import pandas as pd
import pytest

import nlme
from nlme import datasets
from nlme.errors import ModelError
from nlme.fitting.evaluated import inventory_of
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.models.phenobarbital import Phenobarbital
from nlme.search.minibatches import Minibatches, _draws, descend
from nlme.search.problem import Problem


@pytest.fixture(scope="module")
def problem():
    model, population, method = Phenobarbital(), datasets.load("phenobarbital"), nlme.FOCEI()
    return Problem(method, model, lay_out(model, population), inventory_of(method, model))


@pytest.mark.slow
def test_draws_are_an_epoch_of_the_objective(problem):
    layout = problem.layout
    everybody = problem.evaluate(problem.start, np.zeros((layout.n_subjects, 2)))
    seen, gradients = [], []
    for subjects, weights, arrays in _draws(layout, 20, np.random.default_rng(1)):
        at = evaluate_subjects(
            problem.method, layout.anatomy, problem.every, problem.model, arrays, problem.start, np.zeros((len(subjects), 2))
        )
        np.testing.assert_allclose(at.value, everybody.value[subjects], rtol=1e-9)
        np.testing.assert_allclose(at.gradient, everybody.gradient[subjects], rtol=1e-7, atol=1e-9)
        seen.append(subjects)
        gradients.append(weights @ np.asarray(at.gradient))
    seen = np.concatenate(seen)
    assert len(np.unique(seen)) == len(seen) > 0.8 * layout.n_subjects
    # the mean over many epochs is the gradient of everybody
    rng, many = np.random.default_rng(2), []
    for _ in range(400):
        for subjects, weights, _ in _draws(layout, 20, rng):
            many.append(weights @ everybody.gradient[subjects])
    error = np.std(many, axis=0) / np.sqrt(len(many))
    assert np.all(np.abs(np.mean(many, axis=0) - everybody.gradient.sum(axis=0)) < 4 * error)


@pytest.mark.slow
def test_descent_comes_near_the_optimum(problem):
    u, words = descend(problem, Minibatches(optax.adam(0.05), subjects=20, epochs=25))
    value = problem.evaluate(u, np.zeros((problem.layout.n_subjects, 2)), gradient=False).value.sum()
    start = problem.evaluate(problem.start, np.zeros((problem.layout.n_subjects, 2)), gradient=False).value.sum()
    assert value < 586.276 + 0.05 * (start - 586.276) + 2.0, words
    assert "epochs" in words


@pytest.mark.slow
def test_a_fit_goes_on_from_there(problem):
    population = problem.layout.population
    fit = nlme.fit(Phenobarbital(), population, optimiser=optax.adam(0.05), progress=False)
    assert fit.objective == pytest.approx(586.276, abs=2e-3)
    assert "Minibatches" in fit.training[0] and fit.converged


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: Minibatches(subjects=0), "at least 1"),
        (lambda: Minibatches(epochs=True), "whole number"),
        (lambda: Minibatches("adam"), "one of optax's"),
    ],
)
def test_options_out_of_range(make, words):
    with pytest.raises(ModelError, match=words):
        make()


class Curve(nlme.Model):
    """A level that depends on x, and a network wide enough to learn the noise."""

    level: nlme.Scalar = nlme.real(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=12, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(level=0.2)
    sd: nlme.Scalar = nlme.positive(0.3)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(level=self.level + self.net(cov.x)[0] + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


@pytest.mark.slow
def test_early_stopping_holds_the_weights_where_subjects_not_seen_are_predicted_best():
    rng, rows = np.random.default_rng(4), []
    for i in range(30):
        x, eta = rng.normal(), 0.3 * rng.normal()
        rows += [{"ID": i, "TIME": t, "DV": np.sin(x) + eta + 0.3 * rng.normal(), "x": x} for t in (1.0, 2.0)]
    population = nlme.read_nonmem(pd.DataFrame(rows), covariates=["x"])
    how = Minibatches(optax.adam(0.05), subjects=8, epochs=12, held_out=0.2)
    fit = nlme.fit(Curve(), population, optimiser=how, progress=False)
    assert fit.converged and "6 subjects held out" in fit.training[0]
    assert all(name.startswith("net.") for name in set(fit.inventory.fixed)) and len(fit.inventory.fixed) == 37
    assert np.any(np.asarray(fit.model.net.weights[-1]) != 0.0)  # they were trained
    # the best of the epochs: a longer descent stops at the same place
    u, words = descend(fit_problem(population), how)
    later, more = descend(fit_problem(population), dataclasses.replace(how, epochs=14))
    if words.rsplit("after", 1)[1] == more.rsplit("after", 1)[1]:
        np.testing.assert_allclose(u, later)


def fit_problem(population):
    model, method = Curve(), nlme.FOCEI()
    layout = lay_out(model, population)
    return Problem(method, layout.model, layout, inventory_of(method, layout.model))


def test_nobody_held_out_is_drawn(problem):
    held = np.array([0, 5, 17])
    drawn = [subjects for subjects, *_ in _draws(problem.layout, 20, np.random.default_rng(1), held)]
    assert not np.isin(np.concatenate(drawn), held).any()


def test_early_stopping_needs_a_network_and_some_to_hold_out(problem):
    with pytest.raises(ModelError, match="no weights"):
        nlme.fit(Phenobarbital(), problem.layout.population, optimiser=Minibatches(held_out=0.2), progress=False)
    with pytest.raises(ModelError, match="held_out is a share"):
        Minibatches(held_out=0.9)


@pytest.mark.slow
def test_a_size_class_of_which_nobody_is_drawn_is_left_out(problem, monkeypatch):
    from nlme.language import layout as layouts

    monkeypatch.setattr(layouts, "size_classes", lambda sizes: [np.arange(0, 10), np.arange(10, len(sizes))])
    layout = lay_out(problem.model, problem.layout.population)
    for subjects, _, arrays in _draws(layout, 20, np.random.default_rng(1), np.arange(10)):
        assert len(arrays.parts) == 1 and subjects.min() >= 10
        starts = np.zeros((len(subjects), 2))
        at = evaluate_subjects(problem.method, layout.anatomy, problem.every, problem.model, arrays, problem.start, starts)
        break
    whole = problem.evaluate(problem.start, np.zeros((problem.layout.n_subjects, 2)))
    np.testing.assert_allclose(at.value, whole.value[subjects], rtol=1e-9)
