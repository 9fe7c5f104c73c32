"""Theophylline after an oral dose: one compartment, first-order absorption, log-normal parameters, combined error.

Reference
    Data: Boeckmann AJ, Sheiner LB, Beal SL (1994), NONMEM Users Guide Part V; R data set ``Theoph``.
    Model: Comets E, Lavenu A, Lavielle M (2017), Parameter estimation in nonlinear mixed effect models using saemix,
    J Stat Softw 80(3), doi:10.18637/jss.v080.i03, without its covariate and with a combined residual error.
Population
    12 healthy adults, 55 to 86 kg, one oral dose of 3.1 to 5.9 mg/kg, 11 samples in 25 h.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L.
Words
    theophylline, bronchodilator, xanthine, R03DA04, one compartment, oral

| value           | origin                                                                                        |
|-----------------|-----------------------------------------------------------------------------------------------|
| ka, v           | saemix user guide, theophylline example (ka 1.567, V 31.475)                                  |
| cl              | the same, at 70 kg: 1.581 exp(0.008 x 70)                                                     |
| omega           | the same: omega2 of ka 0.388, CL 0.070, V 0.015                                               |
| add, prop       | Monolix 5.1.1 theophylline project, a 0.433 and b 0.054 (standard deviations add there; here, |
|                 | variances do)                                                                                 |

Fitted to ``nlme.datasets.load("theophylline")`` by FOCEI: objective 104.322; ka 1.480, cl 2.786, v 32.00, omega2 0.391, 0.0646
and 0.0158, add 0.275, prop 0.134.
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Theophylline(nlme.Model):
    """Theophylline after an oral dose: one compartment, first-order absorption (Comets et al. 2017)."""

    ka: Scalar = nlme.positive(1.567, unit="1/h", label="Absorption rate constant")
    cl: Scalar = nlme.positive(2.77, unit="L/h", label="Clearance / F")
    v: Scalar = nlme.positive(31.475, unit="L", label="Volume / F")
    omega: nlme.Covariance = nlme.covariance(ka=0.388, cl=0.070, v=0.015)
    add: Scalar = nlme.positive(0.433, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.054, label="Proportional error")

    def individual(self, eta, cov):
        return dict(
            ka=self.ka * jnp.exp(eta.ka),
            cl=self.cl * jnp.exp(eta.cl),
            v=self.v * jnp.exp(eta.v),
        )

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}
