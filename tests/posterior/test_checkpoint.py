"""Sampling killed or interrupted at any moment goes on from its checkpoint to the same draws."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpyro.distributions as dist
import pytest
from killing import whole_and_resumed
from normal_means import Means, groups, quietly

import nlme
from nlme.posterior.sampler import CHUNK, Sampler

PRIOR = {"mu": dist.Normal(0.0, 2.0)}
OPTIONS = dict(key=3, warmup=2 * CHUNK + 5, draws=2 * CHUNK + 3, chains=2, fixed=("omega.mu", "sd"))

PROGRAM = """
import sys, warnings, numpy as np, numpyro.distributions as dist, nlme
sys.path.insert(0, "TESTS")
from normal_means import Means, groups, quietly
found = quietly(Means(), groups(), {"mu": dist.Normal(0.0, 2.0)}, key=3, warmup=1500, draws=1500, chains=2, fixed=("omega.mu", "sd"),
    checkpoint=sys.argv[1], checkpoint_every=0.0, random_effects="HOW")
np.savez(sys.argv[2], mu=found.posterior["mu"].values, eta=found.posterior["eta"].values)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("how", "kills"), [("joint", 8), ("marginal", 2)])
def test_killed_sampling_ends_at_the_same_draws(tmp_path, how, kills):
    program = PROGRAM.replace("TESTS", str(Path(__file__).parents[1])).replace("HOW", how)
    whole, resumed = whole_and_resumed(program, tmp_path, kills, seed=4, within=0.02)
    for name in ("mu", "eta"):
        np.testing.assert_array_equal(resumed[name], whole[name])


LANGEVIN = """
import sys, numpy as np, nlme
sys.path[:0] = ["TESTS", "TESTS/posterior"]
from normal_means import quietly
from test_weights import OPTIONS, Line, people
found = quietly(Line(), people(), weights=nlme.SGLD(step=0.05, subjects=5, thin=20), warmup=300, draws=300, chains=2,
    checkpoint=sys.argv[1], checkpoint_every=0.0, **OPTIONS)
np.savez(sys.argv[2], e0=found.posterior["e0"].values, eta=found.posterior["eta"].values, lp=found.sample_stats["lp"].values)
"""


@pytest.mark.slow
def test_killed_langevin_sampling_ends_at_the_same_draws(tmp_path):
    program = LANGEVIN.replace("TESTS", str(Path(__file__).parents[1]))
    whole, resumed = whole_and_resumed(program, tmp_path, kills=10, seed=5, within=0.02)
    for name in whole.files:
        np.testing.assert_array_equal(resumed[name], whole[name])


class _Stop:
    """Ctrl-C after so many chunks of iterations."""

    def __init__(self, after: int, real):
        self.left, self.real = after, real

    def __call__(self, sampler, iterations, show, phase, after, pieces):
        def told(pieces):
            after(pieces)
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

        return self.real(sampler, iterations, show, phase, told, pieces)


@pytest.mark.slow
def test_interrupted_in_both_phases(tmp_path, monkeypatch):
    """In warm-up it ends; in sampling it returns what there is; the same call goes on, and at last reads the end from the file."""
    file = tmp_path / "state"
    real = Sampler.run
    whole = quietly(Means(), groups(), PRIOR, random_effects="marginal", **OPTIONS)
    again = dict(OPTIONS, checkpoint=file, checkpoint_every=0.0, random_effects="marginal")
    stop = _Stop(2, real)
    monkeypatch.setattr(Sampler, "run", lambda self, *a: stop(self, *a))
    with pytest.raises(KeyboardInterrupt):
        quietly(Means(), groups(), PRIOR, **again)
    stop = _Stop(3, real)
    part = quietly(Means(), groups(), PRIOR, **again)
    assert part.posterior.sizes["draw"] == CHUNK + CHUNK * (part.posterior.sizes["draw"] > CHUNK)
    assert any("interrupted after" in m for m in part.attrs["messages"])
    monkeypatch.setattr(Sampler, "run", real)
    for _ in range(2):
        end = quietly(Means(), groups(), PRIOR, **again)
        np.testing.assert_array_equal(end.posterior["mu"].values, whole.posterior["mu"].values)
        np.testing.assert_array_equal(end.sample_stats["energy"].values, whole.sample_stats["energy"].values)
    drawn = part.posterior.sizes["draw"]
    np.testing.assert_array_equal(part.posterior["mu"].values, whole.posterior["mu"].values[:, :drawn])
    for change in (dict(key=4), dict(draws=30), dict(random_effects="joint")):
        with pytest.raises(nlme.FitError, match="checkpoint of another"):
            quietly(Means(), groups(), PRIOR, **(again | change))
    with pytest.raises(nlme.FitError, match="checkpoint of another"):
        quietly(Means(), groups(), {"mu": dist.Normal(0.0, 2.1)}, **again)
    with pytest.raises(nlme.FitError, match="checkpoint of another"):
        quietly(Means(), nlme.Population(tuple(dataclasses.replace(s, dv=s.dv + 0.1) for s in groups())), PRIOR, **again)
