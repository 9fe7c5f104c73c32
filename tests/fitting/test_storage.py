"""A saved fit opens elsewhere with every number it had, and nothing in it is executed."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import nlme
from nlme import datasets
from nlme.fitting.storage import _population_in, _population_out
from nlme.models.theophylline import Theophylline


@pytest.fixture(scope="module")
def fit():
    found = nlme.fit(Theophylline(), datasets.load("theophylline"), nlme.FOCEI(), progress=False)
    assert found.covariance.kind == "sandwich"
    return found


@pytest.fixture(scope="module")
def path(fit, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "theophylline.nlme"
    fit.save(path)
    return path


def test_everything_comes_back(fit, path):
    again = nlme.load(path)
    assert again.population == fit.population and again.population.hash == fit.data_hash
    assert again.objective == fit.objective and again.verdict == fit.verdict and again.fixed == fit.fixed
    assert again.eta.equals(fit.eta) and again.history.equals(fit.history)
    assert np.allclose(again.covariance.matrix, fit.covariance.matrix, rtol=1e-12)
    assert np.allclose(again.predictions["CWRES"], fit.predictions["CWRES"], rtol=1e-9, atol=1e-12)
    assert repr(again.method) == repr(fit.method) and again.versions == fit.versions


def test_it_opens_in_another_process(fit, path):
    code = "import sys, nlme; f = nlme.load(sys.argv[1]); print(repr(f.objective))"
    out = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert float(out.stdout) == fit.objective


def test_the_file_holds_no_pickle_and_no_path(path):
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == ["arrays.npz", "fit.json", "model.py"]
        text = archive.read("fit.json").decode()
    assert str(path.parent) not in text


def test_a_class_that_cannot_be_imported_is_asked_for(fit, tmp_path):
    Local = type("Local", (Theophylline,), {})
    local = nlme.fit(Local(), fit.population, nlme.FOCEI(), progress=False)
    local.save(tmp_path / "local.nlme")
    with pytest.raises(nlme.ModelError, match="model=Local"):
        nlme.load(tmp_path / "local.nlme")
    assert nlme.load(tmp_path / "local.nlme", model=Local).objective == local.objective


def test_other_parameters_than_saved_are_refused(path):
    from nlme.models.quinidine import Quinidine

    with pytest.raises(nlme.ModelError, match="other parameters"):
        nlme.load(path, model=Quinidine)


@pytest.mark.parametrize("content", [b"", b"not a zip file at all"])
def test_what_is_no_fit_is_refused(tmp_path, content):
    (tmp_path / "x.nlme").write_bytes(content)
    with pytest.raises(nlme.FitError, match="not a fit saved by nlme"):
        nlme.load(tmp_path / "x.nlme")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(nlme.FitError, match="no file"):
        nlme.load(tmp_path / "absent.nlme")


@pytest.mark.parametrize("name", ["quinidine", "remifentanil"])
def test_populations_with_categories_and_names_come_back(name):
    population = datasets.load(name)
    again = _population_in(*_population_out(population))
    assert again == population and again.hash == population.hash


def test_models_fits_and_populations_pickle(fit):
    again = pickle.loads(pickle.dumps(fit))
    assert again.objective == fit.objective and again.population == fit.population
    assert float(pickle.loads(pickle.dumps(fit.model)).ka) == float(fit.model.ka)
