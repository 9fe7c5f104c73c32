"""What a fit found, with its verdicts in words."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from nlme.dynamics.solvers import SOLVED
from nlme.errors import FitError
from nlme.fitting.evaluated import Evaluated
from nlme.language.model import Model
from nlme.search.problem import Penalty, Problem
from nlme.search.quasi_newton import CONVERGED, SENTENCES
from nlme.versions import now


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit(Evaluated):
    """A fitted model: the evaluation at the estimate, and how the search came there."""

    start: Model = None
    search_status: int = CONVERGED
    gradient: np.ndarray = None  # of the (penalised) objective in the unconstrained parameters
    penalty: float = 0.0  # at the estimate, what was added to the objective in the search
    penalty_slopes: tuple[np.ndarray, np.ndarray] | None = None  # its gradient and Hessian in the unconstrained parameters
    priors: dict[str, str] = dataclasses.field(default_factory=dict)  # in words
    history_columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    timings: dict[str, float] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    data_hash: str = ""
    date: str = dataclasses.field(default_factory=now)  # when it was made

    def problem(self, penalty: Penalty | None = None) -> Problem:
        """What the fit minimised, to be solved again: from elsewhere, with other weights of the subjects, with other data.

        Raises
        ------
        FitError
            The fit's search had a penalty and none is given: a fit does not keep the function.
        """
        if self.penalty and penalty is None:
            raise FitError(
                f"The fit was penalised (its penalty is {self.penalty:.4g}), and a fit does not keep the function. Give the same "
                f"penalty=, or the refits would be of another problem."
            )
        return Problem(self.method, self.model, self.layout, self.inventory, penalty)

    @property
    def n_parameters(self) -> int:
        return len(self.inventory)

    @property
    def aic(self) -> float:
        """objective_full + 2 P."""
        return self.objective_full + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """objective_full + P log(number of observations)."""
        return self.objective_full + self.n_parameters * math.log(self.n_observations)

    @property
    def converged(self) -> bool:
        return self.search_status == CONVERGED and bool(self.inner_converged.all()) and bool((self.status == SOLVED).all())

    @property
    def history(self):
        """DataFrame: iteration, objective (penalty included), gradient, elapsed seconds."""
        import pandas as pd

        return pd.DataFrame(self.history_columns)

    @functools.cached_property
    def messages(self) -> list[str]:
        found = [] if self.search_status == CONVERGED else [SENTENCES[self.search_status]]
        by_subject = self._subject_problems() + self._flat_problems() + self._monte_carlo_problems()
        return found + by_subject + self.bound_problems() + self._shrinkage_problems()

    @property
    def verdict(self) -> str:
        """The overall judgement in one line."""
        if not self.converged:
            return "Do not use as it is: " + self.messages[0]
        if self.messages:
            return f"Converged, with {len(self.messages)} remark{'s' if len(self.messages) > 1 else ''}: {self.messages[0]}"
        return "Converged; no problems found by the quick checks."

    @functools.cached_property
    def audit(self):
        """The quick checks of this fit as a table, problems first (one evaluation); :func:`nlme.audit` adds the slow ones."""
        from nlme.diagnostics.audit import quick_audit

        return quick_audit(self)

    def bound_problems(self) -> list[str]:
        """Parameters at the end of their range, in words."""
        return list(self._bounds.values())

    def _at_bounds(self) -> tuple[str, ...]:
        """Free parameters that stand at a bound, with the covariances of an effect whose variance does."""
        effects = [name for name in self._bounds if name in self._vanished]
        return tuple(
            name
            for name in self.inventory.names
            if name in self._bounds or any(_covaries(name, variance) for variance in effects)
        )

    @functools.cached_property
    def _vanished(self) -> list[str]:
        rows = [row for row in self.parameters if row.kind == "variance" and not row.fixed]
        return [row.name for row in rows if row.value < 1e-6]

    @functools.cached_property
    def _bounds(self) -> dict[str, str]:
        """Parameter at the end of its range -> what to say of it."""
        found = {}
        for row in self.parameters:
            if row.name in self._vanished:
                found[row.name] = (
                    f"{row.name} = {row.value:.1e}: the variance went to zero, its bound; the data show no variability of "
                    f"{row.random_effect} here. It has no standard error; leave the effect out or fix it."
                )
        for entry in self.inventory.entries:
            domain = entry.declaration.domain
            if math.isinf(domain.lower) and math.isinf(domain.upper):
                continue
            values, starts = np.asarray(entry.natural(self.model)), np.asarray(entry.natural(self.start))
            for name, value, start in zip(entry.names, values, starts, strict=True):
                if name in self.inventory.fixed:
                    continue
                width = domain.upper - domain.lower
                if math.isfinite(width):
                    near = min(value - domain.lower, domain.upper - value) < 1e-4 * width
                    side = domain.lower if value - domain.lower < domain.upper - value else domain.upper
                else:
                    near, side = value - domain.lower < 1e-5 * (start - domain.lower), domain.lower
                if near:
                    found[name] = f"{name} = {value:.4g} is at its bound {side:g}, where it has no standard error."
        return found

    def _shrinkage_problems(self) -> list[str]:
        high = self.shrinkage[lambda s: s > 30]
        if high.empty:
            return []
        listed = ", ".join(f"{name} {value:.0f} %" for name, value in high.items())
        return [f"Shrinkage above 30 % ({listed}): plots of these random effects and of individual predictions can mislead."]

    def table(self, **options):
        """The parameter table; see :func:`nlme.table`."""
        from nlme.reporting.table import table

        return table(self, **options)

    def save(self, path) -> None:
        """Write the fit to one file that :func:`nlme.load` opens, its folder made when absent; see :mod:`nlme.fitting.storage`."""
        from nlme.fitting.storage import save

        save(self, path)

    def __repr__(self) -> str:
        lines = [
            f"{type(self.model).__name__}, {self.method!r}",
            f"  objective {self.objective:.3f}   AIC {self.aic:.2f}   BIC {self.bic:.2f}   "
            f"{self._units}, {self.n_observations} observations",
            f"  {self.verdict}",
        ]
        if self.priors:
            lines.append(f"  Priors on {', '.join(self.priors)}: -2 log prior {self.penalty:.3f} is not part of the objective.")
        elif self.penalty:
            lines.append(f"  A penalty of {self.penalty:.3f} is not part of the objective.")
        return "\n".join(lines + [f"  ! {m}" for m in self.messages])


def _covaries(name: str, variance: str) -> bool:
    """Whether ``name`` is a covariance of the effect that has this variance: "omega.v,cl" of "omega.cl"."""
    field, _, effect = variance.rpartition(".")
    return "," in name and name.startswith(field + ".") and effect in name.rpartition(".")[2].split(",")


def require_fit(fit, what: str) -> None:
    """Refuse what was not fitted, for ``what`` judges a search or moves about an estimate.

    Raises
    ------
    FitError
        An evaluation, a posterior or anything else.
    """
    if isinstance(fit, Fit):
        return
    seen = "what nlme.evaluate returned, whose values were given and not estimated" if isinstance(fit, Evaluated) else type(fit).__name__
    raise FitError(f"{what} takes a fit (of nlme.fit); got {seen}.")
