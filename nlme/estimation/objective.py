"""The objective of a whole population: every subject's mode and marginal at once, with the exact gradient."""

from __future__ import annotations

import dataclasses
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int

from nlme.language.anatomy import MEMBER, Anatomy
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects
from nlme.language.stacking import SubjectData
from nlme.marginal.base import Method, Subject
from nlme.marginal.curvature import curvature_at
from nlme.marginal.mode import ModeSearch, begin_mode, search_mode, with_derivative
from nlme.parameters.inventory import Inventory


class Evaluation(NamedTuple):
    """Objective of every subject at one point of the parameters; a leading axis over subjects throughout."""

    value: Float[Array, " N"]  # -2 log L without n log 2 pi
    gradient: Float[Array, "N P"] | None  # in the unconstrained parameters
    b: Float[Array, "N q"]  # standardised modes
    decrement: Float[Array, " N"]
    iterations: Int[Array, " N"]
    converged: Bool[Array, " N"]
    status: Int[Array, " N"]
    membership: Float[Array, "N K"]  # probability of each subpopulation given the data; the modes are those of the likeliest
    joint: Float[Array, " N"]  # Phi at the mode; infinite for a method that needs none


def one_subject(method: Method, anatomy: Anatomy, model: Model, data: SubjectData, start: Float[Array, " q"]):
    """(objective, mode) of one subject; the objective is differentiable in ``model``.

    In a mixture -2 log sum_k p_k exp(-o_k / 2), o_k the objective if the subject belonged to subpopulation k.
    """

    def alone(data):
        value, mode = after_search(method, anatomy, model, data, begin_mode(start), method.inner_iterations)
        return value, (mode.b, mode.decrement, mode.count, mode.decrement <= method.inner_tolerance, mode.status, mode.value)

    if not anatomy.mixture:
        value, (*mode, joint) = alone(data)
        return value, (*mode, jnp.ones(1), joint)

    def belonging(k):
        column = jnp.full_like(data.covariates[MEMBER], k)
        return alone(dataclasses.replace(data, covariates={**data.covariates, MEMBER: column}))

    values, modes = jax.vmap(belonging)(jnp.arange(len(anatomy.subpopulations), dtype=float))
    weights = jnp.log(getattr(model, anatomy.mixture).shares) - 0.5 * values
    best = jnp.argmax(weights)
    b, decrement, count, converged, status, joint = modes
    # a search that failed spoils the sum, whichever subpopulation it was for
    found = (b[best], jnp.max(decrement), jnp.max(count), jnp.all(converged), jnp.max(status))
    return -2.0 * logsumexp(weights), (*found, jax.nn.softmax(weights), joint[best])


def after_search(method: Method, anatomy: Anatomy, model: Model, data: SubjectData, search: ModeSearch, most: int):
    """(objective, search) of one subject after at most ``most`` further iterations of its mode's search.

    The objective is differentiable in ``model``.  It is the method's only once the search has converged.
    """
    method.require(anatomy)
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    stopped = eqx.combine(jax.lax.stop_gradient(arrays), rest)
    zero = jnp.zeros_like(search.b)
    if not method.searches:
        subject = Subject(method, anatomy, data, model, zero, method.order)
        status = subject.moments(model, zero).status
        found = search._replace(b=zero, decrement=jnp.zeros(()), status=status)
        return method.objective(subject, model, zero), found

    def curvature(b):
        return curvature_at(method, anatomy, data, stopped, b)

    search = search_mode(curvature, jax.lax.stop_gradient(search), method.inner_tolerance, method.inner_iterations, most)
    subject = Subject(method, anatomy, data, model, search.b, method.order)
    b = with_derivative(lambda b: subject.gradient(subject.slopes(model, b), b), search.b, search.hessian)
    return method.objective(subject, model, b), search


def evaluate_subjects(
    method: Method, anatomy: Anatomy, inventory: Inventory, model: Model, arrays: Ragged, u, starts, gradient: bool = True
) -> Evaluation:
    """Every subject's objective (and gradient) at the unconstrained parameters ``u``; ``starts`` (N, q) begin the modes."""
    rest = (u, jnp.asarray(starts), gradient)
    if arrays.threads == 1 or isinstance(u, jax.core.Tracer):
        return _evaluate(method, anatomy, inventory, model, arrays, *rest)

    def of(k: int) -> Evaluation:
        return jax.block_until_ready(_of_share(method, anatomy, inventory, model, arrays, jnp.asarray(k), *rest))

    program = (method, anatomy, inventory, type(model), gradient, tuple(x.shape for x in jax.tree.leaves(arrays)))
    threads = _threads(arrays.threads)
    if program in _compiled:
        found = list(threads.map(of, range(arrays.threads)))
    else:  # the first share alone, so that the program that all have in common is compiled once
        found = [of(0), *threads.map(of, range(1, arrays.threads))]
        _compiled.add(program)
    order = arrays.order()
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[order], *found)


_compiled: set = set()


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="nlme")


@eqx.filter_jit
def _of_share(method, anatomy, inventory, model, arrays: Ragged, k, u, starts, gradient: bool) -> Evaluation:
    return _evaluate(method, anatomy, inventory, model, arrays.share(k), u, starts, gradient)


@eqx.filter_jit
def _evaluate(method, anatomy, inventory, model, arrays: Ragged, u, starts, gradient: bool) -> Evaluation:
    def objective(u, data, start):
        return one_subject(method, anatomy, inventory.at_unconstrained(model, u), data, start)

    if gradient:
        derived = jax.value_and_grad(objective, has_aux=True)
        ((value, mode), slope), _ = over_subjects(lambda data, start: (derived(u, data, start), ()), arrays, starts)
    else:
        (value, mode), _ = over_subjects(lambda data, start: (objective(u, data, start), ()), arrays, starts)
        slope = None
    return Evaluation(value, slope, *mode)
