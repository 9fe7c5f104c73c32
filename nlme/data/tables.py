"""From text to rows of cells: where the header is, what stands between the cells, which rows are comments.

CSV as RFC 4180 has it (quoted cells may hold separators, quotes and line breaks), and NONMEM's own tables (blanks between the
cells, "TABLE NO." before the header).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from nlme.data.columns import MISSING
from nlme.data.numerals import NUMBER
from nlme.data.violations import Violation
from nlme.errors import DataError

BLANKS = r"\s+"
_SEPARATORS = (",", ";", "\t", "|")
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
_SEARCHED = 200  # lines among which the header is looked for
_NAMED = 2  # columns that a line has to name to be a header


@dataclass
class Table:
    """Names of the columns, rows of cells, the number of each row (from 1 after the header), and what is wrong."""

    names: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    faults: list[Violation] = field(default_factory=list)


def read_table(text: str, known: Collection[str], separator: str | None, skip: int | None, ignore: str | None) -> Table:
    """The table in a text.

    ``known``: names (in capitals) that columns have; the first line with two of them is the header, unless ``skip`` says how
    many lines stand before it.
    """
    if (
        separator is not None
        and separator != BLANKS
        and not (isinstance(separator, str) and len(separator) == 1 and separator not in '"\r\n')
    ):
        raise DataError(f"separator={separator!r}: it is one character: ',', ';', a tab, or ' ' for blanks.")
    separator = BLANKS if separator == " " else separator
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at = _header(lines, known, separator, skip)
    if at is None:
        return Table(faults=[no_records()])
    separator = separator or _separator(lines[at])
    found = Table()
    for number, cells in _records(lines, at, separator, comment_test(ignore), found.faults):
        if number == 0:
            found.names = _names(cells)
        elif any(cell.strip() for cell in cells):  # rows of separators alone, as spreadsheets leave them, say nothing
            found.numbers.append(number)
            found.rows.append(cells)
    found.faults += [fault for fault in (_no_header(found.names), _ragged(found, separator)) if fault]
    if not found.rows and not found.faults:
        found.faults.append(no_records())
    return found


def comment_test(ignore: str | None) -> Callable[[str], bool]:
    """Whether the first cell of a row makes it a comment: NONMEM's IGNORE=#, and IGNORE=c or IGNORE=@ (a letter or @) if asked.

    Raises
    ------
    DataError
        ``ignore`` is no text.
    """
    if ignore is not None and not (isinstance(ignore, str) and ignore):
        raise DataError(
            f"ignore={ignore!r}: it is the character with which rows begin that are left out: 'C', '#', or '@' for any letter."
        )
    pattern = re.compile(
        r'\s*"?(?:#' + ("" if ignore is None else "|[A-Za-z@]" if ignore == "@" else "|" + re.escape(ignore)) + ")"
    )
    return lambda start: pattern.match(start) is not None


def clean_name(name: object) -> str:
    """A column's name without the marks that comments and quotes leave."""
    return str(name).strip().strip('"').strip()


def fault(rule: str, sentence: str, seen: str, remedy: str, rows: tuple[int, ...] = ()) -> Violation:
    """A violation that is not about one column."""
    return Violation(rule, sentence, rows, (), "", seen, remedy)


def no_records() -> Violation:
    remedy = "a header with the names of the columns, then one row per record."
    return fault("no records", "there are no records", "no rows", remedy)


# -- the header ----------------------------------------------------------------------------------------------------


def _header(lines: list[str], known: Collection[str], separator: str | None, skip: int | None) -> int | None:
    """Which line is the header: the last one that names columns before the first row of numbers."""
    if skip is not None and (not isinstance(skip, int) or isinstance(skip, bool) or skip < 0):
        raise DataError(f"skip={skip!r}: it is how many lines stand before the header.")
    filled = [i for i, line in enumerate(lines) if i >= (skip or 0) and line.strip()]
    if skip is not None:
        return filled[0] if filled else None
    found = None
    for i in filled[:_SEARCHED]:
        cells = _cells(lines[i], separator or _separator(lines[i]))
        if sum(clean_name(c).lstrip("#@").strip().upper() in known for c in cells) >= _NAMED:
            found = i
        elif found is not None or (len(cells) > 1 and all(_is_number(c) for c in cells)):
            break
    no_comment = (i for i in filled if not lines[i].lstrip().startswith("#"))
    return found if found is not None else next(no_comment, filled[0] if filled else None)


def _names(cells: list[str]) -> list[str]:
    """Names of the columns; a mark before the first makes a header a comment for NONMEM, and a column without a name gets one."""
    names = [clean_name(cell) for cell in cells]
    while names and not names[-1]:
        names.pop()
    if names:
        names[0] = clean_name(names[0].lstrip("#@"))
    return [name or f"(column {i})" for i, name in enumerate(names, start=1)]


def _separator(line: str) -> str:
    counts = {c: line.count(c) for c in _SEPARATORS}
    best = max(counts, key=counts.get)
    return best if counts[best] else BLANKS


def _cells(line: str, separator: str) -> list[str]:
    if separator == BLANKS:
        return _split(line)
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _is_number(cell: str) -> bool:
    return NUMBER.fullmatch(cell.strip()) is not None or cell.strip().upper() in MISSING


def _no_header(names: list[str]) -> Violation | None:
    if not names or not all(_is_number(name) or name.startswith("(column ") for name in names):
        return None
    seen = f"the first line is {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
    return fault(
        "no header", "the file has no header", seen, "write the names of the columns in the first line: ID, TIME, DV ..."
    )


# -- the rows ------------------------------------------------------------------------------------------------------


class _Lines:
    """Lines for the CSV reader, which asks for another one while a quoted cell is open."""

    def __init__(self, lines: list[str], at: int):
        self.lines, self.at = lines, at

    def __iter__(self):
        return self

    def __next__(self) -> str:
        if self.at >= len(self.lines):
            raise StopIteration
        self.at += 1
        return self.lines[self.at - 1] + "\n"


def _records(
    lines: list[str], at: int, separator: str, is_comment: Callable[[str], bool], faults: list[Violation]
) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of the header (0) and of every row that is no comment, up to a quote that spoils the rest."""
    source, blanks = _Lines(lines, at), separator == BLANKS
    reader = None if blanks else csv.reader(source, delimiter=separator, skipinitialspace=True, strict=True)
    number = -1
    while source.at < len(lines):
        line, begin = lines[source.at], source.at
        empty = not line.strip(None if blanks else " ")
        number += not empty
        if empty or (number and is_comment(line)):
            source.at += 1
            continue
        try:
            yield number, _split(next(source), strict=True) if reader is None else next(reader)
        except csv.Error as error:
            faults.append(_spoiled(str(error), begin, number, line))
            return


def _split(line: str, strict: bool = False) -> list[str]:
    """Cells with blanks between them."""
    if '"' not in line:
        return line.split()
    if strict and line.count('"') % 2:
        raise csv.Error("unexpected end of data")
    return [word or quoted.replace('""', '"') for quoted, word in _TOKEN.findall(line)]


def _spoiled(error: str, begin: int, number: int, line: str) -> Violation:
    """What the CSV reader stumbled over."""
    seen = f"line {begin + 1} of the file: {line[:57]}{'...' if len(line) > 57 else ''}"
    rows = (number,) if number else ()
    if "end of data" in error:
        remedy = 'close the quoted cell with a second ", or write "" for a quote inside of it.'
        return fault("unclosed quote", f"a quote that opens in line {begin + 1} of the file is not closed", seen, remedy, rows)
    if "expected after" in error:
        remedy = (
            'a quoted cell ends at its second ": write "" for a quote inside of it, and nothing between it and the separator.'
        )
        return fault("misplaced quote", f"in line {begin + 1} of the file something follows a quoted cell", seen, remedy, rows)
    return fault("unreadable row", f"line {begin + 1} of the file cannot be read ({error})", seen, "correct the row.", rows)


def _ragged(found: Table, separator: str) -> Violation | None:
    """Rows with more or fewer cells than the header; empty cells too many at the end of a row are taken off."""
    n, wrong = len(found.names), []
    for i, cells in enumerate(found.rows):
        while len(cells) > n and not cells[-1].strip():
            cells.pop()
        if len(cells) != n:
            wrong.append(i)
    if not wrong:
        return None
    first = found.rows[wrong[0]]
    shown = (", " if separator == BLANKS else separator).join(first)
    row = found.numbers[wrong[0]]
    seen = f"row {row}: {len(first)} cells for {n} columns: {shown[:57]}{'...' if len(shown) > 57 else ''}"
    rows = tuple(found.numbers[i] for i in wrong)
    remedy = f"write {n} cells in every row; {_why_ragged(found, wrong, separator)}."
    return fault("ragged rows", "a row has not as many cells as the header", seen, remedy, rows)


def _why_ragged(found: Table, wrong: list[int], separator: str) -> str:
    n, counts = len(found.names), [len(found.rows[i]) for i in wrong]
    if len(wrong) == len(found.rows) and set(counts) == {n + 1}:
        return "the header has a name too few: R writes one for the names of rows (row.names=FALSE leaves them out)"
    if counts[0] == 1 and len(_split(found.rows[wrong[0]][0])) == n:
        return "the header has commas and the rows have blanks between their cells"
    if counts[0] > n and separator == ",":
        return "a decimal comma, or a comma in a text, makes two cells of one"
    if counts[0] < n and separator == BLANKS:
        return "with blanks between the columns a missing value is written '.'"
    return "a cell is missing or too many"
