"""Priors of a network's weights: the map without centres, its density against quadrature, draws against the formulas."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import nlme
from nlme.errors import ModelError
from nlme.fitting.maximum_posterior import MinusTwiceLogPrior
from nlme.parameters.priors import Priors, describe


class Curve(nlme.Model):
    a: nlme.Scalar = nlme.positive(1.0)
    net: nlme.MLP = nlme.mlp(inputs=("x", "y"), outputs=1, width=3, depth=2, key=0, initial_scale=1.0)


class Edges(nlme.Model):
    net: nlme.KAN = nlme.kan(inputs=("x",), outputs=1, width=2, depth=1, key=0)


class Bumps(nlme.Model):
    net: nlme.Splines = nlme.splines(inputs=("x",), outputs=1, center=2.0, scale=1.0)


KINDS = {
    "gaussian": nlme.weight_prior("gaussian", 0.7),
    "hierarchical": nlme.weight_prior("hierarchical", 0.7),
    "one scale": nlme.weight_prior("hierarchical", 0.7, by="network"),
    "horseshoe": nlme.weight_prior("horseshoe", 0.1, slab=1.5),
    "raw": nlme.weight_prior("gaussian", 0.7, fan_in=False),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [Curve, *(pytest.param(form, marks=pytest.mark.slow) for form in (Edges, Bumps))])
def test_weights_of_the_model_come_back(form, kind):
    model = form()
    prior = Priors(model, _with_a(form, {"net": KINDS[kind]}))
    again, density = prior.model_and_density(prior.unconstrained(model))
    assert np.isfinite(density)
    for one, other in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert prior.of_weights.sum() >= model.net.size and prior.drawn(jax.random.key(0), 3).shape == (3, prior.size)


def _with_a(form, priors):
    return priors | ({"a": dist.LogNormal(0.0, 1.0)} if form is Curve else {})


def test_groups_are_layers_or_the_network():
    prior = Priors(Curve(), _with_a(Curve, {"net": KINDS["hierarchical"]}))
    assert prior.scale_labels == {"net.weight_scale": ("layer 1", "layer 2", "layer 3")}
    scales = prior.learned_scales(prior.unconstrained(Curve()))["net.weight_scale"]
    np.testing.assert_allclose(scales, 0.7)
    assert Priors(Curve(), _with_a(Curve, {"net": KINDS["one scale"]})).scale_labels == {"net.weight_scale": ("net",)}
    assert Priors(Curve(), _with_a(Curve, {"net": KINDS["gaussian"]})).scale_labels == {}


@pytest.mark.parametrize(
    ("kind", "scale"),
    [
        ("gaussian", lambda r, n: np.full(n, 0.7)),
        ("hierarchical", lambda r, n: np.abs(0.7 * r.normal(size=n))),
        ("horseshoe", lambda r, n: 1.5 / np.hypot(1.0, 15.0 / np.abs(r.standard_cauchy(n) * r.standard_cauchy(n)))),
    ],
)
def test_draws_have_the_distribution_of_the_formulas(kind, scale):
    """A weight with three inputs and a bias, against numpy's draws (Kolmogorov-Smirnov)."""
    prior, random, n = Priors(Curve(), _with_a(Curve, {"net": KINDS[kind]})), np.random.default_rng(1), 4000
    u = prior.drawn(jax.random.key(2), n)
    natural = np.asarray(jax.jit(jax.vmap(lambda u: prior.inventory.natural(prior.model_and_density(u)[0])))(u))
    for name, root in (("net.weights[1][2,0]", np.sqrt(3.0)), ("net.weights[0][0,1]", np.sqrt(2.0)), ("net.biases[1][0]", 1.0)):
        expected = scale(random, n) * random.normal(size=n) / root
        assert stats.ks_2samp(natural[:, prior.inventory.names.index(name)], expected).pvalue > 0.001, name


def mass(kind: str, **lines) -> float:
    """Of u under a prior of one weight, over grids of its scales, at z = 0.3: what is left is the density of z."""
    model, priors = Curve(), {"net": KINDS[kind]}
    fixed = [n for n in Priors(model, _with_a(Curve, priors)).inventory.names if n != "net.weights[0][0,0]"]
    prior = Priors(model, priors, fixed)
    grids = np.meshgrid(*lines.values(), [0.3], indexing="ij")
    u = jnp.asarray(np.stack(grids, axis=-1).reshape(-1, prior.size))
    density = np.exp(np.asarray(jax.jit(jax.vmap(lambda u: prior.model_and_density(u)[1]))(u)))
    return float(density.sum() * np.prod([line[1] - line[0] for line in lines.values()]))


def test_densities_have_mass_one():
    """By the rectangle rule over the logarithms of the scales, whose densities end exponentially."""
    line, expected = np.linspace(-25.0, 25.0, 301), stats.norm.pdf(0.3)
    assert mass("gaussian") == pytest.approx(expected, abs=1e-12)
    assert mass("hierarchical", tau=line) == pytest.approx(expected, abs=1e-6)
    assert mass("horseshoe", tau=line, own=line) == pytest.approx(expected, abs=1e-6)


def test_gaussian_prior_of_a_fit_is_the_normal_density():
    model = Curve()
    of = MinusTwiceLogPrior(model, {"net": KINDS["gaussian"]}, ())
    weights, biases = model.net.weights, model.net.biases
    expected = sum(stats.norm.logpdf(w, 0.0, 0.7 / np.sqrt(w.shape[1])).sum() for w in map(np.asarray, weights))
    expected += sum(stats.norm.logpdf(np.asarray(b), 0.0, 0.7).sum() for b in biases)
    assert float(of(model)) == pytest.approx(-2.0 * expected, rel=1e-12)


def test_the_most_particular_name_wins():
    mixed = _with_a(Curve, {"net": KINDS["horseshoe"], "net.biases": dist.Normal(0.0, 1.0)})
    prior = Priors(Curve(), mixed)
    assert prior.of_weights.sum() == 2 * sum(w.size for w in Curve().net.weights) + sum(b.size for b in Curve().net.biases)


def test_what_it_is_is_said():
    assert describe(KINDS["horseshoe"]) == "weight_prior('horseshoe', 0.1, by='layer', slab=1.5)"
    assert describe(KINDS["raw"]) == "weight_prior('gaussian', 0.7, fan_in=False)"


@pytest.mark.parametrize(
    ("make", "seen"),
    [
        (lambda: nlme.weight_prior("laplace", 1.0), "horseshoe"),
        (lambda: nlme.weight_prior("gaussian", 0.0), "positive"),
        (lambda: nlme.weight_prior("gaussian", "1"), "positive"),
        (lambda: nlme.weight_prior("hierarchical", 1.0, by="unit"), "layer"),
        (lambda: nlme.weight_prior("horseshoe", 1.0, slab=-1.0), "slab"),
        (lambda: nlme.weight_prior("gaussian", 1.0, fan_in=2), "fan_in"),
        (lambda: Priors(Curve(), {"net": KINDS["gaussian"], "a": KINDS["gaussian"]}), "'a' is a fixed effect"),
        (lambda: Priors(Curve(), {"net": KINDS["gaussian"]}), "none is given for: a"),
        (lambda: MinusTwiceLogPrior(Curve(), {"net": KINDS["horseshoe"]}, ()), "no mode"),
    ],
)
def test_refusals(make, seen):
    with pytest.raises(ModelError, match=seen):
        make()
