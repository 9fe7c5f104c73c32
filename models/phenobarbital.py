"""Phenobarbital in newborn infants: one compartment, clearance and volume proportional to weight, volume larger after asphyxia.

Reference
    Grasela TH, Donn SM (1985), Neonatal population pharmacokinetics of phenobarbital derived from routine clinical data,
    Dev Pharmacol Ther 8:374-383.
Population
    59 preterm and term infants treated for seizures, birth weight 0.6 to 3.6 kg (mean 1.5), gestational age 24 to 42 weeks;
    1 to 6 samples each in routine care.  "Asphyxia" is a 5-minute Apgar score below 5.
Units
    dose mg, time h, concentration mg/L, weight kg, clearance L/h, volume L.
Words
    phenobarbital, anticonvulsant, barbiturate, N03AA02, one compartment, neonates, children

| value    | origin                                                                                                |
|----------|-------------------------------------------------------------------------------------------------------|
| cl       | abstract: 0.0047 L/h/kg                                                                               |
| v        | abstract: 0.96 L/kg                                                                                   |
| asphyxia | abstract: volume increased by 13 %                                                                    |
| omega    | abstract: coefficients of variation 19 % (clearance) and 16 % (volume), squared                       |
| prop     | not in the abstract; NONMEM's fit of these data with this model and a proportional error gives 0.115  |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Phenobarbital(nlme.Model):
    """Phenobarbital in newborn infants: one compartment, intravenous (Grasela & Donn 1985)."""

    cl: Scalar = nlme.positive(0.0047, unit="L/h/kg", label="Clearance per kg")
    v: Scalar = nlme.positive(0.96, unit="L/kg", label="Volume per kg")
    asphyxia: Scalar = nlme.bounded(0.13, -0.9, 5.0, label="Larger volume if Apgar < 5 (fraction)")
    omega: nlme.Covariance = nlme.covariance(cl=0.19**2, v=0.16**2)
    prop: Scalar = nlme.positive(0.115, label="Proportional error")

    covariates = {"wt": "kg", "apgar": ""}

    def individual(self, eta, cov):
        larger = jnp.where(cov.apgar < 5, 1.0 + self.asphyxia, 1.0)
        return dict(
            cl=self.cl * cov.wt * jnp.exp(eta.cl),
            v=self.v * cov.wt * larger * jnp.exp(eta.v),
        )

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}
