"""Visual predictive checks: bins, percentiles with limits, correction, every kind of endpoint, coverage of a known truth."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from checked_models import (
    Answers,
    Decline,
    Event,
    Limited,
    Recurring,
    design,
    drawn,
    simulated,
    trial_of_events,
    with_values,
)
from reference import case

import nlme
from nlme.data.after_dose import times_after_dose
from nlme.diagnostics.binning import edges_of, members_of
from nlme.diagnostics.percentiles import percentiles
from nlme.diagnostics.prediction_correction import corrected, even_variability
from nlme.diagnostics.survival import (
    first_events,
    follow_up,
    kaplan_meier,
    mean_cumulative_count,
    observed_events,
    repeated_events,
)


@pytest.fixture(scope="module")
def trial():
    """Two doses, data and replicates from the same model."""
    population = design(20, doses=(10.0, 30.0))
    values = drawn(population, 51)
    return with_values(population, values[0]), values[1:]


def _rows(check, quantity):
    return check.table[check.table["QUANTITY"] == quantity]


# -- bins ----------------------------------------------------------------------------------------------------------------


def test_nominal_times_become_bins_and_jitter_does_not_change_that():
    nominal = np.tile([0.5, 1, 2, 3, 4, 6, 8, 12, 18, 24], 32)
    jittered = nominal * (1 + 0.03 * np.random.default_rng(0).normal(size=nominal.size))
    for time in (nominal, jittered):
        found = members_of(time, edges_of(time))
        assert len(set(zip(nominal, found, strict=True))) == 10 == len(set(found))


def test_bins_are_the_least_squares_of_every_way_to_cut():
    from itertools import combinations

    from nlme.diagnostics.binning import _spread_out

    time = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 4.0, 4.5, 9.0, 9.2, 9.3])
    u = _spread_out(time, np.ones(10))
    ways = {cut: sum(np.square(part - part.mean()).sum() for part in np.split(u, cut)) for cut in combinations(range(1, 10), 3)}
    best = min(ways, key=ways.get)
    np.testing.assert_array_equal(np.flatnonzero(np.diff(members_of(time, edges_of(time, 4)))) + 1, best)


def test_very_many_times_and_edges_of_ones_own():
    time = np.random.default_rng(1).uniform(0, 24, 5000)
    found = members_of(time, edges_of(time))
    assert found.min() == 0 and np.bincount(found).min() > 100
    np.testing.assert_array_equal(
        members_of(np.array([-1.0, 0.0, 4.0, 24.0, 25.0]), np.array([0.0, 4.0, 24.0])), [-1, 0, 1, 1, -1]
    )
    assert len(edges_of(np.full(7, 3.0))) == 2


@pytest.mark.parametrize("bins", ["quantile", 0, 9, [3.0], [2.0, 1.0], [50.0, 60.0], [0.0, np.nan]])
def test_bins_that_are_none(bins):
    with pytest.raises(nlme.DataError, match="bins="):
        edges_of(np.array([0.0, 1.0, 2.0]), bins)


# -- percentiles ---------------------------------------------------------------------------------------------------------


def test_percentiles_are_numpys_and_keep_what_is_beyond_a_limit():
    values = np.random.default_rng(2).normal(size=(7, 23))
    shares = np.array([0.0, 0.05, 0.31, 0.5, 1.0])
    np.testing.assert_allclose(percentiles(values, shares), np.quantile(values, shares, axis=1), rtol=0, atol=1e-14)
    some = np.array([-np.inf, -np.inf, 1.0, 2.0, np.inf])
    np.testing.assert_array_equal(
        percentiles(some, np.array([0.1, 0.25, 0.4, 0.5, 0.75, 0.9])), [-np.inf, -np.inf, -np.inf, 1, 2, np.inf]
    )
    np.testing.assert_array_equal(percentiles(np.array([np.nan, 3.0, 1.0]), np.array([0.5])), [2.0])


def test_the_table_holds_the_percentiles_of_each_bin(trial):
    data, values = trial
    check = nlme.vpc(data, simulations=values, percentiles=(10, 50), level=0.8)
    dv = np.concatenate([s.dv for s in data]).reshape(20, 6)
    for k, row in enumerate(_rows(check, "10 %").itertuples()):
        assert (row.TIME, row.N) == ([0.5, 1, 2, 4, 8, 12][k], 20)
        assert row.OBSERVED == pytest.approx(np.quantile(dv[:, k], 0.1))
        simulated = np.quantile(values.reshape(-1, 20, 6)[:, :, k], 0.1, axis=1)
        assert [row.LOWER, row.EXPECTED, row.UPPER] == pytest.approx(list(np.quantile(simulated, [0.1, 0.5, 0.9])))
    assert check.quantities == ("10 %", "50 %") and check.replicates == len(values)


def test_simulated_by_the_model_is_simulate_and_the_key_repeats_it(trial):
    data, _ = trial
    made = nlme.vpc(Decline(), data, key=5, replicates=50)
    given = nlme.vpc(data, simulations=simulated(Decline(), data, 50, key=5))
    pd.testing.assert_frame_equal(made.table, given.table)


def test_strata_are_the_checks_of_their_parts(trial):
    data, values = trial
    whole = nlme.vpc(data, simulations=values, stratify={"dose": [20], "arm": None})
    assert whole.strata == ("dose < 20, arm 0", "dose ≥ 20, arm 1")  # arms have a dose each
    part = nlme.vpc(
        data.filter(lambda s: s.covariates["dose"][0] < 20), simulations=values.reshape(-1, 20, 6)[:, ::2].reshape(-1, 60)
    )
    mine = whole.table[whole.table["STRATUM"] == whole.strata[0]]
    pd.testing.assert_frame_equal(mine.drop(columns="STRATUM"), part.table.drop(columns="STRATUM"))


def test_observations_outside_of_given_bins_are_said(trial):
    check = nlme.vpc(trial[0], simulations=trial[1], bins=[0.75, 3, 10])
    assert "40 observations outside of the bins" in check.messages[0] and check.table["N"].tolist()[::3] == [40, 40]


@pytest.mark.slow
def test_subpopulations_and_occasions_are_drawn_anew():
    class Kinds(nlme.Model):
        kind: nlme.Mixture = nlme.mixture(low=0.3, high=0.7)
        omega: nlme.Covariance = nlme.covariance(base=0.01)
        visits: nlme.Covariance = nlme.covariance(visit=0.04, per="occasion")
        sd: nlme.Scalar = nlme.positive(0.1)

        def individual(self, eta, cov):
            return dict(mean=self.kind.choose(low=1.0, high=5.0) + eta.base + eta.visit)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.mean, self.sd)}

    times = np.array([1.0, 2.0, 3.0, 4.0])
    people = [nlme.Subject(i, times, dv=np.full(4, 5.0), occasion=[1, 1, 2, 2]) for i in range(20)]
    population = nlme.Population(tuple(people), ("y",))
    check = nlme.vpc(Kinds(), population, key=1, replicates=64, percentiles=(15, 60), stratify="occasion")
    assert check.strata == ("occasion 1", "occasion 2")
    low, high = (_rows(check, name)["EXPECTED"] for name in ("15 %", "60 %"))
    np.testing.assert_allclose(low, 1.0, atol=0.2)  # of the 30 % that are low, and 60 % lie among the others
    np.testing.assert_allclose(high, 5.0, atol=0.2)


# -- limits of quantification ----------------------------------------------------------------------------------------------


def test_values_below_the_limit_rank_lowest_and_their_fraction_is_shown(trial):
    data, values = trial
    dv = np.concatenate([s.dv for s in data])
    cens = dv < 2.0
    limited = with_values(data, np.where(cens, 2.0, dv), cens)
    check = nlme.vpc(limited, simulations=values)
    below = _rows(check, "below limit")
    share = cens.reshape(20, 6).mean(axis=0)
    np.testing.assert_allclose(below["OBSERVED"], share)
    np.testing.assert_allclose(below["EXPECTED"], np.median((values.reshape(-1, 20, 6) < 2.0).mean(axis=1), axis=0))
    plain = nlme.vpc(data, simulations=values)
    for name in ("5 %", "50 %", "95 %"):
        full, seen = _rows(plain, name)["OBSERVED"].to_numpy(), _rows(check, name)["OBSERVED"].to_numpy()
        assert (np.isneginf(seen) | (seen == full)).all() and (seen[full > 2.5] == full[full > 2.5]).all()
    assert check.limit == 2.0 and np.isneginf(_rows(check, "5 %")["OBSERVED"].iloc[-1])
    omitted = _rows(nlme.vpc(limited, simulations=values, censored="omit"), "50 %")
    assert omitted["OBSERVED"].iloc[-1] == pytest.approx(np.median(dv.reshape(20, 6)[:, -1][~cens.reshape(20, 6)[:, -1]]))


def test_the_models_own_limit_is_used_and_limits_that_differ_are_asked_for(trial):
    data, values = trial
    check = nlme.vpc(Limited(), data, simulations=values)  # no record has CENS
    assert check.limit == 2.0 and _rows(check, "below limit")["OBSERVED"].iloc[-1] > 0
    dv = np.concatenate([s.dv for s in data])
    two = np.where(np.arange(120) % 2, 2.0, 3.0)
    cens = dv < two
    mixed = with_values(data, np.where(cens, two, dv), cens)
    with pytest.raises(nlme.DataError, match=r"2 lower limits \(2, 3\).*lloq="):
        nlme.vpc(mixed, simulations=values)
    assert np.isnan(nlme.vpc(mixed, simulations=values, lloq="dose").limit)


class LimitedBy(Decline):
    """The limit of ``Limited``, 2, by a covariate."""

    def individual(self, eta, cov):
        return super().individual(eta, cov) | dict(limit=2.0 + 0.0 * cov.dose)

    def observe(self, ind, state, t):
        return {"conc": nlme.censored(nlme.proportional(ind.start * jnp.exp(-ind.k * t), self.prop), lloq=ind.limit)}


@pytest.mark.parametrize("number", [np.int64(2), np.float32(2.0), jnp.asarray(2.0), None])
def test_a_limit_of_the_model_holds_in_its_checks_however_it_is_written(trial, number):
    class Written(Decline):
        def observe(self, ind, state, t):
            return {"conc": nlme.censored(nlme.proportional(ind.start * jnp.exp(-ind.k * t), self.prop), lloq=number)}

    data, values = trial  # no record has CENS
    check = nlme.vpc(LimitedBy() if number is None else Written(), data, simulations=values)
    pd.testing.assert_frame_equal(check.table, nlme.vpc(Limited(), data, simulations=values).table)
    assert check.limit == 2.0 and _rows(check, "below limit")["OBSERVED"].iloc[-1] > 0


# -- prediction correction -------------------------------------------------------------------------------------------------


def test_with_equal_predictions_correction_changes_nothing():
    population = design(20)
    values = drawn(population, 60)
    data = with_values(population, values[0])
    plain = nlme.vpc(data, simulations=values[1:])
    for how in (True, "additive"):
        check = nlme.vpc(Decline(), data, simulations=values[1:], prediction_corrected=how)
        pd.testing.assert_frame_equal(check.table, plain.table, rtol=1e-12)


def test_correction_is_the_published_formula_and_takes_the_dose_out(trial):
    data, values = trial
    check = nlme.vpc(Decline(), data, simulations=values, prediction_corrected=True)
    pred = np.where(np.arange(120) // 6 % 2, 30.0, 10.0) * np.exp(-0.2 * np.tile([0.5, 1, 2, 4, 8, 12], 20))
    middle = np.tile(np.median(pred.reshape(20, 6), axis=0), 20)
    np.testing.assert_allclose(check.observations["SHOWN"], np.concatenate([s.dv for s in data]) * middle / pred, rtol=1e-12)
    plain = nlme.vpc(Decline(), data, simulations=values)
    width = [_rows(c, "95 %")["EXPECTED"].to_numpy() / _rows(c, "5 %")["EXPECTED"].to_numpy() for c in (plain, check)]
    assert (width[0] > 1.5 * width[1]).all()
    y, pred, bins = np.array([3.0, 8.0, 5.0]), np.array([2.0, 4.0, 9.0]), np.array([0, 0, 1])
    np.testing.assert_allclose(corrected(y, pred, bins, "proportional", 1.0), [1 + 2 * 2 / 1, 1 + 7 * 2 / 3, 5])
    np.testing.assert_allclose(corrected(y, pred, bins, "additive", 0.0), [4, 7, 5])
    np.testing.assert_allclose(even_variability(y, np.array([1.0, 3.0, 2.0]), pred, bins), [3.0, 3 + 5 * 2 / 3, 5])


def test_predictions_of_zero_are_left_out_and_said():
    class Late(Decline):
        def observe(self, ind, state, t):
            import jax.numpy as jnp

            return {"conc": nlme.additive(jnp.where(t < 0.75, 0.0, ind.start * jnp.exp(-ind.k * t)), 1.0)}

    data = design(20)
    check = nlme.vpc(Late(), data, simulations=drawn(data, 20), prediction_corrected=True)
    assert "20 observations with a prediction of 0" in check.messages[0] and check.table["TIME"].min() == 1.0


# -- other endpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answers():
    return with_values(design(20, endpoint="grade"), np.random.default_rng(2).integers(0, 3, 120).astype(float))


def test_fractions_of_categories_sum_to_one(answers):
    drawn_grades = np.random.default_rng(3).integers(0, 3, (50, 120))
    check = nlme.vpc(Answers(), answers, simulations=drawn_grades)
    np.testing.assert_allclose(
        _rows(check, "P(2)")["EXPECTED"], np.median((drawn_grades.reshape(50, 20, 6) == 2).mean(axis=1), axis=0)
    )
    assert (check.kind, check.quantities) == ("categorical", ("P(0)", "P(1)", "P(2)"))
    total = check.table.groupby("BIN")["OBSERVED"].sum()
    np.testing.assert_allclose(total, 1.0)
    dv = np.concatenate([s.dv for s in answers]).reshape(20, 6)
    np.testing.assert_allclose(_rows(check, "P(2)")["OBSERVED"], (dv == 2).mean(axis=0))


def test_counts_by_their_mean_or_their_distribution(answers):
    data = dataclasses.replace(answers, endpoints=("count",))
    simulations = np.random.default_rng(3).poisson(1.0, (50, 120))
    check = nlme.vpc(Answers(), data, simulations=simulations)
    dv = np.concatenate([s.dv for s in data]).reshape(20, 6)
    np.testing.assert_allclose(_rows(check, "mean")["OBSERVED"], dv.mean(axis=0))
    spread = nlme.vpc(Answers(), data, simulations=simulations, counts="distribution")
    np.testing.assert_allclose(spread.table.groupby("BIN")["OBSERVED"].sum(), 1.0)


def test_kaplan_meier_and_cumulative_count_by_hand():
    end = np.array([6.0, 6, 6, 6, 7, 9, 10, 10, 11, 13])
    event = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1], bool)  # Freireich's 6-MP arm, first ten
    found = kaplan_meier(np.zeros(10), end, event, np.array([0.0, 5.9, 6.0, 7.0, 9.9, 10.0, 13.0]))
    steps = [1, 1, 7 / 10, 7 / 10 * 5 / 6, 7 / 10 * 5 / 6, 7 / 10 * 5 / 6 * 3 / 4, 0]
    np.testing.assert_allclose(found, steps)
    late = kaplan_meier(np.array([0.0, 0.0, 5.0]), np.array([2.0, 6.0, 7.0]), np.ones(3, bool), np.array([2.0, 6.0]))
    np.testing.assert_allclose(late, [1 / 2, 1 / 4])  # who enters at 5 is not at risk at 2
    # (begin, end] as in R's survival: who enters at 3 is not at risk at 3; d / n is 1/3, 1/5, 1/3, 1/4, 1/3
    begin, end = np.array([0.0, 0, 0, 3, 3, 3, 6, 6]), np.array([3.0, 5, 6, 8, 9, 5, 9, 10])
    steps = kaplan_meier(begin, end, np.array([1, 0, 1, 1, 0, 1, 1, 0], bool), np.array([3.0, 5.0, 6.0, 8.0, 9.0]))
    np.testing.assert_allclose(steps, np.cumprod([2 / 3, 4 / 5, 2 / 3, 3 / 4, 2 / 3]))
    assert (
        kaplan_meier(np.zeros(2), np.array([0.0, 1.0]), np.array([True, False]), np.array([0.0])) == 0.0
    )  # at its very beginning
    counts = mean_cumulative_count(np.zeros(3), np.array([4.0, 6.0, 8.0]), np.array([1.0, 1.0, 5.0, 7.0]), np.array([1, 4, 5, 8]))
    np.testing.assert_allclose(counts, [2 / 3, 2 / 3, 2 / 3 + 1 / 2, 2 / 3 + 1 / 2 + 1])


def test_simulated_times_have_the_distribution_of_the_hazard():
    random, time = np.random.default_rng(5), np.linspace(0, 10, 51)
    hazard = np.tile(0.04 * time**2, (40_000, 1))
    found = first_events(time, hazard, random)
    for t in (2.0, 5.0, 9.0):
        assert (found > t).mean() == pytest.approx(np.exp(-0.04 * t**2), abs=0.01)
    replicate, at = repeated_events(time, hazard, random)
    assert len(at) / 40_000 == pytest.approx(4.0, rel=0.02) and (at < 5).mean() == pytest.approx(0.25, abs=0.01)


def test_follow_up_of_those_with_an_event_lies_beyond_it():
    data = trial_of_events(50, 3)
    rows = pd.DataFrame({"TIME": [s.time[-1] for s in data], "DV": [s.dv[-1] for s in data]})
    events = observed_events(rows, np.arange(50), np.zeros(50))
    ends, donors = follow_up(events, 200, np.random.default_rng(0))
    had = np.isin(np.arange(50), events.owner)
    assert (ends >= events.end).all() and (ends[:, ~had] == events.end[~had]).all() and ends[:, had].std() > 1
    assert (ends == np.maximum(events.end[donors], events.end)).all()


def test_survival_covers_the_truth_and_refuses_another():
    data = trial_of_events(40, 3)
    right = nlme.vpc(Event(), data, key=1, replicates=100, stratify="arm")
    assert right.kind == "event" and right.strata == ("arm 0", "arm 1") and right.inside > 0.8
    assert nlme.vpc(Event(rate=0.3), data, key=1, replicates=100, stratify="arm").inside < 0.4
    seen = right.table["OBSERVED"].to_numpy()[:60]
    assert (np.diff(seen) <= 0).all() and (right.table["LOWER"] <= right.table["UPPER"]).all()


@pytest.mark.parametrize(("model", "kind"), [(Event(), "event"), (Recurring(rate=0.3), "events")])
def test_one_event_known_to_an_interval_leaves_the_exact_ones_exact(model, kind):
    """Each subject's simulated events are seen as its own are."""
    data = trial_of_events(40, 3)
    columns = dict(covariates={"dose": 1.0, "arm": 0.0})
    visited = nlme.Subject(1000, np.array([0.0, 4.0, 5.0]), dv=np.array([0.0, 0.0, 2.0]), **columns)
    both = nlme.Population((*data, visited), ("event",), data.covariates)
    alone, mixed = (nlme.vpc(model, people, key=1, replicates=100) for people in (data, both))
    assert alone.kind == kind and any("known to an interval" in said for said in mixed.messages)
    expected = [np.interp([1.0, 2.0, 3.0], v.table["TIME"], v.table["EXPECTED"]) for v in (alone, mixed)]
    np.testing.assert_allclose(expected[1], expected[0], rtol=0.1)
    shares = [
        np.mean((v.table["OBSERVED"] < v.table["LOWER"]) | (v.table["OBSERVED"] > v.table["UPPER"])) for v in (alone, mixed)
    ]
    assert abs(shares[0] - shares[1]) < 0.15


def test_events_are_seen_at_the_visits_that_their_own_subject_would_have_had():
    """Everybody has five visits at times of its own; without censoring the curve is mean_i exp(-rate v_i(t)), v_i the visit before t."""
    random = np.random.default_rng(5)
    rate, people, count = 0.25, [], 120
    plans = 2.0 * np.arange(1, 6) + random.uniform(-0.8, 0.8, (count, 1))
    for i, plan in enumerate(plans):
        reached = plan >= random.exponential(1 / rate)
        stop = int(np.argmax(reached)) if reached.any() else 4
        dv = np.concatenate([[0.0], np.where(np.arange(stop + 1) == stop, 2.0 * reached.any(), 0.0)])
        people.append(
            nlme.Subject(
                i,
                np.concatenate([[0.0], plan[: stop + 1]]),
                dv=dv,
                covariates={"dose": np.zeros(stop + 2), "arm": np.zeros(stop + 2)},
            )
        )

    class Steady(nlme.Model):
        rate: nlme.Scalar = nlme.positive(0.25)

        def individual(self, eta, cov):
            return dict(rate=self.rate)

        def observe(self, ind, state, t):
            return {"event": nlme.time_to_event(ind.rate, ind.rate * t)}

    table = nlme.vpc(Steady(), nlme.Population(tuple(people), ("event",)), key=1, replicates=300).table
    before = table["TIME"].to_numpy() < plans[:, -1].min()
    visit = [np.max(np.where(plans <= t, plans, 0.0), axis=1) for t in table["TIME"][before]]
    np.testing.assert_allclose(table["EXPECTED"][before], np.exp(-rate * np.array(visit)).mean(axis=1), atol=0.02)


@pytest.mark.slow
def test_survival_of_the_weibull_case_at_nonmems_estimates():
    import jax.numpy as jnp

    found = case("tte_weibull_nonmem")
    values = found.reference("no_frailty")["at_final"]["parameters"]["THETA"]

    class Weibull(nlme.Model):
        log_scale: nlme.Scalar = nlme.real(0.0)
        log_shape: nlme.Scalar = nlme.real(0.0)

        def individual(self, eta, cov):
            return dict(scale=jnp.exp(self.log_scale), shape=jnp.exp(self.log_shape))

        def observe(self, ind, state, t):
            cumulative = (t / ind.scale) ** ind.shape
            return {"event": nlme.time_to_event(cumulative * ind.shape / t, cumulative)}

    population = nlme.read_nonmem(found.table())  # one record for each subject, none at 0
    model = Weibull(log_scale=values[0], log_shape=values[1])
    check = nlme.vpc(model, population, key=1, replicates=200)
    assert check.inside > 0.85 and check.table["N"].iloc[0] == 100
    truth = np.exp(-((check.table["TIME"] / np.exp(values[0])) ** np.exp(values[1])))
    np.testing.assert_allclose(check.table["EXPECTED"], truth, atol=0.02)
    assert nlme.vpc(Weibull(log_scale=values[0] + 0.4, log_shape=values[1]), population, key=1, replicates=200).inside < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grade", "count"])
def test_simulated_categories_and_counts_hold_those_of_the_model(name):
    population = design(60, endpoint=name)
    table = nlme.simulate(Answers(), population, key=2, eta="new")
    data = with_values(population, table["DV"].to_numpy())
    assert nlme.vpc(Answers(), data, key=1, replicates=64).inside > 0.75
    assert nlme.vpc(Answers(slope=-0.3), data, key=1, replicates=64).inside < 0.6


@pytest.mark.slow
def test_repeated_events_exact_and_to_an_interval():
    random = np.random.default_rng(6)
    exact, visited = [], []
    for i in range(40):
        end = random.uniform(8, 16)
        times = np.sort(random.uniform(0, end, random.poisson(0.3 * np.exp(np.sqrt(0.2) * random.normal()) * end)))
        columns = dict(covariates={"dose": 1.0, "arm": 0.0})
        exact.append(nlme.Subject(i, np.array([0.0, *times, end]), dv=np.array([0.0, *np.ones(len(times)), 0.0]), **columns))
        visits = np.arange(0, end, 2.0)
        some = np.array([((times > a) & (times <= b)).any() for a, b in zip(visits[:-1], visits[1:], strict=True)])
        visited.append(nlme.Subject(i, visits, dv=np.array([0.0, *np.where(some, 2.0, 0.0)]), **columns))
    for people in (exact, visited):
        population = nlme.Population(tuple(people), ("event",))
        right = nlme.vpc(Recurring(rate=0.3), population, key=1, replicates=200)
        assert right.kind == "events" and right.inside > 0.7
        assert nlme.vpc(Recurring(rate=0.9), population, key=1, replicates=200).inside < 0.2


# -- time after dose -------------------------------------------------------------------------------------------------------


def test_time_after_the_last_dose_with_additional_ones():
    subject = nlme.Subject(
        1,
        np.array([0.0, 1.0, 3.0, 12.0, 13.0, 40.0, 40.0, 41.0]),
        evid=[0, 1, 0, 0, 0, 0, 1, 0],
        amt=[0, 10, 0, 0, 0, 0, 5, 0],
        ii=[0, 12, 0, 0, 0, 0, 0, 0],
        addl=[0, 2, 0, 0, 0, 0, 0, 0],
        dv=np.ones(8),
    )
    np.testing.assert_allclose(times_after_dose(subject), [-1, 0, 2, 11, 0, 15, 0, 1])
    assert np.isnan(times_after_dose(nlme.Subject(2, np.array([0.0, 1.0]), dv=[1, 1]))).all()


def test_time_after_dose_needs_doses(trial):
    with pytest.raises(nlme.DataError, match='time="tad": 120 observations have no dose'):
        nlme.vpc(trial[0], simulations=trial[1], time="tad")


# -- coverage --------------------------------------------------------------------------------------------------------------


def _covered(datasets: int, replicates: int) -> pd.Series:
    """Share of the bands of each percentile that hold the observed one."""
    population = design(32, doses=(10.0, 30.0))
    values = drawn(population, datasets + replicates)
    checks = [nlme.vpc(with_values(population, y), simulations=values[datasets:]).table for y in values[:datasets]]
    every = pd.concat(checks)
    inside = (every["OBSERVED"] >= every["LOWER"]) & (every["OBSERVED"] <= every["UPPER"])
    return inside.groupby(every["QUANTITY"]).mean()


@pytest.mark.slow
def test_bands_cover_what_they_say_over_200_data_sets():
    assert _covered(200, 1000).between(0.85, 0.95).all()


def test_bands_cover_what_they_say_in_short():
    assert _covered(40, 300).between(0.83, 0.97).all()


# -- refusals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(key=None), "need a key"),
        (dict(level=90), "between 0 and 1"),
        (dict(percentiles=(0, 50)), "between 0 and 100"),
        (dict(percentiles=(5, "a")), "between 0 and 100"),
        (dict(level="a"), "between 0 and 1"),
        (dict(stratify=5), "names columns"),
        (dict(stratify={"dose": ["a"]}), "numbers, such as"),
        (dict(stratify={"dose": []}), "numbers, such as"),
        (dict(stratify={"site": [3]}), "are no numbers"),
        (dict(stratify="site"), "20 different values, and 8 at most are strata"),
        (dict(time="hours"), "'time', 'tad'"),
        (dict(stratify="weight"), "No column named 'weight'"),
        (dict(stratify="id_like"), "20 different values"),
        (dict(prediction_corrected="log"), "'proportional' or 'additive'"),
        (dict(variability_corrected=True), "goes with prediction_corrected"),
        (dict(kind="count"), "is continuous"),
        (dict(censored="drop"), "'rank', 'omit'"),
        (dict(replicates=2.5), "whole number"),
        (dict(lower_bound=1e6, prediction_corrected=True), "No prediction is above"),
    ],
)
def test_what_makes_no_check_is_said(options, says):
    data = design(20)
    subjects = tuple(
        dataclasses.replace(s, extra={"id_like": np.full(6, 0.5 * s.id), "site": np.full(6, f"s{s.id}", dtype=object)})
        for s in data
    )
    with pytest.raises(nlme.NLMEError, match=says):
        nlme.vpc(Decline(), dataclasses.replace(data, subjects=subjects), **{"key": 1, "replicates": 20, **options})


def test_correction_of_categories_and_correction_without_a_model(answers, trial):
    with pytest.raises(nlme.ModelError, match="for continuous endpoints; grade"):
        nlme.vpc(Answers(), answers, key=1, prediction_corrected=True)
    with pytest.raises(nlme.ModelError, match="needs a fit or a model"):
        nlme.vpc(trial[0], simulations=trial[1], prediction_corrected=True)
    both = tuple(dataclasses.replace(s, endpoint=np.arange(6) % 2) for s in answers)
    with pytest.raises(nlme.DataError, match="Which endpoint. Say endpoint= one of 'grade', 'count'"):
        nlme.vpc(Answers(), nlme.Population(both, ("grade", "count")), key=1)
