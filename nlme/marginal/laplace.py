"""Laplace's method: the exact second derivatives of the joint density at its mode.

    -2 log L = 2 Phi(b^) + log det d2Phi/db2 (b^)

Its gradient needs third derivatives.  For closed forms they are taken by JAX.  Source: Wolfinger (1993),
doi:10.1093/biomet/80.4.791; Wang (2007), doi:10.1007/s10928-007-9060-6.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from nlme.linalg import log_det
from nlme.marginal.base import Method


@dataclasses.dataclass(frozen=True, repr=False)
class Laplace(Method):
    """Laplace approximation with interaction (NONMEM ``METHOD=1 LAPLACE INTER``)."""

    title: ClassVar[str] = "Laplace approximation"
    order: ClassVar[int] = 3

    def objective(self, subject, model, b):
        at = subject.curvature(model, b)
        return 2.0 * at.value + log_det(at.hessian)
