"""Imatinib by mouth: one compartment, first-order absorption.

Reference
    Widmer N, Decosterd LA, Csajka C, et al. (2006), Population pharmacokinetics of imatinib and the role of alpha1-acid
    glycoprotein, Br J Clin Pharmacol 62:97-112, doi:10.1111/j.1365-2125.2006.02719.x (its model without covariates).
Population
    59 adults, 20 to 79 years, with chronic myeloid leukaemia or gastrointestinal stromal tumours, 150 to 800 mg a day;
    321 samples.
Units
    dose mg, time h, concentration ng/mL = ug/L, clearance L/h, volume L.
Words
    imatinib, anticancer, tyrosine kinase inhibitor, L01EA01, one compartment, oral

| value           | origin                                                                                        |
|-----------------|-----------------------------------------------------------------------------------------------|
| cl, v           | abstract: 14.3 L/h and 347 L                                                                  |
| omega           | abstract: 36 % (CL) and 63 % (V), squared                                                     |
| ka, prop        | as tabulated in Yang T, et al. (2025), Target Oncol 20:871, doi:10.1007/s11523-025-01172-2,   |
|                 | Table 1, read in nlmixr2lib, Widmer_2006_imatinib                                             |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Imatinib(nlme.Model):
    """Imatinib by mouth: one compartment, first-order absorption (Widmer et al. 2006)."""

    ka: Scalar = nlme.positive(0.61, unit="1/h", label="Absorption rate constant")
    cl: Scalar = nlme.positive(14.3, unit="L/h", label="Clearance / F")
    v: Scalar = nlme.positive(347.0, unit="L", label="Volume / F")
    omega: nlme.Covariance = nlme.covariance(cl=0.36**2, v=0.63**2)
    prop: Scalar = nlme.positive(0.31, label="Proportional error")

    def individual(self, eta, cov):
        return dict(ka=self.ka, cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(1000.0 * state.central / ind.v, self.prop)}
