"""Remifentanil by intravenous infusion: three compartments, with age and lean body mass.

Reference
    Minto CF, Schnider TW, Egan TD, et al. (1997), Influence of age and gender on the pharmacokinetics and pharmacodynamics of
    remifentanil: I. Model development, Anesthesiology 86:10-23, doi:10.1097/00000542-199701000-00004 (the model with
    covariates).
Population
    65 healthy adults (38 men, 27 women), 20 to 85 years; one infusion of 1 to 8 ug/kg/min over 4 to 20 min, frequent arterial
    samples.
Units
    dose ug, time min, concentration ng/mL = ug/L, clearance L/min, volume L, age years, lean body mass kg (James).
Words
    remifentanil, opioid, anaesthetic, N01AH06, three compartments, infusion

| value                        | origin                                                                                     |
|------------------------------|--------------------------------------------------------------------------------------------|
| v1, v1_age, v1_lbm           | V1 = 5.1 - 0.0201 (age - 40) + 0.072 (LBM - 55)                                            |
| v2, v2_age, v2_lbm           | V2 = 9.82 - 0.0811 (age - 40) + 0.108 (LBM - 55)                                           |
| v3                           | V3 = 5.42                                                                                  |
| cl, cl_age, cl_lbm           | Cl1 = 2.6 - 0.0162 (age - 40) + 0.0191 (LBM - 55)                                          |
| q2, q2_age                   | Cl2 = 2.05 - 0.0301 (age - 40)                                                             |
| q3, q3_age                   | Cl3 = 0.076 - 0.00113 (age - 40)                                                           |
| omega                        | coefficients of variation 26, 29, 66, 14, 36, 41 % (V1 V2 V3 Cl1 Cl2 Cl3), squared         |
| prop                         | not taken from the paper: FOCEI fit of this model to these data                            |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Remifentanil(nlme.Model):
    """Remifentanil by infusion: three compartments, age and lean body mass (Minto et al. 1997)."""

    cl: Scalar = nlme.positive(2.6, unit="L/min", label="Clearance at 40 years, LBM 55 kg")
    v1: Scalar = nlme.positive(5.1, unit="L", label="Central volume at 40 years, LBM 55 kg")
    q2: Scalar = nlme.positive(2.05, unit="L/min", label="Rapid exchange at 40 years")
    v2: Scalar = nlme.positive(9.82, unit="L", label="Rapid peripheral volume at 40 years, LBM 55 kg")
    q3: Scalar = nlme.positive(0.076, unit="L/min", label="Slow exchange at 40 years")
    v3: Scalar = nlme.positive(5.42, unit="L", label="Slow peripheral volume")
    cl_age: Scalar = nlme.real(-0.0162, unit="L/min/year", label="Age on clearance")
    cl_lbm: Scalar = nlme.real(0.0191, unit="L/min/kg", label="LBM on clearance")
    v1_age: Scalar = nlme.real(-0.0201, unit="L/year", label="Age on central volume")
    v1_lbm: Scalar = nlme.real(0.072, unit="L/kg", label="LBM on central volume")
    v2_age: Scalar = nlme.real(-0.0811, unit="L/year", label="Age on rapid peripheral volume")
    v2_lbm: Scalar = nlme.real(0.108, unit="L/kg", label="LBM on rapid peripheral volume")
    q2_age: Scalar = nlme.real(-0.0301, unit="L/min/year", label="Age on rapid exchange")
    q3_age: Scalar = nlme.real(-0.00113, unit="L/min/year", label="Age on slow exchange")
    omega: nlme.Covariance = nlme.covariance(cl=0.14**2, v1=0.26**2, q2=0.36**2, v2=0.29**2, q3=0.41**2, v3=0.66**2)
    prop: Scalar = nlme.positive(0.12, label="Proportional error")

    covariates = {"age": "years", "lbm": "kg"}

    def individual(self, eta, cov):
        age, lbm = cov.age - 40.0, cov.lbm - 55.0
        return dict(
            cl=(self.cl + self.cl_age * age + self.cl_lbm * lbm) * jnp.exp(eta.cl),
            v1=(self.v1 + self.v1_age * age + self.v1_lbm * lbm) * jnp.exp(eta.v1),
            q2=(self.q2 + self.q2_age * age) * jnp.exp(eta.q2),
            v2=(self.v2 + self.v2_age * age + self.v2_lbm * lbm) * jnp.exp(eta.v2),
            q3=(self.q3 + self.q3_age * age) * jnp.exp(eta.q3),
            v3=self.v3 * jnp.exp(eta.v3),
        )

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v1, q2=ind.q2, v2=ind.v2, q3=ind.q3, v3=ind.v3)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v1, self.prop)}
