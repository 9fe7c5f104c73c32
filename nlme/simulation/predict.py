"""The deterministic prediction and every state at each record, without noise."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import DataError, FitError, ModelError
from nlme.estimation.result import Evaluated
from nlme.language.anatomy import observation_row
from nlme.language.layout import Layout, lay_out
from nlme.language.model import Model
from nlme.language.solution import Expansion
from nlme.structure.solvers import SENTENCES, SOLVED, Tolerances


class Records:
    """Everything a model says of each record of a population, for given random effects.

    Arrays have one entry per record, subject after subject in file order.
    """

    def __init__(self, model: Model, population, eta: np.ndarray, ode: Tolerances = Tolerances()):
        self.population = population
        self.layout: Layout = lay_out(model, population, samples="records")
        states, outputs, status = _solve(model, self.layout.anatomy, self.layout.arrays, jnp.asarray(eta), ode)
        self._require_solved(np.asarray(status))
        subjects = list(population)
        where = self.layout.positions
        self.subject = np.concatenate([np.full(len(s.time), i) for i, s in enumerate(subjects)])
        self.record = np.concatenate([np.arange(len(s.time)) for s in subjects])
        # records are samples in the order of the timeline; back to the order of the file
        place = [np.argsort(where[i][where[i] >= 0], kind="stable") for i in range(len(subjects))]
        self.states = np.concatenate([np.asarray(states[i])[p] for i, p in enumerate(place)])
        self.outputs = {
            name: tuple(np.concatenate([np.asarray(part[i])[p] for i, p in enumerate(place)]) for part in parts)
            for name, parts in outputs.items()
        }

    def _require_solved(self, status: np.ndarray) -> None:
        bad = np.flatnonzero(status != SOLVED)
        if len(bad):
            subjects = list(self.population)
            listed = "; ".join(f"subject {subjects[i].id}: {SENTENCES[int(status[i])]}" for i in bad[:5])
            raise FitError(f"The model could not be solved for {len(bad)} of {len(subjects)} subjects: {listed}.")

    def column(self, name: str) -> np.ndarray:
        """A per-record field of the subjects ("time", "evid", "dv", ...)."""
        return np.concatenate([getattr(s, name) for s in self.population])

    @property
    def ids(self) -> list:
        subjects = list(self.population)
        return [subjects[i].id for i in self.subject]


@eqx.filter_jit
def _solve(model: Model, anatomy, arrays, eta, ode: Tolerances):
    def of_subject(data, eta):
        solution = Expansion(model, anatomy, eta, data.covariates, data.timeline, 0, ode)(model, eta)
        ind = {name: value[data.timeline.sample_row] for name, value in solution.individual.items()}

        def of_record(ind, state, t):
            out = observation_row(model, ind, anatomy.states, state, t)
            return {name: (r.prediction(), r.mean, r.variance) for name, r in out.items()}

        return solution.states, jax.vmap(of_record)(ind, solution.states, data.timeline.sample_time), solution.status

    return jax.vmap(of_subject)(arrays, eta)


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
    random effect, or an array in the order of the subjects.

    Raises
    ------
    DataError
        A subject without random effects, a missing or unknown column, the wrong shape.
    """
    omega = model_of(model).random()
    names = omega.names if omega is not None else ()
    if eta is None and isinstance(model, Evaluated):
        eta = model.eta
    if eta is None:
        return np.zeros((len(population), len(names)))
    if hasattr(eta, "columns"):
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


def predict(model: Model | Evaluated, population=None, eta=None):
    """The noise-free prediction and every state at each record, doses too.

    Parameters
    ----------
    model : a model, or a fit (its model at the estimate)
    population : the records to predict; a fit's own by default (see ``Population.with_times`` and ``with_doses``)
    eta : random effects, a DataFrame indexed by ID (``fit.eta``) or an (N, q) array.  None: each subject's own estimated ones if
        a fit is given, zero (the typical subject with these covariates) if a model is given

    Returns
    -------
    DataFrame
        ID, TIME, EVID, one column per state (amounts), one per endpoint (median of a log-normal one).  On a dose record the
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
    ode = model.method.ode if isinstance(model, Evaluated) else Tolerances()
    at = Records(model_of(model), population, effects_of(model, population, eta), ode)
    frame = {"ID": at.ids, "TIME": at.column("time"), "EVID": at.column("evid")}
    frame |= {name: at.states[:, k] for k, name in enumerate(at.layout.anatomy.states)}
    return pd.DataFrame(frame | {name: parts[0] for name, parts in at.outputs.items()})
