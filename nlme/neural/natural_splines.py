"""Natural cubic splines by their slopes: curves with two continuous derivatives, straight lines beyond the outer knots.

    f(z) = sum_j s_j I_j(z),      I_j(z) = integral of M_j from 0 to z,      M_j >= 0,      sum_j M_j(z) = 1

The K - 1 functions M_j are quadratic B-splines on the K knots, the outer two on each side added, so that their sum is constant
from the outer knots on.  f spans the natural cubic splines with f(0) = 0, its slope is an average of the s_j: equal s_j are a
straight line, positive ones a rising curve (I-splines: Ramsay 1988, doi:10.1214/ss/1177012761).  Evaluated as truncated cubes,

    I_j(z) = linear_j(z) + sum_k c_jk max(min(z, t_K) - t_k, 0)^3 + constant_j.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

FEWEST = 3  # knots


class Basis(NamedTuple):
    """Of n inputs, or of one for all: knots (n, K), coefficients of the truncated cubes (n, K - 1, K), constants (n, K - 1)."""

    knots: np.ndarray
    cubes: np.ndarray
    constants: np.ndarray


@functools.lru_cache(maxsize=256)
def basis_on(*knots: tuple[float, ...]) -> Basis:
    """The basis on these knots of each input, in ascending order."""
    t = np.array(knots)
    basis = Basis(t, np.stack([_cubes(own) for own in t]), np.zeros((len(t), t.shape[1] - 1)))
    return basis._replace(constants=-_integrals(basis, np.zeros(len(t)), np))


def _cubes(t: np.ndarray) -> np.ndarray:
    """(K - 1, K) sixths of the jumps of the second derivative of every M_j at the knots."""
    from scipy.interpolate import BSpline

    step = t[[1, -1]] - t[[0, -2]]
    extended = np.r_[t[0] - step[0] * np.array([2.0, 1.0]), t, t[-1] + step[1] * np.array([1.0, 2.0])]
    curvature = BSpline(extended, np.eye(len(extended) - 3), 2).derivative(2)(0.5 * (t[1:] + t[:-1])).T  # of every piece
    merged = np.vstack([curvature[:2].sum(axis=0), curvature[2:-2], curvature[-2:].sum(axis=0)])
    return np.diff(merged, axis=1, prepend=0.0, append=0.0) / 6.0


def integrals(basis: Basis, z):
    """(n, K - 1) the functions I_j at n inputs."""
    return _integrals(basis, z, jnp)


def _integrals(basis: Basis, z, of):
    knots, (first, *_, last) = basis.knots, np.eye(basis.knots.shape[1] - 1)
    inside = of.minimum(z, knots[:, -1])
    r = of.maximum(inside[:, None] - knots, 0.0)
    cubic = of.sum(basis.cubes * (r * r * r)[:, None, :], axis=2)
    straight = (inside - knots[:, 0])[:, None] * first + of.maximum(z - knots[:, -1], 0.0)[:, None] * last
    return cubic + straight + basis.constants


def even_knots(count: int) -> tuple[float, ...]:
    """Knots over the middle 95 % of a standardised input."""
    return tuple(np.linspace(-2.0, 2.0, count).tolist())
