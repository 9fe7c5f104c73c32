"""Simulation-based calibration: ranks of a model that is right are uniform, those of one that is wrong are not, and it says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from normal_means import Means, groups

import nlme
from nlme.parameters.priors import Priors
from nlme.uncertainty.calibrate import Calibration, _simulated


class Bolus(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(10.0)
    add: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.censored(nlme.additive(state.central / ind.v, self.add))}


BOLUS = {"cl": dist.LogNormal(np.log(2.0), 0.3), "v": dist.LogNormal(np.log(10.0), 0.3)}


def design(subjects=8) -> nlme.Population:
    one = dict(time=[0.0, 1.0, 4.0, 10.0], dv=[np.nan, 8.0, 4.0, 1.0], evid=[1, 0, 0, 0], amt=[100.0, 0.0, 0.0, 0.0])
    return nlme.Population(tuple(nlme.Subject(id=i + 1, **one) for i in range(subjects)))


@pytest.mark.slow
def test_simulated_values_below_the_limit_are_censored_at_it():
    truth = jax.tree.map(lambda x: x[None], Bolus())
    arrays = _simulated(truth, 0, design(), jax.random.key(1), 2.0)
    data = arrays.parts[0].data
    observed, cens = np.asarray(data.observed), np.asarray(data.cens)
    assert cens.any() and not cens.all()
    assert (observed[cens == 1] == 2.0).all() and (observed[cens == 0] >= 2.0).all()


@pytest.mark.slow
def test_ranks_of_a_normal_mean():
    """40 ranks of mu: each about uniform on 0 .. 39, so that their mean is within 4 standard errors of 19.5."""
    options = dict(simulations=40, draws=39, bins=8, thin=3, warmup=150, batch=20, fixed=("omega.mu", "sd"), progress=False)
    found = nlme.calibrate(Means(), groups(), {"mu": dist.Normal(0.0, 2.0)}, key=1, **options)
    assert found.ranks.shape == (40, 1) and found.calibrated
    assert abs(found.table.mean_rank["mu"] - 19.5) < 4 * np.sqrt((40**2 - 1) / 12 / 40)
    assert found.truths["mu"].std() == pytest.approx(2.0, rel=0.4)


def _made(ranks: np.ndarray, p: float, effective=200.0, diverging=0) -> Calibration:
    table = pd.DataFrame({"chi_square": [9.0], "p": [p], "mean_rank": [ranks.mean()], "effective": [effective]}, index=["cl"])
    frame = pd.DataFrame({"cl": ranks})
    return Calibration(frame, frame, 99, 20, table, np.r_[diverging, np.zeros(len(ranks) - 1, int)])


def test_what_is_said():
    ranks = np.arange(100)
    fine = _made(ranks, 0.4)
    assert fine.calibrated and not fine.messages and "uniform" in repr(fine)
    bad = _made(ranks, 1e-5, effective=20.0, diverging=3)
    assert not bad.calibrated and "NOT uniform" in repr(bad)
    said = " ".join(bad.messages)
    assert "Ranks are not uniform for cl" in said and "diverged in 1 of 100" in said and "Fewer than 50" in said


@pytest.mark.slow
def test_draws_of_a_prior_are_its_own():
    """Quantiles of 4,000 draws against scipy's, cut off at the domain; correlations of an LKJ."""
    from scipy.stats import truncnorm

    class Two(Means):
        omega: nlme.Covariance = nlme.covariance(mu=0.5, up=0.2, correlation={("mu", "up"): 0.1})

    priors = {"mu": dist.Normal(1.0, 2.0), "sd": dist.Normal(0.5, 1.0), "omega.sd": dist.HalfNormal(0.5)}
    prior = Priors(Two(), priors | {"omega.correlation": dist.LKJ(2, 1.0)})
    u = prior.drawn(jax.random.key(0), 4000)
    models, correlation = jax.vmap(lambda u: (m := prior.model_and_density(u)[0], m.omega.correlation))(u)
    levels = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(np.quantile(models.mu, levels), [1 - 2.563, 1.0, 1 + 2.563], atol=0.15)
    cut = truncnorm(-0.5, np.inf, loc=0.5, scale=1.0)
    np.testing.assert_allclose(np.quantile(models.sd, levels), cut.ppf(levels), atol=0.08)
    np.testing.assert_allclose(np.quantile(models.omega.sd[:, 1], 0.5), 0.5 * 0.6745, atol=0.03)
    np.testing.assert_allclose(np.quantile(correlation[:, 0, 1], levels), [-0.8, 0.0, 0.8], atol=0.06)


@pytest.mark.parametrize(
    ("change", "seen"), [(dict(draws=100), "no multiple"), (dict(simulations=0), "simulations"), (dict(bins=1), "no multiple")]
)
def test_numbers_that_do_not_fit_are_refused(change, seen):
    with pytest.raises(nlme.ModelError, match=seen):
        nlme.calibrate(Bolus(), design(), BOLUS, key=1, **change)
