"""A model written for NONMEM and brought back is the same model: densities, objectives, and what is refused by name."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np
import pytest
from exported_models import CASES, Below, Case, Counts, Covariates, One, cases, rows

import nlme
from nlme.dynamics.solvers import Tolerances
from nlme.errors import DataError, ModelError
from nlme.language.layout import lay_out
from nlme.marginal.joint import log_joint
from nlme.models.theophylline import Theophylline

pytest.importorskip("sympy")

CENSORED = ("below", "below, limits", "interval", "below, log", "below, proportional")


def written(name: str, folder):
    case = CASES[name]
    return nlme.to_nonmem(case.model, folder / "run1.mod", population=case.population, method=case.method)


def density(model, population) -> float:
    """-2 log p(y, b) at scattered random effects."""
    layout = lay_out(model, population)
    shape = len(population), len(layout.anatomy.effects)
    b = 0.3 * np.sin(1.0 + np.arange(shape[0] * shape[1])).reshape(shape)
    return -2.0 * float(log_joint(layout.model, layout.anatomy, layout.arrays, jnp.asarray(b), 0, Tolerances())[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", cases())
def test_density_of_what_comes_back(name, tmp_path):
    out = written(name, tmp_path)
    back = nlme.from_nonmem(out.files[0], evaluate=False)
    ours = density(CASES[name].model, CASES[name].population)
    assert np.isfinite(ours)
    assert density(back.model, back.population) == pytest.approx(ours + out.shift, abs=1e-6)
    effects = len(lay_out(CASES[name].model, CASES[name].population).anatomy.effects)
    assert len(lay_out(back.model, back.population).anatomy.effects) == effects


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_objective_of_what_comes_back(name, tmp_path):
    out = written(name, tmp_path)
    back = nlme.from_nonmem(out.files[0])
    at = nlme.evaluate(CASES[name].model, CASES[name].population, back.method)
    assert back.objective == pytest.approx(at.objective + out.shift, abs=1e-6)


@pytest.mark.parametrize("name", cases())
def test_text_is_what_nm_tran_takes(name):
    case = CASES[name]
    out = nlme.to_nonmem(case.model, population=case.population, method=case.method)
    lines = out.text.splitlines()
    assert max(map(len, lines)) <= 160 and out.text.isascii()
    names = re.findall(r"(?m)^\s*(?:IF \(.*\) )?([A-Z]\w*) = ", out.text)
    assert names and all(len(n) <= 20 for n in names)
    inputs = out.text.split("$INPUT")[1].split("$DATA")[0].split()
    assert [i.removesuffix("=DROP") for i in inputs] == list(out.data.columns) and len(set(inputs)) == len(inputs)
    assert out.text.count("(") == out.text.count(")")
    assert "0.01428" not in out.text  # a quotient stays one: WT/70.0
    # every THETA has its value, every ETA and EPS its variance
    for kind, record in (("THETA", r"^\$THETA"), ("EPS", r"^\$SIGMA")):
        used = {int(k) for k in re.findall(rf"\b{kind}\((\d+)\)", out.text)}
        assert used == set(range(1, len(re.findall(rf"(?m){record}", out.text)) + 1))


def test_a_control_stream_as_one_would_write_it(tmp_path):
    population = nlme.datasets.load("theophylline")[:2]
    out = nlme.to_nonmem(Theophylline(), tmp_path, population=population, fixed=["prop"])
    assert [f.name for f in out.files] == ["run1.mod", "run1_nonmem.csv"]
    assert out.text.splitlines()[2:] == [
        "$INPUT ID TIME AMT CMT EVID MDV DV",
        "$DATA run1_nonmem.csv IGNORE=@",
        "$SUBROUTINES ADVAN2 TRANS2",
        "$PK",
        "KA = THETA(1)*EXP(ETA(1))",
        "CL = THETA(2)*EXP(ETA(2))",
        "V = THETA(3)*EXP(ETA(3))",
        "S2 = V",
        "$ERROR",
        "IPRED = F",
        "W = SQRT(THETA(4)**2 + (THETA(5)*IPRED)**2)",
        "Y = IPRED + W*EPS(1)",
        "$THETA (0, 1.567) ; ka: Absorption rate constant [1/h]",
        "$THETA (0, 2.77) ; cl: Clearance / F [L/h]",
        "$THETA (0, 31.475) ; v: Volume / F [L]",
        "$THETA (0, 0.433) ; add: Additive error [mg/L]",
        "$THETA 0.054 FIX ; prop: Proportional error",
        "$OMEGA 0.388 ; ka",
        "$OMEGA 0.07 ; cl",
        "$OMEGA 0.015 ; v",
        "$SIGMA 1 FIX ; conc",
        "$ESTIMATION METHOD=1 INTERACTION MAXEVAL=9999 NSIG=3 SIGL=9 NOABORT PRINT=5",
        "$COVARIANCE PRINT=E UNCONDITIONAL",
        "$TABLE ID TIME EVID MDV IPRED CWRES ONEHEADER NOPRINT FILE=sdtab",
        "$TABLE ID KA CL V ETA1 ETA2 ETA3 NOAPPEND ONEHEADER NOPRINT FILE=patab",
    ]
    assert (tmp_path / "run1_nonmem.csv").read_text().splitlines()[:2] == ["ID,TIME,AMT,CMT,EVID,MDV,DV", "1,0,319.992,1,1,1,."]


@pytest.mark.parametrize(
    ("method", "line"),
    [
        (nlme.FO(), "METHOD=0 POSTHOC"),
        (nlme.FOCE(), "METHOD=1 MAXEVAL"),
        (nlme.FOCEI(), "METHOD=1 INTERACTION"),
        (nlme.Laplace(), "METHOD=1 LAPLACE INTERACTION"),
        (nlme.ImportanceSampling(samples=500), "METHOD=IMP INTERACTION ISAMPLE=500"),
        (nlme.SAEM(), "METHOD=SAEM INTERACTION"),
    ],
)
def test_methods(method, line):
    out = nlme.to_nonmem(One(), population=CASES["one"].population, method=method)
    assert f"$ESTIMATION {line}" in out.text


def test_likelihoods_alone_need_no_residual_error():
    out = nlme.to_nonmem(CASES["poisson"].model, population=CASES["poisson"].population)
    assert "$ESTIMATION METHOD=1 LAPLACE -2LL" in out.text and "$SIGMA" not in out.text and "F_FLAG" not in out.text


@pytest.mark.slow
def test_objective_of_fixed_parameters_and_of_an_evaluation():
    case = CASES["one"]
    at = nlme.evaluate(case.model, case.population, nlme.FOCEI(), fixed=["v", "omega.cl"])
    out = nlme.to_nonmem(at)
    assert f"; Objective there: {at.objective:.6f}" in out.text
    assert "$THETA 20.0 FIX ; v [L]" in out.text and "$OMEGA 0.09 FIX ; cl" in out.text and "$OMEGA 0.04 ; v" in out.text


def test_ids_that_are_words_are_numbered_and_kept_beside():
    frame = [r | {"ID": f"A-{r['ID']}"} for r in rows()]
    out = nlme.to_nonmem(One(), population=Case(One(), frame).population)
    assert "SUBJECT=DROP" in out.text and list(out.data["SUBJECT"].unique()) == ["A-1", "A-2", "A-3"]
    assert list(out.data["ID"].unique()) == [1, 2, 3]
    frame = [
        r | {"ID": "=1+1" if r["ID"] == 1 else f"A-{r['ID']}"} for r in rows()
    ]  # NONMEM drops the column; a spreadsheet must not compute
    assert nlme.to_nonmem(One(), population=Case(One(), frame).population).data["SUBJECT"].iloc[0] == "'=1+1"


def test_a_value_of_zero_is_a_theta_of_one():
    model = Counts(slope=0.0)
    out = nlme.to_nonmem(model, population=CASES["poisson"].population)
    assert any("slope: 0 is no initial value" in m for m in out.messages)
    assert "$THETA 1.0 ; slope + 1" in out.text and "EXP((THETA(2) - 1.0)*TIME)" in out.text


# -- refusals ------------------------------------------------------------------------------------------------------


class Remembered(One):
    def error(self, f):
        return nlme.ar1(nlme.combined(f, self.add, self.prop), 0.3)


class Positive(One):
    def error(self, f):
        return nlme.censored(nlme.combined(f, self.add, self.prop), "M4", lloq=1.0)


class Shaped(One):
    def error(self, f):
        return nlme.boxcox(f, self.prop, self.add)


class Sites(One):
    site: nlme.Covariance = nlme.covariance(v_site=0.02, per="site")

    def individual(self, eta, cov):
        return dict(cl=self.cl * jnp.exp(eta.cl), v=self.v * jnp.exp(eta.v + eta.v_site))


class Arriving(One):
    def dynamics(self, ind):
        return nlme.pk.weibull(nlme.pk.OneCompartment(cl=ind.cl, v=ind.v), td=2.0, beta=2.0)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Remembered(), "correlated in time"),
        (Positive(), "M4; M1 and M3 are written"),
        (Shaped(), "lam is no number"),
        (Sites(), "random effects per site"),
        (Arriving(), "function of the time since each"),
    ],
)
def test_what_nm_tran_cannot_say_is_refused_by_name(model, why):
    population = Case(model, rows(CENS=0, site=1)).population
    with pytest.raises(ModelError, match=f"cannot be written for NONMEM: .*{why}"):
        nlme.to_nonmem(model, population=population)


def test_covariates_between_records_are_refused():
    case = CASES["varying covariates"]
    population = Case(Covariates(), case.rows, case.reading | {"interpolation": {"wt": "locf"}}).population
    with pytest.raises(ModelError, match="'wt' is carried between records by 'locf'"):
        nlme.to_nonmem(Covariates(), population=population)


def test_an_observation_that_has_no_place_on_its_scale_is_named():
    case = CASES["lognormal"]
    bad = [r | {"DV": 0.0 if r["ID"] == 2 and r["TIME"] == 12.0 else r["DV"]} for r in case.rows]
    with pytest.raises(DataError, match=r"ubject 2.*12"):
        nlme.to_nonmem(case.model, population=Case(case.model, bad).population)


def test_a_model_needs_data():
    with pytest.raises(ModelError, match="give population="):
        nlme.to_nonmem(One())
    with pytest.raises(ModelError, match="got str"):
        nlme.to_nonmem("run1.mod")


def test_limits_are_written_once_where_they_are_one_number():
    same = nlme.to_nonmem(
        Below(), population=Case(Below(), [r | {"DV": 1.0 if r["CENS"] else r["DV"]} for r in CASES["below"].rows]).population
    )
    assert "Y = PHI((1.0 - IPRED)/W)" in same.text and "LLOQ" not in same.data
    other = nlme.to_nonmem(Below(), population=CASES["below"].population)
    assert "Y = PHI((LLOQ - IPRED)/W)" in other.text and "LLOQ" in other.data


@pytest.mark.slow
@pytest.mark.parametrize("name", CENSORED)
def test_censored_records_are_likelihoods(name):
    out = nlme.to_nonmem(CASES[name].model, population=CASES[name].population)
    assert "F_FLAG = 1" in out.text and "F_FLAG = 0" in out.text and "LAPLACE INTERACTION" in out.text
