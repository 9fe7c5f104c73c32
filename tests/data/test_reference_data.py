"""Data files of other tools' published cases are read without complaint (skipped where the collection is not at hand)."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import nlme
from nlme.data import read_nonmem

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"
SIMULATED = {"rename": {"CP_NONMEM": "DV"}}

# folder, file, arguments, subjects, observations
CASES = [
    ("binary_toenail_glmm", "data.csv", {"covariates": ["trt"]}, 294, 1908),
    ("blq_m3_nonmem", "data.csv", {}, 100, 500),
    ("deep_idr", "few.csv", {}, 22, 550),
    ("deep_idr", "prognostic.csv", {"covariates": ["R_eq", "c1", "c2", "c3", "c4", "c5", "c6"]}, 1020, 13260),
    ("dosing_events_nonmem", "data.csv", {**SIMULATED, "covariates": ["BIOAV", "LAGT"], "time_varying": ["BIOAV"]}, 18, 2358),
    ("eleveld_propofol", "data.csv", {"covariates": {"age": "years", "wgt": "kg"}, "allow": "duplicated record"}, 1033, 15433),
    ("infusion_covariates_multimethod", "data.csv", {"covariates": ["wt", "age", "sex"]}, 60, 240),
    ("iov_warfarin_nonmem", "data.csv", {}, 10, 220),
    ("lmm_sleepstudy_lme4", "data.csv", {}, 18, 180),
    ("nca_theophylline_winnonlin", "data.csv", {"rename": {"CONC": "DV"}}, 12, 132),
    ("npde_theophylline", "data.csv", {}, 12, 120),
    ("phenobarbital_nonmem", "data.csv", {"covariates": {"wgt": "kg", "apgr": None}}, 59, 155),
    ("theophylline_control5_fo", "data.csv", {"covariates": ["wt"]}, 12, 132),
    ("theophylline_nonmem", "data.csv", {"covariates": {"wt": "kg", "dose": "mg"}}, 12, 132),
    ("timevarying_covariate_nonmem", "data.csv", {**SIMULATED, "covariates": ["wt"], "time_varying": ["wt"]}, 1, 33),
    ("tte_weibull_nonmem", "data.csv", {}, 100, 100),
    ("wang2007_objective_functions", "data.csv", {}, 10, 20),
    ("warfarin_pkpd_turnover", "data.csv", {"dvid": {1: "conc", 2: "pca"}}, 32, 483),
]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference collection is not beside the repository")
@pytest.mark.parametrize(
    ("folder", "file", "arguments", "subjects", "observations"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES]
)
def test_reference_data_are_read(folder, file, arguments, subjects, observations):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # replicates and the like: allowed, and not what is tested here
        population = read_nonmem(REFERENCE / folder / file, **arguments)
        assert (len(population), population.n_observations) == (subjects, observations)
        again = read_nonmem(population.to_frame(), allow=arguments.get("allow", ()))
    assert again == population
    assert again.hash == population.hash


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference collection is not beside the repository")
def test_phenobarbital_agrees_with_the_nonmem_example():
    ours = nlme.datasets.load("phenobarbital")
    theirs = read_nonmem(REFERENCE / "phenobarbital_nonmem" / "data.csv", covariates={"wgt": "kg", "apgr": None})
    for a, b in zip(ours, theirs, strict=True):
        assert np.array_equal(a.time, b.time)
        assert np.array_equal(a.amt, b.amt)
        assert np.array_equal(a.dv, b.dv, equal_nan=True)
        assert np.array_equal(a.covariates["wt"], b.covariates["wgt"])
        assert np.array_equal(a.covariates["apgar"], b.covariates["apgr"])
