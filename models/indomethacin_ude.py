"""Indomethacin after an intravenous injection: two compartments, with the elimination learned (a universal ODE).

Reference
    Data: Kwan et al. (1976), J Pharmacokinet Biopharm 4:255.  The mechanistic part is the two-compartment model of Davidian &
    Giltinan (1995), Nonlinear Models for Repeated Measurement Data, section 5.2.4, and Pinheiro & Bates (2000), Mixed-Effects
    Models in S and S-PLUS, section 6.2; the learned term follows Rackauckas et al. (2020), arXiv:2001.04385.

Population
    6 healthy volunteers, 25 mg of indomethacin as a bolus, plasma concentrations over 8 hours.

Units
    h, L, mg, mg/L.

Defaults
    The biexponential curve of Pinheiro & Bates, table in section 6.2 (2.83 exp(-2.17 t) + 0.461 exp(-0.261 t) mg/L), as volumes
    and clearances for a dose of 25 mg: k21 = (2.83 x 0.261 + 0.461 x 2.17) / (2.83 + 0.461), and so on.  Variances: 20 to 35 %
    of variability between subjects, as the individual curves there show.  The network starts as no correction.

The model says of the elimination only that it is positive, the same function of concentration in everybody up to a factor:

    rate (mg/h) = clearance(c) c,      clearance(c) = cl exp(net(log(c + 0.01)))

A flat clearance is first-order elimination; one that falls with c saturates.  13 weights.
"""

from __future__ import annotations

import jax.numpy as jnp

import nlme
from nlme.typing import Scalar

REFERENCE = 0.5  # mg/L, the concentration at which `cl` is the clearance


class IndomethacinUDE(nlme.Model):
    """Central and peripheral compartment; the clearance as a function of concentration is learned."""

    cl: Scalar = nlme.positive(8.1, unit="L/h", label="Typical clearance")
    v1: Scalar = nlme.positive(7.6, unit="L", label="Central volume")
    q: Scalar = nlme.positive(6.3, unit="L/h", label="Exchange with the peripheral compartment")
    v2: Scalar = nlme.positive(12.0, unit="L", label="Peripheral volume")
    net: nlme.MLP = nlme.mlp(
        inputs=("log_concentration",),
        outputs=1,
        width=4,
        depth=1,
        key=0,
        center=-1.0,  # middle of the logarithms of the concentrations, 0.05 to 2.7 mg/L
        scale=1.2,
    )
    omega: nlme.Covariance = nlme.covariance(cl=0.04, q=0.1)
    prop: Scalar = nlme.positive(0.14, label="Proportional error")

    def individual(self, eta, cov):
        return dict(factor=jnp.exp(eta.cl), v1=self.v1, q=self.q * jnp.exp(eta.q), v2=self.v2)

    def clearance(self, concentration):
        """Typical clearance (L/h) at a concentration (mg/L)."""
        shape = self.net(jnp.log(concentration + 0.01)) - self.net(jnp.log(REFERENCE + 0.01))
        return self.cl * jnp.exp(shape[0])

    def dynamics(self, ind):
        def rhs(t, a):
            concentration = a.central / ind.v1
            exchange = ind.q * (concentration - a.peripheral / ind.v2)
            eliminated = ind.factor * self.clearance(concentration) * concentration
            return dict(central=-eliminated - exchange, peripheral=exchange)

        return nlme.ODE(rhs, states=("central", "peripheral"))

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v1, prop=self.prop)}


def priors() -> dict:
    """Priors for :func:`nlme.sample`.

    Typical values: LogNormal around published values of indomethacin's disposition with a factor of 2 either way (Helleberg 1981,
    Clin Pharmacokinet 6:245, clearance 1 to 2.5 mL/min/kg).  Weights: Normal(0, 0.5), which lets the clearance vary about twofold
    over the range of concentrations and prefers it constant.  Random effects: up to about 60 % CV.
    """
    import numpyro.distributions as dist

    return {
        "cl": dist.LogNormal(jnp.log(8.0), 0.5),
        "v1": dist.LogNormal(jnp.log(8.0), 0.5),
        "q": dist.LogNormal(jnp.log(6.0), 0.7),
        "v2": dist.LogNormal(jnp.log(12.0), 0.7),
        "net": dist.Normal(0.0, 0.5),
        "omega.sd": dist.HalfNormal(0.3),
        "prop": dist.LogNormal(jnp.log(0.15), 0.5),
    }
