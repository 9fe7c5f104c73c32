"""What stands first and last in a report: the run and its verdict, its data, and what is needed to do it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from nlme.language.model import documentation
from nlme.reporting.blocks import Block, Code, Pairs, Paragraph, Table, Verdict
from nlme.reporting.sections import named_units
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
    return [_verdict(fit), Pairs(_figures(fit)), Paragraph(" ".join(dates), "small")]


def data(fit, units) -> list[Block]:
    source = getattr(fit.population, "source", "")
    rows = [*([("read from", source)] if source else []), *fit.population.summary(named_units(fit, units))]
    return [Pairs(rows)]


def again(fit) -> list[Block]:
    """Where the data are, by which settings and versions the fit was made, and the lines that make it again."""
    rows = [("Data read from", source)] if (source := getattr(fit.population, "source", "")) else []
    rows.append(("SHA-256 of the data", _hash(fit)))
    rows += [("Fitted", fit.date)] if getattr(fit, "date", "") else []
    rows.append(("Method", _method(fit)))
    rows += [(f"Option {name}", value) for name, value in _options(fit.method)]
    fixed = [row.name for row in fit.parameters if row.fixed and row.kind != "weight"]
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
    """Python that reads, checks and fits again; what the fit does not know of itself is named for the reader to fill in."""
    name, source = type(fit.model).__name__, getattr(fit.population, "source", "")
    rest = f", fixed={list(fixed)!r}" if fixed else ""
    added = [
        what for what, there in (("priors", getattr(fit, "priors", None)), ("penalty", getattr(fit, "penalty", 0.0))) if there
    ]
    return "\n".join(
        [
            "import nlme",
            "",
            "# with what else was said of the columns for this fit: the next line fails if the data are others",
            f"population = nlme.read_nonmem({source or 'FILE'!r}{_columns(fit.population)})",
            f'assert population.hash == "{_hash(fit)}"',
            f"# start: a {name} with the starting values above" + (f"; and with the {added[0]} above" if added else ""),
            f"fit = nlme.fit(start, population, nlme.{_method(fit)}{rest})",
        ]
    )


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
    problems = _problems(fit)
    return Verdict("bad" if not fit.converged else ("warn" if problems or fit.messages else "good"), fit.verdict, problems)


def _problems(fit) -> Sequence[str]:
    """What stands against the fit, most serious first, without what the verdict has already said."""
    problems = [message for message in fit.messages if message not in fit.verdict]
    if not any(not row.fixed for row in fit.parameters):
        return problems
    covariance = fit.covariance
    missing = not np.isfinite(covariance.standard_errors.to_numpy(dtype=float)).all()
    if missing or covariance.condition_number > LARGE_CONDITION:
        problems.append(covariance.missing or covariance.verdict)
    return problems


def _figures(fit) -> list[tuple[str, str]]:
    """The fit in numbers, with equally many decimals."""
    found = [
        ("Objective (−2 log L without constant)", fixed_point(fit.objective, 3)),
        ("−2 log L", fixed_point(fit.objective_full, 3)),
    ]
    if hasattr(fit, "aic"):
        found += [
            ("AIC", fixed_point(fit.aic, 3)),
            ("BIC", fixed_point(fit.bic, 3)),
            ("Parameters estimated", str(fit.n_parameters)),
        ]
    found.append(("Method", _method(fit)))
    for name, words in getattr(fit, "priors", {}).items():
        found.append((f"Prior of {name}", words))
    if getattr(fit, "penalty", 0.0):
        what = "−2 log prior" if getattr(fit, "priors", None) else "Penalty"
        found.append((f"{what} (not part of the objective)", fixed_point(fit.penalty, 3)))
    return found


def _starting_rows(fit) -> list:
    """The parameters at the start of the search, network weights left out."""
    inventory, start = getattr(fit, "inventory", None), getattr(fit, "start", None)
    if inventory is None or start is None:
        return []
    return [row for row in inventory.rows(start) if row.kind != "weight"]
