"""Subjects of very different length side by side: size classes, chunks and devices.

Vectorising over subjects pads each to the longest beside it.  So subjects are sorted into classes of similar size, each with
arrays of its own; a class is worked off in chunks that fit memory; and the subjects of a chunk may be spread over JAX devices.
What is computed for a subject does not depend on any of this.

Subjects side by side wait for the slowest at every turn of a loop, and their arrays leave the processor's cache: numerical
solutions are therefore worked off in small chunks (``WIDTH``), and on a CPU by several threads (``Ragged.share``).

Every class is one more copy of the compiled program.  Classes are therefore chosen to make

    slots + COST x classes,         slots = sum over classes of (subjects) x (longest subject),

as small as possible, where a slot is one event or sample of one subject.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Int

from nlme.errors import ModelError

COST = 50_000  # slots whose work is worth the compilation of one more class
CHUNK = 250_000  # slots worked off at once
WIDTH = 8000  # numbers in the jets of the states of all subjects that are solved side by side (measured)
MOST = 1000  # such subjects
SHARED = 2000  # such numbers above which the work is shared by threads
_CLASSES = 6  # classes
_CUTS = 60  # places considered for cutting


class Part(eqx.Module):
    """The subjects of one class: arrays with a leading axis, in ``chunks`` pieces.

    ``members`` are their positions in the population; the last is repeated to fill the last chunk.  ``places`` says which
    sample of the population's widest arrangement each of the class's samples is.  A share of a class has members and chunks of its
    own, ``data`` are those of all: cut in the program's loop they are not held twice.  Where members have the data of others (one
    patient a thousand times), ``source`` says whose.
    """

    data: object
    members: Int[Array, " n"]
    places: Int[Array, " T"]
    chunks: int = eqx.field(static=True)
    begin: Int[Array, ""] | None = None  # the chunk that a share begins with
    source: Int[Array, " n"] | None = None  # the row of ``data`` of each member; None: they are in its order

    def with_data_of_its_own(self) -> Part:
        """The same with every member's data held apart."""
        if self.source is None:
            return self
        return Part(jax.tree.map(lambda x: x[self.source], self.data), self.members, self.places, self.chunks, self.begin)


class Ragged(eqx.Module):
    """All subjects of a population, by class."""

    parts: tuple[Part, ...]
    back: Int[Array, " N"]  # where each subject stands among the members of all parts
    samples: int = eqx.field(static=True)  # of the widest arrangement
    mesh: Mesh | None = eqx.field(static=True)
    threads: int = eqx.field(static=True, default=1)  # that each work off an equal share of every class
    site_of: Int[Array, " N"] | None = None  # which site each subject belongs to, where sites have random effects

    def share(self, k) -> Ragged:
        """What thread ``k`` (a number or a traced one) works off: an equal part of every class."""

        def of(part: Part) -> Part:
            subjects, chunks = part.members.shape[0] // self.threads, part.chunks // self.threads
            members = jax.lax.dynamic_slice_in_dim(part.members, k * subjects, subjects)
            return Part(part.data, members, part.places, chunks, k * chunks, part.source)

        parts = tuple(map(of, self.parts))
        return Ragged(parts, jnp.arange(sum(part.members.shape[0] for part in parts)), self.samples, None)

    def order(self) -> np.ndarray:
        """(N,) where each subject stands in the results of all shares, one after another."""
        sizes = [len(part.members) for part in self.parts]
        starts = np.cumsum([0, *sizes])
        rows = [
            start + np.arange(size)[k * (size // self.threads) : (k + 1) * (size // self.threads)]
            for k in range(self.threads)
            for start, size in zip(starts, sizes, strict=False)
        ]
        where = np.empty(sum(sizes), int)
        where[np.concatenate(rows)] = np.arange(len(where))
        return where[np.asarray(self.back)]


def size_classes(sizes: np.ndarray) -> list[np.ndarray]:
    """Positions of the subjects of each class, from their sizes in slots; within a class they keep their order."""
    order = np.argsort(sizes, kind="stable")
    ordered = np.asarray(sizes)[order]
    n = len(ordered)
    cuts = np.unique(np.r_[0, np.linspace(0, n, _CUTS + 1).astype(int), n])
    steps = len(cuts) - 1
    # least[k][j]: fewest slots for the subjects before cut j in k classes
    least = np.full((_CLASSES + 1, steps + 1), np.inf)
    came = np.zeros((_CLASSES + 1, steps + 1), int)
    least[0, 0] = 0.0
    for k in range(1, _CLASSES + 1):
        for j in range(1, steps + 1):
            options = least[k - 1, :j] + (cuts[j] - cuts[:j]) * float(ordered[cuts[j] - 1])
            came[k, j] = int(np.argmin(options))
            least[k, j] = options[came[k, j]]
    k = 1 + int(np.argmin(least[1:, steps] + COST * np.arange(1, _CLASSES + 1)))
    found, j = [], steps
    while k:
        i = came[k, j]
        found.append(np.sort(order[cuts[i] : cuts[j]]))
        j, k = i, k - 1
    return found[::-1]


def padded_members(
    members: np.ndarray, longest: int, devices: int, most: int | None = None, threads: int = 1
) -> tuple[np.ndarray, int]:
    """``members`` filled up to equal chunks on every device by repeating the last, and the number of chunks.

    ``most``: subjects in a chunk at most.  With several ``threads`` the number of chunks is a multiple of theirs.
    """
    chunks = max(1, int(np.ceil(len(members) * longest / (CHUNK * devices))))
    if most is not None:
        chunks = max(chunks, -(-len(members) // (most * devices)))
    chunks = -(-chunks // threads) * threads
    total = int(np.ceil(len(members) / (chunks * devices))) * chunks * devices
    return np.r_[members, np.full(total - len(members), members[-1])], chunks


def over_subjects(function: Callable, ragged: Ragged, *rows) -> tuple:
    """``function(data, *row)`` of every subject: its two results, stacked in the order of the population.

    Parameters
    ----------
    function : returns (values, series): pytrees of arrays, those of ``series`` with a leading axis over the subject's samples
    rows : pytrees with a leading axis over subjects

    Returns
    -------
    (values, series) with a leading axis over subjects; ``series`` in the widest arrangement of samples, 0 where a subject has none
    """
    one = ragged.parts[0]
    alone = len(ragged.parts) == 1 and one.members.shape == ragged.back.shape  # one class, in an order of its own
    if alone and all(len(x) == len(one.members) for x in jax.tree.leaves(rows)):  # that of the population
        return _over_part(function, one, ragged.mesh, rows)
    found = [_over_part(function, part, ragged.mesh, jax.tree.map(lambda x: x[part.members], rows)) for part in ragged.parts]
    if alone:
        return found[0]

    def widened(part: Part, series):
        if part.places.shape[0] == ragged.samples:
            return series
        return jax.tree.map(
            lambda x: jnp.zeros((x.shape[0], ragged.samples, *x.shape[2:]), x.dtype).at[:, part.places].set(x), series
        )

    stacked = [(values, widened(part, series)) for part, (values, series) in zip(ragged.parts, found, strict=True)]
    return jax.tree.map(lambda *pieces: jnp.concatenate(pieces)[ragged.back], *stacked)


def _over_part(function: Callable, part: Part, mesh: Mesh | None, rows):
    def one(data, rows):
        data = data if part.source is None else jax.tree.map(lambda x: x[data], part.data)
        return jax.vmap(lambda data, rows: function(data, *rows))(data, rows)

    size = part.members.shape[0] // part.chunks
    given = part.data if part.source is None else part.source

    def pieces(x):
        return jax.tree.map(lambda x: x.reshape(x.shape[0] // size, size, *x.shape[1:]), x)  # no -1: there may be no states

    def joined(x):
        return jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), x)

    def run(data, rows):
        if part.chunks == 1:
            return one(data, rows)
        return joined(jax.lax.map(lambda piece: one(*piece), pieces((data, rows))))

    def share(k, rows):
        return one(jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, k, keepdims=False), whole), rows)

    if part.begin is not None:
        whole = pieces(given)
        if part.chunks == 1:
            return share(part.begin, rows)
        _, found = jax.lax.scan(lambda k, rows: (k + 1, share(k, rows)), part.begin, pieces(rows))
        return joined(found)
    if mesh is None:
        return run(given, rows)
    spread = PartitionSpec(mesh.axis_names[0])
    return jax.shard_map(run, mesh=mesh, in_specs=(spread, spread), out_specs=spread, check_vma=False)(given, rows)


def threaded(program: Callable, ragged: Ragged, *arguments):
    """``program(ragged, *arguments)``, with results of a leading axis over subjects, by as many threads as ``ragged`` asks for.

    ``program`` is a function of a module (not a closure), compiled once for all threads, by ``jax.jit`` with whatever is no array held
    static (Equinox's takes 0.1 ms longer to call); under another transformation it is called as it is.
    """
    leaves, structure = jax.tree.flatten((ragged, arguments))
    if any(isinstance(x, jax.core.Tracer) for x in leaves):
        return program(ragged, *arguments)
    traced = [isinstance(x, (jax.Array, np.ndarray)) for x in leaves]
    arrays = [x for x, is_array in zip(leaves, traced, strict=True) if is_array]
    rest = tuple(None if is_array else x for x, is_array in zip(leaves, traced, strict=True))
    if ragged.threads == 1:
        return _of_share(program, structure, rest, None, arrays)

    def of(k: int):
        return jax.block_until_ready(_of_share(program, structure, rest, np.asarray(k), arrays))

    key = (program, structure, rest, tuple((x.shape, x.dtype) for x in arrays))

    def others():
        return _threads(ragged.threads - 1).map(of, range(1, ragged.threads))

    if key in _compiled:
        begun = others()
        found = [of(0), *begun]
    else:  # the first share alone, so that the program that all have in common is compiled once
        found = [of(0), *others()]
        _compiled.add(key)
    order = ragged.order()
    ordered = np.array_equal(order, np.arange(len(order)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces)[slice(len(order)) if ordered else order], *found)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _of_share(program, structure, rest: tuple, k, arrays: list):
    given = iter(arrays)
    leaves = [next(given) if x is None else x for x in rest]
    ragged, arguments = jax.tree.unflatten(structure, leaves)
    return program(ragged if k is None else ragged.share(k), *arguments)


_compiled: set = set()


def cores() -> int:
    """Processor cores that this process may use: fewer than the machine has under ``taskset`` or in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="nlme")


def mesh_of(sharding) -> Mesh | None:
    """The devices over which subjects are spread: None (one device), "all", a number of them, or a list of JAX devices.

    Raises
    ------
    ModelError
        More devices than there are.
    """
    if sharding is None:
        return None
    if isinstance(sharding, Mesh):
        return sharding
    available = jax.devices()
    if isinstance(sharding, str) and sharding == "all":
        devices: Sequence = available
    elif isinstance(sharding, int) and not isinstance(sharding, bool):
        if not 1 <= sharding <= len(available):
            raise ModelError(
                f"sharding={sharding}: JAX sees {len(available)} device{'s' if len(available) > 1 else ''} "
                f"({available[0].platform}). To use the cores of a CPU as several devices, set the environment variable "
                f"NLME_DEVICES={sharding} before importing nlme."
            )
        devices = available[:sharding]
    elif isinstance(sharding, (list, tuple)) and sharding:
        devices = sharding
    else:
        raise ModelError(f'sharding is None, "all", "processes", a number of devices or a list of them; got {sharding!r}.')
    return Mesh(np.array(devices), ("subjects",))
