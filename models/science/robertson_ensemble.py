"""A thousand stiff reactions at once: Robertson's, each with rates of its own.

    y1' = -k1 y1 + k3 y2 y3
    y2' =  k1 y1 - k3 y2 y3 - k2 y2^2
    y3' =  k2 y2^2,                           y(0) = (1, 0, 0),    t in (0, 500)

Typical rates k1 = 0.04, k2 = 3e7, k3 = 1e4; in the ensemble each is log-normal with a standard deviation of 0.3. They are the
individual parameters of a population whose variances are known, so that ``nlme.virtual`` makes the members and ``nlme.predict``
solves them: one program of Rodas5P, every member with steps of its own.

Reference: H. H. Robertson (1966), The solution of a set of reaction rate equations, in Numerical Analysis: An Introduction,
178-182; the problem as in Hairer & Wanner, Solving Ordinary Differential Equations II, 2nd ed. 1996, IV.1.
"""

from __future__ import annotations

import time

import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.plots.style import BLUE, VERMILION, new_figure, picture

RATES = dict(k1=0.04, k2=3e7, k3=1e4)
SPREAD = 0.3
TIMES = np.array([0.01, 0.1, 1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 350.0, 500.0])
TOLERANCES = nlme.Tolerances(1e-6, 1e-9, solver="stiff")


class Robertson(nlme.Model):
    """The reaction, its three rates log-normal."""

    k1: Scalar = nlme.positive(RATES["k1"])
    k2: Scalar = nlme.positive(RATES["k2"])
    k3: Scalar = nlme.positive(RATES["k3"])
    omega: nlme.Covariance = nlme.covariance(**dict.fromkeys(RATES, SPREAD**2))
    sd: Scalar = nlme.positive(0.01)

    def random(self):
        return self.omega

    def individual(self, eta, cov):
        return {name: getattr(self, name) * jnp.exp(eta[name]) for name in RATES}

    def dynamics(self, ind):
        def rhs(t, y):
            first, second, third = ind.k1 * y.y1, ind.k2 * y.y2**2, ind.k3 * y.y2 * y.y3
            return dict(y1=third - first, y2=first - third - second, y3=second)

        return nlme.ODE(rhs, ("y1", "y2", "y3"), initial=dict(y1=1.0))

    def observe(self, ind, state, t):
        return {"y1": nlme.additive(state.y1, self.sd)}


def solved(eta: np.ndarray, times=TIMES) -> np.ndarray:
    """(N, T, 3) the states of the members with random effects eta (N, 3)."""
    people = nlme.Population(tuple(_member(k, times) for k in range(1, len(eta) + 1)), endpoints=("y1",))
    frame = nlme.predict(Robertson(), people, eta=eta, ode=TOLERANCES)
    return frame[frame["EVID"] == 0][["y1", "y2", "y3"]].to_numpy().reshape(len(eta), len(times), 3)


def _member(identity: int, times) -> nlme.Subject:
    n = len(times)
    evid = np.r_[2, np.zeros(n, int)]
    return nlme.Subject(identity, np.r_[0.0, times], dv=np.r_[np.nan, np.zeros(n)], evid=evid, mdv=evid > 0)


def by_radau(eta: np.ndarray, times=TIMES) -> np.ndarray:
    """(T, 3) one member's states by SciPy."""
    k1, k2, k3 = np.array(list(RATES.values())) * np.exp(eta)

    def slopes(t, y):
        first, second, third = k1 * y[0], k2 * y[1] ** 2, k3 * y[1] * y[2]
        return [third - first, first - third - second, second]

    return solve_ivp(slopes, (0.0, times[-1]), [1.0, 0.0, 0.0], "Radau", times, rtol=1e-9, atol=1e-13).y.T


def run(fast: bool = False) -> Shown:
    """The ensemble, a few of its members by SciPy's Radau, and the mass in all of them."""
    count = 100 if fast else 1_000
    eta = SPREAD * np.random.default_rng(1).standard_normal((count, 3))
    begin = time.perf_counter()
    states = solved(eta)
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    states = solved(eta)
    seconds = time.perf_counter() - begin
    begin, few = time.perf_counter(), (0, 1) if fast else range(10)
    radau = np.stack([by_radau(eta[k]) for k in few])
    theirs = (time.perf_counter() - begin) / len(few)
    error = np.abs(states[list(few)] - radau)
    numbers = (
        Number(
            "y1 and y3, largest difference from Radau", 0.0, float(error[..., [0, 2]].max()), 0.0, 1e-5, "SciPy, Radau at 1e-9"
        ),
        Number("y2, the same, relative", 0.0, float((error[..., 1] / radau[..., 1]).max()), 0.0, 1e-4, "SciPy, Radau at 1e-9"),
        Number(
            "y1 + y2 + y3 - 1, largest of all members", 0.0, float(np.abs(states.sum(axis=2) - 1).max()), 0.0, 1e-9, "conserved"
        ),
    )
    remarks = (
        f"{count:,} parameter sets over (0, 500): {seconds:.2f} s, tables of states included; the first call {first:.1f} s with "
        f"compilation. SciPy's Radau at 1e-9: {theirs:.2f} s for one.",
    )
    return Shown("An ensemble of Robertson's reaction", numbers, _drawn(states), remarks)


@picture
def _drawn(states):
    figure = new_figure(3.2)
    axes = figure.subplots()
    for k, (scale, colour, words) in enumerate([(1, BLUE, "y1"), (1e4, VERMILION, "1e4 y2"), (1, "#009E73", "y3")]):
        low, middle, high = np.quantile(scale * states[..., k], [0.05, 0.5, 0.95], axis=0)
        axes.fill_between(TIMES, low, high, color=colour, alpha=0.25, linewidth=0)
        axes.plot(TIMES, middle, color=colour, label=f"{words}: median, 5 to 95 %")
    axes.set(xscale="log", xlabel="Time (s)", ylabel="Concentration (share of the total)")
    axes.legend()
    return figure
