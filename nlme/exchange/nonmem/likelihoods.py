"""$ERROR: what each endpoint's observations are, as abbreviated code.

A residual error is ``Y = IPRED + W*EPS(k)`` with the variance of EPS(k) fixed at 1, so that standard deviations stay fixed effects;
IPRED is on the scale on which the data are normal.  A censored record is the likelihood PHI((LLOQ - IPRED)/W) with F_FLAG = 1 (M3),
everything else minus twice a log likelihood with F_FLAG = 2, or the -2LL of $ESTIMATION where nothing has a residual error.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from nlme.exchange.outline import Endpoint, Outline
from nlme.exchange.statements import Assign, Choice, Statement
from nlme.language import symbols as s

PROGRAM = "NONMEM"
#: error models on another scale, with the numbers that make the scale
SCALED = {"lognormal": (), "logitnormal": ("lower", "upper"), "boxcox": ("lam",), "yeojohnson": ("lam",)}
NORMAL = ("additive", "proportional", "combined", "combined (standard deviations add)", "power", "normal", *SCALED)
_NOWHERE = s.number(-100)  # IPRED where the prediction has no place on the scale: certainly below every limit
_ZERO, _ONE, _TWO, _MINUS_TWO = map(s.number, (0, 1, 2, -2))
_LOG, _GAMMA = s.function("log"), s.function("loggamma")

Formula = Any


@dataclasses.dataclass(frozen=True)
class Likelihoods:
    """The statements that make Y of every endpoint.

    Attributes
    ----------
    y : symbol of the observation
    variable : a symbol for a variable of the code
    limits : endpoint -> the limit where it is one number at all its censored records
    censorings : endpoint -> the kinds of intervals that its records have (see ``data.censored``)
    gained : the cumulative hazard since the record before, from the formula of the cumulative hazard
    prediction : a prediction on the scale of the data as it is written
    """

    outline: Outline
    y: Formula
    variable: Callable[[str], Formula]
    limits: Mapping[str, float]
    censorings: Mapping[str, set[int]]
    gained: Callable[[Endpoint, Formula], list[Statement]]
    prediction: Callable[[Formula], Formula | str]

    @property
    def flagged(self) -> bool:
        """Whether F_FLAG tells records apart."""
        return bool(self.residual) and any(e.kind not in NORMAL or e.censoring == "M3" for e in self.outline.endpoints)

    @property
    def residual(self) -> list[Endpoint]:
        """The endpoints with a residual error: EPS(1), EPS(2), .."""
        return [e for e in self.outline.endpoints if e.kind in NORMAL]

    def of(self, endpoint: Endpoint) -> list[Statement]:
        """The statements of one endpoint.

        Raises
        ------
        ModelError
            A distribution or a treatment of censored values that NM-TRAN has no words for.
        """
        self._require(endpoint)
        if endpoint.kind in NORMAL:
            return self._residual_error(endpoint)
        return [*self._flag(2), *_LIKELIHOODS[endpoint.kind](self, endpoint)]

    def _require(self, endpoint: Endpoint) -> None:
        kind, name = endpoint.kind, f"the endpoint {endpoint.name!r} has"
        if kind == "ar1":
            raise self.outline.refuse(f"{name} residuals that are correlated in time (ar1).", PROGRAM)
        if endpoint.censoring in ("M2", "M4"):
            raise self.outline.refuse(f"{name} censored values by {endpoint.censoring}; M1 and M3 are written.", PROGRAM)
        if endpoint.censoring and kind not in NORMAL:
            raise self.outline.refuse(f"{name} censored values of a {kind} distribution.", PROGRAM)
        if kind not in NORMAL and kind not in _LIKELIHOODS:
            raise self.outline.refuse(f"{name} a {kind} distribution.", PROGRAM)
        for part in SCALED.get(kind, ()):
            if not s.is_number(endpoint.parts[part]):
                raise self.outline.refuse(
                    f"{name} a {kind} error whose {part} is no number: the data are written on that scale, which has to be known.",
                    PROGRAM,
                )

    def _flag(self, value: int) -> list[Statement]:
        return [Assign("F_FLAG", str(value))] if self.flagged else []

    # -- residual errors ---------------------------------------------------------------------------------------------

    def _residual_error(self, endpoint: Endpoint) -> list[Statement]:
        out = [*self._predicted(endpoint), Assign("W", self._spread(endpoint))]
        observed = [*self._flag(0), Assign("Y", f"IPRED + W*EPS({self.residual.index(endpoint) + 1})")]
        beyond = self._beyond(endpoint)
        if not beyond:
            return [*out, *observed]
        # where the error vanishes with the prediction, 0 is certainly below any limit
        guard = [Choice((("W.EQ.0", (Assign("W", "1.0E-10"),)),))] if endpoint.kind in ("proportional", "power") else []
        blocks = [(test, (*self._flag(1), *guard, Assign("Y", y))) for test, y in beyond]
        return [*out, Choice((*blocks, (None, tuple(observed))))]

    def _beyond(self, endpoint: Endpoint) -> list[tuple[str, str]]:
        """(condition, likelihood) of records that are known to an interval."""
        known = self.limits.get(endpoint.name)
        limit = "LLOQ" if known is None else f"({known!r})" if known < 0 else repr(known)
        every = {
            1: f"PHI(({limit} - IPRED)/W)",
            2: f"PHI(({limit} - IPRED)/W) - PHI((LIM2 - IPRED)/W)",
            3: f"PHI((IPRED - {limit})/W)",
            4: f"PHI((IPRED - {limit})/W) - PHI((IPRED - LIM2)/W)",
        }
        return [(f"CENS.EQ.{k}", y) for k, y in every.items() if k in self.censorings.get(endpoint.name, ())]

    def _predicted(self, endpoint: Endpoint) -> list[Statement]:
        kind, parts = endpoint.kind, endpoint.parts
        if "mean on that scale" in parts:
            return [Assign("IPRED", parts["mean on that scale"])]
        written = self.prediction(parts["prediction"])
        if kind not in SCALED:
            return [Assign("IPRED", written)]
        return [Assign("CP", written), Assign("IPRED", _on_scale(kind, parts, self.variable("CP")))]

    def _spread(self, endpoint: Endpoint) -> Formula:
        """The standard deviation, with IPRED for the prediction."""
        kind, parts, ipred = endpoint.kind, endpoint.parts, self.variable("IPRED")
        if "variance" in parts:
            return s.root(parts["variance"])
        if kind in SCALED:
            return parts["sd"]
        if kind == "additive":
            return parts["add"]
        if kind == "power":
            spread = s.multiply(parts["prop"], s.power(ipred, parts["exponent"]))
            return s.choose(s.comparison("Gt")(ipred, _ZERO), spread, _ZERO)
        prop = s.multiply(parts["prop"], ipred)
        if kind == "combined":
            return s.root(s.add(s.power(parts["add"], _TWO), s.power(prop, _TWO)))
        return prop if kind == "proportional" else s.add(parts["add"], prop)


def _on_scale(kind: str, parts: Mapping[str, Formula], v: Formula) -> Formula:
    """h(v), and a place below all others where v is outside of what h takes."""
    positive = s.comparison("Gt")(v, _ZERO)
    if kind == "lognormal":
        return s.choose(positive, _LOG(v), _NOWHERE)
    if kind == "logitnormal":
        low, high = parts["lower"], parts["upper"]
        inside = s.both(s.comparison("Gt")(v, low), s.comparison("Lt")(v, high))
        return s.choose(inside, s.subtract(_LOG(s.subtract(v, low)), _LOG(s.subtract(high, v))), _NOWHERE)
    lam = float(parts["lam"])
    if kind == "boxcox":
        return s.choose(positive, _ratio(v, lam), _NOWHERE)
    up, down = _ratio(s.add(_ONE, v), lam), s.negative(_ratio(s.subtract(_ONE, v), 2.0 - lam))
    return s.choose(s.comparison("Ge")(v, _ZERO), up, down)


def _ratio(x: Formula, lam: float) -> Formula:
    """(x^lam - 1)/lam, or log x."""
    return _LOG(x) if lam == 0.0 else s.divide(s.subtract(s.power(x, s.number(lam)), _ONE), s.number(lam))


# -- log likelihoods -------------------------------------------------------------------------------------------------


def _y(log_likelihood: Formula) -> Assign:
    return Assign("Y", s.multiply(_MINUS_TWO, log_likelihood))


def _binary(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    p = own.variable("P1")
    blocks = ("DV.EQ.1", (_y(_LOG(p)),)), (None, (_y(_LOG(s.subtract(_ONE, p))),))
    return [Assign("P1", endpoint.parts["P(1)"]), Choice(blocks)]


def _ordered(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    blocks = [(f"DV.EQ.{name[len('log P(') : -1]}", (_y(log_p),)) for name, log_p in endpoint.parts.items()]
    return [Choice((*blocks[:-1], (None, blocks[-1][1])))]


def _poisson(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    rate, y = endpoint.parts["rate"], own.y
    return [_y(s.subtract(s.subtract(_times_log(y, rate), rate), _GAMMA(s.add(y, _ONE))))]


def _negative_binomial(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    y, dispersion = own.y, endpoint.parts["dispersion"]
    size, spread = s.divide(_ONE, dispersion), s.multiply(dispersion, endpoint.parts["mean"])
    ways = s.subtract(s.subtract(_GAMMA(s.add(y, size)), _GAMMA(size)), _GAMMA(s.add(y, _ONE)))
    rest = s.multiply(s.add(y, size), _LOG(s.add(_ONE, spread)))
    return [_y(s.subtract(s.add(ways, _times_log(y, spread)), rest))]


def _times_log(y: Formula, x: Formula) -> Formula:
    return s.choose(s.comparison("Gt")(y, _ZERO), s.multiply(y, _LOG(x)), _ZERO)


def _student_t(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    location, scale, df = (endpoint.parts[k] for k in ("location", "scale", "degrees of freedom"))
    half = s.fraction(1, 2)
    more = s.multiply(half, s.add(df, _ONE))
    square = s.power(s.divide(s.subtract(own.y, location), scale), _TWO)
    size = s.add(s.multiply(half, _LOG(s.multiply(df, s.number(math.pi)))), _LOG(scale))
    head = s.subtract(s.subtract(_GAMMA(more), _GAMMA(s.multiply(half, df))), size)
    return [_y(s.subtract(head, s.multiply(more, _LOG(s.add(_ONE, s.divide(square, df))))))]


def _loglik(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    return [_y(endpoint.parts["log density"])]


def _time_to_event(own: Likelihoods, endpoint: Endpoint) -> list[Statement]:
    gained = own.variable("CHZ")
    at = s.subtract(_LOG(endpoint.parts["hazard"]), gained)
    inside = _LOG(s.subtract(_ONE, s.function("exp")(s.negative(gained))))
    blocks = ("DV.EQ.1", (_y(at),)), ("DV.EQ.2", (_y(inside),)), (None, (_y(s.negative(gained)),))
    return [*own.gained(endpoint, endpoint.parts["cumulative hazard"]), Choice(blocks)]


_LIKELIHOODS: dict[str, Callable[[Likelihoods, Endpoint], list[Statement]]] = {
    "binary": _binary, "ordered": _ordered, "poisson": _poisson, "negative_binomial": _negative_binomial,
    "student_t": _student_t, "loglik": _loglik, "time_to_event": _time_to_event,
}  # fmt: skip
