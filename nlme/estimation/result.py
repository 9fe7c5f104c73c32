"""What an evaluation or a fit found, with its verdicts in words."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, ModelError
from nlme.estimation.asymptotic import CovarianceOfEstimates, covariance_of_estimates
from nlme.estimation.conditional import Conditional, conditional
from nlme.estimation.monte_carlo import MonteCarlo, monte_carlo
from nlme.estimation.objective import Evaluation, evaluate_subjects, hessians_at
from nlme.estimation.outer import CONVERGED, SENTENCES
from nlme.estimation.predictions import COLUMNS, prediction_table
from nlme.language.anatomy import MEMBER, OCCASION, rows_of
from nlme.language.density import effects_from
from nlme.language.effects import effect_transforms
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model
from nlme.language.solution import failure
from nlme.marginal.base import Method
from nlme.marginal.laplace import Laplace
from nlme.marginal.quadrature import ImportanceSampling, Nodes
from nlme.parameters.covariance import OCCASION as OCCASION_LEVEL
from nlme.parameters.inventory import Inventory, ParameterRow
from nlme.structure.solvers import SENTENCES as SOLVER_SENTENCES
from nlme.structure.solvers import SOLVED, Tolerances

_FLAT = 0.1  # of the prior's curvature: by a second derivative of this size one subject's objective is 2.3 lower


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluated:
    """The objective of a model on a population at given parameters.

    Attributes
    ----------
    method, model, population : what was evaluated
    fixed : names of the parameters that count as not estimated
    values : (N,) -2 log L of each subject, without n log 2 pi; of each site, where subjects share the random effects of one
    b : (N, q) standardised modes of the random effects, eta = L b; in a mixture those of the likeliest subpopulation.  A site's
        effects come last, the same for all its subjects, whose own are the modes given those
    given : (N,) where subjects share the random effects of a site, -2 log L of each given those at their mode
    """

    method: Method
    model: Model
    population: Any
    fixed: tuple[str, ...]
    values: np.ndarray
    b: np.ndarray
    probabilities: np.ndarray
    decrement: np.ndarray
    inner_iterations: np.ndarray
    inner_converged: np.ndarray
    status: np.ndarray
    given: np.ndarray | None = None

    @functools.cached_property
    def layout(self) -> Layout:
        return lay_out(self.model, self.population, members=self.members)

    @property
    def members(self) -> np.ndarray:
        """(N,) position of every subject's likeliest subpopulation."""
        return np.argmax(self.probabilities, axis=1)

    @property
    def membership(self):
        """DataFrame, one row per subject: the probability of each subpopulation given its data, and the likeliest."""
        import pandas as pd

        names = self.layout.anatomy.subpopulations
        if not names:
            raise ModelError(f"{type(self.model).__name__} has no subpopulations; declare them with nlme.mixture(...).")
        table = pd.DataFrame(self.probabilities, index=self._index(), columns=list(names))
        return table.assign(likeliest=[names[k] for k in self.members])

    @functools.cached_property
    def inventory(self) -> Inventory:
        return Inventory(self.model, self.fixed)

    @property
    def objective(self) -> float:
        """-2 log L without the constant n log 2 pi: NONMEM's objective function value."""
        return float(np.sum(self.values))

    @property
    def objective_full(self) -> float:
        """-2 log L with all constants, as Monolix, nlme and lme4 print it."""
        return self.objective + self._n_normal * math.log(2 * math.pi)

    @functools.cached_property
    def _n_normal(self) -> int:
        """Observations whose 1/2 log 2 pi the objective leaves out: those with a normal density on some scale."""
        if all(law.normal and not law.censoring for law in self.layout.anatomy.laws):
            return self.n_observations
        normal = ~self.predictions["IWRES"].isna()
        return int(normal.sum())

    @property
    def n_observations(self) -> int:
        return self.population.n_observations

    @functools.cached_property
    def effects(self) -> tuple[str, ...]:
        return self.layout.anatomy.effects

    @functools.cached_property
    def _eta(self) -> np.ndarray:
        if not self.effects:
            return np.zeros((len(self.b), 0))
        return np.asarray(jax.vmap(effects_from, (None, None, 0))(self.layout.anatomy, self.model, jnp.asarray(self.b)))

    @property
    def eta(self):
        """DataFrame of the conditional modes, one row per subject, one column per random effect."""
        import pandas as pd

        return pd.DataFrame(self._eta, index=self._index(), columns=list(self.effects))

    @property
    def modes(self) -> dict[str, np.ndarray]:
        """Random effect -> its modes, each draw of its distribution once: of a site, not of each of its subjects."""
        found = dict(zip(self.effects, self._eta.T, strict=True))
        if self.layout.sites is not None:
            found |= {name: found[name][self.layout.sites.first] for name in self.layout.anatomy.shared}
        return found

    @property
    def subjects(self):
        """DataFrame, one row per subject: observations, objective, whether its mode converged, what remains of the gradient.

        Where subjects share the random effects of a site, the objective is that given those at their mode (see ``sites``).
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "n_observations": [s.n_observations for s in self.population],
                "objective": self.values if self.given is None else self.given,
                "converged": self.inner_converged & (self.status == SOLVED),
                "gradient": np.sqrt(np.maximum(self.decrement, 0.0)),
                "message": [self._subject_message(i) for i in range(len(self.status))],
            },
            index=self._index(),
        )

    def _subject_message(self, i: int) -> str:
        if self.status[i] != SOLVED:
            return SOLVER_SENTENCES[int(self.status[i])]
        if not self.inner_converged[i]:
            return f"the mode of its random effects was not found in {int(self.inner_iterations[i])} iterations"
        return ""

    @property
    def sites(self):
        """DataFrame, one row per site (value of the column that random effects are shared by): how many subjects it has, its
        objective, and the modes of its random effects.

        Raises
        ------
        ModelError
            The model has no level above the subject.
        """
        import pandas as pd

        anatomy, sites = self.layout.anatomy, self.layout.sites
        if sites is None:
            raise ModelError(
                f"{type(self.model).__name__} has no random effects above the subject; declare them with "
                'nlme.covariance(..., per="site").'
            )
        effects = dict(zip(anatomy.shared, self._eta[sites.first, anatomy.inner :].T, strict=True))
        index = pd.Index(sites.labels, name=sites.column)
        return pd.DataFrame({"n_subjects": sites.sizes, "objective": self.values, **effects}, index=index)

    @functools.cached_property
    def parameters(self) -> list[ParameterRow]:
        """Every parameter of the model with name, label, unit, value and whether it was fixed."""
        return self.inventory.rows(self.model, effect_transforms(self.model, self.population, self.layout.anatomy))

    @functools.cached_property
    def predictions(self):
        """DataFrame, one row per observation in file order: ID TIME ENDPOINT DV PRED IPRED RES IRES WRES IWRES CPRED CWRES."""
        import pandas as pd

        columns = prediction_table(self.method, self.model, self.layout, jnp.asarray(self.b))
        subjects = list(self.population)
        who, record = columns["subject"], columns["record"]
        endpoints = self.layout.anatomy.endpoints if len(self.population.endpoints) == 1 else self.population.endpoints
        return pd.DataFrame(
            {
                "ID": [subjects[i].id for i in who],
                "TIME": [float(subjects[i].time[j]) for i, j in zip(who, record, strict=True)],
                "ENDPOINT": [endpoints[int(subjects[i].endpoint[j])] for i, j in zip(who, record, strict=True)],
                "DV": columns["DV"],
                **{name: columns[name] for name in COLUMNS},
            }
        )

    @property
    def individual(self):
        """DataFrame of the individual parameters at the modes, one row per subject, or per subject and occasion (ID, OCC).

        Covariates that change are those of the first record (of the subject, of the occasion).  Means given the data:
        ``conditional()``.
        """
        import pandas as pd

        who, cov, index = self._individual_rows
        anatomy = self.layout.anatomy
        table = jax.vmap(lambda eta, cov: rows_of(self.model, anatomy, eta, cov, 1))(jnp.asarray(self._eta[who]), cov)
        return pd.DataFrame({name: np.asarray(v)[:, 0] for name, v in table.items()}, index=index)

    @functools.cached_property
    def _individual_rows(self):
        """The rows of ``individual``: subject of each (R,), what the model is told there (dict of (R, 1)), and their index."""
        import pandas as pd

        anatomy, population = self.layout.anatomy, list(self.population)
        rows = [(i, 0) for i in range(len(population))]
        if anatomy.by_occasion:
            rows = [(i, j) for i, s in enumerate(population) for j in np.unique(s.occasion, return_index=True)[1]]
        cov = {name: np.array([[population[i].covariates[name][j]] for i, j in rows], float) for name in anatomy.covariates}
        index = pd.Index([population[i].id for i, _ in rows], name="ID")
        if anatomy.by_occasion:
            occasions = [f"{population[i].occasion[j]:g}" for i, j in rows]
            cov[OCCASION] = np.array([[float(anatomy.occasions.index(label))] for label in occasions])
            index = pd.MultiIndex.from_arrays([index, [int(label) for label in occasions]], names=["ID", "OCC"])
        if anatomy.mixture:
            cov[MEMBER] = self.members[[i for i, _ in rows]][:, None]
        return np.array([i for i, _ in rows]), cov, index

    def conditional(self, method: Nodes | None = None) -> Conditional:
        """Means and standard deviations of random effects and individual parameters given each subject's data (Monolix's).

        ``method`` says over which nodes: ImportanceSampling(1000) by default, with the effective number of draws and the Pareto k
        of every subject in ``.draws``; or nlme.AGQ(...).  See :mod:`nlme.estimation.conditional`.

        Raises
        ------
        ModelError
            A model or a method without random effects; nodes by another method.
        """
        if not self.method.individuals:
            raise ModelError(f"{self.method!r} takes everyone for the typical subject; fit by a method with random effects.")
        return conditional(method, self.model, self.layout, self.b, self._index(), self._individual_rows)

    @property
    def shrinkage(self):
        """Series, per random effect: 100 (1 - sd(eta) / omega) %, sd about the mean (n - 1); per occasion, over all that were
        met; per site, over the sites."""
        import pandas as pd

        anatomy = self.layout.anatomy
        if not self.method.individuals:
            return pd.Series(np.nan, index=list(anatomy.words), name="shrinkage")
        found = {}
        for covariance in anatomy.levels(self.model):
            for name, sd in zip(covariance.names, np.asarray(covariance.sd), strict=True):
                eta = self._eta[:, [k for k, effect in enumerate(anatomy.effects) if effect.split("[")[0] == name]]
                if covariance.per == OCCASION_LEVEL:
                    eta = eta[self._met]
                elif covariance.per == anatomy.above:
                    eta = eta[self.layout.sites.first]
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[name] = 100.0 * (1.0 - np.std(eta, ddof=1) / sd) if np.size(eta) > 1 else np.nan
        return pd.Series(found, name="shrinkage", dtype=float)

    @functools.cached_property
    def _met(self) -> np.ndarray:
        """(N, O) which occasions the observations of each subject are from."""
        labels = self.layout.anatomy.occasions
        seen = [{f"{o:g}" for o in s.occasion[s.is_observation]} for s in self.population]
        return np.array([[label in own for label in labels] for own in seen])

    @property
    def epsilon_shrinkage(self) -> float:
        """100 (1 - sd(IWRES)) %, over the observations that have one; NaN where fewer than two do."""
        known = self.predictions["IWRES"].dropna()
        return float(100.0 * (1.0 - np.std(known, ddof=1))) if len(known) > 1 else math.nan

    def _index(self):
        import pandas as pd

        return pd.Index([s.id for s in self.population], name="ID")

    def _subject_problems(self) -> list[str]:
        table = self.subjects
        bad = table[~table["converged"]]
        if bad.empty:
            return []
        listed = "; ".join(f"subject {i}: {row['message']}" for i, row in bad.head(5).iterrows())
        more = f"; and {len(bad) - 5} more (see .subjects)" if len(bad) > 5 else ""
        return [f"{len(bad)} of {len(table)} subjects have no reliable mode, so the objective is not reliable: {listed}{more}."]

    @functools.cached_property
    def monte_carlo(self) -> MonteCarlo | None:
        """Monte-Carlo error of an objective found by importance sampling, with the Pareto k of every subject; else None."""
        if not isinstance(self.method, ImportanceSampling):
            return None
        return monte_carlo(self.method, self.model, self.layout, self.b)

    def _monte_carlo_problems(self) -> list[str]:
        return [] if self.monte_carlo is None else self.monte_carlo.problems([s.id for s in self.population])

    @functools.cached_property
    def least_curvature(self) -> np.ndarray:
        """(N,) smallest eigenvalue of the second derivatives of every subject's Phi in its own effects, at its mode; that of the
        prior alone is 1."""
        hessians = hessians_at(self.method, self.layout.anatomy, self.model, self.layout.arrays, jnp.asarray(self.b))
        own = np.asarray(hessians)[:, : self.layout.anatomy.inner, : self.layout.anatomy.inner]
        return np.array([np.linalg.eigvalsh(h)[0] if np.isfinite(h).all() else np.nan for h in own])

    def _flat_problems(self) -> list[str]:
        """Subjects whose log determinant Laplace's method should not take."""
        if not isinstance(self.method, Laplace) or not self.layout.anatomy.inner or self.layout.anatomy.mixture:
            return []
        found = [(value, s.id) for value, s in zip(self.least_curvature, self.population, strict=True) if value < _FLAT]
        if not found:
            return []
        listed = "; ".join(f"subject {i}: {value:.2g}" for value, i in sorted(found)[:5])
        return [
            f"The density of {len(found)} subject{'s' if len(found) > 1 else ''} is nearly flat at its mode in some direction of the "
            f"random effects (smallest second derivative, where the random effects' own distribution has 1: {listed}). "
            "Laplace's objective goes to minus infinity where that reaches 0, so a search can be drawn there or be stopped by it; "
            "use nlme.AGQ() or nlme.ImportanceSampling()."
        ]

    @property
    def _units(self) -> str:
        """How many subjects there are, and how many sites they belong to."""
        sites = self.layout.sites
        return f"{len(self.status)} subjects" + ("" if sites is None else f" of {len(sites)} values of {sites.column}")

    @property
    def messages(self) -> list[str]:
        """Problems in words, most serious first."""
        return self._subject_problems() + self._flat_problems() + self._monte_carlo_problems()

    def __repr__(self) -> str:
        error = "" if self.monte_carlo is None else f" ± {self.monte_carlo.error:.3g}"
        lines = [f"{type(self.model).__name__}, {self.method!r}: objective {self.objective:.4f}{error} ({self._units})"]
        return "\n".join(lines + [f"  ! {m}" for m in self.messages])


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
    def covariance(self) -> CovarianceOfEstimates:
        """Covariance of the estimates, computed on first use (2 P + 1 evaluations of the gradient).

        The sandwich by default; R with priors, and where subjects share the random effects of sites, whose scores are too few as
        a rule (``of_kind("sandwich")`` takes them all the same).
        """
        u = self.inventory.unconstrained(self.model)

        def evaluated(v, starts, bend=None) -> Evaluation:
            return evaluate_subjects(
                self.method, self.layout.anatomy, self.inventory, self.model, self.layout.arrays, v, starts, bend=bend
            )

        here = evaluated(u, self.b)

        def gradients(v):
            # the modes are followed from the estimate to the points about it
            return np.asarray(evaluated(v, here.followed(np.asarray(v - u)), here.bend).gradient)

        kind = "R" if self.priors or self.layout.sites is not None else "sandwich"
        return covariance_of_estimates(self.inventory, self.model, gradients, u, self.penalty_slopes, kind, self._at_bounds())

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

    def by(self, method: Method) -> Evaluated:
        """The fitted model's objective by another method, so that fits by different methods stand on one scale."""
        from nlme.estimation.fit import evaluate

        return evaluate(self.model, self.population, method)

    def table(self, **options):
        """The parameter table; see :func:`nlme.table`."""
        from nlme.reporting.table import table

        return table(self, **options)

    def save(self, path) -> None:
        """Write the fit to one file that :func:`nlme.load` opens; see :mod:`nlme.estimation.storage`."""
        from nlme.estimation.storage import save

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


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in ("nlme", "jax", "jaxlib", "equinox", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def require_finite(values: np.ndarray, status: np.ndarray, layout: Layout, model: Model, where: str, ode: Tolerances) -> None:
    """Refuse to go on from an objective that is not a number, naming the subjects and the likely cause.

    Raises
    ------
    FitError
        Any subject's objective is not finite, or its ODE was not solved.
    """
    bad = np.flatnonzero(~np.isfinite(values) | (status != SOLVED))
    if not len(bad):
        return
    subjects = list(layout.population)
    lines = []
    for i in bad[:5]:
        why = _why_not_solved(model, layout, i, int(status[i]), ode) or _why_not_finite(model, layout, i)
        lines.append(f"  subject {subjects[i].id}: {why}")
    more = [f"  ... and {len(bad) - 5} more subjects"] if len(bad) > 5 else []
    raise FitError("\n".join([f"The objective is not a finite number {where}:", *lines, *more]))


def _why_not_solved(model: Model, layout: Layout, i: int, status: int, ode: Tolerances) -> str:
    """Why and where the solve of one subject failed; at eta = 0 if it fails there too."""
    if status == SOLVED:
        return ""
    data, _ = layout.subject(i)
    typical = failure(model, layout.anatomy, data, jnp.zeros(len(layout.anatomy.effects)), ode)
    return typical or f"{SOLVER_SENTENCES[status]} (at random effects met in the search for its mode; at eta = 0 it is solved)"


def _why_not_finite(model: Model, layout: Layout, i: int) -> str:
    """What is wrong with one subject's density at eta = 0."""
    from nlme.marginal.base import Subject
    from nlme.marginal.foce import FOCEI

    data, records = layout.subject(i)
    zero = jnp.zeros(len(layout.anatomy.effects))
    at = Subject(FOCEI(), layout.anatomy, data, model, zero, 0).moments(model, zero)
    mean, variance, z = np.asarray(at.mean), np.asarray(at.variance), np.asarray(at.transformed)
    subject = list(layout.population)[i]
    real = records >= 0

    def place(bad):
        j = records[np.flatnonzero(bad & real)[0]]
        return f"row {subject.rows[j]} (time {subject.time[j]:g}, DV {subject.dv[j]:g})"

    if (~np.isfinite(z) & real).any():
        sample = np.flatnonzero(~np.isfinite(z) & real)[0]
        endpoint = next(k for k, (a, b) in enumerate(data.spans) if a <= sample < b)
        law = layout.anatomy.laws[endpoint]
        if "log scale" in law.words:
            return f"{place(~np.isfinite(z))}: the observation has no logarithm, and the error model is log-normal; DV must be positive."
        return f"{place(~np.isfinite(z))}: the error model is {law.words}, which has no place for this value."
    if (~np.isfinite(mean) & real).any():
        return f"{place(~np.isfinite(mean))}: the prediction is {mean[~np.isfinite(mean) & real][0]} at the starting values."
    factor = np.asarray(at.log_factor)
    if (~np.isfinite(factor) & real).any():
        bad = ~np.isfinite(factor)
        return f"{place(bad)}: the log density of this observation is {factor[bad & real][0]} at eta = 0 (impossible under the model)."
    if ((variance <= 0) & real).any():
        return (
            f"{place(variance <= 0)}: the residual variance is 0, because the prediction is 0 and the error has no additive part. "
            f"Add one (nlme.combined), or leave the record out (MDV = 1)."
        )
    return "the prediction is finite at eta = 0, but not where its random effects were searched; try other starting values."
