"""Pairs of model and data, and starting values scattered about a model's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import reference

import nlme
from nlme import Scalar, datasets
from nlme.parameters.inventory import Inventory


class Warfarin(nlme.Model):
    """One compartment with absorption and a lag, for the concentrations of ``warfarin_pkpd_turnover``."""

    cl: Scalar = nlme.positive(0.134, unit="L/h")
    v: Scalar = nlme.positive(8.1, unit="L")
    ka: Scalar = nlme.positive(1.3, unit="1/h")
    lag: Scalar = nlme.positive(0.6, unit="h")
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04, ka=0.3)
    add: Scalar = nlme.positive(0.3, unit="mg/L")
    prop: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka * jnp.exp(eta.ka), lag=self.lag)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka, lag=ind.lag)

    def observe(self, ind, state, t):
        return {"cp": nlme.combined(state.central / ind.v, add=self.add, prop=self.prop)}


class Turnover(nlme.Model):
    """Warfarin and its effect on prothrombin activity: two endpoints, an ODE."""

    cl: Scalar = nlme.positive(0.134, unit="L/h")
    v: Scalar = nlme.positive(8.1, unit="L")
    ka: Scalar = nlme.positive(1.3, unit="1/h")
    ec50: Scalar = nlme.positive(1.2, unit="mg/L")
    kout: Scalar = nlme.positive(0.05, unit="1/h")
    e0: Scalar = nlme.positive(96.0, unit="%")
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04, ec50=0.2, kout=0.02)
    prop: Scalar = nlme.positive(0.2)
    sd: Scalar = nlme.positive(5.0, unit="%")

    def individual(self, eta, cov):
        return dict(
            cl=self.cl * jnp.exp(eta.cl),
            v=self.v * jnp.exp(eta.v),
            ka=self.ka,
            ec50=self.ec50 * jnp.exp(eta.ec50),
            kout=self.kout * jnp.exp(eta.kout),
            e0=self.e0,
        )

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            inhibited = 1.0 - c / (ind.ec50 + c)
            return dict(
                depot=-ind.ka * a.depot,
                central=ind.ka * a.depot - ind.cl * c,
                effect=ind.kout * (ind.e0 * inhibited - a.effect),
            )

        return nlme.ODE(rhs, states=("depot", "central", "effect"), initial={"effect": ind.e0})

    def observe(self, ind, state, t):
        return {
            "cp": nlme.combined(state.central / ind.v, add=0.3, prop=self.prop),
            "pca": nlme.additive(state.effect, self.sd),
        }


class Infusion(nlme.Model):
    """Zero-order infusion with covariates, a block of two random effects."""

    cl: Scalar = nlme.positive(4.0, unit="L/h")
    v: Scalar = nlme.positive(30.0, unit="L")
    weight_cl: Scalar = nlme.real(0.8)
    weight_v: Scalar = nlme.real(0.8)
    age_cl: Scalar = nlme.real(-0.1)
    age_v: Scalar = nlme.real(0.1)
    sex_cl: Scalar = nlme.positive(0.7)
    sex_v: Scalar = nlme.positive(0.7)
    prop2: Scalar = nlme.positive(0.04)
    omega: nlme.Covariance = nlme.covariance(("cl", "v"), [[0.1], [0.001, 0.1]])
    covariates = {"wt": "kg", "age": "yr", "sex": ""}

    def individual(self, eta, cov):
        weight, age = cov.wt / 70, cov.age / 50
        cl = self.cl * weight**self.weight_cl * age**self.age_cl * self.sex_cl**cov.sex
        v = self.v * weight**self.weight_v * age**self.age_v * self.sex_v**cov.sex
        return dict(cl=cl * jnp.exp(eta.cl), v=v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, jnp.sqrt(self.prop2))}


class Occasions(nlme.Model):
    """Warfarin on two occasions, clearance varying between them."""

    cl: Scalar = nlme.positive(0.2, unit="L/h")
    v: Scalar = nlme.positive(10.0, unit="L")
    ka: Scalar = nlme.positive(1.5, unit="1/h")
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04, ka=0.3)
    occasion: nlme.Covariance = nlme.covariance(cl_occ=0.01, per="occasion")
    prop2: Scalar = nlme.positive(0.04)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl + eta.cl_occ), v=self.v * jnp.exp(eta.v), ka=self.ka * jnp.exp(eta.ka))

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, jnp.sqrt(self.prop2))}


class Control5(nlme.Model):
    """NONMEM's CONTROL5: KA = t1 + e1, K = t2 + e2, CL = t3 WT + e3; concentration = amount / (CL / K / WT), as doses are per kg."""

    ka: Scalar = nlme.positive(3.0, unit="1/h")
    k: Scalar = nlme.positive(0.08, unit="1/h")
    cl: Scalar = nlme.positive(0.04, unit="L/h/kg")
    add2: Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(("ka", "k", "cl"), [[6.0], [0.005, 0.0002], [0.3, 0.006, 0.4]])
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        k, cl = self.k + eta.k, self.cl * cov.wt + eta.cl
        return dict(ka=self.ka + eta.ka, k=k, cl=cl, scale=cl / k / cov.wt)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.cl / ind.k, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.scale, jnp.sqrt(self.add2))}


class Sleep(nlme.Model):
    """Reaction time against days without sleep: linear, a block of two additive random effects."""

    level: Scalar = nlme.real(250.0, unit="ms")
    slope: Scalar = nlme.real(10.0, unit="ms/day")
    sigma2: Scalar = nlme.positive(600.0)
    omega: nlme.Covariance = nlme.covariance(("level", "slope"), [[500.0], [5.0, 30.0]])

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"reaction": nlme.additive(ind.level + ind.slope * t, jnp.sqrt(self.sigma2))}


class Elimination(nlme.Model):
    """Saturable elimination in one person: an ODE without random effects."""

    vmax: Scalar = nlme.positive(1.0)
    km: Scalar = nlme.positive(0.5)
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(vmax=self.vmax, km=self.km)

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: {"y": -ind.vmax * a.y / (ind.km + a.y)}, states=("y",), initial={"y": 10.0})

    def observe(self, ind, state, t):
        return {"y": nlme.lognormal(state.y, self.sd)}


def one_person():
    t = np.linspace(0.5, 14.0, 15)
    y, states = np.zeros(15), 10.0
    for k, (a, b) in enumerate(zip(np.r_[0.0, t[:-1]], t, strict=True)):
        for _ in range(2000):
            states -= (b - a) / 2000 * 0.8 * states / (1.5 + states)
        y[k] = states
    y = y * np.exp(0.08 * np.random.default_rng(1).normal(size=15))
    return nlme.Population((nlme.Subject(1, t, dv=y, evid=np.zeros(15, int)),))


@dataclasses.dataclass(frozen=True)
class Pair:
    """A model, its data and the method."""

    model: Callable[[], nlme.Model]
    data: Callable[[], Any]
    method: Any = dataclasses.field(default_factory=nlme.FOCEI)
    options: dict = dataclasses.field(default_factory=dict)


def _shipped(name: str, model: str, **options) -> Pair:
    def made():
        import importlib

        return getattr(importlib.import_module(f"nlme.models.{name}"), model)()

    return Pair(made, lambda: datasets.load(name.removesuffix("_deep")), **options)


def _warfarin(**dvid):
    frame = reference.case("warfarin_pkpd_turnover").table()
    return nlme.read_nonmem(frame, dvid=dvid["dvid"])


def _deep():
    from nlme.models.quinidine_deep import PENALTY

    return _shipped("quinidine_deep", "QuinidineDeep", options={"penalty": PENALTY})


PAIRS: dict[str, Pair] = {
    "theophylline": _shipped("theophylline", "Theophylline"),
    "phenobarbital": _shipped("phenobarbital", "Phenobarbital"),
    "quinidine": _shipped("quinidine", "Quinidine"),
    "indomethacin": _shipped("indomethacin", "Indomethacin"),
    "warfarin": Pair(Warfarin, lambda: _warfarin(dvid={1: "cp", 2: None})),
    "warfarin_pkpd": Pair(Turnover, lambda: _warfarin(dvid={1: "cp", 2: "pca"})),
    "infusion": Pair(
        Infusion,
        lambda: nlme.read_nonmem(reference.case("infusion_covariates_multimethod").table(), covariates=["wt", "age", "sex"]),
    ),
    "occasions": Pair(
        Occasions,
        lambda: nlme.read_nonmem(reference.case("iov_warfarin_nonmem").table()),
    ),
    "first_order": Pair(
        Control5, lambda: nlme.read_nonmem(reference.case("theophylline_control5_fo").table(), covariates={"wt": "kg"}), nlme.FO()
    ),
    "sleep": Pair(Sleep, lambda: nlme.read_nonmem(reference.case("lmm_sleepstudy_lme4").table())),
    "one_person": Pair(Elimination, one_person, nlme.NaivePooled()),
    "deep": _deep(),
    "remifentanil": _shipped("remifentanil", "Remifentanil"),
}


def scattered(model: nlme.Model, seed: int, fixed_effects: float = 10.0, variances: float = 100.0) -> nlme.Model:
    """The model with its fixed effects multiplied by up to ``fixed_effects`` either way, its variances by up to ``variances``.

    Correlations and the weights of networks stay.
    """
    rng = np.random.default_rng(seed)
    inventory = Inventory(model)
    rows = inventory.rows(model)
    values = np.array([row.value for row in rows])
    factors = {row.name: 1.0 for row in rows}
    for row in rows:
        draw = rng.uniform(-1.0, 1.0)
        if row.kind == "fixed effect":
            factors[row.name] = fixed_effects**draw
        elif row.kind == "variance":
            factors[row.name] = variances**draw
    for row in rows:
        if row.kind == "covariance":
            field, _, pair = row.name.rpartition(".")
            a, b = (factors[f"{field}.{name}"] for name in pair.split(","))
            factors[row.name] = np.sqrt(a * b)
    values = values * np.array([factors[row.name] for row in rows])
    domains = {name: entry.declaration.domain for entry in inventory.entries for name in entry.names}
    for k, row in enumerate(rows):
        domain = domains[row.name]
        if row.kind == "fixed effect" and np.isfinite(domain.upper - domain.lower):
            width = domain.upper - domain.lower
            values[k] = np.clip(values[k], domain.lower + 0.01 * width, domain.upper - 0.01 * width)
    return inventory.at_natural(model, jnp.asarray(values))
