"""What is said of a real parameter depends neither on the origin from which it is counted nor on a value that happens to be nothing."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

import nlme
from nlme import Scalar

N, n = 10, 3


class Mean(nlme.Model):
    """y = theta + eta + e."""

    theta: Scalar = nlme.real(1.0)
    sd: Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(a=0.8)

    def individual(self, eta, cov):
        return dict(a=self.theta + eta.a)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a, self.sd)}


class Switched(nlme.Model):
    """A switch at the time t0 of the clock, e / (1 + exp(-(t - t0) / 0.15))."""

    t0: Scalar = nlme.real(3.0, unit="h")
    size: Scalar = nlme.positive(4.0)
    sd: Scalar = nlme.positive(0.3)
    omega: nlme.Covariance = nlme.covariance(b=0.25)

    def individual(self, eta, cov):
        return dict(t0=self.t0, b=eta.b)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.b + self.size / (1 + jnp.exp(-(t - ind.t0) / 0.15)), self.sd)}


def fitted(model, y, times):
    rows = [(i + 1, t, y[i, j]) for i in range(len(y)) for j, t in enumerate(times)]
    return nlme.fit(model, nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV"])), starts=0, progress=False)


@pytest.fixture(scope="module")
def centred():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(N, 1)) * 0.9 + rng.normal(size=(N, n)) * 0.4
    return y - y.mean()


@pytest.fixture(scope="module")
def far(centred):
    return fitted(Mean(theta=4.0), centred + 5.0, np.arange(n))


@pytest.mark.parametrize(("origin", "start"), [(0.0, 1.0), (0.02, 1.0), (1e6, 1e6)])
def test_a_mean_that_is_nothing_beside_its_error_or_far_beyond_it(centred, far, origin, start):
    """Its error is exact, sqrt((omega + sd^2 / n) / N), its profile that from another origin, and it is determined."""
    fit = fitted(Mean(theta=start), centred + origin, np.arange(n))
    exact = np.sqrt((fit.estimates["omega.a"] + fit.estimates["sd"] ** 2 / n) / N)
    for kind in ("R", "sandwich"):
        assert fit.covariance.of_kind(kind).standard_errors["theta"] == pytest.approx(exact, rel=1e-4)
    own, other = nlme.profile(fit, "theta", progress=False), nlme.profile(far, "theta", progress=False)
    limits = [p.intervals.loc["theta", ["lower", "upper"]].to_numpy(float) for p in (own, other)]
    np.testing.assert_allclose(limits[0] - origin, limits[1] - 5.0, atol=2e-3)
    assert fit.verdict == "Converged; no problems found by the quick checks."
    (check,) = [c for c in nlme.audit(fit, samples=0, starts=0).checks if c.name == "exact gradient"]
    assert check.figure < 1e-4


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_a_mean_that_is_nothing_in_a_unit_in_which_all_numbers_are_large(centred, start):
    """Counts in 1/uL: the objective's slopes and curvature in it are small from the beginning on, and it has not run away."""
    unit = 2.5e5
    fit = fitted(Mean(theta=start, sd=0.4 * unit, omega={"a": 0.8 * unit**2}), (centred + 1e-4) * unit, np.arange(n))
    exact = np.sqrt((fit.estimates["omega.a"] + fit.estimates["sd"] ** 2 / n) / N)
    assert fit.covariance.standard_errors["theta"] == pytest.approx(exact, rel=1e-4)
    assert fit.estimates["theta"] == pytest.approx(1e-4 * unit, abs=1e-3 * exact)
    assert fit.verdict == "Converged; no problems found by the quick checks."


@pytest.mark.parametrize("origin", [400.0, 5000.0])
def test_a_time_on_a_clock_that_began_long_before(origin):
    """In the unit of its value the switch's error is 4e-5, and less."""
    rng = np.random.default_rng(3)
    times, b = np.arange(13) * 0.5, rng.normal(size=(12, 1)) * 0.5
    y = 4 / (1 + np.exp(-(times - 3) / 0.15)) + b + rng.normal(size=(12, 13)) * 0.3
    fits = [fitted(Switched(t0=3.0 + shift), y, times + shift) for shift in (0.0, origin)]
    for kind in ("R", "S", "sandwich"):
        errors = [fit.covariance.of_kind(kind).standard_errors for fit in fits]
        np.testing.assert_allclose(errors[1], errors[0], rtol=1e-4)


def test_the_only_parameter_has_a_profile(centred):
    """The others held, the objective is a parabola: +-1.96 sqrt((omega + sd^2 / n) / N)."""
    data = fitted(Mean(theta=4.0), centred + 5.0, np.arange(n)).population
    fit = nlme.fit(Mean(theta=4.0), data, fixed=["sd", "omega"], starts=0, progress=False)
    width = 1.959964 * np.sqrt((0.8 + 0.16 / n) / N)
    found = nlme.profile(fit, progress=False).intervals.loc["theta"]
    np.testing.assert_allclose([found["lower"], found["upper"]], [5.0 - width, 5.0 + width], rtol=1e-4)


def test_a_variance_at_its_bound_does_not_take_the_others_intervals():
    """Its own profile has one end, where the exact objective of the linear model has risen by 3.84; proposals of sir leave it there."""
    rng = np.random.default_rng(3)
    y = rng.normal(size=(12, 4)) * 0.4
    y = 4 + y - 0.8 * y.mean(axis=1, keepdims=True)
    fit = fitted(Mean(theta=4.0), y, np.arange(4))
    assert set(fit.covariance.held) == {"omega.a"}

    def least(omega):
        def of(sd2):
            return -2 * stats.multivariate_normal.logpdf(y, np.full(4, y.mean()), sd2 * np.eye(4) + omega).sum()

        return optimize.minimize_scalar(of, bounds=(0.01, 1.0), method="bounded", options={"xatol": 1e-10}).fun

    exact = optimize.brentq(lambda omega: least(omega) - least(0.0) - stats.chi2.ppf(0.95, 1), 1e-4, 1.0)
    found = nlme.profile(fit, progress=False)
    assert found.intervals.loc["omega.a", "lower"] == 0 and found.intervals.loc["omega.a", "upper"] == pytest.approx(
        exact, rel=1e-3
    )
    assert any("omega.a has no lower limit" in message for message in found.messages)
    drawn = nlme.sir(fit, 400, 100, key=1)
    assert drawn.standard_errors.isna().to_dict() == {"theta": False, "sd": False, "omega.a": True}
    assert drawn.interval().loc["omega.a"].isna().all() and (drawn.draws["omega.a"] == fit.estimates["omega.a"]).all()
    np.testing.assert_allclose(
        drawn.interval().loc["theta"], found.intervals.loc["theta", ["lower", "upper"]].astype(float), atol=0.03
    )
    assert "omega.a at a bound" in str(drawn)
