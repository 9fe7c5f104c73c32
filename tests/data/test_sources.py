"""From a file or a frame to cells: where the header is, comments, quotes, encodings, damaged files, the dtypes of pandas."""

from __future__ import annotations

import datetime
import gzip
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from nlme.data import read_nonmem
from nlme.errors import DataError

ROWS = "1,0,100,.\n1,1,.,5\n"
TABLE = "ID,TIME,AMT,DV\n" + ROWS
RIGHT = ([0.0, 1.0], [100.0, 0.0], [1, 0])


@pytest.fixture
def read(tmp_path):
    """The one subject of a file with this content."""

    def of(content: str | bytes, name: str = "trial.csv", **arguments):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (subject,) = read_nonmem(path, **arguments)
        return subject

    return of


def seen(subject):
    return list(subject.time), list(subject.amt), list(subject.evid)


# -- the header and comments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("#ID,TIME,AMT,DV\n" + ROWS, {}),
        ("@ID,TIME,AMT,DV\n" + ROWS, {}),
        ("# ID,TIME,AMT,DV\n" + ROWS, {}),
        ('"#ID","TIME","AMT","DV"\n' + ROWS, {}),
        ("# a trial\n# ID and TIME as planned, DV in mg/L\n" + TABLE, {}),
        ("A trial of mine\n\n" + TABLE, {}),
        ("A trial, of mine\nwritten 2024\n" + TABLE, {}),
        ("C A trial of mine\nC,ID,TIME,AMT,DV\n.,1,0,100,.\nC,1,0.5,.,99\n.,1,1,.,5\n", {"ignore": "C"}),
        ("TABLE NO.  1\n ID TIME AMT DV\n 1 0 100 .\n 1 1 . 5\n", {}),
        ("ID,TIME,AMT,DV\n" + TABLE, {}),  # the header twice
        ("PAT,HRS,DOSE,CONC\n" + ROWS, {"rename": {"PAT": "ID", "HRS": "TIME", "DOSE": "AMT", "CONC": "DV"}}),
        ("My own\nPAT,HRS,DOSE,CONC\n" + ROWS, {"rename": {"PAT": "ID", "HRS": "TIME", "DOSE": "AMT", "CONC": "DV"}}),
        ("ID,TIME,AMT,DV of an older file\n9,9,9\n" + TABLE, {"skip": 2}),
        ("\n\n" + TABLE, {}),
        (TABLE + ",,,\n,,,\n", {}),
        (TABLE + "#1,2,.,4\n", {}),
        ("ID,TIME,AMT,DV\n#,h,mg,mg/L\n1,0,100,.\n# he said \"no\n1,1,.,5\n", {}),
        ("ID,TIME,AMT,DV\n1,0,100,.\nX9,1,.,7\n@,1,.,7\n1,1,.,5\n", {"ignore": "@"}),
        ("ID,TIME,AMT,DV,\n1,0,100,.,\n1,1,.,5,\n", {}),
        ("ID,TIME,AMT,DV\n1,0,100,.,,\n1,1,.,5,,\n", {}),
        (",ID,TIME,AMT,DV\n0,1,0,100,\n1,1,1,,5\n", {}),
        ("ID|TIME|AMT|DV\n1|0|100|.\n1|1|.|5\n", {}),
        ("ID\tTIME\tAMT\tDV\n1\t0\t100\t\n1\t1\t\t5\n", {}),
        ("ID TIME AMT DV NOTE\n1 0 100 . \"a b\"\n1 1 . 5 \"\"\n", {}),
    ],
)  # fmt: skip
def test_the_header_is_found_and_comments_are_not_read(text, arguments, read):
    assert seen(read(text, **arguments)) == RIGHT


def test_comments_in_a_frame():
    frame = pd.DataFrame({"ID": ["1", "#1", "1"], "TIME": [0, 0.5, 1], "AMT": [100, 100, None], "DV": [None, None, 5]})
    (subject,) = read_nonmem(frame)
    assert (seen(subject), list(subject.rows)) == (RIGHT, [1, 3])


@pytest.mark.parametrize("arguments", [{"skip": 1}, {"separator": ";"}, {"encoding": "latin-1"}])
def test_how_to_read_a_file_is_not_said_of_a_frame(arguments):
    with pytest.raises(DataError, match="says how a file is read"):
        read_nonmem(frame(), **arguments)


def test_only_comments_are_no_records():
    with pytest.raises(DataError, match="there are no records"):
        read_nonmem(pd.DataFrame({"ID": ["#1"], "TIME": [0], "DV": [1]}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"covariates": 5}, "covariates=5"), ({"compartments": 2.5}, "compartments=2.5"),
        ({"interpolation": 5}, "interpolation=5"), ({"rename": ["a"]}, "it is a dict"), ({"allow": 3}, "allow=3"),
        ({"skip": -1}, "skip=-1"), ({"ignore": ""}, "ignore=''"),
        ({"separator": ",,"}, "one character"), ({"decimal": ";"}, "decimal mark"),
    ],
)  # fmt: skip
def test_arguments_that_say_nothing_possible(arguments, words, read):
    with pytest.raises(DataError, match=words):
        read(TABLE, **arguments)


# -- CSV as the standard has it ------------------------------------------------------------------------------------


def test_quoted_cells_hold_anything(read):
    text = 'ID,TIME,AMT,DV,NOTE\r\n1,0,100,.,"a, b\r\nand ""c"""\r\n1,1,.,5,x\r\n1,2,.,4,\r\n'
    subject = read(text)
    assert list(subject.extra["NOTE"]) == ['a, b\nand "c"', "x", None]
    assert list(subject.rows) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('ID,TIME,DV\n1,0,1\n1,1,"2\n1,2,3\n', "a quote that opens in line 3 of the file is not closed: row 2"),
        ('ID,TIME,DV\n1,0,1\n1,1,"2\n1,2,"3"\n', "in line 3 of the file something follows a quoted cell: row 2"),
        ('ID,TIME,DV\n1,0,"1" mg\n', "in line 2 of the file something follows a quoted cell"),
        ('ID TIME DV\n1 0 "1\n', "a quote that opens in line 2"),
        ("ID,TIME,DV\n1,0\n", "row 1: 2 cells for 3 columns"),
        ("ID,TIME,DV\n1 0 5\n1 1 4\n", "the header has commas and the rows have blanks"),
        ("ID,TIME,DV\n1,1,0,5\n2,1,1,4\n", "row.names=FALSE"),
    ],
)
def test_a_spoiled_row_is_named(text, words, read):
    with pytest.raises(DataError) as caught:
        read(text)
    assert words in " ".join(str(caught.value).split())


def test_two_columns_of_one_name(read):
    for header in ("ID,TIME,AMT,DV,X,X", "ID,TIME,AMT,DV,DUR,TINF", "ID,TIME,AMT,DV,OCC,OCCASION", "SUBJ,TIME,AMT,DV,SUBJID,X"):
        with pytest.raises(DataError, match="is not clear"):
            read(header + "\n1,0,100,.,1,2\n1,1,.,5,1,2\n")
    assert seen(read("ID,TIME,AMT,DV,SUBJID\n1,0,100,.,a\n1,1,.,5,a\n")) == RIGHT  # another number of the subject


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_that_show_themselves(encoding, read):
    subject = read("ID,TIME,DV,µ\n1,0,1,é\n1,1,2,è\n".encode(encoding))
    assert list(subject.extra["µ"]) == ["é", "è"]


def test_an_encoding_that_has_to_be_said(read):
    text = "ID,TIME,DV,NOTE\n1,0,1,é\n".encode("latin-1")
    with pytest.raises(DataError, match=r"not text in UTF-8 \(line 2\).*encoding='latin-1'"):
        read(text)
    assert read(text, encoding="latin-1").extra["NOTE"][0] == "é"
    with pytest.raises(DataError, match="encoding='klingon' is not known"):
        read(text, encoding="klingon")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-6], lambda b: b[:20] + b"\x01\x02" + b[22:], lambda b: b"ID" + b, lambda b: b[:4]]
)
def test_a_damaged_archive(damage, read):
    with pytest.raises(DataError, match="damaged or not compressed"):
        read(damage(gzip.compress(TABLE.encode())), "trial.csv.gz")


def test_an_archive_by_any_name(read):
    assert seen(read(gzip.compress(TABLE.encode()), "trial.csv")) == RIGHT


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"PK\x03\x04", "zip archive"), (b"HEADER RECORD***", "SAS transport"), (b"PAR1", "Parquet"), (b"ID\0TIME", "zero bytes")],
)
def test_a_file_that_is_no_text(content, words, read):
    with pytest.raises(DataError, match=words):
        read(content)


# -- frames --------------------------------------------------------------------------------------------------------


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame({"ID": [1, 1], "TIME": [0.0, 1.0], "AMT": [100.0, np.nan], "DV": [np.nan, 5.0]} | columns)


@pytest.mark.parametrize(
    "make",
    [
        lambda: frame().convert_dtypes(),
        lambda: frame().astype("category"),
        lambda: frame().astype(object),
        lambda: frame().astype("string"),
        lambda: frame(AMT=[Decimal(100), None], DV=pd.array([None, 5], dtype="Int8")),
        lambda: frame().set_index("ID"),
        lambda: frame().set_index(["ID", "TIME"]),
        lambda: frame().set_index("ID", drop=False),
        lambda: frame().set_index(pd.Index([7, 7])),
        lambda: frame().set_axis(pd.MultiIndex.from_tuples([("ID", ""), ("TIME", ""), ("AMT", ""), ("DV", "")]), axis=1),
        lambda: frame(TIME=pd.to_timedelta([0, 60], unit="min")),
        lambda: frame(TIME=pd.to_datetime(["2024-03-31 00:30", "2024-03-31 01:30"])),
        lambda: frame(TIME=pd.to_datetime(["2024-03-31 01:30", "2024-03-31 03:30"]).tz_localize("Europe/Berlin")),  # summer time
        lambda: frame(TIME=[datetime.time(8, 30), datetime.time(9, 30)]),
        lambda: frame(TIME=["2024-01-01T08:00Z", "2024-01-01T10:00+01:00"]),
        lambda: frame(TIME=["2024-01-01 8:00", "2024-01-01 09:00:00"]),
    ],
)
def test_frames_of_every_kind(make):
    (subject,) = read_nonmem(make())
    assert seen(subject) == RIGHT
    assert subject.id == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: frame().set_index(pd.Index([7, 8], name="ID"), drop=False), "level of the index and a column"),
        (lambda: frame(TIME=["2024-01-01T08:00Z", "2024-01-01T09:00"]), "in all rows or in none"),
        (lambda: frame(TIME=[pd.Timestamp("2024-01-01"), pd.NaT]), "a record has no TIME: row 2"),
        (lambda: frame(DV=[1 + 2j, 5]), "DV holds something"),
        (lambda: frame(DV=[None, [5]]), "DV holds something"),
        (lambda: frame(ID=np.array([16777217, 16777217], dtype=np.float32)), "more digits"),
        (lambda: frame(ID=[np.inf, np.inf]), "more digits"),
    ],
)
def test_frames_that_cannot_be_read(make, words):
    with pytest.raises(DataError) as caught:
        read_nonmem(make())
    assert words in " ".join(str(caught.value).split())
