"""Integration between two events with adaptive steps, for one subject at a time: every subject has steps of its own.

A solver integrates whatever columns it is given, and its error norm sees all of them, so that derivatives carried along are
controlled like the solution itself (SciMLSensitivity.jl issue 273 shows what happens otherwise).  The sizes of the steps are
never differentiated.  Steps end exactly at the end of the interval.  Arrays may have a last axis over subjects
(``nlme.dynamics.batching``).
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.delays import KEPT, Past, piece_of
from nlme.dynamics.explicit import DOP853, TSIT5, Explicit
from nlme.dynamics.rosenbrock import RODAS5P, Rosenbrock
from nlme.dynamics.system import State, System
from nlme.errors import ModelError

SOLVED, STEP_LIMIT, STIFF, NOT_FINITE, NO_STEADY_STATE, DOSE_RULE, INCONSISTENT, DELAY, FORGOTTEN, BACKWARDS = range(10)

_KEPT_STATES = 512  # of an interval, one a step, for going back through it

SENTENCES = {
    STEP_LIMIT: "the ODE solver reached its limit of steps: if the system is stiff, solve it with "
    "ode=nlme.Tolerances(solver='stiff') or 'auto'; otherwise its solution has a jump or a pole, or the tolerance is too tight",
    STIFF: "the system is stiff, so that the explicit ODE solver would take thousands of steps: solve it with "
    "ode=nlme.Tolerances(solver='auto') or 'stiff'",
    NOT_FINITE: "the solution stopped being finite: look for a division by zero, a root or logarithm of a negative state, a parameter out "
    "of its domain (a volume of 0, an absorption with a negative time), or a growth without bound at the starting values",
    NO_STEADY_STATE: "the doses of a steady-state record (SS) do not settle to a steady state: a state is not eliminated at these values, or "
    "only accumulates, as an AUC does (the doses that lead there, ADDL and II, need no steady state)",
    INCONSISTENT: "the algebraic equations have no solution that goes on from where their states stood, or do not determine them "
    "(the Jacobian of the equations in these states is singular); at the first record the search begins at initial={state: value}, 0 if "
    "that is not given",
    DELAY: "a delay is not above 0, or not the same at all records of the subject",
    FORGOTTEN: f"there are more than {KEPT} steps within the longest delay, which are all that is remembered: solve with a looser "
    "tolerance",
    BACKWARDS: f"there are more than {_KEPT_STATES} steps between two records, which are all that a derivative in the weights of a network "
    "goes back through: solve with a looser tolerance, or give records between them (EVID 2)",
    DOSE_RULE: "a lag, bioavailability, duration, rate or event time is not a number that a dose can have",
}

SOLVERS = ("auto", "explicit", "explicit8", "stiff")
_STIFF = Rosenbrock(RODAS5P)
_EXPLICIT = {None: Explicit(TSIT5), "explicit": Explicit(TSIT5), "explicit8": Explicit(DOP853), "auto": Explicit(TSIT5)}
_PATIENCE = 500  # steps of an explicit method in one interval: then `auto` tries the stiff one, and in a stiff system others end
_PROVEN = 0.8  # of the last steps at the limit of stability: a stiff system


@dataclasses.dataclass(frozen=True)
class Tolerances:
    """How the ODE is solved: the local error of every column of a state is below ``absolute + relative * |state|``.

    Attributes
    ----------
    relative, absolute : tolerances
    max_steps : limit between two events
    solver : ``"explicit"`` (order 5), ``"explicit8"`` (order 8, for tight tolerances), ``"stiff"`` (L-stable, order 5), or
        ``"auto"``, which begins with order 5 and changes over, for each subject, where the system proves stiff.  None: a linear
        system with constant coefficients and few doses by its matrix exponential, every other one by ``"explicit"``.  Systems with
        algebraic equations are solved by ``"stiff"`` unless an explicit method is asked for, which is refused

    Raises
    ------
    ModelError
        Another word for ``solver``, or a tolerance that is not positive.
    """

    relative: float = 1e-8
    absolute: float = 1e-10
    max_steps: int = 20_000
    solver: str | None = None

    def __post_init__(self):
        if self.solver is not None and self.solver not in SOLVERS:
            raise ModelError(f"nlme.Tolerances: solver is one of {', '.join(SOLVERS)}, or None; got {self.solver!r}.")
        if not (self.relative > 0 and self.absolute > 0 and self.max_steps > 0):
            raise ModelError(
                f"nlme.Tolerances: relative, absolute and max_steps must be positive; got {self.relative!r}, "
                f"{self.absolute!r} and {self.max_steps!r}."
            )


def for_algebraic(tolerances: Tolerances) -> Tolerances:
    """The tolerances with which a system with algebraic equations is solved: by the method that takes a singular mass matrix.

    Raises
    ------
    ModelError
        An explicit method is asked for.
    """
    if tolerances.solver in ("explicit", "explicit8"):
        raise ModelError(
            f"nlme.Tolerances(solver={tolerances.solver!r}): an explicit method cannot solve algebraic equations. Leave solver= out, or "
            "write solver='stiff'."
        )
    return dataclasses.replace(tolerances, solver="stiff")


class Pace(NamedTuple):
    """What one interval leaves to the next: the step to try, how stiff the system has lately been (0 to 1), and what its delays can
    look back at."""

    step: Float[Array, ""]
    stiff: Float[Array, ""]
    past: Past | None = None

    @classmethod
    def first(cls) -> Pace:
        return cls(jnp.asarray(0.01), jnp.asarray(0.0))


class _Walk(NamedTuple):
    """Where an integration stands; of several subjects side by side, each array has a last axis over them."""

    u: Float[Array, ...]
    state: State
    memory: State
    step: Float[Array, ...]  # to try next
    full: Float[Array, ...]  # the step it would be if the interval went on
    error: Float[Array, ...]  # log of the last accepted step's
    stiff: Float[Array, ...]
    count: Int[Array, ...]
    status: Int[Array, ...]
    past: Past | None
    turning: tuple[State, State] | None  # the slope and the second derivative at ``u``, where they are remembered


def integrate(
    system: System, state: State, pace: Pace, active: Array, tolerances: Tolerances, reversible: bool = False
) -> tuple[State, Pace, Int[Array, ""]]:
    """Integrate dy/du = slope(u, y) from u = 0 to u = 1.

    Parameters
    ----------
    system : the equations of all columns, on the unit interval
    state : y(0)
    pace : what the interval before has left
    active : False for an interval of length zero, which is skipped
    reversible : whether JAX shall differentiate it in reverse, by going back through the steps at held sizes; of an interval at most
        ``_KEPT_STATES``

    Returns
    -------
    y(1), the pace for a neighbouring interval, and how it ended (``SENTENCES``)
    """
    start = jnp.where(active, 0.0, 1.0)
    h = jnp.clip(pace.step, 1e-10, 1.0)
    if tolerances.solver == "stiff":
        end = _walk(_STIFF, system, start, state, Pace(h, pace.stiff, pace.past), tolerances, reversible)
        return end.state, Pace(end.full, end.stiff, end.past), end.status
    explicit = _EXPLICIT[tolerances.solver]
    end = _walk(explicit, system, start, state, Pace(h, pace.stiff, pace.past), tolerances, reversible)
    if tolerances.solver != "auto":
        return end.state, Pace(end.full, end.stiff, end.past), end.status
    stiff = jnp.where((end.u < 1.0) & active, 1.0, end.stiff)
    end = _walk(_STIFF, system, end.u, end.state, Pace(end.full, stiff, end.past), tolerances, reversible)
    return end.state, Pace(end.full, stiff, end.past), end.status


def _walk(method, system: System, u, state: State, pace: Pace, tolerances: Tolerances, reversible: bool = False) -> _Walk:
    """From ``u`` to 1, or until it fails, or (an explicit method of ``auto``) until the system proves stiff."""
    zero, none = jnp.zeros_like(u), jnp.zeros(u.shape, int)
    h, stiff, past = pace
    begin = system.remembering(past)
    turning = None if past is None else _turning(begin, u, state)
    begun = _Walk(u, state, method.begin(begin, state), h, h, zero, stiff, none, none + SOLVED, past, turning)
    changes = tolerances.solver == "auto" and isinstance(method, Explicit)

    def unfinished(w):
        going = (w.stiff < _PROVEN) & (w.count < _PATIENCE) if changes else True
        return (w.u < 1.0) & (w.status == SOLVED) & going

    def advance(w):
        going = unfinished(w)
        new = _advance(method, system, tolerances, w, going)
        if not u.ndim:
            return new
        # what is remembered has been kept where a subject is through, without a copy of all of it
        return where(going, new._replace(past=None), w._replace(past=None))._replace(past=new.past)

    if reversible:
        # Every state is kept and none is solved for again: the sizes of steps follow from estimates of the error that are rounding in
        # a fine solution, so that a second solution would have other steps, and a derivative through both would be of neither.
        tolerances = dataclasses.replace(tolerances, max_steps=min(tolerances.max_steps, _KEPT_STATES))
        end = eqxi.while_loop(unfinished, advance, begun, kind="checkpointed", checkpoints=_KEPT_STATES)
        return end._replace(status=jnp.where((end.status == STEP_LIMIT) & (end.count >= _KEPT_STATES), BACKWARDS, end.status))
    return jax.lax.while_loop(lambda w: jnp.any(unfinished(w)), advance, begun)


def where(condition, new, old):
    """``new`` where the condition holds, else ``old``, in every array of two trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _turning(system: System, u, state: State) -> tuple[State, State]:
    """The slope and the second derivative at ``u``."""
    slope = system.slope(u, state)
    return slope, system.turned(u, state, slope)


def _advance(method, system: System, tolerances: Tolerances, walk: _Walk, going) -> _Walk:
    """One step tried.

    The next step is h * 0.9 * E^(-0.7/p) E_before^(0.4/p) (PI control, Hairer & Wanner, Solving ODEs II, 2nd ed., IV.2),
    with E the root mean square of the local error over all columns.
    """
    h = jax.lax.stop_gradient(walk.step)  # the choice of steps is never differentiated
    h = h if system.longest is None else jnp.minimum(h, system.longest(walk.u))
    rest = 1.0 - walk.u
    closing = 1.05 * h >= rest
    # the last two steps to the end are of one size
    h = jnp.where(closing, rest, jnp.minimum(h, 0.5 * rest))
    # a subject that is through goes along with the others: what is tried for it is dropped, but a derivative in reverse passes it
    h = jnp.where(rest > 0.0, h, walk.step)
    if walk.past is not None:
        # nothing is looked back at that has not been solved
        limit = system.lookback.limit
        # whole steps of a delay leave a rest that is one but for rounding
        system, closing = system.remembering(walk.past), closing & (rest <= limit * (1.0 + 1e-12))
        h = jnp.where(closing, h, jnp.minimum(h, limit))
    new, memory, errors, stiffness = method.step(system, walk.u, walk.state, walk.memory, h)
    error = jax.lax.stop_gradient(
        _log_error(errors, walk.state, new, tolerances, system.columns.count * system.size, walk.u.ndim)
    )
    finite = jnp.isfinite(error)
    error = jnp.where(finite, error, 18.0)
    accept = error <= 0.0
    p = method.order
    growth = jnp.where(
        accept,
        jnp.clip(-0.7 / p * error + 0.4 / p * walk.error - 0.105, -1.6, 2.1),
        jnp.maximum(-error / p - 0.105, -2.3),
    )
    step = h * jnp.exp(growth)
    status = jnp.where(walk.count + 1 >= tolerances.max_steps, STEP_LIMIT, walk.status)
    status = jnp.where(h < 1e-14 * jnp.maximum(walk.u, 1e-6), jnp.where(finite, STEP_LIMIT, NOT_FINITE), status)
    stiff = walk.stiff
    if isinstance(method, Explicit):
        at_limit = jax.lax.stop_gradient(stiffness) > 0.8 * method.tableau.reach
        stiff = jnp.where(accept, 0.9 * stiff + jnp.where(at_limit, 0.1, 0.0), stiff)
        if tolerances.solver != "auto":  # thousands of steps more would lead to nothing better
            status = jnp.where((stiff > _PROVEN) & (walk.count + 1 >= _PATIENCE), STIFF, status)
    past, turning = walk.past, walk.turning
    if past is not None:
        turning = where(accept, _turning(system, walk.u + h, new), turning)
        piece = piece_of(h, ((walk.state, *walk.turning), (new, *turning)))
        times = jnp.stack([system.lookback.time(walk.u), system.lookback.time(walk.u + h)], axis=1)
        taken = accept & going
        status = jnp.where(taken & past.full(system.lookback.longest, times[0, 0]), FORGOTTEN, status)
        past = past.remembering(piece, times, taken)
    return _Walk(
        u=jnp.where(accept, jnp.where(closing, 1.0, walk.u + h), walk.u),
        state=where(accept, new, walk.state),
        memory=where(accept, memory, walk.memory),
        step=step,
        full=jnp.where(accept, jnp.maximum(walk.step, step), step),
        error=jnp.where(accept, error, walk.error),
        stiff=stiff,
        count=walk.count + 1,
        status=status,
        past=past,
        turning=turning,
    )


def _log_error(
    errors: tuple[State, ...], old: State, new: State, tolerances: Tolerances, width: int, ndim: int
) -> Float[Array, ...]:
    """log E, the root mean square over all columns of error / (absolute + relative * size), kept within -18 and 18.

    Columns that a state has not got have no error; ``width`` is how many there could be in all.  ``ndim``: axes over subjects.  The size of a derivative column is at
    least that of its state.  With two estimates e, c: E = e^2 / sqrt(e^2 + 0.01 c^2) (Hairer, Norsett & Wanner, Solving ODEs I,
    II.10).
    """

    def square(error: State):
        total = 0.0
        for e, a, b in zip(error, old, new, strict=True):
            value = jnp.maximum(jnp.abs(a.value), jnp.abs(b.value))
            for part, x, y in zip(e, a, b, strict=True):
                if part is not None:
                    size = jnp.maximum(jnp.maximum(jnp.abs(x), jnp.abs(y)), value)
                    ratio = jnp.square(part / (tolerances.absolute + tolerances.relative * size))
                    total = total + jnp.sum(ratio, axis=tuple(range(part.ndim - ndim)))
        return total / width

    mean = square(errors[0])
    if len(errors) > 1:
        mean = mean * mean / jnp.maximum(mean + 0.01 * square(errors[1]), 1e-300)
    return jnp.clip(0.5 * jnp.log(mean), -18.0, 18.0)
