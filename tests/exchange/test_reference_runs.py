"""The reference cases imported from control streams: NONMEM's objectives at its estimates, and its predictions."""

from __future__ import annotations

import numpy as np
import pytest
from nonmem_runs import (
    BLQ,
    CONTROL5,
    DOSING,
    INFUSION,
    IOV,
    IOV_WEIGHTED,
    PHENOBARBITAL,
    THEOPHYLLINE,
    VARYING,
    WANG,
    WEIBULL,
    write_run,
)
from reference import case

import nlme

_METHOD = {"FO": "METHOD=0 POSTHOC", "FOCEI": "METHOD=1 INTER", "LAPLI": "METHOD=1 LAPLACE INTER"}


def _agrees(folder, name: str, stream: str, identity: str | None, place: str = "at_final"):
    oracle = case(name)
    printed = oracle.reference(identity)[place]
    found = nlme.from_nonmem(write_run(folder, oracle, stream, printed["parameters"], printed["objective"]))
    assert found.agrees, found
    assert found.objective == pytest.approx(printed["objective"], abs=1e-3)
    return found


@pytest.mark.slow
def test_phenobarbital(tmp_path):
    found = _agrees(tmp_path, "phenobarbital_nonmem", PHENOBARBITAL, "covariate_model")
    theirs = case("phenobarbital_nonmem").table("per_subject.csv")["OBJ"].to_numpy()
    np.testing.assert_allclose(found.subjects["objective"], theirs, atol=1e-4)


@pytest.mark.slow
def test_control5(tmp_path):
    _agrees(tmp_path, "theophylline_control5_fo", CONTROL5, None)


@pytest.mark.slow
@pytest.mark.parametrize("identity", ["FO", "FOCEI", "LAPLI"])
@pytest.mark.parametrize("place", ["at_initial", "at_final"])
def test_theophylline(tmp_path, identity, place):
    stream = THEOPHYLLINE.replace("METHOD", _METHOD[identity])
    _agrees(tmp_path, "theophylline_nonmem", stream, identity, place)


@pytest.mark.slow
@pytest.mark.parametrize(("stream", "identity"), [(IOV, "focei_iov"), (IOV_WEIGHTED, "foce_weighted_iov")])
def test_occasions(tmp_path, stream, identity):
    _agrees(tmp_path, "iov_warfarin_nonmem", stream, identity)


@pytest.mark.slow
def test_infusion_with_covariates(tmp_path):
    _agrees(tmp_path, "infusion_covariates_multimethod", INFUSION, "focei_mu")


@pytest.mark.slow
def test_time_to_event_with_frailty(tmp_path):
    stream = WEIBULL.replace("FRAILTY", " + ETA(1)").replace("OMEGAS", "$OMEGA 0.2")
    _agrees(tmp_path, "tte_weibull_nonmem", stream, "frailty")


@pytest.mark.slow
def test_time_to_event_without_random_effects(tmp_path):
    stream = WEIBULL.replace("FRAILTY", "").replace("OMEGAS", "")
    found = _agrees(tmp_path, "tte_weibull_nonmem", stream, "no_frailty")
    assert isinstance(found.method, nlme.NaivePooled)


@pytest.mark.slow
def test_below_the_limit(tmp_path):
    """By subject: NONMEM's total and its .phi differ by which mode subject 10 is at."""
    oracle = case("blq_m3_nonmem")
    printed = oracle.reference("laplace")["at_final"]
    found = nlme.from_nonmem(write_run(tmp_path, oracle, BLQ, printed["parameters"], printed["objective"]))
    theirs = oracle.table("per_subject_laplace.csv")["OBJ"].to_numpy()
    others = np.arange(100) != 9
    np.testing.assert_allclose(found.subjects["objective"][others], theirs[others], atol=3e-4)


_WANG = {
    "additive": ("Y = IPRED + EPS(1)", {}),
    "proportional": ("Y = IPRED*EXP(EPS(1))", {}),
    "power_0.5": ("Y = IPRED + SQRT(IPRED)*EPS(1)", {}),
    "combined1": ("W = 1 + IPRED\n  Y = IPRED + W*EPS(1)", {}),
    "combined2": ("W = SQRT(1 + IPRED**2)\n  Y = IPRED + W*EPS(1)", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["FO", "FOCE", "FOCEI"])
@pytest.mark.parametrize("error", sorted(_WANG))
def test_wang(tmp_path, error, method):
    oracle = case("wang2007_objective_functions")
    printed = next(r for r in oracle.facts["references"] if r["error_model"] == error)["objective"][method]
    how = {"FO": "METHOD=0", "FOCE": "METHOD=1", "FOCEI": "METHOD=1 INTER"}[method]
    stream = WANG.replace("  ERROR", "  " + _WANG[error][0]).replace("$EST METHOD", f"$EST {how}")
    found = nlme.from_nonmem(write_run(tmp_path, oracle, stream, {"SIGMA_lower": [[0.1]], "OMEGA_lower": [[0.04]]}, printed))
    assert found.objective == pytest.approx(printed, abs=0.0015)


def _predicted(found) -> np.ndarray:
    frame = nlme.predict(found.model, found.population)
    return frame.loc[frame["EVID"] == 0, "conc"].to_numpy()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stream", "column"), [("dosing_events_nonmem", DOSING, "CP_NONMEM"),
                                                         ("timevarying_covariate_nonmem", VARYING, "CP_NONMEM")])  # fmt: skip
def test_predictions(tmp_path, name, stream, column):
    oracle = case(name)
    (tmp_path / "run.mod").write_text(stream.replace("@FILE", str(oracle.folder / "data.csv")))
    found = nlme.from_nonmem(tmp_path / "run.mod", evaluate=False)
    table = oracle.table()
    theirs = table.loc[table["EVID"] == 0, column].to_numpy()
    np.testing.assert_allclose(_predicted(found), theirs, rtol=2e-4, atol=0.05)
