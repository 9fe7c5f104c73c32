"""Explicit Runge-Kutta integration between two events, with adaptive steps for each subject.

The solver knows nothing of jets: it integrates whatever system it is given, and its error norm sees every column of it, so
that derivatives carried along as columns are controlled like the solution itself (SciMLSensitivity.jl issue 273 shows what
happens otherwise).  Written for one subject and vectorised by ``jax.vmap``; steps end exactly at the end of the interval.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

SOLVED, STEP_LIMIT, NOT_FINITE, NO_STEADY_STATE = range(4)

SENTENCES = {
    STEP_LIMIT: "the ODE solver reached its limit of steps (a stiff system, or a tolerance that cannot be met)",
    NOT_FINITE: "the ODE's solution stopped being finite",
    NO_STEADY_STATE: "the doses of a steady-state record do not settle to a steady state",
}


@dataclasses.dataclass(frozen=True)
class Tableau:
    """Coefficients of an explicit Runge-Kutta pair whose last stage is the first of the next step."""

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    error: tuple[float, ...]  # weights of the stages in (solution of order p) - (embedded solution)


#: Tsitouras (2011), Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying assumption,
#: Computers & Mathematics with Applications 62:770, doi:10.1016/j.camwa.2011.06.002
TSIT5 = Tableau(
    order=5,
    nodes=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    stages=(
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    error=(
        -0.00178001105222577714,
        -0.0008164344596567469,
        0.007880878010261995,
        -0.1447110071732629,
        0.5823571654525552,
        -0.45808210592918697,
        0.015151515151515152,
    ),
)


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How exactly the ODE is solved: the local error of every column of a state is below ``absolute + relative * |state|``."""

    relative: float = 1e-9
    absolute: float = 1e-11
    max_steps: int = 20_000
    tableau: Tableau = TSIT5


def integrate(
    flow: Callable[[Float[Array, ""], Float[Array, "s C"]], Float[Array, "s C"]],
    state: Float[Array, "s C"],
    first_step: Float[Array, ""],
    active: Array,
    tolerances: Tolerances,
) -> tuple[Float[Array, "s C"], Float[Array, ""], Int[Array, ""]]:
    """Integrate dy/ds = flow(s, y) from s = 0 to s = 1.

    Parameters
    ----------
    flow : the (augmented) right-hand side on the unit interval
    state : (s, C) y(0)
    first_step : step to try first
    active : False for an interval of length zero, which is skipped

    Returns
    -------
    y(1), the last full step size (a good first step for a neighbouring interval), and how it ended (``SENTENCES``)

    The next step is h * 0.9 * E^(-0.7/p) E_before^(0.4/p) (PI control, Hairer & Wanner, Solving ODEs II, 2nd ed., IV.2),
    with E the root mean square of the local error over all columns.
    """
    tableau = tolerances.tableau
    stages = [np.array(row) for row in tableau.stages]
    weights = np.array(tableau.error)
    alpha, beta = 0.7 / tableau.order, 0.4 / tableau.order

    flow = jax.jit(flow)  # traced once for all stages

    def unfinished(carry):
        s, _, _, _, _, _, _, status = carry
        return (s < 1.0) & (status == SOLVED)

    def step(carry):
        s, y, slope, h, last_full, before, count, status = carry
        h = jax.lax.stop_gradient(h)  # the choice of steps is never differentiated
        trial = jnp.minimum(h, 1.0 - s)
        closing = h >= 1.0 - s
        slopes = [slope]
        for row, node in zip(stages, tableau.nodes[1:], strict=True):
            moved = y + trial * sum(c * k for c, k in zip(row, slopes, strict=True) if c != 0.0)
            slopes.append(flow(s + node * trial, moved))
        local = trial * sum(c * k for c, k in zip(weights, slopes, strict=True))
        size = jnp.maximum(jnp.abs(y), jnp.abs(moved))
        scale = tolerances.absolute + tolerances.relative * jnp.maximum(size, size[:, :1])
        error = jax.lax.stop_gradient(jnp.sqrt(jnp.mean(jnp.square(local / scale))))
        finite = jnp.isfinite(error)
        error = jnp.where(finite, jnp.maximum(error, 1e-8), 1e8)
        accept = error <= 1.0
        factor = jnp.where(
            accept,
            jnp.clip(0.9 * error**-alpha * before**beta, 0.2, 8.0),
            jnp.maximum(0.9 * error ** (-1.0 / tableau.order), 0.1),
        )
        full = jnp.where(closing & accept, jnp.maximum(last_full, trial * factor), trial * factor)
        status = jnp.where(count + 1 >= tolerances.max_steps, STEP_LIMIT, status)
        status = jnp.where(trial < 1e-14, jnp.where(finite, STEP_LIMIT, NOT_FINITE), status)
        return (
            jnp.where(accept, jnp.where(closing, 1.0, s + trial), s),
            jnp.where(accept, moved, y),
            jnp.where(accept, slopes[-1], slope),
            trial * factor,
            full,
            jnp.where(accept, error, before),
            count + 1,
            status,
        )

    start = jnp.where(active, 0.0, 1.0)
    h = jnp.clip(first_step, 1e-10, 1.0)
    carry = (start, state, flow(0.0, state), h, h, jnp.ones(()), jnp.zeros((), int), jnp.full((), SOLVED))
    _, state, _, _, last_full, _, _, status = jax.lax.while_loop(unfinished, step, carry)
    return state, last_full, status
