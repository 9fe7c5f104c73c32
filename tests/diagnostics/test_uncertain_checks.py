"""Predictive checks under the uncertainty of the parameters: every replicate is the simulation of its own vector."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from checked_models import Decline, Event, Recurring, design, drawn, trial_of_events, with_values
from posterior_stand_in import posterior_of

import nlme
from nlme.diagnostics.replicated import replicated
from nlme.parameters.inventory import Inventory


@pytest.fixture(scope="module")
def data():
    population = design(12)
    return with_values(population, drawn(population, 1)[0])


def _vectors(model, **columns) -> pd.DataFrame:
    """Draws of all parameters at the model's values, but for those given."""
    inventory = Inventory(model)
    count = len(next(iter(columns.values())))
    table = pd.DataFrame([np.asarray(inventory.natural(model))] * count, columns=inventory.names)
    return table.assign(**columns)


def test_vectors_that_are_all_the_models_own_change_nothing(data):
    name = Inventory(Decline()).names[0]
    same = _vectors(Decline(), **{name: [float(np.asarray(Inventory(Decline()).natural(Decline()))[0])] * 3})
    for check in (nlme.vpc, nlme.npde, nlme.npc):
        plain, uncertain = (check(Decline(), data, key=1, replicates=20, uncertainty=one) for one in (None, same))
        pd.testing.assert_frame_equal(plain._exact(), uncertain._exact(), rtol=1e-12)
        assert not plain.messages and uncertain.messages == ("Every replicate has parameters of its own (3 draws given).",)


def test_a_replicate_is_the_simulation_of_its_own_vector(data):
    name = Inventory(Decline()).names[0]
    low, high = _vectors(Decline(), **{name: [1.0, 1.0]}), _vectors(Decline(), **{name: [1.0, 4.0]})
    options = dict(key=3, replicates=40)
    one, two = (replicated("check", Decline(), data, uncertainty=table, **options).simulated for table in (low, high))
    same = np.isclose(one, two).all(axis=1)
    assert same.sum() == 20 and not np.isclose(one, two)[~same].all(axis=1).any()  # each vector as often as the other


@pytest.mark.slow
@pytest.mark.parametrize("model", [Event(), Recurring(rate=0.3)])
def test_times_of_events_are_drawn_with_the_parameters_too(model):
    trial = trial_of_events(30, 3)
    rate = float(model.rate)
    plain, same, apart = (
        nlme.vpc(model, trial, key=1, replicates=60, uncertainty=one)
        for one in (None, _vectors(model, rate=[rate] * 2), _vectors(model, rate=[rate / 4, rate * 4]))
    )
    pd.testing.assert_frame_equal(plain.table, same.table, rtol=1e-12)
    width = lambda check: (check.table["UPPER"] - check.table["LOWER"]).mean()  # noqa: E731
    assert width(apart) > 1.5 * width(plain)
    assert "Every replicate has parameters of its own" in apart.messages[-1]


def test_of_a_posterior_the_correction_is_that_of_its_mean(data):
    """The model is given with other values than the draws have: nothing of these may be left."""
    name = Inventory(Decline()).names[0]
    own = float(np.asarray(Inventory(Decline()).natural(Decline()))[0])
    posterior = posterior_of(Decline(), data, {name: np.array([0.9, 1.1, 1.0, 1.0]) * own})
    far = Inventory(Decline()).with_values(Decline(), {name: 20.0 * own})
    options = dict(key=1, replicates=20, uncertainty=posterior, prediction_corrected=True)
    near, other = (nlme.vpc(model, data, **options) for model in (Decline(), far))
    pd.testing.assert_frame_equal(near.table, other.table, rtol=1e-9)
    assert "4 draws of the posterior" in near.messages[0]


def test_given_simulations_have_no_parameters(data):
    with pytest.raises(nlme.DataError, match="nothing to simulate whose parameters could be uncertain"):
        nlme.vpc(Decline(), data, simulations=drawn(data, 5), uncertainty=_vectors(Decline(), cl=[0.2]))
