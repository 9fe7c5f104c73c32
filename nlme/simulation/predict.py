"""The deterministic prediction and every state at each record, without noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, ModelError
from nlme.fitting.applied import require_alike
from nlme.fitting.result import Evaluated
from nlme.language.anatomy import mixtures_of
from nlme.language.layout import anatomy_for
from nlme.language.model import Model
from nlme.simulation.records import Design, Records
from nlme.simulation.region import outside_of, simulated_class


def model_of(model: Any) -> Model:
    """The model of a fit, or the model itself."""
    if isinstance(model, Evaluated):
        return model.model
    if hasattr(model, "posterior"):
        raise ModelError(
            "Expected a model or a fit; got a posterior. Give the model that was sampled, and the posterior as uncertainty=: "
            "nlme.simulate(model, population, uncertainty=posterior, key=1), nlme.vpc(model, population, uncertainty=posterior, key=1)."
        )
    if not isinstance(model, Model):
        raise ModelError(f"Expected a model or a fit; got {type(model).__name__}.")
    return model


def effects_of(model: Any, population, eta) -> np.ndarray:
    """(N, q) random effects for the subjects of ``population``.

    ``eta`` is None (zero: typical subjects; for a fit, the subjects' own modes), "typical" (zero), a DataFrame indexed by ID with one
    column per random effect, or an array in the order of the subjects.  The effects of an occasion that the DataFrame does not know
    are zero.

    Raises
    ------
    DataError
        A subject without random effects or with two rows of them, a missing or unknown column, the wrong shape, what is no number.
    """
    anatomy = anatomy_for(model_of(model), population)
    names = anatomy.effects
    if eta is None and isinstance(model, Evaluated):
        eta = model.eta
    if eta is None or (isinstance(eta, str) and eta == "typical"):
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
        if not eta.index.is_unique:
            raise DataError(f"eta: subject {eta.index[eta.index.duplicated()][0]} has two rows; give one row for each subject.")
        return _finite(eta.loc[[s.id for s in population], list(names)], population, names)
    eta = _finite(eta, population, names)
    if eta.shape != (len(population), len(names)):
        raise DataError(
            f"eta must have one row per subject and one column per random effect, {(len(population), len(names))}; "
            f"got an array of shape {eta.shape}."
        )
    return eta


def _finite(eta: Any, population, names) -> np.ndarray:
    """Random effects as numbers, none of which is missing."""
    try:
        found = np.asarray(eta, dtype=float)
    except (TypeError, ValueError):
        raise DataError(
            "eta is a DataFrame of numbers indexed by ID with one column per random effect, an array with one row per subject, "
            f"or 'typical'; got {type(eta).__name__} {' '.join(str(eta).split())[:60]}."
        ) from None
    bad = np.argwhere(~np.isfinite(found))
    if found.shape == (len(population), len(names)) and len(bad):
        i, k = bad[0]
        raise DataError(
            f"eta: the random effect {names[k]} of subject {population.ids[i]} is {found[i, k]:g}; 0 is the typical one."
        )
    return found


def effects_among(model: Any, population, eta: np.ndarray, known, names) -> np.ndarray:
    """(R, N, q) random effects for the subjects of ``population``, from those (R, M, Q) of subjects with the IDs ``known`` and effects
    ``names``; the effects of an occasion that is not among these are zero.

    Raises
    ------
    DataError
        A subject or a random effect that is not among them.
    """
    import pandas as pd

    # the first replicate says whether they fit, and where each is
    places = pd.DataFrame(1.0 + np.arange(eta[0].size).reshape(eta.shape[1:]), index=list(known), columns=list(names))
    at = effects_of(model_of(model), population, places).astype(int)
    flat = np.concatenate([np.zeros((len(eta), 1)), eta.reshape(len(eta), -1)], axis=1)
    return flat[:, at]


def members_of(model: Any, population) -> np.ndarray | None:
    """(N,) subpopulation of every subject in a mixture: a fit's subjects the likeliest for their data, others the most common."""
    own = model_of(model)
    names = mixtures_of(own)
    if not names:
        return None
    most = int(np.argmax(np.asarray(getattr(own, names[0]).shares)))
    known = dict(zip(model.population.ids, model.members, strict=True)) if isinstance(model, Evaluated) else {}
    return np.array([known.get(s.id, most) for s in population])


def predict(model: Model | Evaluated, population=None, eta=None, *, ode: Tolerances | None = None):
    """The noise-free prediction and every state at each record, doses too.

    Parameters
    ----------
    model : a model, or a fit (its model at the estimate)
    population : the records to predict; a fit's own by default (see ``Population.with_times`` and ``with_doses``)
    eta : random effects, a DataFrame indexed by ID (``fit.eta``) or an (N, q) array, or "typical": zero, the typical subject with
        these covariates.  None: each subject's own estimated ones if a fit is given, zero if a model is given.  In a mixture a
        fit's subjects belong to the subpopulation likeliest for their data, others to the most common
    ode : tolerances of the ODE solver; by default those of the fit's method

    Returns
    -------
    DataFrame
        ID, TIME, EVID, one column per state (amounts), one per endpoint: its median on the scale of the data, the probability of a
        1, the mean category or count, the probability of no event yet.  On a dose record the
        states are those just after the dose.  Of a fit with networks its ``extrapolates`` lists the records at which one is asked outside
        of what the data visited, and ``messages`` says so (see :mod:`nlme.simulation.region`)

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
    require_alike(model, population)
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    design = Design(model_of(model), population)
    effects, members = effects_of(model, population, eta)[None], _one(members_of(model, population))
    at = Records(design, model_of(model), effects, ode, members)
    frame = {"ID": design.ids, "TIME": design.column("time"), "EVID": design.column("evid")}
    frame |= {name: at.states[0, :, k] for k, name in enumerate(design.anatomy.states)}
    made = simulated_class()(pd.DataFrame(frame | {name: values[0] for name, values in at.outputs.items()}))
    made.extrapolates, made.what = outside_of(model, design, effects, members, ode, at), "prediction"
    return made


def limits_of(model: Model | Evaluated, population, endpoint: str) -> dict[str, np.ndarray]:
    """ "lower limit", "upper limit" -> (n,) limits of quantification at every record that the model gives, of typical subjects."""
    own = model_of(model)
    ode = model.method.ode if isinstance(model, Evaluated) else Tolerances()
    at = Records(
        Design(own, population), own, effects_of(model, population, "typical")[None], ode, _one(members_of(model, population))
    )
    return {name: values[0] for name, values in at.limits(endpoint).items()}


def _one(members: np.ndarray | None) -> np.ndarray | None:
    return None if members is None else members[None]
