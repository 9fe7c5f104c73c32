"""$ABBREVIATED REPLACE, names of compartments, calling protocols, and the rows of $DATA."""

from __future__ import annotations

import pytest
from control_streams import DATA, ONE, imported

from nlme.errors import ModelError
from nlme.exchange.nonmem.abbreviations import _numbers, abbreviations_of
from nlme.exchange.nonmem.records import records_of


def read(text: str, items=("OCC", "SID"), states=()):
    return abbreviations_of(records_of(f"$PROBLEM x\n{text}\n", "run.mod"), set(items), states, {})


@pytest.mark.parametrize(
    ("written", "numbers"),
    [
        ("5,7,9", (5, 7, 9)),
        (",3:6", (3, 4, 5, 6)),
        (",4 TO 13 BY 3,25 TO 37 BY 4", (4, 7, 10, 13, 25, 29, 33, 37)),
        ("10:4 BY 3", (10, 7, 4)),
        ("10:4 BY 4", (10, 6)),
        ("4 TO 10 BY -3", (10, 7, 4)),
        ("10 TO 4", (10, 9, 8, 7, 6, 5, 4)),
        ("0,2,3", (0, 2, 3)),
        ("CL", None),
    ],
)
def test_sequences(written, numbers):
    """Those of NONMEM's Guide VIII and a few more."""
    assert _numbers([part.strip() for part in written.split(",")]) == numbers


def test_forms():
    found = read(
        "$ABBR REPLACE PI=3.14159265 COMRES=2\n$ABBR REPLACE THETA(CL)=THETA(4)\n$ABBR REPLACE THETA(V1,Q) = THETA(5,6)\n"
        "$ABBR REPLACE ETA(OCC_CL)=ETA(,3:4) REPLACE EPS(V_SID)=EPS(1,2)\n$ABBR REPLACE THETA(OCC)=THETA(7,8) DERIV2=NO",
        states=("GUT",),
    )
    assert found.plain["PI"] == "3.14159265" and found.plain["THETA(CL)"] == "THETA(4)"
    assert (found.plain["THETA(V1)"], found.plain["THETA(Q)"]) == ("THETA(5)", "THETA(6)")
    assert (found.plain["A(GUT)"], found.plain["DADT(GUT)"], found.plain["A_0(GUT)"]) == ("A(1)", "DADT(1)", "A_0(1)")
    assert found.selected == {
        "ETA(OCC_CL)": ("OCC", "ETA", (3, 4)), "EPS(V_SID)": ("SID", "EPS", (1, 2)), "THETA(OCC)": ("OCC", "THETA", (7, 8)),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["REPLACE ETA(VISIT_CL)=ETA(2,3)", "DECLARE X(10)", "FUNCTION F(V,3)", 'REPLACE K34="3,4"'])
def test_forms_that_are_refused(text):
    with pytest.raises(ModelError, match=r"\$ABBREVIATED"):
        read(f"$ABBR {text}")


IOV = (
    ONE.replace("EXP(ETA(1))", "EXP(ETA(1) + ETA(OCC_CL))")
    .replace("$OMEGA 0.1", "$OMEGA 0.1\n$OMEGA BLOCK(1) 0.01\n$OMEGA BLOCK(1) SAME")
    .replace("$PK", "$ABBR REPLACE ETA(OCC_CL)=ETA(,2:3)\n$PK")
)


def test_the_effect_of_an_occasion_is_chosen_by_a_data_item(tmp_path):
    found = imported(tmp_path, IOV)
    assert 'per="occasion"' in found.source and list(found.population.subjects[0].occasion[:2]) == [1, 1]


def test_a_data_item_that_selects_nothing_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no branch sets it there"):
        imported(tmp_path, IOV.replace("ETA(,2:3)", "ETA(2)"))


# -- compartments --------------------------------------------------------------------------------------------------


def general(model: str) -> str:
    code = "$DES\n DADT(1) = -A(1)\n DADT(2) = A(1) - CL/V*A(2)\n$ERROR"
    return ONE.replace("ADVAN1 TRANS2", f"ADVAN13 TOL=6\n$MODEL {model}").replace("$ERROR", code).replace("S1 = V", "S2 = V")


@pytest.mark.parametrize(
    ("model", "dose", "observed"),
    [
        ("COMP=(GUT,DEFDOS) COMP=(MAIN,DEFOBS)", 1, 2),
        ("COMP=(GUT NODOSE) COMP=(MAIN)", 2, 1),
        ("COMP=(A) COMP=(CENTRAL)", 1, 2),
        ("COMP=(A) COMP=(DEPOT)", 2, 1),
        ("COMP=(DEPOT NODOSE) COMP=(CENTRAL DEFDOSE DEFOBS)", 2, 2),
        ("NCOMP=2", 1, 1),
        ("NCOMPARTMENTS=2 NPARAMS=2", 1, 1),
    ],
)
def test_default_compartments(tmp_path, model, dose, observed):
    """DEPOT or the first that may receive doses; CENTRAL or the first: Guide VIII, $MODEL."""
    found = imported(tmp_path, general(model))
    states = found.source.split("states=(")[1].split(")")[0].replace('"', "").split(", ")
    at = found.population.subjects[0]
    assert list(at.cmt[at.is_dose])[0] == dose
    assert f"state.{states[observed - 1]}" in found.source.split("def observe")[1]


@pytest.mark.parametrize(
    "model", ["COMP=(A) COMP=(B) I_SS=1", "COMP=(A INITIALOFF) COMP=(B)", "COMP=(A) COMP=(B) LINK A TO B BY 1"]
)
def test_models_that_are_refused(tmp_path, model):
    with pytest.raises(ModelError, match=r"\$MODEL"):
        imported(tmp_path, general(model))


# -- calls ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["$ERROR (OBS ONLY)", "$ERROR (ONLY OBSERVATIONS)", "$ERROR\n CALLFL=0", "$ERROR\n (EVERY EVENT)", "$PK (NEW EVENT TIME)", "$PK\n CALLFL=-2",
     "$PK (ONCE PER INDIVIDUAL RECORD)", "$PK\n CALLFL=1", "$PK COMRES=-1"],
)  # fmt: skip
def test_calls_that_make_no_difference(tmp_path, text):
    plain = imported(tmp_path, ONE).source
    assert imported(tmp_path, ONE.replace(text[: text.index(text.split()[0]) + len(text.split()[0])], text)).source == plain


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("$ERROR", "$ERROR\n CALLFL=1", "CALLFL=1"),
        ("$PK\n", "$PK (ONCE PER INDIVIDUAL RECORD)\n IF (NEWIND.NE.2) W0 = WT\n", "reads NEWIND"),
        ("$PK\n", "$PK (NON-EVENT)\n ALAG1 = OCC\n", "CALLFL=-2"),
        ("$PK", "$PK (WHENEVER)", "no calling protocol"),
    ],
)
def test_calls_that_would(tmp_path, old, new, why):
    with pytest.raises(ModelError, match=why):
        imported(tmp_path, ONE.replace(old, new))


@pytest.mark.parametrize(
    ("calls", "held"), [("CALLFL=1", [70, 70, 70, 70]), ("(NEW TIME)", [70, 71, 72, 74]), ("CALLFL=-1", [70, 71, 72, 74])]
)
def test_the_record_with_which_the_code_was_called(tmp_path, calls, held):
    """Called once for each individual, $PK knows the weight of the first record only, as in NONMEM's CONTROL5."""
    data = "ID,TIME,AMT,DV,EVID,MDV,WT,OCC,DVID,NOTE\n" + "".join(
        f"1,{t},{100 if t == 0 else 0},{5 - t},{int(t == 0)},{int(t == 0)},{w},1,0,0\n"
        for t, w in ((0, 70), (1, 71), (2, 72), (2, 73), (3, 74))
    )
    found = imported(tmp_path, ONE.replace("$PK\n", f"$PK\n {calls}\n"), data)
    frame = found.population.to_frame()
    (name,) = [c for c in frame.columns if c.startswith("wt")]
    assert sorted(set(frame[name])) == sorted(set(held) | ({73} if calls == "CALLFL=-1" else set()))


# -- code ----------------------------------------------------------------------------------------------------------


def observed(tmp_path, lines: str, sigma: str = "1 FIX") -> str:
    head, tail = ONE.split("$ERROR")[0], "$THETA" + ONE.split("$THETA")[1]
    stream = f"{head}$ERROR\n{lines}\n{tail}".replace("$SIGMA 0.04 1 FIX", f"$SIGMA {sigma}").replace(
        "  (0, 20)", "  (0, 20)\n (0, .3)\n (0, .2)"
    )
    return imported(tmp_path, stream).source.split("def observe")[1]


def test_a_prediction_that_changes_after_its_error_was_set(tmp_path):
    """W is that of the concentration, not of its logarithm."""
    text = observed(tmp_path, " IPRED=F\n W=THETA(3)*IPRED\n IF (IPRED.GT.0) IPRED=LOG(IPRED)\n Y=IPRED+W*EPS(1)")
    assert "proportional" not in text and "nlme.additive(ipred, w)" in text


def test_a_variable_that_is_set_from_itself_beside_a_likelihood(tmp_path):
    text = observed(
        tmp_path,
        " P=F\n IF (P.GT.40) P=40\n IF (DVID.EQ.2) THEN\n F_FLAG=1\n Y=PHI(P)\n ELSE\n F_FLAG=0\n Y=F+THETA(3)*EPS(1)\n ENDIF",
    )
    assert "nlme.loglik(" in text and "jnp.where" in text


def test_an_error_without_a_variance(tmp_path):
    with pytest.raises(ModelError, match=r"EPS\(2\) has no variance"):
        observed(tmp_path, " Y=F+EPS(1)+EPS(2)")


@pytest.mark.parametrize(
    ("theta", "omega"),
    [
        ("$THETA CL=(0, 2)\n V = (0, 20)", "$OMEGA BLOCK(2) ECL= 0.1\n EV= 0.01 0.2"),
        ("$THETA CL=(0, 2) V=20", "$OMEGA BLOCK(2) ECL=0.1 0.01 EV=0.2"),
        ("$THETA NAMES(CL,V) (0, 2) (0, 20)", "$OMEGA BLOCK(2) NAMES(ECL,EV) VALUES(0.1,0.01)"),
        ("$THETA CL=2 V=20 NUMBERPOINTS=5", "$OMEGA ECL=0.1 EV= 0.2"),
    ],
)
def test_labels(tmp_path, theta, omega):
    stream = (
        ONE.replace("THETA(1)", "THETA(CL)").replace("V = THETA(2)", "V = THETA(V)*EXP(ETA(EV))").replace("ETA(1)", "ETA(ECL)")
    )
    head, tail = stream.split("$THETA (0, 2)")
    stream = f"{head}{theta}\n{omega}\n" + tail[tail.index("$SIGMA") :]
    found = imported(tmp_path, stream)
    plain = (
        stream.replace("THETA(CL)", "THETA(1)")
        .replace("THETA(V)", "THETA(2)")
        .replace("ETA(ECL)", "ETA(1)")
        .replace("ETA(EV)", "ETA(2)")
    )
    assert imported(tmp_path, plain).source == found.source
    assert "cl=tvcl * jnp.exp(eta.cl)" in found.source and "v=self.v * jnp.exp(eta.v)" in found.source


def test_functions_that_are_protected(tmp_path):
    source = imported(tmp_path, ONE.replace("EXP(ETA(1))", "PEXP(ETA(1))")).source
    assert "jnp.exp(jnp.minimum(eta" in source
    with pytest.raises(ModelError, match="PEXP has one argument"):
        imported(tmp_path, ONE.replace("EXP(ETA(1))", "PEXP(ETA(1), 2)"))


def test_verbatim_code_that_computes_nothing(tmp_path):
    """The most steps that the integrator may take, and the declarations that it needs."""
    plain = general("NCOMP=2")
    lines = '$DES\n"FIRST\n" COMMON /PRCOMG/ IDUM1,IDUM2,IMAX,IDUM4,IDUM5\n"INTEGER IDUM1,IMAX\n" IMAX=70000000'
    assert imported(tmp_path, plain.replace("$DES", lines)).source == imported(tmp_path, plain).source
    with pytest.raises(ModelError, match="neither an assignment nor an IF"):
        imported(tmp_path, plain.replace("$DES", lines + '\n" CL=1'))


def test_a_second_record_of_code_goes_on(tmp_path):
    split = ONE.replace("  Y = IPRED", "$ERROR\n  Y = IPRED")
    assert imported(tmp_path, split).source == imported(tmp_path, ONE).source


def test_rates_that_are_other_variables(tmp_path):
    code = general("NCOMP=2").replace(" DADT(1) = -A(1)", " D1 = -A(1)\n DADT(1) = D1")
    assert "comp1=d1" in imported(tmp_path, code).source


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("V = THETA(2)", "MTIME(1) = 2\n V = THETA(2)*MPAST(1)", "model event times"),
        ("V = THETA(2)", "V = THETA(2)*A(1)", r"A\(1\), an amount in the system, counts in \$PK"),
    ],
)
def test_refused_by_what_it_is(tmp_path, old, new, why):
    with pytest.raises(ModelError, match=why):
        imported(tmp_path, ONE.replace(old, new))


def test_the_variance_of_an_error_in_the_code(tmp_path):
    text = observed(tmp_path, " W=SQRT(SIGMA(1,1))*F\n Y=F+W*EPS(2)", "0.04 1 FIX")
    assert "self.sigma1 ** 2" in text


# -- L2 ------------------------------------------------------------------------------------------------------------

TWO = "IF (DVID.EQ.1) THEN\n Y = IPRED + EPS(1)\n ELSE\n Y = IPRED + EPS(2)\n ENDIF"


@pytest.mark.parametrize(
    ("error", "sigma", "data", "taken"),
    [
        (TWO, "0.04 1 FIX", None, True),
        (TWO, "BLOCK(2) 0.04 0.01 1", None, False),
        ("Y = IPRED + EPS(1)", "0.04", None, False),
        ("Y = IPRED + EPS(1)", "0.04", "distinct", True),
        (TWO, "BLOCK(2) 0.04 0.01 1", "distinct", True),
    ],
)
def test_errors_within_an_l2_record(tmp_path, error, sigma, data, taken):
    """EPS is drawn once for each L2 record (Guide VIII, L2): observations in one may not share it, nor be correlated by it."""
    stream = ONE.replace("NOTE", "L2").replace("Y = IPRED*(1 + EPS(1)) + EPS(2)", error).replace("0.04 1 FIX", sigma)
    rows = DATA.splitlines()
    if data == "distinct":
        rows = [rows[0], *(f"{row.rsplit(',', 1)[0]},{k}" for k, row in enumerate(rows[1:]))]
    text = "\n".join(rows) + "\n"
    if taken:
        assert imported(tmp_path, stream, text).population.n_observations == 5
    else:
        with pytest.raises(ModelError, match="L2: EPS"):
            imported(tmp_path, stream, text)


# -- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ("RECORDS=ID", 3),
        ("RECORDS=INDREC", 3),
        ("RECORDS=OCC", 2),
        ("RECORDS=5", 3),
        ("RECORDS=5 IGNORE=(DVID.EQ.1)", 1),
        ("NRECS=5 ACCEPT=(DVID.EQ.2)", 1),
    ],
)
def test_records_counts_rows_that_are_left_out_afterwards(tmp_path, options, count):
    """Guide VIII, $DATA: comment records are not counted, dropped records are."""
    stream = ONE.replace("IGNORE=@", f"IGNORE=@ {options}")
    assert imported(tmp_path, stream).population.n_observations == count
