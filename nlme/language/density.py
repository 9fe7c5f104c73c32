"""The conditional density of a subject's observations, given its random effects."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.language.anatomy import Anatomy, observation_row
from nlme.language.model import Model
from nlme.language.solution import Solution
from nlme.language.stacking import SubjectData
from nlme.observation.base import Observation, Record, Terms, impossible_where, log_density
from nlme.observation.sequence import LINKS, Course


class Moments(NamedTuple):
    """log p(y_j) = [normal_j] log N(z_j; mean_j, variance_j) + log_factor_j, j = 1..T; padded samples are masked by the caller.

    Where ``normal`` is False, mean, variance and z are 0, 1, 0.  The moments of an endpoint with a memory are those given the
    sample before; ``alone`` are the variances before that, 0 where there is none because the sample is impossible.
    """

    mean: Float[Array, " T"]
    variance: Float[Array, " T"]
    transformed: Float[Array, " T"]  # z = h(y)
    log_factor: Float[Array, " T"]  # log |h'(y)|; the whole log density of a sample that is not normal
    normal: Bool[Array, " T"]
    prediction: Float[Array, " T"]  # on the scale of the data
    alone: Float[Array, " T"]
    status: Int[Array, ""]


def moments(
    model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, alone: Float[Array, " T"] | None = None
) -> Moments:
    """Moments of every sample of one subject, endpoint by endpoint; ``alone`` replaces the residual variances.

    Where one of these is 0, so is the density: a prediction that has no distribution at the random effects they are taken at.
    """
    parts = []
    for k, (a, b) in _filled(anatomy, data):

        def at(r: Observation, record: Record):
            return r.terms(record), r.carried(), r.prediction()

        record = Record(data.observed[a:b], data.cens[a:b], data.limit[a:b])
        terms, carried, prediction = _each(at, model, anatomy, data, solution, k, record)
        if alone is not None:
            none = (alone[a:b] == 0.0) & terms.normal
            terms = impossible_where(none, terms._replace(variance=jnp.where(terms.normal & ~none, alone[a:b], 1.0)))
        course = Course(data.timeline.sample_clock[a:b], data.timeline.sample_epoch[a:b])
        linked = LINKS[anatomy.laws[k].link].terms(terms, carried, record.y, course)
        parts.append((*linked, prediction, jnp.where(jnp.isneginf(terms.log_factor), 0.0, terms.variance)))
    return Moments(*(jnp.concatenate(column) for column in zip(*parts, strict=True)), solution.status)


def log_densities(moments: Moments) -> Float[Array, " T"]:
    """log p(y_j) of every sample, all constants included."""
    return log_density(Terms(*moments[:5]))


def back_transformed(model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, z: Float[Array, " T"]):
    """h^-1(z_j) of every sample, on the scale of the data (T,); NaN where the distribution has no normal part."""
    parts = []
    for k, (a, b) in _filled(anatomy, data):
        parts.append(_each(lambda r, z: r.back(z), model, anatomy, data, solution, k, z[a:b]))
    return jnp.concatenate(parts)


def _filled(anatomy: Anatomy, data: SubjectData):
    """Position and span of every endpoint that has samples."""
    return [(k, span) for k, span in zip(range(len(anatomy.endpoints)), data.spans, strict=True) if span[0] < span[1]]


def _each(function, model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution, k: int, values):
    """``function(observation model, values_j)`` for the samples j of endpoint ``k``."""
    a, b = data.spans[k]
    time, states = data.timeline.sample_time[a:b], solution.states[a:b]

    def at(ind, state, t, values):
        return function(observation_row(model, ind, anatomy.states, state, t)[anatomy.endpoints[k]], values)

    if data.timeline.rows == 1:
        ind = {name: value[0] for name, value in solution.individual.items()}
        return jax.vmap(at, (None, 0, 0, 0))(ind, states, time, values)
    row = data.timeline.sample_row[a:b]
    ind = {name: value[row] for name, value in solution.individual.items()}
    return jax.vmap(at)(ind, states, time, values)


def effects_from(anatomy: Anatomy, model: Model, standard: Float[Array, " q"]) -> Float[Array, " q"]:
    """Random effects eta = L b from standardised ones, Omega = L L'."""
    return anatomy.cholesky(model) @ standard
