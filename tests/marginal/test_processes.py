"""A likelihood divided over processes is that of one process."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys

import numpy as np
import one_way
import pytest

import nlme
from nlme.language.layout import lay_out
from nlme.marginal import processes
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Problem

PROGRAM = """
import dataclasses, sys, jax
count, process, port, out = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
if count > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", count, process)
import numpy as np, nlme
sys.path.insert(0, TESTS)
from one_compartment_people import OneCompartment, people
short, long = people(4)[0], people(5, times=(1.0, 2.0, 4.0, 8.0, 24.0), seed=2)[0]
subjects = [dataclasses.replace(s, id=k + 1) for k, s in enumerate([*short, *long])]
population = dataclasses.replace(short, subjects=tuple(subjects))
sharding = "processes" if count > 1 else None
at = nlme.evaluate(OneCompartment(), population, sharding=sharding)
fit = nlme.fit(OneCompartment(), population, sharding=sharding, progress=False)
found = dict(estimates=np.asarray(fit.inventory.natural(fit.model)), errors=np.asarray(fit.covariance.standard_errors))
np.savez(f"{out}{process}.npz", at=at.objective, objective=fit.objective, values=fit.values, **found)
"""


def problem_of(population) -> Problem:
    layout = lay_out(one_way.OneWay(), population)
    return Problem(nlme.FOCEI(), layout.model, layout, Inventory(layout.model))


@pytest.fixture(scope="module")
def problem():
    y = one_way.values()
    return problem_of(one_way.population_of(y))


def divided(problem, count):
    return [dataclasses.replace(problem, layout=problem.layout.divided(k, count)) for k in range(count)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_everybody_belongs_to_one_process(problem, count):
    parts = [p.layout.division for p in divided(problem, count)]
    sizes = [len(part.members[part.process]) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate([part.members[part.process] for part in parts])) == list(range(one_way.N))


@pytest.mark.slow
def test_the_parts_together_are_the_whole(problem, monkeypatch):
    starts = np.random.default_rng(1).normal(size=(one_way.N, 1))
    whole, told = problem.evaluate(problem.start, starts), []
    monkeypatch.setattr(processes, "_of_all", lambda numbers: told.append(numbers) or np.stack([numbers] * 2))
    for part in divided(problem, 2):
        part.evaluate(part.start, starts)
    monkeypatch.setattr(processes, "_of_all", lambda numbers: np.stack(told))
    found = divided(problem, 2)[1].evaluate(problem.start, starts)
    for name, x in whole._asdict().items():
        if x is not None:
            np.testing.assert_allclose(getattr(found, name), x, rtol=1e-12, atol=1e-12)
            assert getattr(found, name).dtype == x.dtype


def test_processes_at_different_points_are_refused(problem, monkeypatch):
    monkeypatch.setattr(
        processes, "_of_all", lambda numbers: np.stack([numbers, numbers + 1e-15 * (np.arange(len(numbers)) == 0)])
    )
    with pytest.raises(nlme.FitError, match="search at different points"):
        divided(problem, 2)[0].evaluate(problem.start + 1.0, np.zeros((one_way.N, 1)))


def test_what_cannot_be_divided_is_said(problem):
    with pytest.raises(nlme.ModelError, match="12 subjects are too few for 13 processes"):
        problem.layout.divided(0, 13)
    with pytest.raises(nlme.ModelError, match="needs jax.distributed.initialize"):
        nlme.fit(one_way.OneWay(), problem.layout.population, sharding="processes")


def free_port() -> str:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return str(own.getsockname()[1])


@pytest.mark.slow
def test_two_processes_make_one_fit(tmp_path):
    program = PROGRAM.replace("TESTS", repr(os.path.dirname(one_way.__file__)))

    def start(count, process, out):
        arguments = [str(count), str(process), port, str(tmp_path / out)]
        return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, env=os.environ)

    port = free_port()
    running = [start(2, 0, "two"), start(2, 1, "two"), start(1, 0, "one")]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    one, first, second = (np.load(tmp_path / name) for name in ("one0.npz", "two0.npz", "two1.npz"))
    for name in one.files:
        np.testing.assert_array_equal(first[name], second[name])
    np.testing.assert_allclose(first["at"], one["at"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(first["objective"], one["objective"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(first["estimates"], one["estimates"], rtol=1e-6)
    np.testing.assert_allclose(first["errors"], one["errors"], rtol=1e-4)
