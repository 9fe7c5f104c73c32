"""Comparison of fits: exact likelihood ratios, criteria by hand, and comparisons that are refused."""

from __future__ import annotations

import math

import numpy as np
import one_way
import pytest
from scipy.stats import chi2

import nlme
from nlme.uncertainty.compare import random_parameters


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


@pytest.fixture(scope="module")
def large(population):
    return nlme.fit(one_way.OneWay(), population, progress=False, tolerance=1e-10)


@pytest.fixture(scope="module")
def small(population):
    return nlme.fit(one_way.OneWay(mu=9.0), population, fixed="mu", progress=False, tolerance=1e-10)


@pytest.fixture(scope="module")
def comparison(large, small):
    return nlme.compare({"free": large, "at nine": small})


def test_the_likelihood_ratio_is_exact(comparison):
    y = one_way.values()
    exact = one_way.objective(y, *one_way.estimates(y, mu=9.0)) - one_way.objective(y, *one_way.estimates(y))
    (test,) = comparison.tests.to_dict("records")
    assert (test["smaller"], test["larger"], test["df"]) == ("at nine", "free", 1)
    assert test["difference"] == pytest.approx(exact, abs=1e-6)
    assert test["p"] == pytest.approx(chi2.sf(exact, 1), rel=1e-5)


def test_criteria(comparison):
    y = one_way.values()
    deviance = one_way.objective(y, *one_way.estimates(y)) + y.size * math.log(2 * math.pi)
    row = comparison.table.loc["free"]
    assert row["AIC"] == pytest.approx(deviance + 6, abs=1e-6)
    assert row["BIC"] == pytest.approx(deviance + 3 * math.log(y.size), abs=1e-6)
    # mu has a random effect and omega is one: they count subjects; the residual error counts observations
    assert row["BICc"] == pytest.approx(deviance + 2 * math.log(one_way.N) + math.log(y.size), abs=1e-6)
    assert comparison.table.index[0] == comparison.table["BICc"].idxmin()


def test_a_variance_at_zero_is_tested_against_half_a_chi_square(population, large):
    none = nlme.fit(one_way.OneWay(omega=np.array([[1e-30]])), population, fixed="omega", progress=False, tolerance=1e-10)
    (test,) = nlme.compare([large, none]).tests.to_dict("records")
    assert test["p"] == pytest.approx(0.5 * chi2.sf(test["difference"], 1), rel=1e-9)
    assert "at its bound" in test["note"]


def test_other_data_are_refused(large):
    other = nlme.fit(one_way.OneWay(), one_way.population_of(one_way.values(seed=4)), progress=False)
    with pytest.raises(nlme.FitError, match="different data"):
        nlme.compare([large, other])


@pytest.mark.slow
def test_other_methods_are_refused_unless_put_on_one_scale(population, large, small):
    by_fo = nlme.fit(one_way.OneWay(mu=9.0), population, nlme.FO(), fixed="mu", progress=False, tolerance=1e-10)
    with pytest.raises(nlme.FitError, match="different approximations"):
        nlme.compare({"a": large, "b": by_fo})
    table = nlme.compare({"a": large, "b": by_fo}, by=nlme.AGQ(points=3)).table
    assert table.loc["b", "objective"] == pytest.approx(small.objective, abs=1e-5)  # all are exact for this model


@pytest.mark.slow
def test_models_of_other_classes_are_nested_only_if_declared(population, large):
    class Shifted(one_way.OneWay):
        """The mean differs between the arms."""

        shift: nlme.Scalar = nlme.real(0.1)

        def individual(self, eta, cov):
            return dict(level=self.mu + self.shift * cov.arm + eta.mu)

    shifted = nlme.fit(Shifted(), population, progress=False)
    fits = {"one": large, "two": shifted}
    undeclared = nlme.compare(fits)
    assert not len(undeclared.tests) and "nested=" in repr(undeclared)
    assert nlme.compare(fits, nested=[("one", "two")]).tests["df"].tolist() == [1]
    with pytest.raises(nlme.FitError, match="smaller model comes first"):
        nlme.compare(fits, nested=[("two", "one")])
    with pytest.raises(nlme.FitError, match="No fit named 'three'"):
        nlme.compare(fits, nested=[("one", "three")])


def test_one_fit_is_no_comparison(large):
    with pytest.raises(nlme.FitError, match="at least two"):
        nlme.compare([large])
    with pytest.raises(nlme.FitError, match="at least two fits, in a list"):
        nlme.compare(large)
    with pytest.raises(nlme.FitError, match="pairs of names"):
        nlme.compare({"a": large, "b": large}, nested=["ab"])


def test_both_tables_in_every_format(comparison, tmp_path):
    for form in ("markdown", "html", "latex", "rtf"):
        text = getattr(comparison, f"to_{form}")(tmp_path / form)
        assert text.count("at nine") >= 2 and "BICc" in text and "chi" not in text
    assert comparison.to_csv().splitlines()[0].startswith("fit,objective,parameters,AIC")
    strange = nlme.uncertainty.compare.Comparison(comparison.table.rename(index={"free": "=1+1"}), comparison.tests, ["$ & _"])
    assert "'=1+1" in strange.to_csv() and r"\$ \& \_" in strange.to_latex() and "&amp; _" in strange.to_html()


class Visits(nlme.Model):
    """Two kinds of subjects, each with a level of its own that differs between visits; the slope differs between none."""

    low: nlme.Scalar = nlme.real(8.0)
    high: nlme.Scalar = nlme.real(12.0)
    slope: nlme.Scalar = nlme.real(0.1)
    kind: nlme.Mixture = nlme.mixture(low=0.4, high=0.6)
    omega: nlme.Covariance = nlme.covariance(level=1.0)
    visits: nlme.Covariance = nlme.covariance(visit=0.5, per="occasion")
    sd: nlme.Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(level=self.kind.choose(low=self.low, high=self.high) + eta.level + eta.visit, slope=self.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


@pytest.mark.slow
def test_parameters_with_random_effects_are_known_with_occasions_and_subpopulations():
    subjects = tuple(
        nlme.Subject(id=i + 1, time=np.arange(4.0), dv=row, occasion=np.array([1, 1, 2, 2]))
        for i, row in enumerate(one_way.values())
    )
    found = nlme.evaluate(Visits(), nlme.Population(subjects, ("y",)), nlme.FO())
    random = {name for name, yes in zip(found.inventory.names, random_parameters(found), strict=True) if yes}
    assert {"low", "high", "omega.level", "visits.visit"} <= random and not {"slope", "sd"} & random
