"""Oral quinidine with a network as its covariate model (DeepNLME).

Reference
    The structure and its values: ``models/quinidine.py`` (Pinheiro & Bates 2000, section 8.2).  The network stands where that
    model has its effect of glycoprotein; deep covariate models of this kind: Rackauckas et al. (2020), Accelerated predictive
    healthcare analytics with Pumas, bioRxiv 2020.11.28.402297.
Population
    As there: 136 men, covariates that change in time.
Units
    dose mg (as base), time h, concentration mg/L, clearance L/h, volume L.
Words
    quinidine, antiarrhythmic, C01BA01, one compartment, oral, neural network

| value         | origin                                                                                                        |
|---------------|---------------------------------------------------------------------------------------------------------------|
| cl            | ``models/quinidine.py`` at the population's mean glycoprotein: 22.6 exp(-0.50 x 1.23)                         |
| v, ka, omega, prop | the same                                                                                                 |
| net           | starts as no correction at all (last layer zero); of the draws 0 to 8 of its first layer the one from which   |
|               | the search finds the lowest minimum known (83.69 with the penalty 7.69); 21 weights, no constant, so that cl  |
|               | is the clearance at the center                                                                                |
| center, scale | about the mean and standard deviation of the covariates in the data                                           |

log clearance = log cl + net(covariates) + eta.  The weights are fixed effects; ``PENALTY`` keeps them small in the search and is
no part of a reported objective.
"""

import jax.numpy as jnp

import nlme
from nlme import Scalar

PENALTY = nlme.L2(1.0, on="net")


class QuinidineDeep(nlme.Model):
    """Oral quinidine: one compartment, clearance by a network of glycoprotein, age, weight, height and creatinine."""

    cl: Scalar = nlme.positive(12.2, unit="L/h", label="Clearance / F at average covariates")
    v: Scalar = nlme.positive(194.0, unit="L", label="Volume / F")
    ka: Scalar = nlme.positive(0.43, unit="1/h", label="Absorption rate constant")
    net: nlme.MLP = nlme.mlp(
        inputs=("glyco", "age", "wt", "ht", "creat"),
        outputs=1,
        width=3,
        depth=1,
        key=8,
        center=(1.23, 66.0, 79.0, 70.0, 0.5),
        scale=(0.55, 9.0, 16.0, 3.0, 0.5),
        constant=False,
    )
    omega: nlme.Covariance = nlme.covariance(cl=0.0734, v=0.16)
    prop: Scalar = nlme.positive(0.24, label="Proportional error")

    covariates = {"glyco": "g/L", "age": "years", "wt": "kg", "ht": "in", "creat": ""}

    def individual(self, eta, cov):
        learned = self.net(cov.glyco, cov.age, cov.wt, cov.ht, cov.creat)[0]
        return dict(
            cl=self.cl * jnp.exp(learned + eta.cl),
            v=self.v * jnp.exp(eta.v),
            ka=self.ka,
        )

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}
