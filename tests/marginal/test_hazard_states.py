"""Nodes where a cumulative hazard is a state: its curvature is all the curvature that the density has.

Repeated events with a frailty, h = lam exp(eta): the integral over eta by SciPy, with the hazard as a formula and as a state.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory

END, LAM, VARIANCE = 30.0, 0.1, 0.6


class Formula(nlme.Model):
    """H written down."""

    lam: nlme.Scalar = nlme.positive(LAM)
    omega: nlme.Covariance = nlme.covariance(f=VARIANCE)

    def individual(self, eta, cov):
        return dict(h=self.lam * jnp.exp(eta.f))

    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.h, ind.h * t, repeated=True)}


class State(Formula):
    """H as a state."""

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(H=ind.h), states=("H",))

    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.h, state.H, repeated=True)}


@pytest.fixture(scope="module")
def people():
    random, made = np.random.default_rng(2), []
    for i in range(12):
        rate, times, t = LAM * np.exp(np.sqrt(VARIANCE) * random.normal()), [], 0.0
        while (t := t + random.exponential() / rate) < END:
            times.append(t)
        dv = [np.nan] + [1.0] * len(times) + [0.0]
        made.append(nlme.Subject(id=i + 1, time=[0.0, *times, END], dv=dv, evid=[2] + [0] * (len(times) + 1)))
    return nlme.Population(tuple(made))


def exact(people) -> float:
    """-2 log L, of n events until the end: int (lam e^f)^n exp(-lam e^f END) phi(f) df."""
    total = 0.0
    for subject in people:
        n = int(np.nansum(subject.dv))

        def density(f, n=n):
            rate = LAM * np.exp(f)
            return rate**n * np.exp(-rate * END - 0.5 * f * f / VARIANCE) / np.sqrt(2 * np.pi * VARIANCE)

        total -= 2.0 * np.log(quad(density, -12.0, 8.0, epsabs=0.0, epsrel=1e-11, limit=400)[0])
    return total


def test_quadrature_is_the_integral(people):
    value = exact(people)
    for points, within in ((5, 0.01), (21, 1e-6)):
        assert nlme.evaluate(State(), people, nlme.AGQ(points)).objective == pytest.approx(value, abs=within)


def test_it_does_not_depend_on_how_the_hazard_is_written(people):
    """One node is Laplace's method; and nobody has more curvature than the other."""
    laplace, one, formula = (
        nlme.evaluate(model, people, method).objective
        for model, method in ((State(), nlme.Laplace()), (State(), nlme.AGQ(1)), (Formula(), nlme.AGQ(1)))
    )
    assert one == pytest.approx(laplace, abs=1e-6) and one == pytest.approx(formula, abs=1e-6)


@pytest.mark.parametrize(
    "method",
    [*(pytest.param(m, marks=pytest.mark.slow) for m in (nlme.AGQ(1), nlme.ImportanceSampling(50))), nlme.AGQ(4)],
    ids=repr,
)
def test_gradient(people, method):
    layout = lay_out(State(), people[:4])
    inventory = Inventory(layout.model)
    u = np.asarray(inventory.unconstrained(layout.model))

    def at(u):
        start = jnp.zeros((4, 1))
        return evaluate_subjects(method, layout.anatomy, inventory, layout.model, layout.arrays, jnp.asarray(u), start)

    found = np.asarray(at(u).gradient)
    for k, step in enumerate(1e-4 * np.eye(len(u))):
        by_hand = (np.asarray(at(u + step).value) - np.asarray(at(u - step).value)) / 2e-4
        np.testing.assert_allclose(found[:, k], by_hand, rtol=1e-5, atol=1e-5)
