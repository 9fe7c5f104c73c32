"""Categories and counts: a logistic regression with a random intercept against R, extremes, several kinds at once, refusals."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from reference import case

import nlme
from nlme.observation.base import Record, log_density


class Toenail(nlme.Model):
    b0: nlme.Scalar = nlme.real(-1.0)
    b1: nlme.Scalar = nlme.real(-0.3)
    b2: nlme.Scalar = nlme.real(0.0)
    omega: nlme.Covariance = nlme.covariance(b=4.0)
    covariates = ("TRT",)

    def individual(self, eta, cov):
        return dict(b=self.b0 + eta.b, slope=self.b1 + self.b2 * cov.TRT)

    def observe(self, ind, state, t):
        return {"infected": nlme.binary(logit=ind.b + ind.slope * t)}


@pytest.mark.slow
def test_toenail_laplace_against_lme4():
    found = case("binary_toenail_glmm")
    reference, population = found.reference("A_Laplace"), nlme.read_nonmem(found.table(), covariates=["TRT"])
    b0, b1, b2, sd = (reference[name] for name in ("b0", "b1", "b2", "omega"))
    at = nlme.evaluate(Toenail(b0=b0, b1=b1, b2=b2, omega={"b": sd**2}), population, nlme.Laplace())
    assert at.objective == at.objective_full == pytest.approx(-2 * reference["logLik"], abs=1e-5)
    fit = nlme.fit(Toenail(), population, nlme.Laplace(), progress=False)
    assert fit.converged and fit.objective == pytest.approx(-2 * reference["logLik"], abs=1e-5)
    model = fit.model
    assert [model.b0, model.b1, model.b2, model.omega.sd[0]] == pytest.approx([b0, b1, b2, sd], rel=1e-3)
    assert fit.predictions.CWRES.isna().all()
    p = fit.predictions.IPRED
    assert -2 * np.where(fit.predictions.DV == 1, np.log(p), np.log1p(-p)).sum() < fit.objective


def _record(y):
    return Record(jnp.asarray(float(y)), jnp.zeros(()), jnp.asarray(jnp.nan))


def _log_p(model, y):
    return float(log_density(model.terms(_record(y))))


def test_extreme_logits_do_not_lose_their_logarithms():
    assert _log_p(nlme.binary(logit=800.0), 0) == pytest.approx(-800.0)
    assert _log_p(nlme.binary(logit=-800.0), 1) == pytest.approx(-800.0)
    far = nlme.ordered(logits=(-40.0, -41.0))
    assert _log_p(far, 1) == pytest.approx(-40.0 + np.log1p(-np.exp(-1.0)), rel=1e-12)
    assert _log_p(nlme.ordered(logits=(40.0, 39.0)), 0) == pytest.approx(-40.0, rel=1e-12)


@pytest.mark.parametrize("y", [0, 3, 40])
def test_without_dispersion_counts_are_poisson_counts(y):
    """To rounding, however near to it; log p differs by d (y^2 - y - 2 y m + m^2) / 2 at first order in the dispersion d."""
    from scipy.stats import nbinom

    mean = 1.5
    for d in (1e-4, 1e-8, 1e-12, 1e-16, 1e-20):
        slope = 0.5 * (y**2 - y - 2 * y * mean + mean**2)
        expected = _log_p(nlme.poisson(mean), y) + d * slope
        assert _log_p(nlme.negative_binomial(mean, d), y) == pytest.approx(expected, rel=1e-12, abs=2.0 * (d * (1 + y) ** 2) ** 2)
    for d in (0.008, 0.0101, 0.3, 5.0):  # both sides of where Stirling's series begins
        assert _log_p(nlme.negative_binomial(mean, d), y) == pytest.approx(nbinom.logpmf(y, 1 / d, 1 / (1 + d * mean)), rel=1e-11)
    slope = jax.grad(lambda d: log_density(nlme.negative_binomial(mean, d).terms(_record(y))))
    for d in (1e-12, 1e-3, 0.02):
        step = 1e-2 * d
        pair = [_log_p(nlme.negative_binomial(mean, d + sign * step), y) for sign in (1, -1)]
        if d > 1e-6:
            assert float(slope(d)) == pytest.approx((pair[0] - pair[1]) / (2 * step), rel=1e-3, abs=1e-6)
        else:
            assert d * float(slope(d)) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("probabilities", [(0.2, 0.2, 0.2), (0.9, 0.9, 0.9)])
def test_nothing_is_possible_under_probabilities_that_do_not_sum_to_one(probabilities):
    assert _log_p(nlme.ordered(probabilities=probabilities), 1) == -np.inf
    assert _log_p(nlme.ordered(probabilities=(0.1, 0.2, 0.7)), 1) == pytest.approx(np.log(0.2))


def test_one_cut_point_is_a_binary_observation():
    for y in (0, 1):
        assert _log_p(nlme.ordered(logits=(0.3,)), y) == pytest.approx(_log_p(nlme.binary(logit=0.3), y), abs=1e-14)


def test_little_dispersion_is_the_poisson_distribution():
    for y in (0, 3, 9):
        assert _log_p(nlme.negative_binomial(2.5, 1e-7), y) == pytest.approx(_log_p(nlme.poisson(2.5), y), abs=1e-5)


class Mixed(nlme.Model):
    """A concentration, a count that it drives and a grade, in one model."""

    k: nlme.Scalar = nlme.positive(0.4)
    rate: nlme.Scalar = nlme.positive(1.5)
    cut: nlme.Vector = nlme.positive([0.5, 0.8])
    add: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(k=0.1, rate=0.2)

    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k), rate=self.rate * jnp.exp(eta.rate))

    def observe(self, ind, state, t):
        conc = 3.0 * jnp.exp(-ind.k * t)
        return {
            "conc": nlme.additive(conc, self.add),
            "count": nlme.poisson(ind.rate * jnp.exp(-0.5 * conc)),
            "grade": nlme.ordered(logits=(conc - self.cut[0], conc - self.cut[0] - self.cut[1])),
        }


def _mixed(seed=5, n=6, **changes):
    rows = []
    for i in range(1, n + 1):
        rows += [(i, t, 1.0, kind) for t in (0.5, 2.0, 5.0) for kind in (1, 2, 3)]
    table = pd.DataFrame(rows, columns=["ID", "TIME", "DV", "DVID"])
    kinds = {1: "conc", 2: "count", 3: "grade"}
    drawn = nlme.simulate(Mixed(), nlme.read_nonmem(table, dvid=kinds), key=seed, eta="new")
    table["DV"] = drawn.DV.to_numpy()
    for (kind, row), value in changes.get("wrong", {}).items():
        table.loc[table.index[table.DVID == kind][row], "DV"] = value
    return nlme.read_nonmem(table, dvid=kinds)


@pytest.mark.slow
def test_endpoints_of_different_kinds_in_one_model():
    at = nlme.evaluate(Mixed(), _mixed(), nlme.Laplace())
    assert at.subjects.converged.all()
    table = at.predictions
    normal = (table.ENDPOINT == "conc").to_numpy()
    assert table.CWRES[normal].notna().all() and table.CWRES[~normal].isna().all()
    assert at.objective_full - at.objective == pytest.approx(normal.sum() * np.log(2 * np.pi))
    assert table.DV[table.ENDPOINT == "grade"].isin([0, 1, 2]).all()


@pytest.mark.slow
def test_values_that_the_distribution_cannot_take_are_named():
    with pytest.raises(
        nlme.DataError, match=r"1 observation is not a whole number 0 or above, .*'count' of Mixed is Poisson.* Row 5;.*2\.5"
    ):
        nlme.evaluate(Mixed(), _mixed(wrong={(2, 1): 2.5}), nlme.Laplace())
    with pytest.raises(nlme.DataError, match=r"2 observations are not a whole number 0 to 2, .*'grade'"):
        nlme.evaluate(Mixed(), _mixed(wrong={(3, 0): 3, (3, 4): -1}), nlme.Laplace())


def test_wrong_calls_are_refused_in_words():
    with pytest.raises(nlme.ModelError, match="one of the two"):
        nlme.binary()
    with pytest.raises(nlme.ModelError, match="one of the two"):
        nlme.binary(0.3, logit=0.2)
    with pytest.raises(nlme.ModelError, match="logits=.* or probabilities="):
        nlme.ordered()
    with pytest.raises(nlme.ModelError, match="at least two; got 1"):
        nlme.ordered(probabilities=(1.0,))
    with pytest.raises(nlme.ModelError, match=r"nlme\.loglik\(lambda y: \.\.\.\); got float"):
        nlme.loglik(0.3)
    with pytest.raises(nlme.ModelError, match="one number, log p.*shape \\(2,\\)"):
        nlme.loglik(lambda y: jnp.zeros(2)).parts()
    with pytest.raises(nlme.ModelError, match="without sample= cannot be simulated"):
        nlme.loglik(lambda y: -y).sample(0.0, None)
    with pytest.raises(nlme.ModelError, match="lower must be below upper"):
        nlme.logitnormal(0.5, 0.1, 1.0, 0.0)


@pytest.mark.parametrize("rate", [3.0, 2e5, 1e7, 1e9])
def test_drawn_counts_have_the_variance_and_skewness_of_poissons(rate):
    """JAX draws in single precision: from 1e6 on its variance is wrong by percents."""
    n = 200_000
    x = np.asarray(jax.vmap(lambda key: nlme.poisson(rate).sample(None, key))(jax.random.split(jax.random.key(1), n)))
    assert x.mean() == pytest.approx(rate, abs=5 * np.sqrt(rate / n)) and (x == np.round(x)).all()
    assert x.var() / rate == pytest.approx(1.0, abs=5 * np.sqrt((2 + 1 / rate) / n))
    assert np.mean((x - rate) ** 3) / rate**1.5 == pytest.approx(rate**-0.5, abs=5 * np.sqrt(15 / n))


def test_a_negative_binomial_without_dispersion_is_poisson():
    none, poisson = nlme.negative_binomial(1.5, 0.0), nlme.poisson(1.5)
    x = jax.vmap(lambda key: none.sample(None, key))(jax.random.split(jax.random.key(2), 20_000))
    assert float(x.min()) == 0.0 and float(x.var()) == pytest.approx(1.5, rel=0.05)
    for y in (0.0, 1.0, 4.0):
        record = Record(jnp.asarray(y), jnp.asarray(0.0), jnp.asarray(jnp.nan))
        assert float(log_density(none.terms(record))) == pytest.approx(float(log_density(poisson.terms(record))), rel=1e-12)
