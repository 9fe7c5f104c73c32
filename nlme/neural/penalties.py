"""Penalties on a network's weights, for ``nlme.fit(..., penalty=...)``: part of the search, never of the reported objective."""

from __future__ import annotations

import dataclasses
import math
import numbers

import equinox as eqx
import jax
import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.parameters.inventory import Inventory


@dataclasses.dataclass(frozen=True)
class L2:
    """strength * sum of squares of the weights (ridge, weight decay).

    Added to -2 log L, it makes the fit the mode under independent priors weight ~ Normal(0, sd) with strength = 1 / sd^2.  Biases
    are penalised too: that of the output would otherwise compete with the typical value it corrects.

    Parameters
    ----------
    strength : at least 0
    on : field of the network ("net"); by default every network of the model
    """

    strength: float
    on: str | None = None

    def __post_init__(self):
        if not isinstance(self.strength, numbers.Real) or not 0 <= self.strength < math.inf:
            raise ModelError(f"L2: the strength is a finite number of at least 0; got {self.strength!r}.")

    def __call__(self, model: eqx.Module) -> jax.Array:
        """The penalty at the values of ``model``.

        Raises
        ------
        ModelError
            The model has no weights, or none in the field named.
        """
        entries = [e for e in Inventory(model).entries if "weight" in e.kinds]
        chosen = [e for e in entries if self.on is None or ".".join(e.path[: self.on.count(".") + 1]) == self.on]
        if not chosen:
            fields = sorted({".".join(e.path[:-1]) or e.path[0] for e in entries})
            raise ModelError(
                f"L2(on={self.on!r}): {type(model).__name__} has no network weights there; its networks are: "
                f"{', '.join(fields) or 'none'}."
            )
        return self.strength * sum(jnp.sum(jnp.square(e.natural(model))) for e in chosen)
