"""Models that are linear in the random effects, with additive error: the marginal is known, and every method must give it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import nlme

TIGHT = nlme.Tolerances(relative=1e-12, absolute=1e-14, solver="explicit")
METHODS = [nlme.FO, nlme.FOCE, nlme.FOCEI, nlme.Laplace]


class Lines(nlme.Model):
    """Straight lines, a covariate in the design, three correlated effects."""

    level: nlme.Scalar = nlme.real(3.0)
    slope: nlme.Scalar = nlme.real(-0.4)
    weight: nlme.Scalar = nlme.real(0.05)
    sd: nlme.Scalar = nlme.positive(0.7)
    omega: nlme.Covariance = nlme.covariance(
        ("level", "slope", "weight"), [[1.2], [-0.3, 0.4], [0.02, 0.01, 0.005]], label="random effects"
    )
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level + (self.weight + eta.weight) * (cov.wt - 70), slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


class Doses(nlme.Model):
    """Bioavailability and baseline vary additively, so that a dynamic model is linear in its random effects."""

    f: nlme.Scalar = nlme.positive(0.8)
    base: nlme.Scalar = nlme.real(1.5)
    k: nlme.Scalar = nlme.positive(0.3)
    sd: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(f=0.05, base=0.3, correlation={("f", "base"): -0.6})

    def individual(self, eta, cov):
        return dict(f=self.f + eta.f, base=self.base + eta.base, k=self.k + jnp.zeros(()))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=jnp.asarray(1.0), bioavailability=ind.f)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central + ind.base, self.sd)}


class DosesODE(Doses):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.k * a.central}, ("central",), bioavailability=ind.f)


def subjects(seed: int, dose: bool):
    """Six subjects with 1 to 6 observations each."""
    random = np.random.default_rng(seed)
    out = []
    for i in range(6):
        t = np.sort(random.uniform(0.1, 8.0, size=i + 1))
        y = 3.0 + random.normal(size=i + 1)
        first = dict(evid=[1], amt=[5.0], dv=[np.nan], time=[0.0]) if dose else dict(evid=[], amt=[], dv=[], time=[])
        columns = {k: np.r_[first[k], v] for k, v in dict(evid=0 * t, amt=0 * t, dv=y, time=t).items()}
        out.append(nlme.Subject(id=i + 1, covariates={"wt": 60.0 + 5 * i}, **columns))
    return nlme.Population(tuple(out))


def exact(model, population) -> np.ndarray:
    """-2 log density of every subject without the constant, from the multivariate normal."""
    omega, values = np.asarray(model.omega.matrix), []
    for s in population:
        t, y = s.time[s.is_observation], s.dv[s.is_observation]
        if isinstance(model, Lines):
            w = s.covariates["wt"][0] - 70
            design = np.stack([np.ones_like(t), t, w * np.ones_like(t)], axis=1)
            mean = design @ np.array([model.level, model.slope, model.weight])
        else:
            design = np.stack([5.0 * np.exp(-float(model.k) * t), np.ones_like(t)], axis=1)
            mean = design @ np.array([model.f, model.base])
        marginal = multivariate_normal(mean, design @ omega @ design.T + float(model.sd) ** 2 * np.eye(len(t)))
        values.append(-2 * marginal.logpdf(y) - len(t) * np.log(2 * np.pi))
    return np.array(values)


CASES = [
    pytest.param(form, method, id=f"{form.__name__}-{method.__name__}", marks=[pytest.mark.slow] * slow)
    for form in (Lines, Doses, DosesODE)
    for method in METHODS
    for slow in [form is DosesODE or method.__name__ != "FOCEI"]
]


@pytest.mark.parametrize(("form", "method"), CASES)
def test_every_method_is_exact(form, method):
    model, population = form(), subjects(1, dose=form is not Lines)
    found = nlme.evaluate(model, population, method(ode=TIGHT))
    np.testing.assert_allclose(found.subjects.objective, exact(model, population), rtol=1e-8, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Lines, Doses], ids=lambda f: f.__name__)
def test_modes_are_best_linear_predictions(form):
    """The mode is the conditional expectation Omega Z' V^-1 (y - X beta)."""
    model, population = form(), subjects(2, dose=form is not Lines)
    found, omega = nlme.evaluate(model, population, nlme.FOCEI()), np.asarray(model.omega.matrix)
    for k, s in enumerate(population):
        t, y = s.time[s.is_observation], s.dv[s.is_observation]
        if form is Lines:
            z = np.stack([np.ones_like(t), t, (s.covariates["wt"][0] - 70) * np.ones_like(t)], axis=1)
            beta = np.array([model.level, model.slope, model.weight])
        else:
            z = np.stack([5.0 * np.exp(-0.3 * t), np.ones_like(t)], axis=1)
            beta = np.array([model.f, model.base])
        expected = omega @ z.T @ np.linalg.solve(z @ omega @ z.T + float(model.sd) ** 2 * np.eye(len(t)), y - z @ beta)
        np.testing.assert_allclose(found.eta.iloc[k], expected, rtol=1e-7, atol=1e-9)
