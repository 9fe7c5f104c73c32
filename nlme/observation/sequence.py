"""Links between the records of one endpoint of one subject: a residual's memory, a hazard accumulated since the record before, a chain's step.

A link takes the terms of all records in the order of time, with what each carries, and gives the terms of each record *given the
one before*, so that their sum stays the log density of all.  The same memory holds for what is predicted and drawn beside records
that are known (``Past``): a forecast is that of a subject with this past.  Padding repeats a record at no distance, and adds no
trouble.
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
    """When the T records are: a clock that never runs back, the epoch, counted up by every reset of the system, and how far the clock is
    ahead of the data's time.  Where that changes time has begun again, and nobody knows how long after the record before."""

    clock: Float[Array, " T"]
    epoch: Int[Array, " T"]
    ahead: Float[Array, " T"]


class Past(NamedTuple):
    """What is known of the T records: which are, which are the steps of a chain, their values, and their terms."""

    known: Bool[Array, " T"]
    steps: Bool[Array, " T"]
    y: Float[Array, " T"]
    terms: Terms


def _before(x, first):
    return jnp.concatenate([jnp.asarray(first, dtype=x.dtype)[None], x[:-1]])


def _after(x, last):
    return jnp.concatenate([x[1:], jnp.asarray(last, dtype=x.dtype)[None]])


class Link:
    """Records that are independent given the random effects."""

    def terms(self, terms: Terms, carried, y, course: Course) -> Terms:
        """The terms of every record given the record before."""
        return terms

    def prediction(self, prediction, carried, course: Course, past: Past) -> Float[Array, " T"]:
        """What is predicted at every record, given those that are known."""
        return prediction

    def drive(self, carried, own: Bool[Array, " T"], course: Course, past: Past, key) -> Float[Array, " T"]:
        """What ``Observation.sample`` is given for every record, given those that are known; ``own`` are the records that are observed."""
        return jax.random.normal(key, carried.shape)


class Memory(Link):
    """Residuals with correlation rho = exp(-decay (t_j - t_i)), a Markov process in time; none where time begins again.

    Given the record before, z_j ~ N( m_j + rho s_j / s_i (z_i - m_i), g_j (1 - rho^2) ),  s = sqrt(g).

    Given known records, the last before t and the next after it, a and b, a path e drawn without them becomes

        e_t + [ rho_a (1 - rho_b^2) (e^_a - e_a) + rho_b (1 - rho_a^2) (e^_b - e_b) ] / (1 - rho_a^2 rho_b^2)

    with e^ what is known and rho_a, rho_b the correlations with it (Hoffman & Ribak 1991, doi:10.1086/186160).
    """

    def terms(self, terms, carried, y, course):
        rho = self._correlation(carried, course)
        sd = jnp.sqrt(terms.variance)
        noise = (terms.transformed - terms.mean) / sd
        mean = terms.mean + rho * sd * _before(noise, 0.0)
        return terms._replace(mean=mean, variance=terms.variance * (1.0 - rho**2))

    def drive(self, carried, own, course, past, key):
        rho = self._correlation(carried, course, together=1.0)
        fresh = jax.random.normal(key, rho.shape)

        def follow(last, at):
            rho, fresh = at
            now = rho * last + jnp.sqrt(1.0 - rho**2) * fresh
            return now, now

        path = jax.lax.scan(follow, jnp.zeros(()), (rho, fresh))[1]
        noise = (past.terms.transformed - past.terms.mean) / jnp.sqrt(past.terms.variance)
        lacks = jnp.where(past.known, noise - path, 0.0)

        def nearest(last, at):
            known, lacks, rho = at
            correlation, seen = last
            now = jnp.where(known, 1.0, rho * correlation), jnp.where(known, lacks, seen)
            return now, now

        nothing = jnp.zeros(()), jnp.zeros(())
        (a, of_a), (b, of_b) = (
            jax.lax.scan(nearest, nothing, (past.known, lacks, rho), reverse=back)[1]
            for rho, back in ((rho, False), (_after(rho, 0.0), True))
        )
        left = 1.0 - jnp.square(a * b)
        pulled = (a * (1.0 - b**2) * of_a + b * (1.0 - a**2) * of_b) / jnp.where(left > 0, left, 1.0)
        return path + jnp.where(left > 0, pulled, of_a)

    @staticmethod
    def _correlation(decay, course: Course, together: float = 0.0):
        apart = course.clock - _before(course.clock, course.clock[0])
        alone = (jnp.arange(apart.shape[0]) == 0) | (course.ahead != _before(course.ahead, course.ahead[0]))
        rho = jnp.exp(-decay * jnp.where(apart > 0, apart, 1.0))
        return jnp.where(alone, 0.0, jnp.where(apart > 0, rho, together))


class Hazard(Link):
    """Events since the record before, from the cumulative hazard H at each.

    With D the hazard accumulated since the record before: no event -D; an event at this time log h - D; at least one event at
    an unknown time since then log(1 - exp(-D)).  A cumulative hazard that falls makes a record impossible.  ``once``: nothing is
    drawn after a first event.

    The risk goes on over a reset of the system, whatever that does to H: a record that is no observation stands on each side of it,
    and D is what H gains up to the one and from the other on.  So a state that the reset empties counts with what it had, and a
    formula of time, which knows nothing of the reset, counts once.

    Given known records, with A the hazard accumulated since the last of them and B that up to the next one: without a next one
    nothing changes; no event comes before one whose DV is 0 or 1; before one whose DV is 2 there is an event by now with
    probability (1 - exp(-A)) / (1 - exp(-(A + B))).
    """

    def __init__(self, once: bool):
        self.once = once

    def terms(self, terms, carried, y, course):
        total, anew = self._accumulated(carried, course)
        beside = anew | _after(anew, False)  # the two sides of a reset
        gained = total - self._at(total, self._last(~beside))
        inside = y > 1.5
        falls = gained < -_ROUNDING * (1.0 + jnp.abs(carried))  # no cumulative hazard does
        some = log_from_zero(-jnp.expm1(-jnp.where(inside & ~falls, gained, 1.0)))
        log_factor = jnp.where(falls, -jnp.inf, jnp.where(inside, some, -gained))
        return terms._replace(log_factor=terms.log_factor + log_factor)

    def prediction(self, prediction, carried, course, past):
        total, _ = self._accumulated(carried, course)
        last, next_ = self._last(past.known), self._next(past.known)
        since, whole = (jnp.maximum(x - self._at(total, last), 0.0) for x in (total, self._at(total, next_)))
        value = jnp.where(next_ < 0, -1.0, past.y[next_])
        had = past.known & (past.y > 0.5)
        some = -jnp.expm1(-jnp.where(whole > 0, whole, 1.0))
        if self.once:
            among = (jnp.exp(-since) - jnp.exp(-whole)) / some
            before = _before(jnp.cumsum(had), 0) > 0
            left = jnp.where(value < 0, jnp.exp(-since), jnp.where(value > 1.5, among, 1.0))
            return jnp.where(before | had, 0.0, left)
        block = jnp.where(value < 0, since, jnp.where(value > 1.5, since / some, 0.0))
        counted = jnp.cumsum(jnp.where(had, jnp.where(past.y > 1.5, block, 1.0), 0.0))
        return jnp.where(past.known, counted, _before(counted, 0.0) + block)

    def drive(self, carried, own, course, past, key):
        total, _ = self._accumulated(carried, course)
        gained = jnp.maximum(total - _before(total, 0.0), 0.0)
        next_ = self._next(past.known)
        left = jnp.maximum(self._at(total, next_) - _before(total, 0.0), gained)
        value = jnp.where(next_ < 0, -1.0, past.y[next_])
        some = -jnp.expm1(-gained)
        among = jnp.where(left > gained, some / -jnp.expm1(-jnp.where(left > gained, left, 1.0)), 1.0)
        uniform = jax.random.uniform(key, gained.shape)

        def follow(happened, at):
            uniform, some, among, value, known = at
            drawn = uniform < jnp.where((value < 0) | (happened & (value > 1.5)), some, jnp.where(value > 1.5, among, 0.0))
            event = drawn | (known & (value == 1))
            return (happened | event) & ~known, event

        events = jax.lax.scan(follow, jnp.asarray(False), (uniform, some, among, value, past.known))[1]
        total = jnp.cumsum(events)
        counted = _before(jax.lax.cummax(jnp.where(own, total, 0)), 0)  # up to the observed record before
        drawn = jnp.where(total > counted, 2.0, 0.0)
        return jnp.where(counted > 0, jnp.nan, drawn) if self.once else drawn

    @staticmethod
    def _accumulated(cumulative, course: Course):
        """The hazard accumulated since the risk began, and which records are the first after a reset."""
        anew = course.epoch != _before(course.epoch, course.epoch[0])
        # where the risk begins it is 0 whatever the parameters, and powers of time may have no derivative there
        begins = anew | (course.clock == 0.0)
        cumulative = jnp.where(begins & (cumulative == 0.0), 0.0, cumulative)
        return cumulative + jnp.cumsum(jnp.where(anew, _before(cumulative, 0.0) - cumulative, 0.0)), anew

    @staticmethod
    def _last(records: Bool[Array, " T"]) -> Int[Array, " T"]:
        """Which of ``records`` is the last before each; -1: none."""
        return _before(jax.lax.cummax(jnp.where(records, jnp.arange(records.shape[0]), -1)), -1)

    @staticmethod
    def _next(records: Bool[Array, " T"]) -> Int[Array, " T"]:
        """Which of ``records`` is the first from each on; -1: none."""
        count = records.shape[0]
        found = jax.lax.cummin(jnp.where(records, jnp.arange(count), count), reverse=True)
        return jnp.where(found < count, found, -1)

    @staticmethod
    def _at(total, place):
        return jnp.where(place < 0, 0.0, total[jnp.maximum(place, 0)])


class Moves(NamedTuple):
    """Log probabilities of each of K categories for a first record and after each category, and the number of the lowest one."""

    log_probability: Float[Array, "T K+1 K"]
    first: Float[Array, " T"]


class Chain(Link):
    """Steps of a Markov chain (:mod:`nlme.observation.markov`), whose density needs no link: every record holds the one before.

    With the forward probabilities f_t of the categories given what is known up to t, and backward ones b_t of all that is known after it,

        P(y_t | known) = f_t b_t / sum,      f_t = (f_(t-1) P_t) e_t,      b_(t-1) = P_t (e_t b_t),

    e_t what is known at t (1 where nothing is).  A record that is no step is drawn from the step before and leaves the chain where it
    was, but where time begins again (at the reset) the chain does, whether that record is a step or not.  Source: Rabiner (1989), Proc IEEE 77:257, doi:10.1109/5.18626.
    """

    def prediction(self, prediction, carried, course, past):
        def follow(last, at):
            step, (last, row, shown, seen, categories) = at[1], self._at(last, *at)
            mean = jnp.sum(self._shares(shown, row) * categories)
            return jnp.where(step, self._shares(row * seen, seen), last), jnp.where(self._whole(row), mean, jnp.nan)

        nobody = jnp.zeros(carried.log_probability.shape[2])
        return jax.lax.scan(follow, nobody, self._steps(carried, course, past))[1]

    def drive(self, carried, own, course, past, key):
        def follow(last, at):
            uniform, at = at
            step, known, (last, row, shown, seen, categories) = at[1], at[2], self._at(last, *at)
            below = jnp.cumsum(self._shares(shown, row)) < uniform
            drawn = jnp.arange(len(below)) == jnp.minimum(jnp.sum(below), len(below) - 1)
            value = jnp.where(self._whole(row), jnp.sum(jnp.where(drawn, categories, 0.0)), jnp.nan)
            return jnp.where(step, jnp.where(known, seen, drawn), last), value

        nobody, steps = jnp.zeros(carried.log_probability.shape[2]), self._steps(carried, course, past)
        uniform = jax.random.uniform(key, past.known.shape)
        return jax.lax.scan(follow, nobody, (uniform, steps))[1]

    @staticmethod
    def _steps(carried: Moves, course: Course, past: Past) -> tuple:
        """Of every record where the chain begins anew, whether it is a step, whether it is known, its probabilities, e, b, and the
        categories."""
        probability = jnp.exp(carried.log_probability)
        anew = course.ahead != _before(course.ahead, course.ahead[0])
        categories = carried.first[:, None] + jnp.arange(probability.shape[2])
        seen = jnp.where(past.known[:, None], (past.y[:, None] == categories).astype(float), 1.0)

        def back(later, at):
            anew, step, probability, seen = at
            passed = probability[1:] @ (seen * later)
            passed = jnp.where(step, passed / jnp.where(jnp.max(passed) > 0, jnp.max(passed), 1.0), later)
            return jnp.where(anew, 1.0, passed), later

        later = jax.lax.scan(back, jnp.ones(probability.shape[2]), (anew, past.steps, probability, seen), reverse=True)[1]
        return anew, past.steps, past.known, probability, seen, later, categories

    @staticmethod
    def _at(last, anew, step, known, probability, seen, later, categories):
        """The step before (0: none), the probabilities of a record given what was before, those given what comes after as well, e, and the
        categories."""
        last = jnp.where(anew, 0.0, last)
        row = jnp.where(jnp.sum(last) > 0, last @ probability[1:], probability[0])
        return last, row, jnp.where(step & ~known, row * later, row), seen, categories

    @staticmethod
    def _shares(weights, otherwise):
        """Weights as probabilities; those of ``otherwise`` where none is above zero: what is known is then impossible."""
        weights = jnp.where(jnp.sum(weights) > 0, weights, otherwise)
        return weights / jnp.where(jnp.sum(weights) > 0, jnp.sum(weights), 1.0)

    @staticmethod
    def _whole(row) -> Bool[Array, ""]:
        return jnp.abs(jnp.sum(row) - 1.0) < _ROUNDING


LINKS = {"": Link(), "ar1": Memory(), "event": Hazard(once=True), "events": Hazard(once=False), "markov": Chain()}
