"""How far an objective found by importance sampling can be believed.

With w_ik = exp(v_ik - Phi_i(b_ik)) the weight of draw k of subject i (``nlme.marginal.quadrature``), -2 log L_i =
-2 log sum_k w_ik, and by the delta method, K_s draws being of part s of the distribution drawn from,

    error_i^2 = 4 sum_s K_s var_(k in s)(w_ik) / (K mean_k(w_ik))^2,        error^2 = sum_i error_i^2

In a mixture of subpopulations m the same random numbers place draw k of each: w_ik = sum_m p_m exp(v_imk - Phi_im(b_imk)).

The tail of the weights is fitted by a generalised Pareto distribution; from a shape k of 0.7 on neither the estimate nor its
error can be believed (Vehtari et al. 2024, J Mach Learn Res 25:72).
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from nlme.language.anatomy import Anatomy
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.language.stacking import SubjectData
from nlme.marginal.base import Subject
from nlme.marginal.mode import begin_mode
from nlme.marginal.quadrature import ImportanceSampling, Nodes
from nlme.marginal.subjects import at_mode

UNRELIABLE = 0.7


@dataclasses.dataclass(frozen=True, eq=False)
class MonteCarlo:
    """Standard error of the objective, and per subject its error, effective number of draws and Pareto k (arrays (N,))."""

    error: float
    errors: np.ndarray
    effective: np.ndarray
    pareto_k: np.ndarray

    def problems(self, ids) -> list[str]:
        bad = np.flatnonzero(~(self.pareto_k < UNRELIABLE))
        if not len(bad):
            return []
        listed = ", ".join(f"{ids[i]} (k = {self.pareto_k[i]:.2f})" for i in bad[:5]) + (" ..." if len(bad) > 5 else "")
        return [
            f"The weights of {len(bad)} subjects have tails too heavy for importance sampling (Pareto k above {UNRELIABLE}): {listed}. "
            f"More samples help, and often other degrees of freedom; so does nlme.AGQ with few random effects whose density has one mode."
        ]


def monte_carlo(method: ImportanceSampling, model: Model, layout: Layout, b: np.ndarray) -> MonteCarlo:
    """What the weights at the modes ``b`` (N, q) say of the objective's Monte-Carlo error."""
    terms = np.asarray(threaded(_terms, layout.arrays, method, layout.anatomy, model, jnp.asarray(b)))
    weights = np.exp(terms - terms.max(axis=1, keepdims=True))
    errors = errors_of(weights, method.strata)
    effective = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    return MonteCarlo(float(np.sqrt(np.sum(errors**2))), errors, effective, pareto_k(terms))


def errors_of(weights: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(N,) standard error of -2 log of the mean of each subject's weights (N, K), draw k being of part ``strata`` (K,) of the
    distribution; infinite where a part has one draw, which says nothing of its spread."""
    parts = [weights[:, strata == s] for s in np.unique(strata)]
    if any(part.shape[1] < 2 for part in parts):
        return np.full(len(weights), np.inf)
    spread = sum(part.shape[1] * part.var(axis=1, ddof=1) for part in parts)
    return 2.0 * np.sqrt(spread) / weights.sum(axis=1)


def weighted_nodes(
    method: Nodes, anatomy: Anatomy, model: Model, data: SubjectData, b: Float[Array, " q"]
) -> tuple[Float[Array, "M K q"], Float[Array, "M K"]]:
    """Nodes of one subject in each of M subpopulations (1 without a mixture) and log w_mk.

    ``b`` is the mode; in a mixture that of the likeliest subpopulation, from which the others' are searched.
    """
    if not anatomy.mixture:
        nodes, terms = method.weighted(Subject(method, anatomy, data, model, b, 1), model, b)
        return nodes[None], terms[None]

    def belonging(k):
        own = data.belonging(k)
        second_order = jnp.zeros((len(b), len(b)))
        at = at_mode(method, anatomy, model, own, begin_mode(b), method.inner_iterations, second_order, method.inner_tolerance)[1]
        return method.weighted(Subject(method, anatomy, own, model, at, 1), model, at)

    nodes, terms = jax.vmap(belonging)(jnp.arange(len(anatomy.subpopulations), dtype=float))
    return nodes, terms + jnp.log(getattr(model, anatomy.mixture).shares)[:, None]


@eqx.filter_jit
def _terms(arrays, method, anatomy, model, b):
    def of_subject(data, b):
        return logsumexp(weighted_nodes(method, anatomy, model, data, b)[1], axis=0), ()

    return over_subjects(of_subject, arrays, b)[0]


def pareto_k(terms: np.ndarray) -> np.ndarray:
    """(N,) shape of the tail of the weights, from their logarithms (N, K)."""
    import arviz

    return np.array([float(arviz.psislw(row)[1]) for row in terms])
