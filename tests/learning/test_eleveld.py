"""Propofol: covariates that a fit without them and `augment` find, against people whom neither has seen.

Published, of the very people that were fitted: a median of 0.287 (Eleveld et al. 2018) and of 0.232 (a covariate network, Wahlquist et
al. 2023).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from propofol import PARAMETERS, errors, read, table

import nlme
from nlme import Scalar

COVARIATES = ("AGE", "WGT", "HT", "SEX", "VENOUS", "OPIOIDS", "BMI")


class Propofol(nlme.Model):
    """Three compartments, scaled to 70 kg by the usual exponents; no other covariate."""

    covariates = {"WGT": ""}
    cl: Scalar = nlme.positive(1.8)
    v1: Scalar = nlme.positive(6.0)
    q2: Scalar = nlme.positive(1.7)
    v2: Scalar = nlme.positive(25.0)
    q3: Scalar = nlme.positive(1.1)
    v3: Scalar = nlme.positive(270.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v1=0.3, q2=0.3, v2=0.3, q3=0.3, v3=0.3)
    sd: Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        size = cov.WGT / 70
        exponent = {name: 1.0 if name[0] == "v" else 0.75 for name in PARAMETERS}
        return {name: getattr(self, name) * size ** exponent[name] * jnp.exp(eta[name]) for name in PARAMETERS}

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(**{name: ind[name] for name in PARAMETERS})

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v1, self.sd)}


@pytest.mark.slow
def test_a_fold_of_whole_subjects():
    rows = table()
    people = np.random.default_rng(0).permutation(rows.ID.unique())
    own = rows.ID.map(dict(zip(people, np.arange(len(people)) % 5, strict=True))) == 0
    train, test = read(rows[~own], COVARIATES), read(rows[own], COVARIATES)
    fit = nlme.fit(Propofol(), train, starts=0, progress=False)
    found = nlme.augment(fit, inputs=COVARIATES)
    assert fit.converged and found.pays
    learned, without = (errors(model, test, rows[own]).median() for model in (found.model, fit.model))
    assert learned < 0.232 < without
