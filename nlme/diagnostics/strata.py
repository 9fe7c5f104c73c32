"""Strata: parts of the observations that are looked at by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nlme.diagnostics.replicated import column_of
from nlme.errors import DataError
from nlme.parameters.domains import is_numeric

MOST = 8  # values of a column that are strata without cut points


def strata_of(
    population, record: np.ndarray, stratify: str | Sequence[str] | Mapping[str, Any] | None
) -> tuple[np.ndarray, list[str]]:
    """(n,) stratum of each of some records, and the strata's names.

    Parameters
    ----------
    stratify : a column (covariate, occasion, or any that the data carry), several, or a dict from column to the points that cut
        its values: ``{"wt": [60, 80], "sex": None}`` makes three groups of weight (to below 60, to below 80, from 80) by sex

    Raises
    ------
    DataError
        No column or an unknown one, a missing value, points that are no numbers, or more than 8 values and no points that cut them.
    """
    if stratify is None:
        return np.zeros(len(record), int), [""]
    if not isinstance(stratify, Mapping):
        stratify = dict.fromkeys(stratify if isinstance(stratify, (list, tuple)) else [stratify])
    codes, names = np.zeros(len(record), int), [""]
    for column, cuts in stratify.items():
        if not isinstance(column, str):
            raise DataError(f'stratify= names columns: "sex", ["sex", "arm"] or {{"wt": [60, 80]}}; got {column!r}.')
        own, words = _levels(population, column, column_of(population, column)[record], cuts)
        codes = codes * len(words) + own
        names = [", ".join(filter(None, (name, word))) for name in names for word in words]
    seen, codes = np.unique(codes, return_inverse=True)
    return codes, [names[k] for k in seen]


def _levels(population, column: str, values: np.ndarray, cuts) -> tuple[np.ndarray, list[str]]:
    info = population.covariates.get(column)
    unit = f" {info.unit}" if info is not None and info.unit else ""
    missing = np.array([v is None or v != v for v in values])
    if missing.any():
        raise DataError(f"stratify={column!r}: {missing.sum()} observations have no value of it.")
    numeric = is_numeric(values) or is_numeric(values.tolist())  # of objects that may all be numbers
    if cuts is not None:
        if not is_numeric(cuts) or not np.size(cuts) or not np.all(np.isfinite(cuts)):
            raise DataError(f"stratify={{{column!r}: {cuts!r}}}: the points that cut it are numbers, such as [60, 80].")
        if not numeric:
            raise DataError(f"stratify={{{column!r}: {cuts!r}}}: the values of {column} are no numbers that points could cut.")
        points = np.unique(np.asarray(cuts, dtype=float))
        shown = [f"{p:g}" for p in points]
        inner = [f"{column} {a} to {b}{unit}" for a, b in zip(shown[:-1], shown[1:], strict=True)]
        words = [f"{column} < {shown[0]}{unit}", *inner, f"{column} ≥ {shown[-1]}{unit}"]
        return np.searchsorted(points, values.astype(float), side="right"), words
    seen, own = np.unique(values, return_inverse=True)
    if len(seen) > MOST:
        cut = f"Say where to cut them: stratify={{{column!r}: [{np.median(values.astype(float)):.4g}]}}." if numeric else ""
        raise DataError(
            f"stratify={column!r}: it has {len(seen)} different values, and {MOST} at most are strata. {cut}".rstrip()
        )
    categories = info.categories if info is not None else None
    words = [categories[int(v)] if categories else f"{v:g}" if isinstance(v, (float, np.floating)) else str(v) for v in seen]
    return own, [f"{column} {word}{unit}" for word in words]
