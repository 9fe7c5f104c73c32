"""Subjects that are values keep the rules of a table too, as far as these are about values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlme.data.options import Options
from nlme.data.records import Recorded
from nlme.data.rules import RULES
from nlme.data.subject import FLOATS, Subject
from nlme.data.violations import screen
from nlme.errors import DataError

# NONMEM column -> field of a subject, of what the rules look at
_FIELDS = {
    "TIME": "time", "DV": "dv", "AMT": "amt", "RATE": "rate", "DUR": "duration", "EVID": "evid", "MDV": "mdv", "CMT": "cmt",
    "II": "ii", "ADDL": "addl", "SS": "ss", "CENS": "cens", "LIMIT": "limit",
}  # fmt: skip
_FINITE = ("AMT", "RATE", "DUR", "II")
_RULES = tuple(rule for rule in RULES if rule.everywhere)


class Made(Recorded):
    """The records of subjects, as the rules see those of a table: ``row`` is the number of a record within its subject."""

    options = Options()
    covariates: dict[str, np.ndarray] = {}

    def __init__(self, subjects: Sequence[Subject]):
        lengths = [len(s) for s in subjects]
        self.arrays = {name: np.concatenate([getattr(s, name) for s in subjects]) for name in _FIELDS.values()}
        self.group = np.repeat(np.arange(len(lengths)), lengths)
        self.first = np.diff(self.group, prepend=-1) != 0
        self.row = np.arange(len(self.group)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
        self._subjects = subjects
        values = {column: self.arrays[_FIELDS[column]] for column in (*_FINITE, "DV")}
        self.bad = {column: ~np.isfinite(values[column]) for column in _FINITE}
        self.bad["DV"] = self.is_observation & np.isinf(values["DV"])

    @property
    def id(self) -> np.ndarray:
        """(n,) the ID of every record's subject, looked for only where a rule is broken."""
        ids = np.empty(len(self._subjects), dtype=object)
        ids[:] = [s.id for s in self._subjects]
        return ids[self.group]

    @property
    def is_design(self) -> np.ndarray:
        """Records of subjects without any observed value (``dv`` left out), which can be simulated and predicted."""
        told = np.bincount(self.group[self.is_observation & ~np.isnan(self.dv)], minlength=len(self._subjects))
        return told[self.group] == 0

    def has(self, column: str) -> bool:
        return column in _FIELDS

    def is_bad(self, column: str) -> np.ndarray:
        return self.bad.get(column, np.zeros(len(self), dtype=bool))

    def is_missing(self, column: str) -> np.ndarray:
        return ~np.isfinite(self.arrays[_FIELDS[column]])

    def text(self, column: str, i: int) -> str:
        value = self.arrays[_FIELDS[column]][i]
        return f"{value:.15g}" if _FIELDS[column] in ("time", *FLOATS) else str(value)


def require_sound(subjects: Sequence[Subject], endpoints: Sequence[str]) -> None:
    """Refuse subjects whose records break a rule that :func:`nlme.read_nonmem` would not read.

    Raises
    ------
    DataError
        With every violation, its subjects and their records; ``error.violations`` holds them as values.  An observation of none of
        the ``endpoints``.
    """
    if not subjects:
        return
    records = Made(subjects)
    found = [violation for rule in _RULES for violation in rule.broken(records)]
    if found:
        raise DataError(screen(found, "the subjects", rows="rows are a subject's records, counted from 1"), found)
    endpoint = np.concatenate([s.endpoint for s in subjects])
    other = np.flatnonzero(records.is_observation & ((endpoint < 0) | (endpoint >= len(endpoints))))
    if len(other):
        known = ", ".join(f"{k} ({name})" for k, name in enumerate(endpoints))
        raise DataError(
            f"Subject {records.id[other[0]]!r}, record {records.row[other[0]]}: an observation of endpoint {endpoint[other[0]]}; "
            f"the population's endpoints are {known or 'none'}."
        )
