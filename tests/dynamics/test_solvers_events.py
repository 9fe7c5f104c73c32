"""Every way of dosing through the stiff solver and the solver of order 8, against the closed form: states and derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from states import model_of, population_of, states_of
from structures import STRUCTURES

import nlme

TIMES = np.array([0.3, 1.0, 2.5, 4.0, 6.5, 9.0, 13.0])
ROW = STRUCTURES["OneCompartmentOral"]
RULES = {"lag": 0.4, "f": 0.9, "duration": 2.2}
REGIMENS = [
    [dict(time=0.0, amt=100.0), dict(time=3.0, amt=50.0)],
    [dict(time=0.0, amt=100.0, cmt=2)],
    [dict(time=0.0, amt=100.0, rate=40.0), dict(time=5.0, amt=30.0, duration=2.0)],
    [dict(time=0.0, amt=100.0, rate=10.0, addl=2, ii=3.0)],
    [dict(time=0.5, amt=100.0, rate=-2.0)],
    [dict(time=0.0, amt=60.0, addl=5, ii=4.0)],
    [dict(time=0.0, amt=60.0, ss=1, ii=6.0, addl=1)],
    [dict(time=0.0, amt=60.0, rate=7.0, ss=1, ii=6.0)],
    [dict(time=0.0, amt=60.0), dict(time=2.0, amt=20.0, ss=2, ii=8.0)],
    [dict(time=0.0, amt=100.0), dict(time=2.0, amt=60.0, evid=4)],
]


def through(solver, regimens, rules):
    def solved(make, **options):
        def dynamics(ind):
            return make(ind, lag=ind.lag, bioavailability=ind.f, duration=ind.duration) if rules else make(ind)

        model = model_of(ROW.parameters | (RULES if rules else {}), dynamics)
        return states_of(model, population_of(regimens, TIMES), order=1, **options)()

    closed = solved(ROW.closed)
    ours = solved(ROW.equations, ode=nlme.Tolerances(solver=solver))
    for mine, exact in zip(ours, closed, strict=True):
        scale = np.maximum(np.abs(exact).max(axis=1, keepdims=True), 1e-3 * np.abs(closed[0]).max())
        assert np.max(np.abs(mine - exact) / scale) < 1e-6


@pytest.mark.slow
def test_boluses_infusions_resets_stiff():
    through("stiff", [REGIMENS[k] for k in (0, 1, 2, 3, 5, 9)], rules=False)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["explicit8", "stiff"])
def test_every_way_of_dosing_with_lag_bioavailability_and_duration(solver):
    through(solver, REGIMENS, rules=True)
