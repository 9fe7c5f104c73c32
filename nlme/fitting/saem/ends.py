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
    bounded = [len(sides) == 2 for sides in _sides(problem)]
    return np.where(bounded, np.clip(u, -_FARTHEST, _FARTHEST), u)


def ends_reached(problem: Problem, u: np.ndarray, value: float, scores: np.ndarray, modes: np.ndarray) -> dict[str, int]:
    """Name -> -1 or 1 of the parameters at the lower or upper end of their range: their scores (N, P) have vanished, and the way on to
    that end costs the objective ``value`` nothing."""
    found, sides = {}, _sides(problem)
    quiet = np.sum(np.square(scores), axis=0) < _NOTHING
    for k in np.flatnonzero(quiet):
        if not sides[k]:
            continue
        side = sides[k][0] if len(sides[k]) == 1 else int(np.sign(u[k]))
        further = u.copy()
        further[k] += side * _FURTHER
        at = problem.evaluate(within_range(problem, further), modes, gradient=False)
        if abs(float(np.sum(at.value)) - value) < _COST:
            found[problem.inventory.names[k]] = side
    return found


def _sides(problem: Problem) -> list[list[int]]:
    """On which sides the range of each parameter ends; covariances and shares, which are bounded together with others, have none here."""
    inventory = problem.inventory
    return [
        [side for side, end in ((-1, domain.lower), (1, domain.upper)) if np.isfinite(end)]
        if kind in ("fixed effect", "variance")
        else []
        for kind, domain in zip(inventory.kinds, inventory.ranges, strict=True)
    ]
