"""What a model says of every record of a population, for many replicates of it at once.

Replicates are as many populations, one after another: subjects of all of them are solved side by side, by one compiled program.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nlme.dynamics.solvers import SENTENCES, SOLVED, Tolerances
from nlme.errors import FitError, ModelError
from nlme.language.anatomy import Anatomy, observation_row, rows_of
from nlme.language.layout import Layout, lay_out, match_endpoints
from nlme.language.model import Model
from nlme.language.ragged import Ragged, over_subjects, threaded
from nlme.language.solution import Expansion, failure
from nlme.language.stacking import SubjectData
from nlme.language.standardisation import require_written
from nlme.observation.base import LIMITS, Record
from nlme.observation.sequence import LINKS, Link, Past
from nlme.parameters.draws import Drawn, model_at

_NUMBERS = 4_000_000  # in the arrays of the subjects of all replicates that are worked off at once
_STRETCHES = 32  # between two events, in each of which system noise is drawn; one for linear equations, where it is exact
_SYSTEM = 1  # folded into the key of residual errors


class Design:
    """The records of a population, in file order, subject after subject, and where the arrays of the layout hold them.

    Attributes
    ----------
    subject, record : (n,) position of every record's subject, and of the record within it
    """

    def __init__(self, model: Model, population):
        self.population = population
        self.layout: Layout = lay_out(model, population, samples="records")
        require_written(model, self.layout.model)
        lengths = np.array([len(s) for s in population])
        self.subject = np.repeat(np.arange(len(lengths)), lengths)
        starts = np.cumsum(lengths) - lengths
        self.record = np.arange(len(self.subject)) - starts[self.subject]
        # records are samples in the order of the timeline
        i, t = np.nonzero(self.layout.positions >= 0)
        self._sample = np.empty(len(self.subject), int)
        self._sample[starts[i] + self.layout.positions[i, t]] = t

    @property
    def anatomy(self) -> Anatomy:
        return self.layout.anatomy

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The model's endpoints in the order of their names, in which they are drawn."""
        return tuple(sorted(self.anatomy.endpoints))

    def observations(self, endpoint: str) -> np.ndarray:
        """(n,) which records are observations of one of the model's endpoints."""
        of = np.array([*match_endpoints(self.layout.model, self.anatomy, self.population), -1])[self.column("endpoint")]
        return self.column("is_observation") & (of == self.anatomy.endpoints.index(endpoint))

    def in_file_order(self, values) -> np.ndarray:
        """(R, n, ...) of what the arrays of R replicates hold, (R N, T, ...)."""
        values = np.asarray(values)
        count = self.layout.n_subjects
        return values.reshape(len(values) // count, count, *values.shape[1:])[:, self.subject, self._sample]

    def in_all(self, of_records: Iterable[np.ndarray], replicates: int) -> np.ndarray:
        """(R N, e, T) of (n,) Booleans for each of e endpoints; False where there is no record."""
        of_records = list(of_records)
        found = np.zeros((self.layout.n_subjects, len(of_records), self.layout.positions.shape[1]), bool)
        for e, part in enumerate(of_records):
            found[self.subject, e, self._sample] = part
        return np.tile(found, (replicates, 1, 1))

    def steps(self, endpoint: str) -> np.ndarray:
        """(n,) which records are steps of a chain: the observations of an endpoint, and after a subject's last one those to predict."""
        own = self.observations(endpoint)
        last = np.full(len(self.population), -1)
        np.maximum.at(last, self.subject[own], self.record[own])
        return own | ((self.column("evid") == 2) & (self.record > last[self.subject]))

    @functools.cached_property
    def most(self) -> int:
        """Replicates that are worked off at once, a power of two."""
        parts, width = self.layout.arrays.parts, len(self.anatomy.states) * stretches(self.anatomy)
        size = sum(x.size for part in parts for x in jax.tree.leaves(part.data))
        size += sum(part.data.timeline.time.size * width for part in parts)
        return 2 ** int(np.log2(max(1, _NUMBERS // size)))

    def batch(self, replicates: int) -> int:
        """How many of so many replicates are worked off at once: few different numbers, each a program of its own."""
        return min(self.most, 2 ** int(np.ceil(np.log2(replicates))))

    @functools.lru_cache(maxsize=2)  # noqa: B019 (it ends with the simulation)
    def arrays(self, replicates: int) -> Ragged:
        return self.layout.arrays if replicates == 1 else self.layout.repeated(replicates)

    def column(self, name: str) -> np.ndarray:
        """A per-record field of the subjects ("time", "evid", "dv", ...)."""
        return np.concatenate([getattr(s, name) for s in self.population])

    @functools.cached_property
    def ids(self):
        """Index of the ID of every record's subject."""
        import pandas as pd

        return pd.Index([s.id for s in self.population]).take(self.subject)


class Records:
    """Everything a model says of each record, for R replicates with random effects of their own.

    Parameters
    ----------
    eta : (R, N, q) random effects
    members : (R, N) subpopulation of every subject in a mixture; the first by default
    drawn : R vectors of parameters, where every replicate has its own
    arrays : the subjects of R replicates, where they are not all alike (other amounts, other people)
    system : keys (R,) of the paths of stochastic equations (``system_keys``); without them their noise is left out
    known : for each of the design's endpoints, which records (n,) have a value that is known: all else is what it is given these

    Attributes
    ----------
    states : (R, n, s) states at every record
    outputs : endpoint -> (R, n) predictions
    """

    def __init__(
        self,
        design: Design,
        model: Model,
        eta: np.ndarray,
        ode: Tolerances,
        members: np.ndarray | None = None,
        drawn: Drawn | None = None,
        arrays: Ragged | None = None,
        system=None,
        known: Sequence[np.ndarray] | None = None,
    ):
        self._design, self.model, self._drawn = design, model, drawn
        self._eta = np.concatenate(np.asarray(eta, float))
        self._members = np.zeros(len(self._eta), int) if members is None else np.ravel(members)
        self._replicate = np.repeat(np.arange(len(eta)), design.layout.n_subjects)
        self._arrays, self._random = arrays, system is not None
        nothing = [np.zeros(len(design.subject), bool)] * len(design.endpoints)
        self._known = dict(zip(design.endpoints, nothing if known is None else known, strict=True))
        given = [jnp.asarray(x) for x in (self._eta, self._members, self._replicate)]
        arrays = design.arrays(len(eta)) if arrays is None else arrays
        paths = None if system is None else _of_subjects(system[:, None], design.layout.n_subjects)[:, 0]
        past = self._past(design.endpoints, len(eta))
        status, (states, outputs) = threaded(_solve, arrays, model, drawn, design.anatomy, *given, past, paths, ode)
        self._states = np.asarray(states)
        self._require_solved(np.asarray(status), ode)
        self.states = design.in_file_order(states)
        self.outputs = {name: design.in_file_order(part) for name, part in outputs.items()}
        if self._random:
            self._require_values()
        self._require_distributions()

    def draw(self, endpoints: Sequence[str], observed: Sequence[np.ndarray], keys) -> dict[str, np.ndarray]:
        """Endpoint -> (R, n) simulated observations of it at every record.

        ``observed`` says for each of ``endpoints`` which records are observations of it, beside those that are known; ``keys`` are
        one for each replicate and endpoint (R, e).  One replicate's states serve for any number of ``keys``.

        Raises
        ------
        ModelError
            Stochastic equations whose system noise was left out.
        """
        design, replicates = self._design, len(keys)
        if design.anatomy.diffusion and not self._random:
            raise ModelError(
                f"The states of {type(self.model).__name__} have diffusion ({', '.join(design.anatomy.diffusion)}), and what is asked for "
                "here knows nothing of system noise. nlme.simulate, nlme.vpc and nlme.npde draw it."
            )
        again = replicates * design.layout.n_subjects // len(self._eta)
        given = [np.tile(x, (again,) + (1,) * (x.ndim - 1)) for x in (self._eta, self._members, self._replicate, self._states)]
        own = design.in_all(observed, replicates)
        known = self._past(endpoints, replicates)
        each = _of_subjects(keys, design.layout.n_subjects)
        arrays = design.arrays(replicates) if self._arrays is None else self._arrays
        drawn = _draw(self.model, self._drawn, design.anatomy, tuple(endpoints), arrays, *given, own, known, each)
        return {name: design.in_file_order(np.asarray(drawn)[:, :, e]) for e, name in enumerate(endpoints)}

    def _past(self, endpoints: Sequence[str], replicates: int) -> tuple[np.ndarray, np.ndarray]:
        """(R N, e, T) which samples are known, and which are steps of a chain."""
        known = self._design.in_all([self._known[name] for name in endpoints], replicates)
        if not any(law.link == "markov" for law in self._design.anatomy.laws):
            return known, known  # nobody asks for the steps
        return known, self._design.in_all(map(self._design.steps, endpoints), replicates)

    def limits(self, endpoint: str) -> dict[str, np.ndarray]:
        """ "lower limit", "upper limit" -> (R, n) of quantification at every record, those that the model gives the endpoint."""
        design = self._design
        arrays = design.arrays(len(self._eta) // design.layout.n_subjects) if self._arrays is None else self._arrays
        given = self._eta, self._members, self._replicate, self._states
        found = _limits(self.model, self._drawn, design.anatomy, endpoint, arrays, *given)
        return {name: design.in_file_order(part) for name, part in found.items()}

    def _require_distributions(self) -> None:
        """Refuse discrete endpoints without a distribution at a record that is no dose."""
        for name, law in zip(self._design.anatomy.endpoints, self._design.anatomy.laws, strict=True):
            if not law.whole or law.of_events or name not in self.outputs:
                continue
            samples = np.isin(self._design.column("evid"), (0, 2))
            lost = np.flatnonzero(np.isnan(self.outputs[name]).any(axis=0) & samples)
            if len(lost):
                raise FitError(
                    f"Endpoint {name!r} ({law.words}) has no distribution for subject {self._design.ids[lost[0]]} at time "
                    f"{self._design.column('time')[lost[0]]:g}: a probability outside 0 to 1, logits that cross, or a rate or mean below "
                    "0. Write it so that no random effect leads there (logit=, exp)."
                )

    def _require_values(self) -> None:
        for name, values in self.outputs.items():
            lost = np.flatnonzero(np.isnan(values).any(axis=0))
            if len(lost):
                raise FitError(
                    f"System noise takes subject {self._design.ids[lost[0]]} at time {self._design.column('time')[lost[0]]:g} to where "
                    f"endpoint {name!r} has no value, such as the logarithm of an amount below 0. Where a state cannot be below 0, "
                    "write the equation of its logarithm, or give the noise to a rate of it that is a state of its own."
                )

    def _require_solved(self, status: np.ndarray, ode: Tolerances) -> None:
        count = self._design.layout.n_subjects
        failed = np.flatnonzero((status != SOLVED).reshape(-1, count).any(axis=1))
        if not len(failed):
            return
        begin = failed[0] * count
        subjects, layout = list(self._design.population), self._design.layout
        bad = np.flatnonzero(status[begin : begin + count] != SOLVED)

        def why(i):
            data, _ = layout.subject(i)
            if layout.anatomy.mixture:
                data = data.belonging(self._members[begin + i])
            model = self.model if self._drawn is None else self._drawn.at(self.model, failed[0])
            found = failure(model, layout.anatomy, subjects[i], data, self._eta[begin + i], ode)
            return found or SENTENCES[int(status[begin + i])]

        listed = "\n".join(f"  subject {subjects[i].id}: {why(i)}." for i in bad[:3])
        more = f"\n  ... and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise FitError(f"The model could not be solved for {len(bad)} of {len(subjects)} subjects:\n{listed}{more}")


def system_keys(anatomy: Anatomy, keys):
    """Keys (R,) of the paths of stochastic equations, from those of the residual errors of replicates; None for other equations."""
    return jax.vmap(lambda key: jax.random.fold_in(key, _SYSTEM))(keys) if anatomy.diffusion else None


def stretches(anatomy: Anatomy) -> int:
    """How many draws of system noise there are for each state between two events."""
    return 0 if not anatomy.diffusion else 1 if anatomy.exponential else _STRETCHES


def _draws(anatomy: Anatomy, events: int, key):
    """(E, K, n) standard normal numbers, those of an event the same whatever comes after it."""
    shape = (stretches(anatomy), len(anatomy.states))
    return jax.vmap(lambda e: jax.random.normal(jax.random.fold_in(key, e), shape))(jnp.arange(events))


@eqx.filter_jit
def _solve(
    arrays: Ragged, base: Model, drawn: Drawn | None, anatomy: Anatomy, eta, members, replicates, known, paths, ode: Tolerances
):
    names = tuple(sorted(anatomy.endpoints))

    def of_subject(data, eta, member, r, known, path):
        model = model_at(base, drawn, r)
        data = data.belonging(member) if anatomy.mixture else data
        timeline = data.timeline
        if path is not None:
            timeline = dataclasses.replace(timeline, draws=_draws(anatomy, len(timeline.time), path))
        solution = Expansion(model, anatomy, eta, data.covariates, timeline, 0, ode)(model, eta)
        states = solution.states[:, : len(anatomy.states)]
        rows = _Rows(model, anatomy, data, solution.individual, states, names)
        linked = zip(rows.of_each(lambda r: r.prediction()), *rows.memory(known), strict=True)
        predicted = [link.prediction(value, carried, rows.course, past) for value, link, carried, past in linked]
        return solution.status, (states, dict(zip(names, predicted, strict=True)))

    return over_subjects(of_subject, arrays, eta, members, replicates, known, paths)


class _Rows:
    """What ``observe`` says of some endpoints at every sample of one subject.

    Attributes
    ----------
    course : when the samples are
    """

    def __init__(self, model: Model, anatomy: Anatomy, data: SubjectData, table: dict[str, Array], states, names: Sequence[str]):
        timeline = data.timeline
        self._model, self._anatomy, self._names, self._data = model, anatomy, tuple(names), data
        ind = {name: value[timeline.sample_row] for name, value in table.items()}
        self._at = ind, states, timeline.sample_time
        self.course = timeline.course

    def of_each(self, function: Callable, *values) -> list:
        """``function(observation model, ...)`` of every endpoint at every sample, with what each of ``values`` holds for the endpoint."""

        def at(ind, state, t, *values):
            out = observation_row(self._model, ind, self._anatomy.states, state, t)
            return [function(out[name], *own) for name, *own in zip(self._names, *values, strict=True)]

        return jax.vmap(at)(*self._at, *values)

    def memory(self, past) -> tuple[list[Link], list[Any], list[Past]]:
        """Of every endpoint its link, what that needs, and what is known; ``past``: which samples are, and which are steps (e, T)."""
        links = [LINKS[self._anatomy.laws[self._anatomy.endpoints.index(name)].link] for name in self._names]
        nothing = jnp.full_like(self._data.limit, jnp.nan)  # a chain is linked by its probabilities, not by its terms
        record = Record(self._data.observed, self._data.cens, self._data.limit, nothing)
        terms = self.of_each(lambda r, record: r.terms(record), [record] * len(links))
        own = ([one[: len(record.y)] for one in part] for part in past)
        pasts = [Past(seen, steps, record.y, of) for seen, steps, of in zip(*own, terms, strict=True)]
        return links, self.of_each(lambda r: r.moving()), pasts


@functools.partial(jax.jit, static_argnums=1)
def _of_subjects(keys, count: int):
    """(R N, e) keys, one for each subject, from those of replicates (R, e)."""
    return jnp.moveaxis(jax.vmap(jax.vmap(lambda key: jax.random.split(key, count)))(keys), 1, 2).reshape(-1, keys.shape[1])


def _solved_rows(
    base: Model, drawn: Drawn | None, anatomy: Anatomy, endpoints, data: SubjectData, eta, member, r, states
) -> _Rows:
    """The rows of one subject whose states are solved already."""
    model = model_at(base, drawn, r)
    data = data.belonging(member) if anatomy.mixture else data
    timeline = data.timeline
    # of this size class: the first of the widest arrangement, which has one group of samples
    states = states[: len(timeline.sample)]
    return _Rows(model, anatomy, data, rows_of(model, anatomy, eta, data.covariates, timeline.rows), states, endpoints)


@eqx.filter_jit
def _limits(base: Model, drawn: Drawn | None, anatomy: Anatomy, endpoint: str, arrays: Ragged, *rows):
    """The limits of quantification of an endpoint at every sample, from states already solved."""

    def of_subject(data, *at):
        (found,) = _solved_rows(base, drawn, anatomy, (endpoint,), data, *at).of_each(
            lambda r: {name: part for name, part in r.parts().items() if name in LIMITS}
        )
        return None, found

    return over_subjects(of_subject, arrays, *rows)[1]


@eqx.filter_jit
def _draw(base: Model, drawn: Drawn | None, anatomy: Anatomy, endpoints: tuple[str, ...], arrays: Ragged, *rows):
    """An observation of each of ``endpoints`` (e,) at every sample, from states already solved."""

    def of_subject(data, eta, member, r, states, own, known, keys):
        rows = _solved_rows(base, drawn, anatomy, endpoints, data, eta, member, r, states)
        count = len(data.timeline.sample)
        own = own[:, :count]
        both = [jax.random.split(key) for key in keys]
        drives = [
            link.drive(carried, seen | past.known, rows.course, past, first)
            for link, carried, past, seen, (first, _) in zip(*rows.memory(known), own, both, strict=True)
        ]
        values = rows.of_each(
            lambda r, drive, key: r.sample(drive, key), drives, [jax.random.split(second, count) for _, second in both]
        )
        return None, jnp.stack(values, axis=-1)

    return over_subjects(of_subject, arrays, *rows)[1]
