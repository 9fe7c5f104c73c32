"""Many whole fits of one model in one compiled program.

A fit is one row of ``Tasks``: where it starts, how often each subject counts, which parameters move, and (optionally) data of its
own.  The search of ``nlme.search.quasi_newton`` runs in a number of lanes at once; a lane that has finished its fit writes the
result and takes the next one from the queue, so that no lane waits for the slowest fit.  For the same reason the modes of a lane
are searched a few iterations a round: a lane whose subjects are not there yet carries on in the next round, while the others take
their steps.  The program comes up for air every few rounds, for progress and interrupts.  The objective of fit r is

    sum_i weights[r, i] OFV_i(u)  +  penalty(model at u)

and its first metric weights the subjects' scores likewise.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.solvers import SOLVED
from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.ragged import Ragged, cores, over_subjects
from nlme.marginal.mode import ModeSearch, begin_mode, unfinished
from nlme.marginal.objective import evaluate_subjects
from nlme.marginal.subjects import after_search
from nlme.search.checkpoint import Checkpoint, fingerprint_of
from nlme.search.problem import Problem
from nlme.search.progress import Progress
from nlme.search.quasi_newton import CONVERGED, RAN_AWAY, SEARCHING, SENTENCES, Search, absorb, begin, propose

_LANES = 64  # most fits under way at once in one queue
# Events and samples of all lanes together: on a CPU what its caches hold (phenobarbital, 200 fits: 1.3 s in 2 lanes, 3 s in 32)
_SLOTS = {"cpu": 3_000}
_SLOTS_ELSEWHERE = 2_000_000
_SHARE = 8  # fits for which a queue of its own is worth while, one queue for each core of a CPU
_INNER = 4  # iterations of the searches for modes in one round
_AWAY = 100.0  # from the start, in unconstrained (log-like) parameters: the search is on its way to infinity
_ROUNDS = 50  # evaluations of the objective between two looks from outside


class Tasks(NamedTuple):
    """R fits of one model to N subjects in P parameters."""

    u: Float[Array, "R P"]  # starting points, unconstrained
    weights: Float[Array, "R N"]
    free: Bool[Array, "R P"]  # a parameter that is not free stays where it starts
    observed: tuple[Float[Array, "R n T"], ...] | None = None  # by size class, in place of the observations


class _Lane(NamedTuple):
    """One fit under way."""

    search: Search
    b: Float[Array, "N q"]  # modes at the last accepted point
    modes: ModeSearch  # of N subjects, at the proposed point
    lost: Int[Array, ""]  # subjects that count and have no reliable mode at the last accepted point


class _Queue(NamedTuple):
    lanes: _Lane  # L of them
    task: Int[Array, " L"]  # R: the lane is idle
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
    status : (R,) how each search ended, see ``nlme.search.quasi_newton.SENTENCES``
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


def run_fits(
    problem: Problem,
    u: np.ndarray,
    *,
    starts: np.ndarray,
    weights: np.ndarray | None = None,
    free: np.ndarray | None = None,
    observed: tuple[np.ndarray, ...] | None = None,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    progress: bool | None = None,
    title: str = "fits",
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 30.0,
) -> Fits:
    """Run the fits of ``problem`` that the arguments describe.

    Parameters
    ----------
    u : (R, P) starting points in the unconstrained parameters of ``problem.inventory``
    starts : (N, q) where the searches for modes begin
    weights : (R, N) how often each subject counts; once by default
    free : (R, P) parameters that move; all by default
    observed : by size class of ``problem.layout.arrays``, (R, n, T) observations in place of the data's own
    checkpoint : file in which finished fits and those under way are kept; where it exists they go on from it, to the same result
    checkpoint_every : seconds between two writings of it

    Interrupting (Ctrl-C) returns what has been found; fits that had not ended say so.

    Raises
    ------
    ModelError
        A mixture of subpopulations, random effects above the subject.
    FitError
        The checkpoint is not one, or belongs to other fits.
    """
    layout = problem.layout
    if layout.anatomy.mixture:
        raise ModelError("Fits of a mixture of subpopulations do not run side by side yet; run them one by one with nlme.fit.")
    refuse_sites(layout.anatomy)
    count = len(u)
    weights = np.ones((count, layout.n_subjects)) if weights is None else np.asarray(weights, float)
    free = np.ones(u.shape, bool) if free is None else np.asarray(free, bool)
    tasks = Tasks(np.asarray(u), weights, free, observed)
    starts = jnp.asarray(starts)
    traced = (problem.method, layout.anatomy, problem.inventory, problem.model, layout.arrays, problem.penalty)
    file = saved = None
    if checkpoint is not None:
        described = (tolerance, max_evaluations, *map(np.asarray, jax.tree.leaves((tasks, starts))))
        found = fingerprint_of(problem, *described)
        file = Checkpoint(checkpoint, found, checkpoint_every)
        saved = file.read()
    n_queues = _queues(count) if saved is None else int(saved["queues"])  # as when it began, on a machine with other cores too
    shares = [np.arange(k, count, n_queues) for k in range(n_queues)]
    size = _capacity(len(shares[0]))
    lanes = _lanes(layout.arrays, size) if saved is None else int(saved["lanes"])
    queues = []
    for k, share in enumerate(shares):
        own = jax.tree.map(lambda x: jnp.asarray(_padded(np.asarray(x)[share], size)), tasks)  # noqa: B023 (used at once)
        queue = _open(own, starts, jnp.asarray(len(share)), lanes)
        queues.append((own, jnp.asarray(len(share)), queue if saved is None else _queue_from(saved, k, queue)))

    limits = (jnp.asarray(tolerance), jnp.asarray(max_evaluations))  # arrays, so that other limits need no other program

    def keep():
        if file is not None:
            file.write({"lanes": lanes, "queues": n_queues, **_arrays_of([queue for _, _, queue in queues])})

    def advanced(tasks, own, queue):
        return tasks, own, jax.block_until_ready(_advance(traced, tasks, starts, queue, own, *limits))

    with Progress(progress, title) as show, ThreadPoolExecutor(len(queues)) as pool:
        try:
            queues[0] = advanced(*queues[0])  # alone, so that the program is compiled once
            while any(bool(jnp.any(queue.task < own)) for _, own, queue in queues):
                queues = list(pool.map(lambda q: advanced(*q), queues))
                show.count(sum(int(jnp.sum(queue.status[:own] != SEARCHING)) for _, own, queue in queues), count)
                if file is not None and file.due:
                    keep()
            keep()
        except KeyboardInterrupt:
            keep()
            if not any(bool(jnp.any(queue.status != SEARCHING)) for _, _, queue in queues):
                raise
    order = np.argsort(np.concatenate(shares))

    def gathered(name):
        pieces = [np.asarray(getattr(queue, name))[: int(own)] for _, own, queue in queues]
        return np.concatenate(pieces)[order]

    found = gathered("u")
    natural = np.asarray(_natural(problem.inventory, problem.model, jnp.asarray(_padded(found, _capacity(count)))))[:count]
    return Fits(found, natural, *(gathered(name) for name in ("value", "gradient", "evaluations", "status", "modes")))


def _arrays_of(queues: list[_Queue]) -> dict[str, np.ndarray]:
    """Everything the queues hold, by number: what ``_queue_from`` reads."""
    return {f"{k}/{i}": np.asarray(x) for k, queue in enumerate(queues) for i, x in enumerate(jax.tree.leaves(queue))}


def _queue_from(saved: dict[str, np.ndarray], k: int, fresh: _Queue) -> _Queue:
    leaves, shape = jax.tree.flatten(fresh)
    return jax.tree.unflatten(shape, [jnp.asarray(saved[f"{k}/{i}"]) for i in range(len(leaves))])


def _queues(count: int) -> int:
    if jax.default_backend() != "cpu":
        return 1
    return int(np.clip(count // _SHARE, 1, cores()))


def refuse_sites(anatomy: Anatomy) -> None:
    """Refuse many fits or evaluations of a model with a level above the subject."""
    if anatomy.by_site:
        raise ModelError(
            f"Fits with random effects per {anatomy.above} do not run side by side (bootstrap, profile likelihood, several "
            f"starts, importance resampling); run them one by one with nlme.fit, whole sites resampled, and see fit.covariance."
        )


def objectives(problem: Problem, u: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(R,) objective of ``problem``, penalty left out, at each row of ``u`` (R, P); NaN where it cannot be computed.

    ``starts`` (N, q) begin the searches for modes.
    """
    layout = problem.layout
    refuse_sites(layout.anatomy)
    size = _capacity(len(u))
    lanes = _lanes(layout.arrays, size)
    padded = jnp.asarray(_padded(np.asarray(u), size))
    traced = (problem.method, layout.anatomy, problem.inventory, problem.model, layout.arrays)
    return np.asarray(_objectives(*traced, padded, jnp.asarray(starts), lanes))[: len(u)]


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
    slots = sum(sum(np.size(x) for x in (part.data.observed, part.data.timeline.time)) for part in arrays.parts)
    return int(np.clip(_SLOTS.get(jax.default_backend(), _SLOTS_ELSEWHERE) // max(slots, 1), 1, min(_LANES, size)))


def _fresh(u, starts) -> _Lane:
    return _Lane(begin(u), starts, jax.vmap(begin_mode)(starts), jnp.zeros((), int))


@eqx.filter_jit
def _open(tasks: Tasks, starts, count, lanes: int) -> _Queue:
    size = tasks.u.shape[0]
    task = jnp.where(jnp.arange(lanes) < count, jnp.arange(lanes), size)
    nothing, none = jnp.full(size, jnp.nan), jnp.zeros(size, int)
    queue = _Queue(
        lanes=jax.vmap(_fresh, (0, None))(tasks.u[jnp.minimum(task, size - 1)], starts),
        task=task,
        upcoming=jnp.asarray(lanes),
        u=tasks.u,
        value=nothing,
        gradient=nothing,
        evaluations=none,
        status=jnp.full(size, SEARCHING),
        modes=none,
    )
    # no weak types: a queue read from a checkpoint has none, and shall run the same program
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), queue)


@eqx.filter_jit
def _advance(traced, tasks: Tasks, starts, queue: _Queue, count, tolerance, limit) -> _Queue:
    """A few rounds: in each, every lane evaluates once, and lanes that have finished take the next fit."""

    def one_round(state):
        rounds, queue = state
        row = jnp.minimum(queue.task, tasks.u.shape[0] - 1)
        lanes = jax.vmap(lambda lane, row: _step(traced, tasks, lane, row, tolerance, limit))(queue.lanes, row)
        return rounds + 1, _hand_out(queue._replace(lanes=lanes), tasks, starts, count)

    def going(state):
        rounds, queue = state
        return (rounds < _ROUNDS) & jnp.any(queue.task < count)

    return jax.lax.while_loop(going, one_round, (0, queue))[1]


def _step(traced, tasks: Tasks, lane: _Lane, row, tolerance, limit) -> _Lane:
    """One evaluation of one lane, and one step of its search if its modes are found."""
    method, anatomy, inventory, model, arrays, penalty = traced
    weights, free = tasks.weights[row], tasks.free[row]
    counts = weights > 0  # a subject that does not count may fail without harm
    if tasks.observed is not None:
        arrays = with_observed(arrays, [values[row] for values in tasks.observed])
    u = jnp.where(free, propose(lane.search), tasks.u[row])

    def objective(u, data, modes):
        return after_search(method, anatomy, inventory.at_unconstrained(model, u), data, modes, _INNER)

    derived = jax.value_and_grad(objective, has_aux=True)
    ((values, modes), slopes), _ = over_subjects(lambda data, modes: (derived(u, data, modes), ()), arrays, lane.modes)
    ready = ~jnp.any(counts & unfinished(modes, method.inner_tolerance, method.inner_iterations))

    value = jnp.sum(jnp.where(counts, weights * values, 0.0))
    slopes = jnp.where(counts[:, None], slopes, 0.0) * free
    gradient = weights @ slopes
    if penalty is not None:
        extra, slope = jax.value_and_grad(lambda u: penalty(inventory.at_unconstrained(model, u)))(u)
        value, gradient = value + extra, gradient + slope * free
    search, accepted = absorb(lane.search, value, gradient, jnp.sqrt(weights)[:, None] * slopes, tolerance, limit)
    away = (search.status == SEARCHING) & jnp.any(jnp.abs(search.x - tasks.u[row]) > _AWAY)
    search = search._replace(status=jnp.where(away, RAN_AWAY, search.status))
    b = jnp.where(accepted, modes.b, lane.b)
    lost = jnp.sum(counts & (modes.decrement > method.inner_tolerance))
    taken = _Lane(search, b, jax.vmap(begin_mode)(b), jnp.where(accepted, lost, lane.lost))
    return jax.tree.map(lambda a, b: jnp.where(ready, a, b), taken, lane._replace(modes=modes))


def _hand_out(queue: _Queue, tasks: Tasks, starts, count) -> _Queue:
    """Results of the lanes that have finished, and their next fits."""
    size = tasks.u.shape[0]
    search = queue.lanes.search
    done = (search.status != SEARCHING) & (queue.task < count)
    where = jnp.where(done, queue.task, size)  # out of bounds: dropped

    def write(results, values):
        return results.at[where].set(values, mode="drop")

    following = queue.upcoming + jnp.cumsum(done) - 1
    task = jnp.where(done, jnp.where(following < count, following, size), queue.task)
    fresh = jax.vmap(_fresh, (0, None))(tasks.u[jnp.minimum(task, size - 1)], starts)

    def renewed(new, old):
        return jnp.where(done.reshape(done.shape + (1,) * (old.ndim - 1)), new, old)

    row = jnp.minimum(queue.task, size - 1)
    return queue._replace(
        lanes=jax.tree.map(renewed, fresh, queue.lanes),
        task=task,
        upcoming=queue.upcoming + jnp.sum(done),
        u=write(queue.u, jnp.where(tasks.free[row], search.x, tasks.u[row])),
        value=write(queue.value, search.value),
        gradient=write(queue.gradient, jnp.max(jnp.abs(search.gradient), axis=1)),
        evaluations=write(queue.evaluations, search.evaluations),
        status=write(queue.status, search.status),
        modes=write(queue.modes, queue.lanes.lost),
    )


def with_observed(arrays: Ragged, observed) -> Ragged:
    """The same subjects with other observations, given by size class."""
    return eqx.tree_at(lambda a: [part.data.observed for part in a.parts], arrays, list(observed))


@eqx.filter_jit
def _natural(inventory, model, u):
    return jax.vmap(lambda u: inventory.natural(inventory.at_unconstrained(model, u)))(u)
