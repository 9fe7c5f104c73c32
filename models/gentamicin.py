"""Gentamicin in newborns and infants: three compartments, with weight, maturation and serum creatinine.

Reference
    Germovsek E, Kent A, Metsvaht T, et al. (2016), Development and evaluation of a gentamicin pharmacokinetic model that
    facilitates opportunistic gentamicin therapeutic drug monitoring in neonates and infants, Antimicrob Agents Chemother
    60:4869-4877, doi:10.1128/AAC.00577-16.
Population
    205 newborns and infants, 1,325 concentrations pooled from three studies; short intravenous infusions.  Typical creatinine, as the
    control stream has it, is negative from a postmenstrual age of 58.4 weeks on: the model has no predictions there.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L, weight kg, postmenstrual age weeks, postnatal age days,
    creatinine umol/L.
Words
    gentamicin, antibiotic, aminoglycoside, anti-infective, J01GB03, three compartments, neonates, children

| value                        | origin (final estimates of DDMODEL00000238, Output_real_run35b.lst, as tabulated in        |
|                              | nlmixr2lib, Germovsek_2016_gentamicin; the abstract has the six typical values)            |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q2, v2, q3, v3       | THETA 1 to 6, per 70 kg                                                                    |
| cl_creat, pna50              | THETA 9 and 10                                                                             |
| pma50, hill                  | THETA 7 and 8, fixed there: 55.4 weeks and 3.33                                            |
| exponents of weight          | the control stream: 0.632 on CL, 0.75 on Q, 1 on V                                         |
| typical creatinine           | the control stream: 166.48 - 2.8488 PMA umol/L                                             |
| omega                        | OMEGA of the same listing                                                                  |
| add, prop                    | square roots of SIGMA, 0.0164 and 0.0360                                                   |
"""

import math

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Gentamicin(nlme.Model):
    """Gentamicin in newborns: three compartments, weight, maturation, serum creatinine (Germovsek et al. 2016)."""

    cl: Scalar = nlme.positive(6.21, unit="L/h", label="Clearance at 70 kg, mature")
    v1: Scalar = nlme.positive(26.5, unit="L", label="Central volume at 70 kg")
    q2: Scalar = nlme.positive(2.15, unit="L/h", label="Rapid exchange at 70 kg")
    v2: Scalar = nlme.positive(21.2, unit="L", label="Rapid peripheral volume at 70 kg")
    q3: Scalar = nlme.positive(0.271, unit="L/h", label="Slow exchange at 70 kg")
    v3: Scalar = nlme.positive(148.0, unit="L", label="Slow peripheral volume at 70 kg")
    pma50: Scalar = nlme.positive(55.4, unit="week", label="Postmenstrual age at half of mature clearance")
    hill: Scalar = nlme.positive(3.33, label="Steepness of maturation")
    pna50: Scalar = nlme.positive(1.70, unit="day", label="Postnatal age at half effect")
    cl_creat: Scalar = nlme.real(-0.130, label="Exponent of creatinine on clearance")
    omega: nlme.Covariance = nlme.covariance(
        cl=0.175, v1=0.112, v2=0.132, v3=0.177, correlation={("cl", "v1"): 0.116 / math.sqrt(0.175 * 0.112)}
    )
    add: Scalar = nlme.positive(math.sqrt(0.0164), unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(math.sqrt(0.0360), label="Proportional error")

    covariates = {"wt": "kg", "pma": "week", "pna": "day", "creat": "umol/L"}

    def individual(self, eta, cov):
        size = cov.wt / 70.0
        mature = cov.pma**self.hill / (cov.pma**self.hill + self.pma50**self.hill) * cov.pna / (cov.pna + self.pna50)
        kidney = (cov.creat / (166.48 - 2.8488 * cov.pma)) ** self.cl_creat
        return dict(
            cl=self.cl * size**0.632 * mature * kidney * jnp.exp(eta.cl),
            v1=self.v1 * size * jnp.exp(eta.v1),
            q2=self.q2 * size**0.75,
            v2=self.v2 * size * jnp.exp(eta.v2),
            q3=self.q3 * size**0.75,
            v3=self.v3 * size * jnp.exp(eta.v3),
        )

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v1, q2=ind.q2, v2=ind.v2, q3=ind.q3, v3=ind.v3)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v1, add=self.add, prop=self.prop)}
