"""The parameter table of a fit: a DataFrame at full precision, and the same table as a reader wants to see it."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from nlme.reporting import formats
from nlme.reporting.numbers import MISSING, alike, fixed_point, significant

NORMAL_QUANTILE = 1.959963984540054  # 97.5 % point of the standard normal distribution

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
    "shrinkage_percent",
)


def table(fit, weights: bool = False) -> ParameterTable:
    """Parameter table of a fit.

    Parameters
    ----------
    fit : Fit
    weights : list the network weights one by one; otherwise a note says how many there are

    Returns
    -------
    ParameterTable
        A DataFrame with one row per parameter in the model's order, indexed by name, at full precision:

        ========================  =====================================================================================
        parameter label unit      as the model declares them
        kind                      "fixed effect", "variance", "covariance", "residual" or "weight"
        estimate, fixed           natural scale; ``fixed`` is True for what the fit did not estimate
        se, rse_percent           standard error and 100 se / abs(estimate); NaN where fixed or not identified
        lower, upper              95 % Wald interval on the natural scale, estimate -+ 1.96 se
        cv_percent                variability between subjects, for the variance omega2 of an effect that enters as
                                  exp(eta): 100 sqrt(exp(omega2) - 1)
        sd                        sqrt(omega2), for every variance of a random effect
        correlation               for a covariance: of its two random effects
        shrinkage_percent         100 (1 - sd(eta) / omega), for every variance of a random effect
        ========================  =====================================================================================

        Printed, or exported with ``to_markdown``, ``to_html``, ``to_latex`` or ``to_rtf``, it shows significant digits and
        says below how SE, interval, CV and shrinkage were computed.
    """
    errors = fit.covariance.standard_errors
    variances = {row.name: row.value for row in fit.parameters if row.kind == "variance"}
    rows = []
    for row in fit.parameters:
        if row.kind == "weight" and not weights:
            continue
        se = np.nan if row.fixed else float(errors.get(row.name, np.nan))
        variance = row.kind == "variance" and row.random_effect is not None
        log_normal = variance and row.transform == "log-normal"
        rows.append(
            {
                "parameter": row.name,
                "label": row.label or "",
                "unit": row.unit or "",
                "kind": row.kind,
                "estimate": float(row.value),
                "fixed": bool(row.fixed),
                "se": se,
                "rse_percent": 100 * se / abs(row.value) if row.value else np.nan,
                "lower": row.value - NORMAL_QUANTILE * se,
                "upper": row.value + NORMAL_QUANTILE * se,
                "cv_percent": 100 * math.sqrt(math.expm1(row.value)) if log_normal else np.nan,
                "sd": math.sqrt(row.value) if variance else np.nan,
                "correlation": _correlation(row, variances),
                "shrinkage_percent": float(fit.shrinkage.get(row.random_effect, np.nan)) if variance else np.nan,
            }
        )
    frame = ParameterTable(pd.DataFrame(rows, columns=list(COLUMNS), index=[row["parameter"] for row in rows]))
    frame.title = f"{type(fit.model).__name__}, {fit.method}: objective {fit.objective:.3f}"
    frame.notes = _notes(fit, frame, weights)
    return frame


def _correlation(row, variances: dict[str, float]) -> float:
    """Correlation of the two effects of a covariance named 'omega.v,cl'; NaN for any other row."""
    if row.kind != "covariance":
        return np.nan
    prefix, _, pair = row.name.rpartition(".")
    both = [variances.get(f"{prefix}.{effect}", np.nan) for effect in pair.split(",")]
    return row.value / math.sqrt(math.prod(both)) if len(both) == 2 else np.nan


_KINDS = {
    "sandwich": "the sandwich R⁻¹ S R⁻¹",
    "R": "the inverse Hessian of the objective (R⁻¹)",
    "S": "the cross product of the subjects' gradients (S⁻¹)",
}


def _notes(fit, frame: pd.DataFrame, weights: bool) -> tuple[str, ...]:
    notes = []
    if (frame["se"].notna()).any():
        kind = _KINDS.get(fit.covariance.kind, fit.covariance.kind)
        notes.append(
            f"SE: from {kind}, natural scale. 95 % CI: Wald, estimate ± 1.96 SE. RSE = 100 SE / |estimate| "
            "(of the variance itself for a variance)."
        )
    if frame.loc[~frame["fixed"], "se"].isna().any():
        notes.append(f"Standard errors are missing: {fit.covariance.verdict}")
    if frame["cv_percent"].notna().any():
        notes.append("IIV: CV = 100 √(exp(ω²) − 1) for random effects that enter as exp(η), SD = √ω² for the others.")
    if frame["shrinkage_percent"].notna().any():
        epsilon = getattr(fit, "epsilon_shrinkage", None)
        residual = f" Shrinkage of the residuals: {fixed_point(epsilon)} %." if epsilon is not None else ""
        notes.append(f"Shrinkage = 100 (1 − SD(η) / ω).{residual}")
    count = sum(row.kind == "weight" for row in fit.parameters)
    if count and not weights:
        notes.append(f"Not listed: {count} network weights (nlme.table(fit, weights=True) lists them).")
    return tuple(notes)


class ParameterTable(pd.DataFrame):
    """A parameter table (see :func:`nlme.table`): a DataFrame that prints and exports as a reader wants it.

    Selecting rows keeps the exports; the numbers inside stay at full precision, rounding happens in what is shown.

    Attributes
    ----------
    title : model, method and objective
    notes : how SE, interval, CV and shrinkage were computed, and what is missing
    """

    _metadata = ["title", "notes"]
    title: str = ""
    notes: tuple[str, ...] = ()

    @property
    def _constructor(self):
        return ParameterTable

    @property
    def _constructor_sliced(self):
        return pd.Series

    def display(self) -> pd.DataFrame:
        """The table as text: estimates with four significant digits, SE with three, percentages with one decimal.

        The ends of an interval have as many decimals as its estimate.

        Columns without any entry (say, correlations of a diagonal Omega) are left out.
        """
        records = [_display_row(row) for row in self.to_dict("records")]
        shown = pd.DataFrame(records, index=self.index)
        empty = [name for name in shown if name not in ("Parameter", "Estimate") and shown[name].isin(["", MISSING]).all()]
        return shown.drop(columns=empty)

    def to_csv(self, path_or_buf=None, **options):
        """Comma-separated values at full precision, without the index (options as of ``DataFrame.to_csv``)."""
        return pd.DataFrame(self).to_csv(path_or_buf, **{"index": False, **options})

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Pipe table of the display form, with its notes; written to ``path`` when one is given."""
        return _written(formats.markdown(*self._cells()), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """HTML fragment of the display form with inline styles; pasted from a browser into Word it stays a table."""
        return _written(formats.html_table(*self._cells(), caption=self.title), path)

    def to_latex(self, path: str | Path | None = None, caption: str | None = None, label: str = "") -> str:
        """LaTeX ``table`` of the display form; the preamble needs booktabs."""
        return _written(formats.latex(*self._cells(), caption=self.title if caption is None else caption, label=label), path)

    def to_rtf(self, path: str | Path | None = None) -> str:
        """Rich Text Format of the display form: Word opens it, and inserts or pastes it as a Word table."""
        return _written(formats.rtf(*self._cells(), caption=self.title), path)

    def _cells(self):
        if "estimate" not in self:
            raise TypeError("A parameter table without the column 'estimate' has no display form; use pandas' own exports.")
        shown = self.display()
        left = [k for k, name in enumerate(shown.columns) if name in ("Parameter", "Label", "Unit")]
        return list(shown.columns), shown.to_numpy().tolist(), self.notes, left

    def __repr__(self) -> str:
        if "estimate" not in self:
            return repr(pd.DataFrame(self))
        text = self.display().to_string(index=False)
        width = max(80, text.index("\n"))
        notes = [textwrap.fill(note, width) for note in self.notes]
        return "\n".join([*([self.title] if self.title else []), text, *notes])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return self.to_html() if "estimate" in self else pd.DataFrame(self)._repr_html_()


def _display_row(row: dict) -> dict[str, str]:
    """One row as a reader sees it; columns the user dropped count as missing."""
    number = lambda name: row.get(name, np.nan)  # noqa: E731
    estimate = significant(row["estimate"])
    interval = MISSING
    if not math.isnan(number("lower")):
        interval = f"[{alike(row['lower'], estimate)}, {alike(row['upper'], estimate)}]"
    variability = MISSING
    if not math.isnan(number("cv_percent")):
        variability = f"CV {fixed_point(row['cv_percent'])} %"
    elif not math.isnan(number("sd")):
        variability = f"SD {significant(row['sd'], 3)}"
    elif not math.isnan(number("correlation")):
        variability = f"corr. {fixed_point(row['correlation'], 2)}"
    return {
        "Parameter": row.get("parameter", ""),
        "Label": row.get("label", ""),
        "Unit": row.get("unit", ""),
        "Estimate": estimate,
        "SE": "fixed" if row.get("fixed") else significant(number("se"), 3),
        "RSE %": fixed_point(number("rse_percent")),
        "95 % CI": interval,
        "IIV": variability,
        "Shrinkage %": fixed_point(number("shrinkage_percent")),
    }


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
