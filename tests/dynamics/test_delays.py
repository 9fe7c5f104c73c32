"""Equations that look back at earlier states: known solutions with their derivatives in the delay, and what is refused."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from states import TIGHT, model_of, population_of, simulated, states_of

import nlme
from nlme.dynamics.delays import hermite
from nlme.language.anatomy import anatomy_of

NOTHING = [[dict(time=0.0, evid=2)]]


def feedback(ind):
    """y' = -k y(t - tau), y = 1 until 0."""
    return nlme.ODE(lambda t, a, past: {"y": -ind.k * past.tau.y}, ("y",), {"y": 1.0}, delays={"tau": ind.tau})


def polynomials(t, k, tau):
    """Its solution, sum over n of (-k)^n (t - (n - 1) tau)^n / n! while t >= (n - 1) tau."""
    terms = [(-k) ** n * jnp.maximum(t - (n - 1) * tau, 0.0) ** n / math.factorial(n) for n in range(1, 12)]
    return 1.0 + sum(terms)


def compare(model, exact, typical, population, times, order, ode=TIGHT, state=0, rtol=1e-8):
    """States and derivatives in the logarithms of the typical values against those of a formula."""
    found = states_of(model_of(typical, model), population, order, ode)()

    def function(eta):
        return jnp.stack([exact(t, *(value * jnp.exp(e) for value, e in zip(typical.values(), eta, strict=True))) for t in times])

    for values in found:
        expected = np.asarray(function(jnp.zeros(len(typical))))
        np.testing.assert_allclose(values[0, :, state], expected, rtol=rtol, atol=rtol * np.abs(expected).max())
        function = jax.jacfwd(function)


class Dosed(nlme.Model):
    """y' = -k y(t - 2), and 0 until a dose."""

    k: nlme.Scalar = nlme.positive(0.4)
    add: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(k=self.k)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a, past: {"y": -ind.k * past.tau.y}, ("y",), delays={"tau": 2.0})

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.y, self.add)}


def dosed(at, times):
    """Predictions after a dose of 20, and what is right: 20 sum over n of (-k)^n (t - 2 n)^n / n!"""
    rows = sorted([*((t, 0, 0.0) for t in times), (at, 1, 20.0)], key=lambda row: (row[0], -row[1]))
    time, evid, amt = map(np.array, zip(*rows, strict=True))
    subject = nlme.Subject(id=1, time=time, dv=np.where(evid == 1, np.nan, 1.0), evid=evid, amt=amt)
    found = nlme.predict(Dosed(), nlme.Population((subject,)), ode=nlme.Tolerances(1e-10, 1e-12))
    since = np.array(times) - at
    exact = [
        sum(20 * (-0.4) ** n * max(t - 2 * n, 0.0) ** n / math.factorial(n) for n in range(int(t / 2) + 1)) if t >= 0 else 0.0
        for t in since
    ]
    return found[found.EVID == 0].y.to_numpy(), np.array(exact)


@pytest.mark.parametrize("times", [[5.5], [3.0, 5.5], [2.5, 4.5, 5.5, 7.0], [0.7, 2.9, 3.95, 4.1, 6.3, 9.0]])
def test_samples_change_nothing(times):
    """A step that a sample ends before a kink's second echo looks back at the side of the kink that it comes from."""
    np.testing.assert_allclose(*dosed(0.0, times), rtol=1e-8)


@pytest.mark.parametrize("at", [5.0, 8.0, 28.0, 200.0])
def test_states_at_rest_wait(at):
    """Steps of whole delays: what is left of an interval after them is nothing but rounding."""
    np.testing.assert_allclose(*dosed(at, [0.0, at + 1.0, at + 5.5]), rtol=1e-8, atol=1e-12)


class Pole(Dosed):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"y": a.y**2}, ("y",), lag=ind.k)


class Negative(Dosed):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a, past: {"y": -past.tau.y}, ("y",), delays={"tau": -1.0 * ind.k})


@pytest.mark.parametrize(("model", "words"), [(Pole(), "limit of steps"), (Negative(), "a delay is not above 0")])
def test_predictions_say_what_is_not_solved(model, words):
    subject = nlme.Subject(id=1, time=[0.0, 60.0], dv=[np.nan, 1.0], evid=[1, 0], amt=[20.0, 0.0])
    with pytest.raises(nlme.FitError, match=words):
        nlme.predict(model, nlme.Population((subject,)))


@pytest.mark.slow
def test_polynomials():
    """Piece by piece, across seven of them (Hairer, Norsett & Wanner, Solving ODEs I, II.17)."""
    times = [0.5, 1.3, 2.2, 3.7, 6.5]
    compare(feedback, polynomials, {"k": 1.0, "tau": 1.0}, population_of(NOTHING, times), times, 0)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [None, "stiff"])
def test_derivatives_in_the_delay(solver):
    """First and second, the latter with the jumps that come after two delays."""
    times = [0.5, 1.3, 2.2, 3.7]
    ode = nlme.Tolerances(relative=1e-10, absolute=1e-12, solver=solver)
    compare(feedback, polynomials, {"k": 1.0, "tau": 1.0}, population_of(NOTHING, times), times, 2, ode)


def produced(ind):
    """Cells that are made at the rate kin (1 + s C) and live for a time: Krzyzanski, Ramakrishnan & Jusko (1999), J Pharmacokinet
    Biopharm 27:467, the basic lifespan model."""

    def rhs(t, a, past):
        def rate(state):
            return 3.0 * (1.0 + ind.s * state.drug)

        return {"drug": -ind.k * a.drug, "cells": rate(a) - rate(past.lifespan)}

    options = dict(delays={"lifespan": ind.lifespan}, history=lambda t: {"drug": 0.0}, lag=ind.lag)
    return nlme.ODE(rhs, ("drug", "cells"), {"cells": 3.0 * ind.lifespan}, **options)


def cells(doses):
    def at(t, k, s, lifespan, lag):
        def exposure(since):
            return (1.0 - jnp.exp(-k * jnp.maximum(since, 0.0))) / k

        given = sum(dose * (exposure(t - at - lag) - exposure(t - at - lag - lifespan)) for at, dose in doses)
        return 3.0 * (lifespan + s * given)

    return at


LIFESPAN = {"k": 0.5, "s": 0.4, "lifespan": 4.0, "lag": 0.25}


@pytest.mark.slow
@pytest.mark.parametrize("second", [4.0, 3.0])
def test_lifespan(second):
    """Two doses; also so that the second is given just when the effect of the first ends."""
    doses, times = [(0.0, 10.0), (second, 5.0)], [0.0, 1.0, 3.5, 5.0, 8.5, 12.0]
    population = population_of([[dict(time=t, amt=dose) for t, dose in doses]], times)
    compare(produced, cells(doses), LIFESPAN, population, times, 2, state=1, rtol=1e-7)


@pytest.mark.slow
def test_a_reset_begins_anew():
    """After a reset nothing that was before is looked back at."""
    times = [1.0, 6.0, 7.0, 10.5, 14.0]
    population = population_of([[dict(time=0.0, amt=10.0), dict(time=5.0, evid=3), dict(time=6.5, amt=4.0)]], times)

    def exact(t, *parameters):
        return cells([(0.0, 10.0)] if t < 5.0 else [(6.5, 4.0)])(t, *parameters)

    compare(produced, exact, LIFESPAN, population, times, 1, state=1)


@pytest.mark.slow
def test_infusions():
    """An infusion over 2 h: the drug's slope jumps when it ends, that of the cells' slope a lifespan later."""
    times = [0.5, 2.5, 5.0, 7.0]
    population = population_of([[dict(time=0.0, amt=10.0, duration=2.0)]], times)

    def exact(t, k, s, lifespan, lag):
        def amount(u):  # integral of the exposure over the infusion
            u = jnp.maximum(u, 0.0)
            return (u - (1.0 - jnp.exp(-k * u)) / k) / k

        def area(u):
            return 5.0 * (amount(u) - amount(u - 2.0))

        return 3.0 * (lifespan + s * (area(t - lag) - area(t - lag - lifespan)))

    compare(produced, exact, LIFESPAN, population, times, 1, state=1)


@pytest.mark.slow
def test_a_history():
    """y' = -y(t - pi/2) goes on with the sine that it began with."""
    times = [0.3, 2.0, 7.0, 20.0]

    def sine(ind):
        options = dict(delays={"quarter": ind.tau}, history=lambda t: {"y": jnp.sin(t)})
        return nlme.ODE(lambda t, a, past: {"y": -past.quarter.y}, ("y",), **options)

    found = states_of(model_of({"tau": np.pi / 2}, sine), population_of(NOTHING, times), 0)()[0][0, :, 0]
    np.testing.assert_allclose(found, np.sin(times), atol=1e-8)


def by_steps(slope, delays, start, end):
    """Solution at ``end`` with y = ``start`` until 0, by scipy's dense output from one multiple of the shortest delay to the next."""
    pieces = [(-np.inf, lambda t: np.array([start]))]

    def at(t):
        return next(piece(t)[0] for begin, piece in reversed(pieces) if t >= begin)

    edges = np.unique(np.concatenate([np.arange(0.0, end, d) for d in delays] + [[end]]))
    y = start
    for begin, stop in zip(edges[:-1], edges[1:], strict=True):
        run = solve_ivp(
            lambda t, y: [slope(y[0], *(at(t - d) for d in delays))], (begin, stop), [y], "DOP853", rtol=1e-12, atol=1e-13,
            dense_output=True,
        )  # fmt: skip
        pieces.append((begin, run.sol))
        y = run.y[0, -1]
    return y


@pytest.mark.slow
def test_mackey_glass_and_two_delays():
    """Mackey & Glass (1977), Science 197:287; and an equation with two delays, against scipy."""

    def mackey_glass(ind):
        def rhs(t, a, past):
            return {"y": 0.2 * past.tau.y / (1.0 + past.tau.y**10) - 0.1 * a.y}

        return nlme.ODE(rhs, ("y",), {"y": 0.5}, delays={"tau": ind.tau})

    found = states_of(model_of({"tau": 17.0}, mackey_glass), population_of(NOTHING, [80.0]), 0)()[0][0, 0, 0]
    np.testing.assert_allclose(found, by_steps(lambda y, z: 0.2 * z / (1 + z**10) - 0.1 * y, [17.0], 0.5, 80.0), rtol=1e-8)

    def both(ind):
        def rhs(t, a, past):
            return {"y": -past.long.y * a.y + past.short.y}

        return nlme.ODE(rhs, ("y",), {"y": 0.5}, delays={"long": ind.long, "short": ind.short})

    found = states_of(model_of({"long": 2.0, "short": 0.7}, both), population_of(NOTHING, [9.3]), 0)()[0][0, 0, 0]
    np.testing.assert_allclose(found, by_steps(lambda y, a, b: -a * y + b, [2.0, 0.7], 0.5, 9.3), rtol=1e-8)


class Lifespan(nlme.Model):
    lifespan: nlme.Scalar = nlme.positive(4.0)
    s: nlme.Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(lifespan=0.04)
    sd: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(k=0.5, s=self.s, lifespan=self.lifespan * jnp.exp(eta.lifespan), lag=0.25)

    def dynamics(self, ind):
        return produced(ind)

    def observe(self, ind, state, t):
        return {"cells": nlme.additive(state.cells, self.sd)}


class ByFormula(Lifespan):
    def dynamics(self, ind):
        return None

    def observe(self, ind, state, t):
        exact = cells([(0.0, 10.0)])(t, ind.k, ind.s, ind.lifespan, ind.lag)
        return {"cells": nlme.additive(exact, self.sd)}


@pytest.mark.slow
def test_objective_agrees_with_the_formula():
    """Simulated, then FOCEI's objective; the delay has a random effect."""
    population = simulated(Lifespan(), population_of([[dict(time=0.0, amt=10.0)]] * 4, [1.0, 3.0, 5.0, 7.0]))
    method = nlme.FOCEI(ode=nlme.Tolerances(relative=1e-10, absolute=1e-12))
    undosed = nlme.Population(
        tuple(nlme.Subject(id=s.id, time=s.time[s.is_observation], dv=s.dv[s.is_observation]) for s in population)
    )
    found, expected = nlme.evaluate(Lifespan(), population, method), nlme.evaluate(ByFormula(), undosed, nlme.FOCEI())
    assert abs(found.objective - expected.objective) < 1e-7


def test_a_piece():
    """Degree 5 is exact, between the ends and beyond."""
    y, t = np.polynomial.Polynomial([1.0, -2.0, 0.5, 3.0, -1.0, 0.25]), np.array([2.0, 3.5])
    parts = [y.deriv(n)(end) * 1.5**n if n else y(end) for end in t for n in range(3)]
    for time in (2.0, 2.4, 3.5, 3.6):
        np.testing.assert_allclose(hermite(jnp.array(parts)[:, None], jnp.array(t), time)[0], y(time), rtol=1e-13)


def test_absorption_in_front_of_it():
    """What is built on equations that look back does so too."""
    one = nlme.ODE(lambda t, a, past: {"c": -0.1 * past.tau.c}, ("c",), delays={"tau": 1.0}, history=lambda t: {"c": 5.0})
    chain = nlme.pk.transit_chain(one, 1, mtt=1.0)
    np.testing.assert_allclose(chain.flow(0.0, (1.0, 2.0, 3.0), ((7.0, 8.0, 9.0),)), [-2.0, -2.0, 4.0 - 0.9])
    np.testing.assert_allclose(chain.before(-1.0), [0.0, 0.0, 5.0])
    arriving = nlme.pk.weibull(one, td=1.0, beta=2.0)
    np.testing.assert_allclose(arriving.flow(0.0, (1.0,), ((9.0,),)), [-0.9])
    assert chain.delays == arriving.delays == {"tau": 1.0} and arriving.before(0.0)[0] == 5.0


def structure(**options):
    return nlme.ODE(lambda t, a, past: {"x": -past.tau.x}, ("x",), **{"delays": {"tau": 1.0}} | options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"delays": 1.0}, "delays is a dict from names to delays"),
        ({"delays": {"tau": 0.0}}, "the delay 'tau' must be above 0; got 0.0"),
        ({"delays": {"my tau": 1.0}}, "'my tau' cannot name a delay"),
        ({"delays": {"tau": jnp.ones(2)}}, "must be one number"),
        ({"delays": None}, r"rhs is called as rhs\(t, a\) where there are no delays"),
        ({"history": 1.0}, "history is a function"),
        ({"delays": None, "history": lambda t: {}}, "there are none"),
        ({"algebraic": ("x",)}, "every state is algebraic|not solved together"),
    ],
)
def test_refused_when_written(options, message):
    with pytest.raises(nlme.ModelError, match=message):
        structure(**options)


def test_refused_when_traced():
    def of(rhs, history=None):
        return model_of({"k": 1.0}, lambda ind: nlme.ODE(rhs, ("x",), delays={"tau": ind.k}, history=history))

    with pytest.raises(nlme.ModelError, match="No delay named 'tua'.*Did you mean 'tau'"):
        anatomy_of(of(lambda t, a, past: {"x": past.tua.x}))
    with pytest.raises(nlme.ModelError, match="No state named 'y'"):
        anatomy_of(of(lambda t, a, past: {"x": past.tau.y}))
    with pytest.raises(nlme.ModelError, match="history: No state named 'y'"):
        anatomy_of(of(lambda t, a, past: {"x": past.tau.x}, lambda t: {"y": 1.0}))
    with pytest.raises(nlme.ModelError, match="takes"):
        anatomy_of(model_of({"k": 1.0}, lambda ind: nlme.ODE(lambda t, a: {"x": a.x}, ("x",), delays={"tau": ind.k})))


def test_steady_state_is_refused():
    population = population_of([[dict(time=0.0, amt=1.0, ss=1, ii=12.0)]], [1.0])
    with pytest.raises(nlme.ModelError, match="steady-state records .SS. cannot be combined with delays"):
        nlme.evaluate(Lifespan(), population)


def test_what_a_model_says_of_itself():
    pytest.importorskip("sympy")
    assert "looks back after" in str(nlme.describe(Lifespan))
    text = str(nlme.equations(Lifespan))
    assert "drug_lifespan" in text and "history(drug) = 0" in text and "is that of a state at t - lifespan" in text
