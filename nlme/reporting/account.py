"""What stands first and last in a report: the run and its verdict, its data, and what is needed to do it again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nlme.diagnostics.audit import REMARK, Audit, Check, effective_parameters
from nlme.language.model import documentation
from nlme.reporting.blocks import Block, Code, Pairs, Paragraph, Table, Verdict
from nlme.reporting.criteria import criterion, said_of_error
from nlme.reporting.sections import added_words, penalised
from nlme.reporting.table import unused
from nlme.tables.numbers import fixed_point, seconds, significant
from nlme.tables.shown import Panel
from nlme.versions import now

LARGE_CONDITION = 1000.0


def opening(fit) -> list[Block]:
    """What the model is, in its own first words."""
    first = " ".join(documentation(fit.model).partition("\n\n")[0].split())
    return [Paragraph(first, "lead")] if first else []


def summary(fit) -> list[Block]:
    """The verdict, what stands against the fit, and the fit in numbers."""
    dates = [f"Fitted {fit.date}."] if getattr(fit, "date", "") else []
    version = getattr(fit, "versions", {}).get("nlme")
    dates.append(f"Page written {now()}" + (f" from a fit by nlme {version}." if version else "."))
    dates += [words] if (words := said_of_error(fit)) else []
    learned = [Paragraph(" ".join(words))] if (words := [*getattr(fit, "training", ()), *getattr(fit, "validation", ())]) else []
    return [_verdict(fit), Pairs(_figures(fit)), *learned, Paragraph(" ".join(dates), "small")]


def data(fit, units) -> list[Block]:
    from nlme.plots.style import units_of

    source = getattr(fit.population, "source", "")
    rows = [*([("read from", source)] if source else []), *fit.population.summary(units_of(fit, units))]
    return [Pairs(rows)]


def again(fit) -> list[Block]:
    """Where the data are, by which settings and versions the fit was made, and the lines that make it again."""
    rows = [("Data read from", source)] if (source := getattr(fit.population, "source", "")) else []
    rows.append(("SHA-256 of the data", _hash(fit)))
    rows += [("Fitted", fit.date)] if getattr(fit, "date", "") else []
    rows.append(("Method", _method(fit)))
    rows += [(f"Option {name}", value) for name, value in _options(fit.method)]
    idle = unused(fit)
    fixed = [row.name for row in fit.parameters if row.fixed and row.kind != "weight" and row.name not in idle]
    rows.append(("Fixed parameters", ", ".join(fixed) or "none"))
    rows += [(f"Prior of {name}", words) for name, words in getattr(fit, "priors", {}).items()]
    rows += [(f"Time: {name}", seconds(float(value))) for name, value in getattr(fit, "timings", {}).items()]
    rows += [(f"Version of {name}", value) for name, value in getattr(fit, "versions", {}).items()]
    blocks: list[Block] = [Pairs(rows)]
    starts = [[row.name, significant(float(row.value)), "fixed" if row.fixed else row.domain] for row in _starting_rows(fit)]
    if starts:
        blocks.append(Table(Panel("Starting values", ["Parameter", "Starting value", "Domain"], starts, left=(0, 2))))
    return [*blocks, Code("To run it again", _lines(fit, fixed))] if hasattr(fit, "n_parameters") else blocks


def _lines(fit, fixed: Sequence[str]) -> str:
    """Python that reads, checks and fits again; what the fit does not know of itself is ``...``, with what is to stand there."""
    name = type(fit.model).__name__
    added, said = _added(fit)
    options = [f"fixed={list(fixed)!r}"] if fixed else []
    options += [f"{added}={added}"] if added else []
    arguments = ", ".join(["start", "population", f"nlme.{_method(fit)}", *options])
    return "\n".join(
        [
            "import nlme",
            "",
            *reading(fit.population),
            f'assert population.hash == "{_hash(fit)}"  # fails if the data are others',
            f"start = ...  # a {name} with the starting values above",
            *said,
            f"fit = nlme.fit({arguments})",
        ]
    )


def reading(population) -> list[str]:
    """Lines that make the population: of a data set that comes with the library, of a file, or what else is to stand there."""
    source, columns = getattr(population, "source", ""), _columns(population)
    library, mark, name = source.partition(": ")
    if mark and library == "nlme.datasets":
        return [f"population = nlme.datasets.load({name!r})"]
    if Path(source).suffix:
        return [
            "# with what else was said of the columns for this fit",
            f"population = nlme.read_nonmem({source!r}{columns})",
        ]
    made = source or "an unknown source"
    return [f"population = ...  # from {made}" + (f": nlme.read_nonmem(frame{columns})" if columns else "")]


def _added(fit) -> tuple[str, list[str]]:
    """The argument that holds what was added to the objective ("" where nothing was), and the lines that say what it was."""
    if priors := getattr(fit, "priors", None):
        return "priors", [
            "# priors: NumPyro distributions, of which a fit keeps what is said here, its numbers to four digits",
            "priors = {",
            *(f"    {name!r}: ...,  # {words}" for name, words in priors.items()),
            "}",
        ]
    if penalised(fit):
        return "penalty", [f"penalty = ...  # its value at the estimate was {fit.penalty!r}; a fit does not keep the function"]
    return "", []


def _columns(population) -> str:
    """What a population says of its columns, as arguments of ``nlme.read_nonmem``."""
    infos, codes = population.covariates, population.dvid
    said = {
        "covariates": {name: info.unit or None for name, info in infos.items()},
        "categories": {name: list(info.categories) for name, info in infos.items() if info.categories},
        "dvid": dict(zip(codes, population.endpoints, strict=True)) if codes else {},
    }
    return "".join(f", {name}={value!r}" for name, value in said.items() if value)


def _hash(fit) -> str:
    return getattr(fit, "data_hash", "") or fit.population.hash


def _method(fit) -> str:
    return fit.method if isinstance(fit.method, str) else repr(fit.method)


def _options(method) -> list[tuple[str, str]]:
    """Every option of a method, those left at their defaults, too."""
    if not dataclasses.is_dataclass(method):
        return []
    return [(one.name, repr(getattr(method, one.name))) for one in dataclasses.fields(method)]


def _verdict(fit) -> Verdict:
    """The judgement, and what stands against the fit."""
    if not hasattr(fit, "n_parameters"):
        problems = fit.messages
        return Verdict("warn" if problems else "good", "Evaluated at the values given; nothing was estimated.", problems)
    doubts = _doubts(fit)
    against = [*fit.messages, *doubts]
    state = "bad" if not fit.converged else "warn" if against else "good"
    sentence = _with_remarks(against) if fit.converged and doubts else fit.verdict
    return Verdict(state, sentence, [one for one in against if one not in sentence])


def _with_remarks(remarks: Sequence[str]) -> str:
    """What the audit says of a fit against which there are these remarks."""
    return Audit("", tuple(Check("", REMARK, math.nan, one) for one in remarks)).headline


def _doubts(fit) -> list[str]:
    """What stands against the standard errors, of which the audit of a fit knows nothing."""
    if not any(not row.fixed for row in fit.parameters):
        return []
    covariance = fit.covariance
    missing = not np.isfinite(covariance.standard_errors.to_numpy(dtype=float)).all()
    doubtful = missing or covariance.condition_number > LARGE_CONDITION
    return [covariance.missing or covariance.verdict] if doubtful else []


def _figures(fit) -> list[tuple[str, str]]:
    """The fit in numbers, with equally many decimals."""
    found = [
        ("Objective (−2 log L without constant)", criterion(fit, fit.objective)),
        ("−2 log L", criterion(fit, fit.objective_full)),
    ]
    if hasattr(fit, "aic"):
        found += [
            ("AIC", criterion(fit, fit.aic)),
            ("BIC", criterion(fit, fit.bic)),
            ("Parameters estimated", str(fit.n_parameters)),
        ]
    if penalised(fit) and (effective := effective_parameters(fit)) is not None:
        of = "prior" if getattr(fit, "priors", None) else "penalty"
        found.append((f"Effective parameters (what the {of} leaves to the data)", fixed_point(effective, 1)))
    found.append(("Method", _method(fit)))
    for name, words in getattr(fit, "priors", {}).items():
        found.append((f"Prior of {name}", words))
    if penalised(fit):
        found.append((f"{added_words(fit)} (not part of the objective)", fixed_point(fit.penalty, 3)))
    return found


def _starting_rows(fit) -> list:
    """The parameters at the start of the search, network weights left out."""
    inventory, start = getattr(fit, "inventory", None), getattr(fit, "start", None)
    if inventory is None or start is None:
        return []
    return [row for row in inventory.rows(start) if row.kind != "weight"]
