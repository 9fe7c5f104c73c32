"""Each closed form against the matrix exponential of its equations: values, first and second derivatives, limits."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm
from structures import STRUCTURES

import nlme
from nlme.jets.jet import Columns
from nlme.structure.compartments import phi

ROWS = pytest.mark.parametrize("name", list(STRUCTURES))


def test_every_closed_form_is_in_the_table():
    closed = {name for name in nlme.pk.__all__ if getattr(nlme.pk, name).__module__ == "nlme.structure.compartments"}
    assert set(STRUCTURES) == closed


def by_exponential(row, p, amounts, rates, t) -> np.ndarray:
    """Amounts after time t under constant input, by the exponential of the system augmented with its input."""
    k = row.matrix_numpy(dict(zip(row.parameters, p, strict=True)))
    n = len(k)
    augmented = np.zeros((n + 1, n + 1))
    augmented[:n, :n], augmented[:n, n] = k, rates
    return (expm(augmented * t) @ np.r_[amounts, 1.0])[:n]


@functools.cache
def by_form(name):
    """The same by the closed form, and its jet: value, first (s, p) and second derivatives (s, p, p) in the parameters."""
    row = STRUCTURES[name]

    def moved(p, amounts, rates, t):
        structure = row.closed(dict(zip(row.parameters, p, strict=True)))
        return jnp.stack(structure.advance(tuple(amounts), tuple(rates), t))

    columns = Columns.of_order(2, len(row.parameters))

    def jet(p, *rest):
        found = columns.push(lambda p: moved(p, *rest), columns.unpack(columns.seed(p, jnp.ones_like(p))))
        bend = jnp.zeros((*found.value.shape, len(p), len(p)))
        bend = bend.at[:, columns.left, columns.right].set(found.second.T).at[:, columns.right, columns.left].set(found.second.T)
        return found.value, found.first.T, bend

    return jax.jit(moved), jax.jit(jet)


def draws(row, count=6, seed=3):
    """Parameters spread over two decades, amounts and rates."""
    random = np.random.default_rng(seed)
    typical = np.array(list(row.parameters.values()))
    for _ in range(count):
        p = typical * np.exp(random.normal(scale=1.0, size=len(typical)))
        yield p, random.uniform(0, 100, len(row.states)), random.uniform(0, 10, len(row.states))


@ROWS
def test_values(name):
    row = STRUCTURES[name]
    for p, amounts, rates in draws(row):
        for t in (0.0, 1e-4, 0.7, 24.0, 500.0):
            found = by_form(name)[0](p, amounts, rates, t)
            expected = by_exponential(row, p, amounts, rates, t)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * amounts.max(), err_msg=f"t = {t}, {p}")


@ROWS
def test_two_steps_make_one(name):
    advance = by_form(name)[0]
    for p, amounts, rates in draws(STRUCTURES[name], seed=4):
        halfway = advance(p, amounts, rates, 1.1)
        np.testing.assert_allclose(advance(p, halfway, rates, 2.3), advance(p, amounts, rates, 3.4), rtol=1e-10)


def special_cases(row):
    """Parameters where a formula divides by a difference that vanishes, or nearly."""
    p = dict(row.parameters)
    yield "ordinary", p
    yield "no elimination", p | {"cl": 0.0}
    if "ka" in p:
        slow = -np.linalg.eigvals(row.matrix_numpy(p)[1:, 1:]).real
        for k, value in enumerate(sorted(slow)):
            yield f"ka equal to eigenvalue {k}", p | {"ka": float(value)}
            yield f"ka close to eigenvalue {k}", p | {"ka": float(value) * (1 + 1e-9)}
    if "q3" in p:
        yield "equal return rates", p | {"q3": p["q2"] * p["v3"] / p["v2"]}
        yield "almost no slow exchange", p | {"q3": 1e-4}
    if "q" in p:
        yield "almost no exchange", p | {"q": 1e-5}


def differences(f, p, scale):
    """First and second derivatives of a smooth function from its values: central differences, extrapolated once."""
    size = len(p)
    step = 0.01 * scale

    def at(*moves):
        x = p.copy()
        for k, h in moves:
            x[k] += h * step[k]
        return f(x)

    def first(k, h):
        return (at((k, h)) - at((k, -h))) / (2 * h * step[k])

    def second(i, j, h):
        corners = [s * t * at((i, s * h), (j, t * h)) for s in (1, -1) for t in (1, -1)]
        return sum(corners) / (4 * h * h * step[i] * step[j])

    slope = [(4 * first(k, 0.5) - first(k, 1.0)) / 3 for k in range(size)]
    bend = {(i, j): (4 * second(i, j, 0.5) - second(i, j, 1.0)) / 3 for i in range(size) for j in range(i + 1)}
    bend = [[bend[max(i, j), min(i, j)] for j in range(size)] for i in range(size)]
    return np.stack(slope, axis=-1), np.moveaxis(np.array(bend), -1, 0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n.startswith(("ThreeCompartment", "TwoCompartmentOral")) else [])
        for n in STRUCTURES
    ],
)
def test_derivatives_and_limits(name):
    """First and second derivatives in every parameter, at ordinary points and where two rates coincide."""
    row = STRUCTURES[name]
    amounts, rates, t = np.linspace(40.0, 70.0, len(row.states)), np.linspace(3.0, 1.0, len(row.states)), 2.6
    scale = np.array(list(row.parameters.values()))
    for label, parameters in special_cases(row):
        p = np.array(list(parameters.values()))
        # parameters near zero are moved on the scale of their ordinary size, where the expression stays smooth
        found = by_form(name)[1](p, amounts, rates, t)
        slope, bend = differences(lambda x: by_exponential(row, x, amounts, rates, t), p, scale)
        value = by_exponential(row, p, amounts, rates, t)
        np.testing.assert_allclose(found[0], value, rtol=1e-8, err_msg=label)
        np.testing.assert_allclose(found[1] * scale, slope * scale, atol=1e-6 * value.max(), err_msg=label)
        both = scale[:, None] * scale
        np.testing.assert_allclose(found[2] * both, bend * both, atol=1e-5 * value.max(), err_msg=label)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_phi(k):
    """phi_k against its integral (1/(k-1)!) int_0^1 exp((1 - s) x) s^(k-1) ds, small and large arguments alike."""
    from scipy.integrate import quad

    for x in (-40.0, -3.0, -1.0, -1.0 + 1e-12, -0.5, -1e-6, 0.0, 1e-9, 0.3, 1.0, 2.5):
        integral = quad(lambda s, x=x: np.exp((1 - s) * x) * s ** (k - 1), 0, 1, epsabs=1e-14, epsrel=1e-13)[0]
        assert float(phi(k, jnp.asarray(x))) == pytest.approx(integral / np.prod(range(1, k)), rel=1e-11)


@pytest.mark.parametrize("x", [-1e2, -1e5, -1e8, -1e15, -1e30])
def test_derivatives_of_phi_far_out(x):
    """phi_1 = -1 / x and phi_2 = -1 / x - 1 / x^2 up to exp(x): no derivative may be what rounding leaves of larger numbers."""
    for k, expected in ((1, (-1 / x, 1 / x**2, -2 / x**3)), (2, (-1 / x - 1 / x**2, 1 / x**2 + 2 / x**3, -2 / x**3 - 6 / x**4))):
        own = functools.partial(phi, k)
        found = [own(x), jax.grad(own)(x), jax.grad(jax.grad(own))(x)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)
