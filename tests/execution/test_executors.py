"""Tasks by executors: the results of this process to the last bit, workers that die, executors that cannot be used."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import one_way
import pytest

import nlme
from nlme.execution.executors import carried_out, in_order, require_executor
from nlme.search import batch

FITS = ("u", "natural", "objective", "gradient", "evaluations", "status", "modes")


class Dying(Executor):
    """Does so many tasks, then breaks."""

    def __init__(self, tasks: int):
        self.left = tasks

    def submit(self, function, *arguments):
        future: Future = Future()
        self.left -= 1
        if self.left < 0:
            future.set_exception(BrokenExecutor("killed"))
        else:
            future.set_result(function(*arguments))
        return future


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values()), progress=False)


def same(a, b):
    for name in FITS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def square(x):
    if x == 7:
        raise nlme.ModelError("seven")
    return x * x


def test_results_come_as_they_end_and_in_order():
    assert dict(carried_out(square, {3: 3, 1: 1}, None)) == {3: 9, 1: 1}
    with ThreadPoolExecutor(2) as threads:
        assert list(in_order(carried_out(square, dict(enumerate([4, 5, 6])), threads))) == [16, 25, 36]
    assert list(in_order(iter([(2, "c"), (0, "a"), (1, "b")]))) == ["a", "b", "c"]


def test_what_a_task_raises_comes_through():
    with ThreadPoolExecutor(2) as threads, pytest.raises(nlme.ModelError, match="seven"):
        list(carried_out(square, {0: 7}, threads))


def test_executors_that_cannot_be_used_are_refused(fit):
    with pytest.raises(nlme.FitError, match="is a concurrent.futures executor.*got int"):
        require_executor(2)
    forking = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    with pytest.raises(nlme.FitError, match=r"get_context\('spawn'\)"):
        nlme.bootstrap(fit, 8, key=1, executor=forking)
    with ThreadPoolExecutor(1) as threads:
        pass
    with pytest.raises(nlme.FitError, match="takes no tasks"):
        nlme.bootstrap(fit, 8, key=1, executor=threads)


def test_the_division_depends_on_the_problem_alone(fit, monkeypatch):
    arrays = fit.layout.arrays
    sizes = {count: batch._division(arrays, count) for count in (1, 8, 20, 200, 5000)}
    assert all(1 <= lanes <= size <= 64 for size, lanes in sizes.values())
    assert -(-200 // sizes[200][0]) >= 12  # tasks enough for some workers
    monkeypatch.setattr(batch, "cores", lambda: 64)
    assert sizes == {count: batch._division(arrays, count) for count in sizes}


def test_a_bootstrap_by_threads_is_that_of_this_process(fit):
    here = nlme.bootstrap(fit, 40, key=1, progress=False)
    with ThreadPoolExecutor(2) as threads:
        same(nlme.bootstrap(fit, 40, key=1, executor=threads).fits, here.fits)


def test_what_was_done_before_the_workers_died_is_kept(fit, tmp_path, monkeypatch):
    here, done = nlme.bootstrap(fit, 40, key=1, progress=False), []
    with pytest.raises(nlme.FitError, match=r"3 of 5 tasks are not done.*checkpoint="):
        nlme.bootstrap(fit, 40, key=1, executor=Dying(2), checkpoint=tmp_path / "x")
    advance = batch._Fits.advance
    monkeypatch.setattr(batch._Fits, "advance", lambda self, *rest: (done.append(self), advance(self, *rest))[1])
    same(nlme.bootstrap(fit, 40, key=1, checkpoint=tmp_path / "x").fits, here.fits)
    assert len(set(done)) == 3
