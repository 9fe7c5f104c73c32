"""Which combinations of parameters the data leave undetermined, from what SAEM knows of them after a while of smoothing.

Moving the parameters along v changes nothing that the data show if either

1. not even the complete data would show it: v'I_c v = 0 (a parameter that reaches nothing; two that only appear as a product), or
2. what is missing is all of it, v'V v = v'I_c v (a variance of a random effect that each subject shows once, beside the residual's).

The second is a difference of noisy matrices, which is not 0 exactly.  What tells it from a small one are the scores of the
subjects, S_i = d log L_i / du, which must vanish along v one by one.  They are estimated at held parameters, A_i by one half of the
chains and B_i by the other: the sum T of (v'A_i) (v'B_i) has the expectation of sum_i (v'S_i)^2, whatever the chains' noise, and

    var T = sum_i sigma_i^4,      E (v'A_i - v'B_i)^4 = 12 sigma_i^4        if there is nothing but noise.

Source: Louis (1982), doi:10.1111/j.2517-6161.1982.tb01203.x (I_c and V).
"""

from __future__ import annotations

import numpy as np

from nlme.fitting.saem.iteration import State

_NOTHING = 1e-7  # of the complete data's information, in units of its diagonal: rounding
_LITTLE = 0.1  # share of the complete data's information that the data hold, below which the scores are asked
_NOISE = 5.0  # standard deviations of T
_PART = 0.2  # of the largest element of a direction, from which a parameter belongs to it


def doubtful(state: State) -> bool:
    """Whether there may be undetermined directions."""
    return any(directions.shape[1] > 0 for directions in _doubtful(state))


def undetermined(state: State) -> np.ndarray:
    """(R, P) directions in the unconstrained parameters, from a state that has been at held parameters; their largest element is 1."""
    nothing, little = _doubtful(state)
    one, other = np.asarray(state.scores) @ little
    product = one.T @ other
    little = little @ np.linalg.eigh(product + product.T)[1]
    one, other = np.asarray(state.scores) @ little
    noise = np.sqrt(np.sum((one - other) ** 4, axis=0) / 12.0)
    found = np.concatenate([nothing, little[:, np.sum(one * other, axis=0) < _NOISE * noise]], axis=1).T
    return found / np.max(np.abs(found), axis=1, keepdims=True)


def _doubtful(state: State) -> tuple[np.ndarray, np.ndarray]:
    """Directions (P, R) that the complete data do not show, and those of which most is missing."""
    complete, missing = np.asarray(state.complete), np.asarray(state.missing)
    if not complete.size or not (np.all(np.isfinite(complete)) and np.all(np.isfinite(missing))):
        return np.zeros((len(state.u), 0)), np.zeros((len(state.u), 0))
    size = np.sqrt(np.maximum(np.diagonal(complete), 0.0))
    unit = 1.0 / np.where(size <= 1e-150, 1.0, size)
    values, vectors = np.linalg.eigh(complete * np.outer(unit, unit))
    nothing = values < _NOTHING
    # coordinates in which the complete data's information is the identity
    whitened = unit[:, None] * vectors[:, ~nothing] / np.sqrt(values[~nothing])
    shares, turned = np.linalg.eigh(np.eye(whitened.shape[1]) - whitened.T @ missing @ whitened)
    return unit[:, None] * vectors[:, nothing], whitened @ turned[:, shares < _LITTLE]


def combinations(directions: np.ndarray, names: list[str]) -> tuple[tuple[str, ...], ...]:
    """The parameters that belong to each direction, largest part first."""
    return tuple(
        tuple(names[k] for k in np.argsort(-np.abs(v), kind="stable") if abs(v[k]) > _PART) for v in separated(directions)
    )


def separated(directions: np.ndarray) -> np.ndarray:
    """Directions (R, P) of the same span, each with as few parameters as elimination leaves: which of them two singular directions are
    given as is arbitrary."""
    rows, done = np.array(directions, float), 0
    for _ in range(len(rows)):
        left = np.abs(rows[done:])
        i, j = np.unravel_index(np.argmax(left), left.shape)
        rows[[done, done + i]] = rows[[done + i, done]]
        rows[done] /= rows[done, j]
        others = np.arange(len(rows)) != done
        rows[others] -= rows[others, j][:, None] * rows[done]
        done += 1
    return rows / np.max(np.abs(rows), axis=1, keepdims=True) if len(rows) else rows
