"""Whether a function has kinks, seen by its values: slopes or curvatures that jump.

Along lines through the origin, first and second derivatives are looked at on a fine grid.  Where neighbours differ most, the
place is closed in on: in a smooth function the difference vanishes with the distance, a jump stays.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

_LINES, _REACH, _POINTS, _ROUNDS = 4, 8.0, 400, 5
_STAYS = 0.2  # share of the first difference that is left when the distance is 1e-5 of what it was


def kinked(function: Callable, n_inputs: int) -> bool:
    """Whether ``function`` of a vector (n,), with a vector for its value, jumps in its first or second derivative on any of the
    lines."""
    lines = np.random.default_rng(0).normal(size=(_LINES, n_inputs))
    lines *= np.sqrt(n_inputs) / np.linalg.norm(lines, axis=1, keepdims=True)

    @jax.jit
    def along(line, offset, s):
        def at(s):
            return function(offset + s * line)

        slope = jax.jacfwd(at)
        return jax.vmap(lambda s: jnp.stack([slope(s), jax.jacfwd(slope)(s)]))(s)

    shift = 0.37 * lines[::-1]  # not all through the origin, where every hinge without a bias meets
    grid = np.linspace(-_REACH, _REACH, _POINTS)
    return any(_jumps(lambda s, k=k: np.asarray(along(lines[k], shift[k], s)), grid) for k in range(_LINES))


def _jumps(derivatives: Callable, grid: np.ndarray) -> bool:
    values = derivatives(grid)  # (points, 2, outputs)
    steps = np.abs(np.diff(values, axis=0))
    for order in range(values.shape[1]):
        for j in range(values.shape[2]):
            if (first := steps[:, order, j].max()) > 1e-9 * (1e-300 + np.abs(values[:, order, j]).max()):
                if _stays(lambda s, order=order, j=j: derivatives(s)[:, order, j], grid, int(steps[:, order, j].argmax()), first):
                    return True
    return False


def _stays(derivative: Callable, grid: np.ndarray, k: int, first: float) -> bool:
    """Whether the difference at interval ``k`` is left when the interval is closed in on."""
    low, high, last = grid[k], grid[k + 1], first
    for _ in range(_ROUNDS):
        inner = np.linspace(low, high, len(grid))
        steps = np.abs(np.diff(derivative(inner)))
        k, last = int(steps.argmax()), steps.max()
        low, high = inner[k], inner[k + 1]
        if last < _STAYS * first:
            return False
    return last >= _STAYS * first
