"""Distributions of covariates: a few words for the usual ones, cut at limits where there are some.

A draw is the quantile of a uniform number u; within limits [l, h] that of F(l) + u (F(h) - F(l)), F the distribution function, so that
a cut distribution needs no rejection.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from scipy.special import ndtr, ndtri

from nlme.errors import DataError


@dataclass(frozen=True)
class Distribution:
    """A covariate's distribution: its quantiles as a function of u in (0, 1), in words, with its unit and its categories."""

    words: str
    quantile: Callable[[np.ndarray], np.ndarray]
    unit: str | None = None
    categories: tuple[str, ...] | None = None

    def draw(self, key, n: int) -> np.ndarray:
        """(n,) values."""
        u = np.asarray(jax.random.uniform(key, (n,), dtype=float))
        return np.asarray(self.quantile(np.clip(u, 1e-16, 1 - 1e-16)), dtype=float)

    def __repr__(self) -> str:
        return self.words + (f" {self.unit}" if self.unit else "")


def normal(mean: float, sd: float, *, limits: tuple[float, float] | None = None, unit: str | None = None) -> Distribution:
    """Normal, cut at ``limits``: mean and standard deviation are those before the cut.

    Raises
    ------
    DataError
        A standard deviation that is not positive; limits that are no interval or hold nothing.
    """
    mean, sd = _finite("normal", mean=mean, sd=sd)
    _positive("normal", sd=sd)
    low, high = _limits("normal", limits)
    a, b = ndtr((low - mean) / sd), ndtr((high - mean) / sd)
    _some("normal", limits, a, b)
    return Distribution(
        f"normal({mean:g}, {sd:g}{_cut(limits)})", lambda u: np.clip(mean + sd * ndtri(a + u * (b - a)), low, high), unit
    )


def lognormal(
    median: float,
    *,
    cv: float | None = None,
    sd: float | None = None,
    limits: tuple[float, float] | None = None,
    unit: str | None = None,
) -> Distribution:
    """Log-normal with this median, and either the coefficient of variation ``cv`` (a share: 0.2) or the standard deviation ``sd`` of the
    logarithm: sd^2 = log(1 + cv^2).  Both are those before the cut at ``limits``.

    Raises
    ------
    DataError
        Numbers that are not positive, both or neither of ``cv`` and ``sd``, limits that hold nothing.
    """
    if (cv is None) == (sd is None):
        raise DataError("lognormal: give one of cv= (coefficient of variation, 0.2 is 20 %) and sd= (of the logarithm).")
    (median, spread) = _finite("lognormal", median=median, spread=cv if sd is None else sd)
    _positive("lognormal", median=median, **{"cv" if sd is None else "sd": spread})
    sigma = math.sqrt(math.log1p(spread**2)) if sd is None else spread
    low, high = _limits("lognormal", limits)
    with np.errstate(divide="ignore"):
        a, b = (ndtr((np.log(max(x, 0.0)) - math.log(median)) / sigma) for x in (low, high))
    _some("lognormal", limits, a, b)
    shown = f"cv={spread:g}" if sd is None else f"sd={spread:g}"
    return Distribution(
        f"lognormal({median:g}, {shown}{_cut(limits)})",
        lambda u: np.clip(median * np.exp(sigma * ndtri(a + u * (b - a))), low, high),
        unit,
    )


def uniform(low: float, high: float, *, unit: str | None = None) -> Distribution:
    """Uniform between two numbers.

    Raises
    ------
    DataError
        ``low`` is not below ``high``.
    """
    low, high = _finite("uniform", low=low, high=high)
    if not low < high:
        raise DataError(f"uniform({low:g}, {high:g}): the first number must be below the second.")
    return Distribution(f"uniform({low:g}, {high:g})", lambda u: low + u * (high - low), unit)


def categorical(shares: Mapping[str, float]) -> Distribution:
    """Categories with their probabilities, ``{"female": 0.6, "male": 0.4}``; numbers 0, 1, ... stand for them in this order.

    Raises
    ------
    DataError
        No categories, negative probabilities, or a sum that is not 1.
    """
    if not isinstance(shares, Mapping) or not shares:
        raise DataError(f"categorical takes categories with their probabilities, {{'female': 0.6, 'male': 0.4}}; got {shares!r}.")
    p = np.array(_finite("categorical", **{str(k): v for k, v in shares.items()}))
    if np.any(p < 0) or abs(p.sum() - 1.0) > 1e-6:
        raise DataError(
            f"categorical: probabilities are not negative and sum to 1; got {dict(shares)}, whose sum is {p.sum():g}."
        )
    edges = np.cumsum(p / p.sum())[:-1]
    words = "categorical(" + ", ".join(f"{k} {v:g}" for k, v in shares.items()) + ")"
    return Distribution(words, lambda u: np.searchsorted(edges, u, side="right").astype(float), None, tuple(map(str, shares)))


def _finite(word: str, **values: Any) -> list[float]:
    for name, value in values.items():
        if isinstance(value, (bool, str)) or not np.isscalar(value) or not np.isfinite(value):
            raise DataError(f"{word}: {name} must be a finite number; got {value!r}.")
    return [float(value) for value in values.values()]


def _positive(word: str, **values: float) -> None:
    for name, value in values.items():
        if not value > 0:
            raise DataError(f"{word}: {name} must be positive; got {value:g}.")


def _limits(word: str, limits) -> tuple[float, float]:
    if limits is None:
        return -math.inf, math.inf
    try:
        low, high = (float(x) for x in limits)
    except (TypeError, ValueError):
        raise DataError(f"{word}: limits are a lower and an upper one, (40, 120); got {limits!r}.") from None
    if not low < high:
        raise DataError(f"{word}: the lower limit must be below the upper one; got {limits!r}.")
    return low, high


def _some(word: str, limits, a: float, b: float) -> None:
    if not b - a > 1e-12:
        raise DataError(f"{word}: the limits {limits!r} hold none of the distribution.")


def _cut(limits) -> str:
    return "" if limits is None else f", limits=({limits[0]:g}, {limits[1]:g})"
