"""A linear-Gaussian trial whose likelihood, estimates and profiles are known exactly: y_ij = mu + eta_i + e_ij, balanced.

With N subjects, n observations each, means m_i and sum of squares within W,

    -2 log L (without n log 2 pi) = N (n - 1) log s2 + W / s2 + sum_i [ log(s2 + n w2) + n (m_i - mu)^2 / (s2 + n w2) ]

s2 the residual variance, w2 that of eta, and everything is maximised in closed form.
"""

from __future__ import annotations

import numpy as np

import nlme

N, EACH = 12, 4


class OneWay(nlme.Model):
    """A mean, and subjects about it."""

    mu: nlme.Scalar = nlme.real(9.0)
    omega: nlme.Covariance = nlme.covariance(mu=1.0)
    sd: nlme.Scalar = nlme.positive(1.0)

    covariates = {"arm": ""}

    def individual(self, eta, cov):
        return dict(level=self.mu + eta.mu)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level, self.sd)}


def values(seed: int = 3) -> np.ndarray:
    """(N, EACH) observations."""
    draw = np.random.default_rng(seed)
    return 10.0 + 1.5 * draw.standard_normal((N, 1)) + draw.standard_normal((N, EACH))


def population_of(y: np.ndarray) -> nlme.Population:
    arms = np.arange(len(y)) % 3 == 0
    return nlme.Population(
        tuple(
            nlme.Subject(id=i + 1, time=np.arange(len(row), dtype=float), dv=row, covariates={"arm": float(arm)})
            for i, (row, arm) in enumerate(zip(y, arms, strict=True))
        ),
        ("y",),
    )


def objective(y: np.ndarray, mu: float, w2: float, s2: float, weights=None) -> float:
    weights = np.ones(len(y)) if weights is None else weights
    n, means = y.shape[1], y.mean(axis=1)
    within = ((y - means[:, None]) ** 2).sum(axis=1)
    total = s2 + n * w2
    return float(weights @ ((n - 1) * np.log(s2) + within / s2 + np.log(total) + n * (means - mu) ** 2 / total))


def estimates(y: np.ndarray, weights=None, mu: float | None = None) -> tuple[float, float, float]:
    """Maximum likelihood (mu, w2, s2), or (mu, w2, s2) at a given mu; an interior solution."""
    weights = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    n, means, count = y.shape[1], y.mean(axis=1), weights.sum()
    mu = float(weights @ means / count) if mu is None else mu
    s2 = float(weights @ ((y - means[:, None]) ** 2).sum(axis=1) / (count * (n - 1)))
    total = n * float(weights @ (means - mu) ** 2) / count
    assert total > s2, "the variance of eta is at its bound: take another seed"
    return mu, (total - s2) / n, s2
