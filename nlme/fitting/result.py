"""What a fit found, with its verdicts in words."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from nlme.errors import FitError
from nlme.fitting.evaluated import Evaluated
from nlme.fitting.starts import Starts
from nlme.language.augmented import FIELD, Augmented
from nlme.language.model import Model
from nlme.search.problem import Penalty, Problem
from nlme.search.quasi_newton import CONVERGED
from nlme.versions import now

NOTHING = 1e-8  # second derivative in a parameter by itself: a standard error of 10,000 in its logarithm
_DETERMINES = 0.999  # correlation at which the coordinates of the search have lost their slopes


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Fit(Evaluated):
    """A fitted model: the evaluation at the estimate, and how the search came there."""

    start: Model = None
    search_status: int = CONVERGED
    gradient: np.ndarray = None  # of the (penalised) objective in the unconstrained parameters
    information: np.ndarray | None = None  # half the scores' outer products, where these or a penalty make it regular
    curvature: np.ndarray | None = None  # the Hessian of the (penalised) objective, where the search made it of differences
    ended: dict[str, int] | None = None  # parameters at the lower (-1) or upper (1) end of their line; None: not looked at
    ran_away: tuple[str, ...] = ()  # those for which that is no end of their range
    unbounded: dict[str, int] = dataclasses.field(
        default_factory=dict
    )  # errors that would go to zero -> by how many observations
    undetermined: tuple[tuple[str, ...], ...] = ()  # combinations of parameters that the data leave open, found in the search
    starts: Starts | None = None  # from where it was searched
    bimodal: tuple = ()  # IDs of subjects in whose densities two modes were found
    training: tuple[str, ...] = ()  # how the fits of a training aid ended, in words
    stopped: tuple[str, ...] = ()  # weights that were trained until held-out subjects said to stop, and stay there
    validation: tuple[str, ...] = ()  # what cross-validation chose the penalty for, and whether the networks pay, in words
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
            The fit's search had a penalty and none is given: a fit does not keep the function; or it had priors.
        """
        if self.priors:
            raise FitError(
                f"The fit had priors ({', '.join(self.priors)}), which it keeps in words alone: fits again would be of another problem. "
                f"nlme.sample draws from the posterior; fit.covariance is by its curvature."
            )
        if self.penalty and penalty is None:
            raise FitError(
                f"The fit was penalised (its penalty is {self.penalty:.4g}), and a fit does not keep the function. Give the same "
                f"penalty=, or the refits would be of another problem."
            )
        return Problem(self.method, self.model, self.layout, self.inventory, penalty)

    @property
    def n_parameters(self) -> int:
        """Parameters that these data were asked for: those of the search, and weights that were trained on them before it."""
        return len(self.inventory) + len(self.stopped) + len(self._weights_learned_before)

    @property
    def _weights_learned_before(self) -> list[str]:
        """Weights of a shift (``nlme.augment``) that are held here, and were learned from these very data."""
        shift = getattr(self.model, FIELD) if isinstance(self.model, Augmented) else None
        if shift is None or shift.learned_from != self.data_hash:
            return []
        return [name for name in self.inventory.fixed if name.startswith(f"{FIELD}.") and name not in self.stopped]

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
        """Whether the estimate is a minimum that the data determine: no check of ``audit`` finds a problem."""
        return not self.audit.problems

    @property
    def history(self):
        """DataFrame: iteration, objective (penalty included), gradient, elapsed seconds."""
        import pandas as pd

        return pd.DataFrame(self.history_columns)

    @functools.cached_property
    def messages(self) -> list[str]:
        """Problems and remarks in words, most serious first: what the audit found."""
        return self.audit.problems + self.audit.remarks

    @property
    def verdict(self) -> str:
        """The overall judgement in one line: the first of ``audit``."""
        return self.audit.headline

    @functools.cached_property
    def audit(self):
        """The quick checks of this fit as a table, problems first; :func:`nlme.audit` adds the slow ones."""
        from nlme.diagnostics.audit import quick_audit

        return quick_audit(self)

    def _at_bounds(self) -> tuple[str, ...]:
        """Free parameters that stand at a bound, with the covariances of an effect whose variance does and those of which the data say
        nothing: none has a standard error."""
        return tuple(
            name
            for name in self.inventory.names
            if name in self.at_bounds
            or name in self.undetermined_covariances
            or any(_covaries(name, variance) for variance in self.at_bounds)
        )

    @functools.cached_property
    def undetermined_covariances(self) -> tuple[str, ...]:
        """Covariances on which no subject's objective depends, though no effect of the two determines the other: as where nobody has data
        on both."""
        if self.information is None:
            return ()
        known = np.diagonal(self.information)
        if self.penalty_slopes is not None:
            known = known + np.abs(np.diagonal(self.penalty_slopes[1]))
        return tuple(
            name
            for name, kind, d in zip(self.inventory.names, self.inventory.kinds, known, strict=True)
            if kind == "covariance" and d < NOTHING and abs(_correlation(name, self.estimates)) < _DETERMINES
        )

    @functools.cached_property
    def at_bounds(self) -> dict[str, str]:
        """Parameter at an end of its range -> what to say of it."""
        found = {}
        kinds = dict(zip(self.inventory.names, self.inventory.kinds, strict=True))
        values = {row.name: row.value for row in self.parameters}
        for name in self.inventory.names:
            if name in (*self.ran_away, *self.undetermined_covariances) or not (
                side := self._side(name, kinds[name], values[name])
            ):
                continue
            found[name] = _said_of_bound(name, kinds[name], values[name], side, self.ended is not None)
        return found

    def _side(self, name: str, kind: str, value: float) -> int:
        """-1 or 1 where a parameter is at the lower or upper end of its range, else 0."""
        if self.ended is not None and name in self.ended:
            return self.ended[name]
        domain = next(entry.declaration.domain for entry in self.inventory.entries if name in entry.names)
        if kind == "variance":
            return -1 if self.ended is None and value < 1e-6 else 0
        if kind == "covariance" or not math.isfinite(domain.upper - domain.lower):
            return 0
        width = domain.upper - domain.lower
        near = min(value - domain.lower, domain.upper - value) < 1e-4 * width
        return 0 if not near else -1 if value - domain.lower < domain.upper - value else 1

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


def _said_of_bound(name: str, kind: str, value: float, side: int, tested: bool) -> str:
    """``tested``: whether the objective was seen not to fall when a variance of zero is raised."""
    effect = name.rpartition(".")[2]
    if kind == "variance" and side < 0:
        why = f"; the data show no variability of {effect} here" if tested else ""
        return f"{name} = {value:.1e}: the variance went to zero, its bound{why}. It has no standard error; leave the effect out or fix it."
    if kind == "covariance":
        pair = " and ".join(effect.split(","))
        return f"{name} = {value:.4g}: the covariance of {pair} is at its bound, where one determines the other. It has no standard error."
    return f"{name} = {value:.4g} is at its {'lower' if side < 0 else 'upper'} bound, where it has no standard error."


def _correlation(name: str, values) -> float:
    """Of the two effects of the covariance ``name``; 1 where one does not vary."""
    field, _, pair = name.rpartition(".")
    spread = math.sqrt(math.prod(values[f"{field}.{effect}"] for effect in pair.split(",")))
    return values[name] / spread if spread > 0 else 1.0


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
    seen = (
        "what nlme.evaluate returned, whose values were given and not estimated"
        if isinstance(fit, Evaluated)
        else type(fit).__name__
    )
    raise FitError(f"{what} takes a fit (of nlme.fit); got {seen}.")
