"""A density with two modes: where the search begins decides which it finds, and a list of beginnings finds the higher."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme import Scalar
from nlme.errors import ModelError

SD, SIGMA, DV = 1.0, 0.1, 0.7


class Squared(nlme.Model):
    """y = (eta - 0.2)^2: likely near eta = 0.2 +- sqrt(y), the lower of them more by its prior."""

    omega: nlme.Covariance = nlme.covariance(shift=SD**2)
    sigma: Scalar = nlme.positive(SIGMA)

    def individual(self, eta, cov):
        return dict(root=eta.shift - 0.2)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.root**2, self.sigma)}


@pytest.fixture(scope="module")
def population():
    rows = [(i, t, DV, "y") for i in (1, 2) for t in (0.0, 1.0)]
    return nlme.read_nonmem(pd.DataFrame(rows, columns=["ID", "TIME", "DV", "DVID"]).assign(EVID=0))


def begun(*values: float) -> pd.DataFrame:
    return pd.DataFrame({"shift": values})


def joint(eta):
    """-2 log of the joint density, up to a constant."""
    return 2 * (DV - (eta - 0.2) ** 2) ** 2 / SIGMA**2 + eta**2 / SD**2


def test_the_search_ends_at_the_mode_near_its_beginning(population):
    grid = np.linspace(-2, 2, 400_001)
    low, high = (grid[part][np.argmin(joint(grid[part]))] for part in (grid < 0.2, grid > 0.2))
    assert joint(low) < joint(high)
    one = nlme.evaluate(Squared(), population, nlme.Laplace(), eta=begun(1.0, -1.0))
    np.testing.assert_allclose(one.eta["shift"], [high, low], atol=1e-5)
    best = nlme.evaluate(Squared(), population, nlme.Laplace(), eta=[begun(1.0, 1.0), begun(-1.0, -1.0), begun(1.0, 1.0)])
    np.testing.assert_allclose(best.eta["shift"], [low, low], atol=1e-5)
    np.testing.assert_allclose(best.values, np.repeat(one.values[1], 2), rtol=1e-9)


@pytest.mark.parametrize("eta", [begun(1.0), begun(1.0, np.nan), pd.DataFrame({"other": [1.0, 1.0]})])
def test_a_beginning_that_does_not_fit(population, eta):
    with pytest.raises(ModelError, match="eta: a DataFrame of finite numbers with 2 rows and the columns shift"):
        nlme.evaluate(Squared(), population, nlme.Laplace(), eta=eta)
