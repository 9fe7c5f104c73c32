"""Doses of a design with other amounts: the events of every replicate's subjects, with nothing else changed.

What is laid out are the doses as planned.  Another amount keeps the length of an infusion (its rate follows), so that no event moves
that parameters do not move; an amount of 0 is a dose that was not given.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from nlme.dynamics.events import BOLUS, FILL, GIVEN_DURATION, GIVEN_RATE, START, STOP
from nlme.errors import DataError, name_error
from nlme.language.ragged import Ragged
from nlme.simulation.records import Design


class Doses:
    """The doses of a design that can be amended: those into one compartment, additional ones each on its own.

    Attributes
    ----------
    time, planned : (N, D) time and amount; NaN and 0 where a subject has fewer
    before : (N, D) how many of the subject's records (in file order) come before each
    """

    def __init__(self, design: Design, into: str | None):
        self.design = design
        self.compartment = self._governed(into)
        subjects = [self._of_part(part) for part in design.layout.arrays.parts]
        most = max(1, *(len(times) for part in subjects for times, _ in part.values()))
        count = design.layout.n_subjects
        self.time, self.planned = np.full((count, most), np.nan), np.zeros((count, most))
        for part in subjects:
            for i, (times, amounts) in part.items():
                self.time[i, : len(times)], self.planned[i, : len(times)] = times, amounts
        self._slots = [self._slot_of(part) for part in design.layout.arrays.parts]
        self.before = self._preceding()
        if any(part.data.timeline.restarts for part in design.layout.arrays.parts):
            raise DataError(
                "Rules need one axis of time, and a subject's clock restarts at a reset: give each period its own subject."
            )

    @property
    def steady(self) -> np.ndarray:
        """(N,) time of each subject's last dose at steady state, which is reached as planned; minus infinity without one."""
        found = np.full(len(self.time), -np.inf)
        for part in self.design.layout.arrays.parts:
            t = part.data.timeline
            own = (np.asarray(t.kind) == FILL) & (np.asarray(t.compartment) == self.compartment)
            found[np.asarray(part.members)] = np.where(own, np.asarray(t.time), -np.inf).max(axis=1)
        return found

    def _governed(self, into: str | None) -> int:
        states, entered = self.design.anatomy.states, set()
        for part in self.design.layout.arrays.parts:
            entered |= set(part.data.timeline.dosed)
        if into is not None:
            if into not in states:
                raise DataError("into=: " + name_error("state", into, states, self.design.anatomy.structure))
            if states.index(into) not in entered:
                raise DataError(f"into={into!r}: no dose of the population goes there.")
            return states.index(into)
        if len(entered) != 1:
            listed = ", ".join(states[k] for k in sorted(entered)) or "none"
            raise DataError(f"The rule governs the doses into one compartment, and the population doses {listed}: say into=.")
        return entered.pop()

    def _of_part(self, part) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        t, found = part.data.timeline, {}
        kind, time, amount, where, queue = (np.asarray(x) for x in (t.kind, t.time, t.amount, t.compartment, t.queue))
        for row, i in enumerate(np.asarray(part.members)):
            own = ((kind[row] == BOLUS) | (kind[row] == START)) & (where[row] == self.compartment) & (queue[row] == 0)
            found[int(i)] = time[row, own], amount[row, own]
        return found

    def _slot_of(self, part) -> np.ndarray:
        """(n, E) which dose an event belongs to; -1: none, or one at steady state, which was given before."""
        t = part.data.timeline
        kind, where, queue, source = (np.asarray(x) for x in (t.kind, t.compartment, t.queue, t.source))
        slot = np.full(kind.shape, -1)
        for row in range(len(kind)):
            open_: dict[int, list[int]] = {}
            k = 0
            for e in np.flatnonzero((where[row] == self.compartment) & (queue[row] == 0)):
                if kind[row, e] in (BOLUS, START):
                    slot[row, e], k = k, k + 1
                    open_.setdefault(int(source[row, e]), []).append(slot[row, e])
                elif kind[row, e] == STOP:  # the infusions of one record end in the order in which they begin
                    slot[row, e] = open_[int(source[row, e])].pop(0)
        return slot

    def _preceding(self) -> np.ndarray:
        """(N, D) records before each dose, in the order of events."""
        before = np.zeros(self.time.shape, int)
        for part, slots in zip(self.design.layout.arrays.parts, self._slots, strict=True):
            t = part.data.timeline
            kind, sample = np.asarray(t.kind), np.asarray(t.sample)
            real = self.design.layout.positions[np.asarray(part.members)][:, np.asarray(part.places)] >= 0
            for row, i in enumerate(np.asarray(part.members)):
                for e in np.flatnonzero((slots[row] >= 0) & (kind[row] != STOP)):
                    before[i, slots[row, e]] = int(np.sum(real[row] & (sample[row] < e)))
        return before

    def held(self, replicates: int, who: np.ndarray | None = None) -> Held:
        """The subjects of R replicates: all of the design, or those at ``who`` (R, n)."""
        design = self.design
        if who is None:
            who, whole = np.tile(np.arange(design.layout.n_subjects), replicates), design.arrays(replicates)
        else:
            who, whole = who.ravel(), design.layout.recruited(who.ravel())
        classes = zip(design.layout.arrays.parts, self._slots, strict=True)
        there = [slots for own, slots in classes if np.isin(who, np.asarray(own.members)).any()]
        slots = [own if p.source is None else own[np.asarray(p.source)] for p, own in zip(whole.parts, there, strict=True)]
        whole = dataclasses.replace(whole, parts=tuple(part.with_data_of_its_own() for part in whole.parts))
        return Held(whole, tuple(slots))


@dataclasses.dataclass(frozen=True)
class Held:
    """Subjects of some replicates with their doses as planned, and by class which dose each event belongs to (n, E)."""

    planned: Ragged
    slots: tuple[np.ndarray, ...]

    def given(self, amounts: np.ndarray) -> Ragged:
        """The same subjects with these amounts (R, n, D)."""
        flat, parts = amounts.reshape(-1, amounts.shape[-1]), []
        for part, slot in zip(self.planned.parts, self.slots, strict=True):
            own = flat[np.asarray(part.members)[:, None], np.maximum(slot, 0)]
            parts.append(dataclasses.replace(part, data=_with_amounts(part.data, slot, own)))
        return dataclasses.replace(self.planned, parts=tuple(parts))


def _with_amounts(data, slot: np.ndarray, amounts: np.ndarray):
    t = data.timeline
    planned, given, how = (np.asarray(x) for x in (t.amount, t.given, t.how))
    governed = slot >= 0
    amount = np.where(governed, amounts, planned)
    rated = governed & (how == GIVEN_RATE)
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = np.where(rated & (amount != planned), amount / planned, 1.0)
        length = planned / given
    none = rated & (amount == 0.0)  # a rate of zero would have no end
    timeline = dataclasses.replace(
        t,
        amount=jnp.asarray(amount),
        given=jnp.asarray(np.where(none, length, given * factor)),
        how=jnp.asarray(np.where(none, GIVEN_DURATION, how)),
    )
    return dataclasses.replace(data, timeline=timeline)
