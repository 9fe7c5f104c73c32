"""Cross-validation by fits that did not end: no score, words that say so, and nothing is chosen by them."""

from __future__ import annotations

import numpy as np
import one_way
import pandas as pd
import pytest
from interrupting import interrupt, one_lane

import nlme


class Pull:
    """A penalty of its own strength on the mean."""

    def __init__(self, strength: float):
        self.strength = strength

    def __call__(self, model):
        return self.strength * model.mu**2

    def __repr__(self):
        return f"Pull({self.strength})"


PENALTIES = tuple(map(Pull, (0.1, 1.0, 10.0, 100.0)))


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


def _validated(population, **options):
    return nlme.cross_validate(one_way.OneWay(), population, penalties=PENALTIES, folds=3, progress=False, **options)


def test_a_fit_that_did_not_converge_has_no_score_and_is_named(population):
    whole = _validated(population, max_evaluations=100)
    needed = whole.fits.evaluations.reshape(4, 3).max(axis=1)
    limit = int(np.sort(needed)[-2])
    assert limit < needed.max() and whole.fits.converged.all()
    found = _validated(population, max_evaluations=limit)
    short = needed > limit
    assert np.isinf(found.scores[short]).all() and np.isnan(found.in_sample[short]).all()
    np.testing.assert_array_equal(found.scores[~short], whole.scores[~short])
    assert not short[PENALTIES.index(found.best)]
    said = found.messages[-1]
    assert "limit of evaluations" in said
    for penalty, lost in zip(PENALTIES, short, strict=True):
        assert (f"{penalty!r} (fold" in said) == lost
    with pytest.raises(nlme.FitError, match="No penalty could be judged"):
        _validated(population, max_evaluations=2)


def test_interrupted_it_has_the_scores_that_are_whole(population, tmp_path, monkeypatch):
    one_lane(monkeypatch)
    with monkeypatch.context() as counting:
        calls = interrupt(counting, 0)
        whole = _validated(population)
        count = next(calls) - 1
    known = set()
    for share in (0.1, 0.5, 0.9):
        file = tmp_path / f"{share}"
        with monkeypatch.context() as once:
            interrupt(once, int(share * count))
            try:
                part = _validated(population, checkpoint=file)
            except KeyboardInterrupt:
                known.add(0)
            else:
                scored = np.isfinite(part.scores)
                known.add(int(scored.sum()))
                assert 0 < scored.sum() < 4
                np.testing.assert_array_equal(part.scores[scored], whole.scores[scored])
                assert f"interrupted (Ctrl-C): {scored.sum()} of 4 penalties have a score" in part.messages[0]
        pd.testing.assert_frame_equal(_validated(population, checkpoint=file).table, whole.table, check_exact=True)
    assert len(known) > 1


def test_a_fit_does_not_take_a_penalty_chosen_by_some(population, monkeypatch):
    one_lane(monkeypatch)
    calls = interrupt(monkeypatch, 0)
    nlme.cross_validate(one_way.OneWay(), population, progress=False)
    count = next(calls) - 1
    monkeypatch.undo()
    one_lane(monkeypatch)
    interrupt(monkeypatch, count - 1)
    with pytest.raises(KeyboardInterrupt):
        nlme.fit(one_way.OneWay(), population, penalty="cross-validated", progress=False)
