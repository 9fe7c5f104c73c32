"""R-hat and effective sizes by ranks, beside arviz's, and laws of both."""

from __future__ import annotations

import re

import arviz
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import Means, groups, quietly

import nlme
from nlme.posterior.draws import effective_size, r_hat


def chains(rho: float, seed: int, count: int = 4, draws: int = 400, numbers: int = 3):
    random = np.random.default_rng(seed)
    x = np.zeros((count, draws, numbers))
    x[:, 0] = random.normal(size=(count, numbers))
    for k in range(1, draws):
        x[:, k] = rho * x[:, k - 1] + np.sqrt(1 - rho**2) * random.normal(size=(count, numbers))
    return x


@pytest.mark.parametrize("rho", [0.0, 0.9, -0.4])
def test_as_arviz_has_them(rho):
    x = np.exp(2.0 * chains(rho, seed=1))
    for k in range(x.shape[-1]):
        own = x[..., k]
        assert r_hat(own) == pytest.approx(float(arviz.rhat(own, method="rank")), abs=1e-6)
        bulk, tail = (float(arviz.ess(own, method=how)) for how in ("bulk", "tail"))
        assert effective_size(own) == pytest.approx(min(bulk, tail), rel=0.05)  # where a sum of autocorrelations ends


def test_the_same_on_every_scale():
    x = chains(0.5, seed=2)
    for other in (np.exp(x), -x, x**3):
        np.testing.assert_allclose(
            effective_size(other), effective_size(x), rtol=0.1
        )  # of -x the other tail's indicator is x < q
    np.testing.assert_allclose(r_hat(np.exp(x)), r_hat(x), rtol=0.01)


def test_what_disagrees_is_seen():
    x = chains(0.0, seed=3)
    assert np.all(r_hat(x) < 1.01)
    assert np.all(r_hat(x + 0.5 * np.arange(4)[:, None, None]) > 1.1)
    assert np.all(r_hat(x * np.array([1.0, 1.0, 1.0, 4.0])[:, None, None]) > 1.05)  # one middle, another width
    assert effective_size(np.ones((4, 50))) == 0.0 and np.isnan(r_hat(np.ones((4, 50))))
    assert np.isinf(r_hat(np.arange(4.0)[:, None] + np.zeros((4, 50))))


def test_the_message_says_what_the_table_shows():
    priors = {"mu": dist.Normal(0.0, 2.0), "omega.sd": dist.HalfNormal(1.0), "sd": dist.HalfNormal(1.0)}
    posterior = quietly(Means(), groups(), priors, key=1, chains=2, warmup=100, draws=40)
    told = " ".join(m for m in posterior.attrs["messages"] if "population parameters" in m)
    table = nlme.table(posterior)
    assert float(re.search(r"R-hat ([\d.]+);", told)[1]) == pytest.approx(table.r_hat.max(), abs=6e-4)
    assert float(re.search(r"only (\d+) independent", told)[1]) == pytest.approx(table.ess.min(), abs=0.51)


def test_held_parameters_are_where_they_were_held():
    """Also where the draws are put into a model that has other values of them."""
    held = dict(sd=0.3, omega={"mu": 0.25})
    posterior = quietly(
        Means(**held), groups(), {"mu": dist.Normal(0.0, 2.0)}, key=1, chains=1, warmup=20, draws=30, fixed=["omega", "sd"]
    )
    with pytest.warns(UserWarning, match=r"it held omega.mu at 0.25 \(4 here\), sd at 0.3 \(3 here\), and these values are used"):
        models = nlme.posterior_models(Means(sd=3.0, omega={"mu": 4.0}), posterior)
    assert jnp.all(models.sd == 0.3)
    np.testing.assert_allclose(models.omega.sd, 0.5, rtol=1e-12)
    with pytest.warns(UserWarning, match="these values are used"):
        drawn = nlme.simulate(Means(sd=3.0), groups(), key=2, replicates=200, uncertainty=posterior, eta="new")
    assert (drawn.DV - drawn.IPRED).std() == pytest.approx(0.3, rel=0.1) and drawn["eta.mu"].std() == pytest.approx(0.5, rel=0.1)
