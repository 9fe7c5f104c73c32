"""Bands of a learned function hold the function that made the data as often as they say: fifty simulated data sets."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme


def maturation(age):
    """log clearance over age, years: falls by 0.8 around 45."""
    return -0.8 / (1.0 + np.exp(-(age - 45.0) / 6.0))


class Truth(nlme.Model):
    """A bolus, clearance by age."""

    cl: nlme.Scalar = nlme.positive(1.0, unit="L/h")
    v: nlme.Scalar = nlme.positive(10.0, unit="L")
    omega: nlme.Covariance = nlme.covariance(cl=0.04, v=0.04)
    prop: nlme.Scalar = nlme.positive(0.1)
    covariates = {"age": "years"}

    def effect(self, cov):
        return -0.8 / (1.0 + jnp.exp(-(cov.age - 45.0) / 6.0))

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(self.effect(cov) + eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


class Learned(Truth):
    """The same, the effect of age a network."""

    net: nlme.MLP = nlme.mlp(inputs=("age",), outputs=1, width=4, depth=1, key=1, center=45.0, scale=15.0)

    def effect(self, cov):
        return self.net(cov)[0]


def design(subjects: int) -> nlme.Population:
    ages, times = np.random.default_rng(5).uniform(20.0, 70.0, subjects), (1.0, 4.0, 8.0, 16.0)
    doses = [dict(ID=k, TIME=0.0, AMT=100.0, EVID=1, DV=np.nan, age=age) for k, age in enumerate(ages, 1)]
    samples = [dict(ID=k, TIME=t, AMT=0.0, EVID=0, DV=1.0, age=age) for k, age in enumerate(ages, 1) for t in times]
    return read(pd.DataFrame(doses + samples).sort_values(["ID", "TIME"]))


def read(frame):
    return nlme.read_nonmem(frame, covariates={"age": "years"})


@pytest.mark.slow
@pytest.mark.parametrize("strength", [0.1, 1.0])
def test_bands_by_laplace_cover(strength):
    """Pointwise over what the ages visited: 80 to 95 % of 90 % bands; nowhere fewer than two in three."""
    people, held = design(50), []
    for key in range(50):
        told = nlme.simulate(Truth(), people, key=key, eta="new", as_data=True).drop(columns="REPLICATE")
        fit = nlme.fit(Learned(), read(told), fixed=("cl",), penalty=nlme.L2(strength), starts=0, progress=False)
        (curve,) = nlme.learned_curves(fit, points=25).curves
        held.append((curve.lower <= maturation(curve.x)) & (maturation(curve.x) <= curve.upper))
    covered = np.mean(held, axis=0)
    assert 0.80 <= covered.mean() <= 0.95
    assert covered.min() > 2 / 3
