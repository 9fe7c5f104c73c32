"""Oral quinidine in patients with arrhythmia: one compartment, clearance falling with alpha-1-acid glycoprotein.

Reference
    Pinheiro JC, Bates DM (2000), Mixed-Effects Models in S and S-PLUS, section 8.2, fit ``fm2Quin.nlme``.  Data: Verme CN,
    Ludden TM, Clementi WA, Harris SC (1992), Pharmacokinetics of quinidine in male patients: a population analysis,
    Clin Pharmacokinet 22:468-480.
Population
    136 men treated for atrial fibrillation or ventricular arrhythmia, 42 to 92 years, 41 to 119 kg; 1 to 11 samples each in
    routine care, many at steady state; glycoprotein 0.39 to 3.16 g/L, changing in time.
Units
    dose mg (as base), time h, concentration mg/L, clearance L/h, volume L, glycoprotein g/L.
Words
    quinidine, antiarrhythmic, C01BA01, one compartment, oral

| value     | origin                                                                                                    |
|-----------|-----------------------------------------------------------------------------------------------------------|
| cl        | R's nlme, scripts/ch08.R: lCl 3.12, at a glycoprotein of 0                                                |
| glyco     | the same: -0.50 on log clearance per g/L                                                                  |
| v, ka     | the same: lV 5.27, lKa -0.84                                                                              |
| omega.cl  | the same: standard deviation 0.271                                                                        |
| omega.v   | the book's estimate is 0; with a proportional error these data give 0.16                                  |
| prop      | section 8.3 of the book replaces the constant error by a power of the prediction; FOCEI fit of this model |

With a constant error the likelihood is highest where absorption is slower than elimination (ka 0.05 /h, v 29 L), which is not
quinidine's; with a proportional error it is highest near the values below.
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Quinidine(nlme.Model):
    """Oral quinidine: one compartment, clearance falling with glycoprotein (Pinheiro & Bates 2000)."""

    cl: Scalar = nlme.positive(22.6, unit="L/h", label="Clearance / F without glycoprotein")
    glyco: Scalar = nlme.real(-0.50, unit="L/g", label="Glycoprotein on log clearance")
    v: Scalar = nlme.positive(194.0, unit="L", label="Volume / F")
    ka: Scalar = nlme.positive(0.43, unit="1/h", label="Absorption rate constant")
    omega: nlme.Covariance = nlme.covariance(cl=0.0734, v=0.16)
    prop: Scalar = nlme.positive(0.24, label="Proportional error")

    covariates = {"glyco": "g/L"}

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * jnp.exp(self.glyco * cov.glyco + eta.cl),
            v=self.v * jnp.exp(eta.v),
            ka=self.ka,
        )

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}
