"""The lasso: its path fulfils the conditions of the minimum, its scores are those of fits made one by one, and it finds the truth."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from levels_by_covariates import Level, data

import nlme
from nlme.errors import DataError, FitError, ModelError
from nlme.selection.lasso import _all_out, _shrunken

CANDIDATES = {"level": {"wt": "power", "age": None, "sex": None, "arm": None}, "slope": {"wt": "linear", "age": "linear"}}


@pytest.fixture(scope="module")
def base():
    return nlme.fit(Level(), data(), progress=False)


@pytest.fixture(scope="module")
def found(base):
    return nlme.lasso(base, CANDIDATES, strengths=8, folds=3, progress=False)


def _quadratic(seed: int = 0):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(9, 6))
    return root.T @ root, rng.normal(size=6), np.array([0, 1, 1, 2, 3, 3]), np.array([0.4, 1.0, 0.7, 1.3])


@pytest.mark.parametrize("strength", [0.01, 0.3, 1.0, 4.0])
def test_the_minimum_has_no_slope_down(strength):
    """Where a group is not 0: 2 C (x - e) + 2 s x / ||x|| = 0; where it is: ||C (x - e)|| <= s."""
    curvature, estimate, groups, weights = _quadratic()
    x = _shrunken(curvature, estimate, groups, strength * weights, np.zeros(6))
    slope = curvature @ (x - estimate)
    for g, weight in enumerate(strength * weights):
        own = groups == g
        length = np.linalg.norm(x[own])
        if length > 0:
            np.testing.assert_allclose(slope[own] + weight * x[own] / length, 0.0, atol=1e-7)
        else:
            assert np.linalg.norm(slope[own]) <= weight + 1e-9


def test_nothing_is_left_from_the_largest_strength_on():
    curvature, estimate, groups, weights = _quadratic(1)
    most = _all_out(curvature, estimate, groups, weights)
    assert not _shrunken(curvature, estimate, groups, 0.5 * most * 1.0001 * weights, np.ones(6)).any()
    assert _shrunken(curvature, estimate, groups, 0.5 * most * 0.99 * weights, np.ones(6)).any()


@pytest.mark.slow
def test_the_truth_is_found(found):
    chosen = {(r.parameter, r.covariate) for r in found.relations}
    assert {("level", "wt"), ("level", "arm")} <= chosen and len(chosen) < 6
    assert found.path.chosen.sum() == 1 and found.path.relations.iloc[0] == 0
    assert found.path.held_out.min() < found.path.held_out.iloc[0] - 5.0


@pytest.mark.slow
def test_its_coefficients_grow_as_the_strength_falls(found):
    assert (found.coefficients.iloc[0] == 0.0).all()
    weakest = found.coefficients.iloc[-1]
    full = pd.Series({name: float(getattr(found.full.model, name)) for name in weakest.index})
    strong = full.index[[name.startswith(("wt_on_level", "arm_on_level")) for name in full.index]]
    np.testing.assert_allclose(weakest[strong], full[strong], rtol=0.02, atol=2e-3)


@pytest.mark.slow
def test_the_score_where_nothing_is_left_is_cross_validation_of_the_base_model(base, found):
    assert np.isinf(found.path.strength[0])
    n = len(base.population)
    fold_of = np.random.default_rng(0).permutation(np.arange(n) % 3)
    total = 0.0
    for k in range(3):
        train = nlme.Population(
            tuple(s for s, f in zip(base.population, fold_of, strict=True) if f != k), base.population.endpoints
        )
        test = nlme.Population(
            tuple(s for s, f in zip(base.population, fold_of, strict=True) if f == k), base.population.endpoints
        )
        fit = nlme.fit(base.model, train, progress=False)
        total += nlme.evaluate(fit.model, test).objective
    assert found.path.held_out.iloc[0] == pytest.approx(total, abs=0.02)


@pytest.mark.slow
def test_the_chosen_model_is_refitted_without_shrinking(base, found):
    assert found.fit.converged and found.fit.objective <= base.objective
    text = repr(found)
    for words in ("wt on level, power", "Shrunken", "Refitted", "Held out"):
        assert words in text
    assert len(pd.read_csv(io.StringIO(found.to_csv()))) == 8


@pytest.mark.slow
def test_plain_weights_and_one_standard_error_choose_no_more(base, found):
    plain = nlme.lasso(base, CANDIDATES, strengths=8, folds=3, adaptive=False, progress=False)
    assert {("level", "wt"), ("level", "arm")} <= {r.pair for r in plain.relations}
    fewer = nlme.lasso(base, CANDIDATES, strengths=8, folds=3, rule="one standard error", progress=False)
    assert len(fewer.relations) <= len(found.relations) and fewer.strength >= found.strength


def test_refused(base):
    with pytest.raises(ModelError, match="several shapes"):
        nlme.lasso(base, {"level": {"wt": ("linear", "power")}})
    with pytest.raises(DataError, match="No covariate named 'weight'"):
        nlme.lasso(base, {"level": ["weight"]})
    with pytest.raises(FitError, match="rule is one of"):
        nlme.lasso(base, {"level": ["wt"]}, rule="best")
    with pytest.raises(FitError, match="folds=1"):
        nlme.lasso(base, {"level": ["wt"]}, folds=1)
    with pytest.raises(FitError, match="strengths"):
        nlme.lasso(base, {"level": ["wt"]}, strengths=1)
