"""One compartment from which a network of the concentration decides how fast a drug is eliminated."""

from __future__ import annotations

import jax.numpy as jnp

import nlme


class Universal(nlme.Model):
    """Elimination from one compartment: a linear clearance times the exponential of a network of the concentration."""

    cl: nlme.Scalar = nlme.positive(1.2)
    v: nlme.Scalar = nlme.positive(10.0)
    net: nlme.MLP = nlme.mlp(inputs=1, outputs=1, width=2, depth=1, key=6, center=4.0, scale=3.0, initial_scale=1.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)
    prop: nlme.Scalar = nlme.positive(0.15)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        def rhs(t, a):
            c = a.central / ind.v
            return {"central": -ind.cl * jnp.exp(self.net(c)[0]) * c}

        return nlme.ODE(rhs, states=("central",))

    def observe(self, ind, state, t):
        return {"y": nlme.proportional(state.central / ind.v, self.prop)}
