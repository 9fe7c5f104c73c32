"""Posteriors of parameters alone, the random effects integrated and drawn afterwards: exact where all is linear and Gaussian."""

from __future__ import annotations

import warnings

import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import Means, TwoKinds, exact_means, groups, quietly
from numpyro.diagnostics import effective_sample_size
from scipy.stats import multivariate_normal

import nlme

HELD = dict(fixed=("omega.mu", "sd"))
PRIOR = {"mu": dist.Normal(0.0, 2.0)}


@pytest.fixture(scope="module")
def means():
    return quietly(Means(), groups(), PRIOR, key=3, random_effects="marginal", warmup=200, draws=500, chains=2, **HELD)


@pytest.mark.slow
def test_posterior_is_the_exact_one(means):
    """Means within 4 Monte-Carlo standard errors, spreads within 4 of theirs, of mu and of every subject's effect."""
    mean, spread = exact_means(groups())
    columns = np.concatenate([means.posterior["mu"].values[..., None], means.posterior["eta"].values[..., 0]], axis=-1)
    size = effective_sample_size(columns)
    assert size.min() > 200
    np.testing.assert_array_less(np.abs(columns.mean((0, 1)) - mean), 4 * spread / np.sqrt(size))
    np.testing.assert_array_less(np.abs(columns.std((0, 1)) - spread), 4 * spread / np.sqrt(size))
    errors = columns - columns.mean((0, 1))
    together = np.mean(errors[..., 0] * errors[..., 1]) / (spread[0] * spread[1])
    assert together < -0.1  # effects are drawn given each mu, not beside it


@pytest.mark.slow
def test_likelihood_by_subject_is_the_marginal_one(means):
    """All constants included."""
    mu, found = means.posterior["mu"].values, means.log_likelihood["marginal"].values
    for i, s in enumerate(groups()):
        n = len(s.dv)
        expected = [multivariate_normal.logpdf(s.dv, np.full(n, m), 0.36 * np.eye(n) + 0.5) for m in mu[0, :5]]
        np.testing.assert_allclose(found[0, :5, i], expected, rtol=1e-9)
    who = np.array([s.id for s in groups() for _ in s.dv])
    by_observation, conditional = means.log_likelihood["DV"].values, means.log_likelihood["conditional"].values
    for i in range(6):
        np.testing.assert_allclose(by_observation[..., who == i + 1].sum(-1), conditional[..., i], rtol=1e-10)


@pytest.mark.slow
def test_an_exact_method_is_no_approximation(means):
    """FOCEI is exact here, so that all that varies is the Monte-Carlo error of the nodes."""
    assert list(means.approximation.subject.values) == list(groups().ids)
    assert means.approximation.pareto_k.max() < 0.5 and means.approximation.log_ratio_sd.max() < 0.2
    assert not [m for m in means.attrs["messages"] if "approximation" in m]


@pytest.mark.slow
def test_mixture():
    """The shares of the subpopulations given each subject's data are those of the exact densities, at the drawn parameters."""
    random = np.random.default_rng(3)
    high = np.array([0, 0, 1, 1, 0, 1, 0, 0])
    subjects = [
        nlme.Subject(id=i + 1, time=np.arange(3.0), dv=1.0 + 3.0 * h + 0.7 * random.normal() + 0.6 * random.normal(size=3))
        for i, h in enumerate(high)
    ]
    population = nlme.Population(tuple(subjects))
    priors = PRIOR | {"kind.low": dist.Uniform(0.0, 1.0)}
    with pytest.raises(nlme.ModelError, match="marginal"):
        nlme.sample(TwoKinds(), population, priors, key=1, **HELD)
    found = quietly(TwoKinds(), population, priors, key=1, random_effects="marginal", warmup=200, draws=500, chains=2, **HELD)
    mu, share = (found.posterior[name].values.ravel() for name in ("mu", "kind.low"))
    drawn = found.posterior["subpopulation"].values.reshape(-1, 8) == "high"
    for i, s in enumerate(subjects):
        cov = 0.36 * np.eye(3) + 0.5
        low_p, high_p = (
            p * np.exp([multivariate_normal.logpdf(s.dv - m - up, np.zeros(3), cov) for m in mu])
            for up, p in ((0.0, share), (3.0, 1.0 - share))
        )
        expected = np.mean(high_p / (low_p + high_p))
        assert abs(drawn[:, i].mean() - expected) < 0.05
        marginal = found.log_likelihood["marginal"].values.reshape(-1, 8)[:, i]
        np.testing.assert_allclose(marginal, np.log(low_p + high_p), rtol=1e-8)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (dict(random_effects="both"), "'joint' or 'marginal'"),
        (dict(method=nlme.FOCEI()), "needs random_effects='marginal'"),
        (dict(random_effects="marginal", method=nlme.ImportanceSampling()), "takes nlme.FOCEI"),
        (dict(random_effects="marginal", method=nlme.NaivePooled()), "takes nlme.FOCEI"),
        (dict(random_effects="marginal", ode=nlme.Tolerances(1e-5, 1e-7)), "belong to the method"),
    ],
)
def test_what_does_not_go_together_is_refused(change, seen):
    with pytest.raises(nlme.ModelError, match=seen):
        nlme.sample(Means(), groups(), PRIOR, key=0, **HELD, **change)


def test_a_poor_approximation_is_said():
    from nlme.posterior.marginal import approximation, approximation_messages

    random = np.random.default_rng(1)
    fine, heavy, loose = (
        0.05 * random.normal(size=(2, 300)),
        np.log(random.pareto(0.8, size=(2, 300))),
        random.normal(size=(2, 300)),
    )
    worth = approximation(np.stack([fine, heavy, loose], axis=-1), np.full((2, 300, 3), 40.0))
    messages = approximation_messages(nlme.FOCEI(), [7, 8, 9], worth)
    assert any("Pareto k" in m and "8 (k" in m and "7 (" not in m for m in messages)
    assert any("changes over the draws" in m and "9 (" in m and "7 (" not in m for m in messages)
    assert approximation_messages(nlme.FOCEI(), [7], {k: v[:1] for k, v in worth.items()}) == []


@pytest.mark.slow
def test_short_runs_say_so():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        nlme.sample(
            Means(), groups(), PRIOR, key=3, random_effects="marginal", warmup=25, draws=25, chains=2, progress=False, **HELD
        )
    assert any("nlme.sample" in str(w.message) for w in seen)
