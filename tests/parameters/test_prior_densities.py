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


class Three(nlme.Model):
    omega: nlme.Covariance = nlme.covariance(("a", "b", "c"), [[1.0], [0.2, 1.0], [0.1, -0.3, 1.0]])

    def individual(self, eta, cov):
        return dict(a=eta.a, b=eta.b, c=eta.c)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b + ind.c, 1.0)}


@pytest.mark.parametrize("concentration", [1.0, 2.0, 0.7])
def test_a_correlation_has_the_density_of_the_matrix(concentration):
    """LKJ(3, c) is det(R)^(c - 1) up to a constant, whatever the order of the effects; LKJ(3, 1) is flat over a volume of pi^2 / 2."""
    prior = Priors(Three(), {"omega.correlation": dist.LKJ(3, concentration)}, complete=False).sites[0]

    def at(ab, ac, bc):
        matrix = np.array([[1.0, ab, ac], [ab, 1.0, bc], [ac, bc, 1.0]])
        return float(prior.log_density(Three(omega=matrix))), np.log(np.linalg.det(matrix))

    for one, other in (
        ((0.2, 0.1, -0.3), (0.8, 0.5, 0.1)),
        ((0.8, 0.5, 0.1), (0.5, 0.1, 0.8)),
        ((0.8, 0.5, 0.1), (0.1, 0.5, 0.8)),
    ):
        (density, volume), (another, compared) = at(*one), at(*other)
        assert density - another == pytest.approx((concentration - 1) * (volume - compared), abs=1e-10)
    if concentration == 1.0:
        assert at(0.3, 0.2, 0.1)[0] == pytest.approx(-np.log(np.pi**2 / 2), rel=1e-6)


def test_covariance_of_a_block():
    """Inverse Wishart: scipy's density of the matrix, and the Jacobian of its three elements by central differences."""
    scale = np.array([[0.5, 0.1], [0.1, 0.3]])
    priors = Priors(Pair(), {"omega.covariance": dist.InverseWishart(5.0, scale_matrix=scale)})
    assert priors.size == 3
    at = jax.jit(priors.model_and_density)

    def elements(u):
        return np.asarray(at(jnp.asarray(u))[0].omega.matrix)[np.tril_indices(2)]

    for u in ([0.1, -0.4, 0.3], [-1.0, 0.8, 0.2]):
        h = 1e-5
        jacobian = [(elements(u + h * e) - elements(u - h * e)) / (2 * h) for e in np.eye(3)]
        model, found = at(jnp.asarray(u))
        expected = stats.invwishart(5, scale).logpdf(np.asarray(model.omega.matrix)) + np.linalg.slogdet(np.array(jacobian))[1]
        np.testing.assert_allclose(found, expected, rtol=1e-7)
        own = sum(site.log_density(model) for site in priors.sites)
        np.testing.assert_allclose(own, stats.invwishart(5, scale).logpdf(np.asarray(model.omega.matrix)), rtol=1e-12)
    np.testing.assert_allclose(at(priors.unconstrained(Pair()))[0].omega.matrix, Pair().omega.matrix, rtol=1e-12)
    drawn = jax.vmap(lambda u: at(u)[0].omega.matrix)(priors.drawn(jax.random.key(1), 40_000))
    np.testing.assert_allclose(drawn.mean(axis=0), scale / (5 - 2 - 1), atol=0.02)  # S / (df - n - 1)


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
    "block of another size": (Pair, {"omega.covariance": dist.InverseWishart(4.0, scale_matrix=np.eye(3))}, "S 2 x 2"),
    "block that is no matrix": (Pair, {"omega.covariance": dist.Gamma(2.0, 1.0)}, "InverseWishart\\(df"),
    "block and its part": (
        Pair, {"omega.covariance": dist.InverseWishart(4.0, scale_matrix=np.eye(2)), "omega.v": dist.Gamma(2.0, 1.0)},
        "of omega.v too",
    ),
    "block and all spreads": (
        Pair, {"omega.covariance": dist.InverseWishart(4.0, scale_matrix=np.eye(2)), "omega.sd": dist.Gamma(2.0, 1.0)},
        "'omega.sd' is of nothing",
    ),
    "block of one": (
        Spread, {"omega.sd": dist.HalfNormal(1.0), "omega.covariance": dist.InverseWishart(4.0, scale_matrix=np.eye(1))},
        "are independent",
    ),
    "overruled altogether": (
        Spread, {"omega.sd": dist.HalfNormal(1.0), "omega.sd.cl": dist.HalfNormal(2.0)}, "'omega.sd' is of nothing: omega.cl have",
    ),
    "correlation of another size": (Pair, {"omega.sd": dist.HalfNormal(1.0), "omega.correlation": dist.LKJ(3, 1.0)}, "LKJ\\(2"),
}  # fmt: skip


@pytest.mark.parametrize(("form", "given", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_prior_is_refused(form, given, words):
    with pytest.raises(nlme.ModelError, match=words):
        Priors(form(), given)
