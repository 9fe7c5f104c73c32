"""``from_nonmem``: a control stream becomes a model, its data a population, and NONMEM's own objective the test of both."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.population import Population
from nlme.data.readers import read_nonmem
from nlme.data.violations import DataWarning
from nlme.errors import DataError, FitError, ModelError, NLMEError
from nlme.exchange.nonmem.estimation import compared, estimations_of
from nlme.exchange.nonmem.items import labels_of, population_frame
from nlme.exchange.nonmem.methods import Writer, Written
from nlme.exchange.nonmem.program import Program, program_of
from nlme.exchange.nonmem.records import of_name
from nlme.exchange.nonmem.results import NonmemResults, Step, read_nonmem_results
from nlme.exchange.nonmem.source import Source, source_of
from nlme.exchange.nonmem.symbols import Symbols, symbols_of
from nlme.exchange.nonmem.tables import predictions_beside, predictions_that_differ
from nlme.fitting.evaluated import Evaluated
from nlme.fitting.evaluated import evaluate as nlme_evaluate
from nlme.language.files import class_in
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.marginal.pooled import NaivePooled
from nlme.marginal.quadrature import ImportanceSampling

if TYPE_CHECKING:
    import pandas as pd

AGREES = 0.01  # of the objective
_MOST_EFFECTS = 6  # along which the modes of subjects are searched


@dataclass(frozen=True, eq=False, repr=False)
class Imported:
    """A model from a control stream.

    Attributes
    ----------
    model : an instance at NONMEM's final estimates (at the initial ones, where there are none)
    population : the data, as NONMEM reads them
    method : the control stream's estimation method, as an object of nlme
    fixed : the parameters that the control stream holds
    source : text of the model's Python file
    objective : at the model's values, by ``method``; None where it was not evaluated
    reference : NONMEM's, None where there is none that compares
    evaluated : the evaluation itself
    results : what NONMEM wrote
    tolerance : how far the objectives may be apart: 0.01, and where both are Monte-Carlo estimates four of their standard errors
    priors : the prior of $PRIOR as far as nlme.fit(..., priors=) takes it: name of a parameter -> NumPyro distribution
    messages : what was left open, in sentences
    """

    model: Model
    population: Population
    method: Method
    fixed: tuple[str, ...]
    source: str
    file: str
    objective: float | None
    reference: float | None
    evaluated: Evaluated | None
    results: NonmemResults | None
    tolerance: float
    priors: dict[str, Any]
    messages: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether both objectives agree within ``tolerance``; None where they cannot be compared."""
        if self.objective is None or self.reference is None:
            return None
        return abs(self.objective - self.reference) <= self.tolerance

    @property
    def subjects(self) -> pd.DataFrame:
        """Every subject's part of the objective: ours, NONMEM's (of the .phi file; NaN without one) and the difference."""
        import pandas as pd

        if self.evaluated is None:
            raise FitError("The model was not evaluated: " + " ".join(self.messages))
        theirs = _theirs(self.results, self.population)
        ours = np.asarray(self.evaluated.values, dtype=float)
        return pd.DataFrame(
            {"objective": ours, "reference": theirs, "difference": ours - theirs}, index=list(self.population.ids)
        )

    def write(self, folder: str | os.PathLike) -> Path:
        """Write ``model.py`` and ``data.csv`` into a folder; ``nlme fit model.py data.csv`` takes them.

        Returns the path of the model's file.

        Raises
        ------
        FitError
            A file of one of these names is there and holds something else: the run's own data, or a model that was worked on.
        """
        folder = Path(folder)
        data = self.population.to_frame().to_csv(index=False, lineterminator="\n")
        texts = {folder / "model.py": self.source.encode(), folder / "data.csv": data.encode()}
        for path, text in texts.items():
            if path.exists() and not (path.is_file() and path.read_bytes() == text):
                raise FitError(f"{path} is there and holds something else, which would be lost; name another folder.")
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in texts.items():
            path.write_bytes(text)
        return folder / "model.py"

    def __repr__(self) -> str:
        lines = [f"{type(self.model).__name__} from {self.file}: {len(self.population.ids)} subjects, {self.method!r}"]
        if self.objective is not None:
            lines.append(
                f"objective {self.objective:.4f}" + (f", NONMEM's {self.reference:.4f}" if self.reference is not None else "")
            )
        lines.append({True: "agrees", False: "DOES NOT AGREE", None: "not compared"}[self.agrees])
        return "\n".join([*lines, *self.messages])


def from_nonmem(path: str | os.PathLike, *, evaluate: bool = True) -> Imported:
    """Import a NONMEM control stream with its data, and check it against the results beside it.

    The model's class is written as Python text (``.source``) and made from it; the data are read by NONMEM's rules; with
    ``evaluate`` the objective is computed at NONMEM's final estimates, by its method, and compared.

    Parameters
    ----------
    path : the control stream, ``run1.mod`` or ``run1.ctl``; its data are beside it or where $DATA says; ``run1.ext``,
        ``run1.lst`` and ``run1.phi`` beside it, as far as they are there
    evaluate : compute the objective; False only translates

    Returns
    -------
    Imported

    Raises
    ------
    ModelError
        Something in the control stream that is not imported, named by record and line.
    DataError
        Data that cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no control stream {path}.")
    program = program_of(path)
    symbols = symbols_of(program)
    written = Writer(program, symbols).write()
    results = _results(path)
    messages = [*_exits(program), *_left_out(program)]
    step, method = compared(program, written, results, messages)
    if step is not None and (other := _not_of_this_run(program, step)):
        messages.append(f"{other}: these are results of another control stream, so they are not compared.")
        step = None
    values = _estimates(program, step, results) if step is not None else {}
    origin = f"Values are NONMEM's estimates ({step.title})." if values else "Values are the initial ones of the control stream."
    if not values and of_name(program.records, "MSFI"):
        messages.append("$MSFI is not read: NONMEM would begin at that file's values, here they are those of the control stream.")
    source = source_of(program, symbols, written, values, origin)
    model = _instance(source)
    population = _observed(_population(program, symbols, written), messages)
    if not written.etas and not isinstance(method, NaivePooled):
        method = NaivePooled()
    reference = step.objective if step is not None and step.column == "OBJ" else None
    done = None
    if evaluate:
        done = _evaluated(model, population, method, source.fixed, messages)
        done = _at_their_modes(done, results, symbols, program, reference, messages)
    objective = None if done is None else float(done.objective)
    priors = _priors(program, symbols, written, messages)
    imported = Imported(
        model, population, method, source.fixed, source.text, path.name, objective, reference if done is not None else None,
        done, results, _tolerance(done, program, messages), priors, (),
    )  # fmt: skip
    _count(imported, program, messages)
    _compare(imported, program, messages)
    if values:
        _compare_predictions(imported, program, path.parent, messages)
    object.__setattr__(imported, "messages", tuple(messages))
    return imported


def _exits(program: Program) -> list[str]:
    codes = [c for c in (program.main, program.des, program.error) if c is not None and c.exits]
    return [f"{program.file}, line {line}: EXIT is left out." for code in codes for line in code.exits]


def _left_out(program: Program) -> list[str]:
    """What else the file would have NONMEM do."""
    found = []
    if program.problems > 1:
        found.append(f"The first of {program.problems} problems is imported.")
    if of_name(program.records, "SIMULATION") and of_name(program.records, "ESTIMATION"):
        found.append(
            "$SIMULATION is left out: NONMEM would estimate from what it simulates, here the data are those of the file."
        )
    return found


def _results(path: Path) -> NonmemResults | None:
    try:
        return read_nonmem_results(path)
    except DataError as error:
        if "Beside" in str(error):
            return None
        raise


def _estimates(program: Program, step: Step, results: NonmemResults) -> dict[str, float]:
    """The step's values; of a listing, which shows three digits, the declared value where it shows the same."""
    if any(name.lower().endswith(".ext") for name in results.files):
        return step.values
    declared = {f"THETA{k}": theta.value for k, theta in enumerate(program.thetas, start=1)}
    for name, blocks in (("OMEGA", program.omegas), ("SIGMA", program.sigmas)):
        for block in blocks:
            for i, row in enumerate(block.matrix):
                declared |= {f"{name}({block.first + i},{block.first + j})": float(v) for j, v in enumerate(row[: i + 1])}
    same = {name for name, value in step.values.items() if name in declared and f"{declared[name]:.2E}" == f"{value:.2E}"}
    return {name: declared[name] if name in same else value for name, value in step.values.items()}


def _tolerance(done: Evaluated | None, program: Program, messages: list[str]) -> float:
    if done is None or not isinstance(done.method, ImportanceSampling):
        return AGREES
    ratio = done.method.samples / max(e.samples for e in estimations_of(program.records))
    tolerance = AGREES + 4.0 * done.monte_carlo.error * float(np.sqrt(1.0 + ratio))
    messages.append(f"Both objectives are Monte-Carlo estimates; within {tolerance:.3g} of each other they agree.")
    return tolerance


def _priors(program: Program, symbols: Symbols, written: Written, messages: list[str]) -> dict[str, Any]:
    if program.prior is None:
        return {}
    fixed = {k for k, theta in enumerate(program.thetas, start=1) if theta.fixed}
    theta = {k: name for k, name in symbols.theta.items() if k in written.thetas}
    eta = {k: name for k, name in symbols.eta.items() if k in written.etas}
    found, left = program.prior.distributions(theta, eta, fixed)
    left += [f"${r.name}" for r in of_name(program.records, "OLKJDF", "OVARF", "SLKJDF", "SVARF", "TTDF")]
    messages.append("The prior is no part of the model: nlme.fit(..., priors=run.priors)." if found else "The prior is left out.")
    if left:
        messages.append(f"No prior here: {', '.join(left)}.")
    return found


def _not_of_this_run(program: Program, step: Step) -> str:
    """How the results' parameters differ in number from those declared; "" if they do not."""
    if not step.values:
        return ""
    theirs = len([name for name in step.values if name.startswith("THETA")])
    theirs_eta, theirs_eps = (
        max((int(m[1]) for n in step.values if (m := re.match(rf"{kind}\((\d+),", n))), default=0) for kind in ("OMEGA", "SIGMA")
    )
    ours = len(program.thetas), sum(b.size for b in program.omegas), sum(b.size for b in program.sigmas)
    behind = program.prior.behind if program.prior else (0, 0, 0)  # of a prior, which an .ext file lists too
    # without any ETA or EPS NONMEM lists one, of variance 0
    possible = [(n, n + more) if n else (0, 1) for n, more in zip(ours, behind, strict=True)]
    if theirs in possible[0][:2] and theirs_eta in possible[1] and theirs_eps in possible[2]:
        return ""
    found = f"{theirs} THETA, {theirs_eta} ETA and {theirs_eps} EPS"
    return f"The results have {found}, the control stream {ours[0]}, {ours[1]} and {ours[2]}"


def _instance(source: Source) -> Model:
    """An instance of the class that the text defines."""
    return class_in(source.text, source.name)()


def _population(program: Program, symbols: Symbols, written: Written) -> Population:
    items = program.items
    endpoint = np.full(len(items), None, dtype=object)
    below = np.zeros(len(items), dtype=bool)
    for e in program.endpoints:
        endpoint[e.records] = written.censored.get(e.name, e.name)
        below[e.records] = e.name in written.censored
    names = {symbols.covariate[item]: item for item in written.covariates}
    if written.clock and (early := np.flatnonzero(items.time < 0)).size:
        raise DataError(
            f"{program.file}: the code uses TIME, which is negative on {items.where(int(early[0]))}; that is not imported."
        )
    frame = population_frame(
        items, program.compartments if program.predpp else None, names, program.occasion, endpoint, below, program.held
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return read_nonmem(
            frame, covariates=list(names) or None, time_varying="auto" if names else None, allow=["duplicated record"],
            compartments=list(program.compartments.states) or None,
        )  # fmt: skip


def _observed(population: Population, messages: list[str]) -> Population:
    """The subjects with observations: of one without, NONMEM's part of the objective is 0, and nlme's fits refuse it."""
    without = [str(s.id) for s in population.subjects if not s.n_observations]
    if without:
        some = ", ".join(without[:8]) + (f" and {len(without) - 8} more" if len(without) > 8 else "")
        messages.append(f"Left out, as they have no observations (NONMEM counts 0 for them): {some}.")
    return population.filter(lambda s: s.n_observations > 0) if without else population


def _evaluated(model: Model, population: Population, method: Method, fixed, messages: list[str]) -> Evaluated | None:
    try:
        return nlme_evaluate(model, population, method, fixed=fixed)
    except NLMEError as error:
        messages.append(f"The objective could not be evaluated: {error}")
        return None


def _at_their_modes(
    done: Evaluated | None, results: NonmemResults | None, symbols: Symbols, program: Program, reference: float | None,
    messages: list[str],
) -> Evaluated | None:  # fmt: skip
    """Where the objectives differ: the evaluation that agrees, whose modes are searched from NONMEM's or are the best of several.

    The density of a subject's effects may have several modes (absorption and elimination exchanged, censored values); from 0 the
    search may end at another one than NONMEM's, whose search went on from iteration to iteration.
    """
    alike = done is None or reference is None or abs(done.objective - reference) <= AGREES
    if alike or program.occasional or isinstance(done.method, ImportanceSampling):
        return done
    for words, eta in _beginnings(done, results, symbols):
        try:
            there = nlme_evaluate(done.model, done.population, done.method, fixed=done.fixed, eta=eta)
        except NLMEError:
            continue
        if abs(there.objective - reference) <= AGREES:
            apart = np.abs(np.asarray(there.values) - np.asarray(done.values)) > AGREES / 10
            several = [str(i) for i, other in zip(done.population.ids, apart, strict=True) if other]
            messages.append(
                f"The density of {', '.join(several)} has several modes; the objective is at {words}. "
                f"Searched from eta = 0 it is {done.objective:.4f}."
            )
            return there
    return done


def _beginnings(done: Evaluated, results: NonmemResults | None, symbols: Symbols):
    """Where else the modes may be searched from, in words and as frames: the .phi file's; a standard deviation along each effect."""
    import pandas as pd

    effects = list(done.effects)
    columns = {f"ETA({k})": name for k, name in symbols.eta.items() if name in effects}
    theirs = _of_phi(results, done.population, list(columns))
    if theirs is not None and set(columns.values()) == set(effects) and np.isfinite(theirs.to_numpy(dtype=float)).all():
        yield "those of the .phi file", theirs.rename(columns=columns)[effects]
    if done.method.searches and len(effects) <= _MOST_EFFECTS and done.layout.sites is None:
        factor = np.asarray(done.layout.anatomy.cholesky(done.model))
        around = [sign * column for column in factor.T for sign in (1.0, -1.0)]
        frames = [pd.DataFrame(np.tile(row, (len(done.values), 1)), columns=effects) for row in around]
        yield "the highest of those that were found", [None, *frames]


def _of_phi(results: NonmemResults | None, population: Population, columns: list[str]) -> pd.DataFrame | None:
    """Columns of the last .phi table, a row for each subject of the population (NaN: not there); None without them."""
    if results is None or not results.phi:
        return None
    frame = results.phi[max(results.phi)]
    if not set(columns) <= set(frame.columns):
        return None
    frame = frame.set_index(np.array(labels_of(frame["ID"].to_numpy(dtype=float))))[columns]
    return frame.reindex([str(i) for i in population.ids])


def _theirs(results: NonmemResults | None, population: Population) -> np.ndarray:
    found = _of_phi(results, population, ["OBJ"])
    return np.full(len(population.ids), np.nan) if found is None else found["OBJ"].to_numpy(dtype=float)


def _count(imported: Imported, program: Program, messages: list[str]) -> None:
    """Say where NONMEM counted other data than were read here."""
    if imported.results is None or imported.results.observations is None:
        return
    theirs = imported.results.observations, imported.results.individuals
    ours = int(program.items.observed.sum()), len(program.items.labels)
    if theirs != ours:
        messages.append(
            f"NONMEM's listing counts {theirs[0]} observations of {theirs[1]} individuals, and the data as read here have "
            f"{ours[0]} of {ours[1]}: these are not the data of that run, or they were read otherwise."
        )


def _compare(imported: Imported, program: Program, messages: list[str]) -> None:
    """Say what was not compared, and where the objectives differ."""
    if imported.reference is None:
        if imported.objective is not None and not any("compared" in m for m in messages):
            messages.append("No objective of NONMEM's was found that can be compared: the import is not verified.")
        return
    if imported.agrees:
        return
    if imported.results is not None and not any(name.lower().endswith(".ext") for name in imported.results.files):
        messages.append("There is no .ext file: the estimates are those of the listing, which has three digits of each.")
    difference = imported.objective - imported.reference
    messages.insert(
        0, f"The objective is {imported.objective:.4f} and NONMEM's {imported.reference:.4f}: they differ by {difference:.4f}."
    )
    frame = imported.subjects
    apart = frame[np.abs(frame["difference"]) > AGREES / 10].sort_values("difference", key=np.abs, ascending=False)
    if len(apart):
        listed = "; ".join(f"{i}: {row['objective']:.4f} against {row['reference']:.4f}" for i, row in apart.head(5).iterrows())
        messages.insert(1, f"{len(apart)} of {len(frame)} subjects differ: {listed}.")
    elif not np.isfinite(frame["reference"]).any():
        messages.insert(1, "There is no .phi file, so the subjects that differ are not known.")


def _compare_predictions(imported: Imported, program: Program, folder: Path, messages: list[str]) -> None:
    """Where the objectives do not agree, or cannot be compared: on which records the predictions are others."""
    if imported.agrees or imported.evaluated is None:
        return
    theirs = predictions_beside(program, folder)
    if theirs is None:
        return
    ours = imported.evaluated.predictions["PRED"].to_numpy(dtype=float)
    if len(ours) == int(program.items.observed.sum()) and (sentence := predictions_that_differ(program, theirs, ours)):
        messages.append(sentence)
