"""Laplace's method: the exact second derivatives of the joint density at its mode.

    -2 log L = 2 Phi(b^) + log det d2Phi/db2 (b^)

Its gradient needs third derivatives of the states, but only contracted with H^-1: the second derivatives along the directions
of H^-1, differentiated once more (``Subject.third``).  Source: Wolfinger (1993),
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
    thirds: ClassVar[bool] = True

    def objective(self, subject, model, b):
        at = subject.curvature(model, b)
        return 2.0 * at.value + log_det(at.hessian) + subject.third(model, b, at.hessian)
