"""Parameter rows of one subject: what ``individual`` is told at every record and over every interval between them.

A row is what stays the same, so neighbours that agree share one.  What covariates and occasion are is told by the subject's
course (``nlme.data.course``), which is that of its records as long as all of them are there.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from nlme.data.population import Subject
from nlme.language.anatomy import OCCASION, Anatomy


@dataclasses.dataclass(frozen=True)
class ParameterRows:
    """Stations in order of time: the records, and marks, at which the course changes where it is not that of the records.

    Attributes
    ----------
    time : (n,) of the stations
    is_record : (n,) which of them are records
    at : (n,) the row that holds at each
    ends : (n,) the row of the interval that ends there
    table : name -> (K,) covariates, and the position of the occasion, of every row
    anchor : (K,) the time at which a row's covariates have the values of the table
    drift : name -> (K,) their rates of change from then on
    """

    time: np.ndarray
    is_record: np.ndarray
    at: np.ndarray
    ends: np.ndarray
    table: dict[str, np.ndarray]
    anchor: np.ndarray
    drift: dict[str, np.ndarray]

    @property
    def own(self) -> np.ndarray:
        """The row of every record."""
        return self.at[self.is_record]

    @property
    def before(self) -> np.ndarray:
        """The row of the interval that ends at every record."""
        return self.ends[self.is_record]

    @property
    def marks(self) -> list[tuple[float, int]]:
        """Time of every mark, and the row of the interval that ends there."""
        return [(float(self.time[k]), int(self.ends[k])) for k in np.flatnonzero(~self.is_record)]

    def stretches(self, shift: np.ndarray) -> list[tuple[int, float, float, float]]:
        """(row, begin, end, how far the clock is ahead) of every stretch of time over which nothing of these changes.

        ``shift``: how far it is ahead at the records; where there are marks, a clock does not start again.
        """
        ahead = np.zeros(len(self.time))
        ahead[self.is_record] = shift
        changes = np.flatnonzero((np.diff(self.ends) != 0) | (np.diff(ahead) != 0)) + 1
        first, last = np.r_[0, changes], np.r_[changes - 1, len(self.time) - 1]
        begin = self.time[np.maximum(first - 1, 0)]
        ends = zip(first, last, begin, strict=True)
        return [(int(self.ends[i]), float(a), float(self.time[j]), float(ahead[j])) for i, j, a in ends]


def parameter_rows(
    subject: Subject, anatomy: Anatomy, clock: np.ndarray, between: dict[str, str], lines: list[str]
) -> ParameterRows:
    """The rows of a subject whose records stand at ``clock``.

    ``between``: the interpolation of every covariate; those among ``lines`` go straight from one point to the next.
    """
    if anatomy.by_occasion:
        between = {**between, OCCASION: "nocb"}
    names = list(between)
    known = told_by(subject, anatomy)
    points, told = (clock, known) if subject.course is None else (subject.course.time, told_by(subject.course, anatomy))
    marks = np.zeros(0, int) if subject.course is None else _marks(points, told, clock)
    order = np.lexsort((np.repeat([0, 1], [len(marks), len(clock)]), np.r_[points[marks], clock]))
    time, is_record = np.r_[points[marks], clock][order], order >= len(marks)
    if not names:
        rows = np.zeros(len(time), int)
        return ParameterRows(time, is_record, rows, rows, {}, np.zeros(1), {})
    here = np.concatenate([told[marks], known])[order]
    straight, nocb = np.array([name in lines for name in names]), np.array([between[name] == "nocb" for name in names])
    whole = _rows(time, is_record, here, points, told, straight, nocb)
    changed = np.r_[False, np.any(whole[1:] != whole[:-1], axis=1)]
    first, number = np.r_[0, np.flatnonzero(changed)], np.cumsum(changed)
    table = {name: whole[first, k] for k, name in enumerate(names)}
    drift = {name: whole[first, len(names) + names.index(name)] for name in lines}
    return ParameterRows(time, is_record, number[1::2], number[0::2], table, whole[first, -1], drift)


def told_by(known, anatomy: Anatomy) -> np.ndarray:
    """(m, k) what ``individual`` is told at the records of a subject, or at the points of a course."""
    columns = [np.asarray(known.covariates[name], dtype=float) for name in anatomy.covariates]
    if anatomy.by_occasion:
        columns.append(np.array([anatomy.occasions.index(str(occasion)) for occasion in known.occasion], dtype=float))
    return np.stack(columns, axis=1) if columns else np.zeros((len(known.occasion), 0))


def _marks(points: np.ndarray, told: np.ndarray, clock: np.ndarray) -> np.ndarray:
    """Which points of a course are needed, up to the last record: its beginning if that is before the first record, and those
    that differ from a neighbour."""
    differs = np.any(told[1:] != told[:-1], axis=1)
    needed = np.r_[points[0] < clock[0], differs] | np.r_[differs, False]
    return np.flatnonzero(needed & (points <= clock[-1]))


def _rows(time, is_record, here, points, told, straight, nocb) -> np.ndarray:
    """(2n, 2k + 1) of the interval that ends at a station, and of the station itself, in turn: values, slopes, anchor.

    Over an interval a covariate has the value of the course's next point (``nocb``), of its last, or goes ``straight`` from the
    one to the other; then its row is anchored where the line begins.  Nobody looks at a mark's own row.
    """
    starts = np.r_[time[:1], time[:-1]]
    passes = (time > starts)[:, None]
    last = np.maximum(np.searchsorted(points, starts, side="right") - 1, 0)
    following = np.minimum(np.searchsorted(points, time, side="left"), len(points) - 1)
    earlier = np.where(passes, told[last], np.r_[here[:1], here[:-1]])
    later = np.where(passes, told[following], here)
    length = (points[following] - points[last])[:, None]
    slope = np.where(straight & passes & (length > 0), (later - earlier) / np.where(length > 0, length, 1.0), 0.0)
    anchor = np.where(np.any(slope != 0.0, axis=1), points[last], 0.0)
    ending = np.concatenate([np.where(nocb, later, earlier), slope, anchor[:, None]], axis=1)
    own = np.where(is_record[:, None], np.pad(here, ((0, 0), (0, here.shape[1] + 1))), ending)
    return np.stack([ending, own], axis=1).reshape(2 * len(time), -1)
