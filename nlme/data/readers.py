"""``read_nonmem`` and ``check``: from a file or a DataFrame to a population, or to the list of what is wrong with it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.checks import allowed_rules, header_violations, run_rules
from nlme.data.columns import MISSING, read_header
from nlme.data.covariates import declared_covariates
from nlme.data.population import Population, subjects_from_columns
from nlme.data.records import Options, Records, parse
from nlme.data.violations import CheckReport, DataWarning, Violation, screen
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

Source = "str | os.PathLike | pd.DataFrame | Population"


def read_nonmem(
    data: str | os.PathLike | pd.DataFrame,
    *,
    covariates: Mapping[str, str | None] | Iterable[str] | None = None,
    time_varying: Sequence[str] | str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: Mapping[str, str | float] | str | float | None = None,
    dvid: Mapping[Any, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] = (),
    ignore: str | None = None,
    decimal: str = ".",
    separator: str | None = None,
) -> Population:
    """Read a NONMEM-style data set: one row per record, one subject after another.

    The columns are NONMEM's, in any case: ID TIME DV AMT RATE DUR EVID MDV CMT II ADDL SS DVID CENS LIMIT OCC and
    DATE/DAT1/DAT2/DAT3.  '.', blank and NA mean missing.  Clock times (8:30) and dates become hours since the subject's first
    record.  Without EVID and MDV a record with an amount is a dose and no observation, as in NONMEM.

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
        What to do about missing covariates: "locf" (last value carried forward), "nocb" (next value carried backward) or a
        number; a dict says it for each covariate.  Without it they are violations.
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
    options = _options(data, covariates, time_varying, categories, fill, dvid, rename, compartments, decimal)
    records, report = _examined(data, options, allowed_rules(allow), ignore, separator)
    if report.errors:
        raise DataError(screen(report.errors, report.source), report.errors)
    if report.warnings:
        warnings.warn(screen(report.warnings, report.source), DataWarning, stacklevel=2)
    return _population(records)


def check(
    data: str | os.PathLike | pd.DataFrame | Population,
    *,
    covariates: Mapping[str, str | None] | Iterable[str] | None = None,
    time_varying: Sequence[str] | str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: Mapping[str, str | float] | str | float | None = None,
    dvid: Mapping[Any, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] = (),
    ignore: str | None = None,
    decimal: str = ".",
    separator: str | None = None,
) -> CheckReport:
    """Everything that is wrong with a data set, without reading it as a population.

    The arguments are those of :func:`read_nonmem`.  The result prints on one screen; it is a sequence of ``Violation`` values
    (rule, rows, subjects, column, seen, remedy, level), with ``.ok``, ``.errors`` and ``.warnings``.
    """
    if isinstance(data, Population):
        data = data.to_frame()
    options = _options(data, covariates, time_varying, categories, fill, dvid, rename, compartments, decimal)
    return _examined(data, options, allowed_rules(allow), ignore, separator)[1]


def _options(data, covariates, time_varying, categories, fill, dvid, rename, compartments, decimal) -> Options:
    """The arguments in one value; a frame made by ``Population.to_frame`` brings its own for those not given."""
    known = getattr(data, "attrs", {}).get("nlme", {}) if not isinstance(data, (str, os.PathLike)) else {}
    names = {str(c).upper() for c in data.columns} if known else set()
    wanted = declared_covariates(covariates)
    if covariates is None and known:
        wanted = {n: unit for n, unit in known["covariates"].items() if n.upper() in names}
    varying = known.get("time_varying", ()) if time_varying is None else time_varying
    if isinstance(varying, str) and varying != "auto":
        varying = (varying,)
    words = dict(known.get("categories", {}) if categories is None else categories)
    codes = known.get("dvid") if dvid is None else dict(dvid)
    strangers = [n for n in (*(varying if varying != "auto" else ()), *words, *(fill if isinstance(fill, Mapping) else ())) if n not in wanted]
    if strangers and not (known and covariates is None):
        raise DataError(
            f"{strangers[0]!r} is declared as time-varying, categorical or to be filled, but it is not among the covariates "
            f"({', '.join(wanted) or 'none given'}): covariates=[{', '.join(repr(n) for n in (*wanted, strangers[0]))}]."
        )
    return Options(
        covariates=wanted, time_varying=varying, categories={n: w for n, w in words.items() if n in wanted}, fill=fill, dvid=codes,
        endpoints=known.get("endpoints") if dvid is None else None, rename=dict(rename or {}), compartments=compartments, decimal=decimal,
    )  # fmt: skip


def _examined(data, options: Options, allow, ignore, separator) -> tuple[Records | None, CheckReport]:
    cells, source = _cells(data, separator)
    rows = np.arange(1, len(cells) + 1)
    header = read_header(cells.columns, options.rename, options.covariates)
    found = header_violations(header)
    if ignore is not None and len(cells):
        start = cells.iloc[:, 0].astype(str).str.strip()
        drop = start.str.match(r"[A-Za-z@]") if ignore == "@" else start.str.startswith(ignore)
        cells, rows = cells[~drop.to_numpy(dtype=bool)], rows[~drop.to_numpy(dtype=bool)]
    if not len(cells):
        found.append(Violation("no records", "there are no records", (), (), "", f"{len(cells.columns)} columns, no rows", "a header and one row per record"))
    if any(v.level == "error" for v in found):
        return None, CheckReport(tuple(sorted(found, key=lambda v: v.level != "error")), source, len(cells), 0)
    records = parse(cells, header, options, rows)
    found = [*run_rules(records, allow), *found]
    found.sort(key=lambda v: v.level != "error")
    return records, CheckReport(tuple(found), source, len(cells), len(set(records.id)))


def _cells(data: Any, separator: str | None) -> tuple[pd.DataFrame, str]:
    """The cells of the source (text, when it is a file) and what to call it in messages."""
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        frame = data
        if not isinstance(frame.columns, pd.RangeIndex) and frame.index.names != [None]:
            frame = frame.reset_index()  # ID or TIME may have been put into the index
        return frame, "the data frame"
    if not isinstance(data, (str, os.PathLike)):
        raise DataError(f"A data set is the path of a file or a pandas DataFrame, not {type(data).__name__}.")
    path = Path(data)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.csv"))[:8] if path.parent.is_dir() else []
        raise DataError(f"There is no file {path}." + (f" In {path.parent} there are: {', '.join(near)}." if near else ""))
    return _text_cells(path, separator), path.name


def _text_cells(path: Path, separator: str | None) -> pd.DataFrame:
    import pandas as pd

    opener = "gzip" if path.suffix == ".gz" else None
    try:
        text = _opened(path, opener)
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not a text file in UTF-8; save it as CSV UTF-8.") from None
    lines = text.split("\n", 1)
    if not text.strip():
        raise DataError(f"{path.name} is empty: it needs a header and one row per record.")
    head = lines[0]
    if separator is None:
        counts = {c: head.count(c) for c in (",", ";", "\t")}
        best = max(counts, key=counts.get)
        separator = best if counts[best] else r"\s+"
    import io

    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, skipinitialspace=True, index_col=False,
            engine="c", on_bad_lines="error", skip_blank_lines=True,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as a table: {str(error).strip()}. Every row needs as many cells as the header.") from None
    return frame


def _opened(path: Path, opener: str | None) -> str:
    import gzip

    if opener == "gzip":
        with gzip.open(path, "rt", encoding="utf-8-sig") as file:
            return file.read().replace("\r\n", "\n")
    return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")


def _population(r: Records) -> Population:
    starts = np.append(np.flatnonzero(r.first), len(r))
    ids = [i.item() if isinstance(i, np.generic) else i for i in r.id[r.first]]
    arrays = {**r.arrays, "rows": r.row}
    extra = {r.header.names[at]: _extra(r.cells.iloc[:, at]) for at in r.header.extra}
    subjects = subjects_from_columns(ids, starts, arrays, r.cmt_name, r.covariates, extra)
    return Population(subjects, r.endpoints, r.info, r.dvid_codes)


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
