"""What each symbol of a program is called in the model's file."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.items import TAKEN
from nlme.exchange.nonmem.naming import Names, effect_word, label_of, parameter_word, unit_of
from nlme.exchange.nonmem.program import Program

_ENDS = ("_occ",)


@dataclass
class Symbols:
    """Names of the fields, effects, covariates and variables of one program.

    Attributes
    ----------
    theta, sigma : number -> field
    eta : number -> name of the random effect
    covariate : data item -> name in ``cov``
    variable : variable of the code -> name
    units, labels : field -> text
    """

    theta: dict[int, str] = field(default_factory=dict)
    eta: dict[int, str] = field(default_factory=dict)
    sigma: dict[int, str] = field(default_factory=dict)
    covariate: dict[str, str] = field(default_factory=dict)
    variable: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def symbols_of(program: Program) -> Symbols:
    """Names for everything in ``program``."""
    symbols, fields = Symbols(), Names()
    first = _first_uses(program)
    for k, theta in enumerate(program.thetas, start=1):
        name = fields.give(parameter_word(theta.comment, _lone(first, f"THETA({k})", "THETA(")) or f"theta{k}")
        symbols.theta[k] = name
        _describe(symbols, name, theta.comment)
    effects = Names()
    for block in program.omegas:
        for place, k in enumerate(block.numbers):
            first_k = program.occasional.get(k, k)
            if first_k != k:
                symbols.eta[k] = symbols.eta[first_k]
                continue
            word = effect_word(block.comments[place], _lone(first, f"ETA({k})", "ETA("))
            symbols.eta[k] = effects.give((word or f"eta{k}") + ("_occ" if k in program.occasional else ""))
    _name_sigmas(program, symbols, fields)
    covariates = Names(())
    for name in [*program.items.columns, *program.held]:
        plain = name.removesuffix("_HELD").lower()
        symbols.covariate[name] = covariates.give(f"{plain}_item" if plain.upper() in TAKEN else plain)
    variables = Names()
    for code in (program.main, program.error, program.des):
        for a in code.assignments if code else ():
            if a.target not in symbols.variable:
                symbols.variable[a.target] = variables.give(_variable_word(program, a.target))
    return symbols


def _variable_word(program: Program, target: str) -> str:
    match = re.fullmatch(r"(A_0|DADT|P|COM)\((\d+)\)", target)
    if match is None:
        return target.lower()
    states = program.compartments.states
    if match[1] in ("A_0", "DADT") and int(match[2]) <= len(states):
        return states[int(match[2]) - 1] + ("_start" if match[1] == "A_0" else "_rate")
    return f"{match[1].lower()}{match[2]}"


def _describe(symbols: Symbols, name: str, comment: str) -> None:
    unit, label = unit_of(comment), re.sub(rf"^{re.escape(name)}\s*:\s*", "", label_of(comment), flags=re.IGNORECASE)
    if unit:
        symbols.units[name] = unit
    if label and label.lower() != name:
        symbols.labels[name] = label


def _first_uses(program: Program) -> dict[str, tuple[str, ast.expr]]:
    """Symbol -> (variable, value) of the first assignment that reads it."""
    found: dict[str, tuple[str, ast.expr]] = {}
    for code in (program.main, program.error, program.des):
        for a in code.assignments if code else ():
            for name in ex.names_in(a.value):
                found.setdefault(name, (a.target, a.value))
    return found


def _lone(first: dict[str, tuple[str, ast.expr]], symbol: str, kind: str) -> str:
    """The variable that a symbol makes, if no other of its kind has a part in it."""
    if symbol not in first:
        return ""
    target, value = first[symbol]
    if isinstance(value, ast.Name) and target in first:
        # MU_1 = THETA(1), CL = EXP(MU_1 + ETA(1)): the logarithm of a clearance
        owner, expression = first[target]
        inside = isinstance(expression, ast.Call) and expression.func.id == "jnp.exp"
        if sum(n.startswith(("MU_", kind)) for n in ex.names_in(expression)) == 1:
            return f"LOG_{owner}" if inside and kind == "THETA(" else owner
    alone = sum(name.startswith(kind) for name in ex.names_in(value)) == 1
    if not alone or not re.fullmatch(r"\w+", target) or target.endswith("_BEFORE"):
        return ""
    logarithm = kind == "THETA(" and isinstance(value, ast.Call) and value.func.id == "jnp.exp"
    return f"LOG_{target}" if logarithm else target


def _name_sigmas(program: Program, symbols: Symbols, fields: Names) -> None:
    """Standard deviations of the residual errors; those fixed at a variance of 1 are none."""
    many = len([b for b in program.sigmas if not b.same]) > 1
    for block in program.sigmas:
        for place, k in enumerate(block.numbers):
            if block.same:
                symbols.sigma[k] = symbols.sigma[block.same + place]
                continue
            if block.fixed and block.matrix[place, place] == 1.0:
                symbols.sigma[k] = ""
                continue
            comment = block.comments[place]
            word = effect_word(comment, "").lower()
            known = {"prop": "prop", "proportional": "prop", "add": "add", "additive": "add"}
            word = known.get(word.split("_")[0], word) or (f"sigma{k}" if many else "sigma")
            symbols.sigma[k] = fields.give(word)
            if label_of(comment) and label_of(comment).lower() != symbols.sigma[k]:
                symbols.labels[symbols.sigma[k]] = label_of(comment)
