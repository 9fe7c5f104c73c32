"""First-order method: the model linearised in the random effects at zero, where the marginal is exact.

    y ~ N( f(0), G Omega G' + diag(R(0)) ),   G = df/deta at 0

evaluated through the q x q matrix H = I + a'R^-1 a (a = G L): log|C| = log|R| + log|H| and
r'C^-1 r = r'R^-1 r - u'H^-1 u with u = a'R^-1 r.  Source: Beal & Sheiner (1982), CRC Crit Rev Biomed Eng 8:195; Wang (2007).
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from nlme.linalg import log_det, solve_positive
from nlme.marginal.base import Method


@dataclasses.dataclass(frozen=True, repr=False)
class FO(Method):
    """First-order method (NONMEM ``METHOD=0``).  ``eta`` of such a fit are post hoc modes."""

    title: ClassVar[str] = "First-order"
    searches: ClassVar[bool] = False
    linearises: ClassVar[bool] = True

    def objective(self, subject, model, b):
        zero = jnp.zeros_like(b)
        slopes = subject.slopes(model, zero)
        hessian = subject.expected(slopes)
        m = slopes.moments
        u = subject.total(slopes.a * ((m.transformed - m.mean) / m.variance)[:, None])
        return 2.0 * subject.phi(m, slopes.log_variance, zero) + log_det(hessian) - u @ solve_positive(hessian, u)
