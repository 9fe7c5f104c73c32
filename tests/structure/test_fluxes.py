"""Fluxes between states: the rates by hand, nothing lost whatever the fluxes, and what is no arrow."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.typing import Named


def test_rates_by_hand():
    a = Named({"S": 3.0, "I": 2.0, "R": 1.0, "idle": 5.0}, "state", "The ODE")
    found = nlme.fluxes(a, {"S -> I": 0.5 * a.S * a.I, "I->R": 0.25 * a.I, "R ->": 0.125, "-> S": 2.0})
    assert {name: float(x) for name, x in found.items()} == {"S": -1.0, "I": 2.5, "R": 0.375, "idle": 0.0}


class Epidemic(nlme.Model):
    """Every flux a network that vanishes with what it empties."""

    infect: nlme.MLP = nlme.mlp(
        inputs=("S", "I"), outputs=1, width=2, depth=1, key=0, output="positive", init=0.8, vanishing=True, initial_scale=1.0
    )
    recover: nlme.MLP = nlme.mlp(
        inputs=("I",), outputs=1, width=2, depth=1, key=1, output="positive", init=0.1, vanishing="I", initial_scale=1.0
    )
    add: nlme.Scalar = nlme.positive(0.01)

    def individual(self, eta, cov):
        return dict(start=0.02)

    def dynamics(self, ind):
        def rhs(t, a):
            return nlme.fluxes(a, {"S -> I": self.infect(a.S, a.I)[0], "I -> R": self.recover(a.I)[0]})

        return nlme.ODE(rhs, states=("S", "I", "R"), initial=dict(S=1.0 - ind.start, I=ind.start))

    def observe(self, ind, state, t):
        return {"I": nlme.additive(state.I, self.add)}


@pytest.mark.slow
def test_nothing_is_lost():
    t = np.linspace(0.0, 30.0, 16)
    data = nlme.Population((nlme.Subject(id=1, time=t, dv=0 * t, evid=[0] * 16),))
    table = nlme.predict(Epidemic(), data)
    states = table[["S", "I", "R"]].to_numpy()[:, :3]
    np.testing.assert_allclose(states.sum(axis=1), 1.0, atol=1e-12)
    assert np.all(states >= 0) and states[-1, 2] > 0.1


WRONG = {
    "no arrow": {"S": 1.0},
    "an unknown state": {"S -> J": 1.0},
    "back to itself": {"S -> S": 1.0},
    "from nowhere to nowhere": {"->": 1.0},
    "a number for a name": {1: 1.0},
    "a vector": {"S -> I": jnp.ones(1)},
}


@pytest.mark.parametrize("between", WRONG.values(), ids=WRONG)
def test_what_is_no_flux_is_refused(between):
    with pytest.raises(nlme.ModelError):
        nlme.fluxes(Named({"S": 1.0, "I": 0.0}, "state", "The ODE"), between)
