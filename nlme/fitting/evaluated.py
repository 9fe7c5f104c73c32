"""The objective of a model on a population at given parameters, and all that follows from the modes there."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SENTENCES as SOLVER_SENTENCES
from nlme.dynamics.solvers import SOLVED
from nlme.errors import FitError, ModelError
from nlme.fitting.conditional import Conditional, conditional
from nlme.fitting.covariance import CovarianceOfEstimates, covariance_of_estimates
from nlme.fitting.failures import require_finite
from nlme.fitting.monte_carlo import MonteCarlo, monte_carlo
from nlme.fitting.predictions import COLUMNS, prediction_table
from nlme.fitting.scales import held_scales
from nlme.fitting.tightness import Tightness, tightness
from nlme.language.anatomy import MEMBER, OCCASION, rows_of
from nlme.language.density import effects_from
from nlme.language.effects import effect_transforms
from nlme.language.layout import Layout, lay_out, spread_out
from nlme.language.model import Model, require_model
from nlme.marginal.base import Method
from nlme.marginal.foce import FOCE, FOCEI
from nlme.marginal.kinks import beginnings, clear_of_samples, moving_times
from nlme.marginal.laplace import Laplace
from nlme.marginal.objective import evaluate_population, evaluate_subjects
from nlme.marginal.quadrature import ImportanceSampling, Nodes
from nlme.marginal.sites import require_sites
from nlme.marginal.subjects import Evaluation, hessians_at
from nlme.marginal.variational import Variational
from nlme.parameters.covariance import OCCASION as OCCASION_LEVEL
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory, ParameterRow, names_of

_FLAT = 0.1  # of the prior's curvature: by a second derivative of this size one subject's objective is 2.3 lower


def evaluate(
    model: Model, population, method: Method | None = None, *, fixed: Iterable[str] = (), eta=None, sharding=None
) -> Evaluated:
    """The objective at the model's own values, with the mode of every subject; nothing is estimated.

    The values count as estimates found elsewhere: ``evaluate(...).covariance`` has the standard errors that they would have.

    Parameters
    ----------
    model : a model with the values wanted
    population : the data (see :func:`nlme.read_nonmem`)
    method : any method of :func:`nlme.fit`; FOCEI() by default
    fixed : names of parameters that count as known; so do variances of exactly 0
    eta : where the search for each subject's mode begins: a DataFrame with one row per subject in the order of the population
        and a column per random effect, such as the ``eta`` of another evaluation; 0 by default, and where random effects move a
        lag or another time also the likeliest of some values along these.  The density of a subject may have several modes, and
        the search ends at one near where it began.  A list of such frames (None: the default) begins from each of them, and every
        subject has the mode of the highest density
    sharding : JAX devices over which the subjects are spread: None (one), "all", a number of them, or a list; or "processes", those
        of ``jax.distributed`` (see docs/distributed.md).  What is computed does not depend on it.  The cores of a CPU are one device
        unless ``NLME_DEVICES`` says otherwise (see :mod:`nlme`)

    Raises
    ------
    ModelError
        The model does not fit the data (a name missing, a dose into an unknown compartment).
    FitError
        The objective is not a finite number; subjects and records are named.
    """
    method = method_of(method)
    layout = spread_out(require_model(model), population, sharding)
    model = layout.model
    require_sites(method, layout.anatomy)
    fixed = names_of(fixed)
    inventory = inventory_of(method, model, (*fixed, *held_scales(model, layout.anatomy, fixed)))
    inventory = Inventory(model, inventory.with_blocks([*inventory.fixed, *inventory.without_variance(model)]))
    u, at = inventory.unconstrained(model), None
    for starts in _begun(method, layout, inventory, model, eta):
        found = evaluate_population(method, layout, inventory, model, u, starts, gradient=False)
        at = found if at is None else _likelier(at, found)
    require_finite(np.asarray(at.by_subject), np.asarray(at.status), layout, model, "at these parameters", method.ode)
    return Evaluated(**evaluated_fields(method, model, population, tuple(sorted(inventory.fixed)), at))


def _begun(method: Method, layout: Layout, inventory: Inventory, model: Model, eta) -> list[np.ndarray]:
    """(N, q) each: where the modes are searched from."""
    found: list[np.ndarray] = []
    for frame in eta if isinstance(eta, (list, tuple)) else [eta]:
        if frame is not None:
            found.append(_standardised(layout, model, frame))
            continue
        found.append(np.zeros((layout.n_subjects, len(layout.anatomy.effects))))
        elsewhere = beginnings(method, model, layout, inventory)
        found += [elsewhere] if elsewhere.any() else []
    return found


def _standardised(layout: Layout, model: Model, eta) -> np.ndarray:
    """(N, q) b of eta = L b, least in size where Omega is singular."""
    effects = list(layout.anatomy.effects)
    if list(eta.columns) != effects or len(eta) != layout.n_subjects or not np.isfinite(eta.to_numpy(dtype=float)).all():
        raise ModelError(
            f"eta: a DataFrame of finite numbers with {layout.n_subjects} rows and the columns {', '.join(effects)} is expected; "
            f"got {len(eta)} rows and {', '.join(map(str, eta.columns))}."
        )
    return np.linalg.lstsq(np.asarray(layout.anatomy.cholesky(model)), eta.to_numpy(dtype=float).T, rcond=None)[0].T


def _likelier(at: Evaluation, other: Evaluation) -> Evaluation:
    """Of every subject the evaluation at the mode of the higher density."""
    if at.given is not None:
        raise ModelError("eta: one beginning of the modes is expected where subjects share the random effects of a site.")
    better = (other.joint < at.joint - 1e-6) & other.converged & jnp.isfinite(other.value)
    return at.where(np.asarray(better), other)


class _Modes:
    """A field that a method which searches for no modes (FO) leaves empty: the post hoc step fills it on first use."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, at: Evaluated | None, owner: type | None = None) -> np.ndarray:
        if at is None:
            raise AttributeError(self._name)  # by which a dataclass knows that there is no default
        if vars(at)[self._name] is None:
            found = _post_hoc(at.method, lay_out(at.model, at.population), at.model)
            vars(at).update(b=np.asarray(found.b), probabilities=np.asarray(found.membership))
        return vars(at)[self._name]

    def __set__(self, at: Evaluated, value: np.ndarray | None) -> None:
        vars(at)[self._name] = value


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Evaluated:
    """The objective of a model on a population at given parameters.

    Attributes
    ----------
    method, model, population : what was evaluated
    fixed : names of the parameters that count as not estimated
    values : (N,) -2 log L of each subject, without n log 2 pi; of each site, where subjects share the random effects of one
    b : (N, q) standardised modes of the random effects, eta = L b; in a mixture those of the likeliest subpopulation.  A site's
        effects come last, the same for all its subjects, whose own are the modes given those.  Of a method that needs none (FO)
        they are post hoc modes, and so is all that is made of them: searched for on first use
    probabilities : (N, K) of each subpopulation given the data, likewise
    given : (N,) where subjects share the random effects of a site, -2 log L of each given those at their mode
    """

    method: Method
    model: Model
    population: Any
    fixed: tuple[str, ...]
    values: np.ndarray
    b: np.ndarray = _Modes()
    probabilities: np.ndarray = _Modes()
    decrement: np.ndarray
    inner_iterations: np.ndarray
    inner_converged: np.ndarray
    status: np.ndarray
    given: np.ndarray | None = None

    priors: ClassVar[dict[str, str]] = {}
    penalty_slopes: ClassVar[tuple[np.ndarray, np.ndarray] | None] = None

    @functools.cached_property
    def layout(self) -> Layout:
        found = lay_out(self.model, self.population)
        return lay_out(self.model, self.population, members=self.members) if found.anatomy.mixture else found

    @property
    def has_modes(self) -> bool:
        """Whether modes have been found: by the method, or post hoc."""
        return vars(self)["b"] is not None

    @property
    def near_modes(self) -> np.ndarray:
        """(N, q) where searches for the modes nearby begin; zero for a method that makes none."""
        return self.b if self.method.searches else np.zeros((len(self.status), len(self.effects)))

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
    def eta_met(self):
        """``eta``, not a number on the occasions that a subject was never seen on: there it is 0 because nothing is known."""
        eta, occasions = self.eta.copy(), list(self.layout.anatomy.occasions)
        for name in eta.columns:
            if label := name.partition("[")[2].rstrip("]"):
                eta.loc[~self.met[:, occasions.index(label)], name] = np.nan
        return eta

    @property
    def modes(self) -> dict[str, np.ndarray]:
        """Random effect -> its modes, each draw of its distribution once: of a site, not of each of its subjects; of an occasion, of
        those who were seen on it."""
        found = {name: column[~np.isnan(column)] for name, column in zip(self.effects, self.eta_met.to_numpy().T, strict=True)}
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

    @property
    def estimates(self):
        """Series: every parameter's value on its natural scale by its name, fixed ones too."""
        import pandas as pd

        values = np.concatenate([np.asarray(entry.natural(self.model)) for entry in self.inventory.entries])
        return pd.Series(values, index=self.inventory.all_names, name="estimate", dtype=float)

    @functools.cached_property
    def covariance(self) -> CovarianceOfEstimates:
        """Covariance of the estimates, computed on first use (2 P + 1 evaluations of the gradient).

        The sandwich by default; R with priors or a penalty, which are no sample, where subjects share the random effects of sites,
        whose scores are too few as a rule, and where there are no more subjects than parameters, whose scores do not span them
        (``of_kind("sandwich")`` takes them all the same).  S where parameters move a lag, the end of an
        infusion or an event time to within four standard errors of a sample, or random effects do (``nlme.marginal.kinks``).

        Raises
        ------
        FitError
            Every parameter is fixed.
        """
        if not len(self.inventory):
            raise FitError("Every parameter is fixed, so there are no estimates whose covariance could be computed.")
        u = self.inventory.unconstrained(self.model)

        def evaluated(v, starts, second_order=None) -> Evaluation:
            return evaluate_subjects(
                self.method,
                self.layout.anatomy,
                self.inventory,
                self.model,
                self.layout.arrays,
                v,
                starts,
                second_order=second_order,
            )

        here = evaluated(u, self.near_modes)

        def gradients(v):
            # the modes are followed from the estimate to the points about it
            return np.asarray(evaluated(v, here.followed(np.asarray(v - u)), here.second_order).gradient)

        few = len(self.values) <= len(self.inventory)
        kinks = moving_times(self.model, self.layout, self.inventory)
        whole = self.priors or self.penalty_slopes is not None or self.layout.sites is not None or few
        kind = "R" if whole else "S" if kinks else "sandwich"
        found = covariance_of_estimates(
            self.inventory, self.model, gradients, u, self.penalty_slopes, kind, self._at_bounds(), kinks
        )
        if kinks and clear_of_samples(self.model, self.layout, self.inventory, found.of_kind("R").unconstrained):
            return dataclasses.replace(found, kind="sandwich" if kind == "S" else kind, kinks="")
        return found

    def _at_bounds(self) -> tuple[str, ...]:
        """Free parameters that stand at a bound, where they have no standard error."""
        return ()

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
        told = [anatomy.told_at(population[i], j) for i, j in rows]
        cov = {name: np.stack([one[name][None] for one in told]) for name in told[0]}
        index = pd.Index([population[i].id for i, _ in rows], name="ID")
        if anatomy.by_occasion:
            occasions = [str(population[i].occasion[j]) for i, j in rows]
            cov[OCCASION] = np.array([[float(anatomy.occasions.index(label))] for label in occasions])
            index = pd.MultiIndex.from_arrays([index, [int(label) for label in occasions]], names=["ID", "OCC"])
        if anatomy.mixture:
            cov[MEMBER] = self.members[[i for i, _ in rows]][:, None]
        return np.array([i for i, _ in rows]), cov, index

    def conditional(self, method: Nodes | None = None) -> Conditional:
        """Means and standard deviations of random effects and individual parameters given each subject's data (Monolix's).

        ``method`` says over which nodes: ImportanceSampling(1000) by default, with the effective number of draws and the Pareto k
        of every subject in ``.draws``; or nlme.AGQ(...).  See :mod:`nlme.fitting.conditional`.

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
                    eta = eta[self.met]
                elif covariance.per == anatomy.above:
                    eta = eta[self.layout.sites.first]
                with np.errstate(divide="ignore", invalid="ignore"):
                    found[name] = 100.0 * (1.0 - np.std(eta, ddof=1) / sd) if np.size(eta) > 1 else np.nan
        return pd.Series(found, name="shrinkage", dtype=float)

    @functools.cached_property
    def met(self) -> np.ndarray:
        """(N, O) which occasions the observations of each subject are from."""
        labels = self.layout.anatomy.occasions
        seen = [{str(o) for o in s.occasion[s.is_observation]} for s in self.population]
        return np.array([[label in own for label in labels] for own in seen])

    @property
    def epsilon_shrinkage(self) -> float:
        """100 (1 - sd(IWRES)) %, over the observations that have one; NaN where fewer than two do."""
        known = self.predictions["IWRES"].dropna()
        return float(100.0 * (1.0 - np.std(known, ddof=1))) if len(known) > 1 else math.nan

    def by(self, method: Method) -> Evaluated:
        """The model's objective by another method, so that fits by different methods stand on one scale."""
        return evaluate(self.model, self.population, method)

    def _index(self):
        import pandas as pd

        return pd.Index([s.id for s in self.population], name="ID")

    def subject_problems(self) -> list[str]:
        """Subjects without a reliable mode, in a sentence; none where all have one."""
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

    @functools.cached_property
    def tightness(self) -> Tightness | None:
        """By how much the bound of :class:`nlme.Variational` lies above -2 log L; None of other methods, whose objective is no bound.

        Raises
        ------
        ModelError
            A mixture: the posteriors of its subpopulations have no common weights.
        """
        if not isinstance(self.method, Variational) or not self.effects:
            return None
        if self.layout.anatomy.mixture:
            raise ModelError("The bound of a mixture has no tightness; compare with .by(nlme.ImportanceSampling()).")
        return tightness(self.method, self.model, self.layout, self.b, self.objective)

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

    def density_problems(self) -> list[str]:
        """What speaks against the method's approximation of some subjects' densities, in sentences."""
        return self._flat_problems() + self._monte_carlo_problems()

    @property
    def messages(self) -> list[str]:
        """Problems in words, most serious first."""
        return self.subject_problems() + self.density_problems()

    def __repr__(self) -> str:
        error = "" if self.monte_carlo is None else f" ± {self.monte_carlo.error:.3g}"
        lines = [f"{type(self.model).__name__}, {self.method!r}: objective {self.objective:.4f}{error} ({self._units})"]
        return "\n".join(lines + [f"  ! {m}" for m in self.messages])


def evaluated_fields(method, model, population, fixed, at: Evaluation) -> dict:
    deferred = method.individuals and not method.searches
    return dict(
        method=method,
        model=model,
        population=population,
        fixed=fixed,
        values=np.asarray(at.value),
        given=None if at.given is None else np.asarray(at.given),
        b=None if deferred else np.asarray(at.b),
        probabilities=None if deferred else np.asarray(at.membership),
        decrement=np.asarray(at.decrement),
        inner_iterations=np.asarray(at.iterations),
        inner_converged=np.asarray(at.converged),
        status=np.asarray(at.status),
    )


def _post_hoc(method: Method, layout: Layout, model: Model) -> Evaluation:
    """Modes for a method that needs none (FO): NONMEM's POSTHOC step, residual variance at eta = 0."""
    searching, inventory = post_hoc_method(method), Inventory(model)
    starts = beginnings(searching, model, layout, inventory)
    u = inventory.unconstrained(model)
    return evaluate_subjects(searching, layout.anatomy, inventory, model, layout.arrays, u, starts, gradient=False)


def post_hoc_method(method: Method) -> Method:
    """The method whose modes are those of a fit: its own, or FOCE where it searches for none."""
    if method.searches:
        return method
    options = ("inner_tolerance", "inner_iterations", "ode", "site_points")
    return FOCE(**{name: getattr(method, name) for name in options})


def inventory_of(method: Method, model: Model, fixed: Iterable[str] = ()) -> Inventory:
    """The parameters that a method estimates: without random effects, no covariance of them."""
    inventory = Inventory(model, fixed)
    if method.individuals:
        return inventory
    idle = [name for entry in inventory.entries if isinstance(entry.get(model), Covariance) for name in entry.names]
    return Inventory(model, {*inventory.fixed, *idle})


def method_of(method) -> Method:
    if method is None:
        return FOCEI()
    if isinstance(method, type) and issubclass(method, Method):
        return method()
    if not isinstance(method, Method):
        raise ModelError(f"method must be one of nlme.FO(), FOCE(), FOCEI(), Laplace(); got {method!r}.")
    return method
