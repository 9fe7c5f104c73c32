"""Ready structures of pharmacodynamics: builders that take the structure making the concentration and return a larger one.

pk = nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)
nlme.pd.indirect_response(pk, "I", kin=ind.kin, kout=ind.kout, effect=nlme.pd.emax(ind.imax, ind.ic50))
"""

from nlme.structure.response import (
    claret,
    effect_compartment,
    emax,
    friberg,
    indirect_response,
    proportional,
    simeoni,
    transduction,
)

__all__ = [
    "claret",
    "effect_compartment",
    "emax",
    "friberg",
    "indirect_response",
    "proportional",
    "simeoni",
    "transduction",
]
