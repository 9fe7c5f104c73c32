"""Small models without equations, and data drawn from them, for checks by simulation."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

import nlme

TIMES = np.array([0.5, 1.0, 2.0, 4.0, 8.0, 12.0])


class Decline(nlme.Model):
    """A concentration that falls, proportional to the dose of the subject."""

    covariates = {"dose": "mg", "arm": None}
    cl: nlme.Scalar = nlme.positive(0.2)
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.05)
    prop: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(k=self.cl * jnp.exp(eta.cl), start=cov.dose * jnp.exp(eta.v))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(ind.start * jnp.exp(-ind.k * t), self.prop)}


class Limited(Decline):
    def observe(self, ind, state, t):
        return {"conc": nlme.censored(nlme.proportional(ind.start * jnp.exp(-ind.k * t), self.prop), lloq=2.0)}


class Answers(nlme.Model):
    """Grades 0 to 2, and counts, that rise in time."""

    slope: nlme.Scalar = nlme.real(0.2)
    omega: nlme.Covariance = nlme.covariance(base=0.5)

    def individual(self, eta, cov):
        return dict(base=eta.base, slope=self.slope)

    def observe(self, ind, state, t):
        x = ind.base + ind.slope * t
        return {"grade": nlme.ordered(logits=(x, x - 1.5)), "count": nlme.poisson(jnp.exp(0.5 * x))}


class Event(nlme.Model):
    """A constant hazard that the arm doubles."""

    covariates = {"dose": "mg", "arm": None}
    rate: nlme.Scalar = nlme.positive(0.1)
    omega: nlme.Covariance = nlme.covariance(rate=0.2)
    repeated = False

    def individual(self, eta, cov):
        return dict(rate=self.rate * jnp.exp(eta.rate) * (1.0 + cov.arm))

    def observe(self, ind, state, t):
        return {"event": nlme.time_to_event(ind.rate, ind.rate * t, repeated=self.repeated)}


class Recurring(Event):
    repeated = True


def design(count: int, times=TIMES, endpoint: str = "conc", doses=(10.0,), **columns) -> nlme.Population:
    """Subjects with an observation of 1 at each of ``times``."""
    n = len(times)
    subjects = [
        nlme.Subject(
            i + 1,
            times,
            dv=np.ones(n),
            covariates={"dose": doses[i % len(doses)], "arm": float(i % 2)},
            **{name: np.full(n, value) for name, value in columns.items()},
        )
        for i in range(count)
    ]
    return nlme.Population(tuple(subjects), (endpoint,))


def with_values(population: nlme.Population, values, cens=None) -> nlme.Population:
    """The same with other observed values (N, T) or (N T,)."""
    values = np.reshape(values, (len(population), -1))
    cens = np.zeros(values.shape, int) if cens is None else np.reshape(cens, values.shape)
    people = zip(population, values, cens, strict=True)
    return dataclasses.replace(population, subjects=tuple(dataclasses.replace(s, dv=v, cens=c) for s, v, c in people))


def drawn(population: nlme.Population, replicates: int, seed: int = 7, cl: float = 0.2) -> np.ndarray:
    """(R, n) observations with the truth of ``Decline``, drawn without the library."""
    random = np.random.default_rng(seed)
    eta = random.standard_normal((2, replicates, len(population), 1)) * np.sqrt([0.1, 0.05])[:, None, None, None]
    dose = np.array([[s.covariates["dose"][0]] for s in population])
    predicted = dose * np.exp(eta[1]) * np.exp(-cl * np.exp(eta[0]) * population[0].time)
    return (predicted * (1.0 + 0.15 * random.standard_normal(predicted.shape))).reshape(replicates, -1)


def simulated(model: nlme.Model, population: nlme.Population, replicates: int, key: int) -> np.ndarray:
    """(R, n) observations of a model with one endpoint by ``nlme.simulate``."""
    table = nlme.simulate(model, population, key=key, eta="new", replicates=replicates)
    return table["DV"].to_numpy().reshape(replicates, -1)


def trial_of_events(count: int, seed: int, rate: float = 0.1, until: float = 20.0) -> nlme.Population:
    """Exact times of first events with the truth of ``Event``, followed to a time of their own; every third has no record at 0."""
    random = np.random.default_rng(seed)
    subjects = []
    for i in range(count):
        arm = i % 2
        hazard = rate * np.exp(np.sqrt(0.2) * random.normal()) * (1.0 + arm)
        at, end = random.exponential() / hazard, random.uniform(0.5 * until, until)
        use = slice(int(i % 3 == 0), None)
        time, dv = np.array([0.0, min(at, end)])[use], np.array([0.0, float(at <= end)])[use]
        subjects.append(nlme.Subject(i + 1, time, dv=dv, covariates={"dose": 1.0, "arm": float(arm)}))
    return nlme.Population(tuple(subjects), ("event",))
