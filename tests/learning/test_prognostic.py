"""Fifty people whose six covariates act on an indirect response: what `augment` makes of them, against the best possible prediction.

The task and the truth are those of the reference case ``deep_idr`` (parameter values of a published course, see its reference.json).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case

import nlme
from nlme import Scalar

CASE = case("deep_idr")
COVARIATES = ("c1", "c2", "c3", "c4", "c5", "c6")


class IndirectResponse(nlme.Model):
    """Stimulated production; no covariate but the response's own baseline, which is given."""

    covariates = {"R_eq": ""}
    ka: Scalar = nlme.positive(0.6)
    cl: Scalar = nlme.positive(0.8)
    smax: Scalar = nlme.positive(2.0)
    sc50: Scalar = nlme.positive(0.05)
    n: Scalar = nlme.positive(1.2)
    kout: Scalar = nlme.positive(2.0)
    omega: nlme.Covariance = nlme.covariance(smax=0.1, sc50=0.1, ka=0.1, vc=0.1, kout=0.1)
    sd: Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        vc = jnp.exp(eta.vc)
        return dict(
            ka=self.ka * jnp.exp(eta.ka),
            k=self.cl / vc,
            vc=vc,
            kout=self.kout * jnp.exp(eta.kout),
            smax=self.smax * jnp.exp(eta.smax),
            sc50=self.sc50 * jnp.exp(eta.sc50),
            base=cov.R_eq,
        )

    def dynamics(self, ind):
        def rhs(t, a):
            c = jnp.maximum(a.central / ind.vc, 1e-12)
            effect = ind.smax * c**self.n / (ind.sc50**self.n + c**self.n)
            absorbed = ind.ka * a.depot
            return dict(
                depot=-absorbed, central=absorbed - ind.k * a.central, r=ind.base * ind.kout * (1 + effect) - ind.kout * a.r
            )

        return nlme.ODE(rhs, ("depot", "central", "r"), initial=dict(r=ind.base))

    def observe(self, ind, state, t):
        return {"resp": nlme.additive(state.r, self.sd)}


@pytest.mark.slow
def test_covariates_of_fifty_people():
    table, truth = CASE.table("prognostic.csv"), CASE.table("prognostic_truth.csv")

    def read(kind):
        rows = table[kind == table.SET].drop(columns="SET")
        return nlme.read_nonmem(rows, covariates=["R_eq", *COVARIATES])

    train, test = read("small"), read("test")
    best = truth[truth.ID.isin([int(s.id) for s in test])].PRED.to_numpy()

    def error(model):
        predicted = nlme.predict(model, test)
        return np.abs(predicted[predicted.EVID == 0]["resp"].to_numpy() - best).mean()

    fit = nlme.fit(IndirectResponse(), train, progress=False)
    found = nlme.augment(fit, inputs=COVARIATES)
    assert found.pays
    assert error(found.model) < 0.6 * error(fit.model)
    assert error(nlme.augment(fit, "quadratic", inputs=COVARIATES).model) < 0.6 * error(fit.model)
