"""Standard errors where parameters move a time past samples: from the scores, in words."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.fitting.kinks import moving_times


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
