"""The conditional density of a subject's observations, given its random effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nlme.jets.dependence import Outputs
from nlme.language.anatomy import Anatomy
from nlme.language.filtering import predicted_row
from nlme.language.model import Model
from nlme.language.solution import Solution
from nlme.language.stacking import SubjectData
from nlme.observation.base import Observation, Record, Terms, impossible_where, log_density
from nlme.observation.sequence import LINKS


class Moments(NamedTuple):
    """log p(y_j) = [normal_j] log N(z_j; mean_j, variance_j) + log_factor_j, j = 1..T; padded samples are masked by the caller.

    Where ``normal`` is False, mean, variance and z are 0, 1, 0.  The moments of an endpoint with a memory are those given the
    sample before; ``alone`` are the variances before that, 0 where there is none because the sample is impossible, and ``carried`` is
    what the memory needs: the decay of a correlation, a cumulative hazard.
    """

    mean: Float[Array, " T"]
    variance: Float[Array, " T"]
    transformed: Float[Array, " T"]  # z = h(y)
    log_factor: Float[Array, " T"]  # log |h'(y)|; the whole log density of a sample that is not normal
    normal: Bool[Array, " T"]
    prediction: Float[Array, " T"]  # on the scale of the data
    alone: Float[Array, " T"]
    carried: Float[Array, " T"]
    status: Int[Array, ""]


def moments(model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, residual: Moments | None = None) -> Moments:
    """Moments of every sample of one subject, endpoint by endpoint; ``residual`` has the covariance of the residuals in place of that
    at ``solution``: the variances of every sample, and the decay of their correlation.

    Where one of these is 0, so is the density: a prediction that has no distribution at the random effects they are taken at.
    """

    def at(r: Observation, record: Record):
        return r.terms(record), r.carried(), r.expected(record)

    record = Record(data.observed, data.cens, data.limit, _before(anatomy, data))
    terms, carried, prediction = _each(at, model, anatomy, data, solution, record)
    if residual is not None:
        none = (residual.alone == 0.0) & terms.normal
        terms = impossible_where(none, terms._replace(variance=jnp.where(terms.normal & ~none, residual.alone, 1.0)))
        carried = jnp.where(terms.normal, residual.carried, carried)
    own = jnp.where(jnp.isneginf(terms.log_factor), 0.0, terms.variance)
    return Moments(*_linked(anatomy, data, terms, carried), prediction, own, carried, solution.status)


def _before(anatomy: Anatomy, data: SubjectData) -> Float[Array, " T"]:
    """DV of the record before of the same endpoint, NaN where there is none or time begins again in between; only chains ask for it."""
    if not any(law.link == "markov" for law in anatomy.laws):
        return jnp.full_like(data.limit, jnp.nan)
    ahead = data.timeline.course.ahead
    again = jnp.concatenate([jnp.ones(1, bool), jnp.diff(ahead) != 0]) if ahead.shape[0] else jnp.zeros(0, bool)
    begins = np.isin(np.arange(again.shape[0]), [a for a, _ in data.spans])
    last = jnp.concatenate([jnp.full(1, jnp.nan), data.observed[:-1]])[: again.shape[0]]
    return jnp.where(again | begins, jnp.nan, last)


def _linked(anatomy: Anatomy, data: SubjectData, terms: Terms, carried: Float[Array, " T"]) -> Terms:
    """The terms of every record given the record before of its endpoint."""
    if not any(law.link for law in anatomy.laws):
        return terms
    course = data.timeline.course
    parts = []
    for law, (a, b) in zip(anatomy.laws, data.spans, strict=True):
        if a < b:
            own = jax.tree.map(lambda x: x[a:b], (terms, carried, data.observed, course))  # noqa: B023 (used at once)
            parts.append(LINKS[law.link].terms(*own))
    return jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *parts)


def log_densities(moments: Moments) -> Float[Array, " T"]:
    """log p(y_j) of every sample, all constants included."""
    return log_density(Terms(*moments[:5]))


def back_transformed(model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, z: Float[Array, " T"]):
    """h^-1(z_j) of every sample, on the scale of the data (T,); NaN where the distribution has no normal part."""
    return _each(lambda r, z: r.back(z), model, anatomy, data, solution, z)


def _each(function: Callable, model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, values):
    """``function(observation model, values_j)`` for every sample j, with a leading axis over samples.

    ``observe`` is traced once for all endpoints, each of which then computes what it needs itself; and ``function`` once for all
    endpoints that have the same kind of distribution.
    """
    filled = [(k, span) for k, span in enumerate(data.spans) if span[0] < span[1]]
    numbers, rest = eqx.partition(model, eqx.is_array)

    def observed(numbers, ind, state, t, values):
        out = predicted_row(eqx.combine(numbers, rest), ind, anatomy, state, t)
        own = [out[anatomy.endpoints[k]] for k, _ in filled]
        return [function(r, values) if r.closes else r for r in own]

    sampled = (solution.states, data.timeline.sample_time, values)
    one_row = data.timeline.rows == 1
    ind = solution.individual if one_row else {name: v[data.timeline.sample_row] for name, v in solution.individual.items()}
    each = Outputs(observed, numbers, *map(_of_one, (ind, *sampled)))

    def of(position: int, a: int, b: int):
        own = jax.tree.map(lambda x: x[a:b], sampled)
        here = jax.tree.map(lambda x: x[0] if one_row else x[a:b], ind)
        return jax.vmap(each.alone(position), (None, None if one_row else 0, 0, 0, 0))(numbers, here, *own)

    alike: dict = {}
    for position, (_, span) in enumerate(filled):
        found = of(position, *span)
        together = isinstance(found, Observation)
        key = (jax.tree.structure(found), tuple((x.shape[1:], x.dtype) for x in jax.tree.leaves(found))) if together else position
        alike.setdefault(key, []).append((np.arange(*span), found))
    order, parts = [], []
    for several in alike.values():
        here = np.concatenate([where for where, _ in several])
        found = jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *(one for _, one in several))
        if isinstance(found, Observation):
            found = jax.vmap(function)(found, jax.tree.map(lambda x: x[here], values))  # noqa: B023 (used at once)
        order.append(here)
        parts.append(found)
    back = np.argsort(np.concatenate(order))
    whole = jax.tree.map(lambda *pieces: jnp.concatenate(pieces), *parts)
    return whole if np.array_equal(back, np.arange(len(back))) else jax.tree.map(lambda x: x[back], whole)


def _of_one(arrays):
    """Their shapes without the leading axis."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), arrays)


def effects_from(anatomy: Anatomy, model: Model, standard: Float[Array, " q"]) -> Float[Array, " q"]:
    """Random effects eta = L b from standardised ones, Omega = L L'."""
    return anatomy.cholesky(model) @ standard
