"""The data items that NONMEM itself makes: events, who is who, times; and the frame that ``nlme.read_nonmem`` takes."""

from __future__ import annotations

import datetime
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

_DATES = {"DATE": "mdy", "DAT1": "dmy", "DAT2": "ymd", "DAT3": "ydm"}
#: columns that nlme.read_nonmem reads by these names
TAKEN = ("ID", "TIME", "DV", "AMT", "RATE", "DUR", "EVID", "MDV", "CMT", "II", "ADDL", "SS", "DVID", "CENS", "LIMIT",
         "OCC", "DATE", "DAT1", "DAT2", "DAT3", "COVONLY", "C")  # fmt: skip


@dataclass
class Items:
    """The records: what was read, completed by what NONMEM assumes of items that are not there.

    ``columns`` are the data items by NONMEM's names; ``subject`` (n,) the number of each record's individual record, a new one
    wherever ID changes; ``labels`` their IDs, unique.
    """

    columns: dict[str, np.ndarray]
    row: np.ndarray
    subject: np.ndarray
    labels: list[str]
    evid: np.ndarray
    mdv: np.ndarray
    time: np.ndarray
    amt: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    @property
    def observed(self) -> np.ndarray:
        return (self.evid == 0) & (self.mdv == 0)

    @functools.cached_property
    def begins(self) -> np.ndarray:
        """(n,) where the states begin: an individual's first record, and resets."""
        return (np.diff(self.subject, prepend=-1) != 0) | np.isin(self.evid, (3, 4))

    def column(self, name: str, default: float = 0.0) -> np.ndarray:
        return self.columns.get(name, np.full(len(self), default))

    def value(self, name: str, record: int) -> float | None:
        """A data item at a record, NEWIND and A_0FLG included; None if there is no such item."""
        if name == "NEWIND":
            first = record == 0 or self.subject[record] != self.subject[record - 1]
            return 0.0 if record == 0 else 1.0 if first else 2.0
        if name == "A_0FLG":
            return float(self.begins[record])
        if name in self.columns:
            return float(self.columns[name][record])
        return None

    def where(self, record: int) -> str:
        """'subject 3, line 17 of the data'."""
        return f"subject {self.labels[self.subject[record]]}, line {self.row[record]} of the data"


def items_of(frame: pd.DataFrame, dates: dict[str, list[str]], predpp: bool, synonyms: dict[str, str]) -> Items:
    """Complete the items of a frame read by ``dataset.read_data``; ``predpp`` says whether records are events.

    Raises
    ------
    DataError
        No ID or DV, or dates that cannot be read.
    """
    raw = {name: frame[name] for name in frame.columns if name != "row"}
    for needed in ("ID", "DV"):
        if needed not in raw:
            raise DataError(f"$INPUT has no {needed}.")
    ids = frame["ID"].to_numpy(dtype=float)
    subject = np.concatenate([[0], np.cumsum(ids[1:] != ids[:-1])]).astype(int)
    time = _times(raw, dates, subject)
    columns = {n: np.asarray(c, dtype=float) for n, c in raw.items() if n not in _DATES and n != "TIME"}
    if "TIME" in raw:
        columns["TIME"] = time
    n = len(frame)
    zero = np.zeros(n)
    amt = columns.get("AMT", zero) if predpp else zero
    gives = amt != 0
    for item in ("RATE", "SS", "II"):
        gives = gives | (columns.get(item, zero) != 0)
    mdv = columns.get("MDV")
    if not predpp:
        evid = zero
    elif "EVID" in columns:
        evid = columns["EVID"]
    else:
        evid = np.where(gives, 1.0, np.where((zero if mdv is None else mdv) != 0, 2.0, 0.0))
        columns["EVID"] = evid
    mdv = np.where(evid != 0, 1.0, 0.0) if mdv is None else np.where(mdv != 0, 1.0, 0.0)
    columns.setdefault("MDV", mdv)
    for other, own in synonyms.items():
        if own in columns:
            columns.setdefault(other, columns[own])
    labels = labels_of(ids[np.flatnonzero(np.diff(subject, prepend=-1))])
    return Items(columns, frame["row"].to_numpy(), subject, labels, evid, mdv, time, amt)


def labels_of(ids: np.ndarray) -> list[str]:
    """IDs as text; one that comes back after another is a further individual, 7 and 7_2."""
    count: dict[str, int] = {}
    out = []
    for i in ids:
        text = f"{i:.10g}"
        count[text] = count.get(text, 0) + 1
        out.append(text if count[text] == 1 else f"{text}_{count[text]}")
    return out


def _times(raw, dates: dict[str, list[str]], subject: np.ndarray) -> np.ndarray:
    """TIME as numbers; with clock times or dates, hours since the individual's first record."""
    if "TIME" not in raw:
        count = np.arange(len(subject))
        return (count - count[np.searchsorted(subject, subject)]).astype(float)
    cells = list(raw["TIME"])
    named = next((n for n in _DATES if n in dates), None)
    clock = any(isinstance(c, str) for c in cells)
    if not clock and named is None:
        return np.asarray(cells, dtype=float)
    hours = np.array([_hours(c) for c in cells])
    if named is not None:
        hours = hours + 24.0 * np.array([_day(c, _DATES[named]) for c in dates[named]])
    return hours - hours[np.searchsorted(subject, subject)]


def _hours(cell) -> float:
    if not isinstance(cell, str):
        return float(cell)
    if cell in ("", "."):
        return 0.0
    parts = cell.split(":")
    try:
        return (
            float(parts[0])
            + float(parts[1] if len(parts) > 1 and parts[1] else 0) / 60.0
            + (float(parts[2]) / 3600.0 if len(parts) > 2 else 0.0)
        )
    except ValueError:
        raise DataError(f"TIME {cell!r} is neither a number nor a clock time.") from None


def _day(cell: str, order: str) -> float:
    parts = [p for p in re.split(r"\D+", cell) if p]
    try:
        if re.fullmatch(r"[-+]?\d+", cell):
            return float(cell)
        named = dict(zip(order if len(parts) == 3 else order.replace("y", ""), (int(p) for p in parts), strict=True))
        year = named.get("y", 2001)
        year += 0 if year > 99 else (1900 if year > 50 else 2000)
        return float(datetime.date(year, named["m"], named["d"]).toordinal())
    except (ValueError, KeyError):
        raise DataError(f"the date {cell!r} cannot be read.") from None


def population_frame(
    items: Items, compartments, covariates: dict[str, str], occasion, endpoint, below: np.ndarray, extra: dict[str, np.ndarray]
):
    """The records as ``nlme.read_nonmem`` takes them.

    ``covariates`` are python name -> data item, ``extra`` columns that the import made, ``occasion`` (n,) numbers or None,
    ``endpoint`` (n,) names, ``below`` (n,) which observations are below a limit.
    """
    import pandas as pd

    n = len(items)
    dose = np.isin(items.evid, (1, 4))
    frame = {"ID": [items.labels[s] for s in items.subject], "TIME": _rising(items)}
    frame["DV"] = np.where(items.observed, items.column("DV"), np.nan)
    if compartments:
        frame |= {"AMT": np.where(dose, items.amt, 0.0), "RATE": np.where(dose, items.column("RATE"), 0.0)}
        ii, addl, ss = (np.where(dose, items.column(c), 0.0) for c in ("II", "ADDL", "SS"))
        frame |= {"II": np.where((addl != 0) | (ss != 0), ii, 0.0), "ADDL": addl, "SS": ss}
        frame["EVID"] = items.evid.astype(int)
        cmt = items.column("CMT")
        given = np.where(cmt == 0, compartments.dose, cmt)
        frame["CMT"] = np.where(dose | (items.evid == 2) & (cmt < 0), given, 0).astype(int)
    else:
        frame["EVID"] = np.where(items.observed, 0, 2)
    frame["MDV"] = np.where(items.observed, 0, 1)
    frame["DVID"] = endpoint
    if below.any():
        frame["CENS"] = below.astype(int)
    if occasion is not None:
        frame["OCC"] = occasion
    for name, item in covariates.items():
        frame[name] = extra[item] if item in extra else items.columns[item]
    return pd.DataFrame(frame, index=range(n))


def _rising(items: Items) -> np.ndarray:
    """TIME, shifted per subject where it is negative (only differences count; the code sees the item itself)."""
    time = items.time.copy()
    for s in range(len(items.labels)):
        at = items.subject == s
        low = time[at].min()
        if low < 0:
            time[at] -= low
    return time
