"""Cross-validation: how well a model predicts subjects that it was not fitted to, for several penalties on its networks.

The subjects (or whole groups of them) are divided into folds. For each penalty and fold the model is fitted to the other folds; its
marginal -2 log likelihood of the fold left out, by the same method, is the score:

    score(penalty) = sum_f sum_{i in fold f} OFV_i(estimates without fold f)

The lowest is the best. All fits run as one batched program, and beside them those of the same model without its networks (their
weights held where they correct nothing). Sources: Stone (1974), doi:10.1111/j.2517-6161.1974.tb00994.x; Colby & Bair (2013),
doi:10.1007/s10928-013-9307-3 (mixed-effects models: whole subjects are left out, and their likelihood is the marginal one).
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nlme.data.population import Population, values_by_subject
from nlme.errors import DataError, FitError, ModelError
from nlme.fitting.evaluated import method_of
from nlme.fitting.saem.method import SAEM
from nlme.fitting.scales import drawn_apart, held_scales
from nlme.language.layout import lay_out
from nlme.language.model import Model, require_model
from nlme.learning.held_out import Payoff, scores_of
from nlme.marginal.base import Method
from nlme.neural.penalties import L2
from nlme.parameters.domains import is_probability, require_whole
from nlme.parameters.inventory import Inventory, names_of
from nlme.search.batch import Fits, objectives_by_subject, refuse_sites, run_fits
from nlme.search.problem import Penalty, Problem
from nlme.simulation.simulate import simulate
from nlme.tables.shown import Panel, Shown, numbers_shown

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # of L2, tried when none are given
_WITHOUT = "without the networks"


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CrossValidation(Shown):
    """Scores of a model under several penalties, and without its networks.

    Attributes
    ----------
    model, method, population : what was validated; inputs of networks are standardised by the whole population, in every fold
    penalties : (K,) as they were given; None is no penalty
    folds : (N,) the fold of every subject
    held_out : (K, N) -2 log likelihood of every subject by the fit that has not seen it; NaN where that fit did not converge
    in_sample : (K,) mean over the folds of -2 log likelihood of the subjects that were seen, times F / (F - 1): on the scale of a
        fit to everybody; NaN where a fit did not converge
    plain, plain_in_sample : (N,) and one number, the same without the networks; None where the model has none
    fits : the fits, K by F, those without networks last
    inventory : the parameters whose estimates they are
    """

    model: Model
    method: Method
    population: Population
    penalties: tuple[Penalty | None, ...]
    folds: np.ndarray
    held_out: np.ndarray
    in_sample: np.ndarray
    plain: np.ndarray | None
    plain_in_sample: float | None
    fits: Fits
    inventory: Inventory
    kept: dict[int, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def scores(self) -> np.ndarray:
        """(K,) held-out -2 log likelihood of all subjects; infinite where a fold could not be fitted or predicted."""
        return scores_of(self.held_out)

    @property
    def best(self) -> Penalty | None:
        """The penalty of the lowest score."""
        return self.penalties[int(np.argmin(self.scores))]

    @property
    def gain(self) -> float | None:
        """By how much the best score is lower than that without the networks; None where there are none, NaN where these were not fitted."""
        return None if self.plain is None else self._payoff.gain

    @property
    def gain_error(self) -> float | None:
        """Standard error of ``gain``: sqrt(N) times the standard deviation of the subjects' differences."""
        return None if self.plain is None else self._payoff.error

    @property
    def pays(self) -> bool | None:
        """Whether the networks predict people whom they have not seen better than the model does without them: by more than the
        standard error of the gain (:mod:`nlme.learning.held_out`). None where there are none, or it is not known."""
        return None if self.gain is None or not np.isfinite(self.gain) else self._payoff.pays

    @functools.cached_property
    def _payoff(self) -> Payoff:
        return Payoff.of(self.held_out, self.plain)

    def predictions(self, without: bool = False):
        """Every observation beside its prediction from covariates alone (random effects zero), by the fit that has not seen the subject.

        Parameters
        ----------
        without : by the fits without the networks; else by those of the best penalty

        Returns
        -------
        DataFrame
            ID, TIME, ENDPOINT, DV, PRED, in the order of the data

        Raises
        ------
        FitError
            ``without`` of a model that has no networks; a fold whose fit cannot be solved for a subject left out.
        """
        import pandas as pd

        if without and self.plain is None:
            raise FitError(f"{type(self.model).__name__} has no networks to be left out.")
        kind = len(self.penalties) if without else int(np.argmin(self.scores))
        count, parts = int(self.folds.max()) + 1, []
        for f in range(count):
            own = self.population[np.flatnonzero(self.folds == f)]
            model = self.inventory.at_unconstrained(self.model, np.asarray(self.fits.u[kind * count + f]))
            found = simulate(model, own, key=0, eta="typical", noise=False, ode=self.method.ode)
            found = pd.DataFrame(found.loc[found.MDV == 0, ["ID", "TIME", "ENDPOINT", "IPRED"]])
            found["DV"] = np.concatenate([subject.dv[subject.is_observation] for subject in own])
            parts.append(found.rename(columns={"IPRED": "PRED"}))
        whole = pd.concat(parts)
        order = {person: k for k, person in enumerate(self.population.ids)}
        whole = whole.sort_values("ID", key=lambda ids: ids.map(order), kind="stable").reset_index(drop=True)
        return whole[["ID", "TIME", "ENDPOINT", "DV", "PRED"]]

    @functools.cached_property
    def messages(self) -> list[str]:
        """What there is to say, in words."""
        found, scores = [], self.scores
        if self.fits.interrupted:
            count = int(np.sum(np.isfinite(scores)))
            found.append(
                f"The cross-validation was interrupted (Ctrl-C): {count} of {len(scores)} penalties have a score. With checkpoint= the same "
                "call goes on."
            )
        if self.pays is not None:
            verdict = self._payoff.verdict("networks", several=True)
            found.append(
                f"{verdict}: the held-out -2 log likelihood, {scores.min():.1f}, is {self._payoff.size} than without the networks."
            )
        place = int(np.argmin(scores))
        strengths = [p.strength if isinstance(p, L2) else None for p in self.penalties]
        known = len(scores) > 1 and None not in strengths and np.isfinite(scores[place])
        if known and strengths[place] in (min(strengths), max(strengths)):
            which = "weakest" if strengths[place] == min(strengths) else "strongest"
            found.append(f"The best penalty is the {which} that was tried, {self.best!r}; a better one may lie beyond.")
        if self.kept:
            listed = "; ".join(f"{', '.join(names)} in fold {fold}" for fold, names in self.kept.items())
            found.append(
                f"Some folds say nothing of a parameter, which kept the value that the model came with: {listed}. If that is an estimate "
                "from all of these data, the held-out score knows those who were left out."
            )
        failed = int(np.sum(~self.fits.converged))
        if failed:
            ways = "; ".join(f"{count}: {words}" for words, count in self.fits.failures.items())
            found.append(
                f"{failed} of {len(self.fits.status)} fits did not converge ({ways}). No score, for want of these: {self._without_score}."
            )
        return found

    @property
    def _without_score(self) -> str:
        """What has no score because of which folds, in words."""
        lost = ~self.fits.converged.reshape(-1, int(self.folds.max()) + 1)
        listed = [
            f"{name} (fold {', '.join(str(f + 1) for f in np.flatnonzero(own))})"
            for name, own in zip(self._names, lost, strict=True)
            if own.any()
        ]
        return "; ".join(listed)

    @property
    def _names(self) -> list[str]:
        """Of the penalties and, where there are networks, of the model without them."""
        found = [repr(p) if p is not None else "no penalty" for p in self.penalties]
        return found if self.plain is None else [*found, _WITHOUT]

    @functools.cached_property
    def table(self):
        """DataFrame, one row per penalty: held-out and in-sample -2 log likelihood, difference from the best with its SE."""
        import pandas as pd

        rows = [self.held_out, self.in_sample]
        if self.plain is not None:
            rows = [np.vstack([rows[0], self.plain]), np.append(rows[1], self.plain_in_sample)]
        best = self.held_out[int(np.argmin(self.scores))]
        difference = rows[0] - best
        columns = {
            "held-out -2LL": rows[0].sum(axis=1),
            "in-sample -2LL": rows[1],
            "from the best": difference.sum(axis=1),
            "SE": np.sqrt(difference.shape[1]) * np.std(difference, axis=1, ddof=1),
        }
        return pd.DataFrame(columns, index=pd.Index(self._names, name="penalty"))

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        title = f"{type(self.model).__name__}, {self.method!r}: cross-validation in {self.folds.max() + 1} folds"
        notes = [
            "-2LL of subjects by fits that have not seen them, and of those that they have seen (scaled to all).",
            *self.messages,
        ]
        return [numbers_shown(self.table, title, notes)]

    def __repr__(self) -> str:
        title = f"{type(self.model).__name__}, {self.method!r}: cross-validation in {self.folds.max() + 1} folds"
        return "\n".join([title, self.table.to_string(float_format=lambda x: f"{x:.2f}"), *(f"  {m}" for m in self.messages)])


def cross_validate(
    model: Model,
    population: Population,
    method: Method | None = None,
    *,
    penalties: Sequence[Penalty | None] | None = None,
    folds: int = 5,
    by: str = "subject",
    fixed=(),
    seed: int = 0,
    tolerance: float = 1e-4,
    max_evaluations: int = 300,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> CrossValidation:
    """Scores of ``model`` on subjects left out, for each penalty, and without its networks.

    Parameters
    ----------
    model, population, method, fixed : as in :func:`nlme.fit`
    penalties : functions of the model, None for no penalty; by default L2 of strengths 0.1, 0.3, 1, ... 100 where the model has
        networks, and no penalty where it has none
    folds : into how many parts the subjects are divided
    by : "subject", or a covariate that is constant in each subject (a study, a site): its values are never divided
    seed : of the division
    tolerance, max_evaluations : of every fit, as in :func:`nlme.fit`
    progress : whether to show a line of progress
    checkpoint, executor : as of :func:`nlme.bootstrap`

    Interrupting (Ctrl-C) returns the scores of the penalties whose fits had all ended, and says so; without any it goes through.

    Raises
    ------
    ModelError
        A method or model whose fits do not run side by side: SAEM, mixtures, a level above the subject; penalties that are none.
    DataError
        Fewer subjects or groups than folds, an unknown covariate.
    FitError
        No penalty has a score: some fold could not be fitted or predicted under any.
    """
    method = method_of(method)
    if isinstance(method, SAEM):
        raise ModelError(
            "Cross-validation fits side by side, which SAEM does not; use FOCEI(), Laplace() or ImportanceSampling()."
        )
    layout = lay_out(require_model(model), population)
    model = layout.model
    refuse_sites(layout.anatomy)
    fixed = names_of(fixed)
    inventory = Inventory(model, (*fixed, *held_scales(model, layout.anatomy, fixed)))
    model, _ = drawn_apart(model, layout.anatomy, inventory)
    problem = Problem(method, model, layout, inventory)
    weights = np.array([kind == "weight" for kind in problem.inventory.kinds])
    if penalties is None:
        penalties = tuple(L2(s) for s in STRENGTHS) if weights.any() else (None,)
    if not isinstance(penalties, Sequence) or not penalties or not all(p is None or callable(p) for p in penalties):
        raise ModelError(
            f"cross_validate: penalties= is a list of at least one function of the model, [nlme.L2(0.3), nlme.L2(3.0)], or None in it "
            f"for no penalty; got {penalties!r}."
        )
    penalties = tuple(penalties)
    fold = subject_folds(population, folds, by, seed)
    rows = [(k, f) for k in range(len(penalties) + bool(weights.any())) for f in range(folds)]
    seen = np.array([fold != f for _, f in rows], float)
    functions = tuple(p for p in penalties if p is not None)
    place = {k: functions.index(p) for k, p in enumerate(penalties) if p is not None}
    strengths = np.zeros((len(rows), len(functions)))
    free = np.ones((len(rows), len(weights)), bool)
    for r, (k, _) in enumerate(rows):
        if k in place:
            strengths[r, place[k]] = 1.0
        if k == len(penalties):
            free[r] = ~weights
    u = np.where(free, problem.start, 0.0)  # weights that are held are zero: networks that correct nothing
    modes = problem.beginnings(problem.start)
    fits = run_fits(
        problem,
        u,
        starts=modes,
        weights=seen,
        free=free,
        penalties=functions,
        strengths=strengths,
        tolerance=tolerance,
        max_evaluations=max_evaluations,
        progress=progress,
        title=f"cross-validation of {type(model).__name__}",
        checkpoint=checkpoint,
        executor=executor,
    )
    values = objectives_by_subject(problem, fits.u, modes)
    values = np.where(fits.converged[:, None], values, np.nan).reshape(-1, folds, len(population))
    held = np.stack([values[:, fold[i], i] for i in range(len(population))], axis=1)
    trained = np.sum(np.where(seen.reshape(values.shape) > 0, values, 0.0), axis=2).mean(axis=1) * folds / (folds - 1)
    count = len(penalties)
    plain = (held[count], float(trained[count])) if weights.any() else (None, None)
    still = np.all((fits.u == u).reshape(-1, folds, len(weights))[:count] & ~weights, axis=0)  # (folds, P)
    kept = {f + 1: tuple(np.array(problem.inventory.names)[own]) for f, own in enumerate(still) if own.any() and not own.all()}
    found = CrossValidation(
        model, method, population, penalties, fold, held[:count], trained[:count], *plain, fits, problem.inventory, kept
    )
    if not np.isfinite(found.scores).any():
        fits.whole()
        raise FitError(f"No penalty could be judged: {' '.join(found.messages) or 'subjects left out cannot be predicted.'}")
    return found


def split(population: Population, fraction: float = 0.2, *, by: str = "subject", seed: int = 0) -> tuple[Population, Population]:
    """(rest, part) of a population, ``part`` about ``fraction`` of its subjects, groups of ``by`` undivided: to train, and to test.

    Raises
    ------
    DataError
        A fraction that leaves one of the two without subjects, an unknown covariate.
    """
    if not is_probability(fraction):
        raise DataError(f"split: the fraction is between 0 and 1, for example 0.2; got {fraction!r}.")
    groups = _groups(population, by)
    require_whole("split", "seed", seed, 0)
    kinds = np.random.default_rng(seed).permutation(groups.max() + 1)
    taken, wanted = np.zeros(len(groups), bool), fraction * len(groups)
    for kind in kinds:
        if taken.sum() >= wanted - 0.5:
            break
        taken |= groups == kind
    if not taken.any() or taken.all():
        raise DataError(
            f"split: {groups.max() + 1} groups by {by!r} cannot be divided into {1 - fraction:g} and {fraction:g} of them."
        )
    ids = {identity for identity, own in zip(population.ids, taken, strict=True) if own}
    return population.filter(lambda s: s.id not in ids), population.filter(lambda s: s.id in ids)


def subject_folds(population: Population, folds: Any, by: str, seed: int) -> np.ndarray:
    """(N,) each subject's fold: whole groups, in random order, each to the fold that has the fewest subjects."""
    require_whole("folds of subjects", "seed", seed, 0)
    groups = _groups(population, by)
    count = groups.max() + 1
    if not isinstance(folds, int | np.integer) or isinstance(folds, bool) or not 2 <= folds <= count:
        what = "subjects" if by == "subject" else f"values of {by}"
        raise DataError(f"folds is a whole number from 2 to the number of {what}, {count}; got {folds!r}.")
    found, sizes = np.zeros(len(groups), int), np.zeros(folds)
    for kind in np.random.default_rng(seed).permutation(count):
        own = groups == kind
        smallest = int(np.argmin(sizes))
        found[own] = smallest
        sizes[smallest] += own.sum()
    return found


def _groups(population: Population, by: str) -> np.ndarray:
    """(N,) number of each subject's group."""
    if by == "subject":
        return np.arange(len(population))
    values = values_by_subject(population, by, "by", "group", (*population.covariates, "subject"))
    return np.unique(values, return_inverse=True)[1]
