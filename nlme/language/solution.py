"""From population parameters and random effects to the states at the samples, in a form that JAX can differentiate.

``expand`` returns the states of one subject as a function.  For a linear structure it is the solution itself.  For an ODE no
derivative is taken through the solver: the solver is run once, at the point, on the jet of the states in a few directions,
and the function is the local Taylor polynomial of that jet; its value and derivatives up to the order asked for are exact.

The directions are the inputs of the solution themselves (individual parameters, and parameters the dynamics use directly)
while these do not change within the subject; otherwise they are the random effects and the population parameters, pushed
through ``individual`` for every parameter row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from nlme.errors import ModelError
from nlme.language.dependence import dependence
from nlme.language.model import Model, covariate_units
from nlme.observation.residual import Residual
from nlme.parameters.covariance import Covariance
from nlme.structure.base import DOSE_RULES, LinearStructure, Structure
from nlme.structure.events import Timeline
from nlme.structure.jets import Columns, Polynomial
from nlme.structure.propagate import propagate
from nlme.structure.solvers import SOLVED, Tolerances
from nlme.typing import Named


class Solution(NamedTuple):
    """States at the samples (T, s), the parameters of every row (dict of (K,) arrays) and how the solve ended."""

    states: Float[Array, "T s"]
    individual: dict[str, Float[Array, " K"]]
    status: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """What a model is made of, found by calling its methods on abstract values."""

    effects: tuple[str, ...]
    covariates: tuple[str, ...]
    individual: tuple[str, ...]
    states: tuple[str, ...]
    endpoints: tuple[str, ...]
    linear: bool  # closed form or matrix exponential (or no dynamics at all)
    structure: str  # name of the structure's class
    rules: tuple[str, ...]  # dose rules in use: lag, bioavailability, duration, rate
    carriers: tuple[bool, ...]  # which individual parameters depend on a random effect
    direct: tuple[int, ...]  # elements of the flat population parameters that the dynamics use directly
    transforms: tuple[str, ...] = ()  # endpoint -> scale of its residual


def named(kind: str, names, values) -> Named:
    return Named(dict(zip(names, values, strict=True)), kind)


def individual_row(model: Model, eta: Named, cov: Named) -> dict[str, Any]:
    """``model.individual`` for one row, checked: a dict of scalars."""
    out = model.individual(eta, cov)
    if isinstance(out, Named):
        out = dict(out.items())
    if not isinstance(out, dict) or not out:
        raise ModelError(
            f"{type(model).__name__}.individual must return a dict of individual parameters, such as dict(cl=..., v=...); "
            f"it returned {type(out).__name__}{' (is the return missing?)' if out is None else ''}."
        )
    checked = {}
    for name, value in out.items():
        try:
            value = jnp.asarray(value, dtype=jnp.float64)
        except (TypeError, ValueError):
            raise ModelError(
                f"{type(model).__name__}.individual: {name!r} must be a number; got {type(value).__name__}."
            ) from None
        if value.shape != ():
            raise ModelError(
                f"{type(model).__name__}.individual: {name!r} must be one number per subject; got an array of shape {value.shape} "
                f"(a network returns a vector: take an element, net(...)[0])."
            )
        checked[name] = value
    return checked


def structure_of(model: Model, ind: dict[str, Any]) -> Structure | None:
    """``model.dynamics`` for one row, checked."""
    structure = model.dynamics(Named(ind, "individual parameter", "individual()"))
    if structure is not None and not isinstance(structure, Structure):
        raise ModelError(
            f"{type(model).__name__}.dynamics must return a structure such as nlme.pk.OneCompartment(...) or nlme.ODE(...), "
            f"or None; it returned {type(structure).__name__}."
        )
    return structure


def rows_of(model: Model, anatomy: Anatomy, eta: Float[Array, " q"], covariates: dict[str, Float[Array, " K"]], rows: int):
    """Individual parameters of every parameter row: dict of (K,) arrays."""
    effects = named("random effect", anatomy.effects, [eta[k] for k in range(len(anatomy.effects))])

    def of_row(values):
        return individual_row(model, effects, Named(values, "covariate"))

    if rows == 1:
        return jax.tree.map(lambda x: x[None], of_row({k: v[0] for k, v in covariates.items()}))
    return jax.vmap(of_row)(covariates)


def expand(
    model: Model,
    anatomy: Anatomy,
    eta: Float[Array, " q"],
    covariates: dict[str, Float[Array, " K"]],
    timeline: Timeline,
    order: int,
    tolerances: Tolerances,
) -> Callable[[Model, Float[Array, " q"]], Solution]:
    """The solution of one subject as a function of (model, eta), exact at the point given, differentiable there to ``order``.

    A linear structure's function is the solution itself, at any point.  An ODE is solved here, once; the function returned is
    the local polynomial around the point and may be called and differentiated at no further solves.
    """
    rows, names = timeline.rows, anatomy.individual
    direct = np.array(anatomy.direct, dtype=int)

    def individual(model, eta):
        return rows_of(model, anatomy, eta, covariates, rows)

    if not anatomy.states:
        nothing = jnp.zeros((timeline.sample.shape[0], 0))
        return lambda model, eta: Solution(nothing, individual(model, eta), jnp.asarray(SOLVED))

    def inputs(model, eta):
        """Everything the solution depends on: (K n + number of direct parameters,)."""
        table = individual(model, eta)
        return jnp.concatenate([*(table[name] for name in names), flatten(model)[0][direct]])

    frozen, rebuild = flatten(_stopped(model))

    def structure_at(z, row):
        ind = {name: z[k * rows + row] for k, name in enumerate(names)}
        used = rebuild(frozen.at[direct].set(z[len(names) * rows :])) if len(direct) else rebuild(frozen)
        return structure_of(used, ind)

    if anatomy.linear and rows > 1:

        def closed(model, eta):
            solved, status = propagate(structure_at, inputs(model, eta)[:, None], Columns(), timeline, tolerances)
            return Solution(solved[:, :, 0], individual(model, eta), status)

        return closed

    if rows == 1:
        coordinates = inputs
        carries = np.concatenate([np.array(anatomy.carriers, bool), np.zeros(len(direct), bool)])
    else:
        moves = np.array(_moving(model, anatomy, covariates, rows), dtype=int)

        def coordinates(model, eta):
            return jnp.concatenate([eta, flatten(model)[0][moves]])

        q = len(anatomy.effects)
        carries = np.arange(q + len(moves)) < q
    point = jax.lax.stop_gradient(coordinates(model, eta))
    scale = jnp.maximum(jnp.abs(point), 1.0)
    columns = Columns.of_order(order, len(carries), carries)
    packed = columns.seed(point, scale)
    if rows > 1:
        packed = columns.apply(lambda y: inputs(rebuild(frozen.at[moves].set(y[q:])), y[:q]), packed)
    solved, status = propagate(structure_at, packed, columns, timeline, tolerances)
    polynomial = Polynomial(columns, solved)

    def local(model, eta):
        displacement = (coordinates(model, eta) - point) / scale if order else jnp.zeros(0)
        return Solution(polynomial(displacement), individual(model, eta), status)

    return local


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

    return sorted(set(_used_parameters(table, arrays, cov)) | set(anatomy.direct))


def _used_parameters(function, arrays, *others) -> list[int]:
    """Positions in the flat parameter vector of the leaves of ``arrays`` that reach any output of ``function``."""
    leaves = jax.tree.leaves(arrays)
    reach = dependence(function, arrays, *others)
    used, start = [], 0
    for k, leaf in enumerate(leaves):
        size = int(np.prod(leaf.shape, dtype=int))
        if any(row[k] for row in reach):
            used.extend(range(start, start + size))
        start += size
    return used


def observation_row(model: Model, ind: dict[str, Any], names: tuple[str, ...], state: Float[Array, " s"], t) -> dict[str, Residual]:
    """``model.observe`` for one record, checked: a dict from endpoint to its distribution."""
    out = model.observe(
        Named(ind, "individual parameter", "individual()"),
        Named({s: state[k] for k, s in enumerate(names)}, "state", "The structure"),
        t,
    )
    if not isinstance(out, dict) or not out:
        raise ModelError(
            f'{type(model).__name__}.observe must return a dict from endpoint to error model, such as {{"conc": '
            f"nlme.additive(f, add=self.add)}}; it returned {type(out).__name__}."
        )
    for name, value in out.items():
        if not isinstance(value, Residual):
            raise ModelError(
                f"{type(model).__name__}.observe: endpoint {name!r} must be an error model (nlme.additive, proportional, "
                f"combined, power, lognormal); got {type(value).__name__}."
            )
        if jnp.shape(value.mean) != () or jnp.shape(value.variance) != ():
            raise ModelError(
                f"{type(model).__name__}.observe: endpoint {name!r} must predict one number; got shapes "
                f"{jnp.shape(value.mean)} (mean) and {jnp.shape(value.variance)} (variance)."
            )
    return out


def anatomy_of(model: Model) -> Anatomy:
    """Look at a model by tracing each of its methods once, on abstract numbers.

    Raises
    ------
    ModelError
        Any of the methods is missing, misspells a name or returns something of the wrong form.
    """
    covariates = tuple(covariate_units(model))
    omega = model.random()
    if omega is not None and not isinstance(omega, Covariance):
        raise ModelError(f"{type(model).__name__}.random must return a covariance field; it returned {type(omega).__name__}.")
    effects = omega.names if omega is not None else ()
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    arrays = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float64), arrays)
    scalar = jax.ShapeDtypeStruct((), jnp.float64)
    found: dict[str, Any] = {}

    def individual(eta, arrays, cov):
        ind = individual_row(
            eqx.combine(arrays, rest), named("random effect", effects, eta), Named(cov, "covariate")
        )
        found["individual"] = tuple(ind)
        return [ind[k] for k in ind]

    etas, cov = [scalar] * len(effects), {name: scalar for name in covariates}
    reach = dependence(individual, etas, arrays, cov)
    names = found["individual"]
    carriers = tuple(any(row[: len(effects)]) for row in reach)

    def dynamics(arrays, ind):
        structure = structure_of(eqx.combine(arrays, rest), dict(zip(names, ind, strict=True)))
        found["structure"] = "" if structure is None else type(structure).__name__
        found["states"] = () if structure is None else structure.states
        found["linear"] = structure is None or isinstance(structure, LinearStructure)
        found["rules"] = ()
        if structure is None:
            return []
        found["rules"] = tuple(rule for rule in DOSE_RULES if getattr(structure, rule) is not None)
        out = [structure.rule_vector(rule, 0.0) for rule in found["rules"]] + list(structure.start())
        ones = (jnp.asarray(1.0),) * len(structure.states)
        if found["linear"]:
            return [*out, *structure.advance(ones, ones, jnp.asarray(1.0))]
        return [*out, *structure.flow(jnp.asarray(0.0), ones)]

    ind = [scalar] * len(names)
    direct = _used_parameters(dynamics, arrays, ind)

    def observe(arrays, ind, state, t):
        out = observation_row(eqx.combine(arrays, rest), dict(zip(names, ind, strict=True)), found["states"], state, t)
        found["endpoints"] = tuple(out)
        found["transforms"] = tuple(out[k].transform for k in out)
        return [(r.mean, r.variance) for r in out.values()]

    state = jax.ShapeDtypeStruct((len(found["states"]),), jnp.float64)
    jax.eval_shape(observe, arrays, ind, state, scalar)
    return Anatomy(
        effects=tuple(effects),
        covariates=covariates,
        individual=names,
        states=tuple(found["states"]),
        endpoints=found["endpoints"],
        linear=found["linear"],
        structure=found["structure"],
        rules=found["rules"],
        carriers=carriers,
        direct=tuple(direct),
        transforms=found["transforms"],
    )
