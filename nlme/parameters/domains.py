"""Domains of population parameters: where a value may lie, and the map from the whole real line onto that set.

A parameter field is declared on its natural scale (``nlme.positive(0.134, unit="L/h", label="Clearance")``); the search and
the sampler move on the unconstrained scale.  The map between them is NumPyro's ``biject_to(constraint)``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError

METADATA = "nlme"  # key of the field metadata that marks a declared parameter


@dataclasses.dataclass(frozen=True)
class Domain:
    """An open interval of the real line, ``lower < value < upper``.

    ``to_real`` and ``from_real`` are the bijection with the real line: identity on the line, ``log``/``exp`` on a half line,
    scaled logit on a bounded interval (``numpyro.distributions.biject_to``).
    """

    name: str
    lower: float = -math.inf
    upper: float = math.inf

    @functools.cached_property
    def bijection(self):
        from numpyro.distributions import biject_to, constraints

        if math.isinf(self.lower) and math.isinf(self.upper):
            return biject_to(constraints.real)
        if math.isinf(self.upper):
            return biject_to(constraints.positive if self.lower == 0 else constraints.greater_than(self.lower))
        return biject_to(constraints.interval(self.lower, self.upper))

    def from_real(self, x):
        return self.bijection(x)

    def to_real(self, value):
        return self.bijection.inv(value)

    def contains(self, value) -> bool:
        value = np.asarray(value)
        return bool(np.all(np.isfinite(value)) and np.all(value > self.lower) and np.all(value < self.upper))

    @property
    def scale(self) -> str:
        """Where an interval of a parameter lies even: "natural", "log" (of the distance from its bound) or "logit"."""
        if math.isinf(self.lower):
            return "natural"
        return "log" if math.isinf(self.upper) else "logit"

    def interval(self, value: float, error: float, quantile: float) -> tuple[float, float]:
        """``value`` -+ ``quantile`` ``error`` on this domain's scale, with the error brought there by the delta method.

        log:    L + (x - L) exp(-+ z s / (x - L))        logit:    s / (W t (1 - t)) about logit t,  t = (x - L) / W,  W = U - L

        NaN where the value stands at a bound, or the error is none.
        """
        distance, move = value - self.lower, quantile * error
        if not math.isfinite(value) or math.isnan(error):
            return math.nan, math.nan
        if self.scale == "natural":
            return value - move, value + move
        if self.scale == "log":
            if not distance > 0:
                return math.nan, math.nan
            grown = np.exp(np.clip(move / distance, 0.0, 700.0))
            return self.lower + distance / float(grown), self.lower + distance * float(grown)
        width = self.upper - self.lower
        t = distance / width
        if not 0 < t < 1:
            return math.nan, math.nan
        centre, reach = math.log(t) - math.log1p(-t), move / (width * t * (1.0 - t))
        return tuple(self.lower + width / (1.0 + math.exp(-float(np.clip(centre + d, -700.0, 700.0)))) for d in (-reach, reach))

    def words(self, name: str = "value") -> str:
        """'positive (0 < cl < inf)'."""
        return f"{self.name} ({self.lower:g} < {name} < {self.upper:g})"

    def __str__(self) -> str:
        if self.name in ("real", "positive"):
            return self.name
        return f"{self.name} ({self.lower:g}, {self.upper:g})" if self.name == "bounded" else self.name


REAL = Domain("real")
POSITIVE = Domain("positive", 0.0)
PROBABILITY = Domain("probability", 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Declaration:
    """What a parameter field says of itself: domain, unit, label, and whether it is a fixed effect or a network's weight."""

    domain: Domain
    unit: str = ""
    label: str = ""
    kind: str = "fixed effect"


def as_array(value: Any):
    """A number (or array) as a float64 array; leaves traced values and placeholders of pytree surgery alone."""
    if isinstance(value, (int, float, list, tuple, np.ndarray, np.generic)):
        return jnp.asarray(np.asarray(value, dtype=np.float64))  # converted by numpy: nothing to compile
    return value


def _parameter(default, domain: Domain, unit: str, label: str):
    if not is_numeric(default) or not np.size(default):
        raise ModelError(f"The starting value of a parameter is a number (or an array of them); got {default!r}.")
    if not domain.contains(default):
        raise ModelError(
            f"Starting value {default!r} is outside its domain: {domain} means {domain.lower:g} < value < {domain.upper:g}."
            + (" Use nlme.real(...) for a parameter of either sign." if domain.lower == 0 else "")
        )
    metadata = {METADATA: Declaration(domain, unit, label)}
    # an array default is mutable for dataclasses, so every default goes through a factory
    return eqx.field(default_factory=lambda: as_array(default), converter=as_array, metadata=metadata)


def positive(value, *, unit: str = "", label: str = ""):
    """Field of a positive parameter, searched as ``log(value)``.  ``value`` is the starting value (scalar or array)."""
    return _parameter(value, POSITIVE, unit, label)


def real(value, *, unit: str = "", label: str = ""):
    """Field of a parameter that may take any sign, searched as it is (scaled by its starting value)."""
    return _parameter(value, REAL, unit, label)


def bounded(value, lower: float, upper: float, *, unit: str = "", label: str = ""):
    """Field of a parameter in the open interval ``(lower, upper)``, searched on the scaled logit.

    Raises
    ------
    ModelError
        Bounds that are not numbers with ``lower < upper``, or the starting value is not strictly inside.
    """
    if not (is_numeric(lower) and is_numeric(upper) and lower < upper):
        raise ModelError(
            f"bounded({value!r}, {lower!r}, {upper!r}): the bounds are two numbers, the lower one below the upper one."
        )
    return _parameter(value, Domain("bounded", float(lower), float(upper)), unit, label)


def probability(value, *, unit: str = "", label: str = ""):
    """Field of a parameter in ``(0, 1)``, searched on the logit."""
    return _parameter(value, PROBABILITY, unit, label)


def require_whole(who: str, what: str, value, least: int) -> None:
    """Refuse what is no whole number of at least ``least``.

    Raises
    ------
    ModelError
        It is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ModelError(f"{who}: {what} is a whole number of at least {least}; got {value!r}.")


def is_numeric(value) -> bool:
    """Whether ``value`` is made of real numbers."""
    try:
        return np.asarray(value).dtype.kind in "iuf"
    except (TypeError, ValueError):
        return False


def is_probability(value) -> bool:
    """Whether ``value`` is one number between 0 and 1, neither of them."""
    return is_numeric(value) and np.ndim(value) == 0 and bool(0.0 < value < 1.0)


def is_concrete(value) -> bool:
    """Whether ``value`` holds numbers that can be looked at now (and not a tracer or a placeholder)."""
    return isinstance(value, (jax.Array, np.ndarray, float, int)) and not isinstance(value, jax.core.Tracer)
