"""Pictures of target attainment and of paired differences: what they draw is what the tables say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.simulation.counterfactuals import Counterfactual
from nlme.simulation.exposure import Exposure


@pytest.fixture(scope="module")
def exposure():
    random = np.random.default_rng(1)
    rows = [
        {"REPLICATE": r, "ARM": arm, "ID": i, "auc": mean * value}
        for r in range(1, 6)
        for arm, mean in (("100 mg", 60), ("200 mg", 120))
        for i, value in enumerate(np.exp(0.4 * random.normal(size=30)))
    ]
    return Exposure(pd.DataFrame(rows), ("auc",), (0, 24), [])


def test_attainment_is_drawn_over_mic_or_by_group(exposure):
    found = nlme.attainment(exposure, ("auc", ">", 100), mic=[0.5, 1, 2])
    axes = nlme.plots.attainment(found, unit="mg/L").axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert len(lines) == 2 and axes.get_xlabel() == "MIC (mg/L)" and axes.get_xscale() == "log"
    assert np.allclose(lines[0].get_ydata(), found.table.query("ARM == '100 mg'")["probability"])
    grouped = nlme.plots.attainment(nlme.attainment(exposure, ("auc", ">", 100))).axes[0]
    assert [t.get_text() for t in grouped.get_xticklabels()] == ["100 mg", "200 mg"]
    with pytest.raises(nlme.DataError, match="No column"):
        nlme.plots.attainment(found, x="DOSE")


def test_paired_differences_are_in_order_with_the_population_below():
    index = pd.MultiIndex.from_product([["more"], ["auc"], [1, 2, 3]], names=["SCENARIO", "MEASURE", "ID"])
    d = np.array([3.0, 1.0, 2.0])
    persons = pd.DataFrame({"difference": d, "difference.lower": d - 1, "difference.upper": d + 1}, index=index)
    population = persons.groupby(level=[0, 1]).mean()
    axes = nlme.plots.paired(Counterfactual(persons, population, None, None, 0.9, "conc", ""), unit="mg h/L").axes[0]
    assert axes.lines[0].get_xdata().tolist() == [1.0, 2.0, 3.0] and axes.lines[1].get_xdata().tolist() == [2.0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["all", "2", "3", "1"]
    assert axes.get_xlabel() == "Difference in auc (mg h/L)"
