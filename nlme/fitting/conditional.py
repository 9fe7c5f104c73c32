"""Means and standard deviations of random effects and individual parameters given the data.

The mode of a subject's random effects is where their density given its data is highest; where that density is skewed, or the
individual parameter bends (exp(eta)), their mean lies elsewhere.  With the nodes b_k of the subject's integral and what each
adds to it, w_k (``nlme.marginal.quadrature``; in a mixture those of all subpopulations together), for any h(eta, k)

    E[h | y] = sum_k w_k h(L b_k, k) / sum_k w_k,        SD[h | y]^2 = sum_k w_k (h(L b_k, k) - E[h | y])^2 / sum_k w_k

at the model's own parameters, whose uncertainty is not in them.  By importance sampling they are draws and have a Monte-Carlo
error, sqrt(sum_k w_k^2 (h - E[h | y])^2) / sum_k w_k; by quadrature the nodes are few and fixed.

These are the "conditional mean" and "conditional sd" of Monolix, and the means of what NONMEM's EM methods call phi and eta.

Source: Hesterberg (1995), Technometrics 37:185, doi:10.1080/00401706.1995.10484303 (self-normalised weights); Vehtari et al.
(2024), J Mach Learn Res 25:72 (Pareto k).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp

from nlme.errors import ModelError
from nlme.fitting.monte_carlo import UNRELIABLE, pareto_k, weighted_nodes
from nlme.language.anatomy import MEMBER, rows_of
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.marginal.quadrature import AGQ, ImportanceSampling, Nodes

if TYPE_CHECKING:
    import pandas as pd

_SIDE_BY_SIDE = 16  # subjects whose individual parameters are computed at once
_FEW = 100  # effective draws: the Monte-Carlo error of a mean is a tenth of the standard deviation


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Conditional:
    """What is known of every subject's random effects and individual parameters given its data; DataFrames throughout.

    Attributes
    ----------
    method : by which nodes
    eta, eta_sd, eta_error : one row per subject, one column per random effect; ``_error`` is the Monte-Carlo error of the mean,
        0 by quadrature
    individual, individual_sd, individual_error : as ``fit.individual``, one row per subject or per subject and occasion
    draws : one row per subject: nodes, and by importance sampling their effective number and Pareto k (else NaN)
    """

    method: Nodes
    eta: pd.DataFrame
    eta_sd: pd.DataFrame
    eta_error: pd.DataFrame
    individual: pd.DataFrame
    individual_sd: pd.DataFrame
    individual_error: pd.DataFrame
    draws: pd.DataFrame

    @property
    def messages(self) -> list[str]:
        """Problems in words, most serious first."""
        heavy, few = self.draws[~(self.draws.pareto_k < UNRELIABLE)], self.draws[self.draws.effective < _FEW]
        found = []
        if isinstance(self.method, ImportanceSampling) and len(heavy):
            listed = ", ".join(f"{i} (k = {row.pareto_k:.2f})" for i, row in heavy.head(5).iterrows()) + _more(heavy)
            found.append(
                f"The weights of {_subjects(heavy)} have tails too heavy for importance sampling (Pareto k above {UNRELIABLE}): "
                f"{listed}. Take more samples, or nlme.AGQ with few random effects."
            )
        if len(few):
            listed = ", ".join(f"{i} ({row.effective:.0f})" for i, row in few.head(5).iterrows()) + _more(few)
            found.append(f"Fewer than {_FEW} draws count for {_subjects(few)}: {listed}. Take more samples.")
        return found

    def __repr__(self) -> str:
        worst = self.draws.effective
        said = "" if worst.isna().all() else f", effectively at least {worst.min():.0f} (subject {worst.idxmin()})"
        lines = [f"Conditional means and sds by {self.method!r}: {self.draws.nodes.iloc[0]} nodes a subject{said}"]
        return "\n".join(lines + [f"  ! {m}" for m in self.messages])


def _more(table) -> str:
    return " ..." if len(table) > 5 else ""


def _subjects(table) -> str:
    return f"{len(table)} subject{'s' if len(table) > 1 else ''}"


def conditional(method: Nodes | None, model: Model, layout: Layout, b: np.ndarray, subjects, rows) -> Conditional:
    """The tables for all subjects; ``b`` (N, q) are their modes, ``subjects`` their index.

    ``rows`` are those of the individual parameters: the subject of each (R,), what ``individual`` is told there (dict of (R, 1)),
    and their index.

    Raises
    ------
    ModelError
        A model without random effects; a method that has no nodes.
    """
    import pandas as pd

    method = ImportanceSampling(1000) if method is None else method
    if not isinstance(method, (AGQ, ImportanceSampling)):
        raise ModelError(
            f"Conditional means are taken over the nodes of nlme.ImportanceSampling(...) or nlme.AGQ(...); got {method!r}."
        )
    if not layout.anatomy.effects:
        raise ModelError(f"{type(model).__name__} has no random effects, so there is nothing to know of them given the data.")
    if layout.anatomy.by_site:
        raise ModelError(
            f"Conditional means are taken subject by subject, and here subjects share the effects of their {layout.anatomy.above} "
            "({}). The modes are in .eta and .individual.".format(", ".join(layout.anatomy.shared))
        )
    method.require(layout.anatomy)
    nodes, logs = threaded(_nodes, layout.arrays, method, layout.anatomy, model, jnp.asarray(b))
    logs = np.asarray(logs)
    weights = np.exp(logs - logsumexp(logs, axis=(1, 2), keepdims=True))
    sampled = isinstance(method, ImportanceSampling)
    eta = np.asarray(nodes) @ np.asarray(layout.anatomy.cholesky(model)).T
    of_eta = dict(zip(layout.anatomy.effects, np.moveaxis(eta, -1, 0), strict=True))
    own = [_moments(values, weights, sampled) for values in of_eta.values()]
    who, cov, index = rows
    found = _individual(layout.anatomy, model, jnp.asarray(eta), jnp.asarray(weights), jnp.asarray(who), cov)
    names = list(found)
    each = [_moments(np.asarray(found[name]), weights[who], sampled) for name in names]
    tables = [pd.DataFrame(np.array([m[k] for m in own]).T, index=subjects, columns=list(of_eta)) for k in range(3)]
    tables += [pd.DataFrame(np.array([m[k] for m in each]).T, index=index, columns=names) for k in range(3)]
    unknown = np.full(len(weights), np.nan)
    draws = {
        "nodes": weights[0].size,
        "effective": 1.0 / np.sum(weights**2, axis=(1, 2)) if sampled else unknown,
        "pareto_k": pareto_k(np.asarray(logsumexp(logs, axis=1))) if sampled else unknown,
    }
    return Conditional(method, *tables, pd.DataFrame(draws, index=subjects))


@eqx.filter_jit
def _nodes(arrays, method, anatomy, model, b):
    return over_subjects(lambda data, b: (weighted_nodes(method, anatomy, model, data, b), ()), arrays, b)[0]


@eqx.filter_jit
def _individual(anatomy, model, eta, weights, who, cov):
    """Individual parameters at every node of every row: dict of (R, M, K)."""

    def of_row(given):
        i, cov = given

        def of_node(k, eta, weight):
            told = {**cov, MEMBER: jnp.full(1, k)} if anatomy.mixture else cov
            found = rows_of(model, anatomy, eta, told, 1)
            # a node without weight may have no number
            return {name: jnp.where(weight > 0, x[0], 0.0) for name, x in found.items()}

        members = jnp.arange(eta.shape[1], dtype=float)
        return jax.vmap(jax.vmap(of_node, (None, 0, 0)))(members, eta[i], weights[i])

    return jax.lax.map(of_row, (who, cov), batch_size=_SIDE_BY_SIDE)


def _moments(values: np.ndarray, weights: np.ndarray, sampled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, standard deviation and Monte-Carlo error of the mean, (R,) each, of values (R, M, K); the weights sum to one."""
    mean = np.sum(weights * values, axis=(1, 2))
    square = np.square(values - mean[:, None, None])
    error = np.sqrt(np.sum(weights**2 * square, axis=(1, 2))) if sampled else np.zeros(len(mean))
    return mean, np.sqrt(np.sum(weights * square, axis=(1, 2))), error
