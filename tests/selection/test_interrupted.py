"""Ctrl-C in searches made of many fits: what was not finished decides nothing, is not kept as finished, and the same call goes on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from interrupting import interrupt, one_lane
from levels_by_covariates import Level, data
from one_compartment_people import people

import nlme
from nlme.search.minimise import Problem
from nlme.selection import structure_search as structures

CANDIDATES = {"level": {"wt": "power", "sex": None}, "slope": {"age": "linear"}}


@pytest.fixture(scope="module")
def base():
    return nlme.fit(Level(), data(), progress=False)


@pytest.mark.parametrize("criterion", ["likelihood ratio", pytest.param("cross-validation", marks=pytest.mark.slow)])
def test_a_covariate_search_ends_with_its_whole_steps(base, tmp_path, monkeypatch, criterion):
    def searched(**options):
        return nlme.scm(base, CANDIDATES, criterion=criterion, folds=3, progress=False, **options)

    one_lane(monkeypatch)
    with monkeypatch.context() as counting:
        calls = interrupt(counting, 0)
        whole = searched()
        count = next(calls) - 1
    seen = set()
    for share in (0.15, 0.5, 0.8):
        folder = tmp_path / f"{share}"
        with monkeypatch.context() as once:
            interrupt(once, int(share * count))
            part = searched(checkpoint=folder)
        assert "interrupted" in part.messages[-1] and "the same call with its checkpoint goes on" in part.messages[-1].lower()
        done = int(part.steps.step.max()) if len(part.steps) else 0
        seen.add(done)
        assert f"steps completed: {done}." in part.messages[-1] and done < whole.steps.step.max()
        pd.testing.assert_frame_equal(part.steps, whole.steps[whole.steps.step <= done], check_exact=True, check_dtype=done > 0)
        assert set(map(str, part.relations)) == set(part.steps.relation[part.steps.chosen])
        resumed = searched(checkpoint=folder)
        pd.testing.assert_frame_equal(resumed.steps, whole.steps, check_exact=True)
        assert (resumed.objective, resumed.messages) == (whole.objective, whole.messages)
    assert len(seen) > 1


@pytest.mark.parametrize("search", [nlme.scm, nlme.lasso])
def test_without_the_fit_it_begins_from_it_goes_through(monkeypatch, search):
    interrupt(monkeypatch, 4, Problem, "evaluate")
    with pytest.raises(KeyboardInterrupt):
        search(Level(), CANDIDATES, data(), progress=False)


def test_a_lasso_chooses_nothing_from_unfinished_folds(base, monkeypatch):
    one_lane(monkeypatch)
    interrupt(monkeypatch, 60)
    with pytest.raises(KeyboardInterrupt):
        nlme.lasso(base, CANDIDATES, strengths=4, folds=3, progress=False)


OPTIONS = dict(
    route="iv", elimination="linear", lag=False, error=("proportional", "combined"), compartments=1, iiv=("elimination", "volume")
)


def test_a_structure_that_was_under_way_is_not_among_those_tried(tmp_path, monkeypatch):
    """Fits that stand in for those of the structures: the third is interrupted and answers, as nlme.fit does, with the best so far."""
    population = people(10, times=(1.0, 4.0, 12.0, 24.0))[0]
    made = nlme.fit(Level(), data(), progress=False)
    fits, stop = [], 5  # the first has one start, others two

    def fitted(start, population, method, **options):
        fits.append(start)
        found = dataclasses.replace(made, model=start, starts=dataclasses.replace(made.starts, interrupted=len(fits) == stop))
        return found

    monkeypatch.setattr(structures, "fit_model", fitted)
    part = nlme.structure_search(population, **OPTIONS, progress=False, checkpoint=tmp_path)
    assert len(fits) == stop and len(part.table) == len(list(tmp_path.iterdir())) == 2
    assert "interrupted" in part.messages[-1] and "checkpoint goes on" in part.messages[-1]
    stop = 0
    resumed = nlme.structure_search(population, **OPTIONS, progress=False, checkpoint=tmp_path)
    whole = nlme.structure_search(population, **OPTIONS, progress=False)
    pd.testing.assert_frame_equal(resumed.table, whole.table, check_exact=True)
    assert resumed.messages == whole.messages and not any("interrupted" in words for words in whole.messages)


@pytest.mark.slow
def test_a_structure_search_interrupted_anywhere_goes_on_to_the_same_result(tmp_path, monkeypatch):
    population = people(10, times=(1.0, 4.0, 12.0, 24.0))[0]
    with monkeypatch.context() as counting:
        calls = interrupt(counting, 0, Problem, "evaluate")
        whole = nlme.structure_search(population, **OPTIONS, progress=False)
        count = next(calls) - 1
    for at in np.linspace(2, count - 2, 4).astype(int):
        folder = tmp_path / f"{at}"
        with monkeypatch.context() as once:
            interrupt(once, int(at), Problem, "evaluate")
            try:
                part = nlme.structure_search(population, **OPTIONS, progress=False, checkpoint=folder)
            except KeyboardInterrupt:
                part = None
        if part is not None:
            assert len(part.table) == len(list(folder.iterdir())) < len(whole.table) and "interrupted" in part.messages[-1]
            assert not part.table.problem.str.contains("interrupted").any()
        resumed = nlme.structure_search(population, **OPTIONS, progress=False, checkpoint=folder)
        pd.testing.assert_frame_equal(resumed.table, whole.table, check_exact=True)
