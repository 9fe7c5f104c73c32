"""Preconditioned stochastic gradient Langevin dynamics, for posteriors of many weights.

In coordinates w in which the density is about standard normal (``nlme.posterior.marginal``), with U its negative logarithm,

    w_(t+1) = w_t - e/2 G g_t + sqrt(e G) xi_t,     xi_t ~ N(0, I),     G = 1 / (sqrt(V) + lambda),   V <- a V + (1 - a) g_t^2

g_t is the gradient of U, or an unbiased estimate of it from some subjects drawn for each chain and step, with the scores at the mode
w = 0 as control variates:

    g = dU0/dw + sum_i s_i(0) + sum_p N_p / n_p sum_(i drawn, class p) (s_i(w) - s_i(0))

V moves during warm-up only: held afterwards, the preconditioner is constant and needs no correction of its own (the sum Gamma of the
source, which it leaves out too).  There is no Metropolis step.  What that and the step cost is seen in the draws themselves: by Stein's
identity E[(w_k - E w_k) dU/dw_k] = 1 under the posterior, and 1 / (1 - e G h / 4) along a direction of curvature h.

Sources: Welling & Teh (2011), ICML (SGLD); Li, Chen, Carlson & Carin (2016), AAAI 30, arXiv:1512.07666 (preconditioned); Baker, Fearnhead,
Fox & Nemeth (2019), Stat Comput 29:599, doi:10.1007/s11222-018-9826-2 (control variates); Stein (1981), Ann Stat 9:1135.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.parameters.domains import is_numeric, require_whole
from nlme.posterior.sampler import Draws

_DAMPING = 1e-2  # lambda
_LONGEST = 1.0  # drift of one step, in standard deviations: a chain that begins far out must not be thrown further


@dataclasses.dataclass(frozen=True)
class SGLD:
    """Options of ``nlme.sample(..., weights=nlme.SGLD(...))``; see :mod:`nlme.posterior.langevin`.

    Attributes
    ----------
    step : e, about the square of a step in standard deviations of the posterior.  Where it is normal the draws' variance is too large
        by a share of about e / 4; where its curvature changes by more, and the message says by how much
    subjects : how many are drawn for a step, about; None for all
    thin : steps between two draws
    memory : a, of the preconditioner in warm-up
    """

    step: float = 0.01
    subjects: int | None = None
    thin: int = 100
    memory: float = 0.9995

    def __post_init__(self):
        for name, low, high in (("step", 0.0, 1.0), ("memory", 0.0, 1.0)):
            value = getattr(self, name)
            if not is_numeric(value) or np.ndim(value) or not low < value < high:
                raise ModelError(f"SGLD: {name} is a number between {low:g} and {high:g}; got {value!r}.")
        require_whole("SGLD", "thin", self.thin, 1)
        if self.subjects is not None:
            require_whole("SGLD", "subjects", self.subjects, 1)


class _State(NamedTuple):
    w: dict
    gradient: Float[Array, "C G"]  # of U at w, or its estimate
    potential: Float[Array, " C"]
    square: Float[Array, "C G"]  # V
    count: Array  # iterations so far
    key: Any


class Langevin:
    """The kernel (``nlme.posterior.sampler.Kernel``) of one marginal density; ``energy`` is U, and what the chains report as such."""

    def __init__(self, density: Any, energy: Callable, how: SGLD, warmup: int):
        self._how, self._warmup = how, warmup
        everybody = how.subjects is None or how.subjects >= density.n_subjects
        self._slope = _whole(energy) if everybody else _drawn(density, how.subjects)

    def initial(self, keys, start: dict) -> _State:
        size = start["population"].shape
        nothing = jnp.zeros(size)
        return _State(start, nothing, jnp.zeros(size[0]), jnp.ones(size), jnp.zeros((), int), keys)

    def step(self, state: _State) -> _State:
        """``thin`` steps; the gradient kept is that at the w kept."""
        adapting = state.count < self._warmup

        def one(_, carry):
            w, square, key = carry
            own = jax.vmap(lambda k: jax.random.split(k, 3))(key)
            gradient, _ = self._slope(w, own[:, 1])
            square = jnp.where(adapting, self._how.memory * square + (1.0 - self._how.memory) * jnp.square(gradient), square)
            metric = 1.0 / (jnp.sqrt(square) + _DAMPING)
            noise = jax.vmap(lambda k: jax.random.normal(k, w.shape[1:]))(own[:, 2])
            drift = jnp.clip(0.5 * self._how.step * metric * gradient, -_LONGEST, _LONGEST)
            return w - drift + jnp.sqrt(self._how.step * metric) * noise, square, own[:, 0]

        carry = state.w["population"], state.square, state.key
        w, square, key = jax.lax.fori_loop(0, self._how.thin, one, carry)
        own = jax.vmap(lambda k: jax.random.split(k, 2))(key)
        gradient, potential = self._slope(w, own[:, 1])
        return _State({"population": w}, gradient, potential, square, state.count + 1, own[:, 0])

    def keep(self, state: _State) -> Draws:
        chains = state.potential.shape
        # the gradient goes beside the draws: Stein's identity needs both
        w = {"population": state.w["population"], "gradient": state.gradient}
        steps = jnp.full(chains, self._how.thin)
        one = jnp.ones(chains)
        return Draws(w, state.potential, state.potential, steps, one, ~jnp.isfinite(state.potential), self._how.step * one)


def _whole(energy: Callable) -> Callable:
    """(w (C, G), keys) -> dU/dw and U, of all subjects."""
    both = jax.vmap(jax.value_and_grad(lambda w: energy({"population": w})))

    def slope(w, keys):
        value, gradient = both(w)
        return gradient, value

    return slope


def _drawn(density: Any, subjects: int) -> Callable:
    """The same estimated from ``subjects`` of them; U is not known then, and 0."""
    place, sizes = density.place, density.class_sizes
    share = max(1, round(density.n_subjects / subjects))
    counts = [max(1, size // share) for size in sizes]
    factors = jnp.concatenate([jnp.full(count, size / count) for count, size in zip(counts, sizes, strict=True)])

    def parted(x, rows):
        return density.parted(x, place.starts, rows)

    at_mode, who = jax.jit(lambda x: parted(x, [jnp.arange(size) for size in sizes])[1:])(place.x)
    scores = jnp.zeros((density.n_subjects, len(place.x))).at[who].set(at_mode)
    total = jnp.sum(scores, axis=0)

    def one(w, key):
        keys = jax.random.split(key, len(sizes))
        rows = [jax.random.permutation(k, size)[:count] for k, size, count in zip(keys, sizes, counts, strict=True)]
        prior, own, who = parted(place.at(w), rows)
        gradient = -place.spread.T @ (prior + total + factors @ (own - scores[who]))
        bad = ~jnp.all(jnp.isfinite(gradient))
        return jnp.where(bad, 0.0, gradient), jnp.where(bad, jnp.inf, 0.0)

    return jax.vmap(one)


def spread_inflation(w: Float[np.ndarray, "C D G"], gradient: Float[np.ndarray, "C D G"]) -> float:
    """By how much the draws' variance is too large (0.05: 5 %), by Stein's identity over all coordinates and chains."""
    centred = w - w.mean(axis=(0, 1))
    return float(np.mean(centred * gradient) - 1.0)
