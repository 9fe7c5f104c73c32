"""The covariance of the estimates as a fit reports it, on the line of the search; and whose refits are whose."""

from __future__ import annotations

import numpy as np

from nlme.errors import FitError


def covariance_as_reported(fit) -> np.ndarray:
    """(P, P) covariance in unconstrained parameters, as ``fit.covariance`` reports it on the natural scale.

    Parameters at a bound count as known: their rows and columns are 0.

    Raises
    ------
    FitError
        The fit has no covariance of its estimates.
    """
    covariance = fit.covariance
    matrix = covariance.unconstrained
    if not np.isfinite(matrix).all() or len(covariance.held) == len(matrix) or np.any(np.diagonal(matrix) < 0):
        raise FitError(
            f"the fit has no covariance of its estimates. {covariance.missing} nlme.bootstrap(fit) and nlme.sir(fit) are other ways "
            f"to their uncertainty."
        )
    return matrix


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
