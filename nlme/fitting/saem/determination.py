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
_MANY = 3  # times as many subjects as parameters, from which their scores are asked of all directions
_LITTLE = 0.2  # share of the complete data's information that the data hold, below which the scores are asked
_NOISE = 5.0  # standard deviations of T
_ROUNDING = 1e-4  # of the largest element of a direction, below which an element is none


def doubtful(state: State) -> bool:
    """Whether there may be undetermined directions."""
    nothing, _, shares = _directions(state)
    return nothing.shape[1] > 0 or bool(np.any(shares < _LITTLE))


def undetermined(state: State) -> np.ndarray:
    """(R, P) directions in the unconstrained parameters, from a state that has been at held parameters."""
    nothing, shown, shares = _directions(state)
    # I_c is known up to the error of N subjects: their scores say best what the direction is, if there are enough of them
    little = shown if state.scores.shape[1] >= _MANY * len(state.u) else shown[:, shares < _LITTLE]
    one, other = np.asarray(state.scores) @ little
    product = one.T @ other
    little = little @ np.linalg.eigh(product + product.T)[1]
    missed = [_fewest(v, state) for v in separated(little[:, _vanishing(state, little)].T)]
    return np.array([*separated(nothing.T), *missed]).reshape(-1, len(state.u))


def _vanishing(state: State, directions: np.ndarray) -> np.ndarray:
    """Along which of the directions (P, R) the scores of all subjects are nothing but noise."""
    one, other = np.asarray(state.scores) @ directions
    return np.sum(one * other, axis=0) < _NOISE * np.sqrt(np.sum((one - other) ** 4, axis=0) / 12.0)


def _fewest(v: np.ndarray, state: State) -> np.ndarray:
    """The direction without the parameters that it is as undetermined without: noise in it, small as it may be, and no smaller than
    the part of one that belongs to it."""
    for k in np.argsort(np.abs(v)):
        without = np.where(np.arange(len(v)) == k, 0.0, v)
        if np.any(without) and _vanishing(state, without[:, None])[0]:
            v = without
    return v


def _directions(state: State) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions (P, R) that the complete data do not show; the others (P, P - R), in which I_c is the identity and J diagonal; and
    the share (P - R,) of the complete data's information along those that is not missing."""
    complete, missing = np.asarray(state.complete), np.asarray(state.missing)
    if not complete.size or not (np.all(np.isfinite(complete)) and np.all(np.isfinite(missing))):
        return np.zeros((len(state.u), 0)), np.zeros((len(state.u), 0)), np.zeros(0)
    size = np.sqrt(np.maximum(np.diagonal(complete), 0.0))
    unit = 1.0 / np.where(size <= 1e-150, 1.0, size)
    values, vectors = np.linalg.eigh(complete * np.outer(unit, unit))
    nothing = values < _NOTHING
    whitened = unit[:, None] * vectors[:, ~nothing] / np.sqrt(values[~nothing])
    shares, turned = np.linalg.eigh(np.eye(whitened.shape[1]) - whitened.T @ missing @ whitened)
    return unit[:, None] * vectors[:, nothing], whitened @ turned, shares


def combinations(directions: np.ndarray, names: list[str]) -> tuple[tuple[str, ...], ...]:
    """The parameters that belong to each direction, largest part first."""
    return tuple(tuple(names[k] for k in np.argsort(-np.abs(v), kind="stable") if v[k]) for v in directions)


def separated(directions: np.ndarray) -> np.ndarray:
    """Directions (R, P) of the same span, each with as few parameters as elimination leaves and a largest element of 1: as which
    combinations of several undetermined ones are given is arbitrary."""
    rows = np.array(directions, float)
    for done in range(len(rows)):
        i, j = np.unravel_index(np.argmax(np.abs(rows[done:])), rows[done:].shape)
        rows[[done, done + i]] = rows[[done + i, done]]
        rows[done] /= rows[done, j]
        others = np.arange(len(rows)) != done
        rows[others] -= rows[others, j][:, None] * rows[done]
    rows = rows / np.max(np.abs(rows), axis=1, keepdims=True, initial=1e-300)
    return np.where(np.abs(rows) < _ROUNDING, 0.0, rows)
