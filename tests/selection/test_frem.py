"""The full random effects covariate model: the joint normal likelihood where that is exact, and what follows without another fit."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from covariate_lines import TIMES, Line, data
from scipy.stats import multivariate_normal

import nlme
from nlme.errors import DataError, ModelError
from nlme.language.files import class_in


@pytest.fixture(scope="module")
def found():
    return nlme.frem(Line(), ["wt", "age", "sex"], data(), progress=False)


def _covariates(population):
    return np.array([[s.covariates["wt"][0], s.covariates["age"][0], s.covariates["sex"][0] == 1.0] for s in population], float)


def test_the_objective_is_that_of_the_joint_normal_distribution(found):
    """-2 log p(y, x) with every covariate an observation of its own random effect, as NONMEM's FREM has it."""
    population, model = found.fit.population, found.fit.model
    x, joint, design = _covariates(population), found.joint.to_numpy(), np.stack([np.ones(4), TIMES], axis=1)
    middle = np.array([float(model.level), float(model.slope)])  # of a subject of mean covariates
    whole = np.zeros((7, 7))
    whole[:4, :4] = design @ joint[:2, :2] @ design.T + float(model.sd) ** 2 * np.eye(4)
    whole[:4, 4:] = design @ joint[:2, 2:]
    whole[4:, :4], whole[4:, 4:] = whole[:4, 4:].T, joint[2:, 2:]
    expected = sum(
        -2.0 * multivariate_normal.logpdf(np.r_[s.dv, row], np.r_[design @ middle, found.mean], whole)
        for s, row in zip(population, x, strict=True)
    )
    of_covariates = -2.0 * multivariate_normal.logpdf(x, found.mean, found.covariance).sum()
    assert found.fit.objective_full + of_covariates == pytest.approx(expected, abs=1e-6)


def test_the_moments_of_the_covariates_are_the_maximum(found):
    x = _covariates(found.fit.population)
    np.testing.assert_allclose(found.mean, x.mean(axis=0))
    np.testing.assert_allclose(found.covariance, np.cov(x.T, bias=True))
    assert found.columns == ("wt", "age", "sex_m") and found.effects == ("level", "slope")
    assert found.fit.converged, found.fit.verdict


def test_what_one_covariate_says_is_its_regression(found):
    """Of a linear model with one design for all, estimates are those of least squares on the subjects' own lines: alone as together."""
    population = found.fit.population
    lines = np.array([np.polyfit(TIMES, s.dv, 1)[::-1] for s in population])
    x = _covariates(population)
    for names, k in ((["wt"], [0]), (["age", "sex"], [1, 2]), (None, [0, 1, 2])):
        table = np.column_stack([np.ones(len(x)), x[:, k]])
        expected = np.linalg.lstsq(table, lines, rcond=None)[0][1:].T
        np.testing.assert_allclose(found.coefficients(names), expected, rtol=1e-4, atol=1e-7)
    assert found.explained().gt(found.explained("wt") - 1e-12).all()
    total = np.cov(lines.T, bias=True) - float(found.fit.model.sd) ** 2 * np.linalg.inv(
        np.stack([np.ones(4), TIMES], axis=1).T @ np.stack([np.ones(4), TIMES], axis=1)
    )
    np.testing.assert_allclose(found.joint.to_numpy()[:2, :2], total, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_a_model_given_some_covariates_needs_no_other_fit(found):
    """Fitted with those covariates alone it stays where it is, in a model that is linear."""
    given = found.given(["wt"])
    at = nlme.evaluate(given, found.fit.population)
    again = nlme.frem(Line(), ["wt"], found.fit.population, progress=False)
    assert at.objective == pytest.approx(again.fit.objective, abs=1e-4)
    whole = found.given(["wt", "age", "sex"])
    assert nlme.evaluate(whole, found.fit.population).objective == pytest.approx(found.fit.objective, abs=1e-8)


def test_its_table(found):
    text = repr(found)
    for words in ("sex_m", "Alone", "Variance explained", "all"):
        assert words in text
    table = pd.read_csv(io.StringIO(found.to_csv()))
    assert len(table) == 6 and (table.se > 0).all()


def test_the_model_as_python_is_the_model(found):
    """The text that a person reads gives the same individual parameters."""
    written = class_in(found.source, "model")
    eta, cov = nlme.Named({"level": 0.3, "slope": -0.2}), nlme.Named({"wt": 61.0, "age": 55.0, "sex": 1.0})
    expected = found.model.individual(eta, cov)
    for name, value in written.individual(eta, cov).items():
        assert float(value) == pytest.approx(float(expected[name]), rel=1e-12)
    np.testing.assert_allclose(written.omega.matrix, found.model.omega.matrix, rtol=1e-12)


def test_refused(found):
    population = found.fit.population
    with pytest.raises(DataError, match="No covariate named 'height'"):
        nlme.frem(Line(), ["height"], population)
    with pytest.raises(ModelError, match="No random effect named 'cl'"):
        nlme.frem(Line(), ["wt"], population, effects=["cl"], progress=False)
    with pytest.raises(ModelError, match="each once"):
        nlme.frem(Line(), ["wt", "wt"], population, progress=False)
    with pytest.raises(ModelError, match="No covariate named 'height'"):
        found.coefficients("height")
    frame = population.to_frame()
    frame["double"] = 2.0 * frame["wt"]
    twice = nlme.read_nonmem(frame, covariates=["wt", "double"])
    with pytest.raises(ModelError, match="wt, double determine each other"):
        nlme.frem(Line(), ["wt", "double"], twice, progress=False)
    frame["moving"] = frame["wt"] + frame["TIME"]
    moving = nlme.read_nonmem(frame, covariates=["moving"], time_varying=["moving"])
    with pytest.raises(DataError, match="changes within a subject"):
        nlme.frem(Line(), ["moving"], moving, progress=False)
