"""The integral itself: adaptive Gauss-Hermite quadrature, and importance sampling.

    -2 log L = -2 log (2 pi)^(-q/2) int exp(-Phi(b)) db

with b = b^ + C x, C C' = H^-1, H the expected Hessian of Phi at its mode b^, becomes a sum over nodes x_k,

    -2 log L = log det H - 2 log sum_k exp( v_k - Phi(b^ + C x_k) )

| method             | nodes                                       | v_k                                                       |
|--------------------|---------------------------------------------|-----------------------------------------------------------|
| AGQ(n)             | n^q of the tensor product Gauss-Hermite rule | log w_k + x_k'x_k/2, w_k the weights for N(0, I)           |
| ImportanceSampling | drawn from a multivariate t, each subject's own | -log K - q/2 log 2 pi - log t(x_k)                     |

AGQ with one node is Laplace's method with the expected Hessian.  The draws are held while parameters move, so that the objective
is a smooth function of them and its gradient is exact; b^ and H move with the parameters.

Sources: Pinheiro & Bates (1995), J Comput Graph Stat 4:12, doi:10.1080/10618600.1995.10474663 (AGQ); Kuk (1999),
doi:10.1080/00949659908811934 (importance sampling around the mode); Vehtari et al. (2024), J Mach Learn Res 25:72 (Pareto k).
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.language.model import Model
from nlme.marginal.base import Method, Subject

_MOST_NODES = 20_000


@dataclasses.dataclass(frozen=True, repr=False)
class Nodes(Method):
    """A method that sums exp(-Phi) over nodes around the mode."""

    @abc.abstractmethod
    def nodes(self, subject: Subject) -> tuple[Float[Array, "K q"], Float[Array, " K"]]:
        """Standardised nodes x_k, and v_k."""

    def log_terms(self, subject: Subject, model: Model, b: Float[Array, " q"]):
        """v_k - Phi(b^ + C x_k) of every node (K,), and log det H."""
        slopes = subject.slopes(model, b)
        factor = jnp.linalg.cholesky(subject.expected(slopes))
        x, v = self.nodes(subject)

        def term(x, v):
            at = b + solve_triangular(factor, x, lower=True, trans=1)
            # a node is far from the mode: it needs a solve of its own
            there = Subject(self, subject.anatomy, subject.data, model, jax.lax.stop_gradient(at), 1)
            m = there.moments(model, at)
            return v - there.phi(m, jnp.log(m.variance), at)

        return jax.vmap(term)(x, v), 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))

    def objective(self, subject, model, b):
        if not subject.effects:
            m = subject.moments(model, b)
            return 2.0 * subject.phi(m, jnp.log(m.variance), b)
        terms, log_det = self.log_terms(subject, model, b)
        return log_det - 2.0 * jax.scipy.special.logsumexp(terms)


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
        if not isinstance(self.points, int) or self.points < 1:
            raise ModelError(f"nlme.AGQ: points is a whole number of at least 1; got {self.points!r}.")

    def require(self, anatomy) -> None:
        q = len(anatomy.effects)
        if self.points**q > _MOST_NODES:
            fits = int(_MOST_NODES ** (1.0 / q))
            raise ModelError(
                f"AGQ(points={self.points}) with {q} random effects ({', '.join(anatomy.effects)}) needs {self.points}^{q} = "
                f"{self.points**q:,} nodes for every subject; the limit is {_MOST_NODES:,}. Take points={fits} or fewer, or "
                f"nlme.ImportanceSampling()."
            )

    def nodes(self, subject):
        x, w = np.polynomial.hermite_e.hermegauss(self.points)
        q = subject.effects
        grid = np.stack(np.meshgrid(*[x] * q, indexing="ij"), axis=-1).reshape(-1, q)
        log_w = np.log(w / math.sqrt(2.0 * math.pi))
        total = sum(np.meshgrid(*[log_w] * q, indexing="ij")).reshape(-1)
        return jnp.asarray(grid), jnp.asarray(total + 0.5 * np.sum(grid**2, axis=1))


@dataclasses.dataclass(frozen=True, repr=False)
class ImportanceSampling(Nodes):
    """Importance sampling with ``samples`` draws for each subject from a multivariate t around its mode.

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

    def __post_init__(self):
        if not isinstance(self.samples, int) or self.samples < 2:
            raise ModelError(f"nlme.ImportanceSampling: samples is a whole number of at least 2; got {self.samples!r}.")
        if not self.degrees > 0:
            raise ModelError(f"nlme.ImportanceSampling: degrees of freedom are positive; got {self.degrees!r}.")

    def require(self, anatomy) -> None:
        if anatomy.mixture:  # the error of a sum over subpopulations is not that of the likeliest
            raise ModelError("ImportanceSampling does not know the error of a mixture of subpopulations. Use nlme.AGQ() or nlme.Laplace().")

    def nodes(self, subject):
        q, nu = subject.effects, self.degrees
        normal, gamma = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), subject.data.number))
        z = jax.random.normal(normal, (self.samples, q))
        spread = 2.0 * jax.random.gamma(gamma, 0.5 * nu, (self.samples,)) / nu
        x = z / jnp.sqrt(spread)[:, None]
        log_t = (
            math.lgamma(0.5 * (nu + q)) - math.lgamma(0.5 * nu) - 0.5 * q * math.log(nu * math.pi)
            - 0.5 * (nu + q) * jnp.log1p(jnp.sum(x**2, axis=1) / nu)
        )  # fmt: skip
        return x, -math.log(self.samples) - 0.5 * q * math.log(2.0 * math.pi) - log_t
