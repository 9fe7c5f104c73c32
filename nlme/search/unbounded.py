"""Likelihoods that have no maximum: observations that are predicted exactly, under an error that can go to zero.

An observation of 0 before the first dose, or before a lag is over, is predicted as 0 whatever the parameters are.  Where its error is a
parameter of its own, as the additive part of sd^2 = add^2 + (prop f)^2 is at f = 0, its density 1 / (sqrt(2 pi) add) has no bound: with
k such observations the objective falls by 2 k log 10 for each tenfold that ``add`` is smaller, while all others are left with prop f.
A minimum that a search finds is a local one then.
"""

from __future__ import annotations

import numpy as np

from nlme.language.asked import error_parameters
from nlme.language.layout import match_endpoints
from nlme.marginal.subjects import Evaluation
from nlme.search.problem import Problem

_DEEP = 6.0  # decades below the estimate
_STEADY = 0.9  # of one observation's fall from there to twice as deep


def falls_without_end(problem: Problem, u: np.ndarray, at: Evaluation, gradient: bool = True) -> dict[str, int]:
    """Error parameters with which the objective falls without end as they go to zero, and how many observations make it.

    ``at`` is the evaluation at the minimum ``u``; ``gradient``: by the program that is compiled, with a gradient that is not used.
    """
    if not _exact_zeros(problem):
        return {}
    inventory, found = problem.inventory, {}
    for k in _candidates(problem):
        values = []
        for depth in (_DEEP, 2.0 * _DEEP):
            there = u.copy()
            there[k] -= depth * np.log(10.0) / inventory.scales[inventory.free[k]]
            deep = problem.evaluate(there, at.b, gradient=gradient)
            values.append(float(np.sum(deep.value)) + problem.penalised(there)[0])
            if not np.isfinite(values[-1]):
                break
        one = 2.0 * _DEEP * np.log(10.0)
        if np.isfinite(values).all() and values[0] - values[1] > _STEADY * one:
            found[inventory.names[k]] = round((values[0] - values[1]) / one)
    return found


def _exact_zeros(problem: Problem) -> bool:
    """Whether an uncensored observation that is no whole number by nature is 0."""
    anatomy, population = problem.layout.anatomy, problem.layout.population
    measured = np.array([*(law.whole is None for law in anatomy.laws), False])
    own = np.array([*match_endpoints(problem.model, anatomy, population), -1])
    return any(measured[own[s.endpoint[s.is_observation & (s.cens == 0) & (s.dv == 0.0)]]].any() for s in population)


def _candidates(problem: Problem) -> list[int]:
    """Positions of the free error parameters that can go to zero."""
    inventory = problem.inventory
    fields = error_parameters(problem.model, problem.layout.anatomy)
    paths = {name: entry.path for entry in inventory.entries for name in entry.names}
    return [
        k
        for k, (name, domain) in enumerate(zip(inventory.names, inventory.ranges, strict=True))
        if domain.lower == 0.0 and np.isinf(domain.upper) and paths[name] in fields
    ]
