"""A data set as typed columns, before it is cut into subjects: what the rules of ``checks`` look at.

Nothing here raises for a bad cell: it becomes NaN and is remembered in ``bad``, so that one pass over the file finds
everything that is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data import clock
from nlme.data.columns import COLUMNS, DATES, MISSING, Header
from nlme.data.covariates import CovariateInfo, changes_within, code_of, codes_of, filled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Options:
    """The arguments of ``read_nonmem`` in one value; see there."""

    covariates: Mapping[str, str | None] = field(default_factory=dict)
    time_varying: Sequence[str] | str = ()
    categories: Mapping[str, Sequence[str]] = field(default_factory=dict)
    fill: Mapping[str, str | float] | str | float | None = None
    dvid: Mapping[Any, str | None] | None = None
    endpoints: Sequence[str] | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    compartments: Sequence[str] | int | None = None
    decimal: str = "."

    def fill_of(self, name: str) -> str | float | None:
        return self.fill.get(name) if isinstance(self.fill, Mapping) else self.fill

    def may_vary(self, name: str) -> bool:
        return self.time_varying == "auto" or name in self.time_varying


@dataclass
class Records:
    """Columns of n records; see ``Subject`` for their meaning.

    ``bad[column]`` marks cells that could not be read; ``first`` is the first record of every run of equal IDs and ``group``
    numbers these runs; ``elapsed`` says that times were counted from dates or clock times.
    """

    cells: pd.DataFrame
    header: Header
    options: Options
    row: np.ndarray
    id: np.ndarray
    first: np.ndarray
    group: np.ndarray
    arrays: dict[str, np.ndarray]
    cmt_name: np.ndarray
    dvid: np.ndarray
    endpoints: tuple[str, ...]
    dvid_codes: tuple | None
    covariates: dict[str, np.ndarray]
    info: dict[str, CovariateInfo]
    bad: dict[str, np.ndarray]
    unknown_dvid: np.ndarray
    elapsed: bool = False
    ambiguous_dates: bool = False
    clock_mixture: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.row)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    def has(self, column: str) -> bool:
        return column in self.header.nonmem

    def is_bad(self, column: str) -> np.ndarray:
        return self.bad.get(column, np.zeros(len(self), dtype=bool))

    def text(self, column: str, i: int) -> str:
        """The cell as it stands in the file."""
        position = self.header.nonmem.get(column, self.header.covariates.get(column))
        value = "" if position is None else self.cells.iloc[i, position]
        return "" if _blank(value) else str(value).strip()

    @property
    def is_observation(self) -> np.ndarray:
        return (self.arrays["evid"] == 0) & (self.arrays["mdv"] == 0)

    @property
    def is_dose(self) -> np.ndarray:
        return (self.arrays["evid"] == 1) | (self.arrays["evid"] == 4)


def _blank(value: Any) -> bool:
    return value is None or value != value or str(value).strip().upper() in MISSING


def as_text(column: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Stripped text of a column and where it is missing."""
    text = column.astype("object").where(column.notna(), "").astype(str).str.strip()
    return text, text.str.upper().isin(MISSING).to_numpy(dtype=bool)


def as_numbers(column: pd.Series, decimal: str = ".") -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a column (NaN where missing or bad), and where a cell holds something that is no finite number."""
    import pandas as pd

    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan).copy()
        missing = np.isnan(values)
    else:
        text, missing = as_text(column)
        plain = text if decimal == "." else text.str.replace(decimal, ".", regex=False)
        values = pd.to_numeric(plain.where(~missing), errors="coerce").to_numpy(dtype=np.float64).copy()
    bad = ~missing & ~np.isfinite(values)
    values[bad] = np.nan
    return values, bad


def identities(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """IDs as whole numbers when all of them are (and none has leading zeros), else as text; and where there is none."""
    values, bad = as_numbers(column)
    text, missing = as_text(column)
    whole = ~missing & ~bad
    zeros = text.str.match(r"^0\d").to_numpy(dtype=bool)
    out = np.empty(len(column), dtype=object)
    if not bad.any() and not zeros.any() and np.all(values[whole] == np.round(values[whole])):
        out[whole] = values[whole].astype(np.int64).tolist()
    else:
        whole = ~missing
        out[whole] = text[whole].tolist()
    out[missing] = ""
    return out, missing


def parse(cells: pd.DataFrame, header: Header, options: Options, rows: np.ndarray) -> Records:
    """Type every column that is read; ``rows`` are the row numbers that messages will name."""
    n = len(cells)
    bad: dict[str, np.ndarray] = {}

    def column(name: str) -> pd.Series | None:
        at = header.nonmem.get(name)
        return None if at is None else cells.iloc[:, at]

    def numbers(name: str, default: float) -> np.ndarray:
        series = column(name)
        if series is None:
            return np.full(n, default)
        values, wrong = as_numbers(series, options.decimal)
        if COLUMNS[name].whole:
            wrong = wrong | (np.isfinite(values) & (values != np.round(values)))
        bad[name] = wrong
        return np.where(np.isnan(values), default, values)

    identity, no_id = identities(column("ID"))
    bad["ID"] = no_id
    first = np.ones(n, dtype=bool)
    first[1:] = identity[1:] != identity[:-1]

    time, elapsed, either, mixture = _times(column, header, options, first, bad)
    a = {
        "time": time,
        "amt": numbers("AMT", 0.0),
        "rate": numbers("RATE", 0.0),
        "duration": numbers("DUR", 0.0),
        "ii": numbers("II", 0.0),
        "addl": numbers("ADDL", 0.0),
        "ss": numbers("SS", 0.0),
        "cens": numbers("CENS", 0.0),
        "limit": numbers("LIMIT", np.nan),
        "occasion": numbers("OCC", 0.0),
    }
    a["evid"], a["mdv"] = _events(column, numbers, a, bad, n)
    dv = numbers("DV", np.nan)
    observed = (a["evid"] == 0) & (a["mdv"] == 0)
    bad["DV"] = bad["DV"] & observed  # what stands in DV on a dose record is never read
    a["cmt"], cmt_name = _compartments(column("CMT"), n, bad)

    dvid, endpoint, endpoints, codes, unknown, left_out = _endpoints(column("DVID"), observed, options, n)
    a["mdv"] = np.where(left_out, 1, a["mdv"])
    observed = observed & ~left_out
    bad["DV"] = bad["DV"] & observed
    a["dv"] = np.where(observed, dv, np.nan)
    a["endpoint"] = np.where(observed, endpoint, -1)

    covariates, info = {}, {}
    for name, at in header.covariates.items():
        covariates[name], info[name], bad[name] = _covariate(name, cells.iloc[:, at], header.names[at], first, options)
    return Records(
        cells=cells, header=header, options=options, row=rows, id=identity, first=first, group=np.cumsum(first) - 1, arrays=a,
        cmt_name=cmt_name, dvid=dvid, endpoints=endpoints, dvid_codes=codes, covariates=covariates, info=info, bad=bad,
        unknown_dvid=unknown, elapsed=elapsed, ambiguous_dates=either, clock_mixture=mixture,
    )  # fmt: skip


def _times(column, header: Header, options: Options, first: np.ndarray, bad: dict) -> tuple:
    """Times as numbers, or hours since the subject's first record when there are dates or clock times.

    Also returned: whether they were counted so, whether month and day of the dates could be exchanged, and where a plain
    number stands among clock times.
    """
    import pandas as pd

    series = column("TIME")
    date_name = next((d for d in DATES if d in header.nonmem), None)
    n = len(first)
    if pd.api.types.is_datetime64_any_dtype(series):
        days = (series - pd.Timestamp("1900-01-01", tz=series.dt.tz)).dt.total_seconds().to_numpy(dtype=float) / 86400.0
        bad["TIME"] = np.zeros(n, dtype=bool)
        return clock.since_first(days, np.zeros(n), first), True, False, None
    values, wrong = as_numbers(series, options.decimal)
    hours = np.full(n, np.nan)
    if wrong.any():
        text, _ = as_text(series)
        hours = clock.clock_hours(text)
        days = clock.stamp_days(text)
        if np.isfinite(days).any():
            bad["TIME"] = np.isnan(days) & ~as_text(series)[1]
            return clock.since_first(days, np.zeros(n), first), True, False, None
        wrong = wrong & np.isnan(hours)
    clocks = np.isfinite(hours)
    bad["TIME"] = wrong
    if date_name is None and not clocks.any():
        return values, False, False, None
    mixture = np.isfinite(values) & clocks.any()
    hours = np.where(clocks, hours, values)
    if date_name is None:
        return clock.since_first(np.zeros(n), hours, first), True, False, mixture
    dates = column(date_name)
    if pd.api.types.is_datetime64_any_dtype(dates):
        stamp = dates - pd.Timestamp("1900-01-01", tz=dates.dt.tz)
        days, either = np.floor(stamp.dt.total_seconds().to_numpy(dtype=float) / 86400.0), False
    else:
        days, either = clock.day_numbers(as_text(dates)[0], date_name)
    bad[date_name] = np.isnan(days)
    return clock.since_first(days, hours, first), True, either, mixture


def _events(column, numbers, a: dict, bad: dict, n: int) -> tuple[np.ndarray, np.ndarray]:
    """EVID and MDV, one derived from the other or both from the amounts where the file has no such column (NONMEM's rule)."""
    amount = (a["amt"] != 0) | bad.get("AMT", np.zeros(n, dtype=bool))
    dosing = amount | ((a["rate"] > 0) & (a["ss"] > 0))
    mdv = numbers("MDV", np.nan)
    if column("EVID") is not None:
        evid = numbers("EVID", 0.0)
        evid = np.where(bad["EVID"], np.where(dosing, 1, 2), evid)
    else:
        evid = np.where(dosing, 1.0, np.where(mdv == 1, 2.0, 0.0))
    return evid, np.where(np.isnan(mdv), (evid != 0).astype(float), mdv)


def _compartments(series: pd.Series | None, n: int, bad: dict) -> tuple[np.ndarray, np.ndarray]:
    names = np.full(n, None, dtype=object)
    if series is None:
        return np.zeros(n), names
    values, text_cells = as_numbers(series)
    bad["CMT"] = np.isfinite(values) & ((values < 0) | (values != np.round(values)))
    if text_cells.any():
        text, _ = as_text(series)
        names[text_cells] = text[text_cells].tolist()
    return np.where(np.isnan(values) | bad["CMT"], 0.0, values), names


def _endpoints(series: pd.Series | None, observed: np.ndarray, options: Options, n: int):
    """DVID codes, endpoint indices, names, code of each name, unknown DVIDs, and observations that ``dvid`` leaves out."""
    nothing = np.zeros(n, dtype=bool)
    codes = np.full(n, None, dtype=object)
    wanted = None if options.dvid is None else {code_of(k): v for k, v in options.dvid.items()}
    if series is None:
        names = tuple(dict.fromkeys(v for v in (wanted or {}).values() if v is not None)) or tuple(options.endpoints or ("DV",))
        unknown = observed if len(names) > 1 and wanted is not None else nothing
        return codes, np.zeros(n), names, None, unknown, nothing
    text, missing = as_text(series)
    lookup = {t: code_of(t) for t in text[~missing].unique()}
    codes[~missing] = [lookup[t] for t in text[~missing]]
    seen = list(dict.fromkeys(codes[observed & ~missing]))
    if wanted is None:
        if not all(isinstance(c, str) for c in seen):
            seen = sorted(seen, key=str) if any(isinstance(c, str) for c in seen) else sorted(seen)
        only = len(seen) <= 1 and not (seen and isinstance(seen[0], str))
        wanted = {c: "DV" if only else str(c) for c in seen} or {1: "DV"}
    names = tuple(dict.fromkeys(v for v in wanted.values() if v is not None))
    index = {c: (names.index(v) if v is not None else -1) for c, v in wanted.items()}
    known = np.array([c in index for c in codes], dtype=bool)
    endpoint = np.array([index.get(c, -1) for c in codes], dtype=float)
    of_name = {v: c for c, v in reversed(list(wanted.items())) if v is not None}
    left_out = observed & known & (endpoint == -1)
    return codes, endpoint, names, tuple(of_name[v] for v in names), observed & ~known, left_out


def _covariate(name: str, series: pd.Series, column: str, first: np.ndarray, options: Options):
    categories = options.categories.get(name)
    if categories is not None:
        text, missing = as_text(series)
        missing = missing & ~text.isin([str(c) for c in categories]).to_numpy(dtype=bool)  # NA may be a category
        words = np.where(missing, None, text.to_numpy(dtype=object))
        values, wrong = codes_of(words, categories)
    else:
        values, wrong = as_numbers(series, options.decimal)
    values = np.where(wrong, values, filled(values, first, options.fill_of(name), name, categories or ()))
    constant = not changes_within(values, first).any()
    words = None if categories is None else tuple(map(str, categories))
    info = CovariateInfo(name, options.covariates.get(name), constant, words, column)
    return values, info, wrong
