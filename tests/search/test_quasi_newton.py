"""The outer search: scoring while the scores tell what a step gains, BFGS afterwards, and modes searched as closely as is worth it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_dose import AWAY, TIMES, drawn, two_compartments

import nlme
from nlme.fitting import fit as fitting
from nlme.search import quasi_newton
from nlme.search.quasi_newton import CONVERGED, SEARCHING, absorb, begin, corrected, propose

Y = np.random.default_rng(5).normal(3.0, 1.0, 200)


def normal(x, y):
    """-2 log density of a normal sample with mean x_0 and log standard deviation x_1 + x_0 / 10."""
    log_sd = x[1] + 0.1 * x[0]
    return 2.0 * log_sd + (y - x[0]) ** 2 * jnp.exp(-2.0 * log_sd)


@jax.jit
def evaluated(x):
    scores = jax.vmap(jax.grad(normal), (None, 0))(x, jnp.asarray(Y))
    return jnp.sum(jax.vmap(normal, (None, 0))(x, jnp.asarray(Y))), jnp.sum(scores, axis=0), scores


def minimised(start, stretch=None, limit=300):
    """The end of a search with scores times ``stretch``; without scores if None."""
    search = begin(jnp.asarray(start))
    step = jax.jit(lambda s, v, g, r: absorb(s, v, g, r, 1e-10, limit)[0])
    while int(search.status) == SEARCHING:
        value, gradient, scores = evaluated(propose(search))
        search = step(search, value, gradient, None if stretch is None else stretch * scores)
    return search


def test_scores_that_tell_wrongly_are_given_up():
    expected = [Y.mean(), np.log(Y.std()) - 0.1 * Y.mean()]
    right, wrong, without = (minimised([1.0, 0.5], stretch) for stretch in (1.0, 0.2, None))
    for search in (right, wrong, without):
        assert int(search.status) == CONVERGED
        np.testing.assert_allclose(search.x, expected, atol=1e-5)
    assert bool(right.scoring) and not bool(wrong.scoring)
    assert int(right.evaluations) < int(without.evaluations)


def test_correction_begins_anew_from_the_same_point():
    search = begin(jnp.asarray([0.0, 1.0]))
    for _ in range(5):
        value, gradient, scores = evaluated(propose(search))
        search, _ = absorb(search, value, gradient, scores, 1e-10, 300)
    value, gradient, _ = evaluated(search.x)
    spoilt = search._replace(value=value - 3.0, gradient=gradient + 1.0, step=jnp.asarray(1e-4))
    mended = corrected(spoilt, value, gradient)
    np.testing.assert_array_equal(mended.x, search.x)
    assert float(mended.value) == float(value)
    np.testing.assert_allclose(mended.direction, -search.inverse @ gradient)
    assert float(mended.step) > 0.1


@pytest.mark.slow
def test_scoring_needs_half_the_evaluations(monkeypatch):
    """Eleven parameters, 200 subjects; the same optimum."""
    data = drawn(two_compartments(equations=False)(), 200, TIMES)
    calls, evaluate = [], fitting.evaluate_subjects
    monkeypatch.setattr(fitting, "evaluate_subjects", lambda *a, **k: calls.append(1) or evaluate(*a, **k))
    found = {}
    for far in (quasi_newton._FAR, np.inf):
        monkeypatch.setattr(outer, "_FAR", far)
        calls.clear()
        found[far] = nlme.fit(two_compartments(equations=False)(**AWAY), data, nlme.FOCEI()).objective, len(calls)
    (with_scores, few), (without, many) = found.values()
    assert with_scores == pytest.approx(without, abs=1e-5) and 2 * few < many


class Saturable(nlme.Model):
    vmax: nlme.Scalar = nlme.positive(30.0)
    v: nlme.Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(vmax=0.1, v=0.05)
    prop: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(vmax=self.vmax * jnp.exp(eta.vmax), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            return {"central": -ind.vmax * c / (5.0 + c)}

        return nlme.ODE(rhs, ("central",))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


@pytest.mark.slow
def test_modes_are_searched_less_closely_far_from_the_optimum(monkeypatch):
    data = drawn(Saturable(), 25, [0.5, 2.0, 6.0, 12.0])
    tolerances, evaluate = [], fitting.evaluate_subjects

    def noted(*args, tolerance=None, **options):
        tolerances.append(tolerance)
        return evaluate(*args, tolerance=tolerance, **options)

    monkeypatch.setattr(fitting, "evaluate_subjects", noted)
    away = Saturable(vmax=15.0, v=50.0, prop=0.3)
    fit = nlme.fit(away, data, nlme.FOCEI())
    asked = [t for t in tolerances if t is not None]
    assert asked[0] == 1e-4 and asked[-1] == nlme.FOCEI().inner_tolerance and tolerances[-1] is None
    monkeypatch.setattr(nlme.FOCEI, "loosest", 0.0)
    closely = nlme.fit(away, data, nlme.FOCEI())
    assert fit.objective == pytest.approx(closely.objective, abs=1e-6)
    assert fit.inner_converged.all() and (fit.decrement <= nlme.FOCEI().inner_tolerance).all()
