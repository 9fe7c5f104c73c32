"""A random effect that only networks look at: its variance and their weights are one scale, so a fit holds it and says so."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.fitting.scales import drawn_apart, held_scales, scales
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Problem


class Free(nlme.Model):
    """An effect through a network, one beside it, one on both ways."""

    net: nlme.MLP = nlme.mlp(inputs=("z", "both"), outputs=1, width=2, depth=1, key=1, initial_scale=0.3)
    omega: nlme.Covariance = nlme.covariance(z=1.0, level=0.1, both=0.2)
    add: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(z=2.0 * eta.z, both=eta.both, level=jnp.exp(eta.level + eta.both))

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(c=-0.4 * jnp.exp(self.net(ind.z, ind.both)[0]) * a.c)

        return nlme.ODE(rhs, states=("c",), initial=dict(c=ind.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.c, self.add)}


class Tied(Free):
    omega: nlme.Covariance = nlme.covariance(("z", "level"), [[1.0], [0.05, 0.1]], both=0.2)


class Formula(nlme.Model):
    """No equations: quick to fit."""

    level: nlme.Scalar = nlme.positive(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("z",), outputs=1, width=2, depth=0, key=1, initial_scale=0.3)
    omega: nlme.Covariance = nlme.covariance(z=0.5)
    add: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(level=self.level * jnp.exp(self.net(eta.z)[0]))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level * jnp.exp(-0.4 * t), self.add)}


def population(n: int = 12) -> nlme.Population:
    random, t = np.random.default_rng(3), np.array([0.5, 2.0, 4.0])
    level = np.exp(0.4 * random.normal(size=n))
    return nlme.Population(
        tuple(
            nlme.Subject(id=i + 1, time=t, dv=x * np.exp(-0.4 * t) + 0.05 * random.normal(size=3), evid=[0] * 3)
            for i, x in enumerate(level)
        )
    )


def test_which_variances_are_scales_of_networks():
    model, anatomy = Free(), lay_out(Free(), population()).anatomy
    assert scales(model, anatomy) == {"omega.z": ("net",)}
    assert held_scales(model, anatomy, ()) == ("omega.z",)
    assert held_scales(model, anatomy, ("omega",)) == ()  # it is held already
    assert held_scales(model, anatomy, ("net",)) == ()  # the weights are known, and the variance is a parameter like others
    assert held_scales(model, anatomy, (), {"omega.sd.z": None}) == ()
    assert held_scales(Tied(), anatomy, ()) == ()  # a block is estimated as a whole
    assert "through net alone" in str(nlme.describe(Free()))


def test_the_objective_does_not_depend_on_that_scale():
    """The ground of it: the weight times c and the variance over c squared are the same model."""
    data, model = population(), Formula()
    weight = float(model.net.weights[0][0, 0])
    values = []
    for c in (1.0, 3.0):
        own = Formula(net=nlme.mlp(inputs=("z",), outputs=1, width=2, depth=0, key=1).default_factory(), omega={"z": 0.5 / c**2})
        own = eqx.tree_at(lambda m: m.net.weights, own, (jnp.full((1, 1), weight * c),))
        values.append(nlme.evaluate(own, data).objective)
    assert values[0] == pytest.approx(values[1], abs=1e-8)


@pytest.mark.slow
def test_a_fit_holds_it_and_says_so():
    fit = nlme.fit(Formula(), population(), progress=False, starts=0)
    assert fit.fixed == ("omega.z",) and fit.estimates["omega.z"] == pytest.approx(0.5, rel=1e-12)
    (said,) = [m for m in fit.messages if "omega.z" in m]
    assert "held at 0.5: z reaches the data through net alone" in said and "Declare it as 1" in said
    explicit = nlme.fit(Formula(), population(), fixed=["net"], progress=False, starts=0)
    assert explicit.fixed == tuple(sorted(n for n in explicit.inventory.all_names if n.startswith("net.")))


class Silent(Formula):
    """The network starts as no correction, so that nothing depends on the effect."""

    net: nlme.MLP = nlme.mlp(inputs=("z",), outputs=1, width=2, depth=1, key=1)
    omega: nlme.Covariance = nlme.covariance(z=1.0)


def test_weights_of_zero_that_no_slope_leads_away_from_are_drawn():
    model, data = Silent(), population()
    at = lay_out(model, data)
    problem = Problem(nlme.FOCEI(), at.model, at, Inventory(at.model, ("omega",)))
    slopes = dict(
        zip(problem.inventory.names, problem.evaluate(problem.start, np.zeros((12, 1))).gradient.sum(axis=0), strict=True)
    )
    assert all(abs(slopes[name]) < 1e-12 for name in slopes if name.startswith("net.weights"))  # the objective can fall, below
    apart, (said,) = drawn_apart(at.model, at.anatomy, problem.inventory)
    assert "net began with weights drawn at random" in said and "z reach the data" in said
    assert np.all(apart.net.weights[-1] != 0.0) and np.all(apart.net.weights[0] == model.net.weights[0])
    np.testing.assert_array_equal(apart.net.biases[-1], 0.0)
    again, _ = drawn_apart(at.model, at.anatomy, problem.inventory)
    np.testing.assert_array_equal(again.net.weights[-1], apart.net.weights[-1])
    assert drawn_apart(apart, at.anatomy, problem.inventory) == (apart, ())  # nothing is zero any more
    held = Inventory(at.model, ("omega", "net"))
    assert drawn_apart(at.model, at.anatomy, held) == (at.model, ())  # weights that do not move stay what they are
    moved = Problem(nlme.FOCEI(), apart, at, problem.inventory)
    assert (
        moved.evaluate(moved.start, np.zeros((12, 1))).value.sum()
        < problem.evaluate(problem.start, np.zeros((12, 1))).value.sum()
    )


@pytest.mark.slow
def test_a_fit_leaves_them_and_says_so():
    fit = nlme.fit(Silent(), population(), penalty=nlme.L2(1.0), progress=False, starts=0)
    alone = nlme.fit(Silent(), population(), nlme.NaivePooled(), progress=False, starts=0)
    assert fit.objective < alone.objective - 10.0
    assert any("net began with weights drawn at random" in m for m in fit.training)
