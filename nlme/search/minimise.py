"""One search from one start: the parameters by ``nlme.search.quasi_newton``, the modes of the subjects at every point of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

import numpy as np

from nlme.marginal.subjects import Evaluation
from nlme.search.boundary import off_the_edge
from nlme.search.problem import Problem
from nlme.search.quasi_newton import BAD_START, CONVERGED, NO_DECREASE, SEARCHING, Answer, Search, absorb, begin, corrected

_APART = 1e-4  # two modes, if their densities or objectives differ by this much
_EQUAL = (
    0.05  # log densities of two modes that differ by less: that of the lower objective counts, or no search ends between them
)
_OF_GAIN = 1e-6  # inner tolerance, of the gain in the objective that the next step promises
_MUCH_LOOSER = 1e3
_ROUNDS = 8  # of the search, each ended by a search for better modes
_REFUSED = 2  # trials that rose, near the end, after which better modes are looked for
_OTHER_MODE = 0.05  # standard deviations between two modes
_LITTLE_TO_GAIN = 1.0  # in the objective
_LITTLE = 0.1  # the same; after less of it modes that were the likeliest are taken still to be
_PLACES = 8  # from which modes are searched that nothing has found yet


@dataclasses.dataclass
class Minimum:
    """Where a search stands or ended.

    Attributes
    ----------
    search : its state; ``search.x`` are the unconstrained parameters, ``search.value`` the objective with its penalty
    at : the evaluation there
    history : (iteration, objective, largest gradient, seconds) of every point taken
    first : seconds until the first evaluation was there
    bimodal : (N,) subjects for which searches from two places found two modes
    interrupted : whether Ctrl-C ended the search; its status is then SEARCHING
    """

    search: Search
    at: Evaluation
    history: list[tuple[int, float, float, float]]
    first: float = 0.0
    bimodal: np.ndarray | None = None
    interrupted: bool = False

    @property
    def modes_lost(self) -> int:
        """Subjects whose modes were not found."""
        return int(np.sum(~np.asarray(self.at.converged)))


@dataclasses.dataclass
class _Refusals:
    """Trials one after the other in which the objective rose though little was promised, as it does where a mode comes to an end.

    ``last`` is the last of them; ``settled`` the objective at which the modes were the likeliest.
    """

    count: int = 0
    last: Evaluation | None = None
    settled: float = np.inf

    def note(self, rose: bool, at: Evaluation) -> None:
        self.count, self.last = (self.count + 1, at) if rose else (0, None)

    def at_an_edge(self, search: Search) -> bool:
        return self.count == _REFUSED and search.value < self.settled - _LITTLE


class BadStart(Exception):
    """The objective or its gradient is not finite where a search begins; ``at`` is the evaluation."""

    def __init__(self, at: Evaluation):
        super().__init__("the objective is not finite at the starting values")
        self.at = at


def minimise(
    problem: Problem,
    u: np.ndarray | None = None,
    modes: np.ndarray | None = None,
    *,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    show: Callable[[int, float, float], None] | None = None,
    stop: Callable[[Search], bool] | None = None,
) -> Minimum:
    """The minimum that the search from ``u`` leads to; Ctrl-C ends it with the best point so far.

    Parameters
    ----------
    u : (P,) where to begin; the model's own values by default
    modes : (N, q) where the searches for modes begin there; ``problem.beginnings`` by default
    show : is told iteration, objective and largest gradient of every point taken
    stop : whether to give the search up where it stands

    Raises
    ------
    BadStart
        The objective or its gradient is not finite at ``u``.
    """
    layout = problem.layout
    u = problem.start if u is None else u
    starts = problem.beginnings(u) if modes is None else modes
    clock = time.perf_counter()
    search, second_order = begin(u, problem.farthest, layout.n_subjects, problem.inventory.linear), None
    best: Evaluation | None = None
    loose = 0.0  # inner tolerance of the best
    rounds = _ROUNDS
    refusals = _Refusals()
    found = Minimum(search, None, [])
    try:
        while True:
            at = None
            ended = search.status != SEARCHING
            if ended or refusals.at_an_edge(search):
                best, moved, found.bimodal = _from_scratch(problem, best, search.x, refusals.last)
                loose = problem.method.inner_tolerance
                # other modes, another objective, or a covariance that should be larger: on from there
                onwards = search.x if moved else _off_the_edge(problem, search, best) if ended else None
                if onwards is None and ended:
                    break
                if onwards is not None and rounds:
                    rounds, refusals = rounds - 1, _Refusals()
                    before, search = search, begin(onwards, problem.farthest, layout.n_subjects, problem.inventory.linear)
                    search.iterations = before.iterations
                    at = best if moved else None
                else:
                    corrected(search, _answer(problem, search.x, best))
                    refusals = _Refusals(settled=search.value)
                    if onwards is not None:
                        search.status = CONVERGED if moved and search.decrement < _APART else NO_DECREASE
                        break
            trial = search.proposal
            if best is not None:  # the modes of the best point so far, followed to this one
                starts, second_order = best.followed(trial - search.x), best.second_order
            inner = loose if at is not None else _inner_tolerance(problem, search)
            if best is not None and loose > _MUCH_LOOSER * inner and search.exactly:
                best, loose = _again(problem, search, best, inner), inner
            if at is None:
                at = problem.evaluate(trial, starts, second_order=second_order, tolerance=inner)
                if _worth_another_search(search, at, best):
                    at = _searched_anew(problem, trial, at, best, inner)
            answer = _answer(problem, trial, at)
            if best is not None and np.sum(~at.converged) > np.sum(~best.converged):
                answer = dataclasses.replace(answer, value=np.nan)  # no better, whatever it says
            near = not search.exactly and search.promised < _LITTLE_TO_GAIN
            accepted = absorb(search, answer, tolerance, max_evaluations)
            refusals.note(near and not accepted and not answer.value < search.value + _APART, at)
            if found.at is None:
                found.first = time.perf_counter() - clock
                if search.status == BAD_START:
                    raise BadStart(at)
            if not accepted and loose > _MUCH_LOOSER * inner:
                # not for want of digits of the best objective so far
                best, loose = _again(problem, search, best, inner), inner
            if accepted:
                best, loose = at, inner
                found.search = search
                norm = float(np.max(np.abs(search.gradient), initial=0.0))
                found.at = best
                found.history.append((search.iterations, search.value, norm, time.perf_counter() - clock))
                if show is not None:
                    show(search.iterations, search.value, norm)
                if stop is not None and stop(search):
                    break
    except KeyboardInterrupt:
        if found.at is None:
            raise
        best, _, found.bimodal = _from_scratch(problem, best, found.search.x)
        found.interrupted, found.search.status = True, SEARCHING
    found.at = best
    return found


def _off_the_edge(problem: Problem, search: Search, best: Evaluation) -> np.ndarray | None:
    """Parameters with a lower objective off the edge where a covariance stands, if there are any."""
    found = off_the_edge(problem, search.x, best, search.ended)
    for u in [] if found is None else found.points:
        at = problem.evaluate(u, best.b)
        if np.sum(at.value) + problem.penalised(u)[0] < search.value - 0.01 * found.gain and at.converged.all():
            return u
    return None


def _answer(problem: Problem, u, at: Evaluation) -> Answer:
    extra, slope, curved = problem.penalised(u)
    return Answer(float(np.sum(at.value)) + extra, np.sum(at.gradient, axis=0) + slope, at.scores, curved)


def _worth_another_search(search: Search, at: Evaluation, best: Evaluation | None) -> bool:
    """Whether modes were lost that another search may find: near the end of the parameters' search those that it has not found at the
    best point either are left to the searches from scratch that end it, for each costs as much as an evaluation."""
    lost = ~np.asarray(at.converged)
    known = best is not None and search.promised < _LITTLE_TO_GAIN
    return bool(np.any(lost & best.converged) if known else np.any(lost))


def _searched_anew(problem: Problem, u, at: Evaluation, best: Evaluation | None, inner: float) -> Evaluation:
    """The evaluation with the modes that were not found searched from elsewhere: from where they were before, and afresh."""
    for known in [None] if best is None else [best.b, None]:
        lost = ~at.converged
        if not lost.any():
            break
        starts = problem.beginnings(u) if known is None else known
        at = _better(problem, at, problem.evaluate(u, np.where(lost[:, None], starts, at.b), tolerance=inner))
    return at


def _better(problem: Problem, at: Evaluation, other: Evaluation) -> Evaluation:
    """Each subject's evaluation with the likelier mode; of whole sites, if there are any, that in which fewer modes are lost."""
    if problem.layout.sites is not None:
        return other if np.sum(other.converged) > np.sum(at.converged) else at
    return at.where(_likelier(at, other), other)


def _likelier(at: Evaluation, other: Evaluation) -> np.ndarray:
    """(N,) whether the mode of ``other`` counts: the only one that was found, or the likelier of two."""
    lower = other.by_subject < at.by_subject
    most = np.where(lower, at.joint - _APART, at.joint - _EQUAL)
    return other.converged & (~at.converged | (other.joint < most))


def _again(problem: Problem, search: Search, best: Evaluation, inner: float) -> Evaluation:
    """The best point with its modes searched more closely."""
    at = problem.evaluate(search.x, best.b, second_order=best.second_order, tolerance=inner)
    corrected(search, _answer(problem, search.x, at))
    return at


def _inner_tolerance(problem: Problem, search: Search) -> float:
    """How closely modes are searched: where states are costly and much is still to be gained, less closely than at the end.

    A mode found to a tolerance t leaves an error of about t in a subject's objective and of sqrt(t) in its gradient.
    """
    method = problem.method
    if problem.layout.anatomy.linear or search.exactly:
        return method.inner_tolerance
    return float(np.clip(_OF_GAIN * search.promised, method.inner_tolerance, max(method.inner_tolerance, method.loosest)))


def _from_scratch(problem: Problem, best: Evaluation, u, other: Evaluation | None = None) -> tuple[Evaluation, bool, np.ndarray]:
    """Modes that were followed from step to step, against modes searched afresh, and from where an ``other`` evaluation has them:
    each subject keeps that of highest density.

    And whether any objective changed by that, and which subjects have two modes.  Modes found from none are searched from further places.
    """

    def at(starts):
        return problem.evaluate(u, starts, second_order=best.second_order)

    fresh, again = at(problem.beginnings(u)), at(best.b)
    better = _likelier(again, fresh)
    two = fresh.converged & again.converged & (np.max(np.abs(fresh.b - again.b), axis=1, initial=0.0) > _OTHER_MODE)
    if (
        problem.layout.sites is not None
    ):  # a subject's other mode moves its site's effects, and all their subjects' modes with them
        if not better.any():
            return again, False, two
        found = at(np.where(better[:, None], fresh.b, again.b))
        return found, bool(np.any(np.abs(found.value - again.value) > _APART)), two

    found = again.where(better, fresh)
    if other is not None:
        found = _better(problem, found, at(other.b))
    rng = np.random.default_rng(0)
    for _ in range(_PLACES):
        lost = ~found.converged
        if not lost.any():
            break
        found = _better(problem, found, at(np.where(lost[:, None], rng.normal(size=found.b.shape), found.b)))
    return found, bool(np.any(_likelier(again, found) & (np.abs(found.value - again.value) > _APART))), two
