"""Positive definite approximations of a Hessian in P parameters: a matrix, or, for many parameters, a diagonal and a few columns.

Both are what ``nlme.search.quasi_newton`` asks of a metric B: products, solutions among some of the parameters, another scale,
another pair of BFGS. Sources: Nocedal & Wright, Numerical Optimization, 2nd ed. 2006, section 7.2 (limited memory); Woodbury's identity.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

FLATTEST = 1e-5  # eigenvalue of a metric in units of its diagonal
_ROUNDING = 1e-13
DENSE = 300  # parameters, above which no P x P matrix is made
_PAIRS = 40  # of steps and changes of the gradient that are remembered there
_COLUMNS = 100  # directions that the scores keep there; what is left of them goes to the diagonal


def scaled_spectrum(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, the smallest first, and eigenvectors (columns) of a Hessian in units of its diagonal."""
    scale = np.sqrt(np.maximum(np.abs(np.diagonal(hessian)), 1e-300))
    return np.linalg.eigh(np.nan_to_num(hessian / np.outer(scale, scale)))


@dataclasses.dataclass(frozen=True)
class Dense:
    """B = ``matrix`` (P, P)."""

    matrix: np.ndarray

    @property
    def diagonal(self) -> np.ndarray:
        return np.diagonal(self.matrix)

    def times(self, v: np.ndarray) -> np.ndarray:
        return self.matrix @ v

    def solved(self, right: np.ndarray, among: np.ndarray) -> np.ndarray:
        """x with (B x)_k = ``right``_k for the k ``among`` which x is not zero; in units of the diagonal."""
        unit = 1.0 / np.sqrt(self.diagonal[among])
        found = np.zeros(len(right))
        found[among] = unit * np.linalg.solve(unit[:, None] * self.matrix[np.ix_(among, among)] * unit, unit * right[among])
        return found

    def scaled(self, factor: np.ndarray) -> Dense:
        """F B F, F the diagonal matrix of ``factor``."""
        return Dense(factor[:, None] * self.matrix * factor)

    def updated(self, moved: np.ndarray, change: np.ndarray) -> Dense:
        """BFGS's update, by which B ``moved`` = ``change``."""
        old = self.matrix @ moved
        matrix = self.matrix - np.outer(old, old) / (moved @ old) + np.outer(change, change) / (moved @ change)
        return Dense(0.5 * (matrix + matrix.T))

    def positive(self, ridge: float = 0.0) -> Dense:
        """A positive definite matrix near this one: in units of its diagonal, the absolute values of its eigenvalues.

        No eigenvalue is less than ``FLATTEST`` there, nor than what rounding leaves of the largest, and ``ridge`` is added to all. (Source of the absolute values: Dauphin et al.
        2014, arXiv:1406.2572: downhill also where the objective bends downwards.)
        """
        diagonal = np.abs(self.diagonal)
        # a parameter that nothing depends on has no scale; it does not move
        scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(np.nan_to_num(self.matrix / np.outer(scale, scale)))
        sizes = np.abs(values)
        least = max(FLATTEST, _ROUNDING * sizes.max(initial=0.0))  # a diagonal that is small beside the rest makes large ones
        unit = (vectors * (np.maximum(sizes, least) + ridge)) @ vectors.T
        return Dense(unit * np.outer(scale, scale))

    def arrays(self) -> dict[str, np.ndarray]:
        return {"matrix": self.matrix}


@dataclasses.dataclass(frozen=True)
class Factored:
    """B = D + F F', then BFGS's update by each pair: ``flat`` (P,) the diagonal of D, ``factor`` (P, r), pairs (m, P) each."""

    flat: np.ndarray
    factor: np.ndarray
    moves: np.ndarray
    changes: np.ndarray

    @functools.cached_property
    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """(U, s) with B = D + U diag(s) U'."""
        columns, signs = [self.factor], [np.ones(self.factor.shape[1])]
        for moved, change in zip(self.moves, self.changes, strict=True):
            u, s = np.concatenate(columns, axis=1), np.concatenate(signs)
            old = self.flat * moved + u @ (s * (u.T @ moved))
            along = np.stack([old / np.sqrt(moved @ old), change / np.sqrt(moved @ change)], axis=1)
            columns.append(along)
            signs.append(np.array([-1.0, 1.0]))
        return np.concatenate(columns, axis=1), np.concatenate(signs)

    @functools.cached_property
    def _gram(self) -> np.ndarray:
        """U' D^-1 U."""
        u, _ = self._columns
        return u.T @ (u / self.flat[:, None])

    @functools.cached_property
    def diagonal(self) -> np.ndarray:
        u, s = self._columns
        return self.flat + (u**2) @ s

    def times(self, v: np.ndarray) -> np.ndarray:
        u, s = self._columns
        return self.flat * v + u @ (s * (u.T @ v))

    def solved(self, right: np.ndarray, among: np.ndarray) -> np.ndarray:
        """x with (B x)_k = ``right``_k for the k ``among`` which x is not zero."""
        u, s = self._columns
        out, right = ~among, np.where(among, right, 0.0) / self.flat
        gram = self._gram - u[out].T @ (u[out] / self.flat[out, None])
        small = np.linalg.solve(np.diag(s) + gram, u.T @ right)
        return np.where(among, right - (u @ small) / self.flat, 0.0)

    def scaled(self, factor: np.ndarray) -> Factored:
        return Factored(self.flat * factor**2, self.factor * factor[:, None], self.moves / factor, self.changes * factor)

    def updated(self, moved: np.ndarray, change: np.ndarray) -> Factored:
        moves, changes = (np.concatenate([a, b[None]])[-_PAIRS:] for a, b in ((self.moves, moved), (self.changes, change)))
        return dataclasses.replace(self, moves=moves, changes=changes)

    def positive(self, ridge: float = 0.0) -> Factored:
        """With ``FLATTEST`` + ``ridge`` of its diagonal on D where that is less: what F leaves open has some curvature."""
        diagonal = np.abs(self.diagonal)
        scale = np.where(diagonal > 0, diagonal, 1.0)
        return dataclasses.replace(self, flat=np.maximum(self.flat, FLATTEST * scale) + ridge * scale)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"flat": self.flat, "factor": self.factor, "moves": self.moves, "changes": self.changes}


Metric = Dense | Factored


def metric_from(arrays: dict[str, np.ndarray]) -> Metric:
    """The metric whose ``arrays`` these are."""
    return Dense(**arrays) if "matrix" in arrays else Factored(**arrays)


def round_metric(size: int, curvature: float) -> Metric:
    """``curvature`` times the identity."""
    if size <= DENSE:
        return Dense(curvature * np.eye(size))
    return Factored(np.full(size, curvature), np.zeros((size, 0)), np.zeros((0, size)), np.zeros((0, size)))


def of_scores(scores: np.ndarray, diagonal: np.ndarray) -> Metric:
    """S'S / 2 plus a ``diagonal`` (P,), S (N, P) the ``scores``: the expected Hessian of an objective of -2 log likelihoods.

    Of many parameters, S'S in its leading directions, and what is left of its diagonal.
    """
    size = scores.shape[1]
    if size <= DENSE:
        return Dense(0.5 * scores.T @ scores + np.diag(diagonal))
    factor = scores.T / np.sqrt(2.0)
    if factor.shape[1] > _COLUMNS:
        values, vectors = np.linalg.eigh(scores @ scores.T)
        kept = factor @ vectors[:, -_COLUMNS:]
        left = np.maximum(np.sum(factor**2, axis=1) - np.sum(kept**2, axis=1), 0.0)
        factor, diagonal = kept, diagonal + left
    nothing = np.zeros((0, size))
    return Factored(np.asarray(diagonal, float), factor, nothing, nothing)
