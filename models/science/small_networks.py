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

    def loss(z):
        found = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, u, layers: slope(layers, u)), diffrax.Tsit5(), 0.0, times[-1], None, jnp.asarray(START), whole(z),
            saveat=diffrax.SaveAt(ts=jnp.asarray(times)),
            stepsize_controller=diffrax.PIDController(rtol=TOLERANCE, atol=TOLERANCE), max_steps=4096,
        )  # fmt: skip
        return jnp.sum(jnp.square(found.ys))

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
    """Value and gradient by both (``fast``, or without diffrax: by this library and by differences of SciPy's solution)."""
    times = np.arange(1, 31) / 10
    z, whole = network()
    value, gradient, seconds, first = timed(ours(times, z, whole), z)
    course, exact, direction, along = by_scipy(times, z, whole)
    numbers = [
        Number("L", exact, value, exact * (1 - 1e-6), exact * (1 + 1e-6), "SciPy, DOP853 at 1e-12"),
        Number(
            "dL along a random direction", along, float(gradient @ direction), along - 1e-4 * abs(along), along + 1e-4 * abs(along),
            "its central difference",
        ),
    ]  # fmt: skip
    said = f"{len(z):,} weights: value and gradient {1e3 * seconds:.2f} ms, {first:.1f} s the first time"
    if not fast and importlib.util.find_spec("diffrax"):
        their_value, their_gradient, their_seconds, their_first = timed(theirs(times, whole), z)
        worst = float(np.abs(gradient - their_gradient).max() / np.abs(their_gradient).max())
        numbers += [
            Number("L, relative difference from diffrax", 0.0, abs(value / their_value - 1), 0.0, 1e-6, "diffrax, Tsit5 at 1e-8"),
            Number("dL, largest difference relative to the largest", 0.0, worst, 0.0, 1e-5, "diffrax, Tsit5 at 1e-8"),
        ]
        said += f"; diffrax {1e3 * their_seconds:.2f} ms, {their_first:.1f} s the first time: {their_seconds / seconds:.1f} times as long"
    else:
        said += "; diffrax was not asked" if fast else "; diffrax is not installed"
    return Shown("A small network inside an equation", tuple(numbers), _drawn(times, course), (said + ".",))


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
