"""The objective of a population by several processes, on one machine or many: each evaluates its own subjects, and all know everything.

    process k:  OFV_i(u), dOFV_i/du, b^_i ...  of its own subjects i;        all-gather;        OFV(u) = sum_i OFV_i(u) in every process

Every process runs the same program on the same population.  What the subjects came to is the same in all of them to the last bit, so
that their searches take the same steps without being told to; that they do is looked at in every evaluation.  The processes are those of
``jax.distributed``; numbers travel by its collectives (Gloo between CPUs, NCCL between GPUs), N (P + q + 8) of them or so in an evaluation.
"""

from __future__ import annotations

import jax
import numpy as np

from nlme.errors import FitError
from nlme.language.layout import Division
from nlme.marginal.subjects import Evaluation


def own_part(division: Division, of_subjects):
    """The rows (N, ...) of this process's subjects."""
    return np.asarray(of_subjects)[division.members[division.process]]


def gathered(division: Division, at: Evaluation, u) -> Evaluation:
    """Everybody's evaluation at ``u``, from each process's own ``at``.

    Raises
    ------
    FitError
        The processes are not at the same point, so that they run different programs or on different kinds of machine.
    """
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, at))
    flat = np.concatenate([x.reshape(len(x), -1).astype(float) for x in leaves], axis=1)
    most, u = max(map(len, division.members)), np.asarray(u, float)
    padded = np.zeros((most, flat.shape[1]))
    padded[: len(flat)] = flat
    points, rows = np.split(_of_all(np.concatenate([u, padded.ravel()])), [len(u)], axis=1)
    if np.any(points != points[0]):
        raise FitError(
            "sharding='processes': the processes search at different points. All must run the same script, on the same data, with the "
            "same versions, on machines of one kind."
        )
    whole = np.empty((sum(map(len, division.members)), flat.shape[1]))
    for own, found in zip(division.members, rows.reshape(len(rows), most, -1), strict=True):
        whole[own] = found[: len(own)]
    edges = np.cumsum([x[0].size for x in leaves])[:-1]
    columns = np.split(whole, edges, axis=1)
    return jax.tree.unflatten(
        structure, [c.reshape(len(c), *x.shape[1:]).astype(x.dtype) for c, x in zip(columns, leaves, strict=True)]
    )


def _of_all(numbers: np.ndarray) -> np.ndarray:
    """(processes, n) the numbers (n,) of every process."""
    from jax.experimental.multihost_utils import process_allgather

    return np.asarray(process_allgather(numbers))
