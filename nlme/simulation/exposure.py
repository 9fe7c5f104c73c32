"""Exposure: what a simulated course comes to, subject by subject.

Over an interval [a, b] of a course known at times t_k (``rule="linear"``: straight lines between them; "log": falls are exponential,
the linear-up log-down rule),

| measure                        |                                                                                               |
|--------------------------------|-----------------------------------------------------------------------------------------------|
| cmax, cmin                     | largest and smallest value within [a, b], after a dose at a and before one at b                |
| tmax                           | when the largest is first reached, since a                                                     |
| auc                            | sum of (t_(k+1) - t_k) (c_k + c_(k+1)) / 2; a fall by the log rule (t_(k+1) - t_k) (c_k - c_(k+1)) / log(c_k / c_(k+1)) |
| cavg                           | auc / (b - a)                                                                                  |
| ctrough                        | the value at b, of several there the first (before a dose at b, ``with_times(..., ties="both")``) |
| last                           | the same, under the name that it has where no dose follows                                     |
| ("time_above", c), ("time_below", c) | how long the course is above (below) c, by straight lines                                |
| ("share_above", c), ("share_below", c) | the same divided by b - a                                                              |

Values are noise-free predictions (IPRED) unless "DV" is asked for.  An area is only as good as its times: it is taken again from every other
time, and where the two differ by more than 9 % (some 3 % of error) in a twentieth of the subjects, ``messages`` asks for a finer grid.

Sources: Gabrielsson & Weiner, Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed. (2016), ch. 2.8.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nlme.errors import DataError, name_error
from nlme.parameters.domains import is_numeric, is_probability
from nlme.simulation.simulate import RESTARTED
from nlme.tables.shown import Panel, Shown, numbers_shown

PLAIN = ("cmax", "cmin", "tmax", "auc", "cavg", "ctrough", "last")
WITH_LEVEL = ("time_above", "time_below", "share_above", "share_below")
GROUPS = ("REPLICATE", "SCENARIO", "ARM", "ID")
_ROUGH = 0.03
_OFTEN = 0.05


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Exposure(Shown):
    """Measures of every subject.

    Attributes
    ----------
    frame : DataFrame, one row a subject and replicate: REPLICATE (ARM, SCENARIO) ID, covariates, measures
    measures : names of the measures
    interval : of time
    messages : what there is to say, in words
    """

    frame: Any
    measures: tuple[str, ...]
    interval: tuple[float, float]
    messages: list[str] = dataclasses.field(default_factory=list)

    def summarise(self, by: str | Sequence[str] | None = None, level: float = 0.9):
        """DataFrame by measure (and by the columns ``by``; ARM or SCENARIO where there are any): mean, sd, median, geometric mean, and
        the percentiles that hold ``level`` of the subjects; of several replicates all are medians over them, and ``median.lower`` and
        ``median.upper`` hold ``level`` of the replicates' medians.

        Raises
        ------
        DataError
            An unknown column, or a level that is no probability.
        """
        import pandas as pd

        if not is_probability(level):
            raise DataError(f"level is a probability between 0 and 1, for example 0.9; got {level!r}.")
        by, tail = _by(self.frame, by), (1 - level) / 2
        long = self.frame.melt(id_vars=[*by, "REPLICATE"], value_vars=list(self.measures), var_name="MEASURE")
        grouped = long.groupby([*by, "MEASURE", "REPLICATE"], sort=False, observed=True)["value"]
        table = grouped.agg(n="count", mean="mean", sd="std", median="median", geometric=_geometric)
        low, high = grouped.quantile(tail), grouped.quantile(1 - tail)
        table["lower"], table["upper"] = low, high
        over = table.groupby(level=[*by, "MEASURE"], sort=False)
        found = over.median()
        if self.frame["REPLICATE"].nunique() > 1:
            medians = over["median"]
            found["median.lower"], found["median.upper"] = medians.quantile(tail), medians.quantile(1 - tail)
        return pd.DataFrame(found)

    def _exact(self):
        return self.frame

    def _panels(self) -> list[Panel]:
        table = self.summarise()
        table.index = [" ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in table.index]
        title = f"Exposure from {self.interval[0]:g} to {self.interval[1]:g}"
        replicates = self.frame["REPLICATE"].nunique()
        notes = [f"{self.frame['ID'].nunique()} subjects, {replicates} replicates; lower and upper hold 90 % of the subjects."]
        return [numbers_shown(table, title, [*notes, *self.messages], index="Measure")]


def _geometric(values) -> float:
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]  # of those who have the measure, as the mean and the median are
    return float(np.exp(np.mean(np.log(values)))) if len(values) and np.all(values > 0) else float("nan")


def _by(frame, by) -> list[str]:
    """Columns to group by: those asked for, else arms and scenarios."""
    if by is None:
        return [name for name in ("SCENARIO", "ARM") if name in frame]
    by = [by] if isinstance(by, str) else list(by)
    for name in by:
        if name not in frame:
            raise DataError("by=: " + name_error("column", name, frame.columns, "The table"))
    return by


def exposure(
    simulation,
    measures: Any = ("cmax", "tmax", "auc", "ctrough"),
    *,
    interval: tuple[float, float] | None = None,
    endpoint: str | None = None,
    values: str = "IPRED",
    rule: str = "linear",
    covariates=None,
    incomplete: str = "refuse",
) -> Exposure:
    """Measures of exposure of every subject of a simulation.

    Parameters
    ----------
    simulation : what :func:`nlme.simulate`, ``nlme.adaptive`` or ``nlme.trial`` gives
    measures : names (see :mod:`nlme.simulation.exposure`) or pairs with a level, ("time_above", 2.0), each with an interval of its own if wanted,
        ("auc", 144, 168) or ("time_above", 2.0, 144, 168); or a dict from a name of yours to one of these or to a function of (times, values)
        that returns a number
    interval : of time; by default from the first to the last that all subjects have
    endpoint : by default the only one
    values : "IPRED", or "DV" with residual error
    rule : "linear" or "log" (of falls)
    covariates : a population whose (first) covariates go into the table
    incomplete : "refuse" subjects whose times do not cover an interval, or "omit" them: they have no measure of it (NaN)

    Raises
    ------
    DataError
        An unknown measure, endpoint or column; an interval that a subject's times do not cover.
    """
    frame = getattr(simulation, "frame", simulation)
    if not hasattr(frame, "columns") or not {"ID", "TIME", "ENDPOINT"} <= set(frame.columns):
        raise DataError(f"exposure takes a simulation, as nlme.simulate returns it; got {type(simulation).__name__}.")
    if rule not in ("linear", "log"):
        raise DataError(f"rule is 'linear' or 'log'; got {rule!r}.")
    asked = _measures(measures)
    if incomplete not in ("refuse", "omit"):
        raise DataError(f"incomplete is 'refuse' or 'omit'; got {incomplete!r}.")
    courses = Courses.of(frame, endpoint, values)
    ends = np.nanmin(courses.last) if incomplete == "refuse" else np.nanmax(courses.last)
    whole = (float(np.nanmax(courses.first)), float(ends)) if interval is None else interval
    whole = _interval(whole, "interval")
    table, said = courses.people, []
    for name, (what, level, own) in asked.items():
        a, b = whole if own is None else own
        covered = courses.covered(a, b, incomplete == "refuse")
        found = courses.each(what, a, b) if callable(what) else courses.measure(what, level, a, b, rule)
        table[name] = np.where(covered, found, np.nan)
        if not covered.all():
            said.append(
                f"{name}: {int((~covered).sum()):,} of {len(covered):,} courses do not cover {a:g} to {b:g} and are left out."
            )
        if what in ("auc", "cavg"):
            said += courses.roughness(name, a, b, rule)
    if covariates is not None:
        words = {name: info.categories for name, info in covariates.covariates.items()}
        firsts = {name: {s.id: _told(s.history.covariates[name][0], words[name]) for s in covariates} for name in words}
        who = table["PERSON"] if "PERSON" in table else table["ID"]
        for k, (name, of) in enumerate(firsts.items()):
            table.insert(table.columns.get_loc("ID") + 1 + k, name, who.map(of).to_numpy())
    return Exposure(table, tuple(asked), whole, said)


def _told(value: float, categories):
    """A covariate as it is said: a category by its word."""
    return categories[int(value)] if categories and np.isfinite(value) else value


def _measures(measures: Any) -> dict[str, tuple]:
    """name -> (measure or function, level, interval)."""
    if isinstance(measures, str):
        measures = (measures,)
    if not isinstance(measures, (Mapping, list, tuple)):
        raise DataError(f'measures are names, ("cmax", "auc"), or a dict from a name of yours to one; got {measures!r}.')
    if isinstance(measures, Mapping):
        return {str(name): _measure(given) for name, given in measures.items()}
    if (
        len(measures)
        and isinstance(measures, tuple)
        and measures[0] in (*WITH_LEVEL,)
        and len(measures) > 1
        and not isinstance(measures[1], str)
    ):
        measures = (measures,)
    found = {}
    for given in measures:
        name = given if isinstance(given, str) else "_".join(x if isinstance(x, str) else f"{x:g}" for x in given)
        found[name] = _measure(given)
    return found


def _measure(given: Any) -> tuple:
    if callable(given):
        return given, None, None
    if not isinstance(given, (str, tuple, list)) or not len(given):
        raise DataError(f'A measure is a name, "auc", a pair with a level or an interval, or a function; got {given!r}.')
    parts = (given,) if isinstance(given, str) else tuple(given)
    word, numbers = parts[0], parts[1:]
    known = (*PLAIN, *WITH_LEVEL)
    if word not in known:
        raise DataError(name_error("measure", str(word), known, "nlme.exposure"))
    levels = 1 if word in WITH_LEVEL else 0
    if len(numbers) not in (levels, levels + 2):
        shape = f"({word!r}, level)" if levels else f"{word!r}"
        raise DataError(f"The measure {given!r} is written {shape}, or with an interval of its own at its end.")
    if levels and not (is_numeric(numbers[0]) and np.ndim(numbers[0]) == 0):
        raise DataError(f"The level of the measure {given!r} is a number.")
    own = _interval(numbers[levels:], str(given)) if len(numbers) > levels else None
    return word, float(numbers[0]) if levels else None, own


def _interval(given, what: str) -> tuple[float, float]:
    try:
        a, b = (float(x) for x in given)
    except (TypeError, ValueError):
        raise DataError(f"{what}: an interval is its beginning and its end, (144, 168); got {given!r}.") from None
    if not a < b:
        raise DataError(f"{what}: the interval {a:g} to {b:g} is empty.")
    return a, b


@dataclasses.dataclass(frozen=True, eq=False)
class Courses:
    """Courses side by side: (P, T) times and values, NaN behind a course's end; ``people`` (P rows) says whose they are."""

    people: Any
    time: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, frame, endpoint: str | None, values: str) -> Courses:
        """The courses of one endpoint of a simulated table.

        Raises
        ------
        DataError
            An unknown endpoint or column of values; several endpoints and none named; values missing.
        """
        known = list(dict.fromkeys(frame["ENDPOINT"]))
        if endpoint is None and len(known) > 1:
            raise DataError(f"The simulation has the endpoints {', '.join(known)}: say endpoint=.")
        if endpoint is not None and endpoint not in known:
            raise DataError(name_error("endpoint", endpoint, known, "The simulation"))
        if values not in ("IPRED", "DV"):
            raise DataError(f"values is 'IPRED' or 'DV'; got {values!r}.")
        if len(known) > 1:
            frame = frame[frame["ENDPOINT"] == endpoint]
        groups = [name for name in GROUPS if name in frame]
        begins = np.r_[True, np.any([_changes(frame[name]) for name in groups], axis=0)]
        starts = np.flatnonzero(begins)
        lengths = np.diff(np.r_[starts, len(frame)])
        extra = [name for name in ("PERSON",) if name in frame]
        people = frame[[*groups, *extra]].iloc[starts].reset_index(drop=True)
        if "REPLICATE" not in people:
            people.insert(0, "REPLICATE", 1)
        if people.duplicated([name for name in GROUPS if name in people]).any():
            raise DataError("The rows of a subject must stand together in the simulation.")
        place = np.arange(len(frame)) - np.repeat(starts, lengths)
        time, value = np.full((2, len(starts), lengths.max()), np.nan)
        who = np.repeat(np.arange(len(starts)), lengths)
        time[who, place], value[who, place] = frame["TIME"].to_numpy(float), frame[values].to_numpy(float)
        if np.isnan(value[np.isfinite(time)]).any():
            raise DataError(f"The simulation has missing values of {values}.")
        if restarted := frame.attrs.get(RESTARTED):
            raise DataError(
                f"Time begins again at a reset of subject {restarted[0]}; exposure needs one axis of time: give each period its own subject."
            )
        if np.any(np.diff(time, axis=1) < 0):
            raise DataError("A subject's times run backwards (a reset); exposure needs one axis of time.")
        return cls(people, time, value)

    @functools.cached_property
    def first(self) -> np.ndarray:
        return self.time[:, 0]

    @functools.cached_property
    def last(self) -> np.ndarray:
        return np.nanmax(self.time, axis=1)

    def covered(self, a: float, b: float, required: bool) -> np.ndarray:
        """(P,) whose times cover an interval; if ``required``, all must."""
        found = (self.first <= a) & (self.last >= b)
        bad = np.flatnonzero(~found)
        if len(bad) and required:
            one = self.people.iloc[bad[0]]
            raise DataError(
                f"The interval {a:g} to {b:g} is not covered by the times of subject {one['ID']} ({self.first[bad[0]]:g} to "
                f"{self.last[bad[0]]:g}): simulate at more times, population.with_times(...)."
            )
        return found

    def each(self, function: Callable, a: float, b: float) -> np.ndarray:
        """(P,) a function of the times and values within the interval."""
        found = []
        for time, value, own in zip(self.time, self.value, self._within(a, b), strict=True):
            try:
                found.append(float(function(time[own], value[own])) if own.any() else np.nan)
            except (TypeError, ValueError) as error:
                name = getattr(function, "__name__", "the function")
                raise DataError(f"{name} of (times, values) has to return one number: {error}.") from None
        return np.array(found)

    def _within(self, a: float, b: float) -> np.ndarray:
        """(P, T) which records are of the interval: of several at its beginning the last, after a dose; at its end the first."""
        again = np.diff(self.time, axis=1) == 0.0
        none = np.zeros((len(self.time), 1), bool)
        superseded, repeats = np.hstack([again, none]), np.hstack([none, again])
        begun = (self.time > a) | ((self.time == a) & ~superseded)
        return begun & ((self.time < b) | ((self.time == b) & ~repeats))

    def measure(self, what: str, level: float | None, a: float, b: float, rule: str) -> np.ndarray:
        """(P,) one measure."""
        inside = self._within(a, b)
        if what in ("cmax", "cmin", "tmax"):
            ends = np.stack([self.at(a, after=True), self.at(b)], axis=1)
            time = np.concatenate(
                [np.full((len(ends), 1), a), np.where(inside, self.time, np.nan), np.full((len(ends), 1), b)], axis=1
            )
            value = np.concatenate([ends[:, :1], np.where(inside, self.value, np.nan), ends[:, 1:]], axis=1)
            if what == "cmin":
                return np.nanmin(value, axis=1)
            at = np.nanargmax(value, axis=1)
            rows = np.arange(len(at))
            return value[rows, at] if what == "cmax" else time[rows, at] - a
        if what in ("ctrough", "last"):
            return self.at(b)
        if what in ("auc", "cavg"):
            area = self.area(a, b, rule)
            return area / (b - a) if what == "cavg" else area
        long = self.above(level, a, b)
        long = long if what.endswith("above") else (b - a) - long
        return long / (b - a) if what.startswith("share") else long

    def at(self, t: float, after: bool = False) -> np.ndarray:
        """(P,) values at a time: of several records there the first (or, ``after`` a dose, the last), between two on the straight line."""
        following = np.argmax(np.where(np.isfinite(self.time), self.time, -np.inf) >= t, axis=1)
        if after:
            following = following + np.maximum(np.sum(self.time == t, axis=1) - 1, 0)
        rows, before = np.arange(len(following)), np.maximum(following - 1, 0)
        t0, t1 = self.time[rows, before], self.time[rows, following]
        share = np.where(t1 > t0, (t - t0) / np.where(t1 > t0, t1 - t0, 1.0), 1.0)
        return self.value[rows, before] + share * (self.value[rows, following] - self.value[rows, before])

    def _pieces(self, a: float, b: float):
        """Lengths and values at both ends of what each piece of a course has within the interval."""
        t0, t1, c0, c1 = self.time[:, :-1], self.time[:, 1:], self.value[:, :-1], self.value[:, 1:]
        lower, upper = np.clip(t0, a, b), np.clip(t1, a, b)
        with np.errstate(invalid="ignore", divide="ignore"):
            slope = np.where(t1 > t0, (c1 - c0) / (t1 - t0), 0.0)
        begin, end = c0 + slope * (lower - t0), c0 + slope * (upper - t0)
        real = np.isfinite(t1)
        return tuple(np.where(real, x, 0.0) for x in (upper - lower, begin, end, c0, c1, t1 - t0, lower - t0, upper - t0))

    def area(self, a: float, b: float, rule: str) -> np.ndarray:
        """(P,) under the courses from a to b."""
        length, begin, end, c0, c1, width, from_, to = self._pieces(a, b)
        found = 0.5 * length * (begin + end)
        if rule == "log":
            falls = (c1 > 0) & (c0 > c1) & (length > 0)
            with np.errstate(invalid="ignore", divide="ignore"):
                k = np.log(c0 / c1) / width
                exact = c0 * (np.exp(-k * from_) - np.exp(-k * to)) / k
            found = np.where(falls, exact, found)
        return found.sum(axis=1)

    def above(self, level: float, a: float, b: float) -> np.ndarray:
        """(P,) how long the courses are above a level from a to b."""
        length, begin, end, *_ = self._pieces(a, b)
        high, low = np.maximum(begin, end), np.minimum(begin, end)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(high > low, np.clip((high - level) / (high - low), 0.0, 1.0), (begin > level).astype(float))
        return (length * share).sum(axis=1)

    def roughness(self, name: str, a: float, b: float, rule: str) -> list[str]:
        """A sentence where an area depends on the times it is taken from."""
        count = np.isfinite(self.time).sum(axis=1)
        if self.time.shape[1] < 4 or len(np.unique(count)) > 1:
            return []
        jumps = np.flatnonzero((np.diff(self.time, axis=1) == 0.0).any(axis=0))  # both sides of a dose stay
        steps = np.setdiff1d(np.arange(self.time.shape[1]), jumps + 1)
        kept = np.unique(np.r_[steps[::2], self.time.shape[1] - 1, jumps, jumps + 1])
        coarse = Courses(self.people, self.time[:, kept], self.value[:, kept])
        fine, rough = self.area(a, b, rule), coarse.area(a, b, rule)
        # the error of a trapezoid goes with the square of the step: a third of the difference is left
        bad = np.abs(fine - rough) > 3 * _ROUGH * np.maximum(np.abs(fine), 1e-300)
        if bad.mean() <= _OFTEN:
            return []
        return [
            f"{name}: the times are far apart; half of them give another area by more than {3 * _ROUGH:.0%} in {bad.mean():.0%} of the "
            f"subjects. Simulate on a finer grid (population.with_times)."
        ]


def _changes(column) -> np.ndarray:
    values = column.to_numpy()
    return values[1:] != values[:-1]
