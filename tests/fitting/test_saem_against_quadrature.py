"""SAEM against the optimum of adaptive Gauss-Hermite quadrature: four kinds of model, three seeds each, within 2 %."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import datasets
from nlme.models.theophylline import Theophylline


class Counts(nlme.Model):
    """Poisson counts with a random intercept."""

    level: nlme.Scalar = nlme.real(0.8)
    slope: nlme.Scalar = nlme.real(0.2)
    omega: nlme.Covariance = nlme.covariance(level=0.2)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.poisson(jnp.exp(ind.level + self.slope * t))}


class Oral(nlme.Model):
    """One compartment; the absorption has no random effect."""

    ka: nlme.Scalar = nlme.positive(1.0)
    cl: nlme.Scalar = nlme.positive(2.5)
    v: nlme.Scalar = nlme.positive(25.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.15, v=0.15)
    prop: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(ka=self.ka, cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class Decay(nlme.Model):
    """Exponential decay, log-normal errors, correlated random effects."""

    a: nlme.Scalar = nlme.positive(8.0)
    k: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(a=0.1, k=0.1, correlation={("a", "k"): 0.2})
    sd: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        return dict(a=self.a * jnp.exp(eta.a), k=self.k * jnp.exp(eta.k))

    def observe(self, ind, state, t):
        return {"y": nlme.lognormal(ind.a * jnp.exp(-ind.k * t), self.sd)}


def population(draw, times, subjects, dose=None):
    random = np.random.default_rng(8)
    made = [nlme.Subject(id=i + 1, time=times, dv=draw(random, times)) for i in range(subjects)]
    made = nlme.Population(tuple(made))
    return made if dose is None else made.with_doses(nlme.dose(dose))


def counts(random, t):
    return random.poisson(np.exp(1.0 + 0.6 * random.normal() + 0.3 * t)).astype(float)


def oral(random, t):
    ka, cl, v = 1.2, 3.0 * np.exp(0.3 * random.normal()), 30.0 * np.exp(0.25 * random.normal())
    k = cl / v
    c = 300.0 * ka / v / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t))
    return c * (1.0 + 0.12 * random.normal(size=len(t)))


def decay(random, t):
    a, k = np.exp(random.multivariate_normal(np.log([10.0, 0.6]), [[0.16, 0.08], [0.08, 0.12]]))
    return a * np.exp(-k * t + 0.2 * random.normal(size=len(t)))


CASES = {
    "theophylline": (Theophylline(), lambda: datasets.load("theophylline"), 7),
    "counts": (Counts(), lambda: population(counts, np.array([0.0, 0.5, 1.0, 1.5, 2.0]), 80), 15),
    "oral": (Oral(), lambda: population(oral, np.array([0.3, 0.8, 1.5, 3.0, 6.0, 12.0, 20.0]), 60, 300.0), 9),
    "lognormal": (Decay(), lambda: population(decay, np.array([0.2, 1.0, 2.0, 4.0]), 60), 9),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_saem_finds_the_optimum_of_quadrature(case):
    model, data, points = CASES[case]
    data = data()
    best = nlme.fit(model, data, nlme.AGQ(points=points), progress=False)
    assert best.converged, best.verdict
    expected = {row.name: row.value for row in best.parameters}
    for seed in (1, 2, 3):
        fit = nlme.fit(model, data, nlme.SAEM(seed=seed), progress=False)
        assert fit.converged, fit.verdict
        for row in fit.parameters:
            assert row.value == pytest.approx(expected[row.name], rel=0.02), (seed, row.name)
