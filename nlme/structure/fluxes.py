"""Rates of change from what flows between states: nothing is lost on the way.

    d a_s / dt = sum of the fluxes into s - sum of the fluxes out of s

so that the sum over all states changes by what enters and leaves the system alone, whatever the fluxes are: products of states,
or learned terms.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp

from nlme.errors import ModelError, name_error
from nlme.typing import Named


def fluxes(states: Named, between: Mapping[str, object]) -> dict[str, object]:
    """What ``rhs`` returns, from fluxes written as arrows: ``nlme.fluxes(a, {"S -> I": infection, "I -> R": self.recovery *
    a.I})``.

    Parameters
    ----------
    states : the states as ``rhs(t, a)`` gets them
    between : "from -> to" and the flux, an amount for each unit of time.  "central ->" leaves the system, "-> central" enters it.
        What leaves a state must vanish where that is empty, or it becomes negative: multiply it by the state, or let a learned
        term vanish with it (``vanishing="I"``)

    Returns
    -------
    dict
        The rate of change of every state; 0 of those without a flux.

    Raises
    ------
    ModelError
        No arrow, an arrow with an unknown state, from nowhere to nowhere or back to where it began; a flux that is no number.
    """
    if not isinstance(states, Named) or not isinstance(between, Mapping):
        raise ModelError('nlme.fluxes takes the states and a dict: nlme.fluxes(a, {"central -> peripheral": k12 * a.central}).')
    rates = {name: jnp.asarray(0.0) for name in states}
    for arrow, flux in between.items():
        source, target = _ends(arrow, states)
        flux = jnp.asarray(flux, dtype=jnp.float64)
        if flux.shape != ():
            raise ModelError(
                f"nlme.fluxes: {arrow!r} must be one number; got an array of shape {flux.shape} (a network returns a vector: take an "
                f"element, net(...)[0])."
            )
        if source:
            rates[source] = rates[source] - flux
        if target:
            rates[target] = rates[target] + flux
    return rates


def _ends(arrow, states: Named) -> tuple[str, str]:
    """The states at both ends of an arrow, "" for outside."""
    source, found, target = arrow.partition("->") if isinstance(arrow, str) else ("", "", "")
    source, target = source.strip(), target.strip()
    if not found or source == target:
        raise ModelError(
            f'nlme.fluxes: {arrow!r} is no arrow. Write "S -> I" between two states, "central ->" for what leaves, "-> S" for what enters.'
        )
    for name in (source, target):
        if name and name not in states:
            raise ModelError(f"nlme.fluxes, {arrow!r}: " + name_error("state", name, list(states), "The ODE"))
    return source, target
