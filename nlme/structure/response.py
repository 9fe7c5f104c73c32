"""Responses driven by a concentration: effect compartment, turnover, transduction, blood cells, tumours.

Each builder takes the structure that makes the concentration and returns a larger one, whose first states are those of the
first.  C is the concentration: the central amount over the central volume of a closed form, or ``concentration(a)``, a function
of the states by name.  E(C) is the effect, any function of C: ``emax``, ``proportional``, or a network.  Baselines are initial
states, so that a system without drug stays where it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.structure.assembly import Concentration, as_linear, concentration_of, driven, rules_of
from nlme.structure.base import Structure
from nlme.structure.linear import Linear
from nlme.typing import Scalar

Effect = Callable[[Any], Any]


def proportional(slope: Scalar) -> Effect:
    """E(C) = slope C."""
    return lambda c: slope * c


def emax(emax: Scalar, ec50: Scalar, hill: Scalar | None = None) -> Effect:
    """E(C) = emax C^hill / (ec50^hill + C^hill), hill = 1 if not given; with an inhibition, emax and ec50 are Imax and IC50.

    Written in (C / ec50)^hill, and 0 for C <= 0, where a real power and its derivatives would not exist.
    """
    if hill is None:
        return lambda c: emax * c / (ec50 + c)

    def effect(c):
        present = c > 0.0
        power = jnp.exp(hill * jnp.log(jnp.where(present, c, 1.0) / ec50))
        return emax * jnp.where(present, power / (1.0 + power), 0.0)

    return effect


def effect_compartment(pk: Structure, ke0: Scalar, concentration: Concentration | None = None) -> Structure:
    """Effect compartment (biophase): state ``effect`` is a concentration that follows C without taking any drug.

        d effect/dt = ke0 (C - effect)

    By matrix exponential where ``pk`` is a closed form (and ``concentration`` is not given), otherwise as equations.

    Source: Sheiner, Stanski, Vozeh, Miller & Ham (1979), Clin Pharmacol Ther 25:358, doi:10.1002/cpt1979253358.
    """
    who = "nlme.pd.effect_compartment"
    linear = as_linear(pk) if concentration is None else None
    if linear is not None and not isinstance(pk, Linear):
        volume = getattr(pk, "v", None) if hasattr(pk, "v") else pk.v1
        flows = linear.flows | {("effect", None): ke0}
        drives = linear.drives | {("central", "effect"): ke0 / volume}
        return Linear((*linear.states, "effect"), flows, drives, **rules_of(linear))
    conc = concentration_of(pk, concentration, who)
    return driven(pk, ("effect",), lambda t, a: {"effect": ke0 * (conc(a) - a.effect)}, None, who)


_KINDS = {"I": ("production", -1.0), "II": ("loss", -1.0), "III": ("production", 1.0), "IV": ("loss", 1.0)}


def indirect_response(
    pk: Structure, kind: str, kin: Scalar, kout: Scalar, effect: Effect, concentration: Concentration | None = None
) -> Structure:
    """Indirect response: a turnover whose production or loss is inhibited or stimulated; state ``response``.

        I    d response/dt = kin (1 - E(C)) - kout response
        II   d response/dt = kin - kout (1 - E(C)) response
        III  d response/dt = kin (1 + E(C)) - kout response
        IV   d response/dt = kin - kout (1 + E(C)) response
        response(0) = kin / kout

    An inhibition is ``effect=nlme.pd.emax(imax, ic50)``.

    Source: Dayneka, Garg & Jusko (1993), J Pharmacokinet Biopharm 21:457, doi:10.1007/BF01061691.

    Raises
    ------
    ModelError
        ``kind`` is none of "I", "II", "III", "IV".
    """
    who = "nlme.pd.indirect_response"
    if kind not in _KINDS:
        raise ModelError(
            f"{who}: kind is 'I' (inhibits production), 'II' (inhibits loss), 'III' (stimulates production) or "
            f"'IV' (stimulates loss); got {kind!r}."
        )
    what, sign = _KINDS[kind]
    conc = concentration_of(pk, concentration, who)

    def rhs(t, a):
        change = 1.0 + sign * effect(conc(a))
        made, lost = (change, 1.0) if what == "production" else (1.0, change)
        return {"response": kin * made - kout * lost * a.response}

    return driven(pk, ("response",), rhs, {"response": kin / kout}, who)


def transduction(pk: Structure, effect: Effect, tau: Scalar, n: int = 3, concentration: Concentration | None = None) -> Structure:
    """Transit compartments of signal transduction; states ``signal1`` .. ``signal<n>``, all 0 without drug.

        d signal1/dt = (E(C) - signal1) / tau,    d signal<k>/dt = (signal<k-1> - signal<k>) / tau

    Source: Mager & Jusko (2001), Clin Pharmacol Ther 70:210, doi:10.1067/mcp.2001.118244.

    Raises
    ------
    ModelError
        ``n`` is no whole number from 1 on.
    """
    who = "nlme.pd.transduction"
    _require_count(who, n)
    conc = concentration_of(pk, concentration, who)
    names = tuple(f"signal{k}" for k in range(1, n + 1))

    def rhs(t, a):
        before = [effect(conc(a)), *(a[s] for s in names[:-1])]
        return {s: (b - a[s]) / tau for s, b in zip(names, before, strict=True)}

    return driven(pk, names, rhs, None, who)


def friberg(
    pk: Structure,
    effect: Effect,
    circ0: Scalar,
    mtt: Scalar,
    gamma: Scalar,
    n: int = 3,
    concentration: Concentration | None = None,
) -> Structure:
    """Myelosuppression: proliferating cells, ``n`` maturing stages and circulating cells with feedback.

        d prol/dt        = ktr prol (1 - E(C)) (circ0 / circ)^gamma - ktr prol
        d maturing1/dt   = ktr (prol - maturing1),   d maturing<k>/dt = ktr (maturing<k-1> - maturing<k>)
        d circ/dt        = ktr (maturing<n> - circ)
        ktr = (n + 1) / mtt,   every state starts at circ0

    States ``prol``, ``maturing1`` .. ``maturing<n>`` (the transit compartments), ``circ``, in the unit of circ0 (10^9 cells/L).

    Source: Friberg, Henningsson, Maas, Nguyen & Karlsson (2002), J Clin Oncol 20:4713, doi:10.1200/JCO.2002.02.140.

    Raises
    ------
    ModelError
        ``n`` is no whole number from 1 on.
    """
    who = "nlme.pd.friberg"
    _require_count(who, n)
    conc = concentration_of(pk, concentration, who)
    names = ("prol", *(f"maturing{k}" for k in range(1, n + 1)), "circ")
    ktr = (n + 1) / mtt

    def rhs(t, a):
        feedback = jnp.exp(gamma * jnp.log(circ0 / a.circ))
        rates = {s: ktr * (a[before] - a[s]) for before, s in zip(names[:-1], names[1:], strict=True)}
        return {"prol": ktr * a.prol * ((1.0 - effect(conc(a))) * feedback - 1.0)} | rates

    return driven(pk, names, rhs, dict.fromkeys(names, circ0), who)


def simeoni(
    pk: Structure | None,
    lambda0: Scalar,
    lambda1: Scalar,
    k1: Scalar,
    k2: Scalar,
    w0: Scalar,
    psi: float = 20.0,
    concentration: Concentration | None = None,
) -> Structure:
    """Tumour growth in xenografts, exponential then linear, with cells that die in stages after the drug has hit them.

        w              = cycling + damaged1 + damaged2 + damaged3
        d cycling/dt   = lambda0 cycling / (1 + (lambda0 w / lambda1)^psi)^(1/psi) - k2 C cycling
        d damaged1/dt  = k2 C cycling - k1 damaged1
        d damaged2/dt  = k1 (damaged1 - damaged2),   d damaged3/dt = k1 (damaged2 - damaged3)
        cycling(0) = w0

    The tumour's weight is the sum of the four states.  ``pk`` None: an untreated tumour.

    Source: Simeoni et al. (2004), Cancer Res 64:1094, doi:10.1158/0008-5472.CAN-03-2524 (psi = 20).
    """
    who = "nlme.pd.simeoni"
    conc = _no_drug if pk is None else concentration_of(pk, concentration, who)
    names = ("cycling", "damaged1", "damaged2", "damaged3")

    def rhs(t, a):
        weight = sum(a[s] for s in names)
        # (1 + x^psi)^(1/psi), x = lambda0 w / lambda1, in logarithms: x^20 leaves the range of numbers
        power = psi * jnp.log(lambda0 * weight / lambda1)
        growth = lambda0 * a.cycling * jnp.exp(-jnp.logaddexp(0.0, power) / psi)
        hit = k2 * conc(a) * a.cycling
        return {
            "cycling": growth - hit,
            "damaged1": hit - k1 * a.damaged1,
            "damaged2": k1 * (a.damaged1 - a.damaged2),
            "damaged3": k1 * (a.damaged2 - a.damaged3),
        }

    return driven(pk, names, rhs, {"cycling": w0}, who)


def claret(
    pk: Structure | None, kl: Scalar, kd: Scalar, decay: Scalar, y0: Scalar, exposure: Concentration | Scalar | None = None
) -> Structure:
    """Tumour size with exponential growth, a kill proportional to exposure, and resistance; state ``size``.

        d size/dt = kl size - kd exposure exp(-decay t) size,     size(0) = y0

    ``exposure`` is a number (a dose or an AUC, when ``pk`` is None), a function of the states, or by default the concentration of
    ``pk``.  The resistance runs on the clock of the data: t = 0 is the start of treatment.

    Source: Claret et al. (2009), J Clin Oncol 27:4103, doi:10.1200/JCO.2008.21.0807.

    Raises
    ------
    ModelError
        Neither ``pk`` nor ``exposure``.
    """
    who = "nlme.pd.claret"
    if pk is None and exposure is None:
        raise ModelError(f"{who}: give an exposure (a number or a function of the states), or the structure that makes it.")
    if exposure is None or callable(exposure):
        level = exposure if pk is None else concentration_of(pk, exposure, who)
    else:

        def level(a):
            return exposure

    def rhs(t, a):
        return {"size": (kl - kd * level(a) * jnp.exp(-decay * t)) * a["size"]}

    return driven(pk, ("size",), rhs, {"size": y0}, who)


def _no_drug(a):
    return 0.0


def _require_count(who: str, n) -> None:
    if not isinstance(n, int) or n < 1:
        raise ModelError(f"{who}: n is the number of compartments, a whole number from 1 on; got {n!r}.")
