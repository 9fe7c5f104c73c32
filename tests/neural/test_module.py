"""Any Equinox module as a term: its value and its weights, where it starts, its fit and file, and what is refused."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.neural.kinks import kinked
from nlme.neural.module import build
from nlme.parameters.inventory import Inventory

KEY = jax.random.key(0)
MLP = eqx.nn.MLP(2, 1, 3, 1, jnp.tanh, key=KEY)


class Squared(eqx.Module):
    """A module of one's own."""

    factor: jax.Array
    power: int = eqx.field(static=True)

    def __call__(self, x):
        return jnp.stack([jnp.sum(self.factor * x**self.power), x[0]])


class Deep(nlme.Model):
    """A module of a covariate and of the time."""

    net: nlme.Module = nlme.module(MLP, inputs=("x", "t"), center={"t": 2.0}, output="positive", init=1.5)
    omega: nlme.Covariance = nlme.covariance(level=0.1)
    add: nlme.Scalar = nlme.positive(0.2)
    covariates = ("x",)

    def individual(self, eta, cov):
        return dict(level=jnp.exp(eta.level), x=cov.x)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level * self.net(ind.x, t)[0], self.add)}


def population(n: int = 10) -> nlme.Population:
    random, t = np.random.default_rng(1), np.array([0.5, 2.0, 4.0])
    subjects = []
    for i in range(n):
        x = random.normal(70.0, 15.0)
        y = np.exp((x - 70.0) / 30.0 + 0.2 * random.normal() - 0.3 * t) + 0.1 * random.normal(size=3)
        subjects.append(nlme.Subject(id=i + 1, time=t, dv=y, evid=[0] * 3, covariates={"x": [x] * 3}))
    return nlme.Population(tuple(subjects))


def test_value_and_names_of_the_weights():
    net = build(MLP, inputs=("x", "w"), center=1.0, scale=2.0, initial_scale=1.0, output="positive", init=3.0)
    assert float(net(x=0.3, w=-1.0)[0]) == pytest.approx(3.0 * float(jnp.exp(MLP(jnp.array([-0.35, -1.0]))[0])), rel=1e-12)
    names = [name for name in Inventory(Deep()).names if name.startswith("net.")]
    assert len(names) == net.size == 13 and "net.weights.layers[0].weight[2,1]" in names
    assert Inventory(Deep(), fixed=["net"]).names == ["omega.level", "add"]


def test_it_starts_with_no_correction_where_its_last_layer_says_so():
    assert float(Deep().net(80.0, 1.0)[0]) == 1.5
    own = build(Squared(jnp.array([1.0, 2.0]), 2), inputs=2)
    np.testing.assert_allclose(own(3.0, 4.0), [41.0, 3.0])


def test_an_array_is_filled_in_order():
    picture = eqx.nn.Sequential([eqx.nn.Conv1d(2, 1, 3, key=KEY), eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(2, 1, key=KEY)])
    net, x = build(picture, shape=(2, 4), initial_scale=1.0), jnp.arange(8.0) / 8.0
    np.testing.assert_allclose(net(x), picture(x.reshape(2, 4)), rtol=1e-12)


@pytest.mark.slow
def test_a_fit_and_its_file(tmp_path):
    start, data = Deep(), population()
    fit = nlme.fit(start, data, penalty=nlme.L2(0.1), progress=False, starts=0, tolerance=1e-3)
    x = np.array([s.covariates["x"][0] for s in data])
    np.testing.assert_allclose(fit.model.net.center, (x.mean(), 2.0))
    assert fit.objective < nlme.evaluate(start, data).objective - 5.0
    fit.save(tmp_path / "fit.nlme")
    again = nlme.load(tmp_path / "fit.nlme")
    np.testing.assert_array_equal(again.model.net(64.0, 1.0), fit.model.net(64.0, 1.0))


SMOOTH = jnp.tanh, jnp.sin, jax.nn.softplus, jax.nn.gelu, jax.nn.silu, jax.nn.sigmoid, jax.nn.mish
KINKED = jax.nn.relu, jax.nn.leaky_relu, jax.nn.relu6, jax.nn.elu, jax.nn.selu, jnp.abs, jax.nn.hard_tanh


@pytest.mark.parametrize(("function", "kink"), [*((f, False) for f in SMOOTH), *((f, True) for f in KINKED)])
def test_kinks_are_seen(function, kink):
    assert kinked(eqx.nn.MLP(3, 2, 4, 2, function, key=KEY), 3) is kink


WRONG = {
    "a kink": (lambda: eqx.nn.MLP(2, 1, 3, 1, key=KEY), "has kinks .*relu"),
    "dropout": (lambda: eqx.nn.Sequential([eqx.nn.Linear(2, 1, key=KEY), eqx.nn.Dropout(0.3)]), r"layers\[1\] is Dropout"),
    "batch norm": (
        lambda: eqx.nn.Sequential([eqx.nn.Linear(2, 1, key=KEY), eqx.nn.BatchNorm(1, "batch", mode="ema")]),
        "BatchNorm",
    ),
    "a recurrent cell": (lambda: eqx.nn.GRUCell(2, 1, key=KEY), "GRUCell, which is recurrent"),
    "another recurrent cell": (lambda: eqx.nn.LSTMCell(2, 1, key=KEY), "LSTMCell, which is recurrent"),
    "another number of inputs": (lambda: eqx.nn.MLP(3, 1, 3, 1, jnp.tanh, key=KEY), "cannot be called"),
    "a matrix": (lambda: eqx.nn.Lambda(lambda x: jnp.ones((2, 2)) * x), "a number or a vector"),
    "a function": (lambda: jnp.tanh, "takes an Equinox module"),
}


@pytest.mark.parametrize(("made", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_part_of_a_likelihood_is_refused(made, said):
    with pytest.raises(nlme.ModelError, match=said):
        nlme.module(made(), inputs=("x", "w"))


def test_a_bare_module_is_refused_with_the_line_to_write():
    with pytest.raises(nlme.ModelError, match=r"Bare.net is an Equinox module.*nlme.module\(MLP"):

        class Bare(nlme.Model):
            net: eqx.nn.MLP = MLP

    class Factory(Deep):
        other: eqx.nn.MLP = eqx.field(default_factory=lambda: MLP)

    with pytest.raises(nlme.ModelError, match="Field 'other' is an Equinox module"):
        nlme.describe(Factory())
