"""Terms of a network in posterior draws: coefficients are those of the draws, and a missing interaction is found."""

from __future__ import annotations

import warnings

import arviz
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from matplotlib.figure import Figure

import nlme
from nlme.errors import FitError, ModelError
from nlme.posterior.functions import Learned, add_functions


def stand_in(functions: dict[str, Learned], count: int = 100):
    """A posterior that holds these learned functions and nothing else."""
    shape = next(iter(functions.values())).values.shape[:2]
    found = arviz.from_dict(
        posterior={"a": np.zeros(shape)}, observed_data={"DV": np.zeros(count)}, sample_stats={"lp": np.zeros(shape)}
    )
    found.attrs["model"] = "Effect"
    add_functions(found, functions)
    return found


def lines(slope: float = 2.0, spread: float = 0.1, draws: int = 150):
    """y = c_r x + 0.001 noise, c_r ~ N(slope, spread)."""
    random = np.random.default_rng(3)
    x, c = np.linspace(0.1, 4.0, 30)[:, None], slope + spread * random.normal(size=(2, draws, 1, 1))
    return Learned(x, c * x + 0.001 * random.normal(size=(2, draws, 30, 1)), (("dose",), ("effect",))), c.ravel()


def test_coefficients_are_those_of_the_draws_that_hold_the_term():
    one, c = lines()
    found = nlme.discover(stand_in({"net": one}), draws=300)
    row = found.table.loc["dose"]
    assert row["probability"] > 0.95 and found.sets[0][0] == ("dose",) and found.expression.inputs == ("dose",)
    np.testing.assert_allclose(row[["lower", "coefficient", "upper"]], np.quantile(c, [0.05, 0.5, 0.95]), atol=0.01)
    assert found.sets_table["probability"].sum() == pytest.approx(1.0) and found.sets_table.index[0] == "dose"
    assert len(found.coefficients["dose"]) == round(300 * row["probability"])
    assert isinstance(nlme.plots.inclusion(found), Figure)
    assert "coefficient" in repr(found) and "probability" in found.to_markdown()


def test_what_cannot_be_read_is_said():
    one, _ = lines()
    both = stand_in({"net": one, "other": one})
    with pytest.raises(ModelError, match="network='net'"):
        nlme.discover(both)
    with pytest.raises(ModelError, match="neet"):
        nlme.discover(both, "neet")
    with pytest.raises(ModelError, match="model="):
        nlme.discover(both, "net").model()
    with pytest.raises(FitError, match="draws"):
        nlme.discover(stand_in({"net": lines(draws=5)[0]}))
    with pytest.raises(ModelError, match="no network"):
        nlme.discover(arviz.from_dict(posterior={"a": np.zeros((2, 50))}))
    two = one._replace(values=np.repeat(one.values, 2, axis=-1), named=(("dose",), ("a", "b")))
    with pytest.raises(ModelError, match="one output"):
        nlme.discover(stand_in({"net": two}))


class Prey(nlme.Model):
    """Lotka-Volterra whose interaction is a network: x' = 1.3 x - net(x, y), y' = 0.9 net(x, y) - 1.8 y."""

    net: nlme.MLP = nlme.mlp(inputs=("x", "y"), outputs=1, width=4, depth=1, key=1, center=1.5, scale=1.0)
    sd: nlme.Scalar = nlme.positive(0.05)
    covariates = {"x0": "", "y0": ""}

    def individual(self, eta, cov):
        return dict(x0=cov.x0, y0=cov.y0)

    def interaction(self, x, y):
        return self.net(x, y)[0]

    def dynamics(self, ind):
        def rhs(t, s):
            eaten = self.interaction(s.x, s.y)
            return dict(x=1.3 * s.x - eaten, y=0.9 * eaten - 1.8 * s.y)

        return nlme.ODE(rhs, states=("x", "y"), initial=dict(x=ind.x0, y=ind.y0))

    def observe(self, ind, state, t):
        return {"prey": nlme.additive(state.x, self.sd), "predator": nlme.additive(state.y, self.sd)}


class Truth(Prey):
    def interaction(self, x, y):
        return 0.9 * x * y


PRIORS = {"net": nlme.weight_prior("gaussian", 2.0), "sd": dist.HalfNormal(0.2)}


def animals(seed: int = 1):
    """Six starts, each followed for 1.5 units of time."""
    starts = [(0.5, 0.5), (1.0, 2.5), (2.5, 0.6), (3.0, 2.0), (0.6, 1.5), (1.8, 1.2)]
    rows = [
        {"ID": i + 1, "TIME": t, "DVID": k, "DV": np.nan, "x0": x, "y0": y}
        for i, (x, y) in enumerate(starts)
        for t in np.linspace(0.1, 1.5, 10)
        for k in (1, 2)
    ]
    frame = pd.DataFrame(rows).fillna({"DV": 1.0})
    read = dict(covariates=["x0", "y0"], dvid={1: "prey", 2: "predator"})
    told = nlme.simulate(Truth(), nlme.read_nonmem(frame, **read), key=seed, eta="new")
    return nlme.read_nonmem(frame.assign(DV=np.asarray(told["DV"])), **read)


@pytest.fixture(scope="module")
def missing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nlme.sample(Prey(), animals(), PRIORS, key=1, weights="laplace", draws=300, progress=False)


@pytest.mark.slow
def test_a_missing_interaction_is_the_most_probable_term(missing):
    found = nlme.discover(missing, model=Prey())
    assert found.table.index[0] == "x * y" and found.table.iloc[0]["probability"] > 0.5
    assert found.table.loc["x * y", "lower"] < 0.95 and found.table.loc["x * y", "upper"] > 0.85
    again = nlme.fit(found.model(), animals(), progress=False, starts=0)
    assert any(float(c) == pytest.approx(0.9, abs=0.1) for c in again.model.net.coefficients)


@pytest.mark.slow
def test_the_band_of_the_learned_interaction_covers_it(missing):
    group = missing.learned_functions
    x, y = group["net_inputs"].values.T
    low, high = np.quantile(group["net"].values[..., 0], [0.05, 0.95], axis=(0, 1))
    assert np.mean((low < 0.9 * x * y) & (0.9 * x * y < high)) > 0.7
    assert jnp.all(jnp.isfinite(missing.posterior["sd"].values))
