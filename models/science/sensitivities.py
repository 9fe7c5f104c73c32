"""Derivatives of a solution three ways, and two ways to get them wrong.

The derivative of L = sum_k g(u(t_k)) along u' = f(u, p):

    forward      s' = f_u s + f_p,  dL/dp = sum_k g_u s(t_k)           a column for every parameter, its error controlled
    adjoint      lambda' = -f_u' lambda,  jumping by g_u' at every t_k   one pass backwards, whatever the number of parameters

The pass backwards needs u(t). All steps may have been kept (the discrete adjoint of fixed steps), or some and the others are gone
through again (checkpoints: the pass that ``nlme.fit`` takes for the weights of a network inside an ODE). Solving u' = f(u)
backwards from u(T) needs no memory, and is wrong: where u' = -rate u, an error of u(T) comes back exp(rate T) times as large.

The case of SciMLSensitivity.jl: Lotka-Volterra whose rate a takes the values p_1 .. p_4 in the four unit intervals of (0, 4),

    x' = a x - x y,    y' = -a y + x y,    x(0) = y(0) = 1,    p = (1, 1, 1, 1),    L = sum over t = 0, 0.1, .. 4 of x + y.

(1, 1) is its equilibrium: the states do not move, every step is right for them, and a solver that looks at them alone takes steps
over the switches of a, of which the derivatives know. Three answers given there were wrong, by up to everything.

Reference: SciMLSensitivity.jl, issue 273 (2020), github.com/SciML/SciMLSensitivity.jl/issues/273; reversing: Gholami, Keutzer &
Biros (2019), ANODE, doi:10.24963/ijcai.2019/103; Ma et al. (2021), arXiv:1812.01892.
"""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import nlme
from nlme.models.science import Number, Shown
from nlme.models.science._solving import states_at
from nlme.plots.style import BLUE, VERMILION, new_figure, picture

TRUE = (37.607, 35.925, 19.601, 3.644)
TALK = "SciMLSensitivity.jl #273, as given in the talk"
TIMES = np.arange(1, 41) / 10
TIGHT = nlme.Tolerances(1e-8, 1e-10)
STEPS = 400  # of the fixed-step method
RATE = 10.0
KNOWN = 1e-8  # to how much u(T) is known


def lotka_volterra(z: Float[Array, " 4"], switches: tuple[float, ...] = (1.0, 2.0, 3.0)) -> nlme.ODE:
    """The equations; ``switches``: the times at which the solver is told that they change."""

    def rhs(t, u):
        a = jnp.where(t < 1.0, z[0], jnp.where(t < 2.0, z[1], jnp.where(t < 3.0, z[2], z[3])))
        return dict(x=a * u.x - u.x * u.y, y=-a * u.y + u.x * u.y)

    return nlme.ODE(rhs, ("x", "y"), initial=dict(x=1.0, y=1.0), event_times=switches)


def fixed_steps(p: Float[Array, " 4"]) -> Float[Array, ""]:
    """L by 400 steps of the Runge-Kutta method of order 4, all of which reverse differentiation keeps."""
    h = 4.0 / STEPS

    def slope(a, u):
        return jnp.stack([a * u[0] - u[0] * u[1], -a * u[1] + u[0] * u[1]])

    def step(u, a):
        k1 = slope(a, u)
        k2 = slope(a, u + h / 2 * k1)
        k3 = slope(a, u + h / 2 * k2)
        k4 = slope(a, u + h * k3)
        u = u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return u, u

    _, u = jax.lax.scan(step, jnp.ones(2), jnp.repeat(p, STEPS // 4))
    return 2.0 + jnp.sum(u[STEPS // 40 - 1 :: STEPS // 40])


def measured(function, *arguments) -> tuple[np.ndarray, str]:
    """What a program gives, and its time and memory in words."""
    program = jax.jit(function).lower(*arguments).compile()
    found = np.asarray(program(*arguments))
    begin = time.perf_counter()
    jax.block_until_ready(program(*arguments))
    seconds, memory = time.perf_counter() - begin, program.memory_analysis().temp_size_in_bytes
    return found, f"{1e3 * seconds:.1f} ms, {memory / 1024:.0f} KiB"


def reversed_errors(lengths: np.ndarray) -> np.ndarray:
    """Errors of u(0) = 1, found by solving u' = -rate u backwards from a u(T) that is wrong by 1e-8."""

    def growth(z):
        return nlme.ODE(lambda t, a: dict(u=RATE * a.u), ("u",), initial=dict(u=z[0]))

    tolerances = nlme.Tolerances(1e-11, 1e-14, solver="explicit")
    solve = jax.jit(states_at(growth, lengths, tolerances, jnp.ones(1)))
    ends = np.exp(-RATE * lengths) + KNOWN
    return np.array([float(solve(jnp.array([end]))[k, 0]) for k, end in enumerate(ends)]) - 1.0


def run(fast: bool = False) -> Shown:
    """The gradient three ways, what reversing does, and the gradient where only the states are controlled.

    ``fast``: without adjoints of the adaptive solver.
    """
    p = jnp.ones(4)
    states = states_at(lotka_volterra, TIMES, TIGHT, p)
    forward, cost_forward = measured(lambda p: jnp.sum(states(p, jnp.eye(4))[1], axis=(1, 2)), p)
    adjoints = {"discrete adjoint, RK4": jax.grad(fixed_steps)}
    if not fast:
        adjoints["adjoint from checkpoints"] = jax.grad(lambda p: jnp.sum(states(p, reversible=True)))
    found = {name: measured(gradient, p) for name, gradient in adjoints.items()}
    lengths = np.linspace(0.2, 2.0, 10)
    errors = reversed_errors(lengths)
    growth = np.polyfit(lengths, np.log(errors), 1)[0]
    numbers = [
        Number(f"dL/dp_{k + 1}, forward", t, f, t - 6e-4, t + 6e-4, TALK)
        for k, (t, f) in enumerate(zip(TRUE, forward, strict=True))
    ]
    numbers += [
        Number(
            f"{name}: largest difference from forward", 0.0, float(np.abs(gradient - forward).max()), 0.0, 1e-6, "one derivative"
        )
        for name, (gradient, _) in found.items()
    ]
    numbers.append(Number("reversing u' = -10 u: growth of log error with T (1/s)", RATE, growth, 9.99, 10.01, "exp(rate T)"))
    costs = "; ".join(f"{name} {cost}" for name, cost in [("forward", cost_forward), *((n, c) for n, (_, c) in found.items())])
    remarks = [
        f"One gradient (time of a call on this machine, working memory of the program): {costs}.",
        f"Reversed over T = {lengths[-1]:g} s, a u(T) that is wrong by {KNOWN:g} gives a u(0) that is wrong by {errors[-1]:.2g}.",
    ]
    if not fast:
        more, said = uncontrolled()
        numbers, remarks = numbers + more, remarks + said
    return Shown("Derivatives of solutions, right and wrong", tuple(numbers), _drawn(lengths, errors), tuple(remarks))


def uncontrolled() -> tuple[list[Number], list[str]]:
    """d(x + y)(4)/dp where no record and no event time stops the steps: the derivatives controlled, and not."""
    p, end = jnp.ones(4), np.array([4.0])
    plain = states_at(lambda z: lotka_volterra(z, ()), end, TIGHT, p)
    stopped = states_at(lotka_volterra, end, nlme.Tolerances(1e-12, 1e-12, solver="explicit8"), p)
    right = np.array([_central(jax.jit(stopped), k) for k in range(4)])
    forward = np.asarray(jax.jit(lambda p: jnp.sum(plain(p, jnp.eye(4))[1], axis=(1, 2)))(p))
    adjoint = np.asarray(jax.jit(jax.grad(lambda p: jnp.sum(plain(p, reversible=True))))(p))
    worst = float(np.abs(forward - right).max())
    numbers = [
        Number("switches not told, forward: largest error", 0.0, worst, 0.0, 1e-5, "central differences with switches told")
    ]
    true, wrong = (", ".join(f"{x:.3f}" for x in values) for values in (right, adjoint))
    return numbers, [
        f"Nothing told of the switches, one record at t = 4: d(x + y)/dp is ({true}). Forward sensitivities, whose error the "
        "steps see, find it; a pass backwards through steps that the states alone have chosen gives "
        f"({wrong}) at a tolerance of 1e-8. Named as event_times, the switches end steps and both are right."
    ]


def _central(solve, k: int, h: float = 1e-4) -> float:
    ends = [float(jnp.sum(solve(jnp.ones(4).at[k].add(step)))) for step in (h, -h)]
    return (ends[0] - ends[1]) / (2 * h)


@picture
def _drawn(lengths, errors):
    figure = new_figure(3.2, 5.0)
    axes = figure.subplots()
    axes.semilogy(lengths, errors, "o", color=BLUE, label="solved back from a u(T) wrong by 1e-8")
    axes.semilogy(lengths, KNOWN * np.exp(RATE * lengths), color=VERMILION, label="1e-8 exp(10 T)")
    axes.set(xlabel="Length of the interval, T (s)", ylabel="Error of u(0) = 1")
    axes.legend()
    return figure
