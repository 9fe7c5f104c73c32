"""The chain rule equation by equation: every rule against JAX's own forward mode, and only the columns that there are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nlme
from nlme.dynamics.explicit import TSIT5, Explicit
from nlme.dynamics.rosenbrock import RODAS5P, Rosenbrock
from nlme.dynamics.system import System, occupied_states
from nlme.jets.chain import Chain, through
from nlme.jets.jet import Columns
from nlme.jets.sparse import Occupied, Sparse, whole

POINT = jnp.array([0.7, 1.3, 0.4, 2.1])
WEIGHTS = jnp.array(np.random.default_rng(3).normal(size=(3, 4)))

#: one operation each, of a vector of four positive numbers
FUNCTIONS = {
    "sum and difference": lambda x: x[0] + 2.0 - x[1] - x[0],
    "product": lambda x: x[0] * x[1] * 3.0 * x[0],
    "product of sums": lambda x: (x[0] + x[1]) * (x[2] - x[1] * x[3]),
    "quotient": lambda x: x[0] / x[1] + 2.0 / x[2] + x[3] / 5.0,
    "quotient of itself": lambda x: (x[0] + x[1]) / (x[0] * x[2]),
    "unary": lambda x: jnp.exp(x[0] * x[1]) + jnp.log(x[1]) + jnp.sqrt(x[2]) + jnp.tanh(x[3] * x[0]) + jax.lax.rsqrt(x[1]),
    "trigonometric": lambda x: jnp.sin(x[0]) * jnp.cos(x[1] * x[2]) + jnp.arctan2(x[2], x[3]),
    "powers": lambda x: x[0] ** 3 + x[1] ** x[2] + 2.0 ** x[3] + x[0] ** 0.5 + jnp.square(x[3]),
    "absolute value": lambda x: jnp.abs(x[0] - x[1]) * x[2],
    "least and greatest": lambda x: jnp.maximum(x[0], x[1]) * x[2] + jnp.minimum(x[3], 1.0) + jnp.clip(x[1], 0.0, 1.0),
    "choice": lambda x: jnp.where(x[0] < x[1], x[0] * x[2], x[3]) + jnp.where(x[0] > 0.0, 1.0, x[1]),
    "special functions": lambda x: jax.lax.lgamma(x[0]) + jax.lax.erf(x[1] * x[2]) + jax.nn.sigmoid(x[3]),
    "custom derivative": lambda x: jax.nn.softplus(x[0] * x[1]) + jax.nn.relu(x[2] - 1.0),
    "network": lambda x: jnp.sum(jnp.tanh(WEIGHTS @ x) ** 2),
    "vector": lambda x: jnp.concatenate([x[:2] * x[2], jnp.exp(x)])[::-1].sum() + jnp.mean(jnp.stack([x[0], x[3]])) * x[1],
    "a number times a vector": lambda x: jnp.sum(x[0] * x[1] * (jnp.ones(10) * x[2]) + x[0] * x[3] * (jnp.arange(10.0) * x[2])),
    "a number beside a vector": lambda x: jnp.sum(
        jax.lax.max(x[0] * x[1], jnp.arange(10.0) * x[2]) + jax.lax.pow(x[3], jnp.arange(1.0, 11.0) * x[2] * x[0])
    ),
    "reshaping": lambda x: (x.reshape(2, 2).T[None] * x[0]).sum(axis=(0, 2))[1],
    "index that moves": lambda x: x[jnp.argmax(x)] * x[0],
    "interpolation": lambda x: jnp.interp(x[0], jnp.array([0.0, 0.5, 1.0]), x[1:]),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda k, y: y * x[1] + x[0], x[2]),
    "loop until": lambda x: jax.lax.while_loop(
        lambda at: at[1] < 9.0 * x[1], lambda at: (at[0] * x[1], at[1] + at[0] * x[3]), (x[0], x[2])
    )[1],
    "loop along": lambda x: (lambda end, ways: end * x[3] + ways.sum())(
        *jax.lax.scan(lambda a, b: (a * x[1] + b[0] * b[1], a * b[0]), x[2], (x[1:] * x[0], jnp.arange(3.0)))
    ),
    "loop backwards": lambda x: jax.lax.scan(lambda a, b: (a * b + x[1], None), 0.0, x**2, reverse=True)[0],
    "loop that fills up": lambda x: sum(
        jax.lax.fori_loop(0, 4, lambda k, a: (a[0] * x[0], a[1] + a[0] * x[1], a[2] + a[1] * k * x[2]), (1.0, 0.0, 0.0))
    ),
    "inner program": lambda x: jax.jit(lambda a, b: a * b + a)(x[0], x[1] * x[2]),
    "held constant": lambda x: jax.lax.stop_gradient(x[0]) * x[1],
    "whole numbers": lambda x: jnp.floor(x[0]) + x[1] * (x[2].astype(int) + 1),
    "closed form": lambda x: nlme.pk.OneCompartmentOral(x[0], x[1], ka=x[2]).advance((1.0, 0.0), None, x[3])[1],
}
CASES = {
    "first": Columns.of_order(1, 4),
    "second": Columns.of_order(2, 4),
    "some carry": Columns.of_order(2, 4, np.array([True, False, True, False])),
}


OWN = [Occupied((k,)) for k in range(4)]  # each of POINT's elements is moved by its own direction


def independent(columns):
    return columns.seed(POINT, jnp.ones(4)), OWN


def elements_of(columns):
    """The jets of POINT's elements."""
    packed, occupied = independent(columns)
    jet = columns.unpack(packed)
    return [Sparse.of(jet.at((k,)), kept, columns) for k, kept in enumerate(occupied)]


QUICK = [pytest.param(x, id=name, marks=() if name == "second" else pytest.mark.slow) for name, x in CASES.items()]


@pytest.mark.parametrize("columns", QUICK)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_every_rule_is_that_of_forward_mode(function, columns):
    packed = columns.seed(POINT, jnp.ones(4))

    @jax.jit
    def both(packed):
        (found,) = through(columns, lambda x: (function(x),), packed, OWN)
        return whole(found, columns), columns.apply(lambda x: function(x)[None], packed)[0]

    found, expected = both(packed)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["product of sums", "quotient of itself", "powers", "unary", "closed form"])
def test_second_derivatives_are_central_differences(name):
    columns, function, h = CASES["second"], FUNCTIONS[name], 1e-4
    (found,) = through(columns, lambda x: (function(x),), *independent(columns))
    jet = columns.unpack(whole(found, columns))
    steps = h * np.eye(4)
    for k, (i, j) in enumerate(columns.pairs):
        around = [function(POINT + a * steps[i] + b * steps[j]) * a * b for a in (-1, 1) for b in (-1, 1)]
        np.testing.assert_allclose(jet.second[k], sum(around) / (4 * h * h), rtol=1e-5, atol=1e-6)


def test_only_columns_that_move_are_there():
    columns = CASES["second"]

    def occupied(function):
        (found,) = through(columns, lambda x: (function(x),), *independent(columns))
        return found.occupied

    assert occupied(lambda x: x[1] + 1.0) == Occupied((1,))
    assert occupied(lambda x: x[0] * x[2]) == Occupied((0, 2), ((0, 2),))
    assert occupied(lambda x: jnp.exp(x[3])) == Occupied((3,), ((3, 3),))
    assert occupied(lambda x: jnp.where(x[0] > 0, x[1], x[2])) == Occupied((1, 2))


def test_numbers_that_move_nothing_stay_one_array():
    """The same jets as if every number moved, and a trace no longer for a thousand of them than for ten."""
    columns = CASES["second"]

    def function(z):
        return (z[0] * jnp.sum(jnp.sin(z[2:-2])) * jnp.exp(z[1] * z[-1]) + z[-2] ** 3,)

    def inputs(count):
        values = jnp.concatenate([POINT[:2], jnp.linspace(0.1, 1.0, count), POINT[2:]])
        moves = jnp.zeros((4, count + 4)).at[jnp.arange(4), jnp.array([0, 1, -2, -1])].set(1.0)
        packed = jnp.zeros((count + 4, columns.count)).at[:, 0].set(values).at[:, 1:5].set(moves.T)
        return packed, [*OWN[:2], *[Occupied()] * count, *OWN[2:]]

    def pushed(packed, occupied):
        return whole(through(columns, function, packed, occupied)[0], columns)

    packed, occupied = inputs(10)
    np.testing.assert_allclose(pushed(packed, occupied), pushed(packed, None), rtol=1e-13, atol=1e-14)
    few, many = (len(jax.make_jaxpr(lambda x, kept=kept: pushed(x, kept))(x).eqns) for x, kept in map(inputs, (10, 1000)))
    assert few == many
    held = through(columns, function, packed, [Occupied()] * 14)[0]
    assert held.occupied == Occupied() and held.value == pytest.approx(float(function(packed[:, 0])[0]))


def test_a_loop_carries_the_columns_that_its_turns_bring():
    columns = CASES["second"]

    def passed_on(x):
        p, q, r = x[0], x[1], x[2]
        return jax.lax.fori_loop(0, 4, lambda k, a: (a[0] * p, a[1] + a[0] * q, a[2] + a[1] * r), (1.0, 0.0, 0.0))

    first, second, third = through(columns, passed_on, *independent(columns))
    assert first.occupied == Occupied((0,), ((0, 0),))
    assert second.occupied == Occupied((0, 1), ((0, 0), (0, 1)))
    assert third.occupied == Occupied((0, 1, 2), ((0, 0), (0, 1), (0, 2), (1, 2)))


def test_states_have_the_columns_of_what_reaches_them():
    """Depot: ka only.  Central: all but the effect's.  The effect compartment: everything."""
    columns = Columns.of_order(2, 4)

    def flow(u, a, z):
        ka, cl, v, ke = z
        return -ka * a[0], ka * a[0] - cl / v * a[1], ke * (a[1] / v - a[2])

    kept = occupied_states(columns, flow, (tuple(Occupied((k,)) for k in range(4)),), (Occupied(),) * 3)
    assert kept[0] == Occupied((0,), ((0, 0),))
    assert kept[1].directions == (0, 1, 2)
    assert (0, 1) in kept[1].pairs and all(3 not in pair for pair in kept[1].pairs)
    assert kept[2] == Occupied.all_of(columns)


def test_what_does_not_move_is_computed_once():
    """Quotients and exponentials of the inputs alone are left out of a call."""
    columns = CASES["second"]
    elements = elements_of(columns)
    chain = Chain(columns, lambda a, *z: a * jnp.exp(z[0]) / z[1], [jnp.zeros(())], elements)
    call = jax.make_jaxpr(lambda a: chain(Sparse(a))[0].value)(1.0)
    assert "exp" not in {equation.primitive.name for equation in call.jaxpr.eqns}
    (found,) = chain(Sparse(jnp.asarray(2.0)))
    np.testing.assert_allclose(found.value, 2.0 * np.exp(0.7) / 1.3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "order", "conditions"),
    [(Explicit(TSIT5), 0, False), (Explicit(TSIT5), 2, True), (Rosenbrock(RODAS5P), 0, False), (Rosenbrock(RODAS5P), 1, True)],
)
def test_stages_computed_once_are_the_same_and_cost_less(method, order, conditions):
    """Kept apart, the stages of a step are not computed anew in every loop that uses them."""
    columns = Columns.of_order(order, 3)
    several = functools.partial(jax.tree.map, lambda x: jnp.broadcast_to(x[..., None], (*x.shape, 7)))
    inputs = (several(columns.unpack(columns.seed(POINT[:3], jnp.ones(3)))),)
    every = Occupied.all_of(columns)
    moved = (tuple(Occupied((k,) if order else ()) for k in range(3)),)

    def flow(u, a, z):
        exchange = z[1] * (a[1] - a[2])
        return -z[0] * a[0], z[0] * a[0] - z[2] * a[1] - exchange, exchange

    def step(materialise):
        system = System(columns, flow, inputs, moved, (every,) * 3, materialise=materialise)
        state = tuple(several(columns.unpack(columns.constant(y))) for y in (1.0, 1.2, 0.3))
        return lambda u, h: method.step(system, u, state, method.begin(system, state), h)

    at = jnp.zeros(7), jnp.full(7, 0.1)
    plain, once = (jax.jit(step(materialise)).lower(*at).compile() for materialise in (False, True))
    for a, b in zip(jax.tree.leaves(plain(*at)), jax.tree.leaves(once(*at)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    assert (" conditional(" in once.as_text()) == conditions and " conditional(" not in plain.as_text()
    operations = [sum(text.count(f" {name}(") for name in ("multiply", "add")) for text in (plain.as_text(), once.as_text())]
    assert operations[1] < 0.6 * operations[0]
