"""How a dose gets into the system: zero-order, mixed, through transit compartments, by a Weibull function.

Which are exact: ``zero_order`` and ``mixed_order`` are infusions of a modelled duration, in closed form where the structure is;
``transit_chain`` is a linear system (``nlme.pk.Linear``) where the structure is linear.  ``transit`` (a real number of
compartments) and ``weibull`` are functions of the time since each dose and are solved as equations, for any number of doses,
overlapping or not, to the tolerance of the solver; they do not know steady-state records.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax.scipy.special import gammaln

from nlme.errors import ModelError, name_error
from nlme.structure.arrivals import Arrival, Arriving, Pulse
from nlme.structure.assembly import as_linear, equations_of, own_states, with_rules
from nlme.structure.base import DOSE_RULES, Structure
from nlme.structure.linear import Linear
from nlme.structure.ode import ODE
from nlme.typing import Scalar

_APART = 5.0  # standard deviations from its mean within which a dose arrives
_SHORTEST = 1e-14  # of the time scale: where a rate that starts at infinity is cut off


def zero_order(pk: Structure, duration: Scalar, into: str = "central") -> Structure:
    """Absorption at a constant rate over ``duration`` (Tk0), in closed form.

    A dose D enters ``into`` at the rate F D / duration.  The data say which doses do so: RATE = -2, or ``dose(..., rate=-2)``.

    Raises
    ------
    ModelError
        ``into`` is no state of ``pk``, or has a modelled duration already.
    """
    return with_rules(pk, duration={into: duration})


def mixed_order(pk: Structure, fraction: Scalar, duration: Scalar, first: str = "depot", zero: str = "central") -> Structure:
    """A ``fraction`` of the dose absorbed by first order from ``first``, the rest by zero order into ``zero`` over ``duration``.

    A dose is two records in the data, each with the whole amount: a bolus into ``first`` and one with RATE = -2 into ``zero``
    (``dose(d, into="depot") + dose(d, into="central", rate=-2)``); their bioavailabilities are fraction and 1 - fraction.  Give
    ``pk`` a lag for either of them (``lag={"central": ...}``) for a sequence of the two.

    Raises
    ------
    ModelError
        ``first`` or ``zero`` is no state of ``pk``, or has such a rule already.
    """
    return with_rules(pk, bioavailability={first: fraction, zero: 1.0 - fraction}, duration={zero: duration})


class Transit(Arrival):
    """g(s) = ktr (ktr s)^n exp(-ktr s) / Gamma(n + 1), n > -1 real, ktr > 0; not a number elsewhere."""

    n: Any
    ktr: Any

    def rate(self, since):
        scaled = jnp.maximum(self.ktr * since, _SHORTEST)
        fraction = self.ktr * jnp.exp(self.n * jnp.log(scaled) - scaled - gammaln(self.n + 1.0))
        return jnp.where((self.n > -1.0) & (self.ktr > 0.0), fraction, jnp.nan)

    def pulse(self):
        """A gamma distribution's mean (n + 1) / ktr, and ``_APART`` standard deviations either way."""
        mean, sd = (self.n + 1.0) / self.ktr, jnp.sqrt(self.n + 1.0) / self.ktr
        return Pulse(mean - _APART * sd, mean + _APART * sd, sd)


class Weibull(Arrival):
    """g(s) = (beta / td) (s / td)^(beta - 1) exp(-(s / td)^beta), beta > 0, td > 0; not a number elsewhere."""

    td: Any
    beta: Any

    def rate(self, since):
        x = jnp.log(jnp.maximum(since / self.td, _SHORTEST))
        fraction = self.beta / self.td * jnp.exp((self.beta - 1.0) * x - jnp.exp(self.beta * x))
        return jnp.where((self.beta > 0.0) & (self.td > 0.0), fraction, jnp.nan)

    def pulse(self):
        """From where a 10,000th has arrived to where as much is left, log s having standard deviation 1.28 / beta.

        With beta <= 1 the rate is greatest at the start, where a step begins: nothing can be missed.
        """
        begin, end = (self.td * share ** (1.0 / self.beta) for share in (1e-4, 9.2))
        return Pulse(begin, jnp.where(self.beta > 1.0, end, 0.0), self.td / self.beta)


def transit(
    pk: Structure, n: Scalar, *, mtt: Scalar | None = None, ktr: Scalar | None = None, into: str | None = None
) -> Structure:
    """Absorption through a real number ``n`` of transit compartments, a parameter like any other.

    A dose D given at time s reaches ``into`` (the first state of ``pk`` by default: its depot, from where ka goes on) at the rate

        F D ktr (ktr (t - s))^n exp(-ktr (t - s)) / Gamma(n + 1),        ktr = (n + 1) / mtt

    summed over doses.  Infusions go straight into ``into``.  Doses at steady state (SS) are refused.

    Source: Savic, Jonker, Kerbusch & Karlsson (2007), J Pharmacokinet Pharmacodyn 34:711, doi:10.1007/s10928-007-9066-0.

    Raises
    ------
    ModelError
        Not exactly one of ``mtt`` and ``ktr``; ``into`` is no state of ``pk``.
    """
    return _arriving(pk, Transit(n, _transit_rate("transit", n, mtt, ktr)), into, "nlme.pk.transit")


def weibull(pk: Structure, td: Scalar, beta: Scalar, into: str | None = None) -> Structure:
    """Weibull absorption: the fraction of a dose that has reached ``into`` a time s after it is 1 - exp(-(s / td)^beta).

    ``td`` is the time by which 63.2 % has arrived, ``beta`` the shape.  ``into`` is the first state of ``pk`` by default; a
    structure without a depot (``OneCompartment``) makes this the whole absorption.  With beta < 1 the rate is infinite at the
    start, which the solver bridges with many short steps.  Doses at steady state (SS) are refused.

    Source: Piotrovskii (1987), J Pharmacokinet Biopharm 15:681, doi:10.1007/BF01068420.
    """
    return _arriving(pk, Weibull(td, beta), into, "nlme.pk.weibull")


def _arriving(pk: Structure, arrival: Arrival, into: str | None, who: str) -> Arriving:
    if isinstance(pk, Arriving):
        body, present = pk.body, dict(pk.arrivals)
    else:
        body, present = pk if isinstance(pk, ODE) else as_linear(pk), {}
    if body is None:
        raise ModelError(f"{who}: pk is a closed form, nlme.pk.Linear or nlme.ODE; got {type(pk).__name__}.")
    into = body.states[0] if into is None else into
    if into not in body.states:
        raise ModelError(f"{who}, into: " + name_error("state", into, body.states, type(pk).__name__))
    if into in present:
        raise ModelError(f"{who}: {into!r} has an absorption already.")
    return Arriving(body, getattr(pk, "source", pk), present | {into: arrival})


def _transit_rate(who: str, n, mtt, ktr):
    if (mtt is None) == (ktr is None):
        raise ModelError(f"nlme.pk.{who}: give one of mtt (mean transit time) and ktr (transit rate constant, (n + 1) / mtt).")
    return (n + 1.0) / mtt if ktr is None else ktr


def transit_chain(
    pk: Structure, n: int, *, mtt: Scalar | None = None, ktr: Scalar | None = None, into: str | None = None
) -> Structure:
    """Absorption through a whole number ``n`` of transit compartments, as compartments: exact where ``pk`` is linear.

    States ``transit0`` (which doses enter by default) .. ``transit<n>`` come before those of ``pk``:

        d transit0/dt = -ktr transit0,   d transit<k>/dt = ktr (transit<k-1> - transit<k>),   ktr = (n + 1) / mtt

    and ktr transit<n> enters ``into`` (the first state of ``pk`` by default).  Equal to ``transit`` with that n; any dose record
    is allowed.  Dose rules of ``pk`` (lag, bioavailability, ...) for ``into`` move to ``transit0``, which is dosed in its place.

    Raises
    ------
    ModelError
        ``n`` is no whole number from 0 on; not exactly one of ``mtt`` and ``ktr``; ``into`` is no state of ``pk``.
    """
    if not isinstance(n, int) or n < 0:
        raise ModelError(f"nlme.pk.transit_chain: n is a whole number from 0 on, got {n!r}; nlme.pk.transit takes a real one.")
    ktr = _transit_rate("transit_chain", n, mtt, ktr)
    body = pk if isinstance(pk, ODE) else as_linear(pk)
    if body is None:
        raise ModelError(f"nlme.pk.transit_chain: pk is a closed form, nlme.pk.Linear or nlme.ODE; got {type(pk).__name__}.")
    into = body.states[0] if into is None else into
    if into not in body.states:
        raise ModelError("nlme.pk.transit_chain, into: " + name_error("state", into, body.states, type(pk).__name__))
    if into in body.algebraic:
        raise ModelError(
            f"nlme.pk.transit_chain: {into!r} is an algebraic state, which nothing enters; say into= which other one."
        )
    chain = tuple(f"transit{k}" for k in range(n + 1))
    states = (*chain, *body.states)
    rules = {which: {chain[0] if s == into else s: v for s, v in body.rule(which).items()} or None for which in DOSE_RULES}
    if isinstance(body, Linear):
        flows = dict(zip(zip(chain, (*chain[1:], into), strict=True), [ktr] * (n + 1), strict=True))
        return Linear(states, flows | body.flows, body.drives, **rules)

    def rhs(t, a, *past):
        moved = [ktr * a[s] for s in chain]
        rates = dict(zip(body.states, body.flow(t, *own_states(body, a, *past)), strict=True))
        rates[into] = rates[into] + moved[-1]
        return rates | {s: come - out for s, come, out in zip(chain, (0.0, *moved[:-1]), moved, strict=True)}

    return ODE(rhs, states, body.initial, **rules, **equations_of(body))
