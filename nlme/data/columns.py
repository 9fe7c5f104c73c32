"""NONMEM's columns as data, and how the header of a file is matched to them.

Every column is known by its NONMEM name in any case.  A few names of other tools that can mean nothing else are read as
well (``also``).  Names that *often* mean a column, but may mean something else (``DOSE`` may be a covariate, ``BLQ`` a
comment), are never read silently: they are only suggested (``suggests``).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """One column of a NONMEM data set: its name, what it holds, and the other names it goes by."""

    name: str
    meaning: str
    whole: bool = False
    also: tuple[str, ...] = ()
    suggests: tuple[str, ...] = ()


COLUMNS = {
    c.name: c
    for c in (
        Column("ID", "subject", also=("SUBJECT", "SUBJ", "SUBJID", "USUBJID"), suggests=("PATIENT", "PAT", "PID", "PT")),
        Column("TIME", "time", suggests=("T", "HOUR", "HOURS", "TSFD", "TAFD", "TAD")),
        Column("DV", "observed value", suggests=("CONC", "CP", "Y", "OBS", "CONCENTRATION", "VALUE", "RESPONSE")),
        Column("AMT", "amount of a dose", suggests=("DOSE", "AMOUNT")),
        Column("RATE", "infusion rate; -1 or -2: the model has it", suggests=("INFRATE", "INFUSION")),
        Column("DUR", "duration of an infusion", also=("TINF",), suggests=("DURATION",)),
        Column("EVID", "0 observation, 1 dose, 2 other, 3 reset, 4 reset and dose", whole=True),
        Column("MDV", "1: not an observation", whole=True),
        Column("CMT", "compartment, number or name", suggests=("COMPARTMENT",)),
        Column("II", "dosing interval", suggests=("TAU", "INTERVAL")),
        Column("ADDL", "additional doses, II apart", whole=True),
        Column("SS", "1 or 2: steady state", whole=True),
        Column("DVID", "which endpoint DV is", also=("YTYPE",), suggests=("ENDPOINT", "ANALYTE")),
        Column("CENS", "1: below DV, -1: above DV", whole=True, suggests=("BLQ", "BLOQ", "BQL")),
        Column("LIMIT", "the other end of a censored interval"),
        Column("OCC", "occasion", whole=True, also=("OCCASION",)),
        Column("COVONLY", "1: a row that only says what covariates and occasion are", whole=True),
        Column("DATE", "date, month/day/year"),
        Column("DAT1", "date, day/month/year"),
        Column("DAT2", "date, year/month/day"),
        Column("DAT3", "date, year/day/month"),
    )
}

REQUIRED = ("ID", "TIME", "DV")
NAMES = frozenset(name for c in COLUMNS.values() for name in (c.name, *c.also))
"""Names that the columns of a data set have, in capitals."""
DATES = ("DATE", "DAT1", "DAT2", "DAT3")
MISSING = ("", ".", "NA", "NAN")
"""Cells (any case, spaces stripped) that mean *no value*."""


@dataclass(frozen=True)
class Header:
    """What each column of a file is.

    ``nonmem`` maps NONMEM names, ``covariates`` the user's covariate names, to positions in the file; ``extra`` lists the
    positions of columns that nothing reads; ``names`` are the file's names after renaming.  ``faults`` are (column, seen,
    remedy) triples for what cannot be matched, ``doubts`` those for columns that may have been meant.
    """

    names: tuple[str, ...]
    nonmem: Mapping[str, int]
    covariates: Mapping[str, int]
    extra: tuple[int, ...]
    faults: tuple[tuple[str, str, str], ...] = ()
    doubts: tuple[tuple[str, str, str], ...] = ()


@dataclass
class _Matching:
    names: list[str]
    faults: list[tuple[str, str, str]] = field(default_factory=list)

    def find(self, wanted: str) -> int | None:
        """Position of a column: its exact name first, then the only one that agrees up to case."""
        if wanted in self.names:
            return self.names.index(wanted)
        same = [i for i, name in enumerate(self.names) if name.upper() == wanted.upper()]
        return same[0] if same else None


def _offer(wanted: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    by_upper = {n.upper(): n for n in names}
    close = difflib.get_close_matches(wanted.upper(), by_upper, n=1, cutoff=0.6)
    return f"the file has {shown}" + (f"; did you mean {by_upper[close[0]]}?" if close else "")


def _suggestion(column: Column, names: Sequence[str]) -> str | None:
    by_upper = {n.upper(): n for n in names}
    for candidate in column.suggests:
        if candidate in by_upper:
            return by_upper[candidate]
    close = difflib.get_close_matches(column.name, by_upper, n=1, cutoff=0.6) if column.name in REQUIRED else []
    return by_upper[close[0]] if close and by_upper[close[0]].upper() not in COLUMNS else None


def _rename(match: _Matching, rename: Mapping[str, str]) -> None:
    before = list(match.names)
    for old, new in rename.items():
        position = match.find(str(old))
        if position is None:
            match.faults.append((str(old), _offer(str(old), before), "rename={'name in the file': 'NONMEM name'}"))
        else:
            before[position] = str(new)
    match.names[:] = before


def read_header(names: Iterable[str], rename: Mapping[str, str], covariates: Mapping[str, str]) -> Header:
    """Match the names in a file to NONMEM's columns and to the covariates asked for (name -> its column)."""
    match = _Matching([str(n) for n in names])
    _rename(match, rename)
    reserved = {c.upper() for c in covariates.values()}
    _same_names(match, reserved)
    nonmem, doubts = {}, []
    for column in COLUMNS.values():
        position = _position(match, column, reserved)
        if position is not None:
            nonmem[column.name] = position
        else:
            _absent(match, column, reserved, doubts)

    dates = [d for d in DATES if d in nonmem]
    if len(dates) > 1:
        match.faults.append((dates[1], f"{' and '.join(dates)} are all dates", "keep one of them"))

    found = {}
    for name, column in covariates.items():
        position = match.find(column)
        if position is None:
            remedy = f"write the covariate as in the file, or rename={{'...': {name!r}}}"
            match.faults.append((name, _offer(column, match.names), remedy))
        else:
            found[name] = position
    used = set(nonmem.values()) | set(found.values())
    extra = tuple(i for i in range(len(match.names)) if i not in used)
    return Header(tuple(match.names), nonmem, found, extra, tuple(match.faults), tuple(doubts))


def _same_names(match: _Matching, reserved: set[str]) -> None:
    """Columns of one name; where it is read, in whatever case."""
    read = {n for n in match.names if n.upper() in COLUMNS or n.upper() in reserved}
    for name in dict.fromkeys(match.names):
        twins = [n for n in match.names if (n.upper() == name.upper() if name in read else n == name)]
        if len(twins) > 1 and twins[0] == name:
            remedy = f"keep one, or rename the other: rename={{{twins[-1]!r}: 'OTHER_{name.upper()}'}}"
            match.faults.append((name.upper(), f"{len(twins)} columns are named {' and '.join(twins)}", remedy))


def _position(match: _Matching, column: Column, reserved: set[str]) -> int | None:
    """Where a column stands, by its own name or another one that means it; two of these are a fault."""
    own = match.find(column.name)
    others = [other for other in column.also if other not in reserved and match.find(other) is not None]
    if own is not None and column.name == "ID":
        return own  # beside it the other names are the subject's number in other lists
    both = [column.name] * (own is not None) + others
    if len(both) > 1:
        remedy = f"keep one of them, or rename what is not read: rename={{{both[-1]!r}: 'OTHER_{column.name}'}}"
        match.faults.append((column.name, f"{' and '.join(both)} can both be the {column.meaning}", remedy))
    return own if own is not None else match.find(others[0]) if others else None


def _absent(match: _Matching, column: Column, reserved: set[str], doubts: list[tuple[str, str, str]]) -> None:
    """What to say of a column that is not there: nothing, unless it is required or another may have been meant."""
    guess = _suggestion(column, match.names)
    if column.name in REQUIRED:
        remedy = f"rename={{{guess!r}: '{column.name}'}}" if guess else f"add it, or rename={{'...': '{column.name}'}}"
        match.faults.append((column.name, _offer(column.name, match.names), remedy))
    elif guess is not None and guess.upper() not in reserved:
        doubts.append(
            (column.name, f"{guess} is not read", f"if it is the {column.meaning}: rename={{{guess!r}: '{column.name}'}}")
        )
