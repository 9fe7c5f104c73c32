"""The table of structures that every law crosses: one row per closed form, with the matrix of its equations.

A new structure is a new row here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

import nlme


@dataclasses.dataclass(frozen=True)
class Row:
    """A closed form, typical values of its parameters, and the rows of K(parameters) in da/dt = K a + input."""

    form: type
    parameters: dict[str, float]
    states: tuple[str, ...]
    blocks: Callable

    def equations(self, ind, **rules):
        """The same structure as a system of differential equations."""

        def rhs(t, a):
            rates = self.matrix(ind) @ jnp.stack([a[s] for s in self.states])
            return {s: rates[k] for k, s in enumerate(self.states)}

        return nlme.ODE(rhs, states=self.states, **rules)

    def matrix_numpy(self, p: dict[str, float]) -> np.ndarray:
        return np.array([[float(x) for x in row] for row in self.blocks(p)])

    def matrix(self, p):
        return jnp.stack([jnp.stack([jnp.asarray(x, dtype=jnp.float64) for x in row]) for row in self.blocks(p)])

    def closed(self, ind, **rules):
        return self.form(**{name: ind[name] for name in self.parameters}, **rules)


def _one(p):
    return [[-p["cl"] / p["v"]]]


def _two(p):
    k10, k12, k21 = p["cl"] / p["v1"], p["q"] / p["v1"], p["q"] / p["v2"]
    return [[-k10 - k12, k21], [k12, -k21]]


def _three(p):
    k10, k12, k21 = p["cl"] / p["v1"], p["q2"] / p["v1"], p["q2"] / p["v2"]
    k13, k31 = p["q3"] / p["v1"], p["q3"] / p["v3"]
    return [[-k10 - k12 - k13, k21, k31], [k12, -k21, 0.0], [k13, 0.0, -k31]]


def _oral(disposition):
    def blocks(p):
        rows = disposition(p)
        return [[-p["ka"]] + [0.0] * len(rows), *([p["ka"] if k == 0 else 0.0, *row] for k, row in enumerate(rows))]

    return blocks


# half-lives of hours, so that a steady state is reached within few doses
_ONE = {"cl": 2.6, "v": 9.0}
_TWO = {"cl": 2.6, "v1": 9.0, "q": 3.1, "v2": 8.0}
_THREE = {"cl": 2.6, "v1": 9.0, "q2": 3.1, "v2": 8.0, "q3": 0.9, "v3": 5.0}
_PERIPHERAL = ("peripheral1", "peripheral2")

STRUCTURES = {
    "OneCompartment": Row(nlme.pk.OneCompartment, _ONE, ("central",), _one),
    "TwoCompartment": Row(nlme.pk.TwoCompartment, _TWO, ("central", "peripheral"), _two),
    "ThreeCompartment": Row(nlme.pk.ThreeCompartment, _THREE, ("central", *_PERIPHERAL), _three),
}
STRUCTURES |= {
    f"{name}Oral": Row(
        getattr(nlme.pk, f"{name}Oral"),
        row.parameters | {"ka": 0.8},
        ("depot", *row.states),
        _oral(row.blocks),
    )
    for name, row in list(STRUCTURES.items())
}
