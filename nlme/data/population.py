"""Population: a clinical data set as a value.

Subjects and populations are immutable; every change gives a new one.  Arrays hold one entry per NONMEM record in file order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.by_subject import for_each
from nlme.data.covariates import CovariateInfo
from nlme.data.designs import records_to_predict, redesigned
from nlme.data.features import features_by_subject
from nlme.data.made import require_sound
from nlme.data.subject import RECORD_FIELDS, WHOLES, Subject, count, span
from nlme.errors import DataError, name_error

if TYPE_CHECKING:
    import pandas as pd

    from nlme.data.regimen import Regimen


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
        The data set's DVID value of each endpoint (or CMT, where that tells endpoints apart); None where there is only one
        and nothing names it.
    source
        Name of the file that it was read from, for reports.

    Raises
    ------
    DataError
        Two subjects with the same ID, a covariate or features that one of them lacks, or records that :func:`nlme.read_nonmem`
        would refuse: times that go back without a reset, a dose without an amount, one observation of several without a value.
    """

    subjects: tuple[Subject, ...]
    endpoints: tuple[str, ...] = ("DV",)
    covariates: Mapping[str, CovariateInfo] = None
    dvid: tuple[int | float | str, ...] | None = None
    source: str = ""

    def __post_init__(self):
        object.__setattr__(self, "subjects", tuple(self.subjects))
        object.__setattr__(self, "endpoints", tuple(self.endpoints))
        if self.covariates is None:
            names = list(self.subjects[0].covariates) if self.subjects else []
            found = {n: CovariateInfo(n, constant=self._is_constant(n), column=n) for n in names}
            object.__setattr__(self, "covariates", found)
        else:
            object.__setattr__(self, "covariates", dict(self.covariates))
        if self.dvid is None and len(self.endpoints) > 1:
            object.__setattr__(self, "dvid", tuple(range(1, len(self.endpoints) + 1)))
        seen: set = set()
        for s in self.subjects:
            if s.id in seen:
                raise DataError(f"Two subjects have the ID {s.id!r}; every subject of a population needs its own.")
            seen.add(s.id)
            missing = [n for n in self.covariates if n not in s.covariates]
            if missing:
                raise DataError(f"Subject {s.id!r} has no covariate {missing[0]!r}; it has: {', '.join(s.covariates) or 'none'}.")
            shapes = {name: values.shape for name, values in s.features.items()}
            if shapes != self.features:
                raise DataError(
                    f"Subject {s.id!r} has the features {shapes or 'none'}, and subject {self.ids[0]!r} has {self.features}."
                )
        require_sound(self.subjects, self.endpoints)

    def _is_constant(self, name: str) -> bool:
        known = (s.history.covariates[name] for s in self.subjects if name in s.covariates and len(s))
        return all(np.unique(values).size <= 1 for values in known)

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
    def features(self) -> dict[str, tuple[int, ...]]:
        """name -> shape of what is known of every subject once, see :meth:`with_features`."""
        return {name: values.shape for name, values in self.subjects[0].features.items()} if self.subjects else {}

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
                kind = "<i8" if name in WHOLES else "<f8"
                digest.update(_bytes([getattr(s, name) for s in self.subjects], kind))
        for name in sorted(self.covariates):
            digest.update(_bytes([s.covariates[name] for s in self.subjects], "<f8"))
        digest.update(repr([s.cmt_name for s in self.subjects if any(s.cmt_name)]).encode())
        for i, course in enumerate(s.course for s in self.subjects):
            if course is not None:
                digest.update(repr((i, len(course))).encode())
                digest.update(b"".join(_bytes([v], "<i8" if v.dtype.kind == "i" else "<f8") for v in course.columns().values()))
        for name, shape in sorted(self.features.items()):
            digest.update(repr((name, shape)).encode() + _bytes([s.features[name].ravel() for s in self.subjects], "<f8"))
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Population):
            return NotImplemented
        mine = (self.endpoints, self.covariates, self.dvid, len(self))
        return mine == (other.endpoints, other.covariates, other.dvid, len(other)) and self.subjects == other.subjects

    def __hash__(self) -> int:
        return hash(self.hash)

    # -- features ---------------------------------------------------------------------------------------------------

    def with_features(self, name: str, values: Any) -> Population:
        """The same data with an array of any shape for each subject: gene expressions (G,), an image (H, W), an embedding.

        A model declares it with its shape, ``covariates = {"wt": "kg", "mri": (32, 32)}``, and reads it as ``cov.mri``.  It is
        held once for each subject, whatever the number of records, and goes where the subject goes: ``filter``, ``split``,
        ``cross_validate``, ``bootstrap``, ``with_doses``, ``simulate``, a saved fit.  A NONMEM table (:meth:`to_frame`) has no
        place for it.

        Parameters
        ----------
        name : what the model calls it; features of the same name are replaced
        values : (N, ...), one row for each subject in the order of ``ids``, or a dict, Series or DataFrame by ID

        Raises
        ------
        DataError
            The name of a covariate, another number of rows, a subject without values, missing or infinite numbers, arrays of
            different shapes.
        """
        own = features_by_subject(name, values, self.ids, self.covariates)
        told = zip(self.subjects, own, strict=True)
        return replace(self, subjects=tuple(replace(s, features={**s.features, name: row}) for s, row in told))

    # -- other designs ---------------------------------------------------------------------------------------------

    def with_doses(self, regimen: Regimen, ties: str = "dose first") -> Population:
        """The same subjects, covariates and observation records under another regimen.

        All dose and reset records (EVID 1, 3, 4) go; the regimen's doses come.  DV stays as it was observed.  Covariates and
        occasions stay what they were at every time, also where the record that said so goes (``Subject.course``), and so does the
        time at which the subject's time begins.
        ``ties`` says what happens at equal times: "dose first" (the observation sees the dose) or "observation first", for which
        additional doses (ADDL) become records of their own, for as ADDL they come before the records of their time.

        Raises
        ------
        DataError
            A subject whose clock restarts at a reset: its records cannot be placed on one time axis.
        """
        return replace(
            self,
            subjects=tuple(
                redesigned(s, (s.evid == 0) | (s.evid == 2), regimen.records(s), ties, "with_doses", self.covariates)
                for s in self.subjects
            ),
        )

    def with_times(self, times: Any, ties: str = "dose first") -> Population:
        """The same subjects and doses, with predictions asked for at other times.

        Every record that is not a dose, a reset or the switch of a compartment is replaced by prediction records (EVID 2,
        MDV 1, DV missing) at ``times``: numbers, a dict from ID to numbers, or a function of the subject.  Covariates and
        occasions stay as in :meth:`with_doses`, and ``ties`` is as there, or "both": at the time of a dose there are two records, one
        before it and one after, as areas and troughs of a course with jumps need.

        Raises
        ------
        DataError
            Missing, negative or infinite times; a dict without an ID of the population; a subject whose clock restarts at a reset.
        """
        out = []
        for s, asked in zip(self.subjects, for_each("with_times", times, self.subjects), strict=True):
            try:
                at = np.sort(np.atleast_1d(np.asarray(asked, dtype=np.float64)).ravel())
            except (TypeError, ValueError):
                at = np.array([np.nan])
            if not np.all(np.isfinite(at)) or (at.size and at[0] < 0):
                raise DataError(f"Subject {s.id!r}: prediction times must be numbers from 0 on, got {asked!r}.")
            kept = ((s.evid != 0) & (s.evid != 2)) | s.is_switch
            how = "observation first" if ties == "both" else ties
            made = redesigned(s, kept, records_to_predict(at), how, "with_times", self.covariates)
            if ties == "both":
                again = records_to_predict(at[np.isin(at, made.time[made.is_dose])])
                made = redesigned(made, np.ones(len(made), bool), again, "dose first", "with_times", self.covariates)
            out.append(made)
        return replace(self, subjects=tuple(out))

    # -- tables and print ------------------------------------------------------------------------------------------

    def to_frame(self) -> pd.DataFrame:
        """The data as a NONMEM table, one row per record; ``read_nonmem`` of it gives an equal population but for its features.

        Units, categories and endpoint names travel in ``frame.attrs["nlme"]``; once saved as CSV they have to be given again.
        """
        from nlme.data.frames import population_frame

        return population_frame(self)

    def summary(self, units: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        """(what, value) lines that describe the data set, as its print shows them; ``units`` of "dose", "time" and endpoints."""
        units = units or {}

        def gather(name, where=None):
            pieces = [getattr(s, name)[getattr(s, where)] if where else getattr(s, name) for s in self.subjects]
            return np.concatenate(pieces) if pieces else np.zeros(0)

        amounts = gather("amt", "is_dose")
        doses = len(amounts) + int(np.sum(gather("addl", "is_dose")))
        given = f" (amount {span(amounts, unit=units.get('dose'))})" if doses else ""
        given += f" in {count(len(amounts), 'record')}" if doses > len(amounts) else ""
        lines = [
            ("subjects", f"{len(self):,}"),
            ("observations", f"{self.n_observations:,}" + self._per_subject([s.n_observations for s in self.subjects])),
            ("doses", f"{doses:,}{given}"),
            ("time", span(gather("time"), unit=units.get("time"))),
        ]
        endpoint, dv = gather("endpoint", "is_observation"), gather("dv", "is_observation")
        for k, name in enumerate(self.endpoints):
            of = endpoint == k
            lines.append(
                (
                    f"endpoint {name}",
                    f"{count(int(of.sum()), 'observation')}, {span(dv[of], unit=units.get(name)) or 'no values'}",
                )
            )
        for name, info in self.covariates.items():
            told = [s.covariates[name] if len(s) or s.course is None else s.course.covariates[name] for s in self.subjects]
            values = np.concatenate(told) if told else np.zeros(0)
            if info.categories:
                firsts = [v[0] for v in told if len(v)]
                text = ", ".join(f"{c} {sum(v == i for v in firsts)}" for i, c in enumerate(info.categories))
            else:
                text = span(values, unit=info.unit)
            lines.append((f"covariate {name}", text + ("" if info.constant else _varies(info))))
        for name, shape in self.features.items():
            lines.append((f"features {name}", f"{' x '.join(map(str, shape))} numbers per subject"))
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


def values_by_subject(
    population: Population, name: str, argument: str, part: str, known: Collection[str] | None = None
) -> np.ndarray:
    """(N,) the value of a covariate in every subject, for an ``argument`` by which each subject belongs to one ``part``.

    Raises
    ------
    DataError
        A covariate that is not one of ``known`` (the population's), that changes in time or is missing.
    """
    known = population.covariates if known is None else known
    if name not in population.covariates:
        raise DataError(f"{argument}=: " + name_error("covariate", name, known, "The population"))
    values = []
    for subject in population:
        own = np.unique(subject.covariates[name])
        if len(own) != 1 or not np.isfinite(own[0]):
            seen = "changes in time" if len(own) > 1 else "is missing"
            raise DataError(
                f"{argument}={name!r}: the covariate {seen} in subject {subject.id}; a subject belongs to one {part}."
            )
        values.append(own[0])
    return np.array(values)


def _varies(info: CovariateInfo) -> str:
    return (
        " (varies in time"
        + {"nocb": "", "locf": ", last value carried forward", "linear": ", linear between records"}[info.interpolation]
        + ")"
    )


def _bytes(pieces: list[np.ndarray], kind: str) -> bytes:
    if not pieces:
        return b""
    joined = np.concatenate(pieces).astype(kind)
    if kind == "<f8":
        joined = np.where(np.isnan(joined), np.nan, joined + 0.0)  # one NaN, one zero
    return joined.tobytes()
