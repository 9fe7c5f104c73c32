"""A model whose random effects a network of covariates shifts: eta + f(x) takes the place of eta in ``individual``.

``augmented(base, shift, covariates)`` is a model of a class of its own, derived from the class of ``base``: parameters, methods and names
stay, ``shift`` is one more field (its weights are ``shift.term.weights[0][0,0]`` ...), and Omega is what the network leaves
unexplained. Everything that takes a model takes it.
"""

from __future__ import annotations

import copyreg
import dataclasses
import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from nlme.language.model import Model, documented
from nlme.language.reading import Reading
from nlme.neural.term import LearnedTerm
from nlme.parameters.domains import METADATA, REAL, Declaration
from nlme.typing import Named

FIELD = "shift"


class Learned(eqx.Module):
    """Any Equinox module as a part of a model: its numbers are weights, everything else is constant."""

    weights: tuple[jax.Array, ...] = eqx.field(metadata={METADATA: Declaration(REAL, "", "Network weight", kind="weight")})
    rest: Any = eqx.field(static=True)
    tree: Any = eqx.field(static=True)

    @classmethod
    def of(cls, module: Any) -> Learned:
        numbers, rest = eqx.partition(module, eqx.is_inexact_array)
        leaves, tree = jax.tree.flatten(jax.tree.map(lambda x: jnp.asarray(x, dtype=jnp.float64), numbers))
        return cls(tuple(leaves), rest, tree)

    @property
    def module(self) -> Any:
        """The module with its numbers."""
        return eqx.combine(jax.tree.unflatten(self.tree, self.weights), self.rest)

    def outputs_at(self, x):
        """What the module makes of an input."""
        return self.module(x)


class Shift(eqx.Module):
    """f(x): from covariates and features to shifts of random effects.

    Attributes
    ----------
    term : from the vector (and what the encoders make of their features) to the outputs, in units of ``scale``
    encoders : one for each of ``reading.encoded``, from an array to a vector; None without any
    outputs : the random effects that are shifted
    scale : of each, what the standard deviation of its random effect was without the network
    middle : mean of the term's outputs over the subjects that it was trained on, which is subtracted
    learned_from : hash of the population that it was trained on
    """

    term: LearnedTerm | Learned
    encoders: Encoders | None
    reading: Reading = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    scale: tuple[float, ...] = eqx.field(static=True)
    middle: tuple[float, ...] = eqx.field(static=True)
    learned_from: str = eqx.field(static=True, default="")

    def raw(self, told):
        """The term's outputs for what ``reading.vector`` made of one subject."""
        return self.term.outputs_at(told[0] if self.encoders is None else self.encoders(*told))

    def __call__(self, cov: Mapping[str, Any]) -> dict[str, Any]:
        """Random effect -> its shift, for one subject's covariates."""
        found = self.raw(self.reading.vector(cov))
        of = zip(self.outputs, self.scale, found, self.middle, strict=True)
        return {name: scale * (out - middle) for name, scale, out, middle in of}


class Encoders(Learned):
    """Encoders side by side: the vector, followed by what each makes of its features."""

    names: tuple[str, ...] = eqx.field(static=True, default=())

    @classmethod
    def of(cls, modules: tuple[eqx.Module, ...], names: tuple[str, ...]) -> Encoders | None:
        if not modules:
            return None
        alone = Learned.of(modules)
        return cls(alone.weights, alone.rest, alone.tree, names)

    def __call__(self, vector, seen):
        found = [jnp.ravel(one(seen[name])) for name, one in zip(self.names, self.module, strict=True)]
        return jnp.concatenate([vector, *found])


class Augmented(Model):
    """What the classes of augmented models have in common."""

    def individual(self, eta, cov):
        """As the model without the network, at random effects that the network shifts."""
        shift = getattr(self, FIELD)(cov)
        moved = {name: value + shift[name] if name in shift else value for name, value in eta.items()}
        return self.without().individual(Named(moved, "random effect"), cov)

    def without(self) -> Model:
        """The model without the network, with the same parameters."""
        return made_as(written_as(self), {f.name: getattr(self, f.name) for f in dataclasses.fields(written_as(self))})


def written_as(model: Model) -> type[Model]:
    """The class that somebody wrote: that of the model without its network."""
    return type(model).written if isinstance(model, Augmented) else type(model)


def augmented(base: Model, shift: Shift, covariates: Mapping[str, Any]) -> Augmented:
    """``base`` with ``shift``; ``covariates`` are those that the network reads, with units or shapes."""
    kind = augmented_kind(type(base), tuple(sorted(covariates.items())))
    return made_as(kind, {f.name: getattr(base, f.name) for f in dataclasses.fields(base)} | {FIELD: shift})


@functools.cache
def augmented_kind(base: type[Model], read: tuple[tuple[str, Any], ...]) -> type[Augmented]:
    """The class of models of class ``base`` with a network that reads these covariates (name, unit or shape)."""
    words = {
        "__annotations__": {FIELD: Shift},
        FIELD: eqx.field(default=None),
        "__module__": __name__,
        "__doc__": documented(base),
        "covariates": dict(read) | declared_by(base),
        "written": base,
        "read": read,
    }
    return made_kind(f"{base.__name__}Augmented", (Augmented, base), words, augmented_kind, base, read)


def declared_by(base: type[Model]) -> dict[str, Any]:
    """The covariates that a class declares, with units or shapes; a sequence of names declares them without."""
    declared = base.covariates
    if isinstance(declared, dict):
        return dict(declared)
    return dict.fromkeys((declared,) if isinstance(declared, str) else declared, "")


def made_kind(name: str, bases: tuple[type, ...], words: dict[str, Any], maker: Callable, *arguments: Any) -> type[Model]:
    """A class that is in no file; a pickle of it says how to make it: ``maker(*arguments)``."""
    return types.new_class(name, bases, {}, lambda space: space.update(words, _made_by=(maker, arguments)))


def _reduced(kind: type[Model]) -> str | tuple:
    """What a pickle holds of a model's class: its name, as of every class, or how it was made."""
    return vars(kind).get("_made_by", kind.__qualname__)


copyreg.pickle(type(Model), _reduced)


def made_as(kind: type[Model], values: dict[str, Any]) -> Any:
    """An object of a model's class with these fields, whatever its constructor asks for."""
    made = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made
