"""Covariates: what is known of each, how categories become numbers, and how values are carried between records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nlme.data.numerals import code_of
from nlme.errors import DataError, name_error


@dataclass(frozen=True)
class CovariateInfo:
    """What a population knows of one covariate.

    ``constant`` says whether it has one value per subject in these data; ``categories`` are the words behind the numbers
    0, 1, 2 ... of a categorical covariate; ``column`` is its name in the file.  ``interpolation`` says what holds between two
    records: "nocb" the later one's value (NONMEM), "locf" the earlier one's, "linear" the line between them.
    """

    name: str
    unit: str | None = None
    constant: bool = True
    categories: tuple[str, ...] | None = None
    column: str | None = field(default=None, compare=False)
    interpolation: str = "nocb"


INTERPOLATIONS = ("nocb", "locf", "linear")


def interpolated(infos: Mapping[str, CovariateInfo], how: Mapping[str, str] | str | None) -> dict[str, CovariateInfo]:
    """``infos`` with the interpolation asked for: one word for all, or a dict from covariate to word.

    Raises
    ------
    DataError
        An unknown word or covariate, or a line between categories.
    """
    if how is None:
        return dict(infos)
    if isinstance(how, str):
        how = dict.fromkeys((name for name, info in infos.items() if not (how == "linear" and info.categories)), how)
    if not isinstance(how, Mapping):
        raise DataError(
            f"interpolation={how!r}: it is one of {', '.join(map(repr, INTERPOLATIONS))}, or a dict from covariate to one."
        )
    out = dict(infos)
    for name, word in how.items():
        if name not in infos:
            raise DataError("interpolation: " + name_error("covariate", name, infos, "The data"))
        if word not in INTERPOLATIONS:
            raise DataError(f"interpolation of covariate {name!r} is {word!r}; it can be {', '.join(map(repr, INTERPOLATIONS))}.")
        if word == "linear" and infos[name].categories:
            raise DataError(f"interpolation: {name!r} has categories, and there is no line between them; use 'nocb' or 'locf'.")
        out[name] = replace(infos[name], interpolation=str(word))
    return out


def declared_covariates(covariates: Mapping[str, str | None] | Iterable[str] | str | None) -> dict[str, str | None]:
    """``["wt"]`` or ``{"wt": "kg"}`` as name -> unit.

    Raises
    ------
    DataError
        Anything else.
    """
    if covariates is None:
        return {}
    if isinstance(covariates, str):
        return {covariates: None}
    if isinstance(covariates, Mapping):
        return {str(k): (None if v in (None, "") else str(v)) for k, v in covariates.items()}
    if not isinstance(covariates, Iterable):
        raise DataError(f"covariates={covariates!r}: they are names, ['wt', 'age'], or names with units, {{'wt': 'kg'}}.")
    return {str(name): None for name in covariates}


def codes_of(words: np.ndarray, categories: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers 0, 1, 2 ... for the words of a categorical column (NaN for None), and where a word is none of them."""
    order = {code_of(c): float(i) for i, c in enumerate(categories)}
    values = np.array([np.nan if w is None else order.get(code_of(w), -1.0) for w in words], dtype=np.float64)
    unknown = values == -1.0
    values[unknown] = np.nan
    return values, unknown


def coded(words: np.ndarray, categories: Iterable[str]) -> tuple[np.ndarray, np.ndarray] | None:
    """The same where the column holds the numbers 0, 1, 2 ... themselves; None if it does not, or the categories are numbers."""
    order = [code_of(c) for c in categories]
    codes = [None if w is None else code_of(w) for w in words]
    seen = {c for c in codes if c is not None}
    if (
        not seen
        or not all(isinstance(c, str) for c in order)
        or not all(isinstance(c, int) and 0 <= c < len(order) for c in seen)
    ):
        return None
    return np.array([np.nan if c is None else c for c in codes], dtype=np.float64), np.zeros(len(codes), dtype=bool)


def carry_forward(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Fill NaN by the last value before it in the same subject (``first`` marks the first record of each)."""
    n = len(values)
    at = np.where(np.isnan(values) & ~first, -1, np.arange(n))
    return values[np.maximum.accumulate(at)] if n else values


def carry_backward(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Fill NaN by the next value after it in the same subject."""
    last = np.roll(first, -1)
    return carry_forward(values[::-1], last[::-1])[::-1]


def filled(
    values: np.ndarray, first: np.ndarray, how: str | float | None, name: str, categories: Iterable[str] = ()
) -> np.ndarray:
    """Missing covariate values filled as asked: "locf", "nocb", a number, or one of the categories.

    Raises
    ------
    DataError
        Any other word.
    """
    if how is None:
        return values
    if how == "locf":
        return carry_forward(values, first)
    if how == "nocb":
        return carry_backward(values, first)
    order = {code_of(c): i for i, c in enumerate(categories)}
    if code_of(how) in order:
        how = order[code_of(how)]
    if isinstance(how, (int, float)) and np.isfinite(how):
        return np.where(np.isnan(values), float(how), values)
    raise DataError(
        f"fill for covariate {name!r} is {how!r}; it can be 'locf' (last value carried forward), "
        "'nocb' (next value carried backward), a number, or one of its categories."
    )


def changes_within(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Where a value differs from the subject's first known one."""
    known = carry_backward(values, first)  # the first record then holds the subject's first known value
    start = known[first][np.cumsum(first) - 1] if len(values) else values
    return ~np.isnan(values) & ~np.isnan(start) & (values != start)
