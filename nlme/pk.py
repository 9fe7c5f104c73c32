"""Ready structures of pharmacokinetics, as the language calls them: ``nlme.pk.OneCompartmentOral(cl=..., v=..., ka=...)``.

Closed forms, any linear system, absorption (builders that take a structure and return one), saturable disposition, metabolites.
"""

from nlme.structure.absorption import mixed_order, transit, transit_chain, weibull, zero_order
from nlme.structure.compartments import (
    OneCompartment,
    OneCompartmentOral,
    ThreeCompartment,
    ThreeCompartmentOral,
    TwoCompartment,
    TwoCompartmentOral,
)
from nlme.structure.linear import Linear
from nlme.structure.metabolite import parent_metabolite
from nlme.structure.target import free_drug, michaelis_menten, tmdd, tmdd_quasi_equilibrium, tmdd_quasi_steady_state

__all__ = [
    "Linear",
    "OneCompartment",
    "OneCompartmentOral",
    "ThreeCompartment",
    "ThreeCompartmentOral",
    "TwoCompartment",
    "TwoCompartmentOral",
    "free_drug",
    "michaelis_menten",
    "mixed_order",
    "parent_metabolite",
    "tmdd",
    "tmdd_quasi_equilibrium",
    "tmdd_quasi_steady_state",
    "transit",
    "transit_chain",
    "weibull",
    "zero_order",
]
