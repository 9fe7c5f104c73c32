"""Propofol in 1,031 people: covariates that a fit without them and `augment` find, against people whom neither has seen.

Data and score of Eleveld et al. (2018), doi:10.1016/j.bja.2018.01.018: the median over subjects of each subject's median
|ln(observed / predicted)|, predicted from covariates alone. Published, of the very people that were fitted: 0.287 (covariate model),
0.232 (Wahlquist et al. 2023, a covariate network).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from reference import case

import nlme
from nlme import Scalar

CASE = case("eleveld_propofol")
COVARIATES = ("AGE", "WGT", "HT", "SEX", "VENOUS", "OPIOIDS", "BMI")
PARAMETERS = ("cl", "v1", "q2", "v2", "q3", "v3")


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
@pytest.mark.filterwarnings("ignore")
def test_a_fold_of_whole_subjects():
    table = CASE.table()
    table = table[~table.ID.isin([893, 897])]  # they have no observations
    people = np.random.default_rng(0).permutation(table.ID.unique())
    own = table.ID.map(dict(zip(people, np.arange(len(people)) % 5, strict=True))) == 0

    def read(rows):
        return nlme.read_nonmem(rows, covariates=COVARIATES, allow=["duplicated record"])

    train, test, seen = read(table[~own]), read(table[own]), table[own & (table.EVID == 0)]

    def error(model):
        predicted = nlme.predict(model, test)
        predicted = predicted[predicted.EVID == 0]
        each = np.abs(np.log(seen.DV.to_numpy() / predicted["conc"].to_numpy()))
        return pd.Series(each).groupby(predicted.ID.to_numpy()).median().median()

    fit = nlme.fit(Propofol(), train, starts=0, progress=False)
    found = nlme.augment(fit, inputs=COVARIATES)
    assert fit.converged and found.pays
    assert error(found.model) < 0.232 < error(fit.model)
