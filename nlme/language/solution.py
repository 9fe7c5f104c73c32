"""From population parameters and random effects to the states at the samples, in a form that JAX can differentiate.

``Expansion`` is the states of one subject as a function.  No derivative is taken through a solver: the states are solved once,
at the point, on their jet in a few directions, and the function is the local Taylor polynomial of that jet; its value and
derivatives up to the order asked for are exact.

The directions are the inputs of the solution themselves (individual parameters, and parameters the dynamics use directly)
while these do not change within the subject; otherwise they are the random effects and the population parameters, pushed
through ``individual`` for every parameter row.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from nlme.data.population import Subject
from nlme.dynamics.dosing import DOMAINS, used_rules
from nlme.dynamics.events import Timeline
from nlme.dynamics.propagate import propagate, trace
from nlme.dynamics.solvers import SENTENCES, SOLVED, Tolerances
from nlme.jets.chain import joined, through
from nlme.jets.jet import Columns, Jet, Polynomial
from nlme.jets.sparse import Occupied, whole
from nlme.language.anatomy import Anatomy, individual_row, rows_of, structure_of, used_parameters
from nlme.language.filtering import conditioned
from nlme.language.model import Model
from nlme.language.stacking import SubjectData

_PASSES = 14  # solves that one pass back through the steps costs
_MOST_COLUMNS = 60  # of a linear structure's jet, before reverse differentiation is cheaper


class Solution(NamedTuple):
    """States at the samples (T, s), the parameters of every row (dict of (K,) arrays) and how the solve ended."""

    states: Float[Array, "T s"]
    individual: dict[str, Float[Array, " K"]]
    status: Int[Array, ""]


class _Solver:
    """One subject's solution from the inputs of its structure."""

    def __init__(self, model: Model, anatomy: Anatomy, covariates, timeline: Timeline, tolerances: Tolerances):
        self.anatomy, self.covariates, self.timeline, self.tolerances = anatomy, covariates, timeline, tolerances
        self._direct = np.array(anatomy.direct, dtype=int)
        self._frozen, self._rebuild = flatten(_stopped(model))
        self._drifting = bool(timeline.drift)
        self._along_effects = timeline.rows > 1  # otherwise the coordinates are the inputs themselves
        if timeline.rows > 1:
            self._moves = np.array(_moving(model, anatomy, covariates, timeline.rows), dtype=int)

    def _individual(self, model, eta):
        return rows_of(model, self.anatomy, eta, self.covariates, self.timeline.rows)

    def _inputs(self, model, eta):
        """Everything the solution depends on: (K n + number of direct parameters,).

        Where covariates change all the time: random effects and parameters, from which individual ones are found as time goes on.
        """
        if self._drifting:
            return jnp.concatenate([eta, flatten(model)[0][self._moves]])
        table = self._individual(model, eta)
        return jnp.concatenate([*(table[name] for name in self.anatomy.inputs), flatten(model)[0][self._direct]])

    def _structure_at(self, z, row, t=None):
        if self._drifting:
            return self._structure_while(z, row, t)
        return structure_of(*self._model_at(z, row))

    def _structure_while(self, z, row, t):
        """The structure while covariates change linearly: at time ``t``, or at the row's own."""
        timeline, q = self.timeline, len(self.anatomy.effects)
        model = self._rebuild(self._frozen.at[self._moves].set(z[q:]))
        values = self.anatomy.row(self.covariates, row)
        if t is not None:
            since = t - timeline.anchor[row]
            values |= {name: values[name] + slope[row] * since for name, slope in timeline.drift.items()}
        return structure_of(model, individual_row(*self.anatomy.at(model, z[:q], values)))

    def _coordinates(self, model, eta):
        if not self._along_effects:
            return self._inputs(model, eta)
        return jnp.concatenate([eta, flatten(model)[0][self._moves]])

    def _solve(self, columns: Columns, packed, reversible: bool = False, occupied: Sequence[Occupied] | None = None):
        """Jet of the states from packed coordinates, each of which occupies some columns."""
        if self._along_effects:
            q = len(self.anatomy.effects)

            def inputs(y):
                return self._inputs(self._rebuild(self._frozen.at[self._moves].set(y[q:])), y[:q])

            packed, occupied = self._pushed(inputs, columns, packed, occupied)
        return self._propagated(packed, columns, reversible, occupied)

    def _propagated(self, packed, columns: Columns, reversible: bool = False, occupied: Sequence[Occupied] | None = None):
        """Jet of the states from packed inputs, each of which occupies some columns."""
        options = (self.timeline, self.tolerances, reversible, occupied, self._conditioned)
        return propagate(self._structure_at, packed, columns, *options)

    @property
    def _conditioned(self):
        """What a record makes of the states of stochastic equations."""
        return conditioned(self.anatomy, self._model_at) if self.timeline.measured is not None else None

    def _model_at(self, z, row) -> tuple[Model, dict]:
        """The model and its individual parameters in a row, at inputs ``z``."""
        if self._drifting:
            q = len(self.anatomy.effects)
            model = self._rebuild(self._frozen.at[self._moves].set(z[q:]))
            return model, individual_row(*self.anatomy.at(model, z[:q], self.anatomy.row(self.covariates, row)))
        rows, names = self.timeline.rows, self.anatomy.inputs
        # individual parameters that nothing here uses are there by name only
        ind = dict.fromkeys(self.anatomy.individual, jnp.nan) | {name: z[k * rows + row] for k, name in enumerate(names)}
        flat = self._frozen
        if len(self._direct):
            flat = flat.at[self._direct].set(z[len(names) * rows :])
        return self._rebuild(flat), ind

    @staticmethod
    def _pushed(inputs, columns: Columns, packed, occupied):
        """The inputs of the solution from packed coordinates, and which columns they occupy."""
        found = through(columns, inputs, packed, occupied)
        return joined([whole(x, columns) for x in found], (columns.count,)), [x.occupied for x in found]


class EffectsJet(_Solver):
    """Jets of the states in the random effects alone, for searches that need no derivative in the parameters."""

    def __call__(
        self, model: Model, effects: Float[Array, "q C"], columns: Columns, occupied: Sequence[Occupied]
    ) -> tuple[Jet, Int[Array, ""]]:
        """Jet of the observed states (T, s) from packed random effects, with the columns of each, and how the solve ended."""
        if not self.anatomy.states:
            nothing = jnp.zeros((self.timeline.sample.shape[0], 0, columns.count))
            return columns.unpack(nothing), jnp.asarray(SOLVED)
        inputs, occupied = self._pushed(lambda eta: self._inputs(model, eta), columns, effects, occupied)
        jet, status = self._propagated(inputs, columns, occupied=occupied)
        return jet.at((slice(None), np.array(self.anatomy.observed, dtype=int))), status

    def solution(self, model: Model, eta: Float[Array, " q"], observed: Float[Array, "T s"]) -> Solution:
        """The solution with these observed states; the states that are not observed are left as NaN."""
        states = jnp.full((observed.shape[0], self.anatomy.followed), jnp.nan)
        states = states.at[:, np.array(self.anatomy.observed, dtype=int)].set(observed)
        return Solution(states, self._individual(model, eta), jnp.asarray(SOLVED))


class Replayed(_Solver):
    """The solution of one subject as a function of (model, eta) for one reverse differentiation: many parameters in the equations.

    The weights of a network inside an ODE would each be a direction of the jet.  Instead only the random effects are, and the
    derivative of the jet of order ``order - 1`` in everything else is one pass back through the steps of the solver, which
    costs a few solves whatever the number of weights.  Step sizes are held.  To be differentiated in the very model it was
    made with, in reverse.
    """

    exact = False

    def __init__(self, model, anatomy, eta, covariates, timeline, order, tolerances):
        super().__init__(model, anatomy, covariates, timeline, tolerances)
        self._second = order == 2
        carries = np.concatenate([np.array(anatomy.carriers, bool), np.zeros(len(self._direct), bool)])
        if timeline.rows > 1:
            carries = np.arange(len(anatomy.effects) + len(self._moves)) < len(anatomy.effects)
        self._carried = np.flatnonzero(carries) if self._second else np.zeros(0, int)
        point = self._coordinates(model, jax.lax.stop_gradient(eta) if self._second else eta)
        self._scale = jnp.maximum(jnp.abs(jax.lax.stop_gradient(point[self._carried])), 1.0)
        context = (self._frozen, covariates, timeline, self._scale)
        self._jet, self._status = _replayed(point, context, self)

    def __call__(self, model: Model, eta: Float[Array, " q"]) -> Solution:
        states = self._jet.value
        if len(self._carried):
            held = self._coordinates(model, jax.lax.stop_gradient(eta))
            displacement = (self._coordinates(model, eta) - held)[self._carried] / self._scale
            states = Polynomial(self.columns(2), self._jet)(displacement)
        return Solution(states, self._individual(model, eta), self._status)

    def columns(self, order: int) -> Columns:
        return Columns.of_order(order if len(self._carried) else 0, len(self._carried))

    def jet(self, point, context, order: int, reversible: bool):
        """Jet of the states in the carried directions at ``point``, and how the solve ended."""
        bound = copy.copy(self)
        bound._frozen, bound.covariates, bound.timeline, scale = context
        columns = self.columns(order)
        first = jnp.zeros((point.shape[0], columns.directions))
        if columns.directions:
            first = first.at[self._carried, np.arange(columns.directions)].set(scale)
        packed = jnp.concatenate([point[:, None], first, jnp.zeros((point.shape[0], len(columns.pairs)))], axis=1)
        return bound._solve(columns, packed, reversible)


@eqx.filter_custom_vjp
def _replayed(point, context, solver: Replayed):
    return solver.jet(point, context, 2, reversible=False)


@_replayed.def_fwd
def _replayed_forward(perturbed, point, context, solver):
    return _replayed(point, context, solver), None


@_replayed.def_bwd
def _replayed_backward(residuals, cotangents, perturbed, point, context, solver):
    jet, _ = cotangents

    def again(point):
        found, _ = solver.jet(point, context, 1, reversible=True)
        return found.value, found.first

    (value, first), pull = jax.vjp(again, point)
    nothing = (jnp.zeros_like(value), None if first is None else jnp.zeros_like(first))
    # what multiplies second derivatives is of third order, which no objective that comes here has
    return pull(jax.tree.map(lambda zero, given: zero if given is None else given, nothing, (jet.value, jet.first)))[0]


class Expansion(_Solver):
    """The solution of one subject as a function of (model, eta), exact at the point given, differentiable there to ``order``.

    Calling and differentiating the expansion costs no solves, with one exception: a linear structure with very many directions
    (a network's weights through covariates that change in time) is not expanded, but differentiated as it stands, where one
    reverse pass serves all of them.
    """

    def __init__(
        self,
        model: Model,
        anatomy: Anatomy,
        eta: Float[Array, " q"],
        covariates: dict[str, Float[Array, " K"]],
        timeline: Timeline,
        order: int,
        tolerances: Tolerances,
    ):
        super().__init__(model, anatomy, covariates, timeline, tolerances)
        self.order = order
        self.exact = not anatomy.states
        if self.exact:
            return
        q = len(anatomy.effects)
        carries = np.concatenate([np.array(anatomy.carriers, bool), np.zeros(len(self._direct), bool)])
        if self._along_effects:
            carries = np.arange(q + len(self._moves)) < q
        columns = Columns.of_order(order, len(carries), carries)
        self.exact = anatomy.linear and columns.count > _MOST_COLUMNS
        if self.exact:
            return
        self._point = jax.lax.stop_gradient(self._coordinates(model, eta))
        self._scale = jnp.maximum(jnp.abs(self._point), 1.0)
        own = [Occupied((i,) if columns.directions else ()) for i in range(len(carries))]
        states, self._status = self._solve(columns, columns.seed(self._point, self._scale), occupied=own)
        # only the states that are looked at carry their jet on; the others keep their value
        self._looked = np.array(anatomy.observed if order else range(states.value.shape[1]), dtype=int)
        self._values = states.value
        self._polynomial = Polynomial(columns, states.at((slice(None), self._looked)))

    def __call__(self, model: Model, eta: Float[Array, " q"]) -> Solution:
        individual = self._individual(model, eta)
        if self.exact:
            return self._exactly(model, eta, individual)
        displacement = (self._coordinates(model, eta) - self._point) / self._scale if self.order else jnp.zeros(0)
        states = self._polynomial(displacement)
        if len(self._looked) < self._values.shape[1]:
            states = self._values.at[:, self._looked].set(states)
        return Solution(states, individual, self._status)

    def third(self, model: Model, eta: Float[Array, " q"], directions: Float[Array, "k q"]) -> Float[Array, "T s"]:
        """sum_k D3S[w_k, w_k, d]: zero in value, with the derivative of the states' second derivatives along ``directions``.

        ``directions`` are in ``eta``; w_k is what they do to the coordinates, and d is the displacement from the point.  An
        expansion to second order lacks just this term in the gradient of a log determinant of second derivatives.
        """
        count = directions.shape[0]
        columns = Columns(count, tuple((k, k) for k in range(count)))
        stopped = self._rebuild(self._frozen)
        centre = jax.lax.stop_gradient(eta)

        def pushed(direction):
            return jax.jvp(lambda e: self._coordinates(stopped, e), (centre,), (direction,))[1]

        first = jax.vmap(pushed)(jax.lax.stop_gradient(directions))

        def contracted(point):
            packed = jnp.concatenate([point[:, None], first.T, jnp.zeros_like(first.T)], axis=1)
            states, _ = self._solve(columns, packed)
            return jnp.sum(states.second, axis=0)

        slopes = jax.lax.stop_gradient(jax.jacfwd(contracted)(self._point))
        return slopes @ (self._coordinates(model, eta) - self._point)

    def _exactly(self, model, eta, individual):
        if not self.anatomy.states:
            return Solution(jnp.zeros((self.timeline.sample.shape[0], 0)), individual, jnp.asarray(SOLVED))
        packed = self._inputs(model, eta)[:, None]
        states, status = self._propagated(packed, Columns(), reversible=True)
        return Solution(states.value, individual, status)


def _stopped(model: Model) -> Model:
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def flatten(model: Model):
    """The model's numbers as one vector, and the way back."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = ravel_pytree(arrays)
    return flat, lambda vector: eqx.combine(unravel(vector), rest)


def _moving(model: Model, anatomy: Anatomy, covariates, rows: int) -> list[int]:
    """Flat population parameters on which the inputs of the solution depend."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays)
    cov = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in covariates.items()}

    def table(arrays, cov):
        zero = jnp.zeros(len(anatomy.effects))
        return rows_of(eqx.combine(arrays, rest), anatomy, zero, cov, rows)

    return sorted(set(used_parameters(table, arrays, cov)) | set(anatomy.direct))


def failure(
    model: Model, anatomy: Anatomy, subject: Subject, data: SubjectData, eta: Float[Array, " q"], tolerances: Tolerances
) -> str:
    """In words why and where the solution of one subject fails; empty if it does not.  ``data`` are the arrays of ``subject``."""
    timeline = jax.tree.map(jnp.asarray, data.known)  # events are sorted by times that are traced
    solver = _Solver(model, anatomy, data.covariates, timeline, tolerances)
    inputs = solver._inputs(model, eta)
    if refused := _refused_dose(solver, inputs, subject):
        return refused
    run = jax.jit(lambda inputs: trace(solver._structure_at, inputs, timeline, tolerances, solver._conditioned))
    course = jax.tree.map(np.asarray, run(inputs))
    if course.status == SOLVED:
        return ""
    failed = np.flatnonzero(course.ended)
    if not len(failed):  # there was nothing to go through
        return SENTENCES[int(course.status)]
    e = int(failed[0])
    begin = float(timeline.start) if e == 0 else course.time[e - 1]
    before = course.states[e - 1, : len(anatomy.states)] if e else np.zeros(len(anatomy.states))
    listed = ", ".join(f"{name} {value:.4g}" for name, value in zip(anatomy.states, before, strict=True))
    where = f"between times {begin:g} and {course.time[e]:g} (at the first of them {listed})"
    return f"{where} {SENTENCES[int(course.ended[e])]}"


def _refused_dose(solver: _Solver, inputs, subject: Subject) -> str:
    """The first dose with a value that no dose can have; empty if there is none."""
    timeline, states = solver.timeline, solver.anatomy.states
    for which, at in used_rules(solver._structure_at, inputs, timeline).items():
        bad = np.flatnonzero(np.asarray(at.used & ~DOMAINS[which].holds(at.value)))
        if len(bad):
            event, value = int(timeline.doses[bad[0]]), float(at.value[bad[0]])
            j, state = int(timeline.source[event]), states[int(timeline.compartment[event])]
            where = f"row {subject.rows[j]} (time {subject.time[j]:g})"
            return f"{where}: the {which} of the dose into {state!r} is {value:g}, and has to be {DOMAINS[which].words}"
    return ""


def expand(
    model: Model,
    anatomy: Anatomy,
    eta: Float[Array, " q"],
    covariates: dict[str, Float[Array, " K"]],
    timeline: Timeline,
    order: int,
    tolerances: Tolerances,
) -> Expansion | Replayed:
    """The solution as a function that will be differentiated in reverse in the model: by whichever way costs fewer columns."""
    solver = _Solver(model, anatomy, covariates, timeline, tolerances)
    effects = len(anatomy.effects) if timeline.rows > 1 else sum(anatomy.carriers)
    others = len(solver._moves) if timeline.rows > 1 else len(anatomy.carriers) - effects + len(anatomy.direct)
    whole = Columns.of_order(order, effects + others, np.arange(effects + others) < effects).count
    back = _PASSES * (1 + effects) + Columns.of_order(2, effects).count if order == 2 else _PASSES
    kind = Replayed if order and anatomy.states and not anatomy.linear and whole > back else Expansion
    return kind(model, anatomy, eta, covariates, timeline, order, tolerances)
