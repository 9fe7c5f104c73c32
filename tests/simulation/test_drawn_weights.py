"""Draws of a network's weights are simulated with the standardisation that they were drawn with."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from learned_effect import Effect

import nlme
from nlme.errors import FitError, ModelError
from nlme.posterior.models import posterior_models


def people(middle: float, seed: int = 0) -> nlme.Population:
    rng = np.random.default_rng(seed)
    x = np.repeat(middle + 12.0 * rng.normal(size=15), 2)
    frame = pd.DataFrame({"ID": np.repeat(np.arange(15), 2), "TIME": np.tile([1.0, 2.0], 15), "EVID": 0, "x": x})
    return nlme.read_nonmem(frame.assign(DV=np.sin((x - middle) / 12.0) + 0.2 * rng.normal(size=30)), covariates=["x"])


@pytest.fixture(scope="module")
def posterior():
    model = Effect()
    return nlme.sample(model, people(70.0), nlme.weakly_informative(model), key=1, weights="laplace", draws=60, progress=False)


def typical(of, population, uncertainty):
    made = nlme.simulate(of, population, key=1, replicates=60, eta="typical", noise=False, uncertainty=uncertainty)
    return made[made["TIME"] == 1.0].pivot(index="REPLICATE", columns="ID", values="IPRED").to_numpy()


def test_a_model_that_has_met_no_data_is_simulated_as_the_posterior_has_it(posterior):
    """The same people and others: at every draw the network of the draw, whichever people are asked about."""
    for population in (people(70.0), people(60.0, seed=3)):
        x = jnp.array([s.covariates["x"][0] for s in population])
        networks = posterior_models(Effect(), posterior).net
        expected = np.asarray(eqx.filter_vmap(lambda net: jax.vmap(lambda one: net(one)[0])(x))(networks))
        found = typical(Effect(), population, posterior)
        np.testing.assert_allclose(np.sort(found, axis=0), np.sort(expected, axis=0), rtol=1e-8, atol=1e-10)


def test_a_fit_with_other_numbers_is_refused(posterior):
    other = nlme.evaluate(Effect(), people(60.0, seed=3))
    with pytest.raises(FitError, match="standardise their inputs by other numbers"):
        typical(other, other.population, posterior)


def test_a_table_of_weights_says_nothing_of_their_standardisation():
    names = [name for name in nlme.evaluate(Effect(), people(70.0)).inventory.names if name.startswith("net.")]
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(5, len(names))), columns=names)
    with pytest.raises(ModelError, match="nothing says how its inputs x are standardised"):
        typical(Effect(), people(70.0), table)
