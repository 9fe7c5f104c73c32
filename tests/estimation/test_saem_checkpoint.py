"""A fit by SAEM killed at any moment goes on from its checkpoint to the same numbers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

PROGRAM = """
import sys, jax.numpy as jnp, numpy as np, nlme

class Decay(nlme.Model):
    k: nlme.Scalar = nlme.positive(0.5)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(k=0.1)
    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k))
    def observe(self, ind, state, t):
        return {"y": nlme.additive(10.0 * jnp.exp(-ind.k * t), self.sd)}

random = np.random.default_rng(1)
times = np.array([0.5, 1.0, 3.0])
subjects = [nlme.Subject(id=i + 1, time=times, dv=10 * np.exp(-0.6 * np.exp(0.3 * random.normal()) * times) + 0.3 * random.normal(size=3))
            for i in range(12)]
method = nlme.SAEM(chains=2, exploration=(100, 100), smoothing=(ITERATIONS, ITERATIONS), annealing=20, samples=10, precision=1e-9)
fit = nlme.fit(Decay(), nlme.Population(tuple(subjects)), method, checkpoint=sys.argv[1], checkpoint_every=0.0)
np.savez(sys.argv[2], u=fit.inventory.natural(fit.model), path=fit.history["k"], objective=fit.objective)
"""


def start(program, checkpoint, out):
    return subprocess.Popen([sys.executable, "-c", program, str(checkpoint), str(out)], stderr=subprocess.PIPE, env=os.environ)


def killed(program, folder, kills, seed):
    """The fit's result after ``kills`` SIGKILLs at random moments of its iterations."""
    random = np.random.default_rng(seed)
    checkpoint, out = folder / "state", folder / "killed.npz"
    for _ in range(kills):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        fit = start(program, checkpoint, out)
        while fit.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.002)  # compiling
        time.sleep(random.uniform(0.0, 0.03))
        assert fit.poll() is None, fit.stderr.read().decode()
        fit.send_signal(signal.SIGKILL)
        fit.wait()
        fit.stderr.close()
        with np.load(checkpoint, allow_pickle=False) as file:
            assert len(file["path"])
    finish(program, checkpoint, out)
    return np.load(out)


def finish(program, checkpoint, out):
    fit = start(program, checkpoint, out)
    _, errors = fit.communicate()
    assert fit.returncode == 0, errors.decode()


@pytest.mark.parametrize(("kills", "iterations"), [(1, 400), pytest.param(20, 3000, marks=pytest.mark.slow)])
def test_killed_fit_ends_at_the_same_numbers(tmp_path, kills, iterations):
    program = PROGRAM.replace("ITERATIONS", str(iterations))
    finish(program, tmp_path / "whole", tmp_path / "whole.npz")
    whole, resumed = np.load(tmp_path / "whole.npz"), killed(program, tmp_path, kills, seed=4)
    for name in ("u", "path", "objective"):
        np.testing.assert_array_equal(resumed[name], whole[name])
