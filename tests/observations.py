"""The table of observation models that every law crosses.

A row builds the model from a prediction f > 0 (or what its distribution is about) and a vector of parameters, and says by scipy
what its density is; ``values`` are observations it can take, ``range`` where its density is to be integrated (a set to sum
over, if it is discrete).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

import nlme


class Row(NamedTuple):
    build: Callable  # (f, parameters) -> observation model
    parameters: tuple[float, ...]
    log_density: Callable  # (y, f, parameters) -> log p(y), by scipy
    values: tuple[float, ...]
    range: tuple[float, float] | range
    normal: bool  # FO, FOCE and FOCEI may be used


def _shifted(scale, slope):
    """Log density of y where scale(y) is normal about scale(f)."""
    return lambda y, f, p: stats.norm.logpdf(scale(y, p), scale(f, p), p[0]) + np.log(slope(y, p))


def _logit(y, p):
    return special.logit((y - 0.2) / 4.8)


def _yeo_johnson(y, p):
    return stats.yeojohnson(np.atleast_1d(np.asarray(y, float)), p[1])[0]


def _expit_ladder(f, p):
    above = special.expit(f - np.array(p))  # P(y >= 1), P(y >= 2), P(y >= 3)
    return -np.diff(np.r_[1.0, above, 0.0])


CONTINUOUS = {
    "additive": Row(
        lambda f, p: nlme.additive(f, p[0]), (0.4,), lambda y, f, p: stats.norm.logpdf(y, f, p[0]), (-0.3, 1.1), (-5.0, 9.0), True
    ),
    "proportional": Row(
        lambda f, p: nlme.proportional(f, p[0]),
        (0.3,),
        lambda y, f, p: stats.norm.logpdf(y, f, p[0] * f),
        (0.4, 2.0),
        (-5.0, 9.0),
        True,
    ),
    "combined, variances": Row(
        lambda f, p: nlme.combined(f, p[0], p[1]),
        (0.2, 0.3),
        lambda y, f, p: stats.norm.logpdf(y, f, np.hypot(p[0], p[1] * f)),
        (0.4, 2.0),
        (-5.0, 9.0),
        True,
    ),
    "combined, sds": Row(
        lambda f, p: nlme.combined(f, p[0], p[1], form="sd"),
        (0.2, 0.3),
        lambda y, f, p: stats.norm.logpdf(y, f, p[0] + p[1] * f),
        (0.4, 2.0),
        (-8.0, 12.0),
        True,
    ),
    "power": Row(
        lambda f, p: nlme.power(f, p[0], p[1]),
        (0.3, 0.7),
        lambda y, f, p: stats.norm.logpdf(y, f, p[0] * f ** p[1]),
        (0.4, 2.0),
        (-5.0, 9.0),
        True,
    ),
    "log-normal": Row(
        lambda f, p: nlme.lognormal(f, p[0]),
        (0.3,),
        lambda y, f, p: stats.lognorm.logpdf(y, p[0], scale=f),
        (0.4, 2.0),
        (0.0, 15.0),
        True,
    ),
    "logit-normal": Row(
        lambda f, p: nlme.logitnormal(f, p[0], 0.2, 5.0),
        (0.5,),
        _shifted(_logit, lambda y, p: 4.8 / ((y - 0.2) * (5.0 - y))),
        (0.4, 2.0),
        (0.2, 5.0),
        True,
    ),
    "Box-Cox": Row(
        lambda f, p: nlme.boxcox(f, p[0], p[1]),
        (0.2, 0.4),
        _shifted(lambda y, p: special.boxcox(y, p[1]), lambda y, p: y ** (p[1] - 1.0)),
        (0.6, 2.0),
        (0.0, 15.0),
        True,
    ),
    "Yeo-Johnson": Row(
        lambda f, p: nlme.yeojohnson(f, p[0], p[1]),
        (0.4, 1.4),
        _shifted(_yeo_johnson, lambda y, p: (1 + abs(y)) ** ((p[1] - 1.0) * np.sign(y))),
        (-0.6, 2.0),
        (-15.0, 12.0),
        True,
    ),
    "Student": Row(
        lambda f, p: nlme.student_t(f, p[0], p[1]),
        (0.4, 4.5),
        lambda y, f, p: stats.t.logpdf(y, p[1], f, p[0]),
        (-2.0, 1.1),
        (-np.inf, np.inf),
        False,
    ),
}

DISCRETE = {
    "binary, probability": Row(
        lambda f, p: nlme.binary(f / (f + p[0])),
        (0.7,),
        lambda y, f, p: stats.bernoulli.logpmf(y, f / (f + p[0])),
        (0, 1),
        range(2),
        False,
    ),
    "binary, logit": Row(
        lambda f, p: nlme.binary(logit=f - p[0]),
        (1.7,),
        lambda y, f, p: stats.bernoulli.logpmf(y, special.expit(f - p[0])),
        (0, 1),
        range(2),
        False,
    ),
    "ordered, logits": Row(
        lambda f, p: nlme.ordered(logits=(f - p[0], f - p[1], f - p[2])),
        (0.3, 1.0, 2.1),
        lambda y, f, p: np.log(_expit_ladder(f, p)[int(y)]),
        (0, 1, 2, 3),
        range(4),
        False,
    ),
    "ordered, probabilities": Row(
        lambda f, p: nlme.ordered(probabilities=(p[0] / (f + 1), 1 - (p[0] + 0.1) / (f + 1), 0.1 / (f + 1)), first=1),
        (0.5,),
        lambda y, f, p: np.log([p[0] / (f + 1), 1 - (p[0] + 0.1) / (f + 1), 0.1 / (f + 1)][int(y) - 1]),
        (1, 2, 3),
        range(1, 4),
        False,
    ),
    "Poisson": Row(
        lambda f, p: nlme.poisson(f * p[0]),
        (1.8,),
        lambda y, f, p: stats.poisson.logpmf(y, f * p[0]),
        (0, 1, 4),
        range(60),
        False,
    ),
    "negative binomial": Row(
        lambda f, p: nlme.negative_binomial(f * p[0], p[1]),
        (1.8, 0.6),
        lambda y, f, p: stats.nbinom.logpmf(y, 1 / p[1], 1 / (1 + p[1] * p[0] * f)),
        (0, 1, 6),
        range(400),
        False,
    ),
}


def _laplace_density(y, f, p):
    return stats.laplace.logpdf(y, f, p[0])


def _own(f, p):
    import jax
    import jax.numpy as jnp

    return nlme.loglik(
        lambda y: -jnp.abs(y - f) / p[0] - jnp.log(2.0 * p[0]),
        prediction=f,
        sample=lambda key: f + p[0] * jax.random.laplace(key),
    )


OWN = {"a density of one's own": Row(_own, (0.6,), _laplace_density, (-0.4, 2.3), (-30.0, 30.0), False)}

TABLE = CONTINUOUS | DISCRETE | OWN
