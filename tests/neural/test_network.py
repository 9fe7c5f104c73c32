"""Networks: the value by numpy, the weights as named parameters, starts that a key repeats, the penalty, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import nlme
from nlme.neural.network import ACTIVATIONS, build
from nlme.neural.standardise import standardise
from nlme.parameters.inventory import Inventory
from nlme.typing import Named

NUMPY = {
    "tanh": np.tanh,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "swish": lambda x: x * special.expit(x),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "sigmoid": special.expit,
}


def forward(net, x):
    """The network by hand: h = activation(W h + b), no activation at the end."""
    h = (np.asarray(x) - np.array(net.center)) / np.array(net.scale)
    for k, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        h = np.array([sum(float(w[i, j]) * h[j] for j in range(len(h))) + float(b[i]) for i in range(len(b))])
        h = NUMPY[net.activation](h) if k < len(net.weights) - 1 else h
    return h


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_value(activation, depth):
    standard = dict(center=(1.0, -2.0), scale=(0.5, 3.0))
    net = build(inputs=2, outputs=3, width=4, depth=depth, key=5, activation=activation, initial_scale=1.0, **standard)
    # biases start at zero; move them, or they would not be seen
    net = jax.tree.map(lambda x: x + 0.1 * jnp.arange(x.size, dtype=float).reshape(x.shape), net)
    np.testing.assert_allclose(net(0.7, -1.1), forward(net, [0.7, -1.1]), rtol=1e-12)
    np.testing.assert_allclose(net(jnp.asarray([0.7, -1.1])), net(0.7, -1.1), rtol=1e-15)


def test_names_of_inputs_and_outputs():
    standard = dict(center={"wt": 70.0}, scale={"age": 10.0})
    net = build(inputs=("wt", "age"), outputs=("cl", "v"), width=2, depth=1, key=0, initial_scale=1.0, **standard)
    assert (net.center, net.scale) == ((70.0, 0.0), (1.0, 10.0))
    values = forward(net, [64.0, 41.0])
    for out in (
        net(64.0, 41.0),
        net(age=41.0, wt=64.0),
        net(Named({"age": 41.0, "wt": 64.0, "sex": 1.0})),
        net(Named({"age": 41.0}), Named({"wt": 64.0})),
    ):
        np.testing.assert_allclose([out.cl, out.v], values, rtol=1e-12)


def test_starts_as_no_correction_and_is_repeated_by_its_key():
    first, again, other = (build(inputs=3, outputs=2, width=5, depth=2, key=key) for key in (1, 1, 2))
    np.testing.assert_array_equal(first(0.3, -2.0, 9.0), [0.0, 0.0])
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.weights[0], other.weights[0])
    from_key = build(inputs=3, outputs=2, width=5, depth=2, key=jax.random.key(1))
    np.testing.assert_array_equal(first.weights[0], from_key.weights[0])


def test_starting_weights_are_normal_with_variance_one_over_inputs():
    net = build(inputs=50, outputs=1, width=80, depth=2, key=3)
    for w in net.weights[:2]:
        assert stats.kstest(np.ravel(w) * np.sqrt(w.shape[1]), "norm").pvalue > 0.001


class Deep(nlme.Model):
    """A network of one covariate and a random effect on the level, observed with a known error."""

    level: nlme.Scalar = nlme.real(1.0)
    net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=4, initial_scale=0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.3)
    add: nlme.Scalar = nlme.positive(0.4)
    covariates = ("x",)

    def individual(self, eta, cov):
        return dict(level=self.level * jnp.exp(0.3 * self.net(cov.x)[0] + eta.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level * jnp.exp(-0.1 * t), self.add)}


def population(n: int, effect, seed: int = 1) -> nlme.Population:
    """y = exp(effect(x) + 0.3 eta - 0.1 t) + 0.1 e."""
    random = np.random.default_rng(seed)
    subjects = []
    for i in range(n):
        x, t = random.normal(), np.array([0.5, 2.0, 5.0])
        y = np.exp(effect(x) + 0.3 * random.normal() - 0.1 * t) + 0.1 * random.normal(size=3)
        subjects.append(nlme.Subject(id=i + 1, time=t, dv=y, evid=[0] * 3, covariates={"x": [x] * 3}))
    return nlme.Population(tuple(subjects))


def test_weights_are_parameters_that_a_fit_sees():
    names = Inventory(Deep()).names
    weights = [name for name in names if name.startswith("net.")]
    assert len(weights) == Deep().net.size == 1 * 2 + 2 + 2 * 1 + 1
    assert len(names) == 3 + len(weights)
    assert Inventory(Deep(), fixed=["net"]).names == ["level", "omega.level", "add"]


def test_gradient_of_the_objective_in_the_weights():
    from nlme.language.layout import lay_out
    from nlme.marginal.objective import evaluate_subjects

    model, method = Deep(), nlme.FOCEI(inner_tolerance=1e-22)
    layout, inventory = lay_out(model, population(3, np.sin)), Inventory(model)
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((3, 1)))

    found = np.asarray(at(u).gradient).sum(0)
    for k, name in enumerate(inventory.names):
        if not name.startswith("net."):
            continue

        def slope(h, k=k):
            step = h * np.eye(len(u))[k]
            return (np.asarray(at(u + step).value).sum() - np.asarray(at(u - step).value).sum()) / (2 * h)

        np.testing.assert_allclose(found[k], (4 * slope(1e-3) - slope(2e-3)) / 3, rtol=1e-6, atol=1e-6, err_msg=name)


def test_penalty_by_hand_and_where_it_looks():
    class Two(Deep):
        other: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=3, depth=1, key=9, initial_scale=1.0)

    model = Two()

    def squares(net):
        return sum(float(np.sum(np.square(x))) for x in (*net.weights, *net.biases))

    assert float(nlme.L2(2.0)(model)) == pytest.approx(2.0 * (squares(model.net) + squares(model.other)), rel=1e-12)
    assert float(nlme.L2(0.5, on="other")(model)) == pytest.approx(0.5 * squares(model.other), rel=1e-12)
    for wrong in (
        lambda: nlme.L2(-1.0),
        lambda: nlme.L2("1"),
        lambda: nlme.L2(np.inf),
        lambda: nlme.L2(1.0, on="net2")(model),
        lambda: nlme.L2(1.0)(nlme.Model()),
    ):
        with pytest.raises(nlme.ModelError):
            wrong()


@pytest.mark.slow
def test_a_network_recovers_a_bent_covariate_effect_and_the_penalty_stays_out_of_the_objective():
    """The true effect, sin(2 x), is next to flat for a line: the network explains what the model without it calls variability."""
    data = population(60, lambda x: 0.8 * np.sin(2 * x))
    start = Deep(add=0.1)
    penalty = nlme.L2(0.02, on="net")
    plain = Deep(net=build(inputs=1, outputs=1, width=2, depth=1, key=4), add=0.1)  # its network is zero, and stays so
    without = nlme.fit(plain, data, nlme.FOCEI(), fixed=["net"], progress=False)
    deep = nlme.fit(start, data, nlme.FOCEI(), penalty=penalty, progress=False)
    assert deep.objective < without.objective - 20
    assert float(deep.model.omega.matrix[0, 0]) < 0.7 * float(without.model.omega.matrix[0, 0])
    x = np.linspace(-1.2, 1.2, 13)
    learned = np.array([0.3 * float(deep.model.net(v)[0]) for v in x])
    assert np.corrcoef(learned, np.sin(2 * x))[0, 1] > 0.9
    assert deep.penalty == pytest.approx(float(penalty(deep.model)), rel=1e-6)
    assert deep.objective == pytest.approx(nlme.evaluate(deep.model, data, nlme.FOCEI()).objective, abs=1e-6)


def test_standardise_by_hand():
    data = population(5, np.sin)
    x = [s.covariates["x"][0] for s in data]
    found = standardise(data, ["x"])
    assert found["center"]["x"] == pytest.approx(np.mean(x)) and found["scale"]["x"] == pytest.approx(np.std(x))


GOOD = dict(inputs=("wt", "age"), outputs=1, width=2, depth=1, key=0)
WRONG = {
    "an input twice": dict(inputs=("wt", "wt")),
    "no output": dict(outputs=0),
    "a word for inputs": dict(inputs="wt"),
    "width of zero": dict(width=0),
    "half a layer": dict(depth=0.5),
    "an activation with a kink": dict(activation="relu"),
    "a scale of zero": dict(scale=(1.0, 0.0)),
    "center of a stranger": dict(center={"weight": 70.0}),
    "too many centers": dict(center=(1.0, 2.0, 3.0)),
    "no key": dict(key=None),
    "a scale of text": dict(scale="a"),
    "a center of text": dict(center={"wt": "a"}),
    "two activations": dict(activation=["tanh", "gelu"]),
    "a truth value for a width": dict(width=True),
}


@pytest.mark.parametrize("slip", WRONG.values(), ids=WRONG)
def test_a_wrong_declaration_is_refused(slip):
    with pytest.raises(nlme.ModelError):
        nlme.mlp(**GOOD | slip)


CALLS = {
    "one input missing": lambda net: net(70.0),
    "an unknown name": lambda net: net(wt=70.0, ages=40.0),
    "a name missing": lambda net: net(wt=70.0),
    "a name in two places": lambda net: net(Named({"wt": 70.0, "age": 1.0}), Named({"wt": 71.0})),
    "names and numbers": lambda net: net(70.0, age=40.0),
    "a vector of another length": lambda net: net(jnp.zeros(3)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_wrong_call_is_refused(call):
    with pytest.raises(nlme.ModelError):
        call(build(**GOOD))
