"""Lists of assignments made shorter: what has no part, other names for the same thing, choices that are none."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import Assignment, folded

_LEAVES = ("THETA(", "ETA(", "A(")


def alive(assignments: Iterable[Assignment], wanted: set[str]) -> list[Assignment]:
    """The assignments that have a part in ``wanted``."""
    live, kept = set(wanted), []
    for a in reversed(list(assignments)):
        if a.target in live:
            reads = ex.names_in(a.value)
            live = (live - {a.target}) | reads
            kept.append(a)
    return kept[::-1]


def aliases(assignments: list[Assignment], later: bool = False) -> dict[str, str]:
    """V = VC, where neither changes afterwards; ``later``, behind the individual, SD = THETA(3) and CP = A(2) too."""
    counts: dict[str, int] = {}
    for a in assignments:
        counts[a.target] = counts.get(a.target, 0) + 1
    return {
        a.target: a.value.id
        for a in assignments
        if isinstance(a.value, ast.Name)
        and counts[a.target] == 1
        and (counts.get(a.value.id, 0) == 1 or a.value.id.startswith(_LEAVES) and (later or a.target.startswith("MU_")))
    }


def resolved(others: dict[str, str], name: str) -> str:
    """What an alias stands for in the end."""
    while name in others:
        name = others[name]
    return name


def without_aliases(assignments: list[Assignment], later: bool = True) -> list[Assignment]:
    """The same with aliases (but Y and the rates) replaced by what they stand for."""
    found = {n: o for n, o in aliases(assignments, later).items() if n != "Y" and not n.startswith("DADT(")}
    by = {n: ex.name(resolved(found, n)) for n in found}
    return [Assignment(a.target, ex.replaced(a.value, by), a.line) for a in assignments if a.target not in found]


def merged(assignments: list[Assignment]) -> list[Assignment]:
    """X = 0 and, next, IF (..) X = 1 as one assignment."""
    out: list[Assignment] = []
    for a in assignments:
        before = out[-1] if out else None
        if before is not None and before.target == a.target and isinstance(a.value, ast.Call) and a.value.func.id == ex.WHERE:
            once = sum(isinstance(n, ast.Name) and n.id == a.target for n in ast.walk(a.value)) == 1
            if once and before.target not in ex.names_in(before.value) and not isinstance(before.value, ast.Call):
                out[-1] = Assignment(a.target, ex.replaced(a.value, {a.target: before.value}), a.line)
                continue
        out.append(a)
    return out


def chosen(node: ast.expr) -> ast.expr:
    """An expression without choices whose condition is known, or that are between two equal things."""
    if isinstance(node, ast.Call):
        arguments = [chosen(a) for a in node.args]
        if node.func.id == ex.WHERE:
            return ex.where(folded(arguments[0]), *arguments[1:])
        return ex.call(node.func.id, *arguments)
    if isinstance(node, ast.BinOp):
        return ast.BinOp(chosen(node.left), node.op, chosen(node.right))
    if isinstance(node, ast.UnaryOp):
        return ast.UnaryOp(node.op, chosen(node.operand))
    return node
