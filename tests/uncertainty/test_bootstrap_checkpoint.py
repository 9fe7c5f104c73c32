"""A bootstrap killed at any moment goes on from its checkpoint to the same numbers; a file of another one is refused."""

from __future__ import annotations

import numpy as np
import one_way
import pytest
from killing import whole_and_resumed

import nlme
from nlme.search import batch

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
fit = nlme.fit(Decay(), nlme.Population(tuple(subjects)), progress=False)
boot = nlme.bootstrap(fit, REPLICATES, key=1, checkpoint=sys.argv[1], checkpoint_every=0.0)
np.savez(sys.argv[2], **{name: getattr(boot.fits, name) for name in boot.fits.__dataclass_fields__})
"""


@pytest.mark.parametrize(
    ("kills", "replicates"), [pytest.param(3, 2_000, marks=pytest.mark.slow), pytest.param(20, 12_000, marks=pytest.mark.slow)]
)
def test_killed_bootstrap_ends_at_the_same_numbers(tmp_path, kills, replicates):
    program = PROGRAM.replace("REPLICATES", str(replicates))
    whole, resumed = whole_and_resumed(program, tmp_path, kills, seed=4, within=0.02)
    assert len(whole["status"]) == replicates
    for name in whole.files:
        np.testing.assert_array_equal(resumed[name], whole[name])


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values()), progress=False)


def test_goes_on_after_an_interrupt_on_another_number_of_cores(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "_SLOTS", {"cpu": 1})  # one lane, few rounds: many calls to be interrupted between
    monkeypatch.setattr(batch, "_ROUNDS", 3)
    whole = nlme.bootstrap(fit, 40, key=1)
    calls, real = [], batch._evaluate

    def interrupted(*args):
        calls.append(1)
        if len(calls) > 60:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(batch, "_evaluate", interrupted)
    part = nlme.bootstrap(fit, 40, key=1, checkpoint=tmp_path / "x")
    assert 0 < part.n_failed < 40 and "interrupted" in next(iter(part.failures))
    monkeypatch.setattr(batch, "_evaluate", real)
    monkeypatch.setattr(batch, "cores", lambda: 7)
    resumed = nlme.bootstrap(fit, 40, key=1, checkpoint=tmp_path / "x")
    for name in ("u", "objective", "evaluations", "status"):
        np.testing.assert_array_equal(getattr(resumed.fits, name), getattr(whole.fits, name))


@pytest.mark.slow
def test_a_finished_bootstrap_is_read_and_another_refused(fit, tmp_path, monkeypatch):
    file = tmp_path / "x"
    boot = nlme.bootstrap(fit, 8, key=1, checkpoint=file)
    again = nlme.bootstrap(fit, 8, key=1, checkpoint=file)
    np.testing.assert_array_equal(again.fits.u, boot.fits.u)
    assert list(tmp_path.iterdir()) == [file]
    for other in (dict(key=2), dict(key=1, tolerance=1e-8), dict(key=1, parametric=True), dict(key=1, stratify="arm")):
        with pytest.raises(nlme.FitError, match="checkpoint of another fit"):
            nlme.bootstrap(fit, 8, checkpoint=file, **other)
    with pytest.raises(nlme.FitError, match="checkpoint of another fit"):
        nlme.bootstrap(fit, 8, key=1, penalty=lambda model: model.mu**2, checkpoint=file)
    monkeypatch.setattr(one_way.OneWay, "observe", lambda self, ind, state, t: {"y": nlme.additive(ind.mu + 0 * t, 2 * self.sd)})
    with pytest.raises(nlme.FitError, match="checkpoint of another fit"):  # the same class, edited
        nlme.bootstrap(fit, 8, key=1, checkpoint=file)


def test_what_is_no_checkpoint_is_said(fit, tmp_path):
    (tmp_path / "x").write_bytes(b"PK no checkpoint")
    with pytest.raises(nlme.FitError, match="is not a checkpoint"):
        nlme.bootstrap(fit, 8, key=1, checkpoint=tmp_path / "x")
    with pytest.raises(nlme.FitError, match="does not exist"):
        nlme.bootstrap(fit, 8, key=1, checkpoint=tmp_path / "nowhere" / "x")
