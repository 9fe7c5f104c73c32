"""The posterior with random effects above the subject: exact where all is linear and Gaussian."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from numpyro.diagnostics import effective_sample_size

import nlme
from nlme.dynamics.solvers import Tolerances
from nlme.language.layout import lay_out
from nlme.marginal.joint import log_joint
from nlme.parameters.priors import Priors
from nlme.posterior.coordinates import coordinates


class Means(nlme.Model):
    mu: nlme.Scalar = nlme.real(1.0)
    omega: nlme.Covariance = nlme.covariance(mu=0.5)
    sites: nlme.Covariance = nlme.covariance(mu_site=0.8, per="site")
    sd: nlme.Scalar = nlme.positive(0.6)

    def individual(self, eta, cov):
        return dict(level=self.mu + eta.mu + eta.mu_site)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


SITE = np.array([2, 1, 1, 3, 2, 1, 3, 3])


def groups() -> nlme.Population:
    random = np.random.default_rng(4)
    at_site = {s: random.normal() * 0.9 for s in (1, 2, 3)}
    return nlme.Population(
        tuple(
            nlme.Subject(
                id=i + 1,
                time=np.arange(2 + i % 3, dtype=float),
                dv=1.4 + at_site[s] + 0.7 * random.normal() + 0.6 * random.normal(size=2 + i % 3),
                extra={"site": np.full(2 + i % 3, s)},
            )
            for i, s in enumerate(SITE)
        )
    )


def exact(population, prior_sd=2.0):
    """Mean and standard deviation of mu, of every eta_i and of every site's effect, given all data."""
    columns, y = [], []
    for i, s in enumerate(population):
        row = np.zeros(1 + 8 + 3)
        row[[0, 1 + i, 9 + SITE[i] - 1]] = 1.0
        columns += [row] * len(s.dv)
        y += list(s.dv)
    design = np.array(columns)
    precision = design.T @ design / 0.6**2 + np.diag(np.r_[prior_sd**-2, np.full(8, 1 / 0.5), np.full(3, 1 / 0.8)])
    covariance = np.linalg.inv(precision)
    return covariance @ design.T @ np.array(y) / 0.6**2, np.sqrt(np.diag(covariance))


@pytest.mark.slow
@pytest.mark.parametrize(("random_effects", "draws"), [("joint", 2000), ("marginal", 1000)])
def test_posterior_is_the_exact_one(random_effects, draws):
    """Means within 4 Monte-Carlo standard errors; spreads within 8 %, about 4 of theirs (zigzagging chains know means better)."""
    population, prior = groups(), {"mu": dist.Normal(0.0, 2.0)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        held = ("omega.mu", "sites.mu_site", "sd")
        options = dict(warmup=300, draws=draws, chains=2, fixed=held, progress=False, random_effects=random_effects)
        found = nlme.sample(Means(), population, prior, key=3, **options)
    draws = found.posterior
    assert list(draws["eta"].random_effect.values) == ["mu", "mu_site"]
    eta, first = draws["eta"].values, [int(np.argmax(SITE == s)) for s in (1, 2, 3)]
    for s in (1, 2, 3):
        assert np.ptp(eta[:, :, SITE == s, 1], axis=2).max() < 1e-12
    columns = np.concatenate([draws["mu"].values[..., None], eta[..., 0], eta[:, :, first, 1]], axis=-1)
    mean, spread = exact(population)
    size = effective_sample_size(columns)
    assert size.min() > 200
    np.testing.assert_array_less(np.abs(columns.mean((0, 1)) - mean), 4 * spread / np.sqrt(size))
    np.testing.assert_allclose(columns.std((0, 1)), spread, rtol=0.08)


@pytest.mark.slow
def test_log_density_and_its_gradient():
    """The density in the sampler's coordinates: its gradient by central differences, its value from normal densities."""
    model, population = Means(), groups()
    priors = {name: dist.HalfNormal(1.0) for name in ("omega.sd", "sites.sd", "sd")} | {"mu": dist.Normal(0.0, 2.0)}
    prior, layout = Priors(model, priors, ()), lay_out(model, population)
    at = coordinates(prior, layout, model, Tolerances())
    assert at.u.shape == (4 + 3,) and at.y.shape == (8, 1) and at.centring.exponent.shape == (2,)

    def split(w):
        u, y = at(w)
        here, density = prior.model_and_density(u[:4])
        return here, density, at.standard_of_all(layout, here, u[4:], y)

    @jax.jit
    def log_density(w):
        here, density, (b, jacobian) = split(w)
        return density + jacobian + log_joint(here, layout.anatomy, layout.arrays, b, 1, Tolerances())[0]

    random = np.random.default_rng(2)
    w = {"population": jnp.asarray(0.5 * random.normal(size=7)), "effects": jnp.asarray(0.5 * random.normal(size=(8, 1)))}
    gradient, h = jax.jit(jax.grad(log_density))(w), 1e-5
    for name, x in w.items():
        for index in np.ndindex(x.shape):
            up, down = (log_density(w | {name: x.at[index].add(s * h)}) for s in (1, -1))
            assert float(gradient[name][index]) == pytest.approx(float(up - down) / (2 * h), rel=1e-5, abs=1e-5)

    here, _, (b, jacobian) = split(w)
    eta, first = np.asarray(b) @ np.asarray(layout.anatomy.cholesky(here)).T, np.unique(SITE, return_index=True)[1]
    standard = dist.Normal(0.0, 1.0)
    expected = standard.log_prob(b[:, 0]).sum() + standard.log_prob(b[first, 1]).sum()
    for i, s in enumerate(population):
        expected += dist.Normal(here.mu + eta[i].sum(), here.sd).log_prob(s.dv).sum()
    value, _ = log_joint(here, layout.anatomy, layout.arrays, b, 0, Tolerances())
    assert float(value) == pytest.approx(float(expected) + 11 * 0.5 * np.log(2 * np.pi), rel=1e-12)

    def effects(flat):  # log |db/dy| is that of this map
        found, _ = at.standard_of_all(layout, here, flat[:3], flat[3:].reshape(8, 1))
        return jnp.concatenate([found[first, 1], found[:, 0]])

    u, y = at(w)
    full = jax.jacfwd(effects)(jnp.concatenate([u[4:], y.ravel()]))
    assert float(jacobian) == pytest.approx(np.linalg.slogdet(full)[1], abs=1e-12)
