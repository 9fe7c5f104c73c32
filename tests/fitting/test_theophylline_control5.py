"""NONMEM's classic example CONTROL5: FO, additive random effects with a full OMEGA, weight in the scale of the concentration."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case, lower, lower_elements

import nlme

CASE = case("theophylline_control5_fo")
PRINTED = CASE.reference()


class Control5(nlme.Model):
    """KA = t1 + e1, K = t2 + e2, CL = t3 WT + e3; concentration = amount / (CL / K / WT), as doses are per kg."""

    ka: nlme.Scalar = nlme.positive(3.0, unit="1/h")
    k: nlme.Scalar = nlme.positive(0.08, unit="1/h")
    cl: nlme.Scalar = nlme.positive(0.04, unit="L/h/kg")
    add2: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(("ka", "k", "cl"), [[6.0], [0.005, 0.0002], [0.3, 0.006, 0.4]])
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        k, cl = self.k + eta.k, self.cl * cov.wt + eta.cl
        return dict(ka=self.ka + eta.ka, k=k, cl=cl, scale=cl / k / cov.wt)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.cl / ind.k, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.scale, jnp.sqrt(self.add2))}


def at(printed: dict) -> Control5:
    return Control5(*printed["THETA"], printed["SIGMA_lower"][0][0], omega=lower(printed["OMEGA_lower"]))


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table(), covariates={"wt": "kg"})


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(at(PRINTED["at_initial"]["parameters"]), population, nlme.FO(), progress=False)


@pytest.mark.parametrize(("place", "tolerance"), [("at_initial", 1e-6), ("at_final", 1e-5)])
def test_objective(population, place, tolerance):
    objective = nlme.evaluate(at(PRINTED[place]["parameters"]), population, nlme.FO()).objective
    assert objective == pytest.approx(PRINTED[place]["objective"], abs=tolerance)


def test_subjects(population):
    found = nlme.evaluate(at(PRINTED["at_final"]["parameters"]), population, nlme.FO()).subjects
    theirs = CASE.table("per_subject.csv")
    np.testing.assert_allclose(found.objective, theirs.OBJ, atol=1e-4)


def test_fit(fit):
    printed = PRINTED["at_final"]
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(printed["objective"], abs=1e-4)
    numbers = printed["parameters"]
    expected = [*numbers["THETA"], *numbers["SIGMA_lower"][0], *lower_elements(numbers["OMEGA_lower"])]
    np.testing.assert_allclose([row.value for row in fit.parameters], expected, rtol=0.005)


def test_covariance_of_the_estimates(fit):
    theirs = CASE.matrix("covariance.csv").values
    scale = np.sqrt(np.diag(theirs))
    np.testing.assert_allclose(fit.covariance.standard_errors, scale, rtol=0.02)
    np.testing.assert_allclose(fit.covariance.matrix / np.outer(scale, scale), theirs / np.outer(scale, scale), atol=0.002)
