"""Descent of a training aid's objective: limited-memory BFGS, which needs no more than gradients and forgets nothing at a failed step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

_PAIRS = 30
_HUGE = 1e15  # in the place of an objective that is not a number
_FLAT = 1e-9  # relative fall of the objective in one iteration that ends it


@dataclasses.dataclass(frozen=True)
class End:
    """Where a descent ended: the point (a pytree), the objective, iterations, and whether Ctrl-C ended it."""

    at: Any
    objective: float
    iterations: int
    interrupted: bool = False

    @property
    def sentence(self) -> str:
        how = "interrupted" if self.interrupted else "objective"
        return f"{how} {self.objective:.2f} after {self.iterations} iterations."


def descended(objective: Callable, start, iterations: int, show: Callable[[int, float, float], None]) -> End:
    """The search from ``start``, a pytree; ``objective`` gives value and gradient. The best point seen counts."""
    from scipy.optimize import minimize

    x0, back = ravel_pytree(jax.tree.map(np.asarray, start))
    best, taken = [np.inf, np.asarray(x0), np.inf], [0]

    def evaluated(x):
        value, slope = objective(back(x))
        value, slope = float(value), np.asarray(ravel_pytree(slope)[0])
        if not np.isfinite(value) or not np.all(np.isfinite(slope)):
            return _HUGE, np.zeros_like(x)
        if value < best[0]:
            best[:] = value, x.copy(), float(np.max(np.abs(slope), initial=0.0))
        return value, slope

    def told(x):
        taken[0] += 1
        show(taken[0], best[0], best[2])

    options = {"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": _PAIRS, "ftol": _FLAT, "gtol": 1e-6}
    interrupted = False
    try:
        minimize(evaluated, np.asarray(x0), jac=True, method="L-BFGS-B", callback=told, options=options)
    except KeyboardInterrupt:
        interrupted = True
    return End(back(best[1]), best[0], taken[0], interrupted)
