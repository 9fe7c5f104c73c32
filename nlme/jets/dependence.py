"""Which inputs of a function can influence which of its outputs, read off the traced program; and one output without the others."""

from __future__ import annotations

from collections.abc import Callable

import jax
from jax.extend import core


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
            if not isinstance(var, core.Literal):
                sources |= reached.get(var, set())
        for var in equation.outvars:
            reached[var] = sources
    found = []
    for var in program.outvars:
        sources = set() if isinstance(var, core.Literal) else reached.get(var, set())
        found.append([k in sources for k in range(len(program.invars))])
    return found


class Outputs:
    """A function that returns a list, traced once, each element of which is computed without what only the others need.

    ``args`` hold arrays or shapes; the functions that ``alone`` gives take arrays of these shapes.
    """

    def __init__(self, function: Callable, *args):
        self._program, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        self._trees = [jax.tree.structure(shape) for shape in shapes]

    def alone(self, k: int) -> Callable:
        """Element ``k`` of what the function returns, as a function of the same arguments."""
        program, tree = self._program.jaxpr, self._trees[k]
        begin = sum(one.num_leaves for one in self._trees[:k])
        wanted = program.outvars[begin : begin + tree.num_leaves]
        needed, equations = {v for v in wanted if not isinstance(v, core.Literal)}, []
        for equation in reversed(program.eqns):
            if equation.effects or not needed.isdisjoint(equation.outvars):
                equations.append(equation)
                needed |= {v for v in equation.invars if not isinstance(v, core.Literal)}
        own = program.replace(eqns=equations[::-1], outvars=wanted)
        run = core.jaxpr_as_fun(core.ClosedJaxpr(own, self._program.consts))
        return lambda *args: tree.unflatten(run(*jax.tree.leaves(args)))
