"""Algebraic equations: published differential-algebraic systems, the same model without them, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from states import model_of, population_of, simulated, states_of

import nlme
from nlme.dynamics.consistency import follow
from nlme.dynamics.solvers import INCONSISTENT, SOLVED
from nlme.language.anatomy import anatomy_of

TIGHT = nlme.Tolerances(relative=1e-10, absolute=1e-12, solver="stiff")
NOTHING = [[dict(time=0.0, evid=2)]]


def robertson(ind):
    def rhs(t, a):
        slow, back, fast = ind.k1 * a.y1, 1e4 * a.y2 * a.y3, 3e7 * a.y2**2
        return {"y1": back - slow, "y2": slow - back - fast, "y3": a.y1 + a.y2 + a.y3 - 1.0}

    return nlme.ODE(rhs, ("y1", "y2", "y3"), initial={"y1": 1.0}, algebraic=("y3",))


@pytest.mark.slow
def test_robertson():
    """Mazzia & Magherini, Test Set for IVP Solvers, release 2.4 (2008), II-10: the ODE at 1e11.  y1 + y2 + y3 = 1 throughout."""
    fine = nlme.Tolerances(relative=1e-9, absolute=1e-20)
    found = states_of(model_of({"k1": 0.04}, robertson), population_of(NOTHING, [0.4, 4e3, 1e11]), ode=fine)()[0][0]
    np.testing.assert_allclose(found[-1], [0.2083340149701255e-7, 0.8333360770334713e-13, 0.9999999791665050], rtol=1e-7)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=0, atol=1e-14)


def amplifier(ind):
    """The transistor amplifier (M y' = f with a singular M of rank 5), written for the voltages over its five capacitors."""

    def current(voltage):
        return 1e-6 * (jnp.exp(voltage / 0.026) - 1.0)

    def rhs(t, a):
        y1, y4, y7 = a.x1 + a.y2, a.x4 + a.y5, a.x7 + a.y8
        first, second = current(a.y2 - a.y3), current(a.y5 - a.y6)
        f1 = (y1 - 0.1 * jnp.sin(200.0 * jnp.pi * t)) / ind.r0
        f2 = (2.0 * a.y2 - 6.0) / 9000.0 + 0.01 * first
        f4, f5 = (y4 - 6.0) / 9000.0 + 0.99 * first, (2.0 * a.y5 - 6.0) / 9000.0 + 0.01 * second
        f7, f8 = (y7 - 6.0) / 9000.0 + 0.99 * second, a.y8 / 9000.0
        f3, f6 = a.y3 / 9000.0 - first, a.y6 / 9000.0 - second
        slopes = {"x1": -f1 / 1e-6, "y3": -f3 / 2e-6, "x4": -f4 / 3e-6, "y6": -f6 / 4e-6, "x7": -f7 / 5e-6}
        return slopes | {"y2": f1 + f2, "y5": f4 + f5, "y8": f7 + f8}

    states, initial = ("y2", "x1", "y3", "y5", "x4", "y6", "y8", "x7"), {"x1": -3.0, "y3": 3.0, "x4": 3.0, "y6": 3.0, "x7": 6.0}
    return nlme.ODE(rhs, states, initial | {"y2": 3.0, "y5": 3.0}, algebraic=("y2", "y5", "y8"))


@pytest.mark.slow
def test_transistor_amplifier():
    """The same test set, II-11, at 0.2 s."""
    fine = nlme.Tolerances(relative=1e-9, absolute=1e-9)
    found = states_of(model_of({"r0": 1000.0}, amplifier), population_of(NOTHING, [0.2]), ode=fine)()[0][0, -1]
    y2, x1, y3, y5, x4, y6, y8, x7 = found
    reference = [
        -0.5562145012262709e-2, 0.3006522471903042e1, 0.2849958788608128e1, 0.2926422536206241e1, 0.2704617865010554e1,
        0.2761837778393145e1, 0.4770927631616772e1, 0.1236995868091548e1,
    ]  # fmt: skip
    np.testing.assert_allclose([x1 + y2, y2, y3, x4 + y5, y5, y6, x7 + y8, y8], reference, rtol=1e-6)


TYPICAL = dict(cl=0.3, v=3.0, kd=0.5, lag=0.3)


def rates(ind, a, free):
    bound = a.total / ind.v - free
    return {"total": -ind.cl * free - 0.15 * bound, "target": 1.0 - 0.1 * (a.target - bound) - 0.05 * bound}


def with_formula(ind):
    """Target-mediated disposition at quasi-equilibrium, the free concentration by the root of its quadratic equation."""

    def rhs(t, a):
        return rates(ind, a, nlme.pk.free_drug(a.total / ind.v, a.target, ind.kd))

    return nlme.ODE(rhs, ("total", "target"), {"target": 10.0}, lag=ind.lag)


def with_equation(ind):
    """The same with the quadratic equation itself, which has a negative root too."""

    def rhs(t, a):
        total = a.total / ind.v
        return rates(ind, a, a.free) | {"free": a.free**2 - (total - a.target - ind.kd) * a.free - ind.kd * total}

    return nlme.ODE(rhs, ("total", "target", "free"), {"target": 10.0}, lag=ind.lag, algebraic=("free",))


REGIMENS = {
    "doses": [dict(time=0.0, amt=1000.0), dict(time=24.0, amt=100.0)],
    "infusion": [dict(time=0.0, amt=200.0, rate=20.0), dict(time=24.0, amt=100.0)],
    "reset": [dict(time=0.0, amt=200.0), dict(time=24.0, amt=100.0, evid=4)],
    "steady state": [dict(time=0.0, amt=200.0, ss=1, ii=24.0), dict(time=24.0, amt=100.0, ss=2, ii=12.0)],
}
TIMES = [0.0, 0.1, 1.0, 8.0, 24.0, 60.0]


def free_of(states, derivatives, eta):
    """The free concentration by its formula, from the Taylor polynomial of the other states."""
    first, *second = derivatives
    moved = states + first @ eta + (0.5 * jnp.einsum("tsij,i,j->ts", second[0], eta, eta) if second else 0.0)
    v, kd = (TYPICAL[name] * jnp.exp(eta[k]) for k, name in enumerate(TYPICAL) if name in ("v", "kd"))
    return nlme.pk.free_drug(moved[:, 0] / v, moved[:, 1], kd)


@pytest.mark.slow
@pytest.mark.parametrize("regimen", REGIMENS)
def test_agrees_with_the_formula(regimen):
    """States and their derivatives, those of the algebraic state too, whatever the doses."""
    order = 2 if regimen == "doses" else 1
    population = population_of([REGIMENS[regimen]], TIMES)
    expected = [x[0] for x in states_of(model_of(TYPICAL, with_formula), population, order, TIGHT)()]
    found = [x[0] for x in states_of(model_of(TYPICAL, with_equation), population, order, TIGHT)()]

    def close(a, b):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7 * np.abs(b).max())

    function, free = (lambda eta: free_of(expected[0], expected[1:], eta)), []
    for a, b in zip(found, expected, strict=True):
        close(a[:, :2], b)
        free.append(np.asarray(function(jnp.zeros(len(TYPICAL)))))
        close(a[:, 2], free[-1])
        function = jax.jacfwd(function)


@pytest.mark.slow
def test_derivatives_by_central_differences():
    """First and second derivatives of the Robertson system over its transient."""
    fine = nlme.Tolerances(relative=1e-11, absolute=1e-18)
    at = states_of(model_of({"k1": 0.04}, robertson), population_of(NOTHING, [0.4, 400.0]), 2, fine)
    value, first, second = (x[0] for x in at())
    up, down = (at([h])[0][0] for h in (1e-3, -1e-3))
    np.testing.assert_allclose(first[..., 0], (up - down) / 2e-3, rtol=2e-6)
    np.testing.assert_allclose(second[..., 0, 0], (up + down - 2.0 * value) / 1e-6, rtol=2e-4)
    np.testing.assert_allclose(first.sum(axis=1), 0.0, atol=1e-14)


class Changing(nlme.Model):
    """The volume goes with a covariate; the free concentration by its state and by the formula."""

    omega: nlme.Covariance = nlme.covariance(kd=0.1)
    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"size": ""}

    def individual(self, eta, cov):
        return dict(cl=0.3, v=3.0 * cov.size, kd=0.5 * jnp.exp(eta.kd), lag=0.0)

    def dynamics(self, ind):
        return with_equation(ind)

    def observe(self, ind, state, t):
        formula = nlme.pk.free_drug(state.total / ind.v, state.target, ind.kd)
        return {"free": nlme.additive(state.free, self.sd), "formula": nlme.additive(formula, self.sd)}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["nocb", "locf", "linear"])
def test_parameters_that_change_at_a_record(how):
    """At a record the algebraic state is that of the record's own parameters, as a formula in observe is; doses too."""
    records = dict(ID=1, TIME=[0.0, 1.0, 4.0, 4.0, 9.0], AMT=[300.0, 0, 0, 50.0, 0], EVID=[1, 0, 0, 1, 0], DV=1.0, DVID=1)
    table = pd.DataFrame(records | dict(size=[1.0, 1.0, 1.4, 1.4, 0.7]))
    population = nlme.read_nonmem(table, covariates=["size"], time_varying="size", interpolation=how, dvid={1: "free"})
    predicted = nlme.predict(Changing(), population)
    np.testing.assert_allclose(predicted["free"], predicted["formula"], rtol=1e-12)


class Bound(nlme.Model):
    cl: nlme.Scalar = nlme.positive(0.3)
    v: nlme.Scalar = nlme.positive(3.0)
    kd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), kd=self.kd, lag=0.0)

    def dynamics(self, ind):
        return with_equation(ind)

    def observe(self, ind, state, t):
        return {"free": nlme.proportional(state.free, self.prop)}


class BoundByFormula(Bound):
    def dynamics(self, ind):
        return with_formula(ind)

    def observe(self, ind, state, t):
        return {"free": nlme.proportional(nlme.pk.free_drug(state.total / ind.v, state.target, ind.kd), self.prop)}


@pytest.mark.slow
def test_fit_agrees_with_the_formula():
    """Simulated, fitted and predicted with the equation: objective, gradient (by where the fit ends) as with the formula."""
    design = population_of([[dict(time=0.0, amt=50.0 * (k + 1))] for k in range(6)], [0.5, 2.0, 8.0, 24.0])
    population = simulated(Bound(), design)
    method = nlme.FOCEI(ode=nlme.Tolerances(relative=1e-10, absolute=1e-12, solver="stiff"))
    fits = [nlme.fit(model(), population, method, progress=False) for model in (Bound, BoundByFormula)]
    assert abs(fits[0].objective - fits[1].objective) < 1e-8
    np.testing.assert_allclose(fits[0].predictions.IPRED, fits[1].predictions.IPRED, rtol=1e-6)


def path(before, after, begin, end, absolute=1e-10):
    """The algebraic last state of (y, z) at the end of a path, and how it ended."""
    begin, end = (tuple(jnp.asarray(float(x)) for x in values) for values in (begin, end))
    (z,), status = follow(before, after, begin, end, (False, True), absolute, jnp.asarray(True))
    return float(z), int(status)


def binding(a):
    """L^2 - (T - 10.5) L - 0.5 T = 0, for a total T."""
    total, free = a
    return [free**2 - (total - 10.5) * free - 0.5 * total]


@pytest.mark.parametrize("total", [1e-6, 1.0, 10.0, 1e3, 1e6])
def test_a_dose_keeps_to_its_branch(total):
    """Newton's method alone goes from 0 to the negative root as soon as the dose exceeds what the target binds."""
    found, status = path(binding, binding, (0.0, 0.0), (total, 0.0))
    assert status == SOLVED
    np.testing.assert_allclose(found, float(nlme.pk.free_drug(total, 10.0, 0.5)), rtol=1e-12)


def quotient(total, kd):
    """f + R f / (kd + f) = C as it is written, with a pole at f = -kd between its two roots; the state is R."""
    return lambda a: [a[1] + a[1] * a[0] / (kd + a[1]) - total]


def free(total, target, kd):
    return float(nlme.pk.free_drug(total, target, kd))


@pytest.mark.parametrize("kd", [5e-6, 5e-4, 0.01, 0.5, 2.0])
def test_no_step_goes_over_a_pole_to_another_branch(kd):
    """The tangent from the root for little target points to the negative root for much, where the slope is the same."""
    for total in (1.0, 10.0, 83.5, 1e3):
        for before, after in ((9.2, 309.0), (309.0, 9.2), (0.0, 40.0), (9.5, 12.0), (10.0, 1e4)):
            one = quotient(total, kd)
            found, status = path(one, one, (before, free(total, before, kd)), (after, 0.0))
            assert status == SOLVED
            np.testing.assert_allclose(found, free(total, after, kd), rtol=1e-7)


@pytest.mark.parametrize(("first", "then"), [(0.5, 5e-5), (5.0, 5e-4), (5e-5, 5.0), (0.5, 5e-9)])
def test_constants_that_change_by_orders_of_magnitude(first, then):
    for total in (1.4, 9.0, 30.0):
        found, status = path(quotient(total, first), quotient(total, then), (9.5, free(total, 9.5, first)), (9.5, 0.0))
        assert status == SOLVED
        np.testing.assert_allclose(found, free(total, 9.5, then), rtol=1e-6, atol=1e-12)


def test_states_that_do_go_through_zero():
    """exp(z) = 1 + y, from far on one side of zero to the other."""
    one = lambda a: [jnp.exp(a[1]) - 1.0 - a[0]]  # noqa: E731
    for begin, end in ((1e3, -0.999), (-0.999, 1e3), (5.0, 0.0)):
        found, status = path(one, one, (begin, np.log1p(begin)), (end, 0.0))
        assert status == SOLVED
        np.testing.assert_allclose(found, np.log1p(end), rtol=1e-9, atol=1e-10)


def test_consistent_start_and_changed_equations():
    """exp(z) + z = y from a poor guess; then the same for 3 z in the place of z."""

    def before(a):
        return [jnp.exp(a[1]) + a[1] - a[0]]

    def after(a):
        return [jnp.exp(3.0 * a[1]) + 3.0 * a[1] - a[0]]

    exact = brentq(lambda z: np.exp(z) + z - 20.0, 0.0, 3.0, xtol=1e-15)
    z, status = path(before, before, (20.0, -50.0), (20.0, 0.0))
    assert status == SOLVED and abs(z - exact) < 1e-12
    z, status = path(before, after, (20.0, z), (20.0, 0.0))
    assert status == SOLVED and abs(z - exact / 3.0) < 1e-12


def test_no_solution_and_a_singular_one():
    """z^2 + y = 0 loses its solutions as y passes 0; z^2 = y has a singular one there."""
    assert path(lambda a: [a[1] ** 2 + a[0]], lambda a: [a[1] ** 2 + a[0]], (-1.0, 1.0), (1.0, 0.0))[1] == INCONSISTENT
    square = [lambda a: [a[1] ** 2 - a[0]]] * 2
    assert path(*square, (1.0, 1.0), (4.0, 0.0)) == (2.0, SOLVED)
    assert path(*square, (0.0, 0.0), (4.0, 0.0))[1] == INCONSISTENT


def structure(**options):
    return nlme.ODE(lambda t, a: {"x": -a.x, "z": a.z - a.x}, ("x", "z"), **{"algebraic": ("z",)} | options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"algebraic": ("zz",)}, "algebraic: No state named 'zz'.*Did you mean 'z'"),
        ({"algebraic": "z"}, "algebraic is a tuple of names"),
        ({"algebraic": ("z", "z")}, "named twice: z, z"),
        ({"algebraic": ("x", "z")}, "every state is algebraic"),
        ({"lag": {"z": 1.0}}, "lag: 'z' is an algebraic state, which no dose enters"),
        (
            {"algebraic": ("x",), "bioavailability": 0.5},
            "bioavailability: 'x' is an algebraic state.*bioavailability={state: value}",
        ),
    ],
)
def test_refused_when_written(options, message):
    with pytest.raises(nlme.ModelError, match=message):
        structure(**options)


def of(rhs, states, algebraic):
    return model_of({"k": 1.0}, lambda ind: nlme.ODE(lambda t, a: rhs(a, ind.k), states, algebraic=algebraic))


def test_undetermined_states_are_named():
    """A pendulum-like constraint on other states (index 2), an equation twice for one state, and one that another needs."""
    constraint = of(lambda a, k: {"x": a.z, "y": -k * a.x, "z": a.x + a.y}, ("x", "y", "z"), ("z",))
    with pytest.raises(
        nlme.ModelError, match="do not determine the algebraic state 'z': it occurs in nothing that rhs returns for z"
    ):
        anatomy_of(constraint)
    twice = of(lambda a, k: {"x": -k * a.x, "y": a.y - a.x, "z": a.y + a.x}, ("x", "y", "z"), ("y", "z"))
    with pytest.raises(nlme.ModelError, match="the algebraic state 'z': it occurs in nothing"):
        anatomy_of(twice)
    exchanged = of(lambda a, k: {"x": -k * a.x, "y": a.z - a.x, "z": a.y + a.x}, ("x", "y", "z"), ("y", "z"))
    assert anatomy_of(exchanged).algebraic == ("y", "z")


@pytest.mark.parametrize(
    "record, message",
    [
        (dict(time=0.0, amt=1.0, cmt=2), "row|dose at time 0.*would enter 'z', an algebraic state.*: x"),
        (dict(time=0.0, evid=2, cmt=-2), "CMT -2 is 'z', an algebraic state, which cannot be switched off"),
    ],
)
def test_refused_in_the_data(record, message):
    model = model_of({"k": 1.0}, lambda ind: structure())
    with pytest.raises(nlme.ModelError, match=message):
        nlme.evaluate(model, population_of([[record]], [1.0]))


def test_explicit_solvers_refuse():
    model = model_of(
        {"k": 1.0}, lambda ind: nlme.ODE(lambda t, a: {"x": -ind.k * a.x, "z": a.z - a.x}, ("x", "z"), algebraic=("z",))
    )
    for solver in ("explicit", "explicit8"):
        with pytest.raises(nlme.ModelError, match=f"solver='{solver}'.*an explicit method cannot solve algebraic equations"):
            nlme.evaluate(model, population_of(NOTHING, [1.0]), nlme.FOCEI(ode=nlme.Tolerances(solver=solver)))


@pytest.mark.slow
def test_equations_without_solution_are_a_sentence():
    model = of(lambda a, k: {"x": -k * a.x, "z": a.z**2 + 1.0 + a.x**2}, ("x", "z"), ("z",))
    with pytest.raises(nlme.FitError, match="algebraic equations have no solution"):
        nlme.evaluate(model, population_of(NOTHING, [1.0]))


def test_what_a_model_says_of_itself():
    pytest.importorskip("sympy")
    assert "free (solved for, not integrated; no dose enters)" in str(nlme.describe(Bound))
    text = str(nlme.equations(Bound))
    assert "d target/dt = " in text and "  0 = " in text and "d free/dt" not in text
