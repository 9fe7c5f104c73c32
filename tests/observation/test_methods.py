"""Method x observation model x {closed form, ODE}: the whole table runs and is one integral, or is refused at once in words."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_observation import NAMES, NORMAL, Everything, EverythingByEquations, population_of
from scipy.special import logsumexp

import nlme
from nlme.language.layout import lay_out
from nlme.marginal.base import Subject
from nlme.marginal.joint import pointwise

FORMS = {"closed form": Everything, "ODE": EverythingByEquations}
#: one row of every kind: what a method sees of the others is a mean and a variance, or a log density, just as of these
KINDS = ("proportional", "log-normal", "Student", "ordered, logits", "Poisson", "a density of one's own",
         "event (event)", "M3 (censored)", "memory")  # fmt: skip
OMEGA = {"k": 2e-4, "spread": 1e-4}  # small, so that every approximation of the integral is near it, whatever the data
WITHIN = {  # of the integral, -2 log L of one subject; random effects are worth up to 0.2
    nlme.FO(): 0.2,
    nlme.FOCE(): 0.2,
    nlme.FOCEI(): 0.1,
    nlme.Laplace(): 1e-3,
    nlme.AGQ(points=3): 1e-5,
}


def rows_for(form: str, method) -> tuple[str, ...]:
    if method.linearises:
        return tuple(name for name in (NAMES if form == "closed form" else KINDS) if name in NORMAL)
    return KINDS


def model_of(form: str, names):
    return FORMS[form](names=names, omega=OMEGA)


@functools.lru_cache
def integrals(form: str) -> dict[str, float]:
    """-2 log L of every row without its constant: Gauss-Hermite quadrature of the log densities over the random effects' distribution."""
    names = tuple(NAMES) if form == "closed form" else KINDS
    model = model_of(form, names)
    layout = lay_out(model, population_of(names))
    x, w = np.polynomial.hermite_e.hermegauss(9)
    nodes = jnp.asarray([(a, b) for a in x for b in x])
    log_weights = np.log(np.outer(w, w).ravel() / (2 * np.pi))

    @jax.jit
    def of_subject(data):
        def at(b):
            found, _ = pointwise(model, layout.anatomy, data, b, 0, nlme.Tolerances(1e-10, 1e-12))
            return jnp.sum(found)

        subject = Subject(nlme.Laplace(), layout.anatomy, data, model, nodes[0], 0)
        normal = jnp.sum(jnp.where(data.mask, subject.moments(model, nodes[0]).normal, False))
        return jax.vmap(at)(nodes), normal

    found = {}
    for i, name in enumerate(names):
        logs, normal = of_subject(layout.subject(i)[0])
        found[name] = float(-2 * logsumexp(logs + log_weights) - normal * np.log(2 * np.pi))
    return found


def off(form: str, evaluated, names) -> np.ndarray:
    return evaluated.values - np.array([integrals(form)[name] for name in names])


@pytest.mark.slow
@pytest.mark.parametrize("method", WITHIN, ids=repr)
@pytest.mark.parametrize("form", FORMS)
def test_every_method_is_near_the_integral(form, method):
    names = rows_for(form, method)
    far = off(form, nlme.evaluate(model_of(form, names), population_of(names), method), names)
    assert np.isfinite(far).all() and np.abs(far).max() > 0.0
    assert np.abs(far).max() < WITHIN[method], dict(zip(names, far.round(5), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("method", [nlme.ImportanceSampling(1000), nlme.SAEM(samples=500, seed=3)], ids=repr)
@pytest.mark.parametrize("form", FORMS)
def test_draws_are_near_the_integral_within_their_error(form, method):
    """SAEM judges its estimates by importance sampling."""
    found = nlme.evaluate(model_of(form, KINDS), population_of(KINDS), method)
    z = off(form, found, KINDS) / found.monte_carlo.errors
    assert found.monte_carlo.errors.max() < 0.1
    assert np.abs(z).max() < 4.0, dict(zip(KINDS, z.round(2), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_naive_pooling_is_the_likelihood_without_random_effects(form):
    names = KINDS
    pooled = nlme.evaluate(model_of(form, names), population_of(names), nlme.NaivePooled()).values
    gap = pooled - np.array([integrals(form)[name] for name in names])
    assert 0.0 < np.abs(gap).max() < 0.2, dict(zip(names, gap.round(5), strict=True))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NORMAL])
@pytest.mark.parametrize("method", [method for method in WITHIN if method.linearises], ids=repr)
def test_what_cannot_be_linearised_is_refused_at_once(method, name):
    for form in FORMS.values():
        with pytest.raises(nlme.ModelError, match=rf"{type(method).__name__} linearises .*nlme\.Laplace\(\)"):
            nlme.evaluate(form(names=(name,)), population_of((name,)), method)
