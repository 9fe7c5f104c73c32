"""Learned terms that start as no correction: inputs standardised, outputs on a scale of their own.

    z = (x - center) / scale,      out = output(init, correction(z))

or, without a constant of its own, output(init, correction(z) - correction(0)).

``center`` and ``scale`` of an input that were not declared are None, and the input is taken as it is until the model meets a
population, whose values are then written here (:mod:`nlme.language.standardisation`).
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.keys import key_of
from nlme.neural.output import Output, output_of
from nlme.neural.term import LearnedTerm, learned_terms
from nlme.parameters.domains import is_numeric

_Own = TypeVar("_Own", bound="Correction")


class Correction(LearnedTerm):
    """A learned term with standardised inputs, and outputs that start where they are told to.

    Attributes
    ----------
    inputs, outputs : names, or () where they are only counted
    center, scale : what each input is standardised with; None where that is not known yet
    output : where the outputs start and may lie
    """

    inputs: tuple[str, ...] = eqx.field(static=True)
    outputs: tuple[str, ...] = eqx.field(static=True)
    center: tuple[float | None, ...] = eqx.field(static=True)
    scale: tuple[float | None, ...] = eqx.field(static=True)
    output: Output = eqx.field(static=True)

    @abc.abstractmethod
    def correction(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The correction, at standardised inputs: what ``output`` brings to the outputs' own scale."""

    @property
    @abc.abstractmethod
    def last(self):
        """The weights without which there is no correction."""

    @property
    def n_inputs(self) -> int:
        return len(self.center)

    @property
    def size(self) -> int:
        """Number of weights and biases."""
        return sum(int(np.prod(np.shape(x))) for x in jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array)))

    numbers: ClassVar[tuple[str, ...]] = ("center", "scale")  # the fields that a population fills

    @property
    def unwritten(self) -> tuple[int, ...]:
        """Positions of the inputs that are not standardised by any numbers yet."""
        return tuple(k for k, c in enumerate(self.center) if c is None)

    @property
    def corrects(self) -> bool:
        """Whether there is any correction yet."""
        return any(np.any(np.asarray(x) != 0.0) for x in jax.tree.leaves(self.last))

    def written(self: _Own, seen: Mapping[int, np.ndarray]) -> _Own:
        """The term standardised for good: by mean and standard deviation of the values (M,) seen of some inputs, the other ones,
        of which nothing was declared, as they are."""
        means = {k: (float(np.mean(values)), float(np.std(values))) for k, values in seen.items()}
        found = [means.get(k, (0.0, 1.0)) if c is None else (c, self.scale[k]) for k, c in enumerate(self.center)]
        center, scale = zip(*found, strict=True)
        return dataclasses.replace(self, center=center, scale=scale)

    def standard(self, x):
        """Inputs (..., inputs) in units of their standardisation."""
        return (x - self._centers) / self._scales

    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        return self.output.at(lambda x: self.from_center(self.standard(x)), x)

    def from_center(self, z: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The correction, or how far it is from that of standardised inputs of 0 where it has no constant."""
        found = self.correction(z)
        return found if self.output.constant else found - self.correction(jnp.zeros(self.n_inputs))

    @property
    def _centers(self) -> np.ndarray:
        return np.array([0.0 if c is None else c for c in self.center])

    @property
    def _scales(self) -> np.ndarray:
        return np.array([1.0 if s is None else s for s in self.scale])

    def __repr__(self) -> str:
        ins = ", ".join(self.inputs) or f"{self.n_inputs} input{'s' if self.n_inputs != 1 else ''}"
        outs = f" -> {', '.join(self.outputs)}" if self.outputs else ""
        own = self.form if all(hasattr(x, "shape") for x in jax.tree.leaves(self)) else ""
        said = [own, self.standardisation, self.output.words(labels(self.inputs, self.n_inputs))]
        return f"{type(self).__name__}({ins}{outs}; {'; '.join(filter(None, said))})"

    @property
    def standardisation(self) -> str:
        """The numbers of the standardisation: "wt 71.2 ± 14"."""
        pairs = zip(labels(self.inputs, self.n_inputs), self.center, self.scale, strict=True)
        return ", ".join(f"{name} {c:.4g} ± {s:.4g}" for name, c, s in pairs if c is not None and (c, s) != (0.0, 1.0))


def numbers_of(model: Any) -> dict[str, dict[str, tuple]]:
    """Term -> field -> what its inputs are standardised with, of every term of a model that is; None for what is not known."""
    terms = {name: term for name, term in learned_terms(model).items() if isinstance(term, Correction)}
    return {name: {field: getattr(term, field) for field in term.numbers} for name, term in terms.items()}


def with_numbers(model: Any, numbers: Mapping[str, Mapping[str, Any]], instead: bool = False):
    """``model`` with these numbers in the terms that have none of their own, or ``instead`` of those that they have."""
    terms = learned_terms(model)
    told = {
        name: {field: _tuples(value) for field, value in numbers[name].items()}
        for name, term in terms.items()
        if isinstance(term, Correction) and (term.unwritten or instead) and numbers.get(name, {}).keys() == set(term.numbers)
    }
    if not told:
        return model
    new = [dataclasses.replace(terms[name], **fields) for name, fields in told.items()]
    return eqx.tree_at(lambda m: [learned_terms(m)[name] for name in told], model, new)


def _tuples(value):
    """JSON's lists as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def labels(names: tuple[str, ...], count: int, kind: str = "input") -> tuple[str, ...]:
    """Names, or numbers where there are none."""
    return names or tuple(f"{kind} {k + 1}" for k in range(count))


def declared(who: str, o: Mapping) -> tuple[dict, int]:
    """Fields that every correction has from the arguments ``o`` of its declaration, and the number of its outputs.

    Raises
    ------
    ModelError
        A name twice, no input or output, numbers of another length, a scale that is not positive; see :func:`output_of`.
    """
    names_in, count_in = named(who, "inputs", o["inputs"])
    names_out, count_out = named(who, "outputs", o["outputs"])
    center, scale = (_per_input(who, what, o[what], names_in, count_in) for what in ("center", "scale"))
    pairs = list(zip(center, scale, strict=True))
    # a number for the one makes the other neutral
    center = tuple(0.0 if c is None and s is not None else c for c, s in pairs)
    scale = tuple(1.0 if s is None and c is not None else s for c, s in pairs)
    if not all(s is None or s > 0 for s in scale):
        raise ModelError(f"{who}: every scale must be positive; got {scale}.")
    output = output_of(who, names_in, count_in, names_out, count_out, o)
    return dict(inputs=names_in, outputs=names_out, center=center, scale=scale, output=output), count_out


def plus_constant(c: Float[Array, " outputs"], constant: Float[Array, " some"]) -> Float[Array, " outputs"]:
    """A correction with its constant, () where it has none."""
    return c + constant if len(constant) else c


def seed(who: str, key):
    """A JAX key of a declaration's ``key``.

    Raises
    ------
    ModelError
        It is neither a whole number nor a key.
    """
    if not isinstance(key, (int, np.integer, jax.Array)):
        raise ModelError(f"{who}: key is a whole number or a JAX key, the seed of the starting weights; got {key!r}.")
    return key_of(key)


def field_of(build, options: Mapping):
    """Field of a model whose default is ``build(**options)``, with what is wrong with these said now."""
    jax.eval_shape(lambda: build(**options))
    return eqx.field(default_factory=lambda: build(**options))


def named(who: str, what: str, given) -> tuple[tuple[str, ...], int]:
    """Names of inputs or outputs, () where they are only counted, and how many.

    Raises
    ------
    ModelError
        Neither a number nor names, or a name twice.
    """
    if isinstance(given, (int, np.integer)) and not isinstance(given, bool) and given > 0:
        return (), int(given)
    if isinstance(given, str) or not isinstance(given, Sequence) or not given or not all(isinstance(n, str) for n in given):
        raise ModelError(f"{who}: {what} is a number of {what} or their names, such as ('wt', 'age'); got {given!r}.")
    if len(set(given)) != len(given):
        raise ModelError(f"{who}: {what} names one twice: {', '.join(given)}.")
    return tuple(given), len(given)


def _per_input(who: str, what: str, given, names: tuple[str, ...], count: int) -> tuple[float | None, ...]:
    if given is None:
        return (None,) * count
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise ModelError(f"{who}, {what}: " + name_error("input", name, names, "The term"))
        values = [given.get(name) for name in names]
    else:
        values = list(np.ravel(given)) if is_numeric(given) else []
        values = values * count if len(values) == 1 else values
    told = [v for v in values if v is not None]
    if len(values) != count or (told and not (is_numeric(told) and np.ndim(told) == 1 and np.all(np.isfinite(told)))):
        raise ModelError(f"{who}: {what} is one finite number, or one for each of the {count} inputs; got {given!r}.")
    return tuple(None if v is None else float(v) for v in values)
