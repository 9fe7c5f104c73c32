"""Formulas as statements: what languages without conditional expressions need, and what long formulas need to be read.

A choice between values (``jnp.where``, a maximum, an absolute value) becomes a variable that IF and ELSE set; what stands more than
once and is not short gets a variable too, in the branch in which it is needed.  The order of operations stays that of the formula.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from nlme.language import symbols as s

SHORT = 12  # symbols and operations of what is written again rather than named
_CONDITIONS = {*s.RELATIONS, "And", "Or", "Not", "BooleanTrue", "BooleanFalse"}

Formula = Any


@dataclasses.dataclass(frozen=True)
class Assign:
    """``target = value``; the value is a formula, or text in the language's own words."""

    target: str
    value: Formula | str


@dataclasses.dataclass(frozen=True)
class Choice:
    """IF, ELSE IF, ELSE: (condition, statements); the condition of the last may be None."""

    blocks: tuple[tuple[Formula | str | None, tuple], ...]


@dataclasses.dataclass(frozen=True)
class Line:
    """A line as it stands."""

    text: str


Statement = Assign | Choice | Line


def _exp(x):
    return s.function("exp")(x)


def _minus(a, b):
    return s.subtract(a, b)


def _tanh(x):
    # no infinity over infinity, whatever x
    return _minus(s.number(1), s.divide(s.number(2), s.add(_exp(s.multiply(s.number(2), x)), s.number(1))))


def _half(a, b, sign):
    joined = s.add(a, b) if sign > 0 else _minus(a, b)
    return s.divide(joined, s.number(2))


#: function -> the same in exponentials, logarithms and roots, for languages that do not know it
IN_OTHER_WORDS: dict[str, Callable] = {
    "tanh": _tanh,
    "sinh": lambda x: _half(_exp(x), _exp(s.negative(x)), -1),
    "cosh": lambda x: _half(_exp(x), _exp(s.negative(x)), 1),
    "asinh": lambda x: s.function("log")(s.add(x, s.root(s.add(s.power(x, s.number(2)), s.number(1))))),
    "acosh": lambda x: s.function("log")(s.add(x, s.root(_minus(s.power(x, s.number(2)), s.number(1))))),
    "atanh": lambda x: _half(
        s.function("log")(s.add(s.number(1), x)), s.function("log")(_minus(s.number(1), x)), -1
    ),
}  # fmt: skip


class Scribe:
    """Turns formulas into statements.

    Parameters
    ----------
    fresh : gives a free name for a new variable
    names : name of a symbol -> how the language writes it; new variables are added
    known : functions that the language has, by sympy's names
    """

    def __init__(self, fresh: Callable[[str], str], names: dict[str, str], known: Iterable[str]):
        self._fresh, self._names, self._known = fresh, names, set(known)
        self._count = 0

    def assigned(self, formulas: Mapping[str, Formula]) -> list[Statement]:
        """The statements after which every target holds the value of its formula."""
        return self.expanded([Assign(target, formula) for target, formula in formulas.items()])

    def expanded(self, statements: Iterable[Statement]) -> list[Statement]:
        """The same statements with formulas that the language can say."""
        statements = list(statements)
        return self._expanded(statements, {}, _repeated(_formulas(statements)))

    def _expanded(self, statements: Iterable[Statement], scope: dict[Formula, Formula], often: set) -> list[Statement]:
        out: list[Statement] = []
        for one in statements:
            if isinstance(one, Choice):
                blocks = []
                for test, inner in one.blocks:
                    test = test if test is None or isinstance(test, str) else self._plain(test, out, scope, often)
                    blocks.append((test, tuple(self._expanded(inner, dict(scope), often))))
                out.append(Choice(tuple(blocks)))
            elif isinstance(one, Line) or isinstance(one.value, str):
                out.append(one)
            elif _kind(one.value) == "Piecewise":
                self._choose(one.target, one.value, out, scope, often)
            else:
                out.append(Assign(one.target, self._plain(one.value, out, scope, often)))
        return out

    def _variable(self, out: list[Statement], value: Formula | None = None) -> tuple[str, Formula]:
        """A new variable and its symbol, set to ``value``."""
        self._count += 1
        text = self._fresh(f"z{self._count}")
        inner = s.symbol(f"({self._count})")
        self._names[inner.name] = text
        if value is not None:
            out.append(Assign(text, value))
        return text, inner

    def _plain(self, x: Formula, out: list[Statement], scope: dict, often: set) -> Formula:
        """``x`` without choices, after the statements that this needs."""
        if not x.args:
            return x
        if x in scope:
            return scope[x]
        found = self._without_choice(x, out, scope, often)
        if found.args and x in often and _kind(x) not in _CONDITIONS:
            found = self._variable(out, found)[1]
        scope[x] = found
        return found

    def _without_choice(self, x: Formula, out, scope, often) -> Formula:
        kind = _kind(x)
        if kind == "Piecewise":
            name, variable = self._variable(out)
            self._choose(name, x, out, scope, often)
            return variable
        args = [self._plain(a, out, scope, often) for a in x.args]
        if kind in ("Max", "Min"):
            total = args[0]
            for other in args[1:]:
                total = self._extreme(kind, total, other, out)
            return total
        if kind == "Abs" and kind not in self._known:
            a = self._named(args[0], out)
            return self._either(s.comparison("Lt")(a, s.number(0)), s.negative(a), a, out)
        if kind == "sign" and kind not in self._known:
            return self._sign(self._named(args[0], out), out)
        if kind in ("floor", "ceiling") and kind not in self._known:
            return self._whole(kind, args[0], out)
        if kind == "whole_part" and kind not in self._known:
            a = self._named(args[0], out)
            down, up = (s.function(name)(a) for name in ("floor", "ceiling"))
            return self._either(s.comparison("Lt")(a, s.number(0)), up, down, out)
        if kind == "Mod":
            a, b = (self._named(x, out) for x in args)
            return s.subtract(a, s.multiply(b, self._whole("floor", s.divide(a, b), out)))
        if kind in IN_OTHER_WORDS and kind not in self._known:
            return IN_OTHER_WORDS[kind](*(self._named(a, out) for a in args))
        return x if all(a is b for a, b in zip(args, x.args, strict=True)) else s.rebuilt(x, args)

    def _choose(self, target: str, x: Formula, out: list[Statement], scope: dict, often: set) -> None:
        """``target`` set by the first condition that holds."""
        blocks = []
        for value, condition in x.args:
            test = None if condition == True else self._plain(condition, out, scope, often)  # noqa: E712
            inner: list[Statement] = []
            own = dict(scope)
            if _kind(value) == "Piecewise":
                self._choose(target, value, inner, own, often)
            else:
                inner.append(Assign(target, self._plain(value, inner, own, often)))
            blocks.append((test, tuple(inner)))
        out.append(Choice(tuple(blocks)))

    def _named(self, x: Formula, out: list[Statement]) -> Formula:
        return x if not x.args else self._variable(out, x)[1]

    def _either(self, condition: Formula, yes: Formula, no: Formula, out: list[Statement]) -> Formula:
        name, variable = self._variable(out)
        out.append(Choice(((condition, (Assign(name, yes),)), (None, (Assign(name, no),)))))
        return variable

    def _extreme(self, kind: str, a: Formula, b: Formula, out: list[Statement]) -> Formula:
        a, b = self._named(a, out), self._named(b, out)
        return self._either(s.comparison("Ge" if kind == "Max" else "Le")(a, b), a, b, out)

    def _sign(self, x: Formula, out: list[Statement]) -> Formula:
        below = self._either(s.comparison("Lt")(x, s.number(0)), s.number(-1), s.number(0), out)
        return self._either(s.comparison("Gt")(x, s.number(0)), s.number(1), below, out)

    def _whole(self, kind: str, x: Formula, out: list[Statement]) -> Formula:
        x = self._named(x, out)
        _, whole = self._variable(out, s.truncated(x))
        down = kind == "floor"
        moved = s.add(whole, s.number(-1 if down else 1))
        return self._either(s.comparison("Gt" if down else "Lt")(whole, x), moved, whole, out)


def _kind(x: Formula) -> str:
    return x.func.__name__


def _formulas(statements: Iterable[Statement]) -> Iterator[Formula]:
    for one in statements:
        if isinstance(one, Choice):
            for _, inner in one.blocks:
                yield from _formulas(inner)
        elif isinstance(one, Assign) and not isinstance(one.value, str):
            yield one.value


def _repeated(formulas: Iterable[Formula]) -> set:
    """What stands in more than one place and is not short."""
    seen: Counter = Counter()
    sizes: dict[Formula, int] = {}

    def visit(x: Formula) -> int:
        seen[x] += 1
        if x not in sizes:
            sizes[x] = 1 + sum(visit(a) for a in x.args)
        return sizes[x]

    for formula in formulas:
        visit(formula)
    return {x for x, count in seen.items() if count > 1 and sizes[x] >= SHORT}
