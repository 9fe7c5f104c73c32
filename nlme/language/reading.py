"""What a network is told of a subject: covariates and features as one vector, by a recipe that is part of the model.

A covariate is taken as it is, as its logarithm, or as one number for each category but the first (1 where it is that category). Features are
flattened, or projected onto few directions found in advance (principal components, random ones), or left to an encoder. The
recipe is made of constants: nothing of it is estimated with the model.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

LOG, PLAIN = "log", "plain"


class Projection:
    """k directions in D dimensions: x -> matrix (x - center). Compared by its numbers, so that a model can hold it as a constant."""

    def __init__(self, center: np.ndarray, matrix: np.ndarray):
        self.center, self.matrix = np.asarray(center, float), np.asarray(matrix, float)
        self._digest = hashlib.sha256(self.center.tobytes() + self.matrix.tobytes()).hexdigest()

    def __call__(self, x):
        return self.matrix @ (jnp.ravel(x) - self.center)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Projection) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    def __repr__(self) -> str:
        return f"Projection({self.matrix.shape[1]} to {self.matrix.shape[0]}, {self._digest[:12]})"


@dataclasses.dataclass(frozen=True)
class Reading:
    """The recipe.

    Attributes
    ----------
    covariates : (name, "plain"), (name, "log") or (name, code of a category), in the order of the vector
    features : (name, projection or None) whose numbers follow them
    encoded : (name, center, scale) of features that encoders take as they are, standardised as a whole
    """

    covariates: tuple[tuple[str, str | float], ...] = ()
    features: tuple[tuple[str, Projection | None], ...] = ()
    encoded: tuple[tuple[str, float, float], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is read, once."""
        return tuple(dict.fromkeys(name for name, *_ in (*self.covariates, *self.features, *self.encoded)))

    def labels(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
        """Names of the vector's numbers: "wt", "log_wt", "race_2", "genes_1"."""
        found = [_label(name, how) for name, how in self.covariates]
        for name, projection in self.features:
            count = int(np.prod(shapes[name])) if projection is None else len(projection.matrix)
            found += [f"{name}_{k + 1}" for k in range(count)]
        return tuple(found)

    def vector(self, cov: Mapping[str, Any]):
        """The vector of one subject, and what encoders take: name -> array."""
        parts = [jnp.reshape(_number(cov[name], how), (1,)) for name, how in self.covariates]
        parts += [jnp.ravel(cov[name]) if project is None else project(cov[name]) for name, project in self.features]
        seen = {name: (cov[name] - center) / scale for name, center, scale in self.encoded}
        return (jnp.concatenate(parts) if parts else jnp.zeros(0)), seen


def _label(name: str, how: str | float) -> str:
    return name if how == PLAIN else f"log_{name}" if how == LOG else f"{name}_{how:g}"


def _number(value, how: str | float):
    value = jnp.asarray(value, dtype=jnp.float64)
    if how == PLAIN:
        return value
    return jnp.log(value) if how == LOG else jnp.where(value == how, 1.0, 0.0)
