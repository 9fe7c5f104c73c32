"""Nivolumab in solid tumours: two compartments, clearance falling with time, with weight, kidney, sex, status and race.

Reference
    Bajaj G, Wang X, Agrawal S, Gupta M, Roy A, Feng Y (2017), Model-based population pharmacokinetic analysis of nivolumab in
    patients with solid tumors, CPT Pharmacometrics Syst Pharmacol 6:58-66, doi:10.1002/psp4.12143.
Population
    1,895 adults with lung cancer, melanoma, renal cell or other cancer from 11 trials; 0.3 to 10 mg/kg every 2 or 3 weeks.
Units
    dose mg, time h since the first dose, concentration ug/mL = mg/L, clearance L/h, volume L, weight kg, egfr mL/min/1.73 m2;
    male, ecog (1: performance status 1 or worse), asian 0 or 1.
Words
    nivolumab, monoclonal antibody, anti-PD-1, checkpoint inhibitor, anticancer, L01FF01, two compartments, time-varying clearance

| value                        | origin (Table 1, and final estimates of DDMODEL00000284, Output_real_Nivo-PPK.lst, as      |
|                              | tabulated in nlmixr2lib, Bajaj_2017_nivolumab and Bajaj_2017_nivolumab_ddmore)             |
|------------------------------|--------------------------------------------------------------------------------------------|
| cl, v1, q, v2                | 9.4 mL/h, 3.63 L, 32.1 mL/h, 2.78 L: white woman of 80 kg, 90 mL/min/1.73 m2, status 0     |
| effects of covariates        | powers of weight and egfr; exp(coefficient) for sex, status and race                       |
| emax, t50, hill              | CL(t) = CL exp(emax t^hill / (t50^hill + t^hill)); emax + eta, so that some rise           |
| omega                        | 0.123 (CL), 0.123 (V1), covariance 0.0432, 0.258 (V2), 0.0719 (emax)                       |
| prop                         | 0.215                                                                                      |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Nivolumab(nlme.Model):
    """Nivolumab: two compartments, clearance falling with time, five covariates (Bajaj et al. 2017)."""

    cl: Scalar = nlme.positive(0.0094, unit="L/h", label="Clearance of the reference patient at the first dose")
    v1: Scalar = nlme.positive(3.63, unit="L", label="Central volume, woman of 80 kg")
    q: Scalar = nlme.positive(0.0321, unit="L/h", label="Exchange between compartments")
    v2: Scalar = nlme.positive(2.78, unit="L", label="Peripheral volume")
    emax: Scalar = nlme.real(-0.295, label="Change of log clearance in the end")
    t50: Scalar = nlme.positive(1410.0, unit="h", label="Time of half of the change")
    hill: Scalar = nlme.positive(3.15, label="Steepness of the change")
    cl_wt: Scalar = nlme.real(0.566, label="Exponent of weight on clearance")
    cl_egfr: Scalar = nlme.real(0.186, label="Exponent of glomerular filtration on clearance")
    cl_male: Scalar = nlme.real(0.165, label="Male on log clearance")
    cl_ecog: Scalar = nlme.real(0.172, label="Performance status on log clearance")
    cl_asian: Scalar = nlme.real(-0.125, label="Asian on log clearance")
    v1_wt: Scalar = nlme.real(0.597, label="Exponent of weight on central volume")
    v1_male: Scalar = nlme.real(0.152, label="Male on log central volume")
    omega: nlme.Covariance = nlme.covariance(
        cl=0.123, v1=0.123, v2=0.258, emax=0.0719, correlation={("cl", "v1"): 0.0432 / 0.123}
    )
    prop: Scalar = nlme.positive(0.215, label="Proportional error")

    covariates = {"wt": "kg", "egfr": "mL/min/1.73m2", "male": None, "ecog": None, "asian": None}

    def individual(self, eta, cov):
        size, kidney = cov.wt / 80.0, (cov.egfr / 90.0) ** self.cl_egfr
        patient = self.cl_male * cov.male + self.cl_ecog * cov.ecog + self.cl_asian * cov.asian
        return dict(
            cl=self.cl * size**self.cl_wt * kidney * jnp.exp(patient + eta.cl),
            v1=self.v1 * size**self.v1_wt * jnp.exp(self.v1_male * cov.male + eta.v1),
            q=self.q,
            v2=self.v2 * jnp.exp(eta.v2),
            left=jnp.exp(self.emax + eta.emax),
            t50=self.t50,
            hill=self.hill,
        )

    def dynamics(self, ind):
        def rhs(t, a):
            past = jnp.exp(ind.hill * jnp.log(jnp.maximum(t, 1e-9) / ind.t50))
            cl = ind.cl * jnp.exp(jnp.log(ind.left) * past / (1.0 + past))
            exchange = ind.q * (a.central / ind.v1 - a.peripheral / ind.v2)
            return {"central": -cl * a.central / ind.v1 - exchange, "peripheral": exchange}

        return nlme.ODE(rhs, ("central", "peripheral"))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v1, self.prop)}
