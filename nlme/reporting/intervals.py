"""Standard errors and intervals for the rows of a table, from the covariance of the estimates or from refits.

| intervals         | 95 % interval of a parameter x with standard error s                                                          |
|-------------------|---------------------------------------------------------------------------------------------------------------|
| "transformed"     | even on the parameter's own scale: x exp(-+ 1.96 s / x) for positive ones and variances, on the logit for      |
|                   | bounded ones, x -+ 1.96 s for those of either sign; correlations on Fisher's z = atanh r                        |
| "wald"            | x -+ 1.96 s for all                                                                                           |
| Bootstrap, Resampled | percentiles of the refits, or of the resampled vectors, whose standard deviation is the standard error     |
| Profile           | where the objective has risen by the chi-square quantile                                                       |
"""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Any

import numpy as np

from nlme.errors import FitError
from nlme.fitting.reported import require_of

TRANSFORMED, WALD = "transformed", "wald"
_NONE = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True)
class Intervals:
    """What the rows of a table say of uncertainty.

    Attributes
    ----------
    errors : parameter -> standard error
    ends : parameter -> lower and upper end
    correlations : covariance -> lower and upper end of the correlation
    notes : topic ("SE", "CI", "missing", ...) -> how they were computed, in words
    """

    errors: dict[str, float]
    ends: dict[str, tuple[float, float]]
    correlations: dict[str, tuple[float, float]]
    notes: dict[str, str]


def percent(level: float) -> str:
    """'95 %' of 0.95."""
    return f"{100 * level:.6g} %"


def intervals_of(fit, intervals: Any, level: float) -> Intervals:
    """Intervals of a fit's free parameters.

    Raises
    ------
    FitError
        A level that is not between 0 and 1, an unknown word, or intervals of another fit.
    """
    if not isinstance(level, float) or not 0.0 < level < 1.0:
        raise FitError(f"level is a probability between 0 and 1, for example 0.95; got {level!r}.")
    if intervals is None:
        return Intervals({}, {}, {}, {})
    if intervals in (TRANSFORMED, WALD) if isinstance(intervals, str) else False:
        return _asymptotic(fit, intervals, level)
    if isinstance(intervals, str) or not hasattr(intervals, "interval") or not hasattr(intervals, "fit"):
        raise FitError(
            f"intervals= is 'transformed' (the default), 'wald', or what nlme.bootstrap, nlme.profile or nlme.sir returned; got "
            f"{intervals if isinstance(intervals, str) else type(intervals).__name__!r}."
        )
    return _of_refits(fit, intervals, level)


def _asymptotic(fit, how: str, level: float) -> Intervals:
    q, covariance = NormalDist().inv_cdf(0.5 + 0.5 * level), fit.covariance
    errors = {name: float(se) for name, se in covariance.standard_errors.items()}
    rows = [row for row in fit.parameters if not row.fixed]
    ends = {}
    for row in rows:
        se = errors.get(row.name, math.nan)
        ends[row.name] = row.range.interval(row.value, se, q) if how == TRANSFORMED else (row.value - q * se, row.value + q * se)
    correlations = {}
    if any(row.kind == "covariance" for row in rows):
        values = {row.name: row.value for row in fit.parameters}
        for row in (row for row in rows if row.kind == "covariance"):
            correlations[row.name] = _of_correlation(row.name, values, covariance.matrix, q, how)
    return Intervals(errors, ends, correlations, _words(fit, rows, errors, ends, correlations, how, level, q))


def effects_of(name: str) -> tuple[str, str]:
    """The variances of a covariance: 'omega.v' and 'omega.cl' of 'omega.v,cl'."""
    prefix, _, pair = name.rpartition(".")
    first, second = pair.split(",")
    return f"{prefix}.{first}", f"{prefix}.{second}"


def _of_correlation(name: str, values: dict[str, float], matrix, q: float, how: str) -> tuple[float, float]:
    """Interval of r = c / sqrt(v w), its error by the delta method: dr = dc / sqrt(v w) - r (dv / 2v + dw / 2w)."""
    both = effects_of(name)
    if not {name, *both} <= set(matrix.columns):
        return _NONE
    c, v, w = values[name], values[both[0]], values[both[1]]
    if not (v > 0 and w > 0):
        return _NONE
    r = c / math.sqrt(v * w)
    slope = np.array([1.0 / math.sqrt(v * w), -0.5 * r / v, -0.5 * r / w])
    variance = float(slope @ matrix.loc[[name, *both], [name, *both]].to_numpy(dtype=float) @ slope)
    if not variance >= 0 or not abs(r) < 1:
        return _NONE
    se = math.sqrt(variance)
    if how == WALD:
        return r - q * se, r + q * se
    z, reach = math.atanh(r), q * se / (1.0 - r * r)
    return math.tanh(z - reach), math.tanh(z + reach)


_KINDS = {
    "sandwich": "the sandwich R⁻¹ S R⁻¹",
    "R": "the inverse Hessian of the objective (R⁻¹)",
    "S": "the cross product of the subjects' gradients (S⁻¹)",
}


def _words(fit, rows, errors, ends, correlations, how: str, level: float, q: float) -> dict[str, str]:
    notes = {}
    known = [row for row in rows if math.isfinite(errors.get(row.name, math.nan))]
    if known:
        notes["SE"] = _source(fit)
        times = f"{q:.4g} SE"
        if how == WALD:
            parts = [f"estimate ± {times} on the natural scale"]
        else:
            scales = {row.range.scale for row in known}
            log = f"estimate × exp(± {times} / estimate), the log scale, for positive parameters and variances"
            parts = [log] if "log" in scales else []
            parts += ["on the logit scale for bounded ones"] if "logit" in scales else []
            parts += [f"estimate ± {times} for those of either sign"] if "natural" in scales else []
            parts += ["correlations on Fisher's z"] if any(math.isfinite(low) for low, _ in correlations.values()) else []
        notes["CI"] = f"{percent(level)} CI: Wald, {'; '.join(parts)}."
    if fit.covariance.missing:
        notes["missing"] = fit.covariance.missing
    return notes


def _source(fit) -> str:
    kind = _KINDS.get(fit.covariance.kind, fit.covariance.kind)
    return f"SE: from {kind}, natural scale. RSE = 100 SE / |estimate| (of the variance itself for a variance).{fit.covariance.of_kinks}"


def _of_refits(fit, found, level: float) -> Intervals:
    """Those of a bootstrap, a profile or resampled vectors of this fit."""
    require_of(found, fit, "intervals=")
    names = list(fit.inventory.names)
    ends = {name: (float(row["lower"]), float(row["upper"])) for name, row in found.interval(level).iterrows()}
    notes = {"CI": f"{percent(level)} CI: {found.words}."}
    draws, correlations = getattr(found, "draws", None), {}
    if draws is None:
        errors, notes["SE"] = fit.covariance.standard_errors, _source(fit)
        absent = [name for name, kind in zip(names, fit.inventory.kinds, strict=True) if name not in ends and kind != "weight"]
        notes |= {"missing": f"Not profiled: {', '.join(absent)}."} if absent else {}
    else:
        errors, notes["SE"] = found.standard_errors, "SE: standard deviation of the same. RSE = 100 SE / |estimate|."
        for name, kind in zip(names, fit.inventory.kinds, strict=True):
            both = effects_of(name) if kind == "covariance" else ()
            if both and {*both} <= set(draws.columns):
                r = draws[name] / np.sqrt(draws[both[0]] * draws[both[1]])
                correlations[name] = tuple(float(x) for x in np.nanquantile(r, [0.5 - 0.5 * level, 0.5 + 0.5 * level]))
    notes |= {f"refits {k}": message for k, message in enumerate(found.messages)}
    return Intervals({name: float(se) for name, se in errors.items()}, ends, correlations, notes)
