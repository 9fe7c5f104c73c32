"""Warfarin and prothrombin complex activity: one compartment with lag, and a turnover whose production it inhibits.

Reference
    Nguyen THT, Mouksassi MS, Holford N, et al. (2017), Model evaluation of continuous data pharmacometric models: metrics and
    graphics, CPT Pharmacometrics Syst Pharmacol 6:87-109, doi:10.1002/psp4.12161 (turnover model, pharmacokinetics fixed).
    Data: O'Reilly RA, Aggeler PM, Leong LS (1963), J Clin Invest 42:1542-1551; O'Reilly RA, Aggeler PM (1968), Circulation
    38:169-177.
Population
    32 healthy adults, a single oral dose of 1.5 mg/kg, concentrations and activities over 120 h.
Units
    dose mg, time h, concentration mg/L, prothrombin complex activity % of normal, clearance L/h, volume L, weight kg.
Words
    warfarin, anticoagulant, vitamin K antagonist, coumarin, B01AA03, one compartment, oral, turnover, indirect response, PKPD

| value                        | origin (the paper's control stream, ka1_to_emax1_est.ctl of its companion repository,      |
|                              | isoplinks/model_evaluation_continuous)                                                     |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v, t_abs, lag            | POP_CL, POP_V (per 70 kg), POP_TABS (half-life of absorption), POP_LAG                     |
| exponents of weight          | the same: 0.75 on CL, 1 on V                                                               |
| e0, c50, t_pca               | POP_E0, POP_C50, POP_TEQ (half-life of the activity); full inhibition (EMAX -1, fixed)     |
| omega                        | the same, variances                                                                        |
| add, prop, pca               | the same, square roots of 0.135, 0.00478 and 13.9                                          |
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Warfarin(nlme.Model):
    """Warfarin and prothrombin complex activity: one compartment with lag, turnover (Nguyen et al. 2017)."""

    cl: Scalar = nlme.positive(0.131, unit="L/h", label="Clearance at 70 kg")
    v: Scalar = nlme.positive(8.06, unit="L", label="Volume at 70 kg")
    t_abs: Scalar = nlme.positive(0.944, unit="h", label="Half-life of absorption")
    lag: Scalar = nlme.positive(1.03, unit="h", label="Lag of absorption")
    e0: Scalar = nlme.positive(95.9, unit="%", label="Activity without drug")
    c50: Scalar = nlme.positive(1.17, unit="mg/L", label="Concentration of half inhibition")
    t_pca: Scalar = nlme.positive(13.3, unit="h", label="Half-life of the activity")
    omega: nlme.Covariance = nlme.covariance(cl=0.0649, v=0.0201, t_abs=0.447, lag=0.311, e0=0.00199, c50=0.136, t_pca=0.0143)
    add: Scalar = nlme.positive(math.sqrt(0.135), unit="mg/L", label="Additive error of concentrations")
    prop: Scalar = nlme.positive(math.sqrt(0.00478), label="Proportional error of concentrations")
    pca: Scalar = nlme.positive(math.sqrt(13.9), unit="%", label="Additive error of activities")

    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        size = cov.wt / 70.0
        return dict(
            cl=self.cl * size**0.75 * jnp.exp(eta.cl),
            v=self.v * size * jnp.exp(eta.v),
            ka=math.log(2.0) / (self.t_abs * jnp.exp(eta.t_abs)),
            lag=self.lag * jnp.exp(eta.lag),
            e0=self.e0 * jnp.exp(eta.e0),
            c50=self.c50 * jnp.exp(eta.c50),
            kout=math.log(2.0) / (self.t_pca * jnp.exp(eta.t_pca)),
        )

    def dynamics(self, ind):
        pk = nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka, lag=ind.lag)
        return nlme.pd.indirect_response(pk, "I", kin=ind.e0 * ind.kout, kout=ind.kout, effect=nlme.pd.emax(1.0, ind.c50))

    def observe(self, ind, state, t):
        return {
            "conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop),
            "pca": nlme.additive(state.response, self.pca),
        }
