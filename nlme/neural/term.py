"""A learned function inside a model: how it is called, whatever computes it."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error
from nlme.parameters.domains import METADATA, REAL, Declaration
from nlme.typing import Named


def learned(label: str):
    """Field of numbers that a term learns: fixed effects that tables count and do not list."""
    return eqx.field(metadata={METADATA: Declaration(REAL, "", label, kind="weight")})


class LearnedTerm(eqx.Module):
    """A function of named or counted numbers inside a model: how it is called, whatever computes it.

    Its ``inputs`` and ``outputs`` are names, or () where they are only counted; ``form`` says what it is in a few words.
    """

    word: ClassVar[str] = "The network"

    @property
    @abc.abstractmethod
    def n_inputs(self) -> int:
        """How many numbers it takes."""

    @abc.abstractmethod
    def outputs_at(self, x: Float[Array, " inputs"]) -> Float[Array, " outputs"]:
        """The outputs, in order, for inputs in order."""

    def __call__(self, *values, **named):
        """The outputs for one set of inputs.

        The inputs are given as scalars in order (``net(cov.wt, eta.cl)``), as one vector, or by name: as keywords
        (``net(wt=cov.wt)``), or out of namespaces that hold them among others (``net(cov, eta)``).

        Returns
        -------
        (outputs,) vector; a namespace (``net(cov).cl``) if the outputs have names

        Raises
        ------
        ModelError
            Another number of inputs than it has, a missing, unknown or doubtful name.
        """
        out = self.outputs_at(self.gather(*values, **named))
        return Named({name: out[k] for k, name in enumerate(self.outputs)}, "output", self.word) if self.outputs else out

    def each(self, *values) -> Float[Array, "M outputs"]:
        """The outputs for many sets of inputs at once, such as the points of a state that is a vector: ``net.each(a.u)[:, 0]``.

        Inputs are given in order, each an array (M,) or one number for all.  As ``jax.vmap``, with which a model cannot say what its
        networks were asked; and a program whose size does not grow with M.

        Raises
        ------
        ModelError
            Another number of inputs than it has, or arrays that do not fit together.
        """
        return jax.vmap(self.outputs_at)(self.gathered(*values))

    def gathered(self, *values) -> Float[Array, "M inputs"]:
        """The inputs of ``each``, a row for each set."""
        shapes = [jnp.shape(v) for v in values]
        if len(values) != self.n_inputs or len({s for s in shapes if s}) != 1 or max(map(len, shapes)) > 1:
            raise ModelError(
                f"{self.word}.each takes {self.n_inputs} input{'s' if self.n_inputs != 1 else ''}, arrays (M,) of one length or "
                f"numbers; it was called with {len(values)} of shapes {', '.join(map(str, shapes)) or 'none'}."
            )
        return jnp.stack(jnp.broadcast_arrays(*(jnp.asarray(v, dtype=jnp.float64) for v in values)), axis=-1)

    def gather(self, *values, **named) -> Float[Array, " inputs"]:
        """The inputs of a call, in order; see ``__call__``."""
        return jnp.stack(self.given(*values, **named))

    def given(self, *values, **named) -> list:
        """The same, one by one."""
        count = self.n_inputs
        if named or any(isinstance(v, Named) for v in values):
            return self._by_name(values, named)
        if len(values) == 1 and jnp.ndim(values[0]) == 1:
            values = tuple(values[0])
        if len(values) != count or any(jnp.ndim(v) != 0 for v in values):
            listed = f" ({', '.join(self.inputs)})" if self.inputs else ""
            shapes = ", ".join(str(jnp.shape(v)) for v in values)
            raise ModelError(
                f"{self.word} has {count} input{'s' if count != 1 else ''}{listed}, each a number; "
                f"it was called with {len(values)} of shapes {shapes or 'none'}."
            )
        return [jnp.asarray(v, dtype=jnp.float64) for v in values]

    def _by_name(self, values, named):
        if not self.inputs:
            raise ModelError(f"{self.word}'s inputs have no names: declare them, inputs=('wt', 'age').")
        if not all(isinstance(v, Named) for v in values):
            raise ModelError(
                f"{self.word} is called with numbers in order or with names, not with both: net(cov.wt, cov.age), net(cov) or net(wt=...)."
            )
        for name in named:
            if name not in self.inputs:
                raise ModelError(name_error("input", name, self.inputs, self.word))
        sources = [Named(named, "input"), *values]
        found = []
        for name in self.inputs:
            holders = [source[name] for source in sources if name in source]
            if not holders:
                offered = [key for source in sources for key in source]
                raise ModelError(
                    f"{self.word} was called without its input {name!r}. " + name_error("input", name, offered, "The call")
                )
            if len(holders) > 1:
                raise ModelError(
                    f"{self.word}'s input {name!r} is in more than one of the namespaces it was called with; "
                    f"give inputs different names, or call it with numbers in order."
                )
            found.append(jnp.asarray(holders[0], dtype=jnp.float64))
        return found

    @property
    @abc.abstractmethod
    def form(self) -> str:
        """What it is, in a few words: "2-4-1 tanh"."""


def learned_terms(model: Any) -> dict[str, LearnedTerm]:
    """The learned terms of a model by field ("net", "terms.net")."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(model, is_leaf=is_term)
    return {place_of(path): leaf for path, leaf in leaves if is_term(leaf)}


def is_term(leaf) -> bool:
    return isinstance(leaf, LearnedTerm)


def place_of(path) -> str:
    """ "terms.net" of a place in a tree."""
    return ".".join(str(getattr(key, "name", getattr(key, "key", getattr(key, "idx", key)))) for key in path)
