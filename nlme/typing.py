"""Shapes and names shared by every floor: the ``Scalar`` annotation and ``Named``, a namespace that knows its own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float

from nlme.errors import ModelError, name_error

Scalar = Float[Array, ""]
Vector = Float[Array, "n"]


class MissingName(ModelError, AttributeError):
    """A name that the namespace does not hold; an ``AttributeError`` too, so that ``hasattr`` keeps its meaning."""


@jax.tree_util.register_pytree_with_keys_class
class Named:
    """Immutable namespace of named values that is a JAX pytree and answers a misspelling with the words on offer.

    ``kind`` ("random effect", "covariate", ...) and ``owner`` ("The model") only serve the error message.
    Values are reached as attributes or items: ``eta.cl``, ``eta["cl"]``.
    """

    __slots__ = ("_kind", "_owner", "_values")

    def __init__(self, values: Mapping[str, Any], kind: str = "name", owner: str = "The model"):
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_kind", kind)
        object.__setattr__(self, "_owner", owner)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise MissingName(name_error(self._kind, name, self._values, self._owner)) from None

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise ModelError(
            f"A {self._kind} cannot be assigned ({name!r} = ...): return new values in a dict instead of changing these."
        )

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self):
        return self._values.keys()

    def values(self):
        return self._values.values()

    def items(self):
        return self._values.items()

    def __dir__(self):
        return list(self._values)

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self._values.items())
        return f"{self._kind}({inside})"

    def __reduce__(self):
        return (Named, (self._values, self._kind, self._owner))

    def tree_flatten_with_keys(self):
        keys = tuple(self._values)
        children = [(jax.tree_util.GetAttrKey(k), self._values[k]) for k in keys]
        return children, (keys, self._kind, self._owner)

    @classmethod
    def tree_unflatten(cls, static, children):
        keys, kind, owner = static
        return cls(dict(zip(keys, children, strict=True)), kind, owner)
