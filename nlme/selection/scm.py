"""Stepwise covariate modelling: relations are added while they improve the fit, and taken away again where they do not.

Forward, each candidate is added to the model in turn and the most significant one is kept, until none is below ``forward``; backward, each
relation is taken away in turn, until all that are left are below ``backward``.  Significance is that of the likelihood ratio,

    p = P( chi^2_k > OFV_smaller - OFV_larger ),        k coefficients,

or models are compared by BIC or by cross-validation.  All candidates of a step are fitted side by side, as lanes of one compiled
program: the model holds every relation, and those that a lane has not got stay at 0, where they do nothing.

Sources: Jonsson & Karlsson (1998), Pharm Res 15:1463, doi:10.1023/A:1011970125687; Wahlby, Jonsson & Karlsson (2002), AAPS PharmSci 4:27.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.errors import FitError, name_error
from nlme.execution.executors import require_executor
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.language.layout import lay_out
from nlme.language.model import Model
from nlme.language.relations import Relation
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory
from nlme.search.batch import lanes_of, objectives_by_subject, run_fits
from nlme.search.checkpoint import folder_of, onwards
from nlme.search.problem import Problem
from nlme.selection.candidates import WithSource, base_fit, candidates_of, chosen_model, extended
from nlme.tables.numbers import fixed_point, significant
from nlme.tables.shown import Panel

CRITERIA = ("likelihood ratio", "bic", "cross-validation")
_CHANCE = 0.01  # a model with one relation more is never worse by more than this, or its search has failed


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CovariateSearch(WithSource):
    """What a stepwise search tried and chose.

    Attributes
    ----------
    base, population, method : where it began
    relations : those chosen, in the order in which they were added
    model : the base model with these relations, at their estimates
    objective : its objective
    steps : DataFrame, one row for every model that was fitted: step, direction, relation, objective, change (of the objective, negative
        is better), df, p, score (of BIC or cross-validation), converged, chosen
    messages : what to mind, in words
    """

    base: Model
    population: Population
    method: Method
    relations: tuple[Relation, ...]
    model: Model
    objective: float
    steps: Any
    messages: list[str]

    @functools.cached_property
    def fit(self) -> Fit:
        """The chosen model fitted by itself from where the search ended, with its covariance, diagnostics and audit."""
        return fit_model(self.model, self.population, self.method, progress=False)

    def _exact(self):
        return self.steps

    def _panels(self) -> list[Panel]:
        scored = self.steps["score"].notna().any()
        header = ["Step", "Direction", "Relation", "Objective", "Change", "df", "p", *(["Score"] if scored else []), "Chosen"]
        rows = [
            [
                str(row.step),
                row.direction,
                row.relation,
                fixed_point(row.objective, 3),
                fixed_point(row.change, 3),
                str(row.df),
                significant(row.p, 3),
                *([fixed_point(row.score, 3)] if scored else []),
                "yes" if row.chosen else "" if row.converged else "not converged",
            ]
            for row in self.steps.itertuples()
        ]
        chosen = "; ".join(map(str, self.relations)) or "none"
        notes = [f"Chosen: {chosen}. Objective {self.objective:.3f}.", *self.messages]
        return [Panel(f"Covariate search from {type(self.base).__name__}, {self.method!r}", header, rows, notes, (1, 2, 8))]


def scm(
    model: Model | Fit,
    candidates: Mapping[str, Any],
    population: Population | None = None,
    method: Method | None = None,
    *,
    forward: float = 0.05,
    backward: float = 0.01,
    criterion: str = "likelihood ratio",
    folds: int = 5,
    fixed: Iterable[str] = (),
    seed: int = 0,
    tolerance: float = 1e-5,
    max_evaluations: int = 500,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> CovariateSearch:
    """Search the covariates of a model: forward inclusion, then backward elimination.

    Parameters
    ----------
    model : a fit without the covariates in question (its model, data, method and fixed parameters are taken), or a model, which is
        fitted first
    candidates : what may act on what: individual parameter -> covariates, as a list of names (shape "power" for positive covariates,
        "linear" for others, "categories" for categories and codes of two values) or a dict from name to a shape or several:
        {"cl": ["wt", "sex"], "v": {"wt": ("linear", "power")}}.  Of one covariate on one parameter at most one shape is taken
    population, method, fixed : as in :func:`nlme.fit`, where a model is given
    forward, backward : p below which a relation is added, and below which it stays; with "likelihood ratio" only
    criterion : "likelihood ratio"; "bic" (a coefficient costs the log of the number of subjects, where ``fit.bic`` takes that of the
        observations; lower is better); "cross-validation" (-2 log likelihood of subjects left out, in ``folds``)
    tolerance, max_evaluations, progress : of every fit, as in :func:`nlme.fit`
    checkpoint : folder in which every step is kept; where it exists the search goes on from it
    executor : who fits the candidates, as of :func:`nlme.bootstrap`

    Interrupting (Ctrl-C) returns the search with the steps completed so far, and says so; the step under way decides nothing.

    Raises
    ------
    DataError
        An unknown covariate, or one that is missing.
    ModelError
        An unknown parameter or shape, no candidates, random effects above the subject, a mixture.
    FitError
        An option out of its range, a checkpoint that is none, or the model without covariates cannot be fitted.
    """
    if criterion not in CRITERIA:
        raise FitError(name_error("criterion", str(criterion), CRITERIA, "A covariate search"))
    for word, value in (("forward", forward), ("backward", backward)):
        if not 0.0 < value < 1.0:
            raise FitError(f"{word}={value!r}: it is a probability, for example 0.05 (forward) or 0.01 (backward).")
    require_executor(executor)
    base = base_fit(
        model, population, method, fixed, "nlme.scm", tolerance=tolerance, max_evaluations=max_evaluations, progress=progress
    )
    relations = candidates_of(base, candidates)
    search = _Search(base, relations, criterion, folds, seed, tolerance, max_evaluations, progress, checkpoint, executor)
    try:
        search.go_forward(forward)
        search.go_backward(backward)
    except KeyboardInterrupt:
        search.tell_of_interruption()
    return search.result()


class _Search:
    """The state of a search: which relations are in, and where its best fit ended."""

    def __init__(
        self, base: Fit, relations, criterion: str, folds: int, seed: int, tolerance, limit: int, progress, checkpoint, executor
    ):
        population, self.base, self.relations, self.criterion = base.population, base, relations, criterion
        self.model = extended(base.model, relations, population)
        layout = lay_out(self.model, population)
        self.inventory = Inventory(self.model, base.inventory.fixed)
        self.problem = Problem(base.method, layout.model, layout, self.inventory)
        self.options = {"tolerance": tolerance, "max_evaluations": limit, "progress": progress, "executor": executor}
        self.folder = folder_of(checkpoint)
        self._of = {r: np.isin(self.inventory.names, r.coefficients) for r in relations}
        self.chosen: list[Relation] = []
        self.u = np.asarray(self.inventory.unconstrained(self.model))
        self._nothing = self.u.copy()  # every relation at 0
        self.objective, self.step, self.rows, self.messages = base.objective, 0, [], []
        n = len(population)
        self.folds = np.random.default_rng(seed).permutation(np.arange(n) % folds) if criterion == CRITERIA[2] else None
        if self.folds is not None and not 2 <= folds <= n:
            raise FitError(f"folds={folds}: there are {n} subjects; use from 2 to {n} folds.")
        self.score = np.nan

    def go_forward(self, level: float) -> None:
        if self.criterion != CRITERIA[0]:
            self.score = self._scored([tuple(self.chosen)], [self.u], [self.objective])[0]
        while open_ := [r for r in self.relations if r.pair not in {c.pair for c in self.chosen}]:
            found = self._fitted("forward", open_, [(*self.chosen, r) for r in open_], level)
            if found is None:
                return
            self.chosen.append(open_[found])

    def go_backward(self, level: float) -> None:
        while self.chosen:
            found = self._fitted("backward", self.chosen, [tuple(c for c in self.chosen if c != r) for r in self.chosen], level)
            if found is None:
                return
            del self.chosen[found]

    def _fitted(self, direction: str, moved: list[Relation], sets: list[tuple[Relation, ...]], level: float) -> int | None:
        """Fit every set, write the rows of the step, and go to the one that is to be gone to; its place, or None."""
        from scipy.special import gammaincc

        self.step += 1
        free, starts = np.array([self._free(s) for s in sets]), np.array([self._start(s) for s in sets])
        fits = self._run(starts, free, f"{direction} step {self.step}")
        sign = 1.0 if direction == "forward" else -1.0
        change = fits.objective - self.objective
        df = np.array([len(r.coefficients) for r in moved])
        p = gammaincc(0.5 * df, 0.5 * np.maximum(-sign * change, 0.0))
        usable = fits.converged & np.isfinite(fits.objective)
        if direction == "forward":  # a larger model that ended higher has not been fitted
            usable &= change < _CHANCE
        score = np.full(len(sets), np.nan)
        if self.criterion == CRITERIA[0]:
            merit = np.where(usable, p if direction == "forward" else -p, np.inf)
            best = int(np.lexsort((sign * change, merit))[0])
            goes = usable[best] and (p[best] < level if direction == "forward" else p[best] >= level)
        else:
            score = np.where(usable, self._scored(sets, fits.u, fits.objective), np.inf)
            best = int(np.argmin(score))
            goes = usable[best] and score[best] < self.score
        for k, relation_ in enumerate(moved):
            row = (self.step, direction, str(relation_), fits.objective[k], change[k], df[k], p[k], score[k], usable[k])
            self.rows.append((*row, bool(goes and k == best)))
            if not usable[k]:
                self.messages.append(f"Step {self.step}, {relation_}: {fits.sentence(k)}")
        if not goes:
            return None
        self.u, self.objective, self.score = fits.u[best], float(fits.objective[best]), float(score[best])
        return best

    def _run(self, starts, free, title: str, weights=None, kind: str = "fits"):
        file = None if self.folder is None else self.folder / f"step_{self.step:02d}_{kind}.npz"
        each = 1 if weights is None else int(self.folds.max()) + 1  # fits for a set of relations
        return run_fits(
            self.problem,
            starts,
            starts=self.base.near_modes,
            free=free,
            weights=weights,
            title=title,
            checkpoint=file,
            lanes=lanes_of(self.problem, each * len(self.relations)),  # of the largest step, so that all steps share one program
            **self.options,
        ).whole()

    def _free(self, relations: tuple[Relation, ...]) -> np.ndarray:
        """(P,) whether each parameter moves: those of the base model, and of these relations."""
        others = np.any([own for r, own in self._of.items() if r not in relations] or [np.zeros(len(self.u), bool)], axis=0)
        return ~others

    def _start(self, relations: tuple[Relation, ...]) -> np.ndarray:
        """(P,) where the step's fit begins: where the last one ended, relations that it has not at 0."""
        return np.where(self._free(relations), self.u, self._nothing)

    def _scored(self, sets, u, objectives) -> np.ndarray:
        """(K,) BIC, or -2 log likelihood of subjects that were left out, for each set of relations, from where its fit ended."""
        free = np.array([self._free(s) for s in sets])
        n = len(self.base.population)
        if self.criterion == "bic":
            return np.asarray(objectives) + free.sum(axis=1) * np.log(n)
        count = int(self.folds.max()) + 1
        seen = np.array([self.folds != f for f in range(count)], float)
        # coefficients begin at 0: one of a category that a fold does not have stays there, and not where those left out have put it
        relations = np.any(list(self._of.values()), axis=0)
        fits = self._run(
            np.repeat(np.where(relations, self._nothing, np.asarray(u)), count, axis=0),
            np.repeat(free, count, axis=0),
            f"cross-validation of step {self.step}",
            np.tile(seen, (len(sets), 1)),
            "folds",
        )
        each = objectives_by_subject(self.problem, fits.u, self.base.near_modes)
        held_out = np.sum(np.where(np.tile(seen, (len(sets), 1)) > 0, 0.0, each), axis=1)
        held_out = np.where(fits.converged & np.isfinite(held_out), held_out, np.inf)
        return held_out.reshape(len(sets), count).sum(axis=1)

    def tell_of_interruption(self) -> None:
        done = self.rows[-1][0] if self.rows else 0
        self.messages.append(
            f"The search was interrupted (Ctrl-C) and is not at its end; steps completed: {done}.{onwards(self.folder)}"
        )

    def result(self) -> CovariateSearch:
        import pandas as pd

        columns = ["step", "direction", "relation", "objective", "change", "df", "p", "score", "converged", "chosen"]
        chosen = tuple(self.chosen)
        model = chosen_model(self.base, chosen, self.inventory.at_unconstrained(self.model, self.u))
        return CovariateSearch(
            self.base.model,
            self.base.population,
            self.base.method,
            chosen,
            model,
            self.objective,
            pd.DataFrame(self.rows, columns=columns),
            self.messages,
        )
