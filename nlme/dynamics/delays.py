"""States at earlier times: y(t - tau) in the equations, by the method of steps on what has been solved so far.

Every step that is taken leaves the values, slopes and second derivatives of all states at both of its ends, with their jets, and
between them the state is the polynomial of degree 5 through these (Hermite; its error is of order h^6).  No step is longer than the
shortest delay, so that what it looks back at has been solved (Bellen & Zennaro, Numerical Methods for Delay Differential Equations
2003, ch. 3 and 4).  A piece is evaluated at a time with a jet, so that derivatives in a delay are those of this one computation.

A state or a slope jumps at the start, at doses, ends of infusions, resets, event times and where parameters change: at an *origin*.
What jumps there makes the slope jump a delay later, and the second derivative two delays later.  These times, which move with the
delay, are events (``events.ECHO``).  Whether an origin lies behind or before the time that is looked back at is told by counting
the echoes that have passed, never by comparing times, which may be equal.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.system import Rows, State
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse

KEPT = 512  # steps that are remembered
_EQUAL = 1e-13  # relative difference of times that are the same but for rounding


class Past(NamedTuple):
    """The last steps: a ring of N, and what has been passed.  Arrays may have a last axis over subjects."""

    pieces: Float[Array, "N C 6 s ..."]  # y, y', y'' in the step's own time (0 to 1) at its begin and at its end, packed jets
    times: Float[Array, "N C 2 ..."]  # of both, packed jets
    era: Int[Array, "N ..."]  # how many origins had been passed; 0: empty
    serial: Int[Array, "N ..."]
    count: Int[Array, ...]  # of all steps
    origins: Int[Array, ...]  # passed since the start or the last reset, which is the first
    echoes: Int[Array, "M ..."]  # of them, that have passed for each delay

    @classmethod
    def nothing(cls, columns: Columns, states: int, delays: int, batch: tuple[int, ...]) -> Past:
        count, none = columns.count, jnp.zeros(batch, int)
        ring = jnp.zeros((KEPT, *batch), int)
        return cls(
            jnp.zeros((KEPT, count, 6, states, *batch)),
            jnp.zeros((KEPT, count, 2, *batch)),
            ring,
            ring,
            none,
            none + 1,
            jnp.zeros((delays, *batch), int),
        )

    def forgotten(self, emptied: Bool[Array, ...]) -> Past:
        """The past where a reset begins anew."""
        return self._replace(
            era=jnp.where(emptied, 0, self.era),
            origins=jnp.where(emptied, 1, self.origins),
            echoes=jnp.where(emptied, 0, self.echoes),
        )

    def passing(self, origin: Bool[Array, ...], delay: Int[Array, ...]) -> Past:
        """After an event that may be an origin, or the first echo of one for the delay of this number (negative: of none)."""
        which = jnp.arange(self.echoes.shape[0]).reshape(-1, *(1,) * delay.ndim)
        return self._replace(origins=self.origins + origin, echoes=self.echoes + (which == delay))

    def remembering(self, piece: Float[Array, "C 6 s ..."], times: Float[Array, "C 2 ..."], taken: Bool[Array, ...]) -> Past:
        """With one step more, where it is ``taken``."""
        place = self.count % KEPT

        def written(ring, value):
            def put(ring, value, place, taken):
                return ring.at[place].set(jnp.where(taken, value, ring[place]))

            return (jax.vmap(put, -1, -1) if place.ndim else put)(ring, value, place, taken)

        return self._replace(
            pieces=written(self.pieces, piece),
            times=written(self.times, times),
            era=written(self.era, self.origins),
            serial=written(self.serial, self.count),
            count=self.count + taken,
        )

    def full(self, longest: Float[Array, ...], now: Float[Array, ...]) -> Bool[Array, ...]:
        """Whether the next step would be written over one that is still looked back at."""
        place = self.count % KEPT
        end, era = _row(self.times, place)[0, 1], _row(self.era, place)
        return (era > 0) & (end > now - longest)


class Lookback:
    """What the equations look back at within one interval between events."""

    def __init__(self, columns: Columns, begin: Jet, end: Jet, delays: Float[Array, "M ..."]):
        self.columns, self.delays = columns, delays
        self.begin, self.end = _packed(begin), _packed(end)
        self.longest = jnp.max(delays, axis=0)
        length = self.end[0] - self.begin[0]
        self.limit = jnp.min(delays, axis=0) / jnp.where(length > 0.0, length, 1.0)

    @property
    def count(self) -> int:
        return self.delays.shape[0]

    def time(self, u) -> Float[Array, "C ..."]:
        """Packed jet of the time at ``u``."""
        return self.begin + u * (self.end - self.begin)

    def rows(self, past: Past, u) -> tuple[Rows, ...]:
        """For every delay the piece in which the time at ``u``, less the delay, lies.

        Events stand where a derivative jumps because one jumped a delay before: at the end of an interval the piece before that time
        counts, elsewhere the one after it, whatever rounding says of times that are equal.
        """
        now = self.begin[0] + u * (self.end[0] - self.begin[0])
        shift = jnp.where(u > 1.0 - _EQUAL, -1.0, 1.0) * _EQUAL * (jnp.abs(now) + self.longest)
        return tuple(self._piece(past, now - self.delays[m] + shift, past.echoes[m]) for m in range(self.count))

    def _piece(self, past: Past, time, echoes) -> Rows:
        early = echoes == 0
        own = (past.era == echoes) & (past.era > 0)
        behind = (past.era < echoes) & (past.era > 0)
        begin = past.times[:, 0, 0]
        # the last that has begun; else the first of the era, a rounding error too late; else, of an era without length, what was before
        most = past.count + 1
        rank = jnp.where(own & (begin <= time), 3 * most + past.serial, jnp.where(own, 2 * most - past.serial, past.serial))
        place = jnp.argmax(jnp.where(own | behind, rank, -1), axis=0)
        every = Occupied.all_of(self.columns)
        piece, times = (self.columns_of(_row(ring, place)) for ring in (past.pieces, past.times))
        return Rows(Sparse(*piece, every), Sparse(*times, every), early)

    def columns_of(self, packed: Float[Array, "C ..."]) -> Jet:
        d = self.columns.directions
        return Jet(packed[0], packed[1 : 1 + d] if d else None, packed[1 + d :] if self.columns.pairs else None)


def piece_of(h, ends: tuple[tuple[State, State, State], ...]) -> Float[Array, "C 6 s ..."]:
    """A step of size ``h`` from its state, slope and second derivative at the begin and at the end."""
    parts = [jnp.stack([h**power * _packed(x) for x in state], axis=1) for values in ends for power, state in enumerate(values)]
    return jnp.stack(parts, axis=1)


def _packed(jet: Jet) -> Float[Array, "C ..."]:
    return jnp.concatenate([jet.value[None], *(part for part in jet[1:] if part is not None)])


def _row(ring: Array, place: Int[Array, ...]) -> Array:
    """The entry of a ring at a place, which may differ between subjects."""
    if not place.ndim:
        return ring[place]
    return jax.vmap(lambda ring, place: ring[place], -1, -1)(ring, place)


def hermite(piece: Float[Array, "6 s"], times: Float[Array, " 2"], time) -> Float[Array, " s"]:
    """The states at ``time`` by the polynomial of degree 5 of a step."""
    begin, end = times[0], times[1]
    length = end - begin
    x = (time - begin) / jnp.where(length > 0.0, length, 1.0)
    y0, d0, c0, y1, d1, c1 = (piece[k] for k in range(6))
    after = x**3 * (10.0 - 15.0 * x + 6.0 * x**2)
    at_begin = d0 * (x - x**3 * (6.0 - 8.0 * x + 3.0 * x**2)) + c0 * 0.5 * x**2 * (1.0 - x) ** 3
    at_end = d1 * x**3 * (-4.0 + 7.0 * x - 3.0 * x**2) + c1 * 0.5 * x**3 * (1.0 - x) ** 2
    return y0 + (y1 - y0) * after + at_begin + at_end
