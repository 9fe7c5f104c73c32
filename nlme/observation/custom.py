"""Any density of one's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp

from nlme.errors import ModelError
from nlme.observation.base import Law, Observation, Record, Terms, not_normal
from nlme.typing import Scalar


class Custom(Observation):
    """log p(y) = density(y)."""

    closes: ClassVar[bool] = True
    density: Callable = eqx.field(static=True)
    value: Scalar
    draw: Callable | None = eqx.field(static=True)

    def law(self) -> Law:
        return Law("a density of the model's own")

    def parts(self):
        return {"log density": self._at(jnp.asarray(1.0)), "prediction": self.value}

    def terms(self, record: Record) -> Terms:
        return not_normal(self._at(record.y))

    def prediction(self):
        return self.value

    def sample(self, normal, key):
        if self.draw is None:
            raise ModelError(
                "loglik(...) without sample= cannot be simulated: give it a function of a JAX key that draws an observation."
            )
        return jnp.asarray(self.draw(key), dtype=float)

    def _at(self, y):
        value = self.density(y)
        try:
            value = jnp.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise ModelError(
                f"loglik: the function must return a number, log p(y); it returned {type(value).__name__}."
            ) from None
        if value.shape != ():
            raise ModelError(
                f"loglik: the function must return one number, log p(y); it returned an array of shape {value.shape}."
            )
        return value


def loglik(density: Callable, *, prediction=jnp.nan, sample: Callable | None = None) -> Custom:
    """An observation whose log density is any function of it.

    Parameters
    ----------
    density : function of y, the value of DV, giving log p(y) with all its constants, written with ``jax.numpy``; parameters come
        in from ``observe``: ``nlme.loglik(lambda y: -jnp.log(ind.scale) - jnp.abs(y - f) / ind.scale)``
    prediction : what PRED and IPRED show; NaN if left out
    sample : function of a JAX key that draws an observation, for simulation

    Raises
    ------
    ModelError
        ``density`` is not a function of y, or does not return one number.
    """
    if not callable(density):
        raise ModelError(f"loglik takes a function of the observation, nlme.loglik(lambda y: ...); got {type(density).__name__}.")
    return Custom(density, jnp.asarray(prediction, dtype=float), sample)
