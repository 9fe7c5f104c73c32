"""Indomethacin after an intravenous bolus: two compartments.

Reference
    Pinheiro JC, Bates DM (2000), Mixed-Effects Models in S and S-PLUS, section 6.2, fit ``fm1Indom.nlme``: the biexponential
    A1 exp(-exp(lrc1) t) + A2 exp(-exp(lrc2) t), here written in clearances and volumes.  Data: Kwan et al. (1976),
    J Pharmacokinet Biopharm 4:255-280.
Population
    6 healthy volunteers, one bolus (25 mg; see the data set's README), 11 samples in 8 h.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L.
Words
    indomethacin, NSAID, anti-inflammatory, M01AB01, two compartments, bolus

| value         | origin                                                                                                  |
|---------------|---------------------------------------------------------------------------------------------------------|
| cl, v1, q, v2 | from A1 2.828, lrc1 0.774, A2 0.461, lrc2 -1.344 (R's nlme, scripts/ch06.R) and the dose D = 25:        |
|               | v1 = D/(A1+A2), k21 = (A1 b + A2 a)/(A1+A2), k10 = a b/k21, k12 = a + b - k10 - k21 with a = exp(lrc1), |
|               | b = exp(lrc2); cl = k10 v1, q = k12 v1, v2 = q/k21                                                      |
| omega         | the book's random effects are on A1, lrc1 and A2 and do not translate; FOCEI fit of this model          |
| prop          | the book's error is additive (0.08 mg/L); proportional error lowers the FOCEI objective by 61; FOCEI fit |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Indomethacin(nlme.Model):
    """Indomethacin after an intravenous bolus: two compartments (Pinheiro & Bates 2000)."""

    cl: Scalar = nlme.positive(8.14, unit="L/h", label="Clearance")
    v1: Scalar = nlme.positive(7.60, unit="L", label="Central volume")
    q: Scalar = nlme.positive(6.31, unit="L/h", label="Exchange with the peripheral compartment")
    v2: Scalar = nlme.positive(11.95, unit="L", label="Peripheral volume")
    omega: nlme.Covariance = nlme.covariance(cl=0.034, v1=0.01, q=0.12, v2=0.06)
    prop: Scalar = nlme.positive(0.144, label="Proportional error")

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * jnp.exp(eta.cl),
            v1=self.v1 * jnp.exp(eta.v1),
            q=self.q * jnp.exp(eta.q),
            v2=self.v2 * jnp.exp(eta.v2),
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v1, self.prop)}
