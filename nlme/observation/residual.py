"""Residual error models: what an observation's distribution is, given its prediction.

Every model here is Gaussian on some scale h of the data:  h(y) ~ N(mean, variance), so that one density serves all:

    log p(y) = -1/2 [ (h(y) - mean)^2 / variance + log variance + log 2 pi ] + log |h'(y)|

| constructor                            | h    | mean  | variance                   |
|----------------------------------------|------|-------|----------------------------|
| ``additive(f, add)``                   | y    | f     | add^2                      |
| ``proportional(f, prop)``              | y    | f     | (prop f)^2                 |
| ``combined(f, add, prop)``             | y    | f     | add^2 + (prop f)^2         |
| ``combined(f, add, prop, form="sd")``  | y    | f     | (add + prop f)^2           |
| ``power(f, prop, exponent)``           | y    | f     | (prop f^exponent)^2        |
| ``lognormal(f, sd)``                   | log y| log f | sd^2                       |

All arguments named ``add``, ``prop``, ``sd`` are standard deviations.
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.typing import Scalar

TRANSFORMS = {
    "identity": (lambda y: y, lambda y: jnp.zeros_like(y)),
    "log": (lambda y: jnp.log(y), lambda y: -jnp.log(y)),
}


class Residual(eqx.Module):
    """h(y) ~ N(mean, variance) for one record, with h named by ``transform`` ("identity" or "log")."""

    mean: Scalar
    variance: Scalar
    transform: str = eqx.field(static=True, default="identity")

    def transformed(self, y):
        """h(y)."""
        return TRANSFORMS[self.transform][0](y)

    def log_jacobian(self, y):
        """log |h'(y)|, which puts the likelihood on the original scale of the data."""
        return TRANSFORMS[self.transform][1](y)

    def prediction(self):
        """The mean (log-normal: the median) on the scale of the data."""
        return jnp.exp(self.mean) if self.transform == "log" else self.mean

    def sample(self, standard_normal):
        """An observation on the scale of the data from a standard normal draw."""
        value = self.mean + jnp.sqrt(self.variance) * standard_normal
        return jnp.exp(value) if self.transform == "log" else value


def additive(f, add) -> Residual:
    """y = f + add e,  e ~ N(0, 1)."""
    f = jnp.asarray(f)
    return Residual(f, jnp.square(add) * jnp.ones_like(f))


def proportional(f, prop) -> Residual:
    """y = f (1 + prop e)."""
    f = jnp.asarray(f)
    return Residual(f, jnp.square(prop * f))


def combined(f, add, prop, form: str = "variance") -> Residual:
    """Additive and proportional error together.

    ``form="variance"``: y = f + sqrt(add^2 + prop^2 f^2) e (two independent errors, NONMEM's ``Y = F + F*EPS(1) + EPS(2)``);
    ``form="sd"``: y = f + (add + prop f) e (Monolix' ``combined1``).

    Raises
    ------
    ModelError
        Any other ``form``.
    """
    f = jnp.asarray(f)
    if form == "variance":
        return Residual(f, jnp.square(add) + jnp.square(prop * f))
    if form == "sd":
        return Residual(f, jnp.square(add + prop * f))
    raise ModelError(f'combined(..., form={form!r}): the form is "variance" (variances add) or "sd" (standard deviations add).')


def power(f, prop, exponent) -> Residual:
    """y = f + prop f^exponent e, for f > 0."""
    f = jnp.asarray(f)
    return Residual(f, jnp.square(prop * f**exponent))


def lognormal(f, sd) -> Residual:
    """log y = log f + sd e, for f > 0 and y > 0; f is the median of y."""
    f = jnp.asarray(f)
    return Residual(jnp.log(f), jnp.square(sd) * jnp.ones_like(f), "log")
