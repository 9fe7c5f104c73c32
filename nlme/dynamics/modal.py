"""Linear systems under doses that no parameter moves, mode by mode.

Where exp(K t) = sum_i exp(-l_i t) P_i, the states at time t are

    sum_i P_i h(l_i),     h(l) = sum_d [ amount_d exp(-l s_d)  +  rate_d int_{a_d}^{s_d} exp(-l s) ds ]

with s_d the time since dose d began and a_d that since it ended.  h is a function of the one number l, and so no derivative in the
parameters is carried along the doses: h and its derivatives h_k in l go from event to event by

    h_k <- exp(-l u) sum_j binomial(k, j) (-u)^(k-j) h_j  +  rate (-1)^k u^(k+1) I_k(-l u),        I_k(x) = int_0^1 v^k exp(x v) dv

over a time u, and what is composed with the parameters is the Taylor polynomial of h at the samples.  A pump that changes its rate a
thousand times costs as much with second derivatives in six parameters as three numbers for every mode.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.batching import batch_last
from nlme.dynamics.dosing import StructureAt, doses
from nlme.dynamics.events import BOLUS, NOTHING, START, STOP, Timeline
from nlme.dynamics.superposition import Form, dosed_states, jets_of, without_rules
from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied
from nlme.structure.base import DOSE_RULES, LinearStructure

_SERIES = 1.0  # |x| below which the integrals are summed as a series
_TERMS = 19


def by_modes(structure: LinearStructure, timeline: Timeline) -> bool:
    """Whether the states are sums over modes after doses that no parameter moves, with parameters that stay as they are."""
    dosed = dosed_states(structure, timeline)
    constant = timeline.rows == 1 and not (timeline.event_times or timeline.switches or timeline.steady)
    return constant and structure.modes(dosed) is not None and not any(structure.rule(which) for which in DOSE_RULES)


def follow_modes(
    structure_at: StructureAt,
    packed: Float[Array, "m C"],
    columns: Columns,
    timeline: Timeline,
    reversible: bool = False,
    occupied: Sequence[Occupied] | None = None,
) -> Jet:
    """Jet of the states (T, s) at the samples; arguments as of :func:`nlme.dynamics.superposition.superpose`."""
    probe = structure_at(packed[:, 0], 0)
    _, known = eqx.partition(without_rules(probe), eqx.is_inexact_array)

    def given(z):
        return eqx.filter(without_rules(structure_at(z, 0)), eqx.is_inexact_array)

    jets, form = jets_of(given, columns, packed, occupied)
    run = _Followed(columns, form, known, dosed_states(probe, timeline), timeline.infusions)
    events = _entering(structure_at, packed[:, 0], timeline, len(probe.states))
    states = run(jets, events) if reversible else batch_last(run, jets, events)
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=-1), *states)


class Entering(NamedTuple):
    """What happens at each event to what entered one state, and after which of them the samples are taken."""

    since: Float[Array, " E"]  # the event before
    amount: Float[Array, " E"]
    change: Float[Array, " E"]  # of the rate that goes in
    kept: Float[Array, " E"]  # 0 at a reset, else 1
    sample: Int[Array, " T"]


def _entering(structure_at: StructureAt, z, timeline: Timeline, size: int) -> list[Entering]:
    """The events of every state."""
    at = doses(structure_at, z, timeline)
    kind, kept = timeline.kind, jnp.ones_like(at.time)
    if timeline.resets:
        kept = 1.0 - timeline.reset
        kind = jnp.where(timeline.epoch == jnp.cumsum(timeline.reset), kind, NOTHING)  # of an earlier epoch: cancelled
    since = jnp.diff(at.time, prepend=at.time[:1])
    sign = jnp.where(kind == START, 1.0, jnp.where(kind == STOP, -1.0, 0.0))

    def of(k):
        here = timeline.compartment == k
        amount = jnp.where(here & (kind == BOLUS), at.amount, 0.0)
        return Entering(since, amount, jnp.where(here, sign * at.rate, 0.0), kept, timeline.sample)

    return [of(k) for k in range(size)]


class _Followed:
    """The states from the jets of the structure's numbers; every array may have a last axis over subjects."""

    def __init__(self, columns: Columns, form: Form, known, dosed: tuple[bool, ...], infusions: bool):
        self.columns, self.form, self.known, self.dosed, self.infusions = columns, form, known, dosed, infusions

    def __call__(self, jets: list[Jet], events: list[Entering]) -> tuple[Jet, ...]:
        order = 2 if self.columns.pairs else min(self.columns.directions, 1)
        rates = jnp.stack([slow for slow, _ in self._structure([jet.value for jet in jets]).modes(self.dosed)])
        entered = [sums(order, self.infusions, rates, e) for e, dosed in zip(events, self.dosed, strict=True) if dosed]
        moving, shape = [jet for jet in jets if jet.first is not None], events[0].sample.shape

        def spectrum(*values):
            """Of every mode its rate, and for every state that is dosed what P_i makes of one unit in it."""
            moved = iter(values)
            structure = self._structure([jet.value if jet.first is None else next(moved) for jet in jets])
            numbers = [x for slow, project in structure.modes(self.dosed) for x in (slow, *self._projected(project))]
            return tuple(jnp.broadcast_to(jnp.asarray(x, float), rates.shape[1:]) for x in numbers)

        def states(*numbers):
            given, total = iter(numbers), [0.0] * len(self.dosed)
            for i in range(len(rates)):
                moved = next(given) - rates[i]
                for h in entered:
                    arrived = _taylor([part[:, i] for part in h], moved)
                    total = [t + arrived * next(given) for t in total]
            return tuple(jnp.broadcast_to(t, shape) for t in total)

        # in vectorised columns: written out one by one, three compartments' would take minutes to compile
        return self.columns.push(states, *self.columns.push(spectrum, *moving))

    def _projected(self, project) -> list:
        units = [[float(k == j) for j in range(len(self.dosed))] for k, dosed in enumerate(self.dosed) if dosed]
        return [x for unit in units for x in project(unit)]

    def _structure(self, values) -> LinearStructure:
        return eqx.combine(self.form(values), self.known)


def _taylor(derivatives: Sequence, move):
    """sum_k derivatives[k] move^k / k!"""
    value = derivatives[-1]
    for k in range(len(derivatives) - 2, -1, -1):
        value = derivatives[k] + value * move / (k + 1)
    return value


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def sums(order: int, infusions: bool, slow: Float[Array, " M"], events: Entering) -> tuple[Float[Array, "T M"], ...]:
    """h(slow) of every mode at the samples, and its derivatives in ``slow`` up to ``order``."""
    step = events.since[:, None]
    decays = jnp.exp(-slow * step)
    poured = [(-1.0) ** k * step ** (k + 1) * x for k, x in enumerate(_integrals(order, -slow * step))] if infusions else None

    def event(carry, now):
        rate, before = carry
        decay, inflow, here = now
        after = []
        for k in range(order + 1):
            moved = sum(math.comb(k, j) * (-here.since) ** (k - j) * before[j] for j in range(k + 1))
            after.append(decay * moved + (0.0 if inflow is None else rate * inflow[k]))
        after = [here.kept * x for x in after]
        after[0] = after[0] + here.amount
        return (here.kept * rate + here.change, after), after

    nothing = jnp.zeros_like(slow)
    start = jnp.zeros_like(events.since[0]), [nothing] * (order + 1)
    _, found = jax.lax.scan(event, start, (decays, poured, events._replace(sample=None)))
    return tuple(jnp.take_along_axis(x, events.sample[:, None], axis=0) for x in found)


@sums.defjvp
def _sums_jvp(order, infusions, primals, tangents):
    (slow, events), (moved, _) = primals, tangents
    found = sums(order + 1, infusions, slow, events)
    return found[:-1], tuple(moved * slope for slope in found[1:])


def _integrals(order: int, x) -> list:
    """I_j(x) = int_0^1 v^j exp(x v) dv for j = 0 .. order, without cancellation at x = 0.

    I_j = (exp(x) - j I_(j-1)) / x where |x| is large; where it is small the last by its series sum_n x^n / (n! (n + j + 1)) and the
    others from it, by the same recursion the other way round.
    """
    small = jnp.abs(x) < _SERIES
    tame, large = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    series = jnp.zeros_like(x)
    for n in range(_TERMS - 1, -1, -1):
        series = series * tame + 1.0 / (math.factorial(n) * (n + order + 1))
    by_series = [series]
    for j in range(order, 0, -1):
        by_series.insert(0, (jnp.exp(tame) - tame * by_series[0]) / j)
    upward = [jnp.expm1(large) / large]
    for j in range(1, order + 1):
        upward.append((jnp.exp(large) - j * upward[-1]) / large)
    return [jnp.where(small, a, b) for a, b in zip(by_series, upward, strict=True)]
