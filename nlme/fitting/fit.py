"""Fitting a model to a population."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.fitting.evaluated import evaluated_fields, inventory_of, method_of
from nlme.fitting.failures import require_finite
from nlme.fitting.maximum_posterior import MAP, MinusTwiceLogPrior
from nlme.fitting.result import Fit
from nlme.fitting.saem.method import SAEM
from nlme.fitting.saem.search import search as approximate
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model, require_model
from nlme.language.ragged import mesh_of
from nlme.marginal.base import Method
from nlme.marginal.objective import evaluate_subjects
from nlme.marginal.sites import require_sites
from nlme.marginal.subjects import Evaluation
from nlme.parameters.inventory import Inventory
from nlme.search.problem import Penalty, Problem
from nlme.search.progress import Progress
from nlme.search.quasi_newton import BAD_START, SEARCHING, absorb, begin, corrected, propose
from nlme.versions import versions

_APART = 1e-4  # two modes, if their densities or objectives differ by this much
_OF_GAIN = 1e-6  # inner tolerance, of the gain in the objective that the next step promises
_MUCH_LOOSER = 1e3
_ROUNDS = 5  # of the search, each ended by a search for better modes
_MOST_CURVED = 2000  # parameters up to which a penalty's Hessian is kept


def fit(
    model: Model,
    population,
    method: Method | None = None,
    *,
    fixed: Iterable[str] = (),
    priors: Mapping[str, Any] | None = None,
    penalty: Penalty | None = None,
    tolerance: float = 1e-7,
    max_evaluations: int = 1000,
    progress: bool | None = None,
    sharding=None,
    checkpoint: str | None = None,
    checkpoint_every: float = 30.0,
) -> Fit:
    """Maximum likelihood estimates of a model's parameters.

    The objective -2 log L of ``method`` is minimised in unconstrained, scaled parameters by BFGS with its exact gradient; the
    model's own values are the starting values.  Interrupting (Ctrl-C) returns the best found so far, and says so.

    Parameters
    ----------
    model : the model, its values the starting values
    population : the data
    method : FO(), FOCE(), FOCEI() (the default), Laplace(), AGQ(), ImportanceSampling(), SAEM() or NaivePooled(); or
        MAP(priors, method)
    fixed : names of parameters to hold at their starting values: a field ("ka"), one element ("omega.ka"), a group ("omega")
    priors : name -> NumPyro distribution (see :mod:`nlme.parameters.priors`), added to the search as -2 log prior: maximum a
        posteriori estimates (:mod:`nlme.fitting.maximum_posterior`).  Parameters without one have a flat one
    penalty : function of the model added to the objective in the search only (``nlme.L2(...)``); reported figures leave it out
    tolerance : the search ends when the expected further decrease of the objective is below this
    max_evaluations : limit of evaluations of objective and gradient
    progress : show a line of progress; by default where the output is a terminal or a notebook
    sharding : JAX devices over which the subjects are spread, see :func:`evaluate`
    checkpoint : file in which a fit by SAEM keeps its state; where the file exists the fit goes on from it, to the same result
    checkpoint_every : seconds between two writings of it

    ``tolerance`` and ``max_evaluations`` are those of BFGS; the limits of ``nlme.SAEM`` are its own options.

    Raises
    ------
    ModelError
        The model does not fit the data, or ``fixed`` names an unknown parameter.
    FitError
        The objective is not finite at the starting values; subjects and records are named.
    """
    if isinstance(method, MAP):
        if priors is not None:
            raise ModelError("The priors are given twice: in nlme.MAP(...) and as priors=.")
        method, priors = method.method, method.priors
    method = method_of(method)
    layout = lay_out(require_model(model), population, mesh=mesh_of(sharding))
    require_sites(method, layout.anatomy)
    fixed = (fixed,) if isinstance(fixed, str) else tuple(fixed)
    inventory = inventory_of(method, model, fixed)
    inventory.require_searchable(model)
    prior = MinusTwiceLogPrior(model, priors, inventory.fixed) if priors else None
    if prior is not None and penalty is not None:
        raise ModelError("Give priors= or penalty=, not both: nlme.L2(strength) is the prior Normal(0, strength ** -0.5).")
    penalty = prior or penalty
    if not len(inventory):
        raise ModelError("Every parameter is fixed, so there is nothing to fit; use nlme.evaluate(model, population, method).")
    clock = time.perf_counter()
    if isinstance(method, SAEM):
        problem = Problem(method, model, layout, inventory, penalty)
        found = approximate(problem, progress, checkpoint, checkpoint_every)
        return _approximated(found, method, model, population, layout, inventory, penalty, clock)
    if checkpoint is not None:
        raise ModelError(f"checkpoint= is for fits by nlme.SAEM; {method!r} keeps none.")
    starts, second_order = np.zeros((layout.n_subjects, len(layout.anatomy.effects))), None
    search, trial = _begin(inventory, model)
    history: dict[str, list] = {"iteration": [], "objective": [], "gradient": [], "elapsed": []}
    first_call = 0.0
    best: Evaluation | None = None
    loose = 0.0  # inner tolerance of the best
    rounds = _ROUNDS
    with Progress(progress, f"{type(model).__name__}, {method!r}") as show:
        try:
            while int(search.status) == SEARCHING or rounds:
                if int(search.status) != SEARCHING:
                    best, moved = _from_scratch(best, method, layout, inventory, model, search.x)
                    loose = method.inner_tolerance
                    rounds = rounds - 1 if moved else 0
                    if rounds:  # other modes, another objective: on from here
                        before = search
                        search, trial = _begin(inventory, _model_at(inventory, model, search.x))
                        search = search._replace(iterations=before.iterations)
                    continue
                if best is not None:  # the modes of the best point so far, followed to this one
                    starts, second_order = best.followed(np.asarray(trial) - np.asarray(search.x)), best.second_order
                inner = _inner_tolerance(method, layout, search, best)
                at = evaluate_subjects(
                    method, layout.anatomy, inventory, model, layout.arrays, trial, starts, second_order=second_order, tolerance=inner
                )
                search, trial, accepted = _advance(search, at, penalty, inventory, model, trial, tolerance, max_evaluations)
                if best is None:
                    first_call = time.perf_counter() - clock
                    if int(search.status) == BAD_START:
                        values, status = np.asarray(at.by_subject), np.asarray(at.status)
                        require_finite(values, status, layout, model, "at the starting values", method.ode)
                        raise FitError("The gradient of the objective is not finite at the starting values; try other values.")
                if not bool(accepted) and loose > _MUCH_LOOSER * inner:
                    # not for want of digits of the best objective so far
                    best = evaluate_subjects(
                        method, layout.anatomy, inventory, model, layout.arrays, search.x, best.b, second_order=best.second_order, tolerance=inner
                    )
                    loose = inner
                    search, trial = _corrected(search, best, penalty, inventory, model)
                if bool(accepted):
                    best, loose = at, inner
                    elapsed = time.perf_counter() - clock
                    norm = float(np.max(np.abs(np.asarray(search.gradient))))
                    for name, entry in zip(history, (int(search.iterations), float(search.value), norm, elapsed), strict=True):
                        history[name].append(entry)
                    show(int(search.iterations), float(search.value), norm)
        except KeyboardInterrupt:
            if best is None:
                raise
    found = _model_at(inventory, model, search.x)
    if rounds:  # interrupted
        best, _ = _from_scratch(best, method, layout, inventory, model, search.x)
    total = time.perf_counter() - clock
    return Fit(
        **evaluated_fields(method, found, population, tuple(sorted(inventory.fixed)), layout, best),
        start=model,
        search_status=int(search.status),
        gradient=np.asarray(search.gradient),
        **_penalised(penalty, inventory, model, search.x),
        history_columns={name: np.array(values) for name, values in history.items()},
        timings={"first evaluation, with compilation": first_call, "search": total - first_call, "total": total},
        versions=versions(),
        data_hash=population.hash,
    )


def _approximated(found, method: SAEM, model, population, layout, inventory, penalty, clock) -> Fit:
    """The fit whose parameters SAEM found, with the objective, the modes and the gradient by importance sampling there."""
    searched = time.perf_counter() - clock
    u = jnp.asarray(found.estimate)
    estimate = _model_at(inventory, model, u)
    starts = np.linalg.solve(np.asarray(layout.anatomy.cholesky(estimate)), np.asarray(found.state.s1).sum(axis=1).T).T
    at = evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts)
    require_finite(np.asarray(at.value), np.asarray(at.status), layout, estimate, "at the estimate", method.ode)
    total = time.perf_counter() - clock
    natural = jax.vmap(lambda u: inventory.natural(inventory.at_unconstrained(model, u)))(jnp.asarray(found.path))
    moved = np.abs(np.diff(found.path, axis=0, prepend=np.asarray(inventory.unconstrained(model))[None]))
    count = np.arange(1, len(found.path) + 1)
    history = {
        "iteration": count,
        "objective": found.criterion,
        "gradient": moved.max(axis=1),
        "elapsed": found.elapsed,
        "smoothing": (found.explored >= 0) & (count > found.explored),
        **dict(zip(inventory.names, np.asarray(natural).T, strict=True)),
    }
    return Fit(
        **evaluated_fields(method, estimate, population, tuple(sorted(inventory.fixed)), layout, at),
        start=model,
        search_status=found.status,
        gradient=np.sum(np.asarray(at.gradient), axis=0),
        **_penalised(penalty, inventory, model, u),
        history_columns=history,
        timings={"search": searched, "total": total},
        versions=versions(),
        data_hash=population.hash,
    )


def _penalised(penalty, inventory: Inventory, model: Model, u) -> dict:
    """What a fit keeps of its penalty or prior."""
    if penalty is None:
        return {}

    def at(u):
        return penalty(inventory.at_unconstrained(model, u))

    slopes = None
    if len(u) <= _MOST_CURVED:
        slopes = np.asarray(jax.jit(jax.grad(at))(u)), np.asarray(jax.jit(jax.hessian(at))(u))
    words = penalty.words if isinstance(penalty, MinusTwiceLogPrior) else {}
    return {"penalty": float(at(u)), "penalty_slopes": slopes, "priors": words}


@eqx.filter_jit
def _begin(inventory: Inventory, model: Model):
    search = begin(inventory.unconstrained(model))
    return search, propose(search)


def _inner_tolerance(method: Method, layout: Layout, search, best: Evaluation | None) -> float:
    """How closely modes are searched: where states are costly and much is still to be gained, less closely than at the end.

    A mode found to a tolerance t leaves an error of about t in a subject's objective and of sqrt(t) in its gradient.
    """
    if layout.anatomy.linear:
        return method.inner_tolerance
    gain = np.inf if best is None else 0.5 * abs(float(search.gradient @ search.direction))
    return float(np.clip(_OF_GAIN * gain, method.inner_tolerance, max(method.inner_tolerance, method.loosest)))


@eqx.filter_jit
def _corrected(search, at: Evaluation, penalty: Penalty | None, inventory: Inventory, model: Model):
    """The search with this evaluation of the point where it stands, and the next point."""
    search = corrected(search, *_with_penalty(at, penalty, inventory, model, search.x))
    return search, propose(search)


def _with_penalty(at: Evaluation, penalty: Penalty | None, inventory: Inventory, model: Model, u):
    value, gradient = jnp.sum(at.value), jnp.sum(at.gradient, axis=0)
    if penalty is None:
        return value, gradient
    extra, slope = jax.value_and_grad(lambda u: penalty(inventory.at_unconstrained(model, u)))(u)
    return value + extra, gradient + slope


@eqx.filter_jit
def _advance(search, at: Evaluation, penalty: Penalty | None, inventory: Inventory, model: Model, u, tolerance, limit):
    """Take an evaluation at ``u`` in, penalty added; the search, the next point, and whether ``u`` was taken."""
    value, gradient = _with_penalty(at, penalty, inventory, model, u)
    search, accepted = absorb(search, value, gradient, at.scores, tolerance, limit)
    return search, propose(search), accepted


@eqx.filter_jit
def _model_at(inventory: Inventory, model: Model, u) -> Model:
    return inventory.at_unconstrained(model, u)


def _from_scratch(best: Evaluation, method, layout: Layout, inventory, model, u) -> tuple[Evaluation, bool]:
    """Modes that were followed from step to step, against modes searched from zero: each subject keeps that of higher density.

    And whether any objective changed by that.
    """
    starts = (np.zeros(best.b.shape), best.b)
    fresh, again = (
        jax.tree.map(np.asarray, evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, b, second_order=best.second_order))
        for b in starts
    )
    better = (fresh.joint < again.joint - _APART) & fresh.converged
    if layout.sites is not None:  # a subject's other mode moves its site's effects, and all their subjects' modes with them
        if not better.any():
            return again, False
        starts = np.where(better[:, None], fresh.b, again.b)
        other = evaluate_subjects(method, layout.anatomy, inventory, model, layout.arrays, u, starts, second_order=best.second_order)
        return other, bool(np.any(np.abs(other.value - again.value) > _APART))

    def choose(a, b):
        return np.where(better.reshape(better.shape + (1,) * (a.ndim - 1)), a, b)

    moved = bool(np.any(better & (np.abs(fresh.value - again.value) > _APART)))
    return jax.tree.map(choose, fresh, again), moved


