"""Variational inference: exact where posteriors are Gaussian, elsewhere a bound, at its minimum over Gaussians."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from normal_means import Means, groups
from scipy.optimize import minimize

import nlme
from nlme.fitting.evaluated import evaluate
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.inventory import Inventory


class Exponential(nlme.Model):
    """Two correlated effects behind an exponential: posteriors that are skew."""

    mu: nlme.Scalar = nlme.real(0.3)
    slope: nlme.Scalar = nlme.real(0.2)
    omega: nlme.Covariance = nlme.covariance(("mu", "slope"), [[0.5], [0.1, 0.2]])
    sd: nlme.Scalar = nlme.positive(0.6)

    def individual(self, eta, cov):
        return dict(mu=self.mu + eta.mu, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(jnp.exp(ind.mu + 0.3 * ind.slope * t), self.sd)}


METHOD = nlme.Variational(seed=3, inner_tolerance=1e-20)


@pytest.fixture(scope="module")
def found():
    return evaluate(Exponential(), groups(), METHOD)


def gradients(model, method):
    inventory, layout = Inventory(model), evaluate(model, groups(), method).layout
    starts = np.zeros((layout.n_subjects, len(layout.anatomy.effects)))

    def at(u, gradient=False):
        return evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient=gradient)

    return at, inventory.unconstrained(model)


@pytest.mark.slow
def test_exact_where_all_is_gaussian():
    ours, exact = (evaluate(Means(), groups(), method) for method in (METHOD, nlme.Laplace()))
    assert ours.objective == pytest.approx(exact.objective, rel=1e-12)
    np.testing.assert_allclose(ours.b, exact.b, atol=1e-9)
    at, u = gradients(Means(), METHOD)
    exactly, _ = gradients(Means(), nlme.Laplace())
    np.testing.assert_allclose(at(u, True).gradient, exactly(u, True).gradient, atol=1e-8)
    assert np.max(np.abs(ours.tightness.gaps)) < 1e-9 and ours.tightness.error < 1e-9  # all weights are equal


@pytest.mark.slow
def test_it_is_a_bound_and_its_tightness_is_that_of_quadrature(found):
    exact = evaluate(Exponential(), groups(), nlme.AGQ(25)).objective
    assert exact < found.objective < exact + 1.0
    tight = found.tightness
    assert abs(tight.importance_weighted - exact) < 4 * tight.error + 0.01 and tight.error < 0.1
    assert np.all(tight.gaps > -0.05) and "above -2 log L" in repr(tight)


def test_posteriors_are_the_best_gaussians_at_their_nodes(found):
    """Against a minimisation by SciPy of the same bound, written down anew."""
    data = list(groups())
    root = np.linalg.cholesky(np.array([[0.5, 0.1], [0.1, 0.2]]))
    lower = np.tril_indices(2)
    for i in (0, 2):
        z = np.asarray(METHOD.standard_nodes(jnp.asarray(i), 2))
        np.testing.assert_allclose(z.T @ z / len(z), np.eye(2), atol=1e-12)
        np.testing.assert_allclose(z.sum(axis=0), 0.0, atol=1e-12)

        def bound(x, z=z, s=data[i]):
            factor = np.zeros((2, 2))
            factor[lower] = x[2:]
            b = x[:2] + z @ factor.T
            eta = b @ root.T
            mean = np.exp(0.3 + eta[:, :1] + 0.3 * (0.2 + eta[:, 1:]) * s.time)
            phi = 0.5 * np.sum((s.dv - mean) ** 2 / 0.36 + np.log(0.36), axis=1) + 0.5 * np.sum(b**2, axis=1)
            return 2 * phi.mean() - 2 - 2 * np.sum(np.log(np.abs(np.diag(factor))))

        best = minimize(bound, [0, 0, 1, 0, 1], method="BFGS", options={"gtol": 1e-7})
        assert found.values[i] == pytest.approx(best.fun, abs=1e-7)
        np.testing.assert_allclose(found.b[i], best.x[:2], atol=1e-4)


@pytest.mark.slow
def test_gradient_is_the_central_difference():
    at, u = gradients(Exponential(), METHOD)
    slopes, h = np.asarray(at(u, True).gradient), 1e-4
    for k in range(len(u)):
        around = [np.asarray(at(u.at[k].add(step * h)).value) for step in (-2, -1, 1, 2)]
        np.testing.assert_allclose(slopes[:, k], (around[0] - 8 * around[1] + 8 * around[2] - around[3]) / (12 * h), atol=1e-6)


def test_sites_and_one_draw_are_refused():
    with pytest.raises(nlme.ModelError, match="draws"):
        nlme.Variational(draws=1)


@pytest.mark.slow
def test_a_fit_of_theophylline_lies_above_that_of_quadrature():
    """By no more than its tightness says."""
    from scattered import PAIRS

    pair = PAIRS["theophylline"]
    fit = nlme.fit(pair.model(), pair.data(), nlme.Variational(), progress=False)
    assert fit.converged, fit.verdict
    tight = fit.tightness
    assert tight.bound == fit.objective > tight.importance_weighted - 3 * tight.error
    assert abs(fit.by(nlme.AGQ(7)).objective - tight.importance_weighted) < 4 * tight.error + 0.05


class Far(nlme.Model):
    """A start far from the data: every posterior is skew."""

    a: nlme.Scalar = nlme.real(5.0)
    omega: nlme.Covariance = nlme.covariance(a=0.135)
    sd: nlme.Scalar = nlme.positive(0.2345)

    def individual(self, eta, cov):
        return dict(a=self.a + eta.a)

    def observe(self, ind, state, t):
        return {"y": nlme.proportional(jnp.exp(ind.a - 0.2 * t), self.sd)}


def test_skew_posteriors_are_found_though_full_steps_overshoot():
    """In two of these subjects steps that neither gained nor lost followed each other for ever."""
    rng, t = np.random.default_rng(4), np.array([1.0, 3.0, 6.0])
    values = [np.exp(1.75 + 0.37 * rng.normal() - 0.2 * t) * (1 + 0.23 * rng.normal(size=3)) for _ in range(24)]
    subjects = [nlme.Subject(k + 1, t, dv=np.abs(y), evid=np.zeros(3, int)) for k, y in enumerate(values)]
    at = evaluate(Far(), nlme.Population(tuple(subjects)), nlme.Variational(inner_iterations=2000))
    assert not at.messages and at.objective == pytest.approx(1477.79544, abs=1e-4)
