"""A linear mixed model against lme4, whose likelihood is exact (Bates et al. 2015, J Stat Softw 67:1)."""

from __future__ import annotations

import numpy as np
import pytest
from reference import case, lower, lower_elements
from scattered import Sleep

import nlme

CASE = case("lmm_sleepstudy_lme4")
ML = CASE.reference("ML")


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table())


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(Sleep(), population, nlme.FOCEI(), tolerance=1e-9, progress=False)


@pytest.mark.parametrize(
    "method",
    [nlme.FOCEI(), *(pytest.param(m, marks=pytest.mark.slow) for m in (nlme.FO(), nlme.FOCE(), nlme.Laplace()))],
    ids=repr,
)
def test_objective_at_the_estimates(population, method):
    model = Sleep(*ML["fixed"], ML["sigma2"], omega=lower(ML["Omega_lower"]))
    found = nlme.evaluate(model, population, method)
    assert found.objective_full == pytest.approx(ML["minus2LL"], abs=1e-8)
    assert found.objective == pytest.approx(ML["OFV_without_constant"], abs=1e-6)


def test_fit(fit):
    assert fit.converged
    assert fit.objective_full == pytest.approx(ML["minus2LL"], abs=1e-4)
    expected = [*ML["fixed"], ML["sigma2"], *lower_elements(ML["Omega_lower"])]
    np.testing.assert_allclose([row.value for row in fit.parameters], expected, rtol=1e-3)


def test_standard_errors(fit):
    """lme4's standard errors are those of the inverse information (NONMEM's MATRIX=R)."""
    np.testing.assert_allclose(fit.covariance.of_kind("R").standard_errors.iloc[:2], ML["se_fixed"], rtol=1e-3)


def test_random_effects(fit):
    theirs = ML["ranef"]
    np.testing.assert_allclose(fit.eta.loc[[int(k) for k in theirs]], list(theirs.values()), rtol=1e-4)
