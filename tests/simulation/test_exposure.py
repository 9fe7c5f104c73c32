"""Measures of exposure against their closed forms, and probabilities of target attainment against counts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import nlme


def frame(courses, times, replicates=1, endpoint="conc"):
    """A simulated table of courses (replicates * subjects, T)."""
    courses = np.atleast_2d(courses)
    count, subjects = len(courses), len(courses) // replicates
    return pd.DataFrame(
        {
            "REPLICATE": np.repeat(np.arange(count) // subjects + 1, len(times)),
            "ID": np.repeat(np.arange(count) % subjects + 1, len(times)),
            "TIME": np.tile(times, count),
            "ENDPOINT": endpoint,
            "IPRED": courses.ravel(),
            "DV": courses.ravel() + 100.0,
        }
    )


class Bolus(nlme.Model):
    k: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        return dict(k=self.k)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.k, v=1.0)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central, 1.0)}


TIMES = np.linspace(0, 10, 101)


def one(courses, measures, times=TIMES, **options):
    return nlme.exposure(frame(courses, times), measures, **options).frame.iloc[0]


def test_an_exponential_fall_by_the_log_rule_is_exact_on_any_grid():
    times = np.array([0.0, 1.0, 4.0, 7.0, 10.0])
    course = 8 * np.exp(-0.3 * times)
    for a, b in ((0, 10), (0.5, 6.2)):
        exact = 8 / 0.3 * (np.exp(-0.3 * a) - np.exp(-0.3 * b))
        found = one(course, ["auc", "cavg"], times, interval=(a, b), rule="log")
        if a == 0:
            assert found["auc"] == pytest.approx(exact, rel=1e-12)
        assert found["cavg"] == pytest.approx(found["auc"] / (b - a), rel=1e-12)
    fine = one(8 * np.exp(-0.3 * TIMES), ["auc"], interval=(0, 10))
    assert fine["auc"] == pytest.approx(8 / 0.3 * (1 - np.exp(-3)), rel=1e-3)


def test_periods_of_a_clock_that_begins_again_are_not_one_course():
    """Though the times observed happen to increase."""
    rows = [(0, 1, 100.0), (0.5, 0, 0), (2, 0, 0), (0, 4, 100.0), (4, 0, 0), (8, 0, 0)]
    table = pd.DataFrame(rows, columns=["TIME", "EVID", "AMT"]).assign(ID=1, DV=1.0)
    table.loc[table.EVID != 0, "DV"] = np.nan
    drawn = nlme.simulate(Bolus(), nlme.read_nonmem(table), key=1, eta="typical")
    assert drawn.TIME.is_monotonic_increasing
    with pytest.raises(nlme.DataError, match="Time begins again at a reset of subject 1"):
        nlme.exposure(drawn, "auc")


def test_a_tent_has_all_its_measures_by_hand():
    """Up from 0 to 4 at time 2, down to 0 at time 10."""
    times = np.array([0.0, 2.0, 10.0])
    found = one([0.0, 4.0, 0.0], ["cmax", "tmax", "auc", "cavg", "ctrough", "cmin"], times)
    assert found[["cmax", "tmax", "auc", "cavg", "ctrough", "cmin"]].tolist() == [4.0, 2.0, 20.0, 2.0, 0.0, 0.0]
    found = one([0.0, 4.0, 0.0], {"t": ("time_above", 1.0), "s": ("share_below", 1.0), "w": ("auc", 1, 6)}, times)
    # above 1 from 0.5 to 8; from 1 (at 2) to 6 (at 2): 3 + 12
    assert found["t"] == pytest.approx(7.5) and found["s"] == pytest.approx(0.25) and found["w"] == pytest.approx(15.0)
    found = one([0.0, 4.0, 0.0], ["cmax", "tmax"], times, interval=(3, 10))
    assert found["cmax"] == pytest.approx(3.5) and found["tmax"] == 0.0


def test_a_dose_at_the_end_of_the_interval_does_not_raise_the_trough():
    times = np.array([0.0, 12.0, 12.0, 24.0])
    found = one([10.0, 2.0, 12.0, 2.4], ["ctrough", "cmax"], times, interval=(0, 12))
    assert found["ctrough"] == 2.0


def test_functions_endpoints_and_columns():
    table = pd.concat([frame(np.ones(101), TIMES), frame(3 * np.ones(101), TIMES, endpoint="pd")])
    with pytest.raises(nlme.DataError, match="say endpoint="):
        nlme.exposure(table)
    found = nlme.exposure(table, {"mean": lambda t, c: c.mean()}, endpoint="pd", values="DV")
    assert found.frame["mean"].tolist() == [103.0]


def test_a_rough_grid_is_said():
    rough = nlme.exposure(frame(np.exp(-2 * np.arange(0, 11.0)), np.arange(0, 11.0)), ["auc"])
    assert "finer grid" in rough.messages[0]
    assert nlme.exposure(frame(np.exp(-0.2 * TIMES), TIMES), ["auc"]).messages == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(measures=["aucc"]), "Did you mean 'auc'"),
        (dict(measures=["time_above"]), "written"),
        (dict(interval=(0, 24)), "not covered"),
        (dict(interval=(5, 5)), "empty"),
        (dict(endpoint="cp"), "No endpoint"),
        (dict(values="PRED"), "'IPRED' or 'DV'"),
        (dict(rule="cubic"), "'linear' or 'log'"),
    ],
)
def test_what_cannot_be_measured_is_said(options, says):
    with pytest.raises(nlme.DataError, match=says):
        nlme.exposure(frame(np.ones(101), TIMES), **options)


def test_attainment_counts():
    levels = np.arange(1.0, 21.0)  # 2 replicates of 10: 1..10 and 11..20
    found = nlme.exposure(frame(levels[:, None] * np.ones(101), TIMES, replicates=2), ["cavg"])
    table = nlme.attainment(found, ("cavg", ">", 8)).table
    assert table["probability"].tolist() == [0.6] and table["n"].tolist() == [20]
    assert table["lower"][0] == pytest.approx(0.2 + 0.05 * 0.8) and table["upper"][0] == pytest.approx(1 - 0.05 * 0.8)
    assert nlme.attainment(found, ("cavg", 5, 10)).table["probability"][0] == pytest.approx(0.3)
    by_mic = nlme.attainment(found, ("cavg", ">=", 8), mic={1.0: 3, 2.0: 1})
    assert by_mic.table["probability"].tolist() == [0.65, 0.25] and by_mic.response["all"] == pytest.approx(
        0.75 * 0.65 + 0.25 * 0.25
    )
    free = nlme.attainment(found, lambda t: t["cavg"] > 19.5)
    assert free.table["probability"][0] == pytest.approx(0.05)


def test_one_replicate_has_wilsons_interval():
    """8 of 10 at 95 %: 0.490 to 0.943 (Newcombe 1998, method 3)."""
    found = nlme.exposure(frame(np.arange(1.0, 11.0)[:, None] * np.ones(101), TIMES), ["cavg"])
    table = nlme.attainment(found, ("cavg", ">", 2), level=0.95).table
    assert table["lower"][0] == pytest.approx(0.4902, abs=5e-5) and table["upper"][0] == pytest.approx(0.9433, abs=5e-5)


def test_who_has_no_measure_neither_meets_a_target_nor_misses_it():
    """Of 1 .. 10 twice, those from 9 on without a measure: 4 of the 8 others in each replicate are above 4."""
    found = nlme.exposure(frame(np.tile(np.arange(1.0, 11.0), 2)[:, None] * np.ones(101), TIMES, replicates=2), ["cavg"])
    known = found.frame["cavg"] < 8.5
    found = dataclasses.replace(found, frame=found.frame.assign(cavg=found.frame["cavg"].where(known)))
    for target in (("cavg", ">", 4), ("cavg", 4.5, 1e9), lambda t: t["cavg"].convert_dtypes() > 4):
        seen = nlme.attainment(found, target)
        assert seen.table["probability"].tolist() == [0.5] and seen.table["n"].tolist() == [16]
        assert "4 of 20" in seen.messages[0] and "4 of 20" in seen.to_markdown()
    opposite = nlme.attainment(found, ("cavg", "<=", 4)).table["probability"][0]
    assert opposite == pytest.approx(0.5)  # what is not above is at most
    assert "lack a measure" in nlme.attainment(found, lambda t: t["cavg"] > 4).messages[0]
    nobody = dataclasses.replace(found, frame=found.frame.assign(cavg=np.nan))
    assert nlme.attainment(nobody, ("cavg", ">", 4)).table["n"].tolist() == [0]


def test_the_geometric_mean_is_of_those_who_have_the_measure():
    found = nlme.exposure(frame(np.array([2.0, 8.0, 5.0])[:, None] * np.ones(101), TIMES), ["cavg"])
    found = dataclasses.replace(found, frame=found.frame.assign(cavg=[2.0, 8.0, np.nan]))
    row = found.summarise().iloc[0]
    assert (row["n"], row["mean"]) == (2, 5.0) and row["geometric"] == pytest.approx(4.0)


@pytest.mark.parametrize(
    "target",
    [
        ("auc", ">", 1), ("cavg", "~", 1), ("cavg", 3, 2), "cavg", lambda t: t["cavg"],
        ("cavg", ">", "a"), ("cavg", ">", np.nan), ("cavg", np.nan, 2), ("cavg", None, 2),
    ],
)  # fmt: skip
def test_other_targets_are_refused(target):
    found = nlme.exposure(frame(np.ones(101), TIMES), ["cavg"])
    with pytest.raises(nlme.DataError):
        nlme.attainment(found, target)


def test_categories_are_said_in_words():
    table = pd.DataFrame({"ID": [1, 2], "TIME": 0.0, "DV": 1.0, "sex": ["f", "m"], "wt": [60.0, 80.0]})
    people = nlme.read_nonmem(table, covariates=["sex", "wt"], categories={"sex": ["f", "m"]})
    found = nlme.exposure(frame([[1.0, 2.0], [3.0, 4.0]], [0.0, 1.0]), ["cmax"], covariates=people).frame
    assert found["sex"].tolist() == ["f", "m"] and found["wt"].tolist() == [60.0, 80.0]
