"""Posteriors: an exact one, the derivatives and coordinates the sampler moves in, and what it says when things go wrong."""

from __future__ import annotations

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from normal_means import Means, exact_means, groups, quietly
from numpyro.diagnostics import effective_sample_size
from scipy.stats import norm

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.joint import log_joint
from nlme.parameters.priors import Priors
from nlme.posterior.coordinates import coordinates

TIGHT = nlme.Tolerances(relative=1e-11, absolute=1e-13)


class Decay(nlme.Model):
    cl: nlme.Scalar = nlme.positive(2.0)
    v: nlme.Scalar = nlme.positive(10.0)
    prop: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05, correlation={("cl", "v"): 0.3})

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"y": nlme.proportional(state.central / ind.v, self.prop)}


class DecayODE(Decay):
    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"central": -ind.cl / ind.v * a.central}, ("central",))


DECAY = {
    "cl": dist.LogNormal(np.log(2.0), 0.5),
    "v": dist.LogNormal(np.log(10.0), 0.5),
    "prop": dist.HalfNormal(0.3),
    "omega.sd": dist.HalfNormal(0.5),
    "omega.correlation": dist.LKJ(2, 2.0),
}


def doses(seed=5):
    random = np.random.default_rng(seed)
    out = []
    for i, n in enumerate((4, 2, 3)):
        t = np.sort(random.uniform(0.5, 9.0, n))
        y = 10.0 * np.exp(-0.2 * t) * np.exp(0.2 * random.normal(size=n))
        out.append(
            nlme.Subject(
                id=i + 1, time=np.r_[0.0, t], evid=np.r_[1, 0 * t], amt=np.r_[100.0, 0 * t], dv=np.r_[np.nan, y], covariates={}
            )
        )
    return nlme.Population(tuple(out))


@pytest.fixture(scope="module")
def means():
    prior = {"mu": dist.Normal(0.0, 2.0)}
    return quietly(Means(), groups(), prior, key=3, warmup=300, draws=600, chains=2, fixed=("omega.mu", "sd"))


def test_posterior_is_the_exact_one(means):
    """Means within 4 Monte-Carlo standard errors, spreads within 4 of theirs (sd of a standard deviation: sd / sqrt(2 n))."""
    mean, spread = exact_means(groups())
    draws = means.posterior
    columns = np.concatenate([draws["mu"].values[..., None], draws["eta"].values[..., 0]], axis=-1)
    size = effective_sample_size(columns)
    assert size.min() > 200
    np.testing.assert_array_less(np.abs(columns.mean((0, 1)) - mean), 4 * spread / np.sqrt(size))
    np.testing.assert_array_less(np.abs(columns.std((0, 1)) - spread), 4 * spread / np.sqrt(size))


def test_dimensions_carry_names(means):
    population = groups()
    assert means.posterior["eta"].dims == ("chain", "draw", "subject", "random_effect")
    assert tuple(means.posterior["subject"].values) == population.ids
    assert list(means.posterior["random_effect"].values) == ["mu"]
    assert set(means.posterior.data_vars) == {"mu", "eta"}  # what is fixed is not a draw
    assert np.isfinite(means.log_likelihood["DV"]).all()


def test_log_likelihood_of_an_observation_is_its_conditional_density(means):
    draws = means.posterior
    population = groups()
    level = draws["mu"].values[..., None] + draws["eta"].values[..., 0]
    who = np.repeat(np.arange(len(population)), [len(s.dv) for s in population])
    expected = norm.logpdf(np.concatenate([s.dv for s in population]), level[..., who], 0.6)
    np.testing.assert_allclose(means.log_likelihood["DV"].values, expected, rtol=1e-10)


@pytest.mark.slow
def test_same_key_same_draws(means):
    options = dict(warmup=10, draws=5, chains=2, fixed=("omega.mu", "sd"))
    first, again, other = (quietly(Means(), groups(), {"mu": dist.Normal(0.0, 2.0)}, key=k, **options) for k in (7, 7, 8))
    np.testing.assert_array_equal(first.posterior["eta"].values, again.posterior["eta"].values)
    assert not np.array_equal(first.posterior["eta"].values, other.posterior["eta"].values)


def test_posterior_models_hold_the_draws(means):
    models = nlme.posterior_models(Means(), means)
    np.testing.assert_array_equal(models.mu, means.posterior["mu"].values.ravel())
    twice = eqx.filter_vmap(lambda m: 2 * m.mu)(models)
    np.testing.assert_allclose(twice, 2 * means.posterior["mu"].values.ravel(), rtol=1e-15)


def test_draws_put_into_another_model_are_said(means):
    class Other(nlme.Model):  # of the same parameters
        mu: nlme.Scalar = nlme.real(1.0)
        omega: nlme.Covariance = nlme.covariance(mu=0.5)
        sd: nlme.Scalar = nlme.positive(0.6)

        def individual(self, eta, cov):
            return dict(mu=self.mu / 60.0 + eta.mu)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.mu, self.sd)}

    class More(Other):
        slope: nlme.Scalar = nlme.real(0.1)

    with pytest.warns(UserWarning, match="is of a Means whose functions, or what these rest on, are not those of this Other"):
        nlme.posterior_models(Other(), means)
    with pytest.warns(UserWarning, match="it has no draws of slope, which keeps the model's own value"):
        nlme.posterior_models(More(), means)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nlme.posterior_models(Means(), means)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Decay, pytest.param(DecayODE, marks=pytest.mark.slow)])
def test_gradient_of_the_log_density(form):
    """In every coordinate of the sampler, against central differences."""
    model, population = form(), doses()
    prior, layout = Priors(model, DECAY), lay_out(model, population)
    at = coordinates(prior, layout, model, TIGHT)

    def log_density(w, order=1):
        u, y = at(w)
        here, density = prior.model_and_density(u)
        b, jacobian = at.standard(here.random(), y)
        likelihood, status = log_joint(here, layout.anatomy, layout.arrays, b, order, TIGHT)
        return density + jacobian + likelihood

    random = np.random.default_rng(2)
    w = {
        "population": jnp.asarray(0.5 * random.normal(size=at.u.shape)),
        "effects": jnp.asarray(0.5 * random.normal(size=at.y.shape)),
    }
    gradient = jax.jit(jax.grad(log_density))(w)
    value = jax.jit(lambda w: log_density(w, 0))
    h = 1e-4
    for name, x in w.items():
        found = np.asarray(gradient[name])
        for index in np.ndindex(x.shape):
            up, down = (value(w | {name: x.at[index].add(s * h)}) for s in (1, -1))
            np.testing.assert_allclose(found[index], (up - down) / (2 * h), rtol=1e-5, atol=1e-6, err_msg=f"{name}{index}")


@pytest.mark.slow
def test_coordinates_keep_the_density():
    """log |db/dy| is that of the map, and b of a fully centred effect is eta / sd."""
    model, population = Decay(), doses()
    prior, layout = Priors(model, DECAY), lay_out(model, population)
    at = coordinates(prior, layout, model, TIGHT)
    here = prior.model_and_density(at.u + 0.3)[0]
    y = jnp.asarray(np.random.default_rng(1).normal(size=at.y.shape))
    b, jacobian = at.standard(here.random(), y)
    full = jax.jacfwd(lambda flat: at.standard(here.random(), flat.reshape(y.shape))[0].ravel())(y.ravel())
    assert float(jacobian) == pytest.approx(np.linalg.slogdet(full)[1], abs=1e-12)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"v": None}, "v"),
        ({"prop": dist.Normal(np.zeros(2), 1.0)}, "prop"),
        ({"clearance": dist.Normal(0.0, 1.0)}, "clearance"),
        ({"cl": 3.0}, "cl"),
    ],
    ids=["missing", "wrong size", "unknown name", "not a distribution"],
)
def test_priors_that_do_not_fit_are_refused(change, seen):
    priors = {k: v for k, v in (DECAY | change).items() if v is not None}
    with pytest.raises(nlme.ModelError, match=seen) as caught:
        nlme.sample(Decay(), doses(), priors, key=0)
    assert len(str(caught.value).splitlines()) < 12


@pytest.mark.slow
def test_a_density_that_is_nowhere_finite_is_said():
    class Broken(Means):
        def observe(self, ind, state, t):
            return {"y": nlme.additive(jnp.log(-jnp.square(ind.mu) - 1.0), self.sd)}

    with pytest.raises(nlme.FitError, match="not finite"):
        quietly(Broken(), groups(), {"mu": dist.Normal(0.0, 2.0)}, key=0, warmup=5, draws=5, chains=1, fixed=("omega.mu", "sd"))


@pytest.mark.slow
def test_short_runs_say_so():
    with pytest.warns(UserWarning, match="One chain cannot show"):
        found = nlme.sample(
            Means(),
            groups(),
            {"mu": dist.Normal(0.0, 2.0)},
            key=1,
            warmup=20,
            draws=20,
            chains=1,
            fixed=("omega.mu", "sd"),
            progress=False,
        )
    assert any("independent ones" in message for message in found.attrs["messages"])


@pytest.mark.slow
def test_solves_that_fail_are_counted_and_said():
    """Concentrations that explode for large eta: such points count as impossible, and their number is told."""

    class Explosive(DecayODE):
        def dynamics(self, ind):
            return nlme.ODE(
                lambda t, a: {
                    "central": -ind.cl / ind.v * a.central + 1e3 * jnp.maximum(0.13 - ind.cl / ind.v, 0.0) * a.central**2
                },
                ("central",),
            )

    found = quietly(
        Explosive(), doses(), DECAY, key=1, warmup=60, draws=20, chains=1, ode=nlme.Tolerances(1e-6, 1e-8, max_steps=300)
    )
    assert found.attrs["failed_solves"] + found.attrs["failed_solves_in_warmup"] > 0
    assert np.isfinite(found.posterior["cl"]).all()


@pytest.mark.slow
def test_theophylline_posterior_is_where_the_likelihood_is():
    """Wide priors: posterior means within a third of a standard error of the FOCEI estimates of the structural parameters."""
    from nlme.models.theophylline import Theophylline

    population = nlme.datasets.load("theophylline")
    fit = nlme.fit(Theophylline(), population, nlme.FOCEI(), progress=False)
    priors = {name: dist.LogNormal(np.log(v), 1.0) for name, v in dict(ka=1.5, cl=3.0, v=30.0).items()}
    priors |= {"omega.sd": dist.HalfNormal(1.0), "add": dist.HalfNormal(1.0), "prop": dist.HalfNormal(0.5)}
    found = quietly(Theophylline(), population, priors, key=1, warmup=400, draws=500, chains=4)
    assert not found.attrs["failed_solves"]
    for name in ("ka", "cl", "v"):
        draws = found.posterior[name].values
        assert effective_sample_size(draws) > 300
        error = fit.covariance.standard_errors[name]
        assert abs(np.median(draws) - float(getattr(fit.model, name))) < error / 2
        assert 0.7 < draws.std() / error < 2.0  # the sandwich of twelve people is small; the posterior knows omega's doubt


@pytest.mark.slow
def test_universal_ode_of_indomethacin():
    """A learned clearance: the band holds the constant clearance the mechanistic fit finds, and is widest where data end."""
    from nlme.models.indomethacin_ude import QUICK, IndomethacinUDE, learned, priors

    found = quietly(IndomethacinUDE(), nlme.datasets.load("indomethacin"), priors(), key=1, **QUICK)
    at = np.geomspace(0.06, 2.5, 20)
    curves = learned(IndomethacinUDE(), found, at)
    low, middle, high = np.quantile(curves, [0.05, 0.5, 0.95], axis=0)
    inside = (at > 0.2) & (at < 1.5)
    assert np.all((low < 8.14) & (high > 6.0))
    assert np.all((high - low)[inside].mean() < np.r_[(high - low)[0], (high - low)[-1]])
    assert found.posterior["net.weights"].shape[:2] == (QUICK["chains"], QUICK["draws"])
    assert found.attrs["failed_solves"] < 20
