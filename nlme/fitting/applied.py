"""A fit applied to other data than its own: a covariate has to mean there what it meant where its effect was estimated."""

from __future__ import annotations

from typing import Any

import numpy as np

from nlme.data.covariates import CovariateInfo
from nlme.data.population import Population
from nlme.data.units import differ
from nlme.errors import DataError
from nlme.fitting.evaluated import Evaluated


def require_alike(model: Any, population: Population) -> None:
    """Refuse data whose covariates have other units or other words than those of the fit; a model without data says nothing of either.

    Raises
    ------
    DataError
        Two units that differ; categories in another order; a category that no subject of the fit could have.
    """
    if not isinstance(model, Evaluated) or not isinstance(population, Population) or population is model.population:
        return  # what is no population is refused by who takes it
    for name in model.layout.anatomy.covariates:
        own, other = model.population.covariates.get(name), population.covariates.get(name)
        if own is None or other is None:
            continue  # the layout says what is missing
        if differ(own.unit, other.unit):
            raise DataError(
                f"Covariate {name!r} is in {own.unit} in the fit's data and in {other.unit} in these: convert the column, and read it "
                f"with covariates={{{name!r}: {own.unit!r}}}."
            )
        if own.categories and other.categories:
            _require_words(name, own, other, population)


def _require_words(name: str, own: CovariateInfo, other: CovariateInfo, population: Population) -> None:
    """The words of these data are those of the fit, in its order, or begin with them and no subject has one that is new."""
    known = len(own.categories)
    if other.categories[:known] != own.categories[: len(other.categories)]:
        raise DataError(
            f"The categories of covariate {name!r} are {', '.join(own.categories)} in the fit's data and {', '.join(other.categories)} in "
            f"these, so that the same number would be another word: read them with categories={{{name!r}: {list(own.categories)}}}."
        )
    for subject in population:
        told = np.asarray(subject.history.covariates[name])
        if np.any(told >= known):
            word = other.categories[int(told.max())]
            raise DataError(
                f"Subject {subject.id!r} has {name} = {word!r}, of which the fit knows nothing: its data have "
                f"{', '.join(own.categories)}. Leave it out, or give it one of these."
            )
