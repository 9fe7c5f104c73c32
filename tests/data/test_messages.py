"""Eight wrong files as a beginner writes them: each message fits one screen and names row, column and remedy."""

from __future__ import annotations

import re

import pytest

from nlme.data import read_nonmem
from nlme.errors import DataError

LINES, COLUMNS = 25, 100

FILES = {
    "exported from a spreadsheet with decimal commas": (
        "ID;TIME;AMT;DV\n1;0;100;\n1;0,5;;2,84\n1;1;;6,57\n",
        {},
        ["TIME holds something that is not a number: row 2", "TIME = 0,5", "DV", "rows 2-3", "decimal=','"],
    ),
    "concentrations below the limit written as text": (
        "ID,TIME,AMT,DV\n1,0,100,.\n1,1,.,5.2\n1,24,.,<0.05\n2,0,100,.\n2,1,.,4.4\n2,24,.,<0.05\n",
        {},
        ["DV holds something that is not a number: rows 3, 6 (subjects 1, 2)", "DV = <0.05", "column CENS"],
    ),
    "own names for the columns": (
        "Patient,Hours,Concentration,Dose\n1,0,.,100\n1,1,5,.\n",
        {},
        ["no column ID", "{'Patient': 'ID'}", "{'Hours': 'TIME'}", "{'Concentration': 'DV'}", "rename={'Dose': 'AMT'}"],
    ),
    "sorted by time over all subjects": (
        "ID,TIME,AMT,DV\n1,0,100,.\n2,0,100,.\n1,1,.,5\n2,1,.,6\n1,2,.,4\n2,2,.,5\n",
        {},
        ["an ID comes back after another subject's rows: rows 3-6 (subjects 1, 2)", "back in row 3", "sort the file by ID"],
    ),
    "dose and first concentration in one row": (
        "ID,TIME,AMT,DV\n1,0,100,0.7\n1,1,0,5.1\n2,0,100,0.2\n2,1,0,4.6\n",
        {},
        ["an amount and an observed value: rows 1, 3", "AMT = 100, DV = 0.7", "write two rows"],
    ),
    "weight measured twice and sex as a letter": (
        "ID,TIME,AMT,DV,WT,SEX\n1,0,100,.,70,M\n1,1,.,5,71.5,M\n2,0,100,.,55,F\n2,1,.,6,,F\n",
        {"covariates": ["wt", "sex"]},
        ["categories={'sex': ['F', 'M']}", "wt = 70 in row 1, 71.5 in row 2", "time_varying=['wt']", "fill={'wt': 'locf'}"],
    ),
    "clock times over midnight without a date": (
        "ID,TIME,AMT,DV\n1,22:00,100,.\n1,23:30,.,5\n1,00:30,.,4\n",
        {},
        ["TIME goes back within a subject: row 3 (subject 1)", "TIME = 00:30 after 23:30 in row 2", "column DATE"],
    ),
    "repeated doses half described": (
        "ID,TIME,EVID,AMT,II,ADDL,SS,RATE,DUR,DV\n1,0,1,100,24,0,0,0,0,.\n1,1,0,0,0,0,0,0,0,3\n2,0,1,0,0,6,0,0,0,.\n2,1,0,0,0,0,0,0,0,2\n"
        "3,0,1,100,0,0,1,50,2,.\n3,1,0,0,0,0,0,0,0,\n3,0.5,0,0,0,0,0,0,0,1\n3,0.5,0,0,0,0,0,0,0,1\n",
        {},
        [
            "no positive amount: row 3", "RATE and DUR are both given: row 5", "neither ADDL nor SS: row 1",
            "no dosing interval II: row 3",
            "no dosing interval II: row 5", "an observation has no DV: row 6", "TIME goes back within a subject: row 7", "row 8",
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", FILES)
def test_the_message_fits_a_screen_and_says_what_to_do(mistake, tmp_path):
    text, arguments, words = FILES[mistake]
    path = tmp_path / "trial.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_nonmem(path, **arguments)
    message = str(caught.value)
    flat = re.sub(r"\s+", " ", message)
    for word in words:
        assert word in flat, message
    lines = message.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert "trial.csv" in lines[0]
    assert "remedy: " in message


def test_very_many_faults_still_fit_a_screen(tmp_path):
    rows = "".join(f"{i % 7},{-i},x{i},y,z,w,1,2,3\n" for i in range(500))
    path = tmp_path / "trial.csv"
    path.write_text("ID,TIME,DV,AMT,II,ADDL,RATE,DUR,CENS\n" + rows)
    with pytest.raises(DataError) as caught:
        read_nonmem(path)
    lines = str(caught.value).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= COLUMNS
    assert len(caught.value.violations) > 5


def test_a_table_with_ragged_rows_names_them(tmp_path):
    path = tmp_path / "trial.csv"
    path.write_text("ID,TIME,DV\n1,0,1\n1,0,5,2\n1,1,3\n2,0\n")
    with pytest.raises(DataError, match=r"(?s)rows 2, 4.*row 2: 4 cells for 3 columns.*decimal comma"):
        read_nonmem(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "there are no records"), ("ID,TIME,DV\n", "there are no records"), ("1,0,2.5\n1,1,2.7\n", "no header")],
)
def test_a_file_without_header_or_rows(text, words, tmp_path):
    path = tmp_path / "trial.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_nonmem(path)


def test_a_path_that_is_not_there_shows_what_is(tmp_path):
    (tmp_path / "warfarin.csv").write_text("ID,TIME,DV\n1,0,1\n")
    with pytest.raises(DataError, match=r"There is no file .*warfarn.csv.*there are: warfarin.csv"):
        read_nonmem(tmp_path / "warfarn.csv")


def test_an_object_that_is_no_table():
    with pytest.raises(DataError, match="not dict"):
        read_nonmem({"ID": [1]})


def test_a_covariate_that_is_not_there_is_named():
    import pandas as pd

    table = pd.DataFrame({"ID": [1, 1], "TIME": [0, 1], "DV": [1, 2], "WEIGHT": [70, 70]})
    with pytest.raises(DataError, match=r"(?s)no column weigt.*did you mean WEIGHT"):
        read_nonmem(table, covariates=["weigt"])


def test_arguments_about_covariates_that_were_not_asked_for():
    import pandas as pd

    table = pd.DataFrame({"ID": [1, 1], "TIME": [0, 1], "DV": [1, 2], "WT": [70, 71]})
    with pytest.raises(DataError, match=r"time_varying names 'WT'.*covariates=\['wt', 'WT'\]"):
        read_nonmem(table, covariates=["wt"], time_varying=["WT"])
    with pytest.raises(DataError, match=r"fill for covariate 'wt' is 'mean'"):
        read_nonmem(table, covariates=["wt"], time_varying="wt", fill="mean")
