"""What each subject's data alone say of its random effects, in Gaussian form: the likelihood without the prior.

A fit has for each subject the mode b^ of the standardised random effects and the Hessian H = A + I of Phi there, in which the
likelihood's part is A and the prior's I. The mode is shrunken towards zero; what the data say is

    log L(b) = h' b - 1/2 b' A b + constant,      h = A b^ + b^      (A (b~) = h, where there is a b~)

in information form, which knows no trouble where the data say nothing (A singular). Directions in which A is negative (a
likelihood that bends the other way) are taken for unknown. Effects that are not regressed on anything (those of occasions) are
integrated out under their own prior. Then b is replaced by u = eta / sd,  eta = L b.

The same pseudo-observations: Laplace approximation of each subject, as in two-stage regressions of posterior modes that weight
them by their covariance; Steimer et al. (1984), doi:10.1007/BF01060882 (global two-stage).
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.fitting.result import Evaluated
from nlme.marginal.subjects import hessians_at
from nlme.parameters.covariance import Covariance


@dataclasses.dataclass(frozen=True)
class Evidence:
    """log L_i(u) = h_i' u - 1/2 u' A_i u, u the random effects of a subject in standard deviations of the fit.

    Attributes
    ----------
    h, A : (N, q) and (N, q, q)
    omega : their covariance in the fit
    """

    h: np.ndarray
    A: np.ndarray
    omega: Covariance

    @property
    def names(self) -> tuple[str, ...]:
        return self.omega.names

    @property
    def sd(self) -> np.ndarray:
        return np.asarray(self.omega.sd)


def evidence_of(fit: Evaluated) -> Evidence:
    """What the data of every subject of a fit say of its own random effects.

    Raises
    ------
    ModelError
        A model without random effects of the subject, with a level above it, with subpopulations, with a variance of zero; a
        method that has no modes.
    """
    anatomy, model = fit.layout.anatomy, fit.model
    omega = model.random()
    if omega is None or not fit.method.individuals:
        raise ModelError(
            f"augment learns from the subjects' random effects, and {type(model).__name__} by {fit.method!r} has none."
        )
    if anatomy.by_site or anatomy.mixture:
        what = f"random effects per {anatomy.above}" if anatomy.by_site else "subpopulations"
        raise ModelError(f"augment takes each subject by itself, and {type(model).__name__} has {what}.")
    still = [name for name, sd in zip(omega.names, np.asarray(omega.sd), strict=True) if sd == 0]
    if still:
        raise ModelError(f"The random effect of {', '.join(still)} has variance 0 in this fit: leave it out of the model first.")
    b, q = np.asarray(fit.near_modes), len(omega.names)
    hessian = np.array(hessians_at(fit.method, anatomy, model, fit.layout.arrays, jnp.asarray(b)))
    hessian[~np.isfinite(hessian).all(axis=(1, 2))] = np.eye(b.shape[1])
    A = _positive(hessian - np.eye(b.shape[1]))
    h = np.einsum("nij,nj->ni", A, b) + b
    A, h = _without(A, h, q)
    # b = L^-1 D u
    back = np.linalg.pinv(np.asarray(omega.cholesky)) @ np.diag(np.asarray(omega.sd))
    return Evidence(h @ back, back.T @ A @ back, omega)


def _positive(matrices: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(0.5 * (matrices + np.swapaxes(matrices, 1, 2)))
    return np.einsum("nik,nk,njk->nij", vectors, np.maximum(values, 0.0), vectors)


def _without(A: np.ndarray, h: np.ndarray, q: int) -> tuple[np.ndarray, np.ndarray]:
    """All but the first q effects integrated out, each standard normal."""
    if A.shape[1] == q:
        return A, h
    own, cross, other = A[:, :q, :q], A[:, :q, q:], A[:, q:, q:] + np.eye(A.shape[1] - q)
    found = np.linalg.solve(other, np.concatenate([np.swapaxes(cross, 1, 2), h[:, q:, None]], axis=2))
    return own - cross @ found[:, :, :q], h[:, :q] - (cross @ found[:, :, q:])[:, :, 0]
