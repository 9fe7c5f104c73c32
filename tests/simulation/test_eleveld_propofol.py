"""Propofol in 1,031 people, up to 1,358 records each: the published predictions' errors on the published data.

Eleveld et al. (2018), Br J Anaesth 120:942, doi:10.1016/j.bja.2018.01.018.  The score is the median over subjects (and the mean)
of each subject's median |ln(observed / predicted)|; published: 0.287 and 0.325.
"""

from __future__ import annotations

import pandas as pd
import pytest
from propofol import CASE, PARAMETERS, errors, read, table

import nlme


class Published(nlme.Model):
    """Three compartments; every subject's six parameters come as covariates."""

    sd: nlme.Scalar = nlme.positive(0.2)
    covariates = dict.fromkeys(PARAMETERS, "")

    def individual(self, eta, cov):
        return {name: cov[name] for name in PARAMETERS}

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(**{name: ind[name] for name in PARAMETERS})

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v1, self.sd)}


def published(rows: pd.DataFrame) -> tuple[float, float, nlme.Population]:
    """Median and mean of the published predictions' errors, and the population."""
    rows = rows.merge(CASE.table("parameters_eleveld2018.csv").drop(columns="StudyNbr"), on="ID")
    population = read(rows, PARAMETERS)
    found = errors(Published(), population, rows)
    assert len(found) == 1031
    return found.median(), found.mean(), population


@pytest.mark.slow
def test_published_errors():
    median, mean, population = published(table())
    assert (median, mean) == (pytest.approx(0.287, abs=0.005), pytest.approx(0.325, abs=0.005))
    from nlme.language.layout import lay_out

    arrays = lay_out(Published(), population, samples="records").arrays
    slots = sum(part.data.timeline.time.size for part in arrays.parts)
    longest = max(part.data.timeline.time.shape[1] for part in arrays.parts)
    assert slots < 0.2 * 1031 * longest  # what padding all to the longest would cost


@pytest.mark.slow
def test_the_published_figure_is_that_without_the_boluses():
    """170 doses have no rate. Left out, which is what a scheme of rates alone does, the median is the published one to its digits."""
    rows = table()
    median, mean, _ = published(rows[~((rows["EVID"] == 1) & (rows["RATE"] == 0))])
    assert round(median, 3) == 0.287 and mean == pytest.approx(0.325, abs=0.0025)
