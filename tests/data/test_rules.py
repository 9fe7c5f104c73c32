"""Every rule, hit by the smallest file that breaks it, with the very rows named."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pandas as pd
import pytest

from nlme.data import RULES, check, read_nonmem
from nlme.data.population import Population
from nlme.data.subject import Subject
from nlme.data.violations import ranges
from nlme.errors import DataError


def frame(text: str) -> pd.DataFrame:
    """A table as the text of a CSV file would give it."""
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


GOOD = "ID,TIME,DV,AMT\n1,0,.,100\n1,1,5,.\n2,0,.,100\n2,1,6,.\n"

# rule, table, arguments, offending rows
CASES = [
    ("text in numbers", "ID,TIME,DV,AMT\n1,0,.,100mg\n1,1,5,.\n1,2,4,.", {}, [1]),
    ("text in numbers", "ID,TIME,DV,AMT\n1,0,.,100\n1,1,<0.1,.\n1,2,BLQ,.\n1,3,2,.", {}, [2, 3]),
    ("text in numbers", "ID,TIME,DV,EVID,AMT\n1,0,.,1.5,100\n1,1,5,0,.", {}, [1]),
    ("text in numbers", "ID,TIME,DV,SEX\n1,0,1,M\n1,1,5,M\n2,1,5,F", {"covariates": ["sex"]}, [1, 2, 3]),
    ("text in numbers", "ID,TIME,DV\n1,0,1\n1,inf,5", {}, [2]),
    ("too many digits", "ID,TIME,DV,AMT,OCC\n1,0,.,100,1\n1,1,5,.,99999999999999999999", {}, [2]),
    ("too many digits", "ID,TIME,DV,AMT,II,ADDL\n1,0,.,100,12,99999999999999999999\n1,1,5,.,.,.", {}, [1]),
    ("too many digits", "ID,TIME,DV,AMT,CMT\n1,0,.,100,-99999999999999999999\n1,1,5,.,1", {}, [1]),
    ("too many digits", "ID,TIME,DV,X\n1,0,1,9007199254740993\n2,1,5,9007199254740992", {"covariates": ["x"]}, [1]),
    ("unknown category", "ID,TIME,DV,SEX\n1,0,1,M\n2,1,5,1", {"covariates": ["sex"], "categories": {"sex": ["M", "F"]}}, [2]),
    ("unknown category", "ID,TIME,DV,SEX\n1,0,1,1\n2,1,5,2", {"covariates": ["sex"], "categories": {"sex": ["M", "F"]}}, [1, 2]),
    ("unknown category", "ID,TIME,DV,SEX\n1,0,1,M\n2,1,5,X", {"covariates": ["sex"], "categories": {"sex": ["M", "F"]}}, [2]),
    ("no ID", "ID,TIME,DV\n1,0,1\n.,1,5", {}, [2]),
    ("commented ID", "TIME,ID,DV\n0,1,1\n1,#1,5", {}, [2]),
    ("ID comes back", "ID,TIME,DV\n1,0,1\n2,0,1\n1,1,5\n1,2,5\n2,1,3", {}, [3, 4, 5]),
    ("IDs alike", "ID,TIME,DV\nA1,0,1\na1,1,5\nB,0,2", {}, [1, 2]),
    ("IDs alike", "ID,TIME,DV\n1,0,1\n1.0,1,5\nB,0,2", {}, [1, 2]),
    ("bad date", "ID,DATE,TIME,DV\n1,02/30/2024,8:00,1\n1,03/01/2024,9:00,2", {}, [1]),
    ("month or day", "ID,DATE,TIME,DV\n1,02/03/2024,8:00,1\n1,02/04/2024,9:00,2", {}, [1]),
    ("mixed times", "ID,TIME,DV\n1,8:00,1\n1,9.5,2", {}, [2]),
    ("missing time", "ID,TIME,DV\n1,0,1\n1,.,2", {}, [2]),
    ("negative time", "ID,TIME,DV\n1,-1,1\n1,0,2", {}, [1]),
    ("unsorted time", "ID,TIME,DV\n1,0,1\n1,2,2\n1,1,3\n2,0,1", {}, [3]),
    ("blank EVID", "ID,TIME,DV,EVID,MDV,AMT\n1,0,.,1,1,100\n1,1,5,0,0,.\n1,2,.,.,1,.\n1,3,4,0,0,.", {}, [3]),
    ("unknown EVID", "ID,TIME,DV,EVID,AMT\n1,0,.,101,100\n1,1,5,0,.", {}, [1]),
    ("unknown MDV", "ID,TIME,DV,MDV,AMT\n1,0,.,1,100\n1,1,5,2,.\n1,2,5,0,.", {}, [2]),
    ("unknown MDV", "ID,TIME,DV,EVID,MDV,AMT\n1,0,.,1,1,100\n1,1,5,0,0,.\n1,2,5,0,100,.\n1,3,5,2,101,.", {}, [3, 4]),
    ("unknown MDV", "ID,TIME,DV,MDV,AMT\n1,0,.,1,100\n1,1,5,-1,.\n1,2,5,0,.", {}, [2]),
    ("MDV on a dose", "ID,TIME,DV,EVID,MDV,AMT\n1,0,.,1,0,100\n1,1,5,0,0,.", {}, [1]),
    ("dose without amount", "ID,TIME,DV,EVID,AMT\n1,0,.,1,.\n1,1,5,0,.\n1,2,.,4,0", {}, [1, 3]),
    ("dose without amount", "ID,TIME,DV,EVID,AMT\n1,0,.,1,-100\n1,1,5,0,.", {}, [1]),
    ("dose without amount", "ID,TIME,DV,EVID,AMT,RATE,SS,II\n1,0,.,1,0,-1,1,12\n1,1,5,0,.,.,.,.", {}, [1]),
    ("amount on an observation", "ID,TIME,DV,EVID,AMT\n1,0,.,1,100\n1,1,5,0,100", {}, [2]),
    ("dose and value in one row", "ID,TIME,DV,AMT\n1,0,7.5,100\n1,1,5,.", {}, [1]),
    ("RATE and DUR", "ID,TIME,DV,AMT,RATE,DUR\n1,0,.,100,50,2\n1,1,5,.,.,.", {}, [1]),
    ("blank RATE", "ID,TIME,DV,AMT,RATE\n1,0,.,100,50\n1,1,5,.,.\n1,2,.,100,.", {}, [3]),
    ("blank RATE", "ID,TIME,DV,AMT,RATE\n1,0,.,100,.\n1,1,5,.,0", {}, [1]),
    ("blank RATE", "ID,TIME,DV,AMT,RATE,DUR\n1,0,.,100,.,.\n1,1,5,.,.,.\n1,2,.,100,.,2\n1,3,.,100,0,.", {}, [1]),
    ("blank RATE", "ID,TIME,DV,AMT,TINF\n1,0,.,100,.\n1,1,5,.,.\n1,2,.,100,2", {}, [1]),
    ("unknown RATE", "ID,TIME,DV,AMT,RATE\n1,0,.,100,-3\n1,1,5,.,.", {}, [1]),
    ("negative DUR", "ID,TIME,DV,AMT,DUR\n1,0,.,100,-3\n1,1,5,.,.", {}, [1]),
    ("rate without dose", "ID,TIME,DV,AMT,RATE\n1,0,.,100,10\n1,1,5,.,10", {}, [2]),
    ("repetition without dose", "ID,TIME,DV,AMT,II,ADDL\n1,0,.,100,12,3\n1,1,5,.,12,.", {}, [2]),
    ("constant infusion repeated", "ID,TIME,DV,EVID,AMT,RATE,SS,II\n1,0,.,1,0,10,1,12\n1,1,5,0,0,0,0,0", {}, [1]),
    ("unknown SS", "ID,TIME,DV,AMT,SS,II\n1,0,.,100,3,12\n1,1,5,.,.,.", {}, [1]),
    ("unknown SS", "ID,TIME,DV,AMT,SS,II\n1,0,.,100,4,12\n1,1,5,.,.,.", {}, [1]),
    ("negative II", "ID,TIME,DV,AMT,SS,II\n1,0,.,100,1,-12\n1,1,5,.,.,.", {}, [1]),
    ("negative ADDL", "ID,TIME,DV,AMT,ADDL,II\n1,0,.,100,-1,12\n1,1,5,.,.,.", {}, [1]),
    ("II without ADDL or SS", "ID,TIME,DV,AMT,II\n1,0,.,100,12\n1,1,5,.,.", {}, [1]),
    ("ADDL without II", "ID,TIME,DV,AMT,ADDL\n1,0,.,100,3\n1,1,5,.,.", {}, [1]),
    ("SS without II", "ID,TIME,DV,AMT,SS\n1,0,.,100,1\n1,1,5,.,.", {}, [1]),
    ("unknown CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,3\n1,1,5,.,2", {"compartments": ("depot", "central")}, [1]),
    ("unknown CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,depo\n1,1,5,.,central", {"compartments": ("depot", "central")}, [1]),
    ("unknown CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,1.5\n1,1,5,.,1", {}, [1]),
    ("unknown CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,1\n1,1,5,.,-1", {}, [2]),
    ("unknown CMT", "ID,TIME,DV,EVID,AMT,CMT\n1,0,.,1,100,1\n1,1,5,0,.,1\n1,2,.,2,.,-3", {"compartments": 2}, [3]),
    ("missing DV", "ID,TIME,DV,AMT\n1,0,.,100\n1,1,5,.\n1,2,.,.\n1,3,.,.", {}, [3, 4]),
    ("unknown DVID", "ID,TIME,DV,DVID\n1,0,1,1\n1,1,5,2\n1,2,5,3", {"dvid": {1: "conc", 2: "pca"}}, [3]),
    ("unknown DVID", "ID,TIME,DV\n1,0,1\n1,1,5", {"dvid": {1: "conc", 2: "pca"}}, [1, 2]),
    ("unknown DVID", "ID,TIME,DV,DVID\n1,0,1,1\n1,1,5,.", {}, [2]),
    ("unknown DVID", "ID,TIME,DV,CMT\n1,0,1,2\n1,1,5,3", {"cmt": {2: "conc"}}, [2]),
    ("endpoints by CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,1\n1,1,5,.,2\n1,1,9,.,3", {}, [2, 3]),
    ("endpoints by CMT", "ID,TIME,DV,AMT,CMT\n1,0,.,100,depot\n1,1,5,.,central\n1,1,9,.,effect", {}, [2, 3]),
    ("blank CENS", "ID,TIME,DV,AMT,CENS\n1,0,.,100,.\n1,1,5,.,0\n1,2,1,.,.\n1,3,1,.,1", {}, [3]),
    ("blank OCC", "ID,TIME,DV,AMT,OCC\n1,0,.,100,.\n1,1,5,.,1", {}, [1]),
    ("unknown COVONLY", "ID,TIME,DV,EVID,COVONLY\n1,0,.,2,2\n1,1,5,0,0", {}, [1]),
    ("covariates only", "ID,TIME,DV,EVID,COVONLY\n1,0,5,0,1\n1,1,5,0,0", {}, [1]),
    ("unknown CENS", "ID,TIME,DV,CENS\n1,0,1,2\n1,1,5,0", {}, [1]),
    ("LIMIT", "ID,TIME,DV,CENS,LIMIT\n1,0,1,1,2\n1,1,5,1,0", {}, [1]),
    ("missing covariate", "ID,TIME,DV,WT\n1,0,1,70\n1,1,5,.\n2,0,1,60", {"covariates": ["wt"]}, [2]),
    ("changing covariate", "ID,TIME,DV,WT\n1,0,1,70\n1,1,5,71\n1,2,5,70\n2,0,1,60", {"covariates": ["wt"]}, [2]),
    ("duplicated record", "ID,TIME,DV,AMT\n1,0,.,100\n1,0,.,100\n1,1,5,.\n1,1,5,.\n1,2,5,.", {}, [2, 4]),
    ("two values at one time", "ID,TIME,DV\n1,0,1\n1,0,2\n1,1,5", {}, [2]),
    ("no observation", "ID,TIME,DV,AMT\n1,0,.,100\n2,0,.,100\n2,1,5,.", {}, [1]),
    ("empty column", "ID,TIME,DV,AMT,CENS\n1,0,.,100,.\n1,1,5,.,.", {}, [1]),
    ("numbers for categories", "ID,TIME,DV,SEX\n1,0,1,1\n1,1,5,1", {"covariates": ["sex"], "categories": {"sex": ["M", "F"]}}, [1, 2]),
    ("limit of 0", "ID,TIME,DV,CENS\n1,0,1,0\n1,1,0,1\n1,2,0.5,1\n1,3,0,0", {}, [2]),
    ("code for missing", "ID,TIME,DV,WT\n1,0,1,70\n2,1,5,-99", {"covariates": ["wt"]}, [2]),
    ("code for missing", "ID,TIME,DV\n1,0,1\n1,1,-999\n1,2,3", {}, [2]),
    ("comment marks", "C,ID,TIME,DV\n.,1,0,1\nC,1,1,99\n.,1,2,3", {}, [2]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "arguments", "rows"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_a_rule_names_its_rows_and_no_other_rule_speaks(rule, text, arguments, rows):
    report = check(frame(text), **arguments)
    assert [v.rule for v in report] == [rule]
    (violation,) = report
    assert violation.rows == tuple(rows)
    assert violation.remedy
    assert violation.seen
    assert len(set(violation.subjects)) == len(violation.subjects) >= 1
    assert str(rows[0]) in str(violation)


@pytest.mark.parametrize(("rule", "text", "arguments", "rows"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_errors_stop_the_reading_and_warnings_do_not(rule, text, arguments, rows):
    level = {r.name: r.level for r in RULES}[rule]
    if level == "error":
        with pytest.raises(DataError) as caught:
            read_nonmem(frame(text), **arguments)
        assert caught.value.violations[0].rows == tuple(rows)
    else:
        with pytest.warns(UserWarning, match="warning"):
            assert len(read_nonmem(frame(text), **arguments)) >= 1


def test_every_rule_has_a_case():
    assert {r.name for r in RULES} == {c[0] for c in CASES}


FIELDS = {"DUR": "duration"} | {
    c: c.lower() for c in ("TIME", "DV", "AMT", "RATE", "EVID", "MDV", "CMT", "II", "ADDL", "SS", "CENS", "LIMIT")
}
EVERYWHERE = {r.name for r in RULES if r.everywhere}


def by_hand(table: pd.DataFrame) -> Population:
    """Subjects with the numbers of a table; without EVID an amount makes a dose, as when the table is read."""
    numbers = {FIELDS[c]: table[c].replace(".", "nan").astype(float).to_numpy() for c in table if c in FIELDS}
    columns = {name: v if name in ("time", "dv", "limit") else np.nan_to_num(v, posinf=np.inf) for name, v in numbers.items()}
    if "amt" in columns and "evid" not in columns:
        columns["evid"] = (columns["amt"] != 0) * 1
    ids = table["ID"].to_numpy()
    return Population(tuple(Subject(i, **{name: v[ids == i] for name, v in columns.items()}) for i in dict.fromkeys(ids)))


NUMBERS = [
    c for c in CASES if c[0] in EVERYWHERE and not c[2] and not any(x in c[1] for x in ("<", "mg", "SEX", "TINF", "1.5", ":"))
]


def test_every_rule_about_values_has_a_case_in_numbers():
    assert {c[0] for c in NUMBERS} == EVERYWHERE


@pytest.mark.parametrize(("rule", "text", "arguments", "rows"), NUMBERS, ids=[f"{i}-{c[0]}" for i, c in enumerate(NUMBERS)])
def test_subjects_made_by_hand_keep_the_rules_about_values(rule, text, arguments, rows):
    table = frame(text)
    with pytest.raises(DataError) as caught:
        by_hand(table)
    (violation,) = caught.value.violations
    within = table.groupby("ID").cumcount() + 1
    expected = rule if rule != "text in numbers" else "missing time"  # an infinite time is none
    assert (violation.rule, violation.rows) == (expected, tuple(within[r - 1] for r in rows))
    assert violation.seen and violation.remedy and str(violation.subjects[0]) in str(caught.value)


def test_subjects_made_by_hand_of_a_good_table_are_what_is_read():
    assert [list(s.time) for s in by_hand(frame(GOOD))] == [list(s.time) for s in read_nonmem(frame(GOOD))]


@pytest.mark.parametrize(
    ("field", "words"),
    [
        (dict(amt=[np.inf, 0.0]), "AMT = inf"),
        (dict(amt=["much", 0.0]), "amt holds numbers"),
        (dict(addl=[1.5, 0]), "record 1: addl holds whole numbers; got 1.5"),
        (dict(cens=[0, np.nan]), "record 2: cens holds whole numbers; got nan"),
        (dict(endpoint=[-1, 1]), "Subject 3, record 2: an observation of endpoint 1; the population's endpoints are 0"),
    ],
)
def test_fields_that_hold_what_they_cannot(field, words):
    with pytest.raises(DataError, match=words):
        Population((Subject(3, [0.0, 1.0], **dict(evid=[1, 0], amt=[1.0, 0.0], dv=[np.nan, 2.0]) | field),))


def test_a_good_table_breaks_no_rule():
    report = check(frame(GOOD))
    assert list(report) == []
    assert report.ok
    assert str(report) == "No problem found in the data frame (4 records, 2 subjects)."


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ("SUBJ,HOURS,CONC\n1,0,1", "missing column", ["rename={'HOURS': 'TIME'}", "rename={'CONC': 'DV'}"]),
        ("ID,TIM,DV\n1,0,1", "missing column", ["did you mean TIM?", "rename={'TIM': 'TIME'}"]),
        ("ID,id,TIME,DV\n1,1,0,1", "unclear column", ["ID and id"]),
        ("ID,TIME,DV\n", "no records", ["no rows"]),
    ],
)
def test_violations_of_the_header(text, rule, words):
    report = check(frame(text))
    assert {v.rule for v in report} == {rule}
    for word in words:
        assert word in str(report)


def test_no_observations_at_all_is_one_violation_about_the_file():
    report = check(frame("ID,TIME,DV,AMT\n1,0,.,100\n2,0,.,100"))
    assert [v.rule for v in report.errors] == ["no observations at all"]
    assert "EVID = 1 in 2 rows" in report[0].seen


def test_a_column_that_may_have_been_meant_is_pointed_out():
    report = check(frame("ID,TIME,DV,DOSE\n1,0,1,320\n1,1,2,320"))
    assert [(v.rule, v.level) for v in report] == [("unread column", "warning")]
    assert "rename={'DOSE': 'AMT'}" in report[0].remedy
    assert check(frame("ID,TIME,DV,DOSE\n1,0,1,320\n1,1,2,320"), covariates=["dose"]).ok


def test_a_duplicated_record_can_be_allowed():
    text = "ID,TIME,DV\n1,0,1\n1,0,1\n"
    with pytest.warns(UserWarning, match="a record is there twice"):
        assert read_nonmem(frame(text), allow="duplicated record").n_observations == 2
    with pytest.raises(DataError, match="duplicated record"):
        read_nonmem(frame(text), allow=["unsorted time"])


@pytest.mark.parametrize("reset", [3, 4])
def test_time_may_start_again_at_a_reset(reset):
    amount = 100 if reset == 4 else 0
    text = f"ID,TIME,DV,EVID,AMT\n1,0,.,1,100\n1,24,5,0,0\n1,0,.,{reset},{amount}\n1,1,.,1,100\n1,24,5,0,0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (subject,) = read_nonmem(frame(text))
    assert list(subject.time) == [0, 24, 0, 1, 24]


def test_the_steady_state_of_a_constant_infusion_needs_no_amount_and_no_interval():
    assert check(frame("ID,TIME,DV,EVID,AMT,RATE,SS\n1,0,.,1,0,10,1\n1,1,5,0,0,0,0")).ok


def test_a_dose_and_an_observation_at_one_time_are_normal():
    assert len(check(frame("ID,TIME,DV,AMT\n1,0,0,.\n1,0,.,100\n1,24,3,.\n1,24,.,100\n1,30,2,."))) == 0


def test_one_cause_is_told_once():
    """A cell that is no number is not a missing, negative or unsorted one as well; nor is a stray ID a subject without data."""
    assert [v.rule for v in check(frame("ID,TIME,DV,AMT\n1,0,.,1\n2,0,.,1\n1,1,5,.\n2,1,6,."))] == ["ID comes back"]
    text = "ID,TIME,DV,EVID,AMT,II,ADDL,WT\n1,O,.,1,x,y,z,w\n1,1,q,0,.,.,.,70\n"
    report = check(frame(text), covariates=["wt"])
    assert {v.rule for v in report} == {"text in numbers"}
    assert {v.column for v in report} == {"TIME", "DV", "AMT", "II", "ADDL", "wt"}


def test_check_takes_a_population_and_names_what_its_frame_shows():
    population = read_nonmem(frame(GOOD))
    assert check(population).ok


def test_row_numbers_are_told_as_ranges():
    assert ranges([40, 12, 13, 14, 15, 16, 17, 18, 19]) == "12-19, 40"
    assert ranges(range(1, 40, 2)).endswith("15 ... (20 rows)")
