"""Conditional means and standard deviations: exact where all is Gaussian, by numerical integration where one effect is not."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

import nlme

TIMES = np.array([0.0, 0.5, 2.0])


class Line(nlme.Model):
    """y = level + slope t + error, both normal and correlated."""

    level: nlme.Scalar = nlme.real(2.0)
    slope: nlme.Scalar = nlme.real(-0.5)
    sd: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(level=0.6, slope=0.2, correlation={("level", "slope"): 0.4})

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope, both=self.level + eta.level + 2.0 * eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Decay(nlme.Model):
    k: nlme.Scalar = nlme.positive(0.6)
    omega: nlme.Covariance = nlme.covariance(k=0.5)
    sd: nlme.Scalar = nlme.positive(1.5)

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(10.0 * jnp.exp(-ind.k * t), self.sd)}


class Two(nlme.Model):
    """Two kinds of people near each other, so that membership is in doubt."""

    slow: nlme.Scalar = nlme.real(1.0)
    fast: nlme.Scalar = nlme.real(3.0)
    group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)
    omega: nlme.Covariance = nlme.covariance(mean=0.5)
    sd: nlme.Scalar = nlme.positive(1.2)

    def individual(self, eta, cov):
        return dict(mean=self.group.choose(slow=self.slow, fast=self.fast) + eta.mean)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.mean, self.sd)}


def population(values):
    return nlme.Population(tuple(nlme.Subject(id=i + 1, time=TIMES, dv=dv) for i, dv in enumerate(values)))


LINES = 2.0 - 0.5 * TIMES + np.random.default_rng(1).normal(size=(6, 3))
DECAYS = 10.0 * np.exp(-np.array([[0.2], [0.6], [2.5], [6.0]]) * TIMES) + np.random.default_rng(2).normal(size=(4, 3))
MIXED = np.array([[1.0, 0.5, 1.6], [2.2, 1.5, 2.6], [3.0, 3.9, 2.4]])
METHODS = [nlme.AGQ(5), nlme.ImportanceSampling(2000)]


def agree(given, name: str, expected, sds):
    """Exactly by quadrature, within five Monte-Carlo errors of the mean by importance sampling."""
    mean, sd, error = (getattr(given, f"{table}") for table in (name, f"{name}_sd", f"{name}_error"))
    allowed = 1e-6 if isinstance(given.method, nlme.AGQ) else 5 * error
    assert np.all(np.abs(mean - expected) < allowed)
    assert np.all(np.abs(sd - sds) < allowed)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_exact_where_all_is_gaussian(method):
    model = Line()
    given = nlme.evaluate(model, population(LINES)).conditional(method)
    z = np.stack([np.ones(3), TIMES], axis=1)
    omega = np.asarray(model.omega.matrix)
    spread = np.linalg.inv(np.linalg.inv(omega) + z.T @ z / float(model.sd) ** 2)
    means = (LINES - (2.0 - 0.5 * TIMES)) @ z @ spread / float(model.sd) ** 2
    agree(given, "eta", means, np.sqrt(np.diag(spread)))
    both = np.array([1.0, 2.0])
    individual = np.column_stack([2.0 + means @ both, 2.0 + means[:, 0], -0.5 + means[:, 1]])
    agree(given, "individual", individual, np.sqrt([both @ spread @ both, spread[0, 0], spread[1, 1]]))
    assert list(given.individual.columns) == ["both", "level", "slope"] and given.messages == []


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.AGQ(40), nlme.ImportanceSampling(4000)], ids=repr)
def test_one_effect_against_numerical_integration(method):
    model = Decay()
    fit = nlme.evaluate(model, population(DECAYS), nlme.Laplace())
    given = fit.conditional(method)
    x = np.linspace(-7.0, 7.0, 200_001) * np.sqrt(0.5)
    k = 0.6 * np.exp(x)
    for i, y in enumerate(DECAYS):
        of_data = norm.logpdf(y[:, None], 10.0 * np.exp(-k * TIMES[:, None]), 1.5).sum(axis=0)
        density = np.exp(norm.logpdf(x, scale=np.sqrt(0.5)) + of_data)
        density /= density.sum()
        for table, values in (("eta", x), ("individual", k)):
            mean = (density * values).sum()
            sd = np.sqrt((density * (values - mean) ** 2).sum())
            error = getattr(given, f"{table}_error").iloc[i, 0]
            allowed = 5 * error if isinstance(method, nlme.ImportanceSampling) else 1e-4 * sd
            assert abs(getattr(given, table).iloc[i, 0] - mean) < allowed, (table, i)
            assert abs(getattr(given, f"{table}_sd").iloc[i, 0] - sd) < 2 * allowed, (table, i)
    # a skewed density: the mean is not the mode
    assert np.abs(given.eta.k - fit.eta.k).max() > 0.04


@pytest.mark.slow
@pytest.mark.parametrize("method", [METHODS[0], *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[1:])], ids=repr)
def test_membership_in_doubt(method):
    """A mean over both subpopulations, and a standard deviation that holds the doubt."""
    model = Two()
    given = nlme.evaluate(model, population(MIXED), nlme.Laplace()).conditional(method)
    covariance = 0.5 + np.diag(np.full(3, 1.2**2))
    logs = np.stack([multivariate_normal(np.full(3, m), covariance).logpdf(MIXED) for m in (1.0, 3.0)], axis=1)
    logs += np.log([0.3, 0.7])
    p = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
    assert (p.min(axis=1) > 0.01).all()
    spread = 1.0 / (1.0 / 0.5 + 3 / 1.2**2)
    etas = (MIXED.sum(axis=1)[:, None] - 3 * np.array([1.0, 3.0])) / 1.2**2 * spread
    for name, values in (("eta", etas), ("individual", etas + np.array([1.0, 3.0]))):
        mean = np.sum(p * values, axis=1)
        sd = np.sqrt(spread + np.sum(p * values**2, axis=1) - mean**2)
        agree(given, name, mean[:, None], sd[:, None])


@pytest.mark.slow
def test_rows_are_those_of_the_modes():
    """Per subject and occasion; what says nothing of an occasion leaves its effect's own distribution."""

    class Visits(Line):
        visit: nlme.Covariance = nlme.covariance(extra=0.3, per="occasion")

        def individual(self, eta, cov):
            return dict(level=self.level + eta.level + eta.extra, slope=self.slope + eta.slope)

    subjects = [
        nlme.Subject(id="a", time=TIMES, dv=LINES[0], occasion=np.array([1, 1, 2]), evid=np.zeros(3)),
        nlme.Subject(id="b", time=TIMES, dv=LINES[1], occasion=np.array([1, 1, 1]), evid=np.zeros(3)),
    ]
    fit = nlme.evaluate(Visits(), nlme.Population(tuple(subjects)))
    given = fit.conditional(nlme.AGQ(3))
    assert given.individual.index.equals(fit.individual.index) and list(given.individual) == list(fit.individual)
    assert given.eta.loc["b", "extra[2]"] == pytest.approx(0.0, abs=1e-9)
    assert given.eta_sd.loc["b", "extra[2]"] == pytest.approx(np.sqrt(0.3))
    np.testing.assert_allclose(given.individual, fit.individual, atol=1e-6)  # Gaussian: the mean is the mode


@pytest.mark.slow
def test_few_draws_are_said():
    at = nlme.evaluate(Decay(), population(DECAYS), nlme.Laplace())
    given = at.conditional(nlme.ImportanceSampling(60))
    assert (given.draws.effective < 60).all() and "Fewer than 100 draws count for 4 subjects" in given.messages[-1]
    assert "effectively at least" in repr(given)


def test_refusals():
    data = population(LINES)
    with pytest.raises(nlme.ModelError, match="nodes of nlme.ImportanceSampling"):
        nlme.evaluate(Line(), data).conditional(nlme.FOCEI())
    with pytest.raises(nlme.ModelError, match="typical subject"):
        nlme.evaluate(Line(), data, nlme.NaivePooled()).conditional()

    class Same(Line):
        def random(self):
            return None

        def individual(self, eta, cov):
            return dict(level=self.level, slope=self.slope)

    with pytest.raises(nlme.ModelError, match="no random effects"):
        nlme.evaluate(Same(), data).conditional()
