"""$ERROR: what each endpoint's observations are, as abbreviated code.

A residual error is ``Y = IPRED + W*EPS(k)`` with the variance of EPS(k) fixed at 1, so that standard deviations stay fixed effects;
IPRED is on the scale on which the data are normal.  A censored record is the likelihood PHI((LLOQ - IPRED)/W) with F_FLAG = 1 (M3),
everything else minus twice a log likelihood with F_FLAG = 2, or the -2LL of $ESTIMATION where nothing has a residual error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from nlme.exchange.densities import LIKELIHOODS, log_density, scaled
from nlme.exchange.outline import Endpoint, Outline
from nlme.exchange.statements import Assign, Choice, Statement
from nlme.language import symbols as s

PROGRAM = "NONMEM"
#: error models on another scale, with the numbers that make the scale
SCALED = {"lognormal": (), "logitnormal": ("lower", "upper"), "boxcox": ("lam",), "yeojohnson": ("lam",)}
NORMAL = ("additive", "proportional", "combined", "combined (standard deviations add)", "power", "normal", *SCALED)
_NOWHERE = s.number(-100)  # IPRED where the prediction has no place on the scale: certainly below every limit
_ZERO, _ONE, _TWO = map(s.number, (0, 1, 2))
_LOG = s.function("log")

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
    gained : the statements that set CHZ, the cumulative hazard since the record before, from the formula of the cumulative hazard
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
        """The statements of one endpoint."""
        if endpoint.kind in NORMAL:
            return self._residual_error(endpoint)
        parts, before = dict(endpoint.parts), []
        if endpoint.kind == "time_to_event":
            before = self.gained(endpoint, parts["cumulative hazard"])
            parts["cumulative hazard"] = self.variable("CHZ")
        return [*self._flag(2), *before, Assign("Y", scaled(-2, log_density(endpoint.kind, parts, self.y)))]

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


def require_words(outline: Outline, endpoint: Endpoint) -> None:
    """Raises ModelError: a distribution or a treatment of censored values that NM-TRAN has no words for."""
    kind, name = endpoint.kind, f"the endpoint {endpoint.name!r} has"
    if kind == "ar1":
        raise outline.refuse(f"{name} residuals that are correlated in time (ar1).", PROGRAM)
    if endpoint.censoring in ("M2", "M4"):
        raise outline.refuse(f"{name} censored values by {endpoint.censoring}; M1 and M3 are written.", PROGRAM)
    if endpoint.censoring and kind not in NORMAL:
        raise outline.refuse(f"{name} censored values of a {kind} distribution.", PROGRAM)
    if kind not in NORMAL and kind not in LIKELIHOODS:
        raise outline.refuse(f"{name} a {kind} distribution.", PROGRAM)
    for part in SCALED.get(kind, ()):
        if not s.is_number(endpoint.parts[part]):
            raise outline.refuse(
                f"{name} a {kind} error whose {part} is no number: the data are written on that scale, which has to be known.",
                PROGRAM,
            )


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
