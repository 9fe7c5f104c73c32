"""Hepatitis C virus under peginterferon: one compartment, target cells, infected cells and virus.

Reference
    Nyberg J, Bazzoli C, Ogungbenro K, et al. (2015), Methods and software tools for design evaluation in population
    pharmacokinetics-pharmacodynamics studies, Br J Clin Pharmacol 79:6-17, doi:10.1111/bcp.12352 (its second example).
    The model of the virus: Neumann AU, Lam NP, Dahari H, et al. (1998), Science 282:103-107, doi:10.1126/science.282.5386.103.
Population
    The example's: adults with chronic hepatitis C, 180 ug of peginterferon weekly, each over a day.  Its variances are set, not
    estimated.
Units
    dose ug (into the depot), time days, concentration ug/L, virus log10 copies/mL.
Words
    peginterferon, hepatitis C, HCV, viral load, viral dynamics, antiviral, L03AB, one compartment, PKPD

| value                        | origin (the example as PopED and babelmixr2 have it, ex.10.PKPD.HCV)                       |
|------------------------------|--------------------------------------------------------------------------------------------|
| ka, ke, v                    | 0.8 1/day, 0.15 1/day, 100 L                                                               |
| ec50, hill                   | 0.12 ug/L, 2                                                                               |
| delta, c                     | 0.2 1/day, 7 1/day                                                                         |
| s, d, e, p                   | fixed: 20,000 cells/mL/day, 0.001 1/day, 1e-7 mL/day, 100 1/day                            |
| omega                        | 0.25 each                                                                                  |
| add, add_virus               | square root of 0.04 each                                                                   |
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar


class HepatitisC(nlme.Model):
    """Hepatitis C virus under peginterferon: one compartment, target cells, infected cells, virus (Nyberg et al. 2015)."""

    ka: Scalar = nlme.positive(0.8, unit="1/day", label="Absorption rate constant")
    ke: Scalar = nlme.positive(0.15, unit="1/day", label="Elimination rate constant")
    v: Scalar = nlme.positive(100.0, unit="L", label="Volume")
    ec50: Scalar = nlme.positive(0.12, unit="ug/L", label="Concentration of half effect")
    hill: Scalar = nlme.positive(2.0, label="Steepness of the effect")
    delta: Scalar = nlme.positive(0.2, unit="1/day", label="Death of infected cells")
    c: Scalar = nlme.positive(7.0, unit="1/day", label="Clearance of virus")
    s: Scalar = nlme.positive(20000.0, unit="1/mL/day", label="Supply of target cells")
    d: Scalar = nlme.positive(0.001, unit="1/day", label="Death of target cells")
    e: Scalar = nlme.positive(1e-7, unit="mL/day", label="Infection")
    p: Scalar = nlme.positive(100.0, unit="1/day", label="Production of virus")
    omega: nlme.Covariance = nlme.covariance(ka=0.25, ke=0.25, v=0.25, ec50=0.25, hill=0.25, delta=0.25, c=0.25)
    add: Scalar = nlme.positive(0.2, unit="ug/L", label="Additive error of concentrations")
    add_virus: Scalar = nlme.positive(0.2, label="Additive error of log10 virus")

    def individual(self, eta, cov):
        names = ("ka", "ke", "v", "ec50", "hill", "delta", "c")
        varying = {name: getattr(self, name) * jnp.exp(eta[name]) for name in names}
        return varying | dict(s=self.s, d=self.d, e=self.e, p=self.p)

    def dynamics(self, ind):
        effect = nlme.pd.emax(1.0, ind.ec50, ind.hill)
        cells = ind.c * ind.delta / (ind.p * ind.e)  # at rest, before treatment
        virus = ind.s * ind.p / (ind.c * ind.delta) - ind.d / ind.e

        def rhs(t, a):
            infection = ind.e * a.target * a.virus
            return {
                "depot": -ind.ka * a.depot,
                "central": ind.ka * a.depot - ind.ke * a.central,
                "target": ind.s - ind.d * a.target - infection,
                "infected": infection - ind.delta * a.infected,
                "virus": ind.p * (1.0 - effect(a.central / ind.v)) * a.infected - ind.c * a.virus,
            }

        rest = {"target": cells, "infected": ind.c * virus / ind.p, "virus": virus}
        return nlme.ODE(rhs, ("depot", "central", "target", "infected", "virus"), rest)

    def observe(self, ind, state, t):
        return {
            "conc": nlme.additive(state.central / ind.v, self.add),
            "virus": nlme.additive(jnp.log10(jnp.maximum(state.virus, 1e-9)), self.add_virus),
        }
