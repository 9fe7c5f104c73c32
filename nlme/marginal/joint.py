"""The joint density of observations and random effects, differentiable in both, for methods that sample.

    log p(y, b | theta) = sum_i [ sum_j log p(y_ij | theta, L b_i) - 1/2 b_i'b_i ] + constant

The derivatives never go through a solver: the states are solved once on their first-order jet at the point, and the local
polynomial, exact to first order there, is what JAX differentiates (see ``nlme.language.solution``).

In a mixture, which subpopulation k a subject belongs to is summed over: p(y | theta, eta) = sum_k p_k p(y | theta, eta, k).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float, Int

from nlme.dynamics.solvers import SOLVED, Tolerances
from nlme.language.anatomy import Anatomy
from nlme.language.density import effects_from, log_densities, moments
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.language.solution import expand
from nlme.language.stacking import SubjectData


def pointwise(
    model: Model, anatomy: Anatomy, data: SubjectData, b: Float[Array, " q"], order: int, tolerances: Tolerances
) -> tuple[Float[Array, " T"], Int[Array, ""]]:
    """log p(y_j | theta, L b) of one subject's samples (0 where padded), constants included, and how its solve ended.

    ``order`` 1 makes it differentiable in (model, b), 0 gives the value only.
    """
    eta = effects_from(anatomy, model, b)
    solution = expand(model, anatomy, eta, data.covariates, data.known, order, tolerances)(model, eta)
    m = moments(model, anatomy, data, solution)
    return jnp.where(data.mask, log_densities(m), 0.0), m.status


def by_subpopulation(
    model: Model, anatomy: Anatomy, data: SubjectData, b: Float[Array, " q"], order: int, tolerances: Tolerances
) -> tuple[Float[Array, "K T+1"], Float[Array, " K"]]:
    """The terms of log p_k p(y | theta, L b, k) in every subpopulation k, the samples' as of ``pointwise`` and last log p_k, and
    their sums, -inf where the equations were not solved or the density is no number.  Without a mixture K = 1 and p_1 = 1.
    """
    if anatomy.mixture:
        members = jnp.arange(len(anatomy.subpopulations), dtype=float)
        terms, status = jax.vmap(lambda k: pointwise(model, anatomy, data.belonging(k), b, order, tolerances))(members)
        shares = jnp.log(getattr(model, anatomy.mixture).shares)
    else:
        terms, status = jax.tree.map(lambda x: x[None], pointwise(model, anatomy, data, b, order, tolerances))
        shares = jnp.zeros(1)
    terms = jnp.concatenate([terms, shares[:, None]], axis=1)
    total = jnp.sum(terms, axis=1)
    return terms, jnp.where((status == SOLVED) & jnp.isfinite(total), total, -jnp.inf)


def log_joint(
    model: Model, anatomy: Anatomy, arrays: Ragged, b: Float[Array, "N q"], order: int, tolerances: Tolerances
) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """log p(y, b | theta) of all subjects without the constant of the random effects, and the worst ending of their solves.

    The last columns of ``b`` are the effects of the subjects' sites, if they share any.
    """

    def of_subject(data, b):
        terms, status = pointwise(model, anatomy, data, b, order, tolerances)
        return (jnp.sum(terms), status), ()

    (total, status), _ = over_subjects(of_subject, arrays, b)
    squares = jnp.square(b)
    if anatomy.by_site:  # those of a site count once, not for each of its subjects
        sizes = jnp.zeros(len(b)).at[arrays.site_of].add(1.0)[arrays.site_of]
        squares = squares.at[:, anatomy.inner :].divide(sizes[:, None])
    return jnp.sum(total) - 0.5 * jnp.sum(squares), jnp.max(status)


class Failures:
    """Counts, while compiled code runs, the points at which a solve failed; a point met twice counts once.

    A program that reports to it calls back to Python, and so is not kept in JAX's compilation cache.
    """

    def __init__(self):
        self._points: set[bytes] = set()
        note = custom_vmap(self._note)
        # Under vmap the condition would be turned into a selection, and the host be called at every step of every chain
        note.def_vmap(lambda size, batched, failed, point: (note(failed, point), True))
        self.note = note

    def _note(self, failed, point):
        jax.lax.cond(jnp.any(failed), lambda x: jax.debug.callback(self._record, *x), lambda x: None, (failed, point))
        return failed

    def _record(self, failed, points):
        for bad, point in zip(np.atleast_1d(failed), np.atleast_2d(points), strict=True):
            if bad:
                self._points.add(np.asarray(point).tobytes())

    def take(self) -> int:
        """How many since the last call."""
        jax.effects_barrier()
        count = len(self._points)
        self._points.clear()
        return count


def potential(log_density: Callable, failures: Failures | None = None) -> Callable:
    """Minus ``log_density``, as a sampler wants it: infinite, with a zero gradient, where it could not be computed.

    ``log_density(z)`` returns (value, status of the solves) for a pytree z of arrays; ``failures`` counts failed solves.
    """

    @jax.jit  # traced once for all the programs a sampler makes of it
    def compute(z):
        (value, status), gradient = jax.value_and_grad(log_density, has_aux=True)(z)
        finite = jnp.isfinite(value) & jnp.all(jnp.stack([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(gradient)]))
        solved = status == SOLVED
        if failures is not None:
            solved = ~failures.note(~solved, jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(z)]))
        usable = finite & solved
        return jnp.where(usable, -value, jnp.inf), jax.tree.map(lambda g: jnp.where(usable, -g, 0.0), gradient)

    @jax.custom_vjp
    def minus(z):
        return compute(z)[0]

    minus.defvjp(compute, lambda gradient, upstream: (jax.tree.map(lambda g: upstream * g, gradient),))
    return minus
