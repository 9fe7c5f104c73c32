"""Jets of composed functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlme.jets.composition import compose, push_composed
from nlme.jets.jet import Columns, Jet

POINT = jnp.array([0.7, 1.3, 0.4, 2.1])
CASES = {
    "first": Columns.of_order(1, 4),
    "second": Columns.of_order(2, 4),
    "some carry": Columns.of_order(2, 4, np.array([True, False, False, True])),
}


def numbers(z):
    """One number, and one for each of three doses."""
    return z[0] * z[1] / z[2], jnp.exp(-z[3] * jnp.arange(3.0)) * z[1]


def response(u, w):
    """(2, 3): of two samples and three doses."""
    return jnp.sin(u * jnp.array([1.0, 2.0]))[:, None] * w**2 + w / (1.0 + u)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "some carry")) for n in CASES])
def test_the_jet_of_a_composed_function(name):
    columns = CASES[name]
    """By the jet of the outer function in its own two arguments, and at once."""
    own = Columns.of_order(2 if columns.pairs else 1, 2)
    inner = columns.push(numbers, columns.unpack(columns.seed(POINT, jnp.ones(4))))
    one, several = inner
    flat = [jnp.zeros((3, *u.value.shape)) if own.pairs else None for u in inner]
    seeds = Jet(one.value, jnp.eye(2)[0], flat[0]), Jet(several.value, jnp.array([[0.0] * 3, [1.0] * 3]), flat[1])
    found = compose(columns, own.push(response, *seeds), own, inner)
    expected = columns.push(lambda z: response(*numbers(z)), columns.unpack(columns.seed(POINT, jnp.ones(4))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13), found, expected)


@pytest.mark.parametrize("columns", [Columns(), *CASES.values()], ids=["none", *CASES])
def test_a_response_in_which_nothing_moves(columns):
    (jet,) = push_composed(columns, lambda: (jnp.ones((2, 3)),), [], 2)
    expected = columns.unpack(columns.constant(jnp.ones((2, 3))))
    jax.tree.map(np.testing.assert_array_equal, jet, expected)
