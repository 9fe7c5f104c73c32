"""SAEM is led by its start as other searches are: it tries others for the same reasons, and says which."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import one_way
import pytest
from interrupting import interrupt

import nlme
from nlme import datasets
from nlme.fitting.saem import search
from nlme.search.quasi_newton import SEARCHING


class FixedVolume(nlme.Model):
    """Theophylline with one volume for all: from far it ends with absorption and elimination exchanged, 45 higher."""

    ka: nlme.Scalar = nlme.positive(1.5)
    cl: nlme.Scalar = nlme.positive(3.0)
    v: nlme.Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(ka=0.3, cl=0.1)
    add: nlme.Scalar = nlme.positive(0.5)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), cl=self.cl * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}


@pytest.fixture(scope="module")
def data():
    return datasets.load("theophylline")


@pytest.fixture(scope="module")
def far(data):
    return nlme.fit(FixedVolume(ka=0.94, cl=7.82, v=4.8, add=1.31, prop=0.05), data, nlme.SAEM(), progress=False)


@pytest.mark.slow
def test_exchanged_rates_are_left(far, data):
    best = nlme.fit(FixedVolume(), data, nlme.AGQ(5), progress=False)
    assert far.converged and float(far.model.ka) > float(far.model.cl / far.model.v)
    assert nlme.evaluate(far.model, data, nlme.AGQ(5)).objective == pytest.approx(best.objective, abs=0.05)


@pytest.mark.slow
def test_it_says_what_it_tried(far, tmp_path):
    starts = far.starts
    assert starts.tried == 4 and "ended far from its start" in starts.reason
    assert starts.objectives[0] > starts.objectives.min() + 40 and starts.valid[0]
    np.testing.assert_allclose(starts.starts[0][:3], [0.94, 7.82, 4.8])
    assert float(far.start.cl) == 7.82  # the model's own values, whichever search won
    far.save(tmp_path / "x.nlme")
    again = nlme.load(tmp_path / "x.nlme", model=FixedVolume)
    np.testing.assert_array_equal(again.starts.objectives, starts.objectives)
    assert again.starts.reached == starts.reached == 1


def test_starts_are_as_many_as_asked_for(data):
    model = FixedVolume(ka=0.94, cl=7.82, v=4.8, add=1.31, prop=0.05)
    method = nlme.SAEM(exploration=(60, 60), smoothing=(60, 60), annealing=20)
    alone = nlme.fit(model, data, method, progress=False, starts=0)
    assert alone.starts.tried == 1 and alone.objective > 150
    several = nlme.fit(model, data, method, progress=False, starts=2)
    assert several.starts.tried == 3 and several.objective < 115 < several.starts.objectives[0]


@pytest.mark.slow
@pytest.mark.parametrize(("at", "words"), [(6, "interrupted before it converged"), (1, "nor others were made: Ctrl-C")])
def test_an_interrupt_in_a_further_search_ends_the_fit(monkeypatch, at, words):
    """With the first search's answer, whether the second had come anywhere or not."""
    people, method = (
        one_way.population_of(one_way.values()),
        nlme.SAEM(exploration=(100, 100), smoothing=(100, 100), annealing=20),
    )
    with monkeypatch.context() as counting:
        calls = interrupt(counting, 0, search, "advance")
        alone = nlme.fit(one_way.OneWay(), people, method, progress=False, starts=0)
        first = next(calls) - 1
    calls = interrupt(monkeypatch, first + at, search, "advance")
    found = nlme.fit(one_way.OneWay(), people, method, progress=False, starts=3)
    assert next(calls) - 1 == first + at
    assert found.starts.tried == 2 and found.starts.interrupted and words in found.starts.sentences[1]
    assert found.objective == pytest.approx(min(alone.objective, np.nanmin(found.starts.objectives)))
    assert found.search_status in (alone.search_status, SEARCHING) and (alone.starts.valid[0] or found.search_status == SEARCHING)
