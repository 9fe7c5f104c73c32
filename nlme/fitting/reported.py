"""The covariance of the estimates as a fit reports it, on the line of the search; and whose refits are whose."""

from __future__ import annotations

import numpy as np

from nlme.errors import FitError
from nlme.fitting.covariance import natural_jacobian


def covariance_as_reported(fit) -> np.ndarray:
    """(P, P) covariance in unconstrained parameters: J^-1 C J^-T with C as ``fit.covariance`` reports it, J = dp/du.

    Parameters at a bound count as known: their rows and columns of C are 0.

    Raises
    ------
    FitError
        The fit has no covariance of its estimates.
    """
    covariance, inventory = fit.covariance, fit.inventory
    matrix = np.array(covariance.matrix)
    lost = [name for name, v in zip(inventory.names, np.diagonal(matrix), strict=True) if not np.isfinite(v)]
    if not np.isfinite(matrix).any() or not set(lost) <= set(covariance.held) or np.any(np.diagonal(matrix) < 0):
        raise FitError(
            f"the fit has no covariance of its estimates. {covariance.missing} nlme.bootstrap(fit) and nlme.sir(fit) are other ways "
            f"to their uncertainty."
        )
    inverse = np.linalg.inv(natural_jacobian(inventory, fit.model))
    return inverse @ np.where(np.isfinite(matrix), matrix, 0.0) @ inverse.T


def require_of(found, fit, what: str) -> None:
    """Refuse a bootstrap, a profile or resampled vectors of another fit than ``fit``, for ``what`` takes those of its own.

    Raises
    ------
    FitError
        Other parameters are estimated, or the estimates are others.
    """
    ours, theirs = fit.inventory, found.fit.inventory
    same = list(theirs.names) == list(ours.names)
    if same and np.allclose(np.asarray(theirs.natural(found.fit.model)), np.asarray(ours.natural(fit.model)), rtol=1e-9, atol=0):
        return
    called = [f"{type(one.model).__name__}, objective {one.objective:.3f}" for one in (found.fit, fit)]
    alone = [name for name in (*theirs.names, *ours.names) if name not in theirs.names or name not in ours.names]
    why = f": {', '.join(alone)} estimated in one of them alone" if alone else ""
    raise FitError(f"{what} holds the {type(found).__name__} of another fit ({called[0]}) than that given ({called[1]}){why}.")
