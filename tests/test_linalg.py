"""Small linear algebra against numpy, its derivatives against those of jax.numpy.linalg, and that large batches come to an end."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlme import linalg

SIZES = [1, 2, 5, 12]


def positive(n, seed=0):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T + 0.1 * np.eye(n)


@pytest.mark.parametrize("n", [1, 2, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 12)), linalg.LARGEST + 1])
def test_against_numpy(n):
    random = np.random.default_rng(1)
    a, general = positive(n), random.normal(size=(n, n))
    for right in (random.normal(size=n), random.normal(size=(n, 3))):
        np.testing.assert_allclose(linalg.solve_positive(a, right), np.linalg.solve(a, right), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(linalg.solve(general, right), np.linalg.solve(general, right), rtol=1e-9, atol=1e-10)
        lower = np.linalg.cholesky(a)
        np.testing.assert_allclose(linalg.solve_lower(lower, right), np.linalg.solve(lower, right), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(linalg.cholesky(a), np.linalg.cholesky(a), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(linalg.log_det(a), np.linalg.slogdet(a)[1], rtol=1e-12)
    np.testing.assert_allclose(linalg.inverse_positive(a), np.linalg.inv(a), rtol=1e-8, atol=1e-11)
    values, vectors = linalg.eigen(jnp.asarray(a))
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(a), rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(vectors * values @ vectors.T, a, rtol=1e-10, atol=1e-12)


def test_row_exchanges():
    """A zero where elimination begins."""
    a = np.array([[0.0, 2.0, 1.0], [1.0, 0.0, 0.0], [3.0, 0.0, 1.0]])
    np.testing.assert_allclose(linalg.solve(a, np.arange(3.0)), np.linalg.solve(a, np.arange(3.0)), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("n", [n if n in (2, 3) else pytest.param(n, marks=pytest.mark.slow) for n in SIZES])
def test_derivatives_to_second_order(n):
    a, right = jnp.asarray(positive(n)), jnp.arange(1.0, n + 1)
    along, across = (jnp.asarray(positive(n, seed)) for seed in (1, 2))
    pairs = {
        "log_det": (linalg.log_det, lambda x: jnp.linalg.slogdet(x)[1]),
        "cholesky": (lambda x: jnp.sum(jnp.sin(linalg.cholesky(x))), lambda x: jnp.sum(jnp.sin(jnp.linalg.cholesky(x)))),
        "solve_positive": (
            lambda x: jnp.sum(linalg.solve_positive(x, right) ** 2),
            lambda x: jnp.sum(jnp.linalg.solve(x, right) ** 2),
        ),
        "solve": (lambda x: jnp.sum(linalg.solve(x, right) ** 2), lambda x: jnp.sum(jnp.linalg.solve(x, right) ** 2)),
    }
    for name, (ours, theirs) in pairs.items():
        found = []
        for function in (ours, theirs):

            def slope(x, function=function):
                return jax.jvp(function, (x,), (along,))[1]

            def pulled(x, function=function):
                return jnp.sum(jax.grad(lambda x: function(0.5 * (x + x.T)))(x) * along)

            found.append([slope(a), jax.jvp(slope, (a,), (across,))[1], pulled(a), jax.jvp(pulled, (a,), (across,))[1]])
        np.testing.assert_allclose(*found, rtol=1e-8, err_msg=name)


def test_what_is_not_positive_definite_is_not_a_number():
    for a in (np.diag([1.0, -1.0]), np.zeros((2, 2)), np.array([[1.0, 2.0], [2.0, 1.0]])):
        assert np.isnan(linalg.log_det(a)) and np.isnan(linalg.solve_positive(a, np.ones(2))).any()
        assert not np.isfinite(linalg.cholesky(a)).all()


def test_batches_are_each_alone():
    a = np.stack([positive(4, seed) for seed in range(7)])
    np.testing.assert_allclose(jax.vmap(linalg.cholesky)(a), np.linalg.cholesky(a), rtol=1e-11, atol=1e-13)
    values, _ = jax.vmap(linalg.eigen)(a)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(a), rtol=1e-11)


_MANY = """
import numpy as np
import nlme
from nlme.marginal.objective import evaluate_subjects
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory

class Level(nlme.Model):
    level: nlme.Scalar = nlme.real(3.0)
    omega: nlme.Covariance = nlme.covariance(a=0.5, b=0.2, c=0.1, d=0.2)
    sd: nlme.Scalar = nlme.positive(1.0)
    def individual(self, eta, cov):
        return dict(a=self.level + eta.a, b=eta.b, c=eta.c, d=eta.d)
    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b * t + ind.c * t**2 + ind.d * t**3, self.sd)}

t = np.linspace(0.0, 1.0, 9)
people = nlme.Population(tuple(nlme.Subject(id=i + 1, time=t, dv=3.0 + np.sin(i + t), evid=np.zeros(9)) for i in range(60)))
model, method = Level(), nlme.ImportanceSampling(1000)
layout, inventory = lay_out(model, people), Inventory(model)
for _ in range(5):
    found = evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, inventory.unconstrained(model), np.zeros((60, 4)))
    assert np.isfinite(np.asarray(found.gradient)).all()
"""


@pytest.mark.slow
def test_large_batches_come_to_an_end():
    """60,000 systems at once: by LAPACK through jaxlib this waited for ever on two cores, in most runs."""
    subprocess.run([sys.executable, "-c", _MANY], check=True, timeout=240)
