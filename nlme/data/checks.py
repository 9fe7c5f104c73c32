"""``check``: every rule over a data set, and the list of what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.columns import Header, read_header
from nlme.data.covariates import declared_covariates
from nlme.data.population import Population
from nlme.data.records import Options, Records, parse
from nlme.data.rules import RULES
from nlme.data.sources import Cells, read_cells
from nlme.data.violations import CheckReport, Violation
from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def check(
    data: str | os.PathLike | pd.DataFrame | Population,
    *,
    covariates: Mapping[str, str | None] | Iterable[str] | None = None,
    time_varying: Sequence[str] | str | None = None,
    categories: Mapping[str, Sequence[str]] | None = None,
    fill: Mapping[str, str | float] | str | float | None = None,
    dvid: Mapping[Any, str | None] | None = None,
    rename: Mapping[str, str] | None = None,
    compartments: Sequence[str] | int | None = None,
    allow: Sequence[str] | str = (),
    ignore: str | None = None,
    decimal: str = ".",
    separator: str | None = None,
) -> CheckReport:
    """Everything that is wrong with a data set, without reading it as a population.

    The arguments are those of :func:`nlme.read_nonmem`.

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
    return examine(
        data, covariates, time_varying, categories, fill, dvid, rename, compartments, allow, ignore, decimal, separator
    )[1]


def examine(
    data, covariates, time_varying, categories, fill, dvid, rename, compartments, allow, ignore, decimal, separator
) -> tuple[Records | None, CheckReport]:
    """The typed records (None when the table itself is wrong) and the report on them."""
    cells = read_cells(data.to_frame() if isinstance(data, Population) else data, separator).without_comments(ignore)
    allowed = _allowed(allow)
    options = _options(cells, covariates, time_varying, categories, fill, dvid, rename, compartments, decimal)
    found = list(cells.faults)
    if len(cells.table.columns) and not any(v.rule in ("no header", "ragged rows") for v in found):
        header = read_header(cells.table.columns, options.rename, options.covariates)
        found += _header_violations(header)
    if any(v.level == "error" for v in found):
        return None, _report(found, cells, 0)
    records = parse(cells.table, header, options, cells.rows)
    found = run_rules(records, allowed) + found
    return records, _report(found, cells, len(set(records.id)))


def _report(found: list[Violation], cells: Cells, n_subjects: int) -> CheckReport:
    ordered = sorted(found, key=lambda v: v.level != "error")
    return CheckReport(tuple(ordered), cells.name, len(cells.table), n_subjects)


def run_rules(r: Records, allowed: Sequence[str] = ()) -> list[Violation]:
    """The violations of every rule, in the order of ``RULES``; ``allowed`` rules only warn."""
    found = [v for rule in RULES for v in rule.broken(r, rule.name in allowed)]
    if not r.is_observation.any():
        seen = "; ".join(_counts(name, r.arrays[name.lower()]) for name in ("EVID", "MDV"))
        remedy = "an observation has EVID = 0 and MDV = 0 (without these columns: no amount) and a value in DV."
        found.insert(0, Violation("no observations at all", "no record is an observation", (), (), "DV", seen, remedy))
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


def _allowed(allow: Sequence[str] | str) -> tuple[str, ...]:
    names = (allow,) if isinstance(allow, str) else tuple(allow)
    may = [rule.name for rule in RULES if rule.may_be_allowed]
    for name in names:
        if name not in may:
            raise DataError(f"allow={name!r}: the rules that can be allowed are: {', '.join(may)}.")
    return names


def _options(cells: Cells, covariates, time_varying, categories, fill, dvid, rename, compartments, decimal) -> Options:
    """The arguments in one value; a table made by ``Population.to_frame`` brings its own for those not given."""
    known = cells.attrs.get("nlme", {})
    wanted = declared_covariates(covariates)
    if covariates is None and known:
        here = {str(c).upper() for c in cells.table.columns}
        wanted = {n: unit for n, unit in known["covariates"].items() if n.upper() in here}
    varying = known.get("time_varying", ()) if time_varying is None else time_varying
    varying = (varying,) if isinstance(varying, str) and varying != "auto" else varying
    words = dict(known.get("categories", {}) if categories is None else categories)
    declared = {
        "time_varying": () if time_varying is None or varying == "auto" else varying,
        "categories": () if categories is None else words,
        "fill": fill if isinstance(fill, Mapping) else (),
    }
    for argument, names in declared.items():
        for name in names:
            if name not in wanted:
                all_names = ", ".join(repr(n) for n in (*wanted, name))
                raise DataError(f"{argument} names {name!r}, which is not among the covariates: covariates=[{all_names}].")
    return Options(
        covariates=wanted,
        time_varying=varying,
        categories={n: w for n, w in words.items() if n in wanted},
        fill=fill,
        dvid=known.get("dvid") if dvid is None else dict(dvid),
        endpoints=known.get("endpoints") if dvid is None else None,
        rename=dict(rename or {}),
        compartments=compartments,
        decimal=decimal,
    )
