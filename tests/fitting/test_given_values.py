"""Values that were found elsewhere: their covariance, their table, and variances that are held at 0."""

from __future__ import annotations

import numpy as np
import one_way
import pytest

import nlme


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(one_way.OneWay(), population, progress=False, tolerance=1e-10)


@pytest.fixture(scope="module")
def at_zero(population):
    return nlme.evaluate(one_way.OneWay(mu=10.0, sd=1.2, omega={"mu": 0.0}), population)


def test_the_covariance_of_values_given_by_hand_is_that_of_a_fit(fit, population):
    at = nlme.evaluate(fit.model, population)
    np.testing.assert_allclose(at.covariance.standard_errors, fit.covariance.standard_errors, rtol=1e-6)
    assert at.covariance.kind == "sandwich" and list(at.covariance.names) == fit.inventory.names


def test_it_is_the_exact_information(population):
    """Of a balanced trial at its estimate: var(mu) = (s2 + n w2) / (N n), and s2 has 2 s2^2 / (N (n - 1)), so sd a quarter of that / s2."""
    mu, w2, s2 = one_way.estimates(one_way.values())
    at = nlme.evaluate(one_way.OneWay(mu=mu, sd=np.sqrt(s2), omega={"mu": w2}), population)
    errors = at.covariance.of_kind("R").standard_errors
    assert errors["mu"] == pytest.approx(np.sqrt((s2 + one_way.EACH * w2) / (one_way.N * one_way.EACH)), rel=1e-5)
    assert errors["sd"] == pytest.approx(np.sqrt(s2 / (2 * one_way.N * (one_way.EACH - 1))), rel=1e-5)


@pytest.mark.slow
def test_parameters_that_count_as_known_have_no_error(fit, population):
    at = nlme.evaluate(fit.model, population, fixed=["omega"])
    assert at.covariance.names == ("mu", "sd") and at.fixed == ("omega.mu",)
    r = fit.covariance.R.loc[["mu", "sd"], ["mu", "sd"]]
    np.testing.assert_allclose(at.covariance.of_kind("R").matrix, np.linalg.inv(r), rtol=1e-5, atol=1e-9)  # the other given
    with pytest.raises(nlme.ModelError, match="fixed=: No parameter named 'muu'"):
        nlme.evaluate(fit.model, population, fixed=["muu"])


def test_without_free_parameters_there_is_no_covariance(population):
    at = nlme.evaluate(one_way.OneWay(), population, fixed=["mu", "omega", "sd"])
    with pytest.raises(nlme.FitError, match="Every parameter is fixed"):
        at.covariance  # noqa: B018
    assert "nothing was estimated" in repr(nlme.table(at))


def test_estimates_by_name(fit):
    assert fit.estimates["mu"] == float(fit.model.mu) and fit.estimates["omega.mu"] == pytest.approx(
        float(fit.model.omega.matrix[0, 0])
    )
    assert list(fit.estimates.index) == [row.name for row in fit.parameters] and fit.estimates.name == "estimate"
    assert np.isfinite(fit.covariance.standard_errors / fit.estimates).all()


def test_pooled_data_have_no_covariance_of_random_effects(population):
    at = nlme.evaluate(one_way.OneWay(), population, nlme.NaivePooled())
    assert at.covariance.names == ("mu", "sd") and np.isfinite(at.covariance.of_kind("S").standard_errors).all()


@pytest.mark.slow
def test_few_subjects_have_no_sandwich(population):
    """The scores of 2 subjects do not span 3 parameters: S is singular and the sandwich is too small; R is what there is."""
    at = nlme.evaluate(one_way.OneWay(), population[:2])
    assert at.covariance.kind == "R" and np.linalg.matrix_rank(at.covariance.S) == 2
    assert nlme.evaluate(one_way.OneWay(), population[:2], fixed=["sd", "omega"]).covariance.kind == "sandwich"


def test_a_variance_held_at_zero_is_the_model_without_the_effect(at_zero, population):
    y = one_way.values()
    assert at_zero.fixed == ("omega.mu",)
    assert at_zero.objective == pytest.approx(one_way.objective(y, 10.0, 0.0, 1.44), abs=1e-8)
    assert np.all(at_zero.eta == 0.0) and np.isnan(at_zero.shrinkage["mu"])


def test_a_fit_with_a_variance_held_at_zero(fit, population):
    y = one_way.values()
    held = nlme.fit(one_way.OneWay(omega={"mu": 0.0}), population, fixed=["omega.mu"], progress=False, tolerance=1e-10)
    assert held.converged and held.estimates["omega.mu"] == 0.0 and held.covariance.names == ("mu", "sd")
    assert held.objective == pytest.approx(one_way.objective(y, y.mean(), 0.0, y.var()), abs=1e-6)
    (test,) = nlme.compare({"held": held, "free": fit}).tests.to_dict("records")
    assert test["smaller"] == "held" and "omega.mu is tested at its bound" in test["note"]
    row = nlme.table(held).loc["omega.mu"]
    assert row["fixed"] and row["estimate"] == row["sd"] == 0.0 and np.isnan(row["shrinkage_percent"])


def test_what_draws_effects_refuses_one_without_variance(population):
    none = one_way.OneWay(omega={"mu": 0.0})
    with pytest.raises(nlme.ModelError, match="SAEM draws random effects, and that of mu has variance 0"):
        nlme.fit(none, population, nlme.SAEM(), fixed=["omega.mu"], progress=False)
    with pytest.raises(nlme.ModelError, match="nlme.sample draws random effects"):
        nlme.sample(none, population, nlme.weakly_informative(none, ["omega.mu"]), key=1, fixed=["omega.mu"])
    with pytest.raises(nlme.ModelError, match="exactly 0"):
        nlme.fit(none, population, progress=False)


@pytest.mark.parametrize("what", [nlme.audit, nlme.bootstrap, nlme.profile, nlme.sir, nlme.multistart], ids=lambda f: f.__name__)
def test_what_moves_about_an_estimate_takes_a_fit(at_zero, what):
    options = {"key": 1} if what.__name__ in ("bootstrap", "sir", "multistart") else {}
    with pytest.raises(nlme.FitError, match=f"{what.__name__} takes a fit.*values were given and not estimated"):
        what(at_zero, **options)
    with pytest.raises(nlme.FitError, match="got OneWay"):
        what(at_zero.model, **options)


def test_a_result_at_the_end_of_what_numbers_hold_has_words_and_no_errors(fit):
    """A parameter that ran away: no traceback from linear algebra in residuals, covariance, table or audit."""
    import dataclasses

    far = dataclasses.replace(fit, model=one_way.OneWay(mu=1e300, sd=1e-300, omega={"mu": 1e250}))
    assert far.covariance.standard_errors.isna().all() and "No standard errors" in far.covariance.missing
    assert far.predictions["CWRES"].isna().all()
    assert "No standard errors" in repr(nlme.table(far)).replace("\n", " ") and "Obtained" not in " ".join(nlme.table(far).notes)
    assert repr(far.audit)
