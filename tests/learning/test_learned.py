"""Learned functions over what the data visited, with bands."""

from __future__ import annotations

import arviz
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import nlme
from nlme.errors import ModelError
from nlme.models.theophylline import Theophylline
from nlme.parameters.inventory import Inventory
from nlme.posterior.functions import Learned, add_functions
from nlme.simulation.visited import visited


class Both(nlme.Model):
    """One network of a covariate, one in the equations."""

    v: nlme.Scalar = nlme.positive(10.0)
    size: nlme.MLP = nlme.mlp(inputs=("wt",), outputs=("cl",), width=2, depth=1, key=0, center=70.0, scale=15.0)
    rate: nlme.MLP = nlme.mlp(inputs=("c",), outputs=1, width=2, depth=1, key=1, initial_scale=0.1)
    omega: nlme.Covariance = nlme.covariance(cl=0.05)
    sd: nlme.Scalar = nlme.positive(0.2)
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=jnp.exp(self.size(cov).cl + eta.cl), v=self.v)

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            return dict(central=-ind.cl * c * jnp.exp(self.rate(c)[0]))

        return nlme.ODE(rhs, states=("central",))

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v, self.sd)}


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(2)
    rows = []
    for i in range(12):
        wt = rng.uniform(50, 100)
        k = (wt / 70) ** 0.75 * np.exp(0.2 * rng.normal()) / 10.0
        rows.append({"ID": i + 1, "TIME": 0.0, "AMT": 100.0, "DV": np.nan, "EVID": 1, "wt": wt})
        for t in (1.0, 5.0, 12.0, 20.0):
            rows.append({"ID": i + 1, "TIME": t, "AMT": 0.0, "DV": 10 * np.exp(-k * t + 0.2 * rng.normal()), "EVID": 0, "wt": wt})
    return nlme.read_nonmem(pd.DataFrame(rows), covariates={"wt": "kg"})


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(Both(), population, penalty=nlme.L2(5.0), progress=False, starts=0)


@pytest.mark.slow
def test_inputs_visited_are_covariates_and_states_at_the_records(fit, population):
    asked = visited(fit)
    np.testing.assert_allclose(np.sort(asked["size"][:, 0]), np.sort([s.covariates["wt"][0] for s in population]))
    expected = nlme.predict(fit)["central"].to_numpy() / float(fit.model.v)
    np.testing.assert_allclose(np.sort(asked["rate"][:, 0]), np.unique(expected), rtol=1e-8)
    assert list(visited(fit, "rate")) == ["rate"]
    with pytest.raises(ModelError, match="size, rate"):
        visited(fit, "net")


@pytest.mark.slow
def test_curves_are_the_networks_own_within_the_region_and_bands_are_by_the_delta_method(fit):
    found = nlme.learned_curves(fit, points=7)
    size, rate = found.curves
    assert (size.network, size.input, size.output) == ("size", "wt", "cl") and (rate.input, rate.output) == ("c", "output 1")
    np.testing.assert_allclose(size.y, [float(fit.model.size(w).cl) for w in size.x], rtol=1e-10)
    assert size.x[0] == size.asked.min() and size.x[-1] == size.asked.max()
    # the delta method by central differences
    from nlme.diagnostics.audit import information

    covariance = 2 * np.linalg.inv(information(fit)[0])
    u = np.asarray(fit.inventory.unconstrained(fit.model))

    def at(u):
        return float(fit.inventory.at_unconstrained(fit.model, jnp.asarray(u)).rate(rate.x[3])[0])

    slope = np.array([(at(u + 1e-5 * e) - at(u - 1e-5 * e)) / 2e-5 for e in np.eye(len(u))])
    half = 1.6448536269514722 * np.sqrt(slope @ covariance @ slope)
    assert rate.upper[3] - rate.y[3] == pytest.approx(half, rel=1e-4) and rate.y[3] - rate.lower[3] == pytest.approx(
        half, rel=1e-4
    )
    assert "confidence" in found.words and "credible" not in found.words
    assert list(found.table.columns) == ["network", "input", "output", "x", "y", "lower", "upper"] and len(found.table) == 14
    assert nlme.learned_curves(fit, bands=None, points=3).curves[0].lower is None


@pytest.mark.slow
def test_its_picture(fit):
    figure = nlme.plots.learned(fit, labels={"wt": "Weight (kg)", "cl": "log clearance"})
    first, second = figure.axes
    assert first.get_xlabel() == "Weight (kg)" and first.get_ylabel() == "log clearance" and second.get_xlabel() == "c"
    assert "90 % confidence" in figure.get_suptitle()


@pytest.mark.slow
def test_models_without_networks_are_refused(population):
    fit = nlme.fit(Theophylline(), nlme.datasets.load("theophylline"), progress=False)
    with pytest.raises(ModelError, match="no network"):
        nlme.learned_curves(fit)


class Visits(nlme.Model):
    """A network of a random effect that changes from occasion to occasion."""

    level: nlme.Scalar = nlme.real(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("x", "visit"), outputs=1, width=2, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(level=0.2)
    visits: nlme.Covariance = nlme.covariance(visit=0.3, per="occasion")
    sd: nlme.Scalar = nlme.positive(0.3)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(level=self.level + self.net(cov.x, eta.visit)[0] + eta.level + eta.visit)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


@pytest.mark.slow
def test_effects_of_occasions_are_those_of_each_record():
    rng = np.random.default_rng(3)
    rows = [
        {"ID": i + 1, "TIME": 10.0 * o + t, "DV": 1.0 + rng.normal(), "OCC": o + 1, "x": float(i)}
        for i in range(6)
        for o in (0, 1)
        for t in (1.0, 2.0)
    ]
    fit = nlme.fit(Visits(), nlme.read_nonmem(pd.DataFrame(rows), covariates=["x"]), progress=False, starts=0, max_evaluations=2)
    asked = visited(fit)["net"]
    expected = [[float(i), effect] for i, own in enumerate(fit.eta.filter(like="visit").to_numpy()) for effect in own]
    np.testing.assert_allclose(asked, np.unique(np.array(expected), axis=0), atol=1e-12)


# of a posterior


def drawn_lines(draws: int = 200):
    """y = c x at 30 points in disorder, c ~ N(2, 0.1)."""
    random = np.random.default_rng(3)
    x, c = random.permutation(np.linspace(0.1, 4.0, 30))[:, None], 2.0 + 0.1 * random.normal(size=(2, draws, 1, 1))
    return Learned(x, c * x, (("dose",), ("effect",))), c.ravel()


def posterior_with(functions, values=None):
    found = arviz.from_dict(posterior=values or {"a": np.zeros((2, 200))})
    found.attrs["weights"] = "nuts"
    add_functions(found, functions)
    return found


def test_curves_of_a_posterior_are_quantiles_of_its_draws():
    one, c = drawn_lines()
    found = nlme.learned_curves(posterior_with({"net": one}), level=0.8)
    (curve,) = found.curves
    assert (curve.network, curve.input, curve.output) == ("net", "dose", "effect") and "credible" in found.words
    assert (np.diff(curve.x) > 0).all()
    low, middle, high = np.quantile(c, [0.1, 0.5, 0.9])
    np.testing.assert_allclose([curve.lower, curve.y, curve.upper], np.outer([low, middle, high], curve.x), rtol=1e-12)
    assert isinstance(nlme.plots.learned(posterior_with({"net": one})), Figure)


def test_a_network_of_two_inputs_is_asked_at_every_draw():
    class Two(nlme.Model):
        net: nlme.MLP = nlme.mlp(inputs=("a", "b"), outputs=1, width=2, depth=1, key=0, center=0.0, scale=1.0)
        sd: nlme.Scalar = nlme.positive(1.0)
        covariates = {"a": "", "b": ""}

        def observe(self, ind, state, t):
            return {"y": nlme.additive(t, self.sd)}

    model, random = Two(), np.random.default_rng(1)
    values = {}
    for entry in Inventory(model).entries:
        if entry.path[0] == "net":
            values |= (
                {name: random.normal(size=(2, 30)) for name in entry.names}
                if entry.size == 1
                else {".".join(entry.path): random.normal(size=(2, 30, entry.size))}
            )
    one = Learned(random.normal(size=(25, 2)), np.zeros((2, 30, 25, 1)), (("a", "b"), ("out",)))
    posterior = posterior_with({"net": one}, values)
    with pytest.raises(nlme.ModelError, match="give model="):
        nlme.learned_curves(posterior)
    first, second = nlme.learned_curves(posterior, model=model, points=7).curves
    assert (first.input, second.input) == ("a", "b")
    models = nlme.posterior_models(model, posterior)
    at = np.stack([np.full(7, np.median(one.inputs[:, 0])), second.x], axis=1)
    draws = np.stack([[float(m.net.outputs_at(jnp.asarray(x))[0]) for x in at] for m in each(models, 60)])
    np.testing.assert_allclose([second.lower, second.y, second.upper], np.quantile(draws, [0.05, 0.5, 0.95], axis=0), rtol=1e-10)
    posterior.attrs["weights"] = "laplace"
    with pytest.raises(nlme.FitError, match="Laplace's method mean something at the inputs visited"):
        nlme.learned_curves(posterior, model=model)


def each(models, count: int):
    return [
        jax.tree.map(lambda x, k=k: x[k] if eqx.is_array(x) and x.ndim and len(x) == count else x, models) for k in range(count)
    ]


def test_what_a_posterior_has_not():
    with pytest.raises(nlme.ModelError, match="no learned function"):
        nlme.learned_curves(arviz.from_dict(posterior={"a": np.zeros((2, 5))}))
    with pytest.raises(nlme.ModelError, match="Did you mean 'net'"):
        nlme.learned_curves(posterior_with({"net": drawn_lines()[0]}), "nett")
