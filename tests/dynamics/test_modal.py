"""Sums over doses in the rate of one mode: by quadrature, and every derivative by differences of the one before."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from nlme.dynamics.modal import Given, sums

AMOUNT, RATE = np.array([0.0, 50.0, 0.0, 0.0]), np.array([20.0, 0.0, 3.0, 8.0])
SINCE = np.array([[0.2, 0.0, 0.0, 0.0], [3.0, 2.0, 1.5, 0.0], [40.0, 39.0, 38.5, 5.0]])  # three samples, four doses
DURING = np.minimum(SINCE, np.array([2.0, 0.0, 30.0, 1e-4]))
GIVEN = Given(jnp.asarray(AMOUNT * (SINCE > 0)), jnp.asarray(RATE * (SINCE > 0)), jnp.asarray(SINCE), jnp.asarray(DURING))


@pytest.mark.parametrize("slow", [0.0, 1e-9, 0.03, 0.4, 0.9999, 7.0, 90.0])
def test_by_quadrature(slow):
    for k, found in enumerate(sums(3, True, slow, GIVEN)):
        for t in range(3):
            exact = 0.0
            for d in range(4):
                if SINCE[t, d] == 0.0:
                    continue
                exact += AMOUNT[d] * (-SINCE[t, d]) ** k * np.exp(-slow * SINCE[t, d])
                # from where the infusion ended to where it began, in pieces so that a fast decay is seen
                edges = np.linspace(SINCE[t, d] - DURING[t, d], SINCE[t, d], 60)
                pieces = zip(edges[:-1], edges[1:], strict=True)
                exact += RATE[d] * sum(quad(lambda s: (-s) ** k * np.exp(-slow * s), a, b)[0] for a, b in pieces)  # noqa: B023
            assert float(found[t]) == pytest.approx(exact, rel=1e-9, abs=1e-13)


@pytest.mark.parametrize("slow", [0.02, 0.8, 3.0])
def test_derivatives_are_those_of_the_sums(slow):
    found = sums(2, True, slow, GIVEN)
    slopes = jax.jvp(lambda x: sums(2, True, x, GIVEN), (slow,), (1.0,))[1]
    for k in range(2):
        np.testing.assert_allclose(slopes[k], found[k + 1], rtol=1e-12)
    h = 1e-5
    for k in range(3):
        difference = (sums(2, True, slow + h, GIVEN)[k] - sums(2, True, slow - h, GIVEN)[k]) / (2 * h)
        np.testing.assert_allclose(slopes[k], difference, rtol=1e-5, atol=1e-8)
