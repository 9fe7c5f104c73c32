"""Covariates that are observations: a model in which they and the random effects have one joint normal distribution.

    (eta, xi) ~ N(0, Omega),        x_j = mu_j + xi_j + s_j e,    e ~ N(0, 1)

Each column j of the covariates is an endpoint of that name, observed once in every subject in whom it is known, with an error s_j of
``ERROR`` times its standard deviation; mu_j is the field ``mean_j``, and xi_j a random effect called as the column.  A subject in whom a
column is missing has no such record, and what its likelihood says of it is what the other columns and the observations say.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.language.augmented import declared_by, made_as, made_kind
from nlme.language.model import Model, documented
from nlme.observation.residual import additive
from nlme.parameters.covariance import Covariance
from nlme.parameters.domains import real
from nlme.typing import Scalar

ERROR = 1e-4
_MEAN = "mean_"


class WithObservedCovariates(Model):
    """What the classes of models with covariates as endpoints have in common."""

    def individual(self, eta, cov):
        """As the written model, and what each column is of this subject."""
        columns = {name: getattr(self, _MEAN + name) + eta[name] for name, _ in self.columns}
        return dict(self.written.individual(self, eta, cov)) | columns

    def observe(self, ind, state, t):
        """As the written model, and each column with its small error."""
        columns = {name: additive(ind[name], ERROR * sd) for name, sd in self.columns}
        return self.written.observe(self, ind, state, t) | columns


def with_observed_covariates(
    base: Model, field: str, omega: Covariance, columns: Mapping[str, tuple[float, float]]
) -> WithObservedCovariates:
    """``base`` with columns (name -> mean and standard deviation) as endpoints; ``omega``, in the place of ``field``, has them as effects.

    Raises
    ------
    ModelError
        A column that is called as a field or an individual parameter of the model.
    """
    kind = _kind(type(base), tuple((name, float(sd)) for name, (_, sd) in columns.items()))
    values = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    means = {_MEAN + name: jnp.asarray(float(mean)) for name, (mean, _) in columns.items()}
    return made_as(kind, values | {field: omega} | means)


def observed_means(model: WithObservedCovariates) -> np.ndarray:
    """(C,) mu of the columns."""
    return np.array([float(getattr(model, _MEAN + name)) for name, _ in model.columns])


@functools.cache
def _kind(base: type[Model], columns: tuple[tuple[str, float], ...]) -> type[WithObservedCovariates]:
    fields = {_MEAN + name: real(0.0, label=f"Mean of {name}") for name, _ in columns}
    taken = {f.name for f in dataclasses.fields(base)} & fields.keys()
    if taken:
        raise ModelError(
            f"The mean of a covariate would be called {taken.pop()!r}, which {base.__name__} has already; rename that field."
        )
    words = {
        "__annotations__": dict.fromkeys(fields, Scalar),
        "__module__": __name__,
        "__doc__": documented(base),
        "covariates": declared_by(base),
        "written": base,
        "columns": columns,
        **fields,
    }
    return made_kind(f"{base.__name__}AndCovariates", (WithObservedCovariates, base), words, _kind, base, columns)
