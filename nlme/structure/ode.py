"""Free systems of ordinary differential equations as a structure."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError, name_error
from nlme.structure.base import DOSE_RULES, Structure, by_name
from nlme.typing import Named, Vector


class ODE(Structure):
    """da/dt = rhs(t, a), with doses into any state, and 0 = rhs(t, a) for the states that are ``algebraic``.

    Parameters
    ----------
    rhs : ``rhs(t, a)`` gets the time and the states as named scalars (``a.depot``) and returns a dict with the rate of change of
        every state; for an algebraic one, with what has to be zero.  Infusions are added by the library.
    states : names of the states, in the order of the data's compartment numbers; or a dict from names to lengths, such as
        ``{"depot": 1, "u": 64}``, of which those above 1 are vectors (``a.u`` is an array (64,), and ``rhs`` returns one).  Their
        elements are compartments ``u[0]``, ``u[1]``, ...  All states are then solved as one vector, with dense linear algebra
    initial : dict with the initial value of the states that do not start at 0; of algebraic states where the search for their
        initial value begins
    algebraic : names of states that are not integrated but solved for, such as ``("free",)`` where ``rhs`` returns
        ``free = a.free + a.free * a.target / (k + a.free) - a.total`` (a differential-algebraic system of index 1: the equations
        determine these states, given the others).  No dose enters them.  See ``nlme.dynamics.consistency``
    lag, bioavailability, duration, rate : dose rules, see :class:`nlme.structure.base.Structure`
    delays : dict from a name to a delay, a number or a parameter above 0, such as ``{"lifespan": ind.lifespan}``: ``rhs(t, a, past)``
        then gets the states at t - delay too, ``past.lifespan.cells``.  See ``nlme.dynamics.delays``
    history : ``history(t)`` returns a dict with the states before the first record (and before a reset), at the times that delays look
        back to; those that it leaves out, and all without it, had their initial value
    event_times : times at which ``rhs`` changes suddenly, such as ``(ind.switch,)`` where it has ``jnp.where(t < ind.switch, ...)``
        (NONMEM's MTIME).  A step ends at each, so that the change costs no accuracy, and its derivative in the time is right
    diffusion : dict from states to the standard deviation of their system noise, in units of the state per square root of time, such as
        ``{"central": ind.sigma_w}``: da = rhs(t, a) dt + sigma dw, with independent Wiener processes w.  The density is then that of the
        extended Kalman filter.  See ``nlme.dynamics.diffusion``
    """

    rhs: Callable = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    initial: Any = None
    delays: dict[str, Any] = eqx.field(default=None, kw_only=True)
    diffusion: dict[str, Any] = eqx.field(default=None, kw_only=True)
    history: Callable | None = eqx.field(static=True, default=None)
    lengths: tuple[int, ...] = eqx.field(static=True, default=())

    def __init__(
        self,
        rhs,
        states,
        initial=None,
        *,
        lag=None,
        bioavailability=None,
        duration=None,
        rate=None,
        event_times=(),
        algebraic=(),
        delays=None,
        history=None,
        diffusion=None,
    ):
        lengths = _lengths(states) if isinstance(states, Mapping) else (1,) * len(states)
        if isinstance(states, str) or not all(isinstance(s, str) for s in states):
            raise ModelError(f"nlme.ODE: states is a tuple of names such as ('depot', 'central'); got {states!r}.")
        if len(set(states)) != len(states):
            raise ModelError(f"nlme.ODE: a state is named twice: {', '.join(states)}.")
        if not callable(rhs):
            raise ModelError(f"nlme.ODE: rhs must be a function rhs(t, a) returning a dict of rates; got {rhs!r}.")
        for name in initial or {}:
            if name not in states:
                raise ModelError("nlme.ODE, initial: " + name_error("state", name, states, "The ODE"))
        self.rhs, self.names, self.initial, self.lengths = rhs, tuple(states), initial, lengths
        if not isinstance(event_times, (tuple, list)):
            raise ModelError(
                f"nlme.ODE: event_times is a tuple of times such as (ind.switch,); got {type(event_times).__name__}."
            )
        self.event_times = tuple(event_times)
        self.lag, self.bioavailability, self.duration, self.rate = lag, bioavailability, duration, rate
        self.delays, self.history = _delays(delays, history, rhs), history
        self.algebraic = _algebraic(algebraic, self.names)
        if self.algebraic and self.delays:
            raise ModelError("nlme.ODE: algebraic equations and delays are not solved together; solve the equation by a formula.")
        if self.wide and (self.algebraic or self.delays):
            raise ModelError("nlme.ODE: states that are vectors are solved neither with algebraic equations nor with delays.")
        self.diffusion = _diffusion(diffusion, self.names)
        if self.diffusion and (self.algebraic or self.delays or self.wide):
            other = "algebraic equations" if self.algebraic else "delays" if self.delays else "states that are vectors"
            raise ModelError(
                f"nlme.ODE: diffusion is not combined with {other}; the filter follows states that are numbers and have rates."
            )
        for which in DOSE_RULES if self.algebraic else ():
            for name in self.rule(which):
                if name in self.algebraic:
                    raise ModelError(
                        f"nlme.ODE, {which}: {name!r} is an algebraic state, which no dose enters"
                        + ("." if isinstance(getattr(self, which), Mapping) else f"; write {which}={{state: value}}.")
                    )

    @property
    def states(self) -> tuple[str, ...]:
        lengths = zip(self.names, self.lengths, strict=True)
        return tuple(s for name, n in lengths for s in ([name] if n == 1 else [f"{name}[{k}]" for k in range(n)]))

    @property
    def wide(self) -> bool:
        return max(self.lengths) > 1

    def start(self) -> tuple:
        found = []
        for name, n in zip(self.names, self.lengths, strict=True):
            value = jnp.asarray((self.initial or {}).get(name, 0.0), dtype=jnp.float64)
            if n > 1 and value.shape not in ((), (n,)):
                raise ModelError(f"nlme.ODE, initial: {name!r} is a vector of {n}; got an array of shape {value.shape}.")
            found += [value] if n == 1 else list(jnp.broadcast_to(value, (n,)))
        return tuple(found)

    def before(self, t) -> tuple:
        """The states at a time before the start.

        Raises
        ------
        ModelError
            ``history`` returns something else than a dict with one number for states of the system.
        """
        found = {} if self.history is None else self.history(t)
        if not isinstance(found, Mapping):
            raise ModelError(f"nlme.ODE: history must return a dict of states; it returned {type(found).__name__}.")
        for name, value in found.items():
            if name not in self.names:
                raise ModelError("nlme.ODE, history: " + name_error("state", name, self.names, "The ODE"))
            if jnp.shape(value) != ():
                raise ModelError(f"nlme.ODE: history of {name!r} must be one number; got an array of shape {jnp.shape(value)}.")
        start = dict(zip(self.names, self.start(), strict=True))
        return tuple(jnp.asarray(found.get(s, start[s]), dtype=jnp.float64) for s in self.names)

    def flow(self, t, amounts: tuple, past: tuple = ()) -> tuple:
        """Rates of change of the states at time ``t``, in the order of ``states``; ``past`` holds these for every delay.

        Raises
        ------
        ModelError
            ``rhs`` returns something else than one number for every state.
        """
        rates = self._rates(t, by_name(self.states, amounts), *past)
        return tuple(x for rate, n in zip(rates, self.lengths, strict=True) for x in ([rate] if n == 1 else rate))

    def flow_vector(self, t, amounts: Vector) -> Vector:
        """The same for a vector of all states."""
        edges = np.cumsum([0, *self.lengths])
        parts = zip(self.names, self.lengths, edges, strict=False)
        rates = self._rates(t, {name: amounts[k] if n == 1 else amounts[k : k + n] for name, n, k in parts})
        return jnp.concatenate([jnp.atleast_1d(rate) for rate in rates])

    def _rates(self, t, now: dict[str, Any], *past: tuple) -> list:
        """What ``rhs`` returns for every name, checked."""
        earlier = [Named(dict(zip(self.names, a, strict=True)), "state", "The ODE") for a in past]
        now = Named(now, "state", "The ODE")
        looked = [Named(dict(zip(self.delays, earlier, strict=True)), "delay", "The ODE")] if self.delays else []
        out = self.rhs(t, now, *looked)
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
        rates = [jnp.asarray(out[s], dtype=jnp.float64) for s in self.names]
        for name, n, rate in zip(self.names, self.lengths, rates, strict=True):
            if n > 1 and rate.shape != (n,):
                raise ModelError(f"nlme.ODE: {name!r} is a vector of {n}; rhs returned an array of shape {rate.shape} for it.")
            if n == 1 and rate.shape != ():
                raise ModelError(
                    f"nlme.ODE: the rate of {name!r} must be one number; rhs returned an array of shape {rate.shape} "
                    f"(a network returns a vector: take an element, net(...)[0])."
                )
        return rates


def _lengths(states: Mapping) -> tuple[int, ...]:
    """The lengths of states that may be vectors, checked."""
    for name, n in states.items():
        if not isinstance(n, int) or n < 1:
            raise ModelError(f"nlme.ODE: the length of {name!r} is a whole number from 1 on; got {n!r}.")
        if "[" in str(name):
            raise ModelError(f"nlme.ODE: {name!r} cannot name a state; elements of vectors are named so.")
    return tuple(states.values())


def _delays(delays, history, rhs: Callable) -> dict[str, Any]:
    """The delays by name, checked."""
    if delays is not None and not isinstance(delays, Mapping):
        raise ModelError(
            f'nlme.ODE: delays is a dict from names to delays such as {{"lifespan": ind.lifespan}}; got {type(delays).__name__}.'
        )
    if history is not None and not callable(history):
        raise ModelError(f"nlme.ODE: history is a function history(t) that returns a dict of states; got {history!r}.")
    if history is not None and not delays:
        raise ModelError("nlme.ODE: history is what delays look back at; there are none (delays=).")
    for name, delay in (delays or {}).items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ModelError(f"nlme.ODE: {name!r} cannot name a delay; past.{name} has to be a word.")
        if jnp.shape(delay) != ():
            raise ModelError(f"nlme.ODE: the delay {name!r} must be one number; got an array of shape {jnp.shape(delay)}.")
        if isinstance(delay, (int, float)) and not 0.0 < delay < float("inf"):
            raise ModelError(f"nlme.ODE: the delay {name!r} must be above 0; got {delay!r}.")
    arguments = ("t", "a", "past") if delays else ("t", "a")
    try:
        inspect.signature(rhs).bind(*arguments)
    except TypeError:
        raise ModelError(
            f"nlme.ODE: rhs is called as rhs({', '.join(arguments)}) {'because there are' if delays else 'where there are no'} delays, "
            f"and takes {inspect.signature(rhs)}."
        ) from None
    except ValueError:
        pass  # what has no signature is called as it is
    return dict(delays or {})


def _diffusion(diffusion, names: tuple[str, ...]) -> dict[str, Any]:
    """The standard deviations of the system noise by state, checked."""
    if diffusion is not None and not isinstance(diffusion, Mapping):
        raise ModelError(
            f'nlme.ODE: diffusion is a dict from states to standard deviations such as {{"central": ind.sigma_w}}; '
            f"got {type(diffusion).__name__}."
        )
    for name, sd in (diffusion or {}).items():
        if name not in names:
            raise ModelError("nlme.ODE, diffusion: " + name_error("state", name, names, "The ODE"))
        if callable(sd) or jnp.shape(sd) != ():
            found = "a function" if callable(sd) else f"an array of shape {jnp.shape(sd)}"
            raise ModelError(
                f"nlme.ODE: the diffusion of {name!r} must be one number, which does not depend on the states; got {found}. Where noise "
                "grows with a state, write the equation for a function of it whose noise does not, such as its logarithm."
            )
        if isinstance(sd, (int, float)) and not 0.0 <= sd < float("inf"):
            raise ModelError(f"nlme.ODE: the diffusion of {name!r} is a standard deviation of at least 0; got {sd!r}.")
    return dict(diffusion or {})


def _algebraic(algebraic, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the algebraic states, checked."""
    if isinstance(algebraic, str) or not isinstance(algebraic, (tuple, list)):
        raise ModelError(f"nlme.ODE: algebraic is a tuple of names of states such as ('free',); got {algebraic!r}.")
    for name in algebraic:
        if name not in names:
            raise ModelError("nlme.ODE, algebraic: " + name_error("state", name, names, "The ODE"))
    if len(set(algebraic)) != len(algebraic):
        raise ModelError(f"nlme.ODE: an algebraic state is named twice: {', '.join(algebraic)}.")
    if len(algebraic) == len(names):
        raise ModelError(
            "nlme.ODE: every state is algebraic, so that nothing is integrated and no dose can enter. Write the formula in observe."
        )
    return tuple(algebraic)
