"""The lowest minimum that several searches find: other starts are tried where the first search gives a reason to.

How many: Boender & Rinnooy Kan (1987), Bayesian stopping rules for multistart global optimization methods, Math Program 37:59,
doi:10.1007/BF02591684: with W different minima found in n searches, W (n - 1) / (n - W - 2) are expected.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from nlme.search.metric import Dense, scaled_spectrum
from nlme.search.minimise import BadStart, Minimum, minimise
from nlme.search.problem import Problem
from nlme.search.quasi_newton import CONVERGED, EVALUATION_LIMIT, NO_DECREASE, SEARCHING, SENTENCES, Search
from nlme.search.starts import Typical, absorbs_slowly, relative_slopes

SAME = 0.01  # objectives that differ by less count as one minimum
_FAR = np.log(3.0)  # from its start, in a logarithm, where the start has told the search little
_NEAR = np.log(1.5)  # the same where a lag, or another time of sudden change, gives the objective a minimum between samples
_FAR_REAL = 3.0  # of a real parameter, in units of its starting value
_OTHERS = (
    7  # starts tried; of one minimum that all lead to, as many say that there is hardly another (Boender & Rinnooy Kan 1987)
)
_OF_ONE = (
    20  # the same where nobody differs from another: the data of one subject have several minima often, and a search costs little
)
_OF_NETWORKS = 11  # where the lowest of these is known from one start only
_AT_LEAST = 4  # where states are solved by steps, and two lead to the lowest
_CLOSE = 0.1, 0.3  # largest difference in a parameter and in the objective of a search that is on its way to a minimum known
_BEYOND = 1e6  # a standard deviation in a logarithm
_NO_CURVATURE = 1e-8  # eigenvalue of the Hessian in units of its diagonal
_LOOSE = 1e-3  # tolerance of searches that are not known yet to lead to the lowest minimum
_EVALUATIONS = 250  # of such a search
_NOT_MADE = "Neither this search nor others were made: Ctrl-C ended the fit."


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One search: its start and where it ended (P,) unconstrained, objective with penalty, how it ended in words."""

    start: np.ndarray
    end: np.ndarray
    objective: float
    valid: bool
    sentence: str
    unfinished: bool = False  # on its way when its evaluations were spent, or Ctrl-C came
    stopped: bool = False  # where no step lowers the objective further
    interrupted: bool = False  # Ctrl-C ended it, or came before it

    @classmethod
    def not_made(cls, size: int) -> Attempt:
        """In place of the next one, where Ctrl-C came before it."""
        nothing = np.full(size, np.nan)
        return cls(nothing, nothing, np.nan, False, _NOT_MADE, interrupted=True)


def minimise_from_several(
    problem: Problem,
    starts: int | None,
    *,
    seed: int = 0,
    tolerance: float,
    max_evaluations: int,
    show: Callable | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> tuple[Minimum, list[Attempt], str]:
    """The lowest minimum found, every attempt (the model's own values first), and why others than the first were made.

    Ctrl-C ends all of it with the best so far, whose status is then SEARCHING unless it had converged as closely as was asked.

    Parameters
    ----------
    starts : how many other starts to try; None: some, if the first search gives a reason to, until they agree
    tell : is told what is being tried

    Raises
    ------
    BadStart
        The objective is not finite at the model's own values, nor is it from anywhere else.
    """
    searches = _Searches(problem, tolerance, max_evaluations, show, tell)
    networks = "weight" in problem.inventory.kinds
    cut_short = max_evaluations < _EVALUATIONS  # on purpose: a look at the first steps
    compared = networks and starts != 0 and not (starts is None and cut_short)  # the first search is one of several in any case
    first_tolerance = searches.loose if compared else tolerance
    reason, interrupted = "", False
    try:
        first = searches.from_own_values(first_tolerance)
        if starts != 0:
            reason = "the objective is not finite at the starting values" if first is None else reason_for_others(problem, first)
        if starts == 0 or (starts is None and (not reason or cut_short)):
            if first is None:
                raise searches.bad
            return first, searches.attempts, ""
        searches.from_others(starts, seed)
    except KeyboardInterrupt:
        if not any(searches.ends):
            raise
        interrupted = True
        if not searches.attempts[-1].interrupted:
            searches.attempts.append(Attempt.not_made(len(problem.start)))
    best, promising = searches.lowest()
    found = searches.ends[best]
    ended = not promising or (best == 0 and first_tolerance == tolerance)
    if interrupted and not (ended and searches.attempts[best].valid):
        found.search.status = SEARCHING
    if not (interrupted or ended):
        found = searches.finished(best)
    return found, searches.attempts, reason


class _Searches:
    """The searches made, in the order of their starts.

    Attributes
    ----------
    attempts : what is told of each
    ends : where each ended; None where the objective is no number at its start
    bad : why the model's own values are no start, if they are none
    loose : tolerance of a search that is not known yet to lead to the lowest minimum
    """

    def __init__(
        self, problem: Problem, tolerance: float, max_evaluations: int, show: Callable | None, tell: Callable[[str], None]
    ):
        self.problem, self.tolerance, self.loose = problem, tolerance, max(tolerance, _LOOSE)
        self._most, self._show, self._tell = max_evaluations, show, tell
        self.attempts: list[Attempt] = []
        self.ends: list[Minimum | None] = []
        self.bad: BadStart | None = None

    def from_own_values(self, tolerance: float) -> Minimum | None:
        """Where the search from the model's own values ends."""
        try:
            made = minimise(self.problem, tolerance=tolerance, max_evaluations=self._most, show=self._show)
        except BadStart as error:
            self.bad, made = error, None
        self._keep(self.problem.start, made)
        return made

    def from_others(self, starts: int | None, seed: int) -> None:
        """Searches from so many starts that the data suggest; None: until they agree."""
        problem, first = self.problem, self.ends[0]
        networks = "weight" in problem.inventory.kinds
        # minima in which absorption has changed places with something, or kinds have merged, agree with each other and are not the lowest
        another = has_another(problem, None if first is None else first.search.x)
        typical = Typical(problem, [problem.start, *([first.search.x] if self.attempts[0].valid else [])], seed)
        of_one = not (problem.method.individuals or networks)
        soon = not (another or of_one) and (networks or not problem.layout.anatomy.linear)
        for u in typical.starts(starts or (_OF_ONE if of_one else _OF_NETWORKS if networks and soon else _OTHERS)):
            last = self._from(u)
            # where errors vanish the objective has no minimum: from larger ones the search may not come there
            if not (last.valid or last.unfinished) and starts is None and len(typical.errors):
                self._from(typical.with_larger_errors(u))
            if starts is None and soon and self._enough(networks):
                break

    def _enough(self, networks: bool) -> bool:
        """Whether the searches agree so well that others would hardly find a lower minimum.

        Half of the searches of a network may well end at minima that are not the lowest, and two of five agree on one of these easily: they
        are enough where all ended at one, and after ``_OTHERS`` where two are at the lowest.
        """
        others = self.attempts[1:]
        if len(others) < _AT_LEAST:
            return False
        if not networks:
            return agree(self.attempts, others, 10 * SAME)
        ends = [attempt.objective for attempt in self.attempts if attempt.valid]
        of_one = len(ends) >= _AT_LEAST and np.ptp(ends) < 10 * SAME
        return of_one or (len(others) >= _OTHERS and agree(self.attempts, self.attempts, 10 * SAME))

    def lowest(self) -> tuple[int, bool]:
        """Position of the search that ended lowest, and whether it ended at a minimum or on its way to one.

        Raises
        ------
        BadStart
            None had a start.
        """
        promising = [k for k, attempt in enumerate(self.attempts) if attempt.valid or attempt.unfinished]
        # a search that found no minimum is no answer, and nor is a minimum above where it stands
        least = min((self.attempts[k].objective for k in promising), default=np.inf)
        promising += [k for k, attempt in enumerate(self.attempts) if attempt.stopped and attempt.objective < least - 10 * SAME]
        if promising:
            return min(promising, key=lambda k: self.attempts[k].objective - (SAME if k == 0 else 0.0)), True
        if not any(self.ends):
            raise self.bad
        return next(k for k, end in enumerate(self.ends) if end is not None), False

    def finished(self, best: int) -> Minimum:
        """The search that ended there, to its end; Ctrl-C leaves where it stood."""
        self._tell("the lowest minimum")
        found, attempt = self.ends[best], self.attempts[best]
        try:
            ended = minimise(
                self.problem,
                found.search.x,
                found.at.b,
                tolerance=self.tolerance,
                max_evaluations=self._most,
                show=self._show,
            )
        except KeyboardInterrupt:  # before it had evaluated anything
            ended = found
            ended.interrupted, ended.search.status = True, SEARCHING
        else:
            ended.history[:0] = found.history
            ended.first = 0.0 if self.ends[0] is None else self.ends[0].first
        if attempt.unfinished or ended.interrupted:
            self.attempts[best] = _attempt(self.problem, attempt.start, ended)
        return ended

    def _from(self, u: np.ndarray) -> Attempt:
        self._tell(f"start {1 + len(self.ends)}")
        limit = min(self._most, _EVALUATIONS)
        known = [end for end, attempt in zip(self.ends, self.attempts, strict=True) if attempt.valid]
        stop = functools.partial(_on_the_way, known)
        try:
            made = minimise(self.problem, u, tolerance=self.loose, max_evaluations=limit, show=self._show, stop=stop)
        except BadStart:
            return self._keep(u, None)
        on_the_way = made.search.status == SEARCHING and not made.interrupted
        return self._keep(u, (on_the_way and _on_the_way(known, made.search)) or made)

    def _keep(self, u: np.ndarray, end: Minimum | None) -> Attempt:
        self.attempts.append(_attempt(self.problem, u, end))
        self.ends.append(end)
        if self.attempts[-1].interrupted:
            raise KeyboardInterrupt
        return self.attempts[-1]


def reason_for_others(problem: Problem, found: Minimum) -> str:
    """What gives reason to search from elsewhere, in words; nothing where the search ended well and near its start."""
    search, names = found.search, problem.inventory.names
    if search.status != CONVERGED:
        return "the search did not converge"
    if found.modes_lost:
        return "the modes of some subjects were not found"
    if np.any(search.ended):
        listed = ", ".join(names[k] for k in np.flatnonzero(search.ended)[:3])
        return f"{listed} went to the end of its range"
    if far := ended_far(problem, search.x):
        return far
    if flat := _flat(problem, search):
        return f"the data do not determine {flat} where the search ended"
    if other := has_another(problem, search.x):
        return other
    return "a network has many minima" if "weight" in problem.inventory.kinds else ""


def ended_far(problem: Problem, u: np.ndarray) -> str:
    """The fixed effect that ended so far from its start that this has told the search little, in words; "" without one."""
    moved, anatomy = u - problem.start, problem.layout.anatomy
    kinks = bool({"lag", "duration"} & set(anatomy.rules)) or anatomy.event_times > 0 or bool(anatomy.delays)
    limit = np.where(problem.inventory.linear, _FAR_REAL, _NEAR if kinks else _FAR)
    fixed = np.array([kind == "fixed effect" for kind in problem.inventory.kinds])
    far = np.flatnonzero(fixed & (np.abs(moved) > limit))
    return f"{problem.inventory.names[far[np.argmax(np.abs(moved[far]))]]} ended far from its start" if len(far) else ""


def has_another(problem: Problem, u: np.ndarray | None) -> str:
    """Why the likelihood has another maximum beside one at ``u``, if one is known, in words; "" where nothing says so."""
    if u is not None and absorbs_slowly(problem, u):
        return "absorption is slower than elimination, and may be the quicker of the two"
    return "a mixture has several minima" if problem.layout.anatomy.mixture else ""


def _flat(problem: Problem, search: Search) -> str:
    """The parameter along which the objective has no curvature, beside the weights of networks; "" where it is not known to be so."""
    own = np.flatnonzero([kind != "weight" for kind in problem.inventory.kinds])
    hessian = search.hessian
    if hessian is None and problem.layout.n_subjects > len(search.x) and isinstance(search.information, Dense):
        hessian = search.information.matrix
    if hessian is None or not len(own):
        return ""
    hessian = hessian[np.ix_(own, own)]
    for k, d in zip(own, np.diagonal(hessian), strict=True):
        if problem.inventory.kinds[k] == "fixed effect" and abs(d) < _NO_CURVATURE:
            return problem.inventory.names[k]
    values, vectors = scaled_spectrum(hessian)
    return problem.inventory.names[own[np.argmax(np.abs(vectors[:, 0]))]] if values[0] < _NO_CURVATURE else ""


def _on_the_way(known: list[Minimum], search: Search) -> Minimum | None:
    """The minimum near which the search is, if it is one that is known."""
    for found in known:
        near = np.max(np.abs(search.x - found.search.x)) < _CLOSE[0]
        if near and abs(search.value - found.search.value) < _CLOSE[1]:
            return found
    return None


def agree(attempts: Sequence[Attempt], among: Sequence[Attempt], within: float) -> bool:
    """Whether two ``among`` the attempts lead to the lowest minimum of all of them, objectives ``within`` which count as the same."""
    lowest = min((attempt.objective for attempt in attempts if attempt.valid), default=np.inf)
    return sum(attempt.valid and attempt.objective < lowest + within for attempt in among) >= 2


def _attempt(problem: Problem, start: np.ndarray, found: Minimum | None) -> Attempt:
    if found is None:
        return Attempt(start, np.full(len(start), np.nan), np.nan, False, "The objective is not a finite number there.")
    search = found.search
    sound = not found.modes_lost and not len(ran_away(problem, found))
    valid = search.status == CONVERGED and sound
    sentence = SENTENCES[search.status] if search.status != CONVERGED or valid else "A parameter ran away, or modes were lost."
    short = sound and (search.status == EVALUATION_LIMIT or found.interrupted)
    stopped = sound and search.status == NO_DECREASE
    return Attempt(start, search.x, search.value, valid, sentence, short, stopped, found.interrupted)


def ran_away(problem: Problem, found: Minimum) -> list[str]:
    """Names of the parameters that went to an end of their line that is no end of their range, and of variances by which a random effect
    changes what it moves beyond all measure."""
    names = []
    for k, variance in _wide_variances(problem, found.search.x):
        slope = relative_slopes(problem, found.search.x).get(problem.inventory.names[k].rpartition(".")[2], 0.0)
        if slope * np.sqrt(variance) > _BEYOND:
            names.append(problem.inventory.names[k])
    inventory, search = problem.inventory, found.search
    beyond = np.abs(search.x - problem.start) > problem.farthest
    for name, kind, domain, side, far in zip(
        inventory.names, inventory.kinds, inventory.ranges, search.ended, beyond, strict=True
    ):
        if kind == "covariance" or kind == "share":
            continue
        if (side > 0 and np.isinf(domain.upper)) or (side < 0 and np.isinf(domain.lower)) or far:
            names.append(name)
    return names


def _wide_variances(problem: Problem, u: np.ndarray) -> list[tuple[int, float]]:
    """(position, value) of variances that are large as numbers, which they may be for the unit of what they belong to."""
    places = [k for k, kind in enumerate(problem.inventory.kinds) if kind == "variance"]
    if not places:
        return []
    values = problem.natural(u[None])[0]
    return [(k, float(values[k])) for k in places if values[k] > _BEYOND]
