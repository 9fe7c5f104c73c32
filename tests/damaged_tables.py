"""Tables as trials have them, what happens to them on the way to a reader, and what a plain reading of the result gives.

``tables()`` is a strategy: a good table, up to three damages, a form (text or DataFrame).  ``contradictions`` compares a population
with the cells it was read from, by ``float`` and ``int`` alone: nothing of the reader's own code is used.
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
""", {"covariates": {"wt": "kg", "sex": None}, "time_varying": ["wt"], "categories": {"sex": ["F", "M"]}, "dvid": {1: "conc", 2: "pca"}}),
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
}  # fmt: skip

CELLS = [
    "", ".", " ", "NA", "nan", "abc", "0", "1", "2", "-1", "-2", "3", "4", "1.5", "1e400", "1e-400", "1D5", "1,5", "1.000", "1,000.5", "#1",
    "#", "99999999999999999999", "10000000000000001", "9223372036854775808", "-9223372036854775808", "9007199254740993", "-99", "inf", "-inf",
    "0x10", "1_000", " 5 ", "5 mg", "<0.1", "8:30", "25:61", "2024-01-01", "2024-01-01T08:00Z", "2024-01-01 08:00", "01/02/2024", "µg",
    "a\nb", '"', '""', "'", "1;2", "a,b", "TRUE", "None", "-0", "+3", "１", "=1+1", "@x", "C", "007", "1.0", "100", "101", "\t", "\ufeff1",
    "1e308", "1e17", "F", "depot", "NaN", "1.", ".5", "- 1", "1 000", "\x0c", "\x85", "\u2028", "nul\x00l", "é", "True", "null", "1e5000000000",
]  # fmt: skip
NAMES = [
    "ID", "TIME", "DV", "AMT", "RATE", "DUR", "TINF", "EVID", "MDV", "CMT", "II", "ADDL", "SS", "DVID", "YTYPE", "CENS", "LIMIT", "OCC", "DATE",
    "WT", "SEX", "id", "Time", "#ID", "@ID", "", " ", "C", "conc", "SUBJID", "DAT2", "X", "COVONLY", "COVONLY ", "1", ".", "a,b", "ID ", "µ",
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
        arguments |= draw(st.sampled_from([{"decimal": ","}, {"ignore": "@"}, {"ignore": "C"}, {"time_varying": "auto"}, {"fill": "locf"}]))
        done.append(str(arguments))
    form = draw(st.sampled_from(["csv", "csv", "semicolons", "tabs", "blanks", "text frame", "typed frame", "nullable frame", "index", "bytes"]))
    made = Damaged(None, header, rows, arguments, done, form)
    made.source = _source(draw, made)
    return made


def _damage(draw, header: list[str], rows: list[list[str]]) -> str:
    """Change the table in place; what was done, in words."""
    i = draw(st.integers(0, max(len(rows) - 1, 0)))
    k = draw(st.integers(0, max(len(header) - 1, 0)))
    what = draw(st.sampled_from(["cell"] * 6 + ["column of", "rename", "drop column", "twin", "swap", "drop row", "twice", "shuffle", "move", "cut", "blank row"]))
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
        csv.writer(out, delimiter={"semicolons": ";", "tabs": "\t"}.get(form, ","), quoting=quoting, lineterminator=end).writerows([header, *rows])
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
    before = draw(st.sampled_from(["", "", "", "# a comment" + end, "C my trial" + end, "TABLE NO.  1" + end, end, "# ID,TIME" + end + end, "\ufeff"]))
    after = draw(st.sampled_from(["", "", end, end + end, ",,,," + end, "# the end" + end, " " + end]))
    return before + text + after


def _word(text: str) -> str:
    """A cell between blanks: it holds none, and is not empty."""
    return "".join(text.split()).replace('"', "").replace("\x00", "") or "."


# -- a plain reading -----------------------------------------------------------------------------------------------

_FIELDS = {"AMT": "amt", "RATE": "rate", "II": "ii", "ADDL": "addl", "SS": "ss", "OCC": "occasion", "CENS": "cens", "EVID": "evid"}


def number(text: str, decimal: str = ".") -> float | None:
    """What the text writes as a number; None where nothing or none is written."""
    text = text.strip()
    if decimal == ",":
        text = text.replace(",", ".")
    try:
        value = float(text.replace("d", "e").replace("D", "e"))
    except ValueError:
        return None
    return None if math.isnan(value) else value


def contradictions(population, made: Damaged) -> list[str]:
    """Where the records of a population are not what stands in the cells of their rows."""
    if made.form == "bytes":
        return []
    header = [h.strip().strip('"').strip().upper() for h in made.header]
    header[0] = header[0].lstrip("#@").strip()
    decimal = made.arguments.get("decimal", ".") if "frame" not in made.form and made.form != "index" else "."
    rows, out, seen = made.rows, [], []
    if made.form not in ("text frame", "typed frame", "nullable frame", "index"):
        rows = [r for r in rows if any(c.strip() for c in r) or len(r) > 1]

    def cell(row: int, name: str) -> str | None:
        return rows[row - 1][header.index(name)].strip() if header.count(name) == 1 else None

    dated = "DATE" in header or "DAT2" in header or any(":" in r[header.index("TIME")] for r in rows if "TIME" in header and len(r) == len(header))
    for subject in population:
        for j, row in enumerate(subject.rows):
            seen.append(int(row))
            written = cell(row, "ID")
            if written is not None and str(subject.id) != written and number(written) not in (subject.id, number(str(subject.id))):
                out.append(f"row {row}: ID {written!r} became {subject.id!r}")
            if isinstance(subject.id, int) and written is not None and written.isdigit() and made.form != "typed frame" and int(written) != subject.id:
                out.append(f"row {row}: ID {written!r} became {subject.id!r}")
            if not dated and cell(row, "TIME") is not None and number(cell(row, "TIME"), decimal) != subject.time[j]:
                out.append(f"row {row}: TIME {cell(row, 'TIME')!r} became {subject.time[j]!r}")
            for name, field in _FIELDS.items():
                text = cell(row, name)
                value = getattr(subject, field)[j]
                if text is not None and (number(text, decimal) or 0.0) != value and any(number(cell(r, name), decimal) is not None for r in range(1, len(rows) + 1) if len(rows[r - 1]) == len(header)):
                    out.append(f"row {row}: {name} {text!r} became {value!r}")
            if subject.is_observation[j] and cell(row, "DV") is not None and number(cell(row, "DV"), decimal) != subject.dv[j]:
                out.append(f"row {row}: DV {cell(row, 'DV')!r} became {subject.dv[j]!r}")
            for name, info in population.covariates.items():
                text = cell(row, name.upper())
                value = subject.covariates[name][j]
                if text is None or (not text or text in (".", "NA", "nan", "NaN")):
                    continue
                right = number(text, decimal)
                if info.categories and text in info.categories:
                    right = info.categories.index(text)
                if right != value:
                    out.append(f"row {row}: {name} {text!r} became {value!r}")
    kept = [r for r in range(1, len(rows) + 1) if not _comment(rows[r - 1], made) and any(c.strip() for c in rows[r - 1])]
    if seen != kept:
        out.append(f"rows {kept} are there, and rows {seen} were read")
    return out


def _comment(row: list[str], made: Damaged) -> bool:
    start, mark = row[0].strip(), made.arguments.get("ignore")
    first = start[:1]
    return first == "#" or (mark == "C" and first == "C") or (mark == "@" and first != "" and first in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz@")
