"""The time of every subject, divided into segments: stops at its records and at the ends of its infusions, as padded arrays.

A segment is solved from stop to stop with fixed steps; several segments of one subject begin at nodes of their own.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from nlme.data.subject import Subject
from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.layout import Layout, match_endpoints
from nlme.language.parameter_rows import told_by
from nlme.language.records import compartment_of

_FEWEST = 2  # observation times in a segment


class Segments(NamedTuple):
    """Arrays over segments (Q) and their stops (R); a stop that is padding comes 0 after the one before and does nothing."""

    owner: np.ndarray  # (Q,) subject
    node: np.ndarray  # (Q,) number of the node that it begins at; -1: at the subject's beginning
    closes: np.ndarray  # (Q,) number of the node at its end; -1: none
    time: np.ndarray  # (Q, R)
    step: np.ndarray  # (Q, R) time since the stop before
    told: np.ndarray  # (Q, R, k) covariates, occasion and subpopulation
    rate: np.ndarray  # (Q, R, s) of the infusions that run until the stop
    reset: np.ndarray  # (Q, R) whether the states begin anew
    amount: np.ndarray  # (Q, R, s) of boluses
    observed: np.ndarray  # (Q, R, 3) DV, CENS, LIMIT
    endpoint: np.ndarray  # (Q, R) of the observation; -1: none
    course: np.ndarray  # (Q, R, E, 2) the endpoints' data on straight lines, at the stop before and at the stop
    known: np.ndarray  # (Q, R, E) whether they are known in between

    @property
    def nodes(self) -> int:
        return int(self.node.max(initial=-1)) + 1


@dataclasses.dataclass(frozen=True)
class _Stops:
    """One subject's stops, in order."""

    time: np.ndarray
    told: np.ndarray
    rate: np.ndarray
    reset: np.ndarray
    amount: np.ndarray
    observed: np.ndarray
    endpoint: np.ndarray
    course: np.ndarray
    known: np.ndarray


def require_equations(layout: Layout, model, what: str) -> None:
    """Refuse a model or data that the aids do not take.

    Raises
    ------
    ModelError
        No ODE, algebraic equations, delays, diffusion, features, dose rules other than a bioavailability, doses at steady state, times that start again.
    """
    name, anatomy = type(model).__name__, layout.anatomy
    if anatomy.structure != "ODE":
        raise ModelError(
            f"{what} is for models whose dynamics are an nlme.ODE; those of {name} are {anatomy.structure or 'none'}."
        )
    if anatomy.algebraic:
        raise ModelError(f"{what} does not take algebraic equations, as {name} has for {', '.join(anatomy.algebraic)}.")
    if anatomy.delays:
        raise ModelError(f"{what} does not take equations with delays, as {name} has ({', '.join(anatomy.delays)}).")
    anatomy.require_certain(what, model)
    if anatomy.features:
        raise ModelError(f"{what} does not take a model that reads features, as {name} does ({', '.join(anatomy.features)}).")
    rules = [rule for rule in anatomy.rules if rule != "bioavailability"]
    if rules or anatomy.event_times:
        raise ModelError(
            f"{what} does not take equations with a {' or a '.join(rules) or 'time of sudden change'}, as {name} has."
        )
    linked = [e for e, law in zip(anatomy.endpoints, anatomy.laws, strict=True) if law.link and not law.normal]
    if linked:
        raise ModelError(f"{what} does not take events in time or Markov chains, as endpoint {linked[0]!r} of {name} is.")
    for subject in layout.population:
        if np.any(subject.ss > 0):
            raise ModelError(f"{what} does not take doses at steady state (SS), as subject {subject.id} has.")
        if subject.period.any():
            raise ModelError(f"{what} needs one clock for each subject; that of subject {subject.id} starts again.")


def segments_of(layout: Layout, model, parts: int) -> Segments:
    """The population's segments: of every subject ``parts``, if its observations allow that many."""
    anatomy, found = layout.anatomy, []
    order = match_endpoints(model, anatomy, layout.population)
    for i, subject in enumerate(layout.population):
        stops = _stops(subject, anatomy, type(model).__name__, order)
        cuts = _cuts(stops, parts)
        begin = subject.time[0]
        for a, b in zip(np.r_[0, cuts], np.r_[cuts, len(stops.time)], strict=True):
            own = {f.name: getattr(stops, f.name)[a:b] for f in dataclasses.fields(_Stops)}
            own["step"] = np.diff(stops.time[a:b], prepend=begin if a == 0 else stops.time[a - 1])
            found.append((i, a > 0, b < len(stops.time), own))
    return _padded(found)


def _stops(subject: Subject, anatomy: Anatomy, model: str, order: list[int]) -> _Stops:
    doses = _doses(subject, anatomy, model)
    ends = np.array([end for _, end, _, _ in doses["infusions"] if end <= subject.time[-1]])
    extra = np.unique(np.r_[ends, [t for t, _, _ in doses["later"]]])
    extra = extra[(extra > subject.time[0]) & (extra <= subject.time[-1])]
    time = np.r_[subject.time, extra]
    # a stop that is no record comes before those of its time
    rank = np.r_[np.ones(len(subject)), np.zeros(len(extra))]
    place = np.lexsort((rank, time))
    record = np.r_[np.arange(len(subject)), np.full(len(extra), -1)][place]
    time = time[place]
    n, s, e = len(time), len(anatomy.states), len(anatomy.endpoints)
    here = np.flatnonzero(record >= 0)
    following = np.searchsorted(here, np.arange(n)).clip(max=len(here) - 1)
    told = told_by(subject, anatomy)[record[here[following]]]
    if anatomy.mixture:
        told = np.column_stack([told, np.zeros(n)])
    amount, rate = np.zeros((n, s)), np.zeros((n, s))
    for j, k, size in doses["boluses"]:
        amount[np.flatnonzero(record == j)[0], k] += size
    for t, k, size in doses["later"]:
        amount[np.flatnonzero((record < 0) & (time == t))[:1], k] += size
    before = np.r_[time[:1], time[:-1]]
    for begin, end, k, size in doses["infusions"]:
        rate[(before >= begin - 1e-12) & (time <= end + 1e-12) & (time > begin), k] += size
    own = record >= 0
    known_at = np.zeros((n, e), bool)
    course, observed = np.zeros((n, e, 2)), np.full((n, 3), np.nan)
    endpoint, reset = np.full(n, -1), np.zeros(n, bool)
    taken = subject.is_observation
    observed[own] = np.stack([subject.dv, subject.cens, subject.limit], axis=1)[record[own]]
    endpoint[own] = np.where(taken, np.array(order)[np.maximum(subject.endpoint, 0)], -1)[record[own]]
    reset[own] = np.isin(subject.evid, (3, 4))[record[own]]
    for position, model_endpoint in enumerate(order):
        t, y = averaged(subject, position)
        if len(t):
            values = np.interp(time, t, y)
            course[:, model_endpoint] = np.stack([np.r_[values[:1], values[:-1]], values], axis=1)
            known_at[:, model_endpoint] = (time > t[0]) & (time <= t[-1])
    return _Stops(time, told, rate, reset, amount, observed, endpoint, course, known_at)


def averaged(subject: Subject, endpoint: int) -> tuple[np.ndarray, np.ndarray]:
    """The times of an endpoint's uncensored observations, and the mean of those at each."""
    own = subject.is_observation & (subject.endpoint == endpoint) & (subject.cens == 0)
    times, place = np.unique(subject.time[own], return_inverse=True)
    return times, np.bincount(place, subject.dv[own]) / np.bincount(place)


def _doses(subject: Subject, anatomy: Anatomy, model: str) -> dict[str, list]:
    """Boluses (record, state, amount), those of ADDL (time, state, amount), and infusions (begin, end, state, rate)."""
    found: dict[str, list] = {"boluses": [], "later": [], "infusions": []}
    for j in np.flatnonzero(subject.is_dose):
        k = compartment_of(subject, j, anatomy, model)
        amount, rate, duration = subject.amt[j], subject.rate[j], subject.duration[j]
        length = amount / rate if rate > 0 else duration
        for number in range(int(subject.addl[j]) + 1):
            at = subject.time[j] + number * subject.ii[j]
            if length > 0:
                found["infusions"].append((at, at + length, k, amount / length))
            elif number:
                found["later"].append((at, k, amount))
            else:
                found["boluses"].append((j, k, amount))
    return found


def _cuts(stops: _Stops, parts: int) -> np.ndarray:
    """Stops at which a segment begins: behind the last observation of a time, with enough times of them on both sides."""
    times = np.unique(stops.time[stops.endpoint >= 0])
    parts = min(parts, len(times) // _FEWEST)
    if parts < 2:
        return np.zeros(0, int)
    wanted = times[0] + (times[-1] - times[0]) * np.arange(1, parts) / parts
    places = np.clip([int(np.argmin(np.abs(times - t))) for t in wanted], _FEWEST - 1, len(times) - 1 - _FEWEST)
    at = times[np.unique(places)]
    return np.array([np.flatnonzero((stops.endpoint >= 0) & (stops.time == t))[-1] + 1 for t in at], int)


def _padded(found: list[tuple]) -> Segments:
    longest = max(len(own["time"]) for *_, own in found)
    columns: dict[str, list] = {name: [] for name in found[0][3]}
    for *_, own in found:
        short = longest - len(own["time"])
        for name, values in own.items():
            empty = {"step": 0.0, "rate": 0.0, "amount": 0.0, "reset": False, "endpoint": -1}
            pad = np.full((short, *values.shape[1:]), empty[name]) if name in empty else np.repeat(values[-1:], short, axis=0)
            columns[name].append(np.concatenate([values, pad]))
    later = np.array([begins for _, begins, _, _ in found])
    node = np.where(later, np.cumsum(later) - 1, -1)
    closes = np.where([ends for _, _, ends, _ in found], np.r_[node[1:], -1], -1)
    owner = np.array([i for i, *_ in found])
    return Segments(owner=owner, node=node, closes=closes, **{name: np.stack(values) for name, values in columns.items()})
