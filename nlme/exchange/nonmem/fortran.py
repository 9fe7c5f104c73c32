"""NM-TRAN's way of writing formulas and statements, and the names that it allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nlme.errors import ModelError
from nlme.exchange.names import Names
from nlme.exchange.statements import Assign, Choice, Line, Statement
from nlme.language.typeset import Text, typeset

WIDTH = 118  # of a line; NM-TRAN reads 160
LONGEST = 20  # letters of a name
#: functions that NM-TRAN has, by sympy's names
FUNCTIONS = {
    "exp": "EXP", "log": "LOG", "sin": "SIN", "cos": "COS", "tan": "TAN", "asin": "ASIN", "acos": "ACOS", "atan": "ATAN",
    "loggamma": "GAMLN", "whole_part": "INT",
}  # fmt: skip
_RELATIONS = {"=": ".EQ.", "!=": ".NE.", "<": ".LT.", "<=": ".LE.", ">": ".GT.", ">=": ".GE."}
INFINITE = "1.0E+30"
RESERVED = {
    *FUNCTIONS.values(), "SQRT", "LOG10", "ABS", "MOD", "MIN", "MAX", "PHI", "IF", "THEN", "ELSE", "ELSEIF", "ENDIF", "DO", "WHILE",
    "ENDDO", "EXIT", "CALL", "RETURN", "CONTINUE", "THETA", "ETA", "EPS", "ERR", "OMEGA", "SIGMA", "A", "A_0", "A_0FLG", "DADT",
    "P", "T", "F", "Y", "W", "G", "H", "S", "TIME", "ID", "L1", "L2", "DV", "MDV", "EVID", "AMT", "RATE", "SS", "II", "ADDL", "CMT",
    "PCMT", "CONT", "DATE", "DAT1", "DAT2", "DAT3", "RAW_", "MRG_", "RPT_", "XVID", "PRED", "RES", "WRES", "IPRED", "CWRES",
    "CP", "CHZ", "LLOQ", "LIM2", "CENS", "DVID", "OCC", "TPREV", "F_FLAG", "ICALL", "NEWIND", "NEWL2", "IREP", "NREP", "MIXNUM", "MIXEST",
    "MIXP", "MIX", "NSPOP", "COM", "MTIME", "MNEXT", "MPAST", "CALLFL", "COMACT", "COMSAV", "DOSTIM", "DOSREC", "TSTATE", "SC", "F0", "FO",
    "TSCALE", "XSCALE", "TOL", "NPROB", "IPROB", "SKIP", "DT", "LAST", "SETA", "RETA", "TEMPLT", "TOLER", "COMRES", "DERIV2", "PROTECT",
    "INCLUDE", "ONEOVER", "ALL", "ONLY", "SUBR", "OBJ", "NOPAR", "TRUE", "FALSE", "LOGICAL", "INTEGER", "REAL",
}  # fmt: skip
_NUMBERED = re.compile(r"(ALAG|F|D|R|S|XS|ETA|MU_|CTLO|CTUP|COMP)\d+")


def names() -> Names:
    """The names that NM-TRAN allows."""
    return Names(RESERVED, _NUMBERED, LONGEST, upper=True)


class Fortran(Text):
    """Formulas as abbreviated code; ``names`` are what its symbols are called there."""

    times, plus, minus = "*", " + ", " - "

    def __init__(self, names: dict[str, str]):
        self._names = names

    def number(self, value: str) -> str:
        if value in ("inf", "oo"):
            return INFINITE
        if value in ("-inf", "-oo"):
            return f"(-{INFINITE})"
        if value == "nan":
            raise ModelError("a formula holds a value that is no number (NaN), which NM-TRAN cannot say.")
        mantissa, mark, exponent = value.partition("e")
        mantissa = mantissa if "." in mantissa else f"{mantissa}.0"
        return f"{mantissa}E{exponent}" if mark else mantissa

    def symbol(self, name: str) -> str:
        return self._names[name]

    def power(self, base: str, exponent: str) -> str:
        return f"{base}**{_whole(exponent)}"  # a whole number stays one: bases below zero have such powers alone

    def root(self, x: str) -> str:
        return f"SQRT({x})"

    def exponential(self, x: str) -> str:
        return f"EXP({x})"

    def absolute(self, x: str) -> str:
        return f"ABS({x})"

    def call(self, name: str, args: Sequence[str]) -> str:
        if name == "erf":
            return f"(2.0*PHI(({args[0]})*SQRT(2.0)) - 1.0)"
        name = {"lgamma": "loggamma", "int": "whole_part"}.get(name, name)
        if name not in FUNCTIONS:
            raise ModelError(f"NM-TRAN has no function {name}.")
        return f"{FUNCTIONS[name]}({', '.join(args)})"

    def relation(self, kind: str, a: str, b: str) -> str:
        if a == "(MIXNUM - 1)" and (number := re.fullmatch(r"(\d+)\.0", b)):
            return f"MIXNUM{_RELATIONS[kind]}{int(number[1]) + 1}"
        gap = " " if a[-1] in ".0123456789" else ""
        return f"{a}{gap}{_RELATIONS[kind]}{_whole(b)}"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return f" .{word.upper()}. ".join(parts)

    def opposite(self, x: str) -> str:
        return f".NOT.({x})"

    def cases(self, pairs) -> str:
        raise ModelError("a choice inside an expression, which NM-TRAN cannot say.")

    def truth(self, value: bool) -> str:
        return "1.EQ.1" if value else "1.EQ.0"


def _whole(text: str) -> str:
    return re.sub(r"^(\(?-?\d+)\.0(\)?)$", r"\1\2", text)


def code_lines(statements: Iterable[Statement], style: Fortran, indent: int = 0) -> list[str]:
    """The lines of abbreviated code."""
    out: list[str] = []

    def text(x) -> str:
        return x if isinstance(x, str) else typeset(x, style)

    def add(line: str, level: int) -> None:
        out.extend(_broken(" " * level + line))

    def visit(listed: Iterable[Statement], level: int) -> None:
        for one in listed:
            if isinstance(one, Line):
                out.append((" " * level + one.text).rstrip())
            elif isinstance(one, Assign):
                add(f"{one.target} = {text(one.value)}", level)
            else:
                choice(one, level)

    def choice(one: Choice, level: int) -> None:
        (test, inner), *others = one.blocks
        if not others and len(inner) == 1 and isinstance(inner[0], Assign):
            add(f"IF ({text(test)}) {inner[0].target} = {text(inner[0].value)}", level)
            return
        for k, (test, inner) in enumerate(one.blocks):
            head = f"IF ({text(test)}) THEN" if k == 0 else "ELSE" if test is None else f"ELSEIF ({text(test)}) THEN"
            add(head, level)
            visit(inner, level + 2)
        add("ENDIF", level)

    visit(statements, indent)
    return out


def _broken(line: str) -> list[str]:
    """A line in pieces that go on with &."""
    if len(line) <= WIDTH:
        return [line]
    indent = len(line) - len(line.lstrip())
    pieces, rest = [], line
    while len(rest) > WIDTH:
        at = _break(rest, indent + 4)
        pieces.append(rest[:at].rstrip() + " &")
        rest = " " * (indent + 4) + rest[at:].lstrip()
    return [*pieces, rest]


def _break(text: str, start: int) -> int:
    """Where a line may end: before a sum's sign or a logical word, else behind a product's."""
    for mark in (" + ", " - ", " .AND. ", " .OR. "):
        at = text.rfind(mark, start + 20, WIDTH - 2)
        if at > 0:
            return at + 1
    for k in range(WIDTH - 3, start, -1):
        if text[k] in "*/" and text[k + 1] != "*" and text[k - 1] != "*":
            return k + 1
    at = text.rfind("(", start, WIDTH - 2)
    if at <= start:
        raise ModelError("a name or number is too long for a line of NM-TRAN.")
    return at + 1
