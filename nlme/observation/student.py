"""Residuals with heavy tails."""

from __future__ import annotations

from numbers import Real

import equinox as eqx
import jax
import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.observation.base import Continuous, Law, Record, Terms, impossible_where, not_normal
from nlme.observation.tails import student_log_cdf, student_log_pdf
from nlme.typing import Scalar


class Student(Continuous):
    """(y - location) / scale has Student's t distribution with ``df`` degrees of freedom."""

    location: Scalar
    scale: Scalar
    df: Scalar
    number: float | None = eqx.field(static=True)  # df, where it is a number and no parameter

    def law(self) -> Law:
        return Law("Student's t on the scale of the data")

    def parts(self):
        return {"location": self.location, "scale": self.scale, "degrees of freedom": self.df}

    def terms(self, record: Record) -> Terms:
        base = self.uncertain()
        density = student_log_pdf(base.standardised(record.y), base.df) - jnp.log(base.scale)
        return impossible_where(self.certain(), not_normal(density))

    def certain(self):
        return self.scale == 0.0

    def uncertain(self):
        certain = self.certain()
        return Student(jnp.where(certain, 0.0, self.location), jnp.where(certain, 1.0, self.scale), self.df, self.number)

    def standardised(self, y):
        finite = jnp.isfinite(y)
        return jnp.where(finite, (jnp.where(finite, y, self.location) - self.location) / self.scale, y)

    def log_cdf(self, x):
        if self.number is None:
            raise ModelError(
                "censored(student_t(...)): the degrees of freedom must be a number, such as df=4, not a parameter to estimate: "
                "the distribution function has no derivative in them here."
            )
        return student_log_cdf(x, self.number)

    def prediction(self):
        return self.location

    def sample(self, normal, key):
        return self.location + self.scale * jax.random.t(key, self.df)


def student_t(f, scale, df) -> Student:
    """y = f + scale e, e from Student's t distribution with ``df`` > 0 degrees of freedom.

    ``scale`` is not the standard deviation, which is scale sqrt(df / (df - 2)) for df > 2.  ``df`` is a number or a parameter.
    """
    number = float(df) if isinstance(df, Real) else None
    f = jnp.asarray(f, dtype=float)
    return Student(f, jnp.asarray(scale) * jnp.ones_like(f), jnp.asarray(df, dtype=float), number)
