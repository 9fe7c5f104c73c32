"""Binary, ordered categorical and count data.

| constructor                            | data         | P(y)                                                              |
|----------------------------------------|--------------|-------------------------------------------------------------------|
| ``binary(p)``, ``binary(logit=x)``     | 0, 1         | p^y (1 - p)^(1 - y),  p = 1 / (1 + exp(-x))                       |
| ``ordered(logits=(x1, .., xK))``       | 0 .. K       | P(y >= k) = 1 / (1 + exp(-xk)),  x1 > x2 > ..                     |
| ``ordered(probabilities=(p0, .., pK))``| 0 .. K       | pk                                                                |
| ``poisson(rate)``                      | 0, 1, ..     | rate^y exp(-rate) / y!                                            |
| ``negative_binomial(mean, dispersion)``| 0, 1, ..     | variance mean + dispersion mean^2 (see the function)              |

No constant is dropped from these.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, xlogy
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.observation.base import Law, Observation, Record, Terms, not_normal
from nlme.typing import Scalar


class Binary(Observation):
    """y = 1 with probability 1 / (1 + exp(-logit)), else 0."""

    logit: Scalar

    def law(self) -> Law:
        return Law("binary (0 or 1)", whole=(0, 1))

    def parts(self):
        return {"logit": self.logit}

    def terms(self, record: Record) -> Terms:
        return not_normal(-jax.nn.softplus(jnp.where(record.y > 0.5, -self.logit, self.logit)))

    def prediction(self):
        return jax.nn.sigmoid(self.logit)

    def sample(self, normal, key):
        return jnp.where(jax.random.uniform(key) < self.prediction(), 1.0, 0.0)


def binary(p=None, *, logit=None) -> Binary:
    """y = 1 with probability ``p``, or with ``logit`` = log(p / (1 - p)), which is safer for probabilities near 0 or 1.

    The prediction is p.

    Raises
    ------
    ModelError
        Not exactly one of ``p`` and ``logit`` is given.
    """
    if (p is None) == (logit is None):
        raise ModelError("binary takes the probability of a 1, binary(p), or its logit, binary(logit=...): one of the two.")
    if logit is None:
        p = jnp.asarray(p, dtype=float)
        logit = jnp.log(p) - jnp.log1p(-p)
    return Binary(jnp.asarray(logit, dtype=float))


class Ordered(Observation):
    """log P(y = first + k) = log_probability[k]."""

    log_probability: Float[Array, " K"]
    first: int = eqx.field(static=True)

    def law(self) -> Law:
        last = self.first + self.log_probability.shape[0] - 1
        return Law(f"ordered categories {self.first} to {last}", whole=(self.first, last))

    def parts(self):
        return {f"P({self.first + k})": value for k, value in enumerate(self.log_probability)}

    def terms(self, record: Record) -> Terms:
        chosen = record.y - self.first == jnp.arange(self.log_probability.shape[0])
        return not_normal(jnp.sum(jnp.where(chosen, self.log_probability, 0.0)))

    def prediction(self):
        return jnp.sum(jnp.exp(self.log_probability) * (self.first + jnp.arange(self.log_probability.shape[0])))

    def sample(self, normal, key):
        return (self.first + jax.random.categorical(key, self.log_probability)).astype(float)


def ordered(*, logits=None, probabilities=None, first: int = 0) -> Ordered:
    """Ordered categories ``first``, ``first + 1``, ...

    Parameters
    ----------
    logits : cumulative logits x1 > x2 > .. > xK of P(y >= first + k); K + 1 categories (proportional odds: xk = x - ck with
        cut points c1 < c2 < ..)
    probabilities : of every category, in order, instead of ``logits``; their sum is 1
    first : the number of the lowest category

    The prediction is the mean category.

    Raises
    ------
    ModelError
        Not exactly one of ``logits`` and ``probabilities`` is given, or too few categories.
    """
    if (logits is None) == (probabilities is None):
        raise ModelError("ordered takes logits=(x1, x2, ...) of P(y >= k) or probabilities=(p0, p1, ...): one of the two.")
    given = jnp.stack([jnp.asarray(x, dtype=float) for x in (logits if logits is not None else probabilities)])
    if logits is None:
        if given.shape[0] < 2:
            raise ModelError(
                f"ordered(probabilities=...) takes one probability per category, at least two; got {given.shape[0]}."
            )
        return Ordered(jnp.log(given), int(first))
    # expit(a) - expit(b) = expit(a) expit(-b) (1 - exp(b - a)), without cancellation
    log_p, upper, lower = jax.nn.log_sigmoid, given[:-1], given[1:]
    between = log_p(upper) + log_p(-lower) + jnp.log(-jnp.expm1(lower - upper))
    return Ordered(jnp.concatenate([log_p(-given[:1]), between, log_p(given[-1:])]), int(first))


class Poisson(Observation):
    """Counts with mean and variance ``rate``."""

    rate: Scalar

    def law(self) -> Law:
        return Law("Poisson counts", whole=(0, jnp.inf))

    def parts(self):
        return {"rate": self.rate}

    def terms(self, record: Record) -> Terms:
        return not_normal(xlogy(record.y, self.rate) - self.rate - gammaln(record.y + 1.0))

    def prediction(self):
        return self.rate

    def sample(self, normal, key):
        return jax.random.poisson(key, self.rate).astype(float)


def poisson(rate) -> Poisson:
    """Counts: P(y) = rate^y exp(-rate) / y!, for rate > 0.  The prediction is the rate."""
    return Poisson(jnp.asarray(rate, dtype=float))


class NegativeBinomial(Observation):
    """Counts with variance mean + dispersion mean^2."""

    mean: Scalar
    dispersion: Scalar

    def law(self) -> Law:
        return Law("negative binomial counts", whole=(0, jnp.inf))

    def parts(self):
        return {"mean": self.mean, "dispersion": self.dispersion}

    def terms(self, record: Record) -> Terms:
        y, size, spread = record.y, 1.0 / self.dispersion, self.dispersion * self.mean
        ways = gammaln(y + size) - gammaln(size) - gammaln(y + 1.0)
        return not_normal(ways + xlogy(y, spread) - (y + size) * jnp.log1p(spread))

    def prediction(self):
        return self.mean

    def sample(self, normal, key):
        rate_key, count_key = jax.random.split(key)
        size = 1.0 / self.dispersion
        rate = self.mean * self.dispersion * jax.random.gamma(rate_key, size)
        return jax.random.poisson(count_key, rate).astype(float)


def negative_binomial(mean, dispersion) -> NegativeBinomial:
    """Overdispersed counts: variance mean + dispersion mean^2, both > 0; dispersion to 0 is the Poisson distribution.

    P(y) = G(y + r) / (G(r) y!) (1 + mean / r)^(-r) (mean / (r + mean))^y with r = 1 / dispersion and G the gamma function.
    """
    return NegativeBinomial(jnp.asarray(mean, dtype=float), jnp.asarray(dispersion, dtype=float))
