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
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Problem
from nlme.search.quasi_newton import CONVERGED, SEARCHING, SENTENCES
from nlme.search.several import Attempt, ended_far, has_another
from nlme.search.starts import Typical

_OTHERS = 3  # starts tried by default
NOISE = 0.5  # in the objective, of importance sampling and of where SAEM ends


def fit_from_several(
    problem: Problem,
    starts: int | None,
    search: Callable[[Problem, bool], Progressed],
    fitted: Callable[[Progressed, Problem], Fit],
) -> Fit:
    """The fit with the lowest objective among the searches that converged, or among all if none did, with its ``starts``.

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
    failure, attempts, fits = None, [], []

    def attempt(of: Problem, first: bool) -> bool:
        """Whether to go on."""
        nonlocal failure
        start = np.asarray(problem.inventory.unconstrained(of.model))
        try:
            found = search(of, first)
            fit = dataclasses.replace(fitted(found, of), start=problem.model)
        except Lost as error:
            failure = failure or error
            attempts.append(Attempt(start, np.full(len(start), np.nan), np.nan, False, str(error)))
            fits.append(None)
            return True
        end = np.asarray(problem.inventory.unconstrained(fit.model))
        sentence, valid = SENTENCES[found.status], found.status == CONVERGED
        attempts.append(Attempt(start, end, fit.objective + fit.penalty, valid, sentence))
        fits.append(fit)
        return found.status != SEARCHING  # interrupted

    on = attempt(problem, True)
    reason = _reason(problem, fits[0], attempts[0])
    wanted = (_OTHERS if reason else 0) if starts is None else starts
    # exchanged rates and merged kinds agree with each other
    soon = starts is None and not (attempts[0].valid and has_another(problem, attempts[0].end))
    if on and wanted:
        known = [attempts[0].end] if fits[0] is not None else []
        for u in Typical(problem, [problem.start, *known], 0).starts(wanted):
            elsewhere = dataclasses.replace(
                problem, model=(model := problem.at(u)), inventory=Inventory(model, problem.inventory.fixed)
            )
            if not attempt(elsewhere, False) or (soon and _agree(attempts)):
                break
    best = _best(attempts)
    if best is None:
        raise failure
    return dataclasses.replace(fits[best], starts=Starts.of(problem, attempts, reason if len(attempts) > 1 else "", NOISE))


def _reason(problem: Problem, fit: Fit | None, first: Attempt) -> str:
    if fit is None:
        return "the first search ended without an answer"
    if not first.valid:
        return "the search did not converge"
    return ended_far(problem, first.end) or has_another(problem, first.end)


def _agree(attempts: list[Attempt]) -> bool:
    values = [attempt.objective for attempt in attempts if attempt.valid]
    return sum(value < min(values) + NOISE for value in values) >= 2 if values else False


def _best(attempts: list[Attempt]) -> int | None:
    """The lowest of those that converged, the first where it is as low; of the others if none did."""
    ended = [k for k, attempt in enumerate(attempts) if np.isfinite(attempt.objective)]
    among = [k for k in ended if attempts[k].valid] or ended
    return min(among, key=lambda k: attempts[k].objective - (NOISE if k == 0 else 0.0), default=None)
