"""Links between the records of one endpoint of one subject: a residual's memory, a hazard accumulated since the record before.

A link takes the terms of all records in the order of time, with what each carries, and gives the terms of each record *given the
one before*, so that their sum stays the log density of all.  Padding repeats a record at no distance, and adds no trouble.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.observation.base import Terms
from nlme.observation.tails import log_from_zero

_ROUNDING = 1e-6


class Course(NamedTuple):
    """When the T records are: a clock that never runs back, and the epoch, counted up by every reset of the system."""

    clock: Float[Array, " T"]
    epoch: Int[Array, " T"]


def _before(x, first):
    return jnp.concatenate([jnp.asarray(first, dtype=x.dtype)[None], x[:-1]])


class Link:
    """Records that are independent given the random effects."""

    def terms(self, terms: Terms, carried, y, course: Course) -> Terms:
        """The terms of every record given the record before."""
        return terms

    def drive(self, carried, own: Bool[Array, " T"], course: Course, key) -> Float[Array, " T"]:
        """What ``Observation.sample`` is given for every record; ``own`` are the records that are observed."""
        return jax.random.normal(key, carried.shape)


class Memory(Link):
    """Residuals with correlation rho = exp(-decay (t_j - t_i)), a Markov process in time.

    Given the record before, z_j ~ N( m_j + rho s_j / s_i (z_i - m_i), g_j (1 - rho^2) ),  s = sqrt(g).
    """

    def terms(self, terms, carried, y, course):
        rho = self._correlation(carried, course)
        sd = jnp.sqrt(terms.variance)
        noise = (terms.transformed - terms.mean) / sd
        mean = terms.mean + rho * sd * _before(noise, 0.0)
        return terms._replace(mean=mean, variance=terms.variance * (1.0 - rho**2))

    def drive(self, carried, own, course, key):
        rho = self._correlation(carried, course, together=1.0)
        fresh = jax.random.normal(key, rho.shape)

        def follow(last, at):
            rho, fresh = at
            now = rho * last + jnp.sqrt(1.0 - rho**2) * fresh
            return now, now

        return jax.lax.scan(follow, jnp.zeros(()), (rho, fresh))[1]

    @staticmethod
    def _correlation(decay, course: Course, together: float = 0.0):
        apart = course.clock - _before(course.clock, course.clock[0])
        first = jnp.arange(apart.shape[0]) == 0
        rho = jnp.exp(-decay * jnp.where(apart > 0, apart, 1.0))
        return jnp.where(apart > 0, rho, jnp.where(first, 0.0, together))


class Hazard(Link):
    """Events since the record before, from the cumulative hazard H at each; H starts again at 0 after a reset.

    With D the hazard accumulated since the record before: no event -D; an event at this time log h - D; at least one event at
    an unknown time since then log(1 - exp(-D)).  A cumulative hazard that falls makes a record impossible.  ``once``: nothing is drawn after a first event.
    """

    def __init__(self, once: bool):
        self.once = once

    def terms(self, terms, carried, y, course):
        gained = self._gained(carried, course)
        inside = y > 1.5
        falls = gained < -_ROUNDING * (1.0 + jnp.abs(carried))  # no cumulative hazard does
        some = log_from_zero(-jnp.expm1(-jnp.where(inside & ~falls, gained, 1.0)))
        log_factor = jnp.where(falls, -jnp.inf, jnp.where(inside, some, -gained))
        return terms._replace(log_factor=terms.log_factor + log_factor)

    def drive(self, carried, own, course, key):
        events = jax.random.poisson(key, jnp.maximum(self._gained(carried, course), 0.0)).astype(float)
        total = jnp.cumsum(events)
        counted = _before(jax.lax.cummax(jnp.where(own, total, 0.0)), 0.0)  # up to the observed record before
        drawn = jnp.where(total > counted, 2.0, 0.0)
        return jnp.where(counted > 0, jnp.nan, drawn) if self.once else drawn

    @staticmethod
    def _gained(cumulative, course: Course):
        # at time 0 it is 0 whatever the parameters, and powers of time may have no derivative there
        cumulative = jnp.where((course.clock == 0.0) & (cumulative == 0.0), 0.0, cumulative)
        same = course.epoch == _before(course.epoch, -1)
        return cumulative - jnp.where(same, _before(cumulative, 0.0), 0.0)


LINKS = {"": Link(), "ar1": Memory(), "event": Hazard(once=True), "events": Hazard(once=False)}
