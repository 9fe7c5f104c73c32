"""What every observation model answers: what one record adds to a log density, what it predicts, how it is drawn.

    log p(y) = [normal] log N(z; mean, variance) + log_factor

A model whose data are normal on some scale z = h(y) fills the first part and puts log |h'(y)| into ``log_factor``; any other puts
its whole log density there.  Methods that linearise (FO, FOCE, FOCEI) need the first part; Laplace's and all that sample need
only the sum.

What is impossible has the log density -inf, and what is certain the probability 1, both with derivatives of zero: a record where the
prediction is 0 (before the dose, in the lag) under an error that vanishes with it.  Both sides of every ``where`` that says so are
finite, because reverse differentiation multiplies the side that is not taken by zero.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from nlme.typing import Scalar


class Record(NamedTuple):
    """One observation as the data give it: DV, CENS (1: below DV, -1: above DV), LIMIT (NaN where there is none), and DV of the record
    before of the same endpoint, NaN of a first one."""

    y: Scalar
    cens: Scalar
    limit: Scalar
    before: Scalar = math.nan


class Terms(NamedTuple):
    """log p(y) = [normal] log N(transformed; mean, variance) + log_factor; (0, 1, 0) where ``normal`` is False."""

    mean: Float[Array, ...]
    variance: Float[Array, ...]
    transformed: Float[Array, ...]
    log_factor: Float[Array, ...]
    normal: Bool[Array, ...]


def not_normal(log_density: Scalar) -> Terms:
    """The terms of a record that has no normal part."""
    zero, one = jnp.zeros_like(log_density), jnp.ones_like(log_density)
    return Terms(zero, one, zero, log_density, jnp.zeros_like(log_density, dtype=bool))


def choose(condition: Bool[Array, ...], yes: Terms, no: Terms) -> Terms:
    """``yes`` where the condition holds, else ``no``."""
    return Terms(*(jnp.where(condition, a, b) for a, b in zip(yes, no, strict=True)))


def impossible_where(condition: Bool[Array, ...], terms: Terms) -> Terms:
    """The same terms, but a density of zero where the condition holds."""
    return choose(condition, not_normal(jnp.full_like(terms.log_factor, -jnp.inf)), terms)


def log_density(terms: Terms) -> Float[Array, ...]:
    """log p(y), all constants included."""
    square = jnp.square(terms.transformed - terms.mean) / terms.variance
    normal = -0.5 * (square + jnp.log(terms.variance) + math.log(2.0 * math.pi))
    return jnp.where(terms.normal, normal, 0.0) + terms.log_factor


COMPUTED = "computed"
LIMITS = ("lower limit", "upper limit")  # as parts are called


@dataclasses.dataclass(frozen=True)
class Law:
    """What is known of an endpoint's distribution before any number is.

    Attributes
    ----------
    words : the distribution in words, for descriptions and messages
    normal : methods that linearise may be used
    plain : ``log_factor`` does not depend on any parameter
    link : "" if records are independent given the random effects, else how one looks at the one before (see ``sequence``)
    censoring : the model says what a record with CENS = 1 or -1 means
    whole : (lowest, highest) of whole-numbered data, or None
    limits : (lower, upper) limits of quantification: a number, ``COMPUTED`` where it depends on the record (a covariate, a parameter)
        and is among the ``parts``, None where the model gives none
    """

    words: str
    normal: bool = False
    plain: bool = False
    link: str = ""
    censoring: bool = False
    whole: tuple[float, float] | None = None
    limits: tuple[float | str | None, float | str | None] = (None, None)

    @property
    def of_events(self) -> bool:
        """Whether it says when events happen: the prediction is then no mean of DV, and a risk goes on from record to record."""
        return self.link in ("event", "events")


class Observation(eqx.Module):
    """Distribution of one endpoint's observation at one time, given the individual parameters and the states."""

    closes: ClassVar[bool] = False  # whether it holds functions that close over the numbers of the trace that made it

    @abc.abstractmethod
    def law(self) -> Law:
        """What does not depend on numbers."""

    @abc.abstractmethod
    def parts(self) -> dict[str, Scalar]:
        """The numbers that make the distribution, by name."""

    @abc.abstractmethod
    def terms(self, record: Record) -> Terms:
        """What ``record`` adds to the log density; differentiable in the parts."""

    @abc.abstractmethod
    def prediction(self) -> Scalar:
        """The prediction on the scale of the data."""

    @abc.abstractmethod
    def sample(self, normal: Scalar, key) -> Scalar:
        """An observation from a standard normal draw, and a key for what needs more (a linked law: from what its link drew)."""

    def expected(self, record: Record) -> Scalar:
        """The prediction given the record before."""
        return self.prediction()

    def carried(self) -> Scalar:
        """What the link between records needs for their density: the decay of a correlation, a cumulative hazard."""
        return jnp.zeros(())

    def moving(self) -> Any:
        """What it needs to predict and to draw them: the same, or the probabilities of all transitions."""
        return self.carried()

    def back(self, z: Scalar) -> Scalar:
        """The value on the scale of the data where the normal part stands at ``z``; NaN without a normal part."""
        return jnp.full_like(z, jnp.nan)


class Continuous(Observation):
    """A continuous distribution that a monotone, increasing map brings to a symmetric one with distribution function F."""

    @abc.abstractmethod
    def certain(self) -> Bool[Array, ""]:
        """Whether there is no distribution, only one value: ``prediction()``."""

    @abc.abstractmethod
    def uncertain(self) -> Continuous:
        """The same where it is a distribution, and any distribution with finite derivatives where it is not."""

    @abc.abstractmethod
    def standardised(self, y: Scalar) -> Scalar:
        """x with P(Y < y) = F(x); infinite where ``y`` is outside what the distribution can take."""

    def at_zero(self) -> Scalar:
        """x with P(Y <= 0) = F(x)."""
        return self.standardised(jnp.zeros(()))

    @abc.abstractmethod
    def log_cdf(self, x: Scalar) -> Scalar:
        """log F(x)."""
