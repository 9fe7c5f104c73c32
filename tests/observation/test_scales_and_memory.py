"""Transformed residuals with an estimated shape, correlated residuals, random effects on the residual error, by every method."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.observation.base import Record, log_density
from nlme.parameters.inventory import Inventory

METHODS = {"FO": nlme.FO(), "FOCE": nlme.FOCE(), "FOCEI": nlme.FOCEI(), "Laplace": nlme.Laplace()}
T = np.array([0.3, 0.9, 1.0, 2.2, 4.0])


def _population(y) -> nlme.Population:
    n = len(y)
    return nlme.read_nonmem(pd.DataFrame(dict(ID=np.repeat(np.arange(1, n + 1), len(T)), TIME=np.tile(T, n), DV=np.ravel(y))))


@pytest.fixture(scope="module")
def population():
    random = np.random.default_rng(11)
    f = 5.0 * np.exp(-0.4 * np.exp(random.normal(0, 0.3, (12, 1))) * T)
    return _population(f * np.exp(random.normal(0, 0.25, f.shape)))


class Scaled(nlme.Model):
    """f = 5 exp(-k t) with a residual that is normal on the scale ``kind``."""

    k: nlme.Scalar = nlme.positive(0.4)
    sd: nlme.Scalar = nlme.positive(0.3)
    lam: nlme.Scalar = nlme.real(0.0)
    omega: nlme.Covariance = nlme.covariance(k=0.1)
    kind: str = eqx.field(static=True, default="boxcox")

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k))

    def observe(self, ind, state, t):
        f = 5.0 * jnp.exp(-ind.k * t)
        if self.kind in ("boxcox", "yeojohnson"):
            return {"y": getattr(nlme, self.kind)(f, self.sd, self.lam)}
        return {"y": getattr(nlme, self.kind)(f, self.sd)}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FO", "FOCEI"])
def test_shapes_at_their_limits_are_the_simpler_models(method, population):
    for kind, lam, simpler in (("boxcox", 0.0, "lognormal"), ("boxcox", 1.0, "additive"), ("yeojohnson", 1.0, "additive")):
        ours = nlme.evaluate(Scaled(kind=kind, lam=lam), population, METHODS[method])
        theirs = nlme.evaluate(Scaled(kind=simpler), population, METHODS[method])
        assert ours.objective == pytest.approx(theirs.objective, abs=1e-6)
        np.testing.assert_allclose(ours.predictions.CPRED, theirs.predictions.CPRED, rtol=1e-6)


@pytest.mark.slow
def test_the_shape_is_estimated_from_the_scale_of_the_data(population):
    fit = nlme.fit(Scaled(lam=0.6), population, nlme.FOCEI(), progress=False)
    at_log = nlme.fit(Scaled(), population, nlme.FOCEI(), fixed=["lam"], progress=False)
    assert fit.converged
    lam, error = float(fit.model.lam), float(fit.covariance.standard_errors["lam"])
    assert abs(lam) < 3 * error < 1.0  # the data were drawn log-normal
    assert 0.0 <= at_log.objective - fit.objective < stats.chi2.ppf(0.999, 1)


class Memory(nlme.Model):
    """A linear model with correlated residuals, whose marginal is a normal distribution."""

    base: nlme.Scalar = nlme.real(2.0)
    slope: nlme.Scalar = nlme.real(-0.3)
    sd: nlme.Scalar = nlme.positive(0.5)
    decay: nlme.Scalar = nlme.positive(0.8)
    omega: nlme.Covariance = nlme.covariance(base=0.4, slope=0.05)

    def individual(self, eta, cov):
        return dict(base=self.base + eta.base, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.ar1(nlme.additive(ind.base + ind.slope * t, self.sd), self.decay)}


@pytest.fixture(scope="module")
def remembered():
    random = np.random.default_rng(2)
    y = 2.0 + random.normal(0, 0.6, (6, 1)) - (0.3 + random.normal(0, 0.2, (6, 1))) * T
    return y + random.normal(0, 0.5, y.shape)


@pytest.mark.slow
@pytest.mark.parametrize("method", [m if m == "FOCEI" else pytest.param(m, marks=pytest.mark.slow) for m in METHODS])
def test_correlated_residuals_of_a_linear_model_give_the_exact_marginal(method, remembered):
    z = np.stack([np.ones_like(T), T], axis=1)
    v = z @ np.diag([0.4, 0.05]) @ z.T + 0.25 * np.exp(-0.8 * np.abs(T[:, None] - T))
    exact = -2 * stats.multivariate_normal(2.0 - 0.3 * T, v).logpdf(remembered).sum()
    at = nlme.evaluate(Memory(), _population(remembered), METHODS[method])
    assert at.objective_full == pytest.approx(exact, abs=1e-8)
    white = at.predictions.CWRES.to_numpy().reshape(remembered.shape)
    quadratic = np.einsum("ij,jk,ik->i", remembered - 2.0 + 0.3 * T, np.linalg.inv(v), remembered - 2.0 + 0.3 * T)
    np.testing.assert_allclose(np.sum(white**2, axis=1), quadratic, rtol=1e-8)


def test_simulated_residuals_remember(remembered):
    population = _population(np.zeros((600, len(T))))
    drawn = nlme.simulate(Memory(), population, key=8, eta="typical")
    noise = (drawn.DV - drawn.IPRED).to_numpy().reshape(-1, len(T))
    expected = 0.25 * np.exp(-0.8 * np.abs(T[:, None] - T))
    np.testing.assert_allclose(np.cov(noise.T), expected, atol=5 * 0.25 * np.sqrt(2 / 600))


def test_nothing_is_remembered_where_time_begins_again():
    """How long ago the period before was nobody knows: two periods are independent in density, simulation and predictions."""
    for times in ([2.0, 12.0, 0.0, 2.0], [2.0, 12.0, 1.0, 2.0], [3.0, 12.0, 12.0, 13.0]):
        rows = [dict(TIME=t, EVID=0) for t in times]
        rows.insert(2, dict(TIME=0.0, EVID=3))
        table = pd.concat([pd.DataFrame(rows).assign(ID=i + 1) for i in range(500)], ignore_index=True)
        table["DV"] = np.where(table.EVID == 0, 1.0 + table.TIME / 10.0, np.nan)
        population, t = nlme.read_nonmem(table), np.array(times)
        z = np.stack([np.ones(4), t], axis=1)
        within = 0.25 * np.exp(-0.8 * np.abs(t[:, None] - t)) * (np.arange(4)[:, None] // 2 == np.arange(4) // 2)
        exact = stats.multivariate_normal(2.0 - 0.3 * t, z @ np.diag([0.4, 0.05]) @ z.T + within)
        at = nlme.evaluate(Memory(), population[:1], nlme.FOCEI())
        assert at.objective_full == pytest.approx(-2.0 * exact.logpdf(1.0 + t / 10.0), abs=1e-8)
        drawn = nlme.simulate(Memory(), population, key=8, eta="typical")
        noise = (drawn.DV - drawn.IPRED).to_numpy().reshape(-1, 4)
        np.testing.assert_allclose(np.cov(noise.T), within, atol=5 * 0.25 * np.sqrt(2 / 500))


def test_two_records_at_one_time_cannot_remember():
    table = pd.DataFrame(dict(ID=1, TIME=[0.0, 1.0, 1.0, 2.0], DV=[1.0, 1.2, 1.3, 0.8]))
    with pytest.warns(match="same time"):
        population = nlme.read_nonmem(table)
    with pytest.raises(nlme.DataError, match=r"1 observation is at the time of the record before.* Row 3"):
        nlme.evaluate(Memory(), population)


class Noisy(nlme.Model):
    """A random effect on the residual standard deviation."""

    base: nlme.Scalar = nlme.real(1.0)
    add: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(base=0.3, add=0.2)

    def individual(self, eta, cov):
        return dict(base=self.base + eta.base, add=self.add * jnp.exp(eta.add))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.base, ind.add)}


@pytest.mark.slow
def test_random_effects_on_the_residual_error(remembered):
    y = remembered[0]
    at = nlme.evaluate(Noisy(), _population(y[None]), nlme.Laplace(inner_tolerance=1e-20))

    def phi(b):
        sd = 0.5 * jnp.exp(jnp.sqrt(0.2) * b[1])
        return jnp.sum(0.5 * ((y - 1.0 - jnp.sqrt(0.3) * b[0]) / sd) ** 2 + jnp.log(sd)) + 0.5 * b @ b

    b = jnp.asarray(at.b[0])
    np.testing.assert_allclose(jax.grad(phi)(b), 0.0, atol=1e-4)
    assert at.objective == pytest.approx(float(2 * phi(b) + jnp.linalg.slogdet(jax.hessian(phi)(b))[1]), abs=1e-7)


def test_a_jacobian_belongs_to_the_density(population):
    """-2 log L of data in other units differs by the units' Jacobian alone."""
    record = Record(jnp.asarray(2.0), jnp.zeros(()), jnp.asarray(jnp.nan))
    scaled = record._replace(y=record.y * 1000.0)
    for build in (nlme.lognormal, lambda f, sd: nlme.logitnormal(f, sd, 0.0, 5.0)):
        if build is nlme.lognormal:
            other = log_density(build(3000.0, 0.3).terms(scaled))
        else:
            other = log_density(nlme.logitnormal(3000.0, 0.3, 0.0, 5000.0).terms(scaled))
        assert other == pytest.approx(float(log_density(build(3.0, 0.3).terms(record))) - np.log(1000.0))


class Remembering(Scaled):
    """Proportional residuals with a memory, of a prediction that is not linear."""

    decay: nlme.Scalar = nlme.positive(0.7)

    def observe(self, ind, state, t):
        return {"y": nlme.ar1(nlme.proportional(5.0 * jnp.exp(-ind.k * t), self.sd), self.decay)}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FOCEI", *(pytest.param(name, marks=pytest.mark.slow) for name in ("FO", "FOCE", "Laplace"))])
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Scaled(lam=0.3), marks=pytest.mark.slow),
        pytest.param(Scaled(kind="yeojohnson", lam=0.3), marks=pytest.mark.slow),
        Remembering(),
    ],
    ids=["boxcox", "yeojohnson", "ar1"],
)
def test_gradients_in_shape_and_decay_are_central_differences(model, method, population):
    few = population[:3]
    way = type(METHODS[method])(inner_tolerance=1e-22)
    layout, inventory = lay_out(model, few), Inventory(model)
    starts = np.zeros((3, 1))

    def at(u, gradient=False):
        return evaluate_subjects(way, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient=gradient)

    u, h = inventory.unconstrained(model), 1e-4
    ours = np.asarray(at(u, True).gradient)
    for k in range(len(inventory)):
        out = [np.asarray(at(u.at[k].add(step * h)).value) for step in (-2, -1, 1, 2)]
        np.testing.assert_allclose(ours[:, k], (out[0] - 8 * out[1] + 8 * out[2] - out[3]) / (12 * h), rtol=1e-6, atol=1e-7)


class Fading(nlme.Model):
    """The same prediction for all; only how long residuals remember differs between people."""

    decay: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(decay=0.5)

    def individual(self, eta, cov):
        return dict(decay=self.decay * jnp.exp(eta.decay))

    def observe(self, ind, state, t):
        return {"y": nlme.ar1(nlme.additive(2.0, 0.8), ind.decay)}


@pytest.mark.parametrize("method", [nlme.FO(), nlme.FOCE()], ids=repr)
def test_without_interaction_the_memory_is_that_of_no_random_effect(method):
    t, y = np.array([0.5, 1.0, 2.0, 3.5, 6.0]), np.array([3.0, 3.5, 2.2, 1.9, 1.1])
    data = nlme.read_nonmem(pd.DataFrame(dict(ID=1, TIME=t, DV=y)))
    covariance = 0.64 * np.exp(-0.4 * np.abs(t[:, None] - t))
    expected = -2 * stats.multivariate_normal.logpdf(y, np.full(5, 2.0), covariance)
    assert nlme.evaluate(Fading(), data, method).objective_full == pytest.approx(expected, abs=1e-9)
