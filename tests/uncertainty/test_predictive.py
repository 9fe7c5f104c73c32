"""Predictive data sets of a normal mean: their moments are known, before and after the data."""

from __future__ import annotations

import arviz
import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import Means, exact_means, groups, quietly

import nlme

PRIOR = {"mu": dist.Normal(0.0, 2.0)}
HELD = ("omega.mu", "sd")


@pytest.fixture(scope="module")
def found():
    draws = quietly(Means(), groups(), PRIOR, key=3, random_effects="marginal", warmup=200, draws=500, chains=2, fixed=HELD)
    return nlme.predictive(Means(), groups(), PRIOR, draws, key=1, draws=100, fixed=HELD)


@pytest.mark.slow
def test_groups_are_arvizs(found):
    for group in ("posterior", "prior", "prior_predictive", "posterior_predictive", "observed_data", "log_likelihood"):
        assert group in found.groups()
    assert found.prior_predictive["DV"].shape == found.posterior_predictive["DV"].shape == (1, 100, 18)
    observed = np.concatenate([s.dv for s in groups()])
    np.testing.assert_array_equal(found.observed_data["DV"], observed)


@pytest.mark.slow
def test_moments_are_the_exact_ones(found):
    """Prior: mean 0, variance 4 + 0.5 + 0.36.  Posterior: mean mu + eta of the subject, within 5 standard errors."""
    before = found.prior_predictive["DV"].values[0]
    total = np.sqrt(4 + 0.5 + 0.36)
    assert abs(before[:, 0].mean()) < 5 * total / 10
    assert before[:, 0].std() == pytest.approx(total, rel=5 / np.sqrt(200))
    mean, spread = exact_means(groups())
    who = np.repeat(np.arange(6), [len(s.dv) for s in groups()])
    after = found.posterior_predictive["DV"].values[0].mean(axis=0)
    np.testing.assert_array_less(np.abs(after - (mean[0] + mean[1:][who])), 5 * np.sqrt(0.36 + 0.5) / 10)


@pytest.mark.slow
def test_leaving_a_subject_out(found):
    """PSIS-LOO by subject against exact densities of each subject given the others."""
    from scipy.stats import multivariate_normal

    loo = arviz.loo(found, var_name="marginal", pointwise=True)
    people, precision = list(groups()), 1 / 4.0
    covs = [0.36 * np.eye(len(s.dv)) + 0.5 for s in people]
    weights = [np.linalg.inv(c).sum() for c in covs]
    sums = [np.linalg.inv(c).sum(axis=0) @ s.dv for c, s in zip(covs, people, strict=True)]
    for i, s in enumerate(people):
        p = precision + sum(weights) - weights[i]
        m = (sum(sums) - sums[i]) / p
        expected = multivariate_normal.logpdf(s.dv, np.full(len(s.dv), m), covs[i] + 1 / p)
        assert float(loo.loo_i[i]) == pytest.approx(expected, abs=0.1)


@pytest.mark.slow
def test_what_is_missing_is_said(found):
    with pytest.raises(nlme.ModelError, match="priors=, posterior="):
        nlme.predictive(Means(), groups(), key=1)
    with pytest.raises(nlme.ModelError, match="of other data"):
        nlme.predictive(Means(), groups(seed=5), posterior=found, key=1)
    with pytest.raises(nlme.ModelError, match="1000 draws"):
        nlme.predictive(Means(), groups(), posterior=found, draws=2000, key=1)
