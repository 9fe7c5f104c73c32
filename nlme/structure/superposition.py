"""Linear systems with constant parameters: the states as a sum over doses, all samples and doses at once.

Each dose adds the response of an empty system to it; a dose counts for the samples after it (in record order at equal times) up
to the next reset.  The work grows as samples x doses, without a loop over events.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.structure.base import LinearStructure
from nlme.structure.dosing import Doses, StructureAt, doses, linear_steady_state
from nlme.structure.events import BOLUS, FILL, START, Timeline
from nlme.structure.jets import Columns, Jet
from nlme.structure.lanes import side_by_side

# one event of the scan costs about as much as this many (sample, dose) pairs here (measured)
_BREAK_EVEN = 6  # moved by the same linear structure
_STEPPED = 2  # solved by steps, where the sum is over matrix exponentials


def worthwhile(timeline: Timeline, stepped: bool = False) -> bool:
    """Whether the sum over doses is both valid (constant parameters) and cheaper than the scan over events.

    ``stepped``: whether that scan would solve equations by steps
    """
    pairs = _STEPPED if stepped else _BREAK_EVEN
    samples, given, events = (x.shape[0] for x in (timeline.sample, timeline.doses, timeline.time))
    fixed = timeline.rows == 1 and not (timeline.breaks or timeline.switches)
    return fixed and samples * given <= pairs * events


def superpose(
    structure_at: StructureAt, packed: Float[Array, "m C"], columns: Columns, timeline: Timeline, reversible: bool = False
) -> Jet:
    """Jet of the states (T, s) at the samples.  ``reversible``: whether JAX shall differentiate it in reverse."""
    events = timeline.doses
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    _, known = eqx.partition(probe, eqx.is_inexact_array)

    def given(z):
        at = doses(structure_at, z, timeline, events)
        fills = None
        if timeline.steady:
            slots = jnp.arange(timeline.fills.amount.shape[0])
            fills = jax.vmap(lambda f: linear_steady_state(structure_at, z, timeline, f, size))(slots)[timeline.fill[events]].T
        return eqx.filter(structure_at(z, 0), eqx.is_inexact_array), at, fills

    when = _When(timeline.kind[events], timeline.compartment[events], events, timeline.epoch[events])
    samples = _Samples(timeline.sample, timeline.sample_clock, timeline.sample_epoch)
    dosed = tuple(k in timeline.dosed for k in range(size))
    responses = _Responses(columns, known, dosed, timeline.infusions)
    arguments = columns.parts(given, packed), when, samples
    states = responses(*arguments) if reversible else side_by_side(responses, *arguments)
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=-1), *states)


class _When(NamedTuple):
    kind: Int[Array, " D"]
    compartment: Int[Array, " D"]
    place: Int[Array, " D"]
    epoch: Int[Array, " D"]


class _Samples(NamedTuple):
    place: Int[Array, " T"]
    clock: Float[Array, " T"]
    epoch: Int[Array, " T"]


class _Responses:
    """The sum of the responses to all doses; every array may have a last axis over subjects.

    ``known`` is what the structure holds besides numbers that move with the parameters.
    """

    def __init__(self, columns: Columns, known: LinearStructure, dosed: tuple[bool, ...], infusions: bool):
        self.columns, self.known, self.dosed, self.infusions = columns, known, dosed, infusions

    def __call__(self, given, when: _When, samples: _Samples) -> tuple[Jet, ...]:
        """Jet of every state (T,) from the jets of the structure's numbers, of its doses and of its steady states."""
        jets, form = jax.tree.flatten(given, is_leaf=lambda x: isinstance(x, Jet))

        def states(*values):
            numbers, at, fills = jax.tree.unflatten(form, values)
            return self._states(eqx.combine(numbers, self.known), at, fills, when, samples)

        return self.columns.push(states, *jets)

    def _states(self, structure: LinearStructure, at: Doses, fills, when: _When, samples: _Samples) -> tuple:
        earlier = when.place <= samples.place[:, None]
        since = samples.clock[:, None] - at.time
        counts = (samples.epoch[:, None] == when.epoch) & ((since > 0.0) | ((since == 0.0) & earlier)) & (at.left > 0.0)
        since = jnp.where(counts, since, 0.0)

        def entering(kind, amount):
            """What a kind of dose puts into each state."""
            return [
                jnp.where((when.compartment == k) & (when.kind == kind), amount, 0.0) if dosed else 0.0
                for k, dosed in enumerate(self.dosed)
            ]

        begins = entering(BOLUS, at.amount)
        if fills is not None:
            begins = [jnp.where(when.kind == FILL, fill, begin) for fill, begin in zip(fills, begins, strict=True)]
        total = structure.advance(tuple(begins), None, since)
        if self.infusions:
            infused = jnp.minimum(since, at.length)
            after = structure.infused(tuple(entering(START, at.rate)), infused, since - infused)
            total = tuple(a + b for a, b in zip(total, after, strict=True))
        return tuple(jnp.sum(jnp.where(counts, x, 0.0), axis=1) for x in total)
