"""Searches that run off below the minimum that is found, and covariances of which no data speak."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme


class Late(nlme.Model):
    """Nothing is there before half an hour."""

    A: nlme.Scalar = nlme.positive(10.0)
    k: nlme.Scalar = nlme.positive(0.2)
    add: nlme.Scalar = nlme.positive(0.1)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(A=self.A, k=self.k)

    def observe(self, ind, state, t):
        return {"y": nlme.combined(jnp.where(t > 0.5, ind.A * jnp.exp(-ind.k * t), 0.0), self.add, self.prop)}


def late(seed: int) -> nlme.Population:
    """Eight people, each with two zeros; the other values vary between people more than the model knows."""
    random, times = np.random.default_rng(seed), np.array([0.0, 0.25, 1.0, 2.0, 4.0, 8.0])
    subjects = []
    for i in range(8):
        c = 10 * np.exp(0.3 * random.normal()) * np.exp(-0.2 * times) * (times > 0.5)
        y = c * (1 + 0.1 * random.normal(size=6)) + 0.05 * random.normal(size=6) * (times > 0.5)
        subjects.append(nlme.Subject(i + 1, times, dv=y))
    return nlme.Population(tuple(subjects))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 5, 20, 21])
def test_one_stray_is_no_minimum(seed):
    """Sixteen zeros are predicted as zeros: the objective falls by 32 log 10 for each tenfold of add, and nearly every search goes there."""
    fit = nlme.fit(Late(), late(seed), nlme.NaivePooled(), progress=False)
    assert not fit.converged and fit.unbounded == {"add": 16} and "has no maximum: 16 observations of 0" in fit.verdict


class Groups(nlme.Model):
    a: nlme.Scalar = nlme.real(10.0)
    b: nlme.Scalar = nlme.real(5.0)
    omega: nlme.Covariance = nlme.covariance(("a", "b"), [[1.0], [0.1, 1.0]])
    sd: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(a=self.a + eta.a, b=self.b + eta.b)

    def observe(self, ind, state, t):
        return {"y1": nlme.additive(ind.a, self.sd), "y2": nlme.additive(ind.b, self.sd)}


def groups(both: int) -> nlme.Population:
    """Parallel groups, one of each endpoint, and so many people with both."""
    random, subjects = np.random.default_rng(0), []
    for i in range(24 + both):
        seen = (0, 1) if i >= 24 else (i // 12,)
        eta = random.normal(size=2)
        rows = [(t, k, (10.0, 5.0)[k] + eta[k] + 0.5 * random.normal()) for k in seen for t in (0.0, 1.0, 2.0)]
        rows.sort()
        time, endpoint, dv = map(np.array, zip(*rows, strict=True))
        subjects.append(nlme.Subject(i + 1, time, dv=dv, endpoint=endpoint))
    return nlme.Population(tuple(subjects), ("y1", "y2"))


def test_a_covariance_of_which_no_data_speak():
    """The likelihood of parallel groups does not know it: the objective is the same at every correlation."""
    population = groups(both=0)
    values = [nlme.evaluate(Groups(omega=[[1.0, c], [c, 1.0]]), population, nlme.FO()).objective for c in (-0.9, 0.0, 0.5)]
    np.testing.assert_allclose(values, values[0], rtol=1e-12)
    for method in (nlme.FO(), nlme.FOCEI()):
        fit = nlme.fit(Groups(), population, method, progress=False)
        assert not fit.converged and "Nothing depends on omega.b,a" in fit.verdict and "omega.b,a" not in fit.at_bounds
        assert np.isnan(fit.covariance.standard_errors["omega.b,a"]) and np.isfinite(fit.covariance.standard_errors["omega.a"])
    known = nlme.fit(Groups(), groups(both=12), nlme.FO(), progress=False)
    assert known.converged and not known.undetermined_covariances and np.isfinite(known.covariance.standard_errors["omega.b,a"])
