"""The sum over doses, mode by mode.

Where exp(K t) = sum_i exp(-l_i t) P_i, the states at time t after doses that the parameters do not move are

    sum_i P_i h(l_i),     h(l) = sum_d [ amount_d exp(-l s_d)  +  rate_d int_{a_d}^{s_d} exp(-l s) ds ]

with s_d the time since dose d began and a_d that since it ended.  The sum over the doses is a function of the one number l, so that no
derivative in the parameters is carried along the doses: h and its derivatives in l are summed once, and what goes on from there is the
Taylor polynomial of h at the samples.  A pump that changes its rate a thousand times costs as much with second derivatives in six
parameters as three sums.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.structure.base import DOSE_RULES, LinearStructure

_SERIES = 1.0  # |x| below which the integrals are summed as a series
_TERMS = 19


class Given(NamedTuple):
    """What entered one state, by sample and dose; zero where a dose does not count for the sample."""

    amount: Float[Array, "T D"]
    rate: Float[Array, "T D"]
    since: Float[Array, "T D"]
    during: Float[Array, "T D"]  # the part of ``since`` that the infusion went on


def by_modes(structure: LinearStructure, dosed: tuple[bool, ...]) -> bool:
    """Whether the states are sums over modes after doses that no parameter moves."""
    return structure.modes(dosed) is not None and not any(structure.rule(which) for which in DOSE_RULES)


class Modes:
    """The sums over doses of every mode at one point of the parameters, to be differentiated there to ``order``.

    Parameters
    ----------
    structure : what moves the states, at the point
    given : what entered each state; None: nothing did
    """

    def __init__(self, structure: LinearStructure, given: list[Given | None], order: int, infusions: bool):
        self.dosed = tuple(g is not None for g in given)
        self.sums = [
            (slow, [None if g is None else sums(order, infusions, slow, g) for g in given])
            for slow, _ in structure.modes(self.dosed)
        ]

    def states(self, structure: LinearStructure) -> tuple:
        """Every state (T,) of a structure at the point or near it."""
        total = [0.0] * len(self.dosed)
        for (slow, project), (point, known) in zip(structure.modes(self.dosed), self.sums, strict=True):
            entered = project([0.0 if h is None else _taylor(h, slow - point) for h in known])
            total = [t + x for t, x in zip(total, entered, strict=True)]
        return tuple(total)


def _taylor(derivatives: tuple, move):
    """sum_k derivatives[k] move^k / k!"""
    value = 0.0
    for k, slope in reversed(list(enumerate(derivatives))):
        value = slope + value * move / (k + 1) if k + 1 < len(derivatives) else slope
    return value


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def sums(order: int, infusions: bool, slow, given: Given) -> tuple[Float[Array, " T"], ...]:
    """h(slow) and its derivatives in ``slow`` up to ``order``."""
    decay = jnp.exp(-slow * given.since)
    each = [given.amount * given.since**k * decay for k in range(order + 1)]
    if infusions:
        after = given.since - given.during
        left = given.rate * given.during * jnp.exp(-slow * after)
        integrals = _integrals(order, -slow * given.during)
        for k in range(order + 1):
            # s = after + during u
            powers = (math.comb(k, j) * after ** (k - j) * given.during**j * integrals[j] for j in range(k + 1))
            each[k] = each[k] + left * sum(powers)
    return tuple((-1.0) ** k * jnp.sum(x, axis=1) for k, x in enumerate(each))


@sums.defjvp
def _sums_jvp(order, infusions, primals, tangents):
    (slow, given), (moved, _) = primals, tangents
    found = sums(order + 1, infusions, slow, given)
    return found[:-1], tuple(moved * slope for slope in found[1:])


def _integrals(order: int, x) -> list:
    """int_0^1 u^j exp(x u) du for j = 0 .. order, without cancellation at x = 0.

    I_j = (exp(x) - j I_(j-1)) / x where |x| is large; where it is small the last by its series sum_n x^n / (n! (n + j + 1)) and the others
    from it, by the same recursion the other way round.
    """
    small = jnp.abs(x) < _SERIES
    tame, large = jnp.where(small, x, 0.0), jnp.where(small, 1.0, x)
    series = jnp.zeros_like(x)
    for n in range(_TERMS - 1, -1, -1):
        series = series * tame + 1.0 / (math.factorial(n) * (n + order + 1))
    by_series = [series]
    for j in range(order, 0, -1):
        by_series.insert(0, (jnp.exp(tame) - tame * by_series[0]) / j)
    upward = [jnp.expm1(large) / large]
    for j in range(1, order + 1):
        upward.append((jnp.exp(large) - j * upward[-1]) / large)
    return [jnp.where(small, a, b) for a, b in zip(by_series, upward, strict=True)]
