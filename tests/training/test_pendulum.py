"""Ten swings of a pendulum whose force is learned: three aids find it and foresee the next swing, single shooting does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import nlme
from nlme.models.science.losses import ANGLES, PERIOD, START, forces, swinging, trained

SWINGS = 10
SEEN = np.linspace(0.0, SWINGS * PERIOD, 151)[1:]
LATER = SWINGS * PERIOD + np.linspace(0.0, PERIOD, 21)[1:]


@pytest.fixture(scope="module")
def population():
    return swinging(SWINGS, len(SEEN))


def errors(model, population) -> tuple[float, float]:
    """Root mean square errors of the angle, within the data and in the swing after them, in its standard deviations."""
    times = np.r_[SEEN, LATER]
    states = nlme.predict(model, population.with_times(times)).query("TIME > 0").drop_duplicates("TIME")["angle"].to_numpy()
    true = solve_ivp(lambda t, a: [a[1], -np.sin(a[0])], (0.0, times[-1]), START, t_eval=times, rtol=1e-10, atol=1e-10).y[0]
    apart, size = states - true, true[: len(SEEN)].std()
    return tuple(float(np.sqrt(np.mean(part**2)) / size) for part in np.split(apart, [len(SEEN)]))


@pytest.mark.slow
@pytest.mark.parametrize("aid", [nlme.MultipleShooting(20), nlme.GrowingHorizon(12), nlme.PredictionError()])
def test_an_aid_finds_it(population, aid):
    model, _ = trained(population, aid)
    assert max(errors(model, population)) < 0.1
    assert np.abs(forces(model) + np.sin(ANGLES)).max() < 0.05


@pytest.mark.slow
def test_single_shooting_with_the_same_budget_does_not(population):
    model, _ = trained(population, evaluations=600)
    assert min(errors(model, population)) > 0.5
