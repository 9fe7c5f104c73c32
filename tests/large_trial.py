"""A trial of any size, drawn by formula, and the model that it came from."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from one_dose import population

import nlme


class Drug(nlme.Model):
    """One compartment with absorption: in closed form, or with saturable elimination of a vast capacity as an equation."""

    equation: bool = False
    cl: nlme.Scalar = nlme.positive(2.0, unit="L/h")
    v: nlme.Scalar = nlme.positive(20.0, unit="L")
    ka: nlme.Scalar = nlme.positive(1.0, unit="1/h")
    omega: nlme.Covariance = nlme.covariance(cl=0.1, v=0.1)
    prop: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v), ka=self.ka)

    def dynamics(self, ind):
        if not self.equation:
            return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

        def rhs(t, a):
            c = a.central / ind.v
            return dict(depot=-ind.ka * a.depot, central=ind.ka * a.depot - ind.cl * c / (1.0 + c / 1e4))

        return nlme.ODE(rhs, ("depot", "central"))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


def trial(count: int, times) -> nlme.Population:
    """cl 3, v 30, ka 1.5, standard deviations 0.3 and 0.2, proportional error of 15 %."""
    random, t = np.random.default_rng(1), np.asarray(times, float)
    cl, v = 3.0 * np.exp(0.3 * random.normal(size=(count, 1))), 30.0 * np.exp(0.2 * random.normal(size=(count, 1)))
    k = cl / v
    y = 320.0 * 1.5 / v / (1.5 - k) * (np.exp(-k * t) - np.exp(-1.5 * t)) * (1.0 + 0.15 * random.normal(size=(count, len(t))))
    return population(count, times, y)
