"""Profile likelihood and importance resampling where the likelihood is known exactly."""

from __future__ import annotations

import numpy as np
import one_way
import pytest
from scipy.optimize import brentq

import nlme


@pytest.fixture(scope="module")
def population():
    return one_way.population_of(one_way.values())


@pytest.fixture(scope="module")
def fit(population):
    return nlme.fit(one_way.OneWay(), population, progress=False, tolerance=1e-10)


@pytest.fixture(scope="module")
def profile(fit):
    return nlme.profile(fit)


def _exact_interval(y, of, target=3.841458820694124):
    """Ends of the profile interval, ``of(value)`` the exact estimates (mu, w2, s2) with the parameter held."""
    best = one_way.objective(y, *one_way.estimates(y))
    return lambda low, high: brentq(lambda v: one_way.objective(y, *of(v)) - best - target, low, high, xtol=1e-12)


@pytest.mark.slow
def test_interval_of_the_mean(profile):
    y = one_way.values()
    exact, mu = _exact_interval(y, lambda v: one_way.estimates(y, mu=v)), y.mean()
    assert profile.intervals.loc["mu", "lower"] == pytest.approx(exact(mu - 3, mu), abs=1e-3)
    assert profile.intervals.loc["mu", "upper"] == pytest.approx(exact(mu, mu + 3), abs=1e-3)


def test_interval_of_the_residual_error(profile):
    """With s2 held, s2 + n w2 keeps its own estimate: the two parts of the likelihood do not meet."""
    y = one_way.values()
    mu, w2, s2 = one_way.estimates(y)
    total = s2 + one_way.EACH * w2
    exact = _exact_interval(y, lambda sd: (mu, (total - sd**2) / one_way.EACH, sd**2))
    assert profile.intervals.loc["sd", "lower"] == pytest.approx(exact(0.3 * s2**0.5, s2**0.5), rel=1e-3)
    assert profile.intervals.loc["sd", "upper"] == pytest.approx(exact(s2**0.5, 2 * s2**0.5), rel=1e-3)


def test_every_point_is_the_exact_profile(profile):
    y = one_way.values()
    best = one_way.objective(y, *one_way.estimates(y))
    points = profile.points.query("parameter == 'mu' and converged")
    assert len(points) >= 4
    for _, point in points.iterrows():
        exact = one_way.objective(y, *one_way.estimates(y, mu=point["value"])) - best
        assert point["increase"] == pytest.approx(exact, abs=1e-5)


def test_a_level_other_than_95(fit, profile):
    wider = nlme.profile(fit, "mu", level=0.99).intervals.loc["mu"]
    y = one_way.values()
    exact = _exact_interval(y, lambda v: one_way.estimates(y, mu=v), target=6.634896601021214)
    assert wider["upper"] == pytest.approx(exact(y.mean(), y.mean() + 5), abs=1e-3)


def test_a_variance_without_a_lower_limit_says_so():
    draw = np.random.default_rng(0)
    y = 10.0 + 0.3 * draw.standard_normal((one_way.N, 1)) + draw.standard_normal((one_way.N, one_way.EACH))
    fit = nlme.fit(one_way.OneWay(), one_way.population_of(y), progress=False)
    found = nlme.profile(fit, ["omega.mu"])
    assert found.intervals.loc["omega.mu", "lower"] == 0.0
    assert any("omega.mu has no lower limit" in message for message in found.messages)
    assert np.isfinite(found.intervals.loc["omega.mu", "upper"])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("muu", "Did you mean 'mu'"),
        ("omega", "No parameter named"),
        ([], "no parameter to profile"),
        (5, "No parameter named '5'"),
    ],
)
def test_unknown_parameters_are_named(fit, name, sentence):
    with pytest.raises(nlme.FitError, match=sentence):
        nlme.profile(fit, name)


@pytest.mark.slow
def test_sir_of_a_normal_likelihood_keeps_every_proposal(population):
    """With the mean alone estimated the likelihood is normal, and so is the proposal: all weights are equal."""
    fit = nlme.fit(one_way.OneWay(omega={"mu": 2.0}), population, fixed=["omega", "sd"], progress=False)
    found = nlme.sir(fit, 400, 200, key=1)
    assert found.effective == pytest.approx(400, rel=1e-3)
    exact = np.sqrt((2.0 + 1.0 / one_way.EACH) / one_way.N)
    assert found.proposed.std() == pytest.approx(exact, rel=0.1)
    assert len(np.unique(found.chosen)) == 200


@pytest.mark.slow
def test_sir_weights_are_the_likelihood(fit):
    """Weighted proposals against the same integrals on a grid."""
    found = nlme.sir(fit, 4000, 500, key=2, inflation=1.5)
    y = one_way.values()
    mu, w2, s2 = one_way.estimates(y)
    w = np.linspace(1e-4, 25 * w2, 1200)
    sd = np.sqrt(s2) * np.linspace(0.5, 2.0, 201)
    grid_w, grid_s = np.meshgrid(w, sd, indexing="ij")
    n, means = one_way.EACH, y.mean(axis=1)
    within, total = ((y - means[:, None]) ** 2).sum(), grid_s**2 + n * grid_w
    # mu integrated out: a normal integral of variance total / (n N)
    log_l = -0.5 * (
        one_way.N * (n - 1) * np.log(grid_s**2) + within / grid_s**2
        + (one_way.N - 1) * np.log(total) + n * ((means - mu) ** 2).sum() / total
    )  # fmt: skip
    p = np.exp(log_l - log_l.max())
    mean_sd = float((p * grid_s).sum() / p.sum())
    assert found.weights @ found.proposed[:, 2] == pytest.approx(mean_sd, rel=0.01)
    assert found.effective > 800
    assert "effective" in repr(found)


def test_sir_refuses_more_resamples_than_samples(fit):
    with pytest.raises(nlme.FitError, match="resamples=30"):
        nlme.sir(fit, 20, 30, key=1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 100.5}, "samples is a whole number"),
        ({"resamples": "a"}, "resamples is a whole"),
        ({"inflation": "a"}, "positive factor"),
    ],
)
def test_sir_asks_for_numbers(fit, options, sentence):
    with pytest.raises(nlme.NLMEError, match=sentence):
        nlme.sir(fit, key=1, **options)


def test_profile_in_tables(fit, profile):
    assert profile.to_csv().splitlines()[0] == "parameter,estimate,lower,upper" and "3.84" in profile.to_markdown()
    shown = nlme.table(fit, intervals=profile)
    np.testing.assert_array_equal(shown[["lower", "upper"]], profile.intervals[["lower", "upper"]])
    assert shown["se"].notna().all() and "profile likelihood, where the objective has risen by 3.84" in " ".join(shown.notes)
    with pytest.raises(nlme.FitError, match="95 % intervals; for 90 % profile again"):
        nlme.table(fit, intervals=profile, level=0.9)


@pytest.mark.slow
def test_resampled_vectors_in_tables(fit):
    found = nlme.sir(fit, 200, 80, key=1)
    shown = nlme.table(fit, intervals=found)
    np.testing.assert_array_equal(shown[["lower", "upper"]], found.interval())
    assert (
        "percentiles of 80 of 200 vectors" in " ".join(shown.notes) and "omega.mu" in found.to_html() and "SE" in found.to_csv()
    )
