"""The same people under other regimens: exact differences, draws that are the people's own distribution, intervals that cover the truth."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from one_compartment_people import OneCompartment, people

import nlme
from nlme.parameters.draws import Drawn
from nlme.parameters.inventory import Inventory
from nlme.simulation.individual_draws import individual_draws, modes_at


class Level(nlme.Model):
    """y = mu + eta + error: everything about eta given the data is known in closed form."""

    mu: nlme.Scalar = nlme.real(1.0)
    omega: nlme.Covariance = nlme.covariance(level=0.5)
    sd: nlme.Scalar = nlme.positive(0.6)

    def individual(self, eta, cov):
        return dict(level=self.mu + eta.level)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


@pytest.fixture(scope="module")
def level():
    random = np.random.default_rng(1)
    rows = [{"ID": i, "TIME": float(t), "DV": 1.0 + random.normal()} for i in range(1, 5) for t in range(3)]
    return nlme.evaluate(Level(), nlme.read_nonmem(pd.DataFrame(rows)))


@pytest.fixture(scope="module")
def fitted():
    population, _ = people(12)
    return nlme.evaluate(OneCompartment(), population)


@pytest.fixture(scope="module")
def of_a_moment():
    """What is refused needs no modes."""
    return nlme.evaluate(OneCompartment(), people(12)[0], nlme.FO())


def _exact(fit, mu=1.0, omega=0.5, sd=0.6):
    """Mean and variance of eta given y, in closed form."""
    y = np.array([s.dv for s in fit.population])
    precision = 1 / omega + y.shape[1] / sd**2
    return (y - mu).sum(axis=1) / sd**2 / precision, 1 / precision


@pytest.mark.slow
def test_draws_are_the_normal_distribution_that_a_linear_model_has(level):
    import jax

    found = individual_draws(level, 4000, jax.random.key(1))
    mean, variance = _exact(level)
    eta = found.eta[..., 0]
    assert found.eta.shape == (4000, 4, 1)
    assert np.all(np.abs(eta.mean(axis=0) - mean) < 5 * np.sqrt(variance / 4000))
    assert np.all(np.abs(eta.var(axis=0) / variance - 1) < 0.15)


@pytest.mark.slow
def test_modes_and_draws_follow_the_parameters_of_each_draw(level):
    """At mu = 3 a linear model's mode is its mean there; draws given drawn parameters have the mixed variance."""
    import jax

    mus = np.array([1.0, 3.0])
    modes, said = modes_at(level, Drawn(_inventory(level, "mu"), jnp.asarray(mus[:, None])))
    assert not said
    for r, mu in enumerate(mus):
        assert np.allclose(modes[r, :, 0], _exact(level, mu)[0], atol=1e-8)
    spread = np.random.default_rng(2).normal(1.0, 0.5, 2000)
    found = individual_draws(level, 2000, jax.random.key(3), Drawn(_inventory(level, "mu"), jnp.asarray(spread[:, None])))
    mean, variance = _exact(level)
    slope = -3 / 0.6**2 * variance  # of the mean in mu
    assert np.all(np.abs(found.eta[..., 0].var(axis=0) / (variance + slope**2 * 0.25) - 1) < 0.2)


def _inventory(fit, *free):
    return Inventory(fit.model, [name for name in Inventory(fit.model).all_names if name not in free])


@pytest.mark.slow
def test_twice_the_dose_is_exactly_twice_the_exposure(fitted):
    found = nlme.counterfactual(
        fitted, {"double": nlme.dose(200)}, times=np.linspace(0, 24, 25), key=1, draws=8, measures=["auc", ("time_above", 1.0)]
    )
    ratio = found.persons.xs(("double", "auc"))
    assert np.allclose(ratio[["ratio", "ratio.lower", "ratio.upper"]], 2.0, rtol=1e-12)
    assert np.allclose(ratio["difference"], ratio["baseline"], rtol=1e-12)
    assert found.population.loc[("double", "auc"), "ratio"] == pytest.approx(2.0, rel=1e-12)
    assert found.extrapolates is None and "Counterfactual" in repr(found)
    assert set(found.courses["SCENARIO"]) == {"baseline", "double"} and len(found.draws) == 8 * 12 * 2


@pytest.mark.slow
def test_the_same_doses_make_no_difference_whatever_is_drawn(fitted):
    options = dict(times=np.linspace(0, 24, 25), key=1, draws=8, measures=["auc"], uncertainty=_spread(fitted))
    found = nlme.counterfactual(fitted, nlme.dose(100), **options)
    assert (found.persons[["difference.lower", "difference.upper"]] == 0).all().all()
    assert found.draws.groupby("ID")["auc"].nunique().min() > 8 / 2


def _spread(fit):
    random = np.random.default_rng(4)
    return pd.DataFrame({"cl": 5 * np.exp(0.1 * random.normal(size=20)), "prop": 0.2 * np.exp(0.1 * random.normal(size=20))})


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f: nlme.counterfactual(f.model, nlme.dose(1), times=[0, 1], key=1), "takes a fit"),
        (lambda f: nlme.counterfactual(f, {}, times=[0, 1], key=1), "has none"),
        (lambda f: nlme.counterfactual(f, nlme.dose(1), times=[0, 1], key=1, individuals="mean"), "'draws' or 'mode'"),
        (
            lambda f: nlme.counterfactual(f, nlme.dose(1), times=[0, 1], key=1, interval=(0, 24), individuals="mode"),
            "not covered",
        ),
        (lambda f: nlme.counterfactual(f, f.population[:3], times=[0, 1], key=1), "people of the fit"),
        (lambda f: nlme.counterfactual(f, nlme.dose(1), times=[0, 1], key=1, measures=["aucc"]), "Did you mean 'auc'"),
        (lambda f: nlme.counterfactual(f, nlme.dose(1), times=[0, 1], key=1, endpoint="cp"), "No endpoint"),
        (lambda f: nlme.counterfactual(f, nlme.dose(1), times=[0, 1], key=1, draws=1), "at least 2"),
    ],
)
def test_what_cannot_be_compared_is_said(of_a_moment, call, says):
    with pytest.raises(nlme.NLMEError, match=says):
        call(of_a_moment)


@pytest.mark.slow
def test_intervals_cover_the_truth_and_the_mode_alone_does_not():
    """200 people, four samples each: 90 % intervals of the paired difference in AUC and trough hold 85 to 95 % of the true ones."""
    population, eta = people(200, (1.0, 4.0, 10.0, 20.0), seed=7)
    fit = nlme.fit(OneCompartment(), population, progress=False)
    regimen, times = nlme.dose(150).every(12, n=4), np.linspace(0, 48, 97)
    measures = {"auc": ("auc", 24, 48), "trough": ("ctrough", 24, 48)}
    truth = {}
    for name, doses in (("baseline", None), ("value", regimen)):
        design = (population if doses is None else population.with_doses(doses)).with_times(times)
        frame = nlme.simulate(OneCompartment(), design, eta=eta, key=1, noise=False)
        truth[name] = nlme.exposure(frame, measures).frame.set_index("ID")
    covered = {}
    for how in ("draws", "mode"):
        found = nlme.counterfactual(
            fit, regimen, times=times, key=2, draws=400, measures=measures, uncertainty="covariance", individuals=how
        )
        for measure in measures:
            table, true = found.persons.xs(("scenario", measure)), truth["value"][measure] - truth["baseline"][measure]
            covered[how, measure] = float(((table["difference.lower"] <= true) & (true <= table["difference.upper"])).mean())
    for measure in measures:
        assert 0.85 <= covered["draws", measure] <= 0.95, covered
        assert covered["mode", measure] < 0.6, covered
