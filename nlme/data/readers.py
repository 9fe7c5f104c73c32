"""``read_nonmem``: from a file or a DataFrame to a population."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.checks import examine
from nlme.data.columns import MISSING
from nlme.data.covariates import interpolated
from nlme.data.population import Population, subjects_from_columns
from nlme.data.records import Records
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
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] | str = (),
    ignore: str | None = None,
    decimal: str = ".",
    separator: str | None = None,
) -> Population:
    """Read a NONMEM-style data set: one row per record, one subject after another.

    The columns are NONMEM's, in any case: ID TIME DV AMT RATE DUR EVID MDV CMT II ADDL SS DVID CENS LIMIT OCC and
    DATE/DAT1/DAT2/DAT3.  '.', blank, NA and NaN mean missing.  Clock times (8:30) and dates become hours since the subject's
    first record (the calendar itself is not kept).  Without EVID and MDV a record with an amount is a dose and no observation,
    as in NONMEM.

    Parameters
    ----------
    data
        Path of a text file (comma, semicolon, tab or blanks between columns), or a DataFrame.
    covariates
        Columns to keep as covariates, ``["wt", "age"]`` or with units ``{"wt": "kg", "age": "years"}``.
    time_varying
        Covariates that may change within a subject; all others must be constant.  "auto": any of them may.
    categories
        Words of categorical covariates in the order of their numbers 0, 1, 2: ``{"sex": ["male", "female"]}``.
    fill
        What to do about missing covariates: "locf" (last value carried forward), "nocb" (next value carried backward), a number
        or a category; a dict says it for each covariate.  Without it they are violations.
    interpolation
        What holds between two records of a covariate that varies: "nocb" the later record's value (the default, as NONMEM),
        "locf" the earlier record's, "linear" the line between them (for models written as an ODE).  One word for all, or a dict.
    dvid
        Endpoint name of each DVID value, ``{1: "conc", 2: "pca"}``; None as a name leaves those observations out.  Without it,
        endpoints are named by their DVID value, or "DV" when there is one.
    rename
        ``{"name in the file": "NONMEM or covariate name"}``.
    compartments
        The model's compartments (names, or how many), to check CMT.
    allow
        Names of rules whose violations shall only warn: "duplicated record".
    ignore
        Leave out rows that start with this character (NONMEM's IGNORE=C, IGNORE=#); "@" leaves out rows that start with a letter.
    decimal, separator
        Decimal mark ("," in much of Europe), and the character between columns when it is not found by itself.

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
        data, covariates, time_varying, categories, fill, dvid, rename, compartments, allow, ignore, decimal, separator
    )
    if report.errors:
        shown = report.errors if records is not None else report.violations  # columns that may be the missing ones are shown too
        raise DataError(screen(shown, report.source), report.errors)
    if report.warnings:
        warnings.warn(screen(report.warnings, report.source), DataWarning, stacklevel=2)
    known = getattr(data, "attrs", {}).get("nlme", {})  # of a frame that came from a population
    return _population(records, known.get("interpolation") if interpolation is None else interpolation)


def _population(r: Records, interpolation) -> Population:
    starts = np.append(np.flatnonzero(r.first), len(r))
    ids = [i.item() if isinstance(i, np.generic) else i for i in r.id[r.first]]
    arrays = {**r.arrays, "rows": r.row}
    extra = {r.header.names[at]: _extra(r.cells.iloc[:, at]) for at in r.header.extra}
    subjects = subjects_from_columns(ids, starts, arrays, r.cmt_name, r.covariates, extra)
    return Population(subjects, r.endpoints, interpolated(r.info, interpolation), r.dvid_codes)


def _extra(column: pd.Series) -> np.ndarray:
    """A column that nothing reads: numbers when all of it are, else its text with None for missing."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    cells = column.astype(object)
    text = cells.where(column.notna(), "").astype(str).str.strip()
    missing = text.str.upper().isin(MISSING)
    numbers = pd.to_numeric(text.where(~missing), errors="coerce")
    if bool((numbers.notna() | missing).all()) and not missing.all():
        return numbers.to_numpy(dtype=np.float64)
    out = np.empty(len(column), dtype=object)
    out[:] = [None if m else (t if isinstance(c, str) else c) for c, t, m in zip(cells, text, missing, strict=True)]
    return out
