"""Residual error models: what a continuous observation's distribution is, given its prediction.

Every model here is Gaussian on some scale h of the data:  h(y) ~ N(mean, variance), so that one density serves all:

    log p(y) = -1/2 [ (h(y) - mean)^2 / variance + log variance + log 2 pi ] + log |h'(y)|

| constructor                            | h                   | mean  | variance                   |
|----------------------------------------|---------------------|-------|----------------------------|
| ``additive(f, add)``                   | y                   | f     | add^2                      |
| ``proportional(f, prop)``              | y                   | f     | (prop f)^2                 |
| ``combined(f, add, prop)``             | y                   | f     | add^2 + (prop f)^2         |
| ``combined(f, add, prop, form="sd")``  | y                   | f     | (add + prop f)^2           |
| ``power(f, prop, exponent)``           | y                   | f     | (prop f^exponent)^2        |
| ``lognormal(f, sd)``                   | log y               | log f | sd^2                       |
| ``logitnormal(f, sd, lower, upper)``   | log((y - l)/(u - y))| h(f)  | sd^2                       |
| ``boxcox(f, sd, lam)``                 | (y^lam - 1)/lam     | h(f)  | sd^2                       |
| ``yeojohnson(f, sd, lam)``             | see :func:`yeojohnson` | h(f) | sd^2                     |

All arguments named ``add``, ``prop``, ``sd`` are standard deviations, those of the last four rows on the scale h.  At an end of
what y can be (f = 0 of the log-normal, logit-normal and Box-Cox models), and where the variance is 0 (f = 0 of the proportional one), y is
f for certain: any other value is impossible, and f is certainly below any limit above it (``censored``).  The likelihood
is always that of the data on their original scale, so objectives of different scales can be compared and ``lam`` be estimated.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nlme.errors import ModelError
from nlme.observation.base import Continuous, Law, Observation, Record, Terms, impossible_where
from nlme.observation.tails import normal_log_cdf
from nlme.observation.transforms import TRANSFORMS
from nlme.typing import Scalar


class Residual(Continuous):
    """h(y) ~ N(mean, variance) for one record, with h a row of ``TRANSFORMS`` and ``shape`` its parameters."""

    mean: Scalar
    variance: Scalar
    transform: str = eqx.field(static=True, default="identity")
    shape: Float[Array, " k"] = eqx.field(default_factory=lambda: jnp.zeros(0))

    def law(self) -> Law:
        row = TRANSFORMS[self.transform]
        return Law(row.words, normal=True, plain=not row.shaped)

    def parts(self) -> dict[str, Scalar]:
        shape = {name: self.shape[k] for k, name in enumerate(TRANSFORMS[self.transform].shaped)}
        return {"mean": self.mean, "variance": self.variance, **shape}

    def transformed(self, y):
        """h(y)."""
        return TRANSFORMS[self.transform].forward(y, self.shape)

    def log_jacobian(self, y):
        """log |h'(y)|, which puts the likelihood on the original scale of the data."""
        return TRANSFORMS[self.transform].log_slope(y, self.shape)

    def terms(self, record: Record) -> Terms:
        y, base = record.y, self.uncertain()
        terms = Terms(base.mean, base.variance, base.transformed(y), base.log_jacobian(y), jnp.ones_like(y, dtype=bool))
        return impossible_where(self.certain(), terms)

    def certain(self):
        return jnp.isinf(self.mean) | (self.variance == 0.0)

    def uncertain(self):
        certain = self.certain()
        return Residual(jnp.where(certain, 0.0, self.mean), jnp.where(certain, 1.0, self.variance), self.transform, self.shape)

    def standardised(self, y):
        lower, upper = TRANSFORMS[self.transform].bounds(self.shape)
        inside = (y > lower) & (y < upper)
        x = (self.transformed(jnp.where(inside, y, self.prediction())) - self.mean) / jnp.sqrt(self.variance)
        return jnp.where(inside, x, jnp.where(y <= lower, -jnp.inf, jnp.inf))

    def at_zero(self):
        scale = TRANSFORMS[self.transform]
        lower, _ = scale.bounds(self.shape)
        least = scale.least(self.shape)
        reached = (lower == 0.0) & jnp.isfinite(least)  # of the normal h(y) what lies below h(0) is at 0
        x = (jnp.where(reached, least, self.mean) - self.mean) / jnp.sqrt(self.variance)
        return jnp.where(reached, x, self.standardised(jnp.zeros(())))

    def log_cdf(self, x):
        return normal_log_cdf(x)

    def back(self, z):
        return TRANSFORMS[self.transform].inverse(z, self.shape)

    def prediction(self):
        """The mean (on another scale than the data's: the median) on the scale of the data."""
        return self.back(self.mean)

    def sample(self, normal, key=None):
        return self.back(self.mean + jnp.sqrt(self.variance) * normal)


class AutoRegressive(Observation):
    """``base``, whose residuals on the scale h are correlated by exp(-decay |t_i - t_j|)."""

    base: Residual
    decay: Scalar

    def law(self) -> Law:
        base = self.base.law()
        return dataclasses.replace(base, words=f"{base.words}, correlated in time", link="ar1")

    def parts(self):
        return self.base.parts() | {"decay": self.decay}

    def terms(self, record: Record) -> Terms:
        return self.base.terms(record)

    def carried(self):
        return self.decay

    def back(self, z):
        return self.base.back(z)

    def prediction(self):
        return self.base.prediction()

    def sample(self, normal, key):
        return self.base.sample(normal, key)


def ar1(residual: Residual, decay) -> AutoRegressive:
    """Residuals of one subject and endpoint with a memory: corr(e_i, e_j) = exp(-decay |t_i - t_j|), AR(1) in continuous time.

    ``residual`` is any error model above, ``decay`` > 0 per unit of time; log 2 / decay is the time in which the correlation
    halves.  Each record's density is that given the record before (the process is Markov); FO, FOCE and FOCEI linearise
    those.  Where time begins again at a reset, nothing is remembered: how long ago the record before was nobody knows.
    Source: Karlsson, Beal & Sheiner (1995), doi:10.1007/BF02353466.

    Raises
    ------
    ModelError
        ``residual`` is not one of these error models (a censored value has no residual to remember).
    """
    if not isinstance(residual, Residual):
        raise ModelError(
            "ar1 takes an error model that is normal on some scale, such as nlme.ar1(nlme.additive(f, add), decay); "
            f"got {type(residual).__name__}."
        )
    return AutoRegressive(residual, jnp.asarray(decay, dtype=float))


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
    """y = f + prop f^exponent e, for f >= 0."""
    f = jnp.asarray(f)
    nothing = f == 0.0
    spread = jnp.where(nothing, jnp.power(0.0, jax.lax.stop_gradient(exponent)), jnp.where(nothing, 1.0, f) ** exponent)
    return Residual(f, jnp.square(prop * spread))


def lognormal(f, sd) -> Residual:
    """log y = log f + sd e, for f > 0 and y > 0; f is the median of y."""
    return _on_scale("log", f, sd)


def logitnormal(f, sd, lower=0.0, upper=1.0) -> Residual:
    """logit y = logit f + sd e, logit y = log((y - lower) / (upper - y)), for f and y inside the bounds; f is the median of y.

    Raises
    ------
    ModelError
        ``lower`` is not below ``upper``.
    """
    if isinstance(lower, (int, float)) and isinstance(upper, (int, float)) and not lower < upper:
        raise ModelError(f"logitnormal(..., lower={lower:g}, upper={upper:g}): lower must be below upper.")
    return _on_scale("logit", f, sd, lower, upper)


def boxcox(f, sd, lam) -> Residual:
    """h(y) = h(f) + sd e, h(y) = (y^lam - 1) / lam (lam = 0: log y), for f > 0 and y > 0; f is the median of y.

    The density is that of the normal h(y) as it stands, though h(y) cannot pass -1/lam: the mass beyond, next to nothing unless
    sd is large, is at y = 0 and not divided out (nor is it by NONMEM's dynamic transform of both sides; ``censored(..., "M4")``
    does).  Source: Box & Cox (1964), doi:10.1111/j.2517-6161.1964.tb00553.x; Dosne, Bergstrand & Karlsson (2016),
    doi:10.1007/s10928-015-9460-y.
    """
    return _on_scale("box-cox", f, sd, lam)


def yeojohnson(f, sd, lam) -> Residual:
    """h(y) = h(f) + sd e for data of either sign; f is the median of y.

    h(y) = ((1 + y)^lam - 1) / lam for y >= 0 and -((1 - y)^(2 - lam) - 1) / (2 - lam) for y < 0, with their limits, log(1 + y)
    and -log(1 - y), at lam = 0 and 2.  lam = 1 is no transform.  Source: Yeo & Johnson (2000), doi:10.1093/biomet/87.4.954.
    """
    return _on_scale("yeo-johnson", f, sd, lam)


def _on_scale(transform: str, f, sd, *shape) -> Residual:
    f = jnp.asarray(f)
    shape = jnp.stack([jnp.asarray(s, dtype=float) for s in shape]) if shape else jnp.zeros(0)
    row = TRANSFORMS[transform]
    lower, upper = row.bounds(shape)
    lowest, highest = f == lower, f == upper  # where h and its derivatives are infinite
    inside = jax.lax.stop_gradient(row.inverse(jnp.zeros(()), shape))
    mean = row.forward(jnp.where(lowest | highest, inside, f), shape)
    mean = jnp.where(lowest, -jnp.inf, jnp.where(highest, jnp.inf, mean))
    return Residual(mean, jnp.square(sd) * jnp.ones_like(f), transform, shape)
