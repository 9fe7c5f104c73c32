"""Size classes, chunks and devices: what is computed for a subject does not depend on its company."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.language import ragged
from nlme.language.layout import lay_out
from nlme.language.ragged import padded_members, size_classes


class Infused(nlme.Model):
    """A covariate that changes in time, two endpoints."""

    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(12.0)
    prop: nlme.Scalar = nlme.positive(0.2)
    add: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(0.2 * cov.x + eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop), "amount": nlme.additive(state.central, self.add)}


def population(seed=0, lengths=(2, 30, 3, 1, 25, 4, 2)) -> nlme.Population:
    """Subjects of very different length; the long ones have several doses and both endpoints, the short ones one of each."""
    random = np.random.default_rng(seed)
    subjects = []
    for i, n in enumerate(lengths):
        doses = 1 + n // 10
        t = np.r_[12.0 * np.arange(doses), np.sort(random.uniform(0.2, 12.0 * doses, n))]
        order = np.argsort(t, kind="stable")
        evid = np.r_[np.ones(doses, int), np.zeros(n, int)][order]
        endpoint = np.where(evid == 1, -1, (np.arange(len(t)) % 2) if n > 20 else i % 2)
        subjects.append(
            nlme.Subject(
                id=i + 1,
                time=t[order],
                evid=evid,
                amt=np.where(evid == 1, 100.0, 0.0),
                rate=np.where(evid == 1, 25.0, 0.0),
                dv=np.where(evid == 1, np.nan, np.where(endpoint == 1, 60.0, 5.0) * np.exp(0.2 * random.normal(size=len(t)))),
                endpoint=endpoint,
                covariates={"x": np.round(random.normal(size=len(t)) if n > 20 else np.full(len(t), 0.3), 2)},
            )
        )
    return nlme.Population(tuple(subjects), endpoints=("conc", "amount"))


def both(monkeypatch, what):
    """``what()`` with all subjects in one class, and in several classes worked off in chunks."""
    one = what()
    monkeypatch.setattr(ragged, "COST", 40)
    monkeypatch.setattr(ragged, "CHUNK", 20)
    parts = lay_out(Infused(), population()).arrays.parts
    assert len(parts) >= 2 and any(part.chunks > 1 for part in parts)
    slots = [(len(np.unique(part.members)), part.data.timeline.time.shape[1]) for part in parts]
    assert sum(n * longest for n, longest in slots) < 0.5 * 7 * max(longest for _, longest in slots)
    return one, what()


@pytest.mark.parametrize(
    "method", [pytest.param(nlme.FO(), marks=pytest.mark.slow), pytest.param(nlme.FOCEI(), marks=pytest.mark.slow)], ids=repr
)
def test_objective_and_modes(monkeypatch, method):
    one, several = both(monkeypatch, lambda: nlme.evaluate(Infused(), population(), method))
    np.testing.assert_allclose(several.subjects["objective"], one.subjects["objective"], rtol=1e-12)
    np.testing.assert_allclose(several.eta, one.eta, atol=1e-9)


@pytest.mark.slow
def test_fit_predictions_and_standard_errors(monkeypatch):
    def what():
        return nlme.fit(Infused(), population(), nlme.FOCEI(), fixed=["omega", "add"], progress=False)

    one, several = both(monkeypatch, what)
    assert several.objective == pytest.approx(one.objective, abs=1e-7)
    np.testing.assert_allclose(several.covariance.standard_errors, one.covariance.standard_errors, rtol=1e-4)
    for name in ("DV", "PRED", "IPRED", "CWRES"):
        np.testing.assert_allclose(several.predictions[name], one.predictions[name], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(one.predictions["DV"], np.concatenate([s.dv[s.is_observation] for s in population()]))


@pytest.mark.slow
def test_prediction_of_every_record(monkeypatch):
    one, several = both(monkeypatch, lambda: nlme.predict(Infused(), population()))
    np.testing.assert_allclose(several, one, rtol=1e-12)
    np.testing.assert_array_equal(one["TIME"], np.concatenate([s.time for s in population()]))


def test_classes_hold_every_subject_once_and_cost_least():
    sizes = np.random.default_rng(1).integers(1, 5000, 300)
    classes = size_classes(sizes)
    np.testing.assert_array_equal(np.sort(np.concatenate(classes)), np.arange(300))
    assert all(a.size and np.all(np.diff(a) > 0) for a in classes)
    slots = sum(len(c) * sizes[c].max() for c in classes)
    assert slots + ragged.COST * len(classes) < 300 * sizes.max() + ragged.COST
    assert len(size_classes(np.full(10_000, 20))) == 1  # nothing to gain
    assert len(size_classes(np.array([7]))) == 1


@pytest.mark.parametrize(("n", "longest", "devices"), [(7, 10, 1), (100_000, 22, 1), (11, 1_000_000, 2), (5, 3, 4)])
def test_chunks_are_equal_on_every_device(n, longest, devices):
    members, chunks = padded_members(np.arange(n), longest, devices)
    assert len(members) % (chunks * devices) == 0 and len(members) - n < chunks * devices
    np.testing.assert_array_equal(np.unique(members), np.arange(n))
    assert len(members) // (chunks * devices) * longest <= max(ragged.CHUNK, longest) + longest


PROGRAM = """
import json, sys
sys.path.insert(0, {folder!r})
import nlme, jax
from language.test_ragged import Infused, population
out = []
for sharding in (None, 2, "all"):
    fit = nlme.evaluate(Infused(), population(), nlme.FO(), sharding=sharding)
    out.append(fit.subjects["objective"].tolist())
print(json.dumps(dict(devices=len(jax.devices()), objectives=out)))
"""


@pytest.mark.slow
def test_two_devices_give_the_same(tmp_path):
    """In a process of its own, where the CPU is two devices."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    environment = os.environ | {"NLME_DEVICES": "2"}
    ran = subprocess.run([sys.executable, "-c", PROGRAM.format(folder=folder)], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["devices"] == 2
    np.testing.assert_allclose(found["objectives"][1:], [found["objectives"][0]] * 2, rtol=1e-12)


def test_too_many_devices_are_refused():
    with pytest.raises(nlme.ModelError, match="NLME_DEVICES=64"):
        nlme.evaluate(Infused(), population(), nlme.FOCEI(), sharding=64)
    with pytest.raises(nlme.ModelError, match="sharding is None"):
        nlme.evaluate(Infused(), population(), nlme.FOCEI(), sharding="cpu")
