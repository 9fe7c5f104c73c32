"""What every structure is: named states, rules for the doses that enter them, and a way to move from one time to the next.

A structure answers one question: *the states at the sample times and their derivatives*.  ``nlme.dynamics.propagate`` asks
it; the likelihood floors only see the answer.
"""

from __future__ import annotations

import abc
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp

from nlme.errors import ModelError, name_error
from nlme.typing import Vector

DOSE_RULES = ("lag", "bioavailability", "duration", "rate")


class Structure(eqx.Module):
    """Abstract base of structural models.

    ``lag``, ``bioavailability``, ``duration`` (for RATE = -2) and ``rate`` (for RATE = -1) may each be one number, which then
    belongs to the compartment that doses enter by default (the first), or a dict from state name to number.  ``event_times`` are
    times, data or parameters, at which the solver ends a step because the equations change there (NONMEM's MTIME).  ``algebraic``
    names the states that have an equation 0 = g instead of a rate of change; no dose enters one.  ``delays`` are those after which the
    equations look back at the states, by name; such a structure also says what the states were ``before(t)`` the start.  ``diffusion``
    has the standard deviation of the system noise of states that move by stochastic equations.
    """

    lag: Any = eqx.field(default=None, kw_only=True)
    bioavailability: Any = eqx.field(default=None, kw_only=True)
    duration: Any = eqx.field(default=None, kw_only=True)
    rate: Any = eqx.field(default=None, kw_only=True)
    event_times: tuple = eqx.field(default=(), kw_only=True)
    algebraic: tuple[str, ...] = eqx.field(default=(), kw_only=True, static=True)
    delays: ClassVar[Mapping[str, Any]] = types.MappingProxyType({})
    diffusion: ClassVar[Mapping[str, Any]] = types.MappingProxyType({})

    wide = False  # whether the states are to be solved for as one vector

    def flow_vector(self, t, amounts: Vector) -> Vector:
        """Rates of change of the states at time ``t``, of structures that have them, side by side."""
        return jnp.stack([jnp.asarray(rate, dtype=jnp.float64) for rate in self.flow(t, tuple(amounts))])

    @property
    @abc.abstractmethod
    def states(self) -> tuple[str, ...]:
        """Names of the states; compartment number n of a data set is the n-th of them."""

    @abc.abstractmethod
    def start(self) -> tuple:
        """Initial value of every state."""

    def rule(self, which: str) -> dict[str, Any]:
        """One of the dose rules as a dict from state name to value; states that are not in it have no such rule.

        Raises
        ------
        ModelError
            A rule for a state that does not exist.
        """
        value = getattr(self, which)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            return {self.states[0]: value}
        for name in value:
            if name not in self.states:
                raise ModelError(f"{which}: " + name_error("state", name, self.states, type(self).__name__))
        return dict(value)

    def rule_vector(self, which: str, default: float):
        """(number of states,) values of a dose rule, ``default`` where there is none."""
        rule = self.rule(which)
        return jnp.stack([jnp.asarray(rule.get(s, default), dtype=jnp.float64) for s in self.states])


def by_name(names: Sequence[str], values: Sequence) -> dict[str, Any]:
    """The values by their names, those of ``u[0], u[1], ..`` as one vector ``u``."""
    found: dict[str, list] = {}
    for name, value in zip(names, values, strict=True):
        found.setdefault(name.partition("[")[0] if name.endswith("]") else name, []).append(value)
    whole = {name for name in names if not name.endswith("]")}
    return {name: parts[0] if name in whole else jnp.stack(parts) for name, parts in found.items()}


class LinearStructure(Structure):
    """A structure whose states move linearly between events, with a known solution (closed form or matrix exponential)."""

    looped = False  # whether that solution is a loop

    def modes(self, dosed: tuple[bool, ...]) -> Iterator[tuple[Any, Callable]] | None:
        """(rate l_i, projection x -> P_i x) of every mode of exp(K t) = sum_i exp(-l_i t) P_i, which moves what enters the states
        that are ``dosed``; None where the solution is not known as such a sum."""
        return None

    @abc.abstractmethod
    def advance(self, amounts: tuple, rates: tuple | None, dt) -> tuple:
        """States after a time ``dt`` with constant input ``rates`` (amount per time into each state; None: no input)."""

    def infused(self, rates: tuple, during, after) -> tuple:
        """States of an empty system ``after`` the end of an infusion that went on ``during`` a time (``after`` may be 0)."""
        return self.advance(self.advance((0.0,) * len(rates), rates, during), None, after)

    def start(self) -> tuple:
        return tuple(jnp.zeros(()) for _ in self.states)
