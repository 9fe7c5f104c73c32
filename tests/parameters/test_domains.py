"""Every domain: its map from the real line is a bijection with the right derivative and limits; outsiders are refused."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, logit

import nlme
from nlme.parameters.domains import POSITIVE, PROBABILITY, REAL, Domain

# domain -> (value at u, u at value) by numpy
DOMAINS = {
    REAL: (lambda u: u, lambda x: x),
    POSITIVE: (np.exp, np.log),
    PROBABILITY: (expit, logit),
    Domain("bounded", -2.0, 5.0): (lambda u: -2.0 + 7.0 * expit(u), lambda x: logit((x + 2.0) / 7.0)),
    Domain("bounded", 3.0, np.inf): (lambda u: 3.0 + np.exp(u), lambda x: np.log(x - 3.0)),
}
LINE = np.linspace(-6.0, 6.0, 25)
each = pytest.mark.parametrize(("domain", "maps"), DOMAINS.items(), ids=[f"{d.name}-{d.lower:g}-{d.upper:g}" for d in DOMAINS])


@each
def test_map_and_inverse(domain, maps):
    value, back = maps
    x = np.asarray(domain.from_real(jnp.asarray(LINE)))
    np.testing.assert_allclose(x, value(LINE), rtol=1e-14)
    np.testing.assert_allclose(domain.to_real(jnp.asarray(x)), LINE, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(domain.to_real(jnp.asarray(x)), back(x), rtol=1e-12, atol=1e-12)
    assert domain.contains(x)


@each
def test_derivative_and_jacobian(domain, maps):
    slope = np.asarray(jax.vmap(jax.grad(domain.from_real))(jnp.asarray(LINE)))
    h = 1e-5
    np.testing.assert_allclose(slope, (maps[0](LINE + h) - maps[0](LINE - h)) / (2 * h), rtol=1e-6)
    assert np.all(slope > 0), "order is kept"
    log_slope = domain.bijection.log_abs_det_jacobian(jnp.asarray(LINE), domain.from_real(jnp.asarray(LINE)))
    np.testing.assert_allclose(log_slope, np.log(slope), rtol=1e-10, atol=1e-12)


@each
def test_limits(domain, maps):
    ends = np.asarray(domain.from_real(jnp.asarray([-600.0, 600.0])))
    assert np.all(np.isfinite(ends))
    if np.isfinite(domain.lower):
        np.testing.assert_allclose(ends[0], domain.lower, atol=1e-9)
        assert not domain.contains(domain.lower)
    if np.isfinite(domain.upper):
        np.testing.assert_allclose(ends[1], domain.upper, atol=1e-9)
        assert not domain.contains(domain.upper)
    assert not any(domain.contains(bad) for bad in (np.nan, np.inf, -np.inf, [ends.mean(), np.nan]))


BAD = {
    "a negative positive": lambda: nlme.positive(-1.0),
    "zero as positive": lambda: nlme.positive(0.0),
    "one negative in an array": lambda: nlme.positive([1.0, -1.0]),
    "NaN": lambda: nlme.real(np.nan),
    "infinite": lambda: nlme.real(np.inf),
    "at the bound": lambda: nlme.bounded(0.0, 0.0, 1.0),
    "bounds the wrong way round": lambda: nlme.bounded(0.5, 1.0, 0.0),
    "probability of one": lambda: nlme.probability(1.0),
    "a truth value": lambda: nlme.real(True),
    "complex": lambda: nlme.real(1 + 2j),
    "ragged": lambda: nlme.real([[1.0], [1.0, 2.0]]),
    "nothing": lambda: nlme.positive([]),
    "a bound of text": lambda: nlme.bounded(0.5, "a", 1.0),
}


@pytest.mark.parametrize("declare", BAD.values(), ids=BAD)
def test_a_starting_value_outside_is_refused(declare):
    with pytest.raises(nlme.ModelError):
        declare()


def test_a_declaration_keeps_unit_and_label_and_becomes_float64():
    class One(nlme.Model):
        k: nlme.Scalar = nlme.bounded(2, 1, 3, unit="1/h", label="Rate")

    declared = dataclasses.fields(One)[-1].metadata["nlme"]
    assert (declared.unit, declared.label, declared.domain.lower, declared.domain.upper) == ("1/h", "Rate", 1.0, 3.0)
    assert One().k.dtype == jnp.float64 and float(One(k=2.5).k) == 2.5


@each
def test_an_interval_is_even_on_the_line_of_the_search(domain, maps):
    """By NumPyro's own bijection: u(x) -+ q s |du/dx|."""
    for u in (-1.3, 0.4):
        x = float(domain.from_real(u))
        slope = float(jax.grad(domain.from_real)(u))
        low, high = domain.interval(x, 0.3, 1.96)
        expected = np.asarray(domain.from_real(jnp.asarray([u - 1.96 * 0.3 / slope, u + 1.96 * 0.3 / slope])))
        np.testing.assert_allclose([low, high], expected, rtol=1e-12)
        assert domain.lower <= low < x < high <= domain.upper
    assert domain.scale == ("natural" if domain == REAL else "logit" if np.isfinite(domain.upper) else "log")


@pytest.mark.parametrize("domain", DOMAINS, ids=[d.name for d in DOMAINS])
def test_there_is_no_interval_without_an_error_or_at_a_bound(domain):
    inside = float(domain.from_real(0.2))
    assert np.isnan(domain.interval(inside, np.nan, 1.96)).all() and np.isnan(domain.interval(np.nan, 1.0, 1.96)).all()
    if domain != REAL:
        assert np.isnan(domain.interval(domain.lower, 0.1, 1.96)).all()
    low, high = domain.interval(inside, 1e9, 1.96)  # no overflow, and never outside
    assert domain.lower <= low < high <= domain.upper
