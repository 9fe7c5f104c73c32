"""Descent of a training aid's objective: limited-memory BFGS, which needs no more than gradients and forgets nothing at a failed step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

_PAIRS = 30
_HUGE = 1e15  # in the place of an objective that is not a number


def descended(objective: Callable, start, iterations: int, tolerance: float = 1e-6) -> tuple[object, float, int]:
    """(end, objective, iterations) of the search from ``start``, a pytree; ``objective`` gives value and gradient."""
    from scipy.optimize import minimize

    x0, back = ravel_pytree(jax.tree.map(np.asarray, start))
    best = [np.inf, np.asarray(x0)]

    def evaluated(x):
        value, slope = objective(back(x))
        value, slope = float(value), np.asarray(ravel_pytree(slope)[0])
        if not np.isfinite(value) or not np.all(np.isfinite(slope)):
            return _HUGE, np.zeros_like(x)
        if value < best[0]:
            best[:] = value, x.copy()
        return value, slope

    found = minimize(
        evaluated, np.asarray(x0), jac=True, method="L-BFGS-B",
        options={"maxiter": iterations, "maxfun": 2 * iterations, "maxcor": _PAIRS, "ftol": tolerance * 1e-3, "gtol": 1e-6},
    )  # fmt: skip
    return back(best[1]), best[0], int(found.nit)
