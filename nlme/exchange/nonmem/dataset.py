"""$INPUT and $DATA: a data file read by NONMEM's rules.

A comma, a tab or blanks end an item; two commas, or a point, are a 0 (or what NULL says).  Rows are left out by IGNORE=c (those
whose first character is c; @: a letter or @ ; # always by default) and by the lists of IGNORE and ACCEPT.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import DataError
from nlme.exchange.nonmem.records import Record, of_name, option

if TYPE_CHECKING:
    import pandas as pd

#: names that NM-TRAN knows, one of which a synonym stands for
RESERVED = ("ID", "L1", "L2", "DV", "MDV", "RAW_", "MRG_", "RPT_", "TIME", "DATE", "DAT1", "DAT2", "DAT3", "EVID", "AMT", "RATE",
            "SS", "II", "ADDL", "CMT", "PCMT", "CALL", "CONT")  # fmt: skip
_TESTS = {"EQ": "==", "NE": "!=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQN": "==", "NEN": "!="}


@dataclass(frozen=True)
class Column:
    """One item of $INPUT: the names under which code may know it, none if it is dropped."""

    names: tuple[str, ...]
    dropped: bool

    @property
    def name(self) -> str:
        """The reserved name if it has one, else the first."""
        return next((n for n in self.names if n in RESERVED), self.names[0])


def columns_of(records: list[Record]) -> list[Column]:
    """The items of $INPUT.

    Raises
    ------
    ModelError
        No $INPUT, or an item that is not known.
    """
    inputs = of_name(records, "INPUT")
    if not inputs:
        raise records[0].refuse("there is no $INPUT.")
    found = []
    for record in inputs:
        for item in re.split(r"[\s,]+", re.sub(r"\s*=\s*", "=", record.text).strip()):
            if not item:
                continue
            parts = [p.upper() for p in item.split("=")]
            names = tuple(dict.fromkeys(p for p in parts if p not in ("DROP", "SKIP")))
            if any(not re.fullmatch(r"[A-Z_][A-Z0-9_]*", n) for n in names):
                raise record.refuse(f"{item!r} is no data item.")
            dropped = bool({"DROP", "SKIP"} & set(parts))
            found.append(Column(names or (f"DROPPED{len(found) + 1}",), dropped))
    names = [n for c in found if not c.dropped for n in c.names]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise inputs[0].refuse(f"{', '.join(twice)} is there twice.")
    return found


def read_data(records: list[Record], columns: list[Column], folder: Path) -> pd.DataFrame:
    """The rows that NONMEM would use, as a frame: the columns that are not dropped, as numbers (DATE and clock times as they
    stand), and ``row``, the line of the file.

    Raises
    ------
    ModelError
        No $DATA, or an option that has no counterpart.
    DataError
        No such file; a cell that is no number; too few cells in a row.
    """
    import pandas as pd

    found = of_name(records, "DATA")
    if not found:
        raise records[0].refuse("there is no $DATA.")
    record = found[0]
    path, rest = _file(record, folder)
    reading = _reading(record, rest)
    lines = _text(path).splitlines()
    cells, rows, read, first = [], [], 0, []
    like = next((k for k, c in enumerate(columns) if reading.like in c.names), None)
    if reading.like and like is None:
        raise record.refuse(f"RECORDS={reading.like} is no item of $INPUT.")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or reading.skips(line):
            continue
        read += 1
        if reading.most and read > reading.most:
            break
        parts = _cells(line)
        parts = (parts + [""] * len(columns))[: len(columns)]
        if reading.like and read > 1 and parts[like] != first[like]:
            break
        first = first or parts
        if reading.keeps(record, parts, columns, path, number):
            cells.append(parts)
            rows.append(number)
    if not rows:
        raise DataError(f"{path.name}: no row is left after IGNORE and ACCEPT of {record.file}, line {record.line}.")
    frame = {}
    for k, column in enumerate(columns):
        if not column.dropped:
            frame[column.name] = _numbers([row[k] for row in cells], rows, column.name, path.name, reading.null)
    return pd.DataFrame(frame | {"row": rows})


@dataclass(frozen=True)
class _Rows:
    """Which rows are read."""

    mark: str = "#"
    ignored: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    null: float = 0.0
    most: int = 0
    like: str = ""  # RECORDS=label: as long as this item has the first record's value

    def skips(self, line: str) -> bool:
        first = line[:1] if self.mark != "@" else line.lstrip()[:1]
        if self.mark == "@":
            return bool(re.match(r"[A-Za-z@]", first)) or line[:1] == "#"
        return first == self.mark

    def keeps(self, record: Record, parts: list[str], columns: list[Column], path: Path, number: int) -> bool:
        if self.accepted:
            return any(self._holds(record, test, parts, columns, path, number) for test in self.accepted)
        return not any(self._holds(record, test, parts, columns, path, number) for test in self.ignored)

    def _holds(self, record: Record, test: str, parts, columns, path: Path, number: int) -> bool:
        match = re.fullmatch(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?:\.([A-Za-z]+)\.|(==|/=|<=|>=|=|<|>))?\s*(\S.*?)\s*", test)
        if match is None:
            raise record.refuse(f"the condition {test!r} is not known.")
        name = match[1].upper()
        at = next((k for k, c in enumerate(columns) if name in c.names), None)
        if at is None:
            raise record.refuse(f"the condition {test!r} names {name}, which is not in $INPUT.")
        kind = {"==": "EQ", "=": "EQ", None: "EQ", "/=": "NE", "<": "LT", ">": "GT", "<=": "LE", ">=": "GE"}.get(match[3], "EQ")
        kind = match[2].upper() if match[2] else kind
        if kind not in _TESTS:
            raise record.refuse(f"the condition {test!r} is not known.")
        cell, value = parts[at], match[4].strip("\"'")
        if kind in ("EQ", "NE"):
            return (cell == value) == (kind == "EQ")
        a, b = _number_or_none(cell if cell not in ("", ".") else "0"), _number_or_none(value)
        if a is None or b is None:
            raise DataError(
                f"{path.name}, line {number}: {cell!r} of {name} is no number, and {record.file} asks {test.strip()}."
            )
        return bool(eval(f"a {_TESTS[kind]} b", {"a": a, "b": b}))


def _file(record: Record, folder: Path) -> tuple[Path, str]:
    match = re.match(r"\s*(\"[^\"]*\"|'[^']*'|[^\s,]+)(.*)", record.text, re.DOTALL)
    if match is None or match[1] == "*":
        raise record.refuse("there is no file name.")
    name = match[1].strip("\"'")
    given = Path(name.replace("\\", "/"))
    for path in (folder / given, folder / given.name):
        if path.is_file():
            return path, match[2]
    raise DataError(
        f"{record.file}, line {record.line}: the data file {name} is neither at {folder / given} nor beside {record.file}."
    )


def _text(path: Path) -> str:
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    for encoding in ("utf-8-sig", "latin-1"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("latin-1")


def _reading(record: Record, rest: str) -> _Rows:
    found = _Rows()
    for match in re.finditer(r"(IGN\w*|ACC\w*)\s*=?\s*\(([^)]*)\)", rest, re.IGNORECASE):
        tests = tuple(t for t in re.split(r",(?![^(]*\))", match[2]) if t.strip())
        ignores = match[1].upper().startswith("IGN")
        found = replace(found, ignored=found.ignored + tests) if ignores else replace(found, accepted=found.accepted + tests)
    plain = re.sub(r"(IGN\w*|ACC\w*)\s*=?\s*\([^)]*\)", " ", rest, flags=re.IGNORECASE)
    mark = re.search(r"\bIGN\w*\s*=\s*(\"[^\"]\"|'[^']'|[^\s,])", plain, re.IGNORECASE)
    if mark:
        found = replace(found, mark=mark[1].strip("\"'") or mark[1][0])
        plain = plain.replace(mark[0], " ")
    if found.ignored and found.accepted:
        raise record.refuse("IGNORE and ACCEPT lists together are not allowed.")
    null, most = option(plain, "NULL"), option(plain, "RECORDS", "RECS", "NRECORDS", "NRECS")
    if null is not None:
        found = replace(found, null=_number_or_none(null) if _number_or_none(null) is not None else 0.0)
    if most is not None and most.isdigit():
        found = replace(found, most=int(most))
    elif most is not None:
        found = replace(found, like="ID" if most.upper() in ("IR", "INDREC", "INDIVIDUALRECORD") else most.upper())
    left = re.sub(r"\b(NULL|N?RECORDS|N?RECS|REC|RECO|LRECL|BLANKOK|WIDE|REWIND|NOWIDE|CHECKOUT|NOOPEN)\b(\s*=\s*\S+)?", " ", plain,
                  flags=re.IGNORECASE)  # fmt: skip
    left = left.replace(",", " ").strip()
    if left:
        raise record.refuse(f"{left!r} is not imported.")
    return found


def _cells(line: str) -> list[str]:
    """Items: separated by a comma or tab (with blanks about it) or by blanks."""
    text = line.strip("\r\n")
    text = re.sub(r"[ ]*([,\t])[ ]*", r"\1", text.strip(" "))
    return [c.strip("\"'") for c in re.split(r"[,\t]|[ ]+", text)]


def _number_or_none(text: str) -> float | None:
    try:
        return float(re.sub(r"[dD]", "E", text))
    except ValueError:
        return None


def _numbers(cells: list[str], rows: list[int], name: str, file: str, null: float):
    if name in ("DATE", "DAT1", "DAT2", "DAT3") or name == "TIME" and any(":" in c for c in cells):
        return cells
    out = np.empty(len(cells))
    for k, cell in enumerate(cells):
        value = null if cell in ("", ".") else _number_or_none(cell)
        if value is None:
            raise DataError(
                f"{file}, line {rows[k]}: {cell!r} of {name} is no number. If the column is text, drop it: {name}=DROP."
            )
        out[k] = value
    return out
