"""A fit by SAEM killed at any moment goes on from its checkpoint to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from killing import whole_and_resumed

PROGRAM = """
import sys, jax.numpy as jnp, numpy as np, nlme

class Decay(nlme.Model):
    k: nlme.Scalar = nlme.positive(0.5)
    sd: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(k=0.1)
    def individual(self, eta, cov):
        return dict(k=self.k * jnp.exp(eta.k))
    def observe(self, ind, state, t):
        return {"y": nlme.additive(10.0 * jnp.exp(-ind.k * t), self.sd)}

random = np.random.default_rng(1)
times = np.array([0.5, 1.0, 3.0])
subjects = [nlme.Subject(id=i + 1, time=times, dv=10 * np.exp(-0.6 * np.exp(0.3 * random.normal()) * times) + 0.3 * random.normal(size=3))
            for i in range(12)]
method = nlme.SAEM(chains=2, exploration=(100, 100), smoothing=(ITERATIONS, ITERATIONS), annealing=20, samples=10, precision=1e-9)
fit = nlme.fit(Decay(), nlme.Population(tuple(subjects)), method, checkpoint=sys.argv[1], checkpoint_every=0.0)
np.savez(sys.argv[2], u=fit.inventory.natural(fit.model), path=fit.history["k"], objective=fit.objective)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kills", "iterations"), [(1, 400), (20, 3000)])
def test_killed_fit_ends_at_the_same_numbers(tmp_path, kills, iterations):
    program = PROGRAM.replace("ITERATIONS", str(iterations))
    whole, resumed = whole_and_resumed(program, tmp_path, kills, seed=4, within=0.03)
    for name in ("u", "path", "objective"):
        np.testing.assert_array_equal(resumed[name], whole[name])
