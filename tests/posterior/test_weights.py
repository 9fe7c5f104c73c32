"""Approximations of posteriors of weights, on a network that is a straight line: its posterior is known exactly."""

from __future__ import annotations

import json

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from interrupting import one_lane
from normal_means import quietly
from numpyro.diagnostics import effective_sample_size

import nlme
from nlme.errors import ModelError
from nlme.language import solution
from nlme.language.layout import lay_out
from nlme.parameters.priors import Priors
from nlme.posterior.convergence import messages_of
from nlme.posterior.draws import worth
from nlme.posterior.functions import Learned
from nlme.posterior.langevin import spread_inflation
from nlme.posterior.marginal import Marginal
from nlme.posterior.metric import descended, joined, spread_of
from nlme.posterior.sampler import Draws
from nlme.search import batch

OMEGA, SD, SCALE = 0.3, 0.5, 1.5


class Line(nlme.Model):
    """y_ij = e0 + w x_i + bias + eta_i + e_ij: normal in everything that is free."""

    e0: nlme.Scalar = nlme.real(0.5)
    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=1, depth=0, key=0, center=0.0, scale=1.0)
    omega: nlme.Covariance = nlme.covariance(e0=OMEGA)
    sd: nlme.Scalar = nlme.positive(SD)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(effect=self.e0 + self.net(cov.x)[0] + eta.e0)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.effect, self.sd)}


PRIORS = {"e0": dist.Normal(0.0, 2.0), "net": nlme.weight_prior("gaussian", SCALE)}
OPTIONS = dict(priors=PRIORS, key=1, fixed=("omega", "sd"))
NAMES = ("e0", "net.weights[0][0,0]", "net.biases[0][0]")


def people(n: int = 12):
    random = np.random.default_rng(2)
    x = random.normal(size=n)
    rows = [
        {"ID": i + 1, "TIME": float(t), "DV": 1.0 + 0.8 * x[i] + eta + SD * random.normal(), "x": x[i]}
        for i, eta in enumerate(np.sqrt(OMEGA) * random.normal(size=n))
        for t in range(3)
    ]
    return nlme.read_nonmem(pd.DataFrame(rows), covariates=["x"])


def exact(population):
    """Mean and covariance of (e0, weight, bias) given the data, by least squares with priors."""
    precision, shift = np.diag([1 / 4.0, 1 / SCALE**2, 1 / SCALE**2]), np.zeros(3)
    for s in population:
        rows = np.tile([1.0, s.covariates["x"][0], 1.0], (len(s.dv), 1))
        v = np.linalg.inv(OMEGA * np.ones((len(s.dv),) * 2) + SD**2 * np.eye(len(s.dv)))
        precision, shift = precision + rows.T @ v @ rows, shift + rows.T @ v @ s.dv
    covariance = np.linalg.inv(precision)
    return covariance @ shift, covariance


def columns(found):
    """(chains, draws, 3) of what is free."""
    return np.stack([found.posterior[name].values.reshape(found.posterior["e0"].shape) for name in NAMES], axis=-1)


@pytest.fixture(scope="module")
def normal():
    return quietly(Line(), people(), weights="laplace", draws=1500, **OPTIONS)


@pytest.mark.slow
def test_laplace_is_the_posterior_where_that_is_normal(normal):
    mean, covariance = exact(people())
    draws, sd = columns(normal)[0], np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 4 * sd / np.sqrt(1500))
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.1)
    (message,) = normal.attrs["messages"]
    assert "Laplace" in message and "near it" in message and normal.attrs["weights"] == "laplace"
    assert normal.posterior["eta"].shape == (1, 1500, 12, 1) and set(normal.sample_stats.data_vars) == {"lp"}


@pytest.mark.slow
def test_laplace_is_the_posterior_in_any_units():
    """The same data in units that are a thousand times smaller: every number is a thousand times larger."""
    unit, frame = 1000.0, people().to_frame()
    large = nlme.read_nonmem(frame.assign(DV=unit * frame["DV"]), covariates=["x"])
    priors = {"e0": dist.Normal(0.0, 2.0 * unit), "net": nlme.weight_prior("gaussian", SCALE * unit)}
    found = quietly(
        Line(omega={"e0": OMEGA * unit**2}, sd=SD * unit), large, weights="laplace", draws=1500, **(OPTIONS | {"priors": priors})
    )
    mean, covariance = exact(people())
    draws, sd = columns(found)[0] / unit, np.sqrt(np.diag(covariance))
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 4 * sd / np.sqrt(1500))
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=0.1)
    assert "near it" in found.attrs["messages"][0]


@pytest.mark.slow
def test_learned_functions_are_those_of_the_draws(normal):
    group, x = normal.learned_functions, np.unique([s.covariates["x"][0] for s in people()])
    np.testing.assert_allclose(group["net_inputs"].values[:, 0], x)
    w, b = np.moveaxis(columns(normal)[..., 1:, None], 2, 0)
    np.testing.assert_allclose(group["net"].values[..., 0], w * x + b, rtol=1e-9, atol=1e-12)
    assert list(group["net_input"].values) == ["x"] and json.loads(normal.attrs["learned_functions"]) == {"net": {"points": 12}}


@pytest.mark.slow
def test_the_table_has_no_r_hat_of_draws_that_are_no_chain(normal):
    table = nlme.table(normal)
    assert np.isnan(table.loc["e0", "r_hat"]) and "Laplace approximation" in repr(table)


class Slope(Line):
    """The same line as the rate of a state: y_ij = e0 + t_j (w x_i + bias) + eta_i + e_ij."""

    def individual(self, eta, cov):
        return dict(effect=self.e0 + eta.e0, x=cov.x)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"grown": self.net(ind.x)[0] + 0.0 * a.grown}, ("grown",))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.effect + state.grown, self.sd)}


@pytest.mark.slow
@pytest.mark.parametrize("passes", [14, -100], ids=["jets", "one pass back"])
def test_curvature_of_weights_in_equations(monkeypatch, passes):
    """The Hessian at the mode of a posterior that is normal, with the weights' part by Gauss-Newton, is its precision."""
    monkeypatch.setattr(solution, "_PASSES", passes)
    layout = lay_out(Slope(), people())
    prior = Priors(layout.model, PRIORS, ("omega", "sd"))
    density = Marginal(nlme.FOCEI(), prior, layout, layout.model, jax.random.key(0))
    density.settle()
    expected = np.diag([1 / 4.0, 1.0, 1.0])  # the weights in units of their prior
    for s in people():
        rows = np.stack([np.ones(3), SCALE * s.covariates["x"][0] * s.time, SCALE * s.time], axis=1)
        expected += rows.T @ np.linalg.inv(OMEGA * np.ones((3, 3)) + SD**2 * np.eye(3)) @ rows
    spread = np.asarray(density.place.spread)
    np.testing.assert_allclose(np.linalg.inv(spread @ spread.T), expected, rtol=1e-3, atol=1e-2)
    assert density.distance() < 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("subjects", [None, 4])
def test_stochastic_gradients_lead_to_the_posterior(subjects):
    """Means within 4 Monte-Carlo errors; spreads within those and what the step is said to cost."""
    how = nlme.SGLD(step=0.05, thin=20, memory=0.99, subjects=subjects)
    found = quietly(Line(), people(), weights=how, warmup=200, draws=1000, chains=2, **OPTIONS)
    mean, covariance = exact(people())
    draws, sd = columns(found), np.sqrt(np.diag(covariance))
    size = effective_sample_size(draws)
    assert size.min() > 100
    np.testing.assert_array_less(np.abs(draws.mean((0, 1)) - mean), 4 * sd / np.sqrt(size))
    np.testing.assert_array_less(np.abs(draws.std((0, 1)) / sd - 1.0), 4 / np.sqrt(2 * size) + 0.05)
    assert "Stein" in found.attrs["messages"][0] and found.attrs["failed_solves"] == 0
    told = json.loads(found.attrs["learned_functions"])["net"]
    assert told["r_hat"] < 1.05 and told["ess"] > 100
    assert "Learned function of net" in repr(nlme.table(found))


@pytest.mark.slow
def test_members_of_an_ensemble_are_modes():
    """There is one only, so that all members end in it; what is no weight has the spread that is left given the weights."""
    found = quietly(Line(), people(), weights="ensemble", draws=400, chains=3, **OPTIONS)
    mean, covariance = exact(people())
    weights = columns(found)[..., 1:]
    sd = np.sqrt(np.diag(covariance))[1:]
    np.testing.assert_array_less(np.abs(weights - mean[1:]), np.broadcast_to(0.05 * sd, weights.shape))  # where searches end
    left = 1.0 / np.sqrt(np.linalg.inv(covariance)[0, 0])
    assert found.posterior["e0"].values.std() == pytest.approx(left, rel=0.15)
    assert "Ensemble of 3 modes" in found.attrs["messages"][0]


def test_an_ensemble_of_which_some_members_are_missing_is_none(monkeypatch):
    class Shown(batch.Progress):
        def count(self, done, of):
            if 0 < done < of:
                raise KeyboardInterrupt

    one_lane(monkeypatch)
    monkeypatch.setattr(batch, "Progress", Shown)
    with pytest.raises(KeyboardInterrupt):
        quietly(Line(), people(), weights="ensemble", draws=4, chains=20, **OPTIONS)


def test_steins_identity_tells_what_a_step_costs():
    """Langevin steps of 0.4 on a normal density of curvature h: variance 1 / (h (1 - 0.4 h / 4))."""
    random, h, w = np.random.default_rng(0), np.array([1.0, 2.0]), np.zeros((400, 2))
    kept = []
    for _ in range(600):
        w = w - 0.2 * h * w + np.sqrt(0.4) * random.normal(size=w.shape)
        kept.append(w)
    draws = np.stack(kept[100:], axis=1)
    expected = np.mean(1.0 / (1.0 - 0.1 * h)) - 1.0
    assert spread_inflation(draws, h * draws) == pytest.approx(expected, abs=0.02)


def test_units_that_change_places_do_not_count():
    """Two chains whose units are exchanged: the coordinates disagree, the function does not, and nothing is said of either."""
    random, shape = np.random.default_rng(1), (2, 400)
    a, b = 1.0 + 0.1 * random.normal(size=shape), -1.0 + 0.1 * random.normal(size=shape)
    a, b = np.where([[True], [False]], a, b), np.where([[True], [False]], b, a)
    one = Learned(np.ones((1, 1)), (a + b)[..., None, None], (("x",), ("y",)))
    numbers = random.normal(size=(*shape, 1))
    kept = Draws({"b": np.zeros((*shape, 0))}, *[np.zeros(shape, bool)] * 6)
    assert worth(np.stack([a, b], axis=-1))[0] > 1.5 and messages_of(kept, numbers, 400, {"net": one}, 0) == []
    apart = one._replace(values=one.values + np.array([0.0, 1.0])[:, None, None, None])
    assert "learned function of net" in messages_of(kept, numbers, 400, {"net": apart}, 0)[0]


def test_the_metric_stays_positive_definite():
    """Exact where it can be; with less between weights and others where the exact part would spoil it."""
    weights = np.array([True, False, True])
    sound = np.array([[4.0, 0.5, 0.2], [0.5, 2.0, 0.1], [0.2, 0.1, 3.0]])
    np.testing.assert_allclose(joined(sound[[1]], sound[np.ix_(weights, weights)], weights), sound)
    spoiled = joined(np.array([[9.0, 2.0, 0.1]]), sound[np.ix_(weights, weights)], weights)
    assert np.linalg.eigvalsh(spoiled)[0] > 0.1 and spoiled[1, 1] == 2.0
    root = spread_of(sound)
    np.testing.assert_allclose(root @ root.T, np.linalg.inv(sound), rtol=1e-10)


def test_a_descent_ends_in_the_valley():
    """Rosenbrock's function as least squares, from its usual start, with the Gauss-Newton matrix for the Hessian."""

    def minus(x):
        r, j = np.array([10.0 * (x[1] - x[0] ** 2), 1.0 - x[0]]), np.array([[-20.0 * x[0], 10.0], [-1.0, 0.0]])
        return 0.5 * r @ r, j.T @ r

    def hessian(x):
        j = np.array([[-20.0 * x[0], 10.0], [-1.0, 0.0]])
        return j.T @ j

    x, promised = descended(minus, hessian, np.array([-1.2, 1.0]))
    np.testing.assert_allclose(x, 1.0, atol=0.05)
    assert minus(x)[0] < 1e-3 and promised < 1e-4


class Plain(nlme.Model):
    a: nlme.Scalar = nlme.real(1.0)
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(a=self.a)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a, self.sd)}


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        (dict(weights="vi"), "'laplace'"),
        (dict(weights="laplace", random_effects="joint"), "marginal"),
        (dict(weights="laplace", checkpoint="x"), "no"),
        (dict(weights="ensemble", priors=PRIORS | {"net": nlme.weight_prior("horseshoe", 0.1)}), "no mode"),
    ],
)
def test_refusals(options, seen):
    with pytest.raises(ModelError, match=seen):
        nlme.sample(Line(), people(), **(OPTIONS | options))


def test_models_without_networks_are_refused():
    priors = {"a": dist.Normal(0.0, 1.0), "sd": dist.HalfNormal(1.0)}
    with pytest.raises(ModelError, match="no free weights"):
        nlme.sample(Plain(), people(), priors, key=0, weights="sgld")


@pytest.mark.parametrize("wrong", [dict(step=0.0), dict(step=2.0), dict(memory=1.0), dict(thin=0), dict(subjects=0)])
def test_options_of_sgld(wrong):
    with pytest.raises(ModelError, match="SGLD"):
        nlme.SGLD(**wrong)
