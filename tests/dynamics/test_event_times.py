"""Equations that change at a time of their own (NONMEM's MTIME), and compartments that are switched off and on."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from states import model_of, population_of, states_of

import nlme

TIMES = [0.0, 1.0, 2.3, 2.5, 4.0, 8.0]


def before_and_after(k1, k2, switch, t, dose=100.0):
    """Elimination at rate k1, after ``switch`` at k2."""
    return dose * np.exp(-k1 * np.minimum(t, switch) - k2 * np.maximum(t - switch, 0.0))


def switching(ind, **options):
    def rhs(t, a):
        return {"central": -jnp.where(t < ind.switch, ind.k1, ind.k2) * a.central}

    return nlme.ODE(rhs, ("central",), event_times=(ind.switch,), **options)


@pytest.mark.slow
@pytest.mark.parametrize("switch", [2.4, 2.5, 100.0])
def test_states_and_derivatives(switch):
    """The exact solution; first and second derivatives in both rates and in the time itself, against central differences of it."""
    typical = dict(k1=0.1, k2=0.9, switch=switch)
    population = population_of([[dict(time=0.0, amt=100.0)]], TIMES)
    value, first, second = states_of(model_of(typical, switching), population, order=2)()
    names, h = list(typical), 1e-5

    def exact(eta):
        return before_and_after(*(typical[n] * np.exp(e) for n, e in zip(names, eta, strict=True)), np.array(TIMES))

    np.testing.assert_allclose(value[0, :, 0], exact(np.zeros(3)), rtol=1e-8)
    smooth = np.array(TIMES) != switch  # at the switch itself the derivatives differ to the left and to the right
    for i in range(3):
        up, down = (exact(s * h * np.eye(3)[i]) for s in (1, -1))
        np.testing.assert_allclose(first[0, smooth, 0, i], ((up - down) / (2 * h))[smooth], rtol=1e-6, atol=1e-6)
        for j in range(3):
            corners = [exact(1e-3 * (a * np.eye(3)[i] + b * np.eye(3)[j])) for a in (1, -1) for b in (1, -1)]
            expected = (corners[0] - corners[1] - corners[2] + corners[3]) / (4 * 1e-6)
            np.testing.assert_allclose(second[0, smooth, 0, i, j], expected[smooth], rtol=1e-4, atol=1e-3)


def test_two_event_times_in_either_order():
    """A window whose ends are parameters: the order in which they are written does not matter."""

    def window(ind):
        def rhs(t, a):
            return {"central": -jnp.where((t > ind.opens) & (t < ind.closes), ind.k, 0.0) * a.central}

        return nlme.ODE(rhs, ("central",), event_times=(ind.closes, ind.opens))

    population = population_of([[dict(time=0.0, amt=10.0)]], TIMES)
    value = states_of(model_of(dict(opens=1.5, closes=3.25, k=0.4), window), population)()[0][0, :, 0]
    open_for = np.clip(np.array(TIMES) - 1.5, 0.0, 1.75)
    np.testing.assert_allclose(value, 10.0 * np.exp(-0.4 * open_for), rtol=1e-9)


def oral(ind):
    return nlme.ODE(
        lambda t, a: {"depot": -ind.ka * a.depot, "central": ind.ka * a.depot - ind.k * a.central}, ("depot", "central")
    )


def bateman(t, ka, k, dose):
    return dose * ka / (ka - k) * (np.exp(-k * t) - np.exp(-ka * t)) * (t >= 0)


def test_a_compartment_switched_off_and_on():
    """The depot is switched off at 2 h (what is in it is lost) and on by the next dose at 6 h."""
    records = [dict(time=0.0, amt=100.0), dict(time=2.0, evid=2, cmt=-1), dict(time=6.0, amt=50.0)]
    ka, k, t = 0.7, 0.2, np.array([1.0, 2.0, 5.0, 9.0])
    found = states_of(model_of(dict(ka=ka, k=k), oral), population_of([records], t))()[0][0]
    at_two = bateman(2.0, ka, k, 100.0)
    central = np.where(t <= 2.0, bateman(t, ka, k, 100.0), at_two * np.exp(-k * np.maximum(t - 2.0, 0.0)))
    central = central + bateman(t - 6.0, ka, k, 50.0)
    np.testing.assert_allclose(found[:, 1], central, rtol=1e-9)
    np.testing.assert_allclose(found[:, 0], [100 * np.exp(-ka), 0.0, 0.0, 50 * np.exp(-3 * ka)], rtol=1e-9)


def test_switched_on_again_by_a_record():
    """The central compartment off from 1 to 3 h: what the depot releases then is lost, and it begins again from nothing."""
    records = [dict(time=0.0, amt=100.0), dict(time=1.0, evid=2, cmt=-2), dict(time=3.0, evid=2, cmt=2)]
    ka, k, t = 0.7, 0.2, np.array([0.5, 2.0, 5.0])
    found = states_of(model_of(dict(ka=ka, k=k), oral), population_of([records], t))()[0][0]
    expected = [bateman(0.5, ka, k, 100.0), 0.0, bateman(2.0, ka, k, 100.0 * np.exp(-3 * ka))]
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-9)


def test_a_closed_form_cannot_switch_off():
    def closed(ind):
        return nlme.pk.OneCompartmentOral(cl=ind.k, v=1.0, ka=ind.ka)

    population = population_of([[dict(time=0.0, amt=1.0), dict(time=1.0, evid=2, cmt=-1)]], TIMES)
    with pytest.raises(nlme.ModelError, match="switches 'depot' off.*nlme.ODE"):
        nlme.evaluate(model_of(dict(ka=0.7, k=0.2), closed), population)
