"""What the records say: doses, intervals, values below the limit, what is missing and why, what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import DataError

COLUMNS = dict(EVID=0, AMT=0.0, RATE=0.0, II=0.0, ADDL=0, SS=0, CENS=0, CMT=1)
FALLING = ((1, 4.0), (2, 3.0), (4, 2.0), (6, 1.0))


def dose(at, identity=1, amount=100.0, **more):
    return dict(ID=identity, TIME=at, AMT=amount, EVID=1, DV=np.nan) | more


def samples(pairs, identity=1, start=0.0, **more):
    return [dict(ID=identity, TIME=start + t, DV=c, **more) for t, c in pairs]


def population(rows):
    frame = pd.DataFrame(rows)
    for name, value in COLUMNS.items():
        frame[name] = frame[name].fillna(value) if name in frame else value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nlme.read_nonmem(frame, allow=["no observations at all", "duplicated record"])


def analysis(rows, **options):
    return nlme.nca(population(rows), **({"route": "extravascular"} | options))


def test_no_sample_at_the_dose_is_nothing_by_mouth_and_the_smallest_later():
    first = dose(0, II=12.0, ADDL=1)
    later = samples(((1, 5.0), (4, 6.0), (12, 2.0)), start=12)
    table = analysis([first, *samples(FALLING), *later]).table
    assert table["KIND"].tolist() == ["single", "multiple"] and table["TIME"].tolist() == [0.0, 12.0]
    assert analysis([first, *samples(FALLING)], rule="linear", partial=[(0, 1)]).table["AUC_0_1"][0] == 2.0
    found = analysis([first, *samples(FALLING), *later], rule="linear", partial=[(0, 1)])
    assert found.table["AUC_0_1"][1] == 3.5 and "smallest" in found.table["REASON"][1]


def test_a_sample_at_the_next_dose_ends_one_profile_and_begins_the_next():
    rows = [dose(0), *samples(FALLING), *samples([(12, 0.5)]), dose(12), *samples(FALLING, start=12)]
    table = analysis(rows).table
    assert table["Tlast"].tolist() == [12.0, 6.0] and table["TAU"].tolist() == [12.0, 12.0]
    assert table["Tlag"].isna().tolist() == [False, True]
    washed = [dose(0), *samples(FALLING), *samples([(168, 0.0)]), dose(168), *samples(FALLING, start=168)]
    table = analysis(washed).table
    assert table["KIND"].tolist() == ["single", "single"] and "TAU" in table and table["TAU"].isna().all()
    assert table["AUCall"][0] == table["AUCall"][1]


def test_a_sample_at_an_additional_bolus_is_the_trough_before_it():
    """As if the dose were written out after the sample; C0 is that of the line through the two samples that follow."""
    falling = [(t, 10.0 * np.exp(-0.2 * t)) for t in (1, 2, 4, 6, 8)]
    after = [(t, c + 10.0 * np.exp(-0.2 * (t + 8))) for t, c in falling]
    by_record = [dose(0), *samples(falling), dose(8), *samples(after, start=8)]
    by_addl = [dose(0, II=8.0, ADDL=1), *samples(falling), *samples(after, start=8)]
    written, additional = (analysis(rows, route="intravenous").table for rows in (by_record, by_addl))
    for name in ("C0", "AUC_TAU", "Ctau", "AR_AUC"):
        np.testing.assert_allclose(additional[name], written[name], rtol=1e-12)
    assert additional["C0"][1] == pytest.approx(10.0 * (1 + np.exp(-1.6)), rel=1e-9)
    assert additional["AUC_TAU"][0] == pytest.approx(50.0 * -np.expm1(-1.6), rel=1e-9)


def test_a_reset_begins_anew_and_may_set_the_clock_back():
    rows = [dose(0), *samples(FALLING), dose(0, EVID=4), *samples(FALLING)]
    table = analysis(rows).table
    assert table["PROFILE"].tolist() == [1, 2] and table["KIND"].tolist() == ["single", "single"]
    assert table["Cl_F_obs"][0] == table["Cl_F_obs"][1]


def test_record_order_decides_whether_a_sample_at_a_bolus_is_before_it():
    before = [*samples([(0, 0.0)]), dose(0), *samples(FALLING)]
    after = [dose(0), *samples([(0, 6.0)]), *samples(FALLING)]
    first, second = (analysis(rows, route="intravenous").table.iloc[0] for rows in (before, after))
    assert first["C0"] == pytest.approx(4.0 * 4 / 3) and second["C0"] == 6.0
    assert second["Cmax"] == 6.0 and first["Cmax"] == 4.0


def test_routes_by_compartment():
    rows = [dose(0, CMT=1), *samples(FALLING), dose(0, identity=2, CMT=2), *samples(FALLING, identity=2)]
    table = analysis(rows, route={1: "extravascular", 2: "intravenous"}).table
    assert table["ROUTE"].tolist() == ["extravascular", "intravenous"]
    assert np.isnan(table["Cl_obs"][0]) and np.isnan(table["Cl_F_obs"][1])
    assert {"Cl_F_obs", "Vss_obs", "Tlag"} <= set(table.columns)


BELOW = [
    dose(0), *samples([(0, 0.5)], CENS=1), *samples([(1, 4.0)]), *samples([(2, 0.5)], CENS=1),
    *samples([(3, 3.0), (4, 2.0), (6, 1.0)]), *samples([(8, 0.5), (12, 0.5)], CENS=1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("below", "area", "last"),
    [
        (None, 2.0 + 7.0 + 2.5 + 3.0, 6.0),
        ("missing", 2.0 + 7.0 + 2.5 + 3.0, 6.0),
        ({"between": "zero"}, 2.0 + 2.0 + 1.5 + 2.5 + 3.0, 6.0),
        ({"between": "half"}, 2.0 + 2.125 + 1.625 + 2.5 + 3.0, 6.0),
        ({"before": "limit"}, 2.25 + 7.0 + 2.5 + 3.0, 6.0),
        ({"first after": "half"}, 2.0 + 7.0 + 2.5 + 3.0 + 1.25, 8.0),
        ({"first after": 0.2, "after": 0.1}, 2.0 + 7.0 + 2.5 + 3.0 + 1.2 + 0.6, 12.0),
    ],
)
def test_values_below_the_limit(below, area, last):
    row = analysis(BELOW, below=below, rule="linear").table.iloc[0]
    assert row["AUClast"] == pytest.approx(area) and row["Tlast"] == last
    assert (row["Lambda_z_lower"], row["Lambda_z_upper"]) == (3.0, 6.0)  # what is put in is no point of the line


def test_a_zero_after_the_last_concentration_counts_in_auc_all_only():
    row = analysis(BELOW, below={"first after": "zero"}, rule="linear").table.iloc[0]
    assert row["AUCall"] - row["AUClast"] == pytest.approx(1.0)
    limited = analysis([dose(0), *samples([*FALLING, (8, 0.3)])], lloq=0.5).table.iloc[0]
    assert limited["Tlast"] == 6.0


@pytest.mark.parametrize(
    ("pairs", "missing", "why"),
    [
        (((2, 3.0),), "Lambda_z", "0 measured points"),
        (((1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)), "Lambda_z", "0 measured points"),
        (((1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0)), "Lambda_z", "do not fall"),
        (((1, 0.0), (2, 0.0)), "Cmax", "no measured concentration"),
    ],
)
def test_what_cannot_be_computed_says_why(pairs, missing, why):
    found = analysis([dose(0), *samples(pairs), dose(0, identity=2), *samples(FALLING, identity=2)], partial=[(0, 24)])
    row = found.table.iloc[0]
    assert np.isnan(row[missing]) and np.isnan(row["Cl_F_obs"]) and np.isnan(row["AUC_0_24"])
    assert why in row["REASON"] and not np.isnan(found.table["Cl_F_obs"][1])
    assert any("subject 1" in line.lower() and "reasons" in line for line in found.messages)
    summary = found.summary().set_index("parameter")
    assert summary.loc["Cl_F_obs", ["n", "missing"]].tolist() == [1, 1]


def test_a_single_concentration_has_no_area_unless_the_dose_gives_another():
    for rows, options in (
        ([dose(0), *samples([(2, 3.0)])], dict(route="intravenous")),
        ([dose(0, SS=1, II=12.0), *samples([(2, 3.0)])], {}),
    ):
        row = analysis(rows, partial=[(0, 2)], **options).table.iloc[0]
        assert (
            row["Cmax"] == 3.0 and np.isnan(row["AUC_0_2"]) and "AUClast" not in row and "single concentration" in row["REASON"]
        )
    assert analysis([dose(0), *samples([(2, 3.0)])]).table["AUClast"][0] == 3.0


def test_a_subject_without_a_dose_is_named():
    found = analysis([dose(0), *samples(FALLING), *samples(FALLING, identity=2)])
    assert found.without == (2,) and "Subject 2: no dose with a sample after it." in found.messages
    assert len(found.table) == 1 and (found.reasons["ID"] == 2).any()


def test_summary_by_dose_and_covariate():
    rows = [r | {"sex": s} for i, s in ((1, 0), (2, 0), (3, 1)) for r in [dose(0, i, 100.0 * i), *samples(FALLING, i)]]
    frame = pd.DataFrame(rows).fillna(COLUMNS)
    found = nlme.nca(
        nlme.read_nonmem(frame, covariates=["sex"], categories={"sex": ["f", "m"]}), route="extravascular", units={"conc": "mg/L"}
    )
    by_sex = found.summary("sex").set_index(["parameter", "sex"])
    assert by_sex.loc[("Cmax", "f"), ["n", "mean", "unit"]].tolist() == [2, 4.0, "mg/L"]
    clearance = found.table["Cl_F_obs"].to_numpy()
    whole = found.summary().set_index("parameter").loc["Cl_F_obs"]
    assert whole["geomean"] == pytest.approx(np.exp(np.log(clearance).mean()))
    assert whole["geocv"] == pytest.approx(100 * np.sqrt(np.exp(np.log(clearance).var(ddof=1)) - 1))
    assert found.summary("DOSE")["DOSE"].nunique() == 3
    with pytest.raises(DataError, match="age"):
        found.summary("age")


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([dose(0), *samples(FALLING)], dict(route=None), "Subject 1.*route="),
        ([dose(0), *samples(FALLING)], dict(route="oral"), "extravascular"),
        ([dose(0), *samples(FALLING)], dict(route={2: "intravenous"}), "Subject 1.*compartment 1"),
        ([dose(0, RATE=-2.0), *samples(FALLING)], dict(route="intravenous"), "Subject 1.*RATE = -2"),
        ([dose(0), *samples([(1, 4.0), (1, 3.0)])], {}, "Subject 1: two concentrations 1 after"),
        ([dose(0), *samples([(1, -4.0)])], {}, "Subject 1.*negative"),
        ([dose(0), *samples([(1, 4.0)], CENS=-1)], {}, "Subject 1.*upper limit"),
        (
            [dose(0), dose(0, CMT=2), *samples(FALLING)],
            dict(route={1: "extravascular", 2: "intravenous"}),
            "Subject 1: two doses",
        ),
        (samples(FALLING), {}, "No subject has a dose"),
        ([dose(0), *samples(FALLING)], dict(lambda_z={1: [1, 2, 5]}), "subject 1 has no measured concentration 5"),
        ([dose(0), *samples(FALLING)], dict(lambda_z={9: (1, 5)}), "no subject 9"),
        ([dose(0), *samples(FALLING)], dict(partial=[(4, 2)]), "partial"),
        ([dose(0), *samples(FALLING)], dict(below="nothing"), "missing"),
        ([dose(0), *samples(FALLING)], dict(rule="log"), "linear log"),
        ([dose(0), *samples(FALLING)], dict(units={"volume": "L"}), "volume"),
        ([dose(0), *samples(FALLING)], dict(tau=0), "tau"),
        ([dose(0), *samples(FALLING)], dict(steady_state=1.5), "steady_state"),
        ([dose(0), *samples(FALLING)], dict(endpoint="conc"), "DV"),
    ],
)
def test_refusals_name_the_subject_or_the_option(rows, options, words):
    with pytest.raises(DataError, match=words):
        analysis(rows, **options)


def test_several_endpoints_have_to_be_chosen_from():
    rows = [dose(0), *(row for pair in FALLING for row in samples([pair, pair]))]
    rows[1::2], rows[2::2] = ([row | {"DVID": n} for row in rows[n::2]] for n in (1, 2))
    both = nlme.read_nonmem(pd.DataFrame(rows).fillna(COLUMNS | {"DVID": 1}), dvid={1: "conc", 2: "metabolite"})
    with pytest.raises(DataError, match="conc, metabolite"):
        nlme.nca(both, route="extravascular")
    assert nlme.nca(both, "metabolite", route="extravascular", units={"metabolite": "mg/L"}).units["Cmax"] == "mg/L"


def test_a_message_names_each_subject_once_with_its_doses():
    rows = [dict(ID=i, TIME=10.0 * k, DV=np.nan, EVID=1, AMT=100.0) for i in ("A", "B") for k in range(9 if i == "A" else 1)]
    rows += [dict(ID=row["ID"], TIME=row["TIME"] + t, DV=c, EVID=0, AMT=0.0) for row in rows for t, c in ((1.0, 5.0), (2.0, 6.0))]
    found = nlme.nca(nlme.read_nonmem(pd.DataFrame(rows).sort_values(["ID", "TIME"])), route="extravascular")
    missing = next(line for line in found.messages if "missing" in line)
    assert missing == "Subject A (doses 1, 2, 3, 4, 5, 6 and 3 more), subject B: some parameters are missing, see .reasons."
