"""Logarithms of distribution functions, exact far into the tails, with derivatives that stay so.

    normal    log Phi(x) = log( erfcx(-x / sqrt 2) / 2 ) - x^2 / 2,   d/dx = phi / Phi = m,   dm/dx = -m (x + m)
    Student   log F(x) by the incomplete beta function,               d/dx = f / F

Both distributions are symmetric, so that log P(X > x) = log F(-x).
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import betainc, erfc, erfcx, gammaln

_ROOT2, _ROOT2PI = math.sqrt(2.0), math.sqrt(2.0 * math.pi)


def log_from_zero(x):
    """log x; -inf at x = 0, with a derivative of 0 there."""
    nothing = x == 0.0
    return jnp.where(nothing, -jnp.inf, jnp.log(jnp.where(nothing, 1.0, x)))


def log_rising(x, y):
    """log( G(x + y) / (G(x) x^y) ), G the gamma function, x > 0 and y >= 0; it goes to 0 with 1 / x.

    For large x from Stirling's series log G(x) = (x - 1/2) log x - x + s(x), with nothing of the size of x log x in it:
    (x + y - 1/2) log(1 + y / x) - y + s(x + y) - s(x).
    """
    large = x > 100.0
    far, near = jnp.where(large, x, 100.0), jnp.where(large, 1.0, x)

    def stirling(x):
        return (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / jnp.square(x)) / jnp.square(x)) / x

    series = (far + y - 0.5) * jnp.log1p(y / far) - y + stirling(far + y) - stirling(far)
    return jnp.where(large, series, gammaln(near + y) - gammaln(near) - y * jnp.log(near))


def _scaled_erfc(x):
    """exp(x^2) erfc(x), x >= 0; by its asymptotic series above 20 (JAX's own is 0 between 26.54 and 26.64)."""
    far = x > 20.0
    r = 0.5 / jnp.square(jnp.where(far, x, 20.0))
    series = 1.0 - r * (1.0 - 3.0 * r * (1.0 - 5.0 * r * (1.0 - 7.0 * r * (1.0 - 9.0 * r * (1.0 - 11.0 * r)))))
    return jnp.where(far, series / (jnp.where(far, x, 1.0) * math.sqrt(math.pi)), erfcx(jnp.minimum(x, 20.0)))


@jax.custom_jvp
def normal_log_cdf(x):
    """log Phi(x)."""
    low = jnp.log(0.5 * _scaled_erfc(-jnp.minimum(x, 0.0) / _ROOT2)) - 0.5 * jnp.square(x)
    return jnp.where(x < 0, low, jnp.log1p(-0.5 * erfc(jnp.maximum(x, 0.0) / _ROOT2)))


@jax.custom_jvp
def _normal_pull(x):
    """phi(x) / Phi(x)."""
    low = 2.0 / _ROOT2PI / _scaled_erfc(-jnp.minimum(x, 0.0) / _ROOT2)
    up = jnp.maximum(x, 0.0)
    return jnp.where(x < 0, low, jnp.exp(-0.5 * jnp.square(up)) / _ROOT2PI / (1.0 - 0.5 * erfc(up / _ROOT2)))


@normal_log_cdf.defjvp
def _(primals, tangents):
    return normal_log_cdf(*primals), _normal_pull(*primals) * tangents[0]


@_normal_pull.defjvp
def _(primals, tangents):
    pull = _normal_pull(*primals)
    return pull, -pull * (primals[0] + pull) * tangents[0]


def student_log_pdf(x, df):
    """Log density of Student's t with ``df`` degrees of freedom."""
    scale = log_rising(0.5 * df, 0.5) - 0.5 * math.log(2.0 * math.pi)
    return scale - 0.5 * (df + 1.0) * jnp.log1p(jnp.square(x) / df)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def student_log_cdf(x, df: float):
    """log F(x) of Student's t with ``df``, a number, degrees of freedom."""
    half = 0.5 * betainc(0.5 * df, 0.5, df / (df + jnp.square(x)))
    return jnp.where(x < 0, jnp.log(half), jnp.log1p(-half))


@student_log_cdf.defjvp
def _(df, primals, tangents):
    value = student_log_cdf(*primals, df)
    return value, jnp.exp(student_log_pdf(primals[0], df) - student_log_cdf(*primals, df)) * tangents[0]


def log_between(log_cdf, low, high):
    """log( F(high) - F(low) ) of a symmetric distribution, low < high; either may be infinite.

    The difference is taken in the tail where both are small, and infinities are kept out of every derivative.
    """
    from_below, to_above = jnp.isneginf(low), jnp.isposinf(high)
    a = jnp.where(from_below, jnp.where(to_above, 0.0, high) - 1.0, low)
    b = jnp.where(to_above, a + 1.0, high)
    turned = a > 0
    log_a, log_b = log_cdf(jnp.where(turned, -b, a)), log_cdf(jnp.where(turned, -a, b))
    between = log_b + jnp.log(-jnp.expm1(log_a - log_b))
    one_sided = log_cdf(jnp.where(from_below, b, -a))
    return jnp.where(from_below & to_above, 0.0, jnp.where(from_below | to_above, one_sided, between))
