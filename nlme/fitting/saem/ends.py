"""Parameters that SAEM has left at an end of their range, where their coordinate runs off slowly and no likelihood stops it."""

from __future__ import annotations

import numpy as np

from nlme.search.problem import Problem

_FARTHEST = 30.0  # coordinate of a bounded parameter beyond which its number is the bound to rounding
_NOTHING = 0.05  # sum of the squares of the subjects' scores below which a coordinate shows nothing where it stands
_FURTHER = 8.0  # of the way to the end that must cost nothing
_COST = 0.05  # in the objective


def within_range(problem: Problem, u: np.ndarray) -> np.ndarray:
    """The estimate (P,) with coordinates of bounded parameters no further out than their numbers can say."""
    return np.where(_bounded(problem), np.clip(u, -_FARTHEST, _FARTHEST), u)


def ends_reached(problem: Problem, u: np.ndarray, value: float, scores: np.ndarray, modes: np.ndarray) -> dict[str, int]:
    """Name -> -1 or 1 of the parameters at the lower or upper end of their range: their scores (N, P) have vanished, and the way on to
    that end costs the objective ``value`` nothing."""
    found = {}
    quiet = np.sum(np.square(scores), axis=0) < _NOTHING
    for k in np.flatnonzero(quiet):
        name, lower, upper = problem.inventory.names[k], *_range(problem, k)
        sides = [side for side, end in ((-1, lower), (1, upper)) if np.isfinite(end)]
        if not sides:
            continue
        side = sides[0] if len(sides) == 1 else int(np.sign(u[k]))
        further = u.copy()
        further[k] += side * _FURTHER
        at = problem.evaluate(within_range(problem, further), modes, gradient=False)
        if abs(float(np.sum(at.value)) - value) < _COST:
            found[name] = side
    return found


def _bounded(problem: Problem) -> np.ndarray:
    return np.array([np.isfinite(_range(problem, k)).all() for k in range(len(problem.inventory))])


def _range(problem: Problem, k: int) -> tuple[float, float]:
    """Where a parameter may lie; of a covariance or a share, which are bounded together with others, nothing is said."""
    name, kind = problem.inventory.names[k], problem.inventory.kinds[k]
    if kind != "fixed effect":
        return (0.0, np.inf) if kind == "variance" else (-np.inf, np.inf)
    domain = next(e.declaration.domain for e in problem.inventory.entries if name in e.names)
    return domain.lower, domain.upper
