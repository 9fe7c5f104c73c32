"""The deterministic prediction and every state at each record, without noise."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import SENTENCES, SOLVED, Tolerances
from nlme.errors import DataError, FitError, ModelError
from nlme.fitting.result import Evaluated
from nlme.language.anatomy import anatomy_of, observation_row, rows_of
from nlme.language.layout import Layout, anatomy_for, lay_out
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.language.solution import Expansion, failure
from nlme.observation.sequence import LINKS, Course


class Records:
    """Everything a model says of each record of a population, for given random effects.

    Arrays have one entry per record, subject after subject in file order.
    """

    def __init__(
        self,
        model: Model,
        population,
        eta: np.ndarray,
        ode: Tolerances = Tolerances(),
        layout: Layout | None = None,
        members: np.ndarray | None = None,
    ):
        self.population = population
        # that of another of the same model and population, if there is one
        self.layout: Layout = layout or lay_out(model, population, samples="records", members=members)
        status, (states, outputs) = threaded(_solve, self.layout.arrays, model, self.layout.anatomy, jnp.asarray(eta), ode)
        self._model, self._eta, self._states = model, jnp.asarray(eta), states
        self._require_solved(np.asarray(status), ode)
        subjects = list(population)
        where = self.layout.positions
        self.subject = np.concatenate([np.full(len(s.time), i) for i, s in enumerate(subjects)])
        self.record = np.concatenate([np.arange(len(s.time)) for s in subjects])
        # records are samples in the order of the timeline; back to the order of the file
        self._place = [np.argsort(where[i][where[i] >= 0], kind="stable") for i in range(len(subjects))]
        self.states = self._in_file_order(states)
        self.outputs = {name: self._in_file_order(part) for name, part in outputs.items()}

    def _in_file_order(self, parts) -> np.ndarray:
        return np.concatenate([np.asarray(part)[p] for part, p in zip(np.asarray(parts), self._place, strict=True)])

    def draw(self, endpoint: str, observed: np.ndarray, key) -> np.ndarray:
        """Simulated observations of ``endpoint`` at every record; ``observed`` says which records are observations of it."""
        where = self.layout.positions
        own, count = np.zeros(where.shape, bool), 0
        for i, place in enumerate(self._place):
            own[i, place] = observed[count : count + len(place)]
            count += len(place)
        keys = jax.random.split(key, where.shape[0])
        drawn = _draw(self._model, self.layout.anatomy, endpoint, self.layout.arrays, self._eta, self._states, own, keys)
        return self._in_file_order(drawn)

    def _require_solved(self, status: np.ndarray, ode: Tolerances) -> None:
        bad = np.flatnonzero(status != SOLVED)
        if len(bad):
            subjects = list(self.population)

            def why(i):
                data, _ = self.layout.subject(i)
                found = failure(self._model, self.layout.anatomy, subjects[i], data, self._eta[i], ode)
                return found or SENTENCES[int(status[i])]

            listed = "\n".join(f"  subject {subjects[i].id}: {why(i)}." for i in bad[:3])
            more = f"\n  ... and {len(bad) - 3} more" if len(bad) > 3 else ""
            raise FitError(f"The model could not be solved for {len(bad)} of {len(subjects)} subjects:\n{listed}{more}")

    def column(self, name: str) -> np.ndarray:
        """A per-record field of the subjects ("time", "evid", "dv", ...)."""
        return np.concatenate([getattr(s, name) for s in self.population])

    @property
    def ids(self) -> list:
        subjects = list(self.population)
        return [subjects[i].id for i in self.subject]


@eqx.filter_jit
def _solve(arrays, model: Model, anatomy, eta, ode: Tolerances):
    def of_subject(data, eta):
        solution = Expansion(model, anatomy, eta, data.covariates, data.timeline, 0, ode)(model, eta)
        ind = {name: value[data.timeline.sample_row] for name, value in solution.individual.items()}

        def of_record(ind, state, t):
            out = observation_row(model, ind, anatomy.states, state, t)
            return {name: r.prediction() for name, r in out.items()}

        outputs = jax.vmap(of_record)(ind, solution.states, data.timeline.sample_time)
        return solution.status, (solution.states, outputs)

    return over_subjects(of_subject, arrays, eta)


@eqx.filter_jit
def _draw(model: Model, anatomy, endpoint: str, arrays, eta, states, own, keys):
    """One observation of ``endpoint`` at every sample, from states already solved."""
    link = LINKS[anatomy.laws[anatomy.endpoints.index(endpoint)].link]

    def of_subject(data, eta, states, own, key):
        timeline = data.timeline
        count = len(timeline.sample)  # of this size class: the first of the widest arrangement, which has one group of samples
        states, own = states[:count], own[:count]
        table = rows_of(model, anatomy, eta, data.covariates, timeline.rows)
        ind = {name: value[timeline.sample_row] for name, value in table.items()}

        def of_each(function, *values):
            def at(ind, state, t, *values):
                return function(observation_row(model, ind, anatomy.states, state, t)[endpoint], *values)

            return jax.vmap(at)(ind, states, timeline.sample_time, *values)

        course = Course(timeline.sample_clock, timeline.sample_epoch)
        first, second = jax.random.split(key)
        drive = link.drive(of_each(lambda r: r.carried()), own, course, first)
        return None, of_each(lambda r, drive, key: r.sample(drive, key), drive, jax.random.split(second, count))

    return over_subjects(of_subject, arrays, eta, states, own, keys)[1]


def model_of(model: Any) -> Model:
    """The model of a fit, or the model itself."""
    if isinstance(model, Evaluated):
        return model.model
    if not isinstance(model, Model):
        raise ModelError(f"Expected a model or a fit; got {type(model).__name__}.")
    return model


def effects_of(model: Any, population, eta) -> np.ndarray:
    """(N, q) random effects for the subjects of ``population``.

    ``eta`` is None (zero: typical subjects; for a fit, the subjects' own modes), a DataFrame indexed by ID with one column per
    random effect, or an array in the order of the subjects.  The effects of an occasion that the DataFrame does not know are zero.

    Raises
    ------
    DataError
        A subject without random effects, a missing or unknown column, the wrong shape.
    """
    anatomy = anatomy_for(model_of(model), population)
    names = anatomy.effects
    if eta is None and isinstance(model, Evaluated):
        eta = model.eta
    if eta is None:
        return np.zeros((len(population), len(names)))
    if hasattr(eta, "columns"):
        unknown = [name for name in names[anatomy.own : anatomy.inner] if name not in eta.columns]
        eta = eta.assign(**dict.fromkeys(unknown, 0.0))
        missing = [name for name in names if name not in eta.columns]
        if missing:
            raise DataError(
                f"eta has no column {', '.join(missing)}; the model's random effects are {', '.join(names)}, "
                f"and eta has {', '.join(map(str, eta.columns))}."
            )
        absent = [s.id for s in population if s.id not in eta.index]
        if absent:
            raise DataError(
                f"No random effects for subject {', '.join(map(str, absent[:5]))}{' ...' if len(absent) > 5 else ''}: "
                f"eta is indexed by the IDs of {len(eta)} other subjects. Give eta=, or simulate new subjects with eta='new'."
            )
        return eta.loc[[s.id for s in population], list(names)].to_numpy(dtype=float)
    eta = np.asarray(eta, dtype=float)
    if eta.shape != (len(population), len(names)):
        raise DataError(
            f"eta must have one row per subject and one column per random effect, {(len(population), len(names))}; "
            f"got an array of shape {eta.shape}."
        )
    return eta


def members_of(model: Any, population) -> np.ndarray | None:
    """(N,) subpopulation of every subject in a mixture: a fit's subjects the likeliest for their data, others the most common."""
    own = model_of(model)
    name = anatomy_of(own).mixture
    if not name:
        return None
    most = int(np.argmax(np.asarray(getattr(own, name).shares)))
    known = dict(zip(model.population.ids, model.members, strict=True)) if isinstance(model, Evaluated) else {}
    return np.array([known.get(s.id, most) for s in population])


def predict(model: Model | Evaluated, population=None, eta=None, *, ode: Tolerances | None = None):
    """The noise-free prediction and every state at each record, doses too.

    Parameters
    ----------
    model : a model, or a fit (its model at the estimate)
    population : the records to predict; a fit's own by default (see ``Population.with_times`` and ``with_doses``)
    eta : random effects, a DataFrame indexed by ID (``fit.eta``) or an (N, q) array.  None: each subject's own estimated ones if
        a fit is given, zero (the typical subject with these covariates) if a model is given.  In a mixture a fit's subjects
        belong to the subpopulation likeliest for their data, others to the most common
    ode : tolerances of the ODE solver; by default those of the fit's method

    Returns
    -------
    DataFrame
        ID, TIME, EVID, one column per state (amounts), one per endpoint: its median on the scale of the data, the probability of a
        1, the mean category or count, the probability of no event yet.  On a dose record the
        states are those just after the dose.

    Raises
    ------
    DataError
        ``eta`` does not fit the subjects.
    FitError
        The model could not be solved; subjects are named.
    """
    import pandas as pd

    if population is None:
        if not isinstance(model, Evaluated):
            raise ModelError("predict needs a population: nlme.predict(model, population).")
        population = model.population
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    at = Records(model_of(model), population, effects_of(model, population, eta), ode, members=members_of(model, population))
    frame = {"ID": at.ids, "TIME": at.column("time"), "EVID": at.column("evid")}
    frame |= {name: at.states[:, k] for k, name in enumerate(at.layout.anatomy.states)}
    return pd.DataFrame(frame | at.outputs)
