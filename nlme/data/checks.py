"""``check``: every rule over a data set, and the list of what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.columns import NAMES, Header, read_header
from nlme.data.covariates import declared_covariates, interpolated
from nlme.data.options import Options, Reading, mapping, options_of
from nlme.data.population import Population
from nlme.data.records import Records, parse
from nlme.data.rules import RULES
from nlme.data.sources import Cells, read_cells
from nlme.data.violations import CheckReport, Violation
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

NO_OBSERVATIONS = "no observations at all"


def check(
    data: str | os.PathLike | pd.DataFrame | Population,
    *,
    covariates: Mapping[str, str | None] | Iterable[str] | None = None,
    time_varying: Sequence[str] | str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: Mapping[str, str | float] | str | float | None = None,
    interpolation: Mapping[str, str] | str | None = None,
    dvid: Mapping[Any, str | None] | None = None,
    cmt: Mapping[Any, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] | str = (),
    ignore: str | None = None,
    skip: int | None = None,
    decimal: str = ".",
    separator: str | None = None,
    encoding: str | None = None,
) -> CheckReport:
    """Everything that is wrong with a data set, without reading it as a population.

    The arguments are those of :func:`nlme.read_nonmem`, which reads the data if ``report.ok``.

    Returns
    -------
    CheckReport
        A sequence of ``Violation`` values (rule, sentence, rows, subjects, column, seen, remedy, level) that prints on one
        screen, with ``.ok``, ``.errors`` and ``.warnings``.

    Raises
    ------
    DataError
        No such file, or arguments that contradict each other; never for what stands in the data.
    """
    reading = Reading(
        covariates, time_varying, categories, fill, interpolation, dvid, cmt, rename, compartments, allow, ignore, skip, decimal,
        separator, encoding,
    )  # fmt: skip
    return examine(data, reading)[1]


def examine(data, reading: Reading) -> tuple[Records | None, CheckReport]:
    """The typed records (None when the table itself is wrong) and the report on them."""
    frame = data.to_frame() if isinstance(data, Population) else data
    attrs = getattr(frame, "attrs", {}).get("nlme", {})  # of a frame that came from a population
    attrs = attrs if isinstance(attrs, Mapping) and isinstance(attrs.get("covariates"), Mapping) else {}
    known = NAMES | {str(n).upper() for n in (*declared_covariates(reading.covariates), *mapping("rename", reading.rename))}
    cells = read_cells(frame, known, reading.separator, reading.skip, reading.ignore, reading.encoding)
    options = _may_be_allowed(options_of(cells.table.columns, reading, attrs))
    found = list(cells.faults)
    if len(cells.table.columns) and not any(v.rule in ("no header", "ragged rows") for v in found):
        columns = {name: options.columns.get(name, name) for name in options.covariates}
        header = read_header(cells.table.columns, options.rename, columns)
        found += _header_violations(header)
    if any(v.level == "error" for v in found):
        return None, _report(found, cells, 0)
    records = parse(cells.table, header, options, cells.rows)
    records.info = interpolated(records.info, options.interpolation)
    found = run_rules(records) + found
    return records, _report(found, cells, len(set(records.id)))


def _report(found: list[Violation], cells: Cells, n_subjects: int) -> CheckReport:
    ordered = sorted(found, key=lambda v: v.level != "error")
    return CheckReport(tuple(ordered), cells.name, len(cells.table), n_subjects)


def run_rules(r: Records) -> list[Violation]:
    """The violations of every rule, in the order of ``RULES``."""
    found = [v for rule in RULES for v in rule.broken(r, rule.name in r.options.allow)]
    if not r.is_observation.any() and NO_OBSERVATIONS not in r.options.allow:
        seen = "; ".join(_counts(name, r.arrays[name.lower()]) for name in ("EVID", "MDV"))
        remedy = "an observation has EVID = 0 and MDV = 0 (without these columns: no amount) and a value in DV."
        found.insert(0, Violation(NO_OBSERVATIONS, "no record is an observation", (), (), "DV", seen, remedy))
    return found


def _counts(name: str, values: np.ndarray) -> str:
    kinds, counts = np.unique(values, return_counts=True)
    return ", ".join(f"{name} = {k:g} in {n:,} row{'' if n == 1 else 's'}" for k, n in zip(kinds, counts, strict=True))


def _header_violations(header: Header) -> list[Violation]:
    out = []
    for column, seen, remedy in header.faults:
        absent = seen.startswith("the file has")
        sentence = f"there is no column {column}" if absent else f"column {column} is not clear"
        out.append(Violation("missing column" if absent else "unclear column", sentence, (), (), column, seen, remedy))
    for column, seen, remedy in header.doubts:
        out.append(Violation("unread column", f"there is no column {column}", (), (), column, seen, remedy, "warning"))
    return out


def _may_be_allowed(options: Options) -> Options:
    may = [*(rule.name for rule in RULES if rule.may_be_allowed), NO_OBSERVATIONS]
    for name in options.allow:
        if name not in may:
            raise DataError(f"allow={name!r}: the rules that can be allowed are: {', '.join(may)}.")
    return options
