"""Subject: the records of one person as a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nlme.data.course import Course, frozen
from nlme.errors import DataError

FLOATS = {"amt": 0.0, "rate": 0.0, "duration": 0.0, "ii": 0.0, "dv": np.nan, "limit": np.nan}
WHOLES = {"evid": 0, "addl": 0, "ss": 0, "cmt": 0, "endpoint": None, "mdv": None, "cens": 0, "occasion": 0, "rows": 0}
RECORD_FIELDS = ("time", *FLOATS, *WHOLES)
"""Per-record arrays of a subject, apart from compartment names, covariates and extra columns."""


@dataclass(frozen=True, eq=False, repr=False)
class Subject:
    """The records of one subject, in file order; every array has shape (n,).

    Parameters
    ----------
    id
        Number or text, as in the file.
    time
        Times, in the unit of the data set.
    dv, evid, mdv, amt, rate, duration, ii, addl, ss, cens, limit, occasion
        NONMEM's columns (``duration`` is DUR); what is left out is 0, or NaN for ``dv`` and ``limit``.  Without ``mdv`` it is
        1 on records with EVID other than 0.  A subject whose observations have no values at all is a design: it can be simulated
        and predicted, and has no likelihood.
    cmt, cmt_name
        Compartment number (0: not given) or name (None: not given) of each record.
    endpoint
        Index into ``Population.endpoints``; -1 on records that are not observations.
    covariates
        name -> (n,) values; a constant covariate is repeated.
    extra
        Columns of the file that nothing reads.
    rows
        Row of each record in its source, counted from 1 without the header; 0 for records made by the library.
    course
        What covariates and occasion are in time, where the records alone do not say it: records that are gone said when they
        change.  None: as the records say.
    features
        name -> array of any shape, what is known of the subject once (``Population.with_features``).

    Raises
    ------
    DataError
        A field that does not hold numbers, or not one for each record.  What the records say together is checked where subjects
        come together, by :class:`Population`.
    """

    id: int | str
    time: np.ndarray
    dv: np.ndarray = None
    evid: np.ndarray = None
    mdv: np.ndarray = None
    amt: np.ndarray = None
    rate: np.ndarray = None
    duration: np.ndarray = None
    ii: np.ndarray = None
    addl: np.ndarray = None
    ss: np.ndarray = None
    cmt: np.ndarray = None
    cmt_name: tuple[str | None, ...] = None
    endpoint: np.ndarray = None
    cens: np.ndarray = None
    limit: np.ndarray = None
    occasion: np.ndarray = None
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    rows: np.ndarray = None
    course: Course | None = None
    features: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("time", np.atleast_1d(self._numbers("time", self.time, np.float64)))
        n = len(self.time)
        for names, dtype in ((FLOATS, np.float64), (WHOLES, np.int64)):
            for name, default in names.items():
                value = getattr(self, name)
                if value is None and name == "mdv":
                    value = self.evid != 0
                elif value is None and name == "endpoint":
                    continue
                elif value is None:
                    value = np.full(n, default)
                put(name, self._numbers(name, value, dtype))
        if self.endpoint is None:
            put("endpoint", frozen(np.where(self.is_observation, 0, -1), np.int64))
        put("cmt_name", (None,) * n if self.cmt_name is None else tuple(self.cmt_name))
        put("covariates", {k: frozen(np.broadcast_to(v, (n,)), np.float64) for k, v in self.covariates.items()})
        put("features", {k: v if not v.flags.writeable else frozen(v, np.float64) for k, v in self.features.items()})
        put("extra", {k: frozen(v, np.asarray(v).dtype) for k, v in self.extra.items()})
        for name in (*RECORD_FIELDS, "cmt_name"):
            if len(getattr(self, name)) != n:
                raise DataError(f"Subject {self.id!r}: {name} has {len(getattr(self, name))} entries for {n} records.")
        if self.course is not None and self.course.covariates.keys() != self.covariates.keys():
            raise DataError(f"Subject {self.id!r}: the course and the records have not the same covariates.")

    def _numbers(self, name: str, values: Any, dtype: Any) -> np.ndarray:
        """The values of a field as numbers; whole ones are not rounded to be so."""
        if isinstance(values, np.ndarray) and values.dtype == dtype:
            return frozen(values, dtype)
        try:
            given = np.asarray(values)
            out = frozen(given, np.float64 if given.dtype.kind == "f" else dtype)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"Subject {self.id!r}: {name} holds numbers, one for each record; got {str(values)[:80]}.") from None
        if out.dtype == dtype:
            return out
        broken = ~(np.isfinite(out) & (out == np.round(out)))
        if broken.any():
            at = int(np.flatnonzero(broken.ravel())[0])
            raise DataError(f"Subject {self.id!r}, record {at + 1}: {name} holds whole numbers; got {out.ravel()[at]:g}.")
        return frozen(out, dtype)

    @property
    def clock(self) -> np.ndarray:
        """(n,) times that never run backwards: after a reset that restarts the clock, time goes on from where it was."""
        back = np.minimum(np.diff(self.time, prepend=self.time[:1]), 0.0)
        return self.time - np.cumsum(back) if back.any() else self.time

    @property
    def period(self) -> np.ndarray:
        """(n,) how many times time has begun again by each record."""
        return np.cumsum(np.diff(self.time, prepend=self.time[:1]) < 0)

    @property
    def history(self) -> Course:
        """What covariates and occasion are in time (``clock``): the subject's course, or what its records say."""
        return self.course or Course(self.clock, self.occasion, self.covariates)

    @property
    def is_observation(self) -> np.ndarray:
        """(n,) records that hold an observed value: EVID 0 and MDV 0."""
        return (self.evid == 0) & (self.mdv == 0)

    @property
    def is_dose(self) -> np.ndarray:
        """(n,) records that give a dose: EVID 1 or 4."""
        return (self.evid == 1) | (self.evid == 4)

    @property
    def is_switch(self) -> np.ndarray:
        """(n,) records that switch a compartment off (EVID 2, CMT < 0) or on again (EVID 2 with its number)."""
        other = self.evid == 2
        return other & np.isin(np.abs(self.cmt), -self.cmt[other & (self.cmt < 0)])

    @property
    def n_observations(self) -> int:
        return int(self.is_observation.sum())

    def __len__(self) -> int:
        return len(self.time)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Subject):
            return NotImplemented
        if type(self.id) is not type(other.id) or self.id != other.id or self.cmt_name != other.cmt_name:
            return False
        if self.course != other.course:
            return False
        if self.covariates.keys() != other.covariates.keys() or self.extra.keys() != other.extra.keys():
            return False
        pairs = [(getattr(self, f), getattr(other, f)) for f in RECORD_FIELDS if f != "rows"]
        pairs += [(self.covariates[k], other.covariates[k]) for k in self.covariates]
        pairs += [(self.extra[k], other.extra[k]) for k in self.extra]
        if self.features.keys() != other.features.keys():
            return False
        pairs += [(self.features[k], other.features[k]) for k in self.features]
        return all(_same(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.id, self.time.tobytes(), self.dv.tobytes()))

    def __repr__(self) -> str:
        parts = [count(self.n_observations, "observation"), count(int(self.is_dose.sum()), "dose"), span(self.time, "time")]
        parts += [span(v, k) for k, v in self.covariates.items()]
        return f"Subject {self.id}: " + ", ".join(p for p in parts if p)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        return np.array_equal(a, b)
    if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
        return np.array_equal(a.astype(float), b.astype(float), equal_nan=True)
    return a.shape == b.shape and all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


def subjects_from_columns(
    ids: Sequence[int | str],
    starts: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    cmt_name: Sequence[str | None],
    covariates: Mapping[str, np.ndarray],
    extra: Mapping[str, np.ndarray],
    courses: Sequence[Course | None],
) -> tuple[Subject, ...]:
    """Cut whole columns into subjects; ``starts`` holds the first record of each and, last, the number of records."""
    out = []
    for identity, a, b, course in zip(ids, starts[:-1], starts[1:], courses, strict=True):
        piece = slice(int(a), int(b))
        out.append(
            Subject(
                identity,
                cmt_name=tuple(cmt_name[piece]),
                covariates={k: v[piece] for k, v in covariates.items()},
                extra={k: v[piece] for k, v in extra.items()},
                course=course,
                **{k: v[piece] for k, v in arrays.items()},
            )
        )
    return tuple(out)


def count(n: int, word: str) -> str:
    """A number of things."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def span(values: np.ndarray, name: str = "", unit: str | None = None) -> str:
    """The range of some values, in words; nothing where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return ""
    low, high = _number(known.min()), _number(known.max())
    text = low if low == high else f"{low} to {high}"
    return " ".join(w for w in (name, text, unit) if w)
