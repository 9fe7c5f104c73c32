"""The integral itself: adaptive Gauss-Hermite quadrature, and importance sampling.

    -2 log L = -2 log (2 pi)^(-q/2) int exp(-Phi(b)) db

becomes a sum over nodes b_k placed by the mode b^ and C, C C' = H^-1, H the Hessian of Phi there (``Subject.observed``),

    -2 log L = -2 log sum_k exp( v_k - Phi(b_k) )

| method             | nodes b_k                                              | v_k                                                 |
|--------------------|--------------------------------------------------------|-----------------------------------------------------|
| AGQ(n)             | b^ + C x_k, x_k of the tensor product Gauss-Hermite rule (n^q) | log w_k + x_k'x_k/2 + log det C, w_k the weights for N(0, I) |
| ImportanceSampling | drawn from f = 0.5 t(b^, H^-1) + 0.3 t(b^, W^-1) + 0.2 N(0, I), each subject's own | -log K - q/2 log 2 pi - log f(b_k) |

AGQ with one node is Laplace's method with that Hessian.  The draws are held while parameters move, so that the objective
is a smooth function of them and its gradient is exact; b^ and H move with the parameters.

W = I + (H - I) / 4 is the Hessian if the data said a quarter of what they say.  With a fifth from the distribution of the random
effects itself (b ~ N(0, I)) no weight is above five times the likelihood's own, so that a subject about whom the data say little
(most of its values below the limit) has a tail of weights that is bounded, wherever its mode is.

Sources: Pinheiro & Bates (1995), J Comput Graph Stat 4:12, doi:10.1080/10618600.1995.10474663 (AGQ); Kuk (1999),
doi:10.1080/00949659908811934 (importance sampling around the mode); Hesterberg (1995), Technometrics 37:185,
doi:10.1080/00401706.1995.10484303 (defensive mixtures); Vehtari et al. (2024), J Mach Learn Res 25:72 (Pareto k).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nlme.dynamics.solvers import SOLVED
from nlme.errors import ModelError
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model
from nlme.language.stacking import SubjectData
from nlme.linalg import cholesky, inverse_lower
from nlme.marginal.base import Method, Subject
from nlme.parameters.domains import require_whole

_MOST_NODES = 20_000
_SHARES = 0.2, 0.3, 0.5  # of an importance sample: from the random effects' own distribution, wide and close around the mode
_NEGLIGIBLE = 1e-30  # share of a node in the sum
_SQUARES = 30  # degrees of freedom up to which a chi-squared number is a sum of squares
_FARTHEST = 37.0  # standard deviations: exp(-37^2 / 2) = 5e-298


@dataclasses.dataclass(frozen=True, repr=False)
class Nodes(Method):
    """A method that sums exp(-Phi) over nodes around the mode."""

    @abc.abstractmethod
    def nodes(
        self, subject: Subject, b: Float[Array, " q"], factor: Float[Array, "q q"]
    ) -> tuple[Float[Array, "K q"], Float[Array, " K"]]:
        """Where the nodes are, b_k, and v_k, given the mode and the Cholesky factor of H."""

    def log_terms(self, subject: Subject, model: Model, b: Float[Array, " q"]) -> Float[Array, " K"]:
        """v_k - Phi(b_k) of every node."""
        return self.weighted(subject, model, b)[1]

    def weighted(self, subject: Subject, model: Model, b: Float[Array, " q"]) -> tuple[Float[Array, "K q"], Float[Array, " K"]]:
        """The nodes and v_k - Phi(b_k): the logarithm of what each adds to the integral."""

        shared, data = subject.data.shared, dataclasses.replace(subject.data, shared=None)

        def term(at, v):
            # where the density of b is below what a number can hold, a heavy-tailed draw has no weight and may have no prediction
            nowhere = at @ at > _FARTHEST**2
            at = jnp.where(nowhere, b, at)
            return jnp.where(nowhere, -jnp.inf, v - phi_at((model, at, shared), self, subject.anatomy, data))

        nodes, v = self.nodes(subject, b, cholesky(subject.observed(model, b)))
        return nodes, jax.vmap(term)(nodes, v)

    def objective(self, subject, model, b):
        if not subject.effects:
            m = subject.moments(model, b)
            return 2.0 * subject.phi(m, jnp.log(m.variance), b)
        return -2.0 * jax.scipy.special.logsumexp(self.log_terms(subject, model, b))


@eqx.filter_custom_vjp
def phi_at(point, method: Nodes, anatomy: Anatomy, data: SubjectData) -> Float[Array, ""]:
    """Phi at ``point``: (model, b, effects of the site, if held).  A node is far from the mode: it needs a solve of its own.

    At a node where a prediction underflows, Phi may be finite, or infinite, and its derivative not a number.  If such a node has
    no weight (the cotangent that comes back), its derivative counts for nothing instead of spoiling the sum.
    """
    return _phi(point, method, anatomy, data)


def _phi(point, method, anatomy, data):
    model, b, shared = point
    data = dataclasses.replace(data, shared=shared)
    there = Subject(method, anatomy, data, model, jax.lax.stop_gradient(b), 1)
    m = there.moments(model, b)
    # parameters under which nothing can be solved have no density
    return jnp.where(m.status == SOLVED, there.phi(m, jnp.log(m.variance), b), jnp.inf)


@phi_at.def_fwd
def _phi_forward(perturbed, point, method, anatomy, data):
    return eqx.filter_vjp(lambda point: _phi(point, method, anatomy, data), point)


@phi_at.def_bwd
def _phi_backward(pull, cotangent, perturbed, point, method, anatomy, data):
    (slopes,) = pull(cotangent)
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(slopes)]))
    nothing = ~finite & (jnp.abs(cotangent) < _NEGLIGIBLE)
    return jax.tree.map(lambda x: jnp.where(nothing, 0.0, x), slopes)


@dataclasses.dataclass(frozen=True, repr=False)
class AGQ(Nodes):
    """Adaptive Gauss-Hermite quadrature with ``points`` nodes for each random effect, points^q in all.

    Raises
    ------
    ModelError
        Fewer than one point; more nodes than 20,000 for a subject.
    """

    points: int = 5

    title: ClassVar[str] = "Adaptive Gauss-Hermite quadrature"

    def __post_init__(self):
        require_whole("nlme.AGQ", "points", self.points, 1)

    def require(self, anatomy) -> None:
        q = anatomy.inner
        if self.points**q > _MOST_NODES:
            fits = int(_MOST_NODES ** (1.0 / q))
            raise ModelError(
                f"AGQ(points={self.points}) with {q} random effects ({', '.join(anatomy.effects[:q])}) needs {self.points}^{q} = "
                f"{self.points**q:,} nodes for every subject; the limit is {_MOST_NODES:,}. Take points={fits} or fewer, or "
                f"nlme.ImportanceSampling()."
            )

    def nodes(self, subject, b, factor):
        grid, log_weights = hermite(self.points, subject.effects)
        return b + _unwhitened(factor, jnp.asarray(grid)), jnp.asarray(log_weights) - jnp.sum(jnp.log(jnp.diagonal(factor)))


def hermite(points: int, effects: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes x_k (K, q) of the tensor product Gauss-Hermite rule, K = points^q, and log w_k + x_k'x_k/2 (K,)."""
    x, w = np.polynomial.hermite_e.hermegauss(points)
    grid = np.stack(np.meshgrid(*[x] * effects, indexing="ij"), axis=-1).reshape(-1, effects)
    log_w = np.log(w / math.sqrt(2.0 * math.pi))
    return grid, sum(np.meshgrid(*[log_w] * effects, indexing="ij")).reshape(-1) + 0.5 * np.sum(grid**2, axis=1)


@dataclasses.dataclass(frozen=True, repr=False)
class ImportanceSampling(Nodes):
    """Importance sampling with ``samples`` draws for each subject: half of them close around its mode, three tenths wide around it
    (both multivariate t), a fifth from the distribution of the random effects.

    ``degrees`` of freedom: few for heavy tails.  ``seed`` says which draws; they are held during a fit.  The Monte-Carlo error of
    the objective and the Pareto k of every subject are in ``nlme.evaluate(...).monte_carlo``.

    Raises
    ------
    ModelError
        Fewer than two samples, or degrees of freedom that are not positive.
    """

    samples: int = 300
    degrees: float = 5.0
    seed: int = 0

    title: ClassVar[str] = "Importance sampling"
    sites: ClassVar[bool] = False

    def __post_init__(self):
        require_whole("nlme.ImportanceSampling", "samples", self.samples, 2)
        if not self.degrees > 0:
            raise ModelError(f"nlme.ImportanceSampling: degrees of freedom are positive; got {self.degrees!r}.")

    @property
    def strata(self) -> np.ndarray:
        """Which part of the mixture every draw comes from: 0 the random effects' own distribution, 1 wide, 2 close (K,)."""
        counts = np.diff(np.round(np.cumsum([0.0, *_SHARES]) * self.samples).astype(int))
        return np.repeat(np.arange(3), counts)

    def _drawn(self, key, q: int) -> tuple[Float[Array, "K q"], Float[Array, " K"]]:
        """Standard normal numbers and those of a chi-squared distribution; whole ``degrees`` need no gamma variates, which take
        five times as long to compile."""
        if self.degrees == int(self.degrees) <= _SQUARES:
            x = jax.random.normal(key, (self.samples, q + int(self.degrees)))
            return x[:, :q], jnp.sum(x[:, q:] ** 2, axis=1)
        normal, gamma = jax.random.split(key)
        return jax.random.normal(normal, (self.samples, q)), 2.0 * jax.random.gamma(gamma, 0.5 * self.degrees, (self.samples,))

    def nodes(self, subject, b, factor):
        q, nu = subject.effects, self.degrees
        key = jax.random.fold_in(jax.random.key(self.seed), subject.data.number)
        z, square = self._drawn(key, q)
        t = z / jnp.sqrt(square / nu)[:, None]
        # the Hessian's part that the data make, a quarter of it left: as if there were a quarter of the observations
        wider = cholesky(0.25 * factor @ factor.T + 0.75 * jnp.eye(q))
        own, wide = np.searchsorted(self.strata, [1, 2])
        at = jnp.concatenate([z[:own], b + _unwhitened(wider, t[own:wide]), b + _unwhitened(factor, t[wide:])])

        def log_t(factor):
            square = jnp.sum(((at - b) @ factor) ** 2, axis=1)
            return jnp.sum(jnp.log(jnp.diagonal(factor))) - 0.5 * (nu + q) * jnp.log1p(square / nu)

        constant = math.lgamma(0.5 * (nu + q)) - math.lgamma(0.5 * nu) - 0.5 * q * math.log(nu * math.pi)
        log_prior = -0.5 * q * math.log(2.0 * math.pi) - 0.5 * jnp.sum(at**2, axis=1)
        densities = jnp.stack([log_prior, constant + log_t(wider), constant + log_t(factor)], axis=1)
        shares = np.bincount(self.strata, minlength=3) / self.samples
        log_density = jax.scipy.special.logsumexp(densities, axis=1, b=shares)
        return at, -math.log(self.samples) - 0.5 * q * math.log(2.0 * math.pi) - log_density


def _unwhitened(factor: Float[Array, "q q"], x: Float[Array, "K q"]) -> Float[Array, "K q"]:
    """C x of every row, C = factor^-T."""
    return x @ inverse_lower(factor)
