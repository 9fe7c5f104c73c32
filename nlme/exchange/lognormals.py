"""Individual parameters of the form theta exp(eta), which other programs want to be told as such."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from nlme.exchange.outline import Outline, Parameter, formulas_of
from nlme.language import symbols as s

Formula = Any


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """exp(log theta + sum of random effects): ``symbol`` stands for it in the formulas of the individual."""

    parameter: Parameter
    effects: tuple[str, ...]
    symbol: Formula


def log_normals(outline: Outline) -> tuple[list[LogNormal], dict[str, Formula]]:
    """The log-normal parameters, and the individual parameters' formulas in terms of them.

    A fixed effect and its random effects are put together where neither has a part in anything else.
    """
    found = outline.equations
    uses = _uses(formulas_of(found))
    positive = {p.symbol: p for p in outline.parameters if p.lower == 0.0 and math.isinf(p.upper)}
    names = {found.symbols[f"eta.{name}"]: name for block in outline.effects for name in block.names}
    made, formulas = [], {}
    for name, formula in found.individual.items():
        factors = formula.args if formula.func.__name__ == "Mul" else (formula,)
        theta = next((f for f in factors if f.is_Symbol and f.name in positive and uses[f] == 1), None)
        spread = next((f for f in factors if (etas := _effects(f, names)) and all(uses[e] == 1 for e in etas)), None)
        if theta is None or spread is None:
            formulas[name] = formula
            continue
        own = LogNormal(positive[theta.name], tuple(names[e] for e in _effects(spread, names)), s.symbol(f"<{theta.name}>"))
        made.append(own)
        rest = [f for f in factors if f is not theta and f is not spread]
        total = own.symbol
        for factor in rest:
            total = s.multiply(total, factor)
        formulas[name] = total
    return made, formulas


def _effects(x: Formula, names: dict[Formula, str]) -> list[Formula]:
    """The random effects of exp(eta + eta ..); none of anything else."""
    if x.func.__name__ != "exp":
        return []
    terms = list(s.terms(x.args[0]))
    return terms if all(t in names for t in terms) and len(set(terms)) == len(terms) else []


def _uses(formulas: Iterable[Formula]) -> Counter:
    """How often each symbol is written."""
    found: Counter = Counter()

    def visit(x: Formula) -> None:
        if x.is_Symbol:
            found[x] += 1
        for a in x.args:
            visit(a)

    for formula in formulas:
        visit(formula)
    return found
