"""A system of equations together with the columns of its jets: what a solver integrates.

The state is a tuple with one jet per compartment.  Its parts are separate arrays, so that XLA runs each operation of a step as
one loop over the subjects; packing them side by side has been measured to take four times as long.  Columns of a state that
are zero whatever the parameters (the depot knows nothing of the clearance) are not integrated.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.dynamics.elimination import Elimination
from nlme.jets.chain import Chain, joined
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse

State = tuple[Jet, ...]


class Rows(NamedTuple):
    """The piece of the past that a delay looks back at, and whether it is before all that has been solved (``dynamics.delays``)."""

    piece: Sparse  # (6, s)
    times: Sparse  # (2,)
    early: Array


class System:
    """dy/du = flow(u, y, inputs) on 0 <= u <= 1, and the equations of its derivatives.

    Parameters
    ----------
    columns : which derivatives are carried
    flow : ``flow(u, amounts, *inputs)`` with ``amounts`` a tuple of s numbers; returns s numbers
    inputs : jets of everything else that moves with the directions, each of a vector
    moved : which columns each element of each input occupies
    kept : which columns each state has
    algebraic : which states are determined by 0 = (their element of ``flow``) instead
    lookback : what delays look back at (``dynamics.delays.Lookback``); ``flow`` then gets the rows of each as its last argument, as
        soon as there is a past (``remembering``)
    longest : u -> how long a step from there may be at most
    materialise : whether what a stage comes to is to be computed once and kept.  XLA otherwise computes slopes anew in every loop that
        uses them, and those of the stage before in these, and so on
    """

    looped = False  # whether the stages of a step are to be a loop

    def __init__(
        self,
        columns: Columns,
        flow: Callable,
        inputs: tuple[Jet, ...],
        moved: tuple[tuple[Occupied, ...], ...],
        kept: tuple[Occupied, ...],
        algebraic: tuple[bool, ...] = (),
        materialise: bool = False,
        lookback=None,
        longest: Callable | None = None,
    ):
        self.lookback, self.past, self.longest = lookback, None, longest
        self.columns, self.flow, self.inputs, self.moved, self.kept = columns, flow, inputs, moved, kept
        self.algebraic = algebraic or (False,) * len(kept)
        self.size, self._materialise = len(kept), materialise
        everything = Occupied.all_of(columns)
        self._batch = inputs[0].value.shape[1:]
        # for one subject without derivatives nothing is gained by taking a thousand weights apart, in every step
        self._apart = bool(columns.directions or self._batch)
        if self._apart:
            self._elements = [
                Sparse(*jet, everything).element(k, of_element)
                for jet, occupied in zip(inputs, moved, strict=True)
                for k, of_element in enumerate(occupied)
            ]
        else:
            self._elements = [Sparse(jet.value) for jet in inputs]
        self.begin = jnp.zeros(self._batch)  # of the interval
        number = jax.ShapeDtypeStruct(self._batch, float)
        self._numbers = [number] * (1 + len(kept))
        self._chain = Chain(columns, self._flow, [*self._numbers, *self._looked_at()], self._elements)
        self.slope = jax.jit(self._slope)  # traced once for all stages

    @classmethod
    def with_all_columns(cls, columns: Columns, flow: Callable, inputs: tuple[Jet, ...], size: int) -> System:
        """One of ``size`` states that may all depend on everything."""
        everything = Occupied.all_of(columns)
        return cls(columns, flow, inputs, tuple((everything,) * jet.value.shape[0] for jet in inputs), (everything,) * size)

    def remembering(self, past) -> System:
        """The same with this past, which the time that is asked for is looked up in (None: it has no delays)."""
        if past is None:
            return self
        new = copy.copy(self)
        new.past = past
        new.slope = jax.jit(new._slope)
        return new

    def _looked_at(self) -> list[jax.ShapeDtypeStruct]:
        """The shapes of what the delays look back at."""
        if self.lookback is None:
            return []
        shapes = [((6, len(self.kept)), float), ((2,), float), ((), bool)]
        return [jax.ShapeDtypeStruct((*shape, *self._batch), kind) for shape, kind in shapes] * self.lookback.count

    def _rows(self, u) -> list[Sparse]:
        """What the delays look back at, at ``u``."""
        rows = () if self.lookback is None else self.lookback.rows(self.past, u)
        return [x for row in rows for x in (row.piece, row.times, Sparse(row.early))]

    def _flow(self, u, *numbers):
        """Slopes from ``u``, the states, what the delays look back at and the elements of all inputs."""
        rest = list(numbers)
        amounts = tuple(rest.pop(0) for _ in self.kept)
        looked = [rest.pop(0) for _ in self._looked_at()]
        if self._apart:
            inputs = [joined([rest.pop(0) for _ in occupied], self._batch) for occupied in self.moved]
        else:
            inputs = rest
        if self.lookback is not None:
            inputs.append(tuple(Rows(*looked[k : k + 3]) for k in range(0, len(looked), 3)))
        return self.flow(u, amounts, *inputs)

    def _slope(self, u: Float[Array, ""], y: State) -> State:
        """Jets of the slopes at (u, y)."""
        u = jnp.broadcast_to(jnp.asarray(u, float), self._batch)
        states = [Sparse(*jet, kept) for jet, kept in zip(y, self.kept, strict=True)]

        def slopes():
            found = self._chain(Sparse(u), *states, *self._rows(u))
            return tuple(out.into(kept).jet() for out, kept in zip(found, self.kept, strict=True))

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

    def where_differential(self, of: State, otherwise: State) -> State:
        """``of`` for the states with a slope, ``otherwise`` for algebraic ones."""
        return tuple(b if algebraic else a for a, b, algebraic in zip(of, otherwise, self.algebraic, strict=True))

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
        chain = Chain(self.columns, rows, [*self._numbers, *self._looked_at()], self._elements)
        every = Occupied.all_of(self.columns)
        looked = self._rows(u.value)
        return self.materialised(u.value, lambda: tuple(row.into(every).jet() for row in chain(u, *states, *looked)))

    def implicit(self, u, y: State, diagonal: Float[Array, ""]) -> tuple[State, Callable[[State], State]]:
        """Jets of df/du at (u, y), and the solution of (M diagonal - df/dy) x = b for jets b."""
        rows = self.linearised(u, y)
        materialised = functools.partial(self.materialised, u)
        return tuple(row.at((-1,)) for row in rows), Elimination(self.columns, rows, self.algebraic, diagonal, materialised)

    def turned(self, u: Float[Array, ""], y: State, slope: State) -> State:
        """Jets of the second derivatives d2y/du2 at (u, y), where the slope is ``slope``."""
        size = len(y)

        def turns(u, *numbers):
            def slopes(u, *amounts):
                return tuple(self._flow(u, *amounts, *numbers[2 * size :]))

            return jax.jvp(slopes, (u, *numbers[:size]), (jnp.ones_like(u), *numbers[size : 2 * size]))[1]

        chain = Chain(self.columns, turns, [*self._numbers, *self._numbers[1:], *self._looked_at()], self._elements)
        u = jnp.broadcast_to(jnp.asarray(u, float), self._batch)
        given = [Sparse(*jet, kept) for jets in (y, slope) for jet, kept in zip(jets, self.kept, strict=True)]
        looked = self._rows(u)

        def found():
            return tuple(out.into(kept).jet() for out, kept in zip(chain(Sparse(u), *given, *looked), self.kept, strict=True))

        return self.materialised(u, found)


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
