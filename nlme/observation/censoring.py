"""Values below or above a limit of quantification, and values known to an interval, over any continuous distribution.

With F the distribution function given the random effects, L the lower limit and U the upper one:

| method | a record below L            | an observed record        | a record above U   |
|--------|-----------------------------|---------------------------|--------------------|
| "M1"   | left out                    | p(y)                      | left out           |
| "M2"   | left out                    | p(y) / P(L < y < U)       | left out           |
| "M3"   | F(L)                        | p(y)                      | 1 - F(U)           |
| "M4"   | (F(L) - F(0)) / (1 - F(0))  | p(y) / (1 - F(0))         | (1 - F(U)) / (1 - F(0)) |

A censored record with a LIMIT is known to lie between LIMIT and DV, whatever its method but M1 and M2.  Where the distribution has
shrunk to one value (a prediction of 0 under a proportional or log-normal error), F is 0 below it and 1 from it on; M4's ratio then has
the limit 1 for a value of 0.
Source: Beal (2001), doi:10.1023/A:1012299115260; intervals and columns as in Monolix and nlmixr.
"""

from __future__ import annotations

import dataclasses
from numbers import Real

import equinox as eqx
import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.observation.base import (
    COMPUTED,
    LIMITS,
    Continuous,
    Law,
    Observation,
    Record,
    Terms,
    choose,
    impossible_where,
    not_normal,
)
from nlme.observation.tails import log_between
from nlme.typing import Scalar

METHODS = ("M1", "M2", "M3", "M4")


class Censored(Observation):
    """``base``, of which values beyond a limit are known as such only; without limits of its own, DV is the limit."""

    base: Continuous
    method: str = eqx.field(static=True)
    lloq: Scalar | None
    uloq: Scalar | None
    known: tuple[float | str | None, float | str | None] = eqx.field(static=True)  # of the limits, before any number is

    def law(self) -> Law:
        base, dropped = self.base.law(), self.method == "M1"
        words = f"{base.words}, censored ({self.method})"
        return dataclasses.replace(
            base,
            words=words,
            normal=base.normal and dropped,
            plain=base.plain and dropped,
            censoring=True,
            limits=self.known,
        )

    def parts(self):
        limits = zip(LIMITS, (self.lloq, self.uloq), strict=True)
        return self.base.parts() | {name: value for name, value in limits if value is not None}

    def terms(self, record: Record) -> Terms:
        y, cens, limit = record.y, record.cens, record.limit
        low, high = (y if bound is None else bound for bound in (self.lloq, self.uloq))
        below, above = cens > 0.5, cens < -0.5
        if self.lloq is not None:
            below = below | ((cens == 0) & (y < low))
        if self.uloq is not None:
            above = above | ((cens == 0) & (y > high))
        censored = below | above
        certain, base = self.base.certain(), self.base.uncertain()
        # a value that the distribution can take stands in where the record has none
        observed = base.terms(record._replace(y=jnp.where(censored, base.prediction(), y)))
        observed = impossible_where(certain & ~censored, observed)
        left_out = not_normal(jnp.zeros_like(y))
        if self.method == "M1":
            return choose(censored, left_out, observed)
        if self.method == "M2":
            nothing = jnp.asarray(jnp.inf)
            bounds = (-nothing if self.lloq is None else low, nothing if self.uloq is None else high)
            quantified = log_between(base.log_cdf, *(base.standardised(bound) for bound in bounds))
            given = observed._replace(log_factor=observed.log_factor - quantified)
            return choose(censored, left_out, given)
        end = jnp.where(jnp.isnan(limit), jnp.where(above, jnp.inf, -jnp.inf), limit)
        start, stop = jnp.where(above, high, end), jnp.where(above, end, low)
        # where nothing is censored the interval is any good one
        first = base.standardised(jnp.where(censored, start, -jnp.inf))
        last = base.standardised(jnp.where(censored, stop, base.prediction()))
        given = jnp.zeros(())
        if self.method == "M4":
            zero = base.at_zero()
            first = jnp.where(censored & (start <= 0.0), zero, first)
            start, given = jnp.maximum(start, 0.0), log_between(base.log_cdf, zero, jnp.asarray(jnp.inf))
        inside = log_between(base.log_cdf, first, last)
        value = self.base.prediction()
        known = jnp.where((start <= value) & (value <= stop), 0.0, -jnp.inf)
        observed = observed._replace(log_factor=observed.log_factor - given)
        return choose(censored, not_normal(jnp.where(certain, known, inside - given)), observed)

    def prediction(self):
        return self.base.prediction()

    def back(self, z):
        return self.base.back(z)

    def sample(self, normal, key):
        return self.base.sample(normal, key)


def censored(residual: Continuous, method: str = "M3", *, lloq=None, uloq=None) -> Censored:
    """A continuous error model whose values beyond a limit are known as such only.

    A record counts as below where CENS = 1, and above where CENS = -1; DV is then the limit, unless ``lloq`` or ``uloq`` gives
    it, and LIMIT the other end of the interval.  Where ``lloq`` is given, a record with DV below it counts as below too, though
    CENS = 0; likewise above ``uloq``.

    Parameters
    ----------
    residual : a continuous error model: additive, proportional, combined, power, lognormal, logitnormal, boxcox, yeojohnson,
        student_t
    method : "M1", "M2", "M3" or "M4", as in the table above; "M1" alone keeps the density normal, for FO, FOCE and FOCEI
    lloq, uloq : limits of quantification on the scale of DV; "M2" needs one of them, "M4" takes values to be positive

    Simulated values are those of ``residual``, neither censored nor truncated.

    Raises
    ------
    ModelError
        ``residual`` is not continuous, an unknown ``method``, "M2" without a limit.
    """
    if not isinstance(residual, Continuous):
        raise ModelError(
            f"censored takes a continuous error model whose records are independent given the random effects, such as "
            f"nlme.censored(nlme.combined(f, add, prop)); got {type(residual).__name__}."
        )
    if method not in METHODS:
        raise ModelError(f"censored(..., method={method!r}): the method is one of {', '.join(METHODS)}.")
    if method == "M2" and lloq is None and uloq is None:
        raise ModelError('censored(..., method="M2") divides by the probability of being quantified and needs lloq= (or uloq=).')
    if method in ("M3", "M4"):
        residual.log_cdf(jnp.zeros(()))  # refuses here, where there is no distribution function
    limits = (None if bound is None else jnp.asarray(bound, dtype=float) for bound in (lloq, uloq))
    known = tuple(None if bound is None else float(bound) if isinstance(bound, Real) else COMPUTED for bound in (lloq, uloq))
    return Censored(residual, method, *limits, known)
