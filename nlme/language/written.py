"""What a model's methods compute, written with its names and compared with what they compute at random points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from nlme.errors import ModelError
from nlme.language import symbols as s
from nlme.language.anatomy import anatomy_of, individual_row, named, observation_row, structure_of
from nlme.language.equations import Equations, Formulas
from nlme.language.error_models import numbers_of, shown
from nlme.language.marked import MARK, marked, number_of_weights
from nlme.language.mistakes import in_method
from nlme.language.model import Model
from nlme.language.traced import Reading, Unreadable, array_of, elements
from nlme.language.typeset import Text, typeset
from nlme.neural.term import learned_terms
from nlme.structure.arrivals import Arriving
from nlme.structure.assembly import as_linear
from nlme.structure.base import DOSE_RULES, Structure
from nlme.structure.linear import Linear
from nlme.structure.ode import ODE
from nlme.typing import Named

_OF_EQUATIONS = (
    "event_times",
    "algebraic",
    "delays",
    "diffusion",
)  # fields of a structure that are no parameters of a closed form
_LARGEST = 20_000  # symbols, numbers and operations of one formula
_POINTS, _MOST = 6, 60  # random points at which a formula is compared with the model; tried for that
_TOLERANCE, _SMALLEST = 1e-8, 1e-14  # relative; of differences that vanish


def read(model: Model, networks: bool, largest: int) -> Equations:
    """See :func:`nlme.language.equations.equations`."""
    reader = _Reader(model, networks, largest)
    individual = reader.individual()
    return Equations(
        name=type(model).__name__,
        individual=individual,
        **reader.dynamics(),
        **reader.observations(),
        omega=reader.omega(),
        symbols=reader.names.known,
        notes=reader.notes(),
    )


class _Names:
    """Symbols for what a model names; where two kinds of things have one name, the later is told apart by its kind."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self._taken: set[str] = set()

    def of(self, kind: str, name: str, written: str, otherwise: str):
        """The symbol for ``kind.name``, written as ``written`` or, where that is taken, as ``otherwise``."""
        key = f"{kind}.{name}"
        if key not in self.known:
            while written in self._taken:
                written, otherwise = otherwise, f"{otherwise}_"
            self._taken.add(written)
            self.known[key] = s.symbol(written)
        return self.known[key]


class _Argument(NamedTuple):
    """One array that a method is traced with: its symbols, and how numbers for it are drawn (the k-th time)."""

    symbols: np.ndarray
    draw: Callable[[np.random.Generator, int], np.ndarray]
    kind: type = float

    @property
    def shape(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.symbols.shape, self.kind)


class _Trace:
    """A method that returns numbers by name, traced; they are read one by one, and computed at points."""

    def __init__(self, reader: _Reader, method: str, function: Callable[..., dict], arguments: Sequence[_Argument]):
        self._reader, self._arguments = reader, arguments
        self._where = f"{type(reader.model).__name__}.{method}"
        names: list = []

        def values(*flat):
            out = function(*flat)
            names[:] = out
            return [jnp.asarray(value, dtype=jnp.float64) for value in out.values()]

        self._program = jax.make_jaxpr(values)(*(a.shape for a in arguments))
        self.names = tuple(names)
        self._points: list[tuple[list[np.ndarray], list[float]]] = []

    def formula(self, name):
        """One of the numbers as a formula.

        Raises
        ------
        ModelError
            An operation that it needs has no formula, or it is too long to be of use.
        """
        jaxpr = self._program.jaxpr
        own = jaxpr.replace(outvars=[jaxpr.outvars[self.names.index(name)]])
        try:
            program = core.ClosedJaxpr(own, self._program.consts)
            (found,) = self._reader.reading.through(program, [a.symbols for a in self._arguments])
        except Unreadable as error:
            raise ModelError(
                f"{self._where}: the operation {str(error)!r}, which {_called(name)} needs, has no formula."
            ) from None
        except Exception as error:  # sympy and numpy, on a form of an operation that nobody has thought of
            raise ModelError(f"{self._where}: {_called(name)} cannot be read: {type(error).__name__}: {error}") from error
        found = s.element(found)
        if s.size(found) > _LARGEST:
            raise ModelError(
                f"{self._where}: {_called(name)} would be a formula of {s.size(found):,} symbols and operations; "
                f"at most {_LARGEST:,} are written."
            )
        return found

    def agrees(self, name, formula) -> bool:
        """Whether a formula gives what the model computes, wherever that is a number among random points."""
        flat = [symbol for a in self._arguments for symbol in a.symbols.ravel()]
        k, seen, fixed = self.names.index(name), 0, not s.calls(formula)
        run = s.compiled(flat, formula, {}) if fixed else None
        for n in range(_MOST):
            given, values = self._point(n)
            expected = values[k]
            if not math.isfinite(expected):
                continue
            run = run if fixed else s.compiled(flat, formula, self._reader.functions(given))
            found = run([float(x) for one in given for x in one.ravel()])
            if not abs(found - expected) <= _TOLERANCE * abs(expected) + _SMALLEST:
                return False
            seen += 1
            if seen == _POINTS:
                break
        return seen > 0

    def checked(self, name, formula):
        """The formula, if it agrees with the model.

        Raises
        ------
        ModelError
            It does not, or the model gives no number at any of the points tried.
        """
        if not self.agrees(name, formula):
            raise ModelError(
                f"{self._where}: the equation read for {_called(name)} does not give what the model computes at "
                f"random points, or the model gives no number there; it is not shown."
            )
        return formula

    def _point(self, n: int) -> tuple[list[np.ndarray], list[float]]:
        while len(self._points) <= n:
            draw = np.random.default_rng(len(self._points))
            given = [np.asarray(a.draw(draw, len(self._points)), dtype=a.kind) for a in self._arguments]
            with jax.disable_jit():
                values = core.jaxpr_as_fun(self._program)(*map(jnp.asarray, given))
            self._points.append((given, [float(x) for x in values]))
        return self._points[n]


def _called(name) -> str:
    return " ".join(str(part) for part in name) if isinstance(name, tuple) else f"{name!r}"


def _near(value: np.ndarray) -> Callable:
    """Numbers near a starting value, on its side of zero."""
    return lambda draw, k: np.where(
        value == 0, 0.2 * draw.normal(size=value.shape), value * np.exp(0.1 * draw.uniform(-1, 1, value.shape))
    )


def _of_covariate(draw: np.random.Generator, k: int) -> np.ndarray:
    """A code 0, 1, 2, a ratio, or something of the size of a weight or an age."""
    return np.asarray([draw.integers(0, 3), draw.uniform(0.5, 1.5), draw.uniform(20.0, 90.0)][k % 3])


def _between(low: float, high: float) -> Callable:
    return lambda draw, k: np.asarray(draw.uniform(low, high))


class _Reader:
    """The methods of one model."""

    def __init__(self, model: Model, networks: bool, largest: int):
        self.model, self.anatomy = model, anatomy_of(model)
        self._terms = learned_terms(model)
        self._whole = {place for place, term in self._terms.items() if not networks and number_of_weights(term) > largest}
        self.names, self.reading = _Names(), Reading(self._call)
        arrays, self._rest = eqx.partition(marked(model), eqx.is_inexact_array)
        paths, self._tree = jax.tree_util.tree_flatten_with_path(arrays)
        self._t = _Argument(array_of([self.names.of("time", "t", "t", "t")], ()), _between(0.0, 24.0))
        for name in self.anatomy.words:  # what is called eta_cl is a random effect
            self._symbols("eta", name, (), "eta_{}", "eta_{}_")
        self._leaves = []
        for path, leaf in paths:
            name = jax.tree_util.keystr(path).lstrip(".").replace(".term.", ".")
            self._leaves.append(
                _Argument(self._symbols("self", name, np.shape(leaf), "{}", "theta_{}"), _near(np.asarray(leaf, float)))
            )

    def _symbols(self, kind: str, name: str, shape: tuple[int, ...], written: str, otherwise: str) -> np.ndarray:
        """Symbols for an array of numbers that the model knows as ``kind.name``."""
        found = [self.names.of(kind, name + at, written.format(name + at), otherwise.format(name + at)) for at in elements(shape)]
        return array_of(found, shape)

    def _own(self, leaves: Sequence) -> Model:
        return eqx.combine(jax.tree.unflatten(self._tree, leaves), self._rest)

    def _call(self, name: str, inputs: list) -> list | None:
        """What a network returns that is not written out."""
        if not name.startswith(MARK) or name[len(MARK) :] not in self._whole:
            return None
        place = name[len(MARK) :]
        x, outputs = inputs[-1], self._outputs(place)
        if x.dtype != object:
            return None  # numbers in, numbers out
        return [array_of([s.network(one)(*x.ravel()) for one in outputs], (len(outputs),))]

    def _outputs(self, place: str) -> list[str]:
        """Names of the functions that a network's outputs are written as."""
        term, name = self._terms[place], MARK + place.replace(".", "_")
        return [name] if _count(term) == 1 else [f"{name}_{label}" for label in term.outputs or range(1, _count(term) + 1)]

    def functions(self, given: list[np.ndarray]) -> dict[str, Callable]:
        """The networks that are not written out as functions of numbers, with the weights of a point."""
        terms = learned_terms(self._own([jnp.asarray(x) for x in given[: len(self._leaves)]]))

        def output(term, k):
            return lambda *x: float(term.outputs_at(jnp.asarray(x, dtype=float))[k])

        with jax.disable_jit():
            return {name: output(terms[place], k) for place in self._whole for k, name in enumerate(self._outputs(place))}

    def individual(self) -> Formulas:
        anatomy = self.anatomy
        etas = [self._argument("eta", name, "eta_{}", "eta_{}_", lambda draw, k: 0.3 * draw.normal()) for name in anatomy.words]
        covariates = {name: self._argument("cov", name, "{}", "{}_cov", _of_covariate) for name in anatomy.covariates}
        for name, shape in zip(anatomy.features, anatomy.shapes, strict=True):
            symbols = self._symbols("cov", name, shape, "{}", "{}_cov")
            covariates[name] = _Argument(symbols, lambda draw, k, shape=shape: draw.normal(size=shape))
        group = []
        if anatomy.mixture:
            many = len(anatomy.subpopulations)
            symbol = self._symbols("self", f"{anatomy.mixture}.member", (), anatomy.mixture, f"{anatomy.mixture}_group")
            group = [_Argument(symbol, lambda draw, k: k % many, int)]
        counts = np.cumsum([len(self._leaves), len(etas), len(covariates)])

        def individual(*flat):
            leaves, eta, cov, member = (list(flat[a:b]) for a, b in zip((0, *counts), (*counts, None), strict=True))
            model = self._own(leaves)
            if member:
                model = eqx.tree_at(lambda m: getattr(m, anatomy.mixture).member, model, member[0])
            return individual_row(
                model, named("random effect", anatomy.words, eta), Named(dict(zip(covariates, cov, strict=True)), "covariate")
            )

        trace = _Trace(self, "individual", individual, [*self._leaves, *etas, *covariates.values(), *group])
        self._ind = [self._argument("ind", name, "{}_i", "{}_ind", _between(0.3, 3.0)) for name in anatomy.individual]
        self._states = [self._argument("state", name, "{}", "{}_state", _between(0.1, 10.0)) for name in anatomy.states]
        return {name: trace.checked(name, trace.formula(name)) for name in trace.names}

    def _argument(self, kind: str, name: str, written: str, otherwise: str, draw: Callable) -> _Argument:
        return _Argument(self._symbols(kind, name, (), written, otherwise), draw)

    def dynamics(self) -> dict[str, Any]:
        """The fields of ``Equations`` that describe the structure."""
        found: dict[str, Any] = {"structure": "", "event_times": (), "algebraic": self.anatomy.algebraic}
        sections = ("structural", "dynamics", "initial", "delays", "history", "diffusion", *DOSE_RULES, "arrivals")
        found |= {section: {} for section in sections}
        if not self.anatomy.structure:
            return found
        since = self._argument("time", "tad", "tad", "time_after_dose", _between(0.1, 24.0))
        n, m, size = len(self._leaves), len(self._ind), len(self._states)
        for delay in self.anatomy.delays:
            self._symbols("delay", delay, (), "{}", "{}_delay")
        looked = [
            self._argument("past", f"{delay}.{name}", f"{name}_{delay}", f"{name}_{delay}_past", _between(0.1, 10.0))
            for delay in self.anatomy.delays
            for name in self.anatomy.states
        ]

        def dynamics(*flat):
            ind = dict(zip(self.anatomy.individual, flat[n : n + m], strict=True))
            *amounts, t, tad = flat[n + m :]
            amounts, *past = (tuple(amounts[k : k + size]) for k in range(0, len(amounts), size))
            structure = structure_of(self._own(flat[:n]), ind)
            with in_method(type(self.model).__name__, "dynamics"):
                found["structure"] = _title(structure)
                return _numbers(structure, t, amounts, tuple(past), tad)

        trace = _Trace(self, "dynamics", dynamics, [*self._leaves, *self._ind, *self._states, *looked, self._t, since])
        for section, name in trace.names:
            formula = trace.checked((section, name), trace.formula((section, name)))
            if section == "event_times":
                found[section] = (*found[section], formula)
            else:
                found[section][name] = formula
        return found

    def observations(self) -> dict[str, Any]:
        """The fields of ``Equations`` that describe the endpoints."""
        y = self._argument("data", "y", "y", "y_observed", _between(0.1, 3.0))
        n, m = len(self._leaves), len(self._ind)
        kinds: dict[str, Any] = {}

        def observe(*flat):
            ind = dict(zip(self.anatomy.individual, flat[n : n + m], strict=True))
            *amounts, t, y = flat[n + m :]
            state = jnp.stack(amounts) if amounts else jnp.zeros(0)
            kinds.update(observation_row(self._own(flat[:n]), ind, self.anatomy.states, state, t))
            return {(endpoint, name): x for endpoint, one in kinds.items() for name, x in numbers_of(one, y).items()}

        trace = _Trace(self, "observe", observe, [*self._leaves, *self._ind, *self._states, self._t, y])
        observations, errors = {}, {}
        for endpoint, kind in kinds.items():
            found = shown(
                kind,
                [name for owner, name in trace.names if owner == endpoint],
                lambda name, endpoint=endpoint: trace.formula((endpoint, name)),
                lambda name, formula, endpoint=endpoint: trace.agrees((endpoint, name), formula),
            )
            for name, formula in found.equal.items():
                trace.checked((endpoint, name), formula)
            observations[endpoint], errors[endpoint] = found.parts, found.name
        return {"observations": observations, "errors": errors}

    def omega(self) -> dict[str, tuple[tuple[str, ...], Any]]:
        found = {}
        for level in self.anatomy.levels(self.model):

            def element(i, j, level=level):
                name = level.names[i] if i == j else f"{level.names[i]},{level.names[j]}"
                return self.names.of("omega", name, f"omega2_{name}" if i == j else f"omega_{name}", f"variance_{name}")

            found[level.per] = level.names, s.covariance(level.names, level.blocks, element)
        return found

    def notes(self) -> tuple[str, ...]:
        found = []
        if self.anatomy.mixture:
            listed = ", ".join(f"{k} = {name}" for k, name in enumerate(self.anatomy.subpopulations))
            found.append(f"{self.anatomy.mixture} is the subject's subpopulation: {listed}.")
        if self.reading.positions:
            listed = ", ".join(sorted(typeset(k, Text()) for k in self.reading.positions))
            found.append(f"Positions in arrays are taken to be 0 or more: {listed}.")
        found += [f"A name with _{delay} is that of a state at t - {delay}." for delay in self.anatomy.delays]
        for place in sorted(self._whole):
            term = self._terms[place]
            found.append(
                f"{MARK}{place} is a network ({term.form}) of {number_of_weights(term)} weights; networks=True writes it out."
            )
        return tuple(found)


def _count(term) -> int:
    return int(jax.eval_shape(term.outputs_at, jax.ShapeDtypeStruct((term.n_inputs,), jnp.float64)).shape[0])


def _title(structure: Structure) -> str:
    if not isinstance(structure, Arriving):
        return type(structure).__name__
    listed = ", ".join(f"{type(arrival).__name__} absorption into {state}" for state, arrival in structure.arrivals)
    return f"{type(structure.source).__name__} with {listed}"


def _numbers(structure: Structure, t, amounts: tuple, past: tuple, since) -> dict[tuple[str, Any], Any]:
    """(section, name) -> every number that a structure is made of, at a time, with these amounts then and in the past, so long after a
    dose."""
    source = structure.source if isinstance(structure, Arriving) else structure
    body = structure.body if isinstance(structure, Arriving) else structure
    found: dict[tuple[str, Any], Any] = {}
    if not isinstance(source, ODE | Linear):
        ready = {
            name: getattr(source, name) for name in type(source).__dataclass_fields__ if name not in (*DOSE_RULES, *_OF_EQUATIONS)
        }
        found |= {("structural", name): x for name, x in ready.items()}
    equations = body if isinstance(body, ODE | Linear) else as_linear(body)
    if equations is None:
        raise ModelError(f"the equations of {type(body).__name__} are not known.")
    slopes = equations.flow(t, amounts, past) if past else equations.flow(t, amounts)
    found |= {("dynamics", state): x for state, x in zip(structure.states, slopes, strict=True)}
    found |= {("delays", delay): x for delay, x in structure.delays.items()}
    found |= {("diffusion", state): x for state, x in structure.diffusion.items()}
    if getattr(body, "history", None) is not None:
        found |= {("history", state): x for state, x in zip(structure.states, structure.before(t), strict=True)}
    found |= {("initial", state): x for state, x in (getattr(body, "initial", None) or {}).items()}
    for rule in DOSE_RULES:
        found |= {(rule, state): x for state, x in structure.rule(rule).items()}
    if isinstance(structure, Arriving):
        found |= {("arrivals", state): arrival.rate(since) for state, arrival in structure.arrivals}
    return found | {("event_times", k): x for k, x in enumerate(structure.event_times)}
