"""Population and Subject as values: slices, prints, round trips, hashes, other doses and other times."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.data import CovariateInfo, Population, Subject, dose, read_nonmem
from nlme.errors import DataError

TEXT = """ID,TIME,DV,AMT,RATE,EVID,MDV,CMT,II,ADDL,SS,DVID,CENS,LIMIT,OCC,WT,SEX,SITE,VISIT
A,0,.,100,0,1,1,depot,12,3,0,.,0,.,1,70,F,north,1
A,1,5.25,.,.,0,0,.,.,.,.,1,0,.,1,70,F,.,2
A,1,90,.,.,0,0,.,.,.,.,2,0,.,1,71,F,north,2
A,48,0.1,.,.,0,0,.,.,.,.,1,1,0,2,72,F,north,3
B,0,.,50,25,1,1,2,24,0,1,.,0,.,1,55,M,south,1
B,1,.,.,.,2,1,.,.,.,.,.,0,.,1,55,M,south,.
B,2,4.5,.,.,0,0,.,.,.,.,1,0,.,1,55,M,south,4
"""
ARGUMENTS = {
    "covariates": {"wt": "kg", "sex": None},
    "time_varying": ["wt"],
    "categories": {"sex": ["F", "M"]},
    "dvid": {1: "conc", 2: "pca"},
}


@pytest.fixture
def population() -> Population:
    return read_nonmem(pd.read_csv(io.StringIO(TEXT), dtype=str, keep_default_na=False), **ARGUMENTS)


# -- a value -------------------------------------------------------------------------------------------------------


def test_slices(population):
    assert len(population) == 2
    assert population[0].id == "A"
    assert population[-1] is population.subjects[1]
    assert population["B"] is population[1]
    assert isinstance(population[:1], Population)
    assert population[1:].ids == ("B",)
    assert population[[1, 0]].ids == ("B", "A")
    assert population[:1].endpoints == population.endpoints
    assert [s.id for s in population] == ["A", "B"]
    assert population.filter(lambda s: s.covariates["sex"][0] == 1).ids == ("B",)
    assert (population.n_observations, population.n_records) == (4, 7)


def test_additional_doses_are_counted():
    text = "ID,TIME,DV,AMT,ADDL,II\n1,0,.,100,6,24\n1,1,5,.,0,0\n2,0,.,50,0,0\n2,1,5,.,0,0"
    assert (
        dict(read_nonmem(pd.read_csv(io.StringIO(text), na_values=".")).summary())["doses"] == "8 (amount 50 to 100) in 2 records"
    )


def test_an_unknown_id_is_named(population):
    with pytest.raises(DataError, match=r"No subject named 'C'.*A, B"):
        population["C"]


def test_arrays_cannot_be_changed(population):
    for values in (population[0].time, population[0].covariates["wt"], population[0].evid):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 3
    with pytest.raises(AttributeError):
        population.subjects = ()
    with pytest.raises(AttributeError):
        population[0].id = 3


def test_the_source_does_not_leak_into_the_population():
    table = pd.DataFrame({"ID": [1, 1], "TIME": [0.0, 1.0], "DV": [1.0, 2.0]})
    population = read_nonmem(table)
    table.loc[0, "DV"] = 99.0
    assert population[0].dv[0] == 1.0


def test_pickling_keeps_everything(population):
    again = pickle.loads(pickle.dumps(population))
    assert again == population
    assert again.hash == population.hash


def test_prints_say_what_is_there(population):
    text = repr(population)
    for word in ("subjects", "2", "endpoint conc", "3 observations, 0.1 to 5.25", "55 to 72 kg (varies in time)", "F 1, M 1"):
        assert word in text
    assert repr(population[0]).startswith("Subject A: 3 observations, 1 dose, time 0 to 48, wt 70 to 72")
    assert "<table>" in population._repr_html_()
    assert repr(population[:0]).split("\n")[1].split() == ["subjects", "0"]


# -- by hand -------------------------------------------------------------------------------------------------------


def test_a_subject_by_hand():
    s = Subject(1, [0, 1, 2], dv=[np.nan, 3, 2], evid=[1, 0, 0], amt=[100, 0, 0], covariates={"wt": 70})
    assert list(s.mdv) == [1, 0, 0]
    assert list(s.endpoint) == [-1, 0, 0]
    assert s.cmt_name == (None, None, None)
    assert list(s.covariates["wt"]) == [70, 70, 70]
    assert s.time.dtype == np.float64
    population = Population((s,))
    assert population.covariates == {"wt": CovariateInfo("wt", column="wt")}
    assert read_nonmem(population.to_frame()) == population


def test_what_cannot_be_a_population():
    s = Subject(1, [0, 1], dv=[1, 2], covariates={"wt": 70})
    with pytest.raises(DataError, match="Two subjects have the ID 1"):
        Population((s, s))
    with pytest.raises(DataError, match="Subject 2 has no covariate 'wt'"):
        Population((s, Subject(2, [0], dv=[1])))
    with pytest.raises(DataError, match="Subject 1: dv has 1 entries for 2 records"):
        Subject(1, [0, 1], dv=[1])


# -- round trip and hash -------------------------------------------------------------------------------------------


def test_round_trip_through_a_frame(population):
    frame = population.to_frame()
    again = read_nonmem(frame)
    assert again == population
    assert again.hash == population.hash
    pd.testing.assert_frame_equal(again.to_frame(), frame)
    assert list(frame.columns) == "ID TIME DV AMT RATE EVID MDV CMT II ADDL SS DVID CENS OCC LIMIT WT SEX SITE VISIT".split()
    assert list(frame["SITE"][:2]) == ["north", None] or pd.isna(frame["SITE"][1])


def test_round_trip_through_a_file(population, tmp_path):
    path = tmp_path / "x.csv"
    population.to_frame().to_csv(path, index=False)
    again = read_nonmem(path, **ARGUMENTS)
    assert again == population
    assert again.hash == population.hash


@pytest.mark.parametrize("name", nlme.datasets.names())
def test_round_trip_of_the_data_sets(name):
    population = nlme.datasets.load(name)
    again = read_nonmem(population.to_frame())
    assert again == population
    assert again.hash == population.hash


def test_round_trip_of_a_slice(population):
    part = population[1:]
    again = read_nonmem(part.to_frame())
    assert again.hash == part.hash
    assert again.subjects == part.subjects


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("DV", 5.26),
        ("TIME", 0.5),
        ("AMT", 101.0),
        ("WT", 99.0),
        ("OCC", 3),
        ("ID", "Z"),
        ("CENS", 1),
        ("SEX", "M"),
        ("ADDL", 5),
        ("CMT", "gut"),
    ],
)
def test_the_hash_sees_everything_a_model_can_see(population, column, value):
    frame = population.to_frame()
    row = 0 if column in ("AMT", "ADDL", "CMT") else 1
    rows = frame.ID == "A" if column in ("ID", "SEX") else frame.index == row
    frame[column] = frame[column].astype(object)
    frame.loc[rows, column] = value
    changed = read_nonmem(frame)
    assert changed.hash != population.hash
    assert changed != population


def test_the_hash_does_not_see_what_nothing_reads(population):
    frame = population.to_frame()
    frame["SITE"] = "elsewhere"
    changed = read_nonmem(frame)
    assert changed.hash == population.hash
    assert changed != population


def test_the_hash_is_the_same_in_another_process(population):
    """A stored number: it changes only when what is hashed changes, which makes every stored fit a stranger to its data."""
    assert len(population.hash) == 64
    s = Subject(1, [0, 1], dv=[1, 2])
    assert Population((s,)).hash == "b733aea1fc6960b505a2a190aa7a3a840c056a83767b058033fc3914effbe427"


# -- other doses ---------------------------------------------------------------------------------------------------


def test_other_doses_keep_observations_and_covariates(population):
    other = population.with_doses(dose(10, into="depot").every(24, n=2) + dose(5, duration=2, time=30))
    a = other["A"]
    assert list(a.time) == [0, 1, 1, 30, 48]
    assert list(a.evid) == [1, 0, 0, 1, 0]
    assert list(a.amt) == [10, 0, 0, 5, 0]
    assert (a.ii[0], a.addl[0], a.duration[3]) == (24, 1, 2)
    assert a.cmt_name == ("depot", None, None, None, None)
    assert np.array_equal(a.dv, [np.nan, 5.25, 90, np.nan, 0.1], equal_nan=True)
    assert list(a.endpoint) == [-1, 0, 1, -1, 0]
    assert list(a.covariates["wt"]) == [70, 70, 71, 72, 72]  # the value holds over the interval that ends at the record
    assert list(a.occasion) == [1, 1, 1, 2, 2]
    assert list(a.mdv) == [1, 0, 0, 1, 0]
    assert list(other["B"].evid) == [1, 2, 0, 1]
    assert other.endpoints == population.endpoints
    assert population["A"].amt[0] == 100  # the first population is as it was


def test_the_amount_may_depend_on_the_subject(population):
    other = population.with_doses(dose(lambda s: 2 * s.covariates["wt"][0]))
    assert [s.amt[s.is_dose][0] for s in other] == [140, 110]


def test_ties_between_a_new_dose_and_an_observation():
    population = Population((Subject(1, [0, 12], dv=[1, 2]),))
    first = population.with_doses(dose(1, time=12))[0]
    after = population.with_doses(dose(1, time=12), ties="observation first")[0]
    assert list(first.evid) == [0, 1, 0]
    assert list(after.evid) == [0, 0, 1]
    with pytest.raises(DataError, match="ties"):
        population.with_doses(dose(1), ties="whatever")


def test_new_doses_read_back(population):
    other = population.with_doses(dose(10, into="depot", ss=True).every(24))
    again = read_nonmem(other.to_frame())
    assert again.hash == other.hash


def test_a_clock_that_restarts_takes_no_new_records():
    s = Subject(7, [0, 5, 0, 5], dv=[np.nan, 1, np.nan, 1], evid=[1, 0, 4, 0], amt=[1, 0, 1, 0])
    with pytest.raises(DataError, match="Subject 7: time restarts at a reset"):
        Population((s,)).with_doses(dose(1))


# -- other times ---------------------------------------------------------------------------------------------------


def test_other_times_keep_the_doses(population):
    other = population.with_times([0, 0.5, 36, 60])
    a = other["A"]
    assert list(a.time) == [0, 0, 0.5, 36, 60]
    assert list(a.evid) == [1, 2, 2, 2, 2]
    assert list(a.mdv) == [1] * 5
    assert a.n_observations == 0
    assert list(a.endpoint) == [-1] * 5
    assert list(a.covariates["wt"]) == [70, 70, 70, 72, 72]
    assert a.cmt_name[0] == "depot"
    assert a.addl[0] == 3


def test_other_times_by_subject(population):
    by_function = population.with_times(lambda s: s.time[-1] + np.array([2.0, 1.0]))
    assert list(by_function["A"].time) == [0, 49, 50]
    by_id = population.with_times({"A": [1], "B": [2, 3]})
    assert [len(s) for s in by_id] == [2, 3]
    with pytest.raises(DataError, match="Subject 'A': prediction times"):
        population.with_times([-1])


def test_a_reset_and_a_dose_at_one_time_stay_in_order():
    s = Subject(1, [0, 10, 10, 20], dv=[np.nan, np.nan, np.nan, 1], evid=[1, 3, 1, 0], amt=[1, 0, 1, 0])
    other = Population((s,)).with_times([10, 15])[0]
    assert list(other.evid) == [1, 3, 1, 2, 2]
