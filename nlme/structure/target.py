"""Saturable disposition: target-mediated drug disposition and its approximations, Michaelis-Menten elimination.

Symbols of all four: L free drug, R free target, P complex (molar concentrations in the central volume v); cl, v linear
clearance and central volume; q, v2 a peripheral compartment if given; ka a depot if given.  ``central``, ``peripheral`` and
``depot`` are amounts (molar, so that central / v is in the unit of the target), ``receptor`` and ``complex`` concentrations.

Sources: Mager & Jusko (2001), J Pharmacokinet Pharmacodyn 28:507, doi:10.1023/A:1014414520282 (full model); Mager & Krzyzanski
(2005), Pharm Res 22:1589, doi:10.1007/s11095-005-6650-0 (quasi-equilibrium); Gibiansky, Gibiansky, Kakkar & Ma (2008),
J Pharmacokinet Pharmacodyn 35:573, doi:10.1007/s10928-008-9102-8 (quasi-steady state, Michaelis-Menten).
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.structure.ode import ODE
from nlme.typing import Scalar


def free_drug(total, target, k):
    """Free drug L where L + L target / (k + L) = total: the positive root of L^2 - (total - target - k) L - k total = 0.

    The root is written so that nothing cancels on either side.  Use it in ``observe`` for an assay of free drug.
    """
    half = 0.5 * (total - target - k)
    root = jnp.sqrt(half**2 + k * total)
    excess = half > 0.0
    return jnp.where(excess, half + root, k * total / jnp.where(excess, 1.0, root - half))


def tmdd(
    cl: Scalar,
    v: Scalar,
    kon: Scalar,
    koff: Scalar,
    kint: Scalar,
    ksyn: Scalar,
    kdeg: Scalar,
    *,
    q: Scalar | None = None,
    v2: Scalar | None = None,
    ka: Scalar | None = None,
    **rules,
) -> ODE:
    """Target-mediated drug disposition, full model.  States [depot], central, [peripheral], receptor, complex.

        L = central / v
        d depot/dt      = -ka depot
        d central/dt    = ka depot - cl L - q (L - peripheral / v2) - v (kon L R - koff P)
        d peripheral/dt = q (L - peripheral / v2)
        d receptor/dt   = ksyn - kdeg R - kon L R + koff P          receptor(0) = ksyn / kdeg
        d complex/dt    = kon L R - (koff + kint) P

    Stiff when binding is fast.
    """

    def binding(a, free):
        bound = kon * free * a.receptor - koff * a.complex
        return v * bound, {"receptor": ksyn - kdeg * a.receptor - bound, "complex": bound - kint * a.complex}

    return _with_target("tmdd", cl, v, q, v2, ka, None, binding, {"receptor": ksyn / kdeg, "complex": 0.0}, rules)


def tmdd_quasi_steady_state(
    cl: Scalar,
    v: Scalar,
    kss: Scalar,
    kint: Scalar,
    ksyn: Scalar,
    kdeg: Scalar,
    *,
    q: Scalar | None = None,
    v2: Scalar | None = None,
    ka: Scalar | None = None,
    **rules,
) -> ODE:
    """Target-mediated drug disposition, quasi-steady state: kss = (koff + kint) / kon.

    States [depot], central (free and bound), [peripheral], receptor (free and bound).

        total = central / v,   L = free_drug(total, receptor, kss),   P = total - L
        d central/dt    = ka depot - cl L - q (L - peripheral / v2) - v kint P
        d peripheral/dt = q (L - peripheral / v2)
        d receptor/dt   = ksyn - kdeg (receptor - P) - kint P       receptor(0) = ksyn / kdeg

    An assay of free drug is ``nlme.pk.free_drug(state.central / v, state.receptor, kss)``.
    """

    def binding(a, free):
        complex_ = a.central / v - free
        return v * kint * complex_, {"receptor": ksyn - kdeg * (a.receptor - complex_) - kint * complex_}

    return _with_target("tmdd_quasi_steady_state", cl, v, q, v2, ka, kss, binding, {"receptor": ksyn / kdeg}, rules)


def tmdd_quasi_equilibrium(
    cl: Scalar,
    v: Scalar,
    kd: Scalar,
    kint: Scalar,
    ksyn: Scalar,
    kdeg: Scalar,
    *,
    q: Scalar | None = None,
    v2: Scalar | None = None,
    ka: Scalar | None = None,
    **rules,
) -> ODE:
    """Target-mediated drug disposition, quasi-equilibrium (rapid binding): kd = koff / kon.

    The equations of ``tmdd_quasi_steady_state`` with kd in the place of kss.
    """
    return tmdd_quasi_steady_state(cl, v, kd, kint, ksyn, kdeg, q=q, v2=v2, ka=ka, **rules)


def michaelis_menten(
    v: Scalar,
    vmax: Scalar,
    km: Scalar,
    *,
    cl: Scalar = 0.0,
    q: Scalar | None = None,
    v2: Scalar | None = None,
    ka: Scalar | None = None,
    **rules,
) -> ODE:
    """Michaelis-Menten elimination, alone or beside a linear clearance.  States [depot], central, [peripheral].

        L = central / v
        d central/dt    = ka depot - cl L - q (L - peripheral / v2) - vmax L / (km + L)
        d peripheral/dt = q (L - peripheral / v2)

    ``vmax`` is an amount per time, ``km`` a concentration.  As an approximation of TMDD: vmax = kint v ksyn / kdeg and km = kss.
    """

    def binding(a, free):
        return vmax * free / (km + free), {}

    return _with_target("michaelis_menten", cl, v, q, v2, ka, None, binding, {}, rules)


def _with_target(who, cl, v, q, v2, ka, k, binding: Callable, target: dict, rules: dict) -> ODE:
    """Linear disposition and ``binding(a, L)``: (amount bound per time, rates of the target's states)."""
    if (q is None) != (v2 is None):
        raise ModelError(f"nlme.pk.{who}: a peripheral compartment needs both q and v2.")
    states = ("depot",) * (ka is not None) + ("central",) + ("peripheral",) * (q is not None)

    def rhs(t, a):
        free = a.central / v if k is None else free_drug(a.central / v, a.receptor, k)
        bound, rates = binding(a, free)
        central = -cl * free - bound
        if ka is not None:
            rates["depot"] = -ka * a.depot
            central = central + ka * a.depot
        if q is not None:
            rates["peripheral"] = q * (free - a.peripheral / v2)
            central = central - rates["peripheral"]
        return rates | {"central": central}

    return ODE(rhs, states + tuple(target), target or None, **rules)
