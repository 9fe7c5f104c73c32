"""What NM-TRAN's code means from record to record, and names that are none: NONMEM Users Guide Part VIII, by hand-made records."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import nlme
from nlme.errors import ModelError


def imported(folder, code: str, data: str, method: str = "0"):
    (folder / "run.csv").write_text(data)
    (folder / "run.mod").write_text(
        f"$PROBLEM x\n$DATA run.csv IGNORE=@\n{code}\n$THETA 1 10\n$OMEGA 0.1\n$SIGMA 0.1\n$EST METHOD={method}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nlme.from_nonmem(folder / "run.mod")


def predicted(found) -> np.ndarray:
    return found.evaluated.predictions["PRED"].to_numpy()


PK = "CL=THETA(1)*EXP(ETA(1))\nV=THETA(2)\nS1=V\n"
LINEAR = f"$INPUT ID TIME AMT DV WT\n$SUBROUTINES ADVAN1 TRANS2\n$PK\n{PK}"
EVENTS = "ID,TIME,AMT,DV,WT\n1,0,.,1,70\n1,1,.,2,71\n1,2,100,.,90\n1,3,.,4,72\n1,5,.,3,73\n1,6,50,.,99\n1,7,.,5,75\n"
OBSERVED = 10.0 * np.exp(-0.1 * np.array([1.0, 3.0, 5.0])) + np.array([0.0, 0.0, 5.0 * np.exp(-0.1)])  # from 3 h on


def test_called_with_observations_alone_where_the_first_record_is_a_dose(tmp_path):
    """What is the same at all records is so whichever of them the code is called with."""
    data = "ID,TIME,AMT,DV,WT\n1,0,100,.,70\n1,1,.,2,70\n1,3,.,1,70\n"
    text = "{0}W=THETA(1)/10\nY=F*(1+W*EPS(1))"
    every, alone = (imported(tmp_path, f"{LINEAR}$ERROR\n{text.format(calls)}", data) for calls in ("", "CALLFL=0\n"))
    assert alone.source == every.source and alone.objective == every.objective


@pytest.mark.parametrize("calls", ["CALLFL=0", "(OBSERVATIONS ONLY)"])
def test_what_error_remembers_is_of_the_records_it_is_called_with(tmp_path, calls):
    """PREV is the observation before, whatever doses stand between."""
    found = imported(tmp_path, f"{LINEAR}$ERROR\n{calls}\nPREV=LAST\nLAST=DV\nY=F+PREV+EPS(1)", EVENTS)
    np.testing.assert_allclose(predicted(found), np.r_[0.0, 1.0, OBSERVED + [2.0, 4.0, 3.0]], rtol=1e-9)


def test_called_with_every_record_it_remembers_doses_too(tmp_path):
    found = imported(tmp_path, f"{LINEAR}$ERROR\nPREV=LAST\nLAST=DV\nY=F+PREV+EPS(1)", EVENTS)
    np.testing.assert_allclose(predicted(found), np.r_[0.0, 1.0, OBSERVED + [0.0, 4.0, 0.0]], rtol=1e-9)


def test_f_flag_begins_every_record_as_a_prediction(tmp_path):
    """F_FLAG: 'for a given observation the default indication is a prediction'; one record's likelihood is not the next one's."""
    code = """$INPUT ID TIME DV BLQ
$PRED
IPRED=THETA(2)*EXP(ETA(1)-THETA(1)*TIME)
Y=IPRED+EPS(1)
{0}
IF (BLQ.EQ.1) THEN
F_FLAG=1
Y=PHI((3-IPRED)/0.3162278)
ENDIF"""
    data = "ID,TIME,DV,BLQ\n1,0,10,0\n1,1,0,1\n1,1.1,3.5,0\n1,1.5,2.1,0\n"
    plain, written = (imported(tmp_path, code.format(text), data, "1 LAPLACE") for text in ("", "F_FLAG=0"))
    assert plain.objective == pytest.approx(written.objective, abs=1e-9)
    assert predicted(plain)[[0, 2, 3]] == pytest.approx(10.0 * np.exp(-np.array([0.0, 1.1, 1.5])))


GENERAL = "$INPUT ID TIME AMT DV WT\n$SUBROUTINES ADVAN6 TOL=6\n$MODEL {0}\n$PK\n{1}$DES\n{2}\n$ERROR\n{3}"


def test_a_0flg_holds_where_the_states_begin(tmp_path):
    """What is set behind it stays what it was at the individual's first record."""
    code = GENERAL.format(
        "COMP=(C)", "IF (A_0FLG.EQ.1) THEN\nBWT=WT\nA_0(1)=0\nENDIF\n" + PK, "DADT(1)=-CL/V*A(1)", "Y=F+BWT+EPS(1)"
    )
    found = imported(tmp_path, code, EVENTS)
    np.testing.assert_allclose(predicted(found), np.r_[70.0, 70.0, OBSERVED + 70.0], rtol=1e-6)


def test_a_0flg_around_starting_values_of_parameters(tmp_path):
    """Made of parameters that do not change, they are what they are at every record; of ones that do, at the first."""
    start = "IF (A_0FLG.EQ.1) THEN\nBASE={0}\nA_0(1)=BASE*V\nENDIF\n"
    code = GENERAL.format("COMP=(C)", PK + start, "DADT(1)=-CL/V*A(1)", "Y=F-BASE+EPS(1)")
    data = EVENTS.replace("100", ".").replace("50", ".")
    expected = 2.0 * np.exp(-0.1 * np.array([0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0])) - 2.0
    found = imported(tmp_path, code.replace("{0}", "2*THETA(1)"), data)
    np.testing.assert_allclose(predicted(found), expected, rtol=1e-6, atol=1e-6)
    with pytest.raises(ModelError, match="BASE relies on what a variable held|relies on what a variable held"):
        imported(tmp_path, code.replace("{0}", "2*THETA(1)*WT/70"), data)


@pytest.mark.parametrize("name", ["TSCALE", "XSCALE"])
def test_scales_of_time_are_refused(tmp_path, name):
    with pytest.raises(ModelError, match=f"{name}, a scale of the time"):
        imported(tmp_path, f"{LINEAR}{name}=24\n$ERROR\nY=F+EPS(1)", EVENTS)


CHAIN = "DADT(1)=-.4*CL*A(1)\nDADT(2)=.4*CL*A(1)-.2*A(2)\nDADT(3)=.2*A(2)"


def chain(folder, compartments: str, **change):
    data = "ID,TIME,AMT,DV,CMT\n1,0,100,.,1\n1,2,.,1,2\n1,2,.,1,3\n"
    code = GENERAL.format(compartments, PK, CHAIN, "Y=F+EPS(1)").replace("DV WT", "DV CMT")
    return imported(folder, code, data)


def test_a_number_is_a_position_whatever_compartments_are_called(tmp_path):
    named, numbered = (chain(tmp_path, c) for c in ("COMP=(A) COMP=(B) COMP=(E)", "COMP=(CENTRAL) COMP=(3) COMP=(2)"))
    np.testing.assert_allclose(predicted(numbered), predicted(named), rtol=1e-12)
    second = 100 * 0.4 / 0.2 * (np.exp(-0.4) - np.exp(-0.8))
    assert predicted(named)[0] == pytest.approx(second, rel=1e-6)


def test_compartments_named_by_words_of_python(tmp_path):
    named, words = (chain(tmp_path, c) for c in ("COMP=(A) COMP=(B) COMP=(E)", "COMP=(IN) COMP=(LAMBDA) COMP=(DEF)"))
    np.testing.assert_allclose(predicted(words), predicted(named), rtol=1e-12)


def test_attributes_are_abbreviated_to_three_letters_and_unknown_ones_refused(tmp_path):
    data = "ID,TIME,AMT,DV,WT\n1,0,100,.,1\n1,2,.,1,2\n"
    code = GENERAL.format("COMP=(P,NOD) COMP=(C,DEFOB) COMP=(E)", PK.replace("S1=V", "S2=1"), CHAIN, "Y=F+EPS(1)")
    assert predicted(imported(tmp_path, code, data))[0] == pytest.approx(100 * np.exp(-0.4), rel=1e-6)  # given and seen in C
    with pytest.raises(ModelError, match="FOOBAR, of the compartment C, is no attribute"):
        imported(tmp_path, code.replace("DEFOB", "FOOBAR"), data)


def test_variables_that_begin_like_statements(tmp_path):
    text = "$ERROR\nPRINT1=1\nOPENED=PRINT1\nCALLS=OPENED\nRETURN1=CALLS\nY=F*RETURN1+EPS(1)"
    np.testing.assert_allclose(predicted(imported(tmp_path, LINEAR + text, EVENTS))[2:], OBSERVED, rtol=1e-9)
    with pytest.raises(ModelError, match="neither an assignment nor an IF"):
        imported(tmp_path, LINEAR + text + "\nWRITE (6,*) Y", EVENTS)


def test_new_individuals_in_an_expression(tmp_path):
    """FST is 1 where an individual's records begin, and on no other."""
    data = EVENTS + EVENTS.split("\n", 1)[1].replace("\n1,", "\n2,").replace("1,0,.,1,70", "2,0,.,1,70", 1)
    found = imported(tmp_path, f"{LINEAR}FST=0\nIF (NEWIND.NE.2) FST=1\n$ERROR\nY=F+FST+EPS(1)", data)
    np.testing.assert_allclose(predicted(found), np.tile(np.r_[1.0, 0.0, OBSERVED], 2), rtol=1e-9, atol=1e-12)


def test_what_is_set_once_before_the_first_record(tmp_path):
    """At the start of the problem, and not while it is estimated; what the records set themselves is theirs."""
    text = "IF (ICALL.LE.1) THEN\nHALF=5\nLAST=3\nENDIF\nIF (ICALL.EQ.4) HALF=7\nLAST=0\n$ERROR\nY=F+HALF+LAST+EPS(1)"
    np.testing.assert_allclose(predicted(imported(tmp_path, LINEAR + text, EVENTS))[2:], OBSERVED + 5.0, rtol=1e-9)


def test_what_else_the_file_has_nonmem_do_is_said(tmp_path):
    more = "$SIMULATION (1)\n$ERROR\nY=F+EPS(1)\n$MSFI run.msf"
    found = imported(tmp_path, LINEAR + more, EVENTS)
    assert any("$SIMULATION is left out" in m for m in found.messages) and any("$MSFI is not read" in m for m in found.messages)
    (tmp_path / "run.mod").write_text((tmp_path / "run.mod").read_text().replace("$MSFI run.msf", "") + "$PROBLEM again\n")
    assert "The first of 2 problems is imported." in nlme.from_nonmem(tmp_path / "run.mod").messages
