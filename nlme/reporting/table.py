"""The parameter table of a fit: a DataFrame at full precision, and the same table as a reader wants to see it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nlme.errors import FitError
from nlme.reporting.criteria import criterion, said_of_error
from nlme.reporting.draws import posterior_rows
from nlme.reporting.intervals import TRANSFORMED, Intervals, effects_of, intervals_of, percent
from nlme.reporting.models import ModelTable, side_by_side
from nlme.tables import formats
from nlme.tables.numbers import MISSING, alike, fixed_point, significant
from nlme.tables.shown import Panel, Shown

COLUMNS = (
    "parameter",
    "label",
    "unit",
    "kind",
    "estimate",
    "fixed",
    "se",
    "rse_percent",
    "lower",
    "upper",
    "cv_percent",
    "sd",
    "correlation",
    "correlation_lower",
    "correlation_upper",
    "shrinkage_percent",
)


def table(fit, weights: bool = False, *, intervals: Any = "default", level: float = 0.95) -> ParameterTable | ModelTable:
    """Parameter table of a fit, of several fits side by side, or of a posterior.

    Parameters
    ----------
    fit : a fit; a dict of fits by name, or a list of them; the posterior of ``nlme.sample``; or what ``nlme.evaluate`` returned
        (its values, without standard errors unless ``intervals`` asks for them)
    weights : list the network weights one by one; otherwise a note says how many there are
    intervals : "transformed" (the default: even on the log scale for positive parameters and variances, on the logit for bounded
        ones, on Fisher's z for correlations), "wald" (even on the natural scale), or what ``nlme.bootstrap``, ``nlme.profile`` or
        ``nlme.sir`` returned for this fit; None for none.  See :mod:`nlme.reporting.intervals`
    level : of the intervals

    Returns
    -------
    ParameterTable
        A DataFrame with one row per parameter in the model's order, indexed by name, at full precision (without Omega where the
        method has no use for it, ``nlme.NaivePooled``):

        ========================  =====================================================================================
        parameter label unit      as the model declares them
        kind                      "fixed effect", "variance", "covariance", "share" or "weight"
        estimate, fixed           natural scale; ``fixed`` is True for what the fit did not estimate
        se, rse_percent           standard error and 100 se / abs(estimate); NaN where fixed or not identified
        lower, upper              95 % interval (``level``), as ``intervals`` says
        cv_percent                variability between subjects, for the variance omega2 of an effect that enters as
                                  exp(eta): 100 sqrt(exp(omega2) - 1)
        sd                        sqrt(omega2), for every variance of a random effect
        correlation               for a covariance: of its two random effects, with its interval
        shrinkage_percent         100 (1 - sd(eta) / omega), for every variance of a random effect
        ========================  =====================================================================================

        Of a posterior ``estimate`` is the median, ``se`` the standard deviation, and there are ``r_hat`` and ``ess`` of the draws.
        Printed, or exported with ``to_markdown``, ``to_html``, ``to_latex`` or ``to_rtf``, it shows significant digits and
        says below how SE, interval, CV and shrinkage were computed.
    ModelTable
        Of several fits: columns by fit and quantity.

    Raises
    ------
    FitError
        What is given is no fit, ``level`` is no probability, or ``intervals`` are of another fit.
    """
    if hasattr(fit, "posterior"):
        return _of_posterior(fit, weights, level)
    if isinstance(fit, Mapping | list | tuple):
        return side_by_side(fit, intervals, level, lambda one, given: table(one, weights, intervals=given, level=level))
    if hasattr(fit, "interval") and hasattr(fit, "fit"):  # of refits: the table of their fit
        fit, intervals = fit.fit, fit
    if not hasattr(fit, "parameters") or not hasattr(fit, "shrinkage"):
        raise FitError(
            f"table takes a fit, several fits, what nlme.evaluate returned, or a posterior; got {type(fit).__name__}. Of a model alone "
            f"nlme.describe(model) shows the parameters."
        )
    estimated = hasattr(fit, "n_parameters")  # nlme.evaluate estimates nothing
    if isinstance(intervals, str) and intervals == "default":
        intervals = TRANSFORMED if estimated and any(not row.fixed for row in fit.parameters) else None
    found = intervals_of(fit, intervals, level)
    idle = unused(fit)
    shown = [row for row in fit.parameters if (weights or row.kind != "weight") and row.name not in idle]
    variances = {row.name: row.value for row in fit.parameters if row.kind == "variance"}
    rows = [_row(row, variances, fit.shrinkage, found) for row in shown]
    frame = ParameterTable(pd.DataFrame(rows, columns=list(COLUMNS), index=[row["parameter"] for row in rows]))
    frame.title = f"{type(fit.model).__name__}, {fit.method}: objective {criterion(fit, fit.objective)}"
    frame.headers = {"lower": f"{percent(level)} CI"} | ({} if estimated else {"estimate": "Value"})
    frame.said = _said(fit, frame, weights, found, estimated)
    return frame


def unused(fit) -> tuple[str, ...]:
    """Elements of Omega that are neither estimated nor used, for the method takes everyone for the typical subject."""
    if getattr(fit.method, "individuals", True):
        return ()
    return tuple(row.name for row in fit.parameters if row.kind in ("variance", "covariance"))


def _row(row, variances: dict[str, float], shrinkage, found: Intervals) -> dict:
    se = math.nan if row.fixed else found.errors.get(row.name, math.nan)
    lower, upper = (math.nan, math.nan) if row.fixed else found.ends.get(row.name, (math.nan, math.nan))
    low, high = (math.nan, math.nan) if row.fixed else found.correlations.get(row.name, (math.nan, math.nan))
    variance = row.kind == "variance" and row.random_effect is not None
    with np.errstate(over="ignore"):  # a variance that ran away has a coefficient of variation without end
        return {
            "parameter": row.name,
            "label": row.label or "",
            "unit": row.unit or "",
            "kind": row.kind,
            "estimate": float(row.value),
            "fixed": bool(row.fixed),
            "se": se,
            "rse_percent": 100 * se / abs(row.value) if row.value else math.nan,
            "lower": lower,
            "upper": upper,
            "cv_percent": float(100 * np.sqrt(np.expm1(row.value))) if variance and row.transform == "log-normal" else math.nan,
            "sd": float(np.sqrt(row.value)) if variance else math.nan,
            "correlation": _correlation(row, variances),
            "correlation_lower": low,
            "correlation_upper": high,
            "shrinkage_percent": float(shrinkage.get(row.random_effect, math.nan)) if variance else math.nan,
        }


def _correlation(row, variances: dict[str, float]) -> float:
    """Correlation of the two effects of a covariance named 'omega.v,cl'; NaN for any other row, and without variance."""
    if row.kind != "covariance":
        return math.nan
    size = math.prod(math.sqrt(variances.get(name, math.nan)) for name in effects_of(row.name))
    return row.value / size if size > 0 else math.nan


def _said(fit, frame: pd.DataFrame, weights: bool, found: Intervals, estimated: bool) -> dict[str, str]:
    """Topic -> what to know of the numbers."""
    said = {}
    if not estimated:
        said["verdict"] = "Values as given; nothing was estimated."
    elif not fit.converged:
        said["verdict"] = fit.verdict
    said |= {"objective": words} if (words := said_of_error(fit)) else {}
    said |= found.notes
    if getattr(fit, "priors", None):
        said["priors"] = (
            f"Priors on {', '.join(fit.priors)}: the estimates are modes a posteriori, and the errors hold the priors' information; the "
            f"objective does not."
        )
    elif getattr(fit, "penalty", 0.0):
        said["penalty"] = f"A penalty of {significant(fit.penalty)} took part in the search; the objective is without it."
    if frame["cv_percent"].notna().any():
        said["IIV"] = "IIV: CV = 100 √(exp(ω²) − 1) for random effects that enter as exp(η), SD = √ω² for the others."
    if frame["shrinkage_percent"].notna().any():
        epsilon = getattr(fit, "epsilon_shrinkage", None)
        residual = (
            f" Shrinkage of the residuals: {fixed_point(epsilon)} %." if epsilon is not None and math.isfinite(epsilon) else ""
        )
        said["shrinkage"] = f"Shrinkage = 100 (1 − SD(η) / ω).{residual}"
    said |= {f"rest {k}": sentence for k, sentence in enumerate(_rests(fit))}
    if idle := unused(fit):
        said["unused"] = f"Not listed: {', '.join(idle)}, of no use to {fit.method}: it takes everyone for the typical subject."
    count = sum(row.kind == "weight" for row in fit.parameters)
    if count and not weights:
        said["weights"] = f"Not listed: {count} network weights (nlme.table(fit, weights=True) lists them)."
    return said


def _rests(fit) -> list[str]:
    """Of every mixture the share of its last subpopulation, which is what the others leave."""
    shares: dict[str, list[float]] = {}
    for row in fit.parameters:
        if row.kind == "share":
            shares.setdefault(row.name.rpartition(".")[0], []).append(row.value)
    found = []
    for field, values in shares.items():
        last = getattr(fit.model, field).names[-1]
        found.append(f"{field}.{last} = {significant(1.0 - sum(values))}, what the other shares leave.")
    return found


def _of_posterior(posterior, weights: bool, level: float) -> ParameterTable:
    rows, title, notes = posterior_rows(posterior, weights, level)
    frame = ParameterTable(pd.DataFrame(rows, columns=[*COLUMNS, "r_hat", "ess"], index=[row["parameter"] for row in rows]))
    frame.title, frame.said = title, {f"draws {k}": note for k, note in enumerate(notes)}
    frame.headers = {"estimate": "Median", "se": "SD", "lower": f"{percent(level)} CrI"}
    return frame


class ParameterTable(Shown, pd.DataFrame):
    """A parameter table (see :func:`nlme.table`): a DataFrame that prints and exports as a reader wants it.

    Selecting rows keeps the exports; the numbers inside stay at full precision, rounding happens in what is shown.

    Attributes
    ----------
    title : model, method and objective
    said : topic -> how SE, interval, CV and shrinkage were computed, and what is missing
    headers : how the columns estimate, se and lower are headed, where not Estimate, SE and 95 % CI
    """

    _metadata = ["title", "said", "headers"]
    title: str = ""
    said: dict[str, str] = {}
    headers: dict[str, str] = {}

    @property
    def _constructor(self):
        return ParameterTable

    @property
    def _constructor_sliced(self):
        return pd.Series

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said below the table."""
        return tuple(self.said.values())

    def display(self) -> pd.DataFrame:
        """The table as text: estimates with four significant digits, SE with three, percentages with one decimal.

        The ends of an interval have as many decimals as its estimate.

        Columns without any entry (say, correlations of a diagonal Omega) are left out.
        """
        records = [_display_row(row, self.headers) for row in self.to_dict("records")]
        shown = pd.DataFrame(records, index=self.index)
        kept = ("Parameter", self.headers.get("estimate", "Estimate"))
        empty = [name for name in shown if name not in kept and shown[name].isin(["", MISSING]).all()]
        return shown.drop(columns=empty)

    def to_csv(self, path_or_buf=None, **options):
        """Comma-separated values at full precision, without the index (options as of ``DataFrame.to_csv``)."""
        return formats.csv(self._exact(), path_or_buf, **{"index": False, **options})

    def _exact(self) -> pd.DataFrame:
        return pd.DataFrame(self)

    def _panels(self) -> list[Panel]:
        if "estimate" not in self:
            raise TypeError("A parameter table without the column 'estimate' has no display form; use pandas' own exports.")
        shown = self.display()
        left = [k for k, name in enumerate(shown.columns) if name in ("Parameter", "Label", "Unit")]
        return [Panel(self.title, list(shown.columns), shown.to_numpy().tolist(), self.notes, left)]

    def __repr__(self) -> str:
        return Shown.__repr__(self) if "estimate" in self else repr(pd.DataFrame(self))

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return self.to_html() if "estimate" in self else pd.DataFrame(self)._repr_html_()


def end_shown(value: float, estimate: str) -> str:
    """The end of an interval with as many decimals as its estimate, more where that would show a 0 that is none."""
    text = alike(value, estimate)
    return significant(value, 2) if value and math.isfinite(value) and float(text) == 0 else text


def _display_row(row: dict, headers: dict[str, str]) -> dict[str, str]:
    """One row as a reader sees it; columns the user dropped count as missing."""
    number = lambda name: row.get(name, math.nan)  # noqa: E731
    estimate = significant(row["estimate"])
    interval = MISSING
    if not math.isnan(number("lower")) or not math.isnan(number("upper")):
        interval = f"[{end_shown(number('lower'), estimate)}, {end_shown(number('upper'), estimate)}]"
    variability = MISSING
    if not math.isnan(number("cv_percent")):
        variability = f"CV {fixed_point(row['cv_percent'])} %"
    elif not math.isnan(number("sd")):
        variability = f"SD {significant(row['sd'], 3)}"
    elif not math.isnan(number("correlation")):
        ends = [fixed_point(number(name), 2) for name in ("correlation_lower", "correlation_upper")]
        variability = f"corr. {fixed_point(row['correlation'], 2)}" + ("" if MISSING in ends else f" [{ends[0]}, {ends[1]}]")
    shown = {
        "Parameter": row.get("parameter", ""),
        "Label": row.get("label", ""),
        "Unit": row.get("unit", ""),
        headers.get("estimate", "Estimate"): estimate,
        headers.get("se", "SE"): "fixed" if row.get("fixed") else significant(number("se"), 3),
        "RSE %": fixed_point(number("rse_percent")),
        headers.get("lower", "95 % CI"): interval,
        "IIV": variability,
        "Shrinkage %": fixed_point(number("shrinkage_percent")),
    }
    if "r_hat" in row:
        del shown["RSE %"]
        shown |= {"R-hat": fixed_point(number("r_hat"), 3), "ESS": fixed_point(number("ess"), 0)}
    return shown
