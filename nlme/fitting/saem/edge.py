"""Where SAEM has come to the edge of the covariance of the random effects, and how its estimate is finished there.

Towards a singular Omega (a variance of zero, a correlation of one) the complete data say ever more of Omega and of the typical values
that it surrounds, and the data themselves no more than before: their share, J against I_c, goes to nothing.  EM stands still, and a
Newton step by the difference of noisy matrices finds no way back, though the likelihood has one.

The objective by which SAEM is judged, importance sampling with draws made once, has exact derivatives, and the search of the other
methods knows such edges (``nlme.search.boundary``).  It finishes what SAEM has begun.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nlme.search.boundary import free_blocks, is_singular
from nlme.search.minimise import BadStart, Minimum, minimise
from nlme.search.problem import Problem

_NEAR = 0.1  # smallest eigenvalue of a correlation matrix: two effects whose correlation is 0.9
FINISHED = (
    "SAEM came to the edge of the covariance of the random effects, where its steps are noise; "
    "a search with the gradient of the same objective, by importance sampling, finished the estimate."
)


def at_an_edge(problem: Problem, u: np.ndarray, idle: np.ndarray) -> bool:
    """Whether a block of Omega is nearly singular, or has a direction of its own among those (R, P) found without information."""
    model = problem.at(u)
    for entry, block, columns in free_blocks(problem.inventory, problem.model):
        elsewhere = np.ones(len(u), bool)
        elsewhere[columns] = False
        if is_singular(entry.get(model), block, _NEAR) or np.any(~np.any(idle[:, elsewhere], axis=1)):
            return True
    return False


def finished(problem: Problem, u: np.ndarray, modes: np.ndarray, show: Callable[[int, float, float], None]) -> Minimum | None:
    """The minimum of the objective that the search from SAEM's estimate leads to; None where it has no gradient there.

    Raises
    ------
    KeyboardInterrupt
        Before the first evaluation.
    """
    try:
        return minimise(problem, u, modes, show=show)
    except BadStart:
        return None
