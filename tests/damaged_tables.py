"""Tables as trials have them, what happens to them on the way to a reader, and what a plain reading of the result gives.

``tables()`` is a strategy: a good table, up to three damages, a form (text or DataFrame).  ``contradictions`` compares a
population with the cells it was read from, by ``float`` and ``int`` alone: nothing of the reader's own code is used.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from typing import Any

import pandas as pd
from hypothesis import strategies as st

GOOD = {
    "plain": ("""ID,TIME,AMT,DV,WT
1,0,100,.,70
1,1,.,5.25,70
1,2.5,.,4,70
2,0,120,.,55
2,1,.,6.5,55
""", {"covariates": {"wt": "kg"}}),
    "everything": ("""ID,TIME,DV,AMT,RATE,EVID,MDV,CMT,II,ADDL,SS,DVID,CENS,LIMIT,OCC,WT,SEX,SITE,VISIT
A,0,.,100,0,1,1,depot,12,3,0,.,0,.,1,70,F,north,1
A,1,5.25,.,.,0,0,.,.,.,.,1,0,.,1,70,F,.,2
A,1,90,.,.,0,0,.,.,.,.,2,0,.,1,71,F,north,2
A,48,0.1,.,.,0,0,.,.,.,.,1,1,0,2,72,F,north,3
B,0,.,50,25,1,1,2,24,0,1,.,0,.,1,55,M,south,1
B,1,.,.,.,2,1,.,.,.,.,.,0,.,1,55,M,south,.
B,2,4.5,.,.,0,0,.,.,.,.,1,0,.,1,55,M,south,4
""", {"covariates": {"wt": "kg", "sex": None}, "time_varying": ["wt"], "categories": {"sex": ["F", "M"]},
      "dvid": {1: "conc", 2: "pca"}}),
    "clock": ("""ID,DATE,TIME,AMT,DV,AGE
1,12/31/2023,22:00,100,.,30
1,12/31/2023,23:30,.,5,30
1,1/1/2024,00:30,.,4,30
2,1/13/2024,8:15,100,.,41
2,1/13/2024,9:00,.,3,41
""", {"covariates": ["age"]}),
    "compartments": ("""ID,TIME,EVID,CMT,AMT,DV
1,0,1,1,100,.
1,1,0,2,.,5
1,1,0,3,.,80
1,2,0,2,.,4
2,0,1,1,100,.
2,3,0,3,.,70
""", {"cmt": {2: "conc", 3: "effect"}}),
    "resets": ("""ID,TIME,DV,AMT,EVID,II,SS,DUR,SEX,DVID
001,0,.,100,1,12,1,0,0,cp
001,24,5,0,0,.,.,.,0,cp
001,0,.,0,3,.,.,.,0,.
001,0,.,50,4,.,.,2,0,.
001,6,60,0,0,.,.,.,0,pca
002,0,.,100,1,12,1,0,1,.
002,1,6,0,0,.,.,.,1,cp
""", {"covariates": ["sex"], "categories": {"sex": ["female", "male"]}}),
    "course": ("""ID,TIME,DV,AMT,EVID,MDV,OCC,COVONLY,WT
5,0,.,0,2,1,1,1,40
5,0,.,100,1,1,1,0,40
5,24,.,0,2,1,1,1,40
5,30,.,0,2,1,2,1,120
5,40,3,0,0,0,2,0,120
6,0,.,80,1,1,1,0,60
6,4,2,0,0,0,1,0,60
""", {"covariates": ["wt"], "time_varying": "auto"}),
}  # fmt: skip

CELLS = [
    "", ".", " ", "NA", "nan", "abc", "0", "1", "2", "-1", "-2", "3", "4", "1.5", "1e400", "1e-400", "1D5", "1,5", "1.000",
    "1,000.5", "#1", "#", "99999999999999999999", "10000000000000001", "9223372036854775808", "-9223372036854775808",
    "9007199254740993", "-99", "inf", "-inf", "0x10", "1_000", " 5 ", "5 mg", "<0.1", "8:30", "25:61", "2024-01-01",
    "2024-01-01T08:00Z", "2024-01-01 08:00", "01/02/2024", "µg", "a\nb", '"', '""', "'", "1;2", "a,b", "TRUE", "None", "-0",
    "+3", "１", "=1+1", "@x", "C", "007", "1.0", "100", "101", "\t", "\ufeff1", "1e308", "1e17", "F", "depot", "NaN", "1.",
    ".5", "- 1", "1 000", "\x0c", "\x85", "\u2028", "nul\x00l", "é", "True", "null", "1e5000000000",
]  # fmt: skip
NAMES = [
    "ID", "TIME", "DV", "AMT", "RATE", "DUR", "TINF", "EVID", "MDV", "CMT", "II", "ADDL", "SS", "DVID", "YTYPE", "CENS",
    "LIMIT", "OCC", "DATE", "WT", "SEX", "id", "Time", "#ID", "@ID", "", " ", "C", "conc", "SUBJID", "DAT2", "X", "COVONLY",
    "COVONLY ", "1", ".", "a,b", "ID ", "µ",
]  # fmt: skip


@dataclasses.dataclass
class Damaged:
    """A source for the reader, and the cells that went into it: header, rows as texts, arguments, what was done."""

    source: Any  # bytes of a file, or a DataFrame
    header: list[str]
    rows: list[list[str]]
    arguments: dict
    done: list[str]
    form: str = "csv"


@st.composite
def tables(draw) -> Damaged:
    name = draw(st.sampled_from(list(GOOD)))
    text, arguments = GOOD[name]
    header, *rows = csv.reader(io.StringIO(text))
    arguments, done = dict(arguments), [name]
    for _ in range(draw(st.integers(0, 3))):
        done.append(_damage(draw, header, rows))
    if draw(st.integers(0, 9)) == 0:
        arguments |= draw(
            st.sampled_from([{"decimal": ","}, {"ignore": "@"}, {"ignore": "C"}, {"time_varying": "auto"}, {"fill": "locf"}])
        )
        done.append(str(arguments))
    form = draw(
        st.sampled_from(
            ["csv", "csv", "semicolons", "tabs", "blanks", "text frame", "typed frame", "nullable frame", "index", "bytes"]
        )
    )
    made = Damaged(None, header, rows, arguments, done, form)
    made.source = _source(draw, made)
    return made


def _damage(draw, header: list[str], rows: list[list[str]]) -> str:
    """Change the table in place; what was done, in words."""
    i = draw(st.integers(0, max(len(rows) - 1, 0)))
    k = draw(st.integers(0, max(len(header) - 1, 0)))
    what = draw(
        st.sampled_from(
            ["cell"] * 6
            + ["column of", "rename", "drop column", "twin", "swap", "drop row", "twice", "shuffle", "move", "cut", "blank row"]
        )
    )
    if not rows or not header or any(len(r) != len(header) for r in rows):
        return "nothing"
    if what == "cell":
        rows[i][k] = draw(st.sampled_from(CELLS))
        return f"row {i + 1}, {header[k]!r} = {rows[i][k]!r}"
    if what == "column of":
        cell = draw(st.sampled_from(CELLS))
        for row in rows:
            row[k] = cell
        return f"every {header[k]!r} = {cell!r}"
    if what == "rename":
        header[k] = draw(st.sampled_from(NAMES))
        return f"column {k} named {header[k]!r}"
    if what == "drop column":
        for row in (header, *rows):
            del row[k]
    elif what == "twin":
        for row in (header, *rows):
            row.insert(k, row[k])
    elif what == "swap":
        other = draw(st.integers(0, len(header) - 1))
        for row in (header, *rows):
            row[k], row[other] = row[other], row[k]
    elif what == "drop row":
        del rows[i]
    elif what == "twice":
        rows.insert(i, list(rows[i]))
    elif what == "shuffle":
        rows[:] = draw(st.permutations(rows))
    elif what == "move":
        rows.insert(draw(st.integers(0, len(rows) - 1)), rows.pop(i))
    elif what == "cut":
        del rows[i][k:]
    elif what == "blank row":
        rows.insert(i, [""] * len(header))
    return f"{what} {i if 'row' in what or what in ('twice', 'move', 'cut') else k}"


def _source(draw, made: Damaged):
    header, rows, form = made.header, made.rows, made.form
    if any(len(r) != len(header) for r in rows) and ("frame" in form or form == "index"):
        made.form = form = "csv"
    if form in ("csv", "semicolons", "tabs", "bytes"):
        out = io.StringIO()
        quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
        end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
        csv.writer(
            out, delimiter={"semicolons": ";", "tabs": "\t"}.get(form, ","), quoting=quoting, lineterminator=end
        ).writerows([header, *rows])
        text = out.getvalue()
        if form == "csv":
            text = _framed(draw, text, end)
        content = text.encode("utf-8")
        if form == "bytes" and content:  # a byte somewhere is another one, or the file ends there
            at = draw(st.integers(0, len(content) - 1))
            other = draw(st.sampled_from([b"", b'"', b",", b"\n", b"\xff", b"\x00", b"#", b"9", None]))
            content = content[:at] if other is None else content[:at] + other + content[at + 1 :]
        return content
    if form == "blanks":
        made.header[:] = [_word(h) for h in header]
        made.rows[:] = [[_word(c) for c in row] for row in rows]
        return "\n".join(" ".join(row) for row in (made.header, *made.rows)).encode()
    frame = pd.DataFrame(rows, columns=header, dtype=object) if rows else pd.DataFrame(columns=header)
    if form in ("typed frame", "nullable frame", "index"):
        columns = []
        for k in range(len(header)):
            column = frame.iloc[:, k].map(lambda v: None if str(v).strip() in ("", ".") else v)
            try:
                column = pd.to_numeric(column)
            except (ValueError, TypeError, OverflowError):
                pass
            columns.append(column.convert_dtypes() if form == "nullable frame" else column)
        frame = pd.concat(columns, axis=1) if columns else frame
        frame.columns = header
    if form == "index" and "ID" in header and header.count("ID") == 1:
        frame = frame.set_index("ID")
    return frame


def _framed(draw, text: str, end: str) -> str:
    """The text with what spreadsheets and NONMEM put around a table."""
    before = draw(
        st.sampled_from(
            ["", "", "", "# a comment" + end, "C my trial" + end, "TABLE NO.  1" + end, end, "# ID,TIME" + end + end, "\ufeff"]
        )
    )
    after = draw(st.sampled_from(["", "", end, end + end, ",,,," + end, "# the end" + end, " " + end]))
    return before + text + after


def _word(text: str) -> str:
    """A cell between blanks: it holds none, and is not empty."""
    return "".join(text.split()).replace('"', "").replace("\x00", "") or "."


# -- a plain reading -----------------------------------------------------------------------------------------------

_FIELDS = {
    "AMT": "amt",
    "RATE": "rate",
    "II": "ii",
    "ADDL": "addl",
    "SS": "ss",
    "OCC": "occasion",
    "CENS": "cens",
    "EVID": "evid",
}
_MISSING = ("", ".", "NA", "nan", "NaN")


def number(text: str | None, decimal: str = ".") -> float | None:
    """What a text writes as a number; None where nothing or none is written."""
    text = (text or "").strip().replace("d", "e").replace("D", "e")
    try:
        value = float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


class Cells:
    """The cells of a table by row number and column name."""

    def __init__(self, made: Damaged):
        framed = "frame" in made.form or made.form == "index"
        self.header = [h.strip().strip('"').strip().upper() for h in made.header]
        self.header[0] = self.header[0].lstrip("#@").strip()
        self.rows = made.rows if framed else [r for r in made.rows if len(r) > 1 or any(c.strip() for c in r)]
        self.decimal = "." if framed else made.arguments.get("decimal", ".")
        self.mark = made.arguments.get("ignore")

    def text(self, row: int, name: str) -> str | None:
        """What stands in a cell; None where there is no such column, or two."""
        cells = self.rows[row - 1]
        at = self.header.index(name) if self.header.count(name) == 1 else len(cells)
        return cells[at].strip() if at < len(cells) else None

    def number(self, row: int, name: str) -> float | None:
        return number(self.text(row, name), self.decimal)

    def says_something(self, name: str) -> bool:
        """Whether a number stands anywhere in a column."""
        return any(self.number(r, name) is not None for r in range(1, len(self.rows) + 1))

    @property
    def dated(self) -> bool:
        """Whether times are counted from dates or clock times."""
        times = [self.text(r, "TIME") or "" for r in range(1, len(self.rows) + 1)]
        return any(d in self.header for d in ("DATE", "DAT1", "DAT2", "DAT3")) or any(":" in t for t in times)

    @property
    def records(self) -> list[int]:
        """Numbers of the rows that are records."""
        return [r for r in range(1, len(self.rows) + 1) if self._is_record(r)]

    def _is_record(self, row: int) -> bool:
        cells = self.rows[row - 1]
        first = cells[0].strip()[:1]
        comment = (
            first == "#"
            or (self.mark == "C" and first == "C")
            or (self.mark == "@" and (first == "@" or first.isascii() and first.isalpha()))
        )
        return any(c.strip() for c in cells) and not comment and self.number(row, "COVONLY") != 1


def contradictions(population, made: Damaged) -> list[str]:
    """Where the records of a population are not what stands in the cells of their rows."""
    if made.form == "bytes":
        return []
    cells, out = Cells(made), []
    for subject in population:
        for j, row in enumerate(map(int, subject.rows)):
            wrong = [*_wrong_identity(cells, subject, row, made.form), *_wrong_numbers(cells, subject, j, row)]
            wrong += _wrong_covariates(cells, population, subject, j, row)
            out += [f"row {row}: {name} {text!r} became {value!r}" for name, text, value in wrong]
    seen = [int(row) for subject in population for row in subject.rows]
    return out if seen == cells.records else [*out, f"rows {cells.records} are there, and rows {seen} were read"]


def _wrong_identity(cells: Cells, subject, row: int, form: str):
    text = cells.text(row, "ID")
    if text is None or str(subject.id) == text:
        return
    exact = isinstance(subject.id, int) and text.isdigit() and form != "typed frame"
    if int(text) != subject.id if exact else number(text) not in (subject.id, number(str(subject.id))):
        yield "ID", text, subject.id


def _wrong_numbers(cells: Cells, subject, j: int, row: int):
    if not cells.dated and cells.text(row, "TIME") is not None and cells.number(row, "TIME") != subject.time[j]:
        yield "TIME", cells.text(row, "TIME"), subject.time[j]
    for name, field in _FIELDS.items():
        value = getattr(subject, field)[j]
        if cells.text(row, name) is not None and cells.says_something(name) and (cells.number(row, name) or 0.0) != value:
            yield name, cells.text(row, name), value
    if cells.number(row, "MDV") not in (None, 0, 1) or (subject.is_observation[j] and cells.number(row, "MDV") == 1):
        yield "MDV", cells.text(row, "MDV"), subject.mdv[j]
    if subject.is_observation[j] and cells.text(row, "DV") is not None and cells.number(row, "DV") != subject.dv[j]:
        yield "DV", cells.text(row, "DV"), subject.dv[j]


def _wrong_covariates(cells: Cells, population, subject, j: int, row: int):
    for name, info in population.covariates.items():
        text, value = cells.text(row, name.upper()), subject.covariates[name][j]
        if text is None or text in _MISSING:
            continue
        word = info.categories and text in info.categories
        if (info.categories.index(text) if word else cells.number(row, name.upper())) != value:
            yield name, text, value
