"""First-order conditional estimation, with and without interaction.

    -2 log L = 2 Phi(b^) + log det H,    H = sum_j [ a a'/g + c c'/2 ] + I

at the mode b^, with a = dm/db and c = d log g / db.  FOCE takes g at b = 0 everywhere, so that c = 0.

Sources: Wang (2007), J Pharmacokinet Pharmacodyn 34:575, doi:10.1007/s10928-007-9060-6; Almquist, Leander & Jirstrand (2015),
J Pharmacokinet Pharmacodyn 42:191, doi:10.1007/s10928-015-9409-1; Lindstrom & Bates (1990), doi:10.2307/2532087.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from nlme.linalg import log_det
from nlme.marginal.base import Method


@dataclasses.dataclass(frozen=True, repr=False)
class FOCEI(Method):
    """First-order conditional estimation with interaction (NONMEM ``METHOD=1 INTER``)."""

    title: ClassVar[str] = "First-order conditional estimation with interaction"
    linearises: ClassVar[bool] = True
    loosest: ClassVar[float] = 1e-4

    def objective(self, subject, model, b):
        slopes = subject.slopes(model, b)
        phi = subject.phi(slopes.moments, slopes.log_variance, b)
        return 2.0 * phi + log_det(subject.expected(slopes))


@dataclasses.dataclass(frozen=True, repr=False)
class FOCE(FOCEI):
    """First-order conditional estimation without interaction (NONMEM ``METHOD=1``): residual variance at eta = 0."""

    title: ClassVar[str] = "First-order conditional estimation"
    interaction: ClassVar[bool] = False
