"""A fit by stochastic approximation EM.

1. Exploration, gamma = 1: a Markov chain around the maximum.  At its start Omega and the residual variances may shrink only
   slowly (annealing).  It ends when between the halves of the last 50 iterations no parameter moved by more than half its spread.
2. Smoothing, gamma_k = (k + 9)^-exponent: the parameters settle.  The estimate is their mean over the second half of this phase,
   in unconstrained coordinates.

Smoothing ends when what the Monte-Carlo error of that mean costs is small.  With C its covariance and J the information of the
data (``iteration``), -2 log L is expected to lie above its minimum by

    loss = tr(J C),        (v'C v) / (v'J^-1 v) <= loss        for every direction v of the parameters,

so that no direction, correlated with others or not, in whatever coordinates, has a Monte-Carlo error of more than the root of the
loss in standard errors.  Asked for is

    loss <= precision^2 max(1, N / 25)      and      |mean of this half - mean of the quarter before|_J^2 <= 25 times that

where the second finds parameters that still drift.  Both forms are quadratic, so that C needs no full rank.

A direction that the data do not determine (``determination``) has no estimate to be precise about: the fit then ends where the
question is answered, and says which parameters it is; at the edge of Omega, where it may only seem so, another search goes on
(``edge``).

Sources: Polyak & Juditsky (1992), doi:10.1137/0330046 (the mean and its error); Jones, Haran, Caffo & Neath (2006),
doi:10.1198/016214506000000492 (stopping at a width found by batch means).

All chains of all subjects are one compiled program of ten iterations; what to do next is decided between its calls, from what is
kept in a checkpoint, so that a fit killed and taken up again ends at the same numbers.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import jax
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.fitting.maximum_posterior import MinusTwiceLogPrior
from nlme.fitting.saem.chains import Draws, draws
from nlme.fitting.saem.checkpoint import arrays_of, progress_from
from nlme.fitting.saem.determination import doubtful, undetermined
from nlme.fitting.saem.edge import at_an_edge
from nlme.fitting.saem.iteration import MEMORY, Parts, State, Step, advance, begin
from nlme.fitting.saem.method import SAEM
from nlme.fitting.saem.shifts import shifting
from nlme.language.anatomy import Anatomy
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory
from nlme.search.checkpoint import Checkpoint, fingerprint_of
from nlme.search.problem import Problem
from nlme.search.progress import Progress
from nlme.search.quasi_newton import CONVERGED, EVALUATION_LIMIT, SEARCHING, UNDETERMINED

BLOCK = 10  # iterations of one call
HELD = 200  # iterations at held parameters, when it is asked what the data determine
WINDOW = 50  # iterations looked back on for a drift
_BATCHES = 30
_FEW = 25  # subjects up to which ``precision`` is a share of the standard errors of all data, above it of those of so many
_DRIFT = 5.0  # times ``precision``: by how much the mean may have changed since the one before
_EACH = 0.004  # Monte-Carlo error of every unconstrained coordinate where there are too many parameters for J


class Lost(FitError):
    """The search came to where parameters or a likelihood are no numbers, from this start."""


@dataclasses.dataclass
class Progressed:
    """How far a fit has come; all of it is kept in a checkpoint."""

    state: State
    path: np.ndarray  # (K, P) parameters after every iteration
    criterion: np.ndarray  # (K,) complete-data -2 log L
    direction: np.ndarray  # (K, P) Newton directions: how far the estimate of one iteration alone stands from the parameters
    elapsed: np.ndarray  # (K,) seconds
    explored: int  # iterations of exploration; -1: not over
    status: int
    idle: np.ndarray  # (R, P) directions that the data do not determine

    @property
    def estimate(self) -> np.ndarray:
        """Mean of the second half of the smoothing; while exploring, of the last iterations."""
        kept = len(self.path) - self.explored
        last = (kept + 1) // 2 if self.explored >= 0 and kept else min(WINDOW // 2, len(self.path))
        return self.path[-last:].mean(axis=0)


def search(problem: Problem, progress=None, checkpoint=None, every: float = 30.0) -> Progressed:
    """The way of the parameters to the estimate; Ctrl-C ends it where it is.

    Raises
    ------
    ModelError
        The model has no random effects, or their covariance is not a field of the model.
    FitError
        The likelihood of a subject is zero wherever its random effects were drawn; the checkpoint belongs to another fit.
    """
    method, layout, inventory, model, penalty = problem.method, problem.layout, problem.inventory, problem.model, problem.penalty
    method.require(layout.anatomy)
    layout.anatomy.require_variability(model, "SAEM")
    parts = parts_of(method, layout, inventory, model)
    if penalty is not None:
        _require_penalty(penalty, parts, inventory, model)
    n = layout.n_subjects
    u = problem.start
    empty = np.zeros((0, len(inventory)))
    found = Progressed(
        begin(parts, layout.anatomy, u, model, n, method.chains_for(n), method.seed),
        empty,
        np.zeros(0),
        empty,
        np.zeros(0),
        -1,
        SEARCHING,
        empty,
    )
    file = None
    if checkpoint is not None:
        file = Checkpoint(checkpoint, fingerprint_of(problem), every)
        saved = file.read()
        found = found if saved is None else progress_from(found, saved)

    def moved(state, steps):
        return advance(method.ode, parts, layout.anatomy, inventory, model, layout.arrays, penalty, state, steps)

    before = float(found.elapsed[-1]) if len(found.elapsed) else 0.0
    clock = time.perf_counter()
    with Progress(progress, f"{type(model).__name__}, {method!r}") as show:
        try:
            while found.status == SEARCHING:
                state, (path, criterion, direction) = moved(found.state, _steps(method, found))
                path, criterion, direction = np.asarray(path), np.asarray(criterion), np.asarray(direction)
                if not np.all(np.isfinite(path)) or not np.all(np.isfinite(criterion)):
                    raise Lost(_no_number(inventory, layout, path, found.state))
                seconds = np.full(len(path), before + time.perf_counter() - clock)
                found = Progressed(
                    state,
                    np.r_[found.path, path],
                    np.r_[found.criterion, criterion],
                    np.r_[found.direction, direction],
                    np.r_[found.elapsed, seconds],
                    found.explored,
                    SEARCHING,
                    found.idle,
                )
                _decide(problem, found, lambda: _held(method, found.state, len(found.path), moved))
                if file is not None and (file.due or found.status != SEARCHING):
                    file.write(arrays_of(found))
                show(len(found.path), float(criterion[-1]), float(np.max(np.abs(path[-1] - path[0]))))
            if found.state.scores.size:
                at = found.state._replace(u=found.estimate)
                found.state = _held(method, at, len(found.path), moved)
        except KeyboardInterrupt:
            if not len(found.path):
                raise
            if file is not None:
                file.write(arrays_of(found))
            found.status = SEARCHING  # also where it had ended, and was interrupted in what comes after
    return found


def parts_of(method: SAEM, layout: Layout, inventory: Inventory, model: Model) -> Parts:
    """Which parameters have a closed form, and which need scores."""
    entries = _entries_of_omega(layout.anatomy, inventory, model)
    names, elements = inventory.names, [name for entry in entries for name in entry.names]
    free = tuple(k for k, name in enumerate(elements) if name not in inventory.fixed)
    of_omega = tuple(names.index(elements[k]) for k in free)
    rest = np.ones(len(inventory), bool)
    rest[list(of_omega)] = False
    rest &= np.array([kind != "weight" for kind in inventory.kinds])
    shifts, spreads = shifting(inventory, model, layout.anatomy, layout.arrays, layout.n_subjects, rest, method.ode)
    others = tuple(k for k in range(len(inventory)) if not shifts[k] and k not in of_omega)
    residual = tuple(bool(spreads[k]) for k in others)
    return Parts(of_omega, free, tuple(int(k) for k in np.flatnonzero(shifts)), others, residual)


def _entries_of_omega(anatomy: Anatomy, inventory: Inventory, model: Model) -> list:
    """The inventory's entries of the covariances of the random effects, per subject and per occasion."""
    entries = [e for e in inventory.entries if isinstance(e.get(model), Covariance)]
    levels, found = anatomy.levels(model), []
    for level in levels:
        found += [e for e in entries if e.get(model).names == level.names and np.array_equal(e.get(model).matrix, level.matrix)][
            :1
        ]
    if len(found) != len(levels) or len(entries) != len(levels):
        listed = ", ".join(".".join(e.path) for e in entries) or "none"
        raise ModelError(
            f"SAEM estimates the covariance of the random effects in closed form, so random() (and between_occasions()) of "
            f"{type(model).__name__} must return a covariance field of the model as it is; its covariance fields are {listed}. "
            "Use nlme.FOCEI() or nlme.Laplace()."
        )
    return found


def _require_penalty(penalty, parts: Parts, inventory: Inventory, model: Model) -> None:
    u = inventory.unconstrained(model)
    slope = np.asarray(jax.grad(lambda u: penalty(inventory.at_unconstrained(model, u)))(u + 0.01))
    closed = [inventory.names[k] for k in (*parts.omega, *parts.shifts) if slope[k] != 0]
    if closed:
        what = "priors= act" if isinstance(penalty, MinusTwiceLogPrior) else "penalty= acts"
        raise ModelError(f"{what} on {', '.join(closed)}, which SAEM estimates in closed form, without any; use nlme.FOCEI().")


def _steps(method: SAEM, found: Progressed) -> Step:
    number = len(found.path) + np.arange(1, BLOCK + 1)
    smoothing = number - found.explored
    gamma = np.ones(BLOCK) if found.explored < 0 else (smoothing + 9.0) ** -method.exponent
    *shape, q = found.state.eta.shape
    # by the number of the iteration, so that a fit taken up again goes on with the same ones
    drawn = [draws(np.random.default_rng((method.seed, k)), tuple(shape), q) for k in number]
    return Step(
        Draws(*(np.stack(x) for x in zip(*drawn, strict=True))),
        gamma,
        (number <= method.annealing) & (found.explored < 0),
        np.full(BLOCK, found.explored >= 0),
        np.minimum(gamma, MEMORY),
    )


def _held(method: SAEM, state: State, begun: int, moved: Callable) -> State:
    """The state after ``HELD`` iterations that move the chains and not the parameters, and learn V and the scores anew."""
    *shape, q = state.eta.shape
    for first in range(0, HELD, BLOCK):
        number = first + np.arange(BLOCK)
        drawn = [draws(np.random.default_rng((method.seed, begun, k)), tuple(shape), q) for k in number]
        no = np.zeros(BLOCK)
        steps = Step(Draws(*(np.stack(x) for x in zip(*drawn, strict=True))), no, no > 0, no < 1, 1.0 / (1.0 + number))
        state, _ = moved(state, steps)
    return state


def _decide(problem: Problem, found: Progressed, held: Callable[[], State]) -> None:
    """Whether a phase is over; ``held`` goes on at the parameters where the fit stands."""
    method, done = problem.method, len(found.path)
    if found.explored < 0:
        least, most = method.exploration
        settled = done >= max(least, method.annealing + WINDOW) and _no_drift(found.path[-WINDOW:])
        if settled or done >= most:
            found.explored = done
        return
    least, most = method.smoothing
    kept = done - found.explored
    if kept < least:
        return
    if kept in (least, 2 * least, 4 * least) and doubtful(found.state):
        found.idle = undetermined(held())
    if len(found.idle):
        found.status = UNDETERMINED
    elif _precise(method, found, kept):
        found.status = CONVERGED
    elif kept >= most or (kept >= 4 * least and doubtful(found.state) and at_an_edge(problem, found.estimate, found.idle)):
        found.status = EVALUATION_LIMIT


def _precise(method: SAEM, found: Progressed, kept: int) -> bool:
    """Whether the Monte-Carlo error of the estimate costs no more than ``precision`` allows."""
    half = kept // 2
    errors, observed = batch_errors(found.direction[-half:]), np.asarray(found.state.observed)
    if not observed.size:
        return bool(np.all(np.sqrt(np.sum(errors**2, axis=0)) < _EACH))
    allowed = method.precision**2 * max(1.0, len(found.state.eta) / _FEW)
    before = found.path[-half - half // 2 : -half].mean(axis=0)
    moved = found.path[-half:].mean(axis=0) - before
    return expected_loss(errors, observed) <= allowed and expected_loss(moved[None], observed) <= _DRIFT**2 * allowed


def batch_errors(directions: np.ndarray) -> np.ndarray:
    """E (B, P) with E'E = C, the covariance of the mean of the parameters over K iterations, from their directions (K, P).

    The mean of K iterates of a stochastic approximation varies as that of the K Newton directions does (Polyak & Juditsky); those
    are nearly independent, where the iterates are not.  By the means of thirty batches; C has a rank of at most 29.
    """
    size = len(directions) // _BATCHES
    means = directions[-size * _BATCHES :].reshape(_BATCHES, size, -1).mean(axis=1)
    return (means - means.mean(axis=0)) / np.sqrt(_BATCHES * (_BATCHES - 1))


def expected_loss(errors: np.ndarray, observed: np.ndarray) -> float:
    """tr(J E'E) for errors E (B, P) and the information J (P, P)."""
    return float(np.sum((errors @ observed) * errors))


def _no_drift(window: np.ndarray) -> bool:
    half = len(window) // 2
    apart = np.abs(window[half:].mean(axis=0) - window[:half].mean(axis=0))
    return bool(np.all(apart <= 0.5 * window.std(axis=0) + 1e-3))


def _no_number(inventory: Inventory, layout: Layout, path: np.ndarray, state: State) -> str:
    bad = np.flatnonzero(~np.isfinite(path).all(axis=1))
    if len(bad):
        names = [name for name, ok in zip(inventory.names, np.isfinite(path[bad[0]]), strict=True) if not ok]
        return f"SAEM: {', '.join(names[:5])} left the numbers; try other starting values, or fix what the data do not show."
    return (
        "SAEM: a subject's likelihood is zero, or its equations are not solved, wherever its random effects were drawn; "
        "try other starting values."
    )
