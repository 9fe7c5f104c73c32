"""Does this model fit these data, and if so: the data as padded arrays, one leading axis over subjects.

``lay_out`` checks names, turns the records of every subject into events and samples (``nlme.language.records``), and puts the
subjects side by side by size class (``nlme.language.stacking``, ``nlme.language.ragged``).  Nothing here depends on a parameter.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from nlme.data.population import Population
from nlme.data.units import differ
from nlme.digest import forget_changed
from nlme.errors import ModelError, name_error
from nlme.execution.collection import collection_put_off
from nlme.jets.jet import Columns
from nlme.language.anatomy import MEMBER, Anatomy, anatomy_of
from nlme.language.begun import require_begun
from nlme.language.model import Model, covariate_units, feature_shapes
from nlme.language.observed import check_observed
from nlme.language.ragged import MOST, SHARED, WIDTH, Part, Ragged, cores, mesh_of, padded_members, size_classes
from nlme.language.records import records_of
from nlme.language.sites import Sites, sites_of
from nlme.language.stacking import SubjectData, stack
from nlme.language.standardisation import standardised

_REMEMBERED = 8  # times as wide is a subject whose last steps are kept for delays


@dataclasses.dataclass(frozen=True, eq=False)
class Division:
    """The subjects divided over the processes of ``jax.distributed``.

    Attributes
    ----------
    process : which one this is
    members : by process, the positions of its subjects
    arrays : those of this process's subjects, in that order
    """

    process: int
    members: tuple[np.ndarray, ...]
    arrays: Ragged


@dataclasses.dataclass(frozen=True)
class Layout:
    """A model and a population that fit together; ``model`` has the numbers by which its learned terms standardise their inputs.

    ``arrays`` holds the subjects by size class (see ``nlme.language.ragged``).  In the widest arrangement of samples, where
    endpoint e owns ``spans[e]``, ``positions[i, t]`` is the record of subject i behind sample t (-1: none).  ``sites`` says who
    shares random effects, if anybody does; ``division`` which process evaluates whom, where there are several.
    """

    model: Model
    anatomy: Anatomy
    population: Population
    arrays: Ragged
    spans: tuple[tuple[int, int], ...]
    positions: np.ndarray
    sites: Sites | None = None
    division: Division | None = None

    @property
    def n_subjects(self) -> int:
        return len(self.population)

    @property
    def n_observations(self) -> int:
        return int((self.positions >= 0).sum())

    @property
    def observed(self) -> np.ndarray:
        """(N, T) observations, NaN where a subject has none."""
        found = np.full(self.positions.shape, np.nan)
        for i, subject in enumerate(self.population):
            real = self.positions[i] >= 0
            found[i, real] = subject.dv[self.positions[i, real]]
        return found

    def subject(self, i: int) -> tuple[SubjectData, np.ndarray]:
        """The arrays of one subject, and the record behind each of its own samples (-1: padding)."""
        for part in self.arrays.parts:
            where = np.flatnonzero(np.asarray(part.members) == i)
            if len(where):
                data = jax.tree.map(lambda x: x[where[0]], part.data)  # noqa: B023 (used at once)
                return data, self.positions[i, np.asarray(part.places)]
        raise IndexError(i)

    def some(self, drawn: list[np.ndarray]) -> Ragged:
        """The arrays of some subjects, ``drawn`` from every class in turn; rows beside them are in that order."""
        edges = np.cumsum([0, *map(len, drawn)])
        placed = [np.arange(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        return self._gathered(drawn, placed, _company(self.anatomy, int(edges[-1]), None, 2)[0], 1)

    def drawn(self, rows: list) -> tuple[Ragged, Int[Array, " n"]]:
        """The same in a program: the arrays of the subjects at ``rows`` (traced) of every class, and their places in the population."""
        whole = self.some([np.unique(part.members)[: len(own)] for part, own in zip(self.arrays.parts, rows, strict=True)])
        edges = np.cumsum([0, *map(len, rows)])
        parts = []
        for own, like, begin in zip(rows, whole.parts, edges, strict=False):
            parts.append(dataclasses.replace(like, source=jnp.asarray(own)[like.members - begin]))
        who = jnp.concatenate([part.members[jnp.asarray(own)] for part, own in zip(self.arrays.parts, rows, strict=True)])
        return Ragged(tuple(parts), whole.back, whole.samples, None), who

    def repeated(self, times: int, order: int = 0) -> Ragged:
        """The arrays of so many populations like this one, one after another, for solutions with derivatives of this ``order``."""
        count = self.n_subjects
        placed = [(np.unique(part.members) + count * np.arange(times)[:, None]).ravel() for part in self.arrays.parts]
        return self._gathered([own % count for own in placed], placed, *_company(self.anatomy, times * count, None, order))

    def recruited(self, who: np.ndarray) -> Ragged:
        """The arrays of the subjects ``who`` (n,), with repetitions and in that order, for solutions without derivatives."""
        placed = [np.flatnonzero(np.isin(who, np.unique(part.members))) for part in self.arrays.parts]
        return self._gathered([who[at] for at in placed], placed, *_company(self.anatomy, len(who), None, 0))

    def divided(self, process: int, count: int) -> Layout:
        """The same with the subjects of every size class dealt out to ``count`` processes, of which this is ``process``.

        Raises
        ------
        ModelError
            Subjects who share the random effects of a site, or fewer subjects than processes.
        """
        if self.anatomy.by_site:
            raise ModelError(
                f"sharding='processes' divides subjects, and those of a {self.anatomy.above} share random effects; fit in one process."
            )
        if self.n_subjects < count:
            raise ModelError(f"sharding='processes': {self.n_subjects} subjects are too few for {count} processes.")
        classes = [np.unique(part.members) for part in self.arrays.parts]
        turns = np.cumsum([0, *map(len, classes)])  # the next class goes on where the last one ended
        dealt = [[own[(k - turn) % count :: count] for own, turn in zip(classes, turns, strict=False)] for k in range(count)]
        own = dealt[process]
        edges = np.cumsum([0, *map(len, own)])
        placed = [np.arange(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        arrays = self._gathered(own, placed, *_company(self.anatomy, int(edges[-1]), None, 2))
        arrays = dataclasses.replace(arrays, parts=tuple(part.with_data_of_its_own() for part in arrays.parts))
        members = tuple(np.concatenate(parts) for parts in dealt)
        return dataclasses.replace(self, division=Division(process, members, arrays))

    def _gathered(self, subjects: list[np.ndarray], placed: list[np.ndarray], most: int | None, threads: int) -> Ragged:
        """The arrays of ``subjects`` of every class (of some perhaps none), which stand at ``placed`` among all of these."""
        parts, order = [], []
        for part, own, at in zip(self.arrays.parts, subjects, placed, strict=True):
            if not len(own):
                continue
            longest = part.data.timeline.time.shape[1] + part.data.observed.shape[1]
            filled, chunks = padded_members(np.arange(len(own)), longest, 1, most, threads)
            source = np.searchsorted(np.unique(part.members), own[filled])
            parts.append(Part(part.data, at[filled], part.places, chunks, source=source))
            order.append(at[filled])
        return Ragged(tuple(parts), _back(order, sum(map(len, placed))), self.arrays.samples, None, threads)


def _back(order: list[np.ndarray], count: int) -> np.ndarray:
    """(count,) where each subject stands among the members of all parts."""
    back = np.zeros(count, int)
    members = np.concatenate(order)
    back[members] = np.arange(len(members))
    return back


@collection_put_off()
def lay_out(
    model: Model,
    population: Population,
    samples: str = "observations",
    mesh: Mesh | None = None,
    members: np.ndarray | None = None,
) -> Layout:
    """The padded arrays of ``population`` for ``model``.

    ``samples``: "observations" for the likelihood, "records" to sample every record (doses too).  ``mesh``: devices over which
    the subjects are spread.  ``members``: (N,) the subpopulation of every subject; the first by default, which only predictions
    look at.

    Raises
    ------
    ModelError
        A covariate or endpoint of the model is not in the data, an input of a learned term is the same everywhere, a covariate has another unit there, a dose goes to a compartment that the structure does not have,
        a modelled rate or duration is asked for by the data and not given by the model.
    DataError
        An observation cannot come from its endpoint's distribution (``nlme.language.observed``); it is not known which site a
        subject belongs to (``nlme.language.sites``); records before a subject's time began (``nlme.language.begun``).
    """
    if not isinstance(population, Population):
        raise ModelError(
            f"The data must be a Population, as nlme.read_nonmem(path or DataFrame, ...) returns; got {type(population).__name__}"
            + (f" {population!r}." if isinstance(population, str) else ".")
        )
    forget_changed(model)
    anatomy = anatomy_for(model, population)
    _check_covariates(model, anatomy, population)
    model = standardised(model, anatomy, population)
    endpoint_of = match_endpoints(model, anatomy, population)
    if samples == "observations":
        check_observed(population, anatomy, endpoint_of, type(model).__name__)
    between = {name: population.covariates[name].interpolation for name in anatomy.covariates}
    lines = [name for name, how in between.items() if how == "linear" and not population.covariates[name].constant]
    if lines and anatomy.states and anatomy.linear:
        raise ModelError(
            f"Covariate {lines[0]!r} is interpolated linearly, but {anatomy.structure} holds its parameters constant between "
            f"records. Write the model with nlme.ODE, or read the data with interpolation={{{lines[0]!r}: 'nocb'}}."
        )
    subjects = [records_of(s, anatomy, endpoint_of, samples, type(model).__name__, between, lines) for s in population]
    groups = len(anatomy.endpoints)
    lengths = [max(len(s["groups"][e]) for s in subjects) for e in range(groups)]
    edges = np.r_[0, np.cumsum(lengths)]
    spans = tuple((int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))
    positions = np.full((len(subjects), int(edges[-1])), -1)
    sizes = np.array([len(s["events"]) + sum(map(len, s["groups"])) for s in subjects])
    most, threads = _company(anatomy, len(subjects), mesh, 2 if samples == "observations" else 0)
    parts, order = [], []
    for own_class in size_classes(sizes):
        data, own = stack(anatomy, [subjects[i] for i in own_class], bool(anatomy.diffusion) and samples == "observations")
        if members is not None and anatomy.mixture:
            data.covariates[MEMBER][:] = np.asarray(members)[own_class, None]
        places = np.concatenate([np.arange(a, a + d - c) for (a, _), (c, d) in zip(spans, data.spans, strict=True)]).astype(int)
        positions[np.ix_(own_class, places)] = own
        filled, chunks = padded_members(own_class, int(sizes[own_class].max()), 1 if mesh is None else mesh.size, most, threads)
        take = np.searchsorted(own_class, filled)
        data = dataclasses.replace(jax.tree.map(lambda x: x[take], data), number=filled)  # noqa: B023 (used at once)
        held = (data, filled, places)
        # what is evaluated again and again is put on the device, which costs a tenth of a millisecond for each array
        parts.append(Part(*(jax.device_put(held) if samples == "observations" else held), chunks))
        order.append(filled)
    back = _back(order, len(subjects))
    sites = sites_of(population, anatomy.above) if anatomy.above and samples == "observations" else None
    site_of = None if sites is None else jnp.asarray(sites.of)
    arrays = Ragged(tuple(parts), jnp.asarray(back), positions.shape[1], mesh, threads, site_of)
    layout = Layout(model, anatomy, population, arrays, spans, positions, sites)
    require_begun(layout)
    return layout


def spread_out(model: Model, population: Population, sharding) -> Layout:
    """``lay_out`` for a likelihood whose subjects are spread over devices (:func:`nlme.language.ragged.mesh_of`) or "processes".

    Raises
    ------
    ModelError
        As ``lay_out``, ``mesh_of`` and ``Layout.divided``; "processes" without ``jax.distributed.initialize``.
    """
    if not (isinstance(sharding, str) and sharding == "processes"):
        return lay_out(model, population, mesh=mesh_of(sharding))
    if not jax.distributed.is_initialized():
        raise ModelError(
            "sharding='processes' needs jax.distributed.initialize(...) at the beginning of the script, right after `import jax`; "
            "otherwise every process would make the whole fit alone (see docs/distributed.md)."
        )
    return lay_out(model, population).divided(jax.process_index(), jax.process_count())


def _company(anatomy: Anatomy, subjects: int, mesh: Mesh | None, order: int) -> tuple[int | None, int]:
    """How many subjects are solved side by side at most, and by how many threads; None and one without a loop, which
    XLA spreads over the cores by itself.

    ``order``: of the derivatives that their states will carry.
    """
    if not anatomy.looped:
        return None, 1
    width = anatomy.followed * Columns.of_order(order, len(anatomy.inputs)).count
    width *= _REMEMBERED if anatomy.delays else 1
    most = min(MOST, max(4, WIDTH // width))
    threads = cores() if mesh is None and jax.default_backend() == "cpu" and subjects * width > SHARED else 1
    return most, threads


def anatomy_for(model: Model, population: Population) -> Anatomy:
    """What the model is made of when its occasions are those of ``population``."""
    anatomy = anatomy_of(model, population.covariates)
    return anatomy.with_occasions(_occasions(model, anatomy, population)) if anatomy.by_occasion else anatomy


def _occasions(model: Model, anatomy: Anatomy, population: Population) -> tuple[str, ...]:
    """The occasions of the data, in order."""
    found = np.unique(np.concatenate([known for s in population for known in (s.occasion, s.history.occasion)]))
    if not np.any(found):
        raise ModelError(
            f"{type(model).__name__} has random effects per occasion ({', '.join(anatomy.occasional)}), and the "
            "data have no occasions: they need a column OCC with a number that changes from occasion to occasion."
        )
    return tuple(str(occasion) for occasion in found)


def _check_covariates(model: Model, anatomy: Anatomy, population: Population) -> None:
    _check_features(model, population)
    units = covariate_units(model)
    for name in anatomy.covariates:
        if name in population.features:
            raise ModelError(
                f"{type(model).__name__} takes {name!r} for a number, and the data have it as features of shape "
                f"{population.features[name]}. Declare covariates = {{{name!r}: {population.features[name]}, ...}}."
            )
        if name not in population.covariates:
            raise ModelError(
                f"{type(model).__name__} needs covariate {name!r}. "
                + name_error("covariate", name, population.covariates, "The population")
                + f" Read the data with covariates=[{name!r}, ...]."
            )
        unit = population.covariates[name].unit
        if differ(units[name], unit):
            raise ModelError(
                f"{type(model).__name__} takes covariate {name!r} in {units[name]}, and the data have it in {unit}. Convert the "
                f"column, or write the same unit in both: the model's covariates = {{{name!r}: ...}} and read_nonmem(..., "
                f"covariates={{{name!r}: ...}})."
            )


def _check_features(model: Model, population: Population) -> None:
    for name, shape in feature_shapes(model).items():
        if name not in population.features:
            raise ModelError(
                f"{type(model).__name__} needs the features {name!r}. "
                + name_error("features", name, population.features, "The population")
                + f" Give them with population.with_features({name!r}, array)."
            )
        if population.features[name] != shape:
            raise ModelError(
                f"{type(model).__name__} takes features {name!r} of shape {shape}, and the data have shape {population.features[name]}."
            )


def match_endpoints(model: Model, anatomy: Anatomy, population: Population) -> list[int]:
    """Position among the model's endpoints of each of the population's; -1 for one that is only named, and has no observations."""
    if len(population.endpoints) == 1 and len(anatomy.endpoints) == 1:
        return [0]  # one of each: the names need not agree
    for k, name in enumerate(population.endpoints):
        if name not in anatomy.endpoints and any((s.endpoint == k).any() for s in population):
            raise ModelError(
                f"The data's endpoint {name!r} is not one that the model observes. "
                + name_error("endpoint", name, anatomy.endpoints, type(model).__name__)
                + " Name the data's endpoints with read_nonmem(..., dvid={1: ...})."
            )
    return [anatomy.endpoints.index(name) if name in anatomy.endpoints else -1 for name in population.endpoints]
