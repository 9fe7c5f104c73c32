"""Forest and accumulated local effects against what they are in closed form."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.errors import FitError, ModelError
from nlme.learning.effects import Subjects


class Clearance(nlme.Model):
    """A power of weight, a factor for a category, and nothing of age."""

    covariates = ("wt", "sex", "age")
    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(10.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    sd: nlme.Scalar = nlme.positive(0.3)

    def individual(self, eta, cov):
        cl = self.cl * (cov.wt / 70.0) ** 0.75 * jnp.where(cov.sex == 1, 0.8, 1.0) + 0.0 * cov.age
        return dict(cl=cl * jnp.exp(eta.cl), v=self.v)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.cl * t / ind.v, self.sd)}


@pytest.fixture(scope="module")
def at():
    rng = np.random.default_rng(1)
    wt = rng.uniform(40, 100, 60)
    rows = [
        {"ID": i, "TIME": t, "DV": 1.0, "wt": wt[i], "sex": "fm"[i % 3 == 0], "age": 0.5 * wt[i] + (i * 37 % 11)}
        for i in range(60)
        for t in (1.0, 2.0)
    ]
    return nlme.evaluate(
        Clearance(), nlme.read_nonmem(pd.DataFrame(rows), covariates=["wt", "sex", "age"], categories={"sex": ["f", "m"]})
    )


def test_ratios_of_the_forest(at):
    wt = np.array([s.covariates["wt"][0] for s in at.population])
    table = nlme.covariate_effects(at).set_index(["parameter", "covariate", "level"]).sort_index()
    assert set(table.index.get_level_values(0)) == {"cl"}
    low, high = np.quantile(wt, (0.05, 0.95))
    ratios = table.loc[("cl", "wt")].ratio.to_numpy()
    np.testing.assert_allclose(np.sort(ratios), [(low / np.median(wt)) ** 0.75, (high / np.median(wt)) ** 0.75], rtol=1e-12)
    assert table.loc[("cl", "sex", "m")].ratio == pytest.approx(0.8)
    np.testing.assert_allclose(table.loc[("cl", "age")].ratio, 1.0)
    assert table.lower.isna().all()  # only evaluated: nothing is estimated


def test_intervals_of_ratios_are_those_of_their_parameters():
    """Of a power the log ratio is a multiple of the exponent, and its interval the exponent's, with the standard error of the table."""
    rng = np.random.default_rng(4)
    rows = [
        {"ID": i, "TIME": t, "DV": 2.0 * (wt / 70) ** 0.9 * np.exp(0.1 * eta) + 0.2 * rng.normal(), "wt": wt}
        for i, (wt, eta) in enumerate(zip(rng.uniform(40, 100, 30), rng.normal(size=30), strict=True))
        for t in (1.0, 2.0)
    ]

    class Power(nlme.Model):
        cl: nlme.Scalar = nlme.positive(2.0)
        exponent: nlme.Scalar = nlme.real(0.75)
        omega: nlme.Covariance = nlme.covariance(cl=0.02)
        sd: nlme.Scalar = nlme.positive(0.2)
        covariates = ("wt",)

        def individual(self, eta, cov):
            return dict(cl=self.cl * (cov.wt / 70.0) ** self.exponent * jnp.exp(eta.cl))

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.cl, self.sd)}

    fit = nlme.fit(Power(), nlme.read_nonmem(pd.DataFrame(rows), covariates=["wt"]), progress=False)
    table = nlme.covariate_effects(fit, confidence=0.9)
    wt = np.array([s.covariates["wt"][0] for s in fit.population])
    change = np.log(np.quantile(wt, (0.05, 0.95)) / np.median(wt))
    se = float(fit.covariance.standard_errors["exponent"])
    assert abs(se / float(fit.covariance.of_kind("R").standard_errors["exponent"]) - 1.0) > 0.01  # which can be told apart
    np.testing.assert_allclose(np.log(table.ratio), float(fit.model.exponent) * change, rtol=1e-10)
    np.testing.assert_allclose(np.log(table.upper / table.ratio), 1.6448536 * se * np.abs(change), rtol=1e-6)
    np.testing.assert_allclose(np.log(table.ratio / table.lower), 1.6448536 * se * np.abs(change), rtol=1e-6)
    with pytest.raises(FitError, match="confidence"):
        nlme.covariate_effects(fit, confidence=95)


def test_of_two_values_the_reference_has_one():
    """0 and 1, as many of each: somebody is 0, nobody 0.5; the ratio is the whole factor."""
    told = {
        "sex": np.array([0.0, 1.0, 1.0, 0.0]),
        "smokes": np.array([1.0, 1.0, 0.0, 1.0]),
        "wt": np.array([50.0, 60.0, 80.0, 90.0]),
    }
    people = Subjects(told, {}, {"wt": "kg"})
    assert people.reference == {"sex": 0.0, "smokes": 1.0, "wt": 70.0}
    assert people.levels("sex") == [("1", 1.0)] and people.levels("smokes") == [("0", 0.0)]
    assert [word for word, _ in people.levels("wt")] == ["51.5 kg (5th percentile)", "88.5 kg (95th percentile)"]


def test_accumulated_effects_are_the_function_itself_but_for_a_constant(at):
    table = nlme.accumulated_effects(at, "cl")
    own = table[table.covariate == "wt"]
    sexes = np.array([s.covariates["sex"][0] for s in at.population])
    factor = np.mean(np.where(sexes == 1, 0.8, 1.0))
    expected = 2.0 * (own.x / 70.0) ** 0.75
    slope = np.ptp(own.effect) / np.ptp(expected)
    assert slope == pytest.approx(factor, rel=0.03)  # which people stand in which interval
    np.testing.assert_allclose(own.effect - own.effect.mean(), slope * (expected - expected.mean()), atol=0.06)
    # correlated with weight, age changes nothing and is shown to change nothing
    np.testing.assert_allclose(table[table.covariate == "age"].effect, 0.0, atol=1e-12)


def test_steps_of_repeated_values_are_not_lost():
    """Few different values, many people: every step is that of the function."""
    rows = [
        {"ID": i, "TIME": 1.0, "DV": 1.0, "wt": (50.0, 60.0, 80.0)[i % 3 if i > 40 else 0], "sex": 0, "age": 1.0 + i}
        for i in range(60)
    ]
    at = nlme.evaluate(Clearance(), nlme.read_nonmem(pd.DataFrame(rows), covariates=["wt", "sex", "age"]))
    own = nlme.accumulated_effects(at, "cl").query("covariate == 'wt'")
    np.testing.assert_array_equal(own.x, [50.0, 60.0, 80.0])
    expected = 2.0 * (own.x / 70.0) ** 0.75
    np.testing.assert_allclose(np.diff(own.effect), np.diff(expected), rtol=1e-12)


def test_nobody_differs(at):
    """Where no covariate has numbers that differ, there is nothing to accumulate, and that is said."""
    alike = [
        dataclasses.replace(s, covariates=s.covariates | {n: 0.0 * s.covariates[n] + 1.0 for n in ("wt", "age")})
        for s in at.population
    ]
    constant = nlme.evaluate(at.model, dataclasses.replace(at.population, subjects=tuple(alike)))
    with pytest.raises(nlme.ModelError, match="none of the covariates .* has numbers that differ between subjects"):
        nlme.plots.accumulated(constant)


def test_pictures(at):
    figure = nlme.plots.forest(at)
    assert len(figure.axes) == 1 and [t.get_text() for t in figure.legends[0].get_texts()] == ["ratio", "0.8 to 1.25"]
    assert "wt 44.84 (5th percentile)" in [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert nlme.plots.accumulated(at).axes[0].get_xlabel() == "wt"


def test_refused(at):
    with pytest.raises(ModelError, match="'ka'"):
        nlme.covariate_effects(at, "ka")
    plain = type(
        "Plain",
        (Clearance,),
        {
            "covariates": (),
            "individual": lambda self, eta, cov: dict(cl=self.cl * jnp.exp(eta.cl), v=self.v),
            "__module__": __name__,
        },
    )
    with pytest.raises(ModelError, match="no covariates"):
        nlme.covariate_effects(nlme.evaluate(plain(), at.population))
