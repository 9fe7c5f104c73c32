"""Every learned term crossed with every law: values by other means, starts, shapes, smoothness, gradients in a model, fits,
files."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import CubicSpline

import nlme
from nlme.language.asked import _Recorder
from nlme.language.layout import lay_out
from nlme.marginal.objective import evaluate_subjects
from nlme.neural import kan, network, radial, splines
from nlme.parameters.inventory import Inventory
from nlme.typing import Named

BOTH = dict(inputs=("x", "w"), outputs=2, center={"w": 1.0}, scale={"x": 2.0})
TERMS = {
    "mlp": functools.partial(network.build, width=3, depth=2, key=1),
    "splines": splines.build,
    "radial": functools.partial(radial.build, units=6),
    "kan": functools.partial(kan.build, width=2, key=2),
}
SMALL = {
    "mlp": functools.partial(network.build, width=2, depth=1, key=1),
    "splines": functools.partial(splines.build, knots=3),
    "radial": functools.partial(radial.build, units=2),
    "kan": functools.partial(kan.build, width=1, knots=3, key=2),
}
SHAPES = {
    "real": dict(init=0.3),
    "positive": dict(output="positive", init=(5.0, 0.2)),
    "bounded": dict(output=(-1.0, 3.0), init=2.0),
    "increasing": dict(monotone={"x": "increasing"}),
    "decreasing": dict(output="positive", init=2.0, monotone="decreasing"),
    "vanishing": dict(output="positive", init=2.0, vanishing="x"),
    "risen": dict(output="positive", init=2.0, monotone={"x": "increasing"}, vanishing="x"),
    "without constant": dict(init=0.3, constant=False),
    "rising without constant": dict(output="positive", init=2.0, monotone="increasing", constant=False),
}
CASES = [
    (term, shape) for term, shape in itertools.product(TERMS, SHAPES) if not (term == "radial" and "monotone" in SHAPES[shape])
]
one_quick = pytest.mark.parametrize("term", [t if t == "splines" else pytest.param(t, marks=pytest.mark.slow) for t in TERMS])
every_case = pytest.mark.parametrize(("term", "shape"), CASES)


def moved(net, seed: int = 0, size: float = 0.5):
    """The term with other weights."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + size * random.normal(size=x.shape), net)


def _with_constant(net):
    """The biases of a term without constant and one that it might have had."""
    one = 0.4 * jnp.ones(2)
    return (*net.biases, one) if isinstance(net.biases, tuple) else one


def made(term: str, shape: str):
    return TERMS[term](**BOTH, **SHAPES[shape])


@every_case
def test_it_starts_where_it_is_told_to(term, shape):
    net, init = made(term, shape), np.broadcast_to(SHAPES[shape].get("init", 0.0), 2)
    near = 0.05 if net.output.is_monotone else 1e-14  # what rises cannot begin flat
    factor = {"vanishing": 0.7, "risen": 0.0}.get(shape, 1.0)
    np.testing.assert_allclose(net(0.7, -0.4), factor * init, atol=near * max(1.0, init.max()))
    if net.output.is_monotone:
        assert not np.allclose(net(0.7, -0.4), net(1.7, -0.4), atol=0)
    zero = jax.tree.map(jnp.zeros_like, net)  # weights of zero are no correction, whatever the shape
    np.testing.assert_allclose(zero(0.7, -0.4), factor * init, rtol=1e-14)
    assert net.corrects == net.output.is_monotone


@every_case
def test_its_outputs_keep_their_shape(term, shape):
    net = moved(made(term, shape), 1, 1.0)
    at = jnp.asarray(np.random.default_rng(2).normal(0.0, 3.0, (200, 2)))
    out, slopes = (np.asarray(x) for x in (jax.vmap(net.outputs_at)(at), jax.vmap(jax.jacfwd(net.outputs_at))(at)))
    assert np.ptp(out) > 0.1
    if shape == "bounded":
        assert np.all((out >= -1.0) & (out <= 3.0))
    if shape in ("positive", "decreasing"):
        assert np.all(out > 0)
    if shape == "increasing":
        assert np.all(slopes[:, :, 0] > -1e-12) and slopes[:, :, 1].min() < -1e-4 < 1e-4 < slopes[:, :, 1].max()
    if shape == "decreasing":
        assert np.all(slopes < 1e-12)
    if not net.output.constant:  # at the center of both inputs, whatever its weights are
        np.testing.assert_allclose(net(0.0, 1.0), np.broadcast_to(SHAPES[shape]["init"], 2), rtol=1e-14)
        plain = dataclasses.replace(net, output=dataclasses.replace(net.output, constant=True), biases=_with_constant(net))
        scale = np.log if shape.startswith("rising") else np.asarray
        apart = scale(np.asarray(jax.vmap(plain.outputs_at)(at))) - scale(np.asarray(plain(0.0, 1.0)))
        np.testing.assert_allclose(scale(out) - scale(np.array(SHAPES[shape]["init"])), apart, rtol=1e-9, atol=1e-12)
    if shape == "vanishing":
        np.testing.assert_array_equal(net(0.0, 3.0), [0.0, 0.0])
        assert np.all(out * np.asarray(at)[:, :1] > 0)
    if shape == "risen":
        np.testing.assert_array_equal(net(0.0, 3.0), [0.0, 0.0])
        assert np.all(slopes[:, :, 0] > -1e-12) and np.all(out * np.asarray(at)[:, :1] >= 0)


def test_what_has_risen_may_level_off():
    """Hill's equation is within reach: the slope falls to nothing far from zero."""
    net = moved(
        network.build(
            inputs=1, outputs=1, width=3, depth=1, key=1, **{**SHAPES["risen"], "monotone": "increasing", "vanishing": True}
        )
    )
    x = jnp.linspace(0.0, 40.0, 81)
    y = np.asarray(jax.vmap(net.outputs_at)(x[:, None]))[:, 0]
    assert y[0] == 0.0 and np.all(np.diff(y) >= 0) and y[-1] - y[-2] < 0.1 * (y[1] - y[0])


@pytest.mark.slow
@pytest.mark.parametrize("term", TERMS)
def test_two_derivatives_are_continuous(term):
    """Central differences of values and of slopes agree with the derivatives, at random places and at every knot."""
    net = moved(made(term, "real"), 3)
    knots = [-4.0, -2.0, 0.0, 2.0, 4.0]  # those of x, whose scale is 2
    at = jnp.asarray(np.r_[np.random.default_rng(4).normal(size=(20, 2)), np.c_[knots, np.full(5, 0.3)]])
    value, slope = net.outputs_at, jax.jacfwd(net.outputs_at)
    for k, step in enumerate(1e-5 * np.eye(2)):
        for f in (value, slope):
            found = jax.vmap(jax.jacfwd(f))(at)[..., k]
            by_hand = (jax.vmap(f)(at + step) - jax.vmap(f)(at - step)) / 2e-5
            np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("term", TERMS)
def test_inputs_by_order_and_by_name(term):
    net = moved(TERMS[term](inputs=("x", "w"), outputs=("cl", "v")), 5)
    cl, v = net.outputs_at(jnp.asarray([0.3, -1.2]))
    for out in (net(0.3, -1.2), net(w=-1.2, x=0.3), net(Named({"w": -1.2, "x": 0.3, "z": 9.0})), net(jnp.asarray([0.3, -1.2]))):
        np.testing.assert_array_equal([out.cl, out.v], [cl, v])
    for wrong in (lambda: net(0.3), lambda: net(x=0.3), lambda: net(x=0.3, w=1.0, z=2.0)):
        with pytest.raises(nlme.ModelError):
            wrong()


def test_natural_splines_by_scipy():
    knots = np.array([-1.0, 0.0, 0.7, 2.0, 4.0])
    net = moved(splines.build(inputs=("x",), outputs=1, knots=knots), 6)
    assert (net.center, net.scale, net.knots) == ((np.mean(knots),), (1.25,), (tuple(knots),))
    values = np.array([float(net(k)[0]) for k in knots])
    oracle = CubicSpline(knots, values, bc_type="natural")
    inside = np.linspace(-1.0, 4.0, 41)
    np.testing.assert_allclose([float(net(x)[0]) for x in inside], oracle(inside), atol=1e-12)
    for end, away in ((-1.0, -300.0), (4.0, 500.0)):  # straight lines beyond the outer knots
        np.testing.assert_allclose(float(net(away)[0]), oracle(end) + (away - end) * oracle(end, 1), rtol=1e-12)


def test_splines_are_added():
    net = moved(splines.build(inputs=2, outputs=1), 7)
    both, first, second, none = (float(net(*x)[0]) for x in ((0.4, -0.9), (0.4, 0.0), (0.0, -0.9), (0.0, 0.0)))
    assert both == pytest.approx(first + second - none, abs=1e-14) and none == pytest.approx(float(net.biases[0]), abs=1e-14)


def test_radial_bases_by_hand():
    net = moved(radial.build(inputs=1, outputs=1, units=5, center=10.0, scale=2.0), 8)
    places = np.linspace(-2.0, 2.0, 5)
    by_hand = sum(float(w) * np.exp(-0.5 * (0.7 - p) ** 2) for w, p in zip(net.weights[0], places, strict=True))
    assert float(net(11.4)[0]) == pytest.approx(by_hand + float(net.biases[0]), rel=1e-12)
    assert float(net(1e4)[0]) == pytest.approx(float(net.biases[0]))


def test_edges_of_a_kolmogorov_arnold_network_by_splines():
    net = moved(kan.build(inputs=2, outputs=1, width=2, key=0), 9)
    hidden = dataclasses.replace(splines.build(inputs=2, outputs=2), weights=net.weights[0])
    last = dataclasses.replace(splines.build(inputs=2, outputs=1), weights=net.weights[1], biases=net.biases)
    np.testing.assert_allclose(net(0.3, -0.8), last(hidden(0.3, -0.8)), rtol=1e-12)


class Level(nlme.Model):
    """A term of a covariate and a random effect on the level, another of the state in the equations."""

    rate: nlme.Scalar = nlme.positive(0.4)
    net: nlme.MLP = nlme.mlp(inputs=("x", "z"), outputs=1, width=2, depth=1, key=1, output="positive", init=2.0)
    loss: nlme.MLP = nlme.mlp(inputs=("a",), outputs=1, width=2, depth=1, key=1, output="positive", init=1.0, vanishing="a")
    omega: nlme.Covariance = nlme.covariance(z=0.5)
    add: nlme.Scalar = nlme.positive(0.3)
    covariates = ("x",)

    def individual(self, eta, cov):
        return dict(level=self.net(cov, eta)[0])

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(a=-self.rate * self.loss(a)[0]), states=("a",), initial=dict(a=ind.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.a, self.add)}


def population(n: int, seed: int = 1) -> nlme.Population:
    random = np.random.default_rng(seed)
    t = np.array([0.5, 2.0, 4.0])
    subjects = []
    for i in range(n):
        x = random.normal(70.0, 15.0)
        y = (1.5 + np.tanh((x - 70.0) / 10.0)) * np.exp(0.3 * random.normal() - 0.4 * t) + 0.1 * random.normal(size=3)
        subjects.append(nlme.Subject(id=i + 1, time=t, dv=y, evid=[0] * 3, covariates={"x": [x] * 3}))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("term", TERMS)
def test_gradient_of_the_objective_in_the_weights(term, constant):
    """Through covariate, random effect and solver, against central differences."""
    net = SMALL[term](inputs=("x", "z"), outputs=1, output="positive", init=2.0, constant=constant)
    loss = SMALL[term](inputs=("a",), outputs=1, output="positive", vanishing="a", center=1.0, scale=1.0)
    layout = lay_out(Level(net=moved(net, 10, 0.2), loss=moved(loss, 11, 0.2)), population(3))
    model, method = layout.model, nlme.FOCEI(inner_tolerance=1e-22)
    inventory = Inventory(model)
    u = np.asarray(inventory.unconstrained(model))

    def at(u):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, jnp.asarray(u), jnp.zeros((3, 1)))

    found = np.asarray(at(u).gradient).sum(0)
    random = np.random.default_rng(12)
    for _ in range(3):
        direction = random.normal(size=len(u))

        def slope(h, direction=direction):
            step = h * direction
            return (np.asarray(at(u + step).value).sum() - np.asarray(at(u - step).value).sum()) / (2 * h)

        np.testing.assert_allclose(found @ direction, (4 * slope(1e-3) - slope(2e-3)) / 3, rtol=1e-5, atol=1e-5)


class Effect(nlme.Model):
    """A term of a covariate on the level, no equations."""

    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=2, depth=1, key=1)
    omega: nlme.Covariance = nlme.covariance(level=0.1)
    add: nlme.Scalar = nlme.positive(0.2)
    covariates = ("x",)

    def individual(self, eta, cov):
        return dict(level=self.net(cov)[0] * jnp.exp(eta.level))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level * jnp.exp(-0.4 * t), self.add)}


@pytest.mark.slow
@one_quick
def test_a_fit_improves_and_comes_back_from_its_file(term, tmp_path):
    start, data = Effect(net=TERMS[term](inputs=("x",), outputs=1, output="positive", init=2.0)), population(12)
    fit = nlme.fit(start, data, penalty=nlme.L2(0.1), progress=False, starts=0, tolerance=1e-3)
    assert fit.objective < nlme.evaluate(start, data).objective - 5.0
    fit.save(tmp_path / "fit.nlme")
    again = nlme.load(tmp_path / "fit.nlme", model=start)
    for held in (again.model, pickle.loads(pickle.dumps(fit.model))):
        assert repr(held.net) == repr(fit.model.net) and held.net.center == fit.model.net.center != (None,)
        np.testing.assert_array_equal(held.net(63.0), fit.model.net(63.0))


WRONG = {
    "an output of another kind": dict(output="negative"),
    "bounds the wrong way round": dict(output=(1.0, 0.0)),
    "a start outside": dict(output="positive", init=-1.0),
    "a start at the bound": dict(output=(0.0, 1.0), init=1.0),
    "a start of an unknown output": dict(init={"cl": 1.0}),
    "a start for another number of outputs": dict(init=(1.0, 2.0, 3.0)),
    "a number for a shape": dict(monotone=3),
    "a list in the place of a word": dict(monotone=[["increasing"], None]),
    "half an input": dict(vanishing=2.5),
    "a constant that is a number": dict(constant=0.0),
    "an unknown word of shape": dict(monotone="rising"),
    "a shape of an unknown input": dict(monotone={"y": "increasing"}),
    "vanishing with an unknown input": dict(vanishing="y"),
    "vanishing with an input that is not there": dict(vanishing=(2,)),
    "rising and vanishing, of either sign": dict(monotone="increasing", vanishing="x"),
    "risen since two inputs were zero": dict(output="positive", monotone="increasing", vanishing=True),
    "falling from zero": dict(output="positive", monotone={"x": "decreasing"}, vanishing="x"),
}


@pytest.mark.parametrize("slip", WRONG.values(), ids=WRONG)
def test_a_wrong_shape_is_refused(slip):
    with pytest.raises(nlme.ModelError):
        nlme.mlp(**BOTH | dict(width=2, depth=1, key=0) | slip)


def test_other_wrong_declarations_are_refused():
    for wrong in (
        lambda: nlme.splines(inputs=1, outputs=1, knots=2),
        lambda: nlme.splines(inputs=1, outputs=1, knots=(0.0, 1.0)),
        lambda: nlme.splines(inputs=1, outputs=1, knots=(0.0, 2.0, 1.0)),
        lambda: nlme.splines(inputs=2, outputs=1, knots=(0.0, 1.0, 2.0)),
        lambda: nlme.splines(inputs=("x", "w"), outputs=1, knots={"y": (0.0, 1.0, 2.0)}),
        lambda: nlme.splines(inputs=("x", "w"), outputs=1, knots={"x": (0.0, 1.0, 2.0), "w": (0.0, 1.0, 2.0, 3.0)}),
        lambda: nlme.radial(inputs=1, outputs=1, units=0),
        lambda: nlme.radial(inputs=1, outputs=1, units=3, width=0.0),
        lambda: nlme.kan(inputs=1, outputs=1, knots=2, key=0),
        lambda: nlme.kan(inputs=1, outputs=1, key=None),
        lambda: nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=0, activation="gelu", monotone="increasing"),
    ):
        with pytest.raises(nlme.ModelError):
            wrong()


@pytest.mark.parametrize("name", TERMS)
def test_many_sets_of_inputs_are_as_many_calls(name):
    """``each`` is the calls side by side, also for a term that is being watched: what it was asked are the rows."""
    term = moved(TERMS[name](inputs=("x", "w"), outputs=2))
    x = jnp.linspace(0.1, 2.0, 5)
    watched = _Recorder(term)
    for asked in (term, watched):
        np.testing.assert_allclose(asked.each(x, 0.7), jnp.stack([term(one, 0.7) for one in x]), rtol=1e-12)
    np.testing.assert_allclose(np.array(watched.seen), np.stack([x, np.full(5, 0.7)], axis=1))
    for wrong in ((x,), (x, x[:3]), (0.1, 0.7), (x[None], x)):
        with pytest.raises(nlme.ModelError, match="each takes 2 inputs"):
            term.each(*wrong)
