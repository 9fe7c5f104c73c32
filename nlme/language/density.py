"""The conditional moments of a subject's observations, given its random effects."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.language.layout import SubjectData
from nlme.language.model import Model
from nlme.language.anatomy import Anatomy, observation_row
from nlme.language.solution import Solution


class Moments(NamedTuple):
    """h(y_j) ~ N(mean_j, variance_j), j = 1..T; padded samples are included and masked by the caller."""

    mean: Float[Array, " T"]
    variance: Float[Array, " T"]
    transformed: Float[Array, " T"]  # h(y)
    log_jacobian: Float[Array, " T"]  # log |h'(y)|
    prediction: Float[Array, " T"]  # on the scale of the data
    status: Int[Array, ""]


def moments(model: Model, anatomy: Anatomy, data: SubjectData, solution: Solution) -> Moments:
    """Moments of every sample of one subject, endpoint by endpoint."""
    parts = []
    for endpoint, (a, b) in zip(anatomy.endpoints, data.spans, strict=True):
        if a == b:
            continue
        time, states = data.timeline.sample_time[a:b], solution.states[a:b]
        observed = data.observed[a:b]

        def at(ind, state, t, y, endpoint=endpoint):
            r = observation_row(model, ind, anatomy.states, state, t)[endpoint]
            return r.mean, r.variance, r.transformed(y), r.log_jacobian(y), r.prediction()

        if data.timeline.rows == 1:
            ind = {name: value[0] for name, value in solution.individual.items()}
            parts.append(jax.vmap(at, (None, 0, 0, 0))(ind, states, time, observed))
        else:
            row = data.timeline.sample_row[a:b]
            ind = {name: value[row] for name, value in solution.individual.items()}
            parts.append(jax.vmap(at)(ind, states, time, observed))
    return Moments(*(jnp.concatenate(column) for column in zip(*parts, strict=True)), solution.status)


def effects_from(model: Model, standard: Float[Array, " q"]) -> Float[Array, " q"]:
    """Random effects eta = L b from standardised ones, Omega = L L'."""
    omega = model.random()
    return omega.cholesky @ standard if omega is not None else standard
