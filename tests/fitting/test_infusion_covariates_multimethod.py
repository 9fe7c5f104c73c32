"""Zero-order infusion with three covariates, 60 subjects: NONMEM 7.4 by FOCEI, SAEM, importance sampling, MCMC and NUTS.

The logarithms of clearance and volume are linear in logarithms of weight and age and in sex; the runs ``focei`` and
``focei_reduced`` were made on the natural scale.  What the case holds and the library does not do: iterative two stage (``its``).
"""

from __future__ import annotations

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size
from reference import case, lower, lower_elements

import nlme

CASE = case("infusion_covariates_multimethod")


class Logarithms(nlme.Model):
    cl: nlme.Scalar = nlme.real(1.0)
    v: nlme.Scalar = nlme.real(3.0)
    weight_cl: nlme.Scalar = nlme.real(0.8)
    weight_v: nlme.Scalar = nlme.real(0.8)
    age_cl: nlme.Scalar = nlme.real(-0.1)
    age_v: nlme.Scalar = nlme.real(0.1)
    sex_cl: nlme.Scalar = nlme.real(0.7)
    sex_v: nlme.Scalar = nlme.real(0.7)
    prop2: nlme.Scalar = nlme.positive(0.04)
    omega: nlme.Covariance = nlme.covariance(("cl", "v"), [[0.1], [0.001, 0.1]])
    covariates = {"wt": "kg", "age": "yr", "sex": ""}

    def individual(self, eta, cov):
        weight, age = jnp.log(cov.wt / 70), jnp.log(cov.age / 50)
        cl = self.cl + self.weight_cl * weight + self.age_cl * age + self.sex_cl * cov.sex
        v = self.v + self.weight_v * weight + self.age_v * age + self.sex_v * cov.sex
        return dict(cl=jnp.exp(cl + eta.cl), v=jnp.exp(v + eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, jnp.sqrt(self.prop2))}


class Natural(Logarithms):
    cl: nlme.Scalar = nlme.positive(4.0, unit="L/h")
    v: nlme.Scalar = nlme.positive(30.0, unit="L")
    sex_cl: nlme.Scalar = nlme.positive(0.7)
    sex_v: nlme.Scalar = nlme.positive(0.7)

    def individual(self, eta, cov):
        weight, age = cov.wt / 70, cov.age / 50
        cl = self.cl * weight**self.weight_cl * age**self.age_cl * self.sex_cl**cov.sex
        v = self.v * weight**self.weight_v * age**self.age_v * self.sex_v**cov.sex
        return dict(cl=cl * jnp.exp(eta.cl), v=v * jnp.exp(eta.v))


FORMS = {"focei": Natural, "focei_reduced": Natural, "focei_mu": Logarithms}
FIXED = {"focei_reduced": ["weight_cl", "weight_v", "age_v", "sex_cl", "sex_v"]}


def at(name: str, place: str = "at_final", form=None):
    printed = CASE.reference(name)[place]["parameters"]
    form = form or FORMS.get(name, Logarithms)
    return form(*printed["THETA"], printed["SIGMA_lower"][0][0], omega=lower(printed["OMEGA_lower"]))


def in_logarithms(model: Natural) -> Logarithms:
    values = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    return Logarithms(**values | {name: math.log(values[name]) for name in ("cl", "v", "sex_cl", "sex_v")})


def flat(numbers: dict) -> np.ndarray:
    """THETA, SIGMA, OMEGA row by row: the order of the model's parameters and of the printed matrices."""
    return np.array([*numbers["THETA"], numbers["SIGMA_lower"][0][0], *lower_elements(numbers["OMEGA_lower"])], float)


def estimates(fit) -> np.ndarray:
    return np.array([row.value for row in fit.parameters])


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table(), covariates=["wt", "age", "sex"])


@pytest.fixture(scope="module")
def logarithms(population):
    """Both full runs at their final values, the one on the natural scale rewritten."""
    models = {"focei": in_logarithms(at("focei")), "focei_mu": at("focei_mu")}
    return {name: nlme.evaluate(model, population, nlme.FOCEI()) for name, model in models.items()}


@pytest.mark.parametrize("name", [pytest.param("focei", marks=pytest.mark.slow), "focei_mu"])
def test_final_values_in_logarithms(name, logarithms):
    assert logarithms[name].objective == pytest.approx(CASE.reference(name)["at_final"]["objective"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "file"),
    [pytest.param("focei", "per_subject_504.csv", marks=pytest.mark.slow), ("focei_mu", "per_subject_504_foce.csv")],
)
def test_subjects(name, file, logarithms):
    theirs = CASE.table(file)
    np.testing.assert_allclose(logarithms[name].subjects.objective, theirs.OBJ, atol=2e-4)
    np.testing.assert_allclose(logarithms[name].eta, theirs[["ETA(1)", "ETA(2)"]], atol=1e-5)


def test_predictions(logarithms):
    ours, data = logarithms["focei"].predictions, CASE.table()
    theirs = CASE.table("table_504.csv")[data.MDV == 0]
    np.testing.assert_array_equal(ours.TIME, theirs.TIME)
    for column in ("CIPRED", "CIRES", "CIWRES", "PRED", "RES", "CWRES"):
        mine = {"CIPRED": "IPRED", "CIRES": "IRES", "CIWRES": "IWRES"}.get(column, column)
        np.testing.assert_allclose(ours[mine], theirs[column], rtol=1e-4, atol=1e-4, err_msg=column)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["at_initial", "at_final"])
@pytest.mark.parametrize("name", list(FORMS))
def test_objective(name, place, population):
    objective = nlme.evaluate(at(name, place), population, nlme.FOCEI()).objective
    assert objective == pytest.approx(CASE.reference(name)[place]["objective"], abs=1e-4)


@pytest.fixture(scope="module", params=list(FORMS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def fit(name, population):
    return nlme.fit(at(name, "at_initial"), population, nlme.FOCEI(), fixed=FIXED.get(name, ()), progress=False)


@pytest.mark.slow
def test_fit(name, fit):
    printed = CASE.reference(name)["at_final"]
    assert fit.converged, fit.verdict
    assert fit.objective <= printed["objective"] + 1e-5
    np.testing.assert_allclose(estimates(fit), flat(printed["parameters"]), rtol=0.01)


@pytest.mark.slow
def test_standard_errors(name, fit):
    theirs = flat(CASE.reference(name)["standard_errors"])
    ours = fit.covariance.of_kind("R")
    np.testing.assert_allclose(ours.standard_errors, theirs[np.isfinite(theirs)], rtol=0.05)
    if name in ("focei", "focei_mu"):
        printed = CASE.matrix("covariance_R_504.csv" if name == "focei" else "covariance_R_504_foce.csv").values
        scale = np.sqrt(np.diag(printed))
        np.testing.assert_allclose(ours.matrix / np.outer(scale, scale), printed / np.outer(scale, scale), atol=0.03)


@pytest.mark.slow
def test_objective_by_importance_sampling(population):
    """NONMEM's importance sampling at its SAEM estimates, ours, and quadrature: one integral."""
    printed = CASE.reference("imp_at_saem")["at_final"]["objective"]
    sampled = nlme.evaluate(at("imp_at_saem"), population, nlme.ImportanceSampling(10_000))
    exact = nlme.evaluate(at("imp_at_saem"), population, nlme.AGQ(25)).objective
    assert sampled.monte_carlo.error < 0.15
    assert abs(sampled.objective - exact) < 3 * sampled.monte_carlo.error
    assert sampled.objective == pytest.approx(printed, abs=0.5)
    assert exact == pytest.approx(printed, abs=0.5)


def within(fit, of_standard_errors: float) -> None:
    """Estimates against NONMEM's SAEM run, in its standard errors."""
    saem = CASE.reference("saem")
    away = (estimates(fit) - flat(saem["at_final"]["parameters"])) / flat(saem["standard_errors"])
    assert np.abs(away).max() < of_standard_errors, dict(zip(fit.inventory.all_names, away.round(3), strict=True))


@pytest.fixture(scope="module")
def by_importance_sampling(population):
    return nlme.fit(at("focei_mu", "at_initial"), population, nlme.ImportanceSampling(1000), progress=False)


@pytest.mark.slow
def test_fit_by_importance_sampling(by_importance_sampling):
    assert by_importance_sampling.converged, by_importance_sampling.verdict
    within(by_importance_sampling, 0.2)


@pytest.mark.slow
def test_standard_errors_by_importance_sampling(by_importance_sampling):
    """Theirs are at the SAEM estimates and ours at the optimum of the sampled integral, up to 0.16 standard errors away."""
    theirs = flat(CASE.reference("imp_at_saem")["standard_errors"])
    np.testing.assert_allclose(by_importance_sampling.covariance.of_kind("R").standard_errors, theirs, rtol=0.06)
    scores = flat(CASE.reference("saem")["standard_errors"])  # their SAEM step's, of the scores
    np.testing.assert_allclose(by_importance_sampling.covariance.of_kind("S").standard_errors, scores, rtol=0.05)


@pytest.mark.slow
def test_fit_by_saem(population):
    fit = nlme.fit(at("focei_mu", "at_initial"), population, nlme.SAEM(), progress=False)
    assert fit.converged, fit.verdict
    within(fit, 0.2)
    printed = CASE.reference("imp_at_saem")["at_final"]["objective"]
    assert fit.objective < printed + 3 * fit.monte_carlo.error


@pytest.fixture(scope="module")
def posterior(population):
    """Columns in the order of ``flat``: draws (4, 2000), under the priors of the runs, inverse Wishart (degrees, degrees x matrix)."""
    thetas = [name for name in Logarithms.__annotations__ if name not in ("prop2", "omega")]
    priors = {name: dist.Normal(0.01, math.sqrt(1e5)) for name in thetas} | {
        "omega.covariance": dist.InverseWishart(2.0, scale_matrix=2.0 * 0.04 * np.eye(2)),
        "prop2": dist.InverseGamma(0.5, 0.05 / 2),
    }
    found = nlme.sample(at("focei_mu"), population, priors, key=1, warmup=700, draws=2000, progress=False)
    assert not found.attrs["messages"]
    drawn = found.posterior
    sd, correlation = drawn["omega.sd"].values, drawn["omega.correlation"].values[..., 0]
    omega = [sd[..., 0] ** 2, correlation * sd[..., 0] * sd[..., 1], sd[..., 1] ** 2]
    return [*(drawn[name].values for name in (*thetas, "prop2")), *omega]


@pytest.mark.slow
@pytest.mark.parametrize(("run", "effective"), [("nuts", 1000), ("bayes", 2000)])
def test_posterior(run, effective, posterior):
    """Means within three Monte-Carlo errors, theirs by ``effective`` draws of 2,000 (NUTS) and 10,000 (MCMC); spreads within 10 %.

    OMEGA and SIGMA of their two samplers are half and a third of a posterior standard deviation apart, so that one of them has
    another prior than the text says; ours is that of NUTS, and of the other the coefficients are compared.
    """
    printed = CASE.reference(run)
    kept = slice(None) if run == "nuts" else slice(0, 8)
    theirs, spread = (flat(printed[f"posterior_{what}"])[kept] for what in ("mean", "sd"))
    ours = np.array(posterior)[kept]
    size = np.array([effective_sample_size(x) for x in ours])
    away = (ours.mean(axis=(1, 2)) - theirs) / (spread * np.sqrt(1 / effective + 1 / size))
    assert np.abs(away).max() < 3, away.round(2)
    np.testing.assert_allclose(ours.std(axis=(1, 2)), spread, rtol=0.1)
