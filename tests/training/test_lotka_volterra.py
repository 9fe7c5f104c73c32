"""A learned interaction of predator and prey, seen over two and a half periods with 5 % noise: found by segments, and true beyond the data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import nlme
from nlme import Scalar

START, HORIZON, PERIOD = [0.44249296, 4.6280594], 12.0, 5.0


class LotkaVolterra(nlme.Model):
    """Growth and death are known, what the species do to each other is a network."""

    growth: Scalar = nlme.positive(1.3)
    death: Scalar = nlme.positive(1.8)
    net: nlme.MLP = nlme.mlp(inputs=("x", "y"), outputs=2, width=8, depth=2, key=1, scale=3.0, center=2.0)
    sd: Scalar = nlme.positive(0.1)

    def individual(self, eta, cov):
        return dict(growth=self.growth, death=self.death)

    def dynamics(self, ind):
        def rhs(t, a):
            interaction = self.net(a.x, a.y)
            return {"x": ind.growth * a.x + interaction[0], "y": -ind.death * a.y + interaction[1]}

        return nlme.ODE(rhs, ("x", "y"), initial=dict(zip("xy", START, strict=True)))

    def observe(self, ind, state, t):
        return {"x": nlme.additive(state.x, self.sd), "y": nlme.additive(state.y, self.sd)}


def solved(rates, times):
    return solve_ivp(rates, (0.0, times[-1]), START, t_eval=times, rtol=1e-7, atol=1e-7).y


def truth(t, u):
    return [1.3 * u[0] - 0.9 * u[0] * u[1], 0.8 * u[0] * u[1] - 1.8 * u[1]]


TIMES = np.linspace(0.2, HORIZON + PERIOD, 85)
INSIDE = TIMES <= HORIZON + 1e-9
EXACT = solved(truth, TIMES)


@pytest.fixture(scope="module")
def population():
    seen, t = EXACT[:, INSIDE], TIMES[INSIDE]
    noisy = seen + 0.05 * seen.mean(axis=1, keepdims=True) * np.random.default_rng(1).normal(size=seen.shape)
    count = 2 * len(t)
    evid, endpoint = np.r_[2, np.zeros(count, int)], np.r_[-1, np.tile([0, 1], len(t))]
    time, dv = np.r_[0.0, np.repeat(t, 2)], np.r_[np.nan, noisy.T.ravel()]
    return nlme.Population((nlme.Subject(1, time, dv=dv, evid=evid, mdv=evid > 0, endpoint=endpoint),), endpoints=("x", "y"))


def misses(model) -> tuple[float, float]:
    """Largest root mean square error of both species in units of their standard deviation: where there were data, and beyond."""
    net = jax.jit(lambda x: model.net(x[0], x[1]))

    def rates(t, u):
        found = np.asarray(net(jnp.asarray(u)))
        return [1.3 * u[0] + found[0], -1.8 * u[1] + found[1]]

    try:
        y = solved(rates, TIMES)
    except (ValueError, FloatingPointError):
        return np.inf, np.inf
    if y.shape != EXACT.shape:
        return np.inf, np.inf
    error = (y - EXACT) / EXACT[:, INSIDE].std(axis=1, keepdims=True)
    return tuple(float(np.sqrt(np.mean(error[:, own] ** 2, axis=1)).max()) for own in (INSIDE, ~INSIDE))


def fitted(population, shooting):
    return nlme.fit(
        LotkaVolterra(),
        population,
        nlme.NaivePooled(),
        fixed=("growth", "death"),
        penalty=nlme.L2(1.0),
        shooting=shooting,
        starts=0,
        max_evaluations=1200,
        progress=False,
    )


@pytest.mark.slow
def test_segments_find_it(population):
    inside, beyond = misses(fitted(population, nlme.MultipleShooting(12)).model)
    assert inside < 0.1 and beyond < 0.1
