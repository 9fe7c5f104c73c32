"""Expressions of abbreviated code as Python's own syntax trees, and what is asked of them.

A name keeps NM-TRAN's spelling (``CL``, ``THETA(3)``, ``A(2)``); functions have the names that they get in the model's file
(``jnp.exp``).  ``where(condition, yes, no)`` is what IF becomes.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping

#: NM-TRAN's function -> its name in the model's file
FUNCTIONS = {
    "EXP": "jnp.exp", "LOG": "jnp.log", "LOG10": "jnp.log10", "SQRT": "jnp.sqrt", "SIN": "jnp.sin", "COS": "jnp.cos",
    "TAN": "jnp.tan", "ASIN": "jnp.arcsin", "ACOS": "jnp.arccos", "ATAN": "jnp.arctan", "ABS": "jnp.abs", "INT": "jnp.trunc",
    "MOD": "jnp.fmod", "PHI": "jax.scipy.stats.norm.cdf", "GAMLN": "jax.scipy.special.gammaln", "MIN": "jnp.minimum",
    "MAX": "jnp.maximum",
}  # fmt: skip
for _name in ("EXP", "LOG", "LOG10", "SQRT", "SIN", "COS", "TAN", "ASIN", "ACOS", "ATAN", "ABS", "INT", "MOD"):
    FUNCTIONS["D" + _name] = FUNCTIONS[_name]
FUNCTIONS |= {"ALOG": "jnp.log", "ALOG10": "jnp.log10"}
WHERE = "jnp.where"


def name(identifier: str) -> ast.Name:
    return ast.Name(identifier, ast.Load())


def number(value: float) -> ast.Constant:
    return ast.Constant(value)


class _Signs(ast.NodeTransformer):
    def visit_Constant(self, node):
        return ast.UnaryOp(ast.USub(), number(-node.value)) if is_number(node) and node.value < 0 else node


def text(node: ast.expr) -> str:
    """As Python writes it, a negative number as the negative of a number: -1 to the power 2 is (-1) ** 2."""
    return ast.unparse(_Signs().visit(_copy(node)))


def call(function: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(name(function), list(arguments), [])


def where(condition: ast.expr, yes: ast.expr, no: ast.expr) -> ast.expr:
    """``jnp.where``, folded where the condition is known or both sides are the same."""
    if isinstance(condition, ast.Constant):
        return yes if condition.value else no
    return yes if same(yes, no) else call(WHERE, condition, yes, no)


def applied(function: str, arguments: list[ast.expr]) -> ast.expr | None:
    """A function of abbreviated code; None if it does not take so many arguments.  MIN and MAX take two or more."""
    found = FUNCTIONS[function]
    if function in ("MIN", "MAX") and len(arguments) > 1:
        return functools.reduce(lambda a, b: call(found, a, b), arguments)
    takes = 2 if found in ("jnp.fmod", "jnp.minimum", "jnp.maximum") else 1
    return call(found, *arguments) if len(arguments) == takes else None


_SMALL = 2.8e-103  # SMALLZ of NONMEM's protected functions
#: protected function -> what it is within its bounds: Guide VIII, "protect functions"
PROTECTED = {
    "PEXP": lambda x: call("jnp.exp", call("jnp.minimum", x, number(100.0))),
    "PLOG": lambda x: call("jnp.log", call("jnp.maximum", x, number(_SMALL))),
    "PLOG10": lambda x: call("jnp.log10", call("jnp.maximum", x, number(_SMALL))),
    "PSQRT": lambda x: call("jnp.sqrt", call("jnp.maximum", x, number(0.0))),
    "PDZ": lambda x: ast.BinOp(number(1), ast.Div(), x),
    "PZR": lambda x: x,
    "PNP": lambda x: call("jnp.maximum", x, number(_SMALL)),
    "PHE": lambda x: call("jnp.minimum", x, number(100.0)),
    "PNG": lambda x: call("jnp.maximum", x, number(0.0)),
    "PTAN": lambda x: call("jnp.tan", x),
    "PATAN": lambda x: call("jnp.arctan", x),
}


def same(a: ast.expr, b: ast.expr) -> bool:
    return ast.dump(a) == ast.dump(b)


def is_number(node: ast.expr, value: float | None = None) -> bool:
    plain = isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool)
    return plain and (value is None or node.value == value)


def names_in(node: ast.AST) -> set[str]:
    """The variables, without the functions."""
    functions = {id(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)}
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and id(part) not in functions}


class _Replaced(ast.NodeTransformer):
    def __init__(self, by: Callable[[str], ast.expr | None]):
        self._by = by

    def visit_Call(self, node):
        return ast.Call(node.func, [self.visit(a) for a in node.args], node.keywords)

    def visit_Name(self, node):
        found = self._by(node.id)
        return node if found is None else found


def replaced(node: ast.expr, by: Mapping[str, ast.expr] | Callable[[str], ast.expr | None]) -> ast.expr:
    """The expression with names replaced by expressions; the original is left alone."""
    lookup = by if callable(by) else by.get
    return _Replaced(lookup).visit(_copy(node))


def _copy(node: ast.expr) -> ast.expr:
    return ast.parse("0", mode="eval").body if node is None else _clone(node)


def _clone(node):
    if isinstance(node, ast.AST):
        return type(node)(**{f: _clone(v) for f, v in ast.iter_fields(node)})
    return [_clone(v) for v in node] if isinstance(node, list) else node


def add(a: ast.expr, b: ast.expr) -> ast.expr:
    if is_number(a, 0):
        return b
    return a if is_number(b, 0) else ast.BinOp(a, ast.Add(), b)


def subtract(a: ast.expr, b: ast.expr) -> ast.expr:
    if is_number(b, 0):
        return a
    return negative(b) if is_number(a, 0) else ast.BinOp(a, ast.Sub(), b)


def negative(a: ast.expr) -> ast.expr:
    return number(-a.value) if is_number(a) else ast.UnaryOp(ast.USub(), a)


def multiply(a: ast.expr, b: ast.expr) -> ast.expr:
    if is_number(a, 0) or is_number(b, 0):
        return number(0)
    if is_number(a, 1):
        return b
    return a if is_number(b, 1) else ast.BinOp(a, ast.Mult(), b)


def divide(a: ast.expr, b: ast.expr) -> ast.expr:
    if is_number(a, 0):
        return number(0)
    return a if is_number(b, 1) else ast.BinOp(a, ast.Div(), b)


def power(a: ast.expr, b: ast.expr) -> ast.expr:
    if is_number(b, 0):
        return number(1)
    return a if is_number(b, 1) else ast.BinOp(a, ast.Pow(), b)


def simplified(node: ast.expr) -> ast.expr:
    """Zeros and ones folded away, and conditions that are known."""
    if isinstance(node, ast.BinOp):
        rule = {ast.Add: add, ast.Sub: subtract, ast.Mult: multiply, ast.Div: divide, ast.Pow: power}[type(node.op)]
        a, b = simplified(node.left), simplified(node.right)
        if isinstance(node.op, ast.Pow) and is_number(a, 0) and is_number(b) and b.value > 0:
            return number(0)
        return rule(a, b)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return negative(simplified(node.operand))
    if isinstance(node, ast.Call):
        arguments = [simplified(a) for a in node.args]
        if node.func.id == WHERE:
            return where(*arguments)
        if node.func.id == "jnp.exp" and is_number(arguments[0], 0):
            return number(1)
        return call(node.func.id, *arguments)
    return node


def derivative(node: ast.expr, of: Callable[[str], ast.expr | None]) -> ast.expr:
    """d node / dx, where ``of(name)`` is d name / dx, None for 0.

    Raises
    ------
    ValueError
        A function whose derivative is not known here.
    """
    if isinstance(node, ast.Name):
        return of(node.id) or number(0)
    if isinstance(node, ast.Constant):
        return number(0)
    if isinstance(node, ast.UnaryOp):
        return negative(derivative(node.operand, of))
    if isinstance(node, ast.BinOp):
        return _of_operation(node, derivative(node.left, of), derivative(node.right, of))
    if isinstance(node, ast.Call):
        if node.func.id == WHERE:
            condition, yes, no = node.args
            return where(condition, derivative(yes, of), derivative(no, of))
        slopes = [derivative(a, of) for a in node.args]
        if all(is_number(s, 0) for s in slopes):
            return number(0)
        (x,), (dx,) = node.args[:1], slopes[:1]
        known = {
            "jnp.exp": lambda: node,
            "jnp.log": lambda: divide(number(1), x),
            "jnp.sqrt": lambda: divide(number(0.5), node),
        }
        if node.func.id in known and len(slopes) == 1:
            return multiply(known[node.func.id](), dx)
    raise ValueError(text(node))


def _of_operation(node: ast.BinOp, da: ast.expr, db: ast.expr) -> ast.expr:
    a, b = node.left, node.right
    if isinstance(node.op, ast.Add):
        return add(da, db)
    if isinstance(node.op, ast.Sub):
        return subtract(da, db)
    if isinstance(node.op, ast.Mult):
        return add(multiply(da, b), multiply(a, db))
    if isinstance(node.op, ast.Div):
        return subtract(divide(da, b), divide(multiply(a, db), power(b, number(2))))
    if is_number(db, 0):
        return multiply(multiply(b, power(a, subtract_one(b))), da)
    if is_number(da, 0):
        return multiply(multiply(node, call("jnp.log", a)), db)
    raise ValueError(text(node))


def subtract_one(b: ast.expr) -> ast.expr:
    return number(b.value - 1) if is_number(b) else subtract(b, number(1))
