"""New observations: of the same people under another dosing, or of new people from the model."""

from __future__ import annotations

import functools

import jax
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError
from nlme.fitting.result import Evaluated
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.sites import sites_of
from nlme.simulation.data_sets import data_sets
from nlme.simulation.predict import effects_of, members_of, model_of
from nlme.simulation.records import Design, Records
from nlme.simulation.region import simulated_class, watch

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
        random effects used (one column each, ``eta.NAME``).  ``read_nonmem`` reads one replicate of it, and of ``as_data``.  Of a fit
        with networks its ``extrapolates`` lists the records at which one is asked outside of what the data visited, and ``messages``
        says so (see :mod:`nlme.simulation.region`)

    Raises
    ------
    DataError
        "estimated" without a fit, a subject without random effects, or an unknown ``eta``.
    """
    if population is None and isinstance(model, Evaluated):
        population = model.population
    if population is None:
        raise DataError("simulate needs a population: nlme.simulate(model, population, key=1).")
    if replicates < 1:
        raise DataError(f"replicates must be at least 1; got {replicates}.")
    own, design = model_of(model), Design(model_of(model), population)
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    key = jax.random.key(key) if isinstance(key, (int, np.integer)) else key
    members, at = members_of(model, population), None
    if not (isinstance(eta, str) and eta == "new"):
        eta = _chosen(model, population, eta)[None]
        at = Records(design, own, eta, ode, None if members is None else members[None])
    table, parts, size = _Table(design), [], design.batch(replicates)
    watched = watch(model, design)
    drawn = members if members is None else members[None]
    if watched is not None and at is not None:
        watched.see(eta, at.states, drawn)
    for begin in range(0, replicates, size):
        key, draws, errors, shares = _keys(key, size, members is not None and at is None)
        if at is None:
            used = drawn_effects(design.anatomy, own, population, draws)
            drawn = None if members is None else _drawn_members(own, design, shares)
            found = Records(design, own, used, ode, drawn)
            if watched is not None:
                count = min(size, replicates - begin)
                watched.see(used[:count], found.states[:count], drawn)
        else:
            used, found = eta, at
        parts.append(table.columns(used, found, errors if noise else None, min(size, replicates - begin)))
    frame = table.frame(parts)
    whole = data_sets(frame, population) if as_data else frame
    made = simulated_class()(whole)
    made.attrs.update(whole.attrs)  # units and categories, which reading it again needs
    made.extrapolates = None if watched is None else watched.table(replicates)
    return made


@functools.partial(jax.jit, static_argnums=(1, 2))
def _keys(key, replicates: int, shares: bool):
    """The key that is left, and keys (R,) of so many replicates: for their random effects, residual errors and subpopulations."""

    def one(key, _):
        key, draw, error = jax.random.split(key, 3)
        key, share = jax.random.split(key) if shares else (key, key)
        return key, (draw, error, share)

    key, found = jax.lax.scan(one, key, length=replicates)
    return key, *found


@functools.partial(jax.jit, static_argnums=1)
def _of_endpoints(keys, count: int):
    """(R, e) keys of so many endpoints, from those of replicates."""

    def one(key, _):
        key, draw = jax.random.split(key)
        return key, draw

    return jax.vmap(lambda key: jax.lax.scan(one, key, length=count)[1])(keys)


def _drawn_members(model: Model, design: Design, keys) -> np.ndarray:
    """(R, N) new subpopulations."""
    shares = getattr(model, design.anatomy.mixture).shares
    return np.asarray(jax.vmap(lambda key: jax.random.choice(key, len(shares), (design.layout.n_subjects,), p=shares))(keys))


def drawn_effects(anatomy: Anatomy, model: Model, population, keys) -> np.ndarray:
    """(R, N, q) new random effects for each of ``keys`` (R,), those of a site the same for all its subjects."""
    shape = (len(population), len(anatomy.effects))
    standard = np.array(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
    if anatomy.by_site:
        sites = sites_of(population, anatomy.above)
        standard[..., anatomy.inner :] = standard[:, sites.first, anatomy.inner :][:, sites.of]
    return standard @ np.asarray(anatomy.cholesky(model)).T


def _chosen(model, population, eta) -> np.ndarray:
    if not isinstance(eta, str):
        return effects_of(model_of(model), population, eta)
    if eta == "typical":
        return effects_of(model_of(model), population, None)
    if eta != "estimated":
        raise DataError(f"eta must be one of {', '.join(map(repr, CHOICES))}, a DataFrame or an array; got {eta!r}.")
    if not isinstance(model, Evaluated):
        raise DataError(
            "eta='estimated' needs a fit, whose subjects have estimated random effects; a model has none. Use eta='new'."
        )
    return effects_of(model, population, None)


class _Table:
    """The rows of the simulated table, the same in every replicate: record by record, and within a record by endpoint."""

    def __init__(self, design: Design):
        self._design, population = design, design.population
        evid, endpoint, mdv = (design.column(name) for name in ("evid", "endpoint", "mdv"))
        self._endpoints = design.endpoints
        named = np.array([*population.endpoints, ""], dtype=object)[endpoint]
        # an observation belongs to its endpoint; a record to predict (EVID 2) to every endpoint
        alone = len(self._endpoints) == 1
        self._asked = [(evid == 2) | ((evid == 0) & ((endpoint < 0) | (named == name) | alone)) for name in self._endpoints]
        self._row, self._which = np.nonzero(np.stack(self._asked, axis=1))
        self._evid = evid[self._row]
        self._mdv = np.where((self._evid == 0) & (endpoint[self._row] >= 0), mdv[self._row], 1)

    def columns(self, eta: np.ndarray, at: Records, keys, count: int) -> dict[str, np.ndarray]:
        """IPRED, DV and the random effects ``eta`` (R, N, q) of the first ``count`` replicates, (count, rows); DV without noise where
        there are no ``keys``."""
        ipred = self._rows(at.outputs)
        dv = ipred
        if keys is not None:
            dv = self._rows(at.draw(self._endpoints, self._asked, _of_endpoints(keys, len(self._endpoints))))
        effects = eta[:, self._design.subject[self._row]]
        found = {"IPRED": ipred, "DV": dv} | {f"eta.{n}": effects[..., q] for q, n in enumerate(self._design.anatomy.effects)}
        return {name: np.broadcast_to(x if len(x) == 1 else x[:count], (count, len(self._row))) for name, x in found.items()}

    def _rows(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """(R, rows) of values at every record."""
        return np.stack([values[name] for name in self._endpoints], axis=1)[:, self._which, self._row]

    def frame(self, parts: list[dict[str, np.ndarray]]):
        """All replicates as one table."""
        import pandas as pd

        design, population = self._design, self._design.population
        codes = dict(zip(population.endpoints, population.dvid, strict=True)) if population.dvid is not None else {}
        replicates, rows = sum(len(part["DV"]) for part in parts), len(self._row)
        drawn = {name: np.concatenate([part[name] for part in parts]).ravel() for name in parts[0]}
        row, which = np.tile(self._row, replicates), np.tile(self._which, replicates)
        own = {
            "REPLICATE": np.repeat(np.arange(1, replicates + 1), rows),
            "ID": design.ids.take(row),
            "TIME": design.column("time")[row],
            "ENDPOINT": pd.Index(list(self._endpoints)).take(which),
            "IPRED": drawn.pop("IPRED"),
            "DV": drawn.pop("DV"),
            "EVID": np.tile(self._evid, replicates),
            "MDV": np.tile(self._mdv, replicates),
            "DVID": pd.Index([codes.get(name, name) for name in self._endpoints]).take(which),
        }
        return pd.DataFrame(own | drawn)
