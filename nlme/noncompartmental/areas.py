"""Areas under a curve that is known at some times: the trapezoidal rules, and what lies between two samples.

On a segment from (t1, c1) to (t2, c2), h = t2 - t1,

    linear           AUC = h (c1 + c2) / 2             AUMC = h (t1 c1 + t2 c2) / 2
    logarithmic      AUC = (c1 - c2) / k               AUMC = (t1 c1 - t2 c2) / k + (c1 - c2) / k^2,     k = log(c1 / c2) / h

The logarithmic rule is exact where the concentration falls (or rises) exponentially.  The linear AUMC is the trapezoid of t c, as
in WinNonlin.  Source: Gibaldi & Perrier (1982), Pharmacokinetics, 2nd ed., appendix D; Phoenix WinNonlin User's Guide,
"NCA parameter formulas".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from nlme.errors import DataError, name_error

#: rule -> what it does
RULES = {
    "linear": "linear trapezoids",
    "linear-up log-down": "linear where the concentration rises, logarithmic where it falls",
    "linear log": "linear up to Tmax, logarithmic after it",
}
_FLAT = 1e-5  # |log(c1 / c2)| under which both rules agree to the last digits, and the logarithmic one would lose them


def require_rule(rule: str) -> str:
    """The rule's name.

    Raises
    ------
    DataError
        No such rule.
    """
    if rule not in RULES:
        raise DataError(name_error("rule", str(rule), RULES, "nlme.nca"))
    return rule


@dataclass(frozen=True)
class Curve:
    """Concentrations at increasing times, and the rule by which they are joined.

    ``tmax`` is where "linear log" changes its rule; the last segment falls by the rate
    ``decline`` whatever the rule, if there is one.
    """

    time: Float[np.ndarray, " n"]
    conc: Float[np.ndarray, " n"]
    rule: str
    tmax: float
    decline: float = 0.0

    @property
    def logarithmic(self) -> Bool[np.ndarray, " n-1"]:
        """Segments that are joined by an exponential."""
        first, second = self.conc[:-1], self.conc[1:]
        positive = (first > 0) & (second > 0)
        curved = np.abs(np.log(np.where(positive, first, 1.0) / np.where(positive, second, 1.0))) > _FLAT
        falls, after = second < first, self.time[:-1] >= self.tmax
        where = {"linear": np.zeros_like(falls), "linear-up log-down": falls, "linear log": after}[self.rule]
        found = positive & curved & where
        if self.decline:
            found[-1] = True
        return found

    def at(self, time: float) -> float:
        """The concentration at a time from the first to the last sample, between two samples by their rule."""
        k = int(np.clip(np.searchsorted(self.time, time, side="right") - 1, 0, len(self.time) - 2)) if len(self.time) > 1 else 0
        if time == self.time[k] or len(self.time) == 1:
            return float(self.conc[k])
        share = (time - self.time[k]) / (self.time[k + 1] - self.time[k])
        first, second = self.conc[k], self.conc[k + 1]
        if self.logarithmic[k]:
            return float(first * (second / first) ** share)
        return float(first + share * (second - first))

    def between(self, start: float, end: float) -> Curve:
        """The part of the curve from ``start`` to ``end``, both within its times."""
        if start == end:
            return Curve(np.array([start]), np.array([self.at(start)]), self.rule, self.tmax)
        inner = (self.time > start) & (self.time < end)
        time = np.concatenate([[start], self.time[inner], [end]])
        conc = np.concatenate([[self.at(start)], self.conc[inner], [self.at(end)]])
        return Curve(time, conc, self.rule, self.tmax)

    @property
    def auc(self) -> float:
        """Area under the curve."""
        h, (c1, c2), log = np.diff(self.time), (self.conc[:-1], self.conc[1:]), self.logarithmic
        k = self._rates(log)
        return float(np.sum(np.where(log, (c1 - c2) / k, 0.5 * h * (c1 + c2))))

    @property
    def aumc(self) -> float:
        """Area under the curve of time x concentration."""
        h, (c1, c2), log = np.diff(self.time), (self.conc[:-1], self.conc[1:]), self.logarithmic
        m1, m2, k = self.time[:-1] * c1, self.time[1:] * c2, self._rates(log)
        return float(np.sum(np.where(log, (m1 - m2) / k + (c1 - c2) / k**2, 0.5 * h * (m1 + m2))))

    def _rates(self, log: np.ndarray) -> np.ndarray:
        safe = log & (self.conc[1:] > 0)
        ratio = np.where(safe, self.conc[:-1], np.e) / np.where(safe, self.conc[1:], 1.0)
        rates = np.log(ratio) / np.diff(self.time)
        if self.decline:
            rates[-1] = self.decline  # the end may be so late that nothing is left
        return rates
