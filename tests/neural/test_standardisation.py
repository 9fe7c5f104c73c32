"""Standardisation from the data: which inputs, by which numbers, written once; a shifted or scaled covariate changes nothing."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.language.standardisation import far_inputs
from nlme.neural import network, splines


def population(n: int = 14, seed: int = 1, change=lambda x: x) -> nlme.Population:
    random = np.random.default_rng(seed)
    t = np.array([0.5, 2.0, 4.0])
    subjects = []
    for i in range(n):
        x, size = random.normal(), random.uniform(1.0, 3.0)
        y = (1.5 + np.tanh(x)) * np.exp(0.2 * random.normal() - 0.4 * t) + 0.1 * random.normal(size=3)
        given = {"x": [float(change(x))] * 3, "size": [size] * 3, "later": [0.0, size, size], "all": [3.0] * 3}
        subjects.append(nlme.Subject(id=i + 1, time=t, dv=y, evid=[0] * 3, covariates=given))
    return nlme.Population(tuple(subjects))


class Effect(nlme.Model):
    """A network of a covariate on the level."""

    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=2, depth=1, key=1, output="positive", init=1.5)
    omega: nlme.Covariance = nlme.covariance(level=0.1)
    add: nlme.Scalar = nlme.positive(0.2)
    covariates = ("x", "size", "later", "all")

    def individual(self, eta, cov):
        return dict(level=self.net(cov)[0] * jnp.exp(eta.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level * jnp.exp(-0.4 * t), self.add)}


def values(data, name):
    return np.array([s.covariates[name][0] for s in data])


class Mixed(Effect):
    """Inputs of every origin, two calls, one of them with a constant."""

    net: nlme.MLP = nlme.mlp(
        inputs=("log_size", "x", "power", "z", "c", "t"), outputs=1, width=2, depth=1, key=1, center={"x": 7.0}, initial_scale=1.0
    )
    power: nlme.Scalar = nlme.real(0.5)
    omega: nlme.Covariance = nlme.covariance(z=1.0, level=0.1)

    def individual(self, eta, cov):
        return dict(size=cov.size, x=cov.x, z=eta.z, level=jnp.exp(eta.level), power=cov.size**self.power)

    def dynamics(self, ind):
        def rhs(t, a):
            there = self.net(jnp.log(ind.size), ind.x, ind.power, ind.z, a.c, t)[0]
            return dict(c=-(there - self.net(jnp.log(2.0), 0.0, 1.0, 0.0, 1.0, 0.0)[0]) * a.c)

        return nlme.ODE(rhs, states=("c",), initial=dict(c=ind.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.c, self.add)}


def test_inputs_made_of_covariates_alone_are_standardised_by_what_is_asked():
    data = population()
    net = lay_out(Mixed(), data).model.net
    size = np.log(values(data, "size"))
    np.testing.assert_allclose((net.center[0], net.scale[0]), (size.mean(), size.std()), rtol=1e-14)
    assert (net.center[1], net.scale[1]) == (7.0, 1.0)  # as declared
    assert set(zip(net.center[2:], net.scale[2:], strict=True)) == {(0.0, 1.0)}  # a parameter, an effect, a state and the time


def test_a_vector_is_looked_at_number_by_number():
    class Together(Effect):
        net: nlme.MLP = nlme.mlp(inputs=4, outputs=1, width=2, depth=1, key=1)
        omega: nlme.Covariance = nlme.covariance(z=1.0)
        a: nlme.Scalar = nlme.positive(2.0)

        def individual(self, eta, cov):
            return dict(level=jnp.exp(self.net(jnp.stack([cov.x, eta.z, jnp.log(cov.size), cov.size * self.a]))[0]))

    data = population()
    net = lay_out(Together(), data).model.net
    np.testing.assert_allclose(net.center, (values(data, "x").mean(), 0.0, np.log(values(data, "size")).mean(), 0.0))


def test_inputs_that_nothing_standardises_are_named():
    class Scaled(Effect):
        a: nlme.Scalar = nlme.real(40.0)

        def individual(self, eta, cov):
            return dict(level=self.net(x=cov.size * self.a)[0] * jnp.exp(eta.level))

    data = population()
    layout, size = lay_out(Scaled(), data), 40.0 * values(data, "size")
    assert far_inputs(layout.model, layout.anatomy, data) == {"net, x": pytest.approx((size.mean(), size.std()))}
    plain = lay_out(Effect(), data)
    assert far_inputs(plain.model, plain.anatomy, data) == {}


def test_knots_stand_at_quantiles():
    data = population()
    model = lay_out(Effect(net=splines.build(inputs=("x",), outputs=1, knots=5, init=1.0)), data).model
    np.testing.assert_allclose(model.net.knots[0], np.quantile(values(data, "x"), [0.05, 0.275, 0.5, 0.725, 0.95]))
    binary = population(change=lambda x: x > 0)
    model = lay_out(Effect(net=splines.build(inputs=("x",), outputs=1, knots=3, init=1.0)), binary).model
    np.testing.assert_allclose(model.net.knots[0], [0.0, 0.5, 1.0])


@pytest.mark.slow
def test_what_is_written_stays():
    first, other = population(), population(seed=2)
    model = lay_out(Effect(), first).model
    assert lay_out(model, other).model is model
    assert f"x {values(first, 'x').mean():.4g}" in repr(model.net) and "±" not in repr(Effect().net)
    assert nlme.evaluate(Effect(), other).model.net.center != model.net.center
    started = nlme.evaluate(model, first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = Effect.from_fit(started)
    assert taken.net.center == model.net.center


def test_where_first_records_are_alike_all_records_count():
    class Later(Effect):
        def individual(self, eta, cov):
            return dict(level=self.net(cov.later)[0] * jnp.exp(eta.level))

    data = population()
    every = np.concatenate([s.covariates["later"] for s in data])
    net = lay_out(Later(), data).model.net
    np.testing.assert_allclose((net.center[0], net.scale[0]), (every.mean(), every.std()))


def test_a_constant_input_is_refused():
    class Constant(Effect):
        def individual(self, eta, cov):
            return dict(level=self.net(cov.all)[0] * jnp.exp(eta.level))

    with pytest.raises(nlme.ModelError, match="Constant.net: its input 'x' is 3 in every record"):
        nlme.evaluate(Constant(), population())
    explicit = network.build(inputs=("x",), outputs=1, width=2, depth=1, key=0, center=1.0, init=1.0)
    nlme.evaluate(Constant(net=explicit), population())


def test_a_prediction_does_not_choose_the_numbers():
    data = population()
    free = Effect(net=network.build(inputs=("x",), outputs=1, width=2, depth=1, key=1, initial_scale=1.0))
    with pytest.raises(nlme.ModelError, match="Effect.net has weights, and nothing says how its inputs x are standardised"):
        nlme.predict(free, data)
    nlme.predict(Effect(), data)  # a network that corrects nothing
    written = nlme.evaluate(free, data).model
    few = population().filter(lambda s: s.id in (1, 2))
    whole, part = nlme.predict(written, data), nlme.predict(written, few)
    np.testing.assert_array_equal(whole.y[:6], part.y)


CHANGES = {"shifted": lambda x: x + 1e3, "small": lambda x: 1e-3 * x, "both": lambda x: 1e3 + 1e-3 * x}


EVERY = [(c, t) for c in CHANGES for t in ("mlp", "splines", "radial", "kan")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "term"), [pair if pair == ("both", "splines") else pytest.param(*pair, marks=pytest.mark.slow) for pair in EVERY]
)
def test_a_shifted_or_scaled_input_gives_the_same_fit(change, term):
    options = dict(inputs=("x",), outputs=1, output="positive", init=1.5)
    net = {
        "mlp": lambda: network.build(**options, width=2, depth=1, key=1),
        "splines": lambda: splines.build(**options, knots=4),
        "radial": lambda: nlme.radial(**options, units=4).default_factory(),
        "kan": lambda: nlme.kan(**options, width=1, key=0).default_factory(),
    }[term]()
    how = dict(penalty=nlme.L2(0.1), progress=False, starts=0, tolerance=1e-10)
    fits = [
        nlme.fit(Effect(net=net), population(), **how),
        nlme.fit(Effect(net=net), population(change=CHANGES[change]), **how),
    ]
    assert fits[0].objective == pytest.approx(fits[1].objective, abs=1e-6)
    predicted = [fit.predictions[["PRED", "IPRED"]].to_numpy() for fit in fits]
    np.testing.assert_allclose(*predicted, rtol=1e-6, atol=1e-6)
