"""How far what a fit has learned is known: the covariance of its parameters as curves and discovery need it.

With H half the Hessian of the objective with its penalty, the covariance of the unconstrained parameters is H^-1; directions in which
H has no curvature are kept apart, for what moves along them is not known at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nlme.diagnostics.audit import information
from nlme.errors import FitError
from nlme.fitting.result import Fit

_MOST_DIFFERENCED = 300  # parameters for which the Hessian is worth its differences
_KNOWN, _ALONG = 1e-10, 1e-5  # of the largest curvature: less is none; of a slope along directions without: less is rounding


def moves(fit: Fit, network: str) -> bool:
    """Whether any weight of a network was estimated."""
    return any(name.startswith(f"{network}.") for name in fit.inventory.names)


class Spread(NamedTuple):
    """The covariance (P, P) of the unconstrained parameters, the directions (P, k) of which nothing is known, and where it is from."""

    covariance: np.ndarray
    unknown: np.ndarray
    source: str


def standard_errors(slopes: np.ndarray, spread: Spread) -> np.ndarray:
    """(M, outputs) of values with these derivatives (M, outputs, P); infinite where they move along a direction that is not known."""
    variance = np.einsum("xop,pq,xoq->xo", slopes, spread.covariance, slopes)
    along, size = np.linalg.norm(slopes @ spread.unknown, axis=2), np.linalg.norm(slopes, axis=2)
    return np.where(along > _ALONG * size, np.inf, np.sqrt(np.maximum(variance, 0.0)))


def covariance_of(fit: Fit) -> Spread:
    """In the unconstrained parameters, the inverse of half the Hessian of the objective and its penalty.

    Raises
    ------
    FitError
        Nothing is known of the curvature.
    """
    hessian, source = information(fit)
    if len(fit.inventory) <= _MOST_DIFFERENCED and source == "scores of the subjects":
        fit.covariance  # noqa: B018 (makes R, which is then known)
        hessian, source = information(fit)
    if hessian is None:
        raise FitError(
            f"Nothing is known of the curvature of {fit.inventory.names[0]} and the others here ({len(fit.inventory)} parameters): "
            f"give bands=nlme.bootstrap(fit, key=1), or bands=None."
        )
    scales = np.sqrt(np.maximum(np.abs(np.diagonal(hessian)), np.finfo(float).tiny))
    if np.linalg.eigvalsh(hessian / np.outer(scales, scales))[0] < -_KNOWN and fit.penalty_slopes is not None:
        # Not at a minimum: what the data say counts where it curves upwards, and beside it the penalty.
        penalty = fit.penalty_slopes[1]
        values, vectors = np.linalg.eigh((hessian - penalty) / np.outer(scales, scales))
        hessian = penalty + np.outer(scales, scales) * ((vectors * np.maximum(values, 0.0)) @ vectors.T)
    values, vectors = np.linalg.eigh(hessian / np.outer(scales, scales))
    vectors, known = vectors / scales[:, None], values > _KNOWN * values[-1]
    own = vectors[:, known] / np.sqrt(values[known])
    unknown = vectors[:, ~known] / np.maximum(np.linalg.norm(vectors[:, ~known], axis=0), np.finfo(float).tiny)
    return Spread(
        2.0 * own @ own.T, unknown, "scores of the subjects" if source == "scores of the subjects" else "Hessian of the objective"
    )
