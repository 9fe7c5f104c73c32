"""Models with covariates are of classes that the library makes: they pickle, and their text is the model that a saved fit is opened with."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from levels_by_covariates import Level, data

import nlme
from nlme.errors import FitError, ModelError
from nlme.fitting import archive
from nlme.fitting.storage import FORMAT, VERSION
from nlme.language.files import class_in
from nlme.language.relations import source_with
from nlme.parameters.inventory import Inventory
from nlme.selection.candidates import candidates_of, extended

CANDIDATES = {"level": {"wt": "power", "arm": None}, "slope": {"wt": "hockey-stick", "sex": None}}


@pytest.fixture(scope="module")
def base():
    return nlme.fit(Level(), data(), progress=False)


@pytest.fixture(scope="module")
def scm(base):
    return nlme.scm(base, {"level": {"wt": "power", "arm": None}}, progress=False)


@pytest.fixture(scope="module")
def frem(base):
    return nlme.frem(base, ["wt", "arm"], progress=False)


@pytest.fixture(scope="module")
def lasso(base):
    return nlme.lasso(base, {"level": ["wt"]}, strengths=3, folds=2, progress=False)


def _elsewhere(code: str, *arguments) -> list[str]:
    """What a session of its own prints, in which a warning is an error."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths}
    ).stdout.split()


OPENS = """
import sys, nlme
fit = nlme.load(sys.argv[1], model=sys.argv[2])
print(type(fit.model).__name__, repr(fit.objective), repr(float(fit.predictions["IPRED"].sum())))
"""


@pytest.mark.parametrize(
    "name", [pytest.param("scm", marks=pytest.mark.slow), "frem", pytest.param("lasso", marks=pytest.mark.slow)]
)
def test_a_saved_fit_opens_by_the_text_of_the_result(name, request, tmp_path):
    """In a session that knows neither the result nor the base model, without a warning, whether or not the class is named."""
    found = request.getfixturevalue(name)
    found.fit.save(tmp_path / "x.nlme")
    (tmp_path / "model.py").write_text(found.source)
    with pytest.raises(ModelError, match=r"model='model.py:LevelWithCovariates': found.source, or model.py in the saved fit"):
        nlme.load(tmp_path / "x.nlme")
    kind, objective, predictions = _elsewhere(OPENS, tmp_path / "x.nlme", tmp_path / "model.py")
    assert kind == "LevelWithCovariates" and float(objective) == found.fit.objective
    assert float(predictions) == pytest.approx(float(found.fit.predictions["IPRED"].sum()), rel=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nlme.load(tmp_path / "x.nlme", model=found.model).objective == found.fit.objective
        (tmp_path / "saved.py").write_text(archive.read(tmp_path / "x.nlme", FORMAT, VERSION)[2])
        assert nlme.load(tmp_path / "x.nlme", model=tmp_path / "saved.py").objective == found.fit.objective


def test_a_text_that_is_another_model_is_said(frem, tmp_path):
    frem.fit.save(tmp_path / "x.nlme")
    other = tmp_path / "other_model.py"
    other.write_text(frem.source.replace("self.wt_on_eta_level *", "0.0 * self.wt_on_eta_level *"))
    with pytest.warns(UserWarning, match="another model: its objective at the estimates is .*, the fit's"):
        nlme.load(tmp_path / "x.nlme", model=other)
    other.write_text(frem.source.replace("cov.wt", "1.0 * cov.wt"))
    with pytest.warns(UserWarning, match="has another text and at the estimates the same objective"):
        nlme.load(tmp_path / "x.nlme", model=other)


UNPICKLED = """
import pickle, sys
found = pickle.load(open(sys.argv[1], "rb"))
print(repr(found.fit.objective), repr(float(found.fit.predictions["IPRED"].sum())), type(found.model) is type(found.fit.model))
"""


@pytest.mark.parametrize("name", ["scm", "frem", pytest.param("lasso", marks=pytest.mark.slow)])
def test_a_result_pickles(name, request, tmp_path):
    found = request.getfixturevalue(name)
    assert found.fit.objective  # fitted here, so that the other session does not
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(found))
    objective, predictions, one = _elsewhere(UNPICKLED, tmp_path / "x.pickle")
    assert float(objective) == found.fit.objective and one == "True"
    assert float(predictions) == pytest.approx(float(found.fit.predictions["IPRED"].sum()), rel=1e-12)
    assert type(pickle.loads(pickle.dumps(found.model))) is type(found.model)


class Set(nlme.Model):
    """A model with a setting, and a random effect between two that are correlated."""

    level: nlme.Scalar = nlme.positive(2.0)
    slope: nlme.Scalar = nlme.positive(0.5)
    omega: nlme.Covariance = nlme.covariance(level=0.05, other=0.01, slope=0.02)
    sd: nlme.Scalar = nlme.positive(0.2)
    power: int = 1
    curve: Callable = eqx.field(static=True, default=jnp.exp)

    def individual(self, eta, cov):
        return dict(level=self.level * self.curve(eta.level + eta.other), slope=self.slope * jnp.exp(eta.slope))

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.level + ind.slope * t**self.power, self.sd)}


def test_every_shape_and_setting_is_in_the_text():
    """Two searches, one after the other, of a model that was called with a value: the text makes the same model."""
    base = nlme.evaluate(Set(power=2), data(), nlme.FO())
    for candidates in (CANDIDATES, {"level": {"age": "linear", "sex": None}, "slope": {"age": "exponential"}}):
        model = extended(base.model, candidates_of(base, candidates), base.population)
        coefficients = {name: 0.001 * (k + 1) for k, name in enumerate(n for r in model.relations for n in r.coefficients)}
        model = Inventory(model).with_values(model, coefficients)
        base = nlme.evaluate(model, base.population, nlme.FO())
    text = source_with(base.model)
    again = class_in(text, "model")
    assert type(again).__name__ == "SetWithCovariates" and again.power == 2
    assert len(model.relations) == 7 and nlme.evaluate(again, base.population, nlme.FO()).objective == pytest.approx(
        base.objective, rel=1e-12
    )


@pytest.mark.slow
def test_correlated_effects_that_others_stand_between(tmp_path):
    rng, rows = np.random.default_rng(5), []
    for i in range(30):
        wt = rng.normal(70, 12)
        level, slope = 2.0 * np.exp(0.01 * (wt - 70) + 0.2 * rng.normal()), 0.5 * np.exp(0.15 * rng.normal())
        rows += [{"ID": i, "TIME": t, "DV": level + slope * t + 0.15 * rng.normal(), "wt": wt} for t in (0.0, 1.0, 2.0, 4.0)]
    population = nlme.read_nonmem(pd.DataFrame(rows), covariates=["wt"])
    base = nlme.fit(Set(), population, fixed=["omega.other"], progress=False)
    found = nlme.frem(base, ["wt"], effects=["level", "slope"], progress=False)
    assert found.model.omega.names == ("level", "slope", "other") and found.model.omega.blocks == ((0, 1), (2,))
    again = class_in(found.source, "model")
    assert nlme.evaluate(again, population).objective == pytest.approx(found.fit.objective, abs=1e-6)


def test_a_text_that_cannot_be_written_is_not_promised(tmp_path):
    """A function of the user's own that the model was called with is in no text."""
    base = nlme.evaluate(Set(curve=lambda x: jnp.exp(x)), data(), nlme.FO())
    model = extended(base.model, candidates_of(base, {"level": ["wt"]}), base.population)
    fit = nlme.fit(model, data(), nlme.FO(), progress=False, max_evaluations=2)
    fit.save(tmp_path / "x.nlme")
    with pytest.raises(ModelError) as said:
        nlme.load(tmp_path / "x.nlme")
    assert "model=found.model" in str(said.value) and "source" not in str(said.value) and "model.py" not in str(said.value)
    assert nlme.load(tmp_path / "x.nlme", model=model).objective == fit.objective


SEARCHES = {
    "nlme.scm": lambda fit: nlme.scm(fit, {"level": ["wt"]}, progress=False),
    "nlme.lasso": lambda fit: nlme.lasso(fit, {"level": ["wt"]}, progress=False),
    "nlme.frem": lambda fit: nlme.frem(fit, ["wt"], progress=False),
}


@pytest.fixture(scope="module")
def penalised():
    import numpyro.distributions as dist

    return {
        "has priors on level": nlme.fit(Level(), data(), priors={"level": dist.LogNormal(0.5, 0.05)}, progress=False),
        "was penalised": nlme.fit(Level(), data(), penalty=lambda model: 100.0 * (model.level - 1.5) ** 2, progress=False),
    }


@pytest.mark.parametrize("who", SEARCHES)
@pytest.mark.parametrize("why", ["has priors on level", "was penalised"])
def test_a_fit_with_priors_or_a_penalty_is_no_base(penalised, who, why):
    """Fits of the models with covariates would be without; their objectives say nothing beside that of the base."""
    with pytest.raises(FitError, match=rf"^{who}: the fit {why} .*Begin from a fit without"):
        SEARCHES[who](penalised[why])
