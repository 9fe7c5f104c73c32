"""Predictions and simulations: the same numbers as the likelihood uses, the same people under another dosing."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme import datasets
from nlme.models.quinidine import Quinidine
from nlme.models.theophylline import Theophylline
from nlme.simulation import records

OBSERVED = np.arange(12) > 0  # records of a subject of theophylline: the dose comes first


@pytest.fixture(scope="module")
def evaluated():
    return nlme.evaluate(Theophylline(), datasets.load("theophylline"), nlme.FOCEI())


def test_prediction_at_the_modes_is_the_ipred_of_the_likelihood(evaluated):
    frame = nlme.predict(evaluated)
    observed = frame[frame["EVID"] == 0]
    assert np.allclose(observed["conc"], evaluated.predictions["IPRED"], rtol=1e-12, atol=0)
    assert list(frame.columns) == ["ID", "TIME", "EVID", "depot", "central", "conc"]


def test_prediction_of_a_model_is_the_typical_subject(evaluated):
    frame = nlme.predict(evaluated.model, evaluated.population)
    assert np.allclose(frame.loc[frame["EVID"] == 0, "conc"], evaluated.predictions["PRED"], rtol=1e-12, atol=0)


@pytest.mark.slow
def test_the_typical_subject_of_a_fit_and_times_by_id(evaluated):
    typical = nlme.predict(evaluated, eta="typical")
    assert typical.equals(nlme.predict(evaluated.model, evaluated.population))
    ids = evaluated.population.ids
    by_number, by_text = (evaluated.population.with_times({kind(i): [1.0 * i] for i in ids}) for kind in (int, str))
    assert by_number == by_text  # as in population["17"]


def test_time_varying_covariates_and_steady_state_agree_with_the_likelihood():
    at = nlme.evaluate(Quinidine(), datasets.load("quinidine")[:20], nlme.FOCEI())
    frame = nlme.predict(at)
    assert np.allclose(frame.loc[frame["EVID"] == 0, "conc"], at.predictions["IPRED"], rtol=1e-10, atol=0)


def test_the_same_people_keep_their_own_effects_under_another_dosing(evaluated):
    doubled = evaluated.population.with_doses(nlme.dose(640, into="depot"))
    frame = nlme.simulate(evaluated, doubled, key=1, noise=False)
    ratio = frame["DV"].to_numpy()[1::11] / nlme.predict(evaluated).query("EVID == 0")["conc"].to_numpy()[1::11]
    given = np.array([s.amt[0] for s in evaluated.population])
    assert np.allclose(ratio, 640 / given, rtol=1e-10)  # linear kinetics
    assert np.allclose(frame.groupby("ID", sort=False)["eta.cl"].first(), evaluated.eta["cl"])


@pytest.mark.slow
def test_residual_noise_has_the_spread_of_the_error_model(evaluated):
    frame = nlme.simulate(evaluated, key=3, replicates=300)
    model = evaluated.model
    sd = np.sqrt(float(model.add) ** 2 + (float(model.prop) * frame["IPRED"]) ** 2)
    z = (frame["DV"] - frame["IPRED"]) / sd
    assert abs(z.mean()) < 4 / np.sqrt(len(z)) and abs(z.std() - 1) < 4 / np.sqrt(2 * len(z))


@pytest.mark.slow
def test_new_subjects_follow_omega_and_the_same_key_repeats(evaluated):
    one = nlme.simulate(evaluated, key=5, eta="new", replicates=200)
    drawn = one.groupby(["REPLICATE", "ID"])["eta.ka"].first()
    variance = float(np.asarray(evaluated.model.omega.matrix)[0, 0])
    assert abs(drawn.var() / variance - 1) < 5 * np.sqrt(2 / len(drawn))
    again = nlme.simulate(evaluated, key=5, eta="new", replicates=200)
    assert one.equals(again)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda at: nlme.simulate(at.model, at.population, key=1), "needs a fit"),
        (lambda at: nlme.simulate(at, key=1, eta="newest"), "'estimated', 'new', 'typical'"),
        (lambda at: nlme.simulate(at, key=1, replicates=0), "at least 1"),
        (lambda at: nlme.simulate(at, key=1, replicates=1.5), "at least 1; got 1.5"),
        (lambda at: nlme.simulate(at, key="a"), "key= is a seed"),
        (lambda at: nlme.simulate(at, key=None), "key= is a seed"),
        (lambda at: nlme.counterfactual(at, nlme.dose(1), times=[], key=1), "times= has none for subject"),
        (lambda at: nlme.counterfactual(at, nlme.dose(1), times=[1.0], key=1, draws="a"), "at least 2; got 'a'"),
        (lambda at: nlme.exposure(nlme.simulate(at, key=1), 5), "measures are names"),
        (lambda at: nlme.exposure(nlme.simulate(at, key=1), {"x": lambda t: 1}), "has to return one number"),
        (lambda at: nlme.exposure(nlme.simulate(at, key=1), [("time_above", "x")]), "level of the measure .* is a number"),
        (lambda at: nlme.Target.auc(0, 24, low="a", high=3), "low and high are numbers"),
        (lambda at: nlme.predict(at, eta=at.eta.iloc[:3]), "No random effects for subject"),
        (lambda at: nlme.predict(at, eta=at.eta.drop(columns="ka")), "no column ka"),
        (lambda at: nlme.predict(at, eta=np.zeros((2, 2))), "got an array of shape"),
        (lambda at: nlme.predict(at, eta=at.eta.iloc[[0, 1, 1, *range(2, len(at.eta))]]), "subject 2 has two rows"),
        (lambda at: nlme.predict(at, eta=at.eta.replace(at.eta.iloc[2, 1], np.nan)), "effect cl of subject 3 is nan"),
        (lambda at: nlme.predict(at, eta="typicall"), "or 'typical'; got str typicall"),
        (lambda at: nlme.predict(at, eta={"ka": [1.0]}), "a DataFrame of numbers indexed by ID.*got dict"),
        (lambda at: at.population.with_times({1: [1.0]}), "with_times: nothing is given for subject 2 and 10 more.* IDs 1"),
        (lambda at: at.population.with_times("noon"), "Subject 1: prediction times must be numbers from 0 on, got 'noon'"),
        (lambda at: nlme.forecast(at, at.population[:2], times={9: [1.0]}, key=1), "nothing is given for subject 1 and 1 more"),
    ],
)
def test_what_does_not_fit_is_said(evaluated, call, says):
    with pytest.raises((nlme.DataError, nlme.ModelError), match=says):
        call(evaluated)


def test_an_unsolvable_model_names_its_subjects(evaluated):
    class Explodes(Theophylline):
        def dynamics(self, ind):
            return nlme.ODE(lambda t, a: dict(depot=-ind.ka * a.depot, central=a.central**2 + 1.0), ("depot", "central"))

    with pytest.raises(nlme.FitError, match=r"could not be solved(.|\n)*subject 1: between times"):
        nlme.predict(Explodes(), evaluated.population[:2])


def test_a_simulated_frame_says_which_rows_are_observations_and_reads_back(evaluated):
    population = evaluated.population
    frame = nlme.simulate(evaluated, key=1)
    assert (frame["EVID"] == 0).all() and (frame["MDV"] == 0).all() and set(frame["DVID"]) == {"conc"}
    back = nlme.read_nonmem(frame)
    assert back.n_observations == population.n_observations and back.endpoints == ("conc",)
    np.testing.assert_array_equal(np.concatenate([s.dv for s in back]), frame["DV"])
    asked = nlme.simulate(evaluated, population.with_times([1.0, 2.0]), key=1)
    assert (asked["EVID"] == 2).all() and (asked["MDV"] == 1).all()


def test_records_to_predict_are_no_observations_of_any_endpoint(evaluated):
    class Two(Theophylline):
        def observe(self, ind, state, t):
            return super().observe(ind, state, t) | {"twice": nlme.additive(2 * state.central / ind.v, self.add)}

    rows = [(0, 100.0, 1, 0, np.nan), (1, 0, 0, 1, 3.0), (1, 0, 0, 2, 6.0), (2, 0, 2, 0, np.nan)]
    data = pd.DataFrame(rows, columns=["TIME", "AMT", "EVID", "DVID", "DV"]).assign(ID=1)
    population = nlme.read_nonmem(data, dvid={1: "conc", 2: "twice"})
    frame = nlme.simulate(Two(), population, key=1, eta="typical")
    assert frame[["TIME", "ENDPOINT", "DVID", "EVID", "MDV"]].values.tolist() == [
        [1.0, "conc", 1, 0, 0], [1.0, "twice", 2, 0, 0], [2.0, "conc", 1, 2, 1], [2.0, "twice", 2, 2, 1],
    ]  # fmt: skip
    whole = nlme.simulate(Two(), population, key=1, eta="typical", as_data=True)
    assert whole["EVID"].tolist() == [1, 0, 0, 2] and whole["DV"].iloc[1:3].tolist() == frame["DV"].iloc[:2].tolist()
    again = nlme.read_nonmem(whole.drop(columns="REPLICATE"))
    assert again.endpoints == ("conc", "twice") and again.n_observations == 2


def test_whole_data_sets_keep_every_record_and_can_be_fitted(evaluated):
    population = evaluated.population
    whole = nlme.simulate(evaluated, key=7, replicates=3, eta="new", as_data=True)
    assert whole["REPLICATE"].tolist() == np.repeat([1, 2, 3], population.n_records).tolist()
    long = nlme.simulate(evaluated, key=7, replicates=3, eta="new")
    for replicate in (1, 3):
        one = nlme.read_nonmem(whole[whole["REPLICATE"] == replicate].drop(columns="REPLICATE"))
        assert [s.amt.tolist() for s in one] == [
            s.amt.tolist() for s in population
        ] and one.covariates.keys() == population.covariates.keys()
        values = np.concatenate([s.dv[s.is_observation] for s in one])
        np.testing.assert_array_equal(values, long.loc[long["REPLICATE"] == replicate, "DV"])


def test_a_design_without_observations_becomes_data(evaluated):
    """Each record to predict is an observation of every endpoint, and the table reads as data of them."""

    class Two(Theophylline):
        def observe(self, ind, state, t):
            return super().observe(ind, state, t) | {"twice": nlme.additive(2 * state.central / ind.v, self.add)}

    design = nlme.virtual(3, key=1).with_doses(nlme.dose(100)).with_times([1.0, 2.0])
    for model, names in ((Theophylline(), ["conc"]), (Two(), ["conc", "twice"])):
        asked = nlme.simulate(model, design, key=1, eta="new", replicates=2)
        whole = nlme.simulate(model, design, key=1, eta="new", replicates=2, as_data=True)
        observed = whole["EVID"] == 0
        assert (~observed).sum() == 2 * 3 and (whole.loc[~observed, "AMT"] == 100).all()
        assert whole.loc[observed, "DV"].tolist() == asked["DV"].tolist() and (whole.loc[observed, "MDV"] == 0).all()
        assert whole.loc[observed, "TIME"].tolist() == asked["TIME"].tolist()
        read = nlme.read_nonmem(whole[whole["REPLICATE"] == 2].drop(columns="REPLICATE"))
        assert read.n_observations == 6 * len(names) and (len(names) == 1 or read.endpoints == tuple(names))
        assert np.isfinite(nlme.evaluate(model, read, nlme.FO()).objective)


def test_data_sets_of_people_whose_course_has_rows_of_its_own():
    """A covariate that changes at records that went is told by rows of the table that are no records of the population."""
    rows = [(0, 100.0, 1, 70.0, np.nan), (1, 0, 0, 70.0, 3.0), (2, 0, 0, 80.0, 2.0), (3, 0, 0, 90.0, 1.0)]
    data = nlme.read_nonmem(
        pd.DataFrame(rows, columns=["TIME", "AMT", "EVID", "WT", "DV"]).assign(ID=1), covariates=["wt"], time_varying=["wt"]
    )
    other = data.with_times([0.5, 1.5])
    assert len(other.to_frame()) > other.n_records
    whole = nlme.simulate(Theophylline(), other, key=1, eta="typical", as_data=True)
    again = nlme.read_nonmem(whole.drop(columns="REPLICATE"))
    values = nlme.simulate(Theophylline(), other, key=1, eta="typical")["DV"].tolist()
    (subject,) = again
    assert subject.time[subject.is_observation].tolist() == [0.5, 1.5] and subject.dv[subject.is_observation].tolist() == values
    assert np.unique(subject.history.covariates["wt"]).tolist() == [70.0, 80.0, 90.0]


@pytest.mark.parametrize("how", [{"eta": "new"}, {"eta": "typical"}, {"eta": "new", "noise": False}])
def test_replicates_do_not_depend_on_how_many_are_worked_off_at_once(evaluated, monkeypatch, how):
    together = nlme.simulate(evaluated, key=11, replicates=5, **how)
    first = nlme.simulate(evaluated, key=11, replicates=1, **how)
    assert first.equals(together[together["REPLICATE"] == 1])
    monkeypatch.setattr(records, "_NUMBERS", 1)
    apart = nlme.simulate(evaluated, key=11, replicates=5, **how)
    pd.testing.assert_frame_equal(apart, together, rtol=1e-13, atol=0)


@pytest.mark.slow
def test_the_draws_of_a_key_stay_what_they_were(evaluated):
    """One key for each replicate's effects, one for its errors, split by endpoint, subject and record."""
    frame = nlme.simulate(evaluated, key=1, eta="new", replicates=2)
    key, eta, dv = jax.random.key(1), [], []
    for _ in range(2):
        key, draw, error = jax.random.split(key, 3)
        eta.append(np.asarray(jax.random.normal(draw, (12, 3))) @ np.asarray(evaluated.model.omega.cholesky).T)
        _, own = jax.random.split(error)
        seconds = [jax.random.split(subject)[0] for subject in jax.random.split(own, 12)]
        dv.append([np.asarray(jax.random.normal(first, (12,))) for first in seconds])
    drawn = frame.groupby(["REPLICATE", "ID"])[["eta.ka", "eta.cl", "eta.v"]].first().to_numpy()
    np.testing.assert_allclose(drawn, np.concatenate(eta), rtol=1e-12)
    sd = np.sqrt(float(evaluated.model.add) ** 2 + (float(evaluated.model.prop) * frame["IPRED"]) ** 2)
    np.testing.assert_allclose(
        (frame["DV"] - frame["IPRED"]) / sd, np.concatenate(np.concatenate(dv))[np.tile(OBSERVED, 24)], atol=1e-9
    )


def test_subjects_whose_values_are_left_out_are_a_design(evaluated):
    """They are simulated and predicted like the same with values, and have no likelihood."""
    few = evaluated.population[:2]
    design = nlme.Population(tuple(dataclasses.replace(s, dv=None) for s in few), few.endpoints, few.covariates)
    drawn = [nlme.simulate(evaluated.model, p, key=3, eta="new") for p in (few, design)]
    assert drawn[0].equals(drawn[1])
    with pytest.raises(nlme.DataError, match="Subject 1, record 2 .*an observation without a value"):
        nlme.evaluate(evaluated.model, design)


def test_neither_random_effects_nor_states_are_needed():
    class Line(nlme.Model):
        slope: nlme.Scalar = nlme.real(2.0)
        sd: nlme.Scalar = nlme.positive(0.1)

        def individual(self, eta, cov):
            return dict(slope=self.slope)

        def observe(self, ind, state, t):
            return {"y": nlme.additive(ind.slope * t, self.sd)}

    population = nlme.read_nonmem(pd.DataFrame({"ID": [1, 1, 2], "TIME": [1.0, 2.0, 3.0], "DV": [2.0, 4.0, 6.0]}))
    for eta in ("new", "typical"):
        frame = nlme.simulate(Line(), population, key=1, eta=eta, replicates=2)
        assert frame["IPRED"].tolist() == [2.0, 4.0, 6.0] * 2 and frame["DV"].nunique() == 6
    assert nlme.predict(Line(), population)["y"].tolist() == [2.0, 4.0, 6.0]
