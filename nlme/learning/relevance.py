"""Regression of random effects on given terms, each with as much weight as the evidence gives it.

    u_i ~ Normal(W' phi_i, Omega),    w_j ~ Normal(0, 1 / a_j),    log L_i(u) = h_i' u - 1/2 u' A_i u

With K_i = (A_i^-1 + Omega)^-1, the information of subject i on its mean, and g_i = (I + A_i Omega)^-1 h_i:

    weights      (sum_i phi_i phi_i' x K_i + diag(a)) w = sum_i phi_i x g_i
    Omega        mean over i of (m_i - f_i)(m_i - f_i)' + C_i,  m_i and C_i the posterior of u_i         (EM)
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
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(terms, outputs) weights, (terms,) what the terms are centred on, and (q, q) Omega, from the subjects ``seen``.

    Parameters
    ----------
    phi : (N, terms)
    to : positions of the random effects with terms among the q
    unit : a covariance of all of them, for its blocks and as a start
    """
    h, A, middle = h[seen], A[seen], phi[seen].mean(axis=0)
    phi, q = phi[seen] - middle, h.shape[1]
    mask = np.zeros((q, q))
    for block in unit.blocks:
        mask[np.ix_(block, block)] = 1.0
    omega = np.asarray(unit.matrix)
    shape = phi.shape[1], len(to)
    weights, precision = np.zeros(shape), np.ones(shape)
    for _ in range(_ROUNDS):
        before = np.append(weights, omega)
        weights, variances = _weights(h, A, phi, to, omega, precision)
        f = np.zeros_like(h)
        f[:, to] = phi @ weights
        omega = mask * _spread(h, A, f, omega)
        known = 1.0 - precision * variances
        precision = np.where(precision < _GONE, np.clip(known, 1e-12, None) / np.maximum(weights**2, 1e-12), np.inf)
        if np.max(np.abs(np.append(weights, omega) - before)) < _STILL:
            break
    return weights, middle, omega


def _weights(h, A, phi, to, omega, precision) -> tuple[np.ndarray, np.ndarray]:
    """Weights and their variances at given precisions; zero for those that are gone."""
    q, used = h.shape[1], precision.ravel() < _GONE
    inverse = np.linalg.inv(np.eye(q) + A @ omega)
    K, g = (inverse @ A)[:, to][:, :, to], (inverse @ h[:, :, None])[:, to, 0]
    count = len(to)
    whole = np.array([[phi.T @ (K[:, o, p, None] * phi) for p in range(count)] for o in range(count)])
    whole = whole.transpose(2, 0, 3, 1).reshape(precision.size, precision.size)
    covariance = np.linalg.inv(whole[np.ix_(used, used)] + np.diag(precision.ravel()[used]))
    weights, variances = np.zeros((2, precision.size))
    weights[used] = covariance @ (phi.T @ g).ravel()[used]
    variances[used] = np.diag(covariance)
    return weights.reshape(precision.shape), variances.reshape(precision.shape)


def _spread(h, A, f, omega) -> np.ndarray:
    """The next Omega: the second moment of what is left of every subject's random effects."""
    q = h.shape[1]
    C = omega @ np.linalg.inv(np.eye(q) + A @ omega)
    rest = (C @ (h - np.einsum("nij,nj->ni", A, f))[:, :, None])[:, :, 0]
    found = np.mean(rest[:, :, None] * rest[:, None, :] + C, axis=0)
    return 0.5 * (found + found.T) + 1e-12 * np.eye(q)
