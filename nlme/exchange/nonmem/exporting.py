"""``to_nonmem``: a model, its data and its method as a control stream and a data file."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nlme.errors import ModelError
from nlme.marginal.base import Method

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class ExportedNonmem:
    """A control stream and its data.

    Attributes
    ----------
    text : the control stream
    data : the rows of its data file
    stem : name of both files without ending
    shift : what NONMEM's objective is more than nlme's, where data are written on the scale of their errors (log-normal ...)
    messages : what a reader has to know
    files : what was written
    """

    text: str
    data: pd.DataFrame
    stem: str
    shift: float
    messages: tuple[str, ...]
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        written = f"written to {', '.join(map(str, self.files))}" if self.files else "not written; give a path"
        shift = [f"NONMEM's objective is nlme's {self.shift:+.4f}."] if self.shift else []
        return "\n".join([f"NONMEM control stream: {len(self.data)} records, {written}", *shift, *self.messages])


def to_nonmem(
    source,
    path: str | os.PathLike | None = None,
    *,
    population=None,
    method: Method | None = None,
    fixed: Iterable[str] = (),
) -> ExportedNonmem:
    """Write a model as a NONMEM control stream with its data; estimates are the initial values.

    Closed forms become ADVAN1-4, 11 or 12 with TRANS2 or TRANS4, other structures $DES under ADVAN13; random effects per occasion
    blocks with SAME; standard deviations of residual errors stay fixed effects (W) beside EPS with a variance of 1; networks are written out, a THETA for each weight.
    Data of log-normal (logit-normal, Box-Cox, Yeo-Johnson) errors are written on that scale; ``shift`` is what this
    adds to the objective.  ``nlme.from_nonmem`` of what is written gives the same objective.

    Parameters
    ----------
    source : a fit, what ``nlme.evaluate`` returned, or a model
    path : the control stream, or a folder for ``run1.mod``; the data are beside it, ``run1.csv``.  None: nothing is written
    population : the data, where ``source`` is a model
    method : of $ESTIMATION; the fit's, or FOCEI (Laplace where observations are not normal)
    fixed : names of parameters to FIX; the fit's

    Raises
    ------
    ModelError
        What NM-TRAN has no words for, by name.
    DataError
        Data that cannot be written, by subject and time.
    """
    try:
        from nlme.exchange.nonmem.control import Control
        from nlme.exchange.outline import outline_of
    except ImportError as error:
        if (error.name or "").split(".")[0] != "sympy":
            raise
        raise ModelError("nlme.to_nonmem needs sympy: pip install 'nlme[equations]'.") from None
    target = None if path is None else Path(path)
    if target is not None and target.suffix.lower() not in (".mod", ".ctl", ".con"):
        target = target / "run1.mod"
    stem = "run1" if target is None else target.stem
    control = Control(outline_of(source, population, method, fixed, "NONMEM"))
    text, table = control.text(f"{stem}.csv"), control.table
    files = () if target is None else _write(target, text, table)
    return ExportedNonmem(text, table, stem, control.shift, tuple(control.messages), files)


def _write(target: Path, text: str, table: pd.DataFrame) -> tuple[Path, Path]:
    from nlme.exchange.rows import written

    target.parent.mkdir(parents=True, exist_ok=True)
    data = target.with_suffix(".csv")
    target.write_text(text, encoding="ascii")
    data.write_text(written(table), encoding="utf-8")
    return target, data
