"""Forecasts of one patient: bands against exact normal ones, further doses, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from normal_means import Means

import nlme


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
    from nlme.dosing.forecast import with_further

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
