"""Phenobarbital in 59 neonates: NONMEM 7.4.2, FOCE with interaction; sparse data, many bolus doses, covariates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case, lower

import nlme

CASE = case("phenobarbital_nonmem")


class Base(nlme.Model):
    cl: nlme.Scalar = nlme.positive(0.0047, unit="L/h")
    v: nlme.Scalar = nlme.positive(1.0, unit="L")
    prop2: nlme.Scalar = nlme.positive(0.013)
    omega: nlme.Covariance = nlme.covariance(cl=0.03, v=0.03)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, jnp.sqrt(self.prop2))}


class WithCovariates(nlme.Model):
    """Clearance and volume proportional to weight, volume larger by a fraction ``low`` where the Apgar score is below 5."""

    cl: nlme.Scalar = nlme.positive(0.0047, unit="L/h/kg")
    v: nlme.Scalar = nlme.positive(1.0, unit="L/kg")
    low: nlme.Scalar = nlme.bounded(0.1, -0.99, 5.0)
    prop2: nlme.Scalar = nlme.positive(0.013)
    omega: nlme.Covariance = nlme.covariance(cl=0.03, v=0.03)
    covariates = {"wgt": "kg", "apgr": ""}

    def individual(self, eta, cov):
        v = self.v * cov.wgt * jnp.where(cov.apgr < 5, 1 + self.low, 1.0)
        return dict(cl=self.cl * cov.wgt * jnp.exp(eta.cl), v=v * jnp.exp(eta.v))

    dynamics, observe = Base.dynamics, Base.observe


MODELS = {"covariate_model": WithCovariates, "base_model": Base}


def at(name: str, place: str):
    printed = CASE.reference(name)[place]["parameters"]
    return MODELS[name](*printed["THETA"], printed["SIGMA_lower"][0][0], omega=lower(printed["OMEGA_lower"]))


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table(), covariates=["wgt", "apgr"])


@pytest.fixture(scope="module", params=["base_model", pytest.param("covariate_model", marks=pytest.mark.slow)])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def evaluated(name, population):
    return nlme.evaluate(at(name, "at_final"), population, nlme.FOCEI())


@pytest.fixture(scope="module")
def fit(name, population):
    return nlme.fit(at(name, "at_initial"), population, nlme.FOCEI(), progress=False)


def test_objective_at_initial_values(name, population):
    objective = nlme.evaluate(at(name, "at_initial"), population, nlme.FOCEI()).objective
    assert objective == pytest.approx(CASE.reference(name)["at_initial"]["objective"], abs=1e-4)


def test_objective_at_final_values(name, evaluated):
    assert evaluated.objective == pytest.approx(CASE.reference(name)["at_final"]["objective"], abs=1e-4)


def test_subjects(name, evaluated):
    theirs = CASE.table("per_subject.csv" if name == "covariate_model" else "per_subject_base.csv")
    np.testing.assert_allclose(evaluated.subjects.objective, theirs.OBJ, atol=1e-4)
    np.testing.assert_allclose(evaluated.eta, theirs[["ETA(1)", "ETA(2)"]], atol=1e-5)


def test_predictions(population):
    ours = nlme.evaluate(at("covariate_model", "at_final"), population, nlme.FOCEI()).predictions
    theirs = CASE.table("table.csv")[CASE.table().MDV == 0]
    np.testing.assert_array_equal(ours.TIME, theirs.TIME)
    np.testing.assert_allclose(ours.CWRES, theirs.CWRES, atol=1e-3)
    for column in ("IPRED", "PRED"):
        np.testing.assert_allclose(ours[column], theirs[column], rtol=1e-4, err_msg=column)
    np.testing.assert_allclose(ours.RES, theirs.RES, rtol=1e-4, atol=2e-3)


@pytest.mark.slow
def test_fit(name, fit):
    printed = CASE.reference(name)["at_final"]
    assert fit.converged, fit.verdict
    assert fit.objective == pytest.approx(printed["objective"], abs=0.01)
    estimates = {row.name: row.value for row in fit.parameters}
    numbers = printed["parameters"]
    thetas = [value for key, value in estimates.items() if key in ("cl", "v", "low")]
    np.testing.assert_allclose(thetas, numbers["THETA"], rtol=0.005)
    variances = [estimates["prop2"], estimates["omega.cl"], estimates["omega.v"]]
    expected = [numbers["SIGMA_lower"][0][0], *np.diag(lower(numbers["OMEGA_lower"]))]
    np.testing.assert_allclose(variances, expected, rtol=0.005)


@pytest.mark.parametrize("name", ["covariate_model"], indirect=True)  # the base model's run printed none
def test_covariance_of_the_estimates(fit):
    theirs = CASE.matrix("covariance.csv").values
    kept = np.diag(theirs) > 0
    theirs = theirs[np.ix_(kept, kept)]
    scale = np.sqrt(np.diag(theirs))
    np.testing.assert_allclose(fit.covariance.standard_errors, scale, rtol=0.02)
    np.testing.assert_allclose(fit.covariance.matrix / np.outer(scale, scale), theirs / np.outer(scale, scale), atol=0.01)
