"""Which inputs of a function can influence which of its outputs, read off the traced program."""

from __future__ import annotations

from collections.abc import Callable

import jax


def dependence(function: Callable, *args) -> list[list[bool]]:
    """For every output leaf of ``function(*args)``, which input leaves reach it.

    Conservative: an operation is taken to pass on every one of its inputs, so a True may be a dependence that happens to
    vanish, a False never hides one.  ``args`` may hold arrays or shapes.
    """
    program = jax.make_jaxpr(function)(*args).jaxpr
    reached = {var: {k} for k, var in enumerate(program.invars)}
    for equation in program.eqns:
        sources: set[int] = set()
        for var in equation.invars:
            if not isinstance(var, jax.extend.core.Literal):
                sources |= reached.get(var, set())
        for var in equation.outvars:
            reached[var] = sources
    found = []
    for var in program.outvars:
        sources = set() if isinstance(var, jax.extend.core.Literal) else reached.get(var, set())
        found.append([k in sources for k in range(len(program.invars))])
    return found
