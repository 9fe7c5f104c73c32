"""Doses that arrive over time: the rate at which they reach a state is a known function of the time since each of them.

A dose of amount D at time s that goes to a state with an arrival function g reaches it at the rate F D g(t - s), instead of all
at once.  Every dose has its own time: the rates of several doses add, as they must in a linear absorption.  The rates join the
equations and are solved with them, so that the disposition may be anything (non-linear, parameters that change in time), to
the tolerance of the solver.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nlme.errors import ModelError
from nlme.structure.base import Structure


class Pulse(NamedTuple):
    """When most of a dose arrives, in times since it was given, and how wide what arrives is.

    A solver whose stages all fall before and after it sees equations without the dose, and no error.
    """

    begin: Float[Array, ""]
    end: Float[Array, ""]
    width: Float[Array, ""]


class Arrival(eqx.Module):
    """Abstract base: how a dose arrives."""

    @abc.abstractmethod
    def rate(self, since: Float[Array, " D"]) -> Float[Array, " D"]:
        """Fraction of a dose that arrives per time, ``since`` it was given; ``since`` may be 0 but is never negative."""

    @abc.abstractmethod
    def pulse(self) -> Pulse:
        """When that is, for the choice of steps."""


class Arriving(Structure):
    """A structure with equations (``body``) some of whose states receive their doses by an arrival function.

    ``times`` and ``amounts`` are the doses on their way to each of these states; ``receiving`` sets them.  ``source`` is the
    structure as the user gave it.
    """

    body: Any
    source: Any
    arrivals: tuple[tuple[str, Arrival], ...]
    times: Any
    amounts: Any
    delays: Any = eqx.field(default=None, kw_only=True)

    def __init__(self, body: Structure, source: Structure, arrivals: dict[str, Arrival]):
        self.body, self.source, self.arrivals = body, source, tuple(arrivals.items())
        # one dose of nothing, so that the parameters of absorption are seen to be used
        self.times = {state: jnp.zeros(1) for state in arrivals}
        self.amounts = {state: jnp.zeros(1) for state in arrivals}
        self.lag, self.bioavailability, self.duration, self.rate = body.lag, body.bioavailability, body.duration, body.rate
        self.event_times, self.algebraic, self.delays = body.event_times, body.algebraic, body.delays
        if body.diffusion:
            raise ModelError(
                "Doses that arrive by a function of time are not combined with diffusion; use nlme.pk.transit_chain."
            )
        for state in arrivals:
            if state in self.algebraic:
                raise ModelError(f"{state!r} is an algebraic state, which no dose enters; say into= which other one.")

    @property
    def states(self) -> tuple[str, ...]:
        return self.body.states

    def start(self) -> tuple:
        return self.body.start()

    @property
    def wide(self) -> bool:
        return self.body.wide

    def before(self, t) -> tuple:
        return self.body.before(t)

    def around(self, body: Structure) -> Arriving:
        """The same arrivals in a larger system of equations."""
        return Arriving(body, self.source, dict(self.arrivals))

    def receives(self) -> tuple[bool, ...]:
        """Which states doses reach by an arrival function."""
        return tuple(s in dict(self.arrivals) for s in self.states)

    def receiving(
        self, times: Float[Array, " D"], amounts: Float[Array, " D"], compartment: Int[Array, " D"], given: Bool[Array, " D"]
    ) -> Arriving:
        """The structure while the doses that are ``given`` are on their way."""
        new = Arriving(self.body, self.source, dict(self.arrivals))
        for state, _ in self.arrivals:
            here = given & (compartment == self.states.index(state))
            new.times[state], new.amounts[state] = times, jnp.where(here, amounts, 0.0)
        return new

    def flow(self, t, amounts: tuple, past: tuple = ()) -> tuple:
        """Rates of change of the states at time ``t``, arrivals included."""
        rates = list(self.body.flow(t, amounts, past) if past else self.body.flow(t, amounts))
        for state, arrival in self.arrivals:
            since = t - self.times[state]
            fraction = arrival.rate(jnp.where(since > 0.0, since, 0.0))
            k = self.states.index(state)
            rates[k] = rates[k] + jnp.sum(self.amounts[state] * fraction)
        return tuple(rates)

    def longest_step(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """How long a step from ``t`` may be that none of the doses on their way is stepped over."""
        longest = jnp.asarray(jnp.inf)
        for state, arrival in self.arrivals:
            begin, end, width = arrival.pulse()
            since = t - self.times[state]
            on_its_way = (self.amounts[state] != 0.0) & (since < end)
            longest = jnp.minimum(longest, jnp.min(jnp.where(on_its_way, jnp.maximum(begin - since, width), jnp.inf)))
        return jax.lax.stop_gradient(longest)


def refuse_steady_state(structure: Arriving) -> None:
    """Raises ModelError: the data have steady-state records, which arrivals do not know."""
    states = ", ".join(s for s, _ in structure.arrivals)
    raise ModelError(
        f"Steady-state records (SS) cannot be combined with doses that arrive by a function of time (into {states}): give the "
        f"doses that lead to the steady state (ADDL, II), or use nlme.pk.transit_chain, which is linear."
    )
