"""The derivative of a long mean of a chaotic system, by least-squares shadowing.

    x' = sigma (y - x),    y' = x (rho - z) - y,    z' = x y - beta z,    sigma = 10, rho = 28, beta = 8/3

The mean <z> over a long time is a smooth function of rho, with slope about 1. The derivative of the mean of one solution is
something else: two solutions that begin together part as exp(0.9 t), so that plain differentiation gives numbers that grow with
the length of the solution without bound, and finite differences the noise of two different solutions, divided by the step.
Shadowing asks for that solution at rho + d rho which stays close to the old one, run through at a pace 1 + eta d rho of its own:

    minimise  sum_i |v_i|^2 + alpha^2 eta_i^2    such that    v' = f_u v + f_rho + eta f
    d<z>/d rho = mean of v_z + eta (z - <z>)

v (x, y, z) is the shadow's distance per unit of rho. With the constraint by the trapezoidal rule, B (v, eta) = c, it is the
solution of least norm, a sparse block-tridiagonal system. alpha = 10. The solution comes from ``nlme.predict``, after 10 units of
time in which it comes to the attractor.

Reference: Q. Wang, R. Hu & P. Blonigan (2014), Least squares shadowing sensitivity analysis of chaotic limit cycle oscillations,
J Comput Phys 267:210, doi:10.1016/j.jcp.2014.03.002 (their slope: 1.01 +- 0.04).
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

import nlme
from nlme import Scalar
from nlme.models.science import Number, Shown
from nlme.models.science._solving import one_subject, states_at
from nlme.plots.style import BLUE, GREY, VERMILION, new_figure, picture

SIGMA, RHO, BETA = 10.0, 28.0, 8.0 / 3.0
START = dict(x=1.0, y=1.0, z=28.0)
SETTLED = 10.0
ODE = nlme.Tolerances(1e-8, 1e-8, solver="explicit8")
TALK = "talk: least-squares shadowing 1.028, non-intrusive 0.997"


def equations(rho) -> nlme.ODE:
    def rhs(t, a):
        return dict(x=SIGMA * (a.y - a.x), y=a.x * (rho - a.z) - a.y, z=a.x * a.y - BETA * a.z)

    return nlme.ODE(rhs, ("x", "y", "z"), initial=START)


class Lorenz(nlme.Model):
    """The system, its z observed."""

    rho: Scalar = nlme.positive(RHO)
    sd: Scalar = nlme.positive(1.0)

    def individual(self, eta, cov):
        return dict(rho=self.rho)

    def dynamics(self, ind):
        return equations(ind.rho)

    def observe(self, ind, state, t):
        return {"z": nlme.additive(state.z, self.sd)}


def course(times: np.ndarray, rho: float = RHO) -> np.ndarray:
    """(T, 3) the solution at ``times``."""
    frame = nlme.predict(Lorenz(rho=rho), one_subject(times, {"z": np.zeros(len(times))}), ode=ODE)
    return frame[frame["EVID"] == 0][["x", "y", "z"]].to_numpy()


def shadowed(u: np.ndarray, dt: float, alpha: float = 10.0) -> tuple[float, np.ndarray]:
    """d<z>/d rho by least-squares shadowing along u (m + 1, 3), and v (m + 1, 3)."""
    x, y, z = u.T
    m, one, zero = len(u) - 1, np.ones(len(u)), np.zeros(len(u))
    f = np.stack([SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z], axis=1)
    f_rho = np.stack([zero, x, zero], axis=1)
    f_u = np.stack([-SIGMA * one, SIGMA * one, zero, RHO - z, -one, -x, y, x, -BETA * one], axis=1).reshape(-1, 3, 3)
    old, new = -np.eye(3) - dt / 2 * f_u[:-1], np.eye(3) - dt / 2 * f_u[1:]
    pace = -dt / 2 * (f[:-1] + f[1:])
    # rows: 3 for every step; columns: 3 for every v, then eta
    row = np.arange(3 * m).reshape(m, 3)
    at = np.arange(3 * m + 3).reshape(m + 1, 3)
    rows, across = np.repeat(row[:, :, None], 3, axis=2), np.repeat(at[:, None, :], 3, axis=1)
    b = sparse.csc_matrix(
        (
            np.concatenate([old.ravel(), new.ravel(), pace.ravel() / alpha]),
            (
                np.concatenate([rows.ravel(), rows.ravel(), row.ravel()]),
                np.concatenate([across[:-1].ravel(), across[1:].ravel(), 3 * m + 3 + np.repeat(np.arange(m), 3)]),
            ),
        )
    )
    c = dt / 2 * (f_rho[:-1] + f_rho[1:]).ravel()
    found = b.T @ spsolve((b @ b.T).tocsc(), c)
    v, eta = found[: 3 * m + 3].reshape(-1, 3), found[3 * m + 3 :] / alpha
    return float(np.mean(v[:, 2]) + np.mean(eta * ((z[:-1] + z[1:]) / 2 - z.mean()))), v


def means(rho, steps: int, many: int = 500, dt: float = 0.01) -> np.ndarray:
    """<z> at values of rho (R,), over ``many`` solutions of so many steps (Runge-Kutta, order 4): the truth, by brute force."""

    def slope(u):
        x, y, z = u
        return jnp.stack([SIGMA * (y - x), x * (rho[:, None] - z) - y, x * y - BETA * z])

    def step(carry, k):
        u, total = carry
        k1 = slope(u)
        k2 = slope(u + dt / 2 * k1)
        k3 = slope(u + dt / 2 * k2)
        u = u + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(u + dt * k3))
        return (u, total + jnp.where(k >= SETTLED / dt, u[2], 0.0)), None

    begin = jax.random.normal(jax.random.key(1), (3, len(rho), many)) + jnp.array([1.0, 1.0, 28.0])[:, None, None]
    (_, total), _ = jax.lax.scan(step, (begin, jnp.zeros(begin.shape[1:])), jnp.arange(steps))
    return np.asarray(total.mean(axis=1)) / (steps - SETTLED / dt)


def run(fast: bool = False) -> Shown:
    """The slope by shadowing along one solution, beside plain differentiation, finite differences and brute force."""
    length, dt = (20.0, 0.02) if fast else (100.0, 0.01)
    times = SETTLED + dt * np.arange(int(length / dt) + 1)
    u = course(times)
    begin = time.perf_counter()
    slope, v = shadowed(u, dt)
    seconds = time.perf_counter() - begin
    numbers = [Number("d<z>/d rho by least-squares shadowing", 1.0, slope, 0.9, 1.1, TALK)]
    remarks = [f"Shadowing along {length:g} units of time: {seconds:.2f} s."]
    if not fast:
        rho = np.array([26.0, 27.0, 28.0, 29.0, 30.0])
        true = float(np.polyfit(rho, means(jnp.asarray(rho), 20_000), 1)[0])
        plain = np.abs(differentiated(5.0))
        step = 1e-3
        ends = [course(times, RHO + h)[:, 2].mean() for h in (step, -step)]
        finite = (ends[0] - ends[1]) / (2 * step)
        numbers += [
            Number(
                "d<z>/d rho, 500 long solutions at each of five rho", 1.0, true, 0.95, 1.05, "Wang, Hu & Blonigan: 1.01 +- 0.04"
            ),
            Number("shadowing less brute force", 0.0, slope - true, -0.05, 0.05, "the same slope"),
            Number("plain differentiation over 5 units of time, size", 49_899.0, float(plain), 1e4, 1e7, "talk: -49,899"),
        ]
        remarks.append(f"Central difference of one solution, step {step:g}: {finite:.0f} (talk: 472).")
    return Shown("Derivative of a chaotic system's mean", tuple(numbers), _drawn(times, u, v), tuple(remarks))


def differentiated(length: float) -> float:
    """The derivative of the mean of one solution, by forward sensitivities."""
    times = SETTLED + np.arange(1, int(length) * 10 + 1) / 10 - 0.1
    states = states_at(lambda z: equations(z[0]), times, ODE, jnp.array([RHO]))
    return float(jax.jit(lambda z: states(z, jnp.eye(1))[1])(jnp.array([RHO]))[0, :, 2].mean())


@picture
def _drawn(times, u, v):
    figure = new_figure(3.4)
    left, right = figure.subplots(1, 2)
    some = slice(0, min(len(u), 2000))
    left.plot(u[some, 0], u[some, 2], color=GREY, linewidth=0.8, label="rho = 28")
    left.plot((u + v)[some, 0], (u + v)[some, 2], color=VERMILION, linewidth=0.6, label="its shadow, rho = 29")
    left.set(xlabel="x", ylabel="z")
    left.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    right.plot(times, v[:, 2], color=BLUE, linewidth=0.7, label="distance of the shadow in z")
    right.set(xlabel="Time (units of the system)", ylabel="v_z (per unit of rho)")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
