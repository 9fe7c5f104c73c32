"""The joint density of one subject in standardised random effects, its derivatives, and what a method must offer.

With eta = L b, Omega = L L', b ~ N(0, I):

    Phi(b) = 1/2 sum_j [ (z_j - m_j)^2 / g_j + log g_j ] - sum_j l_j + 1/2 b'b,      z = h(y),  l = log|h'(y)|

where a sample that is not normal on any scale (a count, an event, a censored value) has its whole log density in l_j and nothing
in the first sum.  Phi leaves out the 1/2 log 2 pi of the normal samples, and no other constant.  It is the definition
in eta but for 1/2 log|Omega|, and -2 log L = 2 Phi(b^) + log det H_b needs no such term,
because log|Omega| + log|H_eta| = log|L' H_eta L|.  Working in b keeps a variance of zero an ordinary point.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nlme.dynamics.solvers import Tolerances
from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.density import Moments, back_transformed, effects_from, moments
from nlme.language.model import Model
from nlme.language.solution import Expansion, Replayed, Solution, expand
from nlme.language.stacking import SubjectData
from nlme.linalg import cholesky, inverse_lower, raised

_LEAST = 0.25  # eigenvalue of a Hessian that places nodes, the random effects' own distribution having 1
_STEEPEST = 1000.0  # slope of a logarithm above which a state counts as zero


class Curvature(NamedTuple):
    """Phi and its derivatives in b at one point."""

    value: Float[Array, ""]
    gradient: Float[Array, " q"]
    hessian: Float[Array, "q q"]  # exact second derivatives
    expected: Float[Array, "q q"]  # sum_j [ a a'/g + c c'/2 ] + sum_(not normal) e e' + I, positive definite everywhere
    status: Int[Array, ""]


class Slopes(NamedTuple):
    """Moments and their first derivatives in b: a = d(m - z)/db, c = d log g / db, e = dl/db, all (T, q).

    z depends on b only where the scale h itself has random effects; e is None where no l depends on any parameter.
    """

    moments: Moments
    log_variance: Float[Array, " T"]
    a: Float[Array, "T q"]
    c: Float[Array, "T q"]
    e: Float[Array, "T q"] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(abc.ABC):
    """How the random effects are integrated out.

    Attributes
    ----------
    inner_tolerance : Newton decrement (square of the distance left, in standard deviations) below which a subject's mode counts
        as found; one more Newton step is part of the objective
    inner_iterations : limit of the search for a mode
    ode : tolerances of the ODE solver
    site_points : nodes of the quadrature over the random effects of a site (the level above the subject), for each of them
        (``nlme.marginal.sites``); an odd number of at least 3
    """

    inner_tolerance: float = 1e-10
    inner_iterations: int = 100
    ode: Tolerances = Tolerances()
    site_points: int = 7

    title: ClassVar[str]
    interaction: ClassVar[bool] = True  # whether the residual variance follows the random effects
    searches: ClassVar[bool] = True  # whether the objective is taken at the mode
    gaussian: ClassVar[bool] = False  # whether it is taken at a Gaussian posterior in the mode's place (``marginal.variational``)
    order: ClassVar[int] = 2  # derivatives of the states that the objective's gradient needs
    thirds: ClassVar[bool] = False  # whether the gradient needs third derivatives of the states
    individuals: ClassVar[bool] = True  # whether subjects differ by random effects
    sites: ClassVar[bool] = True  # whether random effects above the subject can be integrated out around it
    linearises: ClassVar[bool] = False  # needs data that are normal on some scale
    loosest: ClassVar[float] = 0.0  # inner tolerance far from the optimum; the error of the objective must be of its size

    def require(self, anatomy: Anatomy) -> None:
        """Refuse a model whose marginal this method does not define.

        Raises
        ------
        ModelError
            A method that linearises, and an endpoint that is not normal on any scale.
        """
        if not self.linearises or not anatomy.effects:
            return
        found = [f"{name!r} ({law.words})" for name, law in zip(anatomy.endpoints, anatomy.laws, strict=True) if not law.normal]
        if found:
            raise ModelError(
                f"{type(self).__name__} linearises a normal error model, and endpoint {', '.join(found)} has none. "
                "Use a method that takes the density as it is: nlme.Laplace()."
            )

    @abc.abstractmethod
    def objective(self, subject: Subject, model: Model, b: Float[Array, " q"]) -> Float[Array, ""]:
        """-2 log L of one subject without n log 2 pi, given its (differentiable) mode ``b``."""

    def __repr__(self) -> str:
        changed = [f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(changed)})"


class Subject:
    """One subject's density around an expansion point: everything below is a function of (model, b) and differentiable.

    ``order`` is the number of derivatives that the expansion carries.
    """

    def __init__(self, method: Method, anatomy: Anatomy, data: SubjectData, model: Model, b: Float[Array, " q"], order: int):
        self.method, self.anatomy, self.data = method, anatomy, data
        self.effects = len(b)  # those that are integrated out; those of a site may be held
        self._solution = self._expand(model, b, order)
        self._typical = None
        if not method.searches:
            self._typical = self._solution  # b is zero
        elif not method.interaction:
            self._typical = self._expand(model, jnp.zeros_like(b), min(order, 1))

    def eta(self, model: Model, b: Float[Array, " q"]) -> Float[Array, " all"]:
        """All random effects that reach the subject."""
        return effects_from(self.anatomy, model, self.data.standard(b))

    def _expand(self, model, b, order) -> Expansion | Replayed:
        data = self.data
        eta = self.eta(model, b)
        way = Expansion if self.method.thirds else expand
        return way(model, self.anatomy, eta, data.covariates, data.known, order, self.method.ode)

    def moments(self, model: Model, b: Float[Array, " q"]) -> Moments:
        """Moments at ``b``; without interaction the residuals' covariance is that at b = 0."""
        return self._moments(model, self._solution(model, self.eta(model, b)), b)

    def _moments(self, model: Model, solution: Solution, b) -> Moments:
        residual = None
        if self._typical is not None:
            typical = self._typical(model, self.eta(model, jnp.zeros_like(b)))
            residual = moments(model, self.anatomy, self.data, typical)
        return moments(model, self.anatomy, self.data, solution, residual)

    def back_transformed(self, model: Model, b: Float[Array, " q"], z: Float[Array, " T"]) -> Float[Array, " T"]:
        """Values on the scale of the data of ``z``, which stand on the scales of the error models."""
        return back_transformed(model, self.anatomy, self.data, self._solution(model, self.eta(model, b)), z)

    def slopes(self, model: Model, b: Float[Array, " q"]) -> Slopes:
        """Moments and their first derivatives, in one pass."""
        plain = self.anatomy.plain

        def values(b):
            m = self.moments(model, b)
            varying = (m.mean - m.transformed, jnp.log(m.variance))
            return varying if plain else (*varying, m.log_factor), m

        (_, log_variance, *_), push, m = jax.linearize(values, b, has_aux=True)
        if self.effects:
            a, c, *e = jax.vmap(push, out_axes=-1)(jnp.eye(self.effects))
        else:
            a, c, *e = (jnp.zeros((*log_variance.shape, 0)),) * (2 if plain else 3)
        return Slopes(m, log_variance, a, c, e[0] if e else None)

    def phi(self, moments: Moments, log_variance: Float[Array, " T"], b: Float[Array, " q"]) -> Float[Array, ""]:
        residual = moments.transformed - moments.mean
        terms = jnp.square(residual) / moments.variance + log_variance - 2.0 * moments.log_factor
        return 0.5 * self.total(terms) + 0.5 * b @ b

    def total(self, terms: Float[Array, "T ..."]) -> Float[Array, ...]:
        """Sum over the observations, padding left out."""
        mask = self.data.mask.reshape(self.data.mask.shape + (1,) * (terms.ndim - 1))
        return jnp.sum(jnp.where(mask, terms, 0.0), axis=0)

    def gradient(self, slopes: Slopes, b: Float[Array, " q"]) -> Float[Array, " q"]:
        """d Phi / db."""
        m = slopes.moments
        residual = (m.transformed - m.mean) / m.variance
        square = jnp.square(m.transformed - m.mean) / m.variance
        terms = -residual[:, None] * slopes.a + 0.5 * (1.0 - square)[:, None] * slopes.c
        return self.total(terms if slopes.e is None else terms - slopes.e) + b

    def expected(self, slopes: Slopes) -> Float[Array, "q q"]:
        """The expected (Gauss-Newton) Hessian of Phi, the H of FOCE and FOCEI.

        A sample that is not normal adds the outer product of its score, whose expectation is its information.
        """
        a = slopes.a / jnp.sqrt(slopes.moments.variance)[:, None]
        a = jnp.where(self.data.mask[:, None], a, 0.0)
        c = jnp.where(self.data.mask[:, None], slopes.c, 0.0)
        hessian = a.T @ a + 0.5 * c.T @ c + jnp.eye(self.effects)
        if slopes.e is None:
            return hessian
        e = jnp.where((self.data.mask & ~slopes.moments.normal)[:, None], slopes.e, 0.0)
        return hessian + e.T @ e

    def observed(self, model: Model, b: Float[Array, " q"]) -> Float[Array, "q q"]:
        """The Hessian of Phi by which nodes are placed: as ``expected``, but with -d2l/db2 where a sample is not normal.

        The states move there by their first derivatives, so that second derivatives of the objective stay within second order of the
        states: one above zero in its logarithm, S exp(S'd / S), as amounts and cumulative hazards do.  (A cumulative hazard is itself
        the logarithm of a density: all of its curvature is that of the state.)  Another, or one that is nearly zero, linearly.
        A score's outer product would be the information of a probability, not of the random effect behind it: far from
        the curvature where one outcome is nearly certain, or below a limit.  Where the samples that are not normal bend Phi downwards
        in some direction by more than the others hold, its eigenvalue is raised to that of a spread of two standard deviations.
        """
        slopes = self.slopes(model, b)
        expected = self.expected(slopes)
        if slopes.e is None:
            return expected
        states, push = jax.linearize(lambda b: self._solution(model, self.eta(model, b)).states, b)
        steepest = jnp.max(jnp.abs(jax.vmap(push)(jnp.eye(self.effects))), axis=0, initial=0.0)
        in_logarithm = states * _STEEPEST > steepest
        positive = jnp.where(in_logarithm, states, 1.0)

        def moved(d):
            straight = push(d)
            return jnp.where(
                in_logarithm, positive * jnp.exp(jnp.where(in_logarithm, straight / positive, 0.0)), states + straight
            )

        def not_normal(d):
            solution = self._solution(model, self.eta(model, b + d))._replace(states=moved(d))
            m = self._moments(model, solution, b + d)
            return -self.total(jnp.where(m.normal, 0.0, m.log_factor))

        scores = jnp.where((self.data.mask & ~slopes.moments.normal)[:, None], slopes.e, 0.0)
        hessian = jax.jacfwd(jax.jacrev(not_normal))(jnp.zeros_like(b))
        return raised(expected - scores.T @ scores + 0.5 * (hessian + hessian.T), _LEAST)

    def third(self, model: Model, b: Float[Array, " q"], hessian: Float[Array, "q q"]) -> Float[Array, ""]:
        """Zero in value; in derivative, the part of d log det(d2 Phi/db2) that third derivatives of the states make.

        sum_k dPhi/dS . D3S[v_k, v_k, d],  H^-1 = sum_k v_k v_k',  d the displacement: with this term added, the gradient of
        log det of the second derivatives is exact although the expansion is of second order.
        """
        if self._solution.exact or not self.effects:
            return jnp.zeros(())
        inverse_factor = inverse_lower(cholesky(jax.lax.stop_gradient(hessian)))
        omega = jax.lax.stop_gradient(self.anatomy.cholesky(model))[:, : self.effects]
        eta = self.eta(model, b)
        term = self._solution.third(model, eta, inverse_factor @ omega.T)

        def phi(states):
            at = self._moments(model, self._solution(model, eta)._replace(states=states), b)
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
