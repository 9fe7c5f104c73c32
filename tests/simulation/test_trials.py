"""Simulated trials: each is what the model says of its people, recruitment is random, dropout has its hazard, summaries are counts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from one_compartment_people import OneCompartment
from scipy.stats import ttest_ind

import nlme
from nlme import distributions as d
from nlme.simulation.trials import _compared


class Weighed(OneCompartment):
    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl) * (cov.wt / 70), v=self.v * jnp.exp(eta.v) * (cov.wt / 70))


TIMES = [0.0, 2.0, 12.0, 24.0]


@pytest.fixture(scope="module")
def people():
    return nlme.virtual(40, {"wt": d.lognormal(70, cv=0.3, unit="kg")}, key=1)


@pytest.fixture(scope="module")
def trials(people):
    arms = [
        nlme.arm("placebo", None, 3),
        nlme.arm("5 mg/kg", nlme.dose(lambda s: 5 * s.history.covariates["wt"][0]), 4),
        nlme.arm("100 twice", nlme.dose(100).every(12, n=2), 5),
    ]
    return nlme.trial(Weighed(), arms, people, times=TIMES, trials=30, key=3)


def test_every_course_is_that_of_its_person_and_arm(trials, people):
    frame = trials.frame
    assert len(frame) == 30 * (3 * 4 + 4 * 5 + 5 * 6) and frame["ARM"].cat.categories.tolist() == [
        "placebo",
        "5 mg/kg",
        "100 twice",
    ]
    assert (frame[frame["ARM"] == "placebo"]["IPRED"] == 0).all()
    # a dose per kg and parameters per kg: the weight goes out of the concentration; elsewhere it does not
    # before a dose and after it
    there = frame[frame["TIME"] == 0].groupby(["REPLICATE", "ID"])
    assert (there.first()["IPRED"] == 0).all()
    first = there.last()
    weights = {s.id: s.history.covariates["wt"][0] for s in people}
    eta_v = np.log(5 * 70 / 50 / first[first["ARM"] == "5 mg/kg"]["IPRED"])
    flat = first[first["ARM"] == "100 twice"]
    eta_flat = np.log(100 * 70 / (50 * flat["PERSON"].map(weights)) / flat["IPRED"])
    for eta in (eta_v, eta_flat):
        assert abs(eta.mean()) < 5 * np.sqrt(0.06 / len(eta)) and abs(eta.var() / 0.06 - 1) < 5 * np.sqrt(2 / len(eta))


def test_recruitment_is_without_replacement_within_a_trial_and_new_in_each(trials):
    who = trials.frame.groupby("REPLICATE").apply(lambda t: t.groupby("ID")["PERSON"].first().tolist(), include_groups=False)
    assert all(len(set(own)) == 12 for own in who) and len({tuple(own) for own in who}) == 30
    counts = trials.frame[trials.frame["TIME"] == 2]["PERSON"].value_counts()
    assert len(counts) == 40 and counts.max() < 30


@pytest.mark.slow
def test_trials_do_not_depend_on_how_many_are_worked_off_at_once(people, monkeypatch):
    from nlme.simulation import records

    arms = [nlme.arm("a", nlme.dose(100), 3), nlme.arm("b", nlme.dose(200), 3)]
    together = nlme.trial(Weighed(), arms, people, times=TIMES, trials=3, key=5)
    monkeypatch.setattr(records, "_NUMBERS", 1)
    apart = nlme.trial(Weighed(), arms, people, times=TIMES, trials=3, key=5)
    assert np.allclose(together.frame["DV"], apart.frame["DV"], rtol=1e-12)


def halved_if_high(seen):
    if seen.covariates["wt"] > 90:
        return "leave"
    return nlme.Decision(amount=seen.amount / 2, why="high") if seen.last() > 3 else None


def halved_if_high_together(seen):
    return nlme.Decision(amount=np.where(seen.last() > 3, seen.amount / 2, np.nan), leave=seen.covariates["wt"] > 90)


@pytest.fixture(scope="module")
def titrated(people):
    """A rule that changes nothing, one asked of each subject, and the same asked of all at once, in arms of people drawn anew."""
    per_kg = nlme.dose(lambda s: 3 * s.history.covariates["wt"][0]).every(12, n=4)
    arms = [
        nlme.arm("as planned", per_kg, 3, rule=lambda seen: None, decisions=[12]),
        nlme.arm("each", per_kg, 6, rule=halved_if_high, decisions=[12, 24]),
        nlme.arm("together", per_kg, 6, rule=halved_if_high_together, decisions=[12, 24], vectorised=True),
        nlme.arm("no rule", per_kg, 3),
    ]
    times = [2.0, 11.0, 14.0, 23.0, 26.0, 40.0]
    return nlme.trial(Weighed(), arms, people, times=times, trials=20, key=3), arms, times


def test_arms_without_a_change_are_those_of_a_trial_without_rules(titrated, people):
    found, arms, times = titrated
    plain = nlme.trial(Weighed(), [nlme.arm(a.name, a.regimen, a.n) for a in arms], people, times=times, trials=20, key=3)
    assert plain.ledger is None and plain.doses is None
    for name in ("as planned", "no rule"):
        one, other = (x.frame[x.frame["ARM"] == name] for x in (found, plain))
        np.testing.assert_allclose(one["DV"], other["DV"], rtol=1e-9)
    planned = found.ledger[found.ledger["ARM"] == "as planned"]
    assert len(planned) == 60 and (planned["DECISION"] == "").all() and set(planned["TIME"]) == {12.0}


def test_a_rule_of_an_arm_is_followed_in_each_person(titrated, people):
    """Linear kinetics: what a halved dose adds is half; the decisions are those of the observations."""
    found, _, _ = titrated
    weights = {s.id: s.history.covariates["wt"][0] for s in people}
    frame, doses, ledger = found.frame, found.doses, found.ledger
    changed = 0
    for name in ("each", "together"):
        for (r, i), own in frame[frame["ARM"] == name].groupby(["REPLICATE", "ID"]):
            wt, seen = weights[own["PERSON"].iloc[0]], own.set_index("TIME")["DV"]
            given = doses[(doses["REPLICATE"] == r) & (doses["ID"] == i)].set_index("TIME")["AMT"]
            decided = ledger[(ledger["REPLICATE"] == r) & (ledger["ID"] == i)]
            if wt > 90:
                assert (
                    own["TIME"].max() == 11.0 and found.left[r - 1, i - 1] == 12.0 and decided["DECISION"].tolist() == ["leave"]
                )
                assert given[0.0] == pytest.approx(3 * wt) and given[12.0] == 0.0 and set(given.index) == {0.0, 12.0}
                continue
            amount = 3 * wt
            assert given[0.0] == pytest.approx(amount)
            for at, following in ((11.0, [12.0]), (23.0, [24.0, 36.0])):
                changed += seen[at] > 3
                amount = amount / 2 if seen[at] > 3 else amount
                np.testing.assert_allclose(given[following], amount)
            ipred = own.set_index("TIME")["IPRED"]
            # from the course alone: decay between two samples, and what a dose adds to it
            k = np.log(ipred[2.0] / ipred[11.0]) / 9.0
            base = ipred[2.0] * np.exp(2.0 * k) / given[0.0]
            for t in (14.0, 26.0, 40.0):
                expected = sum(base * given[d] * np.exp(-k * (t - d)) for d in (0.0, 12.0, 24.0, 36.0) if d <= t)
                assert ipred[t] == pytest.approx(expected, rel=1e-7)
    assert changed > 10 and "with a rule" in repr(found)


def test_who_dropped_out_is_not_asked(people):
    asked = nlme.arm("a", nlme.dose(100).every(12, n=3), 5, rule=lambda seen: 50.0, decisions=[12, 24], dropout={"hazard": 0.05})
    found = nlme.trial(Weighed(), [asked], people, times=TIMES, trials=30, key=2)
    row, seat = found.ledger["REPLICATE"] - 1, found.ledger["ID"] - 1
    assert (found.ledger["TIME"] <= found.left[row, seat]).all()
    assert len(found.ledger) == int((found.left[..., None] >= np.array([12.0, 24.0])).sum()) < 300


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (dict(rule=lambda seen: None), "go together"),
        (dict(decisions=[1.0]), "go together"),
        (dict(rule="hold", decisions=[1.0]), "function of what is seen"),
        (dict(rule=lambda seen: None, decisions=["a"]), "decisions are times"),
        (dict(rule=lambda seen: None, decisions=[]), "decisions are times"),
    ],
)
def test_a_rule_that_is_none(given, says):
    with pytest.raises(nlme.DataError, match=says):
        nlme.arm("a", nlme.dose(100), 3, **given)


def test_a_rule_without_doses():
    with pytest.raises(nlme.DataError, match="there are none"):
        nlme.arm("a", None, 3, rule=lambda seen: None, decisions=[1.0])


def test_dropout_has_its_probability_and_what_follows_is_not_observed(people):
    arms = [nlme.arm("a", nlme.dose(100), 10), nlme.arm("b", nlme.dose(100), 10, dropout={"hazard": 0.0})]
    found = nlme.trial(Weighed(), arms, people, times=TIMES, trials=100, key=5, dropout={"probability": 0.4, "by": 24})
    gone = found.left < 24
    assert abs(gone[:, :10].mean() - 0.4) < 4 * np.sqrt(0.24 / 1000) and not gone[:, 10:].any()
    left = found.left[found.frame["REPLICATE"] - 1, found.frame["ID"] - 1]
    assert (found.frame["TIME"] <= left).all()
    assert len(found.frame) == int((np.array([0.0, *TIMES]) <= found.left[..., None]).sum())  # two at the dose
    table = found.summarise({"last": ("last", 2, 24)}, values="IPRED")
    assert table.loc[("last", "b"), "n"] == 10 and 4 < table.loc[("last", "a"), "n"] < 8
    assert "left, %" in repr(found)


@pytest.mark.slow
def test_an_event_of_the_model_ends_the_observations(people):
    class Leaves(Weighed):
        def observe(self, ind, state, t):
            return super().observe(ind, state, t) | {"off": nlme.time_to_event(hazard=0.05, cumulative=0.05 * t)}

    found = nlme.trial(
        Leaves(), [nlme.arm("a", nlme.dose(100), 8)], people, times=TIMES, trials=20, key=5, dropout={"endpoint": "off"}
    )
    tells = found.frame["ENDPOINT"] == "off"
    events, last = (
        found.frame[tells & (found.frame["DV"] > 0)],
        found.frame[~tells].groupby(["REPLICATE", "ID"])["TIME"].max(),
    )
    assert len(events) and all(last[(r, i)] < t for r, i, t in events[["REPLICATE", "ID", "TIME"]].to_numpy())
    assert (found.frame[tells].groupby(["REPLICATE", "ID"])["DV"].sum() > 0).sum() == len(events)


@pytest.mark.parametrize("times", [[48.0, 168.0], [24.0 * k for k in range(1, 8)]])
def test_dropout_by_an_event_is_that_by_its_hazard(people, times):
    """However far apart the records are: 20 % are gone when the last is due, and those who left are counted as such."""
    hazard = -np.log(0.8) / 168

    class Leaves(Weighed):
        def observe(self, ind, state, t):
            return super().observe(ind, state, t) | {"off": nlme.time_to_event(hazard=hazard, cumulative=hazard * t)}

    arms = [nlme.arm("a", nlme.dose(100), 20)]
    found = nlme.trial(Leaves(), arms, people, times=times, trials=100, key=5, dropout={"endpoint": "off"})
    there = found.frame[(found.frame["ENDPOINT"] != "off") & (found.frame["TIME"] == 168)]
    assert abs(len(there) / 2000 - 0.8) < 4 * np.sqrt(0.16 / 2000)
    assert (found.left < found.last).mean() == pytest.approx(1 - len(there) / 2000)


def test_the_summary_is_that_of_the_tables(trials):
    table = trials.summarise({"cmax": "cmax", "high": lambda t, c: float(c.max() > 3)}, values="IPRED", alpha=0.05)
    own = trials.frame.groupby(["REPLICATE", "ARM", "ID"], observed=True)["IPRED"].max().reset_index()
    means = own.groupby(["REPLICATE", "ARM"], observed=True)["IPRED"].mean().unstack()
    for arm in means:
        assert table.loc[("cmax", arm), "mean"] == pytest.approx(means[arm].median())
    difference = (means["100 twice"] - means["placebo"]).quantile(0.95)
    assert table.loc[("cmax", "100 twice"), "difference.upper"] == pytest.approx(difference)
    high = own.assign(high=own["IPRED"] > 3).groupby(["REPLICATE", "ARM"], observed=True)["high"].mean().unstack()
    assert table.loc[("high", "5 mg/kg"), "mean"] == pytest.approx(high["5 mg/kg"].median())
    reached = nlme.attainment(trials.exposure("cmax"), ("cmax", ">", 3)).table.set_index("ARM")["probability"]
    assert reached["5 mg/kg"] == pytest.approx(high["5 mg/kg"].mean())


def test_power_is_welchs(trials):
    table = trials.summarise("cmax", values="IPRED")
    own = trials.frame.groupby(["REPLICATE", "ARM", "ID"], observed=True)["IPRED"].max().reset_index()
    p = [
        ttest_ind(t[t["ARM"] == "100 twice"]["IPRED"], t[t["ARM"] == "placebo"]["IPRED"], equal_var=False).pvalue
        for _, t in own.groupby("REPLICATE")
    ]
    assert table.loc[("cmax", "100 twice"), "power"] == pytest.approx(np.mean(np.array(p) < 0.05))


def test_trials_without_variance_count():
    """Responders of two arms of four in five trials: nobody, nobody, all against none, 2 against 1, all."""
    drug, placebo = np.array([0.0, 0.0, 4.0, 2.0, 4.0]), np.array([0.0, 0.0, 0.0, 1.0, 4.0])
    n = np.full(5, 4.0)
    p = float(ttest_ind([1, 1, 0, 0], [1, 0, 0, 0], equal_var=False).pvalue)
    assert p > 0.05
    moments = {
        "count": pd.DataFrame({"placebo": n, "drug": n}),
        "mean": pd.DataFrame({"placebo": placebo / n, "drug": drug / n}),
        "var": pd.DataFrame({"placebo": placebo * (n - placebo) / n / (n - 1), "drug": drug * (n - drug) / n / (n - 1)}),
    }
    assert _compared(moments, "drug", "placebo", 0.05, 0.9)["power"] == pytest.approx(0.2)
    assert _compared(moments, "drug", "placebo", 0.999 * p, 0.9)["power"] == pytest.approx(0.2)
    assert _compared(moments, "drug", "placebo", 1.001 * p, 0.9)["power"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda p: nlme.trial(Weighed(), [], p, times=TIMES, key=1), "nlme.arm"),
        (lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)] * 2, p, times=TIMES, key=1), "same name"),
        (lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], None, times=TIMES, key=1), "who is recruited"),
        (lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], p, times=TIMES, key=1, dropout=0.1), "dropout is"),
        (
            lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], p, times=TIMES, key=1, dropout={"endpoint": "x"}),
            "No endpoint",
        ),
        (lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], p, times=TIMES, key=1, trials=0), "at least 1"),
        (lambda p: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], p, times=TIMES, key=1, trials=1.5), "whole number"),
        *(
            (lambda p, x=x: nlme.trial(Weighed(), [nlme.arm("a", None, 1)], p, times=TIMES, key=1, dropout=x), "of numbers")
            for x in ({"hazard": "a"}, {"probability": "x", "by": 1}, {"probability": 0.1, "by": "x"})
        ),
        (lambda p: nlme.arm("a", "100 mg", 1), "its regimen"),
        (lambda p: nlme.arm("a", None, 0), "from 1 on"),
    ],
)
def test_what_is_no_trial_is_said(people, call, says):
    with pytest.raises((nlme.DataError, nlme.ModelError), match=says):
        call(people)
