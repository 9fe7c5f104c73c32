"""Rifampicin by mouth in tuberculosis: one compartment, transit absorption, formulation, variability between occasions.

Reference
    Wilkins JJ, Savic RM, Karlsson MO, et al. (2008), Population pharmacokinetics of rifampin in pulmonary tuberculosis patients,
    including a semimechanistic model to describe variable absorption, Antimicrob Agents Chemother 52:2138-2148,
    doi:10.1128/AAC.00461-07.
Population
    263 South African adults with pulmonary tuberculosis, 450 to 600 mg a day by mouth, up to six occasions.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L; single-drug formulation (sdf) 0 or 1.
Words
    rifampicin, rifampin, antibiotic, tuberculosis, anti-infective, J04AB02, one compartment, oral, transit absorption

| value                        | origin (DDMODEL00000280, final estimates, as tabulated in nlmixr2lib,                      |
|                              | Wilkins_2008_rifampicin; the abstract has CL/F, V/F and the effects of the formulation)    |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v, ka, mtt, n            | THETA 1, 2, 3, 6, 7, of fixed-dose combinations                                            |
| mtt_sdf, cl_sdf              | 1 + THETA 8 and 9                                                                          |
| omega                        | OMEGA of the same listing (CL and V correlated)                                            |
| occasions                    | its OMEGA of CL and MTT, the same on all occasions                                         |
| add, prop                    | THETA 4 and 5                                                                              |
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Rifampicin(nlme.Model):
    """Rifampicin by mouth: one compartment, transit absorption, formulation, occasions (Wilkins et al. 2008)."""

    cl: Scalar = nlme.positive(19.2, unit="L/h", label="Clearance / F, fixed-dose combination")
    v: Scalar = nlme.positive(53.2, unit="L", label="Volume / F")
    ka: Scalar = nlme.positive(1.15, unit="1/h", label="Absorption rate constant")
    mtt: Scalar = nlme.positive(0.424, unit="h", label="Mean transit time, fixed-dose combination")
    n: Scalar = nlme.positive(7.13, label="Number of transit compartments")
    mtt_sdf: Scalar = nlme.positive(2.04, label="Factor of single-drug formulations on mean transit time")
    cl_sdf: Scalar = nlme.positive(1.236, label="Factor of single-drug formulations on clearance")
    omega: nlme.Covariance = nlme.covariance(
        cl=0.279, v=0.188, ka=0.439, mtt=0.361, n=2.44, correlation={("cl", "v"): 0.217 / math.sqrt(0.279 * 0.188)}
    )
    occasions: nlme.Covariance = nlme.covariance(cl_occ=0.0508, mtt_occ=0.461, per="occasion")
    add: Scalar = nlme.positive(0.0923, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.222, label="Proportional error")

    covariates = {"sdf": None}

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * self.cl_sdf**cov.sdf * jnp.exp(eta.cl + eta.cl_occ),
            v=self.v * jnp.exp(eta.v),
            ka=self.ka * jnp.exp(eta.ka),
            mtt=self.mtt * self.mtt_sdf**cov.sdf * jnp.exp(eta.mtt + eta.mtt_occ),
            n=self.n * jnp.exp(eta.n),
        )

    def dynamics(self, ind):
        return nlme.pk.transit(nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka), ind.n, mtt=ind.mtt)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}
