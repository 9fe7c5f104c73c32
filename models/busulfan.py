"""Busulfan by infusion in children: two compartments, with weight and variability between occasions.

Reference
    Neroutsos E, Nalda-Molina R, Paisiou A, et al. (2022), Development of a population pharmacokinetic model of busulfan in
    children and evaluation of different sampling schedules for precision dosing, Pharmaceutics 14:647,
    doi:10.3390/pharmaceutics14030647.
Population
    76 children and adolescents, 0.5 to 19 years, 7.4 to 104 kg, before stem cell transplantation; 2 h infusions every 6 h.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L, weight kg, pump h (delay between the start of the syringe pump
    and the drug's arrival: 5 to 40 min, known from the tubing).
Words
    busulfan, anticancer, alkylating agent, L01AB01, two compartments, children, transplantation

| value                        | origin (read as tabulated in nlmixr2lib, Neroutsos_2022_busulfan)                          |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                | Table 3, at 70 kg                                                                          |
| exponents of weight          | control stream of the supplement, fixed: 0.75 on CL and Q, 1 on V                          |
| omega                        | Table 3: standard deviations 0.284 (CL), 0.409 (V1), correlation 0.679                     |
| occasions                    | Table 3: standard deviation 0.105 (CL)                                                     |
| prop                         | Table 3                                                                                    |
| pump                         | data, not estimated: Table 2 by weight band                                                |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Busulfan(nlme.Model):
    """Busulfan by infusion in children: two compartments, weight (Neroutsos et al. 2022)."""

    cl: Scalar = nlme.positive(10.7, unit="L/h", label="Clearance at 70 kg")
    v1: Scalar = nlme.positive(39.5, unit="L", label="Central volume at 70 kg")
    q: Scalar = nlme.positive(4.68, unit="L/h", label="Exchange between compartments at 70 kg")
    v2: Scalar = nlme.positive(17.5, unit="L", label="Peripheral volume at 70 kg")
    omega: nlme.Covariance = nlme.covariance(cl=0.284**2, v1=0.409**2, correlation={("cl", "v1"): 0.679})
    occasions: nlme.Covariance = nlme.covariance(cl_occ=0.105**2, per="occasion")
    prop: Scalar = nlme.positive(0.126, label="Proportional error")

    covariates = {"wt": "kg", "pump": "h"}

    def individual(self, eta, cov):
        size = cov.wt / 70.0
        return dict(
            cl=self.cl * size**0.75 * jnp.exp(eta.cl + eta.cl_occ),
            v1=self.v1 * size * jnp.exp(eta.v1),
            q=self.q * size**0.75,
            v2=self.v2 * size,
            lag=cov.pump,
        )

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2, lag=ind.lag)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v1, self.prop)}
