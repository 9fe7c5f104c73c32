"""How far the bound of variational inference lies above -2 log L.

With w_ik = p(y_i, b_ik) / q_i(b_ik), b_ik ~ q_i drawn anew, K draws, the importance-weighted bound is

    -2 log L_i  <=  E[-2 log 1/K sum_k w_ik]  <=  -2 ELBO_i

and goes to -2 log L_i with K.  Source: Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.fitting.monte_carlo import UNRELIABLE, errors_of, pareto_k
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects, threaded
from nlme.marginal.mode import begin_mode
from nlme.marginal.subjects import at_mode
from nlme.marginal.variational import Variational, log_weights

_DRAWS = 1000
_EQUAL = 1e-6  # standard deviation of log weights
_STREAM = 1  # of these draws, apart from the nodes of the bound


@dataclasses.dataclass(frozen=True, eq=False)
class Tightness:
    """The bound beside -2 log L by importance sampling from the same posteriors.

    Attributes
    ----------
    bound, importance_weighted : of all subjects together, on the scale of ``fit.objective``
    error : Monte-Carlo standard error of ``importance_weighted``
    gaps : (N,) bound less importance-weighted, by subject: twice the Kullback-Leibler divergence of q_i from the posterior, about
    pareto_k : (N,) of the weights; above 0.7 the posterior is far from Gaussian and the gap is not to be believed
    """

    bound: float
    importance_weighted: float
    error: float
    gaps: np.ndarray
    pareto_k: np.ndarray

    def __repr__(self) -> str:
        bad = int(np.sum(~(self.pareto_k < UNRELIABLE)))
        words = (
            f"The bound {self.bound:.3f} lies {self.bound - self.importance_weighted:.3f} above -2 log L by importance sampling, "
            f"{self.importance_weighted:.3f} (Monte-Carlo error {self.error:.3f}); of one subject by {np.max(self.gaps):.3f} at most."
        )
        return words + (f" The weights of {bad} subjects have tails too heavy to believe theirs." if bad else "")


def tightness(method: Variational, model: Model, layout: Layout, b: np.ndarray, objective: float) -> Tightness:
    """Of the bound ``objective``, the posteriors' means being ``b`` (N, q)."""
    terms = np.asarray(threaded(_terms, layout.arrays, method, layout.anatomy, model, jnp.asarray(b)))
    bounds, terms = terms[:, 0], terms[:, 1:]
    weights = np.exp(terms - terms.max(axis=1, keepdims=True))
    values = -2.0 * (np.log(weights.mean(axis=1)) + terms.max(axis=1))
    errors = errors_of(weights, np.zeros(weights.shape[1]))
    gaps = bounds - values
    shapes = np.full(len(terms), -np.inf)  # equal weights, of a posterior that is Gaussian, have no tail
    some = np.flatnonzero(terms.std(axis=1) > _EQUAL)
    shapes[some] = pareto_k(terms[some])
    return Tightness(objective, objective - float(gaps.sum()), float(np.sqrt(np.sum(errors**2))), gaps, shapes)


@eqx.filter_jit
def _terms(arrays, method: Variational, anatomy, model, b):
    """(N, 1 + K): each subject's bound, and log w_k."""

    def of_subject(data, b):
        zero = jnp.zeros((len(b), len(b)))
        bound, mean, at, _ = at_mode(
            method, anatomy, model, data, begin_mode(b), method.inner_iterations, zero, method.inner_tolerance
        )
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(method.seed), data.number), _STREAM)
        z = jax.random.normal(key, (_DRAWS, len(b)))
        return jnp.r_[bound, log_weights(method, anatomy, data, model, mean, at.hessian, z)], ()

    return over_subjects(of_subject, arrays, b)[0]
