"""Search of the structure: which model of a small grammar (``nlme.selection.grammar``) describes the data best.

Stepwise: from the smallest model, everything that is one change away is fitted, the best is gone to, and so on until nothing is better;
then the same from the best structures with other forms of absorption (niches), each of which the first descent left for another when it
was hardly begun.
Genetic: a number of structures, the better of two drawn at random become parents, a child has each feature of one of its parents and
now and then another; what the last generation leads to is finished stepwise.  Structures are compared by

    BIC = -2 log L + P log n,        AIC = -2 log L + 2 P,        or -2 log L itself,

P parameters, n observations.  Only a fit that ends at an optimum counts: one whose audit finds a problem, or that ended higher than a model
which it contains, is in the table and cannot win.

Source: Sherer, Sale, Pollock et al. (2012), J Pharmacokinet Pharmacodyn 39:393, doi:10.1007/s10928-012-9258-0 (a genetic algorithm, finished by
steps); Li, Sale, Nieforth et al. (2024), J Pharmacokinet Pharmacodyn, doi:10.1007/s10928-024-09932-9 (pyDarwin: steps down from several
niches).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError, FitError, ModelError, NLMEError, name_error
from nlme.execution.executors import carried_out, require_executor
from nlme.fitting.evaluated import method_of
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.fitting.starts import uninterrupted
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory
from nlme.search.checkpoint import Checkpoint, folder_of, onwards
from nlme.search.progress import Progress
from nlme.selection.first_values import first_values, values_for
from nlme.selection.grammar import (
    ABSORPTIONS,
    ELIMINATIONS,
    ERRORS,
    ROLES,
    Candidate,
    data_for,
    method_for,
    model_of,
    require_words,
    text_of,
)
from nlme.tables.numbers import fixed_point
from nlme.tables.shown import Panel, Shown

CRITERIA = ("bic", "aic", "-2ll")
ALGORITHMS = ("stepwise", "genetic")
_CHANCE = 0.05  # a model with something more is never worse by more than this, or its search has failed
_FITS, _KEPT = itertools.count(1), 8  # fits of this process, and those whose programs it keeps
_NICHES = 3  # forms of absorption from whose best structure the steps go on
_PEOPLE, _ELITE, _STALE = 12, 2, 3  # structures of a generation, those that stay, generations without a better one


@dataclasses.dataclass(frozen=True)
class Tried:
    """What the fit of one structure came to; ``problem`` is empty where it ended at an optimum."""

    candidate: Candidate
    objective_full: float  # -2 log L, constant included
    parameters: int
    aic: float
    bic: float
    problem: str
    estimates: Mapping[str, float]

    def score(self, criterion: str) -> float:
        return {"bic": self.bic, "aic": self.aic, "-2ll": self.objective_full}[criterion]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class StructureSearch(Shown):
    """What a search tried and chose.

    Attributes
    ----------
    population, method, criterion : what was searched for
    best : the structure chosen
    model : its model, at the estimates
    source : its text in Python
    table : DataFrame, one row for every structure that was fitted, in order: structure, its features, objective_full, parameters, aic,
        bic, counts (whether it ended at an optimum), chosen, problem
    messages : what to mind, in words
    """

    population: Population
    method: Method
    criterion: str
    best: Candidate
    model: Model
    source: str
    table: Any
    messages: list[str]

    @functools.cached_property
    def fit(self) -> Fit:
        """The chosen model fitted from where the search ended, with its covariance, diagnostics and audit."""
        method = method_for(self.best, self.method)
        return fit_model(self.model, data_for(self.best, self.population), method, progress=False)

    def _exact(self):
        return self.table

    def _panels(self) -> list[Panel]:
        key = {"bic": "bic", "aic": "aic", "-2ll": "objective_full"}[self.criterion]
        header = ["Structure", "-2LL", "P", "AIC", "BIC", ""]
        rows = [
            [
                row.structure,
                fixed_point(row.objective_full, 2),
                str(row.parameters),
                fixed_point(row.aic, 2),
                fixed_point(row.bic, 2),
            ]
            + ["chosen" if row.chosen else "" if row.counts else "does not count"]
            for row in self.table.sort_values([key, "structure"]).itertuples()
        ]
        notes = [f"Chosen of {len(self.table)}: {self.best}.", *self.messages]
        return [Panel(f"Structure search by {self.criterion.upper()}, {self.method!r}", header, rows, notes, (0, 5))]


def structure_search(
    population: Population,
    method: Method | None = None,
    *,
    route: str,
    algorithm: str = "stepwise",
    criterion: str = "bic",
    compartments: Iterable[int] | int = (1, 2, 3),
    absorption: Iterable[str] | str | None = None,
    lag: Iterable[bool] | bool = (False, True),
    elimination: Iterable[str] | str = ELIMINATIONS,
    iiv: Iterable[str] = ("elimination", "volume", "absorption", "lag", "peripheral"),
    correlated: Iterable[bool] | bool = False,
    iov: Iterable[str] = (),
    error: Iterable[str] | str = ERRORS,
    values: Mapping[str, float] | None = None,
    max_fits: int = 200,
    seed: int = 0,
    tolerance: float = 1e-6,
    max_evaluations: int = 500,
    progress: bool | None = None,
    checkpoint: str | os.PathLike | None = None,
    executor: Any = None,
) -> StructureSearch:
    """The pharmacokinetic structure that describes concentrations best.

    Parameters
    ----------
    population : concentrations (one endpoint) after doses into the first compartment
    method : as in :func:`nlme.fit`; where it names no ODE solver, structures that are solved as equations have "auto"
    route : "oral" or "iv" (into the central compartment)
    algorithm : "stepwise" or "genetic" (more fits, and fewer local ends)
    criterion : "bic", "aic" or "-2ll"
    compartments, absorption, lag, elimination, correlated, error : what may be tried, see :mod:`nlme.selection.grammar`; one word holds a
        feature.  ``absorption`` of oral doses is first order, zero order or transit by default
    iiv, iov : the parts that may vary between subjects, and between occasions; each is tried with and without
    values : starting values of parameters by name ("cl", "v", "ka", "km" ...), where those read off the data would be poor
    max_fits : structures to fit at most
    seed : of the genetic algorithm
    tolerance, max_evaluations, progress : as in :func:`nlme.fit`
    checkpoint : folder in which every fit is kept; where it exists the search goes on from it, to the same result
    executor : who fits, as of :func:`nlme.bootstrap`; one task is one structure

    Interrupting (Ctrl-C) returns the best of the structures fitted so far, and says so; the fit under way is not among them.

    Raises
    ------
    DataError
        Several endpoints, no doses or no observations after one, doses into another compartment than the first.
    ModelError
        An unknown word; variability between occasions of data that have none.
    FitError
        An option out of its range, a checkpoint that is none, or no structure ends at an optimum.
    """
    for what, given, known in (
        ("route", route, ("oral", "iv")),
        ("algorithm", algorithm, ALGORITHMS),
        ("criterion", criterion, CRITERIA),
    ):
        if given not in known:
            raise FitError(name_error(what, str(given), known, "structure_search"))
    if max_fits < 1:
        raise FitError(f"max_fits={max_fits}: it is a number of fits from 1 on.")
    require_executor(executor)
    if not isinstance(population, Population):
        raise DataError(f"structure_search needs a population, as nlme.read_nonmem returns; got {type(population).__name__}.")
    absorbed = (absorption if absorption is not None else ABSORPTIONS[1:]) if route == "oral" else "none"
    options = {
        "compartments": require_words("compartments", compartments, (1, 2, 3)),
        "absorption": require_words("absorption", absorbed, ABSORPTIONS[1:] if route == "oral" else ABSORPTIONS[:1]),
        "lag": require_words("lag", lag, (False, True)),
        "elimination": require_words("elimination", elimination, ELIMINATIONS),
        "iiv": require_words("iiv", iiv, ROLES),
        "correlated": require_words("correlated", correlated, (False, True)),
        "iov": require_words("iov", iov, ROLES),
        "error": require_words("error", error, ERRORS),
    }
    _require_data(population, options["iov"])
    method = method_of(method)
    work = _Fitting(population, method, tolerance, max_evaluations)
    first = first_values(population) | dict(values or {})
    search = _Search(work, options, criterion, first, max_fits, checkpoint, executor)
    with Progress(progress, "structure search") as show:
        search.show = show
        try:
            search.genetic(seed) if algorithm == "genetic" else search.stepwise()
        except KeyboardInterrupt:
            if search.best() is None:
                raise
            search.interrupted = True
    return search.result()


def _require_data(population: Population, iov: tuple[str, ...]) -> None:
    used = {int(k) for s in population for k in np.unique(s.endpoint[s.is_observation])}
    if len(used) > 1:
        names = ", ".join(population.endpoints[k] for k in sorted(used))
        raise DataError(f"structure_search is for concentrations alone; the data have {names}. Read those of one endpoint.")
    for s in population:
        elsewhere = np.flatnonzero(s.is_dose & (s.cmt > 1))
        if len(elsewhere):
            raise DataError(
                f"structure_search: doses go into the first compartment; subject {s.id} has one into {s.cmt[elsewhere[0]]} (row "
                f"{s.rows[elsewhere[0]]})."
            )
    if iov and not any(np.any(s.occasion) for s in population):
        raise ModelError("structure_search: iov= needs data with occasions, a column OCC that changes from one to the next.")


@dataclasses.dataclass(frozen=True, eq=False)
class _Fitting:
    """Fits one structure, from the estimates of another and from what the data show at a glance: called with (candidate, starts).

    An optimum inherited may be the wrong one: a model without variability of absorption that has the rates of absorption and elimination
    exchanged (flip-flop) hands that on.  The lower of the two counts, and an optimum before what is none.  Others are made only where
    neither ends at one: they cost several times as much.
    """

    population: Population
    method: Method
    tolerance: float
    limit: int

    def __call__(self, task: tuple[Candidate, tuple[dict[str, float], ...]]) -> Tried:
        candidate, starts = task
        written = starts[0]  # one class, compiled once
        try:
            ends = [(self._from(candidate, values, written, 0), values) for values in starts]
            best, values = min(ends, key=lambda end: _rank(end[0]))
            return min(best, self._from(candidate, values, written, None), key=_rank) if best.problem else best
        finally:
            if next(_FITS) % _KEPT == 0:
                jax.clear_caches()  # the programs of hundreds of structures would take gigabytes

    def _from(self, candidate: Candidate, values: dict[str, float], written: dict[str, float], others: int | None) -> Tried:
        try:
            base = model_of(candidate, written)
            inventory = Inventory(base)
            start = inventory.at_natural(base, np.asarray(Inventory(other := model_of(candidate, values)).natural(other)))
            made = uninterrupted(
                fit_model(
                    start,
                    data_for(candidate, self.population),
                    method_for(candidate, self.method),
                    starts=others,
                    tolerance=self.tolerance,
                    max_evaluations=self.limit,
                    progress=False,
                )
            )
            found = dict(zip(inventory.names, np.asarray(inventory.natural(made.model)).tolist(), strict=True))
            numbers = (float(made.objective_full), made.n_parameters, float(made.aic), float(made.bic))
            return Tried(candidate, *numbers, (made.audit.problems or [""])[0], found)
        except NLMEError as error:  # a structure that these data do not take is one that cannot win
            return Tried(candidate, math.nan, 0, math.nan, math.nan, str(error).splitlines()[0], {})


def _rank(one: Tried) -> tuple[bool, float]:
    return bool(one.problem), math.inf if math.isnan(one.objective_full) else one.objective_full


class _Search:
    """The state of a search: what was tried, in order."""

    def __init__(self, work: _Fitting, options, criterion: str, first, limit: int, checkpoint, executor):
        self.work, self.options, self.criterion, self.first, self.limit = work, options, criterion, first, limit
        self.executor, self.show, self.spent, self.interrupted = executor, None, False, False
        self.tried: dict[Candidate, Tried] = {}
        self.folder = folder_of(checkpoint)

    # -- what is near what ------------------------------------------------------------------------------------------------

    def smallest(self) -> Candidate:
        """Where a search begins: the first word of every feature, elimination and volume varying, the largest error model."""
        features = {name: words[0] for name, words in self.options.items() if name not in ("iiv", "iov", "error")}
        iiv = tuple(role for role in ("elimination", "volume") if role in self.options["iiv"])
        return Candidate.of(**features, iiv=iiv, error=self.options["error"][-1])

    def neighbours(self, candidate: Candidate) -> list[Candidate]:
        """Everything that is one change away."""
        found = []
        for feature, words in self.options.items():
            own = getattr(candidate, feature)
            if feature in ("iiv", "iov"):
                found += [candidate.changed(**{feature: tuple(set(own) ^ {role})}) for role in words]
            elif feature == "compartments":
                found += [candidate.changed(compartments=n) for n in words if abs(n - own) == 1]
            else:
                found += [candidate.changed(**{feature: word}) for word in words if word != own]
        return [c for c in dict.fromkeys(found) if c != candidate]

    def drawn(self, rng: np.random.Generator) -> Candidate:
        features = {name: words[rng.integers(len(words))] for name, words in self.options.items() if name not in ("iiv", "iov")}
        some = {name: tuple(r for r in self.options[name] if rng.random() < 0.5) for name in ("iiv", "iov")}
        return Candidate.of(**features, **some)

    def child(self, a: Candidate, b: Candidate, rng: np.random.Generator) -> Candidate:
        """Each feature of one of the parents, and one in ``len(options)`` of them drawn anew."""
        other, new = self.drawn(rng), {}
        for name in self.options:
            source = other if rng.random() < 1.0 / len(self.options) else a if rng.random() < 0.5 else b
            new[name] = getattr(source, name)
        return Candidate.of(**new)

    # -- fitting ----------------------------------------------------------------------------------------------------------

    def fit(self, candidates: Iterable[Candidate], origin: Candidate | None = None) -> None:
        """Fit what has not been, from the estimates of ``origin``, or else of the best so far, and from first values."""
        known = self.best([origin]) or self.best()
        fresh = [c for c in dict.fromkeys(candidates) if c not in self.tried]
        self.spent |= len(fresh) > self.limit - len(self.tried)
        fresh = fresh[: self.limit - len(self.tried)]
        estimates, whose = (known.estimates, known.candidate) if known else ({}, None)
        tasks = {}
        for k, c in enumerate(fresh):
            starts = [values_for(c, self.first, {}, None), values_for(c, self.first, estimates, whose)]
            tasks[k] = c, tuple(starts if estimates else starts[:1])
        found = {k: self._kept(task) for k, task in tasks.items()}
        found = {k: one for k, one in found.items() if one is not None}
        try:
            for k, one in carried_out(self.work, {k: task for k, task in tasks.items() if k not in found}, self.executor):
                found[k] = one
                self._keep(tasks[k], one)
                self.show.count(len(self.tried) + len(found), self.limit)
        finally:  # at Ctrl-C those that have ended
            self.tried |= {c: found[k] for k, c in enumerate(fresh) if k in found}

    def _file(self, task) -> Checkpoint:
        candidate, starts = task
        told = (candidate, [sorted(values.items()) for values in starts], self.work.method, self.work.tolerance, self.work.limit)
        digest = hashlib.sha256(f"{self.work.population.hash} {told!r}".encode()).hexdigest()
        return Checkpoint(self.folder / f"{candidate.name}_{digest[:12]}.npz", digest, 0.0)

    def _kept(self, task) -> Tried | None:
        saved = None if self.folder is None else self._file(task).read()
        if saved is None:
            return None
        told = json.loads(str(saved["tried"]))
        return Tried(task[0], **told)

    def _keep(self, task, one: Tried) -> None:
        if self.folder is not None:
            told = {f.name: getattr(one, f.name) for f in dataclasses.fields(one) if f.name != "candidate"}
            self._file(task).write({"tried": np.asarray(json.dumps(told))})

    # -- what counts ------------------------------------------------------------------------------------------------------

    def problem(self, one: Tried) -> str:
        """Why a structure does not count; nothing where it does."""
        if one.problem:
            return one.problem
        for other in self.tried.values():
            if (
                not other.problem
                and other.objective_full < one.objective_full - _CHANCE
                and one.candidate.contains(other.candidate)
            ):
                return f"It ended {one.objective_full - other.objective_full:.2f} higher than a model that it contains ({other.candidate})."
        return ""

    def best(self, among: Iterable[Candidate] | None = None) -> Tried | None:
        """Of those tried that count, ``among`` these structures if given."""
        return min(self.counting(among), key=lambda one: one.score(self.criterion), default=None)

    def counting(self, among: Iterable[Candidate] | None = None) -> list[Tried]:
        tried = self.tried.values() if among is None else [self.tried[c] for c in among if c in self.tried]
        return [one for one in tried if not self.problem(one)]

    # -- the algorithms ---------------------------------------------------------------------------------------------------

    def stepwise(self) -> None:
        begin = self.smallest()
        self.fit([begin])
        self.descend(begin)
        niches: dict[tuple[str, bool], Candidate] = {}
        for one in sorted(self.counting(), key=lambda one: one.score(self.criterion)):
            niches.setdefault((one.candidate.absorption, one.candidate.lag), one.candidate)
        for begin in list(niches.values())[:_NICHES]:
            self.descend(begin)

    def descend(self, at: Candidate) -> None:
        """From a structure to the best of those one change away, until none of them is better."""
        while not self.spent:
            near = self.neighbours(at)
            self.fit(near, at)
            best = self.best([at, *near])
            if best is None or best.candidate == at:
                return
            at = best.candidate

    def genetic(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        people, stale = list(dict.fromkeys([self.smallest(), *(self.drawn(rng) for _ in range(4 * _PEOPLE))]))[:_PEOPLE], 0
        while stale < _STALE and not self.spent:
            before = self.best()
            self.fit(people)
            stale = stale + 1 if before is not None and self.best() is before else 0
            ranked = sorted(people, key=self._merit)
            own = [c for c in ranked if c in self.tried]
            parents = [min(rng.choice(len(own), 2)) for _ in range(2 * _PEOPLE)]
            children = [self.child(own[a], own[b], rng) for a, b in zip(parents[::2], parents[1::2], strict=True)]
            people = list(dict.fromkeys([*own[:_ELITE], *children]))[:_PEOPLE]
        if (best := self.best()) is not None and not self.spent:
            self.descend(best.candidate)

    def _merit(self, candidate: Candidate) -> float:
        one = self.tried.get(candidate)
        return math.inf if one is None or self.problem(one) else one.score(self.criterion)

    # -- the result -------------------------------------------------------------------------------------------------------

    def result(self) -> StructureSearch:
        import pandas as pd

        best, rows = self.best(), []
        problems = {c: self.problem(one) for c, one in self.tried.items()}
        if best is None:
            said = "; ".join(dict.fromkeys(problems.values()))
            raise FitError(f"structure_search: none of {len(problems)} structures ends at an optimum: {said}")
        for c, one in self.tried.items():
            features = {f.name: " ".join(v) if isinstance(v := getattr(c, f.name), tuple) else v for f in dataclasses.fields(c)}
            numbers = {"objective_full": one.objective_full, "parameters": one.parameters, "aic": one.aic, "bic": one.bic}
            verdict = {"counts": not problems[c], "chosen": one is best, "problem": problems[c]}
            rows.append({"structure": str(c)} | features | numbers | verdict)
        messages = []
        if failed := sum(map(bool, problems.values())):
            messages.append(
                f"{failed} of {len(problems)} structures do not count: their fits are at no optimum (see problem in table)."
            )
        if self.spent:
            messages.append(f"The search ended at max_fits={self.limit}; a better structure may lie beyond.")
        if self.interrupted:
            messages.append(f"The search was interrupted (Ctrl-C); a better structure may lie beyond.{onwards(self.folder)}")
        values = values_for(best.candidate, self.first, best.estimates, best.candidate)
        model = model_of(best.candidate, values)
        inventory = Inventory(model)
        model = inventory.at_natural(model, np.array([best.estimates[name] for name in inventory.names]))
        source = text_of(best.candidate, values)
        return StructureSearch(
            self.work.population, self.work.method, self.criterion, best.candidate, model, source, pd.DataFrame(rows), messages
        )
