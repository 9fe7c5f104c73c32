"""The population Fisher information matrix of a design, and what it says: standard errors to expect, efficiency.

Of a group of n subjects with mean E (n_s) and variance V (n_s, n_s), linearised in the random effects (``nlme.design.moments``),

    M_kl = n [ dE/dp_k' V^-1 dE/dp_l  +  1/2 tr( V^-1 dV/dp_k V^-1 dV/dp_l ) ]                       (full)

over the parameters p on their natural scale; "reduced" (block diagonal) takes dV/dp for zero where dE/dp is not, so that fixed
effects and variances are learned from different things.  Groups add up.  The reduced form is the closer to what estimation gives
in simulations (Nyberg et al. 2015).

Sources: Mentre, Mallet & Baccar (1997), Biometrika 84:429; Retout & Mentre (2003), J Biopharm Stat 13:209,
doi:10.1081/BIP-120019267; Foracchia, Hooker, Vicini & Ruggeri (2004), Comput Methods Programs Biomed 74:29 (PopED); Nyberg et al.
(2015), Br J Clin Pharmacol 79:6, doi:10.1111/bcp.12352 (software compared).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from nlme.data.population import Population
from nlme.design.groups import Design, Group
from nlme.design.moments import Question, Rows, blank_records, laid_out, question, rows_of
from nlme.errors import DataError, ModelError
from nlme.language.anatomy import anatomy_of
from nlme.language.model import Model, covariate_units, require_model
from nlme.parameters.inventory import names_of
from nlme.tables.numbers import fixed_point, significant
from nlme.tables.shown import Panel, Shown

if TYPE_CHECKING:
    import pandas as pd

FORMS = ("reduced", "full")
_SINGULAR = 1e-10  # smallest over largest eigenvalue of the scaled matrix


def information_of(rows: Rows, form: str) -> Float[np.ndarray, "P P"]:
    """The information of one subject whose samples have these rows."""
    inverse = np.linalg.inv(rows.a @ rows.a.T + np.diag(rows.variance))
    slopes = np.einsum("iqk,jq->ijk", rows.d_a, rows.a)
    d_v = slopes + slopes.transpose(1, 0, 2)
    d_v[np.arange(len(rows.mean)), np.arange(len(rows.mean))] += rows.d_variance
    if form == "reduced":
        d_v = d_v * ~of_mean(rows)
    turned = np.einsum("ij,jlk->ilk", inverse, d_v)
    return rows.d_mean.T @ inverse @ rows.d_mean + 0.5 * np.einsum("ijk,jil->kl", turned, turned)


def of_mean(rows: Rows) -> np.ndarray:
    """(P,) the parameters that move the mean of some sample."""
    return np.any(rows.d_mean != 0.0, axis=0)


@dataclass(frozen=True, eq=False, repr=False)
class Information(Shown):
    """The information matrix of a design.  It prints the standard errors to expect; ``to_csv`` writes them.

    Attributes
    ----------
    design : the design, or the population whose design it is
    asked : the model and the parameters
    values : (P, P)
    form : "reduced" or "full"
    linearisation : "FO" or "FOCE"
    """

    design: Design | Population
    asked: Question
    values: Float[np.ndarray, "P P"]
    form: str
    linearisation: str

    @property
    def names(self) -> list[str]:
        """The parameters that are to be estimated."""
        return self.asked.inventory.names

    @property
    def matrix(self) -> pd.DataFrame:
        """The information matrix by parameter."""
        return self._frame(self.values)

    @functools.cached_property
    def covariance(self) -> pd.DataFrame:
        """Its inverse: the covariance of the estimates to expect; NaN where it has none, see ``messages``."""
        if self._null is not None:
            return self._frame(np.full(self.values.shape, np.nan))
        scale = np.sqrt(np.diagonal(self.values))
        return self._frame(np.linalg.inv(self.values / np.outer(scale, scale)) / np.outer(scale, scale))

    @property
    def standard_errors(self) -> pd.Series:
        """Standard errors to expect, by parameter."""
        import pandas as pd

        return pd.Series(np.sqrt(np.diagonal(self.covariance)), index=self.names, name="SE")

    @property
    def rse(self) -> pd.Series:
        """100 SE / |value|, by parameter: for a variance of the variance itself, for a residual error as the model has it (a standard
        deviation; the RSE of its square is twice as large).  NaN for a value of 0."""
        values = np.abs(self.asked.values)
        return (100 * self.standard_errors / np.where(values > 0, values, np.nan)).rename("RSE %")

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """By parameter: value, unit, se, rse."""
        import pandas as pd

        units = {row.name: row.unit for row in self.asked.inventory.rows(self.asked.model)}
        return pd.DataFrame(
            {"value": self.asked.values, "unit": [units[n] for n in self.names], "se": self.standard_errors, "rse": self.rse},
            index=pd.Index(self.names, name="parameter"),
        )

    @property
    def log_det(self) -> float:
        """log det of the matrix; -infinity where it is singular."""
        return -np.inf if self._null is not None else float(np.linalg.slogdet(self.values)[1])

    @property
    def d_criterion(self) -> float:
        """det(M)^(1/P), PopED's and PFIM's D-criterion."""
        return float(np.exp(self.log_det / len(self.names)))

    def efficiency(self, other: Information) -> float:
        """D-efficiency of this design relative to ``other``: (det M / det M_other)^(1/P).

        0.8 means that ``other`` learns as much from 80 % of the subjects that this design would need.

        Raises
        ------
        ModelError
            Other parameters, values, form or linearisation; a design that does not determine all of them.
        """
        mine, theirs = (self.names, self.form, self.linearisation), (other.names, other.form, other.linearisation)
        if mine != theirs or not np.allclose(self.asked.values, other.asked.values):
            raise ModelError("Efficiency compares designs at the same parameters and values, by the same form and linearisation.")
        if other._null is not None:
            raise ModelError(f"The other design has no efficiency to compare with: {other.messages[0]}")
        return float(np.exp((self.log_det - other.log_det) / len(self.names)))

    @functools.cached_property
    def _null(self) -> list[str] | None:
        """The parameters of a direction about which the design says nothing; None if there is none."""
        return unknown_direction(self.values, self.names)

    @property
    def messages(self) -> tuple[str, ...]:
        """What the design does not determine."""
        if self._null is None:
            return ()
        alone = len(self._null) == 1
        what = self._null[0] if alone else f"a combination of {', '.join(self._null)}"
        return (f"The design does not determine {what}: more or other samples are needed, or fixed={self._null[:1]!r}.",)

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(values, index=self.names, columns=self.names)

    def _panels(self) -> list[Panel]:
        rows = [
            [name, row.unit, significant(row.value), significant(row.se, 3), fixed_point(row.rse)]
            for name, row in zip(self.names, self.table.itertuples(), strict=True)
        ]
        title = f"Expected standard errors, {self.form} information matrix, {self.linearisation} linearisation"
        of_groups = isinstance(self.design, Design)
        notes = repr(self.design).splitlines() if of_groups else [f"{len(self.design)} subjects of a data set."]
        if self._null is None:
            notes.append(f"log det {self.log_det:.3f}, D-criterion {significant(self.d_criterion)}.")
        notes.append("RSE = 100 SE / |value|, of the variance itself for a variance, of a residual error as the model has it.")
        return [Panel(title, ["Parameter", "Unit", "Value", "SE", "RSE %"], rows, [*self.messages, *notes], left=(0, 1))]

    def _exact(self) -> pd.DataFrame:
        return self.table


def unknown_direction(matrix: np.ndarray, names: Sequence[str]) -> list[str] | None:
    """The parameters of a direction in which a matrix holds nothing; None if it holds something in all."""
    diagonal = np.diagonal(matrix)
    if np.any(~(diagonal > 0)):
        return [name for name, value in zip(names, diagonal, strict=True) if not value > 0][:1]
    scale = np.sqrt(diagonal)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    if values[0] > _SINGULAR * values[-1]:
        return None
    weights = np.abs(vectors[:, 0])
    return [names[k] for k in np.argsort(-weights) if weights[k] > 0.1]


def information(
    model: Any,
    design: Design | Group | Population,
    *,
    form: str = "reduced",
    linearisation: str = "FO",
    fixed: Iterable[str] = (),
    draws: int = 100,
    key=None,
) -> Information:
    """The population Fisher information matrix of a design, with the standard errors to expect of an estimation.

    Parameters
    ----------
    model
        A model with the values expected, or a fit.
    design
        A :class:`nlme.Design`, one :class:`nlme.Group`, or a Population: then the doses and the times of observation of its
        subjects are the design, whatever was observed.
    form
        "reduced" (block diagonal) or "full".
    linearisation
        "FO" about random effects of zero, or "FOCE": the mean over ``draws`` of the random effects, with ``key``.
    fixed
        Parameters that count as known; so do variances of exactly 0.

    Returns
    -------
    Information
        ``.table``, ``.rse``, ``.standard_errors``, ``.matrix``, ``.covariance``, ``.log_det``, ``.efficiency(other)``.

    Raises
    ------
    ModelError
        A model that has no such matrix (counts, events, correlated residuals, subpopulations, effects above the subject), a sample
        without a distribution, a covariate that the groups lack.
    DataError
        A design that is none, an endpoint that the model does not have.
    """
    require_form(form)
    model = model_in(model)
    fixed = names_of(fixed)
    if isinstance(design, Group):
        design = Design([design])
    if isinstance(design, Design):
        layout, sizes = layout_of(model, design), np.array([group.size for group in design.groups])
    elif isinstance(design, Population):
        layout, sizes = laid_out(model, lambda value: blank_records(design, value)), np.ones(len(design))
    else:
        raise DataError(f"information(model, design): a Design, a Group or a Population; got {type(design).__name__}.")
    asked = question(layout, fixed, linearisation, draws, key)
    each = [np.mean([information_of(rows, form) for rows in points], axis=0) for points in rows_of(asked, layout)]
    matrix = np.tensordot(sizes, each, axes=1)
    return Information(design, asked, matrix, form, linearisation)


def model_in(given: Any) -> Any:
    """The model of a fit, or the model itself."""
    return given if isinstance(given, Model) else getattr(given, "model", given)


def layout_of(model: Any, design: Design):
    """The layout of one subject for each group.

    Raises
    ------
    DataError
        A covariate of the model that the groups lack.
    """
    model = require_model(model)
    units = {name: unit or None for name, unit in covariate_units(model).items()}
    missing = [name for name in units if name not in design.groups[0].covariates]
    if missing:
        raise DataError(f"The model reads {', '.join(missing)}: give every group its value, covariates={{{missing[0]!r}: ...}}.")
    endpoints = anatomy_of(model).endpoints
    return laid_out(model, lambda value: design.representatives(endpoints, units, value))


def require_form(form: str) -> None:
    """Refuse a form that there is not.

    Raises
    ------
    ModelError
    """
    if form not in FORMS:
        raise ModelError(f"form is 'reduced' (block diagonal) or 'full'; got {form!r}.")
