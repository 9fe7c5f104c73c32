"""``read_nonmem``: from a file or a DataFrame to a population."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.checks import examine
from nlme.data.course import Course
from nlme.data.numerals import EXACT, LEADING_ZEROS, identities, number_of
from nlme.data.options import Reading
from nlme.data.population import Population
from nlme.data.records import Records
from nlme.data.subject import subjects_from_columns
from nlme.data.violations import DataWarning, screen
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def read_nonmem(
    data: str | os.PathLike | pd.DataFrame,
    *,
    covariates: Mapping[str, str | None] | Iterable[str] | None = None,
    time_varying: Sequence[str] | str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: Mapping[str, str | float] | str | float | None = None,
    interpolation: Mapping[str, str] | str | None = None,
    dvid: Mapping[Any, str | None] | None = None,
    cmt: Mapping[Any, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] | str = (),
    ignore: str | None = None,
    skip: int | None = None,
    decimal: str = ".",
    separator: str | None = None,
    encoding: str | None = None,
) -> Population:
    """Read a NONMEM-style data set: one row per record, one subject after another.

    The columns are NONMEM's, in any case: ID TIME DV AMT RATE DUR EVID MDV CMT II ADDL SS DVID CENS LIMIT OCC and
    DATE/DAT1/DAT2/DAT3.  '.', blank, NA and NaN mean missing.  Clock times (8:30), dates, ISO times (2024-03-01T08:30Z) and
    durations become hours since the subject's first record (the calendar itself is not kept).  Without EVID and MDV a record with
    an amount is a dose and no observation, as in NONMEM.  The header is the first line that names columns; rows that begin with #
    are comments.  IDs and other codes are read exactly, whatever their length.

    Parameters
    ----------
    data
        Path of a text file (comma, semicolon, tab or blanks between columns), or a DataFrame.
    covariates
        Columns to keep as covariates, ``["wt", "age"]`` or with units ``{"wt": "kg", "age": "years"}``.
    time_varying
        Covariates that may change within a subject; all others must be constant.  "auto": any of them may.
    categories
        Words of categorical covariates in the order of their numbers 0, 1, 2: ``{"sex": ["male", "female"]}``.  The column holds
        the words or these numbers.
    fill
        What to do about missing covariates: "locf" (last value carried forward), "nocb" (next value carried backward), a number
        or a category; a dict says it for each covariate.  Without it they are violations.
    interpolation
        What holds between two records of a covariate that varies: "nocb" the later record's value (the default, as NONMEM),
        "locf" the earlier record's, "linear" the line between them (for models written as an ODE).  One word for all, or a dict.
    dvid
        Endpoint name of each DVID value, ``{1: "conc", 2: "pca"}``; None as a name leaves those observations out.  Without it,
        endpoints are named by their DVID value, or "DV" when there is one.
    cmt
        The same by the CMT of the observations, ``{2: "conc", 3: "effect"}``, for data that tell endpoints apart by compartment.
    rename
        ``{"name in the file": "NONMEM or covariate name"}``.
    compartments
        The model's compartments (names, or how many), to check CMT.
    allow
        Names of rules whose violations shall only warn: "duplicated record"; "no observations at all" (to predict, not to fit).
    ignore
        Leave out rows that start with this character too (NONMEM's IGNORE=C); "@" leaves out rows that start with a letter or @.
    skip
        How many lines stand before the header, where it is not found by itself.
    decimal, separator, encoding
        Decimal mark ("," in much of Europe), the character between columns when it is not found by itself, and the encoding of a
        file that is not UTF-8 ("latin-1").

    Returns
    -------
    Population

    Raises
    ------
    DataError
        With every violation, its rows and the remedy; ``error.violations`` holds them as values.

    Warns
    -----
    DataWarning
        For what is allowed but often a mistake.
    """
    records, report = examine(
        data,
        Reading(
            covariates, time_varying, categories, fill, interpolation, dvid, cmt, rename, compartments, allow, ignore, skip,
            decimal, separator, encoding,
        ),
    )  # fmt: skip
    if report.errors:
        shown = report.errors if records is not None else report.violations  # columns that may be the missing ones are shown too
        raise DataError(screen(shown, report.source), report.errors)
    if report.warnings:
        warnings.warn(screen(report.warnings, report.source), DataWarning, stacklevel=2)
    return _population(records, report.source)


def _population(r: Records, source: str) -> Population:
    """The records cut into subjects; rows that only say what covariates and occasion are become the courses of theirs."""
    arrays = {name: values for name, values in r.arrays.items() if name != "covonly"} | {"rows": r.row}
    others = {r.header.names[at]: r.cells.iloc[:, at] for at in r.header.extra}
    extra = {name: _extra(column, r.options.decimal, r.options.is_text(name, column)) for name, column in others.items()}
    ids = [i.item() if isinstance(i, np.generic) else i for i in r.id[r.first]]
    told = r.arrays["covonly"] == 1
    record, group = np.flatnonzero(~told), r.group[~told]
    starts, with_course = np.searchsorted(group, np.arange(len(ids) + 1)), set(r.group[told].tolist())
    subjects = subjects_from_columns(
        ids,
        starts,
        {k: v[record] for k, v in arrays.items()},
        r.cmt_name[record],
        {k: v[record] for k, v in r.covariates.items()},
        {k: v[record] for k, v in extra.items()},
        [_course(r, told & (r.group == g)) if g in with_course else None for g in range(len(ids))],
    )
    return Population(subjects, r.endpoints.names, r.info, r.endpoints.of_name, source)


def _course(r: Records, rows: np.ndarray) -> Course:
    return Course(r.time[rows], r.occasion[rows], {name: values[rows] for name, values in r.covariates.items()})


def _extra(column: pd.Series, decimal: str, words_only: bool) -> np.ndarray:
    """A column that nothing reads: whole numbers exactly, numbers if nothing is lost by it, else text with None for missing."""
    if column.dtype.kind == "f":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    codes = identities(column, decimal, words_only)
    missing = np.array([c is None for c in codes], dtype=bool)
    known = set(codes[~missing])
    if known and all(isinstance(c, int) for c in known):
        if not missing.any():
            return codes.astype(np.int64)
        return codes if any(abs(c) >= EXACT for c in known) else _with_gaps(codes, {c: c for c in known})
    numbers = {c: number_of(c, decimal) for c in known}
    apart = len(set(numbers.values())) == len(numbers)  # 1.10 and 1.1 may be two sites
    plain = all(np.isfinite(v) and not LEADING_ZEROS.match(w) for w, v in numbers.items())
    return _with_gaps(codes, numbers) if known and apart and plain and not words_only else codes


def _with_gaps(codes: np.ndarray, numbers: Mapping[Any, float]) -> np.ndarray:
    return np.array([np.nan if c is None else numbers[c] for c in codes], dtype=np.float64)
