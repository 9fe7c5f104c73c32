"""A subject's course: what its covariates and its occasion are in time, whatever records are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nlme.errors import DataError


def frozen(values: Any, dtype: Any) -> np.ndarray:
    """A copy that nobody can change."""
    out = np.array(values, dtype=dtype)
    out.flags.writeable = False
    return out


@dataclass(frozen=True, eq=False)
class Course:
    """Points in time (``Subject.clock``) at which covariates and occasion are known; (m,) arrays in order of time.

    A subject's own records are such points until some of them go: then the subject keeps those at which something changes,
    and the first, with which its time begins.  What holds between two points is the covariate's interpolation.
    """

    time: np.ndarray
    occasion: np.ndarray
    covariates: Mapping[str, np.ndarray]

    def __post_init__(self):
        object.__setattr__(self, "time", frozen(self.time, np.float64))
        object.__setattr__(self, "occasion", frozen(self.occasion, np.int64))
        object.__setattr__(self, "covariates", {k: frozen(v, np.float64) for k, v in self.covariates.items()})
        if not len(self.time) or any(len(v) != len(self.time) for v in (self.occasion, *self.covariates.values())):
            raise DataError("A course needs at least one point, and one value of every covariate at each.")
        if np.any(np.diff(self.time) < 0):
            raise DataError("The points of a course must be in order of time.")

    def __len__(self) -> int:
        return len(self.time)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Course):
            return NotImplemented
        mine, theirs = self.columns(), other.columns()
        return mine.keys() == theirs.keys() and all(np.array_equal(v, theirs[k], equal_nan=True) for k, v in mine.items())

    def columns(self) -> dict[str, np.ndarray]:
        """Everything as one dict of arrays: time, occasion, then the covariates in order of their names."""
        return {"time": self.time, "occasion": self.occasion} | {
            f"covariates/{k}": self.covariates[k] for k in sorted(self.covariates)
        }

    def changes(self) -> Course:
        """The first point and those that differ from a neighbour: the others say nothing, whatever the interpolation."""
        differs = np.any([v[1:] != v[:-1] for v in (self.occasion, *self.covariates.values())], axis=0)
        keep = np.r_[True, differs] | np.r_[differs, False]
        return Course(self.time[keep], self.occasion[keep], {k: v[keep] for k, v in self.covariates.items()})

    def is_told_by(self, points: Course) -> bool:
        """Whether all of these points are among the others, in the same order."""
        others = iter(points._rows())
        return all(row in others for row in self._rows())

    def _rows(self) -> list[bytes]:
        return [row.tobytes() for row in np.stack([v.view(np.int64) for v in self.columns().values()], axis=1)]

    def beside(self, at: np.ndarray, values: np.ndarray, how: str, later: bool) -> np.ndarray:
        """Values for new records at times ``at``, which come before (or, ``later``, after) all that stand at the same time.

        ``how``: "nocb", NONMEM's rule, the next point's value; "locf" the last one's; "linear" the line between them.  Outside of
        the points it is the nearest one's.
        """
        first, last = (np.searchsorted(self.time, at, side=side) for side in ("left", "right"))
        following, previous = np.minimum(first, len(self) - 1), np.maximum(last - 1, 0)
        if how == "linear":
            between = np.interp(at, self.time, values)
        else:
            between = values[following if how == "nocb" else previous]
        return np.where(first < last, values[previous if later else following], between)


def packed(courses: Sequence[Course | None]) -> dict[str, np.ndarray]:
    """Courses of subjects as arrays, to be stored: ``courses/lengths`` (0: none) and all points; nothing if nobody has one."""
    own = [course for course in courses if course is not None]
    if not own:
        return {}
    lengths = np.array([0 if course is None else len(course) for course in courses], dtype=np.int64)
    columns = [course.columns() for course in own]
    return {"courses/lengths": lengths} | {f"courses/{k}": np.concatenate([c[k] for c in columns]) for k in columns[0]}


def unpacked(arrays: Mapping[str, np.ndarray], n: int) -> list[Course | None]:
    """The courses of n subjects, from what ``packed`` made of them."""
    if "courses/lengths" not in arrays:
        return [None] * n
    columns = {k.removeprefix("courses/"): v for k, v in arrays.items() if k.startswith("courses/") and k != "courses/lengths"}
    edges = np.r_[0, np.cumsum(arrays["courses/lengths"])]
    out: list[Course | None] = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        piece = {k: v[a:b] for k, v in columns.items()}
        told = {k.removeprefix("covariates/"): v for k, v in piece.items() if k.startswith("covariates/")}
        out.append(Course(piece["time"], piece["occasion"], told) if a < b else None)
    return out
