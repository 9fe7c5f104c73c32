"""Priors in a fit, and naive pooled data: exact where the model is linear and Gaussian."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import nlme
from nlme.diagnostics.audit import effective_parameters

RANDOM = np.random.default_rng(5)
N, PER = 15, 4
TRUTH = 2.0 + RANDOM.normal(size=(N, 1)) * 0.7 + RANDOM.normal(size=(N, PER)) * 0.4
DATA = pd.DataFrame({"ID": np.repeat(np.arange(1, N + 1), PER), "TIME": np.tile(np.arange(PER), N), "DV": TRUTH.ravel()})


class Mean(nlme.Model):
    """y = mean + eta + error."""

    mean: nlme.Scalar = nlme.real(1.0)
    omega: nlme.Covariance = nlme.covariance(mean=0.49)
    sd: nlme.Scalar = nlme.positive(0.4)

    def individual(self, eta, cov):
        return dict(mean=self.mean + eta.mean)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.mean, self.sd)}


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(DATA)


@pytest.mark.slow
def test_conjugate_normal(population, tmp_path):
    """With variances known, a normal prior gives the posterior mean, and R its standard deviation."""
    centre, spread = 1.0, 0.3
    fit = nlme.fit(Mean(), population, priors={"mean": dist.Normal(centre, spread)}, fixed=["omega", "sd"], progress=False)
    information = N / (0.49 + 0.16 / PER)
    expected = (information * DATA.DV.mean() + centre / spread**2) / (information + 1 / spread**2)
    assert float(fit.model.mean) == pytest.approx(expected, abs=1e-6)
    assert fit.covariance.kind == "R"
    assert fit.covariance.standard_errors["mean"] == pytest.approx((information + 1 / spread**2) ** -0.5, rel=1e-6)
    assert effective_parameters(fit) == pytest.approx(information / (information + 1 / spread**2), rel=1e-6)
    assert "leaves 0." in fit.audit["effective parameters"].sentence
    assert fit.penalty == pytest.approx(-2 * float(dist.Normal(centre, spread).log_prob(expected)), rel=1e-6)
    assert fit.objective == pytest.approx(nlme.evaluate(fit.model, population).objective, rel=1e-12)
    assert "Priors on mean" in repr(fit)
    fit.save(tmp_path / "fit")
    again = nlme.load(tmp_path / "fit", Mean)
    assert again.priors == fit.priors and again.covariance.standard_errors["mean"] == fit.covariance.standard_errors["mean"]


@pytest.mark.slow
def test_map_is_the_same_as_priors(population):
    prior = {"sd": dist.LogNormal(jnp.log(0.2), 0.2), "omega.sd": dist.HalfNormal(0.5)}
    ways = (nlme.MAP(prior, nlme.FOCE()), None), (nlme.FOCE(), prior)
    first, second = (nlme.fit(Mean(), population, method, priors=priors, progress=False) for method, priors in ways)
    assert first.objective == second.objective and first.method == nlme.FOCE()
    free = nlme.fit(Mean(), population, nlme.FOCE(), progress=False)
    assert float(first.model.sd) < float(free.model.sd) and first.objective > free.objective


@pytest.mark.slow
def test_a_flat_prior_changes_nothing(population):
    free = nlme.fit(Mean(), population, progress=False)
    flat = nlme.fit(Mean(), population, priors={"mean": dist.Normal(0.0, 1e6)}, progress=False)
    assert flat.objective == pytest.approx(free.objective, abs=1e-6)
    assert float(flat.model.mean) == pytest.approx(float(free.model.mean), abs=1e-4)


def test_a_penalty_is_in_the_standard_errors(population):
    """A penalty is a prior under another name: both give the same R."""

    def penalty(model):
        return (model.mean - 1.0) ** 2 / 0.09

    held = dict(fixed=["omega", "sd"], progress=False)
    one = nlme.fit(Mean(), population, penalty=penalty, **held)
    two = nlme.fit(Mean(), population, priors={"mean": dist.Normal(1.0, 0.3)}, **held)
    np.testing.assert_allclose(one.covariance.of_kind("R").matrix, two.covariance.matrix, rtol=1e-5)


def test_refusals(population):
    with pytest.raises(nlme.ModelError, match="maen"):
        nlme.fit(Mean(), population, priors={"maen": dist.Normal(0.0, 1.0)}, progress=False)
    with pytest.raises(nlme.ModelError, match="twice"):
        nlme.fit(Mean(), population, nlme.MAP({}), priors={"mean": dist.Normal(0.0, 1.0)}, progress=False)
    with pytest.raises(nlme.ModelError, match="not both"):
        nlme.fit(Mean(), population, priors={"mean": dist.Normal(0.0, 1.0)}, penalty=lambda m: m.mean**2, progress=False)
    with pytest.raises(nlme.ModelError, match="is fixed"):
        nlme.fit(Mean(), population, priors={"mean": dist.Normal(0.0, 1.0)}, fixed=["mean"], progress=False)


@pytest.mark.slow
def test_naive_pooled_is_least_squares(population):
    fit = nlme.fit(Mean(), population, nlme.NaivePooled(), progress=False)
    assert fit.converged, fit.verdict
    assert float(fit.model.mean) == pytest.approx(DATA.DV.mean(), abs=1e-5)
    variance = DATA.DV.var(ddof=0)
    assert float(fit.model.sd) ** 2 == pytest.approx(variance, rel=1e-5)
    assert fit.objective == pytest.approx(len(DATA) * (np.log(variance) + 1), abs=1e-6)
    assert fit.fixed == ("omega.mean",) and np.all(fit.eta == 0)
    table = fit.predictions
    np.testing.assert_allclose(table.PRED, table.IPRED)
    np.testing.assert_allclose(table.WRES, table.IWRES)
    assert not fit.messages and "omega.mean" in str(fit.table())


def test_options_are_kept():
    method = nlme.NaivePooled(inner_iterations=3)
    assert dataclasses.replace(method) == method and "inner_iterations=3" in repr(method)


class Spline(nlme.Model):
    """A level that bends with a covariate."""

    curve: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=2, depth=1, key=1)
    sd: nlme.Scalar = nlme.positive(0.3)
    covariates = ("x",)

    def individual(self, eta, cov):
        return dict(level=self.curve(cov.x)[0])

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


def test_a_penalty_and_its_prior_have_the_same_errors():
    """L2(s) is the prior Normal(0, s^-1/2) of each weight: one mode, and one curvature there."""
    random = np.random.default_rng(2)
    subjects = [
        nlme.Subject(id=i, time=np.arange(3.0), dv=np.sin(x) + 0.3 * random.normal(size=3), covariates={"x": np.full(3, x)})
        for i, x in enumerate(np.linspace(-2.0, 2.0, 14), 1)
    ]
    population, method = nlme.Population(tuple(subjects)), nlme.NaivePooled()
    penalised = nlme.fit(Spline(), population, method, penalty=nlme.L2(4.0), progress=False)
    start = penalised.model  # so that both stand at one mode
    penalised = nlme.fit(start, population, method, penalty=nlme.L2(4.0), progress=False)
    prior = nlme.fit(start, population, method, priors={"curve": dist.Normal(0.0, 0.5)}, progress=False)
    assert penalised.objective == pytest.approx(prior.objective, abs=1e-4)
    assert penalised.covariance.kind == prior.covariance.kind == "R"
    np.testing.assert_allclose(penalised.covariance.standard_errors, prior.covariance.standard_errors, rtol=1e-2)
