"""The model in the midst of a posterior's draws."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from learned_level import LearnedLevel
from normal_means import Means, groups
from posterior_stand_in import posterior_of

import nlme
from nlme.parameters.inventory import Inventory


class Pair(Means):
    omega: nlme.Covariance = nlme.covariance(("mu", "slope"), [[0.5, 0.1], [0.1, 0.3]])

    def individual(self, eta, cov):
        return dict(mu=self.mu + eta.mu + 0.0 * eta.slope)


def test_it_is_the_mean_of_every_number_on_its_own_scale():
    draws = {"mu": np.array([1.0, 2.0, 6.0]), "sd": np.array([0.5, 0.5, 2.0])}
    draws |= {"omega.mu": np.array([1.0, 2.0, 3.0]), "omega.slope,mu": np.array([0.2, -0.5, 0.6])}
    found = nlme.posterior_estimate(Pair(), posterior_of(Pair(), groups(), draws))
    values = dict(zip(Inventory(found).names, np.asarray(Inventory(found).natural(found)), strict=True))
    np.testing.assert_allclose([values[name] for name in draws], [np.mean(x) for x in draws.values()], rtol=1e-12)
    assert float(found.omega.matrix[1, 1]) == pytest.approx(0.3)


def test_what_was_held_stays_where_it_was():
    import json

    held = json.dumps({"sd": 0.4})
    posterior = posterior_of(Means(), groups(), {"mu": np.array([1.0, 3.0])}, held=held)
    del posterior.posterior["sd"]
    with pytest.warns(UserWarning, match="it held sd at 0.4"):
        found = nlme.posterior_estimate(Means(), posterior)
    assert float(found.sd) == 0.4 and float(found.mu) == 2.0


def test_weights_of_networks_are_those_of_the_densest_draw():
    model = LearnedLevel()
    weight = next(name for name, kind in zip(Inventory(model).names, Inventory(model).kinds, strict=True) if kind == "weight")
    draws = {weight: np.array([0.1, -0.2, 0.7])}
    found = nlme.posterior_estimate(model, posterior_of(model, groups(), draws))
    values = np.asarray(Inventory(found).natural(found))
    assert values[Inventory(found).names.index(weight)] == pytest.approx(0.7)  # the stand-in's density rises
    assert jnp.isfinite(values).all()
