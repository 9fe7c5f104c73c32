"""Many whole fits of one model in one compiled program.

A fit is one row of ``Tasks``: where it starts, how often each subject counts, which parameters move, and (optionally) data of its
own.  The search of ``nlme.estimation.outer`` runs in a number of lanes at once; a lane that has finished its fit writes the
result and takes the next one from the queue, so that no lane waits for the slowest fit.  The program comes up for air every few
rounds, for progress and interrupts.  The objective of fit r is

    sum_i weights[r, i] OFV_i(u)  +  penalty(model at u)

and its first metric weights the subjects' scores likewise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.errors import FitError
from nlme.estimation.objective import evaluate_subjects
from nlme.estimation.outer import CONVERGED, SEARCHING, SENTENCES, Search, absorb, begin, propose
from nlme.estimation.progress import Progress
from nlme.estimation.result import Fit
from nlme.language.ragged import Ragged
from nlme.structure.solvers import SOLVED

LANES = 32  # fits under way at once, while they fit memory
_SLOTS = 2_000_000  # events and samples of all lanes together
_ROUNDS = 8  # evaluations of the objective between two looks from outside


class Tasks(NamedTuple):
    """R fits of one model to N subjects in P parameters."""

    u: Float[Array, "R P"]  # starting points, unconstrained
    weights: Float[Array, "R N"]
    free: Bool[Array, "R P"]  # a parameter that is not free stays where it starts
    observed: tuple[Float[Array, "R n T"], ...] | None = None  # by size class, in place of the observations


class _Queue(NamedTuple):
    search: Search  # L lanes
    b: Float[Array, "L N q"]
    task: Int[Array, " L"]  # R: the lane is idle
    lost: Int[Array, " L"]  # subjects that count and have no reliable mode at the last accepted point
    upcoming: Int[Array, ""]
    u: Float[Array, "R P"]
    value: Float[Array, " R"]
    gradient: Float[Array, " R"]
    evaluations: Int[Array, " R"]
    status: Int[Array, " R"]
    modes: Int[Array, " R"]


@dataclasses.dataclass(frozen=True, eq=False)
class Fits:
    """What R fits came to.

    Attributes
    ----------
    u, natural : (R, P) estimates, on the line of the search and on the natural scale
    objective : (R,) penalty included
    gradient : (R,) largest element of the gradient among the free parameters
    evaluations : (R,) of the objective
    status : (R,) how each search ended, see ``nlme.estimation.outer.SENTENCES``
    modes : (R,) number of subjects without a reliable mode
    """

    u: np.ndarray
    natural: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray
    evaluations: np.ndarray
    status: np.ndarray
    modes: np.ndarray

    @property
    def converged(self) -> np.ndarray:
        return (self.status == CONVERGED) & (self.modes == 0)

    def sentence(self, r: int) -> str:
        """How fit r ended, in words."""
        if self.status[r] == CONVERGED and self.modes[r]:
            return "Some subjects have no reliable mode of their random effects."
        return SENTENCES[int(self.status[r])]

    @property
    def failures(self) -> dict[str, int]:
        """How many fits ended otherwise than converged, by sentence, most frequent first."""
        sentences = [self.sentence(int(r)) for r in np.flatnonzero(~self.converged)]
        return dict(sorted(((s, sentences.count(s)) for s in set(sentences)), key=lambda pair: -pair[1]))


def require_penalty(fit: Fit, penalty: Callable | None) -> None:
    """Refuse to refit a penalised model without its penalty.

    Raises
    ------
    FitError
        The fit's search had a penalty and none is given.
    """
    if fit.penalty and penalty is None:
        raise FitError(
            f"The fit was penalised (its penalty is {fit.penalty:.4g}), and a fit does not keep the function. Give the same penalty=, "
            f"or the refits would be of another problem."
        )


def run_fits(
    fit: Fit,
    u: np.ndarray,
    *,
    weights: np.ndarray | None = None,
    free: np.ndarray | None = None,
    observed: tuple[np.ndarray, ...] | None = None,
    starts: np.ndarray | None = None,
    penalty: Callable | None = None,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    progress: bool | None = None,
    title: str = "fits",
) -> Fits:
    """Run the fits that the arguments describe, with the model, method, data and fixed parameters of ``fit``.

    Parameters
    ----------
    u : (R, P) starting points in the unconstrained parameters of ``fit.inventory``
    weights : (R, N) how often each subject counts; once by default
    free : (R, P) parameters that move; all by default
    observed : by size class of ``fit.layout.arrays``, (R, n, T) observations in place of the data's own
    starts : (N, q) where the searches for modes begin; the modes of ``fit`` by default

    Interrupting (Ctrl-C) returns what has been found; fits that had not ended say so.
    """
    count = len(u)
    weights = np.ones((count, len(fit.values))) if weights is None else np.asarray(weights, float)
    free = np.ones(u.shape, bool) if free is None else np.asarray(free, bool)
    size = _capacity(count)
    tasks = jax.tree.map(lambda x: jnp.asarray(_padded(np.asarray(x), size)), Tasks(u, weights, free, observed))
    starts = jnp.asarray(fit.b if starts is None else starts)
    problem = (fit.method, fit.layout.anatomy, fit.inventory, fit.model, fit.layout.arrays, penalty, tasks, starts)
    queue = _open(tasks, starts, jnp.asarray(count), _lanes(fit.layout.arrays, size))
    with Progress(progress, title) as show:
        try:
            while bool(jnp.any(queue.task < count)):
                queue = _advance(problem, queue, jnp.asarray(count), tolerance, max_evaluations)
                show.count(int(jnp.sum(queue.status[:count] != SEARCHING)), count)
        except KeyboardInterrupt:
            if not bool(jnp.any(queue.status[:count] != SEARCHING)):
                raise
    found = np.asarray(queue.u)[:count]
    return Fits(
        found,
        np.asarray(_natural(fit.inventory, fit.model, queue.u))[:count],
        *(np.asarray(x)[:count] for x in (queue.value, queue.gradient, queue.evaluations, queue.status, queue.modes)),
    )


def objectives(fit: Fit, u: np.ndarray, *, starts: np.ndarray | None = None) -> np.ndarray:
    """(R,) objective of ``fit``'s problem at each row of ``u`` (R, P), no search; NaN where it cannot be computed."""
    starts = jnp.asarray(fit.b if starts is None else starts)
    size = _capacity(len(u))
    lanes = _lanes(fit.layout.arrays, size)
    padded = jnp.asarray(_padded(np.asarray(u), size))
    problem = (fit.method, fit.layout.anatomy, fit.inventory, fit.model, fit.layout.arrays)
    return np.asarray(_objectives(*problem, padded, starts, lanes))[: len(u)]


@eqx.filter_jit
def _objectives(method, anatomy, inventory, model, arrays, u, starts, lanes: int):
    def at(u):
        found = evaluate_subjects(method, anatomy, inventory, model, arrays, u, starts, gradient=False)
        usable = jnp.all((found.status == SOLVED) & found.converged)
        return jnp.where(usable, jnp.sum(found.value), jnp.nan)

    return jax.lax.map(at, u, batch_size=lanes)


def _capacity(count: int) -> int:
    """Rows of the arrays: a power of two, so that tasks of similar number share one compiled program."""
    return max(32, 1 << (count - 1).bit_length())


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _lanes(arrays: Ragged, size: int) -> int:
    slots = sum(part.members.shape[0] * sum(np.shape(x)[-1] for x in (part.data.observed, part.data.timeline.time)) for part in arrays.parts)
    return int(np.clip(_SLOTS // max(slots, 1), 1, min(LANES, size)))


@eqx.filter_jit
def _open(tasks: Tasks, starts, count, lanes: int) -> _Queue:
    size = tasks.u.shape[0]
    task = jnp.where(jnp.arange(lanes) < count, jnp.arange(lanes), size)
    nothing, none = jnp.full(size, jnp.nan), jnp.zeros(size, int)
    return _Queue(
        search=jax.vmap(begin)(tasks.u[jnp.minimum(task, size - 1)]),
        b=jnp.broadcast_to(starts, (lanes, *starts.shape)),
        task=task,
        lost=jnp.zeros(lanes, int),
        upcoming=jnp.asarray(lanes),
        u=tasks.u,
        value=nothing,
        gradient=nothing,
        evaluations=none,
        status=jnp.full(size, SEARCHING),
        modes=none,
    )


@eqx.filter_jit
def _advance(problem, queue: _Queue, count, tolerance: float, limit: int) -> _Queue:
    """A few rounds: in each, every lane evaluates once, and lanes that have finished take the next fit."""
    tasks = problem[6]

    def one_round(state):
        rounds, queue = state
        row = jnp.minimum(queue.task, tasks.u.shape[0] - 1)
        search, b, lost = jax.vmap(lambda search, row, b, lost: _step(problem, search, row, b, lost, tolerance, limit))(
            queue.search, row, queue.b, queue.lost
        )
        return rounds + 1, _hand_out(queue._replace(search=search, b=b, lost=lost), tasks, problem[7], count)

    def going(state):
        rounds, queue = state
        return (rounds < _ROUNDS) & jnp.any(queue.task < count)

    return jax.lax.while_loop(going, one_round, (0, queue))[1]


def _step(problem, search: Search, row, b, lost, tolerance, limit):
    """One evaluation of one lane."""
    method, anatomy, inventory, model, arrays, penalty, tasks, _ = problem
    weights, free = tasks.weights[row], tasks.free[row]
    counts = weights > 0
    if tasks.observed is not None:
        arrays = with_observed(arrays, [values[row] for values in tasks.observed])
    u = jnp.where(free, propose(search), tasks.u[row])
    at = evaluate_subjects(method, anatomy, inventory, model, arrays, u, b)
    solved = at.status == SOLVED
    # a subject that does not count may fail without harm
    value = jnp.sum(jnp.where(counts, weights * at.value, 0.0))
    slopes = jnp.where(counts[:, None], at.gradient, 0.0) * free
    gradient = weights @ slopes
    if penalty is not None:
        extra, slope = jax.value_and_grad(lambda u: penalty(inventory.at_unconstrained(model, u)))(u)
        value, gradient = value + extra, gradient + slope * free
    value = jnp.where(jnp.all(solved | ~counts), value, jnp.nan)
    scores = jnp.sqrt(weights)[:, None] * slopes
    search, accepted = absorb(search, value, gradient, scores, tolerance, limit)
    return (
        search,
        jnp.where(accepted, at.b, b),
        jnp.where(accepted, jnp.sum(counts & ~at.converged), lost),
    )


def _hand_out(queue: _Queue, tasks: Tasks, starts, count) -> _Queue:
    """Results of the lanes that have finished, and their next fits."""
    size = tasks.u.shape[0]
    search = queue.search
    done = (search.status != SEARCHING) & (queue.task < count)
    where = jnp.where(done, queue.task, size)  # out of bounds: dropped

    def write(results, values):
        return results.at[where].set(values, mode="drop")

    following = queue.upcoming + jnp.cumsum(done) - 1
    task = jnp.where(done, jnp.where(following < count, following, size), queue.task)
    fresh = jax.vmap(begin)(tasks.u[jnp.minimum(task, size - 1)])

    def renewed(new, old):
        return jnp.where(done.reshape(done.shape + (1,) * (old.ndim - 1)), new, old)

    row = jnp.minimum(queue.task, size - 1)
    return queue._replace(
        search=jax.tree.map(renewed, fresh, search),
        b=renewed(starts[None], queue.b),
        task=task,
        lost=renewed(0, queue.lost),
        upcoming=queue.upcoming + jnp.sum(done),
        u=write(queue.u, jnp.where(tasks.free[row], search.x, tasks.u[row])),
        value=write(queue.value, search.value),
        gradient=write(queue.gradient, jnp.max(jnp.abs(search.gradient), axis=1)),
        evaluations=write(queue.evaluations, search.evaluations),
        status=write(queue.status, search.status),
        modes=write(queue.modes, queue.lost),
    )


def with_observed(arrays: Ragged, observed) -> Ragged:
    """The same subjects with other observations, given by size class."""
    return eqx.tree_at(lambda a: [part.data.observed for part in a.parts], arrays, list(observed))


@eqx.filter_jit
def _natural(inventory, model, u):
    return jax.vmap(lambda u: inventory.natural(inventory.at_unconstrained(model, u)))(u)
