"""The cases that come with the library: numbers of NONMEM on shipped data, and what can be computed exactly.

Facts are cited with their source; the data are those of :mod:`nlme.datasets`.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp

import nlme
from nlme import Scalar
from nlme.qualify import exact
from nlme.qualify.checks import Case, Check

THEOPHYLLINE = (
    "NONMEM 7.4.1 (FO, FOCE and Laplace with interaction), listings THEO-*.OUT distributed with the R package nmw; data: "
    "Boeckmann, Sheiner & Beal (1994), NONMEM Users Guide Part V"
)
PHENOBARBITAL = (
    "NONMEM 7.4.2 (FOCE with interaction), runs pheno_real and pheno of Pharmpy's test data; data: Grasela & Donn (1985), "
    "Dev Pharmacol Ther 8:374"
)


class Theophylline(nlme.Model):
    """The model of the NONMEM run: a formula, 320 mg for everyone, variances of the residual error."""

    ka: Scalar = nlme.positive(2.0, unit="1/h")
    v: Scalar = nlme.positive(50.0, unit="L")
    k: Scalar = nlme.positive(0.1, unit="1/h")
    prop2: Scalar = nlme.positive(0.1)
    add2: Scalar = nlme.positive(0.1)
    omega: nlme.Covariance = nlme.covariance(("ka", "v", "k"), [[0.2], [0.1, 0.2], [0.1, 0.1, 0.2]])

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), v=self.v * jnp.exp(eta.v), k=self.k * jnp.exp(eta.k))

    def observe(self, ind, state, t):
        absorbed = jnp.divide(ind.ka, ind.ka - ind.k) * (jnp.exp(-ind.k * t) - jnp.exp(-ind.ka * t))
        f = 320.0 / ind.v * absorbed
        return {"conc": nlme.combined(f, add=jnp.sqrt(self.add2), prop=jnp.sqrt(self.prop2))}


class Phenobarbital(nlme.Model):
    """The model of the NONMEM run: weight on both, volume larger by ``low`` where the Apgar score is below 5."""

    cl: Scalar = nlme.positive(0.0047, unit="L/h/kg")
    v: Scalar = nlme.positive(1.0, unit="L/kg")
    low: Scalar = nlme.bounded(0.1, -0.99, 5.0)
    prop2: Scalar = nlme.positive(0.013)
    omega: nlme.Covariance = nlme.covariance(cl=0.03, v=0.03)
    covariates = {"wt": "kg", "apgar": ""}

    def individual(self, eta, cov):
        larger = jnp.where(cov.apgar < 5, 1.0 + self.low, 1.0)
        return dict(cl=self.cl * cov.wt * jnp.exp(eta.cl), v=self.v * cov.wt * larger * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, jnp.sqrt(self.prop2))}


# method, its final estimates as printed (KA V K, SIGMA 1 and 2, OMEGA by rows), objective at the initial and at these values
NONMEM = {
    "FO": (
        nlme.FO(),
        (3.16934, 38.2517, 0.105012, 0.0120776, 0.054266),
        [[1.19814], [0.137481, 0.0313482], [0.370014, 0.0433918, 0.25055]],
        141.3075526,
        57.32106371,
    ),
    "FOCEI": (
        nlme.FOCEI(),
        (1.49072, 32.447, 0.0872901, 0.0170386, 0.082844),
        [[0.434717], [0.0569202, 0.0193995], [-0.00648548, 0.012083, 0.0202334]],
        192.6502556,
        92.83086905,
    ),
    "Laplace": (
        nlme.Laplace(),
        (1.50518, 32.2951, 0.0873041, 0.0177161, 0.075581),
        [[0.437323], [0.0563439, 0.0186848], [-0.0046835, 0.0126441, 0.0198298]],
        194.1017358,
        93.55870385,
    ),
}


def _observed_theophylline():
    """The concentrations alone: the dose is in the formula."""
    import pandas as pd

    table = pd.read_csv(nlme.datasets.path("theophylline"), na_values=".")
    return nlme.read_nonmem(table.loc[table["EVID"] == 0, ["ID", "TIME", "DV"]])


def theophylline(which: str) -> Iterator[Check]:
    method, values, omega, at_initial, at_final = NONMEM[which]
    population = _observed_theophylline()
    first = nlme.evaluate(Theophylline(), population, method).objective
    yield Check(f"{which} objective at the initial values", first, at_initial, 1e-5)
    last = nlme.evaluate(Theophylline(*values, omega=omega), population, method).objective
    yield Check(f"{which} objective at NONMEM's estimates (6 digits printed)", last, at_final, 1e-4)


def theophylline_fit() -> Iterator[Check]:
    """The search from NONMEM's initial values, to its optimum."""
    _, values, omega, _, objective = NONMEM["FOCEI"]
    fit = nlme.fit(Theophylline(), _observed_theophylline(), nlme.FOCEI(), starts=0)
    yield Check("FOCEI objective of the fit", fit.objective, objective, 0.01)
    for name, value in zip(("ka", "v", "k"), values, strict=False):
        yield Check(f"estimate of {name}", float(fit.estimates[name]), value, 0.01, relative=True)


_PHENOBARBITAL = dict(cl=0.00469555, v=0.984258, low=0.15892, prop2=0.013241, omega=[[0.0293508], [0.0, 0.027906]])


def phenobarbital() -> Iterator[Check]:
    found = nlme.evaluate(Phenobarbital(**_PHENOBARBITAL), nlme.datasets.load("phenobarbital"), nlme.FOCEI())
    yield Check("FOCEI objective at NONMEM's estimates", found.objective, 586.2760563, 1e-4)


def phenobarbital_fit() -> Iterator[Check]:
    fit = nlme.fit(Phenobarbital(), nlme.datasets.load("phenobarbital"), nlme.FOCEI(), starts=0)
    yield Check("FOCEI objective of the fit", fit.objective, 586.2760563, 0.01)
    for name in ("cl", "v"):
        yield Check(f"estimate of {name}", float(fit.estimates[name]), _PHENOBARBITAL[name], 0.01, relative=True)


CASES = (
    Case("theophylline-fo", "Theophylline, FO at given parameters", THEOPHYLLINE, lambda: theophylline("FO")),
    Case("theophylline-focei", "Theophylline, FOCEI at given parameters", THEOPHYLLINE, lambda: theophylline("FOCEI")),
    Case("theophylline-laplace", "Theophylline, Laplace at given parameters", THEOPHYLLINE, lambda: theophylline("Laplace")),
    Case("phenobarbital-focei", "Phenobarbital, FOCEI at given parameters", PHENOBARBITAL, phenobarbital),
    Case("linear-mixed-model", "A linear mixed model: every method is exact", exact.NORMAL, exact.linear_mixed_model),
    Case("one-compartment", "One compartment: bolus, absorption, infusion", exact.BATEMAN, exact.one_compartment),
    Case("two-compartments", "Two compartments after a bolus", exact.BATEMAN, exact.two_compartments),
    Case("steady-state", "Steady state of repeated boluses", exact.BATEMAN, exact.steady_state),
    Case("equations", "Differential equations: saturable elimination", exact.GOUDAR, exact.equations),
    Case("censored", "Values below the limit of quantification (M3)", exact.BEAL, exact.censored),
    Case("theophylline-fit", "Theophylline, fitted by FOCEI", THEOPHYLLINE, theophylline_fit, full=True),
    Case("phenobarbital-fit", "Phenobarbital, fitted by FOCEI", PHENOBARBITAL, phenobarbital_fit, full=True),
)
