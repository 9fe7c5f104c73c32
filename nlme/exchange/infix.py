"""Formulas and statements in languages with infix operators, ``^`` for powers and blocks of IF: R's and Mlxtran."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from nlme.errors import ModelError
from nlme.exchange.statements import Assign, Choice, Line, Statement
from nlme.language.typeset import Text, typeset

_RELATIONS = {"=": "=="}
_INFINITE = "1e30"


@dataclasses.dataclass(frozen=True)
class Syntax:
    """How a language writes statements.

    Attributes
    ----------
    program : its name, for messages
    functions : sympy's name of a function -> the language's
    """

    program: str
    assign: str
    when: str
    other: str
    otherwise: str
    end: str
    functions: Mapping[str, str]


class Infix(Text):
    """Formulas with ``names`` for their symbols."""

    times, plus, minus = "*", " + ", " - "

    def __init__(self, names: Mapping[str, str], syntax: Syntax):
        self._names, self._syntax = names, syntax

    def number(self, value: str) -> str:
        if value in ("inf", "-inf"):
            return value.replace("inf", _INFINITE)
        if value == "nan":
            raise ModelError(f"a formula holds a value that is no number (NaN), which {self._syntax.program} cannot say.")
        return value

    def symbol(self, name: str) -> str:
        return self._names[name]

    def call(self, name: str, args: Sequence[str]) -> str:
        name = {"lgamma": "loggamma", "int": "whole_part", "ceil": "ceiling"}.get(name, name)
        if name not in self._syntax.functions:
            raise ModelError(f"{self._syntax.program} has no function {name}.")
        return f"{self._syntax.functions[name]}({', '.join(args)})"

    def absolute(self, x: str) -> str:
        return f"abs({x})"

    def relation(self, kind: str, a: str, b: str) -> str:
        return f"{a} {_RELATIONS.get(kind, kind)} {b}"

    def joined(self, word: str, parts: Sequence[str]) -> str:
        return {"and": " && ", "or": " || "}[word].join(parts)

    def opposite(self, x: str) -> str:
        return f"!({x})"

    def cases(self, pairs) -> str:
        raise ModelError(f"a choice inside an expression, which {self._syntax.program} cannot say.")

    def truth(self, value: bool) -> str:
        return "1 == 1" if value else "1 == 0"


def lines_of(statements: Iterable[Statement], style: Infix, syntax: Syntax, indent: int = 0) -> list[str]:
    """The lines of these statements."""
    out: list[str] = []

    def text(x) -> str:
        return x if isinstance(x, str) else typeset(x, style)

    def visit(listed: Iterable[Statement], level: int) -> None:
        for one in listed:
            if isinstance(one, Line):
                out.append((" " * level + one.text).rstrip())
            elif isinstance(one, Assign):
                out.append(f"{' ' * level}{one.target} {syntax.assign} {text(one.value)}")
            else:
                choice(one, level)

    def choice(one: Choice, level: int) -> None:
        for k, (test, inner) in enumerate(one.blocks):
            form = syntax.when if k == 0 else syntax.otherwise if test is None else syntax.other
            out.append(" " * level + form.format(test="" if test is None else text(test)))
            visit(inner, level + 2)
        out.append(" " * level + syntax.end)

    visit(statements, indent)
    return out
