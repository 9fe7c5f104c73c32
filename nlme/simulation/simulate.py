"""New observations: of the same people under another dosing, or of new people from the model."""

from __future__ import annotations

import jax
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError
from nlme.fitting.result import Evaluated
from nlme.language.anatomy import Anatomy
from nlme.language.layout import anatomy_for
from nlme.language.model import Model
from nlme.language.sites import sites_of
from nlme.simulation.data_sets import data_sets
from nlme.simulation.predict import Records, effects_of, members_of, model_of

CHOICES = ("estimated", "new", "typical")


def simulate(
    model: Model | Evaluated,
    population=None,
    *,
    key,
    eta="estimated",
    replicates: int = 1,
    noise: bool = True,
    ode: Tolerances | None = None,
    as_data: bool = False,
):
    """Simulated observations at every record of ``population`` that is not a dose.

    Each endpoint is drawn from its own distribution.  Simulated values are not censored.  An event is drawn as DV = 2, at least
    one since the record before (0: none; NaN: after a subject's only event), so give a fine grid of records for its time.

    With a fit and ``eta="estimated"`` (the default) each subject keeps its own estimated random effects, so that
    ``simulate(fit, fit.population.with_doses(...), key=1)`` says what another dosing would have done to the same people.

    Parameters
    ----------
    model : a fit, or a model with its own values
    population : subjects, covariates, doses and times; a fit's own by default
    key : seed, an int or a JAX key; the same key gives the same numbers
    eta : "estimated" (a fit's modes), "new" (drawn from Omega, fresh in each replicate, a site's once for all its subjects, and
        so are subpopulations), "typical" (zero), or random effects as :func:`nlme.predict` takes them
    replicates : number of simulated data sets
    noise : add residual error; without it DV is the individual prediction
    ode : tolerances of the ODE solver; by default those of the fit's method
    as_data : whole data sets instead: every record of ``population``, doses too, with the simulated values for the observed ones, as
        NONMEM's columns after REPLICATE

    Returns
    -------
    DataFrame
        REPLICATE, ID, TIME, ENDPOINT, IPRED, DV, EVID, MDV (0 where the record is an observation of this endpoint; 1 where a value
        was only asked for: records to predict, for every endpoint), DVID (the data's code of the endpoint, else its name), and the
        random effects used (one column each, ``eta.NAME``).  ``read_nonmem`` reads one replicate of it, and of ``as_data``

    Raises
    ------
    DataError
        "estimated" without a fit, a subject without random effects, or an unknown ``eta``.
    """
    import pandas as pd

    if population is None and isinstance(model, Evaluated):
        population = model.population
    if population is None:
        raise DataError("simulate needs a population: nlme.simulate(model, population, key=1).")
    if replicates < 1:
        raise DataError(f"replicates must be at least 1; got {replicates}.")
    own = model_of(model)
    anatomy = anatomy_for(own, population)
    names, factor = anatomy.effects, anatomy.cholesky(own)
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    fixed = None if isinstance(eta, str) and eta == "new" else _chosen(model, population, eta)
    frames, at = [], None
    for replicate in range(1, replicates + 1):
        key, draw, error = jax.random.split(key, 3)
        used, members = fixed, members_of(model, population)
        if used is None:
            if members is not None:
                key, share = jax.random.split(key)
                shares = getattr(own, anatomy.mixture).shares
                members = np.asarray(jax.random.choice(share, len(shares), (len(population),), p=shares))
            used = drawn_effects(anatomy, factor, population, draw)
        if at is None or fixed is None:
            at = Records(own, population, used, ode, members=members)
        frames.append(_observations(at, used, names, replicate, error if noise else None))
    frame = pd.concat(frames, ignore_index=True)
    return data_sets(frame, population) if as_data else frame


def drawn_effects(anatomy: Anatomy, factor, population, key) -> np.ndarray:
    """(N, q) new random effects, those of a site the same for all its subjects; ``factor`` is L of ``anatomy.cholesky``."""
    standard = np.array(jax.random.normal(key, (len(population), len(anatomy.effects))))
    if anatomy.by_site:
        sites = sites_of(population, anatomy.above)
        standard[:, anatomy.inner :] = standard[sites.first, anatomy.inner :][sites.of]
    return standard @ np.asarray(factor).T


def _chosen(model, population, eta) -> np.ndarray:
    if not isinstance(eta, str):
        return effects_of(model_of(model), population, eta)
    if eta == "typical":
        return effects_of(model_of(model), population, None)
    if eta != "estimated":
        raise DataError(f"eta must be one of {', '.join(map(repr, CHOICES))}, a DataFrame or an array; got {eta!r}.")
    if not isinstance(model, Evaluated):
        raise DataError("eta='estimated' needs a fit, whose subjects have estimated random effects; a model has none. Use eta='new'.")
    return effects_of(model, population, None)


def _observations(at: Records, eta, names, replicate: int, key):
    import pandas as pd

    evid, endpoint, mdv = at.column("evid"), at.column("endpoint"), at.column("mdv")
    codes = dict(zip(at.population.endpoints, at.population.dvid, strict=True)) if at.population.dvid is not None else {}
    endpoints, named = list(at.outputs), np.array([*at.population.endpoints, ""], dtype=object)[endpoint]
    parts = []
    for name in endpoints:
        prediction = at.outputs[name]
        # an observation belongs to its endpoint; a record to predict (EVID 2) to every endpoint
        own = (endpoint < 0) | (named == name) | (len(endpoints) == 1)
        rows = np.flatnonzero((evid == 2) | ((evid == 0) & own))
        value = prediction[rows]
        if key is not None:
            key, draw = jax.random.split(key)
            value = at.draw(name, np.isin(np.arange(len(evid)), rows), draw)[rows]
        parts.append(
            pd.DataFrame(
                {
                    "REPLICATE": replicate,
                    "ID": [at.ids[r] for r in rows],
                    "TIME": at.column("time")[rows],
                    "ENDPOINT": name,
                    "IPRED": prediction[rows],
                    "DV": value,
                    "EVID": evid[rows],
                    "MDV": np.where((evid[rows] == 0) & (endpoint[rows] >= 0), mdv[rows], 1),
                    "DVID": codes.get(name, name),
                    **{f"eta.{n}": eta[at.subject[rows], q] for q, n in enumerate(names)},
                    "_order": rows,
                }
            )
        )
    return pd.concat(parts).sort_values("_order", kind="stable").drop(columns="_order")
