"""A person's history: covariates and occasions change when they changed, whatever records are kept, dropped or made.

The amount at a time is the initial one times exp(-integral of k), piece by piece; the integral is taken by the points of the
original records alone.
"""

from __future__ import annotations

import pickle

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme

OCCASIONS = {1: 0.0, 2: 0.3, 3: -0.4}


class Eliminated(nlme.Model):
    """k depends on a covariate and, by an occasion's effect, on the occasion."""

    sd: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(k_occ=0.1, per="occasion")
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(k=0.05 * cov.wt / 70 * jnp.exp(eta.k_occ))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(state.central, self.sd)}


class Stepped(Eliminated):
    """The same as equations, from an amount that is there at the beginning."""

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.k * a.central}, ("central",), initial={"central": 50.0})


# time, amount, weight, occasion: two records of one time differ, and a covariate changes at a dose
RECORDS = [
    (2.0, 0, 60.0, 1), (4.0, 100, 60.0, 1), (12.0, 0, 60.0, 1), (12.0, 50, 90.0, 2), (20.0, 0, 120.0, 2), (24.0, 0, 120.0, 3),
    (30.0, 0, 40.0, 3), (48.0, 0, 40.0, 3),
]  # fmt: skip
TIME, WT, OCC = (np.array([r[k] for r in RECORDS]) for k in (0, 2, 3))
DOSES = [(r[0], r[1]) for r in RECORDS if r[1]]


def read(how="nocb", records=RECORDS):
    table = pd.DataFrame(records, columns=["TIME", "AMT", "WT", "OCC"])
    table["ID"], table["EVID"] = 7, (table.AMT > 0) * 1
    table["DV"] = np.where(table.EVID == 0, 1.0, np.nan)
    return nlme.read_nonmem(table, covariates=["wt"], time_varying="auto", interpolation=how)


def value(column, how, start, end):
    """Mean of a column over an interval in which nothing of the original records lies."""
    following, last = min(np.searchsorted(TIME, end), len(TIME) - 1), max(np.searchsorted(TIME, start, side="right") - 1, 0)
    if how == "linear" and TIME[following] > TIME[last]:
        return np.interp(0.5 * (start + end), TIME[[last, following]], column[[last, following]])
    return column[following if how == "nocb" else last]


def amount(how, t, doses, initial):
    """What is left of the initial amount and the doses at time t, after what is given then."""
    knots = sorted({min(TIME[0], doses[0][0]), *(x for x in TIME if x <= t), *(x for x, _ in doses if x <= t), t})
    left = initial + sum(a for x, a in doses if x == knots[0])
    for start, end in zip(knots[:-1], knots[1:], strict=True):
        k = 0.05 * value(WT, how, start, end) / 70 * np.exp(OCCASIONS[value(OCC, "nocb", start, end)])
        left = left * np.exp(-k * (end - start)) + sum(a for x, a in doses if x == end)
    return left


def predicted(model, population):
    """Predictions on the records that were asked for (EVID 2)."""
    eta = pd.DataFrame({f"k_occ[{o}]": [v] for o, v in OCCASIONS.items()}, index=[7])
    table = nlme.predict(model(), population, eta)
    return table.loc[table.EVID == 2, "y"].to_numpy()


SLOW = [
    pytest.param(how, model, marks=pytest.mark.slow)
    for how, model in (("locf", Eliminated), ("nocb", Stepped), ("locf", Stepped))
]
CASES = [("nocb", Eliminated), ("linear", Stepped), *SLOW]
ASKED = [2.0, 3.0, 12.0, 15.0, 20.0, 26.5, 48.0, 60.0]


@pytest.mark.parametrize(("how", "model"), CASES)
def test_other_times(how, model):
    initial = 50.0 if model is Stepped else 0.0
    found = predicted(model, read(how).with_times(ASKED))
    np.testing.assert_allclose(found, [amount(how, t, DOSES, initial) for t in ASKED], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "model"), [("nocb", Eliminated), ("locf", Eliminated), ("nocb", Stepped), ("locf", Stepped), ("linear", Stepped)]
)
def test_fewer_times(how, model):
    initial = 50.0 if model is Stepped else 0.0
    for asked in ([60.0], [26.5, 48.0]):
        found = predicted(model, read(how).with_times(asked))
        np.testing.assert_allclose(found, [amount(how, t, DOSES, initial) for t in asked], rtol=1e-6)


@pytest.mark.parametrize(("how", "model"), CASES)
def test_other_doses(how, model):
    """The dosing records at which weight and occasion change go; doses come between, before and after the old records."""
    initial = 50.0 if model is Stepped else 0.0
    for doses in ([(6.0, 80.0), (33.0, 40.0)], [(2.0, 20.0), (50.0, 10.0)]):
        regimen = nlme.dose(doses[0][1], time=doses[0][0])
        for time, given in doses[1:]:
            regimen = regimen + nlme.dose(given, time=time)
        found = predicted(model, read(how).with_doses(regimen).with_times(ASKED))
        np.testing.assert_allclose(found, [amount(how, t, doses, initial) for t in ASKED], rtol=1e-6)


def test_times_before_the_first_record():
    """Its states have their initial values at 2, and an earlier beginning would be another person's."""
    with pytest.raises(nlme.DataError, match="Subject 7: asked for at time 0, and its time began at 2"):
        predicted(Stepped, read().with_times([0.0, 1.0, 3.0]))


def test_the_course_is_kept_on_every_way():
    """To a frame and back, as text, pickled, cut, and through a second change of records."""
    model, population = Stepped, read("locf").with_times([48.0])
    table = population.to_frame()
    again = nlme.read_nonmem(table)
    by_text = nlme.read_nonmem(
        table.astype(object).where(table.notna(), ".").astype(str), covariates=["wt"], time_varying="auto", interpolation="locf",
        allow="no observations at all",
    )  # fmt: skip
    for other in (
        again,
        by_text,
        pickle.loads(pickle.dumps(population)),
        population[:1],
        population.with_times([20.0, 48.0]).with_times([48.0]),
    ):
        assert other.hash == population.hash
        assert other[0] == population[0]
    np.testing.assert_array_equal(predicted(model, again), predicted(model, population))
    assert [list(s.time) for s in population] == [[4.0, 12.0, 48.0]]  # the course is no record
    assert population.hash != read("locf", [r for r in RECORDS if r[1] or r[0] == 48]).with_times([48.0]).hash


def test_records_that_tell_everything_need_no_course():
    constant = read(records=[(t, a, 70.0, 1) for t, a, _, _ in RECORDS[1:]])
    assert constant.with_times([5.0, 50.0])[0].course is None
    alone = [r for r in RECORDS if r[:2] != (12.0, 0)]  # one record at each time
    assert read(records=alone).with_times(TIME)[0].course is None
    assert read().with_times([48.0])[0].course is not None


@pytest.mark.slow
def test_a_fit_to_data_with_a_course(tmp_path):
    population = read().with_doses(nlme.dose(80.0, time=6.0))
    fit = nlme.fit(Eliminated(), population, nlme.FOCEI(), progress=False, max_evaluations=2)
    fit.save(tmp_path / "x.nlme")
    assert nlme.load(tmp_path / "x.nlme", model=Eliminated).population == population


def test_a_switched_compartment_stays_off():
    table = pd.DataFrame(
        [(0.0, 1, 100, 1, np.nan), (2.0, 0, 0, 1, 1.0), (5.0, 2, 0, -1, np.nan), (8.0, 0, 0, 1, 1.0)],
        columns=["TIME", "EVID", "AMT", "CMT", "DV"],
    ).assign(ID=7, WT=70.0, OCC=1)
    population = nlme.read_nonmem(table, covariates=["wt"])
    found = nlme.predict(Stepped(), population.with_times([4.0, 8.0]))
    assert found.loc[found.TIME == 4.0, "y"].item() > 0
    assert found.loc[found.TIME == 8.0, "y"].item() == 0


def test_a_clock_that_restarts_at_a_reset_is_one_that_runs_on():
    """Two periods of a crossover, each counted from its own beginning, or with the second after the first: what happens is the same."""

    def told(shift):
        second = [(t - 12.0 + shift, *rest) for t, *rest in RECORDS[3:]]
        table = pd.DataFrame(RECORDS[:3] + second, columns=["TIME", "AMT", "WT", "OCC"])
        table["ID"], table["EVID"], table["DV"] = 7, [0, 1, 0, 4, 0, 0, 0, 0], [1.0, np.nan, 40.0, np.nan, 30.0, 20.0, 15.0, 10.0]
        return nlme.read_nonmem(table, covariates=["wt"], time_varying="auto")

    restarted, on, later = told(0.0), told(12.0), told(30.0)
    assert list(restarted[0].clock) == list(on[0].time) and list(later[0].clock) == list(later[0].time)
    objective, *others = (nlme.evaluate(Eliminated(), p, nlme.FOCEI()).objective for p in (restarted, on, later))
    np.testing.assert_allclose(others, objective, rtol=1e-9)
    eta = pd.DataFrame({f"k_occ[{o}]": [v] for o, v in OCCASIONS.items()}, index=[7])
    y, *others = (nlme.predict(Eliminated(), p, eta)["y"] for p in (restarted, on, later))
    for other in others:
        np.testing.assert_allclose(other, y, rtol=1e-9)
    drawn = nlme.simulate(Eliminated(), restarted, key=1, eta="new", as_data=True)
    assert list(drawn["TIME"]) == list(restarted[0].time)
    people, same = (nlme.virtual(1, like=p, key=1) for p in (restarted, on))
    assert people[0] == same[0] and people.with_times([15.0])[0].covariates["wt"] == 120.0
    for other in (lambda p: p.with_times([1.0]), lambda p: p.with_doses(nlme.dose(1))):
        with pytest.raises(nlme.DataError, match="Subject 7: time restarts at a reset record"):
            other(restarted)
