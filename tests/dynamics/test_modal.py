"""Sums over doses in the rate of one mode: by quadrature, and every derivative by differences of the one before."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from nlme.dynamics.modal import Entering, sums

# an infusion of rate 20 from 0 to 2, a bolus of 50 at 1, one of rate 3 from 1.5 to 31.5; samples at 0.5, 1.5 and 40
TIME = np.array([0.0, 0.5, 1.0, 1.5, 1.5, 2.0, 31.5, 40.0])
AMOUNT = np.array([0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0])
CHANGE = np.array([20.0, 0.0, 0.0, 3.0, 0.0, -20.0, -3.0, 0.0])
SAMPLE = np.array([1, 4, 7])
EVENTS = Entering(*map(jnp.asarray, (np.diff(TIME, prepend=0.0), AMOUNT, CHANGE, np.ones(8), SAMPLE)))
INFUSIONS = ((20.0, 0.0, 2.0), (3.0, 1.5, 31.5))
SLOW = np.array([0.0, 1e-9, 0.03, 0.4, 0.9999, 7.0, 60.0])


def exactly(k: int, slow: float, t: float) -> float:
    """The k-th derivative of h at ``slow``."""
    found = 0.0
    for d in np.flatnonzero(AMOUNT):
        if TIME[d] <= t:
            found += AMOUNT[d] * (TIME[d] - t) ** k * np.exp(-slow * (t - TIME[d]))
    for rate, begin, end in INFUSIONS:
        if begin < t:
            edges = np.linspace(t - min(end, t), t - begin, 80)  # in pieces, so that a fast decay is seen
            pieces = zip(edges[:-1], edges[1:], strict=True)
            found += rate * sum(quad(lambda s: (-s) ** k * np.exp(-slow * s), a, b)[0] for a, b in pieces)
    return found


def test_by_quadrature():
    for k, found in enumerate(sums(3, True, jnp.asarray(SLOW), EVENTS)):
        for i, slow in enumerate(SLOW):
            for place, t in enumerate(TIME[SAMPLE]):
                assert float(found[place, i]) == pytest.approx(exactly(k, slow, t), rel=1e-9, abs=1e-10)


def test_a_reset_empties():
    kept = np.ones(8)
    kept[6] = 0.0
    found = sums(2, True, jnp.asarray(SLOW), EVENTS._replace(kept=jnp.asarray(kept), change=jnp.asarray(CHANGE).at[6].set(0.0)))
    assert all(np.all(np.asarray(x)[2] == 0.0) for x in found)


def test_derivatives_are_those_of_the_sums():
    slow, h = jnp.asarray([0.02, 0.8, 3.0]), 1e-5
    found = sums(2, True, slow, EVENTS)
    slopes = jax.jvp(lambda x: sums(2, True, x, EVENTS), (slow,), (jnp.ones(3),))[1]
    for k in range(2):
        np.testing.assert_allclose(slopes[k], found[k + 1], rtol=1e-12)
    for k in range(3):
        difference = (sums(2, True, slow + h, EVENTS)[k] - sums(2, True, slow - h, EVENTS)[k]) / (2 * h)
        np.testing.assert_allclose(slopes[k], difference, rtol=1e-5, atol=1e-8)
