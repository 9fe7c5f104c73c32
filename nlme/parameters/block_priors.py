"""The prior of a block of a covariance as a whole: ``priors={"omega.covariance": dist.InverseWishart(df, scale_matrix=S)}``.

    log p(Omega) = df/2 log det S - df n/2 log 2 - log Gamma_n(df/2) - (df + n + 1)/2 log det Omega - tr(S Omega^-1)/2

What moves is u: the logarithms of the diagonal of L, the Cholesky factor of Omega, then what is below it, with

    d Omega / d u = 2^n prod_i L_ii^(n - i + 2),    i = 1 ... n.

Source: Muirhead (1982), Aspects of Multivariate Statistical Theory, Theorem 2.1.9 (the Jacobian) and section 3.6.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import multigammaln
from jaxtyping import Array, Float

from nlme.linalg import cholesky, solve_lower
from nlme.parameters.inventory import Entry


class BlockSite:
    """A block of a covariance (see ``nlme.parameters.priors.Site``).

    Parameters
    ----------
    entry : the covariance
    index : (n,) its random effects that are in the block
    distribution : a NumPyro InverseWishart of n by n matrices
    """

    moves_to_a_mode = False
    scale_labels: ClassVar[tuple[str, ...]] = ()

    def __init__(self, entry: Entry, index: np.ndarray, distribution: Any):
        self.entry, self.index, self.distribution = entry, index, distribution
        n = len(index)
        self.size = n * (n + 1) // 2
        self.of_weights = np.zeros(self.size, bool)
        self._freedom = jnp.asarray(distribution.concentration)
        self._factor = cholesky(jnp.asarray(distribution.scale_matrix))
        log_det = 2.0 * jnp.sum(jnp.log(jnp.diagonal(self._factor)))
        half = 0.5 * self._freedom
        self._constant = half * log_det - half * n * jnp.log(2.0) - multigammaln(half, n)

    def _log_density(self, factor: Float[Array, "n n"]) -> Float[Array, ""]:
        """log p(L L')."""
        n = len(self.index)
        apart = solve_lower(factor, self._factor)
        return (
            self._constant
            - (self._freedom + n + 1) * jnp.sum(jnp.log(jnp.diagonal(factor)))
            - 0.5 * jnp.sum(apart**2)
        )  # fmt: skip

    def placed(self, model, u: Float[Array, " size"]):
        """``model`` with the block at ``u``, and the log density of u."""
        n = len(self.index)
        factor = jnp.diag(jnp.exp(u[:n])).at[np.tril_indices(n, -1)].set(u[n:])
        jacobian = n * jnp.log(2.0) + jnp.sum((n + 1.0 - np.arange(n)) * u[:n])
        sd = jnp.sqrt(jnp.sum(factor**2, axis=1))
        field = self.entry.get(model)
        both = field.sd.at[self.index].set(sd), field.factor.at[np.ix_(self.index, self.index)].set(factor / sd[:, None])
        field = eqx.tree_at(lambda f: (f.sd, f.factor), field, both)
        return eqx.tree_at(self.entry.get, model, field), self._log_density(factor) + jacobian

    def _read(self, model) -> Float[Array, "n n"]:
        """The factor of the block of ``model``."""
        field = self.entry.get(model)
        return field.sd[self.index][:, None] * field.factor[np.ix_(self.index, self.index)]

    def start(self, model) -> Float[Array, " size"]:
        """u of the block of ``model``."""
        return self._coordinates(self._read(model))

    def _coordinates(self, factor: Float[Array, "n n"]) -> Float[Array, " size"]:
        return jnp.concatenate([jnp.log(jnp.diagonal(factor)), factor[np.tril_indices(len(self.index), -1)]])

    def log_density(self, model) -> Float[Array, ""]:
        """Log density of the matrix itself."""
        return self._log_density(self._read(model))

    def drawn(self, key, count: int) -> Float[Array, "count size"]:
        """So many u from the prior."""
        return jax.vmap(lambda matrix: self._coordinates(cholesky(matrix)))(self.distribution.sample(key, (count,)))
