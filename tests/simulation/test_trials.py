"""Simulated trials: each is what the model says of its people, recruitment is random, dropout has its hazard, summaries are counts."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from one_compartment_people import OneCompartment

import nlme
from nlme import distributions as d


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
    assert len(frame) == 30 * 12 * 4 and frame["ARM"].cat.categories.tolist() == ["placebo", "5 mg/kg", "100 twice"]
    assert (frame[frame["ARM"] == "placebo"]["IPRED"] == 0).all()
    # a dose per kg and parameters per kg: the weight goes out of the concentration; elsewhere it does not
    first = frame[frame["TIME"] == 0].set_index(["REPLICATE", "ID"])
    weights = {s.id: s.history.covariates["wt"][0] for s in people}
    eta_v = np.log(5 * 70 / 50 / first[first["ARM"] == "5 mg/kg"]["IPRED"])
    flat = first[first["ARM"] == "100 twice"]
    eta_flat = np.log(100 * 70 / (50 * flat["PERSON"].map(weights)) / flat["IPRED"])
    for eta in (eta_v, eta_flat):
        assert abs(eta.mean()) < 5 * np.sqrt(0.06 / len(eta)) and abs(eta.var() / 0.06 - 1) < 5 * np.sqrt(2 / len(eta))


def test_recruitment_is_without_replacement_within_a_trial_and_new_in_each(trials):
    who = trials.frame.groupby("REPLICATE").apply(lambda t: t.groupby("ID")["PERSON"].first().tolist(), include_groups=False)
    assert all(len(set(own)) == 12 for own in who) and len({tuple(own) for own in who}) == 30
    counts = trials.frame[trials.frame["TIME"] == 0]["PERSON"].value_counts()
    assert len(counts) == 40 and counts.max() < 30


@pytest.mark.slow
def test_trials_do_not_depend_on_how_many_are_worked_off_at_once(people, monkeypatch):
    from nlme.simulation import records

    arms = [nlme.arm("a", nlme.dose(100), 3), nlme.arm("b", nlme.dose(200), 3)]
    together = nlme.trial(Weighed(), arms, people, times=TIMES, trials=3, key=5)
    monkeypatch.setattr(records, "_NUMBERS", 1)
    apart = nlme.trial(Weighed(), arms, people, times=TIMES, trials=3, key=5)
    assert np.allclose(together.frame["DV"], apart.frame["DV"], rtol=1e-12)


def test_dropout_has_its_probability_and_what_follows_is_not_observed(people):
    arms = [nlme.arm("a", nlme.dose(100), 10), nlme.arm("b", nlme.dose(100), 10, dropout={"hazard": 0.0})]
    found = nlme.trial(Weighed(), arms, people, times=TIMES, trials=100, key=5, dropout={"probability": 0.4, "by": 24})
    gone = found.left < 24
    assert abs(gone[:, :10].mean() - 0.4) < 4 * np.sqrt(0.24 / 1000) and not gone[:, 10:].any()
    left = found.left[found.frame["REPLICATE"] - 1, found.frame["ID"] - 1]
    assert (found.frame["TIME"] <= left).all() and len(found.frame) == int((np.array(TIMES) <= found.left[..., None]).sum())
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
    events = found.frame[(found.frame["ENDPOINT"] == "off") & (found.frame["DV"] > 0)]
    last = found.frame.groupby(["REPLICATE", "ID"])["TIME"].max()
    assert len(events) and all(last[(r, i)] == t for r, i, t in events[["REPLICATE", "ID", "TIME"]].to_numpy())


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
    from scipy.stats import ttest_ind

    table = trials.summarise("cmax", values="IPRED")
    own = trials.frame.groupby(["REPLICATE", "ARM", "ID"], observed=True)["IPRED"].max().reset_index()
    p = [
        ttest_ind(t[t["ARM"] == "100 twice"]["IPRED"], t[t["ARM"] == "placebo"]["IPRED"], equal_var=False).pvalue
        for _, t in own.groupby("REPLICATE")
    ]
    assert table.loc[("cmax", "100 twice"), "power"] == pytest.approx(np.mean(np.array(p) < 0.05))


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
        (lambda p: nlme.arm("a", "100 mg", 1), "its regimen"),
        (lambda p: nlme.arm("a", None, 0), "from 1 on"),
    ],
)
def test_what_is_no_trial_is_said(people, call, says):
    with pytest.raises(nlme.DataError, match=says):
        call(people)
