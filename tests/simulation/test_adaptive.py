"""Rules that read simulated observations: nothing changed is the plain simulation, what is decided is what is given, nothing is seen early."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from one_compartment_people import OneCompartment

import nlme

TIMES = [6.0, 11.0, 23.0, 30.0, 35.0, 47.0, 60.0]
PLAN = nlme.dose(100).every(12, n=5)


@pytest.fixture(scope="module")
def design():
    return nlme.virtual(6, key=1).with_doses(PLAN).with_times(TIMES)


def run(design, rule, decisions=(12.0, 24.0, 36.0), **options):
    options = dict(key=2, replicates=3, rule=rule, decisions=decisions) | options
    return nlme.adaptive(OneCompartment(), design, **options)


class Ode(OneCompartment):
    """The same as equations, with a bioavailability that moves the ends of infusions."""

    def dynamics(self, ind):
        return nlme.ODE(lambda t, a: dict(central=-ind.cl / ind.v * a.central), ("central",), bioavailability=dict(central=0.8))


@pytest.mark.parametrize("model", [OneCompartment, pytest.param(Ode, marks=pytest.mark.slow)])
@pytest.mark.parametrize("plan", [PLAN, nlme.dose(100, rate=50).every(12, n=5), nlme.dose(100, duration=3).every(12, n=5)])
def test_a_rule_that_changes_nothing_is_the_plain_simulation(model, plan):
    design = nlme.virtual(3, key=1).with_doses(plan).with_times(TIMES)
    plain = nlme.simulate(model(), design, key=2, replicates=2, eta="new")
    found = nlme.adaptive(model(), design, rule=lambda seen: None, decisions=[12.0, 24.0], key=2, replicates=2)
    pd.testing.assert_frame_equal(pd.DataFrame(found.frame), pd.DataFrame(plain), rtol=1e-12)
    assert (found.ledger["DECISION"] == "").all() and len(found.ledger) == 2 * 3 * 2 and (found.doses["AMT"] == 100).all()


@pytest.mark.parametrize("model", [OneCompartment, pytest.param(Ode, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", [{}, {"rate": 50}, {"duration": 3}])
def test_what_is_decided_is_what_is_given(model, how):
    """A rule that always decides the same is the simulation of the regimen that it makes: other amounts, a pause, every other dose."""

    def rule(seen):
        return {0: 150.0, 1: "hold", 2: nlme.Decision(amount=80.0, every=2)}[seen.number]

    design = nlme.virtual(3, key=1).with_doses(nlme.dose(100, **how).every(12, n=5)).with_times(TIMES)
    found = nlme.adaptive(model(), design, rule=rule, decisions=[12.0, 24.0, 36.0], key=2, replicates=2)
    # an infusion keeps its length, so its rate follows the amount
    length = {"duration": 2.0 if "rate" in how else 3.0} if how else {}
    if "rate" in how and model is Ode:
        length = {"rate": 50}  # the rate that is kept per amount: the length then is that of 0.8 of the amount
    made = nlme.dose(100, **how)
    for amount, at in ((150, 12), (80, 36)):
        own = {"rate": 50 * amount / 100} if "rate" in length else length
        made = made + nlme.dose(amount, time=at, **own)
    # the doses that are not given still are records of the design
    given = found.doses.groupby("TIME")["AMT"].unique()
    assert [v.tolist() for v in given] == [[100.0], [150.0], [0.0], [80.0], [0.0]]
    plain = nlme.simulate(model(), nlme.virtual(3, key=1).with_doses(made).with_times(TIMES), key=2, replicates=2, eta="new")
    np.testing.assert_allclose(found.frame["IPRED"], plain["IPRED"], rtol=1e-7)


def test_a_rule_sees_the_noisy_observations_before_its_first_dose_and_no_others(design):
    plain = nlme.simulate(OneCompartment(), design, key=2, replicates=3, eta="new").set_index(["REPLICATE", "ID"])
    seen_at = {}

    def rule(seen):
        own = plain.loc[(seen.replicate, seen.id)]
        before = own[own["TIME"] <= seen.time]
        assert seen.times["conc"].tolist() == before["TIME"].tolist()
        if seen.number == 0:
            np.testing.assert_allclose(seen.values["conc"], before["DV"], rtol=1e-12)
            assert seen.last() == seen.values["conc"][-1]
        seen_at[seen.time] = len(before)
        return seen.amount * 2

    found = run(design, rule)
    assert seen_at == {12.0: 2, 24.0: 3, 36.0: 5}
    assert sorted(found.doses["AMT"].unique()) == [100, 200, 400, 800]
    # what was seen at a decision stays what it was: errors and effects do not change with the doses
    early = found.frame["TIME"] <= 11
    np.testing.assert_allclose(found.frame.loc[early, "DV"], plain.reset_index().loc[early.to_numpy(), "DV"], rtol=1e-12)


def test_an_observation_at_the_time_of_the_dose_is_seen_only_if_it_comes_before_it():
    people = nlme.virtual(1, key=1)
    for ties, plan, count in (
        ("dose first", nlme.dose(100) + nlme.dose(100, time=12.0), 1),
        ("observation first", nlme.dose(100) + nlme.dose(100, time=12.0), 2),
        ("dose first", PLAN, 1),
        ("observation first", PLAN, 2),  # additional doses become records of their own
    ):
        design = people.with_times([6.0, 12.0]).with_doses(plan, ties=ties)
        assert run(design, lambda seen: None, decisions=[12.0]).ledger["SEEN"].unique().tolist() == [count]


def test_stopping_holding_and_leaving(design):
    found = run(design, lambda seen: "stop" if seen.number == 1 else None)
    assert found.doses.groupby("TIME")["AMT"].max().tolist() == [100, 100, 0, 0, 0]
    assert len(found.frame) == 3 * 6 * len(TIMES)
    held = run(design, lambda seen: "hold" if seen.number == 1 else None)
    assert held.doses.groupby("TIME")["AMT"].max().tolist() == [100, 100, 0, 100, 100]
    gone = run(design, lambda seen: "leave" if seen.id == 2 else None)
    own = gone.frame[gone.frame["ID"] == 2]
    assert own["TIME"].max() == 11.0 and (gone.frame[gone.frame["ID"] == 1]["TIME"].max() == 60.0)
    assert len(gone.ledger[gone.ledger["ID"] == 2]) == 3 and (gone.doses.query("ID == 2 and TIME >= 12")["AMT"] == 0).all()


def test_every_other_dose_keeps_its_phase_over_decisions_that_change_nothing():
    design = nlme.virtual(1, key=1).with_doses(nlme.dose(100).every(12, n=8)).with_times([1.0, 95.0])
    found = run(
        design, lambda seen: nlme.Decision(every=2) if seen.number == 0 else None, decisions=[12.0, 24.0, 60.0], replicates=1
    )
    assert found.doses["AMT"].tolist() == [100, 100, 0, 100, 0, 100, 0, 100]


def test_vectorised_and_by_subject_are_the_same(design):
    def one(seen):
        return seen.amount * 1.5 if seen.last() < 1.0 else "hold" if seen.last() > 3.0 else None

    def all_of_them(seen):
        last = seen.last()
        return nlme.Decision(amount=np.where(last < 1.0, seen.amount * 1.5, np.nan), hold=last > 3.0)

    a, b = run(design, one), run(design, all_of_them, vectorised=True)
    pd.testing.assert_frame_equal(pd.DataFrame(a.frame), pd.DataFrame(b.frame))
    pd.testing.assert_frame_equal(a.ledger, b.ledger)
    assert a.doses["AMT"].nunique() > 2 and "Adaptive" in repr(a)


def test_covariates_reach_the_rule_and_decisions_may_differ_by_subject():
    class Weighed(OneCompartment):
        covariates = {"wt": "kg"}

        def individual(self, eta, cov):
            return dict(cl=self.cl * jnp.exp(eta.cl) * cov.wt / 70, v=self.v * jnp.exp(eta.v))

    people = nlme.virtual(3, {"wt": [50.0, 70.0, 90.0]}, key=1, units={"wt": "kg"})
    design = people.with_doses(PLAN).with_times(TIMES)
    found = nlme.adaptive(
        Weighed(), design, rule=lambda seen: 2 * seen.covariates["wt"], decisions={1: [12.0], 2: [], 3: [24.0, 48.0]}, key=1
    )
    assert found.ledger[["ID", "TIME"]].values.tolist() == [[1, 12.0], [3, 24.0], [3, 48.0]]
    assert found.doses.groupby("ID")["AMT"].apply(list).tolist() == [
        [100, 100, 100, 100, 100], [100] * 5, [100, 100, 180, 180, 180]
    ] or found.doses.query("ID == 1")["AMT"].tolist() == [100, 100, 100, 100, 100]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(rule=lambda seen: "more"), "'hold', 'stop', 'leave'"),
        (dict(rule=lambda seen: -5), "from 0 on"),
        (dict(rule=lambda seen: nlme.Decision(every=1.5)), "whole number"),
        (dict(rule=lambda seen: float("nan")), "from 0 on"),
        (dict(rule=None), "function of what is seen"),
        (dict(rule=lambda seen: None, decisions=[]), "no time"),
        (dict(rule=lambda seen: None, decisions=[np.inf]), "finite"),
        (dict(rule=lambda seen: None, decisions={"nobody": [12.0]}), "decisions: nothing is given for subject 1"),
        (dict(rule=lambda seen: None, into="depot"), "No state"),
        (dict(rule=lambda seen: nlme.Decision(amount=-1.0), vectorised=True), "from 0 on"),
    ],
)
def test_what_is_no_decision_is_said(design, options, says):
    with pytest.raises(nlme.DataError, match=says):
        run(design, **({"rule": lambda seen: None} | options))
    with pytest.raises(nlme.DataError, match="none"):
        run(nlme.virtual(1, key=1).with_times([1.0]), lambda seen: None)


def test_a_steady_state_that_a_decision_would_change_is_refused():
    people = nlme.virtual(1, key=1)
    design = people.with_doses(nlme.dose(100, time=12.0, ss=True).every(12)).with_times([13.0])
    with pytest.raises(nlme.DataError, match="reached as planned"):
        run(design, lambda seen: 50.0, decisions=[6.0])
    changed = run(design, lambda seen: 50.0, decisions=[12.0], replicates=1, noise=False, eta="typical")
    plain = nlme.simulate(OneCompartment(), design, key=2, noise=False, eta="typical")
    # the dose at 12 alone is halved: what was there before it stays
    assert changed.frame["IPRED"][0] == pytest.approx(plain["IPRED"][0] - 50 / 50 * np.exp(-0.1), rel=1e-9)


@pytest.mark.parametrize("vectorised", [False, True])
def test_an_error_of_the_rule_says_for_whom_and_what_there_is(vectorised):
    design = nlme.virtual(2, {"wt": nlme.distributions.uniform(50, 90)}, key=1).with_doses(PLAN).with_times(TIMES)
    whom = "2 subjects together, replicates 1 to 3" if vectorised else "Subject 1, replicate 1"
    says = f"{whom}, decision at 24: the rule raised AttributeError: .*'wt'.* It sees replicate, id, .*; covariates: wt"
    with pytest.raises(nlme.ModelError, match=says) as raised:
        run(design, lambda seen: None if seen.number == 0 else seen.wt, vectorised=vectorised)
    assert isinstance(raised.value.__cause__, AttributeError)


@pytest.mark.parametrize(
    ("vectorised", "says"), [(False, "Subject 1, replicate 1, .*amount"), (True, r"amount .* array \(3, 6\)")]
)
def test_a_decision_that_is_no_number_is_said(design, vectorised, says):
    with pytest.raises(nlme.DataError, match=says):
        run(design, lambda seen: nlme.Decision(amount=["much", "more"]), vectorised=vectorised)
