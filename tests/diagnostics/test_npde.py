"""Prediction distribution errors: the R package's numbers, the laws of decorrelation, limits of quantification, refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from checked_models import Answers, Decline, design, drawn, simulated, with_values
from reference import case
from scipy import stats

import nlme
from nlme.diagnostics.normality import moments, p_values


@pytest.fixture(scope="module")
def theophylline():
    found = case("npde_theophylline")
    return (
        nlme.read_nonmem(found.table()),
        found.table("simulations.csv"),
        found.table("npde_reference.csv").dropna(subset=["NPDE"]),
    )


def test_values_of_the_r_package_from_the_same_simulations(theophylline):
    population, simulations, reference = theophylline
    found = nlme.npde(population, simulations=simulations)
    for name, tolerance in (("YPRED", 1e-13), ("PD", 0.0), ("NPDE", 1e-9)):
        np.testing.assert_allclose(found.frame[name], reference[name], rtol=0, atol=tolerance)
    assert list(found.frame["ID"]) == list(reference["ID"]) and list(found.frame["TIME"]) == list(reference["TIME"])
    np.testing.assert_allclose(found.moments.loc["NPDE", ["mean", "se of mean"]].astype(float), [0.0668, 0.0946], atol=5e-5)


def test_simulations_as_an_array_and_in_another_order_of_replicates(theophylline):
    population, simulations, _ = theophylline
    expected = nlme.npde(population, simulations=simulations).frame["NPDE"]
    observed = np.concatenate([s.is_observation for s in population])
    values = simulations["SIM"].to_numpy().reshape(100, -1)[:, observed]
    np.testing.assert_array_equal(nlme.npde(population, simulations=values[::-1]).frame["NPDE"], expected)
    shuffled = simulations.sort_values("ID", kind="stable")
    np.testing.assert_array_equal(nlme.npde(population, simulations=shuffled).frame["NPDE"], expected)


@pytest.mark.parametrize("how", ["cholesky", "inverse", "polar"])
def test_decorrelated_replicates_are_uncorrelated_with_unit_variance(how):
    from nlme.diagnostics.npde import _decorrelated

    random = np.random.default_rng(0)
    values = random.normal(size=(400, 5)) @ random.normal(size=(5, 5)) + 3.0
    covariance = np.cov(values.T)
    observed = values.mean(axis=0) + np.arange(5.0)
    star, stars = _decorrelated(observed, values, how, "1")
    np.testing.assert_allclose(np.cov(stars.T), np.eye(5), atol=1e-12)
    deviation = np.arange(5.0)
    np.testing.assert_allclose(star @ star, deviation @ np.linalg.solve(covariance, deviation), rtol=1e-11)  # whatever the root


def test_inverse_and_polar_are_the_symmetric_root(theophylline):
    population, simulations, _ = theophylline
    inverse, polar = (nlme.npde(population, simulations=simulations, decorrelation=how) for how in ("inverse", "polar"))
    np.testing.assert_allclose(inverse.frame["NPDE"], polar.frame["NPDE"], atol=1e-12)


def test_discrepancies_do_not_change_under_a_monotone_map_of_the_values(theophylline):
    population, simulations, _ = theophylline
    mapped = dataclasses.replace(population, subjects=tuple(dataclasses.replace(s, dv=np.exp(s.dv)) for s in population))
    other = simulations.assign(SIM=np.exp(simulations["SIM"]))
    before, after = nlme.npde(population, simulations=simulations), nlme.npde(mapped, simulations=other)
    np.testing.assert_array_equal(before.frame["PD"], after.frame["PD"])


def test_a_shift_and_a_scale_of_each_record_change_nothing(theophylline):
    population, simulations, _ = theophylline
    observed = np.concatenate([s.is_observation for s in population])
    values = simulations["SIM"].to_numpy().reshape(100, -1)[:, observed]
    scale = np.random.default_rng(1).uniform(0.5, 3.0, values.shape[1])
    dv = np.concatenate([s.dv for s in population])
    dv[observed] = scale * dv[observed] + 7.0
    pieces = np.split(dv, np.cumsum([len(s) for s in population])[:-1])
    moved = dataclasses.replace(
        population, subjects=tuple(dataclasses.replace(s, dv=v) for s, v in zip(population, pieces, strict=True))
    )
    a, b = nlme.npde(population, simulations=values), nlme.npde(moved, simulations=scale * values + 7.0)
    np.testing.assert_allclose(a.frame["NPDE"], b.frame["NPDE"], atol=1e-12)


def test_errors_of_data_from_the_model_are_standard_normal_and_uncorrelated():
    population = design(100)
    data = with_values(population, drawn(population, 1)[0])
    found = nlme.npde(data, simulations=drawn(population, 1000, seed=1))
    assert found.tests.loc["global", "NPDE"] > 0.01
    by_subject = found.frame["NPDE"].to_numpy().reshape(100, -1)
    raw = found.frame["NPD"].to_numpy().reshape(100, -1)
    off = ~np.eye(6, dtype=bool)
    assert abs(np.corrcoef(by_subject.T)[off].mean()) < 0.1 < np.corrcoef(raw.T)[off].mean()
    wrong = nlme.npde(data, simulations=drawn(population, 1000, seed=1, cl=0.26))
    assert wrong.tests.loc["global", "NPDE"] < 1e-3


def test_of_a_model_simulates_what_the_model_says():
    population = design(20)
    values = simulated(Decline(), population, 51, key=4)
    data = with_values(population, drawn(population, 1)[0])
    made, given = nlme.npde(Decline(), data, key=4, replicates=51), nlme.npde(data, simulations=values)
    np.testing.assert_array_equal(made.frame["NPDE"], given.frame["NPDE"])
    theirs, ours = drawn(population, 4000), values
    assert np.log(ours).mean() == pytest.approx(np.log(theirs).mean(), abs=0.05)  # drawn without the library
    assert np.log(ours).std() == pytest.approx(np.log(theirs).std(), rel=0.05)


@pytest.mark.parametrize("limit", [2.0, 4.0])
def test_values_below_the_limit_are_imputed_from_their_distribution(limit):
    population = design(150)
    y = drawn(population, 1)[0]
    cens = y < limit
    data = with_values(population, np.where(cens, limit, y), cens)
    values = drawn(population, 1000, seed=9)
    found = nlme.npde(data, key=3, simulations=values)
    of_times = found.frame["PD"].to_numpy().reshape(150, 6).T  # those of one subject are dependent
    assert min(stats.kstest(pd, "uniform").pvalue for pd in of_times) > 0.01 / 6
    assert found.tests.loc["global", "NPDE"] > 0.01
    below = (found.frame["CENS"] == 1).to_numpy()
    assert below.sum() == cens.sum() and (found.frame["PD"] <= np.maximum((values < limit).mean(axis=0), 5e-4))[below].all()
    omitted = nlme.npde(data, key=3, simulations=values, censored="omit")
    assert len(omitted.frame) == (~cens).sum() and "left out" in omitted.messages[0]
    np.testing.assert_array_equal(omitted.frame["PD"], found.frame["PD"][~below])
    np.testing.assert_array_equal(nlme.npde(data, key=3, simulations=values).frame["NPDE"], found.frame["NPDE"])
    with pytest.raises(nlme.DataError, match="need a key"):
        nlme.npde(data, simulations=values)


def test_a_value_known_to_an_interval_is_imputed_between_its_ends():
    population = design(40)
    y = drawn(population, 1)[0]
    cens = y < 3.0
    limited = with_values(population, np.where(cens, 3.0, y), cens)
    known = dataclasses.replace(
        limited, subjects=tuple(dataclasses.replace(s, limit=np.where(s.cens == 1, 1.0, np.nan)) for s in limited)
    )
    values = drawn(population, 500, seed=2)
    found = nlme.npde(known, key=1, simulations=values)
    low, high = (values < 1.0).mean(axis=0), (values < 3.0).mean(axis=0)
    pd = found.frame["PD"].to_numpy()
    assert ((pd >= np.maximum(low, 1e-3)) & (pd <= high))[cens].all()


def test_tests_against_scipy_and_known_moments():
    x = np.random.default_rng(4).normal(0.2, 1.1, 50)
    student, ranks, variance, shape, both = p_values(x)
    assert student == pytest.approx(stats.ttest_1samp(x, 0).pvalue) and ranks == pytest.approx(stats.wilcoxon(x).pvalue)
    chi = stats.chi2(49).cdf(49 * x.var(ddof=1))
    assert variance == pytest.approx(2 * min(chi, 1 - chi)) and shape == pytest.approx(stats.shapiro(x).pvalue)
    assert both == pytest.approx(min(1.0, 3 * min(student, variance, shape)))
    found = moments(x)
    assert found["skewness"] == pytest.approx(stats.skew(x)) and found["kurtosis"] == pytest.approx(stats.kurtosis(x))
    assert found["se of variance"] == pytest.approx(x.var(ddof=1) * np.sqrt(2 / 49))


def test_coverage_of_prediction_intervals():
    population = design(40)
    values = drawn(population, 500)
    data = with_values(population, values[0])
    found = nlme.npc(data, simulations=values[1:], intervals=(0, 50, 90))
    assert found.table.loc[50.0, "BELOW EXPECTED"] == pytest.approx(25.0, abs=0.5)
    assert found.table.loc[90.0, "ABOVE EXPECTED"] == pytest.approx(5.0, abs=0.3)
    assert not found.outside
    for options in ({"intervals": "a"}, {"intervals": [100]}, {"level": "a"}):
        with pytest.raises(nlme.DataError, match="percentages from 0|between 0 and 1"):
            nlme.npc(data, simulations=values[1:], **options)
    high = nlme.npc(with_values(population, 1.5 * values[0]), simulations=values[1:])
    assert any("above their 0 %" in sentence for sentence in high.outside)
    low, up = np.quantile(values[1:], [0.25, 0.75], axis=0)
    assert found.table.loc[50.0, "BELOW"] == pytest.approx(100 * (values[0] < low).mean())
    assert found.table.loc[50.0, "ABOVE"] == pytest.approx(100 * (values[0] > up).mean())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (dict(key=None), "need a key"),
        (dict(decorrelation="eigen"), "'cholesky', 'inverse', 'polar'"),
        (dict(censored="loq"), "'cdf', 'omit'"),
        (dict(endpoint="cnc"), "Did you mean 'conc'"),
        (dict(simulations=np.random.default_rng(0).normal(size=(5, 24))), "6 observations and there are 5 replicates"),
        (dict(replicates=1), "from 2 on"),
        (dict(simulations=np.ones((10, 3))), "an array .replicates, 24 observations"),
        (dict(simulations=np.full((10, 24), np.nan)), "must be a finite number"),
        (dict(simulations=pd.DataFrame({"REP": [1, 2], "VALUE": [1.0, 2.0]})), "one of values .DV, SIM, YSIM."),
        (dict(simulations=pd.DataFrame({"REP": [1, 2], "DV": [1.0, 2.0]})), "every observation .24."),
        (
            dict(simulations=pd.DataFrame({"REP": np.repeat([1, 2], 24), "ID": np.tile(np.arange(24), 2), "DV": 1.0})),
            "the row of observation 1 has ID 0, and the data 1",
        ),
        (dict(simulations=np.random.default_rng(0).normal(size=(50, 4)) @ np.ones((4, 24))), "singular"),
        (dict(lloq="loq"), "No column named 'loq'"),
    ],
)
def test_what_cannot_be_judged_is_said(options, says):
    with pytest.raises(nlme.NLMEError, match=says):
        nlme.npde(Decline(), design(4), **{"key": 1, "replicates": 20, **options})


def test_categories_are_sent_to_the_visual_check():
    with pytest.raises(nlme.ModelError, match="ordered categories 0 to 2. Use nlme.vpc"):
        nlme.npde(Answers(), design(3, endpoint="grade"), key=1, replicates=20, endpoint="grade")
    with pytest.raises(nlme.DataError, match="against nothing|nothing to be checked against"):
        nlme.npde(design(3), key=1)


def test_a_record_that_the_model_is_certain_of_is_left_out_and_said():
    population = design(3)
    values = drawn(population, 40)
    values[:, 4] = 0.0
    found = nlme.npde(population, simulations=values)
    assert len(found.frame) == 17 and "subject 1, time 8" in found.messages[0]
