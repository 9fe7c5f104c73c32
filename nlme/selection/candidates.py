"""What searches of covariates begin from: a fit without them, and the relations that are candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np

from nlme.data.population import Population
from nlme.errors import DataError, FitError, ModelError, name_error
from nlme.fitting.evaluated import method_of
from nlme.fitting.fit import fit as fit_model
from nlme.fitting.result import Fit
from nlme.fitting.starts import uninterrupted
from nlme.language.anatomy import Anatomy
from nlme.language.model import Model, require_model
from nlme.language.relations import Relation, relation, source_with, with_relations
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory
from nlme.search.batch import refuse_sites
from nlme.tables.shown import Shown


class WithSource(Shown):
    """A result with a ``model`` to whose class relations have been added, if any were chosen."""

    model: Model

    @property
    def source(self) -> str:
        """``model`` as Python: the base model's own text, a class that adds to it, and the model at its estimates."""
        return source_with(self.model)


def base_fit(
    model,
    population,
    method,
    fixed,
    who: str,
    *,
    tolerance: float = 1e-5,
    max_evaluations: int = 500,
    progress: bool | None = None,
) -> Fit:
    """The fit that ``who`` begins from: the one given, or the model's.

    Raises
    ------
    ModelError
        No population, random effects above the subject.
    FitError
        Data or method beside a fit; a fit with priors or a penalty.
    """
    if isinstance(model, Fit):
        given = [
            word
            for word, value in (("population", population), ("method", method), ("fixed", tuple(fixed)))
            if value not in (None, ())
        ]
        if given:
            raise FitError(f"{who} takes {', '.join(given)} from the fit; give them with a model alone.")
        refuse_sites(model.layout.anatomy)
        _refuse_penalised(model, who)
        return model
    require_model(model)
    if population is None:
        raise ModelError(
            f"{who} needs a population beside a model: {who}(model, ..., population); or a fit in the model's place."
        )
    return uninterrupted(
        fit_model(
            model,
            population,
            method_of(method),
            fixed=fixed,
            tolerance=tolerance,
            max_evaluations=max_evaluations,
            progress=progress,
        )
    )


def _refuse_penalised(fit: Fit, who: str) -> None:
    """Refuse a fit whose objective is not at its own minimum: the models with covariates would be fitted without the penalty."""
    if fit.penalty_slopes is None and not fit.penalty:
        return
    what = f"has priors on {', '.join(fit.priors)}" if fit.priors else "was penalised"
    raise FitError(
        f"{who}: the fit {what} (its penalty is {fit.penalty:.4g}), and a fit does not keep the function, so that models with "
        "covariates would be fitted without it and compared with one that has it. Begin from a fit without, or write the covariates in "
        "the model, fit it with and without them with the same priors= or penalty=, and compare objective + penalty of the two."
    )


def candidates_of(base: Fit, candidates: Mapping[str, Any]) -> tuple[Relation, ...]:
    """The relations meant by ``candidates``; see :func:`nlme.scm`."""
    if not isinstance(candidates, Mapping) or not candidates:
        raise ModelError('candidates= is a dict from individual parameters to covariates, for example {"cl": ["wt", "age"]}.')
    anatomy, population, found = base.layout.anatomy, base.population, []
    for parameter, covariates in candidates.items():
        _require_parameter(anatomy, parameter, type(base.model).__name__)
        covariates = [covariates] if isinstance(covariates, str) else covariates
        shapes = covariates if isinstance(covariates, Mapping) else dict.fromkeys(covariates)
        for covariate, shape in shapes.items():
            values = subject_values(population, covariate)
            recorded, categories = recorded_values(population, covariate), population.covariates[covariate].categories
            for one in [shape] if shape is None or isinstance(shape, str) else shape:
                found.append(relation(parameter, covariate, one or _usual(recorded, categories), values, categories, recorded))
    if not found:
        raise ModelError(f"candidates= holds no relation: {dict(candidates)!r}.")
    if len(set(found)) < len(found):
        raise ModelError("candidates= holds one relation twice: " + str(next(r for r in found if found.count(r) > 1)) + ".")
    return tuple(found)


def _require_parameter(anatomy: Anatomy, parameter: str, owner: str) -> None:
    if parameter not in anatomy.individual:
        raise ModelError("candidates: " + name_error("individual parameter", str(parameter), anatomy.individual, owner))


def subject_values(population: Population, covariate: str) -> np.ndarray:
    """(N,) a covariate at every subject's first record."""
    if covariate not in population.covariates:
        raise DataError("candidates: " + name_error("covariate", str(covariate), population.covariates, "The population"))
    values = np.array([float(subject.covariates[covariate][0]) for subject in population])
    if not np.all(np.isfinite(values)):
        missing = population[int(np.flatnonzero(~np.isfinite(values))[0])].id
        raise DataError(f"candidates: covariate {covariate!r} is missing in subject {missing}; fill it when reading the data.")
    return values


def recorded_values(population: Population, covariate: str) -> np.ndarray:
    """A covariate at every subject's first record, or (M,) at every record of all subjects where it changes in time."""
    values = subject_values(population, covariate)
    if population.covariates[covariate].constant:
        return values
    every = np.concatenate([np.asarray(subject.covariates[covariate], float) for subject in population])
    return every[np.isfinite(every)]


def _usual(values: np.ndarray, categories: tuple[str, ...] | None) -> str:
    if categories is not None or len(np.unique(values)) == 2:
        return "categories"
    return "power" if np.min(values) > 0 else "linear"


def extended(model: Model, relations: tuple[Relation, ...], population: Population) -> Model:
    """The model with relations whose coefficients are 0, of covariates in the population's units."""
    return with_relations(model, relations, {r.covariate: population.covariates[r.covariate].unit or "" for r in relations})


def omega_field(model: Model) -> str:
    """The field that holds the covariance of its subjects' random effects.

    Raises
    ------
    ModelError
        ``random`` makes it of other things than one field.
    """
    omega = model.random()
    found = [f.name for f in dataclasses.fields(model) if getattr(model, f.name) is omega]
    if len(found) != 1:
        raise ModelError(
            f"{type(model).__name__}.random makes the covariance of the random effects; what changes it needs a model that has it as "
            "a field, omega: nlme.Covariance = nlme.covariance(...)."
        )
    return found[0]


def with_omega(model: Model, omega: Covariance) -> Model:
    """The model with another covariance of its subjects' random effects."""
    field = omega_field(model)
    return eqx.tree_at(lambda m: getattr(m, field), model, omega)


def chosen_model(base: Fit, relations: tuple[Relation, ...], whole: Model) -> Model:
    """The base model with the relations chosen, at the values that ``whole``, which has them and others, has."""
    if not relations:
        return base.model
    small = extended(base.model, relations, base.population)
    every = Inventory(whole)
    values = dict(zip(every.names, np.asarray(every.natural(whole)).tolist(), strict=True))
    own = Inventory(small)
    return own.at_natural(small, np.array([values[name] for name in own.names]))
