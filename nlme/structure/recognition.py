"""Whether a system of equations is linear with constant coefficients, read off the traced program.

Every quantity in the program of ``flow(t, a)`` is one of

    constant    neither time nor a state reaches it
    combination sum_k c_k a_k with constants c_k, of known states (none: it is zero)
    other       anything else: products of states, functions of time, a combination plus a constant

and the rules are those of the operations: a combination times or divided by a constant is a combination, so is a sum of them.
Operations without a rule make something other, so that what is found linear is.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nlme.structure.assembly import rules_of
from nlme.structure.base import Structure
from nlme.structure.chain import CALLS, LINEAR
from nlme.structure.linear import Linear, reached
from nlme.structure.ode import ODE

_SUMS = {"add", "sub", "add_any", "concatenate", "stack", "pad"}
_LARGEST = 40  # elements of exp(K t)

_CONSTANT, _OTHER, _ZERO = "constant", "other", frozenset()
_Kind = str | frozenset[int]


def flows_of(structure: Structure) -> list[tuple[int, int]] | None:
    """The elements (row, column) of K that can differ from zero, of an ``ODE`` that is da/dt = K a with a constant K.

    None where its equations are anything else, for systems that start elsewhere than at zero or have event times of their own, for
    large ones, where steps are cheaper than products of matrices, and for other structures.
    """
    if not isinstance(structure, ODE) or structure.initial or structure.event_times:
        return None
    size = len(structure.names)
    number = jax.ShapeDtypeStruct((), float)
    program = jax.make_jaxpr(structure.flow)(number, (number,) * size)
    kinds = _kinds(program, [_OTHER, *(frozenset((k,)) for k in range(size))])
    if not all(isinstance(kind, frozenset) for kind in kinds):
        return None
    elements = [(k, j) for k, kind in enumerate(kinds) for j in sorted(kind)]
    return elements if sum(len(reached([k], elements)) for k in range(size)) <= _LARGEST else None


def as_exponential(structure: ODE, elements: list[tuple[int, int]]) -> Linear:
    """The same system by its matrix exponential, ``elements`` being what ``flows_of`` found."""
    matrix = jax.vmap(lambda a: jnp.stack(structure.flow(jnp.zeros(()), tuple(a))), out_axes=1)(jnp.eye(len(structure.names)))
    names = structure.names
    losses = {(names[j], None): -matrix[j, j] for k, j in elements if k == j}
    drives = {(names[j], names[k]): matrix[k, j] for k, j in elements if k != j}
    return Linear(names, losses, drives, **rules_of(structure))


def _kinds(program: core.ClosedJaxpr, given: Sequence[_Kind]) -> list[_Kind]:
    """What each result is, from what the arguments are."""
    jaxpr = program.jaxpr
    known = dict(zip(jaxpr.constvars, map(_of_value, program.consts), strict=True)) | dict(zip(jaxpr.invars, given, strict=True))

    def of(v) -> _Kind:
        return _of_value(v.val) if isinstance(v, core.Literal) else known[v]

    for equation in jaxpr.eqns:
        known |= zip(equation.outvars, _after(equation, [of(v) for v in equation.invars]), strict=True)
    return [of(v) for v in jaxpr.outvars]


def _of_value(value) -> _Kind:
    return _CONSTANT if isinstance(value, jax.core.Tracer) or np.any(np.asarray(value)) else _ZERO


def _after(equation, kinds: list[_Kind]) -> list[_Kind]:
    name, count = equation.primitive.name, len(equation.outvars)
    if name in CALLS:
        inner = equation.params[CALLS[name]]
        return _kinds(inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ()), kinds)
    combined = [isinstance(kind, frozenset) for kind in kinds]
    together = frozenset().union(*(kind for kind in kinds if isinstance(kind, frozenset)))
    if together and not all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars):
        return [_OTHER] * count  # rounded, or compared
    if _OTHER not in kinds:
        if not together:  # zeros are constants too
            return [_ZERO if name in LINEAR | _SUMS and all(combined) else _CONSTANT] * count
        if name in LINEAR and kinds[0] == together or name in _SUMS and all(combined):
            return [together]
        if name in ("mul", "dot_general") and (_ZERO in kinds or not all(combined)):
            return [_ZERO if _ZERO in kinds else together]
        if name == "div" and not combined[1]:
            return [together]
        if name == "select_n" and kinds[0] in (_CONSTANT, _ZERO) and all(combined[1:]):
            return [together]
    return [_OTHER] * count
