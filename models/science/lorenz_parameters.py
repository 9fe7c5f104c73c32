"""The three parameters of the Lorenz system from a short course of it: a fit, where physics-informed networks take minutes.

    x' = sigma (y - x),    y' = x (rho - z) - y,    z' = x y - beta z,    t in (0, 3)

Unknown are sigma, rho and beta; x, y and z were seen 25 times, without noise, from x(0) = -8, y(0) = 7, z(0) = 27, with sigma =
10, rho = 15, beta = 8/3 (the inverse problem among the examples of DeepXDE). The fit begins at sigma = rho = beta = 1, where
theirs does. It is that of any pharmacokinetic model, ``nlme.fit(..., nlme.NaivePooled())``: one subject, no random effects.
From there a search over all of (0, 3) ends in a local minimum; ``GrowingHorizon`` begins with the first quarter of it.

Reference: L. Lu, X. Meng, Z. Mao & G. E. Karniadakis (2021), DeepXDE, SIAM Review 63:208, doi:10.1137/19M1274067; both times from
C. Rackauckas, Scientific Machine Learning (talk).
"""

from __future__ import annotations

import time

import numpy as np
from scipy.integrate import solve_ivp

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject
from nlme.plots.style import BLUE, OBSERVED, VERMILION, new_figure, picture

TRUE = dict(sigma=10.0, rho=15.0, beta=8.0 / 3.0)
START = dict(x=-8.0, y=7.0, z=27.0)


class Lorenz(nlme.Model):
    """The system, all of it observed."""

    sigma: Scalar = nlme.positive(1.0)
    rho: Scalar = nlme.positive(1.0)
    beta: Scalar = nlme.positive(1.0)
    sd: Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(sigma=self.sigma, rho=self.rho, beta=self.beta)

    def dynamics(self, ind):
        def rhs(t, a):
            return dict(x=ind.sigma * (a.y - a.x), y=a.x * (ind.rho - a.z) - a.y, z=a.x * a.y - ind.beta * a.z)

        return nlme.ODE(rhs, ("x", "y", "z"), initial=START)

    def observe(self, ind, state, t):
        return {name: nlme.additive(state[name], self.sd) for name in "xyz"}


def exact(times) -> np.ndarray:
    """(3, T) the course, by another library's solver."""

    def slopes(t, u):
        x, y, z = u
        return [TRUE["sigma"] * (y - x), x * (TRUE["rho"] - z) - y, x * y - TRUE["beta"] * z]

    return solve_ivp(slopes, (0.0, 3.0), list(START.values()), t_eval=times, rtol=1e-11, atol=1e-11, method="DOP853").y


def run(fast: bool = False) -> Shown:
    """The fit, and again with everything compiled (not ``fast``)."""
    times = np.linspace(0.12, 3.0, 25)
    seen = exact(times)
    population = one_subject(times, dict(zip("xyz", seen, strict=True)))

    def fitted():
        begin = time.perf_counter()
        aid = nlme.GrowingHorizon(4)
        fit = nlme.fit(Lorenz(), population, nlme.NaivePooled(), fixed=("sd",), shooting=aid, starts=0, progress=False)
        return fit, time.perf_counter() - begin

    fit, first = fitted()
    again = "" if fast else f", {fitted()[1]:.2f} s once its programs are compiled"
    numbers = tuple(
        Number(name, true, float(getattr(fit.model, name)), true * (1 - 1e-5), true * (1 + 1e-5), "what made the data")
        for name, true in TRUE.items()
    )
    remarks = (
        f"The fit took {first:.1f} s with compilation{again}. The talk: 0.03 s for a classical fit, 362 s for a physics-informed "
        "network.",
    )
    return Shown("Lorenz's parameters from data", numbers, _drawn(times, seen, fit.model), remarks)


@picture
def _drawn(times, seen, model):
    figure = new_figure(3.0)
    axes = figure.subplots()
    fine = np.linspace(0.01, 3.0, 300)
    for name, colour, y in zip("xyz", (BLUE, VERMILION, "#009E73"), seen, strict=True):
        grid = one_subject(fine, {k: np.zeros(300) for k in "xyz"})
        found = nlme.predict(model, grid).query("EVID == 0")[["TIME", name]].drop_duplicates()
        axes.plot(found["TIME"], found[name], color=colour, label=f"{name}, fitted")
        axes.plot(times, y, **OBSERVED, label="data" if name == "z" else None)
    axes.set(xlabel="Time (units of the system)", ylabel="x, y, z")
    axes.legend(ncols=2)
    return figure
