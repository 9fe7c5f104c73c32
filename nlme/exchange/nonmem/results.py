"""What NONMEM wrote about a run: estimates and objectives (.ext, .lst), and the subjects' part of them (.phi)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

#: ITERATION of the lines of an .ext file that are no iterations
_FINAL, _ERRORS, _EIGENVALUES, _CONDITION, _SD, _SD_ERRORS, _FIXED = (-1_000_000_000 - k for k in range(7))


@dataclass(frozen=True)
class Step:
    """One estimation step.

    Attributes
    ----------
    number : of the table, from 1
    title : as NONMEM names the method
    values : name -> estimate, THETA1, SIGMA(1,1), OMEGA(1,1) ...; empty where none was written
    errors : name -> standard error, likewise
    objective : of the last iteration, None where none was written
    column : what NONMEM calls it: OBJ, SAEMOBJ, MCMCOBJ
    iterations : every iteration as a frame (None: not from an .ext file)
    """

    number: int
    title: str
    values: dict[str, float]
    objective: float | None
    errors: dict[str, float] = field(default_factory=dict)
    column: str = "OBJ"
    iterations: pd.DataFrame | None = None


@dataclass(frozen=True)
class NonmemResults:
    """What was found beside a control stream.

    Attributes
    ----------
    steps : the estimation steps in order
    phi : number of the step -> a frame with one row for each subject: ID, ETA(n) or PHI(n), ETC(n,m), OBJ
    files : what was read
    observations, individuals : how many NONMEM counted, of the listing; None without one
    """

    steps: tuple[Step, ...]
    phi: dict[int, pd.DataFrame]
    files: tuple[str, ...]
    observations: int | None = None
    individuals: int | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """Parameters of the last step that has any: estimate and standard error by NONMEM's names."""
        import pandas as pd

        step = next((s for s in reversed(self.steps) if s.values), None)
        if step is None:
            return pd.DataFrame({"estimate": [], "standard error": []})
        errors = [step.errors.get(name, np.nan) for name in step.values]
        return pd.DataFrame({"estimate": list(step.values.values()), "standard error": errors}, index=list(step.values))

    def __repr__(self) -> str:
        lines = [f"{s.number}. {s.title}: {s.column} {'-' if s.objective is None else f'{s.objective:.6f}'}" for s in self.steps]
        return "\n".join([f"NONMEM results of {', '.join(self.files)}", *lines])


def read_nonmem_results(path: str | os.PathLike) -> NonmemResults:
    """The results of a run: ``run1.ext``, ``run1.lst`` (or .out, .res) and ``run1.phi`` beside ``run1.mod``.

    Parameters
    ----------
    path : the control stream, or any of these files

    Raises
    ------
    DataError
        None of them is there, or one is damaged.
    """
    path = Path(path)
    found = {kind: p for kind in ("ext", "lst", "out", "res", "phi") if (p := _beside(path, kind)) is not None}
    listing = next((found[k] for k in ("lst", "out", "res") if k in found), None)
    steps = _steps_of_ext(found["ext"]) if "ext" in found else ()
    if listing is not None and not any(s.values for s in steps):
        steps = _steps_of_listing(listing) or steps
    phi = _phi(found["phi"]) if "phi" in found else {}
    files = [found["ext"]] if "ext" in found else []
    files += [p for p in (listing, found.get("phi")) if p is not None]
    if not files:
        raise DataError(f"Beside {path} there is no {path.stem}.ext, {path.stem}.lst or {path.stem}.phi.")
    counts = _counts(listing) if listing is not None else (None, None)
    return NonmemResults(tuple(steps), phi, tuple(p.name for p in files), *counts)


def _counts(listing: Path) -> tuple[int | None, int | None]:
    """Observations and individuals of the first problem."""
    text = listing.read_text(encoding="utf-8", errors="replace")
    found = (re.search(rf"TOT\. NO\. OF {what}:\s*(\d+)", text) for what in ("OBS RECS", "INDIVIDUALS"))
    observations, individuals = (None if m is None else int(m[1]) for m in found)
    return observations, individuals


def _beside(path: Path, kind: str) -> Path | None:
    for name in (f"{path.stem}.{kind}", f"{path.stem}.{kind.upper()}"):
        if (path.parent / name).is_file():
            return path.parent / name
    return None


def _tables(path: Path):
    """(number, title, header, rows of text) of every table of the first problem."""
    number, title, header, rows = 0, "", None, []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"\s*TABLE NO\.?\s*(\d+)\s*:?\s*(.*)", line)
        if match:
            if (problem := re.search(r"Problem=(\d+)", line)) and problem[1] != "1":
                break
            if header:
                yield number, title, header, rows
            number, title, header, rows = (
                int(match[1]),
                match[2].split(": Goal Function")[0].split(": Problem")[0].strip(),
                None,
                [],
            )
        elif line.strip():
            cells = [c for c in re.split(r"[\s,]+(?![^(]*\))", line.strip()) if c]
            if header is None:
                header = cells
            else:
                rows.append(cells)
    if header:
        yield number, title, header, rows


def _numbers(path: Path, header: list[str], rows: list[list[str]]) -> pd.DataFrame:
    import pandas as pd

    for row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{path.name}: a line has {len(row)} values where {len(header)} columns are named: {' '.join(row)[:80]}"
            )
    return pd.DataFrame({name: [_number(row[k]) for row in rows] for k, name in enumerate(header)})


def _number(text: str) -> float:
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        fortran = re.fullmatch(r"([-+]?[\d.]+)([-+]\d+)", text)  # 1.5-104, an exponent of three digits
        return float(f"{fortran[1]}E{fortran[2]}") if fortran else np.nan


def _steps_of_ext(path: Path) -> tuple[Step, ...]:
    steps = []
    for number, title, header, rows in _tables(path):
        frame = _numbers(path, header, [r for r in rows if len(r) == len(header)])
        if "ITERATION" not in frame:
            continue
        column, names = frame.columns[-1], [c for c in frame.columns[1:-1]]
        final = frame[frame["ITERATION"] == _FINAL]
        errors = frame[frame["ITERATION"] == _ERRORS]
        values = {n: float(final[n].iloc[0]) for n in names} if len(final) else {}
        objective = float(final[column].iloc[0]) if len(final) else None
        beside = {n: float(errors[n].iloc[0]) for n in names if errors[n].iloc[0] < 1e9} if len(errors) else {}
        steps.append(Step(number, title, values, objective, beside, column, frame[frame["ITERATION"] > _FINAL]))
    return tuple(steps)


def _phi(path: Path) -> dict[int, pd.DataFrame]:
    return {number: _numbers(path, header, rows) for number, _, header, rows in _tables(path) if "ID" in header}


def _steps_of_listing(path: Path) -> tuple[Step, ...]:
    """Objective and estimates as a listing shows them, with three or four digits."""
    text = path.read_text(encoding="utf-8", errors="replace")
    steps = []
    for k, part in enumerate(re.split(r"(?=#TBLN:)", text)[1:] or [text], start=1):
        objective = re.search(
            r"(?:#OBJV:\*+\s+|MINIMUM VALUE OF OBJECTIVE FUNCTION[^\n]*\n(?:[^\n]*\n){0,12}?[ *]*\s)(-?[\d.]+)", part
        )
        title, number = re.search(r"#METH:\s*([^\n]*)", part), re.match(r"#TBLN:\s*(\d+)", part)
        k = int(number[1]) if number else k
        steps.append(Step(k, title[1].strip() if title else "", _estimates_in(part), float(objective[1]) if objective else None))
    return tuple(s for s in steps if s.objective is not None or s.values)


def _estimates_in(part: str) -> dict[str, float]:
    """THETA, OMEGA and SIGMA below FINAL PARAMETER ESTIMATE."""
    start = re.search(r"FINAL PARAMETER ESTIMATE", part)
    if start is None:
        return {}
    body = re.split(r"STANDARD ERROR OF ESTIMATE|COVARIANCE MATRIX OF ESTIMATE|OMEGA - CORR", part[start.end() :])[0]
    section, row = "", 0
    thetas: tuple[list[int], list[float]] = [], []
    cells: dict[tuple[str, int], list[float]] = {}  # (matrix, row) -> its lower triangle, over as many lines as it takes
    for line in body.splitlines():
        numbers = [0.0 if "..." in v else float(v) for v in re.findall(r"-?\d\.\d+E[-+]\d+|\.{3,}", line)]
        if found := re.search(r"(THETA) - VECTOR|(OMEGA|SIGMA) - COV", line):
            section, row = found[1] or found[2], 0
        elif section == "THETA" and re.fullmatch(r"(\s*TH\s*\d+)+\s*", line):
            thetas[0].extend(int(n) for n in re.findall(r"TH\s*(\d+)", line))
        elif section == "THETA":
            thetas[1].extend(numbers)
        elif label := re.match(r"[0+\s]*(?:ETA?|EPS?)\s*(\d+)(?=\s*$|\s+[-+.\d])", line):
            row = int(label[1])
            if numbers:  # a listing whose lines were joined
                cells.setdefault((section, row), []).extend(numbers)
        elif section and row:
            cells.setdefault((section, row), []).extend(numbers)
    values = {f"THETA{k}": v for k, v in zip(*thetas, strict=False)}
    return values | {f"{name}({i},{j})": v for (name, i), row in cells.items() for j, v in enumerate(row, start=1)}
