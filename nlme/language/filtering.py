"""What ``observe`` says of states that stochastic equations leave uncertain, and what a record makes of them.

The states of a subject at a record are x^ and P given the records before it (``nlme.dynamics.diffusion``).  Endpoints measured at one time
are gone through one after another, in the order of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.dynamics.diffusion import parted, triangle
from nlme.dynamics.events import Measured
from nlme.language.anatomy import Anatomy, observation_row
from nlme.language.model import Model
from nlme.observation.base import Observation, Record, log_density
from nlme.observation.predictive import residual_of, widened


def predicted_row(model: Model, ind: dict[str, Any], anatomy: Anatomy, state: Float[Array, " s"], t) -> dict[str, Observation]:
    """The distribution of every endpoint at one record, given the records before it."""
    if not anatomy.diffusion:
        return observation_row(model, ind, anatomy.states, state, t)
    return {name: widened(r, variance) for name, (r, _, variance) in _uncertain(model, ind, anatomy, state, t).items()}


def _uncertain(model, ind, anatomy: Anatomy, state, t) -> dict[str, tuple[Observation, Float[Array, " n"], Float[Array, ""]]]:
    """Of every endpoint the distribution if the states were certain, and P H' and H P H'."""
    size = len(anatomy.states)
    x, covariance = parted(state, size)

    def means(x):
        out = observation_row(model, ind, anatomy.states, x, t)
        return {name: residual_of(r).mean for name, r in out.items()}, out

    slopes, out = jax.jacfwd(means, has_aux=True)(jnp.stack(x))
    # a state that is not looked at may be no number where only the others are there
    looked = [k for k in range(size) if k in anatomy.observed]
    found, none = {}, jnp.zeros(())  # of an endpoint that looks at no state
    for name, slope in slopes.items():
        spread = jnp.stack([sum((covariance[i][j] * slope[j] for j in looked), none) for i in range(size)])
        found[name] = (out[name], spread, sum((slope[j] * spread[j] for j in looked), none))
    return found


def conditioned(
    anatomy: Anatomy, at: Callable[[Float[Array, " m"], Any], tuple[Model, dict[str, Any]]]
) -> Callable[..., Float[Array, " s"]]:
    """Function (states, z, row, measured) to the states given what is measured; ``at(z, row)`` is the model and its individual parameters."""

    def given(states, z, row, measured: Measured):
        model, ind = at(z, row)
        uncertain, new = _uncertain(model, ind, anatomy, states, measured.time), states
        for k, name in enumerate(anatomy.endpoints):
            here = measured.endpoint == k
            new = jnp.where(here, _updated(*uncertain[name], states, measured, here), new)
        return new

    return given


def _updated(r: Observation, spread, variance, states, measured: Measured, here) -> Float[Array, " s"]:
    """The states given a record of one endpoint."""
    size = len(spread)
    # another endpoint's value may be one that this one cannot take
    y = jnp.where(here, measured.y, jax.lax.stop_gradient(r.prediction()))
    record = Record(y, measured.cens, measured.limit)

    def gained(shift):
        return log_density(widened(r, variance, shift).terms(record))

    def slope(shift):
        return jax.jvp(gained, (shift,), (jnp.ones_like(shift),))[1]

    pull, bend = jax.jvp(slope, (jnp.zeros_like(variance),), (jnp.ones_like(variance),))
    change = [spread[i] * spread[j] * bend for i, j in triangle(size)]
    return states + jnp.stack([*(spread * pull), *change])
