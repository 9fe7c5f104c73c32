"""Covariances of every form: three coordinates that agree, positive definite everywhere, with the right derivatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import nlme
from nlme.parameters.covariance import build

FULL = np.array([[0.09, 0.02, -0.01], [0.02, 0.04, 0.005], [-0.01, 0.005, 0.3]])
FORMS = {
    "one": (build(cl=0.09), [[0.09]]),
    "diagonal": (build(cl=0.09, v=0.04), np.diag([0.09, 0.04])),
    "full": (build(("cl", "v", "ka"), FULL), FULL),
    "lower triangle": (build(("cl", "v", "ka"), [[0.09], [0.02, 0.04], [-0.01, 0.005, 0.3]]), FULL),
    "block": (
        build((("cl", "v"), [[0.09, 0.03], [0.03, 0.04]]), ka=0.2),
        [[0.09, 0.03, 0.0], [0.03, 0.04, 0.0], [0.0, 0.0, 0.2]],
    ),
    "pairs": (
        build(cl=0.09, ka=0.25, v=0.04, correlation={("cl", "v"): -0.5}),
        [[0.09, -0.03, 0.0], [-0.03, 0.04, 0.0], [0.0, 0.0, 0.25]],
    ),
}
each = pytest.mark.parametrize("form", FORMS)


@each
def test_the_matrix_is_what_was_declared(form):
    value, omega = FORMS[form]
    np.testing.assert_allclose(value.matrix, omega, rtol=1e-13, atol=1e-16)
    np.testing.assert_allclose(value.cholesky, np.linalg.cholesky(omega), rtol=1e-12, atol=1e-16)
    sd = np.sqrt(np.diagonal(omega))
    np.testing.assert_allclose(value.correlation, omega / np.outer(sd, sd), rtol=1e-12, atol=1e-15)
    free = [omega[i][j] for i, j in value.positions()]
    np.testing.assert_allclose(value.natural(), free, rtol=1e-12)


def test_names_of_elements():
    assert FORMS["full"][0].element_names() == ["cl", "v,cl", "v", "ka,cl", "ka,v", "ka"]
    assert FORMS["pairs"][0].names == ("cl", "v", "ka"), "effects of a block stand together"
    assert FORMS["pairs"][0].element_names() == ["cl", "v,cl", "v", "ka"]


@each
def test_coordinates_round_trip(form):
    value, omega = FORMS[form]
    there = (value.at_unconstrained(value.unconstrained()), value.at_natural(value.natural()), value.replace(np.asarray(omega)))
    for other in there:
        np.testing.assert_allclose(other.matrix, value.matrix, rtol=1e-12, atol=1e-15)
    u = jnp.asarray(np.random.default_rng(3).normal(size=len(value.positions())))
    np.testing.assert_allclose(value.at_unconstrained(u).unconstrained(), u, rtol=1e-10, atol=1e-12)


@each
def test_every_unconstrained_point_is_positive_definite(form):
    value, omega = FORMS[form]
    random = np.random.default_rng(5)
    points = random.normal(size=(200, len(value.positions()))) * 3.0
    matrices = np.asarray(jax.jit(jax.vmap(lambda u: value.at_unconstrained(u).matrix))(points))
    sd = np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))
    correlation = matrices / (sd[:, :, None] * sd[:, None, :])
    assert np.linalg.eigvalsh(correlation).min() > 0
    outside = np.asarray(omega) == 0
    assert np.all(matrices[:, outside] == 0), "effects of different blocks stay independent"


@each
def test_derivative_of_the_elements_in_the_unconstrained(form):
    """What the delta method turns standard errors with."""
    value = FORMS[form][0]
    u = np.asarray(value.unconstrained())
    natural = jax.jit(lambda u: value.at_unconstrained(u).natural())
    found = np.asarray(jax.jit(jax.jacfwd(natural))(u))
    h = 1e-5
    for k in range(len(u)):
        step = h * np.eye(len(u))[k]
        up, down = (np.asarray(natural(u + s)) for s in (step, -step))
        np.testing.assert_allclose(found[:, k], (up - down) / (2 * h), rtol=1e-8, atol=1e-10)


def test_elements_that_are_not_positive_definite_show_as_nan():
    """A step of a search may try them; a user's values are refused."""
    value = FORMS["full"][0]
    wrong = value.at_natural(jnp.asarray([0.09, 0.5, 0.04, -0.01, 0.005, 0.3]))
    assert np.isnan(np.asarray(wrong.matrix)).any()


BAD = {
    "a correlation of an effect without variance": lambda: build(a=0.0, b=1.0, correlation={("a", "b"): 0.5}),
    "a covariance of an effect without variance": lambda: build(("a", "b"), [[0.0], [0.1, 1.0]]),
    "negative variance": lambda: build(cl=-0.1),
    "not a number": lambda: build(cl=np.nan),
    "text": lambda: build(cl="0.1"),
    "not positive definite": lambda: build(("a", "b"), [[1.0, 2.0], [2.0, 1.0]]),
    "not symmetric": lambda: build(("a", "b"), [[1.0, 0.1], [0.3, 1.0]]),
    "wrong size": lambda: build(("a", "b"), [[1.0]]),
    "name twice": lambda: build((("a", "b"), [[1.0, 0.0], [0.0, 1.0]]), a=0.1),
    "correlation of one": lambda: build(a=1.0, b=1.0, correlation={("a", "b"): 1.0}),
    "a pair in both orders": lambda: build(a=1.0, b=1.0, correlation={("a", "b"): 0.5, ("b", "a"): -0.5}),
    "correlation of a stranger": lambda: build(a=1.0, correlation={("a", "b"): 0.5}),
    "impossible correlations": lambda: build(
        a=1.0, b=1.0, c=1.0, correlation={("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): -0.9}
    ),
    "nothing": build,
    "text in a matrix": lambda: build(("a", "b"), [["x", 0.0], [0.0, 1.0]]),
    "a number for a matrix": lambda: build(("a", "b"), 3.0),
    "a matrix without names": lambda: build([[1.0, 0.1], [0.1, 1.0]], names=("a", "b")),
    "names that are none": lambda: build(((1, 2), np.eye(2)), c=1.0),
    "a correlation of text": lambda: build(a=1.0, b=1.0, correlation={("a", "b"): "x"}),
    "replaced by text": lambda: build(a=1.0, b=1.0).replace("x"),
    "a covariance across blocks": lambda: build(a=1.0, b=1.0).replace(np.array([[1.0, 0.5], [0.5, 1.0]])),
    "replacing a stranger": lambda: build(a=1.0).replace({"b": 1.0}),
}


@pytest.mark.parametrize("declare", BAD.values(), ids=BAD)
def test_what_is_no_covariance_is_refused(declare):
    with pytest.raises(nlme.ModelError):
        declare()


TRIANGLES = {
    "rows": [[0.09], [0.01, 0.04], [-0.01, 0.005, 0.3]],
    "one list, as $OMEGA BLOCK": [0.09, 0.01, 0.04, -0.01, 0.005, 0.3],
    "zeros above": np.tril([[0.09, 0, 0], [0.01, 0.04, 0], [-0.01, 0.005, 0.3]]),
    "the whole": [[0.09, 0.01, -0.01], [0.01, 0.04, 0.005], [-0.01, 0.005, 0.3]],
    "a frame in another order": pd.DataFrame(
        [[0.3, -0.01, 0.005], [-0.01, 0.09, 0.01], [0.005, 0.01, 0.04]], index=["c", "a", "b"], columns=["c", "a", "b"]
    ),
}


@pytest.mark.parametrize("matrix", TRIANGLES.values(), ids=TRIANGLES)
def test_a_lower_triangle_will_do_wherever_a_matrix_is_taken(matrix):
    names, whole = ("a", "b", "c"), np.array(TRIANGLES["the whole"])
    np.testing.assert_allclose(build(names, matrix).matrix, whole, rtol=1e-12)
    np.testing.assert_allclose(build((names, matrix), d=1.0).matrix[:3, :3], whole, rtol=1e-12)
    np.testing.assert_allclose(build(names, np.eye(3)).replace(matrix).matrix, whole, rtol=1e-12)

    class Blocked(nlme.Model):
        omega: nlme.Covariance = nlme.covariance(names, np.eye(3))

    np.testing.assert_allclose(Blocked(omega=matrix).omega.matrix, whole, rtol=1e-12)


def test_elements_by_name():
    start = build(("a", "b"), [[0.09], [0.01, 0.04]], c=0.3)
    found = start.replace({"a": 0.36, "c": 0.1})
    np.testing.assert_allclose(found.correlation, start.correlation, atol=1e-15)  # correlations that are not given stay
    assert found.natural().tolist() == pytest.approx([0.36, 0.02, 0.04, 0.1])
    for key in ("b,a", "a,b", ("a", "b")):
        assert start.replace({key: -0.02}).natural().tolist() == pytest.approx([0.09, -0.02, 0.04, 0.3])
    for wrong, words in {
        "a,c": "different blocks",
        "b,a": "positive definite",
        "a,a": "'cl', or by two",
        "d": "named 'd'",
    }.items():
        with pytest.raises(nlme.ModelError, match=words):
            start.replace({wrong: 5.0})


@pytest.mark.slow
def test_an_effect_without_variance():
    """Its numbers go there and back, and nothing in them is NaN; inside a block it is correlated with nothing."""
    for value in (
        build(a=0.0, b=0.04),
        build(("a", "b"), [[0.0], [0.0, 0.04]]),
        build(("a", "b"), [[0.09], [0.01, 0.04]]).replace({"a": 0.0}),
    ):
        assert np.asarray(value.matrix).tolist() == [[0.0, 0.0], [0.0, pytest.approx(0.04)]]
        for again in (value.at_natural(value.natural()), value.at_unconstrained(value.unconstrained())):
            np.testing.assert_allclose(again.matrix, value.matrix, rtol=1e-12)
            np.testing.assert_allclose(again.correlation, np.eye(2), atol=1e-15)
        assert np.isfinite(jax.jacfwd(lambda v, value=value: value.at_natural(v).cholesky)(value.natural())).all()
    assert "a=0" in repr(build(a=0.0))
