"""A posterior's draws as models: the one that was sampled, at every draw or at one point in their midst."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.digest import behaviour_of, same_python
from nlme.errors import ModelError
from nlme.language.model import Model
from nlme.neural.correction import with_numbers
from nlme.parameters.covariance import Covariance
from nlme.parameters.inventory import Inventory

if TYPE_CHECKING:
    from arviz import InferenceData


def standardisation_of(posterior: InferenceData) -> dict[str, dict[str, Any]]:
    """Learned term -> what its inputs were standardised with (:func:`nlme.neural.correction.numbers_of`) in the model that was sampled."""
    return json.loads(posterior.attrs.get("standardisation", "{}"))


def posterior_models(model: Model, posterior: InferenceData) -> Model:
    """The model at every draw: ``model`` with a leading axis of chains x draws on each of its parameters.

    Use it under ``eqx.filter_vmap``: ``eqx.filter_vmap(lambda m: m.cl / m.v)(posterior_models(model, posterior))``.  Parameters that were
    held have the values at which they were.  A warning says where these are not the model's own, that the model does something else than
    the one that was sampled, and which of its parameters have no draws and keep its own values.

    Raises
    ------
    ModelError
        The posterior is of another model: it has no parameter in common with this one.
    """
    draws = posterior.posterior
    model = with_numbers(model, standardisation_of(posterior))
    names, columns = [], []
    inventory = Inventory(model)
    for entry in inventory.entries:
        name = ".".join(entry.path)
        if entry.size > 1 and not isinstance(entry.get(model), Covariance) and name in draws:
            values = np.asarray(draws[name])
            names += entry.names
            columns += list(values.reshape(-1, entry.size).T)
            continue
        for element in entry.names:
            if element in draws:
                names.append(element)
                columns.append(np.asarray(draws[element]).reshape(-1))
    if not names:
        raise ModelError(f"{type(model).__name__} has no parameter of this posterior ({', '.join(map(str, draws.data_vars))}).")
    model = _as_held(model, posterior, [name for name in inventory.all_names if name not in names])
    free = Inventory(model, fixed=[n for n in inventory.all_names if n not in names])
    order = [names.index(n) for n in free.names]
    return jax.vmap(lambda vector: free.at_natural(model, vector))(jnp.asarray(np.stack(columns, axis=1)[:, order]))


def posterior_estimate(model: Model, posterior: InferenceData) -> Model:
    """The model at the posterior means of its parameters on their natural scales, p = (1/D) sum_d p_d over the D draws.

    Weights of networks permute between draws, and their means are of no network: a model with free ones is at the draw of the highest
    density instead.  For tables and pictures that need one vector of parameters, such as those of :func:`nlme.report`; what depends on
    how sure the draws are takes them all (``uncertainty=posterior``).

    Parameters
    ----------
    model : the model that was sampled
    posterior : what ``nlme.sample`` returned

    Raises
    ------
    ModelError
        As :func:`nlme.posterior_models`.
    """
    models = posterior_models(model, posterior)
    at_one = jax.tree.map(lambda x: x[0], models)
    free = Inventory(at_one, [name for name, kept in drawn_of(at_one, posterior).items() if not kept])
    if "weight" in free.kinds:
        best = int(np.argmax(np.asarray(posterior.sample_stats["lp"]).reshape(-1)))
        return jax.tree.map(lambda x: x[best], models)
    return free.at_natural(at_one, jnp.mean(jax.vmap(free.natural)(models), axis=0))


def drawn_of(model: Model, posterior: InferenceData) -> dict[str, bool]:
    """Which of the model's parameters the posterior has draws of."""
    held, found = posterior.posterior, {}
    for entry in Inventory(model).entries:
        whole = entry.size > 1 and not isinstance(entry.get(model), Covariance) and ".".join(entry.path) in held
        found |= {name: whole or name in held for name in entry.names}
    return found


def _as_held(model: Model, posterior: InferenceData, without: list[str]) -> Model:
    """The model with the values that the posterior's parameters were held at; a warning says what speaks against putting the draws into
    it.  ``without`` are its parameters that have no draws."""
    attributes, found = posterior.attrs, []
    comparable = "behaviour" in attributes and same_python(attributes["version_python"])
    if comparable and attributes["behaviour"] != behaviour_of(model):
        found.append(
            f"it is of a {attributes['model']} whose functions, or what these rest on, are not those of this {type(model).__name__}"
        )
    own = values_of(model, without)
    held = json.loads(attributes["held"]) if "held" in attributes else own
    if unknown := [name for name in without if name not in held]:
        found.append(
            f"it has no draws of {', '.join(unknown)}, which {'keep' if len(unknown) > 1 else 'keeps'} the model's own value"
        )
    kept = {name: held[name] for name in without if name in held}
    if other := [f"{name} at {value:g} ({own[name]:g} here)" for name, value in kept.items() if not np.isclose(value, own[name])]:
        found.append(f"it held {', '.join(other)}, and these values are used")
    if found:
        warnings.warn(f"The posterior is put into another model than was sampled: {'; '.join(found)}.", stacklevel=3)
    return Inventory(model).with_values(model, kept)


def values_of(model: Model, names: Iterable[str]) -> dict[str, float]:
    """Parameter -> value in ``model``, of some."""
    inventory, names = Inventory(model), set(names)
    every = zip(inventory.all_names, np.asarray(inventory.natural(model)).tolist(), strict=True)
    return {name: value for name, value in every if name in names}
