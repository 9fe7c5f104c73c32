"""Where parameters move a time past samples: standard errors from the scores, in words; modes on both sides of the sample."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import nlme
from nlme.marginal.kinks import _nearest, clear_of_samples, moving_times


class Delayed(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(20.0)
    ka: nlme.Scalar = nlme.positive(1.5)
    lag: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v, ka=self.ka, lag=self.lag)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka, lag=ind.lag)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=0.1, prop=self.prop)}


class Prompt(Delayed):
    """The lag is a number, the same for all."""

    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(lag=0.5 + 0.0 * self.lag)


class Varying(Prompt):
    """Only a random effect moves the lag."""

    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(lag=0.5 * jnp.exp(eta.cl))


class Late(Delayed):
    """The lag differs between people, and is typically over just after their first sample."""

    lag: nlme.Scalar = nlme.positive(1.2)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, lag=0.3, ka=0.5)

    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(lag=self.lag * jnp.exp(eta.lag), ka=self.ka * jnp.exp(eta.ka))


def drawn(subjects):
    random, times = np.random.default_rng(4), np.array([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.0])
    made = []
    for i in range(subjects):
        k, t = 0.1 * np.exp(0.3 * random.normal()), np.maximum(times - 0.4, 0.0)
        y = 100 * 1.4 / 20.0 / (1.4 - k) * (np.exp(-k * t) - np.exp(-1.4 * t))
        made.append(nlme.Subject(id=i + 1, time=times, dv=y * (1 + 0.1 * random.normal(size=7)) + 0.1 * random.normal(size=7)))
    return nlme.Population(tuple(made)).with_doses(nlme.dose(100))


@pytest.fixture(scope="module")
def evaluated():
    return nlme.evaluate(Delayed(), drawn(20))


@pytest.mark.slow
def test_they_come_from_the_scores_and_say_so(evaluated):
    covariance = evaluated.covariance
    assert covariance.kind == "S" and np.all(np.isfinite(covariance.standard_errors))
    np.testing.assert_allclose(covariance.matrix, np.linalg.inv(covariance.information_s), rtol=1e-8)
    assert "kinks where the lag passes a sample" in covariance.verdict and "scores alone (S)" in covariance.verdict
    other = covariance.of_kind("sandwich").verdict
    assert "nlme.bootstrap(fit)" in other and "scores alone" not in other


@pytest.mark.slow
def test_a_time_far_from_every_sample_is_not_felt():
    """Distances are in standard errors of the time by R, so that the lag at 0.75 is clear of 0.5 and 1, and one near 0.5 is not."""
    found = nlme.evaluate(Delayed(lag=0.75), drawn(24))
    assert found.covariance.kind == "sandwich" and "kinks" not in found.covariance.verdict
    spread = found.covariance.of_kind("R").unconstrained
    (near,) = np.asarray(_nearest(found.layout.arrays, found.layout.anatomy, found.inventory, found.model, spread)).min(
        keepdims=True
    )
    error = 0.75 * np.sqrt(spread[3, 3])  # the lag is the exponential of its coordinate
    assert near == pytest.approx(0.25 / error, rel=1e-9) and near > 4.0
    close = nlme.evaluate(Delayed(lag=0.5 + error), drawn(24))
    assert close.covariance.kind == "S"
    for errors, clear in ((3.9, False), (4.1, True)):
        assert clear_of_samples(found.model, found.layout, found.inventory, spread * (near / errors) ** 2) == clear


@pytest.mark.slow
def test_samples_at_a_later_doses_time_count():
    """The second dose at 7.25 comes at 8 with a lag of 0.75, where a sample is."""
    twice = drawn(20).with_doses(nlme.dose(100).every(7.25, n=2))
    assert nlme.evaluate(Delayed(lag=0.75), twice).covariance.kind == "S"


@pytest.mark.slow
def test_a_fixed_lag_has_none():
    found = nlme.evaluate(Delayed(), drawn(20), fixed=["lag"])
    assert moving_times(found.model, found.layout, found.inventory) == ""
    assert found.covariance.kind == "sandwich" and "kinks" not in found.covariance.verdict


@pytest.mark.slow
@pytest.mark.parametrize(("model", "words"), [(Prompt(), ""), (Varying(), "the lag")], ids=["constant", "random"])
def test_what_moves_the_lag(model, words):
    found = nlme.evaluate(model, drawn(3))
    assert moving_times(found.model, found.layout, found.inventory) == words


@pytest.mark.slow
def test_too_few_subjects_for_the_scores_are_told_of_the_bootstrap():
    covariance = nlme.evaluate(Delayed(), drawn(4)).covariance
    assert covariance.kind == "R" and "nlme.bootstrap(fit)" in covariance.verdict
    lost = covariance.of_kind("S")
    assert np.all(np.isnan(lost.standard_errors))
    assert lost.missing.startswith("No standard errors: the S matrix is singular") and "nlme.bootstrap(fit)" in lost.missing


EARLY = np.array([1.0, 6.0, 12.0, 24.0])  # hours


def predicted(cl, lag, ka=1.5):
    k, t = cl / 20.0, np.maximum(EARLY - lag, 0.0)
    return 100 * ka / 20.0 / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))


@pytest.fixture(scope="module")
def people_of_all_lags():
    random, lags = np.random.default_rng(7), [0.5, 1.4, 0.7, 0.9, 1.1, 0.4]
    made = [nlme.Subject(id=i, time=EARLY, dv=predicted(2.0 * np.exp(0.3 * random.normal()), lag)) for i, lag in enumerate(lags)]
    return nlme.Population(tuple(made)).with_doses(nlme.dose(100))


def highest(subject):
    """(eta_cl, eta_lag, eta_ka) of the highest density, by searches from a grid of lags."""

    def joint(eta):
        f = predicted(2.0 * np.exp(eta[0]), 1.2 * np.exp(eta[1]), 1.5 * np.exp(eta[2]))
        variance = 0.1**2 + (0.1 * f) ** 2
        dv = subject.dv[subject.is_observation]
        return float(np.sum((dv - f) ** 2 / variance + np.log(variance)) + eta @ (eta / [0.1, 0.3, 0.5]))

    close = dict(method="Nelder-Mead", options=dict(xatol=1e-7, fatol=1e-10, maxiter=4000))
    return min(
        (minimize(joint, [0.0, np.log(lag / 1.2), 0.0], **close) for lag in (0.4, 0.6, 0.8, 0.95, 1.1, 1.4)), key=lambda r: r.fun
    ).x


def test_modes_lie_on_the_side_of_the_sample_that_the_data_show(people_of_all_lags):
    """Where the lag is longer than the first sample's time the density is flat in it, and a search from 0 begins there."""
    right = np.array([highest(s) for s in people_of_all_lags])
    assert right[:, 1].min() < -0.5 and right[:, 1].max() > -0.01
    found = nlme.evaluate(Late(), people_of_all_lags)
    np.testing.assert_allclose(found.eta[["cl", "lag", "ka"]], right, atol=2e-5)
    none = nlme.evaluate(Late(), people_of_all_lags, eta=0.0 * found.eta)
    assert none.subjects.objective.max() > found.subjects.objective.max() + 10.0  # from 0 alone some are not found


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.Laplace(), nlme.FO(), nlme.AGQ(3)], ids=repr)
def test_so_they_do_by_every_method(people_of_all_lags, method):
    right = np.array([highest(s) for s in people_of_all_lags])
    found = nlme.evaluate(Late(), people_of_all_lags, method).eta
    np.testing.assert_allclose(np.sign(found.lag[abs(right[:, 1]) > 0.1]), np.sign(right[:, 1][abs(right[:, 1]) > 0.1]))


@pytest.mark.slow
def test_and_draws_of_one_patient_too(people_of_all_lags):
    """Against means over draws of the prior, weighted by the density of the data."""
    found = nlme.individual_posterior(Late(), people_of_all_lags, draws=2000, key=1)
    centre = np.asarray(found.eta).mean(axis=1)[:, found.effects.index("lag")]
    cl, lag, ka = np.random.default_rng(3).normal(size=(3, 1_000_000, 1)) * np.sqrt([0.1, 0.3, 0.5])[:, None, None]
    f = predicted(2.0 * np.exp(cl), 1.2 * np.exp(lag), 1.5 * np.exp(ka))
    variance = 0.1**2 + (0.1 * f) ** 2
    for subject, mean in zip(people_of_all_lags, centre, strict=True):
        logs = -0.5 * np.sum((subject.dv[subject.is_observation] - f) ** 2 / variance + np.log(variance), axis=1)
        weights = np.exp(logs - logs.max())
        assert mean == pytest.approx(weights @ lag[:, 0] / weights.sum(), abs=0.06)
