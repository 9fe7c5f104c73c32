"""Stepwise regression of random effects on given terms: which of them the subjects' data ask for, and how strongly.

    u_i ~ Normal(sum_j w_j phi_ij e_o(j), Omega),    w_j ~ Normal(0, 1 / a_j),    log L_i(u) = h_i' u - 1/2 u' A_i u

Term j moves random effect o(j). With K_i = (A_i^-1 + Omega)^-1, the information of subject i on its mean, g_i = (I + A_i Omega)^-1 h_i
and Z_i (q x terms in), the terms that are in, each in the row of its random effect:

    weights      (sum_i Z_i' K_i Z_i + diag(a)) w = sum_i Z_i' g_i,   S the inverse of that matrix
    Omega        mean over i of E (u_i - f_i)(u_i - f_i)', over random effects and weights              (EM)
    precisions   a_j = (1 - a_j S_jj) / w_j^2                                                           (MacKay)

in turn. What a term is worth, in -2 log L: of one that is out, its score squared over its information; of one that is in,
(w_j / S_jj)^2 / (1 / S_jj - a_j), the same at its own maximum. The term that is worth most enters as long as it is worth the threshold, and
one that is worth less than that any more goes, for good. The thresholds are gone through from the highest down, each on from the last.

Terms are centred on the subjects that are seen, so that typical values stay those of the fit.

Sources: stepwise covariate models, Jonsson & Karlsson (1998), doi:10.1023/A:1011970125687; weights with a precision of their own, MacKay (1992),
doi:10.1162/neco.1992.4.3.415, which without a threshold keep every term that is worth 1, and with 135 terms of 50 people most of these are noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from nlme.parameters.covariance import Covariance

_ROUNDS = 100
_STILL = 1e-4  # change of weights and Omega, in standard deviations of the random effects
_MOST = 0.5  # terms for every subject


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The terms that are in: (term, output) of each, (terms in,) weights, and (terms,) what all terms are centred on."""

    at: tuple[tuple[int, int], ...]
    weights: np.ndarray
    middle: np.ndarray

    def shifts(self, phi: np.ndarray, outputs: int) -> np.ndarray:
        """(N, outputs) f of subjects with these terms (N, terms)."""
        f = np.zeros((len(phi), outputs))
        for (j, o), w in zip(self.at, self.weights, strict=True):
            f[:, o] += w * (phi[:, j] - self.middle[j])
        return f


def stepwise(
    h: np.ndarray, A: np.ndarray, phi: np.ndarray, to: np.ndarray, unit: Covariance, seen: np.ndarray, worth: Sequence[float]
) -> list[Chosen]:
    """The terms that the subjects ``seen`` ask for, for every threshold in ``worth``, which falls.

    Parameters
    ----------
    phi : (N, terms)
    to : positions of the random effects with terms among the q
    unit : a covariance of all of them, for its blocks and as a start
    worth : -2 log L that a term has to be worth
    """
    middle = phi[seen].mean(axis=0)
    state, found = _Selection(h[seen], A[seen], phi[seen] - middle, np.asarray(to), unit), []
    state.refit()
    for threshold in worth:
        gone = set()
        while True:
            weakest, least = state.weakest()
            if least < threshold:
                gone.add(state.drop(weakest))
            else:
                best, most = state.strongest(gone)
                if most < threshold or len(state.at) >= _MOST * len(state.h):
                    break
                state.enter(best)
            state.refit()
        found.append(Chosen(tuple(state.at), state.weights.copy(), middle))
    return found


def left_over(h: np.ndarray, A: np.ndarray, f: np.ndarray, unit: Covariance) -> Covariance:
    """Omega of what shifts ``f`` (N, q) leave of the random effects: the maximum of the likelihood, by EM."""
    omega, nothing = np.asarray(unit.matrix), np.zeros_like(A)
    for _ in range(10 * _ROUNDS):
        K, g = _information(h, A, omega)
        before, omega = omega, _within(unit, _spread(K, g - _each(K, f), omega, nothing))
        if np.max(np.abs(omega - before)) < 0.1 * _STILL:
            break
    return unit.replace(omega)


class _Selection:
    """The terms that are in, their weights and precisions, and Omega beside them."""

    def __init__(self, h: np.ndarray, A: np.ndarray, phi: np.ndarray, to: np.ndarray, unit: Covariance):
        self.h, self.A, self.phi, self.to, self.unit = h, A, phi, to, unit
        self.omega, self.at = np.asarray(unit.matrix), []
        self.weights, self.precision, self.covariance = np.zeros(0), np.zeros(0), np.zeros((0, 0))

    @property
    def designs(self) -> np.ndarray:
        """(N, q, terms in) Z."""
        Z = np.zeros((*self.h.shape, len(self.at)))
        for k, (j, o) in enumerate(self.at):
            Z[:, self.to[o], k] = self.phi[:, j]
        return Z

    def refit(self) -> None:
        """Weights, Omega and precisions in turn, until they are still."""
        Z = self.designs
        for _ in range(_ROUNDS):
            before = np.append(self.weights, self.omega)
            K, g = _information(self.h, self.A, self.omega)
            whole = np.einsum("nqa,nqr,nrb->ab", Z, K, Z, optimize=True)
            self.covariance = np.linalg.inv(whole + np.diag(self.precision))
            self.weights = self.covariance @ np.einsum("nqa,nq->a", Z, g)
            unsure = Z @ self.covariance @ np.swapaxes(Z, 1, 2)
            self.omega = _within(self.unit, _spread(K, g - _each(K, Z @ self.weights), self.omega, unsure))
            known = 1.0 - self.precision * np.diag(self.covariance)  # how far the data determine each
            self.precision = np.clip(known, 1e-12, None) / np.maximum(self.weights**2, 1e-12)
            if np.max(np.abs(np.append(self.weights, self.omega) - before)) < _STILL:
                break

    def worths(self) -> np.ndarray:
        """(terms in,) what each is worth in -2 log L."""
        variances = np.diag(self.covariance)
        alone = np.maximum(1.0 / variances - self.precision, 1e-12)
        return (self.weights / variances) ** 2 / alone

    def weakest(self) -> tuple[int, float]:
        """Which of the terms that are in is worth least, and what it is worth; without any, infinitely much."""
        worth = self.worths()
        return (k := int(np.argmin(worth)), float(worth[k])) if self.at else (-1, np.inf)

    def strongest(self, gone: set[tuple[int, int]]) -> tuple[tuple[int, int], float]:
        """The term (term, output) that is out and worth most, and what it is worth."""
        K, g = _information(self.h, self.A, self.omega)
        g = g - _each(K, self.designs @ self.weights)
        own = np.einsum("noo->no", K)[:, self.to]
        information = (self.phi**2).T @ own
        worth = (self.phi.T @ g[:, self.to]) ** 2 / np.maximum(information, 1e-12)
        for j, o in {*self.at, *gone}:
            worth[j, o] = -1.0
        best = np.unravel_index(np.argmax(worth), worth.shape)
        return (int(best[0]), int(best[1])), float(worth[best])

    def enter(self, term: tuple[int, int]) -> None:
        self.at = [*self.at, term]
        self.weights, self.precision = np.append(self.weights, 0.0), np.append(self.precision, 1.0)

    def drop(self, k: int) -> tuple[int, int]:
        term = self.at[k]
        self.at = self.at[:k] + self.at[k + 1 :]
        self.weights, self.precision = np.delete(self.weights, k), np.delete(self.precision, k)
        return term


def _information(h, A, omega) -> tuple[np.ndarray, np.ndarray]:
    """K (N, q, q), and g (N, q), the score of every subject's mean at zero; at f it is g - K f."""
    inverse = np.linalg.inv(np.eye(h.shape[1]) + A @ omega)
    return inverse @ A, _each(inverse, h)


def _each(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(N, q) every matrix (N, q, q) by its vector (N, q)."""
    return np.einsum("nij,nj->ni", matrices, vectors)


def _spread(K, score, omega, unsure) -> np.ndarray:
    """The next Omega: the second moment of what is left of every subject's random effects, from the scores (N, q) at shifts with
    covariance ``unsure``: mean Omega score, covariance Omega - Omega K Omega and what the shifts' covariance adds."""
    rest, known = score @ omega, omega @ K
    return np.mean(
        rest[:, :, None] * rest[:, None, :] + omega - known @ omega + known @ unsure @ np.swapaxes(known, 1, 2), axis=0
    )


def _within(unit: Covariance, omega: np.ndarray) -> np.ndarray:
    """The blocks of ``unit`` out of a matrix."""
    mask = np.zeros(omega.shape)
    for block in unit.blocks:
        mask[np.ix_(block, block)] = 1.0
    return mask * 0.5 * (omega + omega.T) + 1e-12 * np.eye(len(omega))
