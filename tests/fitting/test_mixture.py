"""Mixtures of subpopulations: exact where each is linear and Gaussian, and as NONMEM's $MIX defines them otherwise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

RANDOM = np.random.default_rng(11)
N, PER = 30, 4
SLOW = RANDOM.random(N) < 0.35
CENTRES = np.where(SLOW, 1.0, 4.0)[:, None]
VALUES = CENTRES + RANDOM.normal(size=(N, 1)) * 0.5 + RANDOM.normal(size=(N, PER)) * 0.3
DATA = pd.DataFrame({"ID": np.repeat(np.arange(1, N + 1), PER), "TIME": np.tile(np.arange(PER), N), "DV": VALUES.ravel()})


class Two(nlme.Model):
    """Two kinds of people, each y = mean + eta + error."""

    slow: nlme.Scalar = nlme.real(0.5)
    fast: nlme.Scalar = nlme.real(3.0)
    group: nlme.Mixture = nlme.mixture(slow=0.5, fast=0.5)
    omega: nlme.Covariance = nlme.covariance(mean=0.4)
    sd: nlme.Scalar = nlme.positive(0.4)

    def individual(self, eta, cov):
        return dict(mean=self.group.choose(slow=self.slow, fast=self.fast) + eta.mean)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.mean, self.sd)}


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(DATA)


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(Two(), population, nlme.FOCEI(), progress=False)


def exact(model: Two) -> np.ndarray:
    """log p_k L_ik, (N, 2), with all constants."""
    covariance = float(model.omega.matrix[0, 0]) + np.diag(np.full(PER, float(model.sd) ** 2))
    terms = [multivariate_normal(np.full(PER, float(m)), covariance).logpdf(VALUES) for m in (model.slow, model.fast)]
    return np.stack(terms, axis=1) + np.log(np.asarray(model.group.shares))


METHODS = [nlme.FO(), nlme.FOCE(), nlme.FOCEI(), nlme.Laplace(), nlme.AGQ(points=3)]


def some(methods, quick=nlme.FOCEI()):
    return [method if method == quick else pytest.param(method, marks=pytest.mark.slow) for method in methods]


@pytest.mark.parametrize("method", some(METHODS), ids=repr)
def test_the_exact_likelihood(method, population):
    found = nlme.evaluate(Two(), population, method)
    expected = exact(Two())
    np.testing.assert_allclose(found.values + PER * np.log(2 * np.pi), -2 * logsumexp(expected, axis=1), rtol=1e-9)
    posterior = np.exp(expected - logsumexp(expected, axis=1, keepdims=True))
    np.testing.assert_allclose(found.membership[["slow", "fast"]], posterior, atol=1e-9)


@pytest.mark.slow
def test_importance_sampling_and_its_error(population):
    """The error is that of the sum over subpopulations: the subjects' objectives scatter about the exact ones by as much."""
    found = nlme.evaluate(Two(), population, nlme.ImportanceSampling(300))
    apart = found.values + PER * np.log(2 * np.pi) + 2 * logsumexp(exact(Two()), axis=1)
    assert 0.6 < np.sqrt(np.mean((apart / found.monte_carlo.errors) ** 2)) < 1.5
    assert found.monte_carlo.error < 1.0 and found.messages == []


@pytest.mark.parametrize("method", some([nlme.FO(), nlme.FOCEI(), nlme.Laplace()]), ids=repr)
def test_gradient_is_the_central_difference(method, population):
    model = Two()
    layout, inventory = lay_out(model, population), Inventory(model)
    u, starts = inventory.unconstrained(model), np.zeros((N, 1))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts)

    slope, h = np.asarray(jnp.sum(at(u).gradient, axis=0)), 1e-5
    for k, step in enumerate(h * np.eye(len(u))):
        difference = float(jnp.sum(at(u + step).value) - jnp.sum(at(u - step).value)) / (2 * h)
        assert slope[k] == pytest.approx(difference, rel=1e-6, abs=1e-6), inventory.names[k]


def test_fit_finds_the_subpopulations(fit):
    assert fit.converged, fit.verdict
    assert fit.objective_full == pytest.approx(-2 * logsumexp(exact(fit.model), axis=1).sum(), abs=1e-6)
    np.testing.assert_array_equal(fit.membership.likeliest == "slow", SLOW)
    assert float(fit.model.group.shares[0]) == pytest.approx(SLOW.mean(), abs=0.01)
    shown = str(fit.table())
    assert "group.slow" in shown and "Share of slow" in shown
    assert np.isfinite(fit.covariance.standard_errors["group.slow"])


def test_predictions_are_those_of_the_likeliest(fit):
    table = fit.predictions
    typical = np.where(SLOW, float(fit.model.slow), float(fit.model.fast))
    np.testing.assert_allclose(table.PRED, np.repeat(typical, PER))
    np.testing.assert_allclose(fit.individual["mean"], typical + fit.eta["mean"])
    np.testing.assert_allclose(nlme.predict(fit).y, table.IPRED)


def test_simulation_draws_subpopulations(fit):
    drawn = nlme.simulate(fit, key=3, eta="new", noise=False, replicates=20)
    centre = drawn.IPRED - drawn["eta.mean"]
    share = np.isclose(centre, float(fit.model.slow)).mean()
    assert np.isclose(centre, float(fit.model.fast)).mean() == pytest.approx(1 - share)
    assert share == pytest.approx(float(fit.model.group.shares[0]), abs=0.08)


def test_save_and_load(fit, tmp_path):
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(nlme.load(tmp_path / "fit", Two).membership, fit.membership)


class Kinetics(nlme.Model):
    """One compartment, two clearances, an effect that is chosen outside individual() when asked to."""

    slow: nlme.Scalar = nlme.positive(1.0)
    fast: nlme.Scalar = nlme.positive(5.0)
    v: nlme.Scalar = nlme.positive(20.0)
    group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)
    omega: nlme.Covariance = nlme.covariance(cl=0.05)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.group.choose(slow=self.slow, fast=self.fast) * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(central=-ind.cl / ind.v * a.central), states=("central",))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class ClosedForm(Kinetics):
    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)


class Misplaced(Kinetics):
    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=self.group.choose(slow=1.0, fast=2.0), v=ind.v)


def trial():
    rows = [dict(ID=i, TIME=0.0, AMT=100.0, EVID=1, DV=".") for i in (1, 2)]
    rows += [dict(ID=i, TIME=t, AMT=0, EVID=0, DV=5 * np.exp(-k * t)) for i, k in ((1, 0.05), (2, 0.27)) for t in (1, 3, 6)]
    return nlme.read_nonmem(pd.DataFrame(rows).sort_values(["ID", "TIME", "EVID"], ascending=[True, True, False]))


@pytest.mark.slow
def test_closed_form_and_ode():
    one, two = (nlme.evaluate(kind(), trial(), nlme.FOCEI()) for kind in (Kinetics, ClosedForm))
    assert one.objective == pytest.approx(two.objective, abs=1e-5)
    assert list(one.membership.likeliest) == ["slow", "fast"]


@pytest.mark.slow
def test_closed_form_and_ode_by_saem():
    """The same chains, iteration by iteration, as far as the solver's tolerance lets them be."""
    method = nlme.SAEM(chains=4, exploration=(60, 60), smoothing=(60, 60), annealing=10, samples=20)
    fixed = ["group", "omega", "v"]
    one, two = (nlme.fit(kind(), trial(), method, fixed=fixed, progress=False) for kind in (Kinetics, ClosedForm))
    np.testing.assert_allclose(one.history.slow, two.history.slow, rtol=1e-3)
    assert one.history.slow.iloc[-1] != one.history.slow.iloc[0]


def test_choice_outside_individual():
    with pytest.raises(nlme.ModelError, match=r"belongs in individual\(self, eta, cov\)"):
        nlme.describe(Misplaced())


def test_refusals():
    with pytest.raises(nlme.ModelError, match="sum to one"):
        nlme.mixture(a=0.5, b=0.6)
    with pytest.raises(nlme.ModelError, match="at least two"):
        nlme.mixture(a=0.5)
    with pytest.raises(nlme.ModelError, match="quick"):
        Two().group.choose(slow=1.0, quick=2.0)
    with pytest.raises(nlme.ModelError, match="no value for fast"):
        Two().group.choose(slow=1.0)


class Three(Two):
    """The same and a kind half-way between them, to whom nobody belongs."""

    group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.5, between=0.2)

    def individual(self, eta, cov):
        return dict(mean=self.group.choose(slow=self.slow, fast=self.fast, between=0.5 * (self.slow + self.fast)) + eta.mean)


@pytest.mark.slow
def test_a_kind_to_whom_nobody_belongs_is_named(population, fit):
    found = nlme.fit(Three(omega={"mean": 0.25}), population, fixed=["omega.mean"], progress=False)
    assert found.model.group.shares[2] < 1e-5
    assert "Nobody belongs to between" in found.verdict and found.verdict.startswith("Do not use")
    two = nlme.fit(Two(omega={"mean": 0.25}), population, fixed=["omega.mean"], progress=False)
    assert found.objective == pytest.approx(two.objective, abs=1e-3)
