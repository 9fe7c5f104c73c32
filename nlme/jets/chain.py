"""The chain rule carried through a traced function equation by equation, with only the columns that can differ from zero.

Which columns of a jet can differ from zero (``nlme.jets.sparse``) is known when the function is traced, and products are
written out for those alone:

    z = x y:    z_i = x_i y + x y_i        z_ij = x_ij y + x y_ij + x_i y_j + x_j y_i

where terms with a column that is not occupied are left out.  An operation for which there is no rule here goes through JAX's
own forward mode, in the columns that its arguments occupy (``Columns.push``); so do loops, for first derivatives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from nlme.jets.jet import Columns, Jet
from nlme.jets.sparse import Occupied, Sparse, along, combined

LINEAR = {
    "broadcast_in_dim", "convert_element_type", "copy", "dynamic_slice", "gather", "neg", "real", "reduce_sum", "reshape",
    "rev", "slice", "squeeze", "transpose",
}  # in their first argument; the others are indices  # fmt: skip
_UNARY = {
    "abs", "atan", "cbrt", "cos", "cosh", "erf", "exp", "exp2", "expm1", "integer_pow", "lgamma", "log", "log1p", "logistic",
    "rsqrt", "sin", "sinh", "sqrt", "square", "tan", "tanh",
}  # fmt: skip
_BINARY = {"atan2", "max", "min", "pow"}
_JOINED = {"concatenate": "dimension", "stack": "axis"}
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr"}


class Chain:
    """``function`` of arrays, traced, to be applied to the jets of some arguments again and again while the others stay.

    Parameters
    ----------
    columns : which derivatives there are
    moving : arrays like the values of the arguments that will be given with each call
    fixed : the jets of the arguments after these; what depends on them alone is computed once, here
    """

    def __init__(self, columns: Columns, function: Callable, moving: Sequence[Array], fixed: Sequence[Sparse] = ()):
        closed = jax.make_jaxpr(function)(*moving, *(x.value for x in fixed))
        self._begin(columns, closed, slice(0, len(moving)), fixed)

    @classmethod
    def of_traced(cls, columns: Columns, closed: core.ClosedJaxpr, fixed: Sequence[Sparse] = ()) -> Chain:
        """That of a function already traced, all of whose arguments move but the first ones, whose jets are given."""
        chain = cls.__new__(cls)
        chain._begin(columns, closed, slice(len(fixed), None), fixed)
        return chain

    def _begin(self, columns, closed: core.ClosedJaxpr, moving: slice, fixed: Sequence[Sparse]) -> None:
        self.columns, self.jaxpr = columns, closed.jaxpr
        self._moving = self.jaxpr.invars[moving]
        self._known: dict = dict(zip(self.jaxpr.constvars, map(Sparse, closed.consts), strict=True))
        self._known |= zip((v for v in self.jaxpr.invars if v not in self._moving), fixed, strict=True)
        self._late = []
        for equation in self.jaxpr.eqns:
            if all(isinstance(v, core.Literal) or v in self._known for v in equation.invars) and not equation.effects:
                self._apply(equation, self._known)
            else:
                self._late.append(equation)

    def __call__(self, *moving: Sparse) -> list[Sparse]:
        """Jets of the function's results, in order."""
        known = dict(self._known)
        known |= zip(self._moving, moving, strict=True)
        for equation in self._late:
            self._apply(equation, known)
        return [self._read(v, known) for v in self.jaxpr.outvars]

    def _read(self, v, known) -> Sparse:
        found = Sparse(v.val) if isinstance(v, core.Literal) else known[v]
        return found.whole() if isinstance(found, _Joined) else found

    def _apply(self, equation, known: dict) -> None:
        name = equation.primitive.name
        if name == "slice" and (piece := self._piece(equation, known)) is not None:
            known[equation.outvars[0]] = piece
            return
        inputs = [self._read(v, known) for v in equation.invars]
        if name in _JOINED:
            known[equation.outvars[0]] = _Joined(equation, _binding(equation, self.jaxpr), inputs)
            return
        for variable, out in zip(equation.outvars, self._pushed(equation, inputs), strict=True):
            known[variable] = out

    def _piece(self, equation, known) -> Sparse | None:
        """A slice that takes just one of the arrays that were joined: that array, which may have fewer columns."""
        (v,) = equation.invars
        joined = None if isinstance(v, core.Literal) else known[v]
        if not isinstance(joined, _Joined) or any(step != 1 for step in equation.params["strides"] or ()):
            return None
        begin, end, axis = equation.params["start_indices"], equation.params["limit_indices"], joined.axis
        others = [k for k in range(len(begin)) if k != axis]
        if any(begin[k] != 0 or end[k] != v.aval.shape[k] for k in others):
            return None
        return joined.piece(begin[axis], end[axis])

    def _pushed(self, equation, inputs: list[Sparse]) -> list[Sparse]:
        name, bind = equation.primitive.name, _binding(equation, self.jaxpr)
        carried = [x.occupied != Occupied() for x in inputs]
        if not any(carried) or not any(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in equation.outvars):
            out = bind(*(x.value for x in inputs))
            return [Sparse(y) for y in (out if equation.primitive.multiple_results else [out])]
        if name in CALLS:
            inner = equation.params[CALLS[name]]
            inner = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
            return Chain.of_traced(self.columns, inner)(*inputs)
        if name in ("add", "sub", "add_any"):
            return [self._sum(bind, *inputs, -1.0 if name == "sub" else 1.0)]
        if name == "mul":
            return [self._product(bind, *inputs)]
        if name == "div":
            return [self._quotient(bind, *inputs)]
        if name in LINEAR and carried[0] and not any(carried[1:]):
            return [along(lambda x: bind(x, *(i.value for i in inputs[1:])), inputs[0])]
        if name in _UNARY:
            return [self._unary(bind, inputs[0])]
        if name in _BINARY:
            return [self._binary(bind, *inputs)]
        if name == "select_n" and not carried[0]:
            return [self._selected(bind, *inputs)]
        turns = equation.params.get("length") != 0  # of a scan
        if (
            name in ("while", "scan") and turns and self.columns.pairs
        ):  # for first derivatives alone it is not worth its compilation
            # what begins as a number is to be carried as an array
            values = [jnp.asarray(x.value, v.aval.dtype) for x, v in zip(inputs, equation.invars, strict=True)]
            inputs = [Sparse(value, x.first, x.second, x.occupied) for value, x in zip(values, inputs, strict=True)]
            return (self._while if name == "while" else self._scan)(equation.params, inputs)
        return self._generic(equation, bind, inputs)

    def _sum(self, bind, x: Sparse, y: Sparse, sign: float) -> Sparse:
        value = bind(x.value, y.value)
        return combined(self.columns, value, [(1.0, x), (sign, y)])

    def _product(self, bind, x: Sparse, y: Sparse) -> Sparse:
        return combined(self.columns, bind(x.value, y.value), [(y.value, x), (x.value, y)], [(1.0, x, y)])

    def _quotient(self, bind, x: Sparse, y: Sparse) -> Sparse:
        value = bind(x.value, y.value)
        if y.occupied == Occupied():
            return combined(self.columns, value, [(1.0 / y.value, x)])
        inverse = self._unary(lambda v: 1.0 / v, y)
        return combined(self.columns, value, [(inverse.value, x), (x.value, inverse)], [(1.0, x, inverse)])

    def _unary(self, bind, x: Sparse) -> Sparse:
        def slope(v):
            return jax.jvp(bind, (v,), (jnp.ones_like(v),))

        if not self.columns.pairs:
            value, first = slope(x.value)
            return combined(self.columns, value, [(first, x)])
        (value, first), (_, second) = jax.jvp(slope, (x.value,), (jnp.ones_like(x.value),))
        return combined(self.columns, value, [(first, x)], [(0.5 * second, x, x)])

    def _binary(self, bind, x: Sparse, y: Sparse) -> Sparse:
        if y.occupied == Occupied():
            return self._unary(lambda v: bind(v, y.value), x)
        if x.occupied == Occupied():
            return self._unary(lambda v: bind(x.value, v), y)

        # a number may stand beside an array, and a pull back would add its slopes up
        shape = jnp.broadcast_shapes(x.value.shape, y.value.shape)
        x, y = (along(lambda v: jnp.broadcast_to(v, shape), operand) for operand in (x, y))

        def slopes(a, b):
            value, pull = jax.vjp(bind, a, b)
            return value, pull(jnp.ones_like(value))

        value, (by_x, by_y) = slopes(x.value, y.value)
        linear = [(by_x, x), (by_y, y)]
        if not self.columns.pairs:
            return combined(self.columns, value, linear)
        one, none = jnp.ones_like, jnp.zeros_like
        at = (x.value, y.value)
        xx, xy = jax.jvp(lambda a, b: slopes(a, b)[1], at, (one(x.value), none(y.value)))[1]
        _, yy = jax.jvp(lambda a, b: slopes(a, b)[1], at, (none(x.value), one(y.value)))[1]
        return combined(self.columns, value, linear, [(0.5 * xx, x, x), (0.5 * yy, y, y), (xy, x, y)])

    def _selected(self, bind, which: Sparse, *cases: Sparse) -> Sparse:
        occupied = cases[0].occupied
        for case in cases[1:]:
            occupied = occupied | case.occupied
        value = bind(which.value, *(case.value for case in cases))

        def part(of):
            parts = [of(case.into(occupied)) for case in cases]
            if parts[0] is None:
                return None
            return jax.vmap(lambda *p: bind(which.value, *p))(*parts)

        return Sparse(value, part(lambda c: c.first), part(lambda c: c.second), occupied)

    def _while(self, params: dict, inputs: list[Sparse]) -> list[Sparse]:
        tested, given = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        body = Chain.of_traced(self.columns, params["body_jaxpr"], inputs[tested:given])
        start = inputs[given:]
        kept = _settled(body, start)
        unfinished = core.jaxpr_as_fun(params["cond_jaxpr"])
        fixed = [x.value for x in inputs[:tested]]

        def turn(jets):
            return _jets(body(*_sparse(jets, kept)), kept)

        found = jax.lax.while_loop(lambda jets: unfinished(*fixed, *(jet.value for jet in jets))[0], turn, _jets(start, kept))
        return _sparse(found, kept)

    def _scan(self, params: dict, inputs: list[Sparse]) -> list[Sparse]:
        fixed, count = params["num_consts"], params["num_carry"]
        body = Chain.of_traced(self.columns, params["jaxpr"], inputs[:fixed])
        start, beside = inputs[fixed : fixed + count], inputs[fixed + count :]
        firsts = [along(lambda v: v[0], x) for x in beside]
        kept = _settled(body, start, firsts)
        ways: list[Occupied] = []

        def turn(jets, now):
            out = body(*_sparse(jets, kept), *_sparse(now, [x.occupied for x in beside]))
            ways[:] = [x.occupied for x in out[count:]]
            return _jets(out[:count], kept), _jets(out[count:], ways)

        def swapped(jets):
            """With the axis of the loop before that of the columns, or behind it."""
            return [Jet(x, *(None if part is None else jnp.swapaxes(part, 0, 1) for part in parts)) for x, *parts in jets]

        now = swapped([x.jet() for x in beside])
        rest = {which: params[which] for which in ("length", "reverse", "unroll")}
        end, passed = jax.lax.scan(turn, _jets(start, kept), now, **rest)
        return [*_sparse(end, kept), *_sparse(swapped(passed), ways)]

    def _generic(self, equation, bind, inputs: list[Sparse]) -> list[Sparse]:
        """By JAX's forward mode, in the columns that any of the inputs occupies."""
        carried = [k for k, x in enumerate(inputs) if x.occupied != Occupied()]
        directions = tuple(sorted({i for k in carried for i in inputs[k].occupied.directions}))
        pairs = tuple((i, j) for i, j in self.columns.pairs if i in directions and j in directions)
        # a direction may be in no pair with the others: the jet of the whole then is the smallest there is
        if pairs and {i for pair in pairs for i in pair} != set(directions):
            directions, pairs = tuple(range(self.columns.directions)), self.columns.pairs
        occupied = Occupied(directions, pairs)
        number = {i: n for n, i in enumerate(directions)}
        part = Columns(len(directions), tuple((number[i], number[j]) for i, j in pairs))

        def of_carried(*values):
            every = [x.value for x in inputs]
            for k, value in zip(carried, values, strict=True):
                every[k] = value
            out = bind(*every)
            return tuple(out) if equation.primitive.multiple_results else (out,)

        jets = part.push(of_carried, *(inputs[k].into(occupied).jet() for k in carried))
        real = [jnp.issubdtype(jet.value.dtype, jnp.inexact) for jet in jets]
        return [Sparse(*jet, occupied) if is_real else Sparse(jet.value) for jet, is_real in zip(jets, real, strict=True)]


class _Joined:
    """Jets joined along an axis, not yet put together."""

    def __init__(self, equation, bind: Callable, pieces: list[Sparse]):
        self._bind, self._pieces = bind, pieces
        self._stacked = equation.primitive.name == "stack"
        self.axis = equation.params[_JOINED[equation.primitive.name]]
        self._lengths = [1 if self._stacked else piece.value.shape[self.axis] for piece in pieces]

    def whole(self) -> Sparse:
        occupied = Occupied()
        for piece in self._pieces:
            occupied = occupied | piece.occupied
        pieces = [piece.into(occupied) for piece in self._pieces]
        first = second = None
        if occupied.directions:
            first = jax.vmap(self._bind)(*(piece.first for piece in pieces))
        if occupied.pairs:
            second = jax.vmap(self._bind)(*(piece.second for piece in pieces))
        return Sparse(self._bind(*(piece.value for piece in pieces)), first, second, occupied)

    def piece(self, begin: int, end: int) -> Sparse | None:
        starts = np.cumsum([0, *self._lengths])
        for start, stop, piece in zip(starts[:-1], starts[1:], self._pieces, strict=True):
            if start <= begin and end <= stop:
                if self._stacked:
                    return along(lambda x: jnp.expand_dims(x, self.axis), piece)
                return along(lambda x, a=begin - start, b=end - start: jax.lax.slice_in_dim(x, a, b, axis=self.axis), piece)
        return None


def _binding(equation, jaxpr: core.Jaxpr) -> Callable:
    """The operation of an equation of ``jaxpr`` as a function of its arrays."""
    if not any(isinstance(x, (core.Jaxpr, core.ClosedJaxpr)) for x in jax.tree.leaves(tuple(equation.params.values()))):
        return lambda *arrays: equation.primitive.bind(*arrays, **equation.params)
    # one that holds functions is called as a program of this one equation
    variables = list(dict.fromkeys(v for v in equation.invars if not isinstance(v, core.Literal)))
    alone = jaxpr.replace(constvars=[], invars=variables, outvars=list(equation.outvars), eqns=[equation])
    run = core.jaxpr_as_fun(core.ClosedJaxpr(alone, ()))

    def bind(*arrays):
        given = {v: x for v, x in zip(equation.invars, arrays, strict=True) if not isinstance(v, core.Literal)}
        out = run(*(given[v] for v in variables))
        return out if equation.primitive.multiple_results else out[0]

    return bind


def _jets(parts: Sequence[Sparse], kept: Sequence[Occupied]) -> list[Jet]:
    """Their jets, with these columns."""
    return [x.into(columns).jet() for x, columns in zip(parts, kept, strict=True)]


def _sparse(jets: Sequence[Jet], kept: Sequence[Occupied]) -> list[Sparse]:
    return [Sparse(*jet, columns) for jet, columns in zip(jets, kept, strict=True)]


def _settled(body: Chain, start: Sequence[Sparse], others: Sequence[Sparse] = ()) -> list[Occupied]:
    """The columns that what a loop carries can come to occupy; ``others`` are the arguments of ``body`` besides."""
    kept = [x.occupied for x in start]
    while True:
        found: list[Occupied] = []

        def once(jets, kept=kept, found=found):
            out = body(*_sparse(jets, kept), *others)
            found[:] = [x.occupied for x in out[: len(kept)]]
            return [x.value for x in out]

        jax.eval_shape(once, _jets(start, kept))
        wider = [a | b for a, b in zip(kept, found, strict=True)]
        if wider == kept:
            return kept
        kept = wider


def through(columns: Columns, function: Callable, packed: Array, occupied: Sequence[Occupied] | None) -> list[Sparse]:
    """``function`` of a vector, returning a tuple of arrays, applied to the jets of the elements of the packed vector (n, C), each of
    which occupies some columns, or all of them.

    Those that occupy none (a network's weights, thousands) stay side by side in one array: taken apart they would cost most of a trace.
    """
    jet, size = columns.unpack(packed), packed.shape[0]
    occupied = occupied or [Occupied.all_of(columns)] * size
    moving = [k for k, kept in enumerate(occupied) if kept != Occupied()]
    if not moving:
        return [Sparse(jnp.asarray(x)) for x in function(jet.value)]

    def of(*elements):
        pieces, before = [], 0
        for k, x in zip(moving, elements, strict=True):
            pieces += [jet.value[before:k]] * (k > before) + [x[None]]
            before = k + 1
        pieces += [jet.value[before:]] * (size > before)
        return tuple(function(jnp.concatenate(pieces)))

    return Chain(columns, of, (), [Sparse.of(jet.at((k,)), occupied[k], columns) for k in moving])()


def joined(elements: Sequence[Array], batch: tuple[int, ...] = ()) -> Array:
    """The vector of these elements, each of shape ``batch``."""
    return jnp.stack(elements) if elements else jnp.zeros((0, *batch))
