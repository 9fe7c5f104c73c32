"""Predictions and simulations: the same numbers as the likelihood uses, the same people under another dosing."""

import numpy as np
import pytest

import nlme
from nlme import datasets
from nlme.models.quinidine import Quinidine
from nlme.models.theophylline import Theophylline


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
        (lambda at: nlme.predict(at, eta=at.eta.iloc[:3]), "No random effects for subject"),
        (lambda at: nlme.predict(at, eta=at.eta.drop(columns="ka")), "no column ka"),
        (lambda at: nlme.predict(at, eta=np.zeros((2, 2))), "got an array of shape"),
    ],
)
def test_what_does_not_fit_is_said(evaluated, call, says):
    with pytest.raises(nlme.DataError, match=says):
        call(evaluated)


def test_an_unsolvable_model_names_its_subjects(evaluated):
    class Explodes(Theophylline):
        def dynamics(self, ind):
            return nlme.ODE(lambda t, a: dict(depot=-ind.ka * a.depot, central=a.central**2 + 1.0), ("depot", "central"))

    with pytest.raises(nlme.FitError, match=r"could not be solved(.|\n)*subject 1: between times"):
        nlme.predict(Explodes(), evaluated.population[:2])
