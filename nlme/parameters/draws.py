"""Several vectors of a model's parameters at once, one for each replicate of a program."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from nlme.parameters.inventory import Inventory


class Drawn(eqx.Module):
    """R vectors of the free parameters of ``inventory`` on their natural scale; what is not among them keeps the model's value."""

    inventory: Inventory
    natural: Float[Array, "R P"]

    def __len__(self) -> int:
        return len(self.natural)

    def at(self, model: Any, r: int | Int[Array, ""]) -> Any:
        """``model`` with vector ``r`` (a number or a traced one)."""
        return self.inventory.at_natural(model, self.natural[r])

    def some(self, rows) -> Drawn:
        """The vectors of these rows, in that order."""
        return Drawn(self.inventory, self.natural[rows])


def model_at(model: Any, drawn: Drawn | None, r: Int[Array, ""]) -> Any:
    """The model of replicate ``r``: ``model`` itself where nothing was drawn."""
    return model if drawn is None else drawn.at(model, r)
