"""Statistics of parameters over subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def statistics(frame: pd.DataFrame, parameters: Sequence[str], units: Mapping[str, str], groups: Sequence[str]) -> pd.DataFrame:
    """One row for each parameter (and group): see ``NCA.summary``."""
    import pandas as pd

    rows = []
    for name in parameters:
        parts = frame.groupby(list(groups), sort=True) if groups else [((), frame)]
        for key, part in parts:
            rows.append(
                {"parameter": name, "unit": units.get(name, ""), **dict(zip(groups, key, strict=True)), **_of(part[name])}
            )
    return pd.DataFrame(rows, columns=["parameter", "unit", *groups, "n", "missing", *_NAMES])


def _of(column: pd.Series) -> dict[str, float]:
    values = column.to_numpy(dtype=float)
    x = values[np.isfinite(values)]
    out = {"n": len(x), "missing": len(values) - len(x)} | dict.fromkeys(_NAMES, np.nan)
    if not len(x):
        return out
    out |= {"mean": x.mean(), "median": np.median(x), "min": x.min(), "max": x.max()}
    if len(x) > 1:
        out |= {"sd": x.std(ddof=1), "cv": 100 * x.std(ddof=1) / x.mean() if x.mean() else np.nan}
    if x.min() > 0:
        out["geomean"] = float(np.exp(np.log(x).mean()))
        if len(x) > 1:
            out["geocv"] = float(100 * np.sqrt(np.expm1(np.log(x).var(ddof=1))))
    return out


_NAMES = ("mean", "sd", "cv", "median", "min", "max", "geomean", "geocv")
