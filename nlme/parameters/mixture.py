"""Shares of subpopulations: probabilities that sum to one, with names.

A subject belongs to one of K subpopulations, to the k-th with probability p_k, and which one it is is not observed:

    L_i = sum_k p_k L_ik,        P(k | y_i) = p_k L_ik / L_i

with L_ik the subject's marginal likelihood if it belonged to k (NONMEM's $MIX).  Two coordinates, both of length K - 1: natural
p_1 .. p_(K-1), unconstrained log(p_k / p_K).
"""

from __future__ import annotations

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nlme.errors import ModelError, name_error
from nlme.parameters.domains import METADATA, PROBABILITY, Declaration, is_numeric


class Mixture(eqx.Module):
    """Shares of the subpopulations; inside ``individual``, that of the subject at hand.

    Attributes
    ----------
    shares : (K,) probabilities
    member : which subpopulation the subject at hand belongs to; None where that has no meaning
    names : of the subpopulations
    """

    shares: Float[Array, " K"]
    member: Int[Array, ""] | None
    names: tuple[str, ...] = eqx.field(static=True)

    def choose(self, **values):
        """The value of the subpopulation at hand: ``cl = self.group.choose(slow=self.cl_slow, fast=self.cl_fast)``.

        Raises
        ------
        ModelError
            A subpopulation without a value, an unknown one, or a call outside ``individual``.
        """
        for name in values:
            if name not in self.names:
                raise ModelError(name_error("subpopulation", name, self.names, "This mixture"))
        missing = [name for name in self.names if name not in values]
        if missing:
            raise ModelError(f"choose(): no value for {', '.join(missing)}; every subpopulation needs one.")
        if self.member is None:
            raise ModelError(
                "choose() of a mixture belongs in individual(self, eta, cov): make what differs between subpopulations an "
                "individual parameter, and use that here."
            )
        chosen = values[self.names[0]]
        for k, name in enumerate(self.names[1:], start=1):
            chosen = jnp.where(self.member == k, values[name], chosen)
        return chosen

    def element_names(self) -> tuple[str, ...]:
        return self.names[:-1]

    def natural(self) -> Float[Array, " K-1"]:
        return self.shares[:-1]

    def unconstrained(self) -> Float[Array, " K-1"]:
        return jnp.log(self.shares[:-1]) - jnp.log(self.shares[-1])

    def at_natural(self, vector) -> Mixture:
        return Mixture(jnp.append(vector, 1.0 - jnp.sum(vector)), self.member, self.names)

    def at_unconstrained(self, vector) -> Mixture:
        size = jnp.append(vector, 0.0)
        weights = jnp.exp(size - jnp.max(size))
        return Mixture(weights / jnp.sum(weights), self.member, self.names)

    def replace(self, value) -> Mixture:
        """Same names with new shares: a Mixture or a dict of all shares."""
        return value if isinstance(value, Mixture) else build(self.names, value)

    def __repr__(self) -> str:
        try:
            return f"Mixture({', '.join(f'{n}={p:.4g}' for n, p in zip(self.names, np.asarray(self.shares), strict=True))})"
        except Exception:  # placeholders during pytree surgery have no numbers to show
            return f"Mixture({', '.join(self.names)})"


def mixture(*, label: str = "", **shares: float):
    """Field of the shares of subpopulations: ``group: nlme.Mixture = nlme.mixture(slow=0.3, fast=0.7)``.

    In ``individual``, ``self.group.choose(slow=..., fast=...)`` is the value of the subpopulation that the subject belongs to.
    All shares but the last are parameters; ``fit.membership`` holds every subject's posterior probabilities.

    Raises
    ------
    ModelError
        Fewer than two subpopulations, a share outside (0, 1), shares that do not sum to one.
    """
    value = build(tuple(shares), shares)
    declaration = Declaration(PROBABILITY, "", label)
    return eqx.field(default_factory=lambda: value, converter=value.replace, metadata={METADATA: declaration})


def build(names: tuple[str, ...], shares: Mapping[str, float]) -> Mixture:
    if not isinstance(shares, Mapping) or set(shares) != set(names):
        raise ModelError(f"The shares of a mixture are a dict with every subpopulation ({', '.join(names)}); got {shares!r}.")
    if len(names) < 2:
        raise ModelError("A mixture needs at least two subpopulations: nlme.mixture(slow=0.3, fast=0.7).")
    for name in names:
        if np.ndim(shares[name]) or not is_numeric(shares[name]) or not 0 < shares[name] < 1:
            raise ModelError(f"The share of subpopulation {name!r} must lie between 0 and 1; got {shares[name]!r}.")
    total = sum(shares.values())
    if abs(total - 1.0) > 1e-6:
        raise ModelError(f"The shares of a mixture sum to one; {', '.join(names)} sum to {total:g}.")
    return Mixture(jnp.asarray([shares[name] for name in names]) / total, jnp.asarray(0), names)
