"""Dupilumab, intravenous and subcutaneous: two compartments, linear and target-mediated (Michaelis-Menten) elimination.

Reference
    Kovalenko P, DiCioccio AT, Davis JD, et al. (2016), Exploratory population PK analysis of dupilumab, a fully human monoclonal
    antibody against IL-4Ra, in atopic dermatitis patients and normal volunteers, CPT Pharmacometrics Syst Pharmacol 5:617-624,
    doi:10.1002/psp4.12136.
Population
    197 healthy adults and adults with atopic dermatitis, mean 37 years and 76 kg; 1 to 12 mg/kg intravenously, 75 to 300 mg
    subcutaneously once or weekly.
Units
    dose mg (compartment 1 subcutaneous, 2 intravenous), time days, concentration mg/L, rate constants 1/day, volume L, weight kg.
Words
    dupilumab, monoclonal antibody, anti-IL-4R, immunology, D11AH05, two compartments, TMDD, Michaelis-Menten, subcutaneous

| value                        | origin (read as tabulated in nlmixr2lib, Kovalenko_2016_dupilumab)                         |
|------------------------------|--------------------------------------------------------------------------------------------|
| v, ke, k23, k32, ka, f       | Table 2, with concentrations below the limit of quantification (M3)                        |
| vmax, km                     | the same; km fixed at 0.01 mg/L                                                            |
| v_wt                         | the same, equation 1, at 75 kg                                                             |
| omega                        | the same, variances                                                                        |
| add, prop                    | the same; add fixed                                                                        |

Below about 0.1 mg/L the saturated pathway (km 0.01 mg/L) makes the equations stiff: ``ode=nlme.Tolerances(solver="auto")``.
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class Dupilumab(nlme.Model):
    """Dupilumab: two compartments, linear and Michaelis-Menten elimination, subcutaneous doses (Kovalenko et al. 2016)."""

    v: Scalar = nlme.positive(2.74, unit="L", label="Central volume at 75 kg")
    ke: Scalar = nlme.positive(0.0459, unit="1/day", label="Linear elimination rate constant")
    k23: Scalar = nlme.positive(0.0652, unit="1/day", label="Rate constant, central to peripheral")
    k32: Scalar = nlme.positive(0.129, unit="1/day", label="Rate constant, peripheral to central")
    ka: Scalar = nlme.positive(0.254, unit="1/day", label="Absorption rate constant")
    f: Scalar = nlme.probability(0.607, label="Subcutaneous bioavailability")
    vmax: Scalar = nlme.positive(0.968, unit="mg/L/day", label="Greatest target-mediated elimination")
    km: Scalar = nlme.positive(0.01, unit="mg/L", label="Michaelis-Menten constant")
    v_wt: Scalar = nlme.real(0.705, label="Exponent of weight on central volume")
    omega: nlme.Covariance = nlme.covariance(v=0.0225, ke=0.131, ka=0.251, vmax=0.0428)
    add: Scalar = nlme.positive(0.03, unit="mg/L", label="Additive error")
    prop: Scalar = nlme.positive(0.242, label="Proportional error")

    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(
            v=self.v * (cov.wt / 75.0) ** self.v_wt * jnp.exp(eta.v),
            ke=self.ke * jnp.exp(eta.ke),
            k23=self.k23,
            k32=self.k32,
            ka=self.ka * jnp.exp(eta.ka),
            f=self.f,
            vmax=self.vmax * jnp.exp(eta.vmax),
            km=self.km,
        )

    def dynamics(self, ind):
        q = ind.k23 * ind.v
        return nlme.pk.michaelis_menten(
            v=ind.v,
            vmax=ind.vmax * ind.v,
            km=ind.km,
            cl=ind.ke * ind.v,
            q=q,
            v2=q / ind.k32,
            ka=ind.ka,
            bioavailability={"depot": ind.f},
        )

    def observe(self, ind, state, t):
        return {"conc": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}
