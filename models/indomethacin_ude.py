"""Indomethacin after an intravenous bolus, its elimination learned: a Bayesian universal ODE.

Reference
    The mechanistic part: ``models/indomethacin.py`` (Pinheiro & Bates 2000, section 6.2; data of Kwan et al. 1976).  Learned terms
    inside an ODE: Rackauckas et al. (2020), Universal differential equations for scientific machine learning, arXiv:2001.04385.
Population
    As there: 6 healthy volunteers, one bolus of 25 mg, 11 samples in 8 h.
Units
    dose mg, time h, concentration mg/L, clearance L/h, volume L.
Words
    indomethacin, NSAID, anti-inflammatory, M01AB01, two compartments, bolus, neural network, universal ODE, Bayesian

| value           | origin                                                                                                        |
|-----------------|---------------------------------------------------------------------------------------------------------------|
| cl, v1, q, v2   | ``models/indomethacin.py``                                                                                    |
| omega, prop     | the same (v1 and v2 without variability, so that the six people differ in elimination and exchange)           |
| net             | starts as no correction at all (last layer zero); 10 weights                                                  |
| center, scale   | mean and standard deviation of the logarithms of the concentrations in the data                               |
| priors: cl      | Helleberg (1981), Clin Pharmacokinet 6:245: 1 to 2.5 mL/min/kg, 4 to 10 L/h at 70 kg; factor 2.7 either way    |
| priors: v1 q v2 | the values above, factor 2.2 to 2.7 either way: they are of these same data, so kept wide                     |
| priors: net     | hidden weights near their random start, output weights Normal(0, 0.5): the clearance may vary about twofold    |
|                 | over the range of concentrations, and a constant one is the likeliest                                         |

Of the elimination the model says only that it is positive, and the same function of concentration in everybody up to a factor:

    rate (mg/h) = clearance(c) c,      clearance(c) = cl exp( net(log c) - net(log 0.5) )

A flat clearance is first-order elimination; one that falls with c is on its way to saturation.
"""

import jax
import jax.numpy as jnp
import numpy as np

import nlme
from nlme import Scalar

REFERENCE = 0.5  # mg/L: `cl` is the clearance there, which leaves the network the shape alone

#: Options of :func:`nlme.sample` for a first look, well under a minute; take ten times the warm-up and draws for results.
#: The ODE's tolerance is that of a likelihood known to 1e-3, and a solve that needs more steps is at absurd parameters.
QUICK = dict(
    warmup=150,
    draws=100,
    chains=4,
    max_tree_depth=(5, 7),  # short trajectories while the step size is not known yet
    ode=nlme.Tolerances(relative=1e-4, absolute=1e-5, max_steps=60),
)


class IndomethacinUDE(nlme.Model):
    """Indomethacin after an intravenous bolus: two compartments, clearance a learned function of concentration."""

    cl: Scalar = nlme.positive(8.14, unit="L/h", label="Clearance at 0.5 mg/L")
    v1: Scalar = nlme.positive(7.60, unit="L", label="Central volume")
    q: Scalar = nlme.positive(6.31, unit="L/h", label="Exchange with the peripheral compartment")
    v2: Scalar = nlme.positive(11.95, unit="L", label="Peripheral volume")
    net: nlme.MLP = nlme.mlp(inputs=("log_concentration",), outputs=1, width=3, depth=1, key=0, center=-1.1, scale=1.1)
    omega: nlme.Covariance = nlme.covariance(cl=0.034, q=0.12)
    prop: Scalar = nlme.positive(0.144, label="Proportional error")

    def individual(self, eta, cov):
        return dict(factor=jnp.exp(eta.cl), v1=self.v1, q=self.q * jnp.exp(eta.q), v2=self.v2)

    def clearance(self, concentration):
        """Typical clearance (L/h) at a concentration (mg/L)."""
        # 0.01 mg/L, a fifth of the lowest concentration measured, keeps the logarithm finite before the dose
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
        return {"conc": nlme.proportional(state.central / ind.v1, self.prop)}


def priors() -> dict:
    """Priors of every parameter, for :func:`nlme.sample`; their origin stands in the table above."""
    import numpyro.distributions as dist

    hidden = np.ravel(IndomethacinUDE().net.weights[0])
    return {
        "cl": dist.LogNormal(np.log(6.0), 0.5),
        "v1": dist.LogNormal(np.log(7.6), 0.5),
        "q": dist.LogNormal(np.log(6.3), 0.4),
        "v2": dist.LogNormal(np.log(12.0), 0.4),
        "net.weights[0]": dist.Normal(hidden, 0.3),
        "net.biases[0]": dist.Normal(0.0, 0.3),
        "net.weights[1]": dist.Normal(0.0, 0.5),
        "net.biases[1]": dist.Normal(0.0, 0.5),
        "omega.sd": dist.HalfNormal(0.3),
        "prop": dist.LogNormal(np.log(0.15), 0.5),
    }


def learned(model: IndomethacinUDE, posterior, concentration) -> np.ndarray:
    """(draws, points) typical clearance (L/h) at concentrations (mg/L), one curve for every draw of a posterior."""
    at = jnp.asarray(concentration, dtype=float)
    curves = jax.vmap(lambda m: jax.vmap(m.clearance)(at))(nlme.posterior_models(model, posterior))
    return np.asarray(curves)
