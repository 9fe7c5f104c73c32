"""The covariance of the estimates on the line of the search, where proposals and steps cannot leave the parameters' domains."""

from __future__ import annotations

import jax
import numpy as np

from nlme.errors import FitError
from nlme.fitting.result import Fit


def jacobian(fit: Fit, u: np.ndarray) -> np.ndarray:
    """(R, P, P) derivatives of the natural parameters in the unconstrained ones, at each row of ``u`` (R, P)."""
    inventory, model = fit.inventory, fit.model

    def natural(v):
        return inventory.natural(inventory.at_unconstrained(model, v))

    return np.asarray(jax.jit(jax.vmap(jax.jacfwd(natural)))(u))


def covariance_of_search(fit: Fit) -> np.ndarray:
    """(P, P) covariance in unconstrained parameters, R^-1, or S^-1 where R is not positive definite; 0 for those at a bound.

    For steps and proposals, which follow the likelihood's own curvature; what is reported is :func:`nlme.fitting.reported.covariance_as_reported`.

    Raises
    ------
    FitError
        Neither matrix can be had; the data do not determine some parameter.
    """
    for kind in ("R", "S"):
        found = fit.covariance.of_kind(kind)
        matrix, known = found.unconstrained, np.isin(found.names, found.held)
        if not known.all() and np.all(np.isfinite(matrix)) and np.all(np.diagonal(matrix)[~known] > 0):
            return matrix
    raise FitError(f"There is no covariance of the estimates to start from. {fit.covariance.of_kind('R').verdict}")
