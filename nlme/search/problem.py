"""What is minimised: a method's objective of a model on a population, as a function of its free parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax

from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.marginal.base import Method
from nlme.parameters.inventory import Inventory

Penalty = Callable[[Model], jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """-2 log L by ``method`` of ``model`` on the data of ``layout``, plus ``penalty``, in the free parameters of ``inventory``.

    The model gives the values of the parameters that are fixed.
    """

    method: Method
    model: Model
    layout: Layout
    inventory: Inventory
    penalty: Penalty | None = None
