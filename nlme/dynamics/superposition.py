"""Linear systems with constant parameters: the states as a sum over doses, all samples and doses at once.

Each dose adds the response of an empty system to it; a dose counts for the samples after it (in record order at equal times) up
to the next reset.  The work grows as samples x doses, without a loop over events.

A response depends on few numbers: those of the structure (the rates of an exponential, where clearances and volumes enter only by
their ratios) and those of its dose that the parameters move (``nlme.jets.composition``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.batching import batch_last
from nlme.dynamics.dosing import Doses, StructureAt, doses, linear_steady_state
from nlme.dynamics.events import BOLUS, FILL, START, Timeline
from nlme.jets.chain import through
from nlme.jets.composition import push_composed
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied
from nlme.structure.base import DOSE_RULES, LinearStructure

# one event of the scan costs about as much as this many (sample, dose) pairs here (measured)
_BREAK_EVEN = 6  # moved by the same linear structure
_STEPPED = 2  # solved by steps, where the sum is over matrix exponentials


def worthwhile(timeline: Timeline, stepped: bool = False) -> bool:
    """Whether the sum over doses is both valid (constant parameters) and cheaper than the scan over events.

    ``stepped``: whether that scan would solve equations by steps
    """
    pairs = _STEPPED if stepped else _BREAK_EVEN
    samples, given, events = (x.shape[0] for x in (timeline.sample, timeline.doses, timeline.time))
    fixed = timeline.rows == 1 and not (timeline.event_times or timeline.switches)
    return fixed and samples * given <= pairs * events


def superpose(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    reversible: bool = False,
    occupied: Sequence[Occupied] | None = None,
) -> Jet:
    """Jet of the states (T, s) at the samples.

    ``reversible``: whether JAX shall differentiate it in reverse; ``occupied``: which columns each input occupies, if not all.
    """
    events = timeline.doses
    probe = structure_at(packed[:, 0], 0)
    size = len(probe.states)
    _, known = eqx.partition(without_rules(probe), eqx.is_inexact_array)

    def given(z):
        numbers = eqx.filter(without_rules(structure_at(z, 0)), eqx.is_inexact_array)
        at = doses(structure_at, z, timeline, events)
        fills = None
        if timeline.steady:
            slots = jnp.arange(timeline.fills.amount.shape[0])
            fills = jax.vmap(lambda f: linear_steady_state(structure_at, z, timeline, f, size))(slots)[timeline.slot[events]].T
        return numbers, at, fills

    jets, form = jets_of(given, columns, packed, occupied)
    when = _When(
        timeline.kind[events],
        timeline.compartment[events] if len(timeline.dosed) > 1 else None,
        events,
        timeline.epoch[events] if timeline.resets else None,
    )
    samples = _Samples(timeline.sample, timeline.sample_clock, timeline.sample_epoch if timeline.resets else None)
    responses = _Responses(columns, form, known, dosed_states(probe, timeline), timeline.infusions)
    states = responses(jets, when, samples) if reversible else batch_last(responses, jets, when, samples)
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=-1), *states)


def without_rules(structure: LinearStructure) -> LinearStructure:
    """What moves the states: the dose rules have done what they do."""

    def rules(s):
        return [getattr(s, which) for which in DOSE_RULES]

    return eqx.tree_at(rules, structure, [None] * len(DOSE_RULES), is_leaf=lambda x: x is None)


class _When(NamedTuple):
    kind: Int[Array, " D"]
    compartment: Int[Array, " D"] | None  # None: all doses enter the same
    place: Int[Array, " D"]
    epoch: Int[Array, " D"] | None  # None: no resets


class _Samples(NamedTuple):
    place: Int[Array, " T"]
    clock: Float[Array, " T"]
    epoch: Int[Array, " T"] | None


class Form(NamedTuple):
    """How what a response depends on is put together from its different numbers."""

    tree: Any
    which: tuple[int, ...]

    @classmethod
    def of(cls, whole) -> tuple[list, Form]:
        """The different numbers of a pytree, and how it is put together from them."""
        leaves, tree = jax.tree.flatten(whole)
        different = {id(x): x for x in leaves}
        places = list(different)
        return list(different.values()), cls(tree, tuple(places.index(id(x)) for x in leaves))

    def __call__(self, numbers: Sequence):
        return jax.tree.unflatten(self.tree, [numbers[k] for k in self.which])


def jets_of(
    given: Callable, columns: Columns, packed: Float[Array, "m C"], occupied: Sequence[Occupied] | None
) -> tuple[list[Jet], Form]:
    """Jets of the different numbers of the pytree ``given(z)``, those that do not move without derivatives, and how it is put together."""
    formed: list[Form] = []

    def told(z):
        different, form = Form.of(given(z))
        formed[:] = [form]
        return different

    numbers = through(columns, told, packed, occupied)
    every = Occupied.all_of(columns)
    return [x.into(every).jet() if x.occupied != Occupied() else Jet(x.value, None, None) for x in numbers], formed[0]


def dosed_states(structure: LinearStructure, timeline: Timeline) -> tuple[bool, ...]:
    """Whether any dose enters each state."""
    return tuple(k in timeline.dosed for k in range(len(structure.states)))


class _Responses:
    """The sum of the responses to all doses; every array may have a last axis over subjects.

    Parameters
    ----------
    form : of the numbers that are given
    known : what the structure holds besides them
    """

    def __init__(self, columns: Columns, form: Form, known, dosed: tuple[bool, ...], infusions: bool):
        self.columns, self.form, self.known, self.dosed, self.infusions = columns, form, known, dosed, infusions

    def __call__(self, jets: list[Jet], when: _When, samples: _Samples) -> tuple[Jet, ...]:
        """Jet of every state (T,), from those of the numbers; one without derivatives does not move with the parameters."""
        _, at, _ = self.form([jet.value for jet in jets])
        earlier = when.place <= samples.place[:, None]
        since = samples.clock[:, None] - at.time
        counts = (since > 0.0) | ((since == 0.0) & earlier)
        if when.epoch is not None:
            counts = counts & (samples.epoch[:, None] == when.epoch)

        def responses(*values):
            moved = iter(values)
            numbers, at, fills = self.form([jet.value if jet.first is None else next(moved) for jet in jets])
            return self._responses(eqx.combine(numbers, self.known), at, fills, when, samples, counts)

        moving = [jet for jet in jets if jet.first is not None]
        found = push_composed(self.columns, responses, moving, since.ndim)
        return tuple(
            Jet(*(None if x is None else jnp.sum(x, axis) for x, axis in zip(jet, (1, 2, 2), strict=True))) for jet in found
        )

    def _responses(self, structure: LinearStructure, at: Doses, fills, when: _When, samples: _Samples, counts) -> tuple:
        since = jnp.where(counts, samples.clock[:, None] - at.time, 0.0)

        def entering(kind, amount):
            """What a kind of dose puts into each state."""
            here = when.kind == kind
            places = [here if when.compartment is None else here & (when.compartment == k) for k in range(len(self.dosed))]
            return [jnp.where(place, amount, 0.0) if dosed else 0.0 for place, dosed in zip(places, self.dosed, strict=True)]

        begins = entering(BOLUS, at.amount)
        if fills is not None:
            begins = [jnp.where(when.kind == FILL, fill, begin) for fill, begin in zip(fills, begins, strict=True)]
        total = structure.advance(tuple(begins), None, since)
        if self.infusions:
            infused = jnp.where(
                since < at.length, since, at.length
            )  # not the minimum, which has half of each derivative at a tie
            after = structure.infused(tuple(entering(START, at.rate)), infused, since - infused)
            total = tuple(a + b for a, b in zip(total, after, strict=True))
        return tuple(jnp.where(counts, x, 0.0) for x in total)
