"""One Ctrl-C ends a search of several: with the best so far, and words that say so."""

from __future__ import annotations

import one_way
import pytest
from interrupting import interrupt

import nlme
from nlme.fitting.starts import uninterrupted
from nlme.search import batch, several
from nlme.search.minimise import BadStart, minimise
from nlme.search.problem import Problem
from nlme.search.quasi_newton import CONVERGED, SEARCHING, SENTENCES


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


@pytest.fixture(scope="module")
def evaluations(population):
    """(of the first search, of all) evaluations of a fit with three other starts."""
    with pytest.MonkeyPatch.context() as counting:
        calls = interrupt(counting, 0, Problem, "evaluate")
        first = nlme.fit(one_way.OneWay(), population, starts=0, progress=False)
        of_first = next(calls) - 1
    with pytest.MonkeyPatch.context() as counting:
        calls = interrupt(counting, 0, Problem, "evaluate")
        nlme.fit(one_way.OneWay(), population, starts=3, progress=False)
        return first, of_first, next(calls) - 1


def _interrupted(population, at: int) -> nlme.Fit:
    with pytest.MonkeyPatch.context() as once:
        calls = interrupt(once, at, Problem, "evaluate")
        fit = nlme.fit(one_way.OneWay(), population, starts=3, progress=False)
        assert next(calls) - at < 12  # to look at the modes where it stands, and no further search
    return fit


def test_in_the_first_search_no_other_is_made(population, evaluations):
    fit = _interrupted(population, evaluations[1] // 2)
    assert fit.search_status == SEARCHING and SENTENCES[SEARCHING] in fit.verdict
    assert fit.starts.tried == 1 and fit.starts.interrupted and "Ctrl-C" in repr(fit.starts)
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(fit)


def test_in_a_further_one_the_minimum_found_stays(population, evaluations):
    first, of_first, _ = evaluations
    fit = _interrupted(population, of_first + 3)
    assert fit.search_status == CONVERGED and fit.objective == first.objective
    assert fit.starts.tried == 2 and fit.starts.interrupted and not fit.starts.valid[1]
    assert fit.starts.sentences[1] == SENTENCES[SEARCHING]
    with pytest.raises(KeyboardInterrupt):
        uninterrupted(fit)


def test_before_a_further_one_has_a_point(population, evaluations, tmp_path):
    first, of_first, _ = evaluations
    fit = _interrupted(population, of_first + 1)
    assert fit.search_status == CONVERGED and fit.objective == first.objective
    assert "nor others were made: Ctrl-C" in fit.starts.sentences[1]
    fit.save(tmp_path / "x.nlme")
    assert nlme.load(tmp_path / "x.nlme", model=one_way.OneWay).starts.interrupted


def test_fits_side_by_side_know_of_it_whenever_it_came(population, monkeypatch):
    """At the end as well, when all have ended: what they are a part of is to end there."""
    fit = nlme.fit(one_way.OneWay(), population, progress=False)
    assert not nlme.bootstrap(fit, 4, key=1).fits.interrupted

    class Shown(batch.Progress):
        def count(self, done, of):
            if done == of:
                raise KeyboardInterrupt

    monkeypatch.setattr(batch, "Progress", Shown)
    fits = nlme.bootstrap(fit, 4, key=1).fits
    assert fits.interrupted and fits.converged.all()
    with pytest.raises(KeyboardInterrupt):
        fits.whole()


def test_a_fit_that_ends_is_not_interrupted(evaluations):
    assert not evaluations[0].starts.interrupted and uninterrupted(evaluations[0]) is evaluations[0]


def test_the_best_is_not_finished_any_more(population, monkeypatch):
    """From where the objective is no number the first search begins anew elsewhere, loosely; Ctrl-C at the last, exact one."""
    calls = []

    def searched(problem, u=None, *args, **options):
        calls.append(options["tolerance"])
        if len(calls) == 1:
            raise BadStart(None)
        if len(calls) > 2 and options["tolerance"] < 1e-3:
            raise KeyboardInterrupt
        return minimise(problem, u, *args, **options)

    monkeypatch.setattr(several, "minimise", searched)
    fit = nlme.fit(one_way.OneWay(), population, starts=2, progress=False)
    assert calls[-1] == 1e-7 and len(calls) == 4
    assert fit.search_status == SEARCHING and fit.starts.interrupted
    assert fit.objective == pytest.approx(one_way.objective(one_way.values(), *one_way.estimates(one_way.values())), abs=0.01)
