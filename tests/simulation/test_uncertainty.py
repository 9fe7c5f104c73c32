"""Simulation under the uncertainty of the parameters: whose vectors, in their domains, and nothing else changed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from normal_means import TwoKinds, groups
from one_compartment_people import OneCompartment, people

import nlme
from nlme.fitting.covariance import natural_jacobian
from nlme.parameters.inventory import Inventory
from nlme.simulation.parameters import drawn_parameters


@pytest.fixture(scope="module")
def fit():
    return nlme.evaluate(OneCompartment(), people(30, (1.0, 4.0, 10.0, 20.0))[0])


@pytest.mark.slow
def test_draws_from_the_covariance_have_it_and_stay_in_their_domains(fit):
    import jax

    found = drawn_parameters(fit, "covariance", 4000, jax.random.key(1))
    natural, inventory = np.asarray(found.drawn.natural), fit.inventory
    assert np.all(natural > 0)  # all parameters here are positive, whatever their standard errors
    models = jax.vmap(lambda r: inventory.unconstrained(found.drawn.at(fit.model, r)))(np.arange(4000))
    u = np.asarray(models)
    inverse = np.linalg.inv(natural_jacobian(inventory, fit.model))
    exact = inverse @ fit.covariance.matrix.to_numpy() @ inverse.T
    sd = np.sqrt(np.diagonal(exact))
    assert np.all(np.abs(u.mean(axis=0) - np.asarray(inventory.unconstrained(fit.model))) < 5 * sd / np.sqrt(4000))
    assert np.allclose(np.cov(u.T) / np.outer(sd, sd), exact / np.outer(sd, sd), atol=0.1)


@pytest.mark.slow
def test_vectors_that_are_all_the_estimate_change_no_number(fit):
    values = np.asarray(fit.inventory.natural(fit.model))
    same = pd.DataFrame([values, values], columns=fit.inventory.names)
    for eta in ("new", "estimated", "typical"):
        plain = nlme.simulate(fit, key=3, eta=eta, replicates=2)
        drawn = nlme.simulate(fit, key=3, eta=eta, replicates=2, uncertainty=same)
        # a mode is found to sqrt(inner_tolerance) = 1e-5 standard deviations
        near = 2e-5 if eta == "estimated" else 1e-12
        pd.testing.assert_frame_equal(pd.DataFrame(drawn), pd.DataFrame(plain), rtol=near, atol=near)
        assert drawn.parameters.shape == (2, len(values)) and plain.parameters is None


@pytest.mark.slow
def test_each_replicate_is_the_simulation_of_its_own_model(fit):
    rows = pd.DataFrame({"cl": [4.0, 6.0], "omega.cl": [0.01, 0.3]})
    found = nlme.simulate(fit, key=5, eta="new", replicates=2, uncertainty=rows)
    for r, row in found.parameters.iterrows():
        model = OneCompartment(cl=row["cl"], omega={"cl": row["omega.cl"]})
        alone = nlme.simulate(model, fit.population, key=5, eta="new", replicates=2)
        own, its = (frame[frame["REPLICATE"] == r].reset_index(drop=True) for frame in (found, alone))
        pd.testing.assert_frame_equal(pd.DataFrame(own), pd.DataFrame(its), rtol=1e-9)


@pytest.mark.slow
def test_bootstrap_sir_and_posterior_are_taken_row_by_row(fit):
    table = pd.DataFrame({"cl": [4.0, 5.0, 6.0], "v": [40.0, 50.0, 60.0]})
    given = SimpleNamespace(draws=table, fit=fit, words="bootstrap")  # what nlme.bootstrap and nlme.sir have in common
    found = nlme.simulate(fit, key=5, eta="typical", replicates=6, uncertainty=given)
    counts = found.parameters["cl"].value_counts()
    assert set(counts) == {2}  # each as often as the others
    assert np.allclose(found.parameters["v"], 10 * found.parameters["cl"])

    arviz = pytest.importorskip("arviz")
    eta = np.random.default_rng(1).normal(size=(1, 3, 30, 2))
    posterior = arviz.from_dict(
        posterior={"cl": table["cl"].to_numpy()[None], "v": table["v"].to_numpy()[None], "eta": eta},
        coords={"subject": list(fit.population.ids), "random_effect": list(fit.effects)},
        dims={"eta": ["subject", "random_effect"]},
    )
    found = nlme.simulate(fit, key=5, replicates=3, uncertainty=posterior, noise=False)
    for r, row in found.parameters.iterrows():
        d = table["cl"].tolist().index(row["cl"])
        own = found[found["REPLICATE"] == r].groupby("ID", sort=False)[["eta.cl", "eta.v"]].first().to_numpy()
        np.testing.assert_array_equal(own, eta[0, d])
    with pytest.raises(nlme.DataError, match="No random effects for subject"):
        other = nlme.virtual(2, key=1).with_doses(nlme.dose(100)).with_times([1.0])
        renamed = nlme.Population(tuple(nlme.Subject(id=s.id + 900, time=s.time, evid=s.evid, amt=s.amt) for s in other))
        nlme.simulate(fit, renamed, key=1, uncertainty=posterior)


@pytest.mark.slow
def test_subpopulations_are_those_of_the_draw():
    """mu tells which draw a replicate had, and 3 more than it and the effect who belongs to the high ones."""
    arviz, population = pytest.importorskip("arviz"), groups()
    high = np.random.default_rng(2).random((1, 8, 6)) < 0.5
    posterior = arviz.from_dict(
        posterior={
            "mu": 10.0 * np.arange(8.0)[None],
            "kind.low": np.full((1, 8), 0.5),
            "eta": np.full((1, 8, 6, 1), 0.25),
            "subpopulation": np.where(high, "high", "low"),
        },
        coords={"subject": list(population.ids), "random_effect": ["mu"]},
        dims={"eta": ["subject", "random_effect"], "subpopulation": ["subject"]},
        attrs={"data_hash": population.hash},
    )
    found = nlme.simulate(TwoKinds(), population, key=5, replicates=8, uncertainty=posterior, noise=False)
    level = found.groupby(["REPLICATE", "ID"])["DV"].first().unstack().to_numpy()
    draw = (found.parameters["mu"].to_numpy() / 10).astype(int)
    assert sorted(draw) == list(range(8))
    np.testing.assert_allclose(level, 10.0 * draw[:, None] + 0.25 + 3.0 * high[0, draw])
    after = nlme.predictive(TwoKinds(), population, posterior=posterior, draws=8, key=1)
    assert after.posterior_predictive["DV"].shape == (1, 8, 18)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("boot", "uncertainty is None"),
        (3, "uncertainty is None"),
        (pd.DataFrame({"clx": [1.0, 2.0]}), "Did you mean 'cl'"),
        (pd.DataFrame({"cl": [1.0]}), "at least two"),
        (pd.DataFrame({"cl": [1.0, -2.0]}), "cl = -2"),
        (pd.DataFrame({"omega.cl": [0.1, -0.2]}), "not positive definite"),
    ],
)
def test_what_is_no_uncertainty_is_said(given, says):
    fit = nlme.evaluate(OneCompartment(), people(3, (1.0, 4.0))[0], nlme.FO())
    with pytest.raises(nlme.FitError, match=says):
        nlme.simulate(fit, key=1, uncertainty=given, eta="new", replicates=2)


def test_a_bootstrap_of_another_fit_is_refused():
    """One that held a parameter has no draws of it."""
    own = nlme.fit(OneCompartment(), people(8, (1.0, 4.0, 10.0))[0], nlme.FO(), tolerance=1e-2, progress=False)
    other = SimpleNamespace(inventory=Inventory(own.model, ["cl"]), model=own.model, objective=own.objective)
    draws = pd.DataFrame({"v": [40.0, 50.0]})
    with pytest.raises(nlme.FitError, match="of another fit(.|\n)*cl estimated in one of them alone"):
        nlme.simulate(own, key=1, eta="typical", uncertainty=SimpleNamespace(draws=draws, fit=other, words="bootstrap"))
    found = nlme.simulate(
        own, key=1, eta="typical", replicates=2, uncertainty=SimpleNamespace(draws=draws, fit=own, words="bootstrap")
    )
    assert set(found.parameters["v"]) == {40.0, 50.0}


@pytest.mark.slow
def test_a_covariance_that_is_missing_is_said(fit):
    with pytest.raises(nlme.FitError, match="needs a fit"):
        nlme.simulate(fit.model, fit.population, key=1, uncertainty="covariance", eta="new")
    few = nlme.evaluate(OneCompartment(), fit.population[:2])
    with pytest.raises(nlme.FitError, match="has no covariance of its estimates(.|\n)*bootstrap"):
        nlme.simulate(few, key=1, uncertainty="covariance", eta="new")
