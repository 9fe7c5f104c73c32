"""A correlation that ends at 1 is known there; what else is estimated keeps its standard errors."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.fitting.reported import covariance_as_reported


class Two(nlme.Model):
    """Two random effects in a block; one is the other times a factor in the data."""

    level: nlme.Scalar = nlme.positive(1.0)
    slope: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.1, slope=0.1, correlation={("level", "slope"): 0.5})
    sd: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(level=self.level * jnp.exp(eta.level), slope=self.slope * jnp.exp(eta.slope))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class One(Two):
    """The same at a correlation of 1."""

    omega: nlme.Covariance = nlme.covariance(level=0.1)
    factor: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(level=self.level * jnp.exp(eta.level), slope=self.slope * jnp.exp(self.factor * eta.level))


@pytest.fixture(scope="module")
def population():
    rng, t = np.random.default_rng(3), np.arange(5.0)
    effects = 0.3 * rng.normal(size=25)
    values = [np.exp(e) + 0.5 * np.exp(0.8 * e) * t + 0.2 * rng.normal(size=5) for e in effects]
    return nlme.Population(tuple(nlme.Subject(k + 1, t, dv=y, evid=np.zeros(5, int)) for k, y in enumerate(values)))


@pytest.mark.parametrize("kind", ["R", "S", "sandwich"])
def test_standard_errors_are_those_of_the_model_with_one_effect(population, kind):
    two, one = (nlme.fit(model(), population, progress=False) for model in (Two, One))
    correlation = two.estimates["omega.slope,level"] / np.sqrt(two.estimates["omega.slope"] * two.estimates["omega.level"])
    assert correlation == pytest.approx(1.0, abs=1e-6) and two.objective == pytest.approx(one.objective, abs=1e-4)
    found, other = two.covariance.of_kind(kind), one.covariance.of_kind(kind)
    assert found.held == ("omega.slope,level",) and np.isnan(found.standard_errors["omega.slope,level"])
    shared = ["level", "slope", "omega.level", "sd"]
    np.testing.assert_allclose(found.standard_errors[shared], other.standard_errors[shared], rtol=2e-3)
    # the second variance is factor^2 times the first
    w, f = one.estimates[["omega.level", "factor"]]
    slopes = np.array([f**2, 2.0 * f * w])
    delta = np.sqrt(slopes @ other.matrix.loc[["omega.level", "factor"], ["omega.level", "factor"]].to_numpy() @ slopes)
    assert found.standard_errors["omega.slope"] == pytest.approx(delta, rel=2e-3)
    assert "no standard error" not in found.verdict.lower() and "omega.slope,level at a bound" in found.verdict


def test_what_is_drawn_from_them_has_the_correlation(population):
    fit = nlme.fit(Two(), population, progress=False)
    place = fit.inventory.names.index("omega.slope,level")
    spread = covariance_as_reported(fit)
    assert not spread[place].any() and np.all(np.delete(np.diagonal(spread), place) > 0)
    drawn = nlme.simulate(fit, key=1, eta="typical", uncertainty="covariance", replicates=20)
    assert np.isfinite(
        np.asarray(drawn.posterior_predictive["DV"] if hasattr(drawn, "posterior_predictive") else drawn["DV"])
    ).all()
