"""Whether a system of equations is linear with constant coefficients, read off the traced program.

Every quantity in the program of ``flow(t, a)`` is one of

    constant    neither time nor a state reaches it
    combination sum_k c_k a_k with constants c_k, of known states (none: it is zero)
    other       anything else: products of states, functions of time, a combination plus a constant

and the rules are those of the operations: a combination times or divided by a constant is a combination, so is a sum of them.
Operations without a rule make something other, so that what is found linear is.

Constants are known as sums of products of symbols, as far as they are numbers made by arithmetic: what leaves the depot is then
seen to be what enters the central compartment, and derivatives are carried in as few numbers as there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nlme.jets.chain import CALLS, LINEAR
from nlme.structure.assembly import rules_of
from nlme.structure.base import Structure
from nlme.structure.linear import Linear, reached
from nlme.structure.ode import ODE

_SUMS = {"add", "sub", "add_any", "concatenate", "stack", "pad"}
_LARGEST = 40  # elements of exp(K t)
_LONGEST = 30  # terms that a product is written out in

_Terms = dict[tuple[tuple[int, int], ...], float]  # the factor of every product of symbols, given by their powers


class Element(NamedTuple):
    """What an element of K is: those of one ``number`` are equal but for the ``sign``."""

    number: int
    sign: float


class _Constant(NamedTuple):
    terms: _Terms


_OTHER = None
_Kind = _Constant | dict[int, _Terms] | None  # a combination has the coefficient of every state in it


def flows_of(structure: Structure) -> dict[tuple[int, int], Element] | None:
    """The elements (row, column) of K that can differ from zero, of an ``ODE`` that is da/dt = K a with a constant K.

    None where its equations are anything else, for systems that start elsewhere than at zero, have event times of their own, delays or
    algebraic equations, for large ones, where steps are cheaper than products of matrices, and for other structures.
    """
    if not isinstance(structure, ODE) or structure.initial or structure.event_times:
        return None
    size = len(structure.states)
    if structure.algebraic or structure.delays or structure.wide or size > _LARGEST:
        return None
    number = jax.ShapeDtypeStruct((), float)
    program = jax.make_jaxpr(structure.flow)(number, (number,) * size)
    slopes = _Reading().through(program, [_OTHER, *({k: {(): 1.0}} for k in range(size))])
    if not all(isinstance(slope, dict) for slope in slopes):
        return None
    numbers: dict = {}
    elements = {}
    for k, slope in enumerate(slopes):
        for j in sorted(slope):
            terms = sorted(slope[j].items())
            sign = -1.0 if terms and terms[0][1] < 0.0 else 1.0
            key = tuple((powers, sign * factor) for powers, factor in terms)
            elements[k, j] = Element(numbers.setdefault(key, len(numbers)), sign)
    return elements if sum(len(reached([k], elements)) for k in range(size)) <= _LARGEST else None


def as_exponential(structure: ODE, elements: dict[tuple[int, int], Element]) -> Linear:
    """The same system by its matrix exponential, ``elements`` being what ``flows_of`` found."""
    matrix = jax.vmap(lambda a: jnp.stack(structure.flow(jnp.zeros(()), tuple(a))), out_axes=1)(np.eye(len(structure.names)))
    names = structure.names
    values: dict = {}  # one array for each number, and for its negative

    def rate(k, j, sign):
        number, own = elements[k, j]
        if (number, sign * own) not in values:
            values[number, sign * own] = sign * matrix[k, j]
        return values[number, sign * own]

    losses = {(names[j], None): rate(j, j, -1.0) for k, j in elements if k == j}
    drives = {(names[j], names[k]): rate(k, j, 1.0) for k, j in elements if k != j}
    return Linear(names, losses, drives, **rules_of(structure))


class _Reading:
    """What the quantities of one program are, and the symbols that its constants are made of."""

    def __init__(self) -> None:
        self._symbols: dict = {}

    def _symbol(self, key) -> _Terms:
        return {((self._symbols.setdefault(key, len(self._symbols)), 1),): 1.0}

    def through(self, program: core.ClosedJaxpr, given: Sequence[_Kind]) -> list[_Kind]:
        """What each result is, from what the arguments are."""
        jaxpr = program.jaxpr
        known = dict(zip(jaxpr.constvars, map(self._of_value, program.consts), strict=True))
        known |= zip(jaxpr.invars, given, strict=True)

        def of(v) -> _Kind:
            return self._of_value(v.val) if isinstance(v, core.Literal) else known[v]

        for equation in jaxpr.eqns:
            known |= zip(equation.outvars, self._after(equation, [of(v) for v in equation.invars]), strict=True)
        return [of(v) for v in jaxpr.outvars]

    def _of_value(self, value) -> _Kind:
        known = not isinstance(value, jax.core.Tracer)
        if known and not np.any(np.asarray(value)):
            return {}
        return _Constant({(): float(value)} if known and np.ndim(value) == 0 else self._symbol(id(value)))

    def _after(self, equation, kinds: list[_Kind]) -> list[_Kind]:
        name, count = equation.primitive.name, len(equation.outvars)
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            return self.through(inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ()), kinds)
        states = {k for kind in kinds if isinstance(kind, dict) for k in kind}
        if _OTHER in kinds or states and not all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars):
            return [_OTHER] * count  # the latter is rounded, or compared
        scalar = all(v.aval.shape == () and v.aval.dtype == float for v in (*equation.invars, *equation.outvars))
        if not states:  # zeros are constants too
            if name in LINEAR | _SUMS and all(isinstance(kind, dict) for kind in kinds):
                return [{}] * count
            return [_Constant(self._number(equation, kinds, n if scalar else object())) for n in range(count)]
        found = self._combined(name, kinds, states)
        if found is not None and not scalar:  # the coefficients of its elements may differ
            found = {k: self._symbol(object()) for k in found}
        return [found] * count

    def _number(self, equation, kinds: list, which) -> _Terms:
        """The terms of a constant computed from constants; ``which`` tells it from others of the same operation."""
        name, terms = equation.primitive.name, [kind.terms if isinstance(kind, _Constant) else {} for kind in kinds]
        if isinstance(which, int):
            if name in ("add", "sub", "add_any"):
                return _sum(*terms, -1.0 if name == "sub" else 1.0)
            if name in LINEAR:
                return _sum({}, terms[0], -1.0 if name == "neg" else 1.0)
            if name in ("mul", "div"):
                return self._product(terms[0], terms[1] if name == "mul" else self._inverse(terms[1]))
        return self._symbol((name, str(equation.params), tuple(map(_key, terms)), which))

    def _combined(self, name: str, kinds: list, states: set[int]) -> dict[int, _Terms] | None:
        """The combination that an operation gives, with its coefficients if all are numbers; None for something other."""
        combined = [isinstance(kind, dict) for kind in kinds]
        if name in LINEAR and combined[0] and kinds[0].keys() == states:
            return {k: _sum({}, terms, -1.0 if name == "neg" else 1.0) for k, terms in kinds[0].items()}
        if name in _SUMS and all(combined):
            sign = -1.0 if name == "sub" else 1.0
            return {k: _sum(kinds[0].get(k, {}), kinds[-1].get(k, {}), sign) for k in states}
        if name in ("mul", "dot_general") and {} in kinds:
            return {}
        if name in ("mul", "dot_general") and not all(combined):
            (by,) = (kind.terms for kind in kinds if isinstance(kind, _Constant))
            (whole,) = (kind for kind in kinds if isinstance(kind, dict))
            return {k: self._product(terms, by) for k, terms in whole.items()}
        if name == "div" and not combined[1]:
            return {k: self._product(terms, self._inverse(kinds[1].terms)) for k, terms in kinds[0].items()}
        if name == "select_n" and (isinstance(kinds[0], _Constant) or not kinds[0]) and all(combined[1:]):
            return {k: self._symbol(object()) for k in states}
        return _OTHER

    def _product(self, a: _Terms, b: _Terms) -> _Terms:
        if len(a) * len(b) > _LONGEST:
            return self._symbol(("product", _key(a), _key(b)))
        total: _Terms = {}
        for p, x in a.items():
            for q, y in b.items():
                powers = dict(p)
                for symbol, power in q:
                    powers[symbol] = powers.get(symbol, 0) + power
                total = _sum(total, {tuple(sorted((s, n) for s, n in powers.items() if n)): x * y})
        return total

    def _inverse(self, a: _Terms) -> _Terms:
        if len(a) != 1:
            ((powers, _),) = self._symbol(("sum", _key(a))).items()
            return {tuple((symbol, -power) for symbol, power in powers): 1.0}
        ((powers, factor),) = a.items()
        return {tuple((symbol, -power) for symbol, power in powers): 1.0 / factor}


def _sum(a: _Terms, b: _Terms, sign: float = 1.0) -> _Terms:
    """a + sign b."""
    total = a | {powers: a.get(powers, 0.0) + sign * factor for powers, factor in b.items()}
    return {powers: factor for powers, factor in total.items() if factor != 0.0}


def _key(terms: _Terms) -> tuple:
    return tuple(sorted(terms.items()))
