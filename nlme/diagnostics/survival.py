"""Times of events, observed and simulated, and the curves that sum them up.

    Kaplan-Meier            S(t) = prod_{t_j <= t} (1 - d_j / n_j)
    mean cumulative count   M(t) = sum_{t_j <= t}  d_j / n_j

with d_j events at t_j among the n_j subjects at risk, whose follow-up began before t_j and has not ended before it (Kaplan & Meier
1958, doi:10.1080/01621459.1958.10501452; Nelson 1995, doi:10.1080/00401706.1995.10484300).

A simulated event comes where the subject's cumulative hazard H, its random effects drawn anew, reaches a standard exponential
number; repeated events are a Poisson process with H as its mean.  H is solved on a grid of ``POINTS`` times, with lines between
them.  A subject that was censored is followed to its own last record; one that had its event, to a time drawn from the
Kaplan-Meier curve of censoring beyond that event (the end of the study where the curve does not come down).  Of a subject whose events
are known to an interval (DV = 2) a simulated one is seen at the next visit, as an observed one is; so is that of a subject without
events where most of those that had some were seen so.  Beyond its own last visit a subject has the further ones, by number, of the
subject whose follow-up was drawn for it, as far apart.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from nlme.diagnostics.replicated import said_of
from nlme.simulation.predict import model_of, predict
from nlme.simulation.simulate import simulate

POINTS = 100
_ROWS = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """What was seen of N subjects: (N,) begin and end of their follow-up, and their events.

    ``owner`` and ``time`` (m,) are the events and whose they are; ``visits`` are the times of every subject's records;
    ``at_visits`` (N,): whose events are seen at visits, known to the interval before.
    """

    begin: np.ndarray
    end: np.ndarray
    owner: np.ndarray
    time: np.ndarray
    visits: tuple[np.ndarray, ...]
    at_visits: np.ndarray


def observed_events(rows, subject: np.ndarray, begin: np.ndarray) -> Events:
    """Events of the subjects among ``subject`` (n,), positions in the population; ``begin`` (N,): when their risk does."""
    who, own = np.unique(subject, return_inverse=True)
    time, dv = rows["TIME"].to_numpy(dtype=float), rows["DV"].to_numpy(dtype=float)
    visits = tuple(np.sort(time[own == i]) for i in range(len(who)))
    exact, known = (np.bincount(own[dv == kind], minlength=len(who)) > 0 for kind in (1, 2))
    at_visits = np.where(exact | known, ~exact, known.sum() > exact.sum())
    seen = dv > 0
    return Events(begin[who], np.array([v[-1] for v in visits]), own[seen], time[seen], visits, at_visits)


def kaplan_meier(begin: np.ndarray, end: np.ndarray, event: np.ndarray, at: np.ndarray) -> np.ndarray:
    """S at the times ``at``; ``event`` (N,) says whether a subject's follow-up ends by its event."""
    times, died = np.unique(end[event], return_counts=True)
    survival = np.concatenate([[1.0], np.cumprod(1.0 - died / at_risk(begin, end, times))])
    return survival[np.searchsorted(times, at, side="right")]


def mean_cumulative_count(begin: np.ndarray, end: np.ndarray, events: np.ndarray, at: np.ndarray) -> np.ndarray:
    """M at the times ``at``, from the times (m,) of all events."""
    times, count = np.unique(events, return_counts=True)
    total = np.concatenate([[0.0], np.cumsum(count / at_risk(begin, end, times))])
    return total[np.searchsorted(times, at, side="right")]


def at_risk(begin: np.ndarray, end: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Subjects at risk at the times ``at``: those who came before and have not left before, and who came and left just then."""
    came, left = np.searchsorted(np.sort(begin), at, side="left"), np.searchsorted(np.sort(end), at, side="left")
    just_then = np.sort(end[begin == end])
    return came - left + np.searchsorted(just_then, at, side="right") - np.searchsorted(just_then, at, side="left")


def follow_up(events: Events, replicates: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(R, N) ends of the follow-up that subjects would have had without their event, and (R, N) whose they are."""
    had = np.zeros(len(events.end), bool)
    had[events.owner] = True
    ends, donors = np.tile(events.end, (replicates, 1)), np.tile(np.arange(len(had)), (replicates, 1))
    times, first = np.unique(events.end[~had], return_index=True)
    # the end of the study where the curve does not come down
    times, whose = np.append(times, events.end.max()), np.append(np.flatnonzero(~had)[first], np.argmax(events.end))
    left = kaplan_meier(events.begin, events.end, ~had, times[:-1])
    beyond = kaplan_meier(events.begin, events.end, ~had, events.end)
    for i in np.flatnonzero(had):
        drawn = random.uniform(0.0, beyond[i], replicates)
        place = np.searchsorted(-left, -drawn, side="left")  # the first time at which no more than that is left
        ends[:, i] = np.maximum(times[place], events.end[i])
        donors[:, i] = whose[place]
    return ends, donors


def visits_beyond(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The visits that a subject with its ``own`` would have had after them, if they had gone on as ``others`` did."""
    count = len(own)
    return own[-1] + (others[count:] - others[count - 1]) if len(others) > count else np.zeros(0)


def beginnings(model, population, endpoint: str, repeated: bool, ode) -> np.ndarray:
    """(N,) when the risk of every subject begins: at its first record if H is 0 there (as a state of equations is), else at 0."""
    first = np.array([float(s.time.min()) for s in population])
    table = predict(model_of(model), population, ode=ode)
    lengths = np.array([len(s) for s in population])
    predicted = table[endpoint].to_numpy(dtype=float)[np.cumsum(lengths) - lengths]
    return np.where(predicted == (0.0 if repeated else 1.0), first, np.minimum(first, 0.0))


def cumulative_hazards(
    model, population, endpoint: str, begin: np.ndarray, until: np.ndarray, repeated: bool, key, replicates: int, options
):
    """For every subject its times (G,) and its cumulative hazard (R, G) there, from ``begin`` (N,) to ``until`` (N,), and what the
    simulation, with its ``options``, says."""
    ends = dict(zip(population.ids, zip(begin, until, strict=True), strict=True))

    def grid(s):
        first, last = ends[s.id]
        return np.linspace(first, max(last, first), POINTS + 1)

    asked = population.with_times(grid)
    size = max(1, min(replicates, _ROWS // asked.n_records))
    parts = [min(size, replicates - begin) for begin in range(0, replicates, size)]
    found, said = [], {}
    for count, own in zip(parts, jax.random.split(key, len(parts)), strict=True):
        table = simulate(model, asked, key=own, eta="new", replicates=count, noise=False, **options)
        said |= dict.fromkeys(said_of(table))
        use = (table["ENDPOINT"].to_numpy() == endpoint) & (table["EVID"].to_numpy() == 2)
        found.append(table["IPRED"].to_numpy(dtype=float)[use].reshape(count, -1))
    predicted = np.concatenate(found)
    with np.errstate(divide="ignore"):
        hazard = predicted if repeated else -np.log(predicted)
    one = table[use].iloc[: predicted.shape[1]]
    ids = one["ID"].to_numpy()
    return [(one["TIME"].to_numpy(dtype=float)[ids == i], hazard[:, ids == i]) for i in population.ids], tuple(said)


def first_events(time: np.ndarray, hazard: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(R,) times of a subject's event, infinite where it comes after the grid."""
    level = hazard[:, :1] * 0.0 + random.exponential(size=(len(hazard), 1))
    hazard = np.maximum.accumulate(hazard, axis=1)
    after = (hazard >= level).argmax(axis=1)
    reached = hazard[:, -1] >= level[:, 0]
    rows = np.arange(len(hazard))
    before = np.maximum(after - 1, 0)
    low, high = hazard[rows, before], hazard[rows, after]
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(np.isfinite(high) & (high > low), (level[:, 0] - low) / (high - low), 1.0)
    found = time[before] + np.clip(part, 0.0, 1.0) * (time[after] - time[before])
    return np.where(reached, found, np.inf)


def repeated_events(time: np.ndarray, hazard: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(m,) replicate and time of a subject's events; H, an expected number, does not fall."""
    count = random.poisson(np.maximum(np.diff(hazard, axis=1), 0.0))
    replicate, interval = (np.repeat(x.ravel(), count.ravel()) for x in np.indices(count.shape))
    return replicate, time[interval] + random.uniform(size=len(interval)) * np.diff(time)[interval]


def seen_at(events: np.ndarray, visits: np.ndarray) -> np.ndarray:
    """When events are seen: at the next visit, never after the last."""
    return np.append(visits, np.inf)[np.searchsorted(visits, events, side="left")]
