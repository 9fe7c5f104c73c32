"""Stochastic gradient descent over minibatches of subjects, for many subjects or many weights; a search finishes what it begins.

    g = sum_p N_p / n_p sum_(i in batch, class p) d(-2 log L_i)/du + d penalty/du

with the exact marginal gradient of the subjects drawn, n_p of the N_p subjects of every size class, without replacement until all have
been seen (an epoch). The estimate of the gradient is unbiased, and each draw runs the same program. The optimiser is one of optax's.
With subjects held out the descent is stopped where their objective is lowest (early stopping: Prechelt 1998, doi:10.1007/3-540-49430-8_3).
Source: Robbins & Monro (1951), doi:10.1214/aoms/1177729586; Kingma & Ba (2015), arXiv:1412.6980, for Adam.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nlme.errors import FitError, ModelError
from nlme.language.layout import Layout
from nlme.marginal.objective import evaluate_subjects
from nlme.parameters.domains import is_numeric, require_whole
from nlme.search.problem import Problem

_PATIENCE = 5  # epochs without a lower objective
_CLIP = 5.0  # largest step of an unconstrained parameter
_NOBODY = np.zeros(0, int)


@dataclasses.dataclass(frozen=True)
class Minibatches:
    """Stochastic training before the search: ``nlme.fit(..., optimiser=nlme.Minibatches(optax.adam(0.01), subjects=64))``.

    Attributes
    ----------
    optimiser : an optax optimiser; by default Adam with a rate of 0.02, in the unconstrained parameters (logarithms of positive ones)
    subjects : how many are drawn for each step, about
    epochs : how often everybody is seen at most; it ends earlier where the objective no longer falls
    held_out : share of the subjects, drawn by chance, whom the descent does not see: the weights of the networks stay where the objective
        of these is lowest, and the search finds the other parameters for everybody at them.  0: the search moves the weights, too
    seed : of the draws
    """

    optimiser: Any = None
    subjects: int = 64
    epochs: int = 50
    held_out: float = 0.0
    seed: int = 0

    def __post_init__(self):
        for name in ("subjects", "epochs"):
            require_whole("Minibatches", name, getattr(self, name), 1)
        require_whole("Minibatches", "seed", self.seed, 0)
        if not is_numeric(self.held_out) or not 0.0 <= self.held_out <= 0.5:
            raise ModelError(f"Minibatches: held_out is a share of the subjects, for example 0.2; got {self.held_out!r}.")
        if self.optimiser is not None and not (hasattr(self.optimiser, "init") and hasattr(self.optimiser, "update")):
            raise ModelError(f"optimiser is one of optax's, such as optax.adam(0.01); got {self.optimiser!r}.")


def minibatches_of(optimiser) -> Minibatches:
    """What ``fit(optimiser=...)`` was given: minibatches, or an optimiser of optax for them."""
    return optimiser if isinstance(optimiser, Minibatches) else Minibatches(optimiser)


def descend(
    problem: Problem, how: Minibatches, show: Callable[[int, float, float], None] | None = None
) -> tuple[np.ndarray, str]:
    """The unconstrained parameters (P,) that stochastic descent leads to, the mean over its last epoch; and its course in words.

    Raises
    ------
    ModelError
        Subjects share random effects of a site: a draw of subjects has no objective.
    FitError
        No subject of a draw has a finite objective.
    """
    import optax

    layout, count = problem.layout, problem.layout.n_subjects
    if layout.anatomy.by_site:
        raise ModelError(f"Minibatches take subjects one by one; here those of a {layout.anatomy.above} share random effects.")
    rule = optax.adam(0.02) if how.optimiser is None else how.optimiser
    held = np.random.default_rng([how.seed, 1]).permutation(count)[: round(how.held_out * count)]
    if how.held_out and not 0 < len(held) < count:
        raise ModelError(
            f"Minibatches: held_out={how.held_out:g} of {count} subjects is {len(held)}; there have to be some, and others."
        )
    rng, u = np.random.default_rng(how.seed), np.array(problem.start)
    modes = problem.beginnings(u)
    state, lowest, since, step = rule.init(u), np.inf, 0, 0
    average, epoch, total, best, where = u, 0, np.inf, u, 0
    for epoch in range(1, how.epochs + 1):
        visited, total, steps = np.zeros_like(u), 0.0, 0
        for subjects, weights, arrays in _draws(layout, how.subjects, rng, held):
            at = evaluate_subjects(
                problem.method, layout.anatomy, problem.every, problem.model, arrays, problem.among_all(u), modes[subjects]
            )
            value, slope = np.asarray(at.value), np.asarray(at.gradient)[:, problem.inventory.free]
            usable = np.isfinite(value) & np.all(np.isfinite(slope), axis=1)
            if not usable.any():
                raise FitError(
                    "Minibatches: the objective of no subject drawn is finite; begin at other values or with smaller steps."
                )
            modes[subjects[usable]] = np.asarray(at.b)[usable]
            extra, pull, _ = problem.penalised(u)
            gradient = weights[usable] @ slope[usable] + pull
            try:
                updates, state = rule.update(gradient, state, u)
            except TypeError as error:  # optax.lbfgs and its like search along a line
                raise ModelError(
                    f"optimiser= is one of optax's that steps by the gradient alone, such as optax.adam(0.01); this one says: {error}."
                ) from None
            u = u + np.clip(np.asarray(updates), -_CLIP, _CLIP)
            visited, total, steps, step = visited + u, total + weights[usable] @ value[usable] + extra, steps + 1, step + 1
            if show is not None:
                show(step, total / steps, float(np.max(np.abs(gradient))))
        average, total = visited / steps, total / steps
        score = _of_held_out(problem, average, modes, held) if len(held) else total
        if score < lowest - (0.0 if len(held) else 0.1):
            best, where, since = average, epoch, 0
        else:
            since += 1
        lowest = min(lowest, score)
        if since >= _PATIENCE:
            break
    words = f"Minibatches of {min(how.subjects, count - len(held))} subjects: {epoch} epochs"
    if not len(held):
        return average, f"{words}, mean objective {total:.2f} in the last."
    return best, f"{words}; the objective of {len(held)} subjects held out was lowest, {lowest:.2f}, after {where}."


def _of_held_out(problem: Problem, u: np.ndarray, modes: np.ndarray, held: np.ndarray) -> float:
    """-2 log likelihood of subjects that the descent has not seen; infinite where it cannot be computed."""
    found = float(np.sum(np.asarray(problem.evaluate(u, modes, gradient=False).value)[held]))
    return found if np.isfinite(found) else np.inf


def _draws(
    layout: Layout, subjects: int, rng: np.random.Generator, held: np.ndarray = _NOBODY
) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
    """(positions, weights, arrays) of draws that together are everybody but those ``held`` once, but for a remainder smaller than their
    number in each class; of a class with fewer members than there are draws some come twice."""
    count = max(1, round((layout.n_subjects - len(held)) / subjects))
    own = [np.setdiff1d(np.asarray(part.members), held) for part in layout.arrays.parts]
    sizes = [min(len(members), max(1, len(members) // count)) for members in own]
    orders = [rng.permutation(members) for members in own]
    weights = np.concatenate([np.full(size, len(members) / max(size, 1)) for members, size in zip(own, sizes, strict=True)])
    for k in range(count):
        drawn = [
            np.sort(order[(k * size + np.arange(size)) % max(len(order), 1)]) for order, size in zip(orders, sizes, strict=True)
        ]
        yield np.concatenate(drawn), weights, layout.some(drawn)
