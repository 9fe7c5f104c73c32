"""Free systems of ordinary differential equations as a structure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from nlme.errors import ModelError, name_error
from nlme.structure.base import Structure
from nlme.typing import Named


class ODE(Structure):
    """da/dt = rhs(t, a), with doses into any state.

    Parameters
    ----------
    rhs : ``rhs(t, a)`` gets the time and the states as named scalars (``a.depot``) and returns a dict with the rate of change of
        every state.  Infusions are added by the library.
    states : names of the states, in the order of the data's compartment numbers
    initial : dict with the initial value of the states that do not start at 0
    lag, bioavailability, duration, rate : dose rules, see :class:`nlme.structure.base.Structure`
    event_times : times at which ``rhs`` changes suddenly, such as ``(ind.switch,)`` where it has ``jnp.where(t < ind.switch, ...)``
        (NONMEM's MTIME).  A step ends at each, so that the change costs no accuracy, and its derivative in the time is right
    """

    rhs: Callable = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    initial: Any = None

    def __init__(self, rhs, states, initial=None, *, lag=None, bioavailability=None, duration=None, rate=None, event_times=()):
        if isinstance(states, str) or not all(isinstance(s, str) for s in states):
            raise ModelError(f"nlme.ODE: states is a tuple of names such as ('depot', 'central'); got {states!r}.")
        if len(set(states)) != len(states):
            raise ModelError(f"nlme.ODE: a state is named twice: {', '.join(states)}.")
        if not callable(rhs):
            raise ModelError(f"nlme.ODE: rhs must be a function rhs(t, a) returning a dict of rates; got {rhs!r}.")
        for name in initial or {}:
            if name not in states:
                raise ModelError("nlme.ODE, initial: " + name_error("state", name, states, "The ODE"))
        self.rhs, self.names, self.initial = rhs, tuple(states), initial
        if not isinstance(event_times, (tuple, list)):
            raise ModelError(
                f"nlme.ODE: event_times is a tuple of times such as (ind.switch,); got {type(event_times).__name__}."
            )
        self.event_times = tuple(event_times)
        self.lag, self.bioavailability, self.duration, self.rate = lag, bioavailability, duration, rate

    @property
    def states(self) -> tuple[str, ...]:
        return self.names

    def start(self) -> tuple:
        initial = self.initial or {}
        return tuple(jnp.asarray(initial.get(s, 0.0), dtype=jnp.float64) for s in self.names)

    def flow(self, t, amounts: tuple) -> tuple:
        """Rates of change of the states at time ``t``, in the order of ``states``.

        Raises
        ------
        ModelError
            ``rhs`` returns something else than one number for every state.
        """
        out = self.rhs(t, Named(dict(zip(self.names, amounts, strict=True)), "state", "The ODE"))
        if isinstance(out, Named):
            out = dict(out.items())
        if not isinstance(out, Mapping):
            raise ModelError(
                f"nlme.ODE: rhs must return a dict of rates for {', '.join(self.names)}; it returned {type(out).__name__}."
            )
        missing = [s for s in self.names if s not in out]
        if missing:
            raise ModelError(
                f"nlme.ODE: rhs returns no rate for {', '.join(missing)}; it returned {', '.join(out) or 'nothing'}."
            )
        for name in out:
            if name not in self.names:
                raise ModelError("nlme.ODE, rhs: " + name_error("state", name, self.names, "The ODE"))
        rates = tuple(jnp.asarray(out[s], dtype=jnp.float64) for s in self.names)
        for name, rate in zip(self.names, rates, strict=True):
            if rate.shape != ():
                raise ModelError(
                    f"nlme.ODE: the rate of {name!r} must be one number; rhs returned an array of shape {rate.shape} "
                    f"(a network returns a vector: take an element, net(...)[0])."
                )
        return rates
