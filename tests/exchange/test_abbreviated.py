"""Abbreviated code read by Fortran's rules, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from nlme.errors import ModelError
from nlme.exchange.nonmem.abbreviated import code_of, expression_of
from nlme.exchange.nonmem.abbreviations import Abbreviations
from nlme.exchange.nonmem.expressions import simplified
from nlme.exchange.nonmem.expressions import text as text_of
from nlme.exchange.nonmem.records import records_of


def code(text: str, abbreviations=None):
    return code_of(records_of(f"$PK\n{text}", "run.mod")[0], Abbreviations(abbreviations or {}))


def value(text: str, **names) -> float:
    node = expression_of(records_of("$PK\n", "run.mod")[0], text, 1)
    return eval(text_of(node), {"jnp": np, **names})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-2**2", -4.0),
        ("2**3**2", 512.0),
        ("A**-B", 0.125),
        ("-A*B", -6.0),
        ("1/2", 0.5),
        ("A - B - 1", -2.0),
        ("12/A/B", 2.0),
        ("1.5D1 + 2.E0 + .5", 17.5),
        ("A.EQ.2.AND.B.GT.2", True),
        ("1.EQ.A.OR.B.LT.2", False),
        (".NOT.A.EQ.2", False),
        (".NOT.A.EQ.3.AND.B==3", True),
        ("MOD(7, 4) + INT(-1.5)", 2.0),
        ("EXP(LOG(3))", 3.0),
        ("DSQRT(4.0)*DABS(-2)", 4.0),
        ("A/=2", False),
        ("2*-A", -4.0),
        ("(A + B)*2", 10.0),
        ("2.0*(-1)**2", 2.0),
        ("(-2.5)**A", 6.25),
        ("A**(-1)", 0.5),
        ("A - (-1)", 3.0),
        ("MAX(1, B, A)", 3.0),
        ("MIN(B, A, 2.5, 4)", 2.0),
    ],
)
def test_precedence(text, expected):
    """As written, and as written once more after what can be folded is."""
    assert value(text, A=2.0, B=3.0) == pytest.approx(expected)
    node = simplified(expression_of(records_of("$PK\n", "run.mod")[0], text, 1))
    assert eval(text_of(node), {"jnp": np, "A": 2.0, "B": 3.0}) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["EXP(A, B)", "MOD(A)", "MAX(A)", "SQRT(A, 2)"])
def test_the_number_of_arguments_is_checked(text):
    with pytest.raises(ModelError, match="does not take"):
        value(text)


def run(text: str, **start) -> dict:
    """What the code makes of the variables, by its flattened assignments."""
    names = dict(start)

    class Where:
        def __getattr__(self, name):
            return getattr(np, name)

    for a in code(text).assignments:
        assert "<unset>" not in text_of(a.value), a
        names[a.target] = eval(text_of(a.value), {"jnp": np, **names})
    return names


@pytest.mark.parametrize("x", [0.0, 1.0, 2.0])
def test_nested_conditions(x):
    """A nested IF, an ELSE IF, a value used in the block that makes it, and two variables that change places."""
    found = run(
        """
        A = 1
        B = 10
        C = 5
        IF (X.GE.1) THEN
          C = A + 1
          IF (X.EQ.2) THEN
            C = C*10
          ELSE
            B = C
          ENDIF
          A = C
        ELSEIF (B.EQ.10) THEN
          B = A
          A = 7
        END IF
        """,
        X=x,
    )
    expected = {0.0: (7, 1, 5), 1.0: (2, 2, 2), 2.0: (20, 10, 20)}[x]
    assert tuple(float(found[n]) for n in "ABC") == expected


@pytest.mark.parametrize("x", [0.0, 1.0, 2.0])
def test_long_blocks(x):
    """What would grow without bound by putting one expression into the next; the conditions are those before the block."""
    grown = "\n".join("  A = A*B + 1\n  B = 0.5*A - B" for _ in range(40))
    found = run(
        f"X = X0\nA = 1\nB = 0.5\nIF (X.EQ.1) THEN\n{grown}\n  X = 5\nELSEIF (X.EQ.2) THEN\n  A = 7\nELSE\n  B = 9\nENDIF", X0=x
    )
    a, b = 1.0, 0.5
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(40):
            a = a * b + 1
            b = 0.5 * a - b
    expected = {0.0: (1.0, 9.0, 0.0), 1.0: (a, b, 5.0), 2.0: (7.0, 0.5, 2.0)}[x]
    np.testing.assert_array_equal([float(found[n]) for n in "ABX"], expected)


def test_exchanged_in_a_block():
    for c, expected in ((1.0, (2.0, 2.0)), (0.0, (1.0, 1.0))):
        found = run("A=1\nB=2\nIF (C.EQ.1) THEN\n A=B\nELSE\n B=A\nENDIF", C=c)
        assert (float(found["A"]), float(found["B"])) == expected


def test_continuation_comment_and_abbreviation():
    found = code("CL = THETA(CL)*EXP( & ; clearance\n  ETA_CL)\n", {"THETA(CL)": "THETA(1)", "ETA_CL": "ETA(1)"})
    assert text_of(found.assignments[0].value) == "THETA(1) * jnp.exp(ETA(1))"


def test_what_never_holds_while_estimating_is_left_out():
    assert code("IF (ICALL.EQ.4) THEN\n CALL RANDOM(2, R)\n X = 1\nENDIF\nIF (ICALL==4) CALL SIMETA(ETA)\nCL = 1").targets == {
        "CL"
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('" X = 1', 2),
        ("CL = 1\nCALL SUPP(1)", 3),
        ("DO WHILE (X.LT.2)\nX = X + 1\nENDDO", 2),
        ("CL = FOO(2)", 2),
        ("CL = 2 +", 2),
        ("CL = (2", 2),
        ("CL = THETA(I)", 2),
        ("IF (X.EQ.1) THEN\nCL = 1", 2),
        ("ENDIF", 2),
        ("CL", 2),
        ("CL = 1 ? 2", 2),
        ("2 = CL", 2),
    ],
)
def test_refused_by_line(text, line):
    with pytest.raises(ModelError, match=rf"run\.mod, line {line}, \$PK"):
        code(text)
