"""Forecasts of one patient: bands against exact normal ones, further doses, and what is refused."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from normal_means import Means
from one_compartment_people import OneCompartment, people

import nlme
from nlme.dosing.forecast import with_asked, with_further


def seen(*values) -> nlme.Population:
    return nlme.Population((nlme.Subject(id=7, time=np.arange(len(values), dtype=float), dv=list(values)),))


@pytest.fixture(scope="module")
def found():
    return nlme.forecast(Means(), seen(2.0, 1.2), times=[5.0, 6.0], key=1, draws=500, level=0.8)


def test_bands_are_the_exact_ones(found):
    """The level is normal given two samples; a new observation adds the residual variance.  Within 5 errors of a quantile of 500."""
    precision = 2 / 0.36 + 1 / 0.5
    mean, sd = 1.0 + (1.0 + 0.2) / 0.36 / precision, 1 / np.sqrt(precision)
    row = found.frame.iloc[0]
    error = 5 * np.sqrt(0.1 * 0.9 / 500) / 0.1755  # density of a normal at its 10 % point: 0.1755
    assert row.MEDIAN == pytest.approx(mean, abs=5 * 1.2533 * sd / np.sqrt(500))
    for name, tail in (("LOWER", -1.2816), ("UPPER", 1.2816)):
        assert row[name] == pytest.approx(mean + tail * sd, abs=error * sd)
        whole = np.hypot(sd, 0.6)
        assert row[f"DV_{name}"] == pytest.approx(mean + tail * whole, abs=error * whole)


def test_what_is_in_it(found):
    assert list(found.frame.TIME) == [5.0, 6.0] and set(found.frame.ID) == {7} and set(found.frame.ENDPOINT) == {"y"}
    assert found.curves.shape == (500, 2) and list(found.observed.DV) == [2.0, 1.2]
    assert set(found.observed.ENDPOINT) == set(found.frame.ENDPOINT)  # so that they are drawn with it
    np.testing.assert_array_equal(found.curves[:, 0], found.curves[:, 1])  # the level does not change in time
    assert "80 % bands of 500 draws" in repr(found)
    again = nlme.forecast(Means(), seen(2.0, 1.2), times=[5.0, 6.0], key=1, draws=500, level=0.8)
    np.testing.assert_array_equal(again.frame.DV_UPPER, found.frame.DV_UPPER)


def test_picture(found):
    figure = nlme.plots.forecast(found, units={"time": "h"}, target=(0.5, 1.0))
    (axes,) = figure.axes
    assert axes.get_xlabel() == "Time (h)" and axes.get_title(loc="left") == "ID 7"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.frame.MEDIAN)
    assert figure.legends[0].get_texts()[-1].get_text() == "target, 0.5 to 1"


def test_further_doses_come_beside_those_given():
    given = nlme.Subject(id=1, time=[0.0, 2.0], dv=[np.nan, 5.0], evid=[1, 0], amt=[100.0, 0.0])
    more = with_further(nlme.Population((given,)), nlme.dose(50, time=12.0).every(6.0, n=2))
    (s,) = more
    np.testing.assert_array_equal(s.time, [0.0, 2.0, 12.0])
    np.testing.assert_array_equal(s.amt, [100.0, 0.0, 50.0])
    assert list(s.addl) == [0, 0, 1]


@pytest.mark.parametrize(
    ("change", "seen_in"),
    [
        (dict(level=1.5), "level"),
        (dict(patient=5), "Population"),
        (dict(times=[-1.0]), "times"),
        (dict(doses=100), "regimen"),
        (dict(doses=nlme.dose(1.0, time=0.5)), "Subject 7: a further dose at 0.5 comes before the last sample at 1"),
    ],
)
def test_what_cannot_be_forecast_is_refused(change, seen_in):
    options = dict(patient=seen(2.0, 1.2), times=[5.0], key=1, draws=500) | change
    with pytest.raises(nlme.DataError, match=seen_in):
        nlme.forecast(Means(), options.pop("patient"), **options)


@pytest.mark.slow
def test_bands_cover():
    """200 patients of whom two samples are known: 90 % bands of the next observation hold 85 to 95 % of them."""
    random = np.random.default_rng(5)
    level = 1.0 + np.sqrt(0.5) * random.normal(size=200)
    y = level[:, None] + 0.6 * random.normal(size=(200, 3))
    people = tuple(nlme.Subject(id=i + 1, time=[0.0, 1.0], dv=y[i, :2]) for i in range(200))
    frame = nlme.forecast(Means(), nlme.Population(people), times=[2.0], key=2, draws=500).frame
    assert 0.85 <= np.mean((y[:, 2] >= frame.DV_LOWER) & (y[:, 2] <= frame.DV_UPPER)) <= 0.95
    assert 0.85 <= np.mean((level >= frame.LOWER) & (level <= frame.UPPER)) <= 0.95


class Level(Means):
    """A level that is known, with residuals that remember."""

    decay: nlme.Scalar = nlme.positive(0.1)

    def observe(self, ind, state, t):
        return {"y": nlme.ar1(nlme.additive(ind.mu, self.sd), self.decay)}


def test_a_new_observation_goes_on_from_the_last_residuals():
    """Bands of a normal process given its values at 1 and 5: before, between, at one of them, after, long after."""
    t, y, at = np.array([1.0, 5.0]), np.array([11.5, 13.0]), np.array([0.0, 3.0, 5.0, 5.5, 60.0])
    patient = nlme.Population((nlme.Subject(id=1, time=t, dv=y),))
    model = Level(mu=10.0, sd=1.0, omega={"mu": 1e-8})
    found = nlme.forecast(model, patient, times=at, key=1, draws=6000).frame

    def covariance(a, b):
        return np.exp(-0.1 * np.abs(a[:, None] - b))

    known = np.linalg.solve(covariance(t, t), np.c_[y - 10.0, covariance(t, at)])
    mean = 10.0 + covariance(at, t) @ known[:, 0]
    sd = np.sqrt(np.maximum(1.0 - np.sum(covariance(t, at) * known[:, 1:], axis=0), 0.0))
    for name, z in (("DV_LOWER", -1.6449), ("DV_UPPER", 1.6449)):
        np.testing.assert_array_less(np.abs(found[name] - mean - z * sd), 5 * np.sqrt(0.05 * 0.95 / 6000) / 0.1031 * sd + 1e-3)
    np.testing.assert_allclose(found.MEDIAN, 10.0, atol=1e-2)  # the patient's own curve has no residual


class Risk(nlme.Model):
    """A hazard 2 rate t, as a formula or integrated from the first record on."""

    rate: nlme.Scalar = nlme.positive(0.02)
    omega: nlme.Covariance = nlme.covariance(rate=1e-8)
    repeated: bool = eqx.field(static=True, default=False)
    integrated: bool = eqx.field(static=True, default=False)

    def individual(self, eta, cov):
        return dict(rate=self.rate * jnp.exp(eta.rate))

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"risk": 2 * ind.rate * t}, ("risk",)) if self.integrated else None

    def observe(self, ind, state, t):
        cumulative = state.risk if self.integrated else ind.rate * t**2
        return {"event": nlme.time_to_event(2 * ind.rate * t, cumulative, repeated=self.repeated)}


def _until(*visits) -> nlme.Population:
    time, dv = np.array([(0.0, np.nan), *visits]).T
    return nlme.Population((nlme.Subject(id=1, time=time, dv=dv, evid=[2, *(0 for _ in visits)]),))


@pytest.mark.parametrize("integrated", [False, True])
def test_events_are_those_of_somebody_with_this_past(integrated):
    model, times = Risk(integrated=integrated), [2.0, 5.0, 5.1, 8.0]
    found = nlme.forecast(model, _until((3.0, 0.0), (5.0, 0.0)), times=times, key=1, draws=2000)
    left = np.exp(-0.02 * (np.array([25.0, 25.0, 5.1**2, 64.0]) - 25.0))
    np.testing.assert_allclose(found.frame.MEDIAN, left, atol=1e-4)
    assert found.frame.DV_UPPER.tolist() == [0.0, 0.0, 0.0, 2.0]  # 2 % of an event by 5.1


def test_what_is_known_of_an_event_is_in_the_forecast():
    interval = nlme.forecast(Risk(), _until((3.0, 0.0), (5.0, 2.0)), times=[2.0, 4.0, 5.0, 8.0], key=1, draws=500).frame
    among = (np.exp(-0.02 * 7.0) - np.exp(-0.02 * 16.0)) / -np.expm1(-0.02 * 16.0)
    np.testing.assert_allclose(interval.MEDIAN, [1.0, among, 0.0, 0.0], atol=1e-4)
    assert interval[["DV_LOWER", "DV_UPPER"]].isna().all(axis=1).tolist() == [False, False, True, True]
    again = nlme.forecast(Risk(repeated=True), _until((3.0, 1.0), (5.0, 2.0)), times=[2.0, 4.0, 5.0, 8.0], key=1, draws=500).frame
    some = 0.02 / -np.expm1(-0.02 * 16.0)
    np.testing.assert_allclose(again.MEDIAN, 1.0 + np.array([-1.0, some * 7.0, some * 16.0, some * 16.0 + 0.78]), atol=1e-4)


def test_records_to_predict_come_beside_all_others():
    own = nlme.Subject(
        id=1, time=[0.0, 2.0, 2.0, 4.0, 6.0], dv=[np.nan, np.nan, 5.0, 4.0, np.nan], evid=[1, 1, 0, 0, 2], amt=[9.0, 9.0, 0, 0, 0]
    )
    (made,) = with_asked(nlme.Population((own,)), [2.0, 3.0, 4.0])
    assert made.time.tolist() == [0.0, 2.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0]
    assert made.evid.tolist() == [1, 2, 1, 0, 2, 2, 0, 2]


def test_the_two_rows_at_a_dose_are_told_apart():
    patient = people(1)[0]
    found = nlme.forecast(OneCompartment(), patient, times=[20.0, 24.0, 30.0], doses=nlme.dose(100.0, time=24.0), key=1, draws=20)
    assert found.frame.TIME.tolist() == [20.0, 24.0, 24.0, 30.0] and found.frame.AT_DOSE.tolist() == ["", "before", "after", ""]
    before, after = found.frame.MEDIAN[1], found.frame.MEDIAN[2]
    assert after > before
