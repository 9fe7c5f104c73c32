"""Propofol from newborns to the old: three compartments, with age, size, sex, sampling site and other drugs.

Reference
    Eleveld DJ, Colin P, Absalom AR, Struys MMRF (2018), Pharmacokinetic-pharmacodynamic model for propofol for broad application
    in anaesthesia and sedation, Br J Anaesth 120:942-959, doi:10.1016/j.bja.2018.01.018 (pharmacokinetics).
Population
    1,033 people from 30 studies, premature newborns to 88 years, 0.68 to 160 kg; boluses and infusions.
Units
    dose mg, time min, concentration ug/mL = mg/L, clearance L/min, volume L, age years, pma years (postmenstrual age; age + 40
    weeks where it is not known), weight kg, height cm; male, venous (samples), opioids (or local anaesthetics with it) 0 or 1.
Words
    propofol, anaesthetic, hypnotic, N01AX10, three compartments, infusion, children, elderly, obesity

| value                        | origin (numbers and equations of the paper as two open implementations have them)          |
|------------------------------|--------------------------------------------------------------------------------------------|
| v1, v2, v3, cl, q2, q3       | theta 1 to 6: man of 35 years, 70 kg, 170 cm, arterial samples, no opioids                 |
| cl_female                    | theta 15                                                                                   |
| pma50, pma_hill              | theta 8 and 9 (weeks)                                                                      |
| v2_age, cl_opioids           | theta 10 and 11                                                                            |
| wt50, v3_opioids, q3_50      | theta 12, 13 and 14                                                                        |
| q2_young, v1_venous          | theta 16 and 17                                                                            |
| q2_venous                    | theta 18                                                                                   |
| fat-free mass                | Al-Sallami HS, et al. (2015), Clin Pharmacokinet 54:1169, doi:10.1007/s40262-015-0277-z    |
| omega                        | variances of eta 1 to 7; eta 7 is on the residual error                                    |
| sd                           | theta 7, on the logarithm                                                                  |

Exchange scales with the subject's own peripheral volumes (compartmental allometry).
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


def fat_free_mass(age, wt, ht, male):
    """Fat-free mass in kg of Al-Sallami et al. (2015): Janmahasatian's formula times a maturation by sex."""
    bmi = wt / (0.01 * ht) ** 2
    man = (0.88 + 0.12 / (1.0 + (age / 13.4) ** -12.7)) * 9270.0 * wt / (6680.0 + 216.0 * bmi)
    woman = (1.11 - 0.11 / (1.0 + (age / 7.1) ** -1.1)) * 9270.0 * wt / (8780.0 + 244.0 * bmi)
    return male * man + (1.0 - male) * woman


def _saturating(x, half, hill):
    return x**hill / (x**hill + half**hill)


class Propofol(nlme.Model):
    """Propofol from newborns to the old: three compartments, age, size, sex, sampling, opioids (Eleveld et al. 2018)."""

    cl: Scalar = nlme.positive(1.79, unit="L/min", label="Clearance, man of 35 years, 70 kg")
    v1: Scalar = nlme.positive(6.28, unit="L", label="Central volume at 70 kg")
    q2: Scalar = nlme.positive(1.75, unit="L/min", label="Rapid exchange")
    v2: Scalar = nlme.positive(25.5, unit="L", label="Rapid peripheral volume at 35 years, 70 kg")
    q3: Scalar = nlme.positive(1.11, unit="L/min", label="Slow exchange")
    v3: Scalar = nlme.positive(273.0, unit="L", label="Slow peripheral volume, man of 35 years, 70 kg, 170 cm")
    cl_female: Scalar = nlme.positive(2.10, unit="L/min", label="Clearance, woman of 35 years, 70 kg")
    pma50: Scalar = nlme.positive(42.3, unit="week", label="Postmenstrual age at half of mature clearance")
    pma_hill: Scalar = nlme.positive(9.06, label="Steepness of maturation of clearance")
    v2_age: Scalar = nlme.real(-0.0156, unit="1/year", label="Age on log rapid peripheral volume")
    cl_opioids: Scalar = nlme.real(-0.00286, unit="1/year", label="Opioids and age on log clearance")
    v3_opioids: Scalar = nlme.real(-0.0138, unit="1/year", label="Opioids and age on log slow peripheral volume")
    wt50: Scalar = nlme.positive(33.6, unit="kg", label="Weight at half of the greatest central volume")
    q3_50: Scalar = nlme.positive(68.3, unit="week", label="Postmenstrual age at half of mature slow exchange")
    q2_young: Scalar = nlme.real(1.30, label="Immaturity on rapid exchange")
    v1_venous: Scalar = nlme.real(1.42, label="Venous samples on central volume")
    q2_venous: Scalar = nlme.positive(0.68, label="Factor of venous samples on rapid exchange")
    omega: nlme.Covariance = nlme.covariance(v1=0.610, v2=0.565, v3=0.597, cl=0.265, q2=0.346, q3=0.209, error=0.463)
    sd: Scalar = nlme.positive(0.191, label="Error on the logarithm")

    covariates = {
        "age": "year",
        "pma": "year",
        "wt": "kg",
        "ht": "cm",
        "male": None,
        "venous": None,
        "opioids": None,
    }

    def individual(self, eta, cov):
        central, slow = _saturating(cov.wt, self.wt50, 1.0), _saturating(52.0 * cov.age + 40.0, self.q3_50, 1.0)
        slow_adult = _saturating(52.0 * 35.0 + 40.0, self.q3_50, 1.0)
        mature = _saturating(52.0 * cov.pma, self.pma50, self.pma_hill)
        mature_adult = _saturating(52.0 * 35.0 + 40.0, self.pma50, self.pma_hill)
        lean = fat_free_mass(cov.age, cov.wt, cov.ht, cov.male) / fat_free_mass(35.0, 70.0, 170.0, 1.0)
        given = cov.opioids * cov.age
        v2 = self.v2 * cov.wt / 70.0 * jnp.exp(self.v2_age * (cov.age - 35.0) + eta.v2)
        v3 = self.v3 * lean * jnp.exp(self.v3_opioids * given + eta.v3)
        cl = (cov.male * self.cl + (1.0 - cov.male) * self.cl_female) * (cov.wt / 70.0) ** 0.75 * mature / mature_adult
        q2 = self.q2 * (v2 / self.v2) ** 0.75 * (1.0 + self.q2_young * (1.0 - slow)) * self.q2_venous**cov.venous
        venous = 1.0 + cov.venous * self.v1_venous * (1.0 - central)
        return dict(
            cl=cl * jnp.exp(self.cl_opioids * given + eta.cl),
            v1=self.v1 * central / _saturating(70.0, self.wt50, 1.0) * venous * jnp.exp(eta.v1),
            q2=q2 * jnp.exp(eta.q2),
            v2=v2,
            q3=self.q3 * (v3 / self.v3) ** 0.75 * slow / slow_adult * jnp.exp(eta.q3),
            v3=v3,
            sd=self.sd * jnp.exp(eta.error),
        )

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v1, q2=ind.q2, v2=ind.v2, q3=ind.q3, v3=ind.v3)

    def observe(self, ind, state, t):
        return {"conc": nlme.lognormal(state.central / ind.v1, ind.sd)}
