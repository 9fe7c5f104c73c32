"""Subjects side by side: every one's arrays padded to the longest and stacked, with a leading axis over subjects."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.events import BOLUS, FILL, NOTHING, OFF, START, STOP, Breaks, Echoes, Fills, Measured, Timeline
from nlme.language.anatomy import MEMBER, Anatomy
from nlme.language.records import BOLUS_HOW

_REAL = {"time", "amount", "given", "ahead"}
_FIELDS = (
    *sorted(_REAL),
    "kind",
    "record",
    "how",
    "compartment",
    "reset",
    "epoch",
    "slot",
    "adds",
    "queue",
    "rest",
    "source",
    "origin",
)
_NOTED = (*_FIELDS, "row", "now", "dose_row")
_noted = operator.attrgetter(*_NOTED)


class SubjectData(eqx.Module):
    """Arrays of one subject (or, with a leading axis, of all): its timeline, its covariates and its observations.

    Covariates have a value in every row of parameters; features, (1, ...) arrays among them, are the same in all.
    Samples are grouped by endpoint: endpoint e owns ``spans[e][0] : spans[e][1]`` of the T samples.  Where ``mask`` is False a
    sample is padding: a copy of another sample whose observation does not count.
    """

    timeline: Timeline
    covariates: dict[str, Float[Array, "K ..."]]
    observed: Float[Array, " T"]
    cens: Float[Array, " T"]  # 0; 1: below ``observed``; -1: above it
    limit: Float[Array, " T"]  # the other end of a censored interval; NaN: none
    mask: Bool[Array, " T"]
    number: Int[Array, ""]  # position of the subject in the population
    spans: tuple[tuple[int, int], ...] = eqx.field(static=True)
    filtered: bool = eqx.field(static=True, default=False)  # whether the states are known better with every observation
    shared: Float[Array, " s"] | None = None  # standardised effects of the subject's site, where they are held; None: none are

    def standard(self, b: Float[Array, " q"]) -> Float[Array, " all"]:
        """All standardised random effects that reach the subject: ``b``, and those held."""
        return b if self.shared is None else jnp.concatenate([b, self.shared])

    @property
    def known(self) -> Timeline:
        """The timeline, with what is measured at its events where the density follows the states by that."""
        if not self.filtered:
            return self.timeline
        # a sample that is padding goes nowhere
        at = jnp.where(self.mask, self.timeline.sample, self.timeline.time.shape[0])
        endpoint = np.concatenate([np.full(b - a, k) for k, (a, b) in enumerate(self.spans)])

        def of_events(of_samples, blank):
            return jnp.full(self.timeline.time.shape, blank).at[at].set(of_samples, mode="drop")

        given = (of_events(self.timeline.sample_time, 0.0), of_events(self.observed, 1.0), of_events(self.cens, 0.0))
        measured = Measured(of_events(endpoint, -1), *given, of_events(self.limit, jnp.nan))
        return dataclasses.replace(self.timeline, measured=measured)

    def belonging(self, k) -> SubjectData:
        """The same subject if it belonged to the k-th subpopulation of a mixture (a number or a traced one)."""
        column = jnp.full_like(self.covariates[MEMBER], k)
        return dataclasses.replace(self, covariates={**self.covariates, MEMBER: column})


def stack(anatomy: Anatomy, subjects: list[dict[str, Any]], filtered: bool = False) -> tuple[SubjectData, np.ndarray]:
    """Pad every subject's arrays to the largest and stack them; and the record behind every sample."""
    n = len(subjects)
    n_events = max(len(s["events"]) for s in subjects)
    incoming = [[k for k, e in enumerate(s["events"]) if e.kind in (BOLUS, START, FILL)] for s in subjects]
    doses = np.zeros((n, max(1, max(map(len, incoming)))), int)
    rows = max(len(s["anchor"]) for s in subjects)
    lengths = [max(len(s["groups"][e]) for s in subjects) for e in range(len(anatomy.endpoints))]
    edges = np.r_[0, np.cumsum(lengths)]
    spans = tuple((int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))
    total = int(edges[-1])

    event = {name: np.zeros((n, n_events), float if name in _REAL else int) for name in _FIELDS}
    event["how"][:] = BOLUS_HOW
    event["row"], event["now"], event["dose_row"] = np.zeros((3, n, n_events), int)
    fills = _slots(
        Fills, [s["fills"] for s in subjects], amount=0.0, given=0.0, how=BOLUS_HOW, compartment=0, interval=1.0, row=0
    )
    breaks = _slots(Breaks, [s["breaks"] for s in subjects], number=0, row=0, begin=0.0, end=0.0, ahead=0.0)
    echoes = _slots(Echoes, [s["echoes"] for s in subjects], of=-1, counts=(0,) * len(anatomy.delays), first=-1)
    sample, sample_row = np.zeros((2, n, total), int)
    sample_time = np.zeros((n, total))
    observed, cens, limit = np.ones((n, total)), np.zeros((n, total)), np.full((n, total), np.nan)
    # what padding holds must be a value that the endpoint can take
    possible = np.ones(len(anatomy.endpoints))
    for s in subjects:
        for e, group in enumerate(s["groups"]):
            values = s["subject"].dv[[record for _, record in group]]
            possible[e] = next(iter(values[np.isfinite(values)]), possible[e])
    positions = np.full((n, total), -1)
    covariates = {name: np.zeros((n, rows)) for name in anatomy.table}
    drift = {name: np.zeros((n, rows)) for name in subjects[0]["drift"]}
    anchor, start = np.zeros((n, rows)), np.zeros(n)
    for i, s in enumerate(subjects):
        events, subject = s["events"], s["subject"]
        used = len(events)
        for name, values in zip(_NOTED, np.array([_noted(e) for e in events], float).T, strict=True):
            event[name][i, :used] = values
        # padding: nothing happens, at the last time, in the last epoch
        event["time"][i, used:] = max(e.key[0] for e in events)
        event["epoch"][i, used:] = events[-1].epoch
        for name in ("row", "now", "ahead"):
            event[name][i, used:] = event[name][i, used - 1]
        event["record"][i, used:] = 1
        silent = next(k for k, e in enumerate(events) if e.kind == NOTHING)
        doses[i] = incoming[i] + [silent] * (doses.shape[1] - len(incoming[i]))
        start[i] = s["start"]
        spare = next(g[-1] for g in s["groups"] if g)
        for e, (group, (a, b)) in enumerate(zip(s["groups"], spans, strict=True)):
            observed[i, a:b] = possible[e]
            filled = group + [group[-1] if group else spare] * (b - a - len(group))
            for t, (position, record) in zip(range(a, b), filled, strict=True):
                sample[i, t], sample_row[i, t] = position, s["rows"][record]
                sample_time[i, t] = subject.time[record]
                real = t - a < len(group)
                positions[i, t] = record if real else -1
                if real and np.isfinite(subject.dv[record]):
                    observed[i, t], cens[i, t], limit[i, t] = subject.dv[record], subject.cens[record], subject.limit[record]
        filled = [
            *((covariates[name], v) for name, v in s["table"].items()),
            *((drift[name], v) for name, v in s["drift"].items()),
        ]
        for target, values in [*filled, (anchor, s["anchor"])]:
            target[i, : len(values)], target[i, len(values) :] = values, values[-1]

    timeline = Timeline(
        start=start,
        **event,
        doses=doses,
        sample=sample,
        sample_clock=np.take_along_axis(event["time"], sample, axis=1),
        sample_epoch=np.take_along_axis(event["epoch"], sample, axis=1),
        sample_ahead=np.take_along_axis(event["ahead"], sample, axis=1),
        sample_row=sample_row,
        sample_time=sample_time,
        fills=fills,
        breaks=breaks,
        echoes=echoes,
        anchor=anchor,
        drift=drift,
        dosed=tuple(int(k) for k in np.unique(event["compartment"][np.isin(event["kind"], (BOLUS, START, STOP, FILL))])),
        infusions=bool((event["how"] != BOLUS_HOW).any()),
        resets=bool(event["reset"].any()),
        steady=any(s["fills"] for s in subjects),
        switches=bool((event["kind"] == OFF).any()),
        event_times=anatomy.event_times,
        delays=len(anatomy.delays),
        restarts=bool(event["ahead"].any()),
        rows=rows,
    )
    covariates |= {name: np.stack([s["subject"].features[name] for s in subjects])[:, None] for name in anatomy.features}
    arrays = SubjectData(timeline, covariates, observed, cens, limit, positions >= 0, np.zeros(n, int), spans, filtered)
    return arrays, positions


def _slots(kind: type, subjects: list[list[tuple]], **blank):
    """``kind`` of arrays (subjects, slots) from every subject's tuples, filled up with ``blank``, which names their entries in order."""
    most = max(1, max(map(len, subjects)))
    arrays = {name: np.full((len(subjects), most, *np.shape(value)), value) for name, value in blank.items()}
    for i, slots in enumerate(subjects):
        for k, values in enumerate(slots):
            for name, value in zip(blank, values, strict=True):
                arrays[name][i, k] = value
    return kind(**arrays)
