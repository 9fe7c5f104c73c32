"""Steps of $ESTIMATION and the tables that belong to them; a prior beside the model; individuals and listings."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from control_streams import DATA, HEAD, ONE, imported

import nlme
from nlme.errors import ModelError
from nlme.exchange.nonmem.estimation import estimations_of
from nlme.exchange.nonmem.records import records_of

EXT = """TABLE NO.     {number}: {title}: Goal Function=MINIMUM VALUE OF OBJECTIVE FUNCTION: Problem=1
 ITERATION THETA1 THETA2{more} SIGMA(1,1) SIGMA(2,1) SIGMA(2,2) OMEGA(1,1) {column}
 -1000000000 {cl} 20{rest} 0.04 0 1 0.1 {objective}
"""


def table(number, title, cl, objective, column="OBJ", more="", rest=""):
    return EXT.format(number=number, title=title, cl=cl, objective=objective, column=column, more=more, rest=rest)


def steps(text: str):
    return [(e.kind, e.interaction, e.prior) for e in estimations_of(records_of(f"$PROBLEM x\n{text}\n", "run.mod"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$EST MAXEVAL=9", [("FO", False, True)]),
        ("$EST METH=COND INTER", [("FOCE", True, True)]),
        ("$EST METHOD=ITS INTER\n$EST METHOD=1", [("ITS", True, True), ("FOCE", True, True)]),
        ("$EST METHOD=1 INTER\n$EST METHOD=1 NOINTER", [("FOCE", True, True), ("FOCE", False, True)]),
        (
            "$EST METHOD=1 LAPLACE INTER\n$EST METHOD=IMP\n$EST METHOD=1",
            [("LAPLACE", True, True), ("IMP", True, True)] + [("LAPLACE", True, True)],
        ),
        ("$EST METHOD=1 LAPLACE\n$EST NOLAPLACE", [("LAPLACE", False, True), ("FOCE", False, True)]),
        ("$EST LAPLACIAN", [("LAPLACE", False, True)]),
        (
            "$EST METHOD=BAYES NOPRIOR=0\n$EST METHOD=COND\n NOPRIOR=1\n$EST",
            [("BAYES", False, True)] + 2 * [("FOCE", False, False)],
        ),
        ("$EST METHOD=1 HYBRID ZERO=1", [("HYBRID", False, True)]),
        ("$EST METHOD=CHAIN NSAMPLE=4\n$EST METHOD=1", [("FOCE", False, True)]),
        ("$EST METHOD=1 NOCENTERING", [("FOCE", False, True)]),
    ],
)
def test_what_a_step_does_not_say_holds_from_the_step_before(text, expected):
    assert steps(text) == expected


def test_a_table_belongs_to_the_step_of_its_number(tmp_path):
    """The third of four steps wrote to a file of its own."""
    stream = ONE.replace("$EST METHOD=1 INTER", "$EST METHOD=SAEM INTER\n$EST METHOD=BAYES\n$EST METHOD=1\n$EST METHOD=IMP")
    (tmp_path / "run.ext").write_text(
        table(1, "SAEM", 1.5, 1, "SAEMOBJ") + table(3, "First Order Conditional", 3.5, 30) + table(4, "IMP", 4.5, 40)
    )
    found = imported(tmp_path, stream)
    assert found.model.cl == pytest.approx(3.5) and repr(found.method) == "FOCEI()"


def test_nonmem_lists_an_error_of_variance_zero_where_there_is_none(tmp_path):
    likelihood = ONE.replace("Y = IPRED*(1 + EPS(1)) + EPS(2)", "Y = EXP(-IPRED)").replace("$SIGMA 0.04 1 FIX\n", "")
    (tmp_path / "run.ext").write_text(
        table(1, "Laplacian", 3.5, 30).replace(" SIGMA(2,1) SIGMA(2,2)", "").replace(" 0.04 0 1 ", " 0 ")
    )
    found = imported(tmp_path, likelihood.replace("METHOD=1 INTER", "METHOD=1 LAPLACE LIKE"))
    assert found.model.cl == pytest.approx(3.5) and not any("another control stream" in m for m in found.messages)


def test_tables_of_other_numbers_belong_to_the_last_steps(tmp_path):
    (tmp_path / "run.ext").write_text(table(7, "First Order", 3.5, 30))
    assert imported(tmp_path, ONE).model.cl == pytest.approx(3.5)


def test_what_a_listing_rounds_is_the_declared_value_where_that_is_shown(tmp_path):
    (tmp_path / "run.lst").write_text(
        """#TBLN:      1
 #METH: First Order Conditional Estimation with Interaction
 #OBJV:********************************************      100.000       ********
                             FINAL PARAMETER ESTIMATE
 THETA - VECTOR OF FIXED EFFECTS PARAMETERS   *********
         TH 1      TH 2
         2.12E+00  2.00E+01
 OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS  ********
         ETA1
 ETA1
+        1.00E-01
 SIGMA - COV MATRIX FOR RANDOM EFFECTS - EPSILONS  ****
         EPS1      EPS2
 EPS1
+        4.00E-02
 EPS2
+        0.00E+00  1.00E+00
"""
    )
    model = imported(tmp_path, ONE.replace("(0, 2)", "(0, 2.1234)").replace("(0, 20)", "(0, 20.7)")).model
    assert float(model.cl) == 2.1234 and float(model.v) == 20.0


def test_a_listing_whose_lines_were_joined(tmp_path):
    """Labels and values on one line, as pages do that take blank columns away; an objective eight lines below its title."""
    from nlme.exchange.nonmem.results import read_nonmem_results

    (tmp_path / "run.lst").write_text(
        " MINIMUM VALUE OF OBJECTIVE FUNCTION\n" + 8 * "\n" + " ********   357.765   ********\n FINAL PARAMETER ESTIMATE\n"
        " THETA - VECTOR OF FIXED EFFECTS\n\n  TH 1   TH 2\n\n  2.77E+00  7.81E-02\n OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS\n\n"
        "        ETA1      ETA2\n\nETA1    1.20E+00\n\nETA2    1.37E-01  3.13E-02\n SIGMA - COV MATRIX\n\n   EPS1\n\nEPS1  -3.00E-01\n"
    )
    (step,) = read_nonmem_results(tmp_path / "run.lst").steps
    assert step.objective == 357.765 and step.values["THETA2"] == 0.0781
    assert [step.values[f"OMEGA({k})"] for k in ("1,1", "2,1", "2,2")] == [1.2, 0.137, 0.0313] and step.values[
        "SIGMA(1,1)"
    ] == -0.3


def test_a_listing_of_many_parameters(tmp_path):
    """Twelve columns to a line; what stands below goes on from it, and labels lose a letter from ten on."""
    from nlme.exchange.nonmem.results import read_nonmem_results

    heads = "".join(f"      TH{k:2d}" for k in range(1, 13)), "".join(f"      TH{k:2d}" for k in range(13, 15))
    row = " ".join(f"{k}.00E+00" for k in range(1, 10)) + " 1.00E+01 1.10E+01 1.20E+01"
    zeros = "+       " + " ........." * 9 + "  2.00E-01"
    (tmp_path / "run.lst").write_text(
        f"#TBLN:      2\n #METH: x\n #OBJV:*****   -3.500   *****\n FINAL PARAMETER ESTIMATE\n THETA - VECTOR OF FIXED EFFECTS\n"
        f"\n {heads[0]}\n  {heads[1]}\n \n  {row}\n   1.30E+01 -1.40E+01\n OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS\n"
        f"\n          ETA1      ET10\n \n ETA1\n+        1.00E-01\n \n ET10\n{zeros}\n SIGMA - COV MATRIX\n\n          EPS1\n \n EPS1\n+        3.00E-01\n"
    )
    (step,) = read_nonmem_results(tmp_path / "run.lst").steps
    assert (step.number, step.objective) == (2, -3.5)
    assert [step.values[f"THETA{k}"] for k in (1, 12, 13, 14)] == [1.0, 12.0, 13.0, -14.0]
    assert step.values["OMEGA(1,1)"] == 0.1 and step.values["OMEGA(10,10)"] == 0.2 and step.values["SIGMA(1,1)"] == 0.3


def test_one_step_without_an_objective_keeps_its_method(tmp_path):
    found = imported(tmp_path, ONE.replace("$EST METHOD=1 INTER", "$EST"))
    assert repr(found.method) == "FO()" and not any("METHOD" in m for m in found.messages)


# -- priors --------------------------------------------------------------------------------------------------------

NAMED = """$PRIOR NWPRI
$THETAP (2.5 FIX) (19 FIX)
$THETAPV BLOCK(2) FIX 0.25
 0 4
$OMEGAP 0.2 FIX
$OMEGAPD (6 FIX)
"""
COUNTED = """$PRIOR NWPRI NTHETA=2, NETA=1, NTHP=2, NETP=1, NPEXP=1
$THETA 2.5 FIX 19 FIX
$OMEGA BLOCK(2) 0.25 0 4 FIX
$OMEGA 0.2 FIX
$THETA 6 FIX
"""


@pytest.mark.parametrize("prior", [NAMED, COUNTED], ids=["names", "counts"])
def test_a_prior_stands_beside_the_model(tmp_path, prior):
    found = imported(tmp_path, ONE.replace("$EST", prior + "$EST"))
    cl, v, variance = (found.priors[name] for name in ("cl", "v", "omega.cl"))
    assert (float(cl.loc), float(cl.scale), float(v.loc), float(v.scale)) == (2.5, 0.5, 19.0, 2.0)
    # the mode of the variance is what the prior names
    grid = np.linspace(0.05, 0.6, 5501)
    assert grid[np.argmax(variance.log_prob(grid))] == pytest.approx(0.2, abs=2e-4)
    assert "theta" not in found.source and not found.fixed
    assert nlme.MAP(found.priors).priors == found.priors


@pytest.mark.parametrize("prior", [NAMED, COUNTED], ids=["names", "counts"])
@pytest.mark.parametrize("without", ["", " NOPRIOR=1"])
def test_an_objective_with_the_priors_part_is_not_compared(tmp_path, prior, without):
    more = " THETA3 THETA4 THETA5", " 2.5 19 6"
    (tmp_path / "run.ext").write_text(table(1, "FOCE", 3.5, 30, more=more[0], rest=more[1]))
    found = imported(tmp_path, ONE.replace("$EST METHOD=1", prior + "$EST METHOD=1" + without))
    assert found.model.cl == pytest.approx(3.5)
    assert any("prior has a part in NONMEM's objective" in m for m in found.messages) == (not without)
    assert not any("another control stream" in m for m in found.messages)


@pytest.mark.parametrize(
    ("prior", "why"),
    [
        ("$PRIOR TNPRI IVAR=1\n", "TNPRI"),
        ("$PRIOR NWPRI (PROBLEM 2)\n", "conditions"),
        (COUNTED.replace("NPEXP=1", "NPEXP=2"), "several experiments"),
        (COUNTED.replace("NTHETA=2", "NTHETA=3"), "do not fit"),
        (COUNTED.replace("NETA=1", "NETA=2"), "do not fit"),
        (NAMED.replace("$OMEGAPD (6 FIX)\n", ""), "degrees of freedom"),
        (NAMED.replace("$PRIOR NWPRI\n", ""), "no $PRIOR"),
        (NAMED.replace("$THETAP (2.5 FIX) (19 FIX)", "$THETAP (2.5 FIX)"), "variances of 2"),
    ],
)
def test_priors_that_are_not_taken(tmp_path, prior, why):
    with pytest.raises(ModelError, match=why.replace("$", r"\$")):
        imported(tmp_path, ONE.replace("$EST", prior + "$EST"))


def test_the_prior_of_a_block_has_its_mode_where_the_record_says(tmp_path):
    pair = ONE.replace("V = THETA(2)", "V = THETA(2)*EXP(ETA(2))").replace("$OMEGA 0.1\n", "$OMEGA BLOCK(2) 0.1 0.01 0.1\n")
    prior = NAMED.replace("$OMEGAP 0.2 FIX", "$OMEGAP BLOCK(2) FIX 0.2\n 0.05 0.3")
    found = imported(tmp_path, pair.replace("$EST", prior + "$EST")).priors["omega.covariance.cl,v"]
    mode = np.array([[0.2, 0.05], [0.05, 0.3]])
    slope = jax.grad(lambda x: found.log_prob(x))(mode)
    assert found.concentration == 6 and np.abs(slope).max() < 1e-9 * np.abs(jax.grad(lambda x: found.log_prob(x))(2 * mode)).max()


def test_priors_that_nlme_cannot_say_are_named(tmp_path):
    prior = NAMED.replace("BLOCK(2) FIX 0.25\n 0 4", "BLOCK(2) FIX 0.25\n 0.1 4").replace("(6 FIX)", "(-2 FIX)")
    found = imported(tmp_path, ONE.replace("$EST", prior + "$EST"))
    assert not found.priors
    assert any("THETA(1), whose prior is correlated" in m and "OMEGA of ETA(1)" in m for m in found.messages)


# -- individuals ---------------------------------------------------------------------------------------------------


def test_an_individual_without_observations_is_left_out_and_named(tmp_path):
    data = DATA + "3,0,100,.,1,1,80,1,0,5\n3,1,.,5.5,0,1,80,1,1,5\n"
    found = imported(tmp_path, ONE, data)
    assert [str(i) for i in found.population.ids] == ["1", "2"]
    assert any("no observations" in m and m.endswith(": 3.") for m in found.messages)


def test_a_fixed_block_is_fixed_with_its_covariances(tmp_path):
    stream = ONE.replace("V = THETA(2)", "V = THETA(2)*EXP(ETA(2))").replace("$OMEGA 0.1", "$OMEGA BLOCK(2) FIX 0.1\n 0.01 0.1")
    found = imported(tmp_path, stream)
    assert set(found.fixed) == {"omega.cl", "omega.v", "omega.v,cl"}
    assert nlme.evaluate(found.model, found.population, nlme.FO(), fixed=found.fixed).fixed
    assert HEAD in stream
