"""Regression of random effects on a network, by the marginal likelihood of what each subject's data say of them.

    u_i ~ Normal(f(x_i), Omega),     log L_i(u) = h_i' u - 1/2 u' A_i u     (nlme.learning.evidence)

    -2 log L_i = log |S_i| - 2 h_i' f_i + f_i' A_i f_i - r_i' L S_i^-1 L' r_i,
    S_i = I + L' A_i L,    r_i = h_i - A_i f_i,    Omega = L L',    f_i = f(x_i)

Subjects whose data say much count much, those whose data say nothing (A = 0) not at all, and a mode that is shrunken is not taken
for an observation. Outputs are centred, and all numbers of the network penalised by ``strength`` times their sum of squares.
Network and Omega are searched together by limited-memory BFGS (scipy's L-BFGS-B; Byrd et al. 1995, doi:10.1137/0916069): one small
compiled program for all subjects, starts, folds and strengths.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from nlme.learning.evidence import Evidence
from nlme.linalg import cholesky, log_det, solved
from nlme.parameters.covariance import Covariance

_TOLERANCE = 1e-7  # relative, of the objective from one iteration to the next
_MEMORY = 20
_STEPS = 500


class Trained(NamedTuple):
    """Numbers of networks and of covariances at the ends of R searches, and the objective with penalty (R,) there."""

    numbers: np.ndarray  # (R, P) of the network, flat
    spread: np.ndarray  # (R, k) of Omega, unconstrained
    value: np.ndarray


def by_subject(f: jax.Array, omega: Covariance, h: jax.Array, A: jax.Array) -> jax.Array:
    """(N,) -2 log L of every subject, for shifts f (N, q)."""
    L = omega.cholesky

    def one(f, h, A):
        S = jnp.eye(len(f)) + L.T @ A @ L
        r = L.T @ (h - A @ f)
        return log_det(S) - 2.0 * h @ f + f @ A @ f - r @ solved(cholesky(S), r)

    return jax.vmap(one)(f, h, A)


class Regression:
    """Searches for the network and Omega.

    Parameters
    ----------
    evidence : what the data say
    network : a module
    inputs : pytree with a leading axis over subjects
    to : positions of the random effects that the outputs shift
    call : from the module and an input to the outputs, in standard deviations of the fit
    """

    def __init__(self, evidence: Evidence, network: eqx.Module, inputs: Any, to: np.ndarray, call: Callable):
        self._given = jnp.asarray(evidence.h), jnp.asarray(evidence.A), inputs
        self.to, self._call = np.array(to), call
        numbers, self._rest = eqx.partition(network, eqx.is_inexact_array)
        self._unravel = ravel_pytree(numbers)[1]
        self.unit = dataclasses.replace(evidence.omega, sd=jnp.ones(len(evidence.names)))
        self.spread = np.asarray(self.unit.unconstrained())

    @staticmethod
    def flat(network: eqx.Module) -> np.ndarray:
        """(P,) its numbers."""
        return np.asarray(ravel_pytree(eqx.filter(network, eqx.is_inexact_array))[0])

    def at(self, x) -> eqx.Module:
        """The module with these numbers."""
        return eqx.combine(self._unravel(jnp.asarray(x)), self._rest)

    def shifts(self, x, inputs, seen):
        """(N, q) of all random effects, centred on the subjects ``seen`` (N,): typical values stay those of the fit."""
        module = self.at(x)
        found = jax.vmap(lambda given: self._call(module, given))(inputs)
        found = found - jnp.sum(seen[:, None] * found, axis=0) / jnp.sum(seen)
        return jnp.zeros((len(found), len(self.unit.names))).at[:, self.to].set(found)

    def middle(self, x) -> np.ndarray:
        """(outputs,) mean over all subjects."""
        module = self.at(x)
        return np.asarray(jnp.mean(jax.vmap(lambda given: self._call(module, given))(self._given[2]), axis=0))

    def train(self, starts: np.ndarray, seen: np.ndarray, strength: float) -> Trained:
        """One search for each row of ``starts`` (R, P) and ``seen`` (R, N), from the fit's Omega."""
        rows = zip(starts, np.asarray(seen, float), strict=True)
        found = [_search(self._terms, self._given, x, self.spread, own, strength) for x, own in rows]
        return Trained(*map(np.stack, zip(*found, strict=True)))

    def shifted(self, trained: Trained, seen: np.ndarray) -> np.ndarray:
        """(R, N, q) shifts of every subject by each of the networks, which ``seen`` (R, N) trained."""
        rows = zip(trained.numbers, np.asarray(seen, float), strict=True)
        return np.stack([np.asarray(_shifts(self.shifts, x, self._given[2], own)) for x, own in rows])

    def _terms(self, given, x, spread, seen):
        h, A, inputs = given
        return by_subject(self.shifts(x, inputs, seen), self.unit.at_unconstrained(spread), h, A)


def _search(terms, given, x, spread, seen, strength) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a search from ``x`` and ``spread`` ends, and its value."""
    from scipy.optimize import minimize

    count, seen = len(x), jnp.asarray(seen, float)

    def at(both):
        value, slopes = _objective(terms, given, both[:count], both[count:], seen, strength)
        return float(value), np.concatenate([np.asarray(slope) for slope in slopes])

    options = {"maxiter": _STEPS, "maxcor": _MEMORY, "ftol": _TOLERANCE, "gtol": 1e-6}
    with np.errstate(all="ignore"):
        end = minimize(at, np.concatenate([x, spread]), jac=True, method="L-BFGS-B", options=options)
    return end.x[:count], end.x[count:], np.asarray(end.fun * float(seen.sum()))


@functools.partial(jax.jit, static_argnums=0)
def _objective(terms, given, x, spread, seen, strength):
    """Per subject, with the penalty; and its slopes in x and spread."""

    def of(x, spread):
        total = jnp.sum(jnp.where(seen > 0, terms(given, x, spread, seen), 0.0))
        return (total + strength * jnp.sum(x**2)) / jnp.sum(seen)

    return jax.value_and_grad(of, (0, 1))(x, spread)


@functools.partial(jax.jit, static_argnums=0)
def _shifts(shifts, x, inputs, seen):
    return shifts(x, inputs, seen)
