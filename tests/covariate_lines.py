"""Straight lines whose level and slope depend on weight, age and sex: linear and normal, so that what a search finds is known exactly."""

from __future__ import annotations

import numpy as np
import pandas as pd

import nlme


class Line(nlme.Model):
    """A straight line for each subject: linear and normal, so that FOCEI is exact."""

    level: nlme.Scalar = nlme.real(2.0)
    slope: nlme.Scalar = nlme.real(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.05, slope=0.02)
    sd: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(level=self.level + eta.level, slope=self.slope + eta.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


TIMES = np.array([0.0, 1.0, 2.0, 4.0])


def data(count: int = 60, seed: int = 3):
    rng, rows = np.random.default_rng(seed), []
    for i in range(count):
        wt = rng.normal(70, 12)
        age, sex = 40 + 0.5 * (wt - 70) + rng.normal(0, 8), rng.choice(["f", "m"], p=[0.6, 0.4])
        level = 2.0 + 0.02 * (wt - 70) + 0.3 * (sex == "m") + 0.2 * rng.normal()
        slope = 0.5 - 0.01 * (age - 40) + 0.1 * rng.normal()
        rows += [
            {"ID": i + 1, "TIME": t, "DV": level + slope * t + 0.15 * rng.normal(), "wt": wt, "age": age, "sex": sex}
            for t in TIMES
        ]
    return nlme.read_nonmem(pd.DataFrame(rows), covariates=["wt", "age", "sex"], categories={"sex": ["f", "m"]})
