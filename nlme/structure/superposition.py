"""Linear structures with constant parameters: the states as a sum over doses, all samples and doses at once.

Each dose adds the response of an empty system to it; a dose counts for the samples after it (in record order at equal times) up
to the next reset.  The work grows as samples x doses, without a loop over events.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.structure.dosing import StructureAt, doses, linear_steady_state
from nlme.structure.events import BOLUS, FILL, START, Timeline
from nlme.structure.jets import Columns, Jet

_BREAK_EVEN = 6  # one event of the scan costs about as much as this many (sample, dose) pairs here (measured)


def worthwhile(timeline: Timeline) -> bool:
    """Whether the sum over doses is both valid (constant parameters) and cheaper than the scan over events."""
    samples, given, events = (x.shape[0] for x in (timeline.sample, timeline.doses, timeline.time))
    return timeline.rows == 1 and samples * given <= _BREAK_EVEN * events


def superpose(
    structure_at: StructureAt, packed: Float[Array, "m C"], columns: Columns, timeline: Timeline
) -> Jet:
    """Jet of the states (T, s) at the samples."""
    events, samples = timeline.doses, timeline.sample
    kind = timeline.kind[events][None, :]
    compartment = timeline.compartment[events]
    sampled = timeline.sample_clock[:, None]
    same_epoch = timeline.sample_epoch[:, None] == timeline.epoch[events][None, :]
    earlier = events[None, :] <= samples[:, None]

    def states(z):
        structure = structure_at(z, 0)
        size = len(structure.states)
        at = doses(structure_at, z, timeline, events)
        since = sampled - at.time[None, :]
        here = [(compartment == k)[None, :] for k in range(size)]
        counts = same_epoch & ((since > 0.0) | ((since == 0.0) & earlier)) & (at.left > 0.0)[None, :]
        since = jnp.where(counts, since, 0.0)
        dosed = [k in timeline.dosed for k in range(size)]
        begins = [jnp.where(h & (kind == BOLUS), at.amount[None, :], 0.0) if d else 0.0 for h, d in zip(here, dosed, strict=True)]
        if timeline.steady:
            slots = jnp.arange(timeline.fills.amount.shape[0])
            fills = jax.vmap(lambda f: linear_steady_state(structure_at, z, timeline, f, size))(slots)
            fills = fills[timeline.fill[events]]
            begins = [jnp.where(kind == FILL, fills[None, :, k], b) for k, b in enumerate(begins)]
        total = structure.advance(tuple(begins), None, since)
        if timeline.infusions:
            infused = jnp.minimum(since, at.length[None, :])
            rates = [jnp.where(h & (kind == START), at.rate[None, :], 0.0) if d else 0.0 for h, d in zip(here, dosed, strict=True)]
            after = structure.infused(tuple(rates), infused, since - infused)
            total = tuple(a + b for a, b in zip(total, after, strict=True))
        return jnp.stack([jnp.sum(jnp.where(counts, x, 0.0), axis=1) for x in total], axis=1)

    return columns.parts(states, packed)
