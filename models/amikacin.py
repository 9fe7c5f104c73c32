"""Amikacin in sepsis: two compartments, with renal function.

Reference
    Delattre IK, Musuamba FT, Nyberg J, et al. (2010), Population pharmacokinetic modeling and optimal sampling strategy for
    Bayesian estimation of amikacin exposure in critically ill septic patients, Ther Drug Monit 32:749-756,
    doi:10.1097/FTD.0b013e3181f675c2.
Population
    88 adults with severe sepsis or septic shock, 22 to 89 years, 38 to 125 kg, first 24 h of treatment; 25 mg/kg over 30 min.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L, creatinine clearance mL/min (Cockcroft-Gault).
Words
    amikacin, antibiotic, aminoglycoside, anti-infective, J01GB06, two compartments, intensive care, sepsis

| value                        | origin (read as tabulated in nlmixr2lib, Delattre_2010_amikacin)                           |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                | Table 2, final model; cl is the part that does not depend on the kidney                    |
| cl_crcl                      | Table 2, theta_CL-CLCR, per creatinine clearance over its median of 55.5 mL/min            |
| omega                        | Table 2, coefficients of variation 59.2, 39.1, 16.7, 43.6 % (CL V1 Q V2): ln(1 + CV^2)     |
| add, prop                    | Table 2                                                                                    |

The paper says "centered to their median"; only division by it gives its structural model's clearance of 2.21 L/h.
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Amikacin(nlme.Model):
    """Amikacin in sepsis: two compartments, renal function (Delattre et al. 2010)."""

    cl: Scalar = nlme.positive(0.77, unit="L/h", label="Clearance without the kidney's part")
    cl_crcl: Scalar = nlme.positive(1.42, unit="L/h", label="Renal clearance at 55.5 mL/min")
    v1: Scalar = nlme.positive(19.2, unit="L", label="Central volume")
    q: Scalar = nlme.positive(4.38, unit="L/h", label="Exchange between compartments")
    v2: Scalar = nlme.positive(9.38, unit="L", label="Peripheral volume")
    omega: nlme.Covariance = nlme.covariance(
        cl=math.log(1 + 0.592**2), v1=math.log(1 + 0.391**2), q=math.log(1 + 0.167**2), v2=math.log(1 + 0.436**2)
    )
    add: Scalar = nlme.positive(1.03, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.268, label="Proportional error")

    covariates = {"crcl": "mL/min"}

    def individual(self, eta, cov):
        return dict(
            cl=(self.cl + self.cl_crcl * cov.crcl / 55.5) * jnp.exp(eta.cl),
            v1=self.v1 * jnp.exp(eta.v1),
            q=self.q * jnp.exp(eta.q),
            v2=self.v2 * jnp.exp(eta.v2),
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v1, add=self.add, prop=self.prop)}
