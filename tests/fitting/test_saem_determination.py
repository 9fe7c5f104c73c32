"""SAEM ends where the data leave parameters undetermined, and says which combination it is."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import datasets
from nlme.fitting.saem.determination import combinations, separated
from nlme.fitting.saem.search import BLOCK, HELD
from nlme.models.theophylline import Theophylline
from nlme.search.quasi_newton import UNDETERMINED

SOON = 1200  # iterations, far from the limit of 5,600


class Line(nlme.Model):
    """One parameter that reaches nothing, two that only appear as a sum, two that only do as a product."""

    level: nlme.Scalar = nlme.real(2.0)
    other: nlme.Scalar = nlme.real(0.5)
    slope: nlme.Scalar = nlme.real(-0.3)
    factor: nlme.Scalar = nlme.positive(1.0)
    idle: nlme.Scalar = nlme.positive(1.0)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.5)

    def individual(self, eta, cov):
        return dict(level=self.level + self.other + eta.level, slope=self.slope * self.factor)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Once(nlme.Model):
    level: nlme.Scalar = nlme.real(1.0)
    sd: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(level=0.5)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


class Twofold(nlme.Model):
    """Two typical values and two random effects that only appear as a product."""

    a: nlme.Scalar = nlme.positive(1.5)
    b: nlme.Scalar = nlme.positive(2.0)
    k: nlme.Scalar = nlme.positive(0.3)
    sd: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(k=0.1, a=0.1, b=0.1)

    def individual(self, eta, cov):
        return dict(a=self.a * jnp.exp(eta.a) * self.b * jnp.exp(eta.b), k=self.k * jnp.exp(eta.k))

    def observe(self, ind, state, t):
        return {"y": nlme.lognormal(ind.a * jnp.exp(-ind.k * t), self.sd)}


def population(n, times, draw):
    random, times = np.random.default_rng(1), np.array(times, float)
    return nlme.Population(tuple(nlme.Subject(id=i + 1, time=times, dv=draw(random, times)) for i in range(n)))


def line(random, t):
    return 2.0 + 0.7 * random.normal() - 0.3 * t + 0.5 * random.normal(size=len(t))


def decay(random, t):
    k = 0.3 * np.exp(0.3 * random.normal())
    return 3.0 * np.exp(0.3 * random.normal() - k * t + 0.2 * random.normal(size=len(t)))


@pytest.mark.slow
def test_an_idle_parameter_a_sum_and_a_product():
    fit = nlme.fit(Line(), population(40, [0, 1, 2, 3], line), nlme.SAEM())
    assert {frozenset(names) for names in fit.undetermined} == {
        frozenset({"idle"}), frozenset({"level", "other"}), frozenset({"slope", "factor"})
    }  # fmt: skip
    assert fit.search_status == UNDETERMINED and not fit.converged and len(fit.history) < SOON
    assert fit.verdict.startswith("Do not use as it is: The search ended where the data leave parameters undetermined.")
    assert "idle leaves no trace in the data" in fit.messages[0] and "level and other can change together" in fit.messages[0]


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [10, pytest.param(60, marks=pytest.mark.slow), pytest.param(500, marks=pytest.mark.slow)])
def test_a_variance_seen_once_in_every_subject(subjects, tmp_path):
    fit = nlme.fit(Once(), population(subjects, [1], line), nlme.SAEM())
    assert [set(names) for names in fit.undetermined] == [{"sd", "omega.level"}]
    assert len(fit.history) < SOON and not fit.converged
    # what is determined is found all the same: the sum of the variances is that of the data
    y = np.array([s.dv[0] for s in fit.population])
    assert fit.model.sd**2 + fit.model.omega.matrix[0, 0] == pytest.approx(np.var(y), rel=0.03)
    fit.save(tmp_path / "fit.nlme")
    assert nlme.load(tmp_path / "fit.nlme", Once).undetermined == fit.undetermined


@pytest.mark.slow
def test_typical_values_and_variances_of_a_product():
    fit = nlme.fit(Twofold(), population(30, [0, 1, 2, 4], decay), nlme.SAEM())
    assert {frozenset(names) for names in fit.undetermined} == {frozenset({"a", "b"}), frozenset({"omega.a", "omega.b"})}
    assert len(fit.history) < SOON


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [12, 300])
def test_what_is_hardly_determined_is_not_called_undetermined(subjects):
    """Two observations of each subject, with more residual than random variance: most of the information is missing."""

    def twice(random, t):
        return 2.0 + 0.4 * random.normal() + 0.6 * random.normal(size=len(t))

    fit = nlme.fit(Once(), population(subjects, [1, 2], twice), nlme.SAEM(seed=2))
    assert fit.undetermined == () and fit.converged


@pytest.mark.slow
def test_flip_flop_is_determined():
    """Two optima of one height at most: each of them is one."""
    fit = nlme.fit(Theophylline(ka=0.09, cl=2.7, v=2.0), datasets.load("theophylline"), nlme.SAEM(exploration=(100, 100)))
    assert fit.undetermined == ()


def test_combinations_are_separated():
    """Three directions mixed at random come back with the parameters that each of them has."""
    own = np.array([[1.0, -1.0, 0, 0, 0], [0, 0, 1.0, 0.5, 0], [0, 0, 0, 0, 1.0]])
    mixed = np.random.default_rng(2).normal(size=(3, 3)) @ own
    found = combinations(separated(mixed), list("abcde"))
    assert {frozenset(names) for names in found} == {frozenset("ab"), frozenset("cd"), frozenset("e")}
    assert not HELD % BLOCK
