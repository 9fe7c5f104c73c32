"""NONMEM's classic example CONTROL5: FO, additive random effects with a full OMEGA, weight in the scale of the concentration."""

from __future__ import annotations

import numpy as np
import pytest
from reference import case, lower, lower_elements
from scattered import Control5

import nlme
from nlme.fitting import evaluated

CASE = case("theophylline_control5_fo")
PRINTED = CASE.reference()


def at(printed: dict) -> Control5:
    return Control5(*printed["THETA"], printed["SIGMA_lower"][0][0], omega=lower(printed["OMEGA_lower"]))


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table(), covariates={"wt": "kg"})


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(at(PRINTED["at_initial"]["parameters"]), population, nlme.FO(), progress=False)


@pytest.mark.parametrize(("place", "tolerance"), [pytest.param("at_initial", 1e-6, marks=pytest.mark.slow), ("at_final", 1e-5)])
def test_objective(population, place, tolerance):
    objective = nlme.evaluate(at(PRINTED[place]["parameters"]), population, nlme.FO()).objective
    assert objective == pytest.approx(PRINTED[place]["objective"], abs=tolerance)


def test_subjects(population):
    found = nlme.evaluate(at(PRINTED["at_final"]["parameters"]), population, nlme.FO()).subjects
    theirs = CASE.table("per_subject.csv")
    np.testing.assert_allclose(found.objective, theirs.OBJ, atol=1e-4)


@pytest.mark.slow
def test_fit(fit):
    printed = PRINTED["at_final"]
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(printed["objective"], abs=1e-4)
    numbers = printed["parameters"]
    expected = [*numbers["THETA"], *numbers["SIGMA_lower"][0], *lower_elements(numbers["OMEGA_lower"])]
    np.testing.assert_allclose([row.value for row in fit.parameters], expected, rtol=0.005)


@pytest.mark.slow
def test_covariance_of_the_estimates(fit):
    theirs = CASE.matrix("covariance.csv").values
    scale = np.sqrt(np.diag(theirs))
    np.testing.assert_allclose(fit.covariance.standard_errors, scale, rtol=0.02)
    np.testing.assert_allclose(fit.covariance.matrix / np.outer(scale, scale), theirs / np.outer(scale, scale), atol=0.002)


@pytest.fixture
def methods(monkeypatch):
    """The methods whose programs are evaluated for the first time, in order."""
    seen, evaluate = [], evaluated.evaluate_subjects

    def noted(method, *args, **options):
        seen.append(type(method).__name__)
        return evaluate(method, *args, **options)

    monkeypatch.setattr(evaluated, "evaluate_subjects", noted)
    return seen


@pytest.mark.slow
def test_a_fit_finds_its_modes_when_they_are_asked_for(population, methods, tmp_path):
    """First-order fits compile nothing of FOCE before, and what is found is FOCE's."""
    start = at(PRINTED["at_final"]["parameters"])
    fit = nlme.fit(start, population, nlme.FO(), progress=False, starts=0)
    assert "Converged" in repr(fit) and fit.covariance.names and fit.objective_full and not fit.subjects.empty
    assert "FOCE" not in methods and not fit.has_modes
    assert fit.audit["shrinkage"].verdict == "not judged" and "post hoc" in fit.audit["shrinkage"].sentence

    fit.save(tmp_path / "unsearched.nlme")
    opened = nlme.load(tmp_path / "unsearched.nlme", Control5)
    assert "FOCE" not in methods and not opened.has_modes

    theirs = nlme.evaluate(fit.model, population, nlme.FOCE())
    methods.clear()
    np.testing.assert_allclose(fit.eta, theirs.eta, rtol=1e-8)
    assert methods == ["FOCE"] and fit.has_modes and fit.probabilities.shape == (12, 1)
    assert fit.shrinkage.notna().all() and methods == ["FOCE"]

    fit.save(tmp_path / "searched.nlme")
    again = nlme.load(tmp_path / "searched.nlme", Control5)
    np.testing.assert_array_equal(again.b, fit.b)
    assert methods == ["FOCE"]
    np.testing.assert_allclose(opened.eta, fit.eta, rtol=1e-12)
