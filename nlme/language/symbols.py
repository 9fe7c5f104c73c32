"""Formulas as they were written: sympy's expressions, put together without its own rearrangement.

sympy writes (wt / 70)^0.75 as 0.0413 wt^0.75 as soon as it may.  Everything here is therefore built unevaluated, and only
what a reader would leave out himself is: sums with 0, products with 1 or 0, exp(c log x) for x^c, choices between equal values,
and choices inside a choice by the same condition.  This file is where sympy comes in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import sympy
from sympy.core.function import AppliedUndef

Formula = sympy.Basic
Symbol, Function, Matrix = sympy.Symbol, sympy.Function, sympy.ImmutableMatrix
_EXACT = 1e15  # whole numbers below are integers
RELATIONS = {
    "Equality": "Eq",
    "Unequality": "Ne",
    "StrictLessThan": "Lt",
    "LessThan": "Le",
    "StrictGreaterThan": "Gt",
    "GreaterThan": "Ge",
}  # sympy's classes by the names that they are made with


_TURNED = {"Eq": "Eq", "Ne": "Ne", "Lt": "Gt", "Le": "Ge", "Gt": "Lt", "Ge": "Le"}


class whole_part(sympy.Function):
    """A number without what stands behind its point: 1 of 1.7, -1 of -1.7."""

    nargs = 1

    @classmethod
    def eval(cls, x):
        return sympy.Integer(int(x)) if isinstance(x, sympy.Number) and x.is_finite else None


def symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)


def number(value) -> Formula:
    """A number of a program: truth, a whole number, infinity, or the shortest decimal that is the same float."""
    if isinstance(value, bool | np.bool_):
        return sympy.true if value else sympy.false
    value = float(value)
    if math.isnan(value):
        return sympy.nan
    if math.isinf(value):
        return sympy.oo if value > 0 else -sympy.oo
    return sympy.Integer(int(value)) if value == int(value) and abs(value) < _EXACT else sympy.Float(value)


def is_number(x: Formula) -> bool:
    return isinstance(x, sympy.Number)


def add(a: Formula, b: Formula) -> Formula:
    if is_number(a) and is_number(b):
        return a + b
    if a == 0 or b == 0:
        return b if a == 0 else a
    return sympy.Add(*sympy.Add.make_args(a), *sympy.Add.make_args(b), evaluate=False)


def negative(a: Formula) -> Formula:
    return -a if is_number(a) else multiply(sympy.Integer(-1), a)


def subtract(a: Formula, b: Formula) -> Formula:
    return sympy.Integer(0) if a == b else add(a, negative(b))


def multiply(a: Formula, b: Formula) -> Formula:
    if is_number(a) and is_number(b):
        return a * b
    if a == 0 or b == 0:
        return sympy.Integer(0)
    sign, factors = 1, []
    for factor in (*sympy.Mul.make_args(a), *_pieces(b)):
        if factor in (1, -1):
            sign *= int(factor)
        elif factors and (n := _whole_power(factors[-1], factor)):
            factors[-1] = sympy.Pow(factor, n + 1, evaluate=False)
        else:
            factors.append(factor)
    factors = [sympy.Integer(-1), *factors] if sign < 0 else factors
    return factors[0] if len(factors) == 1 else sympy.Mul(*factors, evaluate=False)


def _whole_power(x: Formula, base: Formula) -> int:
    """n > 0 where ``x`` is written base^n, 0 otherwise."""
    if x == base and not is_number(x):
        return 1
    written = isinstance(x, sympy.Pow) and x.base == base and isinstance(x.exp, sympy.Integer) and x.exp > 0
    return int(x.exp) if written else 0


def _pieces(b: Formula) -> tuple[Formula, ...]:
    """The factors of what stands behind a product; a ratio stays one, with its sign in front."""
    factors = sympy.Mul.make_args(b)
    if len(factors) == 1 or not any(isinstance(f, sympy.Pow) and f.exp == -1 for f in factors):
        return factors
    sign, rest = (factors[:1], factors[1:]) if factors[0] == -1 else ((), factors)
    return *sign, (sympy.Mul(*rest, evaluate=False) if len(rest) > 1 else rest[0])


def divide(a: Formula, b: Formula) -> Formula:
    if is_number(a) and is_number(b):
        return a / b
    if a == 0:
        return a
    inverse = _inverse(b)
    return inverse if a == 1 else multiply(a, inverse)


def _inverse(b: Formula) -> Formula:
    if is_number(b):
        return b if b in (1, -1) else sympy.Pow(b, -1, evaluate=False)
    return b.base if isinstance(b, sympy.Pow) and b.exp == -1 else sympy.Pow(b, -1, evaluate=False)


def power(a: Formula, b: Formula) -> Formula:
    if is_number(a) and is_number(b):
        return number(np.power(float(a), float(b)))
    if b == 1:
        return a
    return sympy.Integer(1) if b == 0 else sympy.Pow(a, b, evaluate=False)


def root(a: Formula) -> Formula:
    return power(a, sympy.Rational(1, 2))


def exponential(a: Formula) -> Formula:
    """exp(a): x^c where a = c log x, and 0 where a is minus infinity, in each case."""
    if a == -sympy.oo:
        return sympy.Integer(0)
    if isinstance(a, sympy.log):
        return a.args[0]
    if isinstance(a, sympy.Mul) and len(of := [f for f in a.args if isinstance(f, sympy.log)]) == 1:
        exponent = _folded(multiply, [f for f in a.args if f is not of[0]])
        return _inverse(of[0].args[0]) if exponent == -1 else power(of[0].args[0], exponent)
    if isinstance(a, sympy.Piecewise) and any(value == -sympy.oo for value, _ in a.args):
        return cases([(exponential(value), condition) for value, condition in a.args])
    return function("exp")(a)


def fraction(a: int, b: int) -> Formula:
    return sympy.Rational(a, b)


def function(name: str) -> Callable[..., Formula]:
    """A function by its name in sympy, left as it stands."""
    kind = getattr(sympy, name)

    def applied(*args):
        if all(is_number(a) for a in args):
            return number(float(sympy.N(kind(*args), 17)))
        return kind(*args, evaluate=False)

    return applied


def extreme(name: str) -> Callable[[Formula, Formula], Formula]:
    """sympy's Max or Min of two, without infinities that change nothing; one within another is one."""
    kind = getattr(sympy, name)
    idle = -sympy.oo if kind is sympy.Max else sympy.oo

    def applied(a, b):
        parts = [p for x in (a, b) for p in (x.args if isinstance(x, kind) else (x,)) if p != idle]
        if all(map(is_number, parts)):
            return kind(*parts)
        return parts[0] if len(set(parts)) == 1 else kind(*parts, evaluate=False)

    return applied


def comparison(name: str) -> Callable[[Formula, Formula], Formula]:
    """A relation by its name in sympy; finite numbers are equal to themselves and to no infinity."""
    kind = getattr(sympy, name)

    def compared(a, b):
        if is_number(a) and is_number(b):
            return sympy.true if kind(a, b) == True else sympy.false  # noqa: E712
        if is_number(a):
            return comparison(_TURNED[name])(b, a)
        if a == b:
            return sympy.true if kind in (sympy.Eq, sympy.Le, sympy.Ge) else sympy.false
        if (infinite := {sympy.oo, -sympy.oo} & {a, b}) and kind in (sympy.Eq, sympy.Ne):
            return sympy.false if kind is sympy.Eq and infinite else sympy.true
        if kind in (sympy.Eq, sympy.Ne) and b in (0, 1) and (told := truth(a)) is not None:
            return told if (kind is sympy.Eq) == (b == 1) else opposite(told)
        return kind(a, b, evaluate=False)

    return compared


def truth(x: Formula) -> Formula | None:
    """The condition of which ``x`` is 1 where it holds and 0 where it does not."""
    if isinstance(x, sympy.Piecewise) and len(x.args) == 2 and (x.args[0][0], x.args[1][0]) == (1, 0):
        return x.args[0][1]
    return None


def opposite(condition: Formula) -> Formula:
    if isinstance(condition, sympy.logic.boolalg.BooleanAtom):
        return sympy.false if condition == sympy.true else sympy.true
    if isinstance(condition, sympy.Not):
        return condition.args[0]
    if isinstance(condition, sympy.core.relational.Relational):
        return condition.negated
    return sympy.Not(condition, evaluate=False)


def both(a: Formula, b: Formula) -> Formula:
    if sympy.false in (a, b):
        return sympy.false
    if sympy.true in (a, b) or a == b:
        return b if a == sympy.true else a
    return sympy.And(a, b, evaluate=False)


def either(a: Formula, b: Formula) -> Formula:
    return opposite(both(opposite(a), opposite(b))) if _simple(a, b) else sympy.Or(a, b, evaluate=False)


def _simple(a: Formula, b: Formula) -> bool:
    return a == b or any(isinstance(x, sympy.logic.boolalg.BooleanAtom) for x in (a, b))


def choose(condition: Formula, yes: Formula, no: Formula) -> Formula:
    """``yes`` where the condition holds, else ``no``."""
    if condition == sympy.true:
        return yes
    if condition == sympy.false:
        return no
    return cases([(assumed(yes, condition), condition), (assumed(no, opposite(condition)), sympy.true)])


def choose_truth(condition: Formula, yes: Formula, no: Formula) -> Formula:
    """The same of conditions."""
    return either(both(condition, yes), both(opposite(condition), no))


def cases(listed: Sequence[tuple[Formula, Formula]]) -> Formula:
    """The value of the first condition that holds; the last is always true."""
    flat: list[tuple[Formula, Formula]] = []
    for value, condition in listed:
        if condition == sympy.true and isinstance(value, sympy.Piecewise):
            flat += [(v, c) for v, c in value.args]
        elif condition != sympy.false:
            flat.append((value, condition))
        if condition == sympy.true:
            break
    *first, last = flat
    # a value that the last one takes anyway where its condition, an equality, holds
    while first and (first[-1][0] == last[0] or _is_equality(first[-1][1], last[0], first[-1][0])):
        first.pop()
    return sympy.Piecewise(*first, last, evaluate=False) if first else last[0]


def _is_equality(condition: Formula, x: Formula, value: Formula) -> bool:
    return isinstance(condition, sympy.Eq) and condition.args == (x, value)


def assumed(x: Formula, condition: Formula) -> Formula:
    """The same where a condition is known to hold."""
    if not x.has(sympy.Piecewise):
        return x
    if isinstance(x, sympy.Piecewise):
        kept = []
        for value, own in x.args:
            if own == opposite(condition):
                continue
            own = sympy.true if own == condition else own
            kept.append((assumed(value, condition), own))
            if own == sympy.true:
                break
        return cases(kept)
    args = [assumed(a, condition) for a in x.args]
    return x if all(a is b for a, b in zip(args, x.args, strict=True)) else rebuilt(x, args)


_MADE = {
    sympy.exp: exponential,
    sympy.Add: lambda *args: _folded(add, args),
    sympy.Mul: lambda *args: _folded(multiply, args),
    sympy.Pow: power,
}


def _folded(join: Callable, args: Sequence[Formula]) -> Formula:
    total = args[0]
    for a in args[1:]:
        total = join(total, a)
    return total


def rebuilt(x: Formula, args: Sequence[Formula]) -> Formula:
    """``x`` with other arguments, as unevaluated as it was."""
    if x.func in _MADE:
        return _MADE[x.func](*args)
    if isinstance(x, sympy.core.relational.Relational):
        return comparison(RELATIONS[x.func.__name__])(*args)
    if isinstance(x, sympy.Piecewise):
        return cases(args)
    return x.func(*args) if isinstance(x, AppliedUndef) or not x.args else x.func(*args, evaluate=False)


def replaced(x: Formula, new: Mapping[Formula, Formula]) -> Formula:
    """``x`` with symbols replaced, as unevaluated as it was."""
    if x in new:
        return new[x]
    if not x.args or not x.free_symbols & set(new):
        return x
    return rebuilt(x, [replaced(a, new) for a in x.args])


def network(name: str) -> Callable[..., Formula]:
    """A learned function that is not written out."""
    return sympy.Function(name, real=True)


def truncated(x: Formula) -> Formula:
    return x if is_number(x) and x == int(x) else whole_part(x, evaluate=False)


def size(x: Formula) -> int:
    """How many symbols, numbers and operations are written; what stands twice counts twice."""
    seen: dict[int, int] = {}

    def of(node) -> int:
        if id(node) not in seen:
            seen[id(node)] = 1 + sum(of(a) for a in node.args)
        return seen[id(node)]

    return of(x)


def position(x: Formula) -> Formula | None:
    """k where ``x`` is written as JAX makes a position of k: k + n where k is negative."""
    if isinstance(x, sympy.Piecewise) and len(x.args) == 2:
        (shifted, condition), (k, _) = x.args
        if condition == sympy.Lt(k, 0, evaluate=False) and isinstance(shifted, sympy.Add) and k in shifted.args:
            return k
    return None


def unclamped(x: Formula, last: int) -> Formula:
    """k where ``x`` is k, or its nearer end where that is not from 0 to ``last``."""
    if isinstance(x, sympy.Min) and len(x.args) == 2 and sympy.Integer(last) in x.args:
        (inner,) = (a for a in x.args if a != last)
        if isinstance(inner, sympy.Max) and len(inner.args) == 2 and sympy.Integer(0) in inner.args:
            return next(a for a in inner.args if a != 0)
    return x


def known_cases(x: Formula) -> list[tuple[int, Formula]] | None:
    """(number, condition) of a choice between numbers; None for anything else."""
    if isinstance(x, sympy.Piecewise) and all(isinstance(value, sympy.Integer) for value, _ in x.args):
        return [(int(value), condition) for value, condition in x.args]
    return None


def logarithms(x: Formula) -> list[Formula]:
    """What logarithms are taken of in ``x``, from outside to inside."""
    return [node.args[0] for node in sympy.preorder_traversal(x) if isinstance(node, sympy.log)]


def compared_with(x: Formula, bound: Formula) -> list[Formula]:
    """What is compared with ``bound`` in ``x``."""
    return [
        node.args[0]
        for node in sympy.preorder_traversal(x)
        if isinstance(node, sympy.core.relational.Relational) and node.args[1] == bound
    ]


def product_by(x: Formula, factor: Formula) -> Formula | None:
    """c where ``x`` is written c times ``factor``, or ``factor`` alone (c = 1)."""
    if x == factor:
        return sympy.Integer(1)
    own, last = sympy.Mul.make_args(x), _pieces(factor)
    if own[len(own) - len(last) :] != last:
        return None
    rest = own[: len(own) - len(last)]
    return sympy.Mul(*rest, evaluate=False) if len(rest) > 1 else rest[0] if rest else sympy.Integer(1)


def squared(x: Formula) -> Formula | None:
    """a where ``x`` is written a^2."""
    return x.base if isinstance(x, sympy.Pow) and x.exp == 2 else None


def terms(x: Formula) -> tuple[Formula, ...]:
    return sympy.Add.make_args(x)


def compiled(arguments: Sequence[Formula], x: Formula, functions: Mapping[str, Callable]) -> Callable[[Sequence[float]], float]:
    """``x`` as a function of numbers for ``arguments``, in plain Python; NaN where it has no real value."""
    own = {"whole_part": math.trunc, **functions}
    run = sympy.lambdify(list(arguments), x, modules=[own, "math"])

    def value(numbers):
        try:
            found = run(*numbers)
        except (ArithmeticError, ValueError, TypeError, NameError):  # a logarithm of -1, an infinity that is complex
            found = through_infinity(numbers)
        return math.nan if isinstance(found, complex) else float(found)

    def through_infinity(numbers):
        """The same where 1/0 is infinity, as it is in the model."""
        arrays = sympy.lambdify(list(arguments), x, modules=[{"whole_part": np.trunc, **functions}, "numpy"])
        try:
            with np.errstate(all="ignore"):
                return np.asarray(arrays(*map(np.float64, numbers))).item()
        except (ArithmeticError, ValueError, TypeError, NameError, AttributeError):
            return math.nan

    return value


def total(listed: Sequence[Formula]) -> Formula:
    return _folded(add, listed)


def without(x: Formula, taken: Formula) -> Formula:
    """a where ``x`` is written a - taken; otherwise x + taken."""
    if taken == 0:
        return x
    *first, last = terms(x)
    return total(first) if first and last == negative(taken) else add(x, taken)


def power_of(x: Formula, base: Formula) -> tuple[Formula, Formula] | None:
    """(c, g) where ``x`` is written c base^g, with whatever case for a base of 0."""
    *first, last = sympy.Mul.make_args(x)
    value = last_case(last)
    if not isinstance(value, sympy.Pow) or value.base != base:
        return None
    return _folded(multiply, first) if first else sympy.Integer(1), value.exp


def covariance(
    names: Sequence[str], blocks: Sequence[Sequence[int]], element: Callable[[int, int], Formula]
) -> sympy.ImmutableMatrix:
    """The covariance matrix of effects that are correlated within ``blocks``."""
    block_of = {k: b for b, block in enumerate(blocks) for k in block}

    def entry(i, j):
        return element(max(i, j), min(i, j)) if block_of[i] == block_of[j] else sympy.Integer(0)

    return sympy.ImmutableMatrix(len(names), len(names), entry)


def element(x) -> Formula:
    """The formula that an array of one element holds, or a number."""
    x = np.asarray(x)
    value = x.ravel()[0]
    return value if x.dtype == object else number(value)


def last_case(x: Formula) -> Formula:
    """The value of a choice where no condition holds; ``x`` itself where it is no choice."""
    return x.args[-1][0] if isinstance(x, sympy.Piecewise) else x


def calls(x: Formula) -> bool:
    """Whether there are learned functions in ``x``."""
    return bool(x.atoms(AppliedUndef))
