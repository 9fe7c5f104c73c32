"""Every subject's mode and marginal at once, with the exact gradient."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from nlme.dynamics.solvers import SOLVED
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.language.stacking import SubjectData
from nlme.linalg import cholesky
from nlme.marginal.base import Method, Subject
from nlme.marginal.curvature import curvature_at
from nlme.marginal.mode import ModeSearch, begin_mode, restarted, search_mode, with_derivative
from nlme.marginal.variational import at_posterior

_FURTHEST = 4.0  # standard deviations that a mode is followed in one step of the parameters
_MOST_FOLLOWED = 40  # parameters, above which modes are not followed: a network's weights are differentiated in reverse, dearly
_BY_SLOPES = 8  # iterations of a mode's search with first derivatives


class Evaluation(NamedTuple):
    """Objective of every subject at one point of the parameters; a leading axis over subjects throughout.

    Where subjects share the random effects of a site, ``value`` and ``gradient`` are of the sites.
    """

    value: Float[Array, " N"]  # -2 log L without n log 2 pi
    gradient: Float[Array, "N P"] | None  # in the unconstrained parameters
    b: Float[Array, "N q"]  # standardised modes, the site's last
    decrement: Float[Array, " N"]
    iterations: Int[Array, " N"]
    converged: Bool[Array, " N"]
    status: Int[Array, " N"]
    membership: Float[Array, "N K"]  # probability of each subpopulation given the data; the modes are those of the likeliest
    joint: Float[Array, " N"]  # Phi at the mode; infinite for a method that needs none
    second_order: Float[
        Array, "N q q"
    ]  # what second derivatives of the states add to the Hessian at the mode; 0 for closed forms
    motion: Float[Array, "N q P"] | None = None  # of the modes with the unconstrained parameters, where it is worth having
    given: Float[Array, " N"] | None = None  # objective of each subject given its site's effects at their mode
    parts: Float[Array, "N P"] | None = None  # of the sites' gradients, that each subject contributes

    @property
    def scores(self) -> Float[Array, "N P"]:
        """Rows whose sum is the gradient and whose outer products say how the objective bends: one for each subject, also where
        subjects share the random effects of a site (few sites know few directions)."""
        return self.gradient if self.parts is None else self.parts

    @property
    def by_subject(self) -> Float[Array, " N"]:
        """An objective for each subject; not finite where its site's is not for its sake."""
        return self.value if self.given is None else self.given

    def of_parameters(self, columns: np.ndarray) -> Evaluation:
        """The same with derivatives in these parameters only, as NumPy arrays."""
        found = jax.tree.map(np.asarray, self)
        if found.gradient is None or len(columns) == found.gradient.shape[-1]:
            return found
        chosen = {name: getattr(found, name) for name in ("gradient", "motion", "parts")}
        return found._replace(**{name: x if x is None else x[..., columns] for name, x in chosen.items()})

    def where(self, taken: np.ndarray, other: Evaluation) -> Evaluation:
        """The ``other`` of the subjects ``taken`` (N,), this one of the others; as NumPy arrays."""
        return jax.tree.map(lambda a, b: np.where(taken.reshape(taken.shape + (1,) * (a.ndim - 1)), b, a), self, other)

    def followed(self, move: np.ndarray) -> np.ndarray:
        """Where the modes will be, to first order, when the unconstrained parameters have moved by ``move``."""
        if self.motion is None:
            return np.asarray(self.b)
        return np.asarray(self.b) + np.clip(np.asarray(self.motion) @ move, -_FURTHEST, _FURTHEST)


def one_subject(
    method: Method,
    anatomy: Anatomy,
    model: Model,
    data: SubjectData,
    start: Float[Array, " q"],
    second_order: Float[Array, "q q"],
    tolerance: Float[Array, ""],
):
    """((objective, b^), mode) of one subject; the objective and the mode b^ are differentiable in ``model``.

    In a mixture -2 log sum_k p_k exp(-o_k / 2), o_k the objective if the subject belonged to subpopulation k.
    """

    def alone(data):
        value, b, mode, after = at_mode(
            method, anatomy, model, data, begin_mode(start), method.inner_iterations, second_order, tolerance
        )
        found = mode.decrement <= tolerance
        # states that a failed solve has left half way have a density, too
        value = jnp.where(mode.status == SOLVED, value, jnp.inf)
        # first derivatives end a search less closely than second ones, and the step after the search makes up for that
        where = mode.b if anatomy.linear else jnp.where(found, jax.lax.stop_gradient(b), mode.b)
        return (value, b), (where, mode.decrement, mode.count, found, mode.status, mode.value, after)

    if not anatomy.mixture:
        found, (*mode, joint, after) = alone(data)
        return found, (*mode, jnp.ones(1), joint, after)

    members = jnp.arange(len(anatomy.subpopulations), dtype=float)
    (values, moving), modes = jax.vmap(lambda k: alone(data.belonging(k)))(members)
    weights = jnp.log(getattr(model, anatomy.mixture).shares) - 0.5 * values
    best = jnp.argmax(weights)
    b, decrement, count, converged, status, joint, after = modes
    # a search that failed spoils the sum, whichever subpopulation it was for
    found = (b[best], jnp.max(decrement), jnp.max(count), jnp.all(converged), jnp.max(status))
    value = jnp.where(jnp.max(status) == SOLVED, -2.0 * logsumexp(weights), jnp.inf)
    return (value, moving[best]), (*found, jax.nn.softmax(weights), joint[best], after[best])


def after_search(method: Method, anatomy: Anatomy, model: Model, data: SubjectData, search: ModeSearch, most: int):
    """(objective, search) of one subject after at most ``most`` further iterations of its mode's search.

    The objective is differentiable in ``model``.  It is the method's only once the search has converged.
    """
    second_order = jnp.zeros((len(search.b), len(search.b)))
    value, _, search, _ = at_mode(method, anatomy, model, data, search, most, second_order, method.inner_tolerance)
    return value, search


def at_mode(
    method: Method,
    anatomy: Anatomy,
    model: Model,
    data: SubjectData,
    search: ModeSearch,
    most: int,
    second_order: Float[Array, "q q"],
    tolerance: float | Float[Array, ""],
):
    """(objective, mode b^, search, second_order at the mode), as ``after_search``; b^ is differentiable in ``model``, too.

    Where the states are solved numerically, first derivatives cost a fifth of second ones.  The search then begins with the
    expected Hessian plus ``second_order``, the difference of the exact and the expected one nearby, and only goes on with second
    derivatives if that does not end (a structured quasi-Newton step: Dennis, Gay & Welsch 1981, doi:10.1145/355958.355965).
    """
    method.require(anatomy)
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    stopped = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    held = dataclasses.replace(data, shared=jax.lax.stop_gradient(data.shared))
    zero = jnp.zeros_like(search.b)
    if not method.searches:
        subject = Subject(method, anatomy, data, model, zero, method.order)
        status = subject.moments(model, zero).status
        found = search._replace(b=zero, decrement=jnp.zeros(()), status=status)
        return method.objective(subject, model, zero), zero, found, second_order

    def curvature(b, order: int = 2):
        return curvature_at(method, anatomy, held, stopped, b, order)

    search = jax.lax.stop_gradient(search)
    if method.gaussian and len(zero):
        return at_posterior(method, anatomy, (held, stopped), data, model, search, most, second_order, tolerance)
    limit = method.inner_iterations
    noise = 1e-10 if anatomy.linear else max(1e-10, method.ode.relative)
    if not anatomy.linear:

        def nearly(b):
            at = curvature(b, order=1)
            return at._replace(hessian=at.expected + second_order)

        search = search_mode(nearly, search, tolerance, min(_BY_SLOPES, limit), most, noise)
        # the same Phi solved along other columns differs by the tolerance of the solver
        search = restarted(search, tolerance, limit)
    search = search_mode(curvature, search, tolerance, limit, most, noise)
    subject = Subject(method, anatomy, data, model, search.b, method.order)
    hessian = search.hessian
    if not anatomy.linear:
        at = subject.curvature(stopped, search.b)
        usable = jnp.all(jnp.isfinite(cholesky(at.hessian)))
        hessian = jnp.where(usable, at.hessian, at.expected)
        second_order = jax.lax.stop_gradient(hessian - at.expected)
    b = with_derivative(lambda b: subject.gradient(subject.slopes(model, b), b), search.b, hessian)
    return method.objective(subject, model, b), b, search, second_order


@eqx.filter_jit
def evaluate_each(
    arrays: Ragged, method, anatomy, inventory, model, u, starts, second_order, tolerance, gradient: bool
) -> Evaluation:
    """Every subject's objective (and gradient), no subject sharing random effects with another; see ``marginal.objective``."""

    def objective(u, data, start, second_order):
        return one_subject(method, anatomy, inventory.at_unconstrained(model, u), data, start, second_order, tolerance)

    moving = method.searches and not (method.gaussian or anatomy.linear or anatomy.mixture)
    followed = gradient and moving and len(u) <= _MOST_FOLLOWED

    def of_subject(data, start, second_order):
        if not gradient:
            (value, _), mode = objective(u, data, start, second_order)
            return (value, None, mode, None), ()
        (value, b), pull, mode = jax.vjp(lambda u: objective(u, data, start, second_order), u, has_aux=True)
        size = len(b) if followed else 0
        (slopes,) = jax.vmap(pull)((jnp.eye(1 + size)[0], jnp.eye(1 + size, len(b), -1)))
        return (value, slopes[0], mode, slopes[1:] if followed else None), ()

    (value, slope, mode, motion), _ = over_subjects(of_subject, arrays, starts, second_order)
    return Evaluation(value, slope, *mode, motion)


@eqx.filter_jit
def hessians_at(method: Method, anatomy: Anatomy, model: Model, arrays: Ragged, b: Float[Array, "N q"]) -> Float[Array, "N q q"]:
    """Second derivatives of every subject's Phi in the standardised random effects at ``b``."""
    return over_subjects(lambda data, b: (curvature_at(method, anatomy, data, model, b).hessian, ()), arrays, b)[0]
