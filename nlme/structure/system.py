"""A system of equations together with the columns of its jets: what a solver integrates.

The state is a tuple with one jet per compartment.  Its parts are separate arrays, so that XLA runs each operation of a step as
one loop over the subjects; packing them side by side has been measured to take four times as long.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.structure.jets import Columns, Jet

State = tuple[Jet, ...]


class System:
    """dy/du = flow(u, y, inputs) on 0 <= u <= 1, and the equations of its derivatives.

    Parameters
    ----------
    columns : which derivatives are carried
    flow : ``flow(u, amounts, *inputs)`` with ``amounts`` a tuple of s numbers; returns s numbers
    inputs : jets of everything else that moves with the directions
    """

    def __init__(self, columns: Columns, flow: Callable, inputs: tuple[Jet, ...]):
        self.columns, self.flow, self.inputs = columns, flow, inputs
        self.slope = jax.jit(self._slope)  # traced once for all stages

    def _slope(self, u: Float[Array, ""], y: State) -> State:
        """Jets of the slopes at (u, y)."""
        return self._pushed(lambda amounts, *z: self.flow(u, amounts, *z), y)

    def linearised(self, u: Float[Array, ""], y: State) -> tuple[Jet, ...]:
        """Jets of the rows of [df/dy, df/du]: one jet of (s + 1,) per state."""

        def rows(amounts, *z):
            def slopes(point):
                return self.flow(point[-1], tuple(point[:-1]), *z)

            return jax.jacfwd(slopes)(jnp.stack([*amounts, u]))

        return self._pushed(rows, y)

    def _pushed(self, function: Callable, y: State) -> tuple[Jet, ...]:
        size = len(y)
        return self.columns.push(lambda *x: function(x[:size], *x[size:]), *y, *self.inputs)
