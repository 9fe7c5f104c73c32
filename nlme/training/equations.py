"""The objective that training aids minimise, with the equations solved in fixed steps and everything unknown searched at once.

    J = -2 sum_j log p(y_j | x(t_j)) + sum_k |x(t_k) - node_k|^2 / (gap scale)^2 + sum_i b_i'b_i + penalty

over the free parameters u (without variances of random effects), the standardised random effects b_i (eta_i = L b_i, L held) and the
nodes. The steps are those of the classical Runge-Kutta method of order 4, the same for everybody, so that all segments advance side
by side and one reverse pass gives the derivative in everything: an approximation that is good enough to lead to where a fit can
begin, and that compiles in seconds where the solvers of a fit take minutes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.language.anatomy import Anatomy, observation_row, structure_of
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.observation.base import Record, log_density
from nlme.parameters.inventory import Inventory
from nlme.training.inversion import individual_of
from nlme.training.segments import Segments

_RESOLUTION = 200  # fixed steps in the longest time of a subject, at least
_FEWEST, _MOST = 2, 64  # steps between two stops


class Unknown(NamedTuple):
    """What is searched: free parameters (P,), standardised random effects (N, q), nodes (K, s) in units of their scale."""

    u: Float[Array, " P"]
    b: Float[Array, "N q"]
    nodes: Float[Array, "K s"]


class Setting(NamedTuple):
    """What changes from stage to stage."""

    weight: Float[Array, "Q R"]  # of every observation
    gap: Float[Array, ""]  # standard deviation of a gap in units of the node's scale
    gain: Float[Array, ""]  # of the observer, per unit of time


@dataclasses.dataclass(frozen=True, eq=False)
class Equations:
    """A model's equations on the segments of a population.

    Attributes
    ----------
    free : positions of the parameters searched among all
    held : (P_all,) unconstrained values of all parameters at the start
    scale : (K, s) of nodes and gaps
    followed : whether the observer's pull is in the equations
    """

    model: Model
    layout: Layout
    segments: Segments
    inventory: Inventory
    free: np.ndarray
    held: np.ndarray
    scale: np.ndarray
    followed: bool
    penalty: Callable | None = None

    @property
    def anatomy(self) -> Anatomy:
        return self.layout.anatomy

    @functools.cached_property
    def steps(self) -> int:
        """Steps between two stops."""
        span = np.bincount(self.segments.owner, self.segments.step.sum(axis=1)).max()
        return int(np.clip(np.ceil(self.segments.step.max() / span * _RESOLUTION), _FEWEST, _MOST))

    def at(self, u) -> Model:
        """The model with these values of the parameters that are searched."""
        return self.inventory.at_unconstrained(self.model, jnp.asarray(self.held).at[self.free].set(u))

    @functools.cached_property
    def objective(self) -> Callable[[Unknown, Setting], tuple[Array, Unknown]]:
        """J and its derivatives, compiled."""
        arrays = jax.tree.map(jnp.asarray, self.segments)

        @jax.jit
        def evaluated(unknown: Unknown, setting: Setting):
            return jax.value_and_grad(lambda z: self._objective(z, setting, arrays))(unknown)

        return evaluated

    def states(self, unknown: Unknown) -> np.ndarray:
        """(Q, R, s) states at every stop, without an observer."""
        arrays = jax.tree.map(jnp.asarray, self.segments)
        model = self.at(unknown.u)
        solve = jax.jit(jax.vmap(lambda own, b: self._solved(model, own, b, unknown.nodes, jnp.zeros(()))[0]))
        return np.asarray(solve(arrays, unknown.b[self.segments.owner]))

    def _objective(self, unknown: Unknown, setting: Setting, arrays: Segments):
        model = self.at(unknown.u)

        def of_segment(own: Segments, b, weight):
            states, ind = self._solved(model, own, b, unknown.nodes, setting.gain)
            fit = jnp.sum(
                weight * jax.vmap(functools.partial(self._observed, model))(ind, states, own.time, own.observed, own.endpoint)
            )
            if not len(self.scale):
                return fit, 0.0
            gap = (states[-1] / jnp.asarray(self.scale)[own.closes]) - unknown.nodes[own.closes]
            return fit, jnp.where(own.closes >= 0, jnp.sum(jnp.square(gap)), 0.0)

        fit, gaps = jax.vmap(of_segment)(arrays, unknown.b[arrays.owner], setting.weight)
        total = -2.0 * jnp.sum(fit) + jnp.sum(gaps) / setting.gap**2 + jnp.sum(jnp.square(unknown.b))
        return total if self.penalty is None else total + self.penalty(model)

    def _solved(self, model: Model, own: Segments, b, nodes, gain):
        """(R, s) states at the stops of one segment, and the individual parameters there."""
        ind = jax.vmap(lambda told: individual_of(model, self.anatomy, b, told))(own.told)

        def begun(ind):
            return jnp.stack(structure_of(model, ind).start())

        first = begun({name: value[0] for name, value in ind.items()})
        if len(self.scale):
            first = jnp.where(own.node >= 0, (nodes * jnp.asarray(self.scale))[own.node], first)

        def to_stop(x, stop):
            ind, time, step, rate, reset, amount, course, known = stop
            structure = structure_of(model, ind)
            available = structure.rule_vector("bioavailability", 1.0)
            h = step / self.steps

            def slope(t, x):
                found = jnp.stack(structure.flow(t, tuple(x))) + rate * available
                if not self.followed:
                    return found
                share = jnp.where(step > 0, (t - time) / jnp.where(step > 0, step, 1.0) + 1.0, 1.0)
                data = course[:, 0] + share * (course[:, 1] - course[:, 0])
                return found + gain * self._pull(model, ind, t, x, data, known)

            def substep(k, x):
                t = time - step + k * h
                k1 = slope(t, x)
                k2 = slope(t + 0.5 * h, x + 0.5 * h * k1)
                k3 = slope(t + 0.5 * h, x + 0.5 * h * k2)
                k4 = slope(t + h, x + h * k3)
                return x + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

            x, _ = jax.lax.scan(lambda x, k: (substep(k, x), None), x, jnp.arange(self.steps, dtype=float))
            x = jnp.where(reset, begun(ind), x) + amount * available
            return x, x

        stops = (ind, own.time, own.step, own.rate, own.reset, own.amount, own.course, own.known)
        return jax.lax.scan(to_stop, first, stops)[1], ind

    def _pull(self, model, ind, t, x, data, known):
        """sum_e D^2 g_e (y_e - f_e) / (g_e' D^2 g_e): the shortest way to where endpoint e's data are predicted."""
        pull = jnp.zeros_like(x)
        for e, name in enumerate(self.anatomy.endpoints):

            def predicted(x, name=name):
                return observation_row(model, ind, self.anatomy.states, x, t)[name].prediction()

            value, slope = jax.value_and_grad(predicted)(x)
            along = slope * (1.0 + jnp.square(x))
            gap = jnp.where(known[e], data[e] - value, 0.0)
            pull = pull + gap * along / (slope @ along + 1e-12)
        return pull

    def _observed(self, model, ind, state, t, observed, endpoint):
        """log p of the observation at one stop; 0 where there is none."""
        out = observation_row(model, ind, self.anatomy.states, state, t)
        total = jnp.zeros(())
        for e, name in enumerate(self.anatomy.endpoints):
            record = jnp.where(endpoint == e, observed, self._typical[e])
            total = total + jnp.where(endpoint == e, log_density(out[name].terms(Record(*record))), 0.0)
        return total

    @functools.cached_property
    def _typical(self) -> np.ndarray:
        """(E, 3) an observation of each endpoint, in the place of those of others."""
        segments = self.segments
        found = np.tile([1.0, 0.0, np.nan], (len(self.anatomy.endpoints), 1))
        for e in range(len(found)):
            own = segments.observed[segments.endpoint == e]
            if len(own):
                found[e] = own[len(own) // 2]
        return found
