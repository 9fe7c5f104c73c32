"""A data set as typed columns, before it is cut into subjects: what the rules of ``checks`` look at.

Nothing here raises for a bad cell: it becomes NaN and is remembered in ``bad``, so that one pass over the file finds
everything that is wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlme.data import clock
from nlme.data.columns import COLUMNS, DATES, Header
from nlme.data.covariates import CovariateInfo, changes_within, coded, codes_of, filled
from nlme.data.endpoints import Endpoints, endpoints_of
from nlme.data.numerals import EXACT, as_numbers, as_text, as_wholes, as_words, code_of, identities, is_missing, rounded, written
from nlme.data.options import Options

if TYPE_CHECKING:
    import pandas as pd


class Recorded:
    """What rules look at, wherever it comes from: n records as arrays (``arrays``, each an attribute too)."""

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self.__dict__["arrays"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def is_design(self) -> np.ndarray:
        """Records of which nobody said a value, as of a design that is only simulated: a table says them."""
        return np.zeros(len(self), dtype=bool)

    @property
    def is_observation(self) -> np.ndarray:
        return (self.arrays["evid"] == 0) & (self.arrays["mdv"] == 0)

    @property
    def is_dose(self) -> np.ndarray:
        return (self.arrays["evid"] == 1) | (self.arrays["evid"] == 4)


@dataclass
class Records(Recorded):
    """Columns of n records of a table; see ``Subject`` for their meaning.

    ``bad[column]`` marks cells that could not be read, ``large[column]`` those whose digits cannot be kept, ``blank[column]``
    those without a value in a column that has values elsewhere, ``empty`` columns without any; ``first`` is the first record of
    every run of equal IDs and ``group`` numbers these runs; ``elapsed`` says that times were counted from dates or clock times.
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
    endpoints: Endpoints
    covariates: dict[str, np.ndarray]
    info: dict[str, CovariateInfo]
    bad: dict[str, np.ndarray]
    large: dict[str, np.ndarray]
    blank: dict[str, np.ndarray]
    empty: tuple[str, ...] = ()
    elapsed: bool = False
    ambiguous_dates: bool = False
    clock_mixture: np.ndarray | None = None

    def has(self, column: str) -> bool:
        return column in self.header.nonmem

    def is_bad(self, column: str) -> np.ndarray:
        """Cells that could not be read, or not be kept."""
        nothing = np.zeros(len(self), dtype=bool)
        return self.bad.get(column, nothing) | self.large.get(column, nothing)

    def is_blank(self, column: str) -> np.ndarray:
        return self.blank.get(column, np.zeros(len(self), dtype=bool))

    def is_missing(self, column: str) -> np.ndarray:
        """Cells without a value."""
        return is_missing(self.series(column))

    def series(self, column: str) -> pd.Series:
        """The cells of a column that is there."""
        return self.cells.iloc[:, self.header.nonmem.get(column, self.header.covariates.get(column))]

    def text(self, column: str, i: int) -> str:
        """The cell as it stands in the file."""
        position = self.header.nonmem.get(column, self.header.covariates.get(column))
        return "" if position is None else written(self.cells.iloc[i, position])


class _Columns:
    """The columns of a table, typed one by one; what is wrong with their cells is gathered."""

    def __init__(self, cells: pd.DataFrame, header: Header, options: Options):
        self.cells, self.header, self.options = cells, header, options
        self.bad: dict[str, np.ndarray] = {}
        self.large: dict[str, np.ndarray] = {}
        self.blank: dict[str, np.ndarray] = {}
        self.empty: list[str] = []

    def series(self, name: str) -> pd.Series | None:
        at = self.header.nonmem.get(name)
        return None if at is None else self.cells.iloc[:, at]

    def numbers(self, name: str, default: float = 0.0) -> np.ndarray:
        """A column as numbers (whole ones exactly), with ``default`` where there is none."""
        series, whole = self.series(name), COLUMNS[name].whole
        if series is None:
            return np.full(len(self.cells), default, dtype=np.int64 if whole else np.float64)
        if whole:
            values, missing, self.bad[name], self.large[name] = as_wholes(series, self.options.decimal)
        else:
            values, self.bad[name] = as_numbers(series, self.options.decimal)
            missing = np.isnan(values) & ~self.bad[name]
        self.blank[name] = missing & (not missing.all())
        if missing.all():
            self.empty.append(name)
        return np.where(missing | self.is_bad(name), np.asarray(default, dtype=values.dtype), values)

    def is_bad(self, name: str) -> np.ndarray:
        nothing = np.zeros(len(self.cells), dtype=bool)
        return self.bad.get(name, nothing) | self.large.get(name, nothing)

    def has(self, name: str) -> bool:
        """Whether a column is there and says anything."""
        return name in self.header.nonmem and name not in self.empty


def parse(cells: pd.DataFrame, header: Header, options: Options, rows: np.ndarray) -> Records:
    """Type every column that is read; ``rows`` are the row numbers that messages will name."""
    columns = _Columns(cells, header, options)
    bad = columns.bad
    identity = identities(columns.series("ID"), options.decimal, options.is_text("ID", columns.series("ID")))
    bad["ID"] = np.array([i is None for i in identity], dtype=bool)
    columns.large["ID"] = rounded(columns.series("ID"))
    identity[bad["ID"]] = ""
    first = np.ones(len(cells), dtype=bool)
    first[1:] = identity[1:] != identity[:-1]

    date = next((d for d in DATES if d in header.nonmem), None)
    time = clock.times_of(columns.series("TIME"), None if date is None else columns.series(date), date, options.decimal, first)
    bad |= {"TIME": time.bad} | ({} if date is None or time.bad_date is None else {date: time.bad_date})
    a = {"time": time.values} | {
        field: columns.numbers(name)
        for field, name in (
            ("amt", "AMT"), ("rate", "RATE"), ("duration", "DUR"), ("ii", "II"), ("addl", "ADDL"), ("ss", "SS"), ("cens", "CENS"),
            ("occasion", "OCC"), ("covonly", "COVONLY"),
        )
    }  # fmt: skip
    a["limit"] = columns.numbers("LIMIT", np.nan)
    a["evid"], a["mdv"] = _events(columns, a)
    dv = columns.numbers("DV", np.nan)
    observed = (a["evid"] == 0) & (a["mdv"] == 0)
    a["cmt"], cmt_name = _compartments(columns)

    dvid, compartment = _codes(columns.series("DVID")), None
    if columns.series("CMT") is not None:
        compartment = np.where([name is None for name in cmt_name], a["cmt"], cmt_name)
    endpoints = endpoints_of(dvid, compartment, observed, options)
    a["mdv"] = np.where(endpoints.left_out, 1, a["mdv"])
    observed = observed & ~endpoints.left_out
    bad["DV"] = bad["DV"] & observed  # what stands in DV on a dose record is never read
    a["dv"] = np.where(observed, dv, np.nan)
    a["endpoint"] = np.where(observed, endpoints.index, -1)

    covariates, info = {}, {}
    for name, at in header.covariates.items():
        covariates[name], info[name], bad[name], columns.large[name] = _covariate(
            name, cells.iloc[:, at], header.names[at], first, options
        )
    return Records(
        cells=cells, header=header, options=options, row=rows, id=identity, first=first, group=np.cumsum(first) - 1, arrays=a,
        cmt_name=cmt_name, endpoints=endpoints, covariates=covariates, info=info, bad=bad, large=columns.large,
        blank=columns.blank, empty=tuple(columns.empty), elapsed=time.elapsed, ambiguous_dates=time.ambiguous,
        clock_mixture=time.mixture,
    )  # fmt: skip


def _events(columns: _Columns, a: dict) -> tuple[np.ndarray, np.ndarray]:
    """EVID and MDV, one derived from the other or both from the amounts where the file has no such column (NONMEM's rule)."""
    amount = (a["amt"] != 0) | columns.is_bad("AMT")
    dosing = amount | (((a["rate"] > 0) | (a["rate"] == -1)) & (a["ss"] > 0))
    mdv, evid = columns.numbers("MDV"), columns.numbers("EVID")
    given = columns.has("MDV") & ~columns.blank.get("MDV", False) & ~columns.is_bad("MDV")
    if columns.has("EVID"):
        evid = np.where(columns.is_bad("EVID"), np.where(dosing, 1, 2), evid)
    else:
        evid = np.where(dosing, 1, np.where(given & (mdv == 1), 2, 0))
    return evid, np.where(given, mdv, evid != 0)


def _compartments(columns: _Columns) -> tuple[np.ndarray, np.ndarray]:
    """Numbers (0: none given) and names (None: none given) of compartments."""
    series, n = columns.series("CMT"), len(columns.cells)
    names = np.full(n, None, dtype=object)
    if series is None:
        return np.zeros(n, dtype=np.int64), names
    values, _, no_whole, columns.large["CMT"] = as_wholes(series)
    is_text = as_numbers(series)[1]
    text = as_text(series)[0].to_numpy(dtype=object)
    names[is_text] = text[is_text]
    columns.bad["CMT"] = no_whole & ~is_text
    return np.where(no_whole, 0, values), names


def _codes(series: pd.Series | None) -> np.ndarray | None:
    """Codes of a column, None where missing."""
    if series is None:
        return None
    text, missing = as_text(series)
    lookup = {t: code_of(t) for t in text[~missing].unique()}
    codes = np.full(len(series), None, dtype=object)
    codes[~missing] = [lookup[t] for t in text[~missing]]
    return codes


def _covariate(name: str, series: pd.Series, column: str, first: np.ndarray, options: Options):
    """Values of a covariate, what is known of it, cells that could not be read and cells whose digits cannot be kept."""
    categories = options.categories.get(name)
    large = np.zeros(len(series), dtype=bool)
    if categories is not None:
        text, missing = as_text(series)
        missing = missing & ~text.isin([str(c) for c in categories]).to_numpy(dtype=bool)  # NA may be a category
        words = np.where(missing, None, text.to_numpy(dtype=object))
        values, wrong = coded(words, categories) or codes_of(words, categories)
    else:
        values, wrong = as_numbers(series, options.decimal)
        large = _loses_digits(series, values)
    values[large] = np.nan
    values = np.where(wrong | large, values, filled(values, first, options.fill_of(name), name, categories or ()))
    constant = not changes_within(values, first).any()
    words = None if categories is None else tuple(map(str, categories))
    info = CovariateInfo(name, options.covariates.get(name), constant, words, column)
    return values, info, wrong, large


def _loses_digits(series: pd.Series, values: np.ndarray) -> np.ndarray:
    """Where whole numbers written in full would be rounded: as a number one may become the same as another."""
    large = np.abs(values) >= EXACT
    if large.any():
        words = as_words(series[large])
        large[large] = [w.lstrip("+-").isdigit() and int(w) != int(v) for w, v in zip(words, values[large], strict=True)]
    return large
