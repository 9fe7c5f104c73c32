"""The lasso for covariates: all candidate relations at once, shrunken together, as strongly as cross-validation says.

With theta the coefficients of all relations, g the coefficients of one of them, and s_j the spread over the subjects of what a unit of theta_j
does to the logarithm of its parameter (as if covariates had been standardised),

    minimise  OFV(theta, others) + lambda sum_g w_g || s_g theta_g ||,      w_g = sqrt(size of g) / || s_g theta^_g ||

The path over lambda is that of the least-squares approximation: with the full model's estimate theta^ and R its information (the others
profiled out), OFV(theta) - OFV(theta^) = (theta - theta^)' R (theta - theta^).  The weights w are those of the adaptive lasso, which
takes few relations that are not there; ``adaptive=False`` leaves their denominator away.  For each lambda, each fold's model is fitted to the
other folds with its coefficients held at the path's (that of the fold's own estimate), and scored by -2 log L of the subjects left out.

Sources: Tibshirani (1996), J R Stat Soc B 58:267; Ribbing, Nyberg, Caster & Jonsson (2007), J Pharmacokinet Pharmacodyn 34:485,
doi:10.1007/s10928-007-9057-1 (the lasso in mixed-effects models); Wang & Leng (2007), J Am Stat Assoc 102:1039,
doi:10.1198/016214507000000509 (least-squares approximation); Haem, Harling, Ayatollahi, Zare & Karlsson (2017), J Pharmacokinet
Pharmacodyn 44:55, doi:10.1007/s10928-017-9504-9 (adaptive weights); Yuan & Lin (2006), J R Stat Soc B 68:49 (groups).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from nlme.data.population import Population
from nlme.errors import FitError, ModelError
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.fitting.starts import uninterrupted
from nlme.language.layout import lay_out
from nlme.language.model import Model
from nlme.language.relations import Relation
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory
from nlme.search.batch import lanes_of, objectives_by_subject, run_fits
from nlme.search.problem import Problem
from nlme.selection.candidates import WithSource, base_fit, candidates_of, chosen_model, extended, recorded_values
from nlme.tables.numbers import fixed_point, significant
from nlme.tables.shown import Panel

_SMALLEST = 1e-3  # of the grid, times the strength at which nothing is left
_ACCURATE = 1e-10  # of the coefficients, in standard deviations of what they do
RULES = ("minimum", "one standard error")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CovariateLasso(WithSource):
    """What the lasso chose.

    Attributes
    ----------
    full : the fit of the model with every candidate
    relations : those chosen
    strength : lambda
    path : DataFrame, one row for every lambda: strength, relations (how many), held_out (-2 log L of subjects left out), se (of its difference
        from the lowest), chosen
    coefficients : DataFrame (lambda, coefficient): shrunken, at every strength
    model : the base model with the chosen relations, fitted without shrinking
    fit : that fit
    """

    full: Fit
    relations: tuple[Relation, ...]
    strength: float
    path: Any
    coefficients: Any
    fit: Fit
    messages: list[str]

    @property
    def model(self) -> Model:
        return self.fit.model

    @property
    def shrunken(self):
        """Series: the coefficients at the strength chosen."""
        return self.coefficients.loc[self.strength]

    def _exact(self):
        return self.path

    def _panels(self) -> list[Panel]:
        rows = [
            [
                significant(r.strength, 3),
                str(r.relations),
                fixed_point(r.held_out, 3),
                fixed_point(r.se, 3),
                "yes" if r.chosen else "",
            ]
            for r in self.path.itertuples()
        ]
        chosen = [
            [str(r), name, significant(float(self.shrunken[name]), 3), significant(float(getattr(self.model, name)), 3)]
            for r in self.relations
            for name in r.coefficients
        ]
        notes = [
            "Held out: -2 log L of the subjects of each fold by the model of the others. SE: of the difference from the lowest."
        ]
        return [
            Panel(
                f"Covariates by the lasso, {self.fit.method!r}",
                ["Strength", "Relations", "Held out", "SE", "Chosen"],
                rows,
                notes,
                (4,),
            ),
            Panel(
                "Relations chosen" if chosen else "No relation was chosen",
                ["Relation", "Coefficient", "Shrunken", "Refitted"],
                chosen,
                [f"Refitted without shrinking: objective {self.fit.objective:.3f}. {self.fit.verdict}", *self.messages],
                (0, 1),
            ),
        ]


def lasso(
    model: Model | Fit,
    candidates: Mapping[str, Any],
    population: Population | None = None,
    method: Method | None = None,
    *,
    adaptive: bool = True,
    rule: str = "minimum",
    strengths: int = 20,
    folds: int = 5,
    fixed: Iterable[str] = (),
    seed: int = 0,
    tolerance: float = 1e-5,
    max_evaluations: int = 500,
    progress: bool | None = None,
    executor: Any = None,
) -> CovariateLasso:
    """Choose covariates by the (adaptive, grouped) lasso, its strength by cross-validation.

    Parameters
    ----------
    model, population, method, fixed : as of :func:`nlme.scm`
    candidates : as of :func:`nlme.scm`, with one shape for each covariate on each parameter
    adaptive : weigh each relation by what it does in the full model, so that strong ones are shrunken little
    rule : "minimum" of the held-out score; or "one standard error": the strongest lambda whose score is within that of the minimum
    strengths : how many lambda: infinity, at which nothing is left, and from the largest at which something is evenly in the logarithm
    folds, seed : parts of the subjects, and how they are drawn
    tolerance, max_evaluations, progress, executor : of the fits, as of :func:`nlme.scm`

    Interrupting (Ctrl-C) ends it without a result; during the last fit, of what was chosen, that fit says so.

    Raises
    ------
    DataError, ModelError
        As :func:`nlme.scm`; two shapes of one covariate on one parameter.
    FitError
        The data do not determine the model with all candidates; an option out of its range.
    """
    if rule not in RULES:
        raise FitError(f"nlme.lasso: rule is one of {', '.join(map(repr, RULES))}; got {rule!r}.")
    if int(strengths) != strengths or strengths < 2:
        raise FitError(f"nlme.lasso: strengths is a whole number from 2 on; got {strengths!r}.")
    options = {"tolerance": tolerance, "max_evaluations": max_evaluations, "progress": progress}
    base = base_fit(model, population, method, fixed, "nlme.lasso", **options)
    n = len(base.population)
    if not 2 <= folds <= n:
        raise FitError(f"folds={folds}: there are {n} subjects; use from 2 to {n} folds.")
    relations = candidates_of(base, candidates)
    _require_one_shape(relations)
    task = _Lasso(base, relations, adaptive, strengths, options, executor)
    return task.result(np.random.default_rng(seed).permutation(np.arange(n) % folds), rule)


def _require_one_shape(relations: tuple[Relation, ...]) -> None:
    pairs = [r.pair for r in relations]
    for r in relations:
        if pairs.count(r.pair) > 1:
            raise ModelError(
                f"nlme.lasso: {r.covariate} on {r.parameter} has several shapes; choose one, or let nlme.scm choose."
            )


class _Lasso:
    """The full model, its path, and the folds."""

    def __init__(self, base: Fit, relations, adaptive: bool, strengths: int, options: dict, executor):
        self.base, self.relations, self.options, self.executor = base, relations, options, executor
        population = base.population
        whole = extended(base.model, relations, population)
        self.full = uninterrupted(fit_model(whole, population, base.method, fixed=base.inventory.fixed, **options))
        self.names = [name for r in relations for name in r.coefficients]
        self.groups = np.repeat(np.arange(len(relations)), [len(r.coefficients) for r in relations])
        self.inventory = Inventory(self.full.model, base.inventory.fixed)
        self.places = np.array([self.inventory.names.index(name) for name in self.names])
        self.scale = np.concatenate([_spread(r, recorded_values(population, r.covariate)) for r in relations])
        self.adaptive = adaptive
        self.information = self._profiled()
        self.estimate = np.asarray(self.full.inventory.natural(self.full.model))[self.places]
        most = _all_out(self._scaled(1.0), self.scale * self.estimate, self.groups, self._weights(self.estimate))
        self.strengths = np.append(np.inf, most * np.geomspace(1.0, _SMALLEST, strengths - 1))

    def _profiled(self) -> np.ndarray:
        """(p, p) R of the coefficients, the other parameters at their best given these."""
        covariance = self.full.covariance.of_kind("R").matrix.loc[self.names, self.names].to_numpy()
        if not np.all(np.isfinite(covariance)):
            raise FitError(
                f"nlme.lasso: the data do not determine the model with all {len(self.relations)} relations "
                f"({self.full.covariance.of_kind('R').verdict}) Give fewer candidates, or use nlme.scm."
            )
        return np.linalg.inv(covariance)

    def _weights(self, estimate: np.ndarray) -> np.ndarray:
        """(G,) w of every relation."""
        size = np.sqrt(np.bincount(self.groups))
        if not self.adaptive:
            return size
        effect = np.sqrt(np.bincount(self.groups, (self.scale * estimate) ** 2))
        return size / np.maximum(effect, 1e-8)

    def _scaled(self, share: float) -> np.ndarray:
        """R of the scaled coefficients, of so large a share of the subjects."""
        return share * self.information / np.outer(self.scale, self.scale)

    def path(self, estimate: np.ndarray, share: float) -> np.ndarray:
        """(L, p) coefficients at every strength, of an estimate from a share of the subjects."""
        found, here, weights = [], np.zeros(len(estimate)), self._weights(estimate)
        for strength in self.strengths:
            if np.isinf(strength):
                found.append(here)
                continue
            here = _shrunken(self._scaled(share), self.scale * estimate, self.groups, 0.5 * share * strength * weights, here)
            found.append(here / self.scale)
        return np.array(found)

    def scores(self, fold_of: np.ndarray) -> np.ndarray:
        """(L, N) -2 log L of every subject by the model of the folds that it is not in."""
        count, strengths = int(fold_of.max()) + 1, len(self.strengths)
        seen = np.array([fold_of != k for k in range(count)], float)
        layout = lay_out(self.full.model, self.base.population)
        problem = Problem(self.base.method, layout.model, layout, self.inventory)
        # coefficients begin at 0: one of a category that a fold does not have stays there, and not where those left out have put it
        natural = np.array(self.inventory.natural(self.full.model))
        natural[self.places] = 0.0
        start = np.asarray(self.inventory.unconstrained(self.inventory.at_natural(self.full.model, natural)))
        lanes = lanes_of(problem, count * strengths)  # of both, so that their program is one
        common = {"starts": self.full.near_modes, "executor": self.executor, "lanes": lanes, **self.options}
        whole = run_fits(
            problem, np.repeat(start[None], count, axis=0), weights=seen, title="folds of the full model", **common
        ).whole()
        held = np.ones(len(start), bool)
        held[self.places] = False
        rows = []
        for k in range(count):
            for coefficients in self.path(whole.natural[k, self.places], float(seen[k].mean())):
                natural = whole.natural[k].copy()
                natural[self.places] = coefficients
                at = self.inventory.at_natural(self.full.model, natural)
                rows.append(np.asarray(self.inventory.unconstrained(at)))
        shrunken = run_fits(
            problem, np.array(rows), weights=np.repeat(seen, strengths, axis=0), free=np.repeat(held[None], len(rows), axis=0),
            title="folds at every strength", **common,
        ).whole()  # fmt: skip
        each = objectives_by_subject(problem, shrunken.u, self.full.near_modes).reshape(count, strengths, -1).copy()
        each[~(shrunken.converged.reshape(count, strengths) & whole.converged[:, None])] = np.nan
        return each[fold_of, :, np.arange(len(fold_of))].T

    def result(self, fold_of: np.ndarray, rule: str) -> CovariateLasso:
        import pandas as pd

        each = self.scores(fold_of)
        held_out = np.where(np.isfinite(each).all(axis=1), np.nansum(each, axis=1), np.inf)
        if not np.isfinite(held_out).any():
            raise FitError("nlme.lasso: no strength had fits in all folds that ended at an optimum; give fewer candidates.")
        best = int(np.argmin(held_out))
        se = np.sqrt(each.shape[1]) * np.std(each - each[best], axis=1)
        chosen = best if rule == RULES[0] else int(np.flatnonzero(held_out <= held_out[best] + se)[0])
        found = self.path(self.estimate, 1.0)
        left = [np.unique(self.groups[row != 0.0]) for row in found]
        relations = tuple(self.relations[g] for g in left[chosen])
        columns = {
            "strength": self.strengths, "relations": [len(g) for g in left], "held_out": held_out, "se": se,
            "chosen": np.arange(len(found)) == chosen,
        }  # fmt: skip
        small = chosen_model(self.base, relations, self.full.model)
        refitted = fit_model(small, self.base.population, self.base.method, fixed=self.base.inventory.fixed, **self.options)
        lost = int(np.sum(~np.isfinite(held_out)))
        said = [f"{lost} of {len(found)} strengths have no score: a fit of a fold did not end at an optimum."] if lost else []
        return CovariateLasso(
            self.full,
            relations,
            float(self.strengths[chosen]),
            pd.DataFrame(columns),
            pd.DataFrame(found, pd.Index(self.strengths, name="strength"), self.names),
            refitted,
            said,
        )


def _spread(relation: Relation, values: np.ndarray) -> np.ndarray:
    """Standard deviation over the subjects (over all records, where the covariate changes) of d log factor / d theta_j at 0, of each
    coefficient."""
    step, zero = 1e-6, np.zeros(len(relation.coefficients))
    found = []
    for k in range(len(zero)):
        up, down = zero.copy(), zero.copy()
        up[k], down[k] = step, -step
        found.append(np.std((np.asarray(relation.factor(tuple(up), values)) - relation.factor(tuple(down), values)) / (2 * step)))
    return np.array(found)


def _all_out(curvature: np.ndarray, estimate: np.ndarray, groups: np.ndarray, weights: np.ndarray) -> float:
    """The least strength at which every group is at 0."""
    slope = 2.0 * curvature @ estimate
    return float(np.max(np.sqrt(np.bincount(groups, slope**2)) / weights))


def _shrunken(curvature, estimate, groups: np.ndarray, strengths: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(p,) minimum of (x - estimate)' curvature (x - estimate) + 2 sum_g strengths_g ||x_g||, by block coordinate descent.

    In one block the quadratic is replaced by its largest curvature (Yuan & Lin's update where that is the identity), which never rises.
    """
    x = start.copy()
    blocks = [np.flatnonzero(groups == g) for g in range(len(strengths))]
    steepest = [float(np.linalg.eigvalsh(curvature[np.ix_(b, b)])[-1]) for b in blocks]
    for _ in range(10_000):
        before = x.copy()
        for block, steep, strength in zip(blocks, steepest, strengths, strict=True):
            target = x[block] - curvature[block] @ (x - estimate) / steep
            length = float(np.linalg.norm(target))
            x[block] = target * max(0.0, 1.0 - strength / (steep * length)) if length > 0 else 0.0
        if np.max(np.abs(x - before)) <= _ACCURATE * max(1.0, float(np.max(np.abs(x)))):
            return x
    raise FitError("nlme.lasso: the path did not converge; the candidates nearly determine each other.")
