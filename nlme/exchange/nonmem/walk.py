"""The code walked over the data, record by record, with what the data say known and all else unknown.

NM-TRAN's variables keep their values from one record to the next, so that ``IF (AMT.GT.0) TDOSE=TIME`` is a memory.  What such a
variable holds is known where it is made of data; the walk finds its values (they become a column).  Where it would be made of
parameters, a record that relies on it is found and refused.  On the way the walk sees which random effects and compartments each
record depends on, which makes occasions and endpoints.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment, Code
from nlme.exchange.nonmem.formulas import unset


class Value(NamedTuple):
    """A number if it is known, else the names it depends on; ``stale`` where it was made on an earlier record."""

    number: float | None
    depends: frozenset[str] = frozenset()
    stale: bool = False


_ZERO = Value(0.0)


@dataclass
class Walked:
    """What the walk saw.

    Attributes
    ----------
    depends : for each record, the names that the outputs depend on
    outputs : for each record, output -> its value
    stale : (record, output) that rely on an earlier record's parameters
    memories : index of an assignment (code, position) -> its values, where it remembers data
    outcomes : id of a condition -> its value at each record (None: unknown or not reached)
    """

    depends: list[set[str]] = field(default_factory=list)
    outputs: list[dict[str, Value]] = field(default_factory=list)
    stale: list[tuple[int, str]] = field(default_factory=list)
    memories: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    outcomes: dict[int, list[bool | None]] = field(default_factory=dict)


class _Walk:
    def __init__(self, codes: Sequence[Code], row_value: Callable[[str, int], float | None], strict: bool):
        self.codes, self.row_value, self.strict = codes, row_value, strict
        self.assigned = set().union(*(code.targets for code in codes), set())
        self.before: dict[str, Value] = {}
        self.now: dict[str, Value] = {}
        self.remembered = False
        self.record = 0
        self.outcomes: dict[int, dict[int, bool]] = {}
        self.alias: dict[str, str] = {}
        self.touched: list[tuple[int, bool]] = []  # conditions of the assignment at hand, and what they came to

    def value(self, node: ast.expr) -> Value:
        if isinstance(node, ast.Constant):
            return Value(float(node.value))
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.UnaryOp):
            inner = self.value(node.operand)
            return Value(None if inner.number is None else -inner.number, inner.depends, inner.stale)
        if isinstance(node, ast.BinOp):
            return self._operation(node)
        if isinstance(node, ast.Compare):
            return self._computed(lambda a, b: float(_COMPARED[type(node.ops[0])](a, b)), [node.left, node.comparators[0]])
        if node.func.id == ex.WHERE:
            return self._where(node)
        return self._computed(_NUMERIC.get(node.func.id), node.args)

    def look(self, name: str) -> tuple[Value, bool]:
        """What a name holds now, and whether it holds it from an earlier record."""
        if (variable := unset(name)) is not None:
            if variable not in self.assigned:  # a choice by a data item that has none of the values
                return Value(None, stale=True), False
            name = variable
        elif (given := self.row_value(name, self.record)) is not None:
            return Value(given), False
        if name in self.now:
            return self.now[name], False
        if name in self.assigned:
            earlier = self.before.get(name, _ZERO)
            return (earlier._replace(stale=True) if self.strict or earlier.number is None else earlier), True
        return Value(None, frozenset((self.alias.get(name, name),))), False

    def _name(self, name: str) -> Value:
        found, earlier = self.look(name)
        self.remembered = self.remembered or earlier
        return found

    def _operation(self, node: ast.BinOp) -> Value:
        a, b = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Mult) and (a.number == 0 or b.number == 0):
            return _ZERO
        if isinstance(node.op, ast.Div) and a.number == 0:
            return _ZERO
        return _combined(_OPERATIONS[type(node.op)], [a, b])

    def _computed(self, function, arguments: Iterable[ast.expr]) -> Value:
        values = [self.value(a) for a in arguments]
        return _combined(function, values)

    def _where(self, node: ast.Call) -> Value:
        condition = self.value(node.args[0])
        if condition.number is not None:
            self.touched.append((id(node), bool(condition.number)))
            return self.value(node.args[1 if condition.number else 2])
        yes, no = self.value(node.args[1]), self.value(node.args[2])
        return Value(None, condition.depends | yes.depends | no.depends, condition.stale or yes.stale or no.stale)


def _combined(function, values: list[Value]) -> Value:
    depends, stale = frozenset().union(*(v.depends for v in values)), any(v.stale for v in values)
    if function is None or any(v.number is None for v in values):
        return Value(None, depends, stale)
    try:
        found = float(function(*(v.number for v in values)))
    except (ValueError, OverflowError, ZeroDivisionError, TypeError):
        found = math.nan
    return Value(found, depends, stale)


_OPERATIONS = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}  # fmt: skip
_COMPARED = {
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b, ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b,
}  # fmt: skip
_NUMERIC = {
    "jnp.exp": math.exp, "jnp.log": math.log, "jnp.log10": math.log10, "jnp.sqrt": math.sqrt, "jnp.sin": math.sin,
    "jnp.cos": math.cos, "jnp.tan": math.tan, "jnp.arcsin": math.asin, "jnp.arccos": math.acos, "jnp.arctan": math.atan,
    "jnp.abs": abs, "jnp.trunc": math.trunc, "jnp.fmod": math.fmod, "jnp.minimum": min, "jnp.maximum": max,
    "jax.scipy.special.gammaln": math.lgamma, "jnp.logical_or": lambda a, b: bool(a) or bool(b),
    "jnp.logical_and": lambda a, b: bool(a) and bool(b), "jnp.logical_not": lambda a: not a,
}  # fmt: skip


def walk(
    codes: Sequence[Code],
    n: int,
    row_value: Callable[[str, int], float | None],
    outputs: Sequence[str],
    aliases: Sequence[Mapping[str, str]],
    strict: bool = False,
    starts: Mapping[str, float] | None = None,
    uncalled: Mapping[int, np.ndarray] | None = None,
) -> Walked:
    """Walk ``codes`` (in the order in which NONMEM runs them) over ``n`` records.

    ``row_value(name, record)`` is a data item's value, None for what is no data item; ``aliases`` are what names such as F stand
    for at each record.  ``strict``: what was made on an earlier record counts as stale though it is known.  ``starts``: variables that
    have this value at the start of every record.  ``uncalled``: index of a code -> the records (n,) with which it is not called.
    """
    state, seen = _Walk(codes, row_value, strict), Walked()
    needed = _needed(codes, outputs)
    same = _same_at_all_records(codes, lambda name: row_value(name, 0) is not None, bool(aliases))
    started = {name: Value(value) for name, value in (starts or {}).items()}
    none = np.zeros(n, bool)
    direct: dict[tuple[int, int], list[Value]] = {}
    memory: set[tuple[int, int]] = set()
    for record in range(n):
        state.record, state.now, state.alias = record, dict(started), dict(aliases[record]) if aliases else {}
        for c, code in enumerate(codes):
            for k, a in enumerate(code.assignments):
                if (c, k) not in needed:
                    continue
                if record and (c, k) in same:
                    state.now[a.target] = direct[c, k][0]
                    continue
                if (uncalled or {}).get(c, none)[record] and (c, k) not in same:
                    direct.setdefault((c, k), []).append(_ZERO)
                    continue
                value, remembered = needed[c, k].at(state)
                state.now[a.target] = value
                direct.setdefault((c, k), []).append(value)
                if remembered:
                    memory.add((c, k))
        found = {name: state.now[name] for name in outputs if name in state.now}
        seen.outputs.append(found)
        seen.depends.append(set().union(*(v.depends for v in found.values()), set()))
        seen.stale.extend((record, name) for name, v in found.items() if v.stale)
        state.before = state.before | state.now
    for at in sorted(memory):
        if all(v.number is not None for v in direct[at]):
            seen.memories[at] = np.array([v.number for v in direct[at]])
    seen.outcomes = {i: [by.get(r) for r in range(n)] for i, by in state.outcomes.items()}
    return seen


def _needed(codes: Sequence[Code], outputs: Sequence[str]) -> dict[tuple[int, int], _Evaluated]:
    """The assignments that have a part in the outputs, on this record or a later one."""
    every = [((c, k), a) for c, code in enumerate(codes) for k, a in enumerate(code.assignments)]
    wanted, size = set(outputs), -1
    while size != len(wanted):
        size = len(wanted)
        for _, a in every:
            if a.target in wanted:
                wanted |= {unset(n) or n for n in ex.names_in(a.value)}
    return {at: _Evaluated(a.value) for at, a in every if a.target in wanted}


class _Evaluated:
    """An expression whose value is kept for what its names held: most records differ in few of them."""

    _MOST = 300  # values kept of an expression; one that changes with every record is not kept

    def __init__(self, value: ast.expr):
        self._value, self._names = value, tuple(sorted(ex.names_in(value)))
        self._kept: dict[tuple, tuple[Value, bool, tuple[tuple[int, bool], ...]]] | None = {}

    def at(self, state: _Walk) -> tuple[Value, bool]:
        """Its value on the record at hand, and whether it relies on what a variable held on an earlier one."""
        key = tuple(state.look(name) for name in self._names) if self._kept is not None else None
        found = None if key is None else self._kept.get(key)
        if found is None:
            state.remembered, state.touched = False, []
            value = state.value(self._value)
            found = value, state.remembered, tuple(state.touched)
            if key is not None:
                self._kept[key] = found
                self._kept = self._kept if len(self._kept) < self._MOST else None
        value, remembered, touched = found
        for node, outcome in touched:
            state.outcomes.setdefault(node, {})[state.record] = outcome
        return value, remembered


def _same_at_all_records(codes: Sequence[Code], is_item: Callable[[str], bool], has_prediction: bool) -> set[tuple[int, int]]:
    """Assignments (code, position) that read neither data nor anything that changes from record to record, nor memories."""
    changing = {"F", "T"} if has_prediction else set()
    every = [((c, k), a) for c, code in enumerate(codes) for k, a in enumerate(code.assignments)]
    targets = {a.target for _, a in every}
    while True:
        made, grown = set(), set(changing)
        for _, a in every:
            reads = ex.names_in(a.value)
            if any(n in grown or is_item(n) or unset(n) is not None or (n in targets and n not in made) for n in reads):
                grown.add(a.target)
            made.add(a.target)
        if grown == changing:
            return {at for at, a in every if a.target not in changing}
        changing = grown


def with_memories(codes: Sequence[Code], walked: Walked, taken: set[str]) -> tuple[list[Code], dict[str, np.ndarray]]:
    """The codes with what remembers data replaced by columns, and these columns; unset values that nothing relies on are 0."""
    columns: dict[str, np.ndarray] = {}
    out = []
    for c, code in enumerate(codes):
        assignments = []
        for k, a in enumerate(code.assignments):
            if (c, k) in walked.memories:
                name = a.target if a.target not in taken | set(columns) else f"{a.target}_{len(columns) + 1}"
                # the name of the variable itself is free: a column of another name holds what it remembers
                name = f"{name}_HELD"
                columns[name] = walked.memories[c, k]
                assignments.append(Assignment(a.target, ex.name(name), a.line))
            else:
                assignments.append(
                    Assignment(a.target, ex.replaced(a.value, lambda n: None if unset(n) is None else ex.number(0.0)), a.line)
                )
        out.append(Code(code.record, assignments, code.exits, code.texts))
    return out, columns
