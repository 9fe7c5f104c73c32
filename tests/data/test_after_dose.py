"""Time after the last dose, and the doses that were given: counted by hand, resets among them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.data.after_dose import additional_doses, times_after_dose
from nlme.plots.curves import dose_times


def person(*rows):
    """One subject; rows of (TIME, EVID, AMT, ADDL, II)."""
    frame = pd.DataFrame(rows, columns=["TIME", "EVID", "AMT", "ADDL", "II"]).assign(ID=1)
    frame["DV"] = np.where(frame.EVID == 0, 1.0, np.nan)
    return nlme.read_nonmem(frame)[0]


def test_a_reset_ends_additional_doses():
    """A washout: the second period's time after dose counts from its own dose alone."""
    one = person((0, 1, 100, 9, 12), (5, 0, 0, 0, 0), (24, 4, 100, 0, 0), (30, 0, 0, 0, 0), (40, 0, 0, 0, 0))
    np.testing.assert_array_equal(times_after_dose(one), [0, 5, 0, 6, 16])
    np.testing.assert_array_equal(additional_doses(one)[0], [12.0])
    np.testing.assert_array_equal(dose_times(one)[0], [0.0, 12.0, 24.0])
    wiped = person((0, 1, 100, 9, 6), (13, 3, 0, 0, 0), (20, 0, 0, 0, 0), (26, 1, 50, 0, 0), (30, 0, 0, 0, 0))
    np.testing.assert_array_equal(times_after_dose(wiped), [0, 1, 8, 0, 4])
    np.testing.assert_array_equal(dose_times(wiped)[0], [0.0, 6.0, 12.0, 26.0])


def test_a_clock_that_restarts_begins_anew():
    one = person(
        (0, 1, 100, 9, 12),
        (30, 0, 0, 0, 0),
        (0, 4, 100, 1, 8),
        (4, 0, 0, 0, 0),
        (9, 0, 0, 0, 0),
        (0, 3, 0, 0, 0),
        (2, 0, 0, 0, 0),
    )
    np.testing.assert_array_equal(times_after_dose(one), [0, 6, 0, 4, 1, np.nan, np.nan])


def test_additional_doses_come_before_a_record_of_their_time():
    one = person((0, 1, 100, 3, 0.1), (0.3, 0, 0, 0, 0), (0.35, 0, 0, 0, 0), (2, 0, 0, 0, 0))
    np.testing.assert_allclose(times_after_dose(one), [0, 0, 0.05, 1.7], atol=1e-12)
    np.testing.assert_allclose(times_after_dose(person((0, 0, 0, 0, 0), (3, 1, 1, 0, 0), (4, 0, 0, 0, 0))), [-3, 0, 1])


@pytest.mark.parametrize("evid", [3, 4])
def test_it_is_what_the_equations_know(evid):
    """A bolus decays by exp(-k t) of its own time after dose, and of nothing else."""

    class Bolus(nlme.Model):
        cl: nlme.Scalar = nlme.positive(3.0)
        sd: nlme.Scalar = nlme.positive(0.1)

        def individual(self, eta, cov):
            return dict(cl=self.cl)

        def dynamics(self, ind):
            return nlme.pk.OneCompartment(cl=ind.cl, v=30.0)

        def observe(self, ind, state, t):
            return {"conc": nlme.additive(state.central / 30.0, self.sd)}

    rows = [(0, 1, 100, 9, 12), (24, evid, 100 * (evid == 4), 0, 0), (26, 1, 100, 0, 0), (40, 0, 0, 0, 0)]
    one = person(*(rows if evid == 3 else [*rows[:2], rows[3]]))
    told = nlme.predict(Bolus(), nlme.Population((one,)))["conc"].iloc[-1]
    assert float(told) == pytest.approx(100 / 30 * np.exp(-0.1 * times_after_dose(one)[-1]), rel=1e-6)
