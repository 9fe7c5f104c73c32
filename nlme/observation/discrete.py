"""Binary, ordered categorical and count data.

| constructor                            | data         | P(y)                                                              |
|----------------------------------------|--------------|-------------------------------------------------------------------|
| ``binary(p)``, ``binary(logit=x)``     | 0, 1         | p^y (1 - p)^(1 - y),  p = 1 / (1 + exp(-x))                       |
| ``ordered(logits=(x1, .., xK))``       | 0 .. K       | P(y >= k) = 1 / (1 + exp(-xk)),  x1 > x2 > ..                     |
| ``ordered(probabilities=(p0, .., pK))``| 0 .. K       | pk                                                                |
| ``poisson(rate)``                      | 0, 1, ..     | rate^y exp(-rate) / y!                                            |
| ``negative_binomial(mean, dispersion)``| 0, 1, ..     | variance mean + dispersion mean^2 (see the function)              |

No constant is dropped from these.  Probabilities may be 0 or 1, and rates 0: what is then certain adds nothing, anything else is
impossible (log density -inf).  So is every record where a probability lies outside 0 to 1, logits cross, or a rate, a mean or a
dispersion is negative: such a density would exceed 1, and a search would go there.  There is no prediction then (NaN).
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.observation.base import Law, Observation, Record, Terms, impossible_where, not_normal
from nlme.observation.tails import log_from_zero, log_rising
from nlme.typing import Scalar

_ROUNDING = 1e-6
_POISSON = 1e-300  # dispersion of a negative binomial that is none to the last bit
_LARGE = 1e5  # rate above which a Poisson number is drawn otherwise


class Binary(Observation):
    """log P(y = 1) and log P(y = 0)."""

    one: Scalar
    zero: Scalar

    def law(self) -> Law:
        return Law("binary (0 or 1)", whole=(0, 1))

    def parts(self):
        return {"log P(1)": self.one, "log P(0)": self.zero}

    def terms(self, record: Record) -> Terms:
        return not_normal(jnp.where(record.y > 0.5, self.one, self.zero))

    def prediction(self):
        never = jnp.isneginf(self.one) & jnp.isneginf(self.zero)
        return jnp.where(never, jnp.nan, jnp.exp(self.one))

    def sample(self, normal, key):
        p = self.prediction()
        return jnp.where(jnp.isnan(p), jnp.nan, jnp.where(jax.random.uniform(key) < p, 1.0, 0.0))


def binary(p=None, *, logit=None) -> Binary:
    """y = 1 with probability ``p``, or with ``logit`` = log(p / (1 - p)), which is safer for probabilities near 0 or 1.

    The prediction is p.  Where p lies outside 0 to 1 (``p * exp(eta)`` may), nothing is possible.

    Raises
    ------
    ModelError
        Not exactly one of ``p`` and ``logit`` is given.
    """
    if (p is None) == (logit is None):
        raise ModelError("binary takes the probability of a 1, binary(p), or its logit, binary(logit=...): one of the two.")
    if logit is not None:
        logit = jnp.asarray(logit, dtype=float)
        return Binary(-jax.nn.softplus(-logit), -jax.nn.softplus(logit))
    p, wrong = _probabilities(jnp.asarray(p, dtype=float))
    sure = p == 1.0
    one, zero = log_from_zero(p), jnp.where(sure, -jnp.inf, jnp.log1p(-jnp.where(sure, 0.0, p)))
    return Binary(jnp.where(wrong, -jnp.inf, one), jnp.where(wrong, -jnp.inf, zero))


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
        mean = jnp.sum(jnp.exp(self.log_probability) * (self.first + jnp.arange(self.log_probability.shape[0])))
        return jnp.where(jnp.all(jnp.isneginf(self.log_probability)), jnp.nan, mean)

    def sample(self, normal, key):
        drawn = (self.first + jax.random.categorical(key, self.log_probability)).astype(float)
        return jnp.where(jnp.isnan(self.prediction()), jnp.nan, drawn)


def ordered(*, logits=None, probabilities=None, first: int = 0) -> Ordered:
    """Ordered categories ``first``, ``first + 1``, ...

    Parameters
    ----------
    logits : cumulative logits x1 > x2 > .. > xK of P(y >= first + k); K + 1 categories (proportional odds: xk = x - ck with
        cut points c1 < c2 < ..); nothing is possible where they cross
    probabilities : of every category, in order, instead of ``logits``; none is negative and their sum is 1, and nothing is possible
        where that is not so
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
        whole = jnp.abs(jnp.sum(given) - 1.0) < _ROUNDING
        given, wrong = _probabilities(given)
        return Ordered(jnp.where(whole & ~jnp.any(wrong), log_from_zero(given), -jnp.inf), int(first))
    # expit(a) - expit(b) = expit(a) expit(-b) (1 - exp(b - a)), without cancellation
    log_p, upper, lower = jax.nn.log_sigmoid, given[:-1], given[1:]
    crossed = upper < lower
    never = (upper == lower) | crossed  # infinite ones, too
    some = jnp.log(-jnp.expm1(jnp.where(never, -1.0, lower - upper)))
    between = jnp.where(never, -jnp.inf, log_p(upper) + log_p(-lower) + some)
    log_probability = jnp.concatenate([log_p(-given[:1]), between, log_p(given[-1:])])
    return Ordered(jnp.where(jnp.any(crossed), -jnp.inf, log_probability), int(first))


class Poisson(Observation):
    """Counts with mean and variance ``rate``."""

    rate: Scalar

    def law(self) -> Law:
        return Law("Poisson counts", whole=(0, jnp.inf))

    def parts(self):
        return {"rate": self.rate}

    def terms(self, record: Record) -> Terms:
        wrong, rate = self.rate < 0.0, jnp.where(self.rate < 0.0, 1.0, self.rate)
        return impossible_where(wrong, not_normal(_times_log(record.y, rate) - rate - gammaln(record.y + 1.0)))

    def prediction(self):
        return jnp.where(self.rate < 0.0, jnp.nan, self.rate)

    def sample(self, normal, key):
        drawn = _poisson_number(key, jnp.maximum(self.rate, 0.0))
        return jnp.where(jnp.isnan(self.prediction()), jnp.nan, drawn)


def _poisson_number(key, rate):
    """A Poisson number; of a large rate by the first two terms of Cornish & Fisher, for JAX draws such in single precision."""
    small = jax.random.poisson(key, jnp.minimum(rate, _LARGE)).astype(float)
    z = jax.random.normal(jax.random.fold_in(key, 1), jnp.shape(rate))
    large = jnp.maximum(rate, _LARGE)
    return jnp.where(rate > _LARGE, jnp.round(large + jnp.sqrt(large) * z + (z**2 - 1.0) / 6.0), small)


def poisson(rate) -> Poisson:
    """Counts: P(y) = rate^y exp(-rate) / y!, for rate >= 0; nothing is possible below.  The prediction is the rate."""
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
        wrong, mean, dispersion = self._valid()
        y, size, spread = record.y, 1.0 / dispersion, dispersion * mean
        # (r)_y spread^y = (r)_y r^-y mean^y, in which nothing is large where r is
        ways = log_rising(size, y) - gammaln(y + 1.0)
        return impossible_where(wrong, not_normal(ways + _times_log(y, mean) - (y + size) * jnp.log1p(spread)))

    def prediction(self):
        return jnp.where(self._valid()[0], jnp.nan, self.mean)

    def sample(self, normal, key):
        wrong, mean, dispersion = self._valid()
        rate_key, count_key = jax.random.split(key)
        rate = mean * dispersion * jax.random.gamma(rate_key, 1.0 / dispersion)
        return jnp.where(wrong, jnp.nan, _poisson_number(count_key, rate))

    def _valid(self):
        """Whether it is no distribution, and mean and dispersion with 1 in their place where it is none."""
        wrong = (self.mean < 0.0) | (self.dispersion < 0.0)
        dispersion = jnp.maximum(self.dispersion, _POISSON)
        return wrong, *(jnp.where(wrong, 1.0, x) for x in (self.mean, dispersion))


def negative_binomial(mean, dispersion) -> NegativeBinomial:
    """Overdispersed counts: variance mean + dispersion mean^2, mean >= 0, dispersion > 0; to 0, it is the Poisson distribution.  Nothing is
    possible where one of them is negative.

    P(y) = G(y + r) / (G(r) y!) (1 + mean / r)^(-r) (mean / (r + mean))^y with r = 1 / dispersion and G the gamma function.
    """
    return NegativeBinomial(jnp.asarray(mean, dtype=float), jnp.asarray(dispersion, dtype=float))


def _probabilities(p):
    """``p`` with the last digits that rounding has put below 0 or above 1 taken away, and where it is no probability."""
    wrong = (p < -_ROUNDING) | (p > 1.0 + _ROUNDING)
    return jnp.where(wrong, 0.5, jnp.where(p > 1.0, 1.0, jnp.where(p < 0.0, 0.0, p))), wrong


def _times_log(y, x):
    """y log x, 0 for y = 0 whatever x."""
    return jnp.where(y > 0, y, 1.0) * jnp.where(y > 0, log_from_zero(x), 0.0)
