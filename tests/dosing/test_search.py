"""Doses for a target: a known optimum, the derivative along a regimen, what a grid finds, and what is refused."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.dosing.patients import patients_of
from nlme.dosing.search import _Problem


class Bolus(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(10.0)
    prop: nlme.Scalar = nlme.positive(0.15)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


def patient() -> nlme.Population:
    """Given 100 at time 0, 6 and 2 seen after 1 and 6 hours."""
    one = nlme.Subject(id=1, time=[0.0, 1.0, 6.0], dv=[np.nan, 6.0, 2.0], evid=[1, 0, 0], amt=[100.0, 0.0, 0.0])
    return nlme.Population((one,))


def repeated(amount, interval):
    return nlme.dose(amount, time=100.0).every(interval, n=4)


@pytest.fixture(scope="module")
def drawn():
    """(cl, v) of the draws that a search with key 1 is about."""
    eta = np.asarray(patients_of(Bolus(), patient(), 100, 1, None, None).eta)[:, 0]
    return 2.0 * np.exp(eta[:, 0]), 10.0 * np.exp(eta[:, 1])


def concentration(cl, v, amount, interval, t, doses=4, first=100.0):
    since = t - first - interval * np.arange(doses)
    return np.sum(np.where(since > 0, amount / v * np.exp(-cl / v * np.maximum(since, 0.0)), 0.0)) + 100 / v * np.exp(-cl / v * t)


@pytest.fixture(scope="module")
def for_auc():
    target = nlme.Target.auc(100.0, 400.0, low=20.0, high=40.0, aim=30.0)
    bounds, steps = {"amount": (5.0, 500.0)}, {"amount": 25.0}
    found = nlme.dose_search(
        Bolus(),
        patient(),
        lambda amount: nlme.dose(amount, time=100.0),
        bounds=bounds,
        target=target,
        key=1,
        draws=100,
        available=steps,
    )
    return found


def test_known_optimum(for_auc, drawn):
    """AUC = amount / cl (nothing is left of the first dose at 100 h, of this one at 400 h): log amount = log 30 + mean log cl."""
    cl, _ = drawn
    assert for_auc.table.loc["optimum", "amount"] == pytest.approx(30.0 * np.exp(np.mean(np.log(cl))), rel=1e-4)
    assert for_auc.table.loc["optimum", "loss"] == pytest.approx(np.var(np.log(cl)), rel=1e-4)


def test_rounding_and_probability(for_auc, drawn):
    cl, _ = drawn
    assert for_auc.values["amount"] in (50.0, 75.0)
    best = min((50.0, 75.0), key=lambda a: np.mean((np.log(a / cl) - np.log(30.0)) ** 2))
    assert for_auc.values["amount"] == best
    auc = best / cl
    np.testing.assert_allclose(for_auc.metric, auc, rtol=1e-5)
    assert for_auc.probability == np.mean((auc >= 20) & (auc <= 40))
    assert any("Rounded to what is available: amount" in m for m in for_auc.messages)
    assert "dose(" in repr(for_auc.regimen) and "probability of the target" in repr(for_auc)


@pytest.fixture(scope="module")
def problem():
    target = nlme.Target.trough(at=lambda amount, interval: 100.0 + 4 * interval, low=1.0, high=2.0)
    patients = patients_of(Bolus(), patient(), 100, 1, None, None)
    bounds = {"amount": (10.0, 300.0), "interval": (4.0, 24.0)}
    return _Problem(patients, patient(), repeated, target, list(bounds), bounds)


def test_the_number_and_its_slope(problem, drawn):
    """The trough after four doses, and the loss in log amount and log interval, from exponentials and their differences."""

    def loss(v):
        amount, interval = np.exp(v)
        m = [concentration(cl, vol, amount, interval, 100.0 + 4 * interval) for cl, vol in zip(*drawn, strict=True)]
        return np.mean((np.log(m) - np.log(np.sqrt(2.0))) ** 2)

    v = np.log([80.0, 9.0])
    value, slope, metric = problem._at(v)
    assert metric.shape == (100, 1)
    assert value == pytest.approx(loss(v), rel=1e-8)
    for k in range(2):
        h = 1e-5 * np.eye(2)[k]
        assert slope[k] == pytest.approx((loss(v + h) - loss(v - h)) / 2e-5, rel=1e-5)


@pytest.mark.slow
def test_as_good_as_a_grid(problem):
    found = problem.minimised({})
    low, high = np.log([10.0, 4.0]), np.log([300.0, 24.0])
    grid = [problem._at(low + (high - low) * np.array([a, b]))[0] for a in np.linspace(0, 1, 12) for b in np.linspace(0, 1, 12)]
    assert problem.loss(found) <= min(grid) + 1e-9


def test_time_above_follows_the_curve():
    """A line from 4 to 0 is above 1 for three quarters of the time; a curve of one panel, and of two."""
    target = nlme.Target.time_above(1.0, 0.0, 8.0, low=0.5)
    for edges in (np.array([0.0, 8.0]), np.array([0.0, 3.0, 3.0, 8.0])):
        t = target.grid(edges)
        assert float(target.metric(t, edges, jnp.asarray(4.0 - 0.5 * t))) == pytest.approx(0.75, abs=1e-12)
        k = 0.4
        assert float(target.metric(t, edges, jnp.asarray(4.0 * np.exp(-k * t)))) == pytest.approx(np.log(4.0) / k / 8, abs=1e-3)


def test_area_by_panels():
    """Exact where a curve jumps at the edges; an empty panel adds nothing."""
    target = nlme.Target.auc(0.0, 10.0, low=1.0, high=2.0)
    edges = target.edges({}, np.array([4.0, 12.0]))
    np.testing.assert_array_equal(edges, [0.0, 4.0, 10.0, 10.0])
    t = target.grid(edges)
    values = np.where(t < 4.0, np.exp(-t), 5.0 * np.exp(-(t - 4.0)))
    expected = 1 - np.exp(-4.0) + 5 * (1 - np.exp(-6.0))
    assert float(target.metric(t, edges, jnp.asarray(values))) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (dict(bounds={}), "bounds name the numbers"),
        (dict(bounds={"amount": (0.0, 5.0)}), "two positive numbers"),
        (dict(bounds={"dose": (1.0, 5.0)}), "does not take the numbers"),
        (dict(regimen=lambda amount: amount), "returned"),
        (dict(available={"amount": [1.0, 2.0]}), "no available value"),
        (dict(available={"interval": [1.0]}), "not searched"),
        (dict(target=nlme.Target.trough(200.0, low=1.0, high=2.0, endpoint="effect")), "'effect'"),
    ],
)
def test_what_cannot_be_searched_is_refused(change, seen, monkeypatch):
    options = dict(
        bounds={"amount": (5.0, 500.0)},
        target=nlme.Target.auc(100.0, 200.0, low=1.0, high=2.0),
        regimen=lambda amount: nlme.dose(amount, time=100.0),
    )
    options |= change
    with pytest.raises(nlme.ModelError, match=seen):
        nlme.dose_search(Bolus(), patient(), options.pop("regimen"), key=1, draws=100, **options)


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: nlme.Target.trough(1.0, low=5.0, high=2.0), "low <= high"),
        (lambda: nlme.Target.trough(1.0, low=5.0), "aim="),
        (lambda: nlme.Target.of(lambda t, c: c[0], [1.0], low=0.0, high=1.0), "aim="),
        (lambda: nlme.Target.of(lambda t, c: c[0], [1.0], low=1.0, high=2.0, scale="sqrt"), "'log' or 'linear'"),
        (lambda: nlme.Target.auc(5.0, 5.0, low=1.0, high=2.0).edges({}, np.zeros(0)), "end after its start"),
    ],
)
def test_targets_without_a_meaning_are_refused(make, seen):
    with pytest.raises(nlme.ModelError, match=seen):
        make()


def test_an_event_is_no_target():
    """What is predicted of it begins anew for everybody, and this patient has come so far without one."""

    class Event(Bolus):
        def observe(self, ind, state, t):
            return super().observe(ind, state, t) | {"event": nlme.time_to_event(0.1, 0.1 * t)}

    target = nlme.Target.of(lambda t, y: y[-1], [24.0], low=0.5, high=1.0, endpoint="event")
    people = dataclasses.replace(patient(), endpoints=("conc", "event"))
    with pytest.raises(nlme.ModelError, match="is of 'event', times of events: .* Take a concentration or a response"):
        nlme.dose_search(
            Event(), people, lambda amount: nlme.dose(amount, time=10.0), bounds=dict(amount=(1.0, 100.0)), target=target, key=1
        )
