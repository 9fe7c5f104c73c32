"""Against Phoenix WinNonlin: theophylline, 320 mg by mouth, every parameter of all twelve subjects; indomethacin, 25 mg into a vein.

The numbers for indomethacin, a bolus and an infusion over 0.25 h, are WinNonlin's as distributed with the R package NonCompart
(cran/NonCompart, tests/Final_Parameters_Pivoted_Indometh_*.csv), to twelve digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme import datasets
from tests.reference import case

CASE = case("nca_theophylline_winnonlin")
UNITS = {"time": "h", "conc": "mg/L", "dose": "mg"}


@pytest.fixture(scope="module")
def population():
    samples = CASE.table().rename(columns={"CONC": "DV"}).assign(AMT=0.0, EVID=0)
    doses = samples.groupby("ID", as_index=False).first().assign(TIME=0.0, DV=np.nan, AMT=320.0, EVID=1)
    frame = np.concatenate([doses.to_numpy(), samples.to_numpy()])
    frame = frame[np.lexsort((-frame[:, 4], frame[:, 1], frame[:, 0]))]
    return nlme.read_nonmem(pd.DataFrame(frame, columns=samples.columns))


@pytest.mark.parametrize(("rule", "file"), [("linear", "winnonlin_linear.csv"), ("linear-up log-down", "winnonlin_log.csv")])
def test_every_number_to_the_printed_digits(population, rule, file):
    found = nlme.nca(population, route="extravascular", rule=rule, units=UNITS).table.set_index("ID")
    printed = CASE.table(file, dtype=str).set_index("Subject")
    printed.index = printed.index.astype(int)
    assert len(printed.columns) == 34
    for name in printed.columns:
        for identity, text in printed[name].items():
            shown = float(text)
            half_a_digit = 0.5 * 10.0 ** -len(text.partition(".")[2]) if "." in text else 0.5e-9
            assert found.loc[identity, name] == pytest.approx(shown, rel=1e-9, abs=1.01 * half_a_digit), (name, identity)


def test_the_terminal_line_prefers_more_points_where_nothing_is_lost(population):
    """Subject 6's line of seven points is as good to 1e-4 as a shorter one; of eight it would reach Cmax."""
    row = nlme.nca(population, route="extravascular").table.set_index("ID").loc[6]
    assert row["No_points_lambda_z"] == 7 and row["Lambda_z_lower"] == 2.03
    forced = nlme.nca(population, route="extravascular", lambda_z={6: [9.22, 12.1, 23.85]}).table.set_index("ID")
    assert forced.loc[6, "No_points_lambda_z"] == 3 and forced.loc[6, "HL_Lambda_z"] != row["HL_Lambda_z"]


INDOMETHACIN = pd.read_csv(Path(__file__).with_name("winnonlin_indomethacin.csv"))


@pytest.mark.parametrize(("way", "rule"), sorted(set(zip(INDOMETHACIN["dose"], INDOMETHACIN["rule"], strict=True))))
def test_into_a_vein(way, rule):
    given = datasets.load("indomethacin")
    given = given if way == "bolus" else given.with_doses(nlme.dose(25, duration=0.25))
    found = nlme.nca(given, route="intravenous", rule=rule).table.set_index("ID")
    rows = INDOMETHACIN[(INDOMETHACIN["dose"] == way) & (INDOMETHACIN["rule"] == rule)].set_index("ID").iloc[:, 2:]
    rows = rows.dropna(axis=1)
    assert len(rows) == 6 and ("C0" in rows) == (way == "bolus")
    for name in rows:
        assert found.loc[rows.index, name].to_numpy() == pytest.approx(rows[name].to_numpy(), rel=1e-10), name
