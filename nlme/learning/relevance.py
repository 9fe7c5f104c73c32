"""Regression of random effects on given terms, each with as much weight as the evidence gives it.

    u_i ~ Normal(W' phi_i, Omega),    w_j ~ Normal(0, 1 / a_j),    log L_i(u) = h_i' u - 1/2 u' A_i u

With K_i = (A_i^-1 + Omega)^-1, the information of subject i on its mean, and g_i = (I + A_i Omega)^-1 h_i:

    weights      (sum_i phi_i phi_i' x K_i + diag(a)) w = sum_i phi_i x g_i
    Omega        mean over i of E (u_i - f_i)(u_i - f_i)', over random effects and weights              (EM)
    precisions   a_j = (1 - a_j S_jj) / w_j^2,  S the covariance of the weights                         (MacKay)

in turn. A weight for which the data say nothing gets a precision without bound and is gone: automatic relevance determination. Terms are
centred on the subjects that are seen, so that typical values stay those of the fit.

Sources: MacKay (1992), doi:10.1162/neco.1992.4.3.415; Tipping (2001), J Mach Learn Res 1:211.
"""

from __future__ import annotations

import numpy as np

from nlme.parameters.covariance import Covariance

_ROUNDS = 100
_STILL = 1e-4  # change of weights and Omega, in standard deviations of the random effects
_GONE = 1e6  # precision above which a weight is left out


def relevant(
    h: np.ndarray, A: np.ndarray, phi: np.ndarray, to: np.ndarray, unit: Covariance, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(terms, outputs) weights, and (terms,) what the terms are centred on, from the subjects ``seen``.

    Parameters
    ----------
    phi : (N, terms)
    to : positions of the random effects with terms among the q
    unit : a covariance of all of them, for its blocks and as a start
    """
    h, A, middle = h[seen], A[seen], phi[seen].mean(axis=0)
    phi, omega = phi[seen] - middle, np.asarray(unit.matrix)
    weights, precision = np.zeros((phi.shape[1], len(to))), np.ones((phi.shape[1], len(to)))
    for _ in range(_ROUNDS):
        before = np.append(weights, omega)
        weights, variances, doubt = _weights(h, A, phi, to, omega, precision)
        f, unsure = np.zeros_like(h), np.zeros_like(A)
        f[:, to] = phi @ weights
        unsure[np.ix_(np.arange(len(h)), to, to)] = doubt
        omega = _within(unit, _spread(h, A, f, omega, unsure))
        kept = precision < _GONE
        known = 1.0 - np.where(kept, precision, 0.0) * variances  # how far the data determine each
        precision = np.where(kept, np.clip(known, 1e-12, None) / np.maximum(weights**2, 1e-12), np.inf)
        if np.max(np.abs(np.append(weights, omega) - before)) < _STILL:
            break
    return weights, middle


def left_over(h: np.ndarray, A: np.ndarray, f: np.ndarray, unit: Covariance) -> Covariance:
    """Omega of what shifts ``f`` (N, q) leave of the random effects: the maximum of the likelihood, by EM."""
    omega, nothing = np.asarray(unit.matrix), np.zeros_like(A)
    for _ in range(10 * _ROUNDS):
        before, omega = omega, _within(unit, _spread(h, A, f, omega, nothing))
        if np.max(np.abs(omega - before)) < 0.1 * _STILL:
            break
    return unit.replace(omega)


def _weights(h, A, phi, to, omega, precision) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and their variances at given precisions, zero for those that are gone; and the covariance of every subject's shifts."""
    q, used, count = h.shape[1], precision.ravel() < _GONE, len(to)
    inverse = np.linalg.inv(np.eye(q) + A @ omega)
    K, g = (inverse @ A)[:, to][:, :, to], (inverse @ h[:, :, None])[:, to, 0]
    whole = np.array([[phi.T @ (K[:, o, p, None] * phi) for p in range(count)] for o in range(count)])
    whole = whole.transpose(2, 0, 3, 1).reshape(precision.size, precision.size)
    covariance = np.linalg.inv(whole[np.ix_(used, used)] + np.diag(precision.ravel()[used]))
    weights, variances = np.zeros((2, precision.size))
    weights[used] = covariance @ (phi.T @ g).ravel()[used]
    variances[used] = np.diag(covariance)
    root = np.zeros((precision.size, int(used.sum())))
    root[used] = np.linalg.cholesky(covariance)
    spread = np.einsum("na,aok->nok", phi, root.reshape(len(precision), count, -1), optimize=True)
    return weights.reshape(precision.shape), variances.reshape(precision.shape), spread @ np.swapaxes(spread, 1, 2)


def _spread(h, A, f, omega, unsure) -> np.ndarray:
    """The next Omega: the second moment of what is left of every subject's random effects by shifts with covariance ``unsure``."""
    C = omega @ np.linalg.inv(np.eye(h.shape[1]) + A @ omega)
    rest = (C @ (h - np.einsum("nij,nj->ni", A, f))[:, :, None])[:, :, 0]
    moved = C @ A @ unsure @ np.swapaxes(C @ A, 1, 2)
    return np.mean(rest[:, :, None] * rest[:, None, :] + C + moved, axis=0)


def _within(unit: Covariance, omega: np.ndarray) -> np.ndarray:
    """The blocks of ``unit`` out of a matrix."""
    mask = np.zeros(omega.shape)
    for block in unit.blocks:
        mask[np.ix_(block, block)] = 1.0
    return mask * 0.5 * (omega + omega.T) + 1e-12 * np.eye(len(omega))
