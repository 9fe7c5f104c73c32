"""A control stream cut into its records, each line with its number, comments kept apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nlme.errors import ModelError

#: records by their full names; of those that a word of three letters and more may abbreviate, the first is meant
_NAMES = (
    "PROBLEM", "INPUT", "DATA", "SUBROUTINES", "MODEL", "ABBREVIATED", "PK", "PRED", "DES", "ERROR", "THETA", "OMEGA",
    "SIGMA", "ESTIMATION", "COVARIANCE", "TABLE", "MIX", "PRIOR", "SIZES", "SIMULATION", "MSFI", "SCATTERPLOT", "ETAS",
    "PHIS", "AES", "NONPARAMETRIC", "OMEGAP", "OMEGAPD", "THETAP", "THETAPV", "SIGMAP", "SIGMAPD", "LEVEL", "CONTR",
    "THETAI", "THETAR", "TOL", "INFN", "DESIGN", "WARNINGS", "BIND", "OMIT", "INCLUDE", "ANNEAL", "CHAIN", "RCOV", "RCOVI",
    "SUPER", "INDEX", "OLKJDF", "OVARF", "SLKJDF", "SVARF", "TTDF", "DEFAULT",
)  # fmt: skip
_OTHER = {"ESTM": "ESTIMATION", "ESTIMATE": "ESTIMATION", "SCATTERGRAM": "SCATTERPLOT", "SIML": "SIMULATION",
          "INDXS": "INDEX", "SUBS": "SUBROUTINES", "SUB": "SUBROUTINES", "INP": "INPUT", "INPT": "INPUT", "THTA": "THETA", "DAT": "DATA", "INFILE": "DATA",
          "ERR": "ERROR", "OMG": "OMEGA", "SIG": "SIGMA", "THE": "THETA", "MOD": "MODEL", "COVR": "COVARIANCE",
          "SIMULATE": "SIMULATION"}  # fmt: skip
#: records that change what is computed and have no counterpart here
REFUSED = {
    "AES": "differential-algebraic equations", "LEVEL": "levels of random effects by $LEVEL", "CONTR": "a user's own objective",
    "THETAI": "transformed thetas", "INFN": "initialisation code", "DESIGN": "design evaluation", "BIND": "bound data items",
    "OMIT": "omitted data items", "INCLUDE": "a file included in the control stream", "SUPER": "superproblems",
    "NONPARAMETRIC": "nonparametric densities", "CHAIN": "initial values by $CHAIN",
    "INDEX": "index parameters",
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a record: its number in the file, its text without the comment, and the comment."""

    number: int
    text: str
    comment: str = ""


@dataclass(frozen=True)
class Record:
    """One record: its full name, as written, and its lines (the first without the record's name)."""

    name: str
    lines: tuple[Line, ...]
    file: str

    @property
    def text(self) -> str:
        """All lines as one, continuation marks taken away."""
        return " ".join(line.text.rstrip().removesuffix("&") for line in self.lines)

    @property
    def line(self) -> int:
        return self.lines[0].number

    def refuse(self, what: str, line: int | None = None) -> ModelError:
        """The sentence that says what of this record is not taken, and where it stands."""
        return ModelError(f"{self.file}, line {line or self.line}, ${self.name}: {what}")


def records_of(text: str, file: str) -> list[Record]:
    """The records of a control stream's first problem; those of further problems (a simulation, mostly) are left out.

    Raises
    ------
    ModelError
        No record, an unknown one, one that has no counterpart here.
    """
    found: list[tuple[str, list[Line]]] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        verbatim = raw.lstrip().startswith('"')
        body, _, comment = (raw, "", "") if verbatim else raw.partition(";")
        match = re.match(r"\s*\$\s*([A-Za-z]+)(.*)", body)
        if match and not verbatim:
            found.append((_full_name(match[1].upper(), file, number), []))
            body = match[2]
        if found:
            found[-1][1].append(Line(number, body.replace("\t", " "), comment.strip()))
    records = [Record(name, tuple(lines), file) for name, lines in found]
    if not records:
        raise ModelError(f"{file} is no control stream: it has no record such as $PROBLEM.")
    later = [k for k, record in enumerate(records) if record.name == "PROBLEM"][1:]
    records = records[: later[0]] if later else records
    for record in records:
        if record.name in REFUSED:
            raise record.refuse(f"{REFUSED[record.name]} is not imported.")
    return records


def _full_name(word: str, file: str, number: int) -> str:
    if word in _NAMES:
        return word
    if word in _OTHER:
        return _OTHER[word]
    for full in _NAMES:
        if len(word) >= 3 and full.startswith(word):
            return full
    raise ModelError(f"{file}, line {number}: the record ${word} is not known.")


def of_name(records: list[Record], *names: str) -> list[Record]:
    return [record for record in records if record.name in names]


def option(text: str, *names: str) -> str | None:
    """The value of an option such as ``METHOD=1``, by any of its names; None where it is not there.

    A name stands for all that it abbreviates to, down to three letters: METHOD, METHO, METH, MET.
    """
    for match in re.finditer(r"([A-Za-z_][A-Za-z_0-9]*)\s*=\s*(\"[^\"]*\"|'[^']*'|\([^)]*\)|[^\s,]+)", text):
        word = match[1].upper()
        if any(name == word or len(word) >= 3 and name.startswith(word) for name in names):
            return match[2].strip("\"'")
    return None


def has_word(text: str, *names: str) -> bool:
    """Whether a bare option such as ``INTERACTION`` is there, abbreviated or not."""
    words = re.findall(r"(?<![=\w.])[A-Za-z][A-Za-z0-9_-]*(?!\s*=)", text)
    return any(name == word.upper() or len(word) >= 3 and name.startswith(word.upper()) for word in words for name in names)
