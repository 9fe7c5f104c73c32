"""One expression of abbreviated code, read by recursive descent.

Fortran's rules of precedence hold: ** from the right before a sign, a sign before nothing but + and -, relations before .NOT.,
.AND., .OR.
"""

from __future__ import annotations

import ast
import re

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviations import Abbreviations
from nlme.exchange.nonmem.records import Record

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.(?![A-Za-z]{2,5}\.)\d*)?|\.\d+)(?:[EeDd][+-]?\d+)?)"
    r"|(?P<relation>\.(?:EQN?|NEN?|LT|LE|GT|GE|AND|OR|NOT|TRUE|FALSE|EQV|NEQV)\.)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>\*\*|==|/=|<=|>=|[-+*/()=,<>]))",
    re.IGNORECASE,
)
_RELATIONS = {
    ".EQ.": ast.Eq, "==": ast.Eq, ".EQN.": ast.Eq, ".NE.": ast.NotEq, "/=": ast.NotEq, ".NEN.": ast.NotEq, ".LT.": ast.Lt,
    "<": ast.Lt, ".LE.": ast.LtE, "<=": ast.LtE, ".GT.": ast.Gt, ">": ast.Gt, ".GE.": ast.GtE, ">=": ast.GtE,
}  # fmt: skip
_ARRAYS = ("THETA", "ETA", "EPS", "ERR", "A", "DADT", "A_0", "P", "COM", "OMEGA", "SIGMA", "MTIME", "MNEXT", "MPAST", "MIXP")
UNSET = "<unset>"  # before the name of a variable that no branch has set


def unset(name: str) -> str | None:
    """The variable of which this is the marker that no branch has set it; None for any other name."""
    return name.removeprefix(UNSET) if name.startswith(UNSET) else None


class Formula:
    """One expression by recursive descent."""

    def __init__(self, record: Record, text: str, line: int, abbreviations: Abbreviations):
        self._record, self._text, self._line, self._abbreviations = record, text, line, abbreviations
        self._tokens = self._cut(text)
        self._at = 0

    def whole(self) -> ast.expr:
        found = self._or()
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._at]!r} is not expected")
        return found

    def _wrong(self, why: str):
        return self._record.refuse(f"{self._text.strip()!r}: {why}.", self._line)

    def _cut(self, text: str) -> list[str]:
        tokens, at = [], 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._wrong(f"{text[at:].strip()[:1]!r} is not known in an expression")
            tokens.append(match[0].strip().upper())
            at = match.end()
        return tokens

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, *wanted: str) -> str:
        token = self._next()
        if wanted and token not in wanted:
            raise self._wrong(f"{' or '.join(wanted)} is expected" + (f" before {token!r}" if token else " at the end"))
        self._at += 1
        return token

    def _or(self) -> ast.expr:
        found = self._and()
        while self._next() == ".OR.":
            self._take()
            found = ex.call("jnp.logical_or", found, self._and())
        return found

    def _and(self) -> ast.expr:
        found = self._not()
        while self._next() == ".AND.":
            self._take()
            found = ex.call("jnp.logical_and", found, self._not())
        return found

    def _not(self) -> ast.expr:
        if self._next() == ".NOT.":
            self._take()
            return ex.call("jnp.logical_not", self._not())
        return self._relation()

    def _relation(self) -> ast.expr:
        left = self._sum()
        if self._next() in _RELATIONS:
            kind = _RELATIONS[self._take()]
            return ast.Compare(left, [kind()], [self._sum()])
        return left

    def _sum(self) -> ast.expr:
        sign = self._take() if self._next() in ("+", "-") else "+"
        found = self._product()
        found = ex.negative(found) if sign == "-" else found
        while self._next() in ("+", "-"):
            kind = ast.Add if self._take() == "+" else ast.Sub
            found = ast.BinOp(found, kind(), self._product())
        return found

    def _product(self) -> ast.expr:
        found = self._signed()
        while self._next() in ("*", "/"):
            kind = ast.Mult if self._take() == "*" else ast.Div
            found = ast.BinOp(found, kind(), self._signed())
        return found

    def _signed(self) -> ast.expr:
        """A power, with the sign that compilers take before a factor (``2*-X``)."""
        if self._next() in ("+", "-"):
            return ex.negative(self._signed()) if self._take() == "-" else self._signed()
        base = self._atom()
        if self._next() == "**":
            self._take()
            return ast.BinOp(base, ast.Pow(), self._signed())
        return base

    def _atom(self) -> ast.expr:
        token = self._take()
        if token == "(":
            found = self._or()
            self._take(")")
            return found
        if token in (".TRUE.", ".FALSE."):
            return ast.Constant(token == ".TRUE.")
        if re.match(r"[\d.]", token):
            text = token.replace("D", "E")
            return ex.number(int(text) if text.isdigit() else float(text))
        if re.match(r"[A-Z_]", token):
            return self._named(token)
        raise self._wrong(f"{token!r} is not expected" if token else "it ends too early")

    def _named(self, word: str) -> ast.expr:
        if self._next() != "(":
            plain = self._abbreviations.plain.get(word, word)
            return ex.name(plain) if re.match(r"[A-Z_]", plain) else ex.number(float(plain))
        if word in ex.FUNCTIONS:
            arguments = self._arguments()
            found = ex.applied(word, arguments)
            if found is None:
                raise self._wrong(f"{word} does not take {len(arguments)} argument{'s' * (len(arguments) != 1)}")
            return found
        if word in ex.PROTECTED:
            arguments = self._arguments()
            if len(arguments) != 1:
                raise self._wrong(f"{word} has one argument")
            return ex.PROTECTED[word](*arguments)
        indices = [ex.text(a).replace(" ", "") for a in self._arguments()]
        word = "EPS" if word == "ERR" else word
        inside = f"{word}({','.join(indices)})"
        inside = self._abbreviations.plain.get(inside, inside)
        if inside in self._abbreviations.selected:
            return self._selected(inside)
        if word not in _ARRAYS:
            raise self._wrong(f"{word}(...) is no function that is known here")
        if not re.fullmatch(r"[A-Z_0-9]+\(\d+(,\d+)?\)", inside):
            raise self._wrong(f"the index of {inside} is no number")
        return ex.name(inside)

    def _selected(self, symbol: str) -> ast.expr:
        """That of the data item: a choice which no branch sets where the item has none of its values."""
        item, kind, numbers = self._abbreviations.selected[symbol]
        value: ast.expr = ex.name(UNSET + symbol)
        for k, number in reversed(list(enumerate(numbers, start=1))):
            if number:
                value = ex.where(ast.Compare(ex.name(item), [ast.Eq()], [ex.number(k)]), ex.name(f"{kind}({number})"), value)
        return value

    def _arguments(self) -> list[ast.expr]:
        self._take("(")
        found = [self._or()]
        while self._next() == ",":
            self._take()
            found.append(self._or())
        self._take(")")
        return found
