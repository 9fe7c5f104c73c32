"""Virtual populations: their distributions, rows of a table, copulas; and regimens one after another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import nlme
from nlme import distributions as d

N = 20_000


@pytest.mark.parametrize(
    ("distribution", "exact"),
    [
        (d.normal(70, 10), stats.norm(70, 10)),
        (d.normal(70, 10, limits=(60, 75)), stats.truncnorm(-1.0, 0.5, 70, 10)),
        (d.lognormal(70, cv=0.3), stats.lognorm(np.sqrt(np.log1p(0.09)), scale=70)),
        (d.lognormal(70, sd=0.5), stats.lognorm(0.5, scale=70)),
        (d.uniform(18, 65), stats.uniform(18, 47)),
    ],
)
def test_distributions_are_those_they_are_named_after(distribution, exact):
    import jax

    drawn = distribution.draw(jax.random.key(3), N)
    assert stats.kstest(drawn, exact.cdf).pvalue > 1e-3


def test_a_cut_lognormal_has_the_density_within_its_limits():
    import jax

    drawn = d.lognormal(70, cv=0.3, limits=(40, 90)).draw(jax.random.key(1), N)
    whole = stats.lognorm(np.sqrt(np.log1p(0.09)), scale=70)
    cdf = lambda x: (whole.cdf(x) - whole.cdf(40)) / (whole.cdf(90) - whole.cdf(40))  # noqa: E731
    assert drawn.min() >= 40 and drawn.max() <= 90 and stats.kstest(drawn, cdf).pvalue > 1e-3


def test_people_have_their_own_ids_covariates_units_and_categories_and_no_records():
    covariates = {
        "wt": d.lognormal(70, cv=0.2, limits=(40, 120), unit="kg"),
        "ht": lambda c: 100 + c["wt"],
        "sex": d.categorical({"female": 0.75, "male": 0.25}),
        "age": 40,
    }
    people = nlme.virtual(400, covariates, key=1)
    assert people.ids == tuple(range(1, 401)) and people.n_records == 0
    assert people.covariates["wt"].unit == "kg" and people.covariates["sex"].categories == ("female", "male")
    wt, ht, sex, age = (np.array([s.history.covariates[name][0] for s in people]) for name in covariates)
    assert np.array_equal(ht, 100 + wt) and set(age) == {40.0} and abs(sex.mean() - 0.25) < 4 * np.sqrt(0.1875 / 400)
    assert "covariate wt" in repr(people) and "kg" in repr(people) and "female" in repr(people)
    design = people.with_doses(nlme.dose(lambda s: 5 * s.history.covariates["wt"][0])).with_times([0, 12.0])
    assert np.allclose([s.amt[0] for s in design], 5 * wt) and np.allclose([s.covariates["wt"][2] for s in design], wt)
    assert nlme.virtual(400, covariates, key=1) == people and nlme.virtual(400, covariates, key=2) != people


def test_a_numpyro_distribution_is_one_too():
    import numpyro.distributions as dist

    people = nlme.virtual(N // 10, {"age": dist.Uniform(20.0, 30.0)}, key=1)
    ages = np.array([s.history.covariates["age"][0] for s in people])
    assert stats.kstest(ages, stats.uniform(20, 10).cdf).pvalue > 1e-3


def table(n: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(5)
    z = random.multivariate_normal([0, 0, 0], [[1, 0.7, 0.5], [0.7, 1, 0.3], [0.5, 0.3, 1]], n)
    sex = np.where(z[:, 2] > 0.4, "male", "female")
    return pd.DataFrame({"ID": np.arange(n), "wt": 70 * np.exp(0.2 * z[:, 0]), "crcl": 90 + 20 * z[:, 1], "sex": sex})


def test_rows_of_a_table_stay_whole():
    like = table(20)
    people = nlme.virtual(100, like=like, key=2)
    rows = {(w, c, s) for w, c, s in zip(like["wt"], like["crcl"], like["sex"] == "male", strict=True)}
    seen = {tuple(float(s.history.covariates[k][0]) for k in ("wt", "crcl", "sex")) for s in people}
    assert seen <= {(w, c, float(s)) for w, c, s in rows} and len(seen) > 15
    assert people.covariates["sex"].categories == ("female", "male") and "ID" not in people.covariates


def test_rows_of_a_population_keep_what_changes_in_time():
    rows = [{"ID": i, "TIME": t, "DV": 1.0, "crcl": 50.0 * i + t} for i in (1, 2) for t in (0.0, 5.0)]
    data = nlme.read_nonmem(pd.DataFrame(rows), covariates={"crcl": "mL/min"}, time_varying=["crcl"])
    people = nlme.virtual(8, like=data, key=1)
    assert people.covariates["crcl"].unit == "mL/min" and not people.covariates["crcl"].constant
    design = people.with_times([0.0, 5.0])
    assert {tuple(s.covariates["crcl"]) for s in design} == {(50.0, 55.0), (100.0, 105.0)}


def test_a_copula_has_the_margins_and_the_correlations_of_its_table():
    like = table(3000)
    people = nlme.virtual(6000, like=like, how="copula", key=2)
    new = pd.DataFrame({k: [s.history.covariates[k][0] for s in people] for k in people.covariates})
    old = like.assign(sex=(like["sex"] == "male").astype(float))
    for name in ("wt", "crcl"):
        assert stats.ks_2samp(new[name], old[name]).pvalue > 1e-3
        assert new[name].min() >= old[name].min() and new[name].max() <= old[name].max()
    assert abs(new["sex"].mean() - old["sex"].mean()) < 0.03
    difference = new.corr("spearman") - old[new.columns].corr("spearman")
    assert np.abs(difference.to_numpy()).max() < 0.05
    assert new["wt"].nunique() > 5000  # new values, not rows


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: nlme.virtual(0, {"wt": 1.0}, key=1), "whole number"),
        (lambda: nlme.virtual(2, {"wt": [1.0, 2.0, 3.0]}, key=1), "one number for each of 2"),
        (lambda: nlme.virtual(2, {"wt": "heavy"}, key=1), "categorical"),
        (lambda: nlme.virtual(2, {"wt": [1.0, np.nan]}, key=1), "nan for person 2"),
        (lambda: nlme.virtual(2, ["wt"], key=1), "names with distributions"),
        (lambda: nlme.virtual(2, ["wtt"], like=table(5), key=1), "Did you mean 'wt'"),
        (lambda: nlme.virtual(2, {"wt": 1.0}, like=table(5), key=1), "both in like"),
        (lambda: nlme.virtual(2, like=table(5).assign(wt=np.nan), key=1), "missing in row 1"),
        (lambda: nlme.virtual(2, like=pd.concat([table(5), table(5)]), key=1), "several rows of ID 0"),
        (lambda: nlme.virtual(2, like=table(5), how="spline", key=1), "'rows' or 'copula'"),
        (lambda: d.lognormal(70), "one of cv="),
        (lambda: d.lognormal(-70, cv=0.2), "positive"),
        (lambda: d.normal(70, 10, limits=(90, 60)), "below the upper"),
        (lambda: d.normal(0, 1, limits=(50, 60)), "none of the distribution"),
        (lambda: d.categorical({"a": 0.5, "b": 0.6}), "sum to 1"),
        (lambda: d.uniform(2, 1), "below the second"),
    ],
)
def test_what_is_no_population_is_said(call, says):
    with pytest.raises(nlme.DataError, match=says):
        call()


def test_one_regimen_after_another():
    def records(regimen):
        made = regimen.records(None)
        return [
            (t + k * ii, a)
            for t, a, ii, n in zip(made["time"], made["amt"], made["ii"], made["addl"], strict=True)
            for k in range(n + 1)
        ]

    loading = nlme.dose(400).then(nlme.dose(100).every(12, n=3), gap=12)
    assert records(loading) == [(0, 400), (12, 100), (24, 100), (36, 100)]
    holiday = nlme.dose(100).every(24, n=2).then(nlme.dose(50).every(24, n=2), gap=48)
    assert records(holiday) == [(0, 100), (24, 100), (96, 50), (120, 50)]
    on = nlme.dose(100).every(24, n=2).then(nlme.dose(50).every(24, n=2)).then(nlme.dose(25))
    assert records(on) == [(0, 100), (24, 100), (48, 50), (72, 50), (96, 25)]
    with pytest.raises(nlme.DataError, match="no interval"):
        nlme.dose(400).then(nlme.dose(100))
    with pytest.raises(nlme.DataError, match="takes the regimen"):
        nlme.dose(400).then(100, gap=2)
