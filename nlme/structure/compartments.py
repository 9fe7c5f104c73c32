"""Closed forms of the one-, two- and three-compartment models, with first-order absorption if wanted.

The disposition (central and peripheral compartments, linear elimination from central) is da/dt = K a + input with K's
eigenvalues -l_1 .. -l_n real and negative, so that exp(K t) = sum_i exp(-l_i t) P_i with the spectral projectors
P_i = prod_{j != i} (K + l_j) / (l_j - l_i).  Over a step of length t, with constant rates r, the state becomes

    sum_i P_i [ exp(-l_i t) a  +  I(l_i) r  +  e_central ( ka d E(l_i, ka) + r_depot (I(l_i) - E(l_i, ka)) ) ]
    I(l) = (1 - exp(-l t)) / l,      E(l, ka) = (exp(-l t) - exp(-ka t)) / (ka - l)

where d is the amount in the depot and r_depot an infusion into it.  I and E are evaluated without cancellation, so that
ka = l and l = 0 are ordinary points, in value and in all derivatives (flip-flop, no elimination).

Source of the eigenvalues: Gabrielsson & Weiner, Pharmacokinetic and Pharmacodynamic Data Analysis, 5th ed., ch. 2; the
three-compartment cubic by its trigonometric solution, as in Upton (2004), Theor Biol Med Model 1:2 (doi:10.1186/1742-4682-1-2).
"""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp

from nlme.structure.base import LinearStructure
from nlme.typing import Scalar

_SERIES = 1.0  # |x| below which phi_k(x) is summed as a series
_TERMS = 18


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def phi(k: int, x):
    """phi_k(x) = sum_n x^n / (n + k)!, so that phi_0 = exp(x) and phi_1(x) = (exp(x) - 1) / x, without cancellation at x = 0.

    Its derivative is phi_k - k phi_(k+1) = (phi_(k-1) - k phi_k) / x, by the first where |x| is small and by the second elsewhere, which
    keeps derivatives of every order as exact as the value: the first cancels where x is large and negative, as of a very quick absorption
    (Hochbruck & Ostermann 2010, Exponential integrators, doi:10.1017/S0962492910000048, eq. 2.11).
    """
    if k == 0:
        return jnp.exp(x)
    small = jnp.abs(x) < _SERIES
    tame = jnp.where(small, x, 0.0)
    series = jnp.ones_like(tame)
    for n in range(_TERMS, 0, -1):
        series = 1.0 + series * tame / (n + k)
    large = jnp.where(small, 1.0, x)
    value = jnp.exp(large)
    for n in range(k):
        value = (value - 1.0 / math.factorial(n)) / large
    return jnp.where(small, series / math.factorial(k), value)


@phi.defjvp
def _phi_jvp(k, primals, tangents):
    (x,), (dx,) = primals, tangents
    value = phi(k, x)
    if k == 0:
        return value, dx * value
    small = jnp.abs(x) < _SERIES
    large = jnp.where(small, 1.0, x)
    return value, dx * jnp.where(
        small, value - k * phi(k + 1, jnp.where(small, x, 0.0)), (phi(k - 1, large) - k * phi(k, large)) / large
    )


def _integral(rate, t):
    """I(rate): integral of exp(-rate s) over 0..t."""
    return t * phi(1, -rate * t)


def _convolution(slow, ka, t):
    """E(slow, ka): integral of exp(-slow (t - s)) exp(-ka s) over 0..t, symmetric in its rates."""
    # not minimum and maximum: at a tie they halve the derivatives of both, and the second derivatives of E come out wrong
    ordered = slow <= ka
    low, high = jnp.where(ordered, slow, ka), jnp.where(ordered, ka, slow)
    return jnp.exp(-low * t) * t * phi(1, (low - high) * t)


class _Mammillary(LinearStructure):
    """Central compartment with n - 1 peripheral ones; the concrete classes give the parameters."""

    def _disposition(self):
        """(elimination rate, [(out of central, back to central) per peripheral compartment], eigenvalues)."""
        raise NotImplementedError

    _absorbed = False

    @property
    def eigenvalues(self) -> tuple:
        """The rates l_i of the disposition's modes."""
        return self._disposition()[2]

    def advance(self, amounts: tuple, rates: tuple | None, dt) -> tuple:
        rates = (0.0,) * len(amounts) if rates is None else rates
        depot, depot_rate = 0.0, 0.0
        if self._absorbed:
            (depot, *amounts), (depot_rate, *rates) = amounts, rates
        absorbs = not (_empty([depot]) and _empty([depot_rate]))
        total = [0.0] * len(amounts)
        for slow, project in self._modes():
            decay, integral = _Once(jnp.exp, -slow * dt), _Once(_integral, slow, dt)
            parts = [(decay, project(amounts)), (integral, project(rates))]
            if absorbs:
                # what left the depot entered the central compartment
                convolution = _Once(_convolution, slow, self.ka, dt)
                entered = self.ka * (convolution * depot) + (integral * depot_rate - convolution * depot_rate)
                parts.append((_Once(lambda entered=entered: entered), project([1.0] + [0.0] * (len(amounts) - 1))))
            for factor, vector in parts:
                total = [t + factor * x for t, x in zip(total, vector, strict=True)]
        if self._absorbed:
            left = _Once(jnp.exp, -self.ka * dt) * depot + _Once(_integral, self.ka, dt) * depot_rate
            total = [left, *total]
        return tuple(jnp.broadcast_to(t, jnp.shape(dt)) for t in total)

    def infused(self, rates: tuple, during, after) -> tuple:
        if self._absorbed and not _empty(rates[:1]):
            return super().infused(rates, during, after)
        total = [0.0] * len(rates[self._absorbed :])
        for slow, project in self._modes():
            factor = _Once(lambda slow=slow: jnp.exp(-slow * after) * _integral(slow, during))
            total = [t + factor * x for t, x in zip(total, project(rates[self._absorbed :]), strict=True)]
        total = [0.0, *total] if self._absorbed else total
        return tuple(jnp.broadcast_to(t, jnp.shape(after)) for t in total)

    def modes(self, dosed):
        if not self._absorbed:
            return self._modes()
        # what is absorbed moves by a convolution of two modes
        return None if dosed[0] else ((slow, lambda x, p=project: [0.0, *p(x[1:])]) for slow, project in self._modes())

    def _modes(self):
        """(eigenvalue l_i, projection x -> P_i x) of every mode of the disposition."""
        k10, exchange, eigenvalues = self._disposition()
        for i, slow in enumerate(eigenvalues):

            def project(vector, slow=slow, i=i):
                if _empty(vector):
                    return vector
                for j, other in enumerate(eigenvalues):
                    if j != i:
                        flow = _flow(vector, k10, exchange)
                        vector = [(moved + other * kept) / (other - slow) for moved, kept in zip(flow, vector, strict=True)]
                return vector

            yield slow, project


def _empty(values) -> bool:
    """Whether these are literally zero: compartments that nothing ever enters."""
    return all(isinstance(v, float) and v == 0.0 for v in values)


class _Once:
    """A factor computed when first multiplied by something that is not literally zero: empty compartments cost nothing."""

    def __init__(self, function, *arguments):
        self._function, self._arguments, self._value = function, arguments, None

    def __mul__(self, other):
        if _empty([other]):
            return 0.0
        if self._value is None:
            self._value = self._function(*self._arguments)
        return self._value * other


def _flow(amounts, k10, exchange):
    """K a: the rates of change of the disposition compartments."""
    central, *peripheral = amounts
    out = -(k10 + sum(k for k, _ in exchange)) * central if exchange else -k10 * central
    back = sum(k * a for (_, k), a in zip(exchange, peripheral, strict=True)) if exchange else 0.0
    return [out + back, *(k_out * central - k_back * a for (k_out, k_back), a in zip(exchange, peripheral, strict=True))]


class _One(_Mammillary):
    cl: Scalar
    v: Scalar

    def _disposition(self):
        k10 = self.cl / self.v
        return k10, (), (k10,)


class OneCompartment(_One):
    """One compartment, doses into it (bolus or infusion).  State ``central`` (amount).

    da/dt = -cl/v a + input
    """

    @property
    def states(self):
        return ("central",)


class OneCompartmentOral(_One):
    """One compartment with first-order absorption from ``depot`` at rate constant ``ka``.  States ``depot``, ``central``."""

    ka: Scalar = eqx.field(kw_only=True)
    _absorbed = True

    @property
    def states(self):
        return ("depot", "central")


class _Two(_Mammillary):
    cl: Scalar
    v1: Scalar
    q: Scalar
    v2: Scalar

    def _disposition(self):
        k10, k12, k21 = self.cl / self.v1, self.q / self.v1, self.q / self.v2
        total = k10 + k12 + k21
        fast = 0.5 * (total + jnp.sqrt((k10 + k12 - k21) ** 2 + 4.0 * k12 * k21))
        return k10, ((k12, k21),), (fast, k10 * k21 / fast)


class TwoCompartment(_Two):
    """Central volume ``v1``, peripheral volume ``v2``, clearance ``cl``, exchange ``q``.  States ``central``, ``peripheral``."""

    @property
    def states(self):
        return ("central", "peripheral")


class TwoCompartmentOral(_Two):
    """Two compartments with first-order absorption.  States ``depot``, ``central``, ``peripheral``."""

    ka: Scalar = eqx.field(kw_only=True)
    _absorbed = True

    @property
    def states(self):
        return ("depot", "central", "peripheral")


class _Three(_Mammillary):
    cl: Scalar
    v1: Scalar
    q2: Scalar
    v2: Scalar
    q3: Scalar
    v3: Scalar

    def _disposition(self):
        k10 = self.cl / self.v1
        k12, k21 = self.q2 / self.v1, self.q2 / self.v2
        k13, k31 = self.q3 / self.v1, self.q3 / self.v3
        # l^3 - a2 l^2 + a1 l - a0 = 0, three positive roots
        a2 = k10 + k12 + k13 + k21 + k31
        a1 = k10 * k21 + k10 * k31 + k12 * k31 + k13 * k21 + k21 * k31
        a0 = k10 * k21 * k31
        shift = a2 / 3.0
        p = shift**2 - a1 / 3.0
        q = shift**3 - shift * a1 / 2.0 + a0 / 2.0
        cosine = jnp.clip(q / p**1.5, -1.0, 1.0)
        fast = shift + 2.0 * jnp.sqrt(p) * jnp.cos(jnp.arccos(cosine) / 3.0)
        # the two smaller roots from their product and sum, without subtracting numbers of the size of the largest
        product = a0 / fast
        total = (a1 - product) / fast
        middle = 0.5 * (total + jnp.sqrt(total**2 - 4.0 * product))
        return k10, ((k12, k21), (k13, k31)), (fast, middle, product / middle)


class ThreeCompartment(_Three):
    """Central ``v1`` and two peripheral volumes ``v2``, ``v3`` with exchange ``q2``, ``q3``.

    States ``central``, ``peripheral1``, ``peripheral2``.
    """

    @property
    def states(self):
        return ("central", "peripheral1", "peripheral2")


class ThreeCompartmentOral(_Three):
    """Three compartments with first-order absorption.  States ``depot``, ``central``, ``peripheral1``, ``peripheral2``."""

    ka: Scalar = eqx.field(kw_only=True)
    _absorbed = True

    @property
    def states(self):
        return ("depot", "central", "peripheral1", "peripheral2")
