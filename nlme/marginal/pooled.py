"""Naive pooled data: all subjects as one, without random effects.

    -2 log L_i = -2 log p(y_i | eta = 0)

Variances of random effects have no part in it and are not estimated.  Source: Sheiner & Beal (1980), doi:10.1007/BF01060053.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from nlme.marginal.base import Method


@dataclasses.dataclass(frozen=True, repr=False)
class NaivePooled(Method):
    """Everyone is the typical subject: a first look at a structure, and starting values.  Its standard errors are too small."""

    title: ClassVar[str] = "Naive pooled data"
    searches: ClassVar[bool] = False
    individuals: ClassVar[bool] = False
    sites: ClassVar[bool] = False
    order: ClassVar[int] = 1

    def objective(self, subject, model, b):
        zero = jnp.zeros_like(b)
        at = subject.moments(model, zero)
        return 2.0 * subject.phi(at, jnp.log(at.variance), zero)
