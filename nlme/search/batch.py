"""Many whole fits of one model, their evaluations side by side in one compiled program.

A fit is one row of ``Tasks``: where it starts, how often each subject counts, which parameters move, and (optionally) data of its
own.  Searches (``nlme.search.quasi_newton``) run in a number of lanes at once; a lane that has finished its fit writes the
result and takes the next one from the queue, so that no lane waits for the slowest fit.  For the same reason the modes of a lane
are searched a few iterations a round: a lane whose subjects are not there yet carries on in the next round, while the others take
their steps.  The objective of fit r is

    sum_i weights[r, i] OFV_i(u)  +  sum_k strengths[r, k] penalty_k(model at u)

and its first metric weights the subjects' scores likewise.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SOLVED
from nlme.errors import FitError, ModelError
from nlme.execution.executors import carried_out, require_executor
from nlme.language.anatomy import Anatomy
from nlme.language.ragged import Ragged, cores, over_subjects
from nlme.marginal.mode import ModeSearch, begin_mode, unfinished
from nlme.marginal.objective import evaluate_subjects
from nlme.marginal.subjects import after_search
from nlme.search.checkpoint import Checkpoint, fingerprint_of
from nlme.search.problem import Penalty, Problem, padded, penalty_at
from nlme.search.progress import Progress
from nlme.search.quasi_newton import (
    CONVERGED,
    SEARCHING,
    SENTENCES,
    Answer,
    Search,
    absorb,
    arrays_of,
    begin,
    require_limits,
    search_from,
)

_LANES = 64  # most fits under way at once in one queue
# Events and samples of all lanes together: on a CPU what its caches hold (phenobarbital, 200 fits: 1.3 s in 2 lanes, 3 s in 32)
_SLOTS = {"cpu": 3_000}
_SLOTS_ELSEWHERE = 2_000_000
_TURNS, _LARGEST = 8, 64  # fits of a batch: so many for each lane, at most so many on a CPU
_LEAST, _BATCHES = 8, 16  # fewer, so that there are this many batches, but no fewer than the least
_INNER = 4  # iterations of the searches for modes in one round
_ROUNDS = 50  # evaluations of the objective between two looks from outside


class Tasks(NamedTuple):
    """R fits of one model to N subjects in P parameters."""

    u: np.ndarray  # (R, P) starting points, unconstrained
    weights: np.ndarray  # (R, N)
    free: np.ndarray  # (R, P) a parameter that is not free stays where it starts
    strengths: np.ndarray  # (R, K) of the penalties
    observed: tuple[np.ndarray, ...] | None = None  # by size class (R, n, T), in place of the observations


@dataclasses.dataclass
class _Lane:
    """One fit under way."""

    task: int
    search: Search
    b: np.ndarray  # (N, q) modes at the last accepted point
    modes: ModeSearch  # of N subjects, at the proposed point
    lost: int = 0  # subjects that count and have no reliable mode at the last accepted point


@dataclasses.dataclass
class _Queue:
    """The fits of one batch: those under way, and what the others came to."""

    lanes: list[_Lane]
    upcoming: int
    u: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    evaluations: np.ndarray
    status: np.ndarray
    modes: np.ndarray

    @property
    def done(self) -> int:
        return int(np.sum(self.status != SEARCHING))

    @property
    def results(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in _RESULTS}


_RESULTS = ("u", "value", "gradient", "evaluations", "status", "modes")


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
    interrupted : whether Ctrl-C ended the work; fits under way or not begun have the status SEARCHING
    """

    u: np.ndarray
    natural: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray
    evaluations: np.ndarray
    status: np.ndarray
    modes: np.ndarray
    interrupted: bool = False

    def whole(self) -> Fits:
        """These fits, for those who decide by them or go on to other work: a Ctrl-C that ended them goes on its way.

        Raises
        ------
        KeyboardInterrupt
            They were interrupted.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        return self

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
    penalties: tuple[Penalty, ...] | None = None,
    strengths: np.ndarray | None = None,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    progress: bool | None = None,
    title: str = "fits",
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: float = 30.0,
    executor: Any = None,
    lanes: int | None = None,
) -> Fits:
    """Run the fits of ``problem`` that the arguments describe.

    Parameters
    ----------
    u : (R, P) starting points in the unconstrained parameters of ``problem.inventory``
    starts : (N, q) where the searches for modes begin
    weights : (R, N) how often each subject counts; once by default
    free : (R, P) parameters that move; all by default
    observed : by size class of ``problem.layout.arrays``, (R, n, T) observations in place of the data's own
    penalties, strengths : functions of the model, and (R, K) how much each counts in each fit; the problem's own by default
    checkpoint : file in which finished fits and those under way are kept; where it exists they go on from it, to the same result
    checkpoint_every : seconds between two writings of it
    executor : who does the batches: a ``concurrent.futures`` executor or a Dask client; by default the threads of this process.  What is
        found is the same
    lanes : fits side by side, those of an earlier call whose compiled program these share (see ``lanes_of``); as many as pay by default

    Interrupting (Ctrl-C) returns what has been found, ``interrupted``; fits that had not ended say so.  Where none had ended it goes through.

    Raises
    ------
    ModelError
        A mixture of subpopulations, random effects above the subject.
    FitError
        The checkpoint is not one, or belongs to other fits.
    """
    require_executor(executor)
    require_limits(title, tolerance, max_evaluations)
    layout = problem.layout
    if layout.anatomy.mixture:
        raise ModelError("Fits of a mixture of subpopulations do not run side by side yet; run them one by one with nlme.fit.")
    refuse_sites(layout.anatomy)
    count = len(u)
    weights = np.ones((count, layout.n_subjects)) if weights is None else np.asarray(weights, float)
    free = np.ones(u.shape, bool) if free is None else np.asarray(free, bool)
    if penalties is None:
        penalties = () if problem.penalty is None else (problem.penalty,)
    strengths = np.ones((count, len(penalties))) if strengths is None else np.asarray(strengths, float)
    tasks, starts = Tasks(np.asarray(u, float), weights, free, strengths, observed), np.asarray(starts)
    file = saved = None
    if checkpoint is not None:
        described = ("batches", tolerance, max_evaluations, *map(np.asarray, jax.tree.leaves((tasks, starts))))
        file = Checkpoint(checkpoint, fingerprint_of(problem, *described, penalties=penalties), checkpoint_every)
        saved = file.read()
    if saved is None:
        size, own = _division(layout.arrays, count)
        width = lanes or own
    else:
        size, width = int(saved["size"]), int(saved["lanes"])
    batches = -(-count // size)
    shares = [np.arange(k, count, batches) for k in range(batches)]
    work = _Work(problem, starts, penalties, width, tolerance, max_evaluations)
    rows = [jax.tree.map(lambda x: np.asarray(x)[share], tasks) for share in shares]  # noqa: B023 (used at once)
    queues = {k: work.of(rows[k]).queue_from(saved, k) for k in range(batches) if saved is not None and f"{k}/u" in saved}

    def keep():
        if file is not None:
            arrays = {f"{k}/{name}": x for k, queue in queues.items() for name, x in _arrays_of(queue).items()}
            file.write({"lanes": np.asarray(width), "size": np.asarray(size), **arrays})

    interrupted = False
    with Progress(progress, title) as show:
        try:
            for _ in _here(work, rows, queues) if executor is None else _elsewhere(work, rows, queues, executor):
                show.count(sum(queue.done for queue in queues.values()), count)
                if file is not None and file.due:
                    keep()
            keep()
        except KeyboardInterrupt:
            keep()
            if not any(queue.done for queue in queues.values()):
                raise
            interrupted = True
        except FitError:  # no worker goes on
            keep()
            raise
    order = np.argsort(np.concatenate(shares))
    ended = [queues[k] if k in queues else work.of(rows[k]).opened() for k in range(batches)]
    found = {name: np.concatenate([getattr(queue, name) for queue in ended])[order] for name in _RESULTS}
    u = found.pop("u")
    return Fits(u, problem.natural(u), found.pop("value"), **found, interrupted=interrupted)


def lanes_of(problem: Problem, count: int) -> int:
    """How many of ``count`` fits ``run_fits`` runs side by side."""
    return _division(problem.layout.arrays, count)[1]


def _here(work: _Work, rows: list[Tasks], queues: dict[int, _Queue]) -> Iterator[None]:
    """The batches by the threads of this process, one for each core of a CPU; comes back after some rounds of all.

    Never by the thread that Ctrl-C interrupts: it would leave a round half done, and what is kept would not go on to the same result.
    """
    stop, first = threading.Event(), True
    fits = [work.of(own) for own in rows]
    with ThreadPoolExecutor(_threads()) as pool:
        while open_ := [k for k in range(len(rows)) if k not in queues or queues[k].lanes][: _threads()]:
            for k in open_:
                queues.setdefault(k, fits[k].opened())
            if first:  # alone, so that the program is compiled once
                first = False
                _await([pool.submit(fits[open_[0]].advance, queues[open_[0]], 1, stop)], stop)
            _await([pool.submit(fits[k].advance, queues[k], _ROUNDS, stop) for k in open_], stop)
            yield


def _await(running: list[Future], stop: threading.Event) -> None:
    """Come back when all have ended; at Ctrl-C, which stops them, with their rounds done."""
    try:
        for future in running:
            future.result()
    except KeyboardInterrupt:
        stop.set()
        wait(running)
        raise


def _elsewhere(work: _Work, rows: list[Tasks], queues: dict[int, _Queue], executor: Any) -> Iterator[None]:
    """The batches by an executor; comes back after every batch."""
    left = {k: own for k, own in enumerate(rows) if k not in queues or queues[k].lanes}
    for k, found in carried_out(work, left, executor):
        queues[k] = _Queue([], len(rows[k].u), **found)
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """What the batches have in common: called with the tasks of one, it gives what they came to."""

    problem: Problem
    starts: np.ndarray
    penalties: tuple[Penalty, ...]
    lanes: int
    tolerance: float
    limit: int

    def of(self, tasks: Tasks) -> _Fits:
        return _Fits(self.problem, tasks, self.starts, self.penalties, self.lanes, self.tolerance, self.limit)

    def __call__(self, tasks: Tasks) -> dict[str, np.ndarray]:
        fits, never = self.of(tasks), threading.Event()
        queue = fits.opened()
        with _FIRST:  # threads compile it once
            fits.advance(queue, 1, never)
        while queue.lanes:
            fits.advance(queue, _ROUNDS, never)
        return queue.results


_FIRST = threading.Lock()


class _Fits:
    """The fits of one batch: what they are of."""

    def __init__(self, problem: Problem, tasks: Tasks, starts: np.ndarray, penalties, lanes: int, tolerance: float, limit: int):
        self.problem, self.tasks, self.starts, self.penalties = problem, tasks, starts, penalties
        self.width, self.tolerance, self.limit = lanes, tolerance, limit
        self._fresh = jax.tree.map(np.asarray, _begun(jnp.asarray(starts)))

    def opened(self) -> _Queue:
        size = len(self.tasks.u)
        nothing, none = np.full(size, np.nan), np.zeros(size, int)
        queue = _Queue([], 0, self.tasks.u.copy(), nothing, nothing.copy(), none, np.full(size, SEARCHING), none.copy())
        while len(queue.lanes) < min(self.width, size):
            queue.lanes.append(self._next(queue))
        return queue

    def _next(self, queue: _Queue) -> _Lane:
        task, queue.upcoming = queue.upcoming, queue.upcoming + 1
        free = self.tasks.free[task]
        return _Lane(
            task,
            begin(
                self.tasks.u[task][free],
                self.problem.farthest[free],
                self.problem.layout.n_subjects,
                self.problem.inventory.linear[free],
            ),
            self.starts,
            self._fresh,
        )

    def advance(self, queue: _Queue, rounds: int, stop: threading.Event) -> None:
        """A few rounds: in each, every lane evaluates once, and lanes that have finished take the next fit."""
        for _ in range(rounds):
            if not queue.lanes or stop.is_set():
                return
            self._round(queue)
            for lane in [lane for lane in queue.lanes if lane.search.status != SEARCHING]:
                self._write(queue, lane)
                place = queue.lanes.index(lane)
                if queue.upcoming < len(self.tasks.u):
                    queue.lanes[place] = self._next(queue)
                else:
                    del queue.lanes[place]

    def _round(self, queue: _Queue) -> None:
        problem, tasks, lanes = self.problem, self.tasks, queue.lanes
        shown = lanes + lanes[-1:] * (self.width - len(lanes))  # as many as the program has
        rows = [lane.task for lane in shown]
        trials = np.stack([self._trial(lane) for lane in shown])
        modes = jax.tree.map(lambda *x: np.stack(x), *(lane.modes for lane in shown))
        observed = None if tasks.observed is None else [values[rows] for values in tasks.observed]
        traced = (problem.method, problem.layout.anatomy, problem.every, problem.model, problem.layout.arrays, self.penalties)
        lanes_own = (problem.among_all(trials), tasks.weights[rows] > 0, tasks.strengths[rows], observed, modes)
        found = jax.tree.map(np.asarray, _evaluate(*traced, *lanes_own))
        values, slopes, *penalty, modes, ready = found
        for k, lane in enumerate(lanes):
            lane.modes = jax.tree.map(lambda x: x[k], modes)  # noqa: B023 (used at once)
            if ready[k]:
                self._absorb(lane, values[k], slopes[k], *(x[k] for x in penalty))

    def _trial(self, lane: _Lane) -> np.ndarray:
        trial = self.tasks.u[lane.task].copy()
        trial[self.tasks.free[lane.task]] = lane.search.proposal
        return trial

    def _absorb(self, lane: _Lane, values, slopes, extra, slope, curved) -> None:
        weights, free = self.tasks.weights[lane.task], self.problem.inventory.free[self.tasks.free[lane.task]]
        counts = weights > 0  # a subject that does not count may fail without harm
        own, weight = slopes[counts][:, free], weights[counts]
        value, gradient = float(weight @ values[counts] + extra), weight @ own + slope[free]
        found = Answer(value, gradient, np.sqrt(weight)[:, None] * own, curved[free])
        if absorb(lane.search, found, self.tolerance, self.limit):
            lane.b = lane.modes.b
            lane.lost = int(np.sum(counts & (lane.modes.decrement > self.problem.method.inner_tolerance)))
        lane.modes = jax.tree.map(np.asarray, _begun(jnp.asarray(lane.b)))

    def _write(self, queue: _Queue, lane: _Lane) -> None:
        search, task = lane.search, lane.task
        queue.u[task, self.tasks.free[task]] = search.x
        queue.value[task], queue.gradient[task] = search.value, np.max(np.abs(search.gradient), initial=0.0)
        queue.evaluations[task], queue.status[task], queue.modes[task] = search.evaluations, search.status, lane.lost

    def queue_from(self, saved: dict[str, np.ndarray], k: int) -> _Queue:
        """The queue that ``_arrays_of`` wrote as the k-th."""
        own = {name.split("/", 1)[1]: x for name, x in saved.items() if name.startswith(f"{k}/")}
        queue = self.opened()
        for name in _RESULTS:
            setattr(queue, name, own[name])
        queue.upcoming, queue.lanes = int(own["upcoming"]), []
        leaves, shape = jax.tree.flatten(self._fresh)
        for j, task in enumerate(own["tasks"][:-1]):
            parts = {name.removeprefix(f"lane{j}/"): x for name, x in own.items() if name.startswith(f"lane{j}/")}
            modes = jax.tree.unflatten(shape, [parts[f"modes{i}"] for i in range(len(leaves))])
            queue.lanes.append(_Lane(int(task), search_from(parts), parts["b"], modes, int(parts["lost"])))
        return queue


def _arrays_of(queue: _Queue) -> dict[str, np.ndarray]:
    """Everything the queue holds, by name: what ``_Fits.queue_from`` reads."""
    tasks = np.array([*(lane.task for lane in queue.lanes), -1])
    found = queue.results | {"upcoming": np.asarray(queue.upcoming), "tasks": tasks}
    for j, lane in enumerate(queue.lanes):
        modes = {f"modes{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(lane.modes))}
        parts = {"b": lane.b, "lost": np.asarray(lane.lost), **modes, **arrays_of(lane.search)}
        found |= {f"lane{j}/{name}": x for name, x in parts.items()}
    return found


@eqx.filter_jit
def _begun(b) -> ModeSearch:
    return jax.vmap(begin_mode)(b)


@eqx.filter_jit
def _evaluate(method, anatomy, inventory, model, arrays, penalties, u, counts, strengths, observed, modes):
    """Every lane's objectives and slopes by subject, penalty with its slope, searches for modes, and whether these have ended."""

    def of_lane(u, counts, strengths, observed, modes):
        own = arrays if observed is None else with_observed(arrays, observed)

        def objective(u, data, modes):
            return after_search(method, anatomy, inventory.at_unconstrained(model, u), data, modes, _INNER)

        derived = jax.value_and_grad(objective, has_aux=True)
        ((values, modes), slopes), _ = over_subjects(lambda data, modes: (derived(u, data, modes), ()), own, modes)
        ready = ~jnp.any(counts & unfinished(modes, method.inner_tolerance, method.inner_iterations))
        extra = penalty_at(None, inventory, model, u)
        for k, penalty in enumerate(penalties):
            extra = jax.tree.map(lambda a, b: a + strengths[k] * b, extra, penalty_at(penalty, inventory, model, u))  # noqa: B023
        return values, slopes, *extra, modes, ready

    return jax.vmap(of_lane)(u, counts, strengths, observed, modes)


def _division(arrays: Ragged, count: int) -> tuple[int, int]:
    """Fits in a batch and lanes that work them off, the same whoever does them and however many do."""
    lanes = _lanes(arrays, count)
    size = 2 * lanes
    if jax.default_backend() == "cpu":
        size = max(1, min(_TURNS * lanes, _LARGEST, max(_LEAST, -(-count // _BATCHES))))
    return size, min(lanes, -(-count // -(-count // size)))  # no more than the fits of a batch


def _threads() -> int:
    return cores() if jax.default_backend() == "cpu" else 1


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
    return np.sum(objectives_by_subject(problem, u, starts), axis=1)


def objectives_by_subject(problem: Problem, u: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """(R, N) every subject's part of ``objectives``; NaN where it cannot be computed."""
    layout = problem.layout
    refuse_sites(layout.anatomy)
    rows = padded(u)
    traced = (problem.method, layout.anatomy, problem.every, problem.model, layout.arrays)
    lanes = _lanes(layout.arrays, len(rows))
    return np.asarray(_objectives(*traced, problem.among_all(rows), jnp.asarray(starts), lanes))[: len(u)]


@eqx.filter_jit
def _objectives(method, anatomy, inventory, model, arrays, u, starts, lanes: int):
    def at(u):
        found = evaluate_subjects(method, anatomy, inventory, model, arrays, u, starts, gradient=False)
        return jnp.where((found.status == SOLVED) & found.converged, found.value, jnp.nan)

    return jax.lax.map(at, u, batch_size=lanes)


def _lanes(arrays: Ragged, size: int) -> int:
    slots = sum(sum(np.size(x) for x in (part.data.observed, part.data.timeline.time)) for part in arrays.parts)
    return int(np.clip(_SLOTS.get(jax.default_backend(), _SLOTS_ELSEWHERE) // max(slots, 1), 1, min(_LANES, size)))


def with_observed(arrays: Ragged, observed) -> Ragged:
    """The same subjects with other observations, given by size class."""
    return eqx.tree_at(lambda a: [part.data.observed for part in a.parts], arrays, list(observed))
