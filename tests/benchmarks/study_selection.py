"""How often three of twelve covariates are found: stepwise search, adaptive lasso and full random effects, side by side.

    python tests/benchmarks/study_selection.py [data sets] [subjects]

Sixty people get an intravenous dose and are sampled four times; clearance depends on weight (power 0.75), age (-0.008 a year) and
smoking (1.35), nine other covariates, four of which correlate with these, do nothing.  Every data set has the same people, new random
effects and new residual errors.  Full random effects do not choose: a covariate counts as found where the 95 % interval of its
coefficient, given all others, is without 0.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

import nlme

sys.path.insert(0, str(Path(__file__).parent.parent))  # where the makers of test objects lie
from one_compartment_people import OneCompartment  # noqa: E402

TRUE = ("wt", "age", "smoker")
CONTINUOUS = ("wt", "age", "height", "albumin", "alt", "glucose", "crp", "hct")
BINARY = ("smoker", "sex", "diet", "site")
SHAPES = dict.fromkeys(CONTINUOUS, "exponential") | dict.fromkeys(BINARY, "categories")
TIMES = (0.5, 3.0, 8.0, 20.0)


def people(count: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    wt, age = rng.lognormal(np.log(75.0), 0.2, count), rng.uniform(20.0, 80.0, count)
    smoker = (rng.uniform(size=count) < 0.35).astype(float)
    found = {"wt": wt, "age": age, "smoker": smoker}
    found["height"] = 170.0 + 0.35 * (wt - 75.0) + 6.0 * rng.normal(size=count)  # correlates with weight
    found["albumin"] = 42.0 - 0.06 * (age - 50.0) + 2.5 * rng.normal(size=count)  # with age
    found["hct"] = 42.0 + 1.5 * smoker + 3.0 * rng.normal(size=count)  # with smoking
    found["sex"] = (wt + 12.0 * rng.normal(size=count) > 75.0).astype(float)  # with weight
    found |= {name: rng.lognormal(np.log(size), 0.3, count) for name, size in (("alt", 25.0), ("glucose", 5.2), ("crp", 3.0))}
    found |= {name: (rng.uniform(size=count) < 0.5).astype(float) for name in ("diet", "site")}
    return pd.DataFrame(found)


def data(table: pd.DataFrame, seed: int) -> nlme.Population:
    rng, rows = np.random.default_rng(seed), []
    for k, one in table.iterrows():
        cl = 4.0 * (one.wt / 75.0) ** 0.75 * np.exp(-0.008 * (one.age - 50.0)) * 1.35**one.smoker * np.exp(0.25 * rng.normal())
        v = 30.0 * np.exp(0.2 * rng.normal())
        rows.append({"ID": k + 1, "TIME": 0.0, "AMT": 300.0, "DV": np.nan, "EVID": 1} | dict(one))
        for t in TIMES:
            y = 300.0 / v * np.exp(-cl / v * t) * (1.0 + 0.15 * rng.normal())
            rows.append({"ID": k + 1, "TIME": t, "AMT": 0.0, "DV": y, "EVID": 0} | dict(one))
    return nlme.read_nonmem(pd.DataFrame(rows), covariates=list(table), categories={name: ["no", "yes"] for name in BINARY})


def by_scm(fit) -> set[str]:
    return {r.covariate for r in nlme.scm(fit, {"cl": SHAPES}, progress=False).relations}


def by_lasso(fit) -> set[str]:
    return {r.covariate for r in nlme.lasso(fit, {"cl": SHAPES}, progress=False).relations}


def by_frem(fit) -> set[str]:
    found = nlme.frem(fit, list(SHAPES), effects=["cl"], progress=False)
    table = nlme.table(found.fit).set_index("parameter")
    out = set()
    for relation in found.relations:
        row = table.loc[relation.coefficients[0]]
        if abs(row["estimate"]) > 1.96 * row["se"]:
            out.add(relation.covariate)
    return out


WAYS = {"stepwise": by_scm, "lasso": by_lasso, "full random effects": by_frem}


def main(sets: int = 50, count: int = 60) -> None:
    table, found, seconds = people(count), {name: [] for name in WAYS}, dict.fromkeys(WAYS, 0.0)
    for seed in range(1, sets + 1):
        fit = nlme.fit(OneCompartment(), data(table, seed), progress=False)
        for name, way in WAYS.items():
            begun = time.process_time()
            found[name].append(sorted(way(fit)))
            seconds[name] += time.process_time() - begun
        print(json.dumps({"data set": seed} | {name: own[-1] for name, own in found.items()}), flush=True)
    for name, own in found.items():
        right = [sum(c in one for c in TRUE) for one in own]
        wrong = [sum(c not in TRUE for c in one) for one in own]
        each = ", ".join(f"{c} {100 * np.mean([c in one for one in own]):.0f} %" for c in TRUE)
        print(
            f"{name}: {each}; all three {100 * np.mean(np.array(right) == 3):.0f} %, exactly these "
            f"{100 * np.mean((np.array(right) == 3) & (np.array(wrong) == 0)):.0f} %, others {np.mean(wrong):.2f} a data set; "
            f"{seconds[name] / sets:.1f} CPU s each"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
