"""Priors in the coordinates of the sampler: the density of u is scipy's on the natural scale times the Jacobian, with mass one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from scipy.integrate import quad

import nlme
from nlme.parameters.priors import Priors, weakly_informative


class One(nlme.Model):
    k: nlme.Scalar = nlme.positive(1.5)


class Line(nlme.Model):
    k: nlme.Scalar = nlme.real(1.5)


class Share(nlme.Model):
    k: nlme.Scalar = nlme.probability(0.4)


class Spread(nlme.Model):
    omega: nlme.Covariance = nlme.covariance(cl=0.25)


class Pair(nlme.Model):
    omega: nlme.Covariance = nlme.covariance(cl=0.25, v=0.09, correlation={("cl", "v"): 0.3})


# what its name says -> (model, priors, log density on the natural scale by scipy, natural value and log |d value / du| at u)
CUT = stats.norm.logsf(0.0, 1.0, 2.0)
ROWS = {
    "log-normal": (One, {"k": dist.LogNormal(0.2, 0.5)}, stats.lognorm(0.5, scale=np.exp(0.2)).logpdf, 0.0),
    "gamma": (One, {"k": dist.Gamma(3.0, 2.0)}, stats.gamma(3.0, scale=0.5).logpdf, 0.0),
    "normal": (Line, {"k": dist.Normal(1.0, 2.0)}, stats.norm(1.0, 2.0).logpdf, 0.0),
    "normal cut off at zero": (One, {"k": dist.Normal(1.0, 2.0)}, stats.norm(1.0, 2.0).logpdf, CUT),
    "beta": (Share, {"k": dist.Beta(2.0, 3.0)}, stats.beta(2.0, 3.0).logpdf, 0.0),
    "uniform": (One, {"k": dist.Uniform(0.5, 4.0)}, stats.uniform(0.5, 3.5).logpdf, 0.0),
    "standard deviation": (Spread, {"omega.sd": dist.HalfNormal(0.7)}, stats.halfnorm(scale=0.7).logpdf, 0.0),
    "standard deviation by name": (Spread, {"omega.sd.cl": dist.HalfNormal(0.7)}, stats.halfnorm(scale=0.7).logpdf, 0.0),
    "variance": (Spread, {"omega.cl": dist.InverseGamma(3.0, 0.4)}, stats.invgamma(3.0, scale=0.4).logpdf, 0.0),
}


def natural(row: str, model) -> float:
    if row == "variance":
        return float(model.omega.sd[0] ** 2)
    return float(model.omega.sd[0]) if "deviation" in row else float(model.k)


@pytest.mark.parametrize("row", ROWS)
def test_density_with_change_of_variables(row):
    """By numpy: the value at u, its slope by central difference, scipy's density; then the mass over the whole line."""
    form, given, log_density, mass = ROWS[row]
    priors = Priors(form(), given)
    assert priors.size == 1
    at = jax.jit(priors.model_and_density)
    start = priors.unconstrained(form())
    np.testing.assert_allclose(natural(row, at(start)[0]), natural(row, form()), rtol=1e-12)
    for u in (-1.5, -0.2, 0.4, 1.1):
        model, found = at(jnp.asarray([u]))
        h = 1e-4
        slope = (natural(row, at(jnp.asarray([u + h]))[0]) - natural(row, at(jnp.asarray([u - h]))[0])) / (2 * h)
        np.testing.assert_allclose(found, log_density(natural(row, model)) + np.log(slope), rtol=1e-6, atol=1e-7)
    density = jax.jit(jax.vmap(lambda u: jnp.exp(priors.model_and_density(u[None])[1])))
    u = np.linspace(-30.0, 30.0, 60001)
    assert np.trapezoid(np.nan_to_num(np.asarray(density(u))), u) == pytest.approx(np.exp(mass), rel=1e-6)


def test_correlation_of_a_pair():
    """LKJ(2, c): the density of the correlation is proportional to (1 - r^2)^(c - 1)."""
    concentration = 2.5
    given = {"omega.sd": dist.HalfNormal(1.0), "omega.correlation": dist.LKJ(2, concentration)}
    priors = Priors(Pair(), given)
    assert priors.size == 3
    at = jax.jit(priors.model_and_density)
    sd = [0.0, 0.0]

    def correlation(u):
        return float(at(jnp.asarray([*sd, u]))[0].omega.correlation[0, 1])

    constant = quad(lambda r: (1 - r**2) ** (concentration - 1), -1, 1)[0]
    log_sd = 2 * stats.halfnorm.logpdf(1.0)  # both standard deviations are exp(0) there, with Jacobian 1
    for u in (-1.2, 0.0, 0.7):
        h = 1e-4
        slope = (correlation(u + h) - correlation(u - h)) / (2 * h)
        expected = (concentration - 1) * np.log(1 - correlation(u) ** 2) - np.log(constant) + np.log(slope) + log_sd
        np.testing.assert_allclose(at(jnp.asarray([*sd, u]))[1], expected, rtol=1e-6)
    back = at(priors.unconstrained(Pair()))[0]
    np.testing.assert_allclose(back.omega.matrix, Pair().omega.matrix, rtol=1e-12)


def test_the_most_particular_name_wins():
    class Two(nlme.Model):
        beta: nlme.Vector = nlme.real([0.5, 0.2, -0.1])

    priors = Priors(Two(), {"beta": dist.Normal(0.0, 1.0), "beta[1]": dist.Normal(5.0, 0.1)})
    model = Two(beta=[0.3, 4.9, -1.0])
    expected = stats.norm.logpdf(0.3) + stats.norm.logpdf(4.9, 5.0, 0.1) + stats.norm.logpdf(-1.0)
    np.testing.assert_allclose(priors.model_and_density(priors.unconstrained(model))[1], expected, rtol=1e-12)


def test_wide_priors_cover_every_free_parameter():
    found = weakly_informative(Pair())
    assert list(found) == ["omega.sd.cl", "omega.sd.v", "omega.correlation"] and Priors(Pair(), found).size == 3
    assert list(weakly_informative(One())) == ["k"] and not weakly_informative(One(), fixed=["k"])


WRONG = {
    "none given": (One, {}, "none is given for: k"),
    "a stranger": (One, {"k": dist.Gamma(2.0, 1.0), "K2": dist.Normal(0.0, 1.0)}, "No parameter named 'K2'"),
    "start outside the support": (One, {"k": dist.Uniform(2.0, 4.0)}, "outside the prior's support"),
    "no value in common": (Share, {"k": dist.Uniform(2.0, 4.0)}, "no value in common"),
    "a number": (One, {"k": 1.5}, "k"),
    "discrete": (One, {"k": dist.Poisson(2.0)}, "k"),
    "covariance": (Pair, {"omega.sd": dist.HalfNormal(1.0), "omega.v,cl": dist.Normal(0.0, 1.0)}, "is a covariance"),
    "two for one": (
        Spread, {"omega.cl": dist.Gamma(2.0, 1.0), "omega.sd.cl": dist.HalfNormal(1.0)}, "are the same parameter",
    ),
    "correlation of another size": (Pair, {"omega.sd": dist.HalfNormal(1.0), "omega.correlation": dist.LKJ(3, 1.0)}, "LKJ\\(2"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "given", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_prior_is_refused(form, given, words):
    with pytest.raises(nlme.ModelError, match=words):
        Priors(form(), given)
