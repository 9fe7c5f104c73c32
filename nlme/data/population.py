"""Subject and Population: a clinical data set as values.

Both are immutable; every change gives a new one.  Arrays hold one entry per NONMEM record in file order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.covariates import CovariateInfo, value_at
from nlme.errors import DataError, name_error

if TYPE_CHECKING:
    import pandas as pd

    from nlme.data.regimen import Regimen

_FLOATS = {"amt": 0.0, "rate": 0.0, "duration": 0.0, "ii": 0.0, "dv": np.nan, "limit": np.nan}
_WHOLES = {"evid": 0, "addl": 0, "ss": 0, "cmt": 0, "endpoint": None, "mdv": None, "cens": 0, "occasion": 0, "rows": 0}
RECORD_FIELDS = ("time", *_FLOATS, *_WHOLES)
"""Per-record arrays of a subject, apart from compartment names, covariates and extra columns."""


def _frozen(values: Any, dtype: Any) -> np.ndarray:
    out = np.array(values, dtype=dtype)  # a copy: nobody else can change it
    out.flags.writeable = False
    return out


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
        1 on records with EVID other than 0.
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

    def __post_init__(self):
        def put(name, value):
            object.__setattr__(self, name, value)

        put("time", _frozen(np.atleast_1d(self.time), np.float64))
        n = len(self.time)
        for names, dtype in ((_FLOATS, np.float64), (_WHOLES, np.int64)):
            for name, default in names.items():
                value = getattr(self, name)
                if value is None and name == "mdv":
                    value = self.evid != 0
                elif value is None and name == "endpoint":
                    continue
                elif value is None:
                    value = np.full(n, default)
                put(name, _frozen(value, dtype))
        if self.endpoint is None:
            put("endpoint", _frozen(np.where(self.is_observation, 0, -1), np.int64))
        put("cmt_name", (None,) * n if self.cmt_name is None else tuple(self.cmt_name))
        put("covariates", {k: _frozen(np.broadcast_to(v, (n,)), np.float64) for k, v in self.covariates.items()})
        put("extra", {k: _frozen(v, np.asarray(v).dtype) for k, v in self.extra.items()})
        for name in (*RECORD_FIELDS, "cmt_name"):
            if len(getattr(self, name)) != n:
                raise DataError(f"Subject {self.id!r}: {name} has {len(getattr(self, name))} entries for {n} records.")

    @property
    def is_observation(self) -> np.ndarray:
        """(n,) records that hold an observed value: EVID 0 and MDV 0."""
        return (self.evid == 0) & (self.mdv == 0)

    @property
    def is_dose(self) -> np.ndarray:
        """(n,) records that give a dose: EVID 1 or 4."""
        return (self.evid == 1) | (self.evid == 4)

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
        if self.covariates.keys() != other.covariates.keys() or self.extra.keys() != other.extra.keys():
            return False
        pairs = [(getattr(self, f), getattr(other, f)) for f in RECORD_FIELDS if f != "rows"]
        pairs += [(self.covariates[k], other.covariates[k]) for k in self.covariates]
        pairs += [(self.extra[k], other.extra[k]) for k in self.extra]
        return all(_same(a, b) for a, b in pairs)

    def __hash__(self) -> int:
        return hash((self.id, self.time.tobytes(), self.dv.tobytes()))

    def __repr__(self) -> str:
        parts = [_count(self.n_observations, "observation"), _count(int(self.is_dose.sum()), "dose"), _span(self.time, "time")]
        parts += [_span(v, k) for k, v in self.covariates.items()]
        return f"Subject {self.id}: " + ", ".join(p for p in parts if p)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind in "fiub" and b.dtype.kind in "fiub":
        return np.array_equal(a.astype(float), b.astype(float), equal_nan=True)
    return a.shape == b.shape and all(x == y or (x != x and y != y) for x, y in zip(a, b, strict=True))


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _span(values: np.ndarray, name: str = "", unit: str | None = None) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return ""
    low, high = _number(known.min()), _number(known.max())
    text = low if low == high else f"{low} to {high}"
    return " ".join(w for w in (name, text, unit) if w)


def subjects_from_columns(
    ids: Sequence[int | str],
    starts: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    cmt_name: Sequence[str | None],
    covariates: Mapping[str, np.ndarray],
    extra: Mapping[str, np.ndarray],
) -> tuple[Subject, ...]:
    """Cut whole columns into subjects; ``starts`` holds the first record of each and, last, the number of records."""
    out = []
    for identity, a, b in zip(ids, starts[:-1], starts[1:], strict=True):
        piece = slice(int(a), int(b))
        out.append(
            Subject(
                identity,
                cmt_name=tuple(cmt_name[piece]),
                covariates={k: v[piece] for k, v in covariates.items()},
                extra={k: v[piece] for k, v in extra.items()},
                **{k: v[piece] for k, v in arrays.items()},
            )
        )
    return tuple(out)


@dataclass(frozen=True, eq=False, repr=False)
class Population(Sequence):
    """A data set: subjects, the names of what was observed, and what is known of the covariates.

    ``pop[3]`` is the fourth subject, ``pop[2:5]`` a population of three, ``pop["17"]`` the subject whose ID is 17.

    Parameters
    ----------
    subjects
        Subjects with distinct IDs.
    endpoints
        Names of the observed quantities; ``("DV",)`` when the data name none.
    covariates
        name -> CovariateInfo; found from the subjects when left out.
    dvid
        The data set's DVID value of each endpoint, or None when it has no DVID column.

    Raises
    ------
    DataError
        Two subjects with the same ID, or a covariate that one of them lacks.
    """

    subjects: tuple[Subject, ...]
    endpoints: tuple[str, ...] = ("DV",)
    covariates: Mapping[str, CovariateInfo] = None
    dvid: tuple[int | float | str, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "subjects", tuple(self.subjects))
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        if self.covariates is None:
            names = list(self.subjects[0].covariates) if self.subjects else []
            found = {n: CovariateInfo(n, constant=self._is_constant(n), column=n) for n in names}
            object.__setattr__(self, "covariates", found)
        else:
            object.__setattr__(self, "covariates", dict(self.covariates))
        seen: set = set()
        for s in self.subjects:
            if s.id in seen:
                raise DataError(f"Two subjects have the ID {s.id!r}; every subject of a population needs its own.")
            seen.add(s.id)
            missing = [n for n in self.covariates if n not in s.covariates]
            if missing:
                raise DataError(f"Subject {s.id!r} has no covariate {missing[0]!r}; it has: {', '.join(s.covariates) or 'none'}.")

    def _is_constant(self, name: str) -> bool:
        return all(np.unique(s.covariates[name]).size <= 1 for s in self.subjects if name in s.covariates)

    # -- a sequence of subjects ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.subjects)

    def __iter__(self) -> Iterator[Subject]:
        return iter(self.subjects)

    def __getitem__(self, key):
        if isinstance(key, (int, np.integer)):
            return self.subjects[key]
        if isinstance(key, slice):
            return replace(self, subjects=self.subjects[key])
        if isinstance(key, str):
            return self.subject(key)
        return replace(self, subjects=tuple(self.subjects[int(i)] for i in key))

    def subject(self, identity: int | str) -> Subject:
        """The subject with this ID; text matches a number that is written the same.

        Raises
        ------
        DataError
            No such ID.
        """
        for s in self.subjects:
            if s.id == identity or str(s.id) == str(identity):
                return s
        raise DataError(name_error("subject", str(identity), [str(i) for i in self.ids[:20]], "The population"))

    @property
    def ids(self) -> tuple[int | str, ...]:
        """The subjects' IDs in order."""
        return tuple(s.id for s in self.subjects)

    @property
    def n_observations(self) -> int:
        return sum(s.n_observations for s in self.subjects)

    @property
    def n_records(self) -> int:
        return sum(len(s) for s in self.subjects)

    def filter(self, keep: Callable[[Subject], bool]) -> Population:
        """The subjects for which ``keep(subject)`` is true."""
        return replace(self, subjects=tuple(s for s in self.subjects if keep(s)))

    # -- identity --------------------------------------------------------------------------------------------------

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of everything a model can see: not of row numbers and columns that nothing reads."""
        digest = hashlib.sha256()
        digest.update(repr((self.endpoints, sorted(self.covariates), [(type(i).__name__, i) for i in self.ids])).encode())
        digest.update(repr([(i.categories, i.interpolation) for _, i in sorted(self.covariates.items())]).encode())
        digest.update(np.array([len(s) for s in self.subjects], dtype="<i8").tobytes())
        for name in RECORD_FIELDS:
            if name != "rows":
                kind = "<i8" if name in _WHOLES else "<f8"
                digest.update(_bytes([getattr(s, name) for s in self.subjects], kind))
        for name in sorted(self.covariates):
            digest.update(_bytes([s.covariates[name] for s in self.subjects], "<f8"))
        digest.update(repr([s.cmt_name for s in self.subjects if any(s.cmt_name)]).encode())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Population):
            return NotImplemented
        mine = (self.endpoints, self.covariates, self.dvid, len(self))
        return mine == (other.endpoints, other.covariates, other.dvid, len(other)) and self.subjects == other.subjects

    def __hash__(self) -> int:
        return hash(self.hash)

    # -- other designs ---------------------------------------------------------------------------------------------

    def with_doses(self, regimen: Regimen, ties: str = "dose first") -> Population:
        """The same subjects, covariates and observation records under another regimen.

        All dose and reset records (EVID 1, 3, 4) go; the regimen's doses come.  DV stays as it was observed.  Constant
        covariates are carried to the new records, varying ones by their interpolation (NONMEM's rule: the next record's value),
        and occasions by NONMEM's rule.
        ``ties`` says what happens at equal times: "dose first" (the observation sees the dose) or "observation first".

        Raises
        ------
        DataError
            A subject whose clock restarts at a reset: its records cannot be placed on one time axis.
        """
        return replace(
            self,
            subjects=tuple(
                _merged(s, (s.evid == 0) | (s.evid == 2), regimen.records(s), ties, "with_doses", self.covariates) for s in self.subjects
            ),
        )

    def with_times(self, times: Any, ties: str = "dose first") -> Population:
        """The same subjects and doses, with predictions asked for at other times.

        Every record that is not a dose or a reset is replaced by prediction records (EVID 2, MDV 1, DV missing) at
        ``times``: numbers, a dict from ID to numbers, or a function of the subject.  Covariates and occasions are carried
        as in :meth:`with_doses`.

        Raises
        ------
        DataError
            Missing, negative or infinite times; a subject whose clock restarts at a reset.
        """
        out = []
        for s in self.subjects:
            asked = times(s) if callable(times) else times[s.id] if isinstance(times, Mapping) else times
            at = np.sort(np.atleast_1d(np.asarray(asked, dtype=np.float64)).ravel())
            if not np.all(np.isfinite(at)) or (at.size and at[0] < 0):
                raise DataError(f"Subject {s.id!r}: prediction times must be numbers from 0 on, got {asked!r}.")
            records = {"time": at, "evid": np.full(at.size, 2), "mdv": np.ones(at.size)}
            out.append(_merged(s, (s.evid != 0) & (s.evid != 2), records, ties, "with_times", self.covariates))
        return replace(self, subjects=tuple(out))

    # -- tables and print ------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """The data as a NONMEM table, one row per record; ``read_nonmem`` of it gives an equal population.

        Units, categories and endpoint names travel in ``frame.attrs["nlme"]``; once saved as CSV they have to be given again.
        """
        from nlme.data.frames import population_frame

        return population_frame(self)

    def summary(self) -> list[tuple[str, str]]:
        """(what, value) lines that describe the data set, as its print shows them."""

        def gather(name, where=None):
            pieces = [getattr(s, name)[getattr(s, where)] if where else getattr(s, name) for s in self.subjects]
            return np.concatenate(pieces) if pieces else np.zeros(0)

        doses, amounts = sum(int(s.is_dose.sum()) for s in self.subjects), gather("amt", "is_dose")
        lines = [
            ("subjects", f"{len(self):,}"),
            ("observations", f"{self.n_observations:,}" + self._per_subject([s.n_observations for s in self.subjects])),
            ("doses", f"{doses:,}" + (f" (amount {_span(amounts)})" if doses else "")),
            ("time", _span(gather("time"))),
        ]
        endpoint, dv = gather("endpoint", "is_observation"), gather("dv", "is_observation")
        for k, name in enumerate(self.endpoints):
            of = endpoint == k
            lines.append((f"endpoint {name}", f"{_count(int(of.sum()), 'observation')}, {_span(dv[of]) or 'no values'}"))
        for name, info in self.covariates.items():
            values = np.concatenate([s.covariates[name] for s in self.subjects]) if len(self) else np.zeros(0)
            if info.categories:
                firsts = [s.covariates[name][0] for s in self.subjects if len(s)]
                text = ", ".join(f"{c} {sum(v == i for v in firsts)}" for i, c in enumerate(info.categories))
            else:
                text = _span(values, unit=info.unit)
            lines.append((f"covariate {name}", text + ("" if info.constant else _varies(info))))
        return lines

    def _per_subject(self, counts: list[int]) -> str:
        if not counts:
            return ""
        low, high = min(counts), max(counts)
        return f" ({low} per subject)" if low == high else f" ({low} to {high} per subject)"

    def __repr__(self) -> str:
        lines = self.summary()
        width = max(len(a) for a, _ in lines)
        return "Population\n" + "\n".join(f"  {a:<{width}}  {b}" for a, b in lines)

    def _repr_html_(self) -> str:
        import html

        left = "style='text-align:left'"
        rows = [f"<tr><th {left}>{html.escape(a)}</th><td {left}>{html.escape(b)}</td></tr>" for a, b in self.summary()]
        return f"<table><caption>Population</caption>{''.join(rows)}</table>"


def _varies(info: CovariateInfo) -> str:
    return " (varies in time" + {"nocb": "", "locf": ", last value carried forward", "linear": ", linear between records"}[info.interpolation] + ")"


def _bytes(pieces: list[np.ndarray], kind: str) -> bytes:
    if not pieces:
        return b""
    joined = np.concatenate(pieces).astype(kind)
    if kind == "<f8":
        joined = np.where(np.isnan(joined), np.nan, joined + 0.0)  # one NaN, one zero
    return joined.tobytes()


def _merged(s: Subject, keep: np.ndarray, new: Mapping[str, Any], ties: str, caller: str, infos) -> Subject:
    """The kept records of a subject and new ones in order of time; doses before or after the others at equal times."""
    if ties not in ("dose first", "observation first"):
        raise DataError(f"ties={ties!r}: at equal times it is 'dose first' or 'observation first'.")
    if np.any(np.diff(s.time) < 0):
        raise DataError(
            f"Subject {s.id!r}: time restarts at a reset record (EVID 3 or 4), so {caller} cannot place new records; "
            "give each period its own subject or a continuous time."
        )
    at = np.asarray(new["time"], dtype=np.float64)
    m = len(at)
    blank = {**_FLOATS, **{k: 0 if v is None else v for k, v in _WHOLES.items()}, "endpoint": -1, "time": 0.0}
    added = {name: np.broadcast_to(new.get(name, blank[name]), (m,)) for name in RECORD_FIELDS}
    columns = {name: np.concatenate([getattr(s, name)[keep], added[name]]) for name in RECORD_FIELDS}
    columns["occasion"][len(columns["time"]) - m :] = value_at(s.time, s.occasion, at) if len(s) else 0
    covariates = {k: np.concatenate([v[keep], value_at(s.time, v, at, infos[k].interpolation)]) for k, v in s.covariates.items()}
    extra = {k: np.concatenate([v[keep], _carried(v, m)]) for k, v in s.extra.items()}
    names = [n for n, k in zip(s.cmt_name, keep, strict=True) if k] + list(new.get("cmt_name", (None,) * m))

    is_new = np.arange(len(columns["time"])) >= len(columns["time"]) - m
    new_first = (ties == "dose first") == bool(np.any(np.asarray(new["evid"]) == 1))
    order = np.lexsort((is_new != new_first, columns["time"]))  # stable: kept records that tie stay in their order
    return Subject(
        s.id,
        cmt_name=tuple(names[i] for i in order),
        covariates={k: v[order] for k, v in covariates.items()},
        extra={k: v[order] for k, v in extra.items()},
        **{k: v[order] for k, v in columns.items()},
    )


def _carried(values: np.ndarray, n: int) -> np.ndarray:
    """What n new records have in an extra column: its value if that is the same on all records (a site), else missing."""
    if len(values) and all(v == values[0] for v in values):
        return np.full(n, values[0], dtype=values.dtype)
    return np.full(n, np.nan) if values.dtype.kind in "fiub" else np.full(n, None, dtype=object)
