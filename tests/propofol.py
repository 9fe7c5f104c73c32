"""Propofol in 1,031 people, and the score of predictions of them.

Data and score of Eleveld et al. (2018), doi:10.1016/j.bja.2018.01.018: of each subject the median |ln(observed / predicted)|, predicted
without its observations; then the median (and the mean) over subjects.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference import case

import nlme

CASE = case("eleveld_propofol")
PARAMETERS = ("cl", "v1", "q2", "v2", "q3", "v3")
NOT_OBSERVED = (893, 897)


def table() -> pd.DataFrame:
    """The records of everybody with an observation."""
    found = CASE.table()
    return found[~found["ID"].isin(NOT_OBSERVED)]


def read(rows: pd.DataFrame, covariates) -> nlme.Population:
    with pytest.warns(UserWarning, match="a record is there twice"):
        return nlme.read_nonmem(rows, covariates=covariates, allow=["duplicated record"])


def errors(model: nlme.Model, population: nlme.Population, rows: pd.DataFrame) -> pd.Series:
    """Every subject's median |ln(observed / predicted)|; ``rows`` are what the population was read from."""
    found = nlme.predict(model, population)
    found = found[found["EVID"] == 0]
    each = np.abs(np.log(rows.loc[rows["EVID"] == 0, "DV"].to_numpy() / found["conc"].to_numpy()))
    by_subject = pd.Series(each).groupby(found["ID"].to_numpy()).median()
    assert np.isfinite(by_subject).all() and len(by_subject) == len(population)
    return by_subject
