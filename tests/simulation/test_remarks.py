"""What a simulation says of itself: times that compete, and what a posterior behind it is worth."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from one_compartment_people import OneCompartment, people

import nlme


class TwoEvents(nlme.Model):
    """Death and relapse, each by a hazard of its own."""

    death: nlme.Scalar = nlme.positive(0.05)
    relapse: nlme.Scalar = nlme.positive(0.05)
    omega: nlme.Covariance = nlme.covariance(f=0.1)

    def individual(self, eta, cov):
        return dict(d=self.death * jnp.exp(eta.f), r=self.relapse * jnp.exp(eta.f))

    def observe(self, ind, state, t):
        return {"death": nlme.time_to_event(ind.d, ind.d * t), "relapse": nlme.time_to_event(ind.r, ind.r * t)}


def test_events_that_compete_are_drawn_apart_and_this_is_said():
    rows = [(i, t, 0.0, e) for i in range(5) for t in (1.0, 8.0, 24.0) for e in (1, 2)]
    design = nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV", "DVID"]), dvid={1: "death", 2: "relapse"})
    found = nlme.simulate(TwoEvents(), design, key=1, eta="new")
    assert any("death and relapse are drawn each by its own hazard" in words for words in found.messages)
    assert not nlme.simulate(TwoEvents(), design, key=1, eta="new", noise=False).messages


def test_what_is_wrong_with_a_posterior_is_said_by_what_is_simulated_from_it():
    population = people(4, times=(1.0, 4.0))[0]
    prior = nlme.weakly_informative(OneCompartment())
    with pytest.warns(UserWarning, match="nlme.sample"):
        posterior = nlme.sample(OneCompartment(), population, prior, key=1, warmup=10, draws=10, chains=1, progress=False)
    told = np.atleast_1d(posterior.attrs["messages"])
    found = nlme.simulate(OneCompartment(), population, key=1, eta="new", uncertainty=posterior, replicates=3)
    with pytest.raises(nlme.ModelError, match="uncertainty=posterior"):
        nlme.vpc(posterior, population, key=1)
    assert len(told) and [f"Of the posterior: {words}" for words in told] == list(found.messages)


def test_a_populations_difference_is_that_of_its_means():
    fit = nlme.evaluate(OneCompartment(), people(6, times=(1.0, 4.0))[0])
    scenario = {"double": fit.population.with_doses(nlme.dose(200.0, into=1))}
    found = nlme.counterfactual(fit, scenario, times=np.linspace(0.0, 8.0, 9), key=1, draws=30).population
    np.testing.assert_allclose(found["value"] - found["baseline"], found["difference"], rtol=1e-12)
    inside = (found["difference.lower"] <= found["difference"]) & (found["difference"] <= found["difference.upper"])
    assert inside.all()
