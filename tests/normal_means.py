"""Groups of normal observations about normal means: a model whose posterior is known exactly, and draws without their warnings."""

from __future__ import annotations

import warnings

import numpy as np

import nlme


class Means(nlme.Model):
    """y_ij = mu + eta_i + e_ij: with the variances fixed and a normal prior the posterior of mu and eta is normal."""

    mu: nlme.Scalar = nlme.real(1.0)
    omega: nlme.Covariance = nlme.covariance(mu=0.5)
    sd: nlme.Scalar = nlme.positive(0.6)

    def individual(self, eta, cov):
        return dict(mu=self.mu + eta.mu)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.mu, self.sd)}


class TwoKinds(Means):
    """Some have a level 3 higher than others."""

    kind: nlme.Mixture = nlme.mixture(low=0.5, high=0.5)

    def individual(self, eta, cov):
        return dict(mu=self.mu + self.kind.choose(low=0.0, high=3.0) + eta.mu)


def groups(seed=4, sizes=(3, 1, 5, 2, 4, 3)):
    random = np.random.default_rng(seed)
    level = 1.4 + 0.7 * random.normal(size=len(sizes))
    return nlme.Population(
        tuple(
            nlme.Subject(id=i + 1, time=np.arange(n, dtype=float), dv=m + 0.6 * random.normal(size=n), covariates={})
            for i, (n, m) in enumerate(zip(sizes, level, strict=True))
        )
    )


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nlme.sample(*arguments, progress=False, **options)


def exact_means(population, prior_sd=2.0, omega=0.5, sd=0.6):
    """Mean and standard deviation of mu and of every eta given all data."""
    y = [s.dv for s in population]
    n = len(y)
    precision = np.zeros((n + 1, n + 1))
    shift = np.zeros(n + 1)
    precision[0, 0] = prior_sd**-2
    for i, values in enumerate(y):
        k = len(values) / sd**2
        precision[0, 0] += k
        precision[0, i + 1] = precision[i + 1, 0] = k
        precision[i + 1, i + 1] = k + 1 / omega
        shift[0] += values.sum() / sd**2
        shift[i + 1] = values.sum() / sd**2
    covariance = np.linalg.inv(precision)
    return covariance @ shift, np.sqrt(np.diag(covariance))
