"""The inventory of a model's population parameters: every free number by name, in two coordinates.

``natural`` is what a table shows (clearances, elements of Omega, weights); ``unconstrained`` is what the search moves.
Both are flat vectors of the same length and order, so that entry k of one is entry k of the other, except within a
correlated block of a covariance, where the block maps as a whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.parameters.covariance import COVARIANCE, Covariance
from nlme.parameters.domains import METADATA, POSITIVE, PROBABILITY, REAL, Declaration, Domain, is_concrete, is_numeric
from nlme.parameters.mixture import Mixture

_WHOLE = (Covariance, Mixture)  # fields that map as a whole, with coordinates of their own


@dataclasses.dataclass(frozen=True)
class Entry:
    """One declared field of a model: where it sits, what it is called, and how it maps to the real line (before scaling)."""

    path: tuple[str, ...]
    declaration: Declaration
    names: tuple[str, ...]
    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.names)

    @property
    def ranges(self) -> tuple[Domain, ...]:
        """Where each of the numbers may lie."""
        return tuple(POSITIVE if kind == "variance" else self.declaration.domain for kind in self.kinds)

    def get(self, model: Any) -> Any:
        for name in self.path:
            model = getattr(model, name)
        return model

    def natural(self, model: Any):
        value = self.get(model)
        return value.natural() if isinstance(value, _WHOLE) else _flat(value)

    def unconstrained(self, model: Any):
        value = self.get(model)
        if isinstance(value, _WHOLE):
            return value.unconstrained()
        return self.declaration.domain.to_real(_flat(value))

    def at_natural(self, model: Any, vector):
        value = self.get(model)
        return value.at_natural(vector) if isinstance(value, _WHOLE) else _unflat(vector, value)

    def at_unconstrained(self, model: Any, vector):
        value = self.get(model)
        if isinstance(value, _WHOLE):
            return value.at_unconstrained(vector)
        return _unflat(self.declaration.domain.from_real(vector), value)

    def with_values(self, model: Any, values: Mapping[str, float]):
        """The field with the numbers of these of its names replaced.

        Raises
        ------
        ModelError
            A value outside of the field's domain.
        """
        field = self.get(model)
        elements = {name.removeprefix(".".join(self.path) + "."): value for name, value in values.items()}
        if isinstance(field, Covariance):
            return field.replace(elements)
        if isinstance(field, Mixture):
            shares = dict(zip(field.element_names(), np.asarray(field.natural()).tolist(), strict=True)) | elements
            return field.replace(shares | {field.names[-1]: 1.0 - sum(shares.values())})
        vector = np.array(self.natural(model), dtype=float)
        for name, value in values.items():
            if not is_numeric(value) or np.ndim(value) or not self.declaration.domain.contains(value):
                domain = self.declaration.domain.words(name)
                raise ModelError(f"{type(model).__name__}: {name} = {value!r} is outside its domain, {domain}.")
            vector[self.names.index(name)] = value
        return _unflat(jnp.asarray(vector), field)


@dataclasses.dataclass(frozen=True)
class ParameterRow:
    """One number of a model as a reader sees it."""

    name: str
    label: str
    unit: str
    kind: str  # "fixed effect", "variance", "covariance", "share" or "weight"
    value: float
    domain: str
    fixed: bool = False
    random_effect: str | None = None  # for a variance, the effect it belongs to
    transform: str | None = None  # for a variance, how the effect enters: "log-normal", "normal" or "other"
    range: Domain = REAL  # where the number itself may lie


class Inventory:
    """Names and coordinates of the parameters of one model class, optionally with some of them fixed.

    Only the free parameters appear in the vectors; ``model`` supplies the values of the fixed ones.  As an argument of compiled
    programs it is a pytree of one array, ``scales``: models of one class share programs whatever their values.

    Parameters
    ----------
    model : the model whose fields are listed (its values set the scale of real parameters)
    fixed : names to hold fixed: a field ("ka"), one element ("omega.cl") or a group ("omega", "net")

    Raises
    ------
    ModelError
        A field without a domain, an unknown name in ``fixed``, part of a correlated block fixed.
    """

    def __init__(self, model: eqx.Module, fixed: Iterable[str] = ()):
        entries = tuple(_walk(model, ()))
        names = [name for entry in entries for name in entry.names]
        if len(set(names)) < len(names):
            repeated = next(name for k, name in enumerate(names) if name in names[:k])
            raise ModelError(f"Two parameters share the name {repeated!r}; rename one of the fields.")
        self._table = _Table(entries, _resolve(entries, names_of(fixed)))
        # of all parameters: unconstrained = bijection^-1(value) / scale; one for all but real parameters
        self.scales = np.concatenate([_scale(entry, model) for entry in entries]) if entries else np.zeros(0)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self._table.entries

    @property
    def fixed(self) -> frozenset[str]:
        return self._table.fixed

    @property
    def free(self) -> np.ndarray:
        """(P,) positions of the free parameters among all."""
        return self._table.free

    @property
    def all_names(self) -> list[str]:
        return [name for entry in self.entries for name in entry.names]

    @property
    def names(self) -> list[str]:
        """Names of the free parameters, in the order of the vectors."""
        return [name for name in self.all_names if name not in self.fixed]

    @property
    def linear(self) -> np.ndarray:
        """(P,) which coordinates are the parameters themselves, in units of the size of their values, and no logarithms or logits; weights
        of networks, whose unit is 1, do not count."""
        pairs = zip(self.ranges, self.kinds, strict=True)
        return np.array([domain.name == "real" and kind != "weight" for domain, kind in pairs], bool)

    @property
    def kinds(self) -> list[str]:
        kinds = [kind for entry in self.entries for kind in entry.kinds]
        return [kinds[k] for k in self.free]

    @property
    def ranges(self) -> list[Domain]:
        """Where the numbers of the free parameters may lie."""
        ranges = [domain for entry in self.entries for domain in entry.ranges]
        return [ranges[k] for k in self.free]

    def __len__(self) -> int:
        return len(self.free)

    def natural(self, model) -> jax.Array:
        """(P,) free parameters on their natural scale."""
        return self._gather([entry.natural(model) for entry in self.entries])

    def unconstrained(self, model) -> jax.Array:
        """(P,) free parameters on the unconstrained, scaled line of the search."""
        return self._gather([entry.unconstrained(model) for entry in self.entries]) / self.scales[self.free]

    def at_natural(self, model, vector):
        """``model`` with its free parameters replaced by these natural values."""
        return self._rebuild(model, vector, Entry.natural, Entry.at_natural)

    def at_unconstrained(self, model, vector):
        """``model`` with its free parameters replaced by these unconstrained values."""
        return self._rebuild(model, vector * self.scales[self.free], Entry.unconstrained, Entry.at_unconstrained)

    def with_values(self, model, values: Mapping[str, float]):
        """``model`` with some of its numbers, by the names of tables ("cl", "omega.cl", "omega.v,cl", "beta[0]"), replaced.

        A covariance keeps the correlations that are not given.

        Raises
        ------
        ModelError
            An unknown name, or a value outside of its domain.
        """
        for name in values:
            if name not in self.all_names:
                raise ModelError(name_error("parameter", name, self.all_names, type(model).__name__))
        changed = [entry for entry in self.entries if not values.keys().isdisjoint(entry.names)]
        if not changed:
            return model
        new = [entry.with_values(model, {name: values[name] for name in entry.names if name in values}) for entry in changed]
        return eqx.tree_at(lambda m: [entry.get(m) for entry in changed], model, new)

    def require_searchable(self, model) -> None:
        """Refuse a start from which a search cannot move.

        Raises
        ------
        ModelError
            A variance that is to be estimated is exactly 0.
        """
        zero = self.without_variance(model)
        if zero:
            raise ModelError(
                f"{', '.join(zero)} start{'s' if len(zero) == 1 else ''} at exactly 0 and cannot be estimated from there: hold "
                f"{'it' if len(zero) == 1 else 'them'} at 0, fixed={sorted(self.with_blocks(zero))!r}, or start at a positive variance "
                f"such as 0.05."
            )

    def with_blocks(self, names: Iterable[str]) -> set[str]:
        """``names``, and everything that belongs to a correlated block with one of them."""
        found = set(names)
        for entry in self.entries:
            start = 0
            for size in _groups(entry):
                part = set(entry.names[start : start + size])
                found |= part if part & found else set()
                start += size
        return found

    def without_variance(self, model) -> list[str]:
        """The free variances that are exactly 0."""
        found = zip(self.names, self.kinds, np.asarray(self.natural(model)), strict=True)
        return [name for name, kind, value in found if kind == "variance" and value == 0]

    def rows(self, model, transforms: dict[str, str] | None = None) -> list[ParameterRow]:
        """Every parameter, fixed ones too, with its value; ``transforms`` says how each random effect enters."""
        rows = []
        for entry in self.entries:
            values = np.asarray(entry.natural(model))
            for name, kind, domain, value in zip(entry.names, entry.kinds, entry.ranges, values, strict=True):
                effect = name.rsplit(".", 1)[-1] if kind == "variance" else None
                rows.append(
                    ParameterRow(
                        name=name,
                        label=entry.declaration.label if kind in ("fixed effect", "weight") else _effect_label(name, kind),
                        unit=entry.declaration.unit,
                        kind=kind,
                        value=float(value),
                        domain=str(entry.declaration.domain),
                        range=domain,
                        fixed=name in self.fixed,
                        random_effect=effect,
                        transform=(transforms or {}).get(effect) if effect else None,
                    )
                )
        return rows

    def _gather(self, segments):
        full = jnp.concatenate([jnp.atleast_1d(s) for s in segments]) if segments else jnp.zeros(0)
        return full if len(self.free) == len(full) else full[self.free]

    def _rebuild(self, model, vector, read, write):
        full, moves = vector, self._table.moves
        if not moves.all():
            full = jnp.concatenate([read(entry, model) for entry in self.entries]).at[self.free].set(vector)
        new, start, changed = [], 0, []
        for entry in self.entries:
            stop = start + entry.size
            if moves[start:stop].any():
                changed.append(entry)
                new.append(write(entry, model, full[start:stop]))
            start = stop
        if not changed:
            return model
        return eqx.tree_at(lambda m: [entry.get(m) for entry in changed], model, new)


class _Table:
    """Which parameters there are and which of them are fixed: what compiled programs depend on, compared as a whole."""

    def __init__(self, entries: tuple[Entry, ...], fixed: frozenset[str]):
        self.entries, self.fixed = entries, fixed
        self.moves = np.array([name not in fixed for entry in entries for name in entry.names], dtype=bool)
        self.free = np.flatnonzero(self.moves)
        self._hash = hash((entries, fixed))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other) -> bool:
        same = isinstance(other, _Table) and self._hash == other._hash
        return self is other or (same and (self.entries, self.fixed) == (other.entries, other.fixed))


def _with_scales(table: _Table, children) -> Inventory:
    made = object.__new__(Inventory)
    made._table, (made.scales,) = table, children
    return made


jax.tree_util.register_pytree_node(Inventory, lambda inventory: ((inventory.scales,), inventory._table), _with_scales)


def names_of(fixed) -> tuple[str, ...]:
    """The names of what is to be held fixed: one, or several.

    Raises
    ------
    ModelError
        It is no name.
    """
    found = (fixed,) if isinstance(fixed, str) else tuple(fixed) if isinstance(fixed, Iterable) else (fixed,)
    for name in found:
        if not isinstance(name, str):
            raise ModelError(f'fixed= holds names of parameters, ["ka", "omega.cl"]; got {name!r}.')
    return found


def _resolve(entries: tuple[Entry, ...], fixed: tuple[str, ...]) -> frozenset[str]:
    names = [name for entry in entries for name in entry.names]
    # parts without any number, as a shift by covariates of which none was chosen
    without = {".".join(map(str, e.path[:k])) for e in entries if not e.names for k in range(1, len(e.path) + 1)}
    chosen: set[str] = set()
    for wanted in fixed:
        matched = [n for n in names if n == wanted or n.startswith((wanted + ".", wanted + "["))]
        if not matched and wanted not in without:
            raise ModelError("fixed=: " + name_error("parameter", wanted, names))
        chosen.update(matched)
    for entry in entries:
        start = 0
        for group in _groups(entry):
            part = set(entry.names[start : start + group])
            start += group
            if "share" in entry.kinds and part & chosen and not set(entry.names) <= chosen:
                raise ModelError(f"fixed=: the shares {', '.join(entry.names)} sum to one with the last; fix all of them.")
            if group > 1 and "covariance" in entry.kinds and part & chosen and not part <= chosen:
                raise ModelError(
                    f"fixed=: {', '.join(sorted(part & chosen))} belongs to a correlated block; fix the whole block "
                    f"({', '.join(sorted(part))}) or declare the effects uncorrelated."
                )
    return frozenset(chosen)


def _groups(entry: Entry) -> list[int]:
    """Sizes of the runs of elements that map together."""
    if not any(kind in ("variance", "covariance") for kind in entry.kinds):
        return [1] * entry.size
    sizes, run = [], 0
    for k, name in enumerate(entry.names):
        run += 1
        last = k + 1 == entry.size or (entry.kinds[k + 1] == "variance" and not _continues(entry.names, k + 1))
        if last:
            sizes.append(run)
            run = 0
    return sizes


def _continues(names: tuple[str, ...], k: int) -> bool:
    """Whether variance k closes a row of the block that is open (its covariances stand just before it)."""
    return "," in names[k - 1] and names[k - 1].rsplit(".", 1)[-1].split(",")[0] == names[k].rsplit(".", 1)[-1]


def _effect_label(name: str, kind: str) -> str:
    effect = name.rsplit(".", 1)[-1]
    if kind == "share":
        return f"Share of {effect}"
    if kind == "variance":
        return f"Variance of eta {effect}"
    return "Covariance of eta " + " and eta ".join(effect.split(","))


def _scale(entry: Entry, model) -> np.ndarray:
    """The size of a real parameter's starting value, to the nearest power of ten."""
    scale, value = np.ones(entry.size), entry.get(model)
    if entry.declaration.domain.name == "real" and "weight" not in entry.kinds and is_concrete(value):
        start = np.abs(np.asarray(value, dtype=float)).reshape(-1)
        scale = 10.0 ** np.round(np.log10(np.where(start > 0, start, 1.0)))
    return scale


def _walk(module: Any, prefix: tuple[str, ...]) -> Iterator[Entry]:
    for field in dataclasses.fields(module):
        path = (*prefix, field.name)
        dotted = ".".join(path)
        value = getattr(module, field.name)
        declaration = field.metadata.get(METADATA)
        if isinstance(value, Covariance):
            declaration = declaration or Declaration(COVARIANCE)
            kinds = tuple("variance" if i == j else "covariance" for i, j in value.positions())
            names = tuple(f"{dotted}.{element}" for element in value.element_names())
            yield Entry(path, declaration, names, kinds)
        elif isinstance(value, Mixture):
            names = tuple(f"{dotted}.{name}" for name in value.element_names())
            yield Entry(path, declaration or Declaration(PROBABILITY), names, ("share",) * len(names))
        elif declaration is not None:
            names = tuple(_element_names(dotted, value))
            kind = declaration.kind
            yield Entry(path, declaration, names, (kind,) * len(names))
        elif isinstance(value, eqx.Module):
            yield from _walk(value, path)
        elif field.metadata.get("static", False):
            if any(isinstance(x, np.ndarray | jax.Array) and x.ndim for x in jax.tree.leaves(value)):
                raise ModelError(
                    f"Field {dotted!r} is static and holds an array, which Python cannot compare as it does constants. Give it as a tuple, "
                    f"{field.name}: tuple = eqx.field(static=True, default=(1.0, 2.0)), and use jnp.asarray(self.{field.name})."
                )
        elif any(map(eqx.is_inexact_array, jax.tree.leaves(value))):
            if type(module).__module__.startswith("equinox"):
                raise ModelError(
                    f"Field {'.'.join(prefix)!r} is an Equinox module, whose numbers have no domain. Its arrays become weights with "
                    f"{prefix[0]}: nlme.Module = nlme.module({type(module).__name__}(...))."
                )
            raise ModelError(
                f"Field {dotted!r} holds numbers but no domain. Declare it as a parameter, for example "
                f"{field.name}: Scalar = nlme.positive(1.0), or as a constant: {field.name}: tuple = (1.0, 2.0), which Python compares by its values."
            )


def _element_names(name: str, value: Any) -> Iterator[str]:
    leaves = jax.tree_util.tree_flatten_with_path(value)[0]
    for path, leaf in leaves:
        stem = name + jax.tree_util.keystr(path)
        shape = np.shape(leaf)
        for index in np.ndindex(shape):
            yield stem + (f"[{','.join(map(str, index))}]" if shape else "")


def _flat(value):
    leaves = [jnp.reshape(leaf, (-1,)) for leaf in jax.tree.leaves(value)]
    return jnp.concatenate(leaves) if leaves else jnp.zeros(0)  # an expression of terms of which none saturates has no halves


def _unflat(vector, like):
    leaves, tree = jax.tree.flatten(like)
    out, start = [], 0
    for leaf in leaves:
        size = int(np.prod(np.shape(leaf), dtype=int))
        out.append(jnp.reshape(vector[start : start + size], np.shape(leaf)))
        start += size
    return jax.tree.unflatten(tree, out)
