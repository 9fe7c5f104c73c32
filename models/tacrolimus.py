"""Tacrolimus by mouth after kidney transplantation: two compartments, Erlang absorption, with genotype and formulation.

Reference
    Woillard JB, de Winter BCM, Kamar N, Marquet P, Rostaing L, Rousseau A (2011), Population pharmacokinetic model and Bayesian
    estimator for two tacrolimus formulations - twice daily Prograf and once daily Advagraf, Br J Clin Pharmacol 71:391-402,
    doi:10.1111/j.1365-2125.2010.03837.x.
Population
    73 adult kidney recipients, 18 to 77 years, 45 to 116 kg; 145 profiles under Prograf and 41 under Advagraf; 6 of them carry
    CYP3A5*1.
Units
    dose mg, time h, concentration ng/mL (whole blood) = ug/L, clearance L/h, volume L, haematocrit %, cyp3a5 0 or 1 (carries *1),
    prograf 0 or 1 (0: Advagraf).
Words
    tacrolimus, immunosuppressant, calcineurin inhibitor, L04AD02, two compartments, oral, transit absorption, transplantation

| value                        | origin (read as tabulated in nlmixr2lib, Woillard_2011_tacrolimus)                         |
|------------------------------|--------------------------------------------------------------------------------------------|
| ktr, ktr_prograf             | Table 4, whole data set: theta1 and theta2, Ktr = 3.34 x 1.53^study                        |
| cl, cl_hct, cl_cyp3a5        | Table 4: theta3 to theta5, CL/F = 21.2 (HT/35)^-1.14 2.00^CYP                              |
| v1, v1_prograf               | Table 4: theta6 and theta7, Vc/F = 486 x 0.29^study                                        |
| q, v2                        | Table 4                                                                                    |
| omega                        | Table 4, 24, 28, 31, 54, 60 % (Ktr CL Vc Q Vp): ln(1 + CV^2)                               |
| occasions                    | Table 4, between occasions under Prograf, 33, 75, 31 % (Ktr Vc CL): ln(1 + CV^2)           |
| add, prop                    | Table 4                                                                                    |
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Tacrolimus(nlme.Model):
    """Tacrolimus by mouth: two compartments, Erlang absorption, genotype, haematocrit, formulation (Woillard et al. 2011)."""

    ktr: Scalar = nlme.positive(3.34, unit="1/h", label="Transit rate constant, Advagraf")
    cl: Scalar = nlme.positive(21.2, unit="L/h", label="Clearance / F, CYP3A5*3/*3, haematocrit 35 %")
    v1: Scalar = nlme.positive(486.0, unit="L", label="Central volume / F, Advagraf")
    q: Scalar = nlme.positive(79.0, unit="L/h", label="Exchange between compartments / F")
    v2: Scalar = nlme.positive(271.0, unit="L", label="Peripheral volume / F")
    ktr_prograf: Scalar = nlme.positive(1.53, label="Factor of Prograf on the transit rate constant")
    v1_prograf: Scalar = nlme.positive(0.29, label="Factor of Prograf on central volume")
    cl_hct: Scalar = nlme.real(-1.14, label="Exponent of haematocrit on clearance")
    cl_cyp3a5: Scalar = nlme.positive(2.0, label="Factor of CYP3A5*1 on clearance")
    omega: nlme.Covariance = nlme.covariance(
        ktr=math.log(1 + 0.24**2),
        cl=math.log(1 + 0.28**2),
        v1=math.log(1 + 0.31**2),
        q=math.log(1 + 0.54**2),
        v2=math.log(1 + 0.60**2),
    )
    occasions: nlme.Covariance = nlme.covariance(
        ktr_occ=math.log(1 + 0.33**2), v1_occ=math.log(1 + 0.75**2), cl_occ=math.log(1 + 0.31**2), per="occasion"
    )
    add: Scalar = nlme.positive(0.71, unit="ng/mL", label="Additive error")
    prop: Scalar = nlme.positive(0.113, label="Proportional error")

    covariates = {"hct": "%", "cyp3a5": None, "prograf": None}

    def individual(self, eta, cov):
        genotype = self.cl_cyp3a5**cov.cyp3a5 * (cov.hct / 35.0) ** self.cl_hct
        return dict(
            ktr=self.ktr * self.ktr_prograf**cov.prograf * jnp.exp(eta.ktr + cov.prograf * eta.ktr_occ),
            cl=self.cl * genotype * jnp.exp(eta.cl + cov.prograf * eta.cl_occ),
            v1=self.v1 * self.v1_prograf**cov.prograf * jnp.exp(eta.v1 + cov.prograf * eta.v1_occ),
            q=self.q * jnp.exp(eta.q),
            v2=self.v2 * jnp.exp(eta.v2),
        )

    def dynamics(self, ind):
        disposition = nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)
        return nlme.pk.transit_chain(disposition, 2, ktr=ind.ktr)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(1000.0 * state.central / ind.v1, add=self.add, prop=self.prop)}
