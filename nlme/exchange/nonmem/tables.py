"""The tables that a run wrote ($TABLE), and where their predictions are others than those of the imported model."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nlme.exchange.nonmem.program import Program
from nlme.exchange.nonmem.records import has_word, of_name, option

_DIGITS = 5e-4  # a table has five digits of a number
_SHOWN = 3


@dataclass(frozen=True)
class Predictions:
    """PRED of every record, as a table beside a control stream has it."""

    file: str
    values: np.ndarray


def predictions_beside(program: Program, folder: Path) -> Predictions | None:
    """From the first table that has them for every record; None where there is none."""
    for record in of_name(program.records, "TABLE"):
        name = option(record.text, "FILE")
        if name is None or has_word(record.text, "FIRSTONLY", "LASTONLY", "FIRSTLASTONLY", "NOHEADER"):
            continue
        path = folder / Path(name.replace("\\", "/")).name
        if not path.is_file():
            continue
        values = _column(path, "PRED")
        if values is not None and len(values) == len(program.items):
            return Predictions(path.name, values)
    return None


def _column(path: Path, name: str) -> np.ndarray | None:
    """A column of a table; None where it has none of this name."""
    header: list[str] = []
    found: list[float] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [c for c in re.split(r"[\s,]+", line.strip()) if c]
        if not cells or cells[0] == "TABLE":
            continue
        if re.match(r"[A-Za-z]", cells[0]):  # again every 900 lines
            header = cells
            continue
        if name not in header or len(cells) != len(header):
            return None
        found.append(_number(cells[header.index(name)]))
    return np.array(found) if found else None


def _number(text: str) -> float:
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        return float("nan")


def predictions_that_differ(program: Program, theirs: Predictions, ours: np.ndarray) -> str:
    """A sentence about the observations' predictions: ``ours`` (n observations, in the order of the file) and the table's."""
    at = np.flatnonzero(program.items.observed)
    told = theirs.values[at]
    known = np.isfinite(told) & np.isfinite(ours)
    size = np.maximum(np.abs(told), 1e-3 * np.median(np.abs(told[known])) if known.any() else 0.0)
    apart = np.flatnonzero(known & (np.abs(ours - told) > _DIGITS * size))
    if not known.any():
        return ""
    if not len(apart):
        return f"PRED of {theirs.file} is that of the model on all {known.sum()} observations."
    worst = apart[:_SHOWN]
    listed = "; ".join(f"{program.items.where(int(at[k]))}: {ours[k]:.5g}, {told[k]:.5g} there" for k in worst)
    return f"PRED differs from {theirs.file} on {len(apart)} of {known.sum()} observations, first on {listed}."
