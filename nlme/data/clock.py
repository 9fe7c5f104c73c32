"""Dates and clock times to hours since the subject's first record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# order of the parts in NONMEM's four date columns
ORDER = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}
IN_WORDS = {"DATE": "month/day/year", "DAT1": "day/month/year", "DAT2": "year/month/day", "DAT3": "year/day/month"}
CLOCK = r"^(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?$"
DAY = r"^(\d{1,4})([/.\-])(\d{1,2})\2(\d{1,4})$"
STAMP = r"^\d{4}-\d{2}-\d{2}[ T]\d{1,2}:\d{2}"


def clock_hours(text: pd.Series) -> np.ndarray:
    """Hours of "8:30" or "8:30:15"; NaN for what is no clock time."""
    parts = text.str.extract(CLOCK).astype(float)
    return (parts[0] + parts[1] / 60.0 + parts[2].fillna(0.0) / 3600.0).to_numpy(dtype=float)


def day_numbers(text: pd.Series, column: str) -> tuple[np.ndarray, bool]:
    """Days (any origin) of dates written as ``column`` (DATE, DAT1 ...) says, NaN for what is none.

    A whole number is a day number; a date that starts with a four-digit year and has dashes is read as ISO
    (year-month-day) in every column; two-digit years are 1951 to 2050.  Also returned: whether month and day could be
    exchanged in every date, so that nothing in the column shows their order.
    """
    import pandas as pd

    days = pd.to_numeric(text.where(text.str.fullmatch(r"\d{1,5}").fillna(False)), errors="coerce").to_numpy(dtype=float)
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
    dates = (stamp - pd.Timestamp("1900-01-01")).dt.total_seconds().to_numpy() / 86400.0
    either = bool((dated & ~iso & (day <= 12) & (month <= 12)).sum() == dated.sum() and (day != month).any())
    return np.where(dated, dates, days), either


def stamp_days(text: pd.Series) -> np.ndarray:
    """Days of "2024-03-01 08:30" (ISO); NaN for what is none."""
    import pandas as pd

    stamp = pd.to_datetime(text.where(text.str.match(STAMP).fillna(False)), errors="coerce", format="ISO8601")
    return (stamp - pd.Timestamp("1900-01-01")).dt.total_seconds().to_numpy(dtype=float) / 86400.0


def since_first(days: np.ndarray, hours: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Hours since the first record of each subject (days and hours apart, to lose no digits)."""
    start = np.flatnonzero(first)[np.cumsum(first) - 1]
    elapsed = (days - days[start]) * 24.0 + (hours - hours[start])
    return np.round(elapsed, 9)  # clock times are exact to the second; this takes off the last bits of x / 60
