"""Records at the time of a dose: before it, after it, or both; doses repeated by ADDL or written out."""

from __future__ import annotations

import numpy as np
import pytest

import nlme


class Bolus(nlme.Model):
    """100 mg into 20 L, k = 0.1/h."""

    sd: nlme.Scalar = nlme.positive(1.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.1)

    def individual(self, eta, cov):
        return dict(cl=2.0 * np.e**eta.cl)

    def dynamics(self, ind):
        return nlme.pk.OneCompartment(cl=ind.cl, v=20.0)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / 20.0, self.sd)}


def person(times=(12.0, 24.0)):
    n = len(times)
    return nlme.Population(
        (nlme.Subject(1, np.r_[0.0, times], dv=[np.nan, *[2.0] * n], evid=[1] + [0] * n, amt=[100.0] + [0.0] * n),)
    )


def before(t: float) -> float:
    return 5.0 * sum(np.exp(-0.1 * (t - s)) for s in np.arange(0.0, t - 1e-9, 12.0))


PLANS = {
    "ADDL": nlme.dose(100).every(12, n=4),
    "written out": nlme.dose(100) + sum((nlme.dose(100, time=12.0 * k) for k in (2, 3)), nlme.dose(100, time=12.0)),
}


@pytest.mark.parametrize("plan", PLANS)
def test_an_observation_before_the_dose_of_its_time_does_not_see_it(plan):
    for ties, more in (("dose first", 5.0), ("observation first", 0.0)):
        for made in (
            person().with_doses(PLANS[plan], ties=ties),
            person().with_doses(PLANS[plan]).with_times([12.0, 24.0], ties),
        ):
            found = nlme.predict(Bolus(), made)
            found = found[found["EVID"] != 1]["conc"]
            np.testing.assert_allclose(found, [before(12.0) + more, before(24.0) + more], rtol=1e-10)


@pytest.mark.parametrize("plan", PLANS)
def test_both(plan):
    made = person().with_doses(PLANS[plan]).with_times([0.0, 6.0, 12.0, 24.0], ties="both")
    found = nlme.predict(Bolus(), made).query("EVID == 2")
    assert found["TIME"].tolist() == [0.0, 0.0, 6.0, 12.0, 12.0, 24.0, 24.0]
    middle = 5.0 * np.exp(-0.6)
    np.testing.assert_allclose(
        found["conc"], [0.0, 5.0, middle, before(12.0), before(12.0) + 5.0, before(24.0), before(24.0) + 5.0]
    )
    simulated = nlme.simulate(Bolus(), made, key=1, eta="typical", noise=False)
    measured = nlme.exposure(
        simulated, {"trough": ("ctrough", 12, 24), "peak": ("cmax", 12, 24), "area": ("auc", 12, 24)}, rule="log"
    )
    exact = 10.0 * (before(12.0) + 5.0) * (1.0 - np.exp(-1.2))
    np.testing.assert_allclose(measured.frame[["trough", "peak", "area"]].iloc[0], [before(24.0), before(12.0) + 5.0, exact])


def test_a_reset_ends_what_was_still_to_come():
    """As ADDL: the same predictions after it."""
    rows = dict(
        time=[0.0, 30.0, 40.0],
        evid=[1, 3, 0],
        amt=[100.0, 0.0, 0.0],
        addl=[5, 0, 0],
        ii=[12.0, 0.0, 0.0],
        dv=[np.nan, np.nan, 1.0],
    )
    population = nlme.Population((nlme.Subject(1, **rows),))
    for ties in ("dose first", "observation first", "both"):
        found = nlme.predict(Bolus(), population.with_times([24.5, 40.0], ties)).query("EVID == 2")["conc"]
        np.testing.assert_allclose(found, [5.0 * sum(np.exp(-0.1 * (24.5 - s)) for s in (0.0, 12.0, 24.0)), 0.0], atol=1e-12)


def test_differences_of_areas_know_the_jumps():
    """One dose of 100 mg against two of 50 mg twelve hours apart, log rule: exact on any grid."""
    at = nlme.evaluate(Bolus(), person((1.0, 8.0)))
    found = nlme.counterfactual(
        at, {"split": nlme.dose(50).every(12, n=2)}, times=[0.0, 4.0, 8.0, 24.0], key=1, individuals="mode", draws=2,
        measures={"auc": ("auc", 0, 24)}, rule="log",
    )  # fmt: skip
    k = 0.1 * float(np.exp(at.eta.iloc[0, 0]))
    exact = 2.5 / k * (1.0 - np.exp(-24 * k)) + 2.5 / k * (1.0 - np.exp(-12 * k)) - 5.0 / k * (1.0 - np.exp(-24 * k))
    assert found.population.loc[("split", "auc"), "difference"] == pytest.approx(exact, rel=1e-9)
    assert not found.messages  # by the log rule any grid will do

    coarse = nlme.counterfactual(
        at, {"split": nlme.dose(50).every(12, n=2)}, times=[0.0, 6.0, 18.0, 24.0], key=1, individuals="mode", draws=2,
        measures={"auc": ("auc", 0, 24)},
    )  # fmt: skip
    assert any(m.startswith("baseline: auc: the times are far apart") for m in coarse.messages)
