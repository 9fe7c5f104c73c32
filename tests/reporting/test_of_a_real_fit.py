"""Table, curves and page of a real fit: theophylline, FOCEI, combined error."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme import Scalar, datasets
from nlme.plots.curves import fine_curves

pytestmark = pytest.mark.slow


class Theophylline(nlme.Model):
    """Theophylline after one oral dose."""

    ka: Scalar = nlme.positive(1.5, unit="1/h", label="Absorption rate")
    cl: Scalar = nlme.positive(2.8, unit="L/h", label="Clearance")
    v: Scalar = nlme.positive(32.0, unit="L", label="Volume")
    omega: nlme.Covariance = nlme.covariance(ka=0.4, cl=0.07, v=0.02)
    add: Scalar = nlme.positive(0.3, unit="mg/L")
    prop: Scalar = nlme.positive(0.13)

    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), cl=self.cl * jnp.exp(eta.cl), v=self.v + 10 * eta.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(Theophylline(), datasets.load("theophylline"), nlme.FOCEI(), fixed=["prop"])


def test_the_table_says_what_the_fit_found(fit):
    table = nlme.table(fit)
    assert list(table.index) == ["ka", "cl", "v", "omega.ka", "omega.cl", "omega.v", "add", "prop"]
    np.testing.assert_array_equal(table["estimate"], [row.value for row in fit.parameters])
    assert table.loc["cl", "estimate"] == float(fit.model.cl)
    assert table["fixed"].tolist() == [False] * 7 + [True]
    np.testing.assert_array_equal(table["se"].dropna(), fit.covariance.standard_errors)
    # ka and cl enter as exp(eta); v as an addition, which has no coefficient of variation
    omega = np.diagonal(np.asarray(fit.model.omega.matrix))
    np.testing.assert_allclose(table.loc[["omega.ka", "omega.cl"], "cv_percent"], 100 * np.sqrt(np.expm1(omega[:2])), rtol=1e-12)
    assert np.isnan(table.loc["omega.v", "cv_percent"])
    np.testing.assert_allclose(table.loc[["omega.ka", "omega.cl", "omega.v"], "sd"], np.sqrt(omega), rtol=1e-12)
    assert table.loc["omega.v", "shrinkage_percent"] == fit.shrinkage["v"]


def test_the_curves_pass_through_the_predictions(fit):
    curves = fine_curves(fit, fit.population)["conc"]
    joined = fit.predictions.merge(curves, on=["ID", "TIME"], suffixes=("", "_curve"))
    assert len(joined) >= len(fit.predictions)
    # a sample at the time of the dose stands before it in these data, on the grid after it: both are zero here
    np.testing.assert_allclose(joined["IPRED_curve"], joined["IPRED"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(joined["PRED_curve"], joined["PRED"], rtol=1e-8, atol=1e-10)


def test_the_page_is_written(fit, tmp_path):
    page = nlme.report(fit, tmp_path / "theophylline.html", units={"dose": "mg"}).read_text(encoding="utf-8")
    assert f"{fit.objective:.3f}" in page
    for heading in (
        "Parameters",
        "Goodness of fit",
        "Individual fits",
        "Random effects and covariates",
        "The model",
        "To do it again",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "nlme.datasets: theophylline" in page and "12 (amount 267.8 to 320.6 mg)" in page and fit.date in page
    assert "cannot be shown" not in page
    assert "def individual(self, eta, cov)" in page and fit.data_hash in page


def test_the_page_of_given_values_has_no_search_and_no_errors(fit, tmp_path):
    at = nlme.evaluate(fit.model, fit.population, fit.method, fixed=["prop"])
    page = nlme.report(at, tmp_path / "x.html", max_subjects=1).read_text(encoding="utf-8")
    assert "Evaluated at the values given; nothing was estimated." in page and "cannot be shown" not in page
    assert "<h2>The search</h2>" not in page and "<h2>Precision" not in page and "<h2>Goodness of fit</h2>" in page
    shown = nlme.table(at)
    assert "Values as given" in repr(shown) and shown["se"].isna().all() and "Value" in shown.display()
    np.testing.assert_array_equal(shown["estimate"], nlme.table(fit)["estimate"])


@pytest.mark.slow
def test_predictive_checks_are_a_section_by_option(fit, tmp_path):
    page = nlme.report(fit, tmp_path / "with.html", max_subjects=1, checks=50).read_text(encoding="utf-8")
    assert '<section id="checks">' in page and "50 simulated data sets (key 1)" in page and "cannot be shown" not in page
    assert '<section id="checks">' not in nlme.report(fit, tmp_path / "without.html", max_subjects=1).read_text(encoding="utf-8")
