"""``from_nonmem``: a control stream becomes a model, its data a population, and NONMEM's own objective the test of both."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlme.data.population import Population
from nlme.data.readers import read_nonmem
from nlme.data.violations import DataWarning
from nlme.errors import DataError, FitError, ModelError, NLMEError
from nlme.exchange.nonmem.items import population_frame
from nlme.exchange.nonmem.methods import Writer, Written
from nlme.exchange.nonmem.program import Program, estimation_of, program_of
from nlme.exchange.nonmem.records import of_name
from nlme.exchange.nonmem.results import NonmemResults, Step, read_nonmem_results
from nlme.exchange.nonmem.source import Source, source_of
from nlme.exchange.nonmem.symbols import Symbols, symbols_of
from nlme.fitting.evaluated import Evaluated, evaluate
from nlme.language.files import class_in
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.marginal.first_order import FO
from nlme.marginal.foce import FOCE, FOCEI
from nlme.marginal.laplace import Laplace
from nlme.marginal.pooled import NaivePooled
from nlme.marginal.quadrature import ImportanceSampling

if TYPE_CHECKING:
    import pandas as pd

AGREES = 0.01  # of the objective
_MONTE_CARLO = ("IMP", "IMPMAP")


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
    messages: tuple[str, ...]

    @property
    def agrees(self) -> bool | None:
        """Whether both objectives agree to 0.01; None where they cannot be compared."""
        if self.objective is None or self.reference is None:
            return None
        return abs(self.objective - self.reference) <= AGREES

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
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.py").write_text(self.source, encoding="utf-8")
        self.population.to_frame().to_csv(folder / "data.csv", index=False)
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
    messages = _exits(program)
    step, method = _compared(program, written, results, messages)
    if step is not None and (other := _not_of_this_run(program, step)):
        messages.append(f"{other}: these are results of another control stream, so they are not compared.")
        step = None
    values = step.values if step is not None else {}
    origin = f"Values are NONMEM's estimates ({step.title})." if values else "Values are the initial ones of the control stream."
    source = source_of(program, symbols, written, values, origin)
    model = _instance(source)
    population = _population(program, symbols, written)
    if not written.etas and not isinstance(method, NaivePooled):
        method = NaivePooled()
    done = None
    if evaluate:
        done = _evaluated(model, population, method, source.fixed, messages)
    reference = step.objective if step is not None and step.column == "OBJ" else None
    imported = Imported(
        model, population, method, source.fixed, source.text, path.name, None if done is None else float(done.objective),
        reference if done is not None else None, done, results, (),
    )  # fmt: skip
    _count(imported, program, messages)
    _compare(imported, program, messages)
    object.__setattr__(imported, "messages", tuple(messages))
    return imported


def _exits(program: Program) -> list[str]:
    codes = [c for c in (program.main, program.des, program.error) if c is not None and c.exits]
    return [f"{program.file}, line {line}: EXIT is left out." for code in codes for line in code.exits]


def _results(path: Path) -> NonmemResults | None:
    try:
        return read_nonmem_results(path)
    except DataError as error:
        if "Beside" in str(error):
            return None
        raise


_METHODS = {"FO": lambda inter: FO(), "FOCE": lambda inter: FOCEI() if inter else FOCE(), "LAPLACE": lambda inter: Laplace()}


def _compared(
    program: Program, written: Written, results: NonmemResults | None, messages: list[str]
) -> tuple[Step | None, Method]:
    """The step whose objective can be compared (the last whose method exists here), and its method."""
    records = of_name(program.records, "ESTIMATION")
    kinds = []
    inherited = ""
    for record in records:
        inherited = f"{inherited} {record.text}" if not kinds else record.text
        kinds.append(estimation_of(record))
    if not kinds:
        messages.append("There is no $ESTIMATION: the method is FOCEI.")
        return (results.steps[-1] if results and results.steps else None), FOCEI()
    steps = list(results.steps) if results else []
    if results is not None and len(steps) != len(kinds):
        steps = steps[-len(kinds) :]
    pairs = list(zip(kinds, steps, strict=False)) or [(kind, None) for kind in kinds]
    for (method, inter), step in reversed(pairs):
        if method in _METHODS and (step is None or step.objective is not None):
            if method == "LAPLACE" and not inter and not _constant_variance(written):
                messages.append(
                    "LAPLACE without INTERACTION takes the residual variance at eta = 0, and Laplace() does not: not compared."
                )
                return _without_objective(step), Laplace()
            if method == "FO" and inter:
                messages.append("FO with INTERACTION is not computed here, FO() is without: not compared.")
                return _without_objective(step), FO()
            return step, _METHODS[method](inter)
    (method, _), step = pairs[-1]
    if method in _MONTE_CARLO:
        messages.append(
            f"METHOD={method} is a Monte-Carlo estimate of the objective; compare it with a tolerance of its own error."
        )
        return step, ImportanceSampling()
    messages.append(
        f"METHOD={method}: its objective is not the marginal likelihood's, so it is not compared; the method here is FOCEI."
    )
    return _without_objective(step), FOCEI()


def _not_of_this_run(program: Program, step: Step) -> str:
    """How the results' parameters differ in number from those declared; "" if they do not."""
    if not step.values:
        return ""
    theirs = len([name for name in step.values if name.startswith("THETA")])
    theirs_eta, theirs_eps = (
        max((int(m[1]) for n in step.values if (m := re.match(rf"{kind}\((\d+),", n))), default=0) for kind in ("OMEGA", "SIGMA")
    )
    ours = len(program.thetas), sum(b.size for b in program.omegas), sum(b.size for b in program.sigmas)
    if ours[0] == theirs and theirs_eta in (ours[1], 0) and theirs_eps in (ours[2], 0):
        return ""
    found = f"{theirs} THETA, {theirs_eta} ETA and {theirs_eps} EPS"
    return f"The results have {found}, the control stream {ours[0]}, {ours[1]} and {ours[2]}"


def _without_objective(step: Step | None) -> Step | None:
    return None if step is None else Step(step.number, step.title, step.values, None, step.errors, step.column)


def _constant_variance(written: Written) -> bool:
    """Whether no residual variance depends on anything."""
    texts = written.endpoints.values()
    return all(t.startswith("nlme.loglik(") or re.fullmatch(r"nlme\.additive\(.*, self\.\w+\)", t) for t in texts)


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


def _evaluated(model: Model, population: Population, method: Method, fixed, messages: list[str]) -> Evaluated | None:
    try:
        return evaluate(model, population, method, fixed=[name for name in fixed])
    except NLMEError as error:
        messages.append(f"The objective could not be evaluated: {error}")
        return None


def _theirs(results: NonmemResults | None, population: Population) -> np.ndarray:
    out = np.full(len(population.ids), np.nan)
    if results is None or not results.phi:
        return out
    frame = results.phi[max(results.phi)]
    if "OBJ" in frame and len(frame) == len(out):
        out = frame["OBJ"].to_numpy(dtype=float)
    return out


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
