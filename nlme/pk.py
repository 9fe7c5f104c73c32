"""Ready structures of pharmacokinetics, as the language calls them: ``nlme.pk.OneCompartmentOral(cl=..., v=..., ka=...)``."""

from nlme.structure.compartments import (
    OneCompartment,
    OneCompartmentOral,
    ThreeCompartment,
    ThreeCompartmentOral,
    TwoCompartment,
    TwoCompartmentOral,
)

__all__ = [
    "OneCompartment",
    "OneCompartmentOral",
    "ThreeCompartment",
    "ThreeCompartmentOral",
    "TwoCompartment",
    "TwoCompartmentOral",
]
