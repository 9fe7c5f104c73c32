"""Trastuzumab in breast cancer: two compartments, with metastases, shed antigen and weight.

Reference
    Bruno R, Washington CB, Lu JF, Lieberman G, Banken L, Klein P (2005), Population pharmacokinetics of trastuzumab in patients
    with HER2+ metastatic breast cancer, Cancer Chemother Pharmacol 56:361-369, doi:10.1007/s00280-005-1026-z.
Population
    476 adults, 25 to 81 years, 42 to 119 kg, 460 of them with HER2-positive metastatic breast cancer; 4 mg/kg, then
    2 mg/kg a week.
Units
    dose mg, time days, concentration ug/mL = mg/L, clearance L/day, volume L, weight kg, ecd ng/mL (shed extracellular domain of
    HER2), met 0 or 1 (four or more metastatic sites).
Words
    trastuzumab, monoclonal antibody, anti-HER2, anticancer, L01FD01, two compartments

| value                        | origin (read as tabulated in nlmixr2lib, Bruno_2005_trastuzumab)                           |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v, k12, k21              | Table 3                                                                                    |
| cl_met, cl_ecd, v_wt, v_ecd  | Table 3, at 70 kg and 8.23 ng/mL; levels above 200 ng/mL count as 200 (Results)            |
| omega                        | Table 3: 43, 29, 54, 67 % (CL V K12 K21): ln(1 + CV^2)                                     |
| prop                         | Table 3: 23 %                                                                              |
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Trastuzumab(nlme.Model):
    """Trastuzumab in breast cancer: two compartments, metastases, shed antigen, weight (Bruno et al. 2005)."""

    cl: Scalar = nlme.positive(0.225, unit="L/day", label="Clearance")
    v: Scalar = nlme.positive(2.95, unit="L", label="Central volume at 70 kg")
    k12: Scalar = nlme.positive(0.164, unit="1/day", label="Rate constant, central to peripheral")
    k21: Scalar = nlme.positive(0.101, unit="1/day", label="Rate constant, peripheral to central")
    cl_met: Scalar = nlme.real(0.221, label="Four or more metastatic sites on clearance")
    cl_ecd: Scalar = nlme.real(0.041, label="Exponent of shed antigen on clearance")
    v_wt: Scalar = nlme.real(0.556, label="Exponent of weight on central volume")
    v_ecd: Scalar = nlme.real(0.105, label="Exponent of shed antigen on central volume")
    omega: nlme.Covariance = nlme.covariance(
        cl=math.log(1 + 0.43**2), v=math.log(1 + 0.29**2), k12=math.log(1 + 0.54**2), k21=math.log(1 + 0.67**2)
    )
    prop: Scalar = nlme.positive(0.23, label="Proportional error")

    covariates = {"wt": "kg", "ecd": "ng/mL", "met": None}

    def individual(self, eta, cov):
        shed = jnp.minimum(cov.ecd, 200.0) / 8.23
        return dict(
            cl=self.cl * shed**self.cl_ecd * (1.0 + self.cl_met * cov.met) * jnp.exp(eta.cl),
            v=self.v * (cov.wt / 70.0) ** self.v_wt * shed**self.v_ecd * jnp.exp(eta.v),
            k12=self.k12 * jnp.exp(eta.k12),
            k21=self.k21 * jnp.exp(eta.k21),
        )

    def dynamics(self, ind):
        q = ind.k12 * ind.v
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v, q=q, v2=q / ind.k21)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}
