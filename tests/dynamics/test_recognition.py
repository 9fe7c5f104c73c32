"""Equations that prove linear are solved by their matrix exponential: which are, that the numbers are those, and how it ends."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import expm
from states import model_of, population_of, states_of, subject_of

import nlme
from nlme.dynamics import propagate
from nlme.dynamics.recognition import as_exponential, flows_of
from nlme.jets import composition
from nlme.language import solution
from nlme.language.layout import lay_out
from nlme.marginal.joint import log_joint
from nlme.parameters.inventory import Inventory

TIMES = [0.0, 0.3, 1.0, 2.5, 4.0, 6.5, 9.0, 13.0, 24.0, 70.0]
TYPICAL = dict(ka=1.1, cl=3.5, v1=20.0, q=4.0, v2=40.0)
NAMES = ("depot", "central", "peripheral")


def two_compartments(ind, **rules):
    def rhs(t, a):
        c, p = a.central / ind.v1, a.peripheral / ind.v2
        out = ind.ka * a.depot
        return {"depot": -out, "central": out - ind.cl * c - ind.q * (c - p), "peripheral": ind.q * (c - p)}

    return nlme.ODE(rhs, NAMES, **rules)


@pytest.fixture
def recognised(monkeypatch):
    """The systems that were solved by their matrix exponential."""
    taken = []

    def noted(*arguments):
        taken.append(as_exponential(*arguments))
        return taken[-1]

    monkeypatch.setattr(propagate, "as_exponential", noted)
    return taken


RULES = dict(lag=0.4, bioavailability=0.9, duration=2.2)
WAYS = [
    [dict(time=0.0, amt=100.0)],
    [dict(time=0.5, amt=100.0, cmt=2)],
    [dict(time=0.0, amt=100.0, rate=40.0, cmt=2)],
    [dict(time=0.5, amt=100.0, rate=-2.0)],
    [dict(time=0.0, amt=60.0, ss=1, ii=6.0)],
    [dict(time=0.0, amt=60.0, rate=7.0, ss=1, ii=6.0)],
    [dict(time=2.0, amt=60.0, evid=4)],
]


@pytest.mark.slow
@pytest.mark.parametrize(("order", "ways"), [(1, WAYS[1:4]), pytest.param(2, WAYS, marks=pytest.mark.slow)], ids=["1", "2"])
def test_derivatives_are_those_of_the_closed_form(recognised, monkeypatch, order, ways):
    """Values to 1e-12, derivatives to 1e-10 of the largest, those in lag, bioavailability and duration included."""
    monkeypatch.setattr(propagate, "worthwhile", lambda timeline, **_: True)
    typical = TYPICAL | RULES

    def closed(ind, **rules):
        return nlme.pk.TwoCompartmentOral(**{name: ind[name] for name in TYPICAL}, **rules)

    found = []
    for make in (two_compartments, closed):
        model = model_of(typical, lambda ind, make=make: make(ind, **{name: ind[name] for name in RULES}))
        found.append(states_of(model, population_of(ways, TIMES), order, nlme.Tolerances())())
    assert recognised
    for tolerance, ours, theirs in zip((1e-12, 1e-10, 1e-10), *found, strict=False):
        assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


X = jnp.array([[-0.3, 1.2], [-1.2, -0.1]])  # an oscillation

LINEAR = {
    "flows": lambda t, a, p: (-p * a.x, p * a.x - 0.3 * a.y),
    "shared": lambda t, a, p: (-(a.x - a.y) / p, (a.x - a.y) / p - a.y / 3.0),
    "matrix": lambda t, a, p: tuple(X @ jnp.stack([a.x, a.y]) * p),
    "chosen": lambda t, a, p: (jnp.where(p > 1.0, -p, -1.0) * a.x, jnp.where(p > 1.0, a.x, a.y) - a.y),
    "growth": lambda t, a, p: (0.1 * p * a.x, -p * a.x + jnp.exp(-p) * a.y),
    "zero": lambda t, a, p: (0.0, -p * a.y + 0.0 * a.x),
    "all along": lambda t, a, p: (-p * a.x + 0.0, jnp.sum(jnp.array([a.x, a.y])[::-1]) - 3.0 * a.y),
}
OTHER = {
    "production": lambda t, a, p: (p - a.x, a.x - a.y),
    "time": lambda t, a, p: (-p * a.x * jnp.exp(-t), a.x - a.y),
    "time alone": lambda t, a, p: (jnp.sin(t), -a.y),
    "product": lambda t, a, p: (-p * a.x * a.y, -a.y),
    "quotient": lambda t, a, p: (-p * a.x / (1.0 + a.x), -a.y),
    "inverse": lambda t, a, p: (p / a.x, -a.y),
    "power": lambda t, a, p: (-p * a.x**2, -a.y),
    "root": lambda t, a, p: (-jnp.sqrt(a.x), -a.y),
    "cut": lambda t, a, p: (-p * jnp.maximum(a.x, 0.0), -a.y),
    "threshold": lambda t, a, p: (jnp.where(a.x > 1.0, -p * a.x, -a.x), -a.y),
    "rounded": lambda t, a, p: (-p * a.x.astype(int), -a.y),
    "matrix of states": lambda t, a, p: tuple(X @ jnp.stack([a.x * a.y, a.y])),
}


def ode(rhs, p=1.3, **options):
    p = jnp.asarray(p)
    return nlme.ODE(lambda t, a: dict(zip(("x", "y"), rhs(t, a, p), strict=True)), ("x", "y"), **options)


@pytest.mark.parametrize("name", LINEAR)
def test_linear_equations_are_recognised(name):
    """Their moves are those of scipy's exponential of the matrix of slopes at unit vectors."""
    structure = ode(LINEAR[name])
    matrix = np.array([structure.flow(0.0, tuple(jnp.asarray(e))) for e in np.eye(2)], float).T
    found = as_exponential(structure, flows_of(structure))
    for length in (0.01, 1.7, 40.0):
        expected = expm(matrix * length) @ np.array([3.0, 5.0])
        assert_allclose(found.advance((3.0, 5.0), None, jnp.asarray(length)), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", OTHER)
def test_other_equations_are_not(name):
    assert flows_of(ode(OTHER[name])) is None


def test_nor_systems_with_a_start_or_times_of_their_own_nor_large_ones():
    assert flows_of(ode(LINEAR["flows"], initial={"x": 1.0})) is None
    assert flows_of(ode(LINEAR["flows"], event_times=(3.0,))) is None
    names = tuple(f"a{k}" for k in range(20))
    full = nlme.ODE(lambda t, a: {name: -sum(a.values()) for name in names}, names)
    assert flows_of(full) is None


def test_elements_that_are_zero_are_left_out():
    assert [*flows_of(ode(LINEAR["flows"]))] == [(0, 0), (1, 0), (1, 1)]


def symbolic_flows(rhs):
    """What is found where the parameter is not known, as in every program of a fit."""
    found = []
    jax.eval_shape(lambda p: found.append(flows_of(ode(rhs, p))), 1.3)
    return found[0]


@pytest.mark.parametrize("name", LINEAR)
def test_elements_of_one_number_are_equal_but_for_the_sign(name):
    """Whatever is taken for the same has the same value, at two values of the parameter."""
    for p in (1.3, 0.7):
        matrix = np.array([ode(LINEAR[name], p).flow(0.0, tuple(jnp.asarray(e))) for e in np.eye(2)], float).T
        values = {}
        for place, element in symbolic_flows(LINEAR[name]).items():
            values.setdefault(element.number, []).append(element.sign * matrix[place])
        assert all(np.ptp(same) < 1e-15 for same in values.values())


ALIKE = {
    "what leaves one enters the other": (lambda t, a, p: (-p * a.x, a.x * p - 0.3 * a.y), 2),
    "by other words": (lambda t, a, p: (-(p * p / 2.0) * a.x, p * (a.x * p) / 2.0 - a.y), 2),
    "by a sum": (lambda t, a, p: (-a.x / (1.0 + p), a.x * (1.0 / (p + 1.0)) - (p + 1.0) * a.y), 2),
    "twice": (lambda t, a, p: (-p * a.x, 2.0 * p * a.x - p * a.y), 2),
    "rounded": (lambda t, a, p: (-((7 // (0 * jnp.rint(p).astype(int) + 2)) * 2) * a.x, 7.0 * a.x - a.y), 3),
    "of fewer digits": (lambda t, a, p: (-p.astype(jnp.float32).astype(float) * a.x, p * a.x - 0.5 * a.y), 3),
    "of an array": (lambda t, a, p: (-(jnp.stack([p, p + 1.0]) * a.x)[0], (jnp.stack([p, p + 1.0]) * a.x)[1] - a.y), 3),
}


@pytest.mark.parametrize("name", ALIKE)
def test_how_many_numbers_there_are(name):
    rhs, count = ALIKE[name]
    for found in (flows_of(ode(rhs)), symbolic_flows(rhs)):
        assert len({element.number for element in found.values()}) == count


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_derivatives_are_carried_in_the_numbers_that_there_are(monkeypatch, order):
    """Four rates of the two compartments instead of five parameters; a closed form of five numbers is differentiated by these."""
    taken, compose = [], composition.compose

    def noted(columns, outer, own, inner):
        taken.append(own.directions)
        return compose(columns, outer, own, inner)

    monkeypatch.setattr(composition, "compose", noted)
    found = []
    for make in (two_compartments, lambda ind: nlme.pk.TwoCompartmentOral(**ind)):
        taken.clear()
        model = model_of(TYPICAL, lambda ind, make=make: make(ind))
        found.append(states_of(model, population_of([WAYS[0]], TIMES), order, nlme.Tolerances())())
        assert set(taken) == ({4} if len(found) == 1 else set())
    for tolerance, ours, theirs in zip((1e-12, 1e-10, 1e-10), *found, strict=False):
        assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


REGIMENS = {
    "many doses": [dict(time=0.0, amt=100.0, addl=9, ii=3.0)],
    "off": [dict(time=0.0, amt=100.0), dict(time=5.0, evid=2, cmt=-2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("regimen", REGIMENS)
def test_where_steps_are_cheaper_or_the_sum_is_wrong_there_are_steps(recognised, regimen):
    model = model_of(TYPICAL, two_compartments)
    population = population_of([REGIMENS[regimen]], TIMES)
    (found,) = states_of(model, population, 0, nlme.Tolerances())()
    assert not recognised
    (expected,) = states_of(model, population, 0, nlme.Tolerances(1e-12, 1e-12, solver="explicit8"))()
    assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_solver_that_is_asked_for_is_used(recognised):
    model = model_of(TYPICAL, two_compartments)
    population = population_of(WAYS[:1], TIMES)
    (exact,) = states_of(model, population, 0, nlme.Tolerances())()
    assert recognised
    recognised.clear()
    (loose,) = states_of(model, population, 0, nlme.Tolerances(1e-4, 1e-4, solver="explicit"))()
    assert not recognised
    assert 1e-6 < np.abs(loose - exact).max() < 1e-1


def test_what_cannot_be_solved_is_said():
    """A growth beyond all numbers: the subject, the time and the state, as from the solver."""
    model = model_of(dict(k=200.0), lambda ind: nlme.ODE(lambda t, a: {"x": ind.k * a.x}, ("x",)))
    population = nlme.Population((subject_of(7, [dict(time=0.0, amt=1.0)], [0.1, 10.0]),))
    with pytest.raises(nlme.FitError, match=r"(?s)7.*between times 0\.1 and 10.*finite"):
        nlme.evaluate(model, population, nlme.FO())


class Weighted(nlme.Model):
    """The weights of a network are parameters of linear equations."""

    k: nlme.Scalar = nlme.positive(0.3)
    net: nlme.MLP = nlme.mlp(inputs=("k",), outputs=1, width=2, depth=1, key=1, initial_scale=1.0)
    omega: nlme.Covariance = nlme.covariance(k=0.1)
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return {"k": self.k * jnp.exp(eta.k)}

    def dynamics(self, ind):
        into = ind.k * jnp.exp(self.net(ind.k)[0])
        return nlme.ODE(lambda t, a: {"x": -into * a.x, "y": into * a.x - 0.1 * a.y}, ("x", "y"), lag=ind.k)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.y, self.sd)}


@pytest.mark.slow
def test_weights_in_linear_equations_are_differentiated_in_reverse(recognised, monkeypatch):
    """The gradient of the joint density by jets in every weight, by a pass back, and by central differences."""
    model = Weighted()
    population = population_of([[dict(time=0.0, amt=10.0)], [dict(time=0.0, amt=10.0, rate=2.0)]], TIMES)
    layout, inventory = lay_out(model, population), Inventory(model)
    u, b = inventory.unconstrained(model), jnp.asarray([[0.3], [-0.8]])

    def density(u):
        return log_joint(inventory.at_unconstrained(model, u), layout.anatomy, layout.arrays, b, 1, nlme.Tolerances())[0]

    found = []
    for passes in (10**6, 0):
        monkeypatch.setattr(solution, "_PASSES", passes)
        found.append(jax.jit(jax.grad(density))(u))
    assert recognised
    jets, back = found
    assert_allclose(back, jets, rtol=1e-10, atol=1e-10)
    run = jax.jit(density)
    steps = 1e-5 * jnp.eye(len(u))
    differences = [(run(u + step) - run(u - step)) / 2e-5 for step in steps]
    assert_allclose(jets, differences, rtol=1e-6, atol=1e-6)


def test_the_description_says_how_it_is_solved():
    def kind(rhs):
        return str(nlme.describe(model_of(dict(k=1.0), lambda ind: ode(rhs, ind.k))))

    assert "ODE (linear: by its matrix exponential where doses are few, else by steps)" in kind(LINEAR["flows"])
    assert "ODE (solved by steps)" in kind(OTHER["quotient"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed form", "exponential", "explicit", pytest.param("stiff", marks=pytest.mark.slow)])
def test_dynamics_that_no_parameter_enters(kind):
    """What they take away from the answers, added to the data instead."""
    rng = np.random.default_rng(0)
    times = np.array([0.5, 1.0, 2.0, 4.0, 8.0])
    taken = 100.0 * np.exp(-0.3 * times)
    seen = 5.0 + rng.normal(size=(6, 5))

    class Model(nlme.Model):
        e: nlme.Scalar = nlme.positive(5.0)
        omega: nlme.Covariance = nlme.covariance(e=0.1)
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return {"e": self.e * jnp.exp(eta.e)}

    class Given(Model):
        def dynamics(self, ind):
            if kind == "closed form":
                return nlme.pk.OneCompartment(cl=3.0, v=10.0)
            return nlme.ODE(lambda t, a: {"central": -0.3 * a.central}, ("central",))

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.e - 0.01 * state.central, self.sd)}

    class Added(Model):
        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.e, self.sd)}

    def population(dv, dose):
        columns = dict(time=[0.0, *times], evid=[1 if dose else 2, *[0] * 5], amt=[dose, *[0.0] * 5])
        return nlme.Population(tuple(nlme.Subject(id=k + 1, **columns, dv=[np.nan, *row]) for k, row in enumerate(dv)))

    steps = kind in ("explicit", "stiff")
    method = nlme.FOCEI(ode=nlme.Tolerances(solver=kind)) if steps else nlme.Laplace()
    found = nlme.evaluate(Given(), population(seen, 100.0), method).objective
    assert_allclose(found, nlme.evaluate(Added(), population(seen + 0.01 * taken, 0.0), method).objective, rtol=1e-8)
