"""Random effects of one subject drawn by importance, at given parameters.

Nodes b_k of ``nlme.ImportanceSampling`` around the subject's mode have the weights w_k = exp(v_k - Phi(b_k)) (see
``nlme.marginal.quadrature``); a node chosen with probability w_k / sum w is a draw from the density of its random effects given its
data, the more closely the more nodes count, 1 / sum (w_k / sum w)^2; and log sum_k w_k estimates log L_i without bias of sum w.
In a mixture the nodes of all subpopulations stand side by side, and the subpopulation is drawn with the node.

Sources: Rubin (1988), Using the SIR algorithm to simulate posterior distributions, Bayesian Statistics 3:395; the proposal:
Hesterberg (1995), Technometrics 37:185, doi:10.1080/00401706.1995.10484303.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.fitting.monte_carlo import weighted_nodes
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.stacking import SubjectData
from nlme.marginal.curvature import curvature_at
from nlme.marginal.mode import find_mode
from nlme.marginal.quadrature import ImportanceSampling


class Proposals(NamedTuple):
    """Nodes in each of M subpopulations (1 without a mixture), and log w_mk."""

    nodes: Float[Array, "M K q"]
    logs: Float[Array, "M K"]


def proposals(
    method: ImportanceSampling, anatomy: Anatomy, model: Model, data: SubjectData, start: Float[Array, " q"], number
) -> Proposals:
    """The nodes of one subject; ``number`` says which random numbers place them, ``start`` begins the search for its mode."""
    if anatomy.mixture:
        b = start  # every subpopulation's mode is searched from there
    else:
        find = jax.tree_util.Partial(curvature_at, method, anatomy, data, model)
        b = find_mode(find, start, method.inner_tolerance, method.inner_iterations).b
    return Proposals(*weighted_nodes(method, anatomy, model, dataclasses.replace(data, number=number), b))


class Drawn(NamedTuple):
    """One draw of a subject's random effects, and what the nodes say."""

    b: Float[Array, " q"]
    member: Int[Array, ""]
    log_likelihood: Float[Array, ""]  # estimate of log L_i without n/2 log 2 pi
    effective: Float[Array, ""]  # nodes that count


def one_draw(
    method: ImportanceSampling, anatomy: Anatomy, model: Model, data: SubjectData, start: Float[Array, " q"], key
) -> Drawn:
    """A node of one subject chosen by its weight; nodes of its own for every ``key``."""
    placing, choosing = jax.random.split(key)
    found = proposals(method, anatomy, model, data, start, jax.random.bits(placing))
    return chosen(found, choosing)


def chosen(found: Proposals, key) -> Drawn:
    """One of the nodes by its weight."""
    flat = found.logs.reshape(-1)
    k = jax.random.categorical(key, flat)
    effective = 1.0 / jnp.sum(jax.nn.softmax(flat) ** 2)
    b = found.nodes.reshape(len(flat), -1)[k]
    return Drawn(b, k // found.logs.shape[1], jax.scipy.special.logsumexp(flat), effective)
