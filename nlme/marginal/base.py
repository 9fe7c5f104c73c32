"""The joint density of one subject in standardised random effects, its derivatives, and what a method must offer.

With eta = L b, Omega = L L', b ~ N(0, I):

    Phi(b) = 1/2 sum_j [ (z_j - m_j)^2 / g_j + log g_j ] - sum_j log|h'(y_j)| + 1/2 b'b,      z = h(y)

which differs from the definition in eta by 1/2 log|Omega| only, and -2 log L = 2 Phi(b^) + log det H_b needs no such term,
because log|Omega| + log|H_eta| = log|L' H_eta L|.  Working in b keeps a variance of zero an ordinary point.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.language.density import Moments, effects_from, moments
from nlme.language.layout import SubjectData
from nlme.language.model import Model
from nlme.language.anatomy import Anatomy
from nlme.language.solution import Expansion
from nlme.structure.solvers import Tolerances


class Curvature(NamedTuple):
    """Phi and its derivatives in b at one point."""

    value: Float[Array, ""]
    gradient: Float[Array, " q"]
    hessian: Float[Array, "q q"]  # exact second derivatives
    expected: Float[Array, "q q"]  # sum_j [ a a'/g + c c'/2 ] + I, positive definite everywhere
    status: Int[Array, ""]


class Slopes(NamedTuple):
    """Moments and their first derivatives in b: a = dm/db, c = d log g / db, both (T, q)."""

    moments: Moments
    log_variance: Float[Array, " T"]
    a: Float[Array, "T q"]
    c: Float[Array, "T q"]


@dataclasses.dataclass(frozen=True)
class Method(abc.ABC):
    """How the random effects are integrated out.

    Attributes
    ----------
    inner_tolerance : Newton decrement below which a subject's mode counts as found
    inner_iterations : limit of the search for a mode
    ode : tolerances of the ODE solver
    """

    inner_tolerance: float = 1e-10
    inner_iterations: int = 100
    ode: Tolerances = Tolerances()

    title: ClassVar[str]
    interaction: ClassVar[bool] = True  # whether the residual variance follows the random effects
    searches: ClassVar[bool] = True  # whether the objective is taken at the mode
    order: ClassVar[int] = 2  # derivatives of the states that the objective's gradient needs

    @abc.abstractmethod
    def objective(self, subject: Subject, model: Model, b: Float[Array, " q"]) -> Float[Array, ""]:
        """-2 log L of one subject without n log 2 pi, given its (differentiable) mode ``b``."""

    def __repr__(self) -> str:
        changed = [
            f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


class Subject:
    """One subject's density around an expansion point: everything below is a function of (model, b) and differentiable.

    ``order`` is the number of derivatives that the expansion carries.
    """

    def __init__(self, method: Method, anatomy: Anatomy, data: SubjectData, model: Model, b: Float[Array, " q"], order: int):
        self.method, self.anatomy, self.data = method, anatomy, data
        self.effects = len(anatomy.effects)
        self._solution = self._expand(model, b, order)
        self._typical = None if method.interaction else self._expand(model, jnp.zeros_like(b), min(order, 1))

    def _expand(self, model, b, order) -> Expansion:
        data = self.data
        eta = effects_from(model, b)
        return Expansion(model, self.anatomy, eta, data.covariates, data.timeline, order, self.method.ode)

    def moments(self, model: Model, b: Float[Array, " q"]) -> Moments:
        """Moments at ``b``; without interaction the variances are those at b = 0."""
        at = moments(model, self.anatomy, self.data, self._solution(model, effects_from(model, b)))
        if self._typical is None:
            return at
        zero = jnp.zeros_like(b)
        typical = moments(model, self.anatomy, self.data, self._typical(model, effects_from(model, zero)))
        return at._replace(variance=typical.variance)

    def slopes(self, model: Model, b: Float[Array, " q"]) -> Slopes:
        """Moments and their first derivatives, in one pass."""

        def values(b):
            m = self.moments(model, b)
            return (m.mean, jnp.log(m.variance)), m

        (mean, log_variance), push, m = jax.linearize(values, b, has_aux=True)
        a, c = jax.vmap(push, out_axes=-1)(jnp.eye(self.effects)) if self.effects else (jnp.zeros((*mean.shape, 0)),) * 2
        return Slopes(m._replace(mean=mean), log_variance, a, c)

    def phi(self, moments: Moments, log_variance: Float[Array, " T"], b: Float[Array, " q"]) -> Float[Array, ""]:
        residual = moments.transformed - moments.mean
        terms = jnp.square(residual) / moments.variance + log_variance - 2.0 * moments.log_jacobian
        return 0.5 * self.total(terms) + 0.5 * b @ b

    def total(self, terms: Float[Array, "T ..."]) -> Float[Array, "..."]:
        """Sum over the observations, padding left out."""
        mask = self.data.mask.reshape(self.data.mask.shape + (1,) * (terms.ndim - 1))
        return jnp.sum(jnp.where(mask, terms, 0.0), axis=0)

    def gradient(self, slopes: Slopes, b: Float[Array, " q"]) -> Float[Array, " q"]:
        """d Phi / db."""
        m = slopes.moments
        residual = (m.transformed - m.mean) / m.variance
        square = jnp.square(m.transformed - m.mean) / m.variance
        return self.total(-residual[:, None] * slopes.a + 0.5 * (1.0 - square)[:, None] * slopes.c) + b

    def expected(self, slopes: Slopes) -> Float[Array, "q q"]:
        """The expected (Gauss-Newton) Hessian of Phi, the H of FOCE and FOCEI."""
        a = slopes.a / jnp.sqrt(slopes.moments.variance)[:, None]
        a = jnp.where(self.data.mask[:, None], a, 0.0)
        c = jnp.where(self.data.mask[:, None], slopes.c, 0.0)
        return a.T @ a + 0.5 * c.T @ c + jnp.eye(self.effects)

    def third(self, model: Model, b: Float[Array, " q"], hessian: Float[Array, "q q"]) -> Float[Array, ""]:
        """Zero in value; in derivative, the part of d log det(d2 Phi/db2) that third derivatives of the states make.

        sum_k dPhi/dS . D3S[v_k, v_k, d],  H^-1 = sum_k v_k v_k',  d the displacement: with this term added, the gradient of
        log det of the second derivatives is exact although the expansion is of second order.
        """
        if self._solution.exact or not self.effects:
            return jnp.zeros(())
        inverse_factor = jnp.linalg.inv(jnp.linalg.cholesky(jax.lax.stop_gradient(hessian)))
        omega = jax.lax.stop_gradient(model.random().cholesky)
        eta = effects_from(model, b)
        term = self._solution.third(model, eta, inverse_factor @ omega.T)

        def phi(states):
            at = moments(model, self.anatomy, self.data, self._solution(model, eta)._replace(states=states))
            return self.phi(at, jnp.log(at.variance), b)

        weight = jax.lax.stop_gradient(jax.grad(phi)(self._solution(model, eta).states))
        return jnp.sum(weight * term)

    def curvature(self, model: Model, b: Float[Array, " q"]) -> Curvature:
        """Phi with gradient, exact and expected Hessian at ``b``, from one evaluation of the moments' second-order jet."""
        eye = jnp.eye(self.effects)

        def first(b):
            slopes = self.slopes(model, b)
            return self.gradient(slopes, b), (slopes, self.phi(slopes.moments, slopes.log_variance, b))

        gradient, push, (slopes, value) = jax.linearize(first, b, has_aux=True)
        hessian = jax.vmap(push, out_axes=-1)(eye)
        hessian = 0.5 * (hessian + hessian.T)
        return Curvature(value, gradient, hessian, self.expected(slopes), slopes.moments.status)
