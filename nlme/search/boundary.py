"""Covariances at the edge of their range: whether the objective falls when they come off it.

At a singular Omega (a variance of zero, a correlation of one) the coordinates of the search have lost their slopes, and a gradient of
zero says nothing.  The slopes in the elements of Omega themselves,

    G = d objective / d Omega,        symmetric, from J^-T g,  J = d (elements of Omega) / d u,

do (taken a little way off the edge, where J can be inverted): Omega is a minimum only if G is positive semidefinite (the condition of Karush, Kuhn and Tucker for a cone of matrices; for one variance:
its slope is not negative).  Where v'G v < 0 for some v the objective falls along Omega + t v v', and the scores say how far: with
s_i = v'G_i v of subject i,

    t = -sum_i s_i / h,        h = 1/2 sum_i s_i^2,        gain = (sum_i s_i)^2 / (2 h)
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.model import Model
from nlme.marginal.subjects import Evaluation
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Entry, Inventory
from nlme.search.problem import Problem

_GAIN = 1e-3  # promised, from which an edge is left
_SINGULAR = 1e-3  # smallest eigenvalue of a correlation matrix that counts as an edge
_OFF = 1e-3  # how far from there the slopes are taken: correlations are multiplied by one less this
_HAIR = 1e-9


class Raised(NamedTuple):
    """A way off the edge: parameters with Omega + t v v', for several t from the longest, and the gain promised by the first."""

    points: list[np.ndarray]
    gain: float


def off_the_edge(problem: Problem, u: np.ndarray, at: Evaluation, ended: np.ndarray) -> Raised | None:
    """Where the objective falls if a covariance that is singular at ``u`` is made larger; None where it falls nowhere.

    ``at`` is the evaluation at ``u``; ``ended`` (P,) says which parameters stand at an end of their line.
    """
    best = None
    for entry, block, columns in free_blocks(problem.inventory, problem.model):
        value = entry.get(problem.at(u))
        if not (ended[columns].any() or is_singular(value, block)):
            continue
        inside = _with_covariance(problem, entry, u, value, np.asarray(value.matrix), _OFF)
        if inside is None:
            continue
        found = _best_direction(problem, entry, block, columns, inside, problem.evaluate(inside, at.b))
        if found is not None and (best is None or found.gain > best.gain):
            best = found
    return best


def free_blocks(inventory: Inventory, model: Model):
    """(entry, positions of the effects of a block, columns of its elements, its lower triangle by rows, among the free parameters)."""
    place = {name: k for k, name in enumerate(inventory.names)}
    for entry in inventory.entries:
        value = entry.get(model)
        if not isinstance(value, Covariance):
            continue
        names = dict(zip(value.positions(), entry.names, strict=True))
        for block in value.blocks:
            own = [names[i, j] for i in block for j in block if j <= i]
            if all(name in place for name in own):
                yield entry, block, np.array([place[name] for name in own])


def is_singular(value: Covariance, block: tuple[int, ...], least: float = _SINGULAR) -> bool:
    """Whether the smallest eigenvalue of the block's correlation matrix is below ``least``."""
    correlation = np.asarray(value.correlation)[np.ix_(block, block)]
    return bool(np.linalg.eigvalsh(correlation)[0] < least)


def _best_direction(problem: Problem, entry: Entry, block, columns, u, at: Evaluation) -> Raised | None:
    elements = [(i, j) for i in range(len(block)) for j in range(i + 1)]
    jacobian = np.asarray(_jacobian(problem.inventory, entry.path, problem.model, jnp.asarray(u), tuple(block)))[:, columns]
    if not (np.isfinite(jacobian).all() and np.isfinite(at.scores).all()):
        return None
    size = np.abs(jacobian).max(axis=1)
    by_element = np.linalg.solve((jacobian / size[:, None]).T, at.scores[:, columns].T).T / size
    slopes = np.zeros((len(by_element), len(block), len(block)))
    for k, (i, j) in enumerate(elements):
        slopes[:, i, j] = slopes[:, j, i] = by_element[:, k] * (1.0 if i == j else 0.5)
    known = 0.5 * np.sum(np.einsum("nii->ni", slopes) ** 2, axis=0)
    if not np.all(known > 0):
        return None
    unit = known**-0.25
    values, vectors = np.linalg.eigh(slopes.sum(axis=0) * np.outer(unit, unit))
    v = unit * vectors[:, 0]
    s = np.einsum("i,nij,j->n", v, slopes, v)
    h = 0.5 * float(s @ s)
    gain = float(s.sum()) ** 2 / (2.0 * h)
    if values[0] >= 0.0 or gain < _GAIN:
        return None
    omega = entry.get(problem.at(u))
    whole = np.asarray(omega.matrix).copy()
    points = []
    for shorter in (1.0, 0.1, 0.01):
        raised = whole.copy()
        raised[np.ix_(block, block)] += shorter * (-s.sum() / h) * np.outer(v, v)
        points.append(_with_covariance(problem, entry, u, omega, raised, _HAIR))
    return Raised([p for p in points if p is not None], gain)


def _with_covariance(problem: Problem, entry: Entry, u, omega: Covariance, matrix: np.ndarray, off: float) -> np.ndarray | None:
    """``u`` with this matrix in place of ``omega``, its correlations times 1 - ``off``; None where that has no coordinates."""
    sd = np.sqrt(np.diagonal(matrix))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = matrix / np.outer(sd, sd)
    if not np.isfinite(unit).all():
        return None
    matrix = np.outer(sd, sd) * ((1.0 - off) * unit + off * np.eye(len(sd)))
    elements = jnp.asarray([matrix[i, j] for i, j in omega.positions()])
    new = np.asarray(omega.at_natural(elements).unconstrained())
    if not np.isfinite(new).all():
        return None
    place = {name: k for k, name in enumerate(problem.inventory.names)}
    found = np.array(u)
    for name, value in zip(entry.names, new, strict=True):
        if name in place:
            found[place[name]] = value
    return found


@eqx.filter_jit
def _jacobian(inventory, path, model, u, block):
    """Derivatives of the elements of one block of Omega, row by row, in all free parameters."""

    def elements(u):
        value = inventory.at_unconstrained(model, u)
        for name in path:
            value = getattr(value, name)
        omega = value.matrix
        return jnp.stack([omega[i, j] for i in block for j in block if j <= i])

    return jax.jacfwd(elements)(u)
