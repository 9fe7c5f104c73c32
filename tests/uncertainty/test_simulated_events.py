"""Simulated data sets of a single event, after which there is nothing to observe."""

from __future__ import annotations

import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import quietly

import nlme

PRIORS = {"rate": dist.LogNormal(np.log(0.2), 0.3)}


class Event(nlme.Model):
    rate: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(rate=self.rate)

    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.rate, ind.rate * t)}


@pytest.fixture(scope="module")
def people():
    """Who are looked at every week."""
    times = np.arange(1.0, 7.0)
    return nlme.Population(tuple(nlme.Subject(id=i, time=times, dv=np.zeros(6)) for i in range(1, 41)))


def test_predictive_values_stand_at_their_records(people):
    posterior = quietly(Event(), people[:6], PRIORS, key=1, chains=1, warmup=50, draws=60)
    found = nlme.predictive(Event(), people[:6], posterior=posterior, key=2, draws=60)
    drawn = np.asarray(found.posterior_predictive["DV"]).reshape(60, 6, 6)
    event = np.argmax(drawn == 2, axis=2)
    for values, at in zip(drawn.reshape(-1, 6), event.ravel(), strict=True):
        if np.any(values == 2):
            assert np.all(values[:at] == 0) and np.all(np.isnan(values[at + 1 :]))
    prior = nlme.predictive(Event(), people, PRIORS, key=3, draws=100).prior_predictive["DV"]
    first = np.asarray(prior).reshape(100, 40, 6)[:, :, 0]
    assert np.mean(first == 2) == pytest.approx(1 - np.exp(-0.2), abs=0.04)


def test_a_calibration_asks_for_one_record(people):
    with pytest.raises(nlme.ModelError, match="give every subject one observation of a time to event"):
        nlme.calibrate(Event(), people, PRIORS, simulations=2, key=1, progress=False)
