"""The uncertainty of the parameters in a simulation: a vector of its own for every replicate.

| ``uncertainty``                | vector of replicate r                                                                        |
|--------------------------------|----------------------------------------------------------------------------------------------|
| None                           | the estimate                                                                                 |
| "covariance"                   | u_r ~ N(u^, J^-1 C J^-T) in unconstrained parameters u, C the covariance of the estimates (as ``fit.covariance`` reports it) and J = dp/du, so that every p_r lies in its domain |
| ``nlme.bootstrap(...)``        | one of the replicates that converged                                                         |
| ``nlme.sir(...)``              | one of the resampled vectors                                                                 |
| ``nlme.sample(...)``           | one of the draws of the posterior, the subjects' own random effects with it                  |
| a DataFrame                    | one of its rows; columns are names of parameters                                             |

Rows are taken in random order, and again only when all have been.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import FitError, name_error
from nlme.fitting.evaluated import Evaluated
from nlme.fitting.reported import covariance_as_reported, require_of
from nlme.fitting.result import Fit
from nlme.language.anatomy import mixtures_of
from nlme.language.model import Model
from nlme.neural.correction import numbers_of, with_numbers
from nlme.parameters.covariance import Covariance
from nlme.parameters.draws import Drawn
from nlme.parameters.inventory import Inventory
from nlme.simulation.predict import effects_among

_STREAM = 0x70617261  # of the parameters' random numbers: those of effects and errors are the same with uncertainty and without
_KINDS = "None, 'covariance', a bootstrap, a sir, a posterior (of nlme.sample) or a DataFrame of draws"


@dataclasses.dataclass(frozen=True, eq=False)
class DrawnPeople:
    """Random effects (R, N, q), with their names, of the subjects ``ids``, and (in a mixture) their subpopulations (R, N)."""

    eta: np.ndarray
    ids: list
    names: list[str]
    members: np.ndarray | None = None

    def among(self, model: Any, population) -> tuple[np.ndarray, np.ndarray | None]:
        """The effects (R, n, q) and subpopulations (R, n) of the subjects of ``population``.

        Raises
        ------
        DataError
            A subject that is not among ``ids``.
        """
        eta = effects_among(model, population, self.eta, self.ids, self.names)
        if self.members is None:
            return eta, None
        place = {one: k for k, one in enumerate(self.ids)}
        return eta, self.members[:, [place[s.id] for s in population]]


@dataclasses.dataclass(frozen=True, eq=False)
class Uncertain:
    """R vectors of parameters, in words where they come from, and (of a posterior) the subjects' own random effects with them.

    ``model`` is the one that they are vectors of: weights of a learned term mean nothing without what its inputs were standardised
    with.
    """

    model: Model
    drawn: Drawn
    words: str
    people: DrawnPeople | None = None
    messages: tuple[str, ...] = ()

    @property
    def frame(self):
        """DataFrame by REPLICATE: the vectors."""
        import pandas as pd

        index = pd.RangeIndex(1, len(self.drawn) + 1, name="REPLICATE")
        return pd.DataFrame(np.asarray(self.drawn.natural), index=index, columns=self.drawn.inventory.names)


def drawn_parameters(model: Model | Evaluated, uncertainty: Any, replicates: int, key) -> Uncertain | None:
    """A vector for every replicate; None without uncertainty.

    Raises
    ------
    FitError
        "covariance" without a fit, or of a fit that has none; draws of another fit or of other parameters, or outside of their domains.
    """
    if uncertainty is None:
        return None
    key = jax.random.fold_in(key, _STREAM)
    if isinstance(uncertainty, str):
        if uncertainty != "covariance":
            raise FitError(f"uncertainty is {_KINDS}; got {uncertainty!r}.")
        return _from_covariance(model, replicates, key)
    own = model.model if isinstance(model, Evaluated) else model
    if hasattr(uncertainty, "posterior"):
        found = _from_posterior(own, uncertainty, replicates, key)
        if isinstance(model, Evaluated) and numbers_of(found.model) != numbers_of(own):
            raise FitError(
                "uncertainty= is a posterior whose learned terms standardise their inputs by other numbers than the fit's; simulate the "
                "model that was sampled: nlme.simulate(model, population, uncertainty=posterior)."
            )
        return found
    if hasattr(uncertainty, "draws") and hasattr(uncertainty, "fit"):
        if isinstance(model, Fit):
            require_of(uncertainty, model, "uncertainty=")
        if type(uncertainty.fit.model) is not type(own):
            names = type(uncertainty.fit.model).__name__, type(own).__name__
            raise FitError(f"uncertainty= is of a fit of {names[0]}, and the simulation is of {names[1]}.")
        return _from_table(own, uncertainty.draws, replicates, key, uncertainty.words, numbers_of(uncertainty.fit.model))
    if hasattr(uncertainty, "columns"):
        return _from_table(own, uncertainty, replicates, key, f"{len(uncertainty)} draws given")
    raise FitError(f"uncertainty is {_KINDS}; got {type(uncertainty).__name__}.")


def _from_covariance(fit, replicates: int, key) -> Uncertain:
    if not isinstance(fit, Evaluated):
        raise FitError("uncertainty='covariance' needs a fit, whose estimates have a covariance; a model has none.")
    try:
        spread = covariance_as_reported(fit)
    except FitError as error:
        raise FitError(f"uncertainty='covariance': {error}") from None
    inventory = fit.inventory
    lost = [name for name, se in fit.covariance.standard_errors.items() if not np.isfinite(se)]
    values, vectors = np.linalg.eigh(0.5 * (spread + spread.T))
    z = np.asarray(jax.random.normal(key, (replicates, len(values))))
    u = np.asarray(inventory.unconstrained(fit.model)) + (z * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    natural = jax.jit(jax.vmap(lambda v: inventory.natural(inventory.at_unconstrained(fit.model, v))))(jnp.asarray(u))
    said = [f"{', '.join(lost)} at a bound: taken as known in every replicate."] if lost else []
    if "weight" in inventory.kinds:
        said.append(
            "Weights of networks are drawn from a normal law about the estimate, in which what they learned may be far from anything that the "
            "data allow (nlme.learned_curves has the bands of the fit): uncertainty=nlme.sir(fit), a bootstrap or a posterior weighs by the data."
        )
    return Uncertain(
        fit.model, Drawn(inventory, natural), f"covariance of the estimates ({fit.covariance.kind})", None, tuple(said)
    )


def _from_table(model: Model, table, replicates: int, key, words: str, numbers=None) -> Uncertain:
    known = Inventory(model)
    for name in table.columns:
        if name not in known.all_names:
            raise FitError("uncertainty=: " + name_error("parameter", str(name), known.all_names, type(model).__name__))
    if len(table) < 2:
        raise FitError(f"uncertainty= needs at least two draws; got {len(table)}.")
    inventory = Inventory(model, [name for name in known.all_names if name not in table.columns])
    values = table[inventory.names].to_numpy(float)[_rows(key, len(table), replicates)]
    return _checked(Uncertain(with_numbers(model, numbers or {}, instead=True), Drawn(inventory, jnp.asarray(values)), words))


def _from_posterior(model: Model, posterior, replicates: int, key) -> Uncertain:
    import pandas as pd

    from nlme.posterior.draws import messages_in
    from nlme.posterior.models import drawn_of, posterior_models, standardisation_of

    model = with_numbers(model, standardisation_of(posterior), instead=True)
    models = posterior_models(model, posterior)
    model = jax.tree.map(lambda x: x[0], models)  # what was held is where it was held
    free = [name for name, kept in drawn_of(model, posterior).items() if kept]
    inventory = Inventory(model, [name for name in Inventory(model).all_names if name not in free])
    table = pd.DataFrame(np.asarray(jax.vmap(inventory.natural)(models)), columns=inventory.names)
    rows = _rows(key, len(table), replicates)
    people = None
    if "eta" in posterior.posterior:
        effects = posterior.posterior["eta"]
        values = np.asarray(effects).reshape(-1, *effects.shape[2:])[rows]
        names = [str(name) for name in np.asarray(effects["random_effect"])]
        people = DrawnPeople(values, list(np.asarray(effects["subject"])), names, _subpopulations(model, posterior, rows))
    drawn = Drawn(inventory, jnp.asarray(table.to_numpy()[rows]))
    words = tuple(f"Of the posterior: {message}" for message in messages_in(posterior))
    return _checked(Uncertain(model, drawn, f"{len(table):,} draws of the posterior", people, words))


def _subpopulations(model: Model, posterior, rows: np.ndarray) -> np.ndarray | None:
    """(R, N) position of every subject's subpopulation in the draws ``rows``; None without a mixture."""
    names = mixtures_of(model)
    if not names:
        return None
    labels = np.asarray(posterior.posterior["subpopulation"])
    known = list(getattr(model, names[0]).names)
    return np.vectorize(known.index, otypes=[int])(labels.reshape(-1, labels.shape[-1])[rows])


def _rows(key, count: int, replicates: int) -> np.ndarray:
    """(R,) rows in random order; again only when all have been taken."""
    keys = jax.random.split(key, -(-replicates // count))
    return np.concatenate([np.asarray(jax.random.permutation(k, count)) for k in keys])[:replicates]


def _checked(found: Uncertain) -> Uncertain:
    """Refuse vectors that no model can have."""
    model = found.model
    drawn, inventory = found.drawn, found.drawn.inventory
    values = np.asarray(drawn.natural)
    for entry in inventory.entries:
        own = [name for name in entry.names if name not in inventory.fixed]
        if own and isinstance(entry.get(model), Covariance):
            factors = jax.jit(jax.vmap(lambda r: entry.get(drawn.at(model, r)).cholesky))(jnp.arange(len(drawn)))  # noqa: B023
            bad = np.flatnonzero(~np.isfinite(np.asarray(factors)).reshape(len(drawn), -1).all(axis=1))
            if len(bad):
                raise FitError(
                    f"uncertainty=: {'.'.join(entry.path)} is not positive definite in one of the draws ({bad[0] + 1})."
                )
            continue
        for name in own:
            column = values[:, inventory.names.index(name)]
            if not entry.declaration.domain.contains(column):
                bad = next(v for v in column if not entry.declaration.domain.contains(v))
                raise FitError(
                    f"uncertainty=: {name} = {bad:g} in one of the draws is outside its domain, {entry.declaration.domain.words(name)}."
                )
    return found
