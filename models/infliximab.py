"""Infliximab in ulcerative colitis: two compartments, with albumin, antibodies, sex and weight.

Reference
    Fasanmade AA, Adedokun OJ, Ford J, et al. (2009), Population pharmacokinetic analysis of infliximab in patients with
    ulcerative colitis, Eur J Clin Pharmacol 65:1211-1228, doi:10.1007/s00228-009-0718-4.
Population
    482 adults with moderate to severe ulcerative colitis (ACT 1 and 2), 36 to 159 kg; 5 or 10 mg/kg over 2 h in weeks 0, 2, 6,
    then every 8 weeks.
Units
    dose mg, time days, concentration ug/mL = mg/L, clearance L/day, volume L, weight kg, albumin g/dL, ati (antibodies to
    infliximab) and female 0 or 1.
Words
    infliximab, monoclonal antibody, anti-TNF, immunosuppressant, L04AB02, two compartments

| value                          | origin                                                                                     |
|--------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                  | abstract: 0.407 L/day, 3.29 L, 7.14 L/day, 4.13 L                                          |
| cl_alb, cl_ati, cl_female      | Table 3, as tabulated in nlmixr2lib, Fasanmade_2009_infliximab, at 4.1 g/dL                |
| v1_wt, v1_female               | the same, at 77 kg                                                                         |
| omega                          | the same: 0.131 (CL), 0.048 (V1); abstract: 37.7 and 22.1 %                                |
| add, prop                      | the same                                                                                   |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Infliximab(nlme.Model):
    """Infliximab in ulcerative colitis: two compartments, albumin, antibodies, sex, weight (Fasanmade et al. 2009)."""

    cl: Scalar = nlme.positive(0.407, unit="L/day", label="Clearance, man, albumin 4.1 g/dL")
    v1: Scalar = nlme.positive(3.29, unit="L", label="Central volume, man of 77 kg")
    q: Scalar = nlme.positive(7.14, unit="L/day", label="Exchange between compartments")
    v2: Scalar = nlme.positive(4.13, unit="L", label="Peripheral volume")
    cl_alb: Scalar = nlme.real(-1.54, label="Exponent of albumin on clearance")
    cl_ati: Scalar = nlme.real(0.471, label="Antibodies to infliximab on clearance")
    cl_female: Scalar = nlme.real(-0.236, label="Female on clearance")
    v1_wt: Scalar = nlme.real(0.538, label="Exponent of weight on central volume")
    v1_female: Scalar = nlme.real(-0.137, label="Female on central volume")
    omega: nlme.Covariance = nlme.covariance(cl=0.131, v1=0.048)
    add: Scalar = nlme.positive(0.0413, unit="ug/mL", label="Additive error")
    prop: Scalar = nlme.positive(0.403, label="Proportional error")

    covariates = {"wt": "kg", "alb": "g/dL", "ati": None, "female": None}

    def individual(self, eta, cov):
        cl = self.cl * (cov.alb / 4.1) ** self.cl_alb * (1.0 + self.cl_ati * cov.ati) * (1.0 + self.cl_female * cov.female)
        v1 = self.v1 * (cov.wt / 77.0) ** self.v1_wt * (1.0 + self.v1_female * cov.female)
        return dict(cl=cl * jnp.exp(eta.cl), v1=v1 * jnp.exp(eta.v1), q=self.q, v2=self.v2)

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v1, add=self.add, prop=self.prop)}
