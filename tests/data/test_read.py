"""Reading: names, missing values, events, times, endpoints, compartments, covariates."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest

from nlme.data import check, read_nonmem
from nlme.errors import DataError


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def frame(text: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)


def only(text: str, **arguments):
    """The one subject of a table."""
    (subject,) = read_nonmem(frame(text), **arguments)
    return subject


# -- columns -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["ID,TIME,DV,AMT", "id,time,dv,amt", "Id,Time,Dv,Amt", "#ID, TIME ,DV,AMT", "subject,time,dv,amt"]
)
def test_names_in_any_case_and_aliases(header, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(header + "\n7,0,.,100\n7,1,5,0\n")
    (subject,) = read_nonmem(path)
    assert subject.id == 7
    assert list(subject.evid) == [1, 0]


def test_renaming():
    subject = only("PAT,HRS,CONC,DOSE,WEIGHT\n1,0,.,100,70\n1,1,5,.,70", covariates={"wt": "kg"},
                   rename={"PAT": "ID", "hrs": "TIME", "CONC": "DV", "DOSE": "AMT", "WEIGHT": "wt"})  # fmt: skip
    assert list(subject.amt) == [100, 0]
    assert list(subject.covariates["wt"]) == [70, 70]


def test_renaming_a_column_that_is_not_there():
    with pytest.raises(DataError, match=r"(?s)no column CONCC.*did you mean CONC"):
        read_nonmem(frame("ID,TIME,CONC\n1,0,1"), rename={"CONCC": "DV"})


@pytest.mark.parametrize("missing", ["", ".", "NA", "nan", " . "])
def test_missing_values(missing):
    subject = only(f"ID,TIME,DV,AMT,II,MDV\n1,0,{missing},100,{missing},{missing}\n1,1,5,{missing},.,{missing}")
    assert list(subject.mdv) == [1, 0]
    assert list(subject.amt) == [100, 0]
    assert np.isnan(subject.dv[0])


@pytest.mark.parametrize("separator", [",", ";", "\t", " "])
def test_separators_blank_lines_and_a_byte_order_mark(separator, tmp_path):
    rows = [["ID", "TIME", "DV"], ["1", "0", "1.5"], ["1", "2", "."], ["2", "0", "3"]]
    lines = [separator.join(r) for r in rows]
    lines[2] = separator.join(["1", "2", "2.5"])
    path = tmp_path / "x.txt"
    path.write_text("\ufeff" + "\r\n".join([*lines[:2], "", *lines[2:]]) + "\r\n", encoding="utf-8")
    population = read_nonmem(path)
    assert population.ids == (1, 2)
    assert list(population[0].dv) == [1.5, 2.5]


def test_decimal_commas_compressed_and_quoted(tmp_path):
    path = tmp_path / "x.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write('"ID";"TIME";"DV";"NOTE"\n"1";"0,5";"1,25";"a;b"\n')
    subject = read_nonmem(path, decimal=",")[0]
    assert (subject.time[0], subject.dv[0]) == (0.5, 1.25)
    assert subject.extra["NOTE"][0] == "a;b"


def test_a_table_written_by_nonmem(tmp_path):
    path = tmp_path / "sdtab"
    path.write_text(
        "TABLE NO.  1\n ID          TIME        DV\n  1.0000E+00  0.0000E+00  1.2000E+00\n  1.0000E+00  1.5000E+00  1.1000E+00\n"
    )
    assert list(read_nonmem(path)[0].time) == [0.0, 1.5]


@pytest.mark.parametrize(("mark", "left"), [("C", 2), ("@", 1), (None, 3)])
def test_comment_rows(mark, left, tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("ID,TIME,DV\nX1,0,1\nC1,1,2\n1,2,3\n")
    assert read_nonmem(path, ignore=mark).n_records == left
    assert read_nonmem(path, ignore=mark)[-1].rows[-1] == 3  # the row number of the file, whatever was left out


def test_a_data_frame_of_numbers_and_its_index():
    table = pd.DataFrame(
        {"ID": [1.0, 1.0, 2.0], "TIME": [0, 1, 0], "DV": [np.nan, 2.0, 3.0], "AMT": [100, None, 0], "EVID": [1, 0, 0]}
    )
    population = read_nonmem(table)
    assert population.ids == (1, 2)
    assert read_nonmem(table.set_index("ID")) == population
    assert all(isinstance(i, int) for i in population.ids)


def test_ids_keep_their_writing():
    assert read_nonmem(frame("ID,TIME,DV\nA-1,0,1\nA-2,0,1")).ids == ("A-1", "A-2")
    assert read_nonmem(frame("ID,TIME,DV\n001,0,1\n010,0,1")).ids == ("001", "010")
    assert read_nonmem(frame("ID,TIME,DV\n1.1,0,1\n1.2,0,1")).ids == ("1.1", "1.2")


LONG = [10_000_000_000_000_000, 10_000_000_000_000_001]


def test_long_ids_are_not_rounded(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("ID,TIME,DV\n" + "".join(f"{i},{t},1\n" for i in LONG for t in (0, 1)))
    whole = pd.DataFrame({"ID": np.repeat(LONG, 2), "TIME": [0, 1] * 2, "DV": 1.0})
    for source in (path, whole, whole.astype({"ID": object}), whole.astype({"ID": "Int64"}), whole.set_index("ID")):
        population = read_nonmem(source)
        assert population.ids == tuple(LONG)
        assert read_nonmem(population.to_frame()) == population
    assert read_nonmem(whole.assign(ID=whole.ID.astype(str) + "0" * 9)).ids == tuple(
        f"{i}000000000" for i in LONG
    )  # beyond 64 bits
    for floats in (whole.astype({"ID": float}), whole.assign(ID=whole.ID.astype(float).astype(object))):
        with pytest.raises(DataError, match=r"(?s)ID holds a number of more digits.*dtype=\{'ID': str\}"):
            read_nonmem(floats)


def test_other_codes_are_not_rounded():
    text = "ID,TIME,DV,OCC,SITE,DVID,KIND\n" + "".join(f"{k},0,1,{i},{i},{i},{i}\n" for k, i in enumerate(LONG, start=1))
    population = read_nonmem(frame(text), covariates=["kind"], categories={"kind": LONG}, dvid={LONG[0]: "a", LONG[1]: "b"})
    assert [s.occasion[0] for s in population] == LONG
    assert [s.extra["SITE"][0] for s in population] == LONG
    assert [s.endpoint[0] for s in population] == [0, 1]
    assert [s.covariates["kind"][0] for s in population] == [0, 1]
    again = read_nonmem(population.to_frame())
    assert again == population
    assert again.hash == population.hash


def test_codes_of_which_some_are_missing():
    population = read_nonmem(frame(f"ID,TIME,DV,VISIT\n1,0,1,{LONG[1]}\n1,1,1,.\n2,0,1,3\n"))
    assert list(population[0].extra["VISIT"]) == [LONG[1], None]
    assert read_nonmem(population.to_frame()) == population


def test_sites_keep_their_writing():
    text = "ID,TIME,DV,SITE,PLACE\n1,0,1,01,1.10\n2,0,1,1,1.1\n"
    population = read_nonmem(frame(text))
    assert [s.extra["SITE"][0] for s in population] == ["01", "1"]
    assert [s.extra["PLACE"][0] for s in population] == ["1.10", "1.1"]
    assert read_nonmem(population[1:].to_frame()) == population[1:]


def test_words_that_look_like_numbers_stay_words():
    population = read_nonmem(frame("ID,TIME,DV\nA,0,1\n7,0,1\n"))
    assert read_nonmem(population[1:].to_frame()) == population[1:]
    assert population[1:].ids == ("7",)


@pytest.mark.parametrize(("text", "number"), [("1D2", 100), ("1.5d+01", 15), (".5", 0.5), ("5.", 5), ("+3", 3), ("1E0", 1)])
def test_numbers_as_nonmem_reads_them(text, number):
    assert only(f"ID,TIME,DV,AMT\n1,0,.,{text}\n1,1,5,.").amt[0] == number


@pytest.mark.parametrize("text", ["1_000", "0x10", "1,000", "1 000", "１", "5 mg", "1e400", "--1", "1e", "inf"])
def test_what_is_no_number(text):
    with pytest.raises(DataError, match="AMT holds something"):
        read_nonmem(frame(f'ID,TIME,DV,AMT\n1,0,.,"{text}"\n1,1,5,.'))


def test_ids_and_columns_that_nothing_reads_have_the_decimal_mark_of_the_file():
    text = 'ID,TIME,DV,AMT,SITE\n"1,0",0,.,100,"1,5"\n"1,0",1,"5,5",.,"1,5"\n2,1,"5,5",.,2'
    population = read_nonmem(frame(text), decimal=",")
    assert [s.id for s in population] == [1, 2] and [s.extra["SITE"][0] for s in population] == [1.5, 2.0]


def test_a_point_beside_a_decimal_comma_is_not_guessed():
    with pytest.raises(DataError, match="1.000 may be one or a thousand"):
        read_nonmem(frame('ID,TIME,DV,AMT\n1,0,.,1.000\n1,1,"5,5",.'), decimal=",")


def test_columns_that_nothing_reads_are_kept():
    subject = only("ID,TIME,DV,SITE,VISIT\n1,0,1,north,1\n1,1,2,.,2")
    assert list(subject.extra["SITE"]) == ["north", None]
    assert list(subject.extra["VISIT"]) == [1.0, 2.0]


# -- events --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "evid", "mdv"),
    [
        ("ID,TIME,DV,AMT\n1,0,.,100\n1,1,5,0", [1, 0], [1, 0]),
        ("ID,TIME,DV,AMT,MDV\n1,0,.,100,1\n1,1,5,0,0\n1,2,.,0,1", [1, 0, 2], [1, 0, 1]),
        ("ID,TIME,DV,AMT,EVID\n1,0,.,100,1\n1,1,5,0,0\n1,2,.,0,2", [1, 0, 2], [1, 0, 1]),
        ("ID,TIME,DV,AMT,EVID,MDV\n1,0,.,100,1,1\n1,1,5,0,0,1\n1,2,6,0,0,0", [1, 0, 0], [1, 1, 0]),
        ("ID,TIME,DV\n1,0,1\n1,1,5", [0, 0], [0, 0]),
    ],
)
def test_evid_and_mdv_follow_from_each_other(text, evid, mdv):
    subject = only(text)
    assert list(subject.evid) == evid
    assert list(subject.mdv) == mdv
    assert np.array_equal(np.isnan(subject.dv), ~subject.is_observation)
    assert np.array_equal(subject.endpoint, np.where(subject.is_observation, 0, -1))


def test_all_columns_of_a_dose():
    s = only(
        "ID,TIME,DV,AMT,RATE,DUR,EVID,MDV,CMT,II,ADDL,SS,CENS,LIMIT,OCC\n1,0,.,100,0,2,1,1,2,12,3,1,.,.,1\n1,1,0.1,.,.,.,0,0,.,.,.,.,1,0,2"
    )
    assert (s.amt[0], s.rate[0], s.duration[0], s.ii[0], s.addl[0], s.ss[0], s.cmt[0]) == (100, 0, 2, 12, 3, 1, 2)
    assert (list(s.cens), s.limit[1], list(s.occasion)) == ([0, 1], 0.0, [1, 2])
    assert np.isnan(s.limit[0])
    assert list(s.rows) == [1, 2]


def test_compartments_by_name_and_number():
    s = only("ID,TIME,DV,AMT,CMT\n1,0,.,100,depot\n1,1,5,.,2\n1,2,5,.,.", compartments=("depot", "central"))
    assert s.cmt_name == ("depot", None, None)
    assert list(s.cmt) == [0, 2, 0]


# -- endpoints -----------------------------------------------------------------------------------------------------

TWO = "ID,TIME,DV,DVID,AMT\n1,0,.,0,100\n1,1,5,1,.\n1,1,80,2,.\n1,2,4,1,."


def test_endpoints_by_name():
    population = read_nonmem(frame(TWO), dvid={1: "conc", 2: "pca"})
    assert population.endpoints == ("conc", "pca")
    assert list(population[0].endpoint) == [-1, 0, 1, 0]
    assert read_nonmem(frame(TWO), dvid={"2": "pca", 1.0: "conc"}).endpoints == ("pca", "conc")


def test_endpoints_without_names():
    assert read_nonmem(frame(TWO)).endpoints == ("1", "2")
    assert read_nonmem(frame("ID,TIME,DV,DVID\n1,0,5,1")).endpoints == ("DV",)
    assert read_nonmem(frame("ID,TIME,DV,DVID\n1,0,5,cp\n1,0,9,pca")).endpoints == ("cp", "pca")
    assert read_nonmem(frame("ID,TIME,DV\n1,0,5"), dvid={1: "conc"}).endpoints == ("conc",)


def test_endpoints_left_out():
    population = read_nonmem(frame(TWO), dvid={1: "conc", 2: None})
    assert population.endpoints == ("conc",)
    assert list(population[0].endpoint) == [-1, 0, -1, 0]
    assert list(population[0].mdv) == [1, 0, 1, 0]
    assert np.isnan(population[0].dv[2])


CMT = "ID,TIME,DV,CMT,AMT\n1,0,.,1,100\n1,1,5,2,.\n1,1,80,3,.\n1,2,4,2,."


def test_endpoints_by_compartment():
    population = read_nonmem(frame(CMT), cmt={2: "conc", "3": "effect"})
    assert population.endpoints == ("conc", "effect")
    assert list(population[0].endpoint) == [-1, 0, 1, 0]
    assert list(population[0].cmt) == [1, 2, 3, 2]
    assert list(read_nonmem(frame(CMT), cmt={2: "y", 3: "y"})[0].endpoint) == [-1, 0, 0, 0]
    part = read_nonmem(frame(CMT), cmt={2: "conc", 3: None})
    assert (part.endpoints, list(part[0].endpoint), list(part[0].mdv)) == (("conc",), [-1, 0, -1, 0], [1, 0, 1, 0])
    for made in (population, part):
        again = read_nonmem(made.to_frame())
        assert again == made
        assert again.hash == made.hash
    named = read_nonmem(
        frame(CMT.replace(",2,.", ",central,.").replace(",3,.", ",pd,.")), cmt={"central": "conc", "pd": "effect"}
    )
    assert list(named[0].endpoint) == [-1, 0, 1, 0]


def test_compartments_are_not_taken_for_one_endpoint_silently():
    with pytest.raises(
        DataError, match=r"(?s)several compartments.*CMT = 2 in 2 observations, CMT = 3 in 1.*cmt=\{2: 'name', 3: 'name'\}"
    ):
        read_nonmem(frame(CMT))
    assert read_nonmem(frame(CMT.replace(",3,", ",2,").replace("1,1,80", "1,1.5,80"))).endpoints == ("DV",)
    dvid = CMT.replace("CMT,AMT", "CMT,AMT,DVID").replace("\n", ",1\n") + ",1"
    assert read_nonmem(frame(dvid.replace("DVID,1", "DVID"))).endpoints == ("DV",)  # DVID says that it is one
    with pytest.raises(DataError, match="dvid= and cmt= both"):
        read_nonmem(frame(CMT), cmt={2: "a"}, dvid={1: "a"})


def test_arguments_about_endpoints_are_checked():
    for arguments, words in (
        ({"dvid": [1]}, "it is a dict"), ({"dvid": {1: "a", "1": "b"}}, "has two names"), ({"cmt": {2: 3}}, "is a word"),
        ({"categories": {"sex": "MF"}, "covariates": ["sex"]}, "a list of words"),
        ({"categories": {"sex": [1, "1.0"]}, "covariates": ["sex"]}, "there twice"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=words):
            read_nonmem(frame(TWO), **arguments)


def test_endpoints_by_words():
    text = TWO.replace(",1,.", ",cp,.").replace(",2,.", ",pca,.").replace(",0,100", ",dose,100")
    population = read_nonmem(frame(text))
    assert (population.endpoints, list(population[0].endpoint)) == (("cp", "pca"), [-1, 0, 1, 0])
    assert read_nonmem(frame(text), dvid={"cp": "conc", "pca": None}).endpoints == ("conc",)
    assert read_nonmem(population.to_frame()) == population


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("ID,TIME,DV\n1,8:00,1\n1,8:30,2\n1,10:15,3", [0, 0.5, 2.25]),
        ("ID,TIME,DV\n1,08:00:00,1\n1,08:00:36,2", [0, 0.01]),
        ("ID,DATE,TIME,DV\n1,12/31/2023,22:00,1\n1,1/1/2024,01:00,2", [0, 3]),
        ("ID,DAT1,TIME,DV\n1,31-12-23,22:00,1\n1,1-1-24,01:00,2", [0, 3]),
        ("ID,DAT2,TIME,DV\n1,2024/02/28,12:00,1\n1,2024/03/01,12:00,2", [0, 48]),
        ("ID,DAT3,TIME,DV\n1,2024/28/02,12:00,1\n1,2024/01/03,12:00,2", [0, 48]),
        ("ID,DATE,TIME,DV\n1,2024-02-28,12:00,1\n1,2024-03-01,12:00,2", [0, 48]),
        ("ID,DATE,TIME,DV\n1,1,22:00,1\n1,2,01:00,2", [0, 3]),
        ("ID,DATE,TIME,DV\n1,12/30/1999,22.5,1\n1,12/31/1999,0.5,2", [0, 2]),
        ("ID,DATE,TIME,DV\n1,12/31/99,22:00,1\n1,01/01/00,01:00,2", [0, 3]),
        ("ID,TIME,DV\n1,2024-03-01 23:30,1\n1,2024-03-02T01:00,2", [0, 1.5]),
        ("ID,TIME,DV\n1,24.5,1\n1,30,2", [24.5, 30]),
    ],
)
def test_times_are_hours_since_the_first_record(text, hours):
    assert np.allclose(only(text).time, hours, rtol=0, atol=1e-9)


def test_a_time_that_no_clock_shows():
    with pytest.raises(DataError, match="TIME goes back|TIME holds"):
        read_nonmem(frame("ID,DATE,TIME,DV\n1,12/31/2023,1e308,1\n1,12/31/2023,-1e308,2"))


def test_each_subject_has_its_own_clock():
    population = read_nonmem(frame("ID,TIME,DV\n1,8:00,1\n1,9:00,2\n2,13:00,1\n2,13:30,2"))
    assert [list(s.time) for s in population] == [[0, 1], [0, 0.5]]


def test_times_as_timestamps():
    table = pd.DataFrame({"ID": [1, 1], "TIME": pd.to_datetime(["2024-03-01 23:00", "2024-03-02 02:30"]), "DV": [1, 2]})
    assert list(read_nonmem(table)[0].time) == [0, 3.5]


# -- covariates ----------------------------------------------------------------------------------------------------

VARYING = "ID,TIME,DV,WT,AGE\n1,0,1,70,30\n1,1,2,71,30\n2,0,1,60,40\n2,1,2,60,40"


def test_covariates_with_and_without_units():
    population = read_nonmem(frame(VARYING), covariates={"age": "years"})
    assert population.covariates["age"].unit == "years"
    assert population.covariates["age"].constant
    assert population.covariates["age"].column == "AGE"
    assert list(population[0].covariates) == ["age"]
    assert "WT" in population[0].extra


@pytest.mark.parametrize("declared", [["wt"], "wt", "auto", ["wt", "age"]])
def test_covariates_that_vary_have_to_be_declared(declared):
    with pytest.raises(DataError, match="changes within a subject: row 2"):
        read_nonmem(frame(VARYING), covariates=["wt", "age"])
    population = read_nonmem(frame(VARYING), covariates=["wt", "age"], time_varying=declared)
    assert list(population[0].covariates["wt"]) == [70, 71]
    assert {n: i.constant for n, i in population.covariates.items()} == {"wt": False, "age": True}


def test_categories():
    text = "ID,TIME,DV,RACE\n1,0,1,Latin\n2,0,1,Black\n3,0,1,Caucasian"
    population = read_nonmem(frame(text), covariates=["race"], categories={"race": ["Caucasian", "Latin", "Black"]})
    assert [s.covariates["race"][0] for s in population] == [1, 2, 0]
    assert population.covariates["race"].categories == ("Caucasian", "Latin", "Black")
    assert list(population.to_frame()["RACE"]) == ["Latin", "Black", "Caucasian"]


def test_categories_written_as_their_numbers():
    text = "ID,TIME,DV,SEX\n1,0,1,0\n2,0,1,1.0\n3,0,1,1"
    population = read_nonmem(frame(text), covariates=["sex"], categories={"sex": ["female", "male"]})
    assert [s.covariates["sex"][0] for s in population] == [0, 1, 1]
    assert list(population.to_frame()["SEX"]) == ["female", "male", "male"]
    assert read_nonmem(population.to_frame()).hash == population.hash


def test_a_covariate_with_the_name_of_a_column():
    text = "ID,TIME,DV,AMT,OCC\n1,0,.,100,1\n1,1,5,.,1\n1,2,.,50,2\n1,3,4,.,2"
    population = read_nonmem(frame(text), covariates=["amt", "occ"], time_varying="auto", fill={"amt": "locf"})
    assert list(population[0].covariates["amt"]) == [100, 100, 50, 50]
    assert list(population[0].covariates["occ"]) == list(population[0].occasion) == [1, 1, 2, 2]
    assert read_nonmem(population.to_frame()) == population


def test_a_category_may_be_a_word_for_missing():
    text = "ID,TIME,DV,USE\n1,0,1,none\n2,0,1,NA"
    population = read_nonmem(frame(text), covariates=["use"], categories={"use": ["none", "NA"]})
    assert [s.covariates["use"][0] for s in population] == [0, 1]


@pytest.mark.parametrize(
    ("fill", "values"),
    [("locf", [70, 70, 72]), ("nocb", [70, 72, 72]), (65, [70, 65, 72]), ({"wt": "locf"}, [70, 70, 72])],
)
def test_filling_missing_covariates(fill, values):
    text = "ID,TIME,DV,WT\n1,0,1,70\n1,1,2,.\n1,2,3,72"
    assert list(only(text, covariates=["wt"], time_varying=["wt"], fill=fill).covariates["wt"]) == values


def test_filling_stays_within_the_subject():
    text = "ID,TIME,DV,WT\n1,0,1,70\n1,1,2,.\n2,0,1,.\n2,1,3,60"
    for how, row in (("locf", 3), ("nocb", 2)):
        report = check(frame(text), covariates=["wt"], fill=how)
        assert [v.rows for v in report] == [(row,)]


def test_filling_with_a_category():
    text = "ID,TIME,DV,SEX\n1,0,1,F\n2,0,1,."
    population = read_nonmem(frame(text), covariates=["sex"], categories={"sex": ["M", "F"]}, fill={"sex": "F"})
    assert [s.covariates["sex"][0] for s in population] == [1, 1]


def test_pandas_is_only_imported_when_data_are_read():
    seen = "print('pandas' in sys.modules)"
    code = f"import sys, nlme.data; {seen}; nlme.datasets.load('indomethacin'); {seen}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "True"]
