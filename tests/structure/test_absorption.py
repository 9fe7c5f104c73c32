"""Absorption: against the convolution integral, analytic solutions and the chain of compartments; derivatives; messages."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.scipy.special import gammaln
from scipy.integrate import quad
from scipy.stats import gamma, weibull_min
from states import model_of, population_of, states_of

import nlme

CL, V, KA, F = 3.0, 20.0, 1.1, 0.8
K = CL / V
TIMES = np.array([0.3, 1.0, 3.0, 5.0, 6.0, 9.0, 15.0, 30.0])
# two doses that overlap; a dose whose absorption is cut off by a reset
DOSES = [
    [dict(time=0.0, amt=100.0), dict(time=4.0, amt=60.0)],
    [dict(time=0.0, amt=100.0), dict(time=4.0, amt=60.0, evid=4)],
]
POPULATION = population_of(DOSES, TIMES)


def oral(ind, **rules):
    return nlme.pk.OneCompartmentOral(cl=CL, v=V, ka=KA, bioavailability=F, **rules)


def convolved(density, response, doses, lag=0.0):
    """sum over doses of F D int_0^s density(u) response(s - u) du, s the time since the dose."""

    def one(s):
        return quad(lambda u: density(u) * response(s - u), 0.0, s, epsabs=1e-12, epsrel=1e-12, limit=500)[0] if s > 0 else 0.0

    return np.array([sum(F * d["amt"] * one(t - d["time"] - lag) for d in doses) for t in TIMES])


def depot(s):
    return np.exp(-KA * s)


def central(s):
    return KA / (KA - K) * (np.exp(-K * s) - np.exp(-KA * s))


def assert_convolved(states, density, lag=0.0):
    """(N, T, 2) states of the oral model: doses added up, those before a reset forgotten."""
    first, second = DOSES[0]
    for k, response in enumerate((depot, central)):
        expected = convolved(density, response, [first, second], lag)
        np.testing.assert_allclose(states[0, :, k], expected, rtol=1e-7, atol=1e-7)
        before = convolved(density, response, [first], lag)
        after = convolved(density, response, [second], lag)
        np.testing.assert_allclose(states[1, :, k], np.where(TIMES < 4.0, before, after), rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_transit_is_the_convolution_for_several_doses():
    n, mtt, lag = 2.7, 2.5, 0.2
    model = model_of(dict(n=n, mtt=mtt), lambda ind: nlme.pk.transit(oral(ind, lag=lag), n=ind.n, mtt=ind.mtt))
    (states,) = states_of(model, POPULATION)()
    assert_convolved(states, lambda u: gamma.pdf(u, n + 1, scale=mtt / (n + 1)), lag)


@pytest.mark.parametrize("beta", [pytest.param(1.7, marks=pytest.mark.slow), 0.8])
def test_weibull_is_the_convolution(beta):
    model = model_of(dict(td=2.0, beta=beta), lambda ind: nlme.pk.weibull(oral(ind), td=ind.td, beta=ind.beta))
    (states,) = states_of(model, POPULATION)()
    if beta > 1:
        assert_convolved(states, lambda u: weibull_min.pdf(u, beta, scale=2.0))
        return
    # the rate is infinite at the start: the integral by parts, with the fraction arrived
    arrived = weibull_min(beta, scale=2.0).cdf
    expected = convolved(arrived, lambda s: -KA * np.exp(-KA * s), DOSES[0])
    expected += [sum(F * d["amt"] * arrived(t - d["time"]) for d in DOSES[0]) for t in TIMES]
    np.testing.assert_allclose(states[0, :, 0], expected, rtol=2e-6, atol=1e-5)


@pytest.mark.slow
def test_everything_arrives():
    """Into a compartment that nothing leaves."""
    kept = nlme.pk.Linear(("body",), {("body", None): 0.0}, bioavailability=F)
    for make in (lambda ind: nlme.pk.transit(kept, n=ind.n, ktr=3.0), lambda ind: nlme.pk.weibull(kept, td=1.0, beta=ind.n)):
        (states,) = states_of(model_of(dict(n=1.5), make), POPULATION)()
        np.testing.assert_allclose(states[:, -1, 0], [F * 160.0, F * 60.0], rtol=1e-8)


@pytest.mark.slow
def test_whole_numbers_of_transits_are_a_chain():
    """With lag, bioavailability, reset: the compartments of the chain against the function of time, values and derivatives."""
    typical = dict(mtt=2.5, cl=CL, lag=0.3)

    def pk(ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=V, ka=KA, bioavailability=F, lag=ind.lag)

    chain, function = (
        states_of(model_of(typical, lambda ind, make=make, n=n: make(pk(ind), n=n, mtt=ind.mtt)), POPULATION, order=1)()
        for make, n in ((nlme.pk.transit_chain, 3), (nlme.pk.transit, 3.0))
    )
    for a, b in zip(chain, function, strict=True):
        np.testing.assert_allclose(a[:, :, 4:], b, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_derivatives_in_the_number_of_transits():
    typical = dict(n=2.7, mtt=2.5, lag=0.3)
    model = model_of(typical, lambda ind: nlme.pk.transit(oral(ind, lag=ind.lag), n=ind.n, mtt=ind.mtt))
    _, first, second = states_of(model, POPULATION, order=2)()
    value = states_of(model, POPULATION)
    h = 5e-3
    centre = value()[0]
    for i, e in enumerate(np.eye(3) * h):
        near, far, back, behind = (value(k * e)[0] for k in (1, 2, -1, -2))
        slope = (8 * (near - back) - (far - behind)) / (12 * h)
        bend = (16 * (near + back) - (far + behind) - 30 * centre) / (12 * h**2)
        np.testing.assert_allclose(first[..., i], slope, atol=1e-6 * np.abs(slope).max())
        np.testing.assert_allclose(second[..., i, i], bend, atol=1e-5 * np.abs(bend).max())


def test_zero_order_is_an_infusion_of_that_duration():
    duration, dose = 2.5, [dict(time=0.0, amt=100.0, rate=-2.0)]
    model = model_of(dict(tk0=duration), lambda ind: nlme.pk.zero_order(nlme.pk.OneCompartment(cl=CL, v=V), ind.tk0))
    (states,) = states_of(model, population_of([dose], TIMES))()
    during = np.minimum(TIMES, duration)
    expected = 100.0 / duration / K * (1 - np.exp(-K * during)) * np.exp(-K * (TIMES - during))
    np.testing.assert_allclose(states[0, :, 0], expected, rtol=1e-12)


def test_mixed_order_shares_the_dose():
    duration, fraction = 2.5, 0.6
    doses = [dict(time=0.0, amt=100.0, cmt=1), dict(time=0.0, amt=100.0, cmt=2, rate=-2.0)]

    def dynamics(ind):
        return nlme.pk.mixed_order(nlme.pk.OneCompartmentOral(cl=CL, v=V, ka=KA), ind.fraction, ind.tk0)

    (states,) = states_of(model_of(dict(tk0=duration, fraction=fraction), dynamics), population_of([doses], TIMES))()
    during = np.minimum(TIMES, duration)
    infused = 100.0 / duration / K * (1 - np.exp(-K * during)) * np.exp(-K * (TIMES - during))
    np.testing.assert_allclose(states[0, :, 1], fraction * 100.0 * central(TIMES) + (1 - fraction) * infused, rtol=1e-11)


def test_steady_state_is_refused():
    model = model_of(dict(n=2.0), lambda ind: nlme.pk.transit(oral(ind), n=ind.n, mtt=1.0))
    with pytest.raises(nlme.ModelError, match="transit_chain, which is linear"):
        states_of(model, population_of([[dict(time=0.0, amt=100.0, ss=1, ii=12.0)]], TIMES))()


PK = nlme.pk.OneCompartmentOral(cl=jnp.asarray(CL), v=jnp.asarray(V), ka=jnp.asarray(KA), bioavailability=F)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: nlme.pk.transit(PK, n=2.0), "one of mtt"),
        (lambda: nlme.pk.transit(PK, n=2.0, mtt=1.0, ktr=1.0), "one of mtt"),
        (lambda: nlme.pk.transit(PK, n=2.0, mtt=1.0, into="dep"), "No state named 'dep'"),
        (lambda: nlme.pk.weibull(nlme.pk.weibull(PK, 1.0, 2.0), 1.0, 2.0), "an absorption already"),
        (lambda: nlme.pk.transit_chain(PK, n=2.5, mtt=1.0), "whole number.*nlme.pk.transit takes a real one"),
        (lambda: nlme.pk.mixed_order(PK, 0.5, 2.0), "bioavailability of 'depot' is given twice"),
        (lambda: nlme.pk.zero_order(PK, 2.0, into="gut"), "No state named 'gut'"),
    ],
)
def test_messages(build, message):
    with pytest.raises(nlme.ModelError, match=message):
        build()


class Quick(nlme.Model):
    """Doses that arrive within minutes, into a drug that stays for weeks."""

    mtt: nlme.Scalar = nlme.positive(0.1)
    shape: nlme.Scalar = nlme.positive(3.0)
    weibull: bool = False
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(mtt=self.mtt, shape=self.shape)

    def dynamics(self, ind):
        pk = nlme.pk.OneCompartment(cl=0.02, v=20.0)
        if self.weibull:
            return nlme.pk.weibull(pk, td=ind.mtt, beta=ind.shape)
        return nlme.pk.transit(pk, ind.shape, mtt=ind.mtt)

    def observe(self, ind, state, t):
        return {"amount": nlme.additive(state.central, self.sd)}


@pytest.mark.parametrize("weibull", [False, True])
@pytest.mark.parametrize(("mtt", "shape"), [(1e-4, 3.0), (0.1, 3.0), (0.5, 15.0), (1.0, 100.0), (2.0, 1.2)])
@pytest.mark.parametrize("solver", [None, "stiff"])
def test_no_dose_is_stepped_over(weibull, mtt, shape, solver):
    """Four daily doses, then one after a month's pause: all of each is there, as by numerical convolution."""
    time, doses = [95.9, 500.0, 840.0], [0.0, 24.0, 48.0, 72.0, 792.0]
    rows = [dict(ID=1, TIME=s, EVID=1, AMT=100.0) for s in doses] + [dict(ID=1, TIME=t, EVID=0, DV=1.0) for t in time]
    population = nlme.read_nonmem(pd.DataFrame(rows).fillna({"AMT": 0.0}).sort_values("TIME"))
    model = Quick(mtt=mtt, shape=shape, weibull=weibull)
    law = weibull_min(shape, scale=mtt) if weibull else gamma(shape + 1.0, scale=mtt / (shape + 1.0))
    left = np.mean(
        np.exp(0.001 * law.ppf((np.arange(20_000) + 0.5) / 20_000))
    )  # what arrives later has been lost for a shorter time
    expected = [100.0 * left * sum(np.exp(-0.001 * (t - s)) for s in doses if s < t) for t in time]
    found = nlme.predict(model, population, ode=nlme.Tolerances(solver=solver)).query("EVID == 0")["amount"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("mtt", "shape", "weibull"), [(1.0, -2.0, False), (-1.0, 3.0, False), (1.0, -1.0, True), (-1.0, 2.0, True)]
)
def test_an_absorption_out_of_its_domain_is_no_absorption_of_nothing(mtt, shape, weibull):
    class Free(Quick):
        mtt: nlme.Scalar = nlme.real(0.1)
        shape: nlme.Scalar = nlme.real(3.0)

    rows = [dict(ID=1, TIME=0.0, EVID=1, AMT=100.0), dict(ID=1, TIME=5.0, EVID=0, AMT=0.0, DV=1.0)]
    with pytest.raises(nlme.FitError, match="stopped being finite"):
        nlme.predict(Free(mtt=mtt, shape=shape, weibull=weibull), nlme.read_nonmem(pd.DataFrame(rows)))


def test_a_closed_form_without_a_value_is_said():
    def chain(ind):
        return nlme.pk.transit_chain(nlme.pk.OneCompartment(cl=1.0, v=1.0), 3, mtt=ind.mtt)

    with pytest.raises(nlme.FitError, match="stopped being finite"):
        nlme.predict(model_of(dict(mtt=1e-300), chain), population_of([[dict(time=0.0, amt=100.0)]], [5.0]))


class ByHand(nlme.Model):
    """Transit absorption written into the equations, with the time of the last dose a covariate, as control streams have it."""

    mtt: nlme.Scalar = nlme.positive(1.0)
    n: nlme.Scalar = nlme.positive(10.0)
    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"dosed": "h"}

    def individual(self, eta, cov):
        return dict(ktr=(self.n + 1.0) / self.mtt, n=self.n, dosed=cov.dosed)

    def dynamics(self, ind):
        def rhs(t, a):
            since = ind.ktr * jnp.maximum(t - ind.dosed, 1e-6)
            arrives = 100.0 * ind.ktr * jnp.exp(ind.n * jnp.log(since) - since - gammaln(ind.n + 1.0))
            return dict(central=arrives - 0.01 * a.central)

        return nlme.ODE(rhs, ("central",), bioavailability={"central": 0.0})

    def observe(self, ind, state, t):
        return {"amount": nlme.additive(state.central, self.sd)}


@pytest.mark.parametrize(("mtt", "n"), [(2.0, 3.0), (1.0, 40.0), (0.5, 10.0), (0.02, 3.0)])
def test_an_absorption_in_the_equations_is_not_stepped_over(mtt, n):
    doses = [0.0, 24.0, 48.0, 72.0, 800.0]
    rows = [dict(ID=1, TIME=s, EVID=1, AMT=100.0, dosed=s) for s in doses] + [dict(ID=1, TIME=840.0, EVID=0, DV=1.0, dosed=800.0)]
    frame = pd.DataFrame(rows).fillna({"AMT": 0.0})
    population = nlme.read_nonmem(frame, covariates=["dosed"], time_varying=["dosed"], interpolation="locf")
    left = (1.0 - 0.01 * mtt / (n + 1.0)) ** -(n + 1.0)
    expected = 100.0 * left * sum(np.exp(-0.01 * (840.0 - s)) for s in doses)
    assert nlme.predict(ByHand(mtt=mtt, n=n), population)["amount"].iloc[-1] == pytest.approx(expected, rel=1e-7)
