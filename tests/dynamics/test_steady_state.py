"""Steady states of non-linear systems: against many doses one by one, their derivatives, and systems that have none."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from states import model_of, population_of, states_of

import nlme
from nlme.dynamics import steady
from nlme.typing import Named

TYPICAL = dict(vmax=9.0, km=3.0, v=10.0, ka=0.8)
TIMES = [0.0, 1.0, 4.0, 7.9]


def saturable(ind, **rules):
    def rhs(t, a):
        c = a.central / ind.v
        return {"depot": -ind.ka * a.depot, "central": ind.ka * a.depot - ind.vmax * c / (ind.km + c)}

    return nlme.ODE(rhs, ("depot", "central"), **rules)


def trains(n: int):
    """A bolus, an infusion, and one longer than the interval: as a steady-state record, and as ``n`` doses before."""
    for dose in (dict(amt=40.0), dict(amt=40.0, rate=10.0, cmt=2), dict(amt=40.0, rate=4.0, cmt=2)):
        yield dict(dose, time=0.0, ss=1, ii=8.0), dict(dose, time=-8.0 * n, addl=n, ii=8.0)


@pytest.mark.slow
def test_is_what_many_doses_lead_to():
    at_once = states_of(model_of(TYPICAL, saturable), population_of([[ss] for ss, _ in trains(0)], TIMES))()[0]
    one_by_one = states_of(model_of(TYPICAL, saturable), population_of([[many] for _, many in trains(150)], TIMES))()[0]
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_derivatives():
    """First and second, the lag and the bioavailability among the directions, against central differences."""
    typical = dict(vmax=9.0, lag=0.7, f=0.9)

    def with_rules(ind):
        all_of_it = Named(TYPICAL | dict(ind.items()), "individual parameter", "individual()")
        return saturable(all_of_it, lag={"depot": ind.lag}, bioavailability={"depot": ind.f})

    population = population_of([[dict(time=0.0, amt=40.0, ss=1, ii=8.0)]], TIMES)
    at = states_of(model_of(typical, with_rules), population, order=2)
    value, first, second = at()
    size, h = len(typical), 1e-4
    for k in range(size):
        up, down = (at(s * h * np.eye(size)[k]) for s in (1, -1))
        np.testing.assert_allclose(first[..., k], (up[0] - down[0]) / (2 * h), rtol=1e-6, atol=1e-6 * np.abs(first).max())
        np.testing.assert_allclose(second[..., k], (up[1] - down[1]) / (2 * h), rtol=1e-6, atol=1e-6 * np.abs(second).max())


@pytest.mark.slow
def test_a_slow_system_is_found_in_a_few_steps(monkeypatch):
    """Half-life of 100 intervals: dosing to 1e-9 would take 3,000 doses; 40 are allowed."""
    monkeypatch.setattr(steady, "_CYCLES", 40)

    def slow(ind):
        return nlme.ODE(lambda t, a: {"central": -ind.k * a.central / (1.0 + 1e-3 * a.central)}, ("central",))

    population = population_of([[dict(time=0.0, amt=1.0, ss=1, ii=1.0)]], [0.0])
    value = states_of(model_of(dict(k=np.log(2.0) / 100.0), slow), population)()[0].item()
    # of da/dt = -k a / (1 + a/1000):  log a + a/1000 falls by k in an interval
    k = np.log(2.0) / 100.0
    assert np.log(value) + 1e-3 * value - np.log(value - 1.0) - 1e-3 * (value - 1.0) == pytest.approx(k, rel=1e-8)


@pytest.mark.slow
def test_none_is_said():
    """More is given than the elimination can ever remove."""

    class Overfed(nlme.Model):
        sd: nlme.Scalar = nlme.positive(1.0)

        def individual(self, eta, cov):
            return dict(vmax=jnp.asarray(2.0), km=jnp.asarray(1.0), v=jnp.asarray(10.0), ka=jnp.asarray(1.0))

        def dynamics(self, ind):
            return saturable(ind)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(state.central, self.sd)}

    population = population_of([[dict(time=0.0, amt=40.0, ss=1, ii=8.0)]], TIMES)
    with pytest.raises(nlme.FitError, match="do not settle to a steady state") as caught:
        nlme.predict(Overfed(), population)
    assert "subject 1" in str(caught.value)


class Explosive(nlme.Model):
    """a' = k a^2 from 1 is 1 / (1 - k t): no longer finite at 1 / k = 2."""

    sd: nlme.Scalar = nlme.positive(1.0)
    k: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(k=self.k)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": ind.k * a.central**2}, ("central",))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.sd)}


@pytest.mark.slow
@pytest.mark.parametrize("ask", [nlme.predict, nlme.evaluate], ids=["predict", "evaluate"])
def test_a_failed_solve_says_where(ask):
    """Subject, times, state there, and what to try."""
    population = population_of([[dict(time=0.0, amt=1.0)]], [1.0, 3.0])
    with pytest.raises(nlme.FitError) as caught:
        ask(Explosive(), population)
    said = str(caught.value)
    assert "subject 1" in said and "between times 1 and 3" in said and "central 2" in said
    assert "solver='stiff'" in said or "growth without bound" in said
    assert len(said.splitlines()) < 8


@pytest.mark.parametrize(("length", "interval"), [(10.0, 4.0), (8.0, 4.0), (0.3, 0.1), (2.1, 0.7)])
@pytest.mark.parametrize("steady", [1, 2])
def test_infusions_that_outlast_their_interval_end_one_after_the_other(length, interval, steady):
    """Hundreds of infusions one by one, and the closed form: before, at and after the end of each, and after a reset."""
    time = np.array([0.0, 0.5, 0.9, 1.0, 1.1, 1.6]) * length
    rows = [dict(ID=1, TIME=0.0, EVID=1, AMT=100.0, RATE=100.0 / length, SS=steady, II=interval)]
    rows += [dict(ID=1, TIME=t, EVID=0, DV=1.0) for t in time]
    rows += [dict(ID=1, TIME=2 * length, EVID=4, AMT=50.0, RATE=0.0), dict(ID=1, TIME=3 * length, EVID=0, DV=1.0)]
    population = nlme.read_nonmem(pd.DataFrame(rows).fillna({"AMT": 0.0, "RATE": 0.0, "SS": 0, "II": 0.0}))
    past = np.arange(0.0, 400.0, interval)
    on, off = np.maximum(time[:, None] + past, 0.0), np.maximum(time[:, None] + past - length, 0.0)
    expected = 100.0 / length / 0.1 * np.sum(np.exp(-0.1 * off) - np.exp(-0.1 * on), axis=1)
    for form in ("stepped", "closed"):
        found = nlme.predict(Kept(form), population).query("EVID == 0")["amount"].to_numpy()
        np.testing.assert_allclose(found[:-1], expected, rtol=2e-6)
        np.testing.assert_allclose(found[-1], 50.0 * np.exp(-0.1 * length), rtol=2e-6)


@pytest.mark.parametrize("k", [0.0, -0.1])
@pytest.mark.parametrize("form", ["closed", "linear", "stepped"])
def test_what_is_not_eliminated_has_no_steady_state(form, k):
    assert_unsettled(Kept(form, k))


@pytest.mark.parametrize("form", ["area", "driven"])
def test_a_state_that_only_accumulates_has_none(form):
    assert_unsettled(Kept(form))


def test_a_state_that_nothing_enters_is_no_obstacle():
    states = nlme.predict(Kept("idle"), one_steady_dose())["amount"]
    np.testing.assert_allclose(states, 10.0 * np.exp(-0.1 * np.array([0.0, 1.0])) / (1.0 - np.exp(-0.5)), rtol=1e-7)


class Kept(nlme.Model):
    form: str = "closed"
    k: nlme.Scalar = nlme.real(0.1)
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(k=self.k)

    def dynamics(self, ind):
        def equations(area, bend=0.0):
            def rhs(t, a):
                lost = ind.k * a.central / (1.0 + bend * a.central)
                return {"central": -lost} | ({} if area is None else {"area": area * a.central})

            return nlme.ODE(rhs, ("central",) if area is None else ("central", "area"))

        return {
            "closed": lambda: nlme.pk.OneCompartment(cl=ind.k * 20.0, v=20.0),
            "linear": lambda: equations(None),
            "stepped": lambda: equations(None, 1e-14),
            "area": lambda: equations(1.0),
            "idle": lambda: equations(0.0),
            "driven": lambda: nlme.pk.Linear(("central", "area"), {("central", None): ind.k}, drives={("central", "area"): 1.0}),
        }[self.form]()

    def observe(self, ind, state, t):
        return {"amount": nlme.additive(state.central, self.sd)}


def one_steady_dose():
    rows = [
        dict(ID=1, TIME=0.0, EVID=1, AMT=10.0, SS=1, II=5.0, DV=np.nan),
        dict(ID=1, TIME=1.0, EVID=0, AMT=0, SS=0, II=0, DV=1.0),
    ]
    return nlme.read_nonmem(pd.DataFrame(rows))


def assert_unsettled(model):
    words = "do not settle|stopped being finite" if model.k < 0 and model.form == "stepped" else "do not settle"
    with pytest.raises(nlme.FitError, match=words):
        nlme.predict(model, one_steady_dose())
