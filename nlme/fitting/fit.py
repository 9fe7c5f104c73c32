"""Fitting a model to a population."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.fitting.evaluated import evaluated_fields, inventory_of, method_of
from nlme.fitting.failures import require_finite
from nlme.fitting.maximum_posterior import MAP, MinusTwiceLogPrior
from nlme.fitting.result import Fit
from nlme.fitting.saem.determination import combinations
from nlme.fitting.saem.edge import FINISHED, at_an_edge, finished
from nlme.fitting.saem.ends import ends_reached, within_range
from nlme.fitting.saem.method import SAEM
from nlme.fitting.saem.search import search as approximate
from nlme.fitting.saem.several import fit_from_several
from nlme.fitting.scales import drawn_apart, held_scales
from nlme.fitting.starts import Starts
from nlme.language.layout import spread_out
from nlme.language.model import Model, require_model
from nlme.marginal.base import Method
from nlme.marginal.sites import require_sites
from nlme.marginal.subjects import Evaluation
from nlme.parameters.domains import require_whole
from nlme.parameters.inventory import Inventory, names_of
from nlme.parameters.priors import require_priors
from nlme.search.minibatches import descend, minibatches_of
from nlme.search.minimise import BadStart, Minimum
from nlme.search.problem import Penalty, Problem
from nlme.search.progress import Progress
from nlme.search.quasi_newton import CONVERGED, EVALUATION_LIMIT, SEARCHING, UNDETERMINED, require_limits
from nlme.search.several import minimise_from_several, ran_away
from nlme.search.unbounded import falls_without_end
from nlme.versions import versions

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
    starts: int | None = None,
    shooting=None,
    optimiser=None,
    sharding=None,
    checkpoint: str | None = None,
    checkpoint_every: float = 30.0,
) -> Fit:
    """Maximum likelihood estimates of a model's parameters.

    The objective -2 log L of ``method`` is minimised in unconstrained, scaled parameters by a quasi-Newton search with its exact
    gradient (``nlme.search``); the model's own values are the starting values.  Where that search ends in trouble, at the end of a
    parameter's range or far from its start, others are made from starts that the data suggest, and the lowest minimum counts;
    ``fit.starts`` says which were made and how many reached it.  Interrupting (Ctrl-C) returns the best found so far, and says so.

    Parameters
    ----------
    model : the model, its values the starting values
    population : the data
    method : FO(), FOCE(), FOCEI() (the default), Laplace(), AGQ(), ImportanceSampling(), Variational(), SAEM() or
        NaivePooled(); or MAP(priors, method)
    fixed : names of parameters to hold at their starting values: a field ("ka"), one element ("omega.ka"), a group ("omega").  The
        variance of a random effect that reaches the data through networks alone is held in any case (:mod:`nlme.fitting.scales`)
    priors : name -> NumPyro distribution (see :mod:`nlme.parameters.priors`), added to the search as -2 log prior: maximum a
        posteriori estimates (:mod:`nlme.fitting.maximum_posterior`).  Parameters without one have a flat one
    penalty : function of the model added to the objective in the search only (``nlme.L2(...)``); reported figures leave it out.
        "cross-validated": that of the strengths tried by :func:`nlme.cross_validate` which predicts subjects left out best;
        ``fit.validation`` says what it came to, and whether the networks pay
    tolerance : the search ends when the expected further decrease of the objective is below this
    max_evaluations : limit of evaluations of objective and gradient
    progress : show a line of progress; by default where the output is a terminal or a notebook
    starts : number of other starts to search from, suggested by the data; by default some if the first search gives a reason to,
        until they agree (by SAEM up to three, :mod:`nlme.fitting.saem.several`); 0 for none
    shooting : how the equations are trained before the fit, where a fit from the model's own values would be lost (oscillations,
        networks in the equations): ``nlme.MultipleShooting(...)``, ``GrowingHorizon``, ``Collocation`` or ``PredictionError``.  The
        fit begins where they lead to, and makes no other starts unless ``starts`` asks for some; ``fit.training`` tells their course
    optimiser : stochastic training before the search, for many subjects or weights: ``nlme.Minibatches(...)``, or an optimiser of optax
        (``optax.adam(0.01)``) for minibatches of 64 subjects.  The search finishes what it leads to; with ``held_out=`` it leaves
        the weights where subjects whom the descent did not see were predicted best (early stopping)
    sharding : JAX devices or processes over which the subjects are spread, see :func:`evaluate`
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
    layout = spread_out(require_model(model), population, sharding)
    model = layout.model
    require_sites(method, layout.anatomy)
    fixed = names_of(fixed)
    require_limits("fit", tolerance, max_evaluations)
    if starts is not None:
        require_whole("fit", "starts", starts, 0)
    if priors is not None:
        require_priors(priors)
    fixed = (*fixed, *held_scales(model, layout.anatomy, fixed, priors))
    inventory = inventory_of(method, model, fixed)
    inventory.require_searchable(model)
    if penalty is not None and not isinstance(penalty, str) and not callable(penalty):
        raise ModelError(f'penalty is nlme.L2(strength), "cross-validated" or a function of the model; got {penalty!r}.')
    prior = MinusTwiceLogPrior(model, priors, inventory.fixed) if priors else None
    if prior is not None and penalty is not None:
        raise ModelError("Give priors= or penalty=, not both: nlme.L2(strength) is the prior Normal(0, strength ** -0.5).")
    validation: tuple[str, ...] = ()
    if isinstance(penalty, str):
        penalty, validation = _validated(penalty, model, population, method, fixed, progress)
    penalty = prior or penalty
    if not len(inventory):
        raise ModelError("Every parameter is fixed, so there is nothing to fit; use nlme.evaluate(model, population, method).")
    clock = time.perf_counter()
    model, training = drawn_apart(model, layout.anatomy, inventory)
    problem = Problem(method, model, layout, inventory, penalty)
    stopped: tuple[str, ...] = ()
    if shooting is not None:
        problem, words = _trained(shooting, problem, max_evaluations, progress)
        training = (*training, *words)
        starts = 0 if starts is None else starts
    if optimiser is not None:
        problem, course, stopped = _descended(problem, optimiser, progress)
        training, starts = (*training, course), 0 if starts is None else starts
    if isinstance(method, SAEM):
        if layout.division is not None:
            raise ModelError(
                "sharding='processes' divides the objective's evaluations, which nlme.SAEM does not make; use another method."
            )
        found = fit_from_several(
            problem,
            starts,
            lambda of, first: approximate(of, progress, checkpoint if first else None, checkpoint_every),
            lambda found, of: _approximated(found, of, clock, progress),
        )
        return dataclasses.replace(found, validation=validation, training=(*training, *found.training))
    if checkpoint is not None:
        raise ModelError(f"checkpoint= is for fits by nlme.SAEM; {method!r} keeps none.")
    with Progress(progress, f"{type(model).__name__}, {method!r}") as show:
        try:
            found, attempts, reason = minimise_from_several(
                problem, starts, tolerance=tolerance, max_evaluations=max_evaluations, show=show, tell=show.stage
            )
        except BadStart as bad:
            values, status = np.asarray(bad.at.by_subject), np.asarray(bad.at.status)
            require_finite(values, status, layout, problem.model, "at the starting values", method.ode)
            raise FitError("The gradient of the objective is not finite at the starting values; try other values.") from None
    total = time.perf_counter() - clock
    timings = {"first evaluation, with compilation": found.first, "search": total - found.first, "total": total}
    history = dict(
        zip(("iteration", "objective", "gradient", "elapsed"), map(np.array, zip(*found.history, strict=True)), strict=True)
    )
    made = Starts.of(problem, attempts, reason)
    return _of_minimum(
        problem,
        found,
        starts=made,
        unbounded=falls_without_end(problem, found.search.x, found.at)
        or (falls_without_end(problem, problem.start, found.at) if made.below else {}),
        history_columns=history,
        timings=timings,
        validation=validation,
        training=training,
        stopped=stopped,
    )


def _validated(penalty: str, model, population, method, fixed, progress) -> tuple[Penalty | None, tuple[str, ...]]:
    """The penalty that cross-validation chooses, and its words; Ctrl-C goes through, for what had ended by then chooses nothing."""
    from nlme.learning.cross_validation import cross_validate

    if penalty != "cross-validated":
        raise ModelError(f'penalty is a function of the model such as nlme.L2(1.0), or "cross-validated"; got {penalty!r}.')
    found = cross_validate(model, population, method, fixed=fixed, progress=progress)
    found.fits.whole()
    chosen = f"Penalty {found.best!r}, chosen by cross-validation in {found.folds.max() + 1} folds of subjects."
    return found.best, (chosen, *found.messages)


def _trained(aid, problem: Problem, iterations: int, progress) -> tuple[Problem, tuple[str, ...]]:
    """The problem that begins where a training aid leads, and its course in words."""
    if isinstance(aid, type) or not hasattr(aid, "trained"):
        raise ModelError(
            f"shooting is nlme.MultipleShooting(...), GrowingHorizon(...), PredictionError(...) or Collocation(...); got {aid!r}."
        )
    with Progress(progress, f"{type(problem.model).__name__}, {type(aid).__name__}") as show:
        model, words = aid.trained(problem, iterations, show)
    return problem.starting_at(model), words


def _descended(problem: Problem, optimiser, progress) -> tuple[Problem, str, tuple[str, ...]]:
    """The problem that begins where stochastic descent leads, the descent's course in words, and the weights that stay there."""
    if isinstance(problem.method, SAEM):
        raise ModelError("optimiser= is for methods with a gradient to descend; nlme.SAEM is a stochastic search of its own.")
    how, inventory = minibatches_of(optimiser), problem.inventory
    weights = [name for name, kind in zip(inventory.names, inventory.kinds, strict=True) if kind == "weight"]
    if how.held_out and not weights:
        raise ModelError(f"held_out= stops the training of networks; {type(problem.model).__name__} has no weights that move.")
    with Progress(progress, f"{type(problem.model).__name__}, minibatches") as show:
        u, words = descend(problem, how, show)
    if not how.held_out:
        return problem.starting_at(problem.at(u)), words, ()
    words = f"{words} Its {len(weights)} weights stay there: estimates and errors of the other parameters are at these."
    return problem.starting_at(problem.at(u), weights), words, tuple(weights)


def _fitted(problem: Problem, u, at: Evaluation, *, gradient, curvature=None, **how) -> Fit:
    """The fit at ``u``, where ``at`` is the evaluation; derivatives in the coordinates of the estimate."""
    estimate, fixed = problem.at(u), tuple(sorted(problem.inventory.fixed))
    inventory, population = Inventory(estimate, fixed), problem.layout.population
    unit = inventory.scales[inventory.free] / problem.inventory.scales[inventory.free]
    scores = at.scores * unit if len(u) <= _MOST_CURVED else None
    return Fit(
        **evaluated_fields(problem.method, estimate, population, fixed, at),
        start=problem.model,
        gradient=gradient * unit,
        # of fewer subjects than parameters it is singular, and says something only beside a penalty's curvature
        information=None if scores is None or (len(scores) <= len(u) and problem.penalty is None) else 0.5 * scores.T @ scores,
        curvature=None if curvature is None else curvature * np.outer(unit, unit),
        **_penalised(problem, estimate, inventory),
        **how,
        versions=versions(),
        data_hash=population.hash,
    )


def _approximated(found, problem: Problem, clock, progress) -> Fit:
    """The fit whose parameters SAEM found, with the objective and the modes by importance sampling there."""
    searched = time.perf_counter() - clock
    inventory, layout = problem.inventory, problem.layout
    moved = np.abs(np.diff(found.path, axis=0, prepend=problem.start[None]))
    count = np.arange(1, len(found.path) + 1)
    history = {
        "iteration": count,
        "objective": found.criterion,
        "gradient": moved.max(axis=1),
        "elapsed": found.elapsed,
        "smoothing": (found.explored >= 0) & (count > found.explored),
        **dict(zip(inventory.names, problem.natural(found.path).T, strict=True)),
    }
    u = within_range(problem, found.estimate)
    estimate = problem.at(u)
    starts = np.linalg.solve(np.asarray(layout.anatomy.cholesky(estimate)), np.asarray(found.state.s1).sum(axis=1).T).T
    minimum, status = None, found.status
    if status in (UNDETERMINED, EVALUATION_LIMIT) and at_an_edge(problem, u, found.idle):
        with Progress(progress, f"{type(problem.model).__name__}, {problem.method!r}, at the edge") as show:
            try:
                minimum = finished(problem, u, starts, show)
            except KeyboardInterrupt:
                status = SEARCHING
    if minimum is not None:
        timings = {"search": time.perf_counter() - clock, "total": time.perf_counter() - clock}
        unbounded = falls_without_end(problem, minimum.search.x, minimum.at)
        return _of_minimum(problem, minimum, training=(FINISHED,), history_columns=history, timings=timings, unbounded=unbounded)
    scores = np.asarray(found.state.scores).mean(axis=0)
    learned = len(scores) == layout.n_subjects
    at = problem.evaluate(u, starts, gradient=not learned)
    if learned:  # by the chains: what importance sampling would differentiate takes longer to compile than the fit
        at = at._replace(gradient=-2.0 * scores)
    require_finite(np.asarray(at.value), np.asarray(at.status), layout, estimate, "at the estimate", problem.method.ode)
    timings = {"search": searched, "total": time.perf_counter() - clock}
    gradient = np.sum(at.gradient, axis=0) + problem.penalised(u)[1]
    ended = ends_reached(problem, u, float(np.sum(at.value)), np.asarray(at.scores), np.asarray(at.b))
    # at the end of its range a parameter moves nothing on the line of the search, and is determined all the same
    undetermined = tuple(names for names in combinations(found.idle, inventory.names) if not set(names) <= ended.keys())
    how = {
        "search_status": CONVERGED if status == UNDETERMINED and not undetermined else status,
        "undetermined": undetermined,
        "ended": ended,
        "unbounded": falls_without_end(problem, u, at, gradient=False),
    }
    return _fitted(problem, u, at, gradient=gradient, history_columns=history, timings=timings, **how)


def _of_minimum(problem: Problem, found: Minimum, **how) -> Fit:
    """The fit where a search with the gradient ended."""
    search, names = found.search, problem.inventory.names
    two = found.bimodal
    return _fitted(
        problem,
        search.x,
        found.at,
        search_status=search.status,
        gradient=search.gradient,
        curvature=search.hessian,
        ended={name: int(side) for name, side in zip(names, search.ended, strict=True) if side},
        ran_away=tuple(ran_away(problem, found)),
        bimodal=() if two is None else tuple(s.id for s, both in zip(problem.layout.population, two, strict=True) if both),
        **how,
    )


def _penalised(problem: Problem, estimate: Model, inventory: Inventory) -> dict:
    """What a fit keeps of its penalty or prior."""
    penalty, u = problem.penalty, inventory.unconstrained(estimate)
    if penalty is None:
        return {}

    def at(u):
        return penalty(inventory.at_unconstrained(estimate, u))

    slopes = None
    if len(u) <= _MOST_CURVED:
        slopes = np.asarray(jax.jit(jax.grad(at))(u)), np.asarray(jax.jit(jax.hessian(at))(u))
    words = penalty.words if isinstance(penalty, MinusTwiceLogPrior) else {}
    return {"penalty": float(at(u)), "penalty_slopes": slopes, "priors": words}
