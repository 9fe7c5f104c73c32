"""A parameter that depends on one covariate in an unknown way, seen with errors."""

from __future__ import annotations

import numpy as np
import pandas as pd

import nlme


class Effect(nlme.Model):
    """y = net(x) + eta + e."""

    net: nlme.MLP = nlme.mlp(inputs=("x",), outputs=1, width=3, depth=1, key=0)
    omega: nlme.Covariance = nlme.covariance(e=0.04)
    sd: nlme.Scalar = nlme.positive(0.2)
    covariates = {"x": ""}

    def individual(self, eta, cov):
        return dict(e=self.net(cov)[0] + eta.e)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.e, self.sd)}


def noisy_people() -> nlme.Population:
    """Twelve people seen twice, y = x and noise as large."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=12), 2)
    frame = pd.DataFrame({"ID": np.repeat(np.arange(12), 2), "TIME": np.tile([1.0, 2.0], 12), "DV": x + rng.normal(size=24)})
    return nlme.read_nonmem(frame.assign(EVID=0, x=x), covariates=["x"])
