"""Log densities of what is not normal, as formulas of the observation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from nlme.language import symbols as s

Formula = Any
_ONE, _TWO, _ZERO = s.number(1), s.number(2), s.number(0)
_LOG, _GAMMA = s.function("log"), s.function("loggamma")


def log_density(kind: str, parts: Mapping[str, Formula], y: Formula) -> Formula | None:
    """log p(y) of an endpoint by its error model's name and parts; None of a kind that is not known.

    Of a time to an event, "cumulative hazard" is what was gained since the record before.
    """
    return _DENSITIES[kind](parts, y) if kind in _DENSITIES else None


def scaled(factor: int, x: Formula) -> Formula:
    """``factor`` times ``x``, in each case where ``x`` is a choice."""
    if x.func.__name__ == "Piecewise":
        return s.cases([(scaled(factor, value), condition) for value, condition in x.args])
    return s.multiply(s.number(factor), x)


def _among(y: Formula, values: Mapping[int, Formula], otherwise: Formula) -> Formula:
    return s.cases([*((v, s.comparison("Eq")(y, s.number(k))) for k, v in values.items()), (otherwise, s.number(True))])


def _binary(parts, y):
    p = parts["P(1)"]
    return _among(y, {1: _LOG(p)}, _LOG(s.subtract(_ONE, p)))


def _ordered(parts, y):
    values = {int(name[len("log P(") : -1]): log_p for name, log_p in parts.items()}
    (*_, last) = values
    return _among(y, {k: v for k, v in values.items() if k != last}, values[last])


def _poisson(parts, y):
    return s.subtract(s.subtract(_times_log(y, parts["rate"]), parts["rate"]), _GAMMA(s.add(y, _ONE)))


def _negative_binomial(parts, y):
    size, spread = s.divide(_ONE, parts["dispersion"]), s.multiply(parts["dispersion"], parts["mean"])
    ways = s.subtract(s.subtract(_GAMMA(s.add(y, size)), _GAMMA(size)), _GAMMA(s.add(y, _ONE)))
    return s.subtract(s.add(ways, _times_log(y, spread)), s.multiply(s.add(y, size), _LOG(s.add(_ONE, spread))))


def _times_log(y, x):
    return s.choose(s.comparison("Gt")(y, _ZERO), s.multiply(y, _LOG(x)), _ZERO)


def _student_t(parts, y):
    location, scale, df = (parts[k] for k in ("location", "scale", "degrees of freedom"))
    half = s.fraction(1, 2)
    more = s.multiply(half, s.add(df, _ONE))
    square = s.power(s.divide(s.subtract(y, location), scale), _TWO)
    size = s.add(s.multiply(half, _LOG(s.multiply(df, s.number(math.pi)))), _LOG(scale))
    head = s.subtract(s.subtract(_GAMMA(more), _GAMMA(s.multiply(half, df))), size)
    return s.subtract(head, s.multiply(more, _LOG(s.add(_ONE, s.divide(square, df)))))


def _loglik(parts, y):
    return parts["log density"]


def _time_to_event(parts, y):
    gained = parts["cumulative hazard"]
    inside = _LOG(s.subtract(_ONE, s.function("exp")(s.negative(gained))))
    return _among(y, {1: s.subtract(_LOG(parts["hazard"]), gained), 2: inside}, s.negative(gained))


_DENSITIES: dict[str, Callable[[Mapping[str, Formula], Formula], Formula]] = {
    "binary": _binary, "ordered": _ordered, "poisson": _poisson, "negative_binomial": _negative_binomial,
    "student_t": _student_t, "loglik": _loglik, "time_to_event": _time_to_event,
}  # fmt: skip
LIKELIHOODS = frozenset(_DENSITIES)
