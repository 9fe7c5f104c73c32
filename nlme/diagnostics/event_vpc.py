"""The visual predictive check of times of events: curves of survival, or of the mean cumulative count, beside simulated ones."""

from __future__ import annotations

import jax
import numpy as np

from nlme.diagnostics.percentiles import band
from nlme.diagnostics.replicated import generator_of, observations_of, observed_of, with_replicates
from nlme.diagnostics.strata import strata_of
from nlme.diagnostics.survival import (
    Events,
    at_risk,
    beginnings,
    cumulative_hazards,
    first_events,
    follow_up,
    kaplan_meier,
    mean_cumulative_count,
    observed_events,
    repeated_events,
    seen_at,
    visits_beyond,
)
from nlme.dynamics.solvers import Tolerances
from nlme.fitting.result import Evaluated
from nlme.observation.base import Law

SURVIVAL, COUNT = "survival", "mean cumulative count"
POINTS = 60  # times of the curves


def event_table(
    model, population, endpoint: str, law: Law, key, replicates: int, level: float, stratify, ode, uncertainty
) -> dict:
    """The table, the observations and the strata of the check, and what is to be said of it."""
    import pandas as pd

    record, rows = observations_of(population, endpoint)
    subject = np.repeat(np.arange(len(population)), [len(s) for s in population])[record]
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    events = observed_events(rows, subject, beginnings(model, population, endpoint, law.link == "events", ode))
    who, first = np.unique(subject, return_index=True)
    stratum, strata = strata_of(population, record[first], stratify)
    random = generator_of(key)
    watched = {population.ids[i] for i in who}
    people = population if len(watched) == len(population) else population.filter(lambda s: s.id in watched)
    kind = law.link
    draw = {"event": _first, "events": _repeated}[kind]
    simulating = dict(ode=ode, uncertainty=uncertainty)
    begin, end, simulated, said = draw(model, people, (endpoint, law), events, key, random, replicates, simulating)
    name = SURVIVAL if kind == "event" else COUNT
    found = []
    for s, word in enumerate(strata):
        own = stratum == s
        at = np.linspace(events.begin[own].min(), events.end[own].max(), POINTS + 1)[1:]
        happened = np.isin(np.arange(len(who)), events.owner) if kind == "event" else (events.owner, events.time)
        seen = _curve(events.begin, events.end, happened, own, at)
        curves = [_curve(begin, *of_replicate, own, at) for of_replicate in zip(end, simulated, strict=True)]
        lower, middle, upper = band(np.stack(curves), level)
        number = at_risk(events.begin[own], events.end[own], at)
        edges = np.append(events.begin[own].min(), at)
        found += [
            (word, k + 1, edges[k], edges[k + 1], at[k], int(number[k]), name, seen[k], middle[k], lower[k], upper[k])
            for k in range(len(at))
        ]
    columns = ("STRATUM", "BIN", "FROM", "TO", "TIME", "N", "QUANTITY", "OBSERVED", "EXPECTED", "LOWER", "UPPER")
    shown = rows.assign(
        X=rows["TIME"], STRATUM=np.array(strata, dtype=object)[stratum[np.searchsorted(who, subject)]], BIN=0, SHOWN=rows["DV"]
    )
    return dict(
        table=pd.DataFrame(found, columns=list(columns)),
        observations=shown,
        quantities=(name,),
        strata=tuple(strata),
        messages=(*_said(events, kind), *said),
    )


def _curve(begin: np.ndarray, end: np.ndarray, happened, own: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Survival (``happened``: (N,) whether follow-up ends by it) or mean cumulative count (owners and times of events) of some subjects."""
    if isinstance(happened, tuple):
        owner, time = happened
        return mean_cumulative_count(begin[own], end[own], time[own[owner]], at)
    return kaplan_meier(begin[own], end[own], happened[own], at)


def _said(events: Events, kind: str) -> tuple[str, ...]:
    said = []
    if kind == "event" and len(events.owner):
        said.append("How long those with an event would have been followed is drawn from the Kaplan-Meier curve of censoring.")
    if events.at_visits.any():
        said.append("Events known to an interval are counted at its end, observed and simulated ones.")
    return tuple(said)


def _first(model, population, of: tuple[str, Law], events: Events, key, random, replicates: int, options):
    """(N,) begin, (R, N) end of follow-up, (R, N) whether it ends by an event, and what is said of the simulation."""
    ends, donors = follow_up(events, replicates, random)
    visits: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in events.end]  # in which replicates, at which times
    for i in np.flatnonzero(events.at_visits):
        for donor in np.unique(donors[:, i]):
            own, rows = events.visits[i], np.flatnonzero(donors[:, i] == donor)
            visits[i].append((rows, np.concatenate([own, visits_beyond(own, events.visits[donor])])))
            ends[rows, i] = visits[i][-1][1][-1]
    until = ends.max(axis=0)
    curves, said = cumulative_hazards(model, population, of[0], events.begin, until, False, key, replicates, options)
    times = np.stack([first_events(time, hazard, random) for time, hazard in curves], axis=1)
    for i, parts in enumerate(visits):
        for rows, at in parts:
            times[rows, i] = seen_at(times[rows, i], at)
    had = times <= ends
    return events.begin, np.where(had, times, ends), had, said


def _repeated(model, population, of: tuple[str, Law], events: Events, key, random, replicates: int, options):
    """(N,) begin, (R, N) end of follow-up, for each replicate its events, and what is said of the simulation."""
    ends = np.tile(events.end, (replicates, 1))
    exact, parts, said = np.flatnonzero(~events.at_visits), [], ()
    if len(exact):
        curves, said = cumulative_hazards(
            model, population, of[0], events.begin, events.end, True, jax.random.fold_in(key, 1), replicates, options
        )
        parts = [repeated_events(*curves[i], random) for i in exact]
    replicate = np.concatenate([part[0] for part in parts] or [np.zeros(0, int)])
    time = np.concatenate([part[1] for part in parts] or [np.zeros(0)])
    owner = np.repeat(exact, [len(part[0]) for part in parts]) if len(exact) else exact
    if events.at_visits.any():  # at least one since the record before, as the model draws it
        drawn = with_replicates(observed_of(model, population, *of), key=key, replicates=replicates, **options)
        said = tuple(dict.fromkeys((*said, *drawn.messages)))
        own = np.unique(drawn.subject, return_inverse=True)[1]
        r, row = np.nonzero((drawn.simulated > 0) & events.at_visits[own])
        replicate, owner = np.concatenate([replicate, r]), np.concatenate([owner, own[row]])
        time = np.concatenate([time, drawn.rows["TIME"].to_numpy(dtype=float)[row]])
    order = np.argsort(replicate, kind="stable")
    edges = np.searchsorted(replicate[order], np.arange(replicates + 1))
    pieces = [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return events.begin, ends, [(owner[own], time[own]) for own in pieces], said
