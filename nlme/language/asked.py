"""What the learned terms of a model are asked, and of what their inputs are made: of random effects, covariates, or anything
else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.jets.dependence import dependence
from nlme.language.anatomy import Anatomy, individual_row, named, observation_row, structure_of
from nlme.language.mistakes import in_method
from nlme.language.model import Model
from nlme.neural.term import LearnedTerm, is_term, learned_terms, place_of


class _Recorder:
    """In a term's place: answers as it does, or always alike, and keeps what it was asked."""

    def __init__(self, term: LearnedTerm, cut: bool = False):
        self._term, self._cut, self.seen = term, cut, []

    def __call__(self, *values, **named):
        x = self._term.given(*values, **named)
        self.seen.append(x)
        return self._term(jnp.zeros(len(x)) if self._cut else jnp.stack(x))

    def each(self, *values):
        x = self._term.gathered(*values)
        self.seen += [list(row) for row in x]
        return self._term.each(*jnp.zeros_like(x).T if self._cut else values)

    def outputs_at(self, x):
        self.seen.append(list(x))
        return self._term.outputs_at(jnp.zeros(len(x)) if self._cut else x)

    def __getattr__(self, name: str):
        return getattr(self._term, name)


def calls_at(model: Model, anatomy: Anatomy, eta, values: dict, state, t) -> dict[str, list[list]]:
    """Term -> calls of its inputs, by every method of the model at one record."""
    return _run(model, anatomy, lambda asking: anatomy.at(asking, eta, values), state, t)[0]


def _run(model: Model, anatomy: Anatomy, seen: Callable, state, t, cut: bool = False) -> tuple[dict[str, list[list]], tuple]:
    """That, and the numbers on which the likelihood rests: individual parameters, what gives the states, parts of distributions.

    ``seen``: what ``individual`` sees, by the model in which the terms are replaced; ``cut``: the terms are blind to what they
    are asked.
    """
    recorders: dict[str, _Recorder] = {}

    def recorder(path, leaf):
        return recorders.setdefault(place_of(path), _Recorder(leaf, cut)) if is_term(leaf) else leaf

    asking = jax.tree_util.tree_map_with_path(recorder, model, is_leaf=is_term)
    ind = individual_row(*seen(asking))
    structure, out = structure_of(asking, ind), []
    if structure is not None:
        out += [x for x in jax.tree.leaves(structure) if eqx.is_inexact_array(x)]
        if hasattr(structure, "flow"):
            with in_method(type(model).__name__, "dynamics"):
                out += structure.flow(t, tuple(state[k] for k in range(len(anatomy.states))))
    observed = observation_row(asking, ind, anatomy.states, state, t)
    parts = [part for one in observed.values() for part in one.parts().values()]
    return {name: r.seen for name, r in recorders.items() if r.seen}, (list(ind.values()), out, parts)


@dataclasses.dataclass(frozen=True)
class Source:
    """Of what one input of one call is made.

    Attributes
    ----------
    effects : random effects, by their words
    covariates : whether of any
    other : whether of a parameter, a state, or the time
    moving : whether of a state or the time
    """

    effects: tuple[str, ...]
    covariates: bool
    other: bool
    moving: bool


def sources(model: Model, anatomy: Anatomy) -> dict[str, list[list[Source]]]:
    """Term -> calls -> inputs -> of what they are made, as far as a trace of the model can tell."""
    shape: dict[str, list[list]] = {}

    def inputs(*given):
        found, _ = _traced(model, anatomy, given)
        shape.update({name: [[None] * len(call) for call in calls] for name, calls in found.items()})
        return [x for calls in found.values() for call in calls for x in call]

    args, effects, covariates = _arguments(model, anatomy)
    reach = np.array(dependence(inputs, *args)).reshape(-1, len(jax.tree.leaves(args)))
    of_covariates = np.isin(np.arange(reach.shape[1]), np.r_[covariates])
    if np.any(reach[:, of_covariates].any(axis=1) & reach[:, ~of_covariates].any(axis=1)):
        reach = reach & _moving(inputs, model, args)
    rows = iter(reach.tolist())

    def source(row) -> Source:
        words = tuple(word for word, yes in zip(anatomy.words, row[effects], strict=True) if yes)
        moving = any(row[covariates.stop :])
        return Source(words, any(row[covariates]), moving or any(row[: effects.start]), moving)

    return {name: [[source(next(rows)) for _ in call] for call in calls] for name, calls in shape.items()}


def _moving(inputs: Callable, model: Model, args) -> np.ndarray:
    """(inputs, leaves of ``args``) whether an input moves with each, at two points: a vector of numbers is one thing to a
    trace."""
    random, found = np.random.default_rng(0), []
    slopes = jax.jit(jax.jacrev(lambda args: inputs(*args)))
    for _ in range(2):
        drawn = jax.tree.map(lambda x: jnp.asarray(random.uniform(0.5, 1.5, x.shape)), args)
        rows = slopes((jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)), *drawn[1:]))
        found.append([[bool(np.any(np.asarray(x) != 0.0)) for x in jax.tree.leaves(row)] for row in rows])
    return np.any(found, axis=0)


def effects_through_terms(model: Model, anatomy: Anatomy) -> dict[str, tuple[str, ...]]:
    """Random effect -> the terms through which alone it reaches the observations: their weights and its variance are one
    scale."""
    if not learned_terms(model) or not anatomy.effects:
        return {}
    asked = sources(model, anatomy)
    args, effects, _ = _arguments(model, anatomy)

    def likelihood(*given):
        _, solved, parts = _traced(model, anatomy, given, cut=True)[1]
        return [*solved, *parts]

    reach = dependence(likelihood, *args)
    direct = {word for row in reach for word, yes in zip(anatomy.words, row[effects], strict=True) if yes}
    found: dict[str, list[str]] = {}
    for name, calls in asked.items():
        for word in dict.fromkeys(word for call in calls for one in call for word in one.effects):
            if word not in direct:
                found.setdefault(word, []).append(name)
    return {word: tuple(found[word]) for word in anatomy.words if word in found}


def error_parameters(model: Model, anatomy: Anatomy) -> set[tuple[str, ...]]:
    """Fields of the model (the names on the way to each) that only the distributions of the observations are told: neither individual
    parameters nor the dynamics depend on them."""
    args, effects, _ = _arguments(model, anatomy)
    of_arrays = slice(0, effects.start)

    def reached(which: slice) -> np.ndarray:
        rows = dependence(lambda *given: [x for part in _traced(model, anatomy, given)[1][which] for x in part], *args)
        return np.array([row[of_arrays] for row in rows], bool).reshape(-1, effects.start).any(axis=0)

    places = jax.tree_util.tree_leaves_with_path(eqx.filter(model, eqx.is_inexact_array))
    only = reached(slice(2, 3)) & ~reached(slice(0, 2))
    return {tuple(step.name for step in path) for (path, _), own in zip(places, only, strict=True) if own}


def _arguments(model: Model, anatomy: Anatomy) -> tuple[tuple, slice, slice]:
    """Shapes of everything that a model is told, parameters first, and where effects and covariates stand among their leaves."""
    scalar = jax.ShapeDtypeStruct((), jnp.float64)
    arrays = [jax.ShapeDtypeStruct(x.shape, jnp.float64) for x in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))]
    etas, rest = ([scalar] * count for count in (len(anatomy.words), len(anatomy.states) + 1))
    cov = list(anatomy.blank(lambda shape: jax.ShapeDtypeStruct(shape, jnp.float64)).values())
    a, b, c = len(arrays), len(arrays) + len(etas), len(arrays) + len(etas) + len(cov)
    return (arrays, etas, cov, rest), slice(a, b), slice(b, c)


def _traced(model: Model, anatomy: Anatomy, given, cut: bool = False):
    arrays, etas, cov, (*state, t) = given
    own, others = eqx.partition(model, eqx.is_inexact_array)
    model = eqx.combine(jax.tree.unflatten(jax.tree.structure(own), arrays), others)
    eta, cov = named("random effect", anatomy.words, etas), named("covariate", (*anatomy.covariates, *anatomy.features), cov)
    return _run(model, anatomy, lambda asking: (asking, eta, cov), state, t, cut)


def values_of(
    model: Model, anatomy: Anatomy, told: np.ndarray, features: dict[str, np.ndarray], wanted: dict[str, dict[int, list[int]]]
) -> dict[str, dict[int, np.ndarray]]:
    """Term -> input -> the values that it is asked in the calls ``wanted``, of subjects without random effects who are ``told``
    (m, k) what the columns of ``anatomy.table`` say, and have ``features`` (m, ...)."""

    def at(row, own):
        values = {name: row[k] for k, name in enumerate(anatomy.table)} | own
        zero = jnp.zeros(len(anatomy.effects))
        found = calls_at(model, anatomy, zero, values, jnp.zeros(len(anatomy.states)), jnp.asarray(0.0))
        return {
            name: {k: jnp.stack([found[name][c][k] for c in calls]) for k, calls in inputs.items()}
            for name, inputs in wanted.items()
        }

    found = jax.jit(jax.vmap(at))(jnp.asarray(told), features)
    return {name: {k: np.ravel(x) for k, x in inputs.items()} for name, inputs in found.items()}
