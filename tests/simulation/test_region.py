"""A simulation says where it asks a network what the data never asked."""

from __future__ import annotations

import pickle

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from learned_level import LearnedLevel

import nlme
from nlme.simulation.region import Region


def data(xs):
    return nlme.read_nonmem(
        pd.DataFrame([{"ID": i + 1, "TIME": t, "DV": 1.0 + 0.1 * i, "x": x} for i, x in enumerate(xs) for t in (1.0, 2.0)]),
        covariates=["x"],
    )


@pytest.fixture(scope="module")
def at():
    return nlme.evaluate(LearnedLevel(), data([0.0, 1.0, 2.0]))


@pytest.mark.slow
def test_who_asks_outside_is_listed(at):
    inside = nlme.simulate(at, data([0.5, 2.0]), key=1, eta="new")
    assert len(inside.extrapolates) == 0 and inside.messages == []
    out = nlme.simulate(at, data([0.5, 2.5, -1.0]), key=1, eta="new", replicates=3)
    assert set(zip(out.extrapolates.REPLICATE, out.extrapolates.ID, out.extrapolates.TIME, strict=True)) == {
        (r, i, t) for r in (1, 2, 3) for i in (2, 3) for t in (1.0, 2.0)
    }
    assert "asks net outside" in out.messages[0] and "2 subjects" in out.messages[0]
    typical = nlme.simulate(at, data([0.5, 2.5]), key=1, eta="typical", replicates=2)
    assert set(typical.extrapolates.REPLICATE) == {1, 2} and set(typical.extrapolates.ID) == {2}


def test_a_prediction_says_so_as_well(at):
    out = nlme.predict(at, data([0.5, 2.5]), eta="typical")
    assert list(zip(out.extrapolates.ID, out.extrapolates.TIME, strict=True)) == [(2, 1.0), (2, 2.0)]
    assert out.messages[0].startswith("The prediction asks net outside of what the data visited, for 1 subject (1 to 2)")
    assert nlme.predict(at).messages == [] and len(nlme.predict(at).extrapolates) == 0


def test_without_a_fit_or_a_network_nothing_is_compared(at):
    assert nlme.predict(at.model, data([5.0])).extrapolates is None
    assert nlme.simulate(at.model, data([5.0]), key=1, eta="new").extrapolates is None
    table = nlme.simulate(at, data([0.5]), key=1, eta="new")
    assert type(table[table.MDV == 0]) is pd.DataFrame


@pytest.mark.parametrize("as_data", [False, True])
def test_a_simulated_table_goes_through_pickle(at, as_data):
    """With what it knows beside its rows: a process of its own gives it back so."""
    made = nlme.simulate(at, data([0.5, 2.5]), key=1, eta="new", as_data=as_data)
    made.attrs["of"] = "a test"
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is type(made) and again.messages == made.messages and again.attrs == made.attrs
    pd.testing.assert_frame_equal(pd.DataFrame(again), pd.DataFrame(made))
    pd.testing.assert_frame_equal(again.extrapolates, made.extrapolates)
    assert again.parameters is None and len(again.extrapolates) and type(again[again.ID == 1]) is pd.DataFrame


def test_a_hull_is_tighter_than_a_box():
    points = np.random.default_rng(0).uniform(size=(200, 2))
    points = points[points.sum(axis=1) < 1.0]
    region = Region(points)
    assert region.outside(np.array([0.9, 0.9])) and not region.outside(np.array([0.3, 0.3]))


def test_points_on_a_line_or_in_a_plane_have_a_hull_too():
    line = Region(np.stack([np.linspace(0, 1, 5)] * 2, axis=1))
    assert line.outside(np.array([0.2, 0.8])) and line.outside(np.array([1.2, 1.2])) and not line.outside(np.array([0.37, 0.37]))
    a, b = np.random.default_rng(1).uniform(size=(2, 50))
    plane = Region(np.stack([a, b, a + b], axis=1))
    assert not plane.outside(np.array([0.5, 0.5, 1.0])) and plane.outside(np.array([0.5, 0.5, 1.1]))
    assert plane.outside(np.array([0.0, 1.2, 1.2]))
    constant = Region(np.array([[1.0, 2.0], [1.0, 3.0]]))
    assert constant.outside(np.array([1.1, 2.5])) and not constant.outside(np.array([1.0, 2.5]))


class Saturated(nlme.Model):
    """Amounts whose elimination a network makes of the amount."""

    cl: nlme.Scalar = nlme.positive(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("amount",), outputs=1, width=2, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(cl=0.05)
    sd: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl))

    def dynamics(self, ind):
        return nlme.ODE(
            lambda t, a: dict(central=-0.1 * ind.cl * a.central * (1 + 0.01 * self.net(a.central / 10)[0])), states=("central",)
        )

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.sd)}


def test_forecasts_and_doses_found_say_it_too():
    rows = [
        (i, t, amount if t == 0 else 0, int(t == 0), np.nan if t == 0 else amount * np.exp(-0.1 * t))
        for i, amount in ((1, 10.0), (2, 8.0))
        for t in (0.0, 1.0, 4.0, 10.0)
    ]
    fit = nlme.evaluate(Saturated(), nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"])))
    patient = fit.population[:1]
    inside = nlme.forecast(fit, patient, times=[5.0, 8.0], key=1, draws=20)
    assert len(inside.extrapolates) == 0 and inside.messages == inside.posterior.messages
    beyond = nlme.forecast(fit, patient, times=[12.0], doses=nlme.dose(1000.0, time=11.0), key=1, draws=20)
    assert set(beyond.extrapolates.TIME) >= {12.0} and "The forecast asks net outside" in beyond.messages[0]
    found = nlme.dose_search(
        fit, patient, lambda amount: nlme.dose(amount, time=11.0), bounds={"amount": (100.0, 2000.0)}, key=1, draws=20,
        target=nlme.Target.trough(at=20.0, low=200.0, high=300.0),
    )  # fmt: skip
    assert any("The regimen found asks net outside" in message for message in found.messages)
    assert set(found.extrapolates.columns) == {"REPLICATE", "ID", "TIME", "network"}
    near = nlme.dose_search(
        fit, patient, lambda amount: nlme.dose(amount, time=11.0), bounds={"amount": (1.0, 6.0)}, key=1, draws=20,
        target=nlme.Target.trough(at=20.0, low=3.4, high=3.8),
    )  # fmt: skip
    assert not any("asks net outside" in message for message in near.messages)


def test_where_no_amount_is_nothing_is_asked_beyond():
    """Before the first dose a network of the amount is asked at 0, which no record of the data has."""
    rows = [
        (1, t, 10.0 if t == 0 else 0, int(t == 0), np.nan if t == 0 else 10 * np.exp(-0.1 * t)) for t in (0.0, 1.0, 4.0, 10.0)
    ]
    fit = nlme.evaluate(Saturated(), nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "AMT", "EVID", "DV"])))
    asked = fit.population.with_times([0.0, 2.0], ties="observation first")
    drawn = nlme.simulate(fit, asked, key=1, eta="typical")
    assert drawn["IPRED"].iloc[0] == 0.0 and len(drawn.extrapolates) == 0


def test_weights_drawn_from_a_normal_law_are_said():
    random = np.random.default_rng(1)
    rows = [
        (i, t, 1 + 0.4 * own + 0.3 * random.normal(), i / 6 - 1)
        for i, own in enumerate(random.normal(size=12))
        for t in (1.0, 2.0)
    ]
    people = nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV", "x"]), covariates=["x"])
    fit = nlme.fit(LearnedLevel(), people, penalty=nlme.L2(1.0), starts=0, progress=False)
    drawn = nlme.simulate(fit, key=1, replicates=3, uncertainty="covariance")
    assert any("Weights of networks are drawn from a normal law" in message for message in drawn.messages)
