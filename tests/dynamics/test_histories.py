"""Doses of every kind, with any lag, resets and covariates that change: by all forms of one system against the rules, event by event."""

from __future__ import annotations

import histories
import numpy as np
import pandas as pd
import pytest
from states import model_of, population_of, states_of

import nlme
from nlme.dynamics import propagate

STEPS = nlme.Tolerances(relative=1e-9, absolute=1e-11, solver="explicit")
STIFF = nlme.Tolerances(relative=1e-9, absolute=1e-11, solver="stiff")
ANY = nlme.Tolerances()
FORMS = {  # form, tolerances, whether doses are summed
    "closed form": ("closed", ANY, False),
    "closed form, summed": ("closed", ANY, True),
    "exponential": ("exponential", ANY, False),
    "exponential, summed": ("exponential", ANY, True),
    "recognised": ("equations", ANY, True),
    "steps": ("equations", STEPS, False),
    "stiff": ("equations", STIFF, False),
}
OFTEN = {"closed form, summed"}


@pytest.fixture
def ways(monkeypatch):
    """Choose whether doses are summed where parameters are constant, and see whether they were."""

    def choose(summed: bool):
        taken, superpose = [], propagate.superpose
        monkeypatch.setattr(propagate, "superpose", lambda *a: taken.append(1) or superpose(*a))
        monkeypatch.setattr(propagate, "worthwhile", lambda timeline, **_: summed and timeline.rows == 1)
        return taken

    return choose


def agree(table, found, wanted):
    """To 1e-6 of the size of the subject's amounts, naming the first history that does not."""
    sizes = pd.Series(np.abs(wanted).max(axis=1)).groupby(table.ID.to_numpy()).transform("max").to_numpy()
    off = np.abs(found - wanted).max(axis=1) > 1e-6 * np.maximum(sizes, 1.0)
    if off.any() or not np.isfinite(found).all():
        first = (table.ID == table.ID[off | ~np.isfinite(found).all(axis=1)].iloc[0]).to_numpy()
        shown = table[first].assign(found=list(found[first]), wanted=list(wanted[first]))
        raise AssertionError(f"{len(table.ID[off].unique())} of {table.ID.nunique()} histories are off:\n{shown.to_string()}")


def slow_but(quick):
    return [pytest.param(name, marks=[] if name in quick else [pytest.mark.slow]) for name in FORMS]


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but(OFTEN))
def test_with_constant_parameters(name, ways):
    form, ode, summed = FORMS[name]
    taken = ways(summed)
    table = histories.histories(seed=1, count=60, varying=False)
    agree(table, histories.predicted(table, form, ode), histories.expected(table))
    assert bool(taken) == summed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["closed form", pytest.param("exponential", marks=pytest.mark.slow)])
def test_with_parameters_that_change(name):
    form, ode, _ = FORMS[name]
    table = histories.histories(seed=2, count=60, varying=True)
    agree(table, histories.predicted(table, form, ode), histories.expected(table))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "stiff"])
def test_with_initial_amounts_that_change(name):
    form, ode, _ = FORMS[name]
    table = histories.histories(seed=3, count=60, varying=True)
    agree(table, histories.predicted(table, form, ode, initial=True), histories.expected(table, initial=True))


@pytest.mark.slow
@pytest.mark.parametrize("varying", [False, True], ids=["constant", "changing"])
@pytest.mark.parametrize("name", ["closed form", "closed form, summed", "steps"])
def test_many(name, varying, ways):
    form, ode, summed = FORMS[name]
    ways(summed)
    table = histories.histories(seed=4, count=1500, varying=varying)
    initial = name == "steps"
    agree(table, histories.predicted(table, form, ode, initial), histories.expected(table, initial))


def differences(table, initial=False, h=1e-5):
    """Central differences of the rules in every typical value's logarithm, and where they are smooth."""
    seen = (table.EVID == 0).to_numpy()
    middle = histories.expected(table, initial)[seen]
    slope, smooth = [], []
    for name in histories.TYPICAL:
        up, down = (histories.expected(table, initial, **{name: np.exp(s * h)})[seen] for s in (1, -1))
        slope.append((up - down) / (2 * h))
        smooth.append(np.abs(up - 2 * middle + down) < 1e-3 * h * (1.0 + np.abs(up - down) / h))
    return middle, np.stack(slope, axis=-1), np.stack(smooth, axis=-1)


def slopes_agree(table, form, ode, initial=False):
    """Where nothing happens at the very time of a sample, which lags and durations off the grid make sure of."""
    value, first = histories.slopes(table, form, ode, initial)
    expected, slope, smooth = differences(table, initial)
    np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-6)
    assert smooth.mean() > 0.99 and np.isfinite(first).all()
    np.testing.assert_allclose(first[smooth], slope[smooth], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("varying", [False, True], ids=["constant", "changing"])
@pytest.mark.parametrize("name", FORMS)
def test_derivatives(name, varying, ways):
    form, ode, summed = FORMS[name]
    ways(summed)
    initial = name in ("steps", "stiff")
    slopes_agree(histories.histories(seed=5, count=40, varying=varying, ties=False), form, ode, initial)


INTERVAL = 12.0
LAGS = {"none": 0.0, "short": 2.3, "within": 9.7, "one interval": 12.0, "longer": 13.1, "two intervals": 24.0, "several": 40.9}
DOSES = {
    "bolus": dict(CMT=1),
    "bolus into central": dict(CMT=2),
    "rate": dict(CMT=2, RATE=40.0),
    "duration": dict(CMT=1, DUR=5.0),
    "as long as the interval": dict(CMT=2, DUR=12.0),
    "overlapping": dict(CMT=2, RATE=3.7),
    "modelled rate": dict(CMT=2, RATE=-1),
    "modelled duration": dict(CMT=1, RATE=-2),
    "for ever": dict(CMT=2, RATE=7.0, AMT=0.0, II=0.0),
}
AFTER = [0.0, 1.0, 4.0, 8.0, 14.2, 25.0, 30.0, 45.0]


def steady_states(lags) -> pd.DataFrame:
    """Every dose with every lag, as SS = 1 and as SS = 2 after another dose; further doses follow, or none."""
    rows = []
    cases = [(dose, lag, ss) for dose in DOSES for lag in lags for ss in (1, 2)]
    for who, (dose, lag, ss) in enumerate(cases, 1):
        extra = dict(ID=who, lag=LAGS[lag], k=1.0, f=0.8, d=30.6, r=2.1, base=1.0)  # no lag and duration end at a sample
        rows += [histories.BLANK | extra | dict(EVID=1, AMT=30.0, CMT=2, DV=np.nan)]
        steady = dict(TIME=5.0, EVID=1, AMT=100.0, II=INTERVAL, SS=ss, DV=np.nan) | DOSES[dose]
        steady |= dict(ADDL=0 if dose == "for ever" else 2 * (who % 2))
        rows += [histories.BLANK | extra | steady]
        rows += [histories.BLANK | extra | dict(TIME=5.0 + t) for t in AFTER]
    return pd.DataFrame(rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", slow_but({"recognised"}))
def test_steady_states_with_every_lag(name, ways):
    form, ode, summed = FORMS[name]
    ways(summed)
    table = steady_states(LAGS)
    agree(table, histories.predicted(table, form, ode), histories.expected(table))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_derivatives_of_steady_states_with_every_lag(name, ways):
    """Lags of whole intervals have derivatives to one side, and are left out."""
    form, ode, summed = FORMS[name]
    ways(summed)
    table = steady_states(["none", "short", "within", "longer", "several"])
    slopes_agree(table, form, ode)


@pytest.mark.slow
def test_a_constant_infusion_knows_no_lag_and_no_bioavailability():
    """Its rate over the rate constant at the record, and nothing after it; one whose rate the model has is refused."""
    times = [0.0, 1.0, 4.0]

    def dynamics(ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0, lag=ind.lag, bioavailability=ind.f, rate=ind.r)

    model = model_of(dict(k=0.3, lag=2.0, f=0.5, r=7.0), dynamics)
    found, slope = states_of(model, population_of([[dict(time=0.0, rate=7.0, ss=1)]], times), order=1)()
    level = 7.0 / 0.3 * np.exp(-0.3 * np.array(times))
    np.testing.assert_allclose(found[0, :, 0], level, rtol=1e-12)
    by_k = -level * (1.0 + 0.3 * np.array(times))
    np.testing.assert_allclose(slope[0, :, 0], np.stack([by_k, *[0.0 * level] * 3], axis=-1), rtol=1e-12, atol=1e-12)
    with pytest.raises(nlme.DataError, match="needs its RATE"):
        states_of(model, population_of([[dict(time=0.0, rate=-1.0, ss=1)]], times), order=1)()
