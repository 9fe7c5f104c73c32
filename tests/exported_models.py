"""Small models that hold every construct of the language which other programs have, each with a few records."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import pandas as pd
import pytest

import nlme
from nlme import Scalar


class Case(NamedTuple):
    """A model, its rows and how they are read; ``method`` where it is not the model's usual one."""

    model: nlme.Model
    rows: list[dict]
    reading: dict = {}
    method: object = None

    @property
    def population(self):
        frame = pd.DataFrame(self.rows)
        for name in ("DV", "AMT"):
            if name in frame:
                frame[name] = frame[name].astype(float)
        return nlme.read_nonmem(frame, **self.reading)


TIMES = (0.5, 2.0, 6.0, 12.0)


def rows(dv=(4.0, 6.0, 3.0, 1.5), dose=100.0, times=TIMES, subjects=3, **items) -> list[dict]:
    """A dose at 0 and observations after it; ``items`` are values, or functions of (subject, record)."""
    found = []
    for i in range(1, subjects + 1):
        for k, t in enumerate((0.0, *times)):
            record = {"ID": i, "TIME": t, "AMT": dose if k == 0 else 0.0, "EVID": 1 if k == 0 else 0}
            record["DV"] = None if k == 0 else dv[k - 1] * (1.0 + 0.1 * i)
            found.append(record | {name: v(i, k) if callable(v) else v for name, v in items.items()})
    return found


class One(nlme.Model):
    """One compartment, intravenous."""

    cl: Scalar = nlme.positive(2.0, unit="L/h", label="Clearance")
    v: Scalar = nlme.positive(20.0, unit="L")
    omega: nlme.Covariance = nlme.covariance(cl=0.09, v=0.04)
    add: Scalar = nlme.positive(0.3)
    prop: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": self.error(state.central / ind.v)}

    def error(self, f):
        return nlme.combined(f, add=self.add, prop=self.prop)


class Additive(One):
    prop = None

    def error(self, f):
        return nlme.additive(f, self.add)


class Proportional(One):
    def error(self, f):
        return nlme.proportional(f, self.prop + 0.0 * self.add)


class Oral(One):
    """One compartment, oral, with lag, bioavailability and a name that PREDPP would take for another thing."""

    ka: Scalar = nlme.positive(1.3)
    f: Scalar = nlme.probability(0.6)
    lag: Scalar = nlme.positive(0.25)

    def individual(self, eta, cov):
        f = jax.nn.sigmoid(jnp.log(self.f / (1.0 - self.f)))
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka, f=f, lag=self.lag)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka, lag=ind.lag, bioavailability=ind.f)


class Two(One):
    """Two compartments whose second volume has the name that NONMEM has for the first."""

    q: Scalar = nlme.positive(1.0)
    v2: Scalar = nlme.positive(30.0)
    omega: nlme.Covariance = nlme.covariance(("cl", "v"), [[0.09, 0.02], [0.02, 0.04]])

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v1=self.v * jnp.exp(eta.v), q=self.q, v2=self.v2)

    def dynamics(self, ind):
        return nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2)

    def observe(self, ind, state, t):
        return {"conc": self.error(state.central / ind.v1)}


class TwoOral(Two):
    ka: Scalar = nlme.positive(1.3)

    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(ka=self.ka)

    def dynamics(self, ind):
        return nlme.pk.TwoCompartmentOral(cl=ind.cl, v1=ind.v1, q=ind.q, v2=ind.v2, ka=ind.ka)


class Three(One):
    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(q=1.0)

    def dynamics(self, ind):
        return nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v, q2=ind.q, v2=2.0 * ind.v, q3=0.3, v3=ind.v)


class Duration(One):
    """Infusions whose duration the model has, into the second of the compartments too."""

    dur: Scalar = nlme.positive(1.5)
    rate: Scalar = nlme.positive(40.0)
    f2: Scalar = nlme.positive(0.8)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(
            cl=ind.cl, v=ind.v, ka=1.0, duration={"central": self.dur}, rate=self.rate, bioavailability={"central": self.f2}
        )


class Nonlinear(One):
    """Saturable elimination and an effect that starts from its baseline."""

    vm: Scalar = nlme.positive(8.0)
    km: Scalar = nlme.positive(2.0)
    kin: Scalar = nlme.positive(3.0)
    kout: Scalar = nlme.positive(0.3)

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            driven = self.kin * (1.0 - jnp.minimum(c, 5.0) / (self.km + c))
            return dict(central=-self.vm * c / (self.km + c) - ind.cl * c, effect=driven - self.kout * a.effect)

        return nlme.ODE(rhs, ("central", "effect"), initial={"effect": self.kin / self.kout})

    def observe(self, ind, state, t):
        return {
            "conc": nlme.combined(state.central / ind.v, self.add, self.prop),
            "effect": nlme.additive(state.effect, self.add),
        }


class Covariates(One):
    """A power of weight, categories, an age above which clearance falls, a mean of several."""

    by_race: nlme.Vector = nlme.real([0.1, 0.2, -0.1])
    slope: Scalar = nlme.real(-0.01)
    covariates = {"wt": "kg", "sex": "", "race": "", "age": "years"}

    def individual(self, eta, cov):
        female = jnp.where(cov.sex == 1, 0.8, 1.0)
        old = jnp.exp(self.slope * jnp.maximum(cov.age - 40.0, 0.0))
        race = jnp.exp(self.by_race[cov.race.astype(int)])
        cl = self.cl * (cov.wt / 70.0) ** 0.75 * female * old * race * jnp.exp(eta.cl)
        return dict(cl=cl, v=self.v * (cov.wt / 70.0) * jnp.exp(eta.v))


class Occasions(One):
    between: nlme.Covariance = nlme.covariance(("cl_occ", "v_occ"), [[0.02, 0.005], [0.005, 0.03]], per="occasion")

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl + eta.cl_occ), v=self.v * jnp.exp(eta.v + eta.v_occ))


class OccasionsOfEquations(One):
    """An effect per occasion that nothing but the differential equations looks at."""

    between: nlme.Covariance = nlme.covariance(cl_occ=0.02, per="occasion")

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl + eta.cl_occ), v=self.v * jnp.exp(eta.v))

    def observe(self, ind, state, t):
        return {"conc": self.error(state.central / self.v)}

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(central=-ind.cl * a.central / (ind.v + 0.1 * a.central)), ("central",))


class Mixed(One):
    """Two subpopulations."""

    slow: Scalar = nlme.positive(0.7)
    group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)

    def individual(self, eta, cov):
        share = self.group.choose(slow=self.slow, fast=1.0)
        return dict(cl=self.cl * share * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))


class Spread(One):
    """Standard deviations that add."""

    def error(self, f):
        return nlme.combined(f, self.add, self.prop, form="sd")


class Power(One):
    def error(self, f):
        return nlme.power(f, self.prop, 0.7 + 0.0 * self.add)


class LogNormal(One):
    def error(self, f):
        return nlme.lognormal(f, self.prop + 0.0 * self.add)


class LogitNormal(One):
    def error(self, f):
        return nlme.logitnormal(f, self.prop + self.add, 0.0, 20.0)


class BoxCox(One):
    def error(self, f):
        return nlme.boxcox(f, self.prop + self.add, 0.3)


class Covariant(One):
    """A variance that is no error model of the library's."""

    def error(self, f):
        return nlme.additive(f, self.add + self.prop * jnp.sqrt(f))


class Below(One):
    """Values below a limit (M3)."""

    def error(self, f):
        return nlme.censored(nlme.combined(f, self.add, self.prop))


class BelowLog(One):
    def error(self, f):
        return nlme.censored(nlme.lognormal(f, self.prop + self.add), lloq=2.0)


class BelowProportional(One):
    def error(self, f):
        return nlme.censored(nlme.proportional(f, self.prop + self.add))


class LeftOut(One):
    def error(self, f):
        return nlme.censored(nlme.combined(f, self.add, self.prop), "M1")


class Heavy(One):
    def error(self, f):
        return nlme.student_t(f, self.add + self.prop, 4)


class Counts(nlme.Model):
    """Counts without dynamics."""

    base: Scalar = nlme.positive(3.0)
    slope: Scalar = nlme.real(-0.05)
    spread: Scalar = nlme.positive(0.4)
    omega: nlme.Covariance = nlme.covariance(base=0.2)

    def individual(self, eta, cov):
        return dict(base=self.base * jnp.exp(eta.base))

    def observe(self, ind, state, t):
        return {"count": self.law(ind.base * jnp.exp(self.slope * t))}

    def law(self, rate):
        return nlme.poisson(rate + 0.0 * self.spread)


class Overdispersed(Counts):
    def law(self, rate):
        return nlme.negative_binomial(rate, self.spread)


class Binary(Counts):
    def law(self, rate):
        return nlme.binary(logit=rate - 2.0 + 0.0 * self.spread)


class Ordered(Counts):
    def law(self, rate):
        return nlme.ordered(logits=(rate - 1.0, rate - 1.0 - self.spread))


class Own(Counts):
    def law(self, rate):
        return nlme.loglik(lambda y: -jnp.log(2.0 * self.spread) - jnp.abs(y - rate) / self.spread)


class Event(Counts):
    """A Weibull hazard, with visits before the event."""

    def law(self, rate):
        raise NotImplementedError

    def observe(self, ind, state, t):
        at = jnp.maximum(t, 1e-9)
        shape = 1.0 + self.spread
        scale = ind.base * jnp.exp(-10.0 * self.slope)
        return {"event": nlme.time_to_event(shape / scale * (at / scale) ** (shape - 1.0), (at / scale) ** shape)}


class Learned(One):
    """A network on clearance."""

    net: nlme.MLP = nlme.mlp(inputs=("wt", "age"), outputs=("cl",), width=3, depth=2, key=jax.random.key(1))
    covariates = {"wt": "kg", "age": "years"}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(self.net(cov.wt, cov.age).cl + eta.cl), v=self.v * jnp.exp(eta.v))


def _learned() -> Learned:
    """A network that is no longer at its start, where its last weights are 0."""
    model = Learned()
    moved = jax.tree.map(lambda x: x + 0.05, eqx.filter(model.net, eqx.is_inexact_array))
    return eqx.tree_at(lambda m: m.net, model, eqx.combine(moved, model.net))


class Decay(nlme.Model):
    """A formula of time."""

    base: Scalar = nlme.positive(8.0)
    rate: Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(base=0.1, rate=0.05)
    sd: Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(base=self.base * jnp.exp(eta.base), rate=self.rate * jnp.exp(eta.rate))

    def observe(self, ind, state, t):
        return {"size": nlme.additive(ind.base * jnp.exp(-ind.rate * t), self.sd)}


class Switched(One):
    """Equations that change at a time that is a parameter."""

    stop: Scalar = nlme.positive(4.3)

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(central=-jnp.where(t < self.stop, 1.0, 0.3) * ind.cl / ind.v * a.central)

        return nlme.ODE(rhs, ("central",), event_times=(self.stop,))


def _covariate(low, step):
    return lambda i, k: low + step * i


_COVARIATES = dict(wt=_covariate(60, 7), sex=lambda i, k: i % 2, race=lambda i, k: i - 1, age=_covariate(30, 9))
_EVENTS = [
    {"ID": i, "TIME": t, "AMT": amt, "RATE": rate, "EVID": evid, "II": ii, "ADDL": addl, "SS": ss, "CMT": 1, "DV": dv}
    for i in (1, 2)
    for t, amt, rate, evid, ii, addl, ss, dv in (
        (0.0, 100.0, 0.0, 1, 12.0, 0, 1, None), (1.0, 0.0, 0.0, 0, 0.0, 0, 0, 7.0 + i), (12.0, 50.0, 25.0, 1, 6.0, 2, 0, None),
        (13.5, 0.0, 0.0, 0, 0.0, 0, 0, 5.0), (31.0, 0.0, 0.0, 0, 0.0, 0, 0, 4.0), (36.0, 0.0, 0.0, 3, 0.0, 0, 0, None),
        (36.5, 0.0, 0.0, 2, 0.0, 0, 0, None), (37.0, 80.0, 0.0, 4, 0.0, 0, 0, None), (39.0, 0.0, 0.0, 0, 0.0, 0, 0, 3.0),
    )
]  # fmt: skip


def _both(i, k):
    return 0 if k == 0 else 1 + k % 2


def _cens(i, k):
    return int(k == 4)


_COUNTS = (2.0, 1.0, 3.0, 0.0)


def _whole(found: list[dict], **values) -> list[dict]:
    """The same with whole-numbered observations."""
    numbers = iter(values["dv"] * len(found))
    return [r | {"DV": next(numbers)} for r in found if r["EVID"] == 0]


#: cases that are looked at in every run; the others are slow
QUICK = ("covariates", "lognormal", "below", "ordered", "network")


def cases(but=()) -> list:
    """Names of the cases, those that are not quick marked."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CASES if name not in but]


CASES: dict[str, Case] = {
    "one": Case(One(), rows()),
    "additive": Case(Additive(), rows()),
    "proportional": Case(Proportional(), rows()),
    "oral": Case(Oral(), rows()),
    "two": Case(Two(), rows()),
    "two oral": Case(TwoOral(), rows()),
    "three": Case(Three(), rows()),
    "infusion": Case(One(), rows(RATE=lambda i, k: 50.0 if k == 0 else 0.0)),
    "duration in the data": Case(Oral(), rows(DUR=lambda i, k: 2.0 if k == 0 else 0.0)),
    "duration": Case(Duration(), [
        r | {"CMT": 1 + r["ID"] % 2 if r["EVID"] else 0, "RATE": (-1 - r["ID"] % 2) if r["EVID"] else 0} for r in rows()
    ]),
    "nonlinear": Case(Nonlinear(), rows(DVID=_both), dict(dvid={1: "conc", 2: "effect"})),
    "covariates": Case(Covariates(), rows(**_COVARIATES), dict(covariates=["wt", "sex", "race", "age"])),
    "varying covariates": Case(
        Covariates(), rows(**_COVARIATES | dict(wt=lambda i, k: 60 + 5 * i + k)),
        dict(covariates=["wt", "sex", "race", "age"], time_varying=["wt"]),
    ),
    "occasions": Case(Occasions(), rows(OCC=lambda i, k: 1 + (k > 2))),
    "occasions of equations": Case(OccasionsOfEquations(), rows(OCC=lambda i, k: 1 + (k > 2))),
    "mixture": Case(Mixed(), rows()),
    "sd": Case(Spread(), rows()),
    "power": Case(Power(), rows()),
    "lognormal": Case(LogNormal(), rows()),
    "logitnormal": Case(LogitNormal(), rows()),
    "boxcox": Case(BoxCox(), rows()),
    "variance": Case(Covariant(), rows()),
    "below": Case(Below(), rows(CENS=_cens)),
    "below, limits": Case(Below(), [r | {"DV": 1.0 if r["CENS"] and r["ID"] == 1 else r["DV"]} for r in rows(CENS=_cens)]),
    "interval": Case(Below(), rows(CENS=lambda i, k: {4: 1, 2: -1}.get(k, 0), LIMIT=lambda i, k: {4: 0.2, 2: 9.0}.get(k))),
    "below, log": Case(BelowLog(), rows()),
    "below, proportional": Case(BelowProportional(), [
        *({"ID": i, "TIME": t, "AMT": 0.0, "EVID": 0, "DV": 1.0, "CENS": 1} for i in (1,) for t in (0.0,)),
        *(r | {"CENS": 0, "TIME": r["TIME"] + 1.0} for r in rows(subjects=1)),
    ]),
    "left out": Case(LeftOut(), rows(CENS=_cens)),
    "student": Case(Heavy(), rows()),
    "poisson": Case(Counts(), _whole(rows(), dv=_COUNTS)),
    "negative binomial": Case(Overdispersed(), _whole(rows(), dv=_COUNTS)),
    "binary": Case(Binary(), _whole(rows(), dv=(1.0, 0.0, 0.0))),
    "ordered": Case(Ordered(), _whole(rows(), dv=(1.0, 0.0, 2.0))),
    "own": Case(Own(), _whole(rows(), dv=_COUNTS)),
    "event": Case(Event(), [r for r in _whole(rows(), dv=(0.0, 0.0, 0.0, 1.0))]),
    "event once": Case(Event(), [r for r in _whole(rows(times=(3.0,)), dv=(1.0, 0.0, 2.0))]),
    "network": Case(_learned(), rows(**{k: _COVARIATES[k] for k in ("wt", "age")}), dict(covariates=["wt", "age"])),
    "new network": Case(Learned(), rows(**{k: _COVARIATES[k] for k in ("wt", "age")}), dict(covariates=["wt", "age"])),
    "formula": Case(Decay(), [r for r in rows() if r["EVID"] == 0]),
    "events": Case(One(), _EVENTS, dict(allow=["duplicated record"])),
    "switched": Case(Switched(), rows()),
}  # fmt: skip
