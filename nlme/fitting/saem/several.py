"""The best of several searches by SAEM: others begin at starts that the data suggest where the first gives a reason to.

SAEM explores, and is led by its start all the same: absorption and elimination stay exchanged, two kinds of people stay one, and an
error that begins far too small moves by a small part of itself in an iteration.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from nlme.fitting.result import Fit
from nlme.fitting.saem.search import Lost, Progressed
from nlme.fitting.starts import Starts
from nlme.search.problem import Problem
from nlme.search.quasi_newton import CONVERGED, SEARCHING, SENTENCES, UNDETERMINED
from nlme.search.several import Attempt, agree, ended_far, has_another
from nlme.search.starts import Typical

_OTHERS = 3  # starts tried by default
_NOISE = 0.5  # in the objective, of importance sampling and of where SAEM ends


def fit_from_several(
    problem: Problem,
    starts: int | None,
    search: Callable[[Problem, bool], Progressed],
    fitted: Callable[[Progressed, Problem], Fit],
) -> Fit:
    """The fit with the lowest objective among the searches that converged, or among all if none did, with its ``starts``.

    Ctrl-C ends all of it with the best so far, whose status is then SEARCHING unless it had come to an answer.

    Parameters
    ----------
    starts : how many other starts; None: up to three if the first search gives a reason to, until two agree on the lowest
    search : from a problem's start to where SAEM ends; told whether it is the first one
    fitted : the fit there

    Raises
    ------
    Lost
        As the first search, if no other found anything.
    FitError
        The checkpoint is not that of this fit; the objective is not finite where a search ended.
    """
    attempts: list[Attempt] = []
    fits: list[Fit | None] = []

    def attempt(of: Problem) -> None:
        start = np.asarray(problem.inventory.unconstrained(of.model))
        try:
            fit = dataclasses.replace(fitted(search(of, not attempts), of), start=problem.model)
        except Lost as error:
            attempts.append(Attempt(start, np.full(len(start), np.nan), np.nan, False, str(error)))
            fits.append(None)
            return
        end, status = np.asarray(problem.inventory.unconstrained(fit.model)), fit.search_status
        cut = status == SEARCHING
        attempts.append(Attempt(start, end, fit.objective + fit.penalty, status == CONVERGED, SENTENCES[status], interrupted=cut))
        fits.append(fit)

    attempt(problem)
    first = attempts[0]
    another = has_another(problem, first.end) if first.valid else ""  # exchanged rates and merged kinds agree with each other
    if fits[0] is None:
        reason = "the first search ended without an answer"
    elif not first.valid:
        reason = "the search did not converge"
    else:
        reason = ended_far(problem, first.end) or another
    wanted = (_OTHERS if reason else 0) if starts is None else starts
    try:
        if wanted and not first.interrupted:
            known = [first.end] if fits[0] is not None else []
            for u in Typical(problem, [problem.start, *known], 0).starts(wanted):
                attempt(problem.starting_at(problem.at(u)))
                if attempts[-1].interrupted or (starts is None and not another and agree(attempts, attempts, _NOISE)):
                    break
    except KeyboardInterrupt:  # before a search had anything to show
        if not any(fit is not None for fit in fits):
            raise
        attempts.append(Attempt.not_made(len(problem.start)))
    best = _best(attempts, [fit is not None and bool(fit.undetermined) for fit in fits])
    if best is None:
        raise Lost(first.sentence)
    found = dataclasses.replace(fits[best], starts=Starts.of(problem, attempts, reason if len(attempts) > 1 else "", _NOISE))
    if found.starts.interrupted and found.search_status not in (CONVERGED, UNDETERMINED):
        return dataclasses.replace(found, search_status=SEARCHING)
    return found


def _best(attempts: list[Attempt], undetermined: list[bool]) -> int | None:
    """The lowest of those that converged, the first where it is as low; of the others if none did.  One whose parameters are
    undetermined there goes before it if it is as low: another point of a ridge is no answer."""
    ended = [k for k, attempt in enumerate(attempts) if np.isfinite(attempt.objective)]

    def lowest(among: list[int]) -> int | None:
        return min(among, key=lambda k: attempts[k].objective - (_NOISE if k == 0 else 0.0), default=None)

    best = lowest([k for k in ended if attempts[k].valid] or ended)
    as_low = [k for k in ended if undetermined[k] and attempts[k].objective < attempts[best].objective + _NOISE]
    return lowest(as_low) if as_low else best
