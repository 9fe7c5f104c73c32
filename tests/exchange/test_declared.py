"""$THETA, $OMEGA and $SIGMA in their forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nlme.errors import ModelError
from nlme.exchange.nonmem.declared import blocks_of, thetas_of
from nlme.exchange.nonmem.naming import effect_word, label_of, parameter_word, unit_of
from nlme.exchange.nonmem.records import records_of


def thetas(text: str):
    return [(t.value, t.lower, t.upper, t.fixed) for t in thetas_of(records_of(text, "run.mod"))]


INF = math.inf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$THETA 1 2 FIX 3", [(1, -INF, INF, False), (2, -INF, INF, True), (3, -INF, INF, False)]),
        ("$THETA (0,1) (0,1,5) (0 1 5)", [(1, 0, INF, False), (1, 0, 5, False), (1, 0, 5, False)]),
        ("$THETA (0, 0.5, 1 FIX) (2 FIX) (3, 3, 3)", [(0.5, 0, 1, True), (2, -INF, INF, True), (3, 3, 3, True)]),
        ("$THETA (0,1)x2 (1)X2", [(1, 0, INF, False)] * 2 + [(1, -INF, INF, False)] * 2),
        ("$THETA (-INF,1,1000000) (0,,4)", [(1, -INF, INF, False), (2, 0, 4, False)]),
        ("$THETA\n(0,1) ; CL\n 1D1 ; V", [(1, 0, INF, False), (10, -INF, INF, False)]),
        ("$THETA (0,1,5) FIX ; CL", [(1, 0, 5, True)]),
        ("$THETA (0,\n 1,2) 3", [(1, 0, 2, False), (3, -INF, INF, False)]),
    ],
)
def test_thetas(text, expected):
    assert thetas(text) == expected


def test_comments_belong_to_the_value_of_their_line():
    found = thetas_of(records_of("$THETA (0,1) ; CL (L/h)\n ; a line of its own\n (0,2) ; V [L]\n 1 2 ; both", "run.mod"))
    assert [t.comment for t in found] == ["CL (L/h)", "V [L]", "", ""]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$OMEGA 0.1 0.2", [[[0.1]], [[0.2]]]),
        ("$OMEGA BLOCK(2) 0.1 0.01 0.2", [[[0.1, 0.01], [0.01, 0.2]]]),
        ("$OMEGA BLOCK(2) SD CORRELATION\n 0.5\n 0.3 0.2", [[[0.25, 0.03], [0.03, 0.04]]]),
        ("$OMEGA BLOCK(2) CORRELATION 0.25 0.3 0.04", [[[0.25, 0.03], [0.03, 0.04]]]),
        ("$OMEGA BLOCK(2) STANDARD 0.5 0.03 0.2", [[[0.25, 0.03], [0.03, 0.04]]]),
        ("$OMEGA BLOCK(2) CHOLESKY 0.5 0.06 0.2", [[[0.25, 0.03], [0.03, 0.0436]]]),
        ("$OMEGA BLOCK(2) VALUES(0.1, 0.01)", [[[0.1, 0.01], [0.01, 0.1]]]),
        ("$OMEGA DIAGONAL(2) 0.1 0.2", [[[0.1]], [[0.2]]]),
        ("$OMEGA (0.3 SD) 0.1", [[[0.09]], [[0.1]]]),
        ("$OMEGA STANDARD 0.3", [[[0.09]]]),
        ("$OMEGA BLOCK(2) STAND CORREL 0.5 0.3 0.2", [[[0.25, 0.03], [0.03, 0.04]]]),
        ("$OMEGA BLOCK(2) CHOL 0.5 0.06 0.2", [[[0.25, 0.03], [0.03, 0.0436]]]),
        ("$OMEGA (0.1)x2", [[[0.1]], [[0.1]]]),
    ],
)
def test_omegas_as_covariances(text, expected):
    found = blocks_of(records_of(text, "run.mod"), "OMEGA")
    assert len(found) == len(expected)
    for block, matrix in zip(found, expected, strict=True):
        np.testing.assert_allclose(block.matrix, matrix)


def test_fixed_and_same():
    found = blocks_of(
        records_of("$OMEGA 0.1 FIX 0.2\n$OMEGA BLOCK(1) FIX 0.3\n$OMEGA BLOCK(1) SAME(2)\n$OMEGA BLOCK SAME", "r"), "OMEGA"
    )
    assert [b.fixed for b in found] == [True, False, True, True, True, True]
    assert [b.first for b in found] == [1, 2, 3, 4, 5, 6]
    assert [b.same for b in found] == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize(
    "text", ["$THETA (0,1", "$THETA (1,2,3,4)", "$THETA CL", "$OMEGA BLOCK(2) 0.1 0.2", "$OMEGA BLOCK SAME", "$OMEGA x"]
)
def test_refused(text):
    records = records_of(text, "run.mod")
    with pytest.raises(ModelError, match=r"run\.mod, line 1"):
        thetas_of(records)
        blocks_of(records, "OMEGA")


@pytest.mark.parametrize(
    ("comment", "symbol", "name", "unit", "label"),
    [
        ("CL (L/h)", "TVCL", "CL", "L/h", "CL"),
        ("POP_CL", "CL", "CL", "", "POP_CL"),
        ("Clearance at 70 kg [L/h]", "TVCL", "CL", "L/h", "Clearance at 70 kg"),
        ("1. V [L]", "", "V", "L", "V"),
        ("", "TVKA", "KA", "", ""),
        ("[MU_1]", "LOG_CL", "LOG_CL", "", "MU_1"),
        ("CL; volume", "TVCL", "CL", "", "CL volume"),
    ],
)
def test_names_units_and_labels(comment, symbol, name, unit, label):
    assert parameter_word(comment, symbol) == name
    assert unit_of(comment) == unit
    assert label_of(comment) == label


def test_effects_are_named_by_their_parameter():
    assert effect_word("IIV CL", "") == "CL"
    assert effect_word("IIV_V", "TVX") == "X"
