"""Dates and clock times to hours since the subject's first record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlme.data.numerals import as_numbers, as_text

if TYPE_CHECKING:
    import pandas as pd

# order of the parts in NONMEM's four date columns
ORDER = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}
IN_WORDS = {"DATE": "month/day/year", "DAT1": "day/month/year", "DAT2": "year/month/day", "DAT3": "year/day/month"}
CLOCK = r"^([0-9]{1,3}):([0-5][0-9])(?::([0-5][0-9](?:\.[0-9]+)?))?$"
DAY = r"^([0-9]{1,4})([/.\-])([0-9]{1,2})\2([0-9]{1,4})$"
ZONE = r":[0-9]{2}(?:\.[0-9]+)?\s*(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)$"
STAMP = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{1,2}:[0-9]{2}"


def clock_hours(text: pd.Series) -> np.ndarray:
    """Hours of "8:30" or "8:30:15"; NaN for what is no clock time."""
    parts = text.str.extract(CLOCK).astype(float)
    return (parts[0] + parts[1] / 60.0 + parts[2].fillna(0.0) / 3600.0).to_numpy(dtype=float)


def day_numbers(text: pd.Series, column: str) -> tuple[np.ndarray, bool]:
    """Days (any origin) of dates written as ``column`` (DATE, DAT1 ...) says, NaN for what is none.

    Whole numbers are day numbers, where all are; a date that starts with a four-digit year and has dashes is read as ISO
    (year-month-day) in every column; two-digit years are 1951 to 2050.  Also returned: whether month and day could be
    exchanged in every date, so that nothing in the column shows their order.
    """
    import pandas as pd

    days = pd.to_numeric(text.where(text.str.fullmatch(r"[0-9]{1,5}").fillna(False)), errors="coerce").to_numpy(dtype=float)
    parts = text.str.extract(DAY)
    dated = parts[0].notna().to_numpy()
    if not dated.any():
        return days, False
    numbers = parts[[0, 2, 3]].astype(float).to_numpy()
    iso = dated & (parts[0].str.len() == 4).to_numpy() & (parts[1] == "-").to_numpy()
    order = ORDER[column]
    year, month, day = (np.where(iso, numbers[:, k], numbers[:, order.index(c)]) for k, c in enumerate("ymd"))
    year = np.where(year < 100, year + np.where(year > 50, 1900, 2000), year)
    stamp = pd.to_datetime(pd.DataFrame({"year": year, "month": month, "day": day}), errors="coerce")
    dates = _days(stamp)
    either = bool((dated & ~iso & (day <= 12) & (month <= 12)).sum() == dated.sum() and (day != month).any())
    return np.where(dated, dates, np.nan), either


def stamp_days(text: pd.Series) -> np.ndarray:
    """Days of "2024-03-01 08:30" (ISO); NaN for what is none, and for those without a time zone where others have one."""
    import pandas as pd

    stamped = text.str.match(STAMP).fillna(False).to_numpy(dtype=bool)
    zoned = stamped & text.str.contains(ZONE).fillna(False).to_numpy(dtype=bool)
    padded = text.where(zoned if zoned.any() else stamped).str.replace(r"([ T])([0-9]):", r"\g<1>0\2:", regex=True)
    try:
        return _days(pd.to_datetime(padded, errors="coerce", format="ISO8601", utc=bool(zoned.any())))
    except ValueError:  # zones in another writing, some with and some without
        return np.full(len(text), np.nan)


def _days(stamp: pd.Series) -> np.ndarray:
    """Days since the beginning of 1900."""
    import pandas as pd

    return (stamp - pd.Timestamp("1900-01-01", tz=stamp.dt.tz)).dt.total_seconds().to_numpy(dtype=float) / 86400.0


def since_first(days: np.ndarray, hours: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Hours since the first record of each subject (days and hours apart, to lose no digits)."""
    start = np.flatnonzero(first)[np.cumsum(first) - 1]
    with np.errstate(over="ignore", invalid="ignore"):
        elapsed = (days - days[start]) * 24.0 + (hours - hours[start])
    usual = np.abs(elapsed) < 1e9
    elapsed[usual] = np.round(elapsed[usual], 9)  # clock times are exact to the second; this takes off the last bits of x / 60
    return elapsed


@dataclass(frozen=True, eq=False)
class Times:
    """Times of n records: as they stand, or hours since the subject's first record (``elapsed``).

    ``bad`` and ``bad_date`` mark cells that could not be read, ``mixture`` plain numbers among clock times;
    ``ambiguous``: month and day of the dates could be exchanged.
    """

    values: np.ndarray
    bad: np.ndarray
    elapsed: bool = False
    bad_date: np.ndarray | None = None
    ambiguous: bool = False
    mixture: np.ndarray | None = None


def times_of(column: pd.Series, dates: pd.Series | None, date_name: str | None, decimal: str, first: np.ndarray) -> Times:
    """Times as numbers, or hours since the subject's first record when there are dates, clock times or durations."""
    import pandas as pd

    nothing, zero = np.zeros(len(first), dtype=bool), np.zeros(len(first))
    if pd.api.types.is_datetime64_any_dtype(column):
        return Times(since_first(_days(column), zero, first), nothing, True)
    if pd.api.types.is_timedelta64_dtype(column):
        hours, wrong = column.dt.total_seconds().to_numpy(dtype=float) / 3600.0, nothing
    else:
        hours, wrong = as_numbers(column, decimal)
    clocks = nothing
    if wrong.any():
        text, missing = as_text(column)
        days = stamp_days(text)
        if np.isfinite(days).any():
            return Times(since_first(days, zero, first), np.isnan(days) & ~missing, True)
        by_clock = clock_hours(text)
        clocks = np.isfinite(by_clock)
        wrong = wrong & ~clocks
    mixture = np.isfinite(hours) & clocks.any() if clocks.any() else None
    hours = np.where(clocks, by_clock, hours) if clocks.any() else hours
    if dates is None:
        return Times(since_first(zero, hours, first), wrong, True, mixture=mixture) if clocks.any() else Times(hours, wrong)
    if pd.api.types.is_datetime64_any_dtype(dates):
        days, ambiguous = np.floor(_days(dates)), False
    else:
        days, ambiguous = day_numbers(as_text(dates)[0], date_name)
    elapsed = since_first(days, hours, first)
    return Times(elapsed, wrong | np.isinf(elapsed), True, np.isnan(days), ambiguous, mixture)
