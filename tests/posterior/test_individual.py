"""Posteriors of individuals at fixed parameters: exact where all is normal, the same by importance and by NUTS, and what they say."""

from __future__ import annotations

import numpy as np
import pytest
from normal_means import Means, groups

import nlme
from nlme.posterior import individual
from nlme.posterior.individual import _systematic


def exact(population):
    """Mean and standard deviation of every eta at mu = 1, omega 0.5, sd 0.6."""
    precision = np.array([len(s.dv) for s in population]) / 0.36 + 1 / 0.5
    return np.array([(s.dv - 1.0).sum() / 0.36 for s in population]) / precision, 1 / np.sqrt(precision)


@pytest.fixture(scope="module")
def found():
    return nlme.individual_posterior(Means(), groups(), draws=500, key=1)


def test_draws_are_from_the_exact_posterior(found):
    """Means within 4 Monte-Carlo standard errors, spreads within 4 of theirs."""
    mean, sd = exact(groups())
    size = 1 / (1 / 500 + 1 / found.quality.effective.to_numpy())
    np.testing.assert_array_less(np.abs(found.mean["mu"] - mean), 4 * sd / np.sqrt(size))
    np.testing.assert_array_less(np.abs(found.sd["mu"] - sd), 4 * sd / np.sqrt(2 * size))
    assert (found.quality.how == "importance").all() and found.quality.pareto_k.max() < 0.5 and not found.messages


def test_tables_are_by_subject(found):
    assert list(found.draws.columns) == ["ID", "DRAW", "mu"] and len(found.draws) == 6 * 500
    assert found.eta.shape == (6, 500, 1) and list(found.mean.index) == list(groups().ids)
    np.testing.assert_allclose(found.individual["mu"], 1.0 + found.draws["mu"], rtol=1e-12)
    assert "500 draws of the random effects of 6 subjects" in repr(found)


def test_a_subject_without_data_is_as_the_others(found):
    """Its draws are from the random effects' own distribution."""
    nobody = nlme.Population((nlme.Subject(id=9, time=[0.0], evid=[2], dv=[np.nan]),))
    alone = nlme.individual_posterior(Means(), nobody, draws=500, key=1)
    assert abs(float(alone.mean["mu"].iloc[0])) < 4 * np.sqrt(0.5 / 300)
    assert float(alone.sd["mu"].iloc[0]) == pytest.approx(np.sqrt(0.5), rel=0.15)


@pytest.mark.slow
def test_by_nuts_the_same(monkeypatch):
    """With every Pareto k called too large."""
    monkeypatch.setattr(individual, "UNRELIABLE", -10.0)
    found = nlme.individual_posterior(Means(), groups(), draws=1000, key=1)
    mean, sd = exact(groups())
    size = np.minimum(found.quality.effective.to_numpy(), 1000)
    assert (found.quality.how == "NUTS").all() and found.quality.r_hat.max() < 1.02
    np.testing.assert_array_less(np.abs(found.mean["mu"] - mean), 4 * sd / np.sqrt(size))
    np.testing.assert_array_less(np.abs(found.sd["mu"] - sd), 4 * sd / np.sqrt(size))


class Square(nlme.Model):
    """Two values of eta give the same observations: two humps, one lower by the prior."""

    c: nlme.Scalar = nlme.real(1.032)
    sd: nlme.Scalar = nlme.positive(0.1)
    omega: nlme.Covariance = nlme.covariance(b=0.622)

    def individual(self, eta, cov):
        return dict(x=(eta.b + self.c) ** 2)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.x, self.sd)}


@pytest.mark.slow
def test_two_humps_of_which_nuts_would_see_one_are_said():
    random = np.random.default_rng(2)
    people = [(random.normal() + 1) ** 2 + 0.1 * random.normal(size=3) for _ in range(20)]
    population = nlme.Population(tuple(nlme.Subject(id=i + 1, time=np.arange(3.0), dv=y) for i, y in enumerate(people)))
    found = nlme.individual_posterior(Square(), population, draws=1000, key=1)
    grid, wrong = np.linspace(-6.0, 6.0, 120001), []
    for k, y in enumerate(people):
        log = -0.5 * grid**2 / 0.622 - 0.5 * np.sum((y[:, None] - (grid + 1.032) ** 2) ** 2, axis=0) / 0.01
        w = np.exp(log - log.max()) / np.sum(np.exp(log - log.max()))
        spread = np.sqrt(w @ (grid - w @ grid) ** 2)
        if found.quality.how.iloc[k] == "NUTS" and abs(found.sd["b"].iloc[k] / spread - 1.0) > 0.15:
            wrong.append(k)
    assert wrong and (found.quality.r_hat.iloc[wrong] > 1.05).all()
    assert "NUTS did not settle" in found.messages[0]


def test_chains_begin_at_the_ends_of_the_draws():
    draws = np.array([[[0.0, 5.0], [0.1, 1.0], [0.2, 3.0], [0.1, 9.0], [0.0, 7.0]]])
    assert individual._quantiles(draws, 3)[:, 0, 1].tolist() == [1.0, 5.0, 9.0]


def test_systematic_resampling_is_even():
    weights = np.array([0.5, 0.25, 0.0, 0.25])
    for seed in range(5):
        counts = np.bincount(_systematic(weights, 8, np.random.default_rng(seed)), minlength=4)
        np.testing.assert_array_equal(counts, [4, 2, 0, 2])


def test_what_has_no_individual_posterior_is_refused():
    class AtSites(Means):
        sites: nlme.Covariance = nlme.covariance(level=0.8, per="site")

        def individual(self, eta, cov):
            return dict(mu=self.mu + eta.mu + eta.level)

    import dataclasses

    population = groups()
    located = tuple(dataclasses.replace(s, extra={"site": np.ones(len(s))}) for s in population)
    with pytest.raises(nlme.ModelError, match="share the effects of their site"):
        nlme.individual_posterior(AtSites(), nlme.Population(located), key=1)
    with pytest.raises(nlme.ModelError, match="needs its subjects"):
        nlme.individual_posterior(Means(), key=1)
    with pytest.raises(nlme.ModelError, match="draws"):
        nlme.individual_posterior(Means(), population, draws=0, key=1)


@pytest.mark.slow
def test_a_handful_of_draws_by_nuts(monkeypatch):
    """Fewer than the chains are judged by: so many are made, and some are taken."""
    monkeypatch.setattr(individual, "UNRELIABLE", -10.0)
    found = nlme.individual_posterior(Means(), groups(), draws=6, key=1)
    assert found.eta.shape == (6, 6, 1) and np.isfinite(found.eta).all() and (found.quality.how == "NUTS").all()
