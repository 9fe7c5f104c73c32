"""A network of some tens of units as the right-hand side of an equation, on a CPU: value and gradient beside diffrax.

    u' = NN(u),    NN: 2 - 32 - 32 - 2, tanh,    u(0) = (2, 0),    L = sum_k |u(t_k)|^2,    t_k = 0.1, 0.2, .. 3

Wanted are L and its derivative in all weights: what a search over weights asks for at every step. Small arrays are where
libraries for large networks lose their time, so both solvers do the same work: Tsitouras 5(4) with adaptive steps at tolerance
1e-8, and a pass backwards from checkpoints (diffrax: ``RecursiveCheckpointAdjoint``), compiled by XLA.

Unknown is nothing; the weights are drawn with a fixed seed.

Reference: P. Kidger (2021), On neural differential equations, arXiv:2202.02435 (diffrax); C. Rackauckas, Scientific Machine
Learning (talk), where small networks inside equations are compared between libraries.
"""

from __future__ import annotations

import importlib.util
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.integrate import solve_ivp

import nlme
from nlme.models.science import Number, Shown
from nlme.models.science._solving import states_at
from nlme.plots.style import BLUE, OBSERVED, VERMILION, new_figure, picture

WIDTH, START = 32, (2.0, 0.0)
TOLERANCE = 1e-8


def network(seed: int = 1) -> tuple[jax.Array, jax.Array]:
    """Weights and biases of the three layers, flat, and the function that puts them together again."""
    rng = np.random.default_rng(seed)
    sizes = (2, WIDTH, WIDTH, 2)
    layers = [
        (rng.normal(size=(b, a)) / np.sqrt(a), 0.1 * rng.normal(size=b)) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    return ravel_pytree(layers)


def slope(layers, u):
    for w, b in layers[:-1]:
        u = jnp.tanh(w @ u + b)
    w, b = layers[-1]
    return w @ u + b


def ours(times, weights, whole):
    """L by this library."""

    def structure(z):
        layers = whole(z)
        return nlme.ODE(lambda t, a: dict(u=slope(layers, a.u)), {"u": 2}, initial=dict(u=jnp.asarray(START)))

    ode = nlme.Tolerances(TOLERANCE, TOLERANCE, solver="explicit")
    states = states_at(structure, times, ode, weights)
    return lambda z: jnp.sum(jnp.square(states(z, reversible=True)))


def theirs(times, whole):
    """L by diffrax."""
    import diffrax

    at, start = diffrax.SaveAt(ts=jnp.asarray(times)), jnp.asarray(START)
    term = diffrax.ODETerm(lambda t, u, layers: slope(layers, u))
    control = diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE)

    def loss(z):
        arguments = (term, diffrax.Tsit5(), 0.0, times[-1], None, start, whole(z))
        return jnp.sum(jnp.square(diffrax.diffeqsolve(*arguments, saveat=at, stepsize_controller=control).ys))

    return loss


def timed(loss, z) -> tuple[float, np.ndarray, float, float]:
    """Value, gradient, the quickest call of both together (s), and the first (s)."""
    program, calls = jax.jit(jax.value_and_grad(loss)), []
    for _ in range(11):
        begin = time.perf_counter()
        value, gradient = jax.block_until_ready(program(z))
        calls.append(time.perf_counter() - begin)
    return float(value), np.asarray(gradient), min(calls), calls[0]


def run(fast: bool = False) -> Shown:
    """Value and gradient beside SciPy's and, unless ``fast``, beside those of diffrax where it is installed."""
    times = np.arange(1, 31) / 10
    z, whole = network()
    value, gradient, seconds, first = timed(ours(times, z, whole), z)
    course, exact, direction, along = by_scipy(times, z, whole)
    off, sure = gradient @ direction, 1e-4 * abs(along)
    numbers = [
        Number("L", exact, value, exact * (1 - 1e-6), exact * (1 + 1e-6), "SciPy, DOP853 at 1e-12"),
        Number("dL along a random direction", along, float(off), along - sure, along + sure, "central difference of SciPy's"),
    ]
    remarks = [
        f"{len(z):,} weights, {len(times)} records: value and gradient {1e3 * seconds:.2f} ms; {first:.1f} s the first time."
    ]
    if not fast and importlib.util.find_spec("diffrax"):
        their_value, their_gradient, their_seconds, their_first = timed(theirs(times, whole), z)
        worst = float(np.abs(gradient - their_gradient).max() / np.abs(their_gradient).max())
        numbers += [
            Number("L, relative difference from diffrax", 0.0, abs(value / their_value - 1), 0.0, 1e-6, "diffrax, Tsit5 at 1e-8"),
            Number("dL, largest difference relative to the largest", 0.0, worst, 0.0, 1e-5, "diffrax, Tsit5 at 1e-8"),
        ]
        few = times[9::10]
        seldom, seldom_theirs = timed(ours(few, z, whole), z)[2], timed(theirs(few, whole), z)[2]
        remarks.append(
            f"diffrax: {1e3 * their_seconds:.2f} ms, {their_first:.1f} s the first time; ratio of the times, here to diffrax, "
            f"{seconds / their_seconds:.1f}. A step ends at every record here, and diffrax interpolates; with {len(few)} records "
            f"{1e3 * seldom:.2f} and {1e3 * seldom_theirs:.2f} ms, ratio {seldom / seldom_theirs:.1f}."
        )
    else:
        remarks.append("diffrax was not asked." if fast else "diffrax is not installed.")
    return Shown("A small network inside an equation", tuple(numbers), _drawn(times, course), tuple(remarks))


def by_scipy(times, z, whole) -> tuple[np.ndarray, float, np.ndarray, float]:
    """The course (2, T), L, a random direction, and L's central difference along it."""
    direction = np.random.default_rng(2).normal(size=len(z))
    direction /= np.linalg.norm(direction)

    def solved(z):
        layers = [(np.asarray(w), np.asarray(b)) for w, b in whole(z)]

        def slopes(t, u):
            for w, b in layers[:-1]:
                u = np.tanh(w @ u + b)
            return layers[-1][0] @ u + layers[-1][1]

        return solve_ivp(slopes, (0.0, times[-1]), START, "DOP853", times, rtol=1e-12, atol=1e-12).y

    course, step = solved(z), 1e-4
    ends = [np.sum(solved(z + h * direction) ** 2) for h in (step, -step)]
    return course, float(np.sum(course**2)), direction, float((ends[0] - ends[1]) / (2 * step))


@picture
def _drawn(times, course):
    figure = new_figure(2.8, 5.0)
    axes = figure.subplots()
    for k, colour in enumerate((BLUE, VERMILION)):
        axes.plot(times, course[k], color=colour, label=f"u_{k + 1}")
        axes.plot(times, course[k], **OBSERVED, label="t_k" if k else None)
    axes.set(xlabel="Time (units of the system)", ylabel="u")
    axes.legend()
    return figure
