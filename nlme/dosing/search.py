"""The regimen that best meets a target, found by gradient, under what is not known of the patient.

With draws (theta_d, eta_d) of a patient's parameters and m_d(x) the target's number under the regimen x (amounts, intervals,
lengths of infusions, times):

    minimise over x   loss(x) = mean_d distance(m_d(x)),        probability(x) = share of draws with low <= m_d(x) <= high

A regimen moves nothing but times and amounts in the arrays of events, so that

    dloss/dx_k = d/ds loss(arrays + s darrays/dx_k)  at s = 0

is a derivative along one direction, pushed forward through the solution; darrays/dx_k are central differences of the arrays, which
are linear in times and amounts.  Where two events change places between x - h and x + h, the loss itself is differenced.  The search
(L-BFGS-B on log x, within bounds) begins at the best points of a coarse grid.  The draws are held, so that the loss is a smooth
function; it is computed for the patient's draws, not at a mode.

Numbers that come in steps (tablets, vial sizes, clock times) are then rounded to those available around the optimum, all
combinations compared, the others searched again with them held.

Sources: Byrd, Lu, Nocedal & Zhu (1995), SIAM J Sci Comput 16:1190, doi:10.1137/0916069 (L-BFGS-B); Jelliffe et al. (1998), Ther
Drug Monit 20:380, doi:10.1097/00007691-199806000-00008 (dosing for a target over many possible patients).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.data.population import Population
from nlme.data.regimen import Regimen
from nlme.dosing.forecast import with_further
from nlme.dosing.patients import Patients, patients_of
from nlme.dosing.targets import Target
from nlme.dynamics.solvers import SOLVED, Tolerances
from nlme.errors import FitError, ModelError
from nlme.fitting.result import Evaluated
from nlme.language.anatomy import observation_row
from nlme.language.layout import lay_out
from nlme.language.model import Model
from nlme.language.ragged import over_subjects
from nlme.language.solution import Expansion
from nlme.parameters.domains import is_numeric, require_whole
from nlme.simulation.records import Design
from nlme.simulation.region import outside_of, outside_said, visits_networks

if TYPE_CHECKING:
    import pandas as pd

_APART = 1e-4  # relative, of the differences of arrays
_STARTS = 7  # points of the coarse grid for each number searched, three at most
_BEST = 2  # of them, where searches begin


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DoseSearch:
    """What was found.

    Attributes
    ----------
    table : DataFrame, a row for the optimum and, where numbers come in steps, one for the best of those available: every number
        searched, the loss, the target's number (median and 90 % of the draws) and the probability that it is in the range
    values : number searched -> value recommended: available where steps are given
    regimen : the regimen recommended
    metric : (D,) or (D, N) the target's number for every draw (and patient) under it
    probability : share of the draws that meet the target under it
    extrapolates : DataFrame of the records at which a network of the fit is asked outside of what its data visited under it, as of
        :func:`nlme.forecast`
    """

    target: Target
    table: pd.DataFrame
    values: dict[str, float]
    regimen: Regimen
    metric: np.ndarray
    probability: float
    messages: list[str]
    extrapolates: pd.DataFrame | None = None

    def __repr__(self) -> str:
        head = f"Dose for {self.target!r}: {self.regimen!r}, probability of the target {self.probability:.2f}"
        return "\n".join([head, self.table.to_string(), *(f"  ! {m}" for m in self.messages)])


def dose_search(
    model: Model | Evaluated,
    patient: Population,
    regimen: Callable[..., Regimen],
    *,
    bounds: Mapping[str, tuple[float, float]],
    target: Target,
    key,
    available: Mapping[str, float | Sequence[float]] | None = None,
    draws: int = 200,
    posterior: Any = None,
    ode: Tolerances | None = None,
) -> DoseSearch:
    """Amounts, intervals and lengths of infusions that best meet a target for this patient, not knowing it exactly.

    Parameters
    ----------
    model : a model with its own values (a published one), or a fit
    patient : one patient or several, with covariates, and the doses and samples so far, if any: their posterior is what is known.
        Doses in the data stay, those searched come in addition
    regimen : function of the numbers searched: ``lambda amount, interval: nlme.dose(amount).every(interval, n=10)``
    bounds : number searched -> (least, most), positive
    target : ``nlme.Target.trough(at=..., low=..., high=...)``, ``auc``, ``time_above`` or ``of`` a function
    key : seed, an int or a JAX key
    available : number searched -> values that there are (tablets, vials), or a step of which it is a multiple
    draws : of the patient's parameters
    posterior : of the population parameters, from ``nlme.sample``: their uncertainty counts as well; else they are known
    ode : tolerances of the ODE solver

    Raises
    ------
    ModelError
        Bounds that do not fit the regimen's arguments, or hold no available value; a target without a number of its own.
    FitError
        The target's number is not finite anywhere within the bounds.
    """
    import pandas as pd

    require_whole("nlme.dose_search", "draws", draws, 2)
    if not isinstance(target, Target):
        raise ModelError(
            f"nlme.dose_search: target= is an nlme.Target, such as nlme.Target.trough(at=24, low=5, high=10); got {target!r}."
        )
    names = _checked(regimen, bounds)
    patients = patients_of(model, patient, draws, key, posterior, ode)
    problem = _Problem(patients, patient, regimen, target, names, bounds)
    best = problem.minimised({})
    rows, values = {"optimum": problem.row(best)}, best
    if available:
        values = _rounded(problem, best, {name: _steps(name, available[name], bounds) for name in available})
        rows["available"] = problem.row(values)
    metric, chosen = problem.metric(values), regimen(**values)
    outside = None
    if visits_networks(model):
        design = Design(patients.model, problem.asked(values))
        outside = outside_of(model, design, np.asarray(patients.eta), np.asarray(patients.members), patients.ode)
    said = outside_said(outside, "regimen found")
    messages = [*said, *patients.messages, *_at_bounds(values, bounds), *_rounding_said(rows)]
    table = pd.DataFrame(rows).T
    return DoseSearch(target, table, values, chosen, metric, float(table.probability.iloc[-1]), messages, outside)


def _checked(regimen: Callable, bounds: Mapping[str, tuple[float, float]]) -> list[str]:
    for name, pair in bounds.items():
        if len(pair) != 2 or not 0.0 < pair[0] < pair[1] < math.inf:
            raise ModelError(f"nlme.dose_search: bounds of {name!r} are two positive numbers in order; got {pair!r}.")
    if not bounds:
        raise ModelError("nlme.dose_search: bounds name the numbers searched: bounds={'amount': (50, 1000)}.")
    try:
        made = regimen(**{name: math.sqrt(a * b) for name, (a, b) in bounds.items()})
    except TypeError as error:
        raise ModelError(
            f"nlme.dose_search: regimen does not take the numbers in bounds, {', '.join(bounds)}: {error}."
        ) from None
    if not isinstance(made, Regimen):
        raise ModelError(f"nlme.dose_search: regimen returns nlme.dose(...) of its numbers; it returned {made!r}.")
    return list(bounds)


def _steps(name: str, given, bounds) -> np.ndarray:
    """The values available within the bounds, in order."""
    if name not in bounds:
        raise ModelError(f"nlme.dose_search: available names {name!r}, which is not searched ({', '.join(bounds)}).")
    low, high = bounds[name]
    if not is_numeric(given) or not np.all(np.asarray(given, float) > 0):
        raise ModelError(f"nlme.dose_search: available has for {name!r} a step or the values there are, above 0; got {given!r}.")
    if np.ndim(given) == 0:
        values = float(given) * np.arange(np.ceil(low / given - 1e-9), np.floor(high / given + 1e-9) + 1)
    else:
        values = np.unique(np.asarray(given, float))
        values = values[(values >= low) & (values <= high)]
    if not len(values):
        raise ModelError(f"nlme.dose_search: no available value of {name!r} lies within its bounds, {low:g} to {high:g}.")
    return values


def _rounded(problem: _Problem, best: dict[str, float], steps: dict[str, np.ndarray]) -> dict[str, float]:
    """The best of all combinations of the values just below and just above the optimum; what is not rounded is searched again."""
    around = []
    for name, values in steps.items():
        k = int(np.searchsorted(values, best[name]))
        around.append([(name, float(v)) for v in values[max(0, k - 1) : k + 1]])
    found = [problem.minimised(dict(held), best) for held in itertools.product(*around)]
    return min(found, key=problem.loss)


def _at_bounds(values: dict[str, float], bounds) -> list[str]:
    stuck = [f"{n} = {v:.4g}" for n, v in values.items() if min(abs(math.log(v / b)) for b in bounds[n]) < 1e-4]
    return [f"The best regimen is at a bound of what was searched: {', '.join(stuck)}."] if stuck else []


def _rounding_said(rows: dict[str, dict]) -> list[str]:
    if len(rows) < 2:
        return []
    (a, b), columns = rows.values(), [c for c in rows["optimum"] if c not in _COLUMNS]
    moved = ", ".join(f"{c} {a[c]:.4g} to {b[c]:.4g}" for c in columns if abs(a[c] / b[c] - 1.0) > 1e-6)
    if not moved:
        return []
    return [
        f"Rounded to what is available: {moved}; probability of the target {a['probability']:.2f} before, {b['probability']:.2f} after."
    ]


_COLUMNS = ("loss", "median", "lower", "upper", "probability")


class _Problem:
    """The loss and its gradient in the logarithms of the numbers searched."""

    def __init__(self, patients: Patients, population: Population, regimen: Callable, target: Target, names, bounds):
        self._patients, self._population, self._regimen, self._target = patients, population, regimen, target
        self._names, self._bounds = names, np.log([bounds[name] for name in names])
        self._endpoint = _endpoint(target, patients)
        self._known: dict[tuple, tuple[float, np.ndarray, np.ndarray]] = {}

    def minimised(self, held: dict[str, float], near: dict[str, float] | None = None) -> dict[str, float]:
        """The numbers at the least loss, those ``held`` given; from ``near``, or from the best points of a coarse grid."""
        from scipy.optimize import minimize

        free = [k for k, name in enumerate(self._names) if name not in held]
        base = np.array([math.log(held.get(name, 1.0)) for name in self._names])
        if not free:
            return dict(held)

        def at(u):
            v = base.copy()
            v[free] = u
            value, slope, _ = self._at(v)
            return (value, slope[free]) if np.isfinite(value) else (1e10, np.zeros(len(free)))

        bounds = self._bounds[free]
        begun = self._grid(bounds) if near is None else [np.log([near[self._names[k]] for k in free])]
        starts = sorted(begun, key=lambda u: at(u)[0])[:_BEST]
        options = {"gtol": 1e-8, "ftol": 1e-13}
        ends = [minimize(at, u, jac=True, method="L-BFGS-B", bounds=bounds, options=options) for u in starts]
        end = min(ends, key=lambda e: e.fun)
        if not end.fun < 1e10:
            raise FitError(
                f"The target ({self._target.words}) has no finite number for these patients anywhere within the bounds."
            )
        v = base.copy()
        v[free] = end.x
        return self._values(v) | held

    def _grid(self, bounds: np.ndarray) -> list[np.ndarray]:
        points = _STARTS if len(bounds) <= 2 else 3
        inside = (np.arange(points) + 0.5) / points
        return [np.array(u) for u in itertools.product(*(a + (b - a) * inside for a, b in bounds))]

    def _values(self, v: np.ndarray) -> dict[str, float]:
        return {name: float(x) for name, x in zip(self._names, np.exp(v), strict=True)}

    def loss(self, values: dict[str, float]) -> float:
        return self._at(np.log([values[name] for name in self._names]))[0]

    def metric(self, values: dict[str, float]) -> np.ndarray:
        found = self._at(np.log([values[name] for name in self._names]))[2]
        return found[:, 0] if found.shape[1] == 1 else found

    def row(self, values: dict[str, float]) -> dict[str, float]:
        m = self.metric(values)
        low, middle, high = np.quantile(m, [0.05, 0.5, 0.95])
        return values | dict(zip(_COLUMNS, (self.loss(values), middle, low, high, self._target.met(m).mean()), strict=True))

    def _at(self, v: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """(loss, gradient, the target's number (D, N)) at logarithms ``v``."""
        key = tuple(v)
        if key not in self._known:
            self._known[key] = self._evaluated(v)
        return self._known[key]

    def _evaluated(self, v: np.ndarray):
        here = self._arrays(v)
        moved = [(self._arrays(v + h), self._arrays(v - h)) for h in _APART * np.eye(len(v))]
        smooth = np.array([_alike(here, a) and _alike(here, b) for a, b in moved])
        nothing = jax.tree.map(np.zeros_like, here.numbers)
        directions = [_slope(a, b) if ok else nothing for ok, (a, b) in zip(smooth, moved, strict=True)]
        value, slope, metric = self._computed(here, directions)
        slope = np.array(slope)
        for k in np.flatnonzero(~smooth):
            ahead, behind = (float(self._computed(x, [])[0]) for x in moved[k])
            slope[k] = (ahead - behind) / (2.0 * _APART)
        return float(value), slope, np.asarray(metric)

    def _computed(self, at: _Arrays, directions: list):
        stacked = jax.tree.map(lambda *x: np.stack(x), *directions) if directions else None
        return _loss(at.numbers, stacked, at.rest, at.where, self._patients, self._endpoint, self._target)

    def asked(self, values: dict[str, float]) -> Population:
        """The patients under the regimen, with records to predict at the times that the target looks at."""
        return self._asked(values)[0]

    def _asked(self, values: dict[str, float]):
        """The same, with the panels' edges and the times of each patient."""
        regimen = self._regimen(**values)
        edges = [self._target.edges(values, _breaks(regimen, s)) for s in self._population]
        times = [self._target.grid(own) for own in edges]
        grids = dict(zip(self._population.ids, times, strict=True))
        return with_further(self._population, regimen).with_times(grids, ties="observation first"), edges, times

    def _arrays(self, v: np.ndarray) -> _Arrays:
        """The patients' arrays under the regimen at ``v``."""
        asked, edges, times = self._asked(self._values(v))
        layout = lay_out(self._patients.model, asked, samples="records")
        layout.anatomy.require_certain("nlme.dose_search", self._patients.model)
        where = np.stack([_samples(s, row) for s, row in zip(asked, layout.positions, strict=True)])
        floats, rest = eqx.partition(layout.arrays, lambda x: eqx.is_array(x) and jnp.issubdtype(x.dtype, jnp.floating))
        return _Arrays(jax.tree.map(np.asarray, (floats, np.stack(edges), np.stack(times))), rest, where)


class _Arrays(NamedTuple):
    """Of all patients: (numbers of the event arrays, the panels' edges (N, E), times looked at (N, T)), what of the event arrays is no
    such number, and which samples those times are (N, T)."""

    numbers: Any
    rest: Any
    where: np.ndarray


def _samples(subject, row: np.ndarray) -> np.ndarray:
    """(T,) the samples, in an arrangement whose records are ``row``, that were asked for."""
    sample = np.empty(len(subject), int)
    real = np.flatnonzero(row >= 0)
    sample[row[real]] = real
    return sample[subject.evid == 2]


def _breaks(regimen: Regimen, subject) -> np.ndarray:
    """When doses begin and infusions end: those of the regimen and the patient's own."""
    given = regimen.records(subject)
    mine = subject.is_dose
    columns = ("time", "amt", "rate", "duration", "ii", "addl")
    found = []
    for time, amount, rate, duration, interval, more in zip(
        *(np.r_[np.asarray(given[c], float), getattr(subject, c)[mine]] for c in columns), strict=True
    ):
        begins = time + interval * np.arange(more + 1)
        length = duration if duration > 0 else amount / rate if rate > 0 else 0.0
        found += [begins, begins + length] if length > 0 else [begins]
    return np.concatenate(found)


def _alike(a: _Arrays, b: _Arrays) -> bool:
    """Whether two sets of arrays differ in times and amounts only."""
    if jax.tree.structure((a.numbers, a.rest)) != jax.tree.structure((b.numbers, b.rest)):
        return False
    same = all(np.shape(x) == np.shape(y) for x, y in zip(*map(jax.tree.leaves, (a.numbers, b.numbers)), strict=True))
    return same and all(np.array_equal(x, y) for x, y in zip(*(jax.tree.leaves((x.rest, x.where)) for x in (a, b)), strict=True))


def _slope(ahead: _Arrays, behind: _Arrays):
    with np.errstate(invalid="ignore"):
        return jax.tree.map(lambda x, y: np.nan_to_num((x - y) / (2.0 * _APART)), ahead.numbers, behind.numbers)


def _endpoint(target: Target, patients: Patients) -> str:
    names = patients.anatomy.endpoints
    name = names[0] if target.endpoint is None and len(names) == 1 else target.endpoint
    if name not in names:
        raise ModelError(
            f"The target ({target.words}) is of one endpoint: endpoint=, one of {', '.join(names)}; got {target.endpoint!r}."
        )
    if patients.anatomy.laws[names.index(name)].of_events:
        raise ModelError(
            f"The target ({target.words}) is of {name!r}, times of events: what is predicted of them depends on what the patient has been "
            "through without one, which a search does not know. Take a concentration or a response, and look at the events of the regimen "
            "found: nlme.forecast(model, patient, doses=...)."
        )
    return name


@eqx.filter_jit
def _loss(numbers, directions, rest, where, patients: Patients, endpoint: str, target: Target):
    """(loss, its derivatives along the directions, the target's number (D, N))."""
    anatomy, ode = patients.anatomy, patients.ode

    def of_draw(given, arrays, edges, times):
        model, eta, members = given

        def of_subject(data, eta, member, where, edges, times):
            data = data.belonging(member) if anatomy.mixture else data
            solution = Expansion(model, anatomy, eta, data.covariates, data.timeline, 0, ode)(model, eta)
            ind = {name: value[data.timeline.sample_row] for name, value in solution.individual.items()}

            def of_record(ind, state, t):
                return observation_row(model, ind, anatomy.states, state, t)[endpoint].prediction()

            predicted = jax.vmap(of_record)(ind, solution.states, data.timeline.sample_time)
            m = target.metric(times, edges, predicted[where])
            return jnp.where(solution.status == SOLVED, m, jnp.nan), ()

        return over_subjects(of_subject, arrays, eta, members, where, edges, times)[0]

    def value(numbers):
        floats, edges, times = numbers
        m = patients.mapped(lambda given: of_draw(given, eqx.combine(floats, rest), edges, times))
        return jnp.mean(target.distance(m)), m

    loss, metric = value(numbers)
    if directions is None:
        return loss, None, metric
    slopes = jax.vmap(lambda d: jax.jvp(lambda numbers: value(numbers)[0], (numbers,), (d,))[1])(directions)
    return loss, slopes, metric
