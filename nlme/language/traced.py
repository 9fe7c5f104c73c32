"""A traced program read as formulas: every operation on numbers becomes the same operation on symbols.

Arrays are arrays of formulas, so that indexing, stacking and sums of weights are followed element by element; calls are read
through, loops of a known, small length are written out, conditions become cases.  Operations without a rule are refused by name.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nlme.errors import ModelError
from nlme.jets.chain import CALLS
from nlme.language import symbols as s

_CALLS = CALLS | {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_lin": "jaxpr"}
_SAME = {"copy", "copy_p", "stop_gradient", "real", "reduce_precision", "optimization_barrier"}
_LONGEST = 100  # turns of a loop that are written out


class Unreadable(ModelError):
    """An operation that has no formula."""


def _one_over(x):
    return s.divide(s.number(1), x)


def _logistic(x):
    return _one_over(s.add(s.number(1), s.exponential(s.negative(x))))


def _normal_cdf(x):
    return s.divide(s.add(s.number(1), s.function("erf")(s.divide(x, s.root(s.number(2))))), s.number(2))


# Functions of jax.numpy and jax.nn by the names of their calls: what they compute, without how they avoid overflow.
_FUNCTIONS: dict[str, tuple[int, Callable]] = {
    "softplus": (1, lambda x: s.function("log")(s.add(s.number(1), s.exponential(x)))),
    "remainder": (2, lambda x, y: s.function("Mod")(x, y)),
    "floor_divide": (2, lambda x, y: s.function("floor")(s.divide(x, y))),
    "ndtr": (1, _normal_cdf),
}
_PLACES = {  # operands whose elements an operation moves, the others being positions
    "dynamic_slice": (0,),
    "gather": (0,),
    "scatter": (0, 2),
    "dynamic_update_slice": (0, 1),
    "pad": (0, 1),
}
_HALF = s.fraction(1, 2)
_ELEMENTWISE: dict[str, Callable] = {
    "add": s.add,
    "add_any": s.add,
    "sub": s.subtract,
    "mul": s.multiply,
    "neg": s.negative,
    "pow": s.power,
    "square": lambda x: s.power(x, s.number(2)),
    "sqrt": s.root,
    "rsqrt": lambda x: s.power(x, -_HALF),
    "cbrt": lambda x: s.multiply(s.function("sign")(x), s.power(s.function("Abs")(x), s.fraction(1, 3))),
    "exp": s.exponential,
    "exp2": lambda x: s.power(s.number(2), x),
    "expm1": lambda x: s.subtract(s.exponential(x), s.number(1)),
    "log1p": lambda x: s.function("log")(s.add(s.number(1), x)),
    "logistic": _logistic,
    "erfc": lambda x: s.subtract(s.number(1), s.function("erf")(x)),
    "clamp": lambda low, x, high: s.extreme("Min")(s.extreme("Max")(x, low), high),
    "is_finite": lambda x: s.number(True),
    "max": s.extreme("Max"),
    "min": s.extreme("Min"),
    "rem": lambda x, y: s.subtract(x, s.multiply(y, s.truncated(s.divide(x, y)))),
    "and": s.both,
    "xor": lambda a, b: s.choose_truth(a, s.opposite(b), b),
    "or": s.either,
    "not": s.opposite,
} | {
    name: s.function(kind)
    for name, kind in {
        "log": "log",
        "abs": "Abs",
        "sign": "sign",
        "floor": "floor",
        "ceil": "ceiling",
        "erf": "erf",
        "lgamma": "loggamma",
        "sin": "sin",
        "cos": "cos",
        "tan": "tan",
        "asin": "asin",
        "acos": "acos",
        "atan": "atan",
        "atan2": "atan2",
        "sinh": "sinh",
        "cosh": "cosh",
        "tanh": "tanh",
        "asinh": "asinh",
        "acosh": "acosh",
        "atanh": "atanh",
    }.items()
}  # fmt: skip
_COMPARED = {"eq": "Eq", "ne": "Ne", "lt": "Lt", "le": "Le", "gt": "Gt", "ge": "Ge"}
_ELEMENTWISE |= {name: s.comparison(kind) for name, kind in _COMPARED.items()}
_LOGICAL = {"and", "or", "not", "xor"}
_REDUCED = {
    "reduce_sum": (s.add, 0),
    "reduce_prod": (s.multiply, 1),
    "reduce_max": (s.extreme("Max"), None),
    "reduce_min": (s.extreme("Min"), None),
    "reduce_and": (s.both, True),
    "reduce_or": (s.either, False),
}
_MOVED = {  # elements that change their place: operation on an array of them
    "reshape": lambda x, p: np.reshape(x, p["new_sizes"]),
    "squeeze": lambda x, p: np.squeeze(x, tuple(p["dimensions"])),
    "expand_dims": lambda x, p: np.expand_dims(x, tuple(p["dimensions"])),
    "transpose": lambda x, p: np.transpose(x, p["permutation"]),
    "rev": lambda x, p: np.flip(x, p["dimensions"]),
    "slice": lambda x, p: x[tuple(map(slice, p["start_indices"], p["limit_indices"], p["strides"] or (1,) * x.ndim))],
}


def array_of(values, shape: tuple[int, ...]) -> np.ndarray:
    """An array of formulas."""
    out = np.empty(shape, dtype=object)
    for index, value in zip(np.ndindex(*shape), values, strict=True):
        out[index] = value
    return out


def symbolic(x) -> np.ndarray:
    """An array of formulas; numbers become such."""
    x = np.asarray(x)
    return x if x.dtype == object else array_of(map(s.number, x.ravel().tolist()), x.shape)


def _known(x) -> bool:
    return np.asarray(x).dtype != object


def _elementwise(rule: Callable, *inputs) -> np.ndarray:
    inputs = np.broadcast_arrays(*map(symbolic, inputs))
    shape = inputs[0].shape
    return array_of((rule(*(x[index] for x in inputs)) for index in np.ndindex(*shape)), shape)


class Reading:
    """Formulas of the results of programs.

    Parameters
    ----------
    calls : of a function that was given a name of its own, what it returns for its arguments; None: it is read through
    """

    def __init__(self, calls: Callable[[str, list], list | None]):
        self._named = calls
        self.positions: set = set()  # formulas by which arrays are indexed

    def through(self, closed: core.ClosedJaxpr, given: Sequence) -> list[np.ndarray]:
        """The results as arrays of formulas (or of numbers), for such arguments.

        Raises
        ------
        Unreadable
            An operation that the results need has no rule.
        """
        jaxpr = closed.jaxpr
        known: dict = dict(zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
        known |= zip(jaxpr.invars, given, strict=True)

        def of(v):
            return np.asarray(v.val) if isinstance(v, core.Literal) else known[v]

        for equation in _needed(jaxpr):
            known |= zip(equation.outvars, self._after(equation, [of(v) for v in equation.invars]), strict=True)
        return [of(v) for v in jaxpr.outvars]

    def _after(self, equation, inputs: list) -> list:
        name, p = equation.primitive.name, equation.params
        if name in _CALLS and _CALLS[name] in p:
            return self._called(p[_CALLS[name]], p.get("name", ""), inputs)
        if all(map(_known, inputs)) and name not in ("cond", "scan", "while"):
            out = equation.primitive.bind(*map(jnp.asarray, inputs), **p)
            return list(map(np.asarray, out if equation.primitive.multiple_results else [out]))
        if name == "cond":
            return self._cond(p["branches"], inputs)
        if name == "scan":
            return self._scan(p, inputs)
        if name == "unstack":
            return list(np.moveaxis(symbolic(inputs[0]), p["axis"], 0))
        if name == "split":
            return np.split(symbolic(inputs[0]), np.cumsum(p["sizes"])[:-1], axis=p["axis"])
        return [self._one(equation, name, p, inputs)]

    def _called(self, inner, name: str, inputs: list) -> list:
        closed = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
        found = self._named(name, inputs)
        if found is not None:
            return found
        if name in _FUNCTIONS and len(inputs) == _FUNCTIONS[name][0] and closed.out_avals[0].dtype == np.float64:
            return [_elementwise(_FUNCTIONS[name][1], *inputs)]
        return self.through(closed, inputs)

    def _one(self, equation, name: str, p: dict, inputs: list) -> np.ndarray:
        kind = equation.invars[0].aval.dtype
        if name in _LOGICAL and kind != np.bool_ or name == "div" and not jnp.issubdtype(kind, jnp.floating):
            raise Unreadable(f"{name} of whole numbers")
        if name in _ELEMENTWISE:
            return _elementwise(_ELEMENTWISE[name], *inputs)
        if name == "div":
            return _elementwise(s.divide, *inputs)
        if name == "integer_pow":
            return _elementwise(lambda x: s.power(x, s.number(p["y"])), inputs[0])
        if name in _SAME:
            return inputs[0]
        if name == "convert_element_type":
            return _converted(inputs[0], kind, p["new_dtype"])
        if name == "select_n":
            return _selected(equation, *inputs)
        if name in _REDUCED:
            return _reduced(*_REDUCED[name], inputs[0], p["axes"])
        if name in _MOVED:
            return _MOVED[name](inputs[0], p)
        if name == "broadcast_in_dim":
            return _broadcast(inputs[0], p["shape"], p["broadcast_dimensions"])
        if name == "concatenate":
            return np.concatenate(list(map(symbolic, inputs)), axis=p["dimension"])
        if name == "stack":
            return np.stack(list(map(symbolic, inputs)), axis=p["axis"])
        if name == "dot_general":
            return _dot(*map(symbolic, inputs), p["dimension_numbers"])
        if name == "dynamic_slice" and not all(map(_known, inputs[1:])):
            return self._sliced(symbolic(inputs[0]), inputs[1:], p["slice_sizes"])
        if name == "argmax" and kind == np.bool_ and len(p["axes"]) == 1:
            return _first_true(symbolic(inputs[0]), p["axes"][0])
        if name == "cumsum":
            return _running(symbolic(inputs[0]), p["axis"], p["reverse"])
        places = _PLACES.get(name)
        if places is not None and all(_known(x) for k, x in enumerate(inputs) if k not in places):
            return _taken(equation, inputs, places)
        if name == "gather" and inputs[1].size == 1 and len(p["dimension_numbers"].start_index_map) == 1:
            return self._gathered(equation, inputs)
        raise Unreadable(name)

    def _cond(self, branches, inputs: list) -> list:
        which, *operands = inputs
        results = [self.through(branch, operands) for branch in branches]
        if _known(which):
            return results[int(np.clip(which, 0, len(branches) - 1))]
        (index,) = symbolic(which).ravel()
        return [_elementwise(lambda *values: _by_position(index, values), *one) for one in zip(*results, strict=True)]

    def _scan(self, p: dict, inputs: list) -> list:
        length, consts, carries = p["length"], p["num_consts"], p["num_carry"]
        if length > _LONGEST:
            raise Unreadable(f"scan over {length} turns")
        fixed, carry, xs = inputs[:consts], inputs[consts : consts + carries], inputs[consts + carries :]
        columns: list[list] = []
        for k in range(length)[:: -1 if p["reverse"] else 1]:
            out = self.through(p["jaxpr"], [*fixed, *carry, *(np.asarray(x)[k] for x in map(symbolic, xs))])
            carry, ys = out[:carries], out[carries:]
            columns.append(ys)
        columns = columns[::-1] if p["reverse"] else columns
        return [*carry, *(np.stack([symbolic(y) for y in ys]) for ys in zip(*columns, strict=True))]

    def _sliced(self, x: np.ndarray, starts: list, sizes) -> np.ndarray:
        """A slice that begins where a formula says, inside the array as JAX holds it."""
        places = [range(n - size + 1) for n, size in zip(x.shape, sizes, strict=True)]
        indices = [self._position(s.element(start)) for start in starts]

        def at(fixed: tuple[int, ...]) -> np.ndarray:
            k = len(fixed)
            if k == len(places):
                return x[tuple(slice(b, b + size) for b, size in zip(fixed, sizes, strict=True))]
            if s.is_number(indices[k]):
                return at((*fixed, int(np.clip(int(indices[k]), 0, len(places[k]) - 1))))
            options = [at((*fixed, b)) for b in places[k]]
            return _elementwise(lambda *v: _by_position(indices[k], v, indices[k] in self.positions), *options)

        return at(())

    def _gathered(self, equation, inputs: list) -> np.ndarray:
        """Elements at one position that a formula says."""
        x, where = inputs
        index = self._position(s.element(where))
        (axis,) = equation.params["dimension_numbers"].start_index_map
        options = [_taken(equation, [x, np.full(where.shape, k)], (0,)) for k in range(x.shape[axis])]
        return _elementwise(lambda *v: _by_position(index, v, index in self.positions), *options)

    def _position(self, index):
        """The position that a formula says, taken to be 0 or more where it counts from the end otherwise."""
        found = s.position(index)
        if found is None:
            return index
        self.positions.add(found)
        return found


def _needed(jaxpr) -> list:
    """The equations on which the results rest."""
    needed, found = {v for v in jaxpr.outvars if not isinstance(v, core.Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if not needed.isdisjoint(equation.outvars):
            found.append(equation)
            needed |= {v for v in equation.invars if not isinstance(v, core.Literal)}
    return found[::-1]


def _converted(x, old, new) -> np.ndarray:
    if old == np.bool_:
        return x if new == np.bool_ else _elementwise(lambda c: s.choose(c, s.number(1), s.number(0)), x)
    if new == np.bool_:
        return _elementwise(lambda v: s.comparison("Ne")(v, s.number(0)), x)
    if jnp.issubdtype(old, jnp.inexact) and not jnp.issubdtype(new, jnp.inexact):
        return _elementwise(s.truncated, x)
    return x


def _selected(equation, which, *values) -> np.ndarray:
    if equation.invars[0].aval.dtype != np.bool_:
        return _elementwise(lambda index, *v: _by_position(index, v), which, *values)
    if equation.outvars[0].aval.dtype == np.bool_:
        return _elementwise(lambda c, no, yes: s.choose_truth(c, yes, no), which, *values)
    return _elementwise(lambda c, no, yes: s.choose(c, yes, no), which, *values)


def _by_position(index, values: Sequence, positive: bool = False):
    """The value at a position, which may be known to be 0 or more; positions beyond the ends are the ends."""
    last = len(values) - 1
    index = s.unclamped(index, last)
    if s.is_number(index):
        return values[min(max(int(index), 0), last)]
    if (known := s.known_cases(index)) is not None:
        return s.cases([(values[min(max(k, 0), last)], condition) for k, condition in known])
    found = values[-1]
    for k in reversed(range(len(values) - 1)):
        held = s.comparison("Eq" if k or positive else "Le")(index, s.number(k))
        found = s.choose(held, values[k], found)
    return found


def _reduced(join: Callable, empty, x, axes) -> np.ndarray:
    x = symbolic(x)
    kept = tuple(k for k in range(x.ndim) if k not in axes)
    shape = tuple(x.shape[k] for k in kept)
    rows = np.transpose(x, (*kept, *axes)).reshape(math.prod(shape), -1)

    def total(row):
        found = row[0] if len(row) else s.number(empty)
        for value in row[1:]:
            found = join(found, value)
        return found

    return array_of(map(total, rows), shape)


def _broadcast(x, shape, dimensions) -> np.ndarray:
    x = np.asarray(x)
    own = [1] * len(shape)
    for k, d in enumerate(dimensions):
        own[d] = x.shape[k]
    return np.broadcast_to(x.reshape(own), shape)


def _dot(a: np.ndarray, b: np.ndarray, numbers) -> np.ndarray:
    (sum_a, sum_b), (batch_a, batch_b) = numbers
    free_a = [k for k in range(a.ndim) if k not in (*sum_a, *batch_a)]
    free_b = [k for k in range(b.ndim) if k not in (*sum_b, *batch_b)]
    shape = tuple(a.shape[k] for k in (*batch_a, *free_a)) + tuple(b.shape[k] for k in free_b)
    many, inner = math.prod(a.shape[k] for k in batch_a), math.prod(a.shape[k] for k in sum_a)
    left = np.transpose(a, (*batch_a, *free_a, *sum_a)).reshape(many, math.prod(a.shape[k] for k in free_a), inner)
    right = np.transpose(b, (*batch_b, *free_b, *sum_b)).reshape(many, math.prod(b.shape[k] for k in free_b), inner)

    def total(n, i, j):
        found = s.number(0)
        for k in range(inner):
            found = s.add(found, s.multiply(left[n, i, k], right[n, j, k]))
        return found

    return array_of((total(*at) for at in np.ndindex(many, left.shape[1], right.shape[1])), shape)


def _first_true(x: np.ndarray, axis: int) -> np.ndarray:
    """Position of the first condition that holds, 0 where none does."""
    return _elementwise(
        lambda *conditions: s.cases([*((s.number(k), c) for k, c in enumerate(conditions)), (s.number(0), s.number(True))]),
        *np.moveaxis(x, axis, 0),
    )


def _running(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    """Running sums."""
    rows = list(np.moveaxis(x, axis, 0))[:: -1 if reverse else 1]
    sums = rows[:1]
    for row in rows[1:]:
        sums.append(_elementwise(s.add, sums[-1], row))
    return np.moveaxis(np.stack(sums[:: -1 if reverse else 1]), 0, axis)


def _taken(equation, inputs: list, places: Sequence[int]) -> np.ndarray:
    """Elements that change their place: the operation itself says how, asked of the numbers of the elements of ``places``."""
    params, start, asked, pool = dict(equation.params), 0, list(inputs), []
    for k in places:
        x = symbolic(inputs[k])
        asked[k] = np.arange(start, start + x.size).reshape(x.shape)
        pool += list(x.ravel())
        start += x.size
    if "fill_value" in params:
        params["fill_value"] = -1
    found = np.asarray(equation.primitive.bind(*map(jnp.asarray, asked), **params))
    if np.any((found < 0) | (found >= len(pool))):
        raise Unreadable(f"{equation.primitive.name} beyond an array's end")
    return array_of((pool[k] for k in found.ravel()), found.shape)


def elements(shape: tuple[int, ...]) -> list[str]:
    """ "[0, 1]" of every element, "" of a number."""
    return [f"[{', '.join(map(str, index))}]" if shape else "" for index in itertools.product(*map(range, shape))]
