"""From a file or a DataFrame to cells: a table whose columns stand in file order and whose rows are still text."""

from __future__ import annotations

import csv
import gzip
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.violations import Violation
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cells:
    """The cells of a source, the row number of each of its rows, its name for messages, and what is wrong with its shape."""

    table: pd.DataFrame
    rows: np.ndarray
    name: str
    faults: tuple[Violation, ...] = ()
    attrs: dict = field(default_factory=dict)

    def without_comments(self, mark: str | None) -> Cells:
        """Without the rows that start with ``mark``; "@" stands for any letter (NONMEM's IGNORE)."""
        if mark is None or not len(self.table):
            return self
        start = self.table.iloc[:, 0].astype(str).str.strip()
        drop = start.str.match(r"[A-Za-z@]") if mark == "@" else start.str.startswith(mark)
        keep = ~drop.to_numpy(dtype=bool)
        return Cells(self.table[keep], self.rows[keep], self.name, self.faults, self.attrs)


def read_cells(data: Any, separator: str | None = None) -> Cells:
    """The cells of a path or a DataFrame.

    Raises
    ------
    DataError
        No such file, a file that is not UTF-8 text, or an object that is neither.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        named_index = data.index.names != [None]  # ID or TIME may have been put into the index
        frame = data.reset_index() if named_index else data
        return Cells(frame, np.arange(1, len(frame) + 1), "the data frame", _no_rows(len(frame)), dict(data.attrs))
    if not isinstance(data, (str, os.PathLike)):
        raise DataError(f"A data set is the path of a file or a pandas DataFrame, not {type(data).__name__}.")
    path = Path(data)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.csv"))[:8] if path.parent.is_dir() else []
        raise DataError(f"There is no file {path}." + (f" In {path.parent} there are: {', '.join(near)}." if near else ""))
    return _from_text(_text(path), path.name, separator)


def _no_rows(n: int) -> tuple[Violation, ...]:
    if n:
        return ()
    remedy = "a header with the names of the columns, then one row per record."
    return (_fault("no records", "there are no records", "no rows", remedy),)


def _fault(rule: str, sentence: str, seen: str, remedy: str, rows: tuple[int, ...] = ()) -> Violation:
    return Violation(rule, sentence, rows, (), "", seen, remedy)


def _text(path: Path) -> str:
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig") as file:
                return file.read()
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path.name} is not text in UTF-8; save it as CSV UTF-8 (a spreadsheet: save as CSV first).") from None


def _from_text(text: str, name: str, separator: str | None) -> Cells:
    import pandas as pd

    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].lstrip().upper().startswith("TABLE NO"):  # a table written by NONMEM
        lines = lines[1:]
    if not lines:
        return Cells(pd.DataFrame(), np.zeros(0, dtype=int), name, _no_rows(0))
    head = lines[0]
    if separator is None:
        counts = {c: head.count(c) for c in (",", ";", "\t")}
        best = max(counts, key=counts.get)
        separator = best if counts[best] else r"\s+"
    blanks = separator in (" ", r"\s+")
    names = head.split() if blanks else [c.strip() for c in next(csv.reader([head], delimiter=separator))]
    body = lines[1:]
    rows = np.arange(1, len(body) + 1)
    faults = [*_no_rows(len(body)), *_no_header(names)]
    body, ragged = _ragged(body, names, separator, blanks)
    if faults or ragged:
        return Cells(pd.DataFrame(columns=names), rows[:0], name, (*faults, *ragged))
    table = pd.read_csv(
        io.StringIO("\n".join(body)), sep=r"\s+" if blanks else separator, header=None, names=range(len(names)), dtype=str,
        keep_default_na=False, skipinitialspace=True, index_col=False,
    )  # fmt: skip
    table.columns = names
    return Cells(table, rows, name)


def _no_header(names: list[str]) -> list[Violation]:
    def is_number(word: str) -> bool:
        try:
            float(word)
        except ValueError:
            return word in ("", ".")
        return True

    if names and all(is_number(n) for n in names):
        seen = f"the first line is {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        remedy = "write the names of the columns in the first line: ID, TIME, DV ..."
        return [_fault("no header", "the file has no header", seen, remedy)]
    return []


def _ragged(body: list[str], names: list[str], separator: str, blanks: bool) -> tuple[list[str], list[Violation]]:
    """Rows with more or fewer cells than the header; empty cells too many at the end of a row are taken off."""
    if blanks:
        counts = np.array([len(line.split()) for line in body])
    elif any('"' in line for line in body):
        counts = np.array([len(cells) for cells in csv.reader(body, delimiter=separator)])
    else:
        body = [_trimmed(line, separator, len(names)) for line in body]
        counts = np.array([line.count(separator) + 1 for line in body])
    wrong = np.flatnonzero(counts != len(names))
    if not len(wrong):
        return body, []
    i = int(wrong[0])
    seen = f"row {i + 1}: {counts[i]} cells for {len(names)} columns: {body[i][:57]}{'...' if len(body[i]) > 57 else ''}"
    hint = "a cell is missing or too many"
    if counts[i] > len(names) and separator == ",":
        hint = "a decimal comma, or a comma in a text, makes two cells of one"
    elif counts[i] < len(names) and blanks:
        hint = "with blanks between the columns a missing value is written '.'"
    rows = tuple(int(w) + 1 for w in wrong)
    remedy = f"write {len(names)} cells in every row; {hint}."
    return body, [_fault("ragged rows", "a row has not as many cells as the header", seen, remedy, rows)]


def _trimmed(line: str, separator: str, n: int) -> str:
    extra = line.count(separator) + 1 - n
    while extra > 0 and line.rstrip(" \t" if separator != "\t" else " ").endswith(separator):
        line, extra = line.rstrip(" ")[:-1], extra - 1
    return line
