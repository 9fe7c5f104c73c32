"""Building structures from structures: closed forms as flows and as equations, and further states driven by a PK.

A *pk* here is any structure whose rates of change are known: a closed form, a ``Linear``, an ``ODE``, or one of these with
delayed absorption.  Its states come first in whatever is built on it, so that doses go where they went before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from nlme.errors import ModelError, name_error
from nlme.structure.arrivals import Arriving
from nlme.structure.base import DOSE_RULES, Structure
from nlme.structure.compartments import _Mammillary
from nlme.structure.linear import Linear
from nlme.structure.ode import ODE
from nlme.typing import Named

Concentration = Callable[[Named], Any]


def rules_of(structure: Structure) -> dict[str, Any]:
    """The dose rules of a structure, as keyword arguments of another."""
    return {which: getattr(structure, which) for which in DOSE_RULES}


def with_rules(structure: Structure, **rules: dict[str, Any]) -> Structure:
    """The same structure with further dose rules, each a dict from state to value.

    Raises
    ------
    ModelError
        A state that does not exist, or one that has such a rule already.
    """
    changed = copy.copy(structure)
    for which, values in rules.items():
        present = structure.rule(which)
        for state in values:
            if state not in structure.states:
                raise ModelError(f"{which}: " + name_error("state", state, structure.states, type(structure).__name__))
            if state in present:
                raise ModelError(f"{which} of {state!r} is given twice: by the structure and by its absorption.")
        object.__setattr__(changed, which, present | values)
    return changed


def as_linear(structure: Structure) -> Linear | None:
    """A closed form or ``Linear`` by its flows; None for any other structure."""
    if isinstance(structure, Linear):
        return structure
    if not isinstance(structure, _Mammillary):
        return None
    k10, exchange, _ = structure._disposition()
    names = structure.states
    central = names.index("central")
    flows = {("central", None): k10}
    if central:
        flows[names[0], "central"] = structure.ka
    for peripheral, (out, back) in zip(names[central + 1 :], exchange, strict=True):
        flows["central", peripheral] = out
        flows[peripheral, "central"] = back
    return Linear(names, flows, **rules_of(structure))


def concentration_of(pk: Structure, concentration: Concentration | None, who: str) -> Concentration:
    """The concentration as a function of the states; that of a closed form's central compartment where none is given.

    Raises
    ------
    ModelError
        ``concentration`` is needed (the structure does not know its volume) or is not a function.
    """
    if concentration is None:
        volume = getattr(pk, "v", getattr(pk, "v1", None)) if isinstance(pk, _Mammillary) else None
        if volume is None and isinstance(pk, Arriving):
            return concentration_of(pk.source, None, who)
        if volume is None:
            raise ModelError(
                f"{who}: {type(pk).__name__} does not say what its concentration is; give it as a function of the states, "
                f"concentration=lambda a: a.central / v."
            )
        return lambda a: a.central / volume
    if not callable(concentration):
        raise ModelError(f"{who}: concentration is a function of the states (lambda a: a.central / v); got {concentration!r}.")
    return concentration


def driven(
    pk: Structure | None, states: tuple[str, ...], rhs: Callable[[Any, Named], dict], initial: dict[str, Any] | None, who: str
) -> Structure:
    """``pk`` with further ``states``, whose rates are ``rhs(t, a)``, ``a`` being all states by name.

    Raises
    ------
    ModelError
        ``pk`` is no structure, or has a state of one of these names already.
    """
    if pk is None:
        return ODE(rhs, states, initial)
    if not isinstance(pk, Structure):
        raise ModelError(f"{who}: pk is a structure such as nlme.pk.OneCompartment(...); got {type(pk).__name__}.")
    taken = [s for s in states if s in pk.states]
    if taken:
        raise ModelError(f"{who}: the structure it is driven by already has a state named {', '.join(taken)}.")
    if isinstance(pk, Arriving):
        return pk.around(driven(pk.body, states, rhs, initial, who))
    body = pk if isinstance(pk, ODE) else as_linear(pk)
    if body is None:
        raise ModelError(f"{who}: cannot be driven by {type(pk).__name__}; by a closed form, nlme.pk.Linear or nlme.ODE.")
    size = len(body.states)

    def together(t, a, *past):
        own = body.flow(t, *own_states(body, a, *past))
        return dict(zip(body.states, own[:size], strict=True)) | rhs(t, a)

    starts = dict(getattr(body, "initial", None) or {}) | (initial or {})
    return ODE(together, (*body.states, *states), starts or None, **rules_of(body), **equations_of(body))


def own_states(body: Structure, a: Named, *past: Named) -> list[tuple]:
    """The states of ``body`` among those of a larger system; and, where there are delays, those of each of them."""
    return [tuple(a[s] for s in body.states), *(tuple(tuple(of[s] for s in body.states) for of in p.values()) for p in past)]


def equations_of(structure: Structure) -> dict[str, Any]:
    """What equations have besides slopes, initial values and dose rules, as keyword arguments of an ``ODE`` built on them."""
    kept = dict(event_times=structure.event_times, algebraic=structure.algebraic)
    kept |= dict(delays=structure.delays, history=structure.history) if structure.delays else {}
    return kept | (dict(diffusion=structure.diffusion) if structure.diffusion else {})
