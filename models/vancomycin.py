"""Vancomycin by intravenous infusion: two compartments, with renal function, weight and haemodialysis.

Reference
    Goti V, Chaturvedula A, Fossler MJ, Mok S, Jacob JT (2018), Hospitalized patients with and without hemodialysis have markedly
    different vancomycin pharmacokinetics: a population pharmacokinetic model-based analysis, Ther Drug Monit 40:212-221,
    doi:10.1097/FTD.0000000000000490.
Population
    1,812 hospitalised adults, 17 to 101 years, 33 to 255 kg, 336 of them on intermittent haemodialysis; routine monitoring.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L, weight kg, creatinine clearance mL/min (Cockcroft-Gault, at
    most 150; serum creatinine at least 1 mg/dL above 60 years), hd 0 or 1 (on haemodialysis).
Words
    vancomycin, antibiotic, glycopeptide, anti-infective, J01XA01, two compartments

| value                        | origin (read as tabulated in nlmixr2lib, Goti_2018_vancomycin)                             |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, v2, q                | Table 2, final model, at 120 mL/min, 70 kg, no dialysis                                    |
| cl_crcl, cl_hd, v1_hd        | Table 2: TVCL = CL (CrCL/120)^0.8 0.7^DIAL, TVVc = Vc (WT/70) 0.5^DIAL                     |
| weight on v2                 | Methods: volumes are normalised to 70 kg                                                   |
| omega                        | Table 2, coefficients of variation 39.8, 81.6, 57.1 % (CL, Vc, Vp): ln(1 + CV^2)           |
| add, prop                    | Table 2                                                                                    |

The paper's final run ended with rounding errors and a covariance step; its estimates are those.
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Vancomycin(nlme.Model):
    """Vancomycin by infusion: two compartments, renal function, weight, haemodialysis (Goti et al. 2018)."""

    cl: Scalar = nlme.positive(4.5, unit="L/h", label="Clearance at 120 mL/min")
    v1: Scalar = nlme.positive(58.4, unit="L", label="Central volume at 70 kg")
    q: Scalar = nlme.positive(6.5, unit="L/h", label="Exchange between compartments")
    v2: Scalar = nlme.positive(38.4, unit="L", label="Peripheral volume at 70 kg")
    cl_crcl: Scalar = nlme.real(0.8, label="Exponent of creatinine clearance on clearance")
    cl_hd: Scalar = nlme.positive(0.7, label="Factor of haemodialysis on clearance")
    v1_hd: Scalar = nlme.positive(0.5, label="Factor of haemodialysis on central volume")
    omega: nlme.Covariance = nlme.covariance(cl=math.log(1 + 0.398**2), v1=math.log(1 + 0.816**2), v2=math.log(1 + 0.571**2))
    add: Scalar = nlme.positive(3.4, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.227, label="Proportional error")

    covariates = {"wt": "kg", "crcl": "mL/min", "hd": None}

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * (cov.crcl / 120.0) ** self.cl_crcl * self.cl_hd**cov.hd * jnp.exp(eta.cl),
            v1=self.v1 * (cov.wt / 70.0) * self.v1_hd**cov.hd * jnp.exp(eta.v1),
            q=self.q,
            v2=self.v2 * (cov.wt / 70.0) * jnp.exp(eta.v2),
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v1, add=self.add, prop=self.prop)}
