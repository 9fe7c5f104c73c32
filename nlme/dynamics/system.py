"""A system of equations together with the columns of its jets: what a solver integrates.

The state is a tuple with one jet per compartment.  Its parts are separate arrays, so that XLA runs each operation of a step as
one loop over the subjects; packing them side by side has been measured to take four times as long.  Columns of a state that
are zero whatever the parameters (the depot knows nothing of the clearance) are not integrated.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.jets.chain import Chain, joined
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse

State = tuple[Jet, ...]


class System:
    """dy/du = flow(u, y, inputs) on 0 <= u <= 1, and the equations of its derivatives.

    Parameters
    ----------
    columns : which derivatives are carried
    flow : ``flow(u, amounts, *inputs)`` with ``amounts`` a tuple of s numbers; returns s numbers
    inputs : jets of everything else that moves with the directions, each of a vector
    moved : which columns each element of each input occupies
    kept : which columns each state has
    materialise : whether what a stage comes to is to be computed once and kept.  XLA otherwise computes slopes anew in every loop that
        uses them, and those of the stage before in these, and so on
    """

    def __init__(
        self,
        columns: Columns,
        flow: Callable,
        inputs: tuple[Jet, ...],
        moved: tuple[tuple[Occupied, ...], ...],
        kept: tuple[Occupied, ...],
        materialise: bool = False,
    ):
        self.columns, self.flow, self.inputs, self.moved, self.kept = columns, flow, inputs, moved, kept
        self._materialise = materialise
        everything = Occupied.all_of(columns)
        self._elements = [
            Sparse(*jet, everything).element(k, of_element)
            for jet, occupied in zip(inputs, moved, strict=True)
            for k, of_element in enumerate(occupied)
        ]
        self._batch = inputs[0].value.shape[1:]
        number = jax.ShapeDtypeStruct(self._batch, float)
        self._chain = Chain(columns, self._flow, [number] * (1 + len(kept)), self._elements)
        self.slope = jax.jit(self._slope)  # traced once for all stages

    @classmethod
    def with_all_columns(cls, columns: Columns, flow: Callable, inputs: tuple[Jet, ...], size: int) -> System:
        """One of ``size`` states that may all depend on everything."""
        everything = Occupied.all_of(columns)
        return cls(columns, flow, inputs, tuple((everything,) * jet.value.shape[0] for jet in inputs), (everything,) * size)

    def _flow(self, u, *numbers):
        """Slopes from ``u``, the states and the elements of all inputs."""
        amounts, rest = numbers[: len(self.kept)], list(numbers[len(self.kept) :])
        inputs = [joined([rest.pop(0) for _ in occupied], self._batch) for occupied in self.moved]
        return self.flow(u, tuple(amounts), *inputs)

    def _slope(self, u: Float[Array, ""], y: State) -> State:
        """Jets of the slopes at (u, y)."""
        u = jnp.broadcast_to(jnp.asarray(u, float), self._batch)
        states = [Sparse(*jet, kept) for jet, kept in zip(y, self.kept, strict=True)]

        def slopes():
            return tuple(out.into(kept).jet() for out, kept in zip(self._chain(Sparse(u), *states), self.kept, strict=True))

        return self.materialised(u, slopes)

    def materialised(self, u: Float[Array, ...], compute: Callable):
        """``compute()``, arrays, computed once and kept, in a step at ``u``; see ``materialise``."""
        if not self._materialise:
            return compute()
        outside = u < 0.0  # never, which XLA cannot know
        if not self.columns.directions:
            # what is divided is not computed twice: a division counts as expensive
            one = jnp.where(outside, 2.0, 1.0)
            return jax.tree.map(lambda x: x / one, compute())
        # the branches of a condition are programs of their own.  (Its barriers for optimisation are taken away on a CPU before it
        # forms loops.)
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape), jax.eval_shape(compute))
        return jax.lax.cond(~jnp.ravel(outside)[0], compute, lambda: nothing)

    def linearised(self, u: Float[Array, ""], y: State) -> tuple[Jet, ...]:
        """Jets of the rows of [df/dy, df/du]: one jet of (s + 1,) per state, with all columns."""
        size = len(y)
        # one direction for every state and one for u
        basis = [jnp.broadcast_to(e.reshape(-1, *(1,) * len(self._batch)), (size + 1, *self._batch)) for e in jnp.eye(size + 1)]

        def rows(u, *numbers):
            def slopes(u, *amounts):
                return tuple(self._flow(u, *amounts, *numbers[size:]))

            def along(*tangents):
                return jax.jvp(slopes, (u, *numbers[:size]), (tangents[-1], *tangents[:-1]))[1]

            return jax.vmap(along)(*basis)

        states = [Sparse(*jet, kept) for jet, kept in zip(y, self.kept, strict=True)]
        u = Sparse(jnp.broadcast_to(jnp.asarray(u, float), self._batch))
        chain = Chain(self.columns, rows, [x.value for x in (u, *states)], self._elements)
        every = Occupied.all_of(self.columns)
        return self.materialised(u.value, lambda: tuple(row.into(every).jet() for row in chain(u, *states)))


def occupied_states(
    columns: Columns,
    flow: Callable,
    moved: tuple[tuple[Occupied, ...], ...],
    entering: tuple[Occupied, ...],
) -> tuple[Occupied, ...]:
    """Which columns of each state can ever differ from zero, if those ``entering`` do in the beginning or by a dose."""
    kept = entering
    if all(occupied == Occupied.all_of(columns) for occupied in entering):
        return kept  # there are no more
    number = jax.ShapeDtypeStruct((), float)
    inputs = [occupied for of_input in moved for occupied in of_input]

    def jet(occupied: Occupied) -> Sparse:
        parts = (jnp.zeros(len(part)) if part else None for part in (occupied.directions, occupied.pairs))
        return Sparse(jnp.zeros(()), *parts, occupied)

    while True:
        found: list[Occupied] = []

        def slopes(kept=kept, found=found):
            def flat(u, *numbers):
                rest = list(numbers[len(kept) :])
                return flow(u, numbers[: len(kept)], *(joined([rest.pop(0) for _ in of_input]) for of_input in moved))

            chain = Chain(columns, flat, [number] * (1 + len(kept)), [jet(occupied) for occupied in inputs])
            found.extend(out.occupied for out in chain(Sparse(jnp.zeros(())), *(jet(occupied) for occupied in kept)))

        jax.eval_shape(slopes)
        grown = tuple(before | after for before, after in zip(kept, found, strict=True))
        if grown == kept:
            return kept
        kept = grown
