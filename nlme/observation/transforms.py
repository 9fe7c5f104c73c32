"""Scales on which data are normal: a table of transforms h with their inverses and log slopes.

Every function takes (value, shape), with ``shape`` the transform's parameters in the order of ``shaped``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp


class Transform(NamedTuple):
    """One scale: h, its inverse, log |h'|, the names of its parameters, the bounds of its data by shape, h at the lower one, and its words."""

    forward: Callable
    inverse: Callable
    log_slope: Callable
    shaped: tuple[str, ...]
    bounds: Callable
    least: Callable
    words: str


def power_ratio(log_x, lam):
    """(x^lam - 1) / lam from log x, smooth through lam = 0 with its derivatives in both.

    Near zero by its series in u = lam log x: log x (1 + u/2 + u^2/6 + ...).
    """
    u = lam * log_x
    near = jnp.abs(u) < 0.02
    safe = jnp.where(near, 1.0, u)
    series = 1.0 + u / 2 * (1.0 + u / 3 * (1.0 + u / 4 * (1.0 + u / 5 * (1.0 + u / 6 * (1.0 + u / 7)))))
    return log_x * jnp.where(near, series, jnp.expm1(safe) / safe)


def power_ratio_inverse(z, lam):
    """x with (x^lam - 1) / lam = z; 0 where no x reaches z from below, infinity from above."""
    u = lam * z
    near = jnp.abs(u) < 1e-4
    safe_lam = jnp.where(near, 1.0, lam)
    inside = u > -1.0
    log_1u = jnp.log1p(jnp.where(near | ~inside, 0.0, u))
    series = z * (1.0 - u / 2 + u**2 / 3 - u**3 / 4)
    reached = jnp.exp(jnp.where(near, series, log_1u / safe_lam))
    beyond = jnp.where((lam > 0) | jnp.isneginf(z), 0.0, jnp.inf)
    return jnp.where(inside & ~jnp.isneginf(z), reached, beyond)


def _logit(y, shape):
    return jnp.log(y - shape[0]) - jnp.log(shape[1] - y)


def _logit_inverse(z, shape):
    share = jnp.where(z > 0, 1.0 / (1.0 + jnp.exp(-jnp.abs(z))), jnp.exp(-jnp.abs(z)) / (1.0 + jnp.exp(-jnp.abs(z))))
    return shape[0] + (shape[1] - shape[0]) * share


def _logit_slope(y, shape):
    return jnp.log(shape[1] - shape[0]) - jnp.log(y - shape[0]) - jnp.log(shape[1] - y)


def _yeo_johnson(y, shape):
    positive, lam = y >= 0, shape[0]
    up = power_ratio(jnp.log1p(jnp.where(positive, y, 0.0)), lam)
    down = power_ratio(jnp.log1p(jnp.where(positive, 0.0, -y)), 2.0 - lam)
    return jnp.where(positive, up, -down)


def _yeo_johnson_inverse(z, shape):
    positive, lam = z >= 0, shape[0]
    up = power_ratio_inverse(jnp.where(positive, z, 0.0), lam) - 1.0
    down = 1.0 - power_ratio_inverse(jnp.where(positive, 0.0, -z), 2.0 - lam)
    return jnp.where(positive, up, down)


def _yeo_johnson_slope(y, shape):
    return (shape[0] - 1.0) * jnp.sign(y) * jnp.log1p(jnp.abs(y))


def _unbounded(shape):
    return -jnp.inf, jnp.inf


def _positive(shape):
    return 0.0, jnp.inf


def _endless(shape):
    return -jnp.inf


def _box_cox_least(shape):
    above = shape[0] > 0
    return jnp.where(above, -1.0 / jnp.where(above, shape[0], 1.0), -jnp.inf)


TRANSFORMS = {
    "identity": Transform(
        lambda y, s: y,
        lambda z, s: z,
        lambda y, s: jnp.zeros_like(y),
        (),
        _unbounded,
        _endless,
        "normal on the scale of the data",
    ),
    "log": Transform(
        lambda y, s: jnp.log(y),
        lambda z, s: jnp.exp(z),
        lambda y, s: -jnp.log(y),
        (),
        _positive,
        _endless,
        "normal on the log scale",
    ),
    "logit": Transform(
        _logit, _logit_inverse, _logit_slope, ("lower", "upper"), lambda s: (s[0], s[1]), _endless, "normal on the logit scale"
    ),
    "box-cox": Transform(
        lambda y, s: power_ratio(jnp.log(y), s[0]),
        lambda z, s: power_ratio_inverse(z, s[0]),
        lambda y, s: (s[0] - 1.0) * jnp.log(y),
        ("lam",),
        _positive,
        _box_cox_least,
        "normal on a Box-Cox scale",
    ),
    "yeo-johnson": Transform(
        _yeo_johnson, _yeo_johnson_inverse, _yeo_johnson_slope, ("lam",), _unbounded, _endless, "normal on a Yeo-Johnson scale"
    ),
}
