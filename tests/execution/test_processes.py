"""Whole verbs by processes and by a cluster: the numbers of this process to the last bit, also where a worker is killed."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import numpyro.distributions as dist
import one_way
import pytest
from one_compartment_people import OneCompartment, people

import nlme

SCRIPT = """
import multiprocessing, sys, jax.numpy as jnp, numpy as np, nlme
from concurrent.futures import ProcessPoolExecutor

class Level(nlme.Model):
    mu: nlme.Scalar = nlme.real(9.0)
    omega: nlme.Covariance = nlme.covariance(mu=1.0)
    sd: nlme.Scalar = nlme.positive(1.0)
    def individual(self, eta, cov):
        return dict(level=self.mu + eta.mu)
    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}

def main():
    draw = np.random.default_rng(3)
    y = 10.0 + 1.5 * draw.standard_normal((12, 1)) + draw.standard_normal((12, 4))
    subjects = [nlme.Subject(id=i + 1, time=np.arange(4.0), dv=row) for i, row in enumerate(y)]
    fit = nlme.fit(Level(), nlme.Population(tuple(subjects), ("y",)), progress=False)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        there = nlme.bootstrap(fit, 24, key=1, executor=processes).fits
    assert np.array_equal(there.u, nlme.bootstrap(fit, 24, key=1).fits.u)
    print("equal")
"""


class Pool:
    """Two processes of the standard library."""

    def __enter__(self):
        self.executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
        return self

    def __exit__(self, *_):
        self.executor.shutdown(cancel_futures=True)

    def kill(self):
        os.kill(next(iter(self.executor._processes)), signal.SIGKILL)


class Dask:
    """A cluster of two worker processes."""

    def __enter__(self):
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        self.executor = Client(self.cluster)
        return self

    def __exit__(self, *_):
        self.executor.close()
        self.cluster.close()

    def kill(self):
        os.kill(next(iter(self.cluster.workers.values())).pid, signal.SIGKILL)


@pytest.fixture(scope="module", params=[Pool, Dask])
def workers(request):
    with request.param() as made:
        yield made


@functools.cache
def fit():
    return nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values()), progress=False)


@functools.cache
def drawn():
    return people(8)[0]


def trials(executor):
    arms = [nlme.arm("100", nlme.dose(100), 4), nlme.arm("200", nlme.dose(200), 4)]
    virtual = nlme.virtual(8, key=1)
    return nlme.trial(OneCompartment(), arms, virtual, times=[1.0, 5.0], key=2, trials=9_000, executor=executor).frame


PENALTY = lambda m: m.mu**2  # noqa: E731 (a function without a name goes to other processes by value)

VERBS = {
    "bootstrap": lambda e: nlme.bootstrap(fit(), 24, key=1, executor=e).replicates,
    "parametric bootstrap": lambda e: nlme.bootstrap(fit(), 24, key=1, parametric=True, executor=e).replicates,
    "multistart": lambda e: nlme.multistart(fit(), 10, key=1, executor=e).table,
    "profile": lambda e: nlme.profile(fit(), executor=e).points,
    "cross-validation": lambda e: nlme.cross_validate(
        one_way.OneWay(), fit().population, folds=3, penalties=[None, PENALTY], executor=e
    ).table,
    "scm": lambda e: nlme.scm(fit(), {"level": ["arm"]}, executor=e).steps,
    "calibration": lambda e: nlme.calibrate(
        one_way.OneWay(),
        fit().population,
        {"mu": dist.Normal(9.0, 1.0), "sd": dist.LogNormal(0.0, 0.2), "omega.sd": dist.HalfNormal(1.0)},
        key=1, simulations=6, draws=9, warmup=20, bins=2, batch=3, executor=e,
    ).ranks,
    "trial": trials,
    "simulate": lambda e: nlme.simulate(OneCompartment(), drawn(), eta="new", key=1, replicates=5_000, executor=e),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_gives_the_same_numbers(workers, verb):
    here, there = VERBS[verb](None), VERBS[verb](workers.executor)
    assert here.equals(there)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Pool, Dask])
def test_a_killed_worker_changes_nothing(kind):
    here = nlme.bootstrap(fit(), 600, key=1, progress=False).fits
    with kind() as workers:
        nlme.bootstrap(fit(), 16, key=2, executor=workers.executor)  # processes are there, and compiled
        kill = threading.Timer(0.1, workers.kill)
        kill.start()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            there = nlme.bootstrap(fit(), 600, key=1, executor=workers.executor).fits
        kill.join()
    assert kind is Dask or any("died" in str(w.message) for w in said)
    for name in here.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(there, name), getattr(here, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "words"),
    [("if __name__ == '__main__':\n    main()", "equal"), ("main()", "needs `if __name__ == '__main__':`")],
)
def test_a_model_of_a_script(tmp_path, end, words):
    (tmp_path / "script.py").write_text(f"{SCRIPT}\n{end}\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert words in done.stdout + done.stderr, done.stderr


@pytest.mark.slow
def test_a_calibration_goes_on(tmp_path):
    whole = VERBS["calibration"](None)
    options = dict(key=1, simulations=6, draws=9, warmup=20, bins=2, batch=3, checkpoint=tmp_path / "x")
    priors = {"mu": dist.Normal(9.0, 1.0), "sd": dist.LogNormal(0.0, 0.2), "omega.sd": dist.HalfNormal(1.0)}
    design = fit().population
    assert nlme.calibrate(one_way.OneWay(), design, priors, **options).ranks.equals(whole)
    with ThreadPoolExecutor(1) as none:
        none.shutdown()  # it would refuse: nothing is left to do
        assert nlme.calibrate(one_way.OneWay(), design, priors, **options, executor=none).ranks.equals(whole)
    with pytest.raises(nlme.FitError, match="checkpoint of another fit"):
        nlme.calibrate(one_way.OneWay(), design, priors, **(options | {"warmup": 21}))
