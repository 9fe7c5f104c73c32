"""A surrogate of a stiff reaction: a reservoir in continuous time, whose reading moves with the parameters.

The stiff system (Robertson's, see ``robertson_ensemble``) is solved once, at the middle of the parameters' range, x(t). It drives
a reservoir that is not trained, r (n,):

    r' = tanh(A r + W x(t)),    r(0) = 0

A (n, n) is sparse with spectral radius 0.9 minus the identity, W (n, 3) uniform; x and t in units below. For each parameter set
p_i of a design its solution is read from that same reservoir by least squares (SVD),

    x(t; p_i) = W_out(p_i) (1, r(t)),

and W_out(p) at other parameters is interpolated by radial basis functions (thin-plate splines in log p). No new solve is needed:
a prediction is one product. Time is in units of log(t), in which the transient is as long as the rest, and y2 in units of 4e-5.

Unknown is W_out(p). Rates lie within 20 % of k1 = 0.04, k2 = 3e7, k3 = 1e4, t in (1e-5, 1e5) s.

Reference: R. Anantharaman, Y. Ma, S. Gowda, C. Laughman, V. Shah, A. Edelman & C. Rackauckas (2020), Accelerating simulation of
stiff nonlinear systems using continuous-time echo state networks, arXiv:2010.04004.
"""

from __future__ import annotations

import time

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.stats import qmc

import nlme
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject
from nlme.models.science.robertson_ensemble import solved
from nlme.plots.style import BLUE, GREY, VERMILION, new_figure, picture

TIMES = np.logspace(-5, 5, 121)
WIDTH = np.log(1.2)  # of the range of log p, either way
UNITS = np.array([1.0, 4e-5, 1.0])
SOLVE = "Rodas5P at 1e-6"
CLOCK = 0.5 * np.log(TIMES / TIMES[0])  # the reservoir's time


class Reservoir:
    """A and W, drawn once."""

    def __init__(self, n: int, seed: int = 2):
        rng = np.random.default_rng(seed)
        a = rng.uniform(-1, 1, (n, n)) * (rng.uniform(size=(n, n)) < 0.2)
        self.a = 0.9 * a / np.abs(np.linalg.eigvals(a)).max() - np.eye(n)
        self.w = rng.uniform(-1, 1, (n, 3))

    def course(self, x: np.ndarray) -> np.ndarray:
        """(T, 1 + n): one and r, driven by x (T, 3) on straight lines."""
        n, a, w = len(self.a), jnp.asarray(self.a), jnp.asarray(self.w)
        clock, driven = jnp.asarray(CLOCK), jnp.asarray(x)

        class Driven(nlme.Model):
            sd: nlme.Scalar = nlme.positive(1.0)

            def individual(self, eta, cov):
                return dict(sd=self.sd)

            def dynamics(self, ind):
                def rhs(t, s):
                    now = jnp.stack([jnp.interp(t, clock, driven[:, k]) for k in range(3)])
                    return dict(r=jnp.tanh(a @ s.r + w @ now))

                return nlme.ODE(rhs, {"r": n})

            def observe(self, ind, state, t):
                return {"y": nlme.additive(state.r[0], ind.sd)}

        frame = nlme.predict(Driven(), one_subject(CLOCK[1:]), ode=nlme.Tolerances(1e-6, 1e-8))
        return np.c_[np.ones(len(CLOCK)), frame[[f"r[{k}]" for k in range(n)]].to_numpy()]


class Surrogate:
    """W_out as a function of log p, from solutions (N, T, 3) at a design (N, 3) and the reservoir's course (T, 1 + n)."""

    def __init__(self, course: np.ndarray, design: np.ndarray, solutions: np.ndarray):
        u, s, v = np.linalg.svd(course, full_matrices=False)
        kept = s > 1e-7 * s[0]
        self.basis = u[:, kept]  # course @ v / s: the coordinates in which W_out is well determined
        weights = np.einsum("tk,nts->nks", self.basis, solutions / UNITS)
        self.shape = weights.shape[1:]
        self.weights = RBFInterpolator(design, weights.reshape(len(design), -1), kernel="thin_plate_spline", degree=2)

    def __call__(self, p: np.ndarray) -> np.ndarray:
        """(N, T, 3) at log p (N, 3)."""
        return self.basis @ self.weights(p).reshape(-1, *self.shape) * UNITS


def run(fast: bool = False) -> Shown:
    """The surrogate made, tried on parameters that it has not seen, and timed beside the stiff solve of the same."""
    design, held = (60, 20) if fast else (100, 200)  # Sobol points to train with, random ones to try
    corners = 2 * qmc.Sobol(3, rng=1).random(256)[:design] - 1
    tried = np.random.default_rng(3).uniform(-1, 1, (held, 3))
    points = WIDTH * np.r_[corners, tried, np.zeros((1, 3))]
    begin = time.perf_counter()
    every = solved(points, TIMES)
    solving = time.perf_counter() - begin
    course = Reservoir(30).course(every[-1] / UNITS)
    surrogate = Surrogate(course, corners, every[:design])
    training = time.perf_counter() - begin
    true = every[design:-1]
    found, quick = surrogate(tried), []
    for _ in range(20):
        begin = time.perf_counter()
        surrogate(tried)
        quick.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    solved(points, TIMES)
    slow = (time.perf_counter() - begin) / len(points) * held
    error = np.linalg.norm(found - true, axis=1) / np.linalg.norm(true, axis=1)
    numbers = tuple(
        Number(
            f"{name}: relative error, 95 % of unseen parameter sets", 0.0, float(np.quantile(error[:, k], 0.95)), 0.0, 1e-3, SOLVE
        )
        for k, name in enumerate(("y1", "y2", "y3"))
    )
    remarks = (
        f"Training {training:.1f} s, {solving:.1f} s of it the {design} solutions of the design and {held} others. Then {held} "
        f"unseen parameter sets take {1e3 * min(quick):.1f} ms; the stiff solve takes {slow:.2f} s for them, "
        f"{slow / min(quick):,.0f} times as long (aim: 100).",
    )
    return Shown("A surrogate of a stiff reaction", numbers, _drawn(true, found), remarks)


@picture
def _drawn(true, found):
    figure = new_figure(3.2)
    panels = figure.subplots(1, 3)
    for k, (axes, name) in enumerate(zip(panels, ("y1", "y2", "y3"), strict=True)):
        for i, colour in zip(range(3), (BLUE, VERMILION, GREY), strict=True):
            axes.plot(TIMES, true[i, :, k], color=colour, linewidth=1.0, label="stiff solve" if i == 0 else None)
            axes.plot(TIMES[::6], found[i, ::6, k], "o", markersize=3, color=colour, label="surrogate" if i == 0 else None)
        axes.set(xscale="log", xlabel="Time (s)", ylabel=f"{name} (share of the total)")
    panels[2].legend(title="3 unseen\nparameter sets", loc="upper left")
    return figure
