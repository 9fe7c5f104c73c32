"""New observations: of the same people under another dosing, or of new people from the model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError
from nlme.execution.executors import carried_out, in_order, require_executor
from nlme.fitting.applied import require_alike
from nlme.fitting.result import Evaluated
from nlme.keys import key_of
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.sites import sites_of
from nlme.language.standardisation import require_written
from nlme.parameters.domains import require_whole
from nlme.parameters.draws import Drawn, model_at
from nlme.simulation.data_sets import data_sets
from nlme.simulation.individual_draws import modes_at
from nlme.simulation.parameters import Uncertain, drawn_parameters
from nlme.simulation.predict import effects_among, effects_of, members_of, model_of
from nlme.simulation.records import Design, Records, system_keys
from nlme.simulation.region import simulated_class, watch

CHOICES = ("estimated", "new", "typical")
RESTARTED = "restarted"  # attribute of a table: the IDs whose time begins again at a reset


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
    uncertainty=None,
    executor: Any = None,
):
    """Simulated observations at every record of ``population`` that is not a dose.

    Each endpoint is drawn from its own distribution.  Simulated values are not censored.  An event is drawn as DV = 2, at least
    one since the record before (0: none; NaN: after a subject's only event), so give a fine grid of records for its time.  States with
    diffusion (``nlme.ODE``) get a path of their own in every replicate, and IPRED is the prediction on that path: exactly for linear
    equations; for others noise is drawn in 32 stretches between every two records or doses, of weak order 1 in their length, so that
    more records (EVID = 2) make it finer.

    With a fit and ``eta="estimated"`` (the default) each subject keeps its own estimated random effects, so that
    ``simulate(fit, fit.population.with_doses(...), key=1)`` says what another dosing would have done to the same people.  All records are
    drawn anew, from the first on: residuals remember none that was observed, and a subject is at risk from the beginning, event or not.
    What follows after the observed ones is :func:`nlme.forecast`.

    Parameters
    ----------
    model : a fit, or a model with its own values
    population : subjects, covariates, doses and times; a fit's own by default
    key : seed, an int or a JAX key; the same key gives the same numbers
    eta : "estimated" (a fit's modes), "new" (drawn from Omega, fresh in each replicate, a site's once for all its subjects, and
        so are subpopulations), "typical" (zero), or random effects as :func:`nlme.predict` takes them
    uncertainty : of the parameters: None, "covariance" (of a fit's estimates), ``nlme.bootstrap(fit)``, ``nlme.sir(fit)``, the posterior
        of ``nlme.sample``, or a DataFrame of draws.  Each replicate then has a vector of its own (``.parameters`` lists them), and
        estimated random effects are the modes at that vector; of a posterior, the draws that belong to it.  See
        :mod:`nlme.simulation.parameters`
    replicates : number of simulated data sets
    noise : add residual error, and system noise to states with diffusion; without it DV is the individual prediction
    ode : tolerances of the ODE solver; by default those of the fit's method
    executor : who simulates, where there are more replicates than are worked off at once, as of :func:`nlme.bootstrap`
    as_data : whole data sets instead: every record of ``population``, doses too, with the simulated values for the observed ones, as
        NONMEM's columns after REPLICATE.  Where ``population`` has no observations (``nlme.virtual``), every record to predict becomes
        an observation of each endpoint

    Returns
    -------
    DataFrame
        REPLICATE, ID, TIME, ENDPOINT, IPRED, DV, EVID, MDV (0 where the record is an observation of this endpoint; 1 where a value
        was only asked for: records to predict, for every endpoint; and where there is none: after a subject's only event), DVID (the data's code of the endpoint, else its name), and the
        random effects used (one column each, ``eta.NAME``).  ``read_nonmem`` reads one replicate of it, and of ``as_data``.  Of a fit
        with networks its ``extrapolates`` lists the records at which one is asked outside of what the data visited, and ``messages``
        says so (see :mod:`nlme.simulation.region`)

    Raises
    ------
    DataError
        "estimated" without a fit, a subject without random effects, or an unknown ``eta``.
    FitError
        An uncertainty that the fit does not have, or that is of another model.
    """
    if population is None and isinstance(model, Evaluated):
        population = model.population
    if population is None:
        raise DataError("simulate needs a population: nlme.simulate(model, population, key=1).")
    require_executor(executor)
    require_whole("nlme.simulate", "replicates", replicates, 1)
    require_alike(model, population)
    design = Design(model_of(model), population)
    ode = ode or (model.method.ode if isinstance(model, Evaluated) else Tolerances())
    key = key_of(key)
    people = People(model, design, eta, drawn_parameters(model, uncertainty, replicates, key))
    table, parts, watched = Table(design), [], watch(model, design)
    work = _Work(design, people, ode, table, noise, watched is not None)
    tasks = dict(enumerate(divided(design, replicates, key, people.members is not None and people.new)))
    for columns, seen in in_order(carried_out(work, tasks, executor)):
        if seen is not None:
            watched.see(*seen)
        parts.append(columns)
    frame = table.frame(parts)
    whole = data_sets(frame, population, table.row, table.observed, table.endpoints) if as_data else frame
    made = simulated_class()(whole)
    made.attrs.update(whole.attrs)  # units and categories, which reading it again needs
    made.extrapolates = None if watched is None else watched.table(replicates)
    made.uncertainty = "" if people.uncertain is None else people.uncertain.words
    made.parameters, made.remarks = people.parameters, [*people.messages, *(_of_competing(design.anatomy) if noise else [])]
    return made


def _of_competing(anatomy: Anatomy) -> list[str]:
    """What several times to an event do not know of each other, in words."""
    events = [name for name, law in zip(anatomy.endpoints, anatomy.laws, strict=True) if law.link == "event"]
    if len(events) < 2:
        return []
    return [
        f"The times of {' and '.join(events)} are drawn each by its own hazard, and none ends the risk of another: where they compete "
        "(death before relapse), keep each person's first."
    ]


class People:
    """Who is simulated: the random effects, subpopulations and parameters of every replicate."""

    def __init__(self, model: Model | Evaluated, design: Design, eta, uncertain: Uncertain | None):
        self.design, self.model, self.uncertain = design, model_of(model) if uncertain is None else uncertain.model, uncertain
        if uncertain is not None:
            require_written(uncertain.drawn.at(uncertain.model, 0), design.layout.model)
        population = design.population
        members, self.messages = members_of(model, population), []
        self.new = isinstance(eta, str) and eta == "new"
        self.members = None if members is None else members[None]  # (R or 1, N)
        if not self.new:
            self._eta, self.members = self._chosen(model, population, eta)
        self.messages += [] if uncertain is None else uncertain.messages

    def _chosen(self, model, population, eta) -> tuple[np.ndarray, np.ndarray | None]:
        """Random effects (R or 1, N, q) and subpopulations."""
        own, found = isinstance(eta, str) and eta == "estimated", self.uncertain
        if not own or found is None:
            return _chosen(model, population, eta)[None], self.members
        if found.people is not None:
            return found.people.among(self.model, population)
        _chosen(model, population, eta)  # whether they are the fit's own people
        modes, said = modes_at(model, found.drawn)
        self.messages += said
        return effects_among(self.model, population, modes, model.population.ids, model.effects), self.members

    @property
    def alike(self) -> bool:
        """Whether one replicate's states serve for all."""
        return not self.new and self.uncertain is None

    @property
    def parameters(self):
        return None if self.uncertain is None else self.uncertain.frame

    def drawn(self, rows: np.ndarray) -> Drawn | None:
        return None if self.uncertain is None else self.uncertain.drawn.some(jnp.asarray(rows))

    def effects(self, rows: np.ndarray, keys, drawn: Drawn | None) -> np.ndarray:
        """(R, N, q) of the replicates ``rows``, or (1, N, q) where they are all alike."""
        if not self.new:
            return (
                self._eta
                if len(self._eta) == 1 and self.uncertain is None
                else self._eta[rows if len(self._eta) > 1 else [0] * len(rows)]
            )
        return drawn_effects(self.design.anatomy, self.model, self.design.population, keys, drawn)

    def belonging(self, rows: np.ndarray, keys, drawn: Drawn | None, count: int) -> np.ndarray | None:
        """(R, N) subpopulations of the replicates ``rows``, or of ``count`` that are all alike."""
        if self.members is None:
            return None
        if self.new:
            return _drawn_members(self.model, self.design, keys, drawn)
        return self.members[rows] if len(self.members) > 1 else np.tile(self.members, (count, 1))


class Share(NamedTuple):
    """Which replicates are worked off at once, ``count`` of them wanted, and the keys (R,) of their numbers, as of ``keys_of``."""

    rows: np.ndarray
    count: int
    draws: jax.Array
    errors: jax.Array
    shares: jax.Array


def divided(design: Design, replicates: int, key, shares: bool) -> Iterator[Share]:
    """The replicates, as many at once as memory holds."""
    size = design.batch(replicates)
    for begin in range(0, replicates, size):
        key, *keys = keys_of(key, size, shares)
        yield Share(np.minimum(begin + np.arange(size), replicates - 1), min(size, replicates - begin), *keys)


class Batch(NamedTuple):
    """Some replicates: random effects (R or 1, N, q) and what the model says of every record; ``count`` of them are wanted."""

    eta: np.ndarray
    members: np.ndarray | None
    drawn: Drawn | None
    at: Records
    errors: jax.Array
    count: int


def batches(design: Design, replicates: int, key, people: People, ode: Tolerances) -> Iterator[Batch]:
    """What the model says of each share of the replicates."""
    last = None
    for share in divided(design, replicates, key, people.members is not None and people.new):
        last = solved(design, people, ode, share, last)
        yield last


def solved(design: Design, people: People, ode: Tolerances, share: Share, last: Batch | None, system: bool = True) -> Batch:
    """What the model says of some replicates; ``last`` is another batch of them, whose states serve where all are alike.

    ``system``: stochastic equations have their noise, every replicate its own.
    """
    random = system and bool(design.anatomy.diffusion)
    if last is not None and people.alike and not random:
        return last._replace(errors=share.errors, count=share.count)
    drawn = people.drawn(share.rows)
    eta = people.effects(share.rows, share.draws, drawn)
    eta = np.broadcast_to(eta, (len(share.rows), *eta.shape[1:])) if random else eta
    members = people.belonging(share.rows, share.shares, drawn, len(eta))
    paths = system_keys(design.anatomy, share.errors) if random else None
    at = Records(design, people.model, eta, ode, members, drawn, system=paths)
    return Batch(eta, members, drawn, at, share.errors, share.count)


@dataclasses.dataclass(eq=False)
class _Work:
    """The columns of the table for one share of the replicates, and, if ``watched``, what networks have to be asked at."""

    design: Design
    people: People
    ode: Tolerances
    table: Table
    noise: bool
    watched: bool
    last: Batch | None = None

    def __call__(self, share: Share) -> tuple[dict[str, np.ndarray], tuple | None]:
        batch = self.last = solved(self.design, self.people, self.ode, share, self.last, self.noise)
        seen = None
        if self.watched and not (self.people.alike and share.rows[0]):
            used = [None if x is None else x[: batch.count] for x in (batch.eta, batch.at.states, batch.members)]
            seen = (*used, batch.drawn)
        return self.table.columns(batch.eta, batch.at, batch.errors if self.noise else None, batch.count), seen


@functools.partial(jax.jit, static_argnums=(1, 2))
def keys_of(key, replicates: int, shares: bool):
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


def _drawn_members(model: Model, design: Design, keys, drawn: Drawn | None = None) -> np.ndarray:
    """(R, N) new subpopulations."""

    def one(key, r):
        shares = getattr(model_at(model, drawn, r), design.anatomy.mixture).shares
        return jax.random.choice(key, len(shares), (design.layout.n_subjects,), p=shares)

    return np.asarray(jax.vmap(one)(keys, jnp.arange(len(keys))))


def drawn_effects(anatomy: Anatomy, model: Model, population, keys, drawn: Drawn | None = None) -> np.ndarray:
    """(R, N, q) new random effects for each of ``keys`` (R,), those of a site the same for all its subjects; replicate r's follow the
    Omega of vector r of ``drawn``, if given."""
    shape = (len(population), len(anatomy.effects))
    standard = np.array(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
    if anatomy.by_site:
        sites = sites_of(population, anatomy.above)
        standard[..., anatomy.inner :] = standard[:, sites.first, anatomy.inner :][:, sites.of]
    if drawn is None:
        return standard @ np.asarray(anatomy.cholesky(model)).T
    factors = jax.jit(jax.vmap(lambda r: anatomy.cholesky(drawn.at(model, r))))(jnp.arange(len(drawn)))
    return standard @ np.swapaxes(np.asarray(factors), 1, 2)


def _chosen(model, population, eta) -> np.ndarray:
    if not isinstance(eta, str) or eta == "typical":
        return effects_of(model_of(model), population, eta)
    if eta != "estimated":
        raise DataError(f"eta must be one of {', '.join(map(repr, CHOICES))}, a DataFrame or an array; got {eta!r}.")
    if not isinstance(model, Evaluated):
        raise DataError(
            "eta='estimated' needs a fit, whose subjects have estimated random effects; a model has none. Use eta='new'."
        )
    return effects_of(model, population, None)


class Table:
    """The rows of the simulated table, the same in every replicate: record by record, and within a record by endpoint.

    Attributes
    ----------
    row : record of every row, counted through the population
    endpoints : all that the model has
    """

    def __init__(self, design: Design):
        self._design, population = design, design.population
        evid, endpoint, mdv = (design.column(name) for name in ("evid", "endpoint", "mdv"))
        self.endpoints = design.endpoints
        named = np.array([*population.endpoints, ""], dtype=object)[endpoint]
        # an observation belongs to its endpoint; a record to predict (EVID 2) to every endpoint
        alone = len(self.endpoints) == 1
        self._asked = [(evid == 2) | ((evid == 0) & ((endpoint < 0) | (named == name) | alone)) for name in self.endpoints]
        self.row, self._which = np.nonzero(np.stack(self._asked, axis=1))
        self._evid = evid[self.row]
        self._mdv = np.where((self._evid == 0) & (endpoint[self.row] >= 0), mdv[self.row], 1)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of every row of the table: position of its subject, of the record within it, and of its endpoint."""
        return self._design.subject[self.row], self._design.record[self.row], self._which

    @property
    def observed(self) -> np.ndarray:
        """Which rows of a replicate are observations."""
        return self._mdv == 0

    def columns(self, eta: np.ndarray, at: Records, keys, count: int) -> dict[str, np.ndarray]:
        """IPRED, DV and the random effects ``eta`` (R, N, q) of the first ``count`` replicates, (count, rows); DV without noise where
        there are no ``keys``."""
        ipred = self._rows(at.outputs)
        dv = ipred
        if keys is not None:
            dv = self._rows(at.draw(self.endpoints, self._asked, _of_endpoints(keys, len(self.endpoints))))
        effects = eta[:, self._design.subject[self.row]]
        found = {"IPRED": ipred, "DV": dv} | {f"eta.{n}": effects[..., q] for q, n in enumerate(self._design.anatomy.effects)}
        return {name: np.broadcast_to(x if len(x) == 1 else x[:count], (count, len(self.row))) for name, x in found.items()}

    def _rows(self, values: dict[str, np.ndarray]) -> np.ndarray:
        """(R, rows) of values at every record."""
        return np.stack([values[name] for name in self.endpoints], axis=1)[:, self._which, self.row]

    def frame(self, parts: list[dict[str, np.ndarray]]):
        """All replicates as one table."""
        import pandas as pd

        design, population = self._design, self._design.population
        codes = dict(zip(population.endpoints, population.dvid, strict=True)) if population.dvid is not None else {}
        replicates, rows = sum(len(part["DV"]) for part in parts), len(self.row)
        drawn = {name: np.concatenate([part[name] for part in parts]).ravel() for name in parts[0]}
        row, which, dv = np.tile(self.row, replicates), np.tile(self._which, replicates), drawn.pop("DV")
        own = {
            "REPLICATE": np.repeat(np.arange(1, replicates + 1), rows),
            "ID": design.ids.take(row),
            "TIME": design.column("time")[row],
            "ENDPOINT": pd.Index(list(self.endpoints)).take(which),
            "IPRED": drawn.pop("IPRED"),
            "DV": dv,
            "EVID": np.tile(self._evid, replicates),
            "MDV": np.where(np.isnan(dv), 1, np.tile(self._mdv, replicates)),
            "DVID": pd.Index([codes.get(name, name) for name in self.endpoints]).take(which),
        }
        table = pd.DataFrame(own | drawn)
        if restarted := [s.id for s in population if s.period.any()]:
            table.attrs[RESTARTED] = restarted
        return table
