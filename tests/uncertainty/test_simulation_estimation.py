"""Trials simulated from a model and fitted again, all in one program: bias, and coverage of intervals.

Intervals are the replicate's own, u -+ 1.96 sqrt(diag R^-1) in unconstrained (log-like) coordinates, with R half the central
differences of its gradient.  With 40 subjects the maximum likelihood estimate of a variance is low by about 1/40.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.marginal.objective import evaluate_subjects
from nlme.search.batch import with_observed
from nlme.uncertainty.redraw import redrawn_observations

STEP = 1e-3


class Oral(nlme.Model):
    """One compartment, first-order absorption."""

    ka: nlme.Scalar = nlme.positive(1.2)
    cl: nlme.Scalar = nlme.positive(3.0)
    v: nlme.Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(ka=0.2, cl=0.09, v=0.06)
    prop: nlme.Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class Response(nlme.Model):
    """One compartment, intravenous, and a direct effect Emax C / (EC50 + C) on a baseline."""

    cl: nlme.Scalar = nlme.positive(3.0)
    v: nlme.Scalar = nlme.positive(30.0)
    e0: nlme.Scalar = nlme.positive(20.0)
    emax: nlme.Scalar = nlme.positive(60.0)
    ec50: nlme.Scalar = nlme.positive(3.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.06, e0=0.04, ec50=0.16)
    prop: nlme.Scalar = nlme.positive(0.1)
    sd: nlme.Scalar = nlme.positive(2.0)

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * jnp.exp(eta.cl),
            v=self.v * jnp.exp(eta.v),
            e0=self.e0 * jnp.exp(eta.e0),
            ec50=self.ec50 * jnp.exp(eta.ec50),
        )

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        c = state.central / ind.v
        effect = ind.e0 + self.emax * c / (ind.ec50 + c)
        return {"conc": nlme.proportional(c, self.prop), "effect": nlme.additive(effect, self.sd)}


def trial(endpoints, subjects):
    """Everyone has 300 units at time 0 and is sampled twelve times at each endpoint, until the effect is back at its baseline.

    The values only hold places.
    """
    times = np.array([0.25, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 24.0, 36.0, 48.0])
    which = np.repeat(np.arange(len(endpoints)), len(times))
    order = np.argsort(np.tile(times, len(endpoints)), kind="stable")
    one = dict(time=np.tile(times, len(endpoints))[order], dv=np.ones(len(which)), endpoint=which[order])
    population = nlme.Population(tuple(nlme.Subject(id=i + 1, **one) for i in range(subjects)), endpoints)
    return population.with_doses(nlme.dose(300.0))


@eqx.filter_jit
def informations(method, anatomy, inventory, model, arrays, b, u, observed):
    """(R, P, P) half the second derivatives of every replicate's objective at its estimate."""

    def of_replicate(given):
        u, observed = given
        own = with_observed(arrays, observed)

        def gradient(u):
            return jnp.sum(evaluate_subjects(method, anatomy, inventory, model, own, u, b).gradient, axis=0)

        steps = STEP * jnp.eye(len(u))
        rows = jax.lax.map(lambda step: (gradient(u + step) - gradient(u - step)) / (2 * STEP), steps)
        return 0.25 * (rows + rows.T)

    return jax.lax.map(of_replicate, (u, observed), batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("truth", "endpoints", "replicates"),
    [(Oral(), ("conc",), 200), (Response(), ("conc", "effect"), 100)],
    ids=["oral", "pkpd"],
)
def test_estimates_return_to_the_truth(truth, endpoints, replicates):
    design = nlme.fit(truth, trial(endpoints, 40), max_evaluations=1, progress=False)
    fit = dataclasses.replace(design, model=truth)
    boot = nlme.bootstrap(fit, replicates, key=11, parametric=True)
    assert boot.n_failed <= replicates // 100, boot.failures
    good, names = boot.fits.converged, fit.inventory.names
    expected = np.asarray(fit.inventory.natural(truth))
    bias = boot.fits.natural[good].mean(axis=0) / expected - 1.0
    for name, own in zip(names, bias, strict=True):
        assert abs(own) < (0.10 if name.startswith("omega") else 0.03), (name, own)

    observed = redrawn_observations(fit, replicates, jax.random.key(11))
    layout = fit.layout
    problem = (fit.method, layout.anatomy, fit.inventory, truth, layout.arrays, jnp.asarray(fit.b))
    information = np.asarray(informations(*problem, jnp.asarray(boot.fits.u), list(map(jnp.asarray, observed))))[good]
    errors = np.sqrt(np.diagonal(np.linalg.inv(information), axis1=1, axis2=2))
    apart = np.abs(boot.fits.u[good] - np.asarray(fit.inventory.unconstrained(truth)))
    covered = np.mean(apart < 1.959964 * errors, axis=0)
    for name, share in zip(names, covered, strict=True):
        assert 0.90 <= share <= 0.98, (name, share)
