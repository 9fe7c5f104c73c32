"""Trials with one dose of 320 mg for each subject, drawn from a model, and the two-compartment model that most are drawn from."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

import nlme

EFFECTS = ("cl", "v", "q", "v2", "ka")


def two_compartments(equations: bool) -> type[nlme.Model]:
    """Oral doses into two compartments, five random effects; a class of its own each time, compiled apart from the others."""

    class Oral(nlme.Model):
        cl: nlme.Scalar = nlme.positive(3.0)
        v: nlme.Scalar = nlme.positive(20.0)
        q: nlme.Scalar = nlme.positive(4.0)
        v2: nlme.Scalar = nlme.positive(40.0)
        ka: nlme.Scalar = nlme.positive(1.0)
        omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(EFFECTS, 0.09))
        prop: nlme.Scalar = nlme.positive(0.1)

        def individual(self, eta, cov):
            return {name: getattr(self, name) * jnp.exp(eta[name]) for name in EFFECTS}

        def dynamics(self, ind):
            if not equations:
                return nlme.pk.TwoCompartmentOral(cl=ind.cl, v1=ind.v, q=ind.q, v2=ind.v2, ka=ind.ka)

            def rhs(t, a):
                exchange = ind.q * (a.central / ind.v - a.peripheral / ind.v2)
                absorbed = ind.ka * a.depot
                return dict(depot=-absorbed, central=absorbed - ind.cl / ind.v * a.central - exchange, peripheral=exchange)

            return nlme.ODE(rhs, ("depot", "central", "peripheral"))

        def observe(self, ind, state, t):
            return {"conc": nlme.proportional(state.central / ind.v, self.prop)}

    return Oral


AWAY = dict(cl=4.0, v=15.0, q=3.0, v2=60.0, ka=1.5, prop=0.2)  # values to begin a fit of it from
TIMES = [0.5, 1, 2, 3, 4, 6, 8, 12, 18, 24]


def population(count: int, times, values=None) -> nlme.Population:
    """Subjects sampled at ``times``; ``values`` (count, times) are what was observed."""
    n = len(times)
    subjects = [
        nlme.Subject(
            id=i + 1,
            time=[0.0, *times],
            evid=[1] + [0] * n,
            amt=[320.0] + [0.0] * n,
            cmt=[1] * (1 + n),
            dv=None if values is None else [np.nan, *values[i]],
        )
        for i in range(count)
    ]
    return nlme.Population(tuple(subjects), ("conc",), {})


def drawn(model: nlme.Model, count: int, times) -> nlme.Population:
    """A trial of ``count`` subjects with values drawn from the model."""
    values = nlme.simulate(model, population(count, times), key=1, eta="new")["DV"]
    return population(count, times, values.to_numpy().reshape(count, len(times)))
