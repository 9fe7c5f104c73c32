"""A small model and simulated people of it, for tests of simulations."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd

import nlme


class OneCompartment(nlme.Model):
    cl: nlme.Scalar = nlme.positive(5.0)
    v: nlme.Scalar = nlme.positive(50.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.12, v=0.06)
    prop: nlme.Scalar = nlme.positive(0.25)

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v))

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)

    def observe(self, ind, state, t):
        return {"conc": nlme.proportional(state.central / ind.v, self.prop)}


def people(n: int, times=(2.0, 12.0), seed: int = 1):
    """Simulated data of n people after one dose, and their true random effects."""
    virtual = nlme.virtual(n, key=seed)
    design = virtual.with_doses(nlme.dose(100)).with_times(times)
    table = nlme.simulate(OneCompartment(), design, eta="new", key=seed)
    eta = table.groupby("ID")[["eta.cl", "eta.v"]].first().set_axis(["cl", "v"], axis=1)
    rows = [pd.DataFrame({"ID": table["ID"], "TIME": table["TIME"], "DV": table["DV"], "AMT": 0.0, "EVID": 0})]
    rows.append(pd.DataFrame({"ID": np.arange(1, n + 1), "TIME": 0.0, "DV": np.nan, "AMT": 100.0, "EVID": 1}))
    data = pd.concat(rows).sort_values(["ID", "TIME", "AMT"], ascending=[True, True, False])
    return nlme.read_nonmem(data), eta
