"""SAEM with subpopulations: the optimum of quadrature, one subpopulation twice, and chains that go from mode to mode."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

import nlme
from nlme.fitting.saem import search
from nlme.fitting.saem.chains import Proposal, draws, transitions
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory

TIMES = np.array([0.5, 2.0, 5.0, 9.0])


class Bolus(nlme.Model):
    """One compartment, two kinds of clearance."""

    slow: nlme.Scalar = nlme.positive(1.5)
    fast: nlme.Scalar = nlme.positive(4.0)
    v: nlme.Scalar = nlme.positive(15.0)
    group: nlme.Mixture = nlme.mixture(slow=0.5, fast=0.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.1)
    prop: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        cl = self.group.choose(slow=self.slow, fast=self.fast)
        return dict(cl=cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def observe(self, ind, state, t):
        return {"y": nlme.proportional(100.0 / ind.v * jnp.exp(-ind.cl / ind.v * t), self.prop)}


class Plain(Bolus):
    """The same with one kind."""

    group: None = None

    def individual(self, eta, cov):
        return dict(cl=self.slow * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


class Twice(Bolus):
    """Two subpopulations that are one."""

    def individual(self, eta, cov):
        cl = self.group.choose(slow=self.slow, fast=self.slow)
        return dict(cl=cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


@pytest.fixture(scope="module")
def population():
    """60 subjects, 35 % of them slow; the two clearances are four standard deviations apart."""
    random = np.random.default_rng(4)
    subjects = []
    for i in range(60):
        cl = (1.0 if random.random() < 0.35 else 3.5) * np.exp(0.3 * random.normal())
        v = 20.0 * np.exp(0.2 * random.normal())
        y = 100.0 / v * np.exp(-cl / v * TIMES) * (1.0 + 0.15 * random.normal(size=4))
        subjects.append(nlme.Subject(id=i + 1, time=TIMES, dv=y))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_saem_finds_the_optimum_of_quadrature(population, seed):
    best = nlme.fit(Bolus(), population, nlme.AGQ(7), progress=False)
    fit = nlme.fit(Bolus(), population, nlme.SAEM(seed=seed), progress=False)
    assert best.converged and fit.converged, fit.verdict
    expected = best.table().set_index("parameter")
    for row in fit.parameters:
        truth = expected.loc[row.name]
        assert abs(row.value - truth.estimate) < max(0.02 * truth.estimate, truth.se / 20), row.name
    np.testing.assert_allclose(fit.membership.slow, best.membership.slow, atol=0.05)
    assert abs(fit.objective - best.objective) < 0.05 + 4 * fit.monte_carlo.error


@pytest.mark.slow
def test_one_subpopulation_twice_is_the_plain_model(population):
    """To rounding, iteration by iteration."""
    few = nlme.Population(tuple(population)[:12])
    method = nlme.SAEM(chains=3, exploration=(60, 60), smoothing=(60, 60), annealing=10, samples=20)
    plain = nlme.fit(Plain(), few, method, fixed=["fast"])
    twice = nlme.fit(Twice(), few, method, fixed=["fast", "group"])
    for name in ("slow", "v", "omega.cl", "prop"):
        np.testing.assert_allclose(twice.history[name], plain.history[name], rtol=1e-6)
    assert twice.objective == pytest.approx(plain.objective, abs=1e-6)


def test_what_shifts_random_effects_is_found(population):
    """Each typical clearance in its own subpopulation, the volume in both; the shares and the residual have no closed form."""
    model = Bolus()
    inventory, layout = Inventory(model), lay_out(model, population)
    parts = search.parts_of(nlme.SAEM(), layout, inventory, model)
    names = inventory.names
    assert {names[k] for k in parts.shifts} == {"slow", "fast", "v"}
    assert {names[k] for k in parts.others} == {"group.slow", "prop"}


def test_chains_go_from_mode_to_mode():
    """Two narrow peaks with 0.8 and 0.2 of the density, and proposals told 0.5: shares and places are those of the density."""
    centres, sd, shares = jnp.array([[-2.0, 0.5], [2.0, -0.5]]), 0.1, jnp.array([0.8, 0.2])

    def log_likelihood(b):  # with the prior N(0, I) of the kernels
        return logsumexp(jnp.log(shares) - 0.5 * jnp.sum((b - centres) ** 2, axis=1) / sd**2) + 0.5 * b @ b

    given = Proposal(centres + 0.02, jnp.stack([jnp.eye(2) / 0.12] * 2), jnp.log(jnp.array([0.5, 0.5])))

    @jax.jit
    def run(drawn, b):
        step = jax.vmap(lambda drawn, b: transitions(log_likelihood, drawn, b, jnp.full(2, 0.2), given)[0])
        return jax.lax.scan(lambda b, drawn: (step(drawn, b),) * 2, b, drawn)[1]

    drawn = draws(np.random.default_rng(1), (200, 200), 2)
    places = np.asarray(run(drawn, jnp.tile(centres[1], (200, 1))))[50:].reshape(-1, 2)
    left = places[:, 0] < 0
    assert left.mean() == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(places[left].mean(axis=0), centres[0], atol=0.01)
    np.testing.assert_allclose(places[left].std(axis=0), sd, rtol=0.05)
