"""Meropenem by infusion: two compartments, renal function, age, weight.

Reference
    Li C, Kuti JL, Nightingale CH, Nicolau DP (2006), Population pharmacokinetic analysis and dosing regimen optimization of
    meropenem in adult patients, J Clin Pharmacol 46:1171-1178, doi:10.1177/0091270006291035.
Population
    79 adults with infections; 500 to 2,000 mg by infusion over 0.5 or 3 h.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L, age years, weight kg, creatinine clearance mL/min (measured, not
    per body surface).
Words
    meropenem, antibiotic, carbapenem, anti-infective, J01DH02, two compartments, infusion

| value                        | origin (DDMODEL00000213, the published estimates, as tabulated in nlmixr2lib,              |
|                              | Li_2006_meropenem)                                                                         |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                | POP_CL, POP_V1, POP_Q, POP_V2                                                              |
| cl_age, cl_crcl, v1_wt       | COV_CL_AGE (per 35 years), COV_CL_CLCR (per 83 mL/min), COV_V1_WT (per 70 kg)              |
| omega                        | PPV_CL, PPV_V1, PPV_Q, PPV_V2, variances                                                   |
| add, prop                    | RUV_ADD, RUV_PROP                                                                          |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Meropenem(nlme.Model):
    """Meropenem by infusion: two compartments, renal function, age, weight (Li et al. 2006)."""

    cl: Scalar = nlme.positive(14.6, unit="L/h", label="Clearance at 35 years and 83 mL/min")
    v1: Scalar = nlme.positive(10.8, unit="L", label="Central volume at 70 kg")
    q: Scalar = nlme.positive(18.6, unit="L/h", label="Exchange between compartments")
    v2: Scalar = nlme.positive(12.6, unit="L", label="Peripheral volume")
    cl_age: Scalar = nlme.real(-0.34, label="Exponent of age on clearance")
    cl_crcl: Scalar = nlme.real(0.62, label="Exponent of creatinine clearance on clearance")
    v1_wt: Scalar = nlme.real(0.99, label="Exponent of weight on central volume")
    omega: nlme.Covariance = nlme.covariance(cl=0.118, v1=0.143, q=0.290, v2=0.102)
    add: Scalar = nlme.positive(0.47, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.19, label="Proportional error")

    covariates = {"age": "year", "wt": "kg", "crcl": "mL/min"}

    def individual(self, eta, cov):
        kidney = (cov.crcl / 83.0) ** self.cl_crcl
        return dict(
            cl=self.cl * (cov.age / 35.0) ** self.cl_age * kidney * jnp.exp(eta.cl),
            v1=self.v1 * (cov.wt / 70.0) ** self.v1_wt * jnp.exp(eta.v1),
            q=self.q * jnp.exp(eta.q),
            v2=self.v2 * jnp.exp(eta.v2),
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v1, add=self.add, prop=self.prop)}
