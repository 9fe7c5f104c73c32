"""States that the data suggest: those at which the error model predicts what was observed, and otherwise those known beforehand.

At a time t of one subject, y_e the endpoint e's data interpolated there, x0 a state known beforehand, D its size:

    x = argmin sum_e ((f_e(x) - y_e) / d_e)^2 + r sum_s ((x_s - x0_s) / D_s)^2,      d_e the data's size, r small

by damped Gauss-Newton steps. What no endpoint looks at stays at x0.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.language.anatomy import Anatomy, individual_row, observation_row
from nlme.language.density import effects_from
from nlme.language.model import Model

_RIDGE = 1e-4
_STEPS = 30


def individual_of(model: Model, anatomy: Anatomy, b: Float[Array, " q"], told: Float[Array, " k"]):
    """Individual parameters of a row in which ``individual`` is ``told`` this, with eta = L b; of the typical subject where b is empty."""
    eta = effects_from(anatomy, model, b) if len(b) else jnp.zeros(len(anatomy.effects))
    return individual_row(*anatomy.at(model, eta, dict(zip(anatomy.table, told, strict=True))))


def _sizes(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M, s) states as far as they are numbers of a sensible size, else 0, and (s,) the size of each, 1 where nothing tells."""
    finite = np.where(np.isfinite(states), np.abs(states), np.nan)
    with np.errstate(all="ignore"):
        typical = np.nan_to_num(np.nanmedian(finite, axis=0)) if len(states) else np.zeros(states.shape[1])
    typical = np.where(typical > 0, typical, 1.0)
    sensible = np.isfinite(states) & (np.abs(states) < 1e6 * typical)
    states = np.where(sensible, states, 0.0)
    return states, np.maximum(np.abs(states).max(axis=0, initial=0.0), typical)


def states_of_data(
    model: Model,
    anatomy: Anatomy,
    told: Float[np.ndarray, "M k"],
    time: Float[np.ndarray, " M"],
    known: Float[np.ndarray, "M s"],
    y: Float[np.ndarray, "M E"],
) -> tuple[np.ndarray, np.ndarray]:
    """(M, s) states of the typical subject at each place, and (M, s) how far the data tell them, from 0 to 1; ``y`` NaN: unknown."""
    spread = np.nanmax(np.abs(y), axis=0, initial=0.0)
    states, size = _sizes(known)
    found = _inverted(model, anatomy, told, states, size, time, y, np.where(spread > 0, spread, 1.0))
    return tuple(np.asarray(x) for x in found)


@eqx.filter_jit
def _inverted(model: Model, anatomy: Anatomy, told, known, size, time, y, spread):
    def at(told, start, t, y):
        ind = individual_of(model, anatomy, jnp.zeros(0), told)

        def misfit(scaled) -> Float[Array, " E"]:
            out = observation_row(model, ind, anatomy.states, start + scaled * size, t)
            predicted = jnp.stack([out[name].prediction() for name in anatomy.endpoints])
            return jnp.where(jnp.isfinite(y), (predicted - jnp.nan_to_num(y)) / spread, 0.0)

        def step(_, carry):
            x, damping, value = carry
            slope = jax.jacfwd(misfit)(x)
            normal = slope.T @ slope + (_RIDGE + damping) * jnp.eye(len(x))
            trial = x - jnp.linalg.solve(normal, slope.T @ misfit(x) + _RIDGE * x)
            after = jnp.sum(misfit(trial) ** 2) + _RIDGE * jnp.sum(trial**2)
            better = after < value
            damping = jnp.where(better, 0.1 * damping, 10.0 * damping + 1e-6)
            return jnp.where(better, trial, x), damping, jnp.where(better, after, value)

        zero = jnp.zeros(len(start))
        x, _, _ = jax.lax.fori_loop(0, _STEPS, step, (zero, jnp.asarray(1e-3), jnp.sum(misfit(zero) ** 2)))
        gram = jax.jacfwd(misfit)(x)
        gram = gram.T @ gram
        # how much of each state's own direction the data determine
        return start + x * size, jnp.diagonal(jnp.linalg.solve(gram + _RIDGE * jnp.eye(len(x)), gram))

    return jax.vmap(at)(told, known, time, y)
