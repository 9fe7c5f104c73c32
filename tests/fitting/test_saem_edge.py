"""Where the covariance of the random effects is nearly singular SAEM is finished by a search with the gradient; the optimum of a linear
model, whose likelihood FOCEI has exactly, is the oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.fitting.saem.edge import FINISHED
from nlme.search.quasi_newton import UNDETERMINED

CLOSE = 0.02  # above the minimum: what 1000 draws of a subject leave


class Lines(nlme.Model):
    a: nlme.Scalar = nlme.real(10.0)
    b: nlme.Scalar = nlme.real(-1.0)
    c: nlme.Scalar = nlme.real(0.0)
    d: nlme.Scalar = nlme.real(0.0)
    omega: nlme.Covariance = nlme.covariance(("a", "b"), [[1.0], [0.0, 0.1]])
    sd: nlme.Scalar = nlme.positive(1.0)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(a=self.a + self.c * cov.x + eta.a, b=self.b + self.d * cov.x + eta.b)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b * t, self.sd)}


class Apart(Lines):
    omega: nlme.Covariance = nlme.covariance(a=1.0, b=0.1)


class Sum(Lines):
    """Two random effects that only appear as a sum: not at an edge."""

    omega: nlme.Covariance = nlme.covariance(a=1.0, b=0.5)

    def individual(self, eta, cov):
        return dict(a=self.a + self.c * cov.x + eta.a + eta.b, b=self.b + self.d * cov.x)


def lines(seed, sd_of_slopes, correlation, n=20):
    random, rows = np.random.default_rng(seed), []
    covariance = 1.5 * sd_of_slopes * correlation
    for i in range(n):
        a, b = random.multivariate_normal([0, 0], [[1.5**2, covariance], [covariance, sd_of_slopes**2]])
        x = i % 4 - 1.5
        for t in (0, 1, 2, 4, 6):
            y = 10 + a + 0.4 * x + (b - 0.8 + 0.1 * x) * t + 0.5 * random.normal()
            rows.append({"ID": i + 1, "TIME": t, "DV": y, "x": x, "EVID": 0})
    return nlme.read_nonmem(pd.DataFrame(rows), covariates=["x"])


@pytest.mark.parametrize(
    ("model", "sd", "correlation"),
    [(Lines(), 0.2, 0.6), pytest.param(Apart(), 1e-9, 0.0, marks=pytest.mark.slow), pytest.param(Lines(), 1e-9, 0.0, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_optimum_is_found_at_the_edge(model, sd, correlation):
    population = lines(1, sd, correlation)
    exact = nlme.fit(model, population, nlme.FOCEI(), progress=False)
    fit = nlme.fit(model, population, nlme.SAEM(), starts=0, progress=False)
    assert fit.converged and fit.undetermined == () and FINISHED in fit.training
    assert len(fit.history) <= 2200  # of 5,600
    above = nlme.evaluate(fit.model, population, nlme.FOCEI()).objective - exact.objective
    assert 0 <= above < CLOSE
    # the typical values around which nobody varies, too: complete data say all of them and the data nothing
    np.testing.assert_allclose(fit.estimates[["b", "d"]], exact.estimates[["b", "d"]], atol=2e-3)


@pytest.mark.slow
def test_a_sum_of_random_effects_is_no_edge():
    fit = nlme.fit(Sum(), lines(3, 0.0, 0.0, n=30), nlme.SAEM(), starts=0, progress=False)
    assert fit.search_status == UNDETERMINED and {frozenset(names) for names in fit.undetermined} == {
        frozenset({"omega.a", "omega.b"})
    }
