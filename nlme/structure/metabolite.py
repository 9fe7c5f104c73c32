"""A metabolite formed from its parent."""

from __future__ import annotations

from nlme.errors import ModelError
from nlme.structure.assembly import as_linear, rules_of
from nlme.structure.base import Structure
from nlme.structure.linear import Linear
from nlme.typing import Scalar


def parent_metabolite(
    parent: Structure,
    fm: Scalar,
    clm: Scalar,
    vm: Scalar,
    *,
    qm: Scalar | None = None,
    vm2: Scalar | None = None,
    ratio: Scalar = 1.0,
) -> Linear:
    """A parent in closed form and its metabolite, by matrix exponential.

    Further states ``metabolite`` and, if asked for, ``metabolite_peripheral``:

        d metabolite/dt = ratio fm (cl / v) central - clm / vm metabolite - qm (metabolite / vm - metabolite_peripheral / vm2)

    ``fm`` is the fraction of the parent's elimination that forms the metabolite, ``clm`` and ``vm`` the metabolite's clearance
    and volume, ``qm`` and ``vm2`` a peripheral compartment of its own, ``ratio`` the molar mass of the metabolite over the
    parent's, 1 where amounts are molar.  Without a dose of the metabolite itself only clm / fm and vm / fm can be estimated: fix
    one of the three.

    Raises
    ------
    ModelError
        ``parent`` has no closed form; only one of ``qm`` and ``vm2``; a state's name is taken.
    """
    who = "nlme.pk.parent_metabolite"
    linear = as_linear(parent)
    if linear is None or ("central", None) not in linear.flows:
        raise ModelError(
            f"{who}: the parent is a closed form such as nlme.pk.OneCompartment(...), or nlme.pk.Linear with a flow "
            f"('central', None); got {type(parent).__name__}."
        )
    if (qm is None) != (vm2 is None):
        raise ModelError(f"{who}: a peripheral compartment of the metabolite needs both qm and vm2.")
    new = ("metabolite",) + ("metabolite_peripheral",) * (qm is not None)
    taken = [s for s in new if s in linear.states]
    if taken:
        raise ModelError(f"{who}: the parent already has a state named {', '.join(taken)}.")
    flows = linear.flows | {("metabolite", None): clm / vm}
    if qm is not None:
        flows["metabolite", "metabolite_peripheral"] = qm / vm
        flows["metabolite_peripheral", "metabolite"] = qm / vm2
    # what the parent loses is unchanged; the metabolite's mass differs from it by fm and ratio
    drives = linear.drives | {("central", "metabolite"): ratio * fm * linear.flows["central", None]}
    return Linear((*linear.states, *new), flows, drives, **rules_of(linear))
