"""Likelihood, modes and standard errors of R's nlme, whose likelihood is FOCE's when the residual error is additive."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from reference import case, lower

import nlme

CASE = case("theophylline_monolix_saemix_nlme")


class FullBlock(nlme.Model):
    """R's SSfol: conc = D exp(lKe + lKa - lCl) (exp(-Ke t) - exp(-Ka t)) / (Ka - Ke)."""

    lke: nlme.Scalar = nlme.real(-2.4)
    lka: nlme.Scalar = nlme.real(0.5)
    lcl: nlme.Scalar = nlme.real(-3.2)
    sd: nlme.Scalar = nlme.positive(0.7)
    omega: nlme.Covariance = nlme.covariance(("lke", "lka", "lcl"), [[0.02], [0.0, 0.4], [0.0, 0.0, 0.06]])
    covariates = {"dose_per_kg": "mg/kg"}

    def individual(self, eta, cov):
        return dict(lke=self.lke + eta.lke, lka=self.lka + eta.lka, lcl=self.lcl + eta.lcl, dose=cov.dose_per_kg)

    def observe(self, ind, state, t):
        ke, ka = jnp.exp(ind.lke), jnp.exp(ind.lka)
        f = ind.dose * jnp.exp(ind.lke + ind.lka - ind.lcl) / (ka - ke) * (jnp.exp(-ke * t) - jnp.exp(-ka * t))
        return {"conc": nlme.additive(f, self.sd)}


class Diagonal(FullBlock):
    omega: nlme.Covariance = nlme.covariance(lka=0.4, lcl=0.03)

    def individual(self, eta, cov):
        return dict(lke=self.lke, lka=self.lka + eta.lka, lcl=self.lcl + eta.lcl, dose=cov.dose_per_kg)


@pytest.fixture(scope="module")
def population():
    return nlme.read_nonmem(CASE.table("data_nlme.csv"), covariates=["dose_per_kg"])


@pytest.mark.slow
def test_full_block(population):
    printed = CASE.reference("nlme_fm1_full_block")
    at = printed["estimates"]
    model = FullBlock(at["lKe"], at["lKa"], at["lCl"], at["sigma"], omega=lower(at["Omega_lower"]))
    found = nlme.evaluate(model, population, nlme.FOCE())
    assert -0.5 * found.objective_full == pytest.approx(printed["objective"]["logLik"], abs=5e-4)


def test_diagonal(population):
    printed = CASE.reference("nlme_fm3_diag")
    at = printed["estimates"]
    model = Diagonal(at["lKe"], at["lKa"], at["lCl"], at["sigma"], omega={"lka": at["omega2_lKa"], "lcl": at["omega2_lCl"]})
    found = nlme.evaluate(model, population, nlme.FOCE())
    assert -0.5 * found.objective_full == pytest.approx(printed["objective"]["logLik"], abs=1.5e-3)
    theirs = printed["ranef_lKa_lCl"]
    np.testing.assert_allclose(found.eta.loc[[int(k) for k in theirs]], list(theirs.values()), atol=1e-3)
