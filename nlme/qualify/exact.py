"""Cases whose answer is a formula: computed here by another way than the library's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from scipy.special import lambertw

import nlme
from nlme import Scalar
from nlme.qualify.checks import Check

NORMAL = "The marginal is normal, -2 log N(y; X b, Z Omega Z' + s2 I): Laird & Ware (1982), Biometrics 38:963"
BATEMAN = "Gabrielsson & Weiner, Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed., ch. 2 (formulas)"
BEAL = (
    "Beal (2001), J Pharmacokinet Pharmacodyn 28:481, doi:10.1023/A:1012299115260: a censored value counts Phi((lloq - f) / sd)"
)
GOUDAR = "Goudar, Sonnad & Duggleby (1999), Biochim Biophys Acta 1429:377, doi:10.1016/S0167-4838(98)00247-7 (Lambert's W)"

DOSE, CL, V, KA = 100.0, 4.0, 30.0, 1.2
VMAX, KM = 8.0, 1.5
TIMES = (0.5, 1.0, 2.0, 5.0, 12.0, 23.0)


class Lines(nlme.Model):
    """A straight line for each subject."""

    a: Scalar = nlme.real(10.0)
    b: Scalar = nlme.real(-0.7)
    sd: Scalar = nlme.positive(1.5)
    omega: nlme.Covariance = nlme.covariance(("a", "b"), [[4.0], [0.3, 0.25]])

    def individual(self, eta, cov):
        return dict(a=self.a + eta.a, b=self.b + eta.b)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a + ind.b * t, self.sd)}


class Oral(nlme.Model):
    """One compartment with absorption, closed form."""

    cl: Scalar = nlme.positive(CL)
    v: Scalar = nlme.positive(V)
    ka: Scalar = nlme.positive(KA)
    sd: Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(cl=self.cl, v=self.v, ka=self.ka)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.sd)}


class Saturable(Oral):
    """Michaelis-Menten elimination after a bolus, as equations: nothing but a solver finds its course."""

    def dynamics(self, ind):
        return nlme.pk.michaelis_menten(v=ind.v, vmax=VMAX, km=KM)


class TwoCompartments(Oral):
    """Two compartments, the parameters of ``two_compartments``."""

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v, q=2.0, v2=50.0)


class Censored(nlme.Model):
    """An exponential curve without random effects, its low values censored."""

    a: Scalar = nlme.positive(10.0)
    k: Scalar = nlme.positive(0.3)
    sd: Scalar = nlme.positive(0.8)

    def individual(self, eta, cov):
        return dict(a=self.a, k=self.k)

    def observe(self, ind, state, t):
        return {"y": nlme.censored(nlme.additive(ind.a * jnp.exp(-ind.k * t), self.sd), "M3")}


def _read(rows: list[dict]):
    import pandas as pd

    return nlme.read_nonmem(pd.DataFrame(rows))


def _course(model, dose: dict, cmt: int = 2) -> np.ndarray:
    """Concentrations at ``TIMES`` after one dose record."""
    rows = [dict(ID=1, TIME=0.0, DV=np.nan, EVID=1) | dose]
    rows += [dict(ID=1, TIME=t, DV=1.0, EVID=0) | {key: 0.0 for key in dose if key != "CMT"} | {"CMT": cmt} for t in TIMES]
    found = nlme.predict(model, _read(rows))
    return found.loc[found["EVID"] == 0, "conc"].to_numpy()


def _each(what: str, found, expected, tolerance: float) -> Iterator[Check]:
    """One check a time, relative."""
    for t, value, reference in zip(TIMES, found, expected, strict=True):
        yield Check(f"{what}, t = {t:g}", float(value), float(reference), tolerance, relative=True)


def linear_mixed_model() -> Iterator[Check]:
    times, rng = np.array([0.0, 1.0, 2.0, 4.0, 7.0]), np.random.default_rng(7)
    y = 10.0 - 0.7 * times + rng.normal(size=(6, 5)) * 2.0
    rows = [dict(ID=i + 1, TIME=t, DV=float(v)) for i, line in enumerate(y) for t, v in zip(times, line, strict=True)]
    z = np.stack([np.ones(5), times], axis=1)
    covariance = z @ np.array([[4.0, 0.3], [0.3, 0.25]]) @ z.T + 1.5**2 * np.eye(5)
    gaps = y - (10.0 - 0.7 * times)
    log_det = np.linalg.slogdet(covariance)[1]
    expected = 6 * (log_det + 5 * math.log(2 * math.pi)) + np.einsum("ni,ij,nj->", gaps, np.linalg.inv(covariance), gaps)
    for method in (nlme.FO(), nlme.FOCE(), nlme.Laplace()):
        found = nlme.evaluate(Lines(), _read(rows), method).objective_full
        yield Check(f"-2 log likelihood, {type(method).__name__}", found, float(expected), 1e-8)


def one_compartment() -> Iterator[Check]:
    t, k = np.array(TIMES), CL / V
    yield from _each("bolus", _course(Oral(), dict(AMT=DOSE, CMT=2)), DOSE / V * np.exp(-k * t), 1e-10)
    absorbed = DOSE / V * KA / (KA - k) * (np.exp(-k * t) - np.exp(-KA * t))
    yield from _each("first-order absorption", _course(Oral(), dict(AMT=DOSE, CMT=1)), absorbed, 1e-10)
    during = np.minimum(t, 4.0)
    infused = DOSE / 4.0 / CL * (1 - np.exp(-k * during)) * np.exp(-k * (t - during))
    yield from _each("infusion over 4", _course(Oral(), dict(AMT=DOSE, RATE=DOSE / 4.0, CMT=2)), infused, 1e-10)


def two_compartments() -> Iterator[Check]:
    k10, k12, k21 = CL / V, 2.0 / V, 2.0 / 50.0
    total = k10 + k12 + k21
    root = math.sqrt(total**2 - 4 * k10 * k21)
    fast, slow, t = (total + root) / 2, (total - root) / 2, np.array(TIMES)
    sum_of_two = ((fast - k21) * np.exp(-fast * t) + (k21 - slow) * np.exp(-slow * t)) / (fast - slow)
    rows = dict(AMT=DOSE, CMT=1)
    yield from _each("bolus", _course(TwoCompartments(), rows), DOSE / V * sum_of_two, 1e-10)


def steady_state() -> Iterator[Check]:
    k, tau, t = CL / V, 24.0, np.array(TIMES)
    expected = DOSE / V * np.exp(-k * t) / (1 - math.exp(-k * tau))
    yield from _each("bolus every 24", _course(Oral(), dict(AMT=DOSE, CMT=2, SS=1, II=tau)), expected, 1e-10)


def equations() -> Iterator[Check]:
    start = DOSE / V / KM
    expected = [KM * lambertw(start * math.exp(start - VMAX / V / KM * t)).real for t in TIMES]
    yield from _each("saturable elimination", _course(Saturable(), dict(AMT=DOSE, CMT=1), cmt=1), expected, 1e-6)


def censored() -> Iterator[Check]:
    times, lloq = np.array([0.0, 2.0, 5.0, 8.0, 12.0]), 1.0
    observed, below = np.array([9.2, 6.1, 2.0, lloq, lloq]), np.array([0, 0, 0, 1, 1])
    rows = [dict(ID=1, TIME=t, DV=y, CENS=c) for t, y, c in zip(times, observed, below, strict=True)]
    standardised = (observed - 10.0 * np.exp(-0.3 * times)) / 0.8
    normal = math.log(2 * math.pi) + 2 * math.log(0.8) + standardised**2
    tail = [-2 * math.log(0.5 * math.erfc(-x / math.sqrt(2.0))) for x in standardised]
    found = nlme.evaluate(Censored(), _read(rows), nlme.NaivePooled()).objective_full
    yield Check("-2 log likelihood", found, float(np.where(below == 1, tail, normal).sum()), 1e-9)
