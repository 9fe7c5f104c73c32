"""A level that depends on weight and arm, and on nothing else that is told: data of searches for covariates."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd

import nlme


class Level(nlme.Model):
    """A level for each subject, seen three times, and a slope in time."""

    level: nlme.Scalar = nlme.positive(2.0)
    slope: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.05)
    sd: nlme.Scalar = nlme.positive(0.2)

    def individual(self, eta, cov):
        return dict(level=self.level * jnp.exp(eta.level), slope=self.slope)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t, self.sd)}


def data(count: int = 40, seed: int = 2):
    rng, rows = np.random.default_rng(seed), []
    for i in range(count):
        wt, age, sex, arm = rng.uniform(50, 100), rng.uniform(20, 80), rng.choice(["f", "m"]), rng.choice(["a", "b", "c"])
        level = 2.0 * (wt / 75) ** 0.75 * (1.3 if arm == "b" else 1.0) * np.exp(0.15 * rng.normal())
        for t in (0.0, 1.0, 3.0):
            y = level + 0.5 * t + 0.15 * rng.normal()
            rows.append({"ID": i + 1, "TIME": t, "DV": y, "wt": wt, "age": age, "sex": sex, "arm": arm})
    return nlme.read_nonmem(
        pd.DataFrame(rows), covariates=["wt", "age", "sex", "arm"], categories={"sex": ["f", "m"], "arm": ["a", "b", "c"]}
    )


CANDIDATES = {"level": {"wt": ("linear", "power"), "age": None, "sex": None, "arm": None}, "slope": ["wt", "age"]}
