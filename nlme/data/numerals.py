"""What a cell says: text, numbers and codes, read exactly.

A code (ID, DVID, CMT, OCC, a category, a site) says which one it is: it is never rounded, so it never goes through a
floating-point number, of which not all whole numbers of more than 15 digits are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np

from nlme.data.columns import MISSING

if TYPE_CHECKING:
    import pandas as pd

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?")
"""Numbers as NONMEM reads them; Fortran's exponents (1D5) are among them."""
EXACT = 2**53
"""Floating-point numbers are apart by less than one only up to here."""
LEADING_ZEROS = re.compile(r"[+-]?0[0-9]")
SMALLEST, LARGEST = -(2**63), 2**63 - 1
_DIGITS = 1_000  # no whole number of more digits is meant


def written(value: Any) -> str:
    """A cell as a reader would write it: 3 rather than 3.0, nothing for what is missing."""
    if isinstance(value, str):
        return value.strip()
    if _is_float(value):
        return "" if value != value else str(int(value)) if abs(value) < EXACT and value == int(value) else str(value)
    import pandas as pd

    return "" if value is None or value is pd.NA or value is pd.NaT else str(value).strip()


def as_words(column: pd.Series) -> list[str]:
    """Stripped text of every cell."""
    return [written(v) for v in column.to_numpy(dtype=object)]


def is_missing(column: pd.Series) -> np.ndarray:
    """Where a column has no value."""
    return column.isna().to_numpy(dtype=bool) if _is_number(column) else as_text(column)[1]


def as_text(column: pd.Series) -> tuple[pd.Series, np.ndarray]:
    """Stripped text of a column and where it is missing."""
    import pandas as pd

    words = as_words(column)
    missing = np.array([w.upper() in MISSING for w in words], dtype=bool)
    return pd.Series(words, index=column.index, dtype=object), missing


def as_numbers(column: pd.Series, decimal: str = ".") -> tuple[np.ndarray, np.ndarray]:
    """Numbers of a column (NaN where missing or bad), and where a cell holds something that is no finite number."""
    if _is_number(column):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan).copy()
        missing = np.isnan(values)
    else:
        values, missing = _by_text(column, lambda text: number_of(text, decimal), np.nan)
        values = values.astype(np.float64)
    bad = ~missing & ~np.isfinite(values)
    values[bad] = np.nan
    return values, bad


def as_wholes(column: pd.Series, decimal: str = ".") -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Whole numbers of a column (int64; 0 where there is none), exactly.

    Also returned: where a cell is missing, where it holds no whole number, and where it holds one that is too large: beyond
    64 bits, or in a column of floating-point numbers, which may have rounded it.
    """
    if not _is_number(column):
        found, missing = _by_text(column, lambda text: whole_of(text, decimal), 0)
        bad = np.array([v is None for v in found], dtype=bool)
        large = np.array([v is not None and not SMALLEST <= v <= LARGEST for v in found], dtype=bool) | rounded(column)
        found[bad | large] = 0
        return found.astype(np.int64), missing, bad, large
    missing = column.isna().to_numpy(dtype=bool)
    if column.dtype.kind != "f":
        cells = column.to_numpy(dtype=np.uint64 if column.dtype.kind == "u" else np.int64, na_value=0)
        large = cells > LARGEST
        return np.where(large, 0, cells).astype(np.int64), missing, np.zeros(len(column), dtype=bool), large
    floats = column.to_numpy(dtype=np.float64, na_value=np.nan)
    whole, large = floats == np.round(floats), rounded(column)
    bad = ~missing & ~whole
    return np.where(missing | bad | large, 0, floats).astype(np.int64), missing, bad, large


def _is_number(column: pd.Series) -> bool:
    import pandas as pd

    kinds = pd.api.types
    return kinds.is_numeric_dtype(column) and not kinds.is_complex_dtype(column)  # bool is among them


def _by_text(column: pd.Series, read: Callable[[str], Any], blank: Any) -> tuple[np.ndarray, np.ndarray]:
    """``read`` of every text, and where there is none; True and False in a mixed column count as 1 and 0."""
    words = as_words(column)
    if column.dtype == object:
        words = [str(int(c)) if isinstance(c, (bool, np.bool_)) else w for c, w in zip(column.to_numpy(), words, strict=True)]
    known = {w: (blank, True) if w.upper() in MISSING else (read(w), False) for w in dict.fromkeys(words)}
    out = np.empty(len(words), dtype=object)
    out[:] = [known[w][0] for w in words]
    return out, np.array([known[w][1] for w in words], dtype=bool)


def number_of(text: str, decimal: str = ".") -> float:
    """The number that a text writes; infinite for what is none.

    With a decimal comma a point is no part of a number: "1.000" may be one or a thousand.
    """
    plain = _with_point(text, decimal)
    if plain is None or not NUMBER.fullmatch(plain):
        return np.inf
    return float(_with_e(plain))


def whole_of(text: str, decimal: str = ".") -> int | None:
    """The whole number that a text writes (7, 7.0, 0.7E1), exactly; None for what is none."""
    plain = _with_point(text, decimal)
    if plain is None or not NUMBER.fullmatch(plain):
        return None
    try:
        value = Decimal(_with_e(plain))
    except InvalidOperation:  # an exponent of twenty digits
        return None
    if value.adjusted() > _DIGITS or value.adjusted() < -_DIGITS:
        return 0 if value == 0 else None
    return int(value) if value == value.to_integral_value() else None


def _with_e(text: str) -> str:
    """Fortran's exponents as everybody's."""
    return text.replace("d", "e").replace("D", "e") if "d" in text or "D" in text else text


def _with_point(text: str, decimal: str) -> str | None:
    if decimal == ".":
        return text
    return None if "." in text else text.replace(decimal, ".")


def code_of(value: Any) -> int | float | str:
    """A code as written in a file, so that 1, 1.0 and "1" are the same."""
    text = written(value)
    whole = whole_of(text)
    if whole is not None:
        return whole
    number = number_of(text)
    exact = np.isfinite(number) and Decimal(_with_e(text)) == Decimal(repr(number))
    return number if exact else text


def identities(column: pd.Series, decimal: str = ".", words_only: bool = False) -> np.ndarray:
    """Codes of a column (None where missing): whole numbers if all are, of 64 bits and without leading zeros, else text.

    ``words_only``: text, whatever it looks like.
    """
    if column.dtype.kind == "i" and not words_only and not column.isna().any():
        return column.to_numpy(dtype=np.int64).astype(object)
    words = [None if w.upper() in MISSING else w for w in as_words(column)]
    known = {w: None if w is None or words_only else whole_of(w, decimal) for w in dict.fromkeys(words)}
    wholes = [v for w, v in known.items() if w is not None]
    usual = all(v is not None and SMALLEST <= v <= LARGEST for v in wholes)
    plain = usual and not any(w is not None and LEADING_ZEROS.match(w) for w in known)
    out = np.empty(len(words), dtype=object)
    out[:] = [known[w] for w in words] if plain else words
    return out


def rounded(column: pd.Series) -> np.ndarray:
    """Where a whole number may have been rounded: a floating-point number does not tell it from its neighbours."""
    if _is_number(column) and column.dtype.kind == "f":
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return np.abs(values) >= _apart(getattr(column.dtype, "itemsize", 8))
    if column.dtype != object:
        return np.zeros(len(column), dtype=bool)
    return np.array([_is_float(c) and abs(c) >= _apart(getattr(c, "itemsize", 8)) for c in column], dtype=bool)


def _is_float(cell: Any) -> bool:
    return isinstance(cell, (float, np.floating))


def _apart(bytes_: int) -> float:
    """Up to where floating-point numbers of this size tell whole numbers apart."""
    return {2: 2.0**11, 4: 2.0**24}.get(bytes_, float(EXACT))
