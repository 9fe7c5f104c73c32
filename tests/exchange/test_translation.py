"""Control streams translated, without evaluating: the data that are read, the file that is written, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from control_streams import DATA, ONE, imported

import nlme
from nlme.errors import DataError, ModelError
from nlme.exchange.nonmem.naming import unit_of


def test_the_file_is_one_that_a_person_would_write(tmp_path):
    found = imported(tmp_path, ONE)
    lines = found.source.splitlines()
    assert '    cl: Scalar = nlme.positive(2.0, unit="L/h")' in lines
    assert '    v: Scalar = nlme.positive(20.0, unit="L", label="Volume of distribution")' in lines
    assert "        tvcl = self.cl * (cov.wt / 70) ** 0.75" in lines
    assert "            cl=tvcl * jnp.exp(eta.cl)," in lines
    assert "        return nlme.pk.OneCompartment(cl=ind.cl, v=ind.v)" in lines
    assert any("nlme.additive(f, jnp.sqrt(" in line for line in lines) or any("nlme.combined" in line for line in lines)


def test_written_files_are_read_by_the_library(tmp_path):
    from nlme.language.files import load_model

    found = imported(tmp_path, ONE)
    model = found.write(tmp_path / "out")
    again = load_model(model)()
    assert repr(again) == repr(found.model)
    data = nlme.read_nonmem(tmp_path / "out" / "data.csv", covariates=["wt"], time_varying="auto")
    assert data.n_observations == found.population.n_observations == 5


def test_an_import_replaces_nothing_of_the_users(tmp_path, monkeypatch):
    """Neither the run's own data, in whose folder it is written, nor a model that was worked on; the same again is written again."""
    from typer.testing import CliRunner

    from nlme.cli import app

    found = imported(tmp_path, ONE)
    with pytest.raises(nlme.FitError, match="data.csv is there and holds something else"):
        found.write(tmp_path)
    assert (tmp_path / "data.csv").read_text() == DATA and not (tmp_path / "model.py").exists()
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["import", "run.mod", "--no-evaluate", "--out", "."])
    assert refused.exit_code == 1 and "would be lost" in refused.stderr and (tmp_path / "data.csv").read_text() == DATA
    for _ in range(2):
        assert CliRunner().invoke(app, ["import", "run.mod", "--no-evaluate"]).exit_code == 0
    found.write(tmp_path / "run-nlme")
    (tmp_path / "run-nlme" / "model.py").write_text(found.source + "# worked on\n")
    with pytest.raises(nlme.FitError, match="model.py is there"):
        found.write(tmp_path / "run-nlme")


def test_command_line(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from nlme.cli import app

    monkeypatch.chdir(tmp_path)
    imported(tmp_path, ONE)
    done = CliRunner().invoke(app, ["import", "run.mod", "--no-evaluate"])
    assert done.exit_code == 0, done.output
    assert "2 subjects, FOCEI()" in done.output and "nlme fit run-nlme/model.py run-nlme/data.csv" in done.output
    assert sorted(p.name for p in (tmp_path / "run-nlme").iterdir()) == ["data.csv", "model.py"]
    (tmp_path / "bad.mod").write_text(ONE.replace("$EST", "$PRIOR TNPRI\n$EST"))
    done = CliRunner().invoke(app, ["import", "bad.mod"])
    assert done.exit_code not in (0, 4) and "$PRIOR" in done.output + str(done.stderr)


# -- data ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "observations"),
    [
        ("IGNORE=@ IGNORE=(ID.EQ.2)", 3),
        ("IGNORE=@ IGNORE=(ID.EQ.2, DVID.EQN.2)", 2),
        ("IGNORE=@ ACCEPT=(DVID.EQ.0, DVID.EQ.2)", 2),
        ("IGNORE=@ IGNORE(WT.GT.70)", 3),
        ("IGNORE=I", 5),
        ("IGNORE=@ RECORDS=5", 3),
        ("IGNORE=@ IGNORE=(DVID==2)", 3),
        ("IGNORE=@ IGNORE=(NOTE.NE.5.AND)", None),
    ],
)
def test_rows(tmp_path, options, observations):
    stream = ONE.replace("IGNORE=@", options)
    if observations is None:
        with pytest.raises((ModelError, DataError)):
            imported(tmp_path, stream)
    else:
        assert imported(tmp_path, stream).population.n_observations == observations


def test_items_that_nonmem_makes(tmp_path):
    """Without EVID and MDV an amount is a dose; an ID that comes back is another individual; blanks and points are 0."""
    data = "1 0 100 .\n1 1 . 5\n2,0,100,\n2 , 1 , , 6\n1 0 100 0\n1 1 0 7\n"
    stream = ONE.replace("$INPUT ID TIME AMT DV EVID MDV WT OCC DVID NOTE", "$INPUT ID TIME DOSE=AMT CONC=DV").replace(
        "(WT/70)**0.75", "1"
    )
    found = imported(tmp_path, stream, data)
    assert list(found.population.ids) == ["1", "2", "1_2"]
    assert [float(v) for s in found.population.subjects for v in s.dv[np.isfinite(s.dv)]] == [5.0, 6.0, 7.0]


def test_clock_times_and_dates(tmp_path):
    data = "1,2/27/2020,22:30,100,.\n1,2/28/2020,1:00,.,5\n1,3/1/2020,1:00,.,4\n"
    stream = ONE.replace("$INPUT ID TIME AMT DV EVID MDV WT OCC DVID NOTE", "$INPUT ID DATE=DROP TIME AMT DV").replace(
        "(WT/70)**0.75", "1"
    )
    found = imported(tmp_path, stream, data)
    assert found.population.to_frame()["TIME"].tolist() == [0.0, 2.5, 50.5]


def test_memories_of_data_become_columns(tmp_path):
    """IF (AMT.GT.0) TDOS=TIME: the time after the last dose, as NONMEM would have it at every record."""
    stream = ONE.replace("  V = THETA(2)", "  IF (AMT.GT.0) TDOS=TIME\n  TAD = TIME - TDOS\n  V = THETA(2)*EXP(-0.1*TAD)")
    frame = imported(tmp_path, stream).population.to_frame()
    assert frame["tdos"].tolist() == [0, 0, 0, 24, 24, 0, 0, 0]


def test_a_memory_of_parameters_is_refused(tmp_path):
    stream = ONE.replace("  V = THETA(2)", "  IF (DVID.EQ.1) V = THETA(2)")
    with pytest.raises(ModelError, match=r"\$PK: .*V.* relies on what a variable held on an earlier record \(subject 1, line 4"):
        imported(tmp_path, stream)


# -- endpoints and occasions ---------------------------------------------------------------------------------------


def test_endpoints_by_dvid(tmp_path):
    error = (
        "  IF (DVID.EQ.2) THEN\n    W = 1\n    Y = F**2 + W*EPS(2)\n  ELSE\n    W = THETA(3)\n    Y = F + F*W*EPS(1)\n  ENDIF\n"
    )
    start, end = ONE.index("  IPRED = F"), ONE.index("$THETA")
    stream = ONE[:start] + error + ONE[end:].replace("(0, 20)", "(0, 20) (0, 1)")
    found = imported(tmp_path, stream)
    assert sorted(found.population.endpoints) == ["conc", "conc2"]
    text = found.source
    assert '"conc": nlme.additive(f, f * self.' in text and '"conc2": nlme.additive(f ** 2, 1)' in text
    assert "dvid" not in text


def test_occasions(tmp_path):
    stream = ONE.replace("ETA(1))", "ETA(1) + KAPPA)").replace(
        "  TVCL", "  KAPPA = 0\n  IF (OCC.EQ.1) KAPPA = ETA(2)\n  IF (OCC.EQ.2) KAPPA = ETA(3)\n  TVCL", 1
    ).replace("$OMEGA 0.1", "$OMEGA 0.1\n$OMEGA BLOCK(1) 0.05\n$OMEGA BLOCK(1) SAME")  # fmt: skip
    found = imported(tmp_path, stream)
    assert found.model.between_occasions().names == ("kappa_occ",)
    assert found.population.to_frame()["OCC"].tolist() == [1, 1, 1, 2, 2, 1, 1, 2]


def test_same_variance_without_occasions_is_refused(tmp_path):
    stream = ONE.replace("ETA(1))", "ETA(1) + ETA(2))").replace("$OMEGA 0.1", "$OMEGA BLOCK(1) 0.05\n$OMEGA BLOCK(1) SAME")
    with pytest.raises(ModelError, match="share a variance .SAME. and act together on subject 1"):
        imported(tmp_path, stream)


# -- structures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advan", "pk", "structure"),
    [
        ("ADVAN1 TRANS1", "K=CL/V", "nlme.pk.OneCompartment(cl=ind.k, v=1.0)"),
        ("ADVAN2 TRANS2", "KA=1\n ALAG1=0.5\n F2=0.9", 'lag=ind.alag1, bioavailability={"central": ind.f2})'),
        ("ADVAN3 TRANS3", "Q=1\n VSS=30", "nlme.pk.TwoCompartment(cl=ind.cl, v1=ind.v, q=ind.q, v2=ind.vss - ind.v)"),
        ("ADVAN4", "K=.1\n K23=.2\n K32=.3\n KA=1", "cl=ind.k, v1=1.0, q=ind.k23, v2=ind.k23 / ind.k32, ka=ind.ka)"),
        ("ADVAN11 TRANS4", "V1=V\n Q2=1\n V2=2\n Q3=1\n V3=3", "nlme.pk.ThreeCompartment(cl=ind.cl, v1=ind.v, q2=ind.q2"),
        ("ADVAN10", "VM=1\n KM=2", "central=-ind.vm * a.central / (ind.km + a.central)"),
    ],
)  # fmt: skip
def test_subroutines(tmp_path, advan, pk, structure):
    stream = ONE.replace("ADVAN1 TRANS2", advan).replace("  S1 = V", f"  S1 = V\n {pk}")
    assert structure in imported(tmp_path, stream).source


def test_general_linear_and_nonlinear(tmp_path):
    model = "$MODEL COMP=(GUT, DEFDOSE) COMP=(CENTRAL, DEFOBS)\n$PK"
    linear = ONE.replace("ADVAN1 TRANS2", "ADVAN5").replace("$PK", model).replace("  S1 = V", "  S2 = V\n  K12 = 1\n  K20 = CL/V")
    assert '("gut", "central"): ind.k12' in imported(tmp_path, linear).source
    des = "$DES\n  C = A(2)/V\n  DADT(1) = -A(1)\n  DADT(2) = A(1) - CL*C\n$ERROR"
    ode = (
        ONE.replace("ADVAN1 TRANS2", "ADVAN13 TOL=9")
        .replace("$PK", model)
        .replace("$ERROR", des)
        .replace("S1 = V", "S2 = V\n  A_0(2) = 3")
    )
    text = imported(tmp_path, ode).source
    assert "c = a.central / ind.v" in text and "gut=-a.gut" in text and 'initial={"central": ind.central_start}' in text


@pytest.mark.parametrize(
    ("lines", "refused"),
    [
        ("IF (T.GT.5) Z = 1", True),
        ("Z = 0\n  IF (T.GT.5) Z = 1", False),
        ("IF (OCC.EQ.1) Z = 1", True),
        ("IF (OCC.EQ.1) Z = 1\n  IF (OCC.EQ.2) Z = 2", False),
    ],
)
def test_equations_rely_on_nothing_that_was_before(tmp_path, lines, refused):
    des = f"$DES\n  {lines}\n  DADT(1) = -CL/V*A(1)*Z\n$ERROR"
    stream = ONE.replace("ADVAN1 TRANS2", "ADVAN13 TOL=9").replace("$PK", "$MODEL COMP=(CENTRAL)\n$PK").replace("$ERROR", des)
    if refused:
        with pytest.raises(ModelError, match=r"\$DES: DADT\(1\) relies on a variable that no branch sets there"):
            imported(tmp_path, stream)
    else:
        imported(tmp_path, stream)


def test_mixture(tmp_path):
    stream = ONE.replace("  V = THETA(2)", "  V = THETA(2)\n  IF (MIXNUM.EQ.2) V = V*2").replace(
        "$ERROR", "$MIX\n  NSPOP = 2\n  P(1) = THETA(3)\n  P(2) = 1 - THETA(3)\n$ERROR"
    )
    stream = stream.replace("(0, 20)", "(0, 20) (0, 0.3, 1)")
    found = imported(tmp_path, stream)
    assert "mixnum = self.group.choose(group1=1, group2=2)" in found.source
    np.testing.assert_allclose(found.model.group.shares, [0.3, 0.7])


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("$EST", "$PRIOR TNPRI\n$EST", r"run\.mod, line 17, \$PRIOR: TNPRI"),
        ("ADVAN1 TRANS2", "ADVAN1 TRANS4", "ADVAN1 with TRANS4 is not imported"),
        ("ADVAN1 TRANS2", "ADVAN9", "ADVAN9"),
        ("  V = THETA(2)\n", "", "V is .*never set|V is not set"),
        ("CL = TVCL", "CL = OTHER*TVCL", "OTHER is used and never set"),
        ("THETA(2)", "THETA(3)", r"THETA\(3\) has no initial value"),
        ("EXP(ETA(1))", "EXP(ETA(2))", r"ETA\(2\) has no variance"),
        ("$SIGMA 0.04 1 FIX", "$SIGMA BLOCK(2) 0.04 0.01 1", "correlated and both in Y"),
        ("IGNORE=@", "IGNORE=@ TRANSLATE=(TIME/24)", "TRANSLATE"),
        ("data.csv", "nowhere.csv", "nowhere.csv is neither at"),
        ("WT OCC", "WT WT", "WT is there twice"),
        ("  IPRED = F", '" IPRED = F\n  IPRED = F', "neither an assignment nor an IF"),
        ("$SUBROUTINES ADVAN1", "$SUBROUTINES OTHER=my.f90 ADVAN1", "MY.F90"),
        ("$EST", "$LEVEL SID=(3[1])\n$EST", "LEVEL"),
        ("Y = IPRED*(1 + EPS(1)) + EPS(2)", "Y = IPRED", "Y has no residual error"),
        ("Y = IPRED*(1 + EPS(1)) + EPS(2)", "IRES = IPRED", "Y is not set"),
    ],
)  # fmt: skip
def test_refused_by_name(tmp_path, old, new, sentence):
    assert old in ONE
    with pytest.raises((ModelError, DataError), match=sentence):
        imported(tmp_path, ONE.replace(old, new, 1))


def test_results_of_another_run_are_not_compared(tmp_path):
    (tmp_path / "run.ext").write_text(
        "TABLE NO.     1: First Order: Goal Function=MINIMUM VALUE OF OBJECTIVE FUNCTION: Problem=1 Subproblem=0\n"
        " ITERATION THETA1 THETA2 THETA3 SIGMA(1,1) OMEGA(1,1) OBJ\n -1000000000 2.0 3.0 4.0 0.3 0.1 10.5\n"
    )
    found = imported(tmp_path, ONE)
    assert found.agrees is None and float(found.model.cl) == 2.0 and float(found.model.v) == 20.0
    assert any("another control stream" in message for message in found.messages)


def test_results_are_read(tmp_path):
    (tmp_path / "run.ext").write_text(
        "TABLE NO.     1: First Order: Goal Function=MINIMUM VALUE OF OBJECTIVE FUNCTION: Problem=1 Subproblem=0\n"
        " ITERATION THETA1 SIGMA(1,1) OMEGA(1,1) OBJ\n 0 1.0 0.1 0.2 20.0\n -1000000000 2.0 0.3 1.5-101 10.5\n"
        " -1000000001 0.5 1E10 0.1 0.0\n"
    )
    found = nlme.read_nonmem_results(tmp_path / "run.mod")
    (step,) = found.steps
    assert step.objective == 10.5 and step.title == "First Order"
    assert step.values == {"THETA1": 2.0, "SIGMA(1,1)": 0.3, "OMEGA(1,1)": 1.5e-101}
    assert step.errors == {"THETA1": 0.5, "OMEGA(1,1)": 0.1}
    assert found.frame.loc["THETA1", "estimate"] == 2.0
    with pytest.raises(DataError, match="there is no other.ext"):
        nlme.read_nonmem_results(tmp_path / "other.mod")


def test_units_in_comments():
    found = {text: unit_of(text) for text in ("KA [1/h]", "K10 ( 1 / h )", "CL [L/h]", "CL (1)", "KA (1/2 of it)")}
    assert found == {"KA [1/h]": "1/h", "K10 ( 1 / h )": "1/h", "CL [L/h]": "L/h", "CL (1)": "", "KA (1/2 of it)": ""}


def test_model_times_are_event_times(tmp_path):
    """MTIME of $PK ends a step, and MPAST in $DES is a comparison with it."""
    des = "$MODEL COMP=(CENTRAL)\n$PK\n  MTIME(1) = THETA(1)\n"
    ode = ONE.replace("ADVAN1 TRANS2", "ADVAN13 TOL=9").replace("$PK\n", des)
    ode = ode.replace("$ERROR", "$DES\n  DADT(1) = -CL/V*A(1)*(1 - MPAST(1))\n$ERROR")
    text = imported(tmp_path, ode).source
    assert "event_times=(ind.mtime_1,)" in text and "jnp.where(t >= ind.mtime_1, 1.0, 0.0)" in text
    with pytest.raises(ModelError, match="MPAST"):
        imported(tmp_path, ONE.replace("  S1 = V", "  MTIME(1) = THETA(1)\n  V = V*(1 - MPAST(1))\n  S1 = V"))


def test_predictions_of_a_table_are_compared_record_by_record(tmp_path):
    from nlme.exchange.nonmem.program import program_of
    from nlme.exchange.nonmem.tables import predictions_beside, predictions_that_differ

    stream = ONE + "$TABLE ID TIME IPRED FIRSTONLY FILE=patab\n$TABLE ID TIME IPRED NOPRINT ONEHEADER FILE=../out/sdtab1\n"
    imported(tmp_path, stream)
    ours = np.array([5.0, 4.0, 6.0, 5.5, 3.0])
    rows = [(1, 0, 0.0), (1, 1, 5.0), (1, 2, 4.0), (1, 24, 0.0), (1, 25, 6.0), (2, 0, 0.0), (2, 1, 5.5), (2, 2, 3.0)]
    head = "TABLE NO.  2\n ID TIME IPRED DV PRED RES WRES\n"

    def beside(changed=1.0):
        lines = [f" {i}.0E+00 {t}.0 1.0 2.0 {f * (changed if (i, t) == (2, 1) else 1.0):.4E} 0 0" for i, t, f in rows]
        (tmp_path / "sdtab1").write_text(head + "\n".join(lines) + "\n")
        program = program_of(tmp_path / "run.mod")
        return program, predictions_beside(program, tmp_path)

    assert predictions_that_differ(*beside(), ours) == "PRED of sdtab1 is that of the model on all 5 observations."
    found = predictions_that_differ(*beside(1.01), ours)
    assert found == "PRED differs from sdtab1 on 1 of 5 observations, first on subject 2, line 8 of the data: 5.5, 5.555 there."
    (tmp_path / "sdtab1").write_text(head + " 1 0 1 2 0 0 0\n")  # of other data
    assert predictions_beside(program_of(tmp_path / "run.mod"), tmp_path) is None


def test_occasions_that_only_the_equations_see(tmp_path):
    """An effect per occasion on a parameter that $DES alone reads."""
    stream = ONE.replace("ADVAN1 TRANS2", "ADVAN13 TOL=9").replace("ETA(1))", "ETA(1) + KAPPA)")
    kappa = "  KAPPA = 0\n  IF (OCC.EQ.1) KAPPA = ETA(2)\n  IF (OCC.EQ.2) KAPPA = ETA(3)\n  TVCL"
    stream = stream.replace("$PK\n", "$MODEL COMP=(CENTRAL)\n$PK\n").replace("  TVCL", kappa, 1)
    stream = stream.replace("$ERROR", "$DES\n  DADT(1) = -CL/V*A(1)\n$ERROR")
    stream = stream.replace("$OMEGA 0.1", "$OMEGA 0.1\n$OMEGA BLOCK(1) 0.05\n$OMEGA BLOCK(1) SAME")
    assert imported(tmp_path, stream).population.to_frame()["OCC"].tolist() == [1, 1, 1, 2, 2, 1, 1, 2]
