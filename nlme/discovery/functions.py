"""Draws of a learned function at inputs that the data visited: what discovery reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from nlme.errors import FitError, ModelError, name_error
from nlme.language.model import Model
from nlme.neural.correction import with_numbers
from nlme.posterior.functions import GROUP
from nlme.posterior.models import posterior_models, standardisation_of

_FEWEST = 20  # draws


class Functions(NamedTuple):
    """One output of a network at M inputs."""

    network: str
    x: Float[np.ndarray, "M n"]
    names: tuple[str, ...]  # of the inputs, as terms write them
    inputs: tuple[str, ...]  # as the network declares them; () where they are only counted
    outputs: tuple[str, ...]
    functions: Float[np.ndarray, "1+R M"]  # the estimate first, then draws
    covariance: Float[np.ndarray, "M M"]
    n_observations: int
    base: Model | None  # the model at the estimate


def only_network(found: Sequence[str], model: str) -> str:
    """The one network there is.

    Raises
    ------
    ModelError
        There are several.
    """
    if len(found) > 1:
        raise ModelError(f"{model} has the networks {', '.join(found)}: say which, network={found[0]!r}.")
    return found[0]


def require_one_output(name: str, count: int) -> None:
    """Refuse a network with several outputs."""
    if count != 1:
        raise ModelError(f"discover reads networks of one output; {name} has {count}.")


def of_posterior(posterior: Any, network: str | None, model: Model | None, draws: int) -> Functions:
    """The learned function of a posterior of ``nlme.sample``: its mean, and ``draws`` of it at most, evenly spaced.

    Raises
    ------
    ModelError
        No network, none of that name, several and none named.
    FitError
        The posterior has next to no draws.
    """
    who = posterior.attrs.get("model", "The posterior")
    if GROUP not in posterior.groups():
        raise ModelError(f"{who} has no network or other learned term with weights that were sampled.")
    group = posterior[GROUP]
    networks = [str(name) for name in group.data_vars if f"{name}_inputs" in group]
    if network is not None and network not in networks:
        raise ModelError(name_error("network", network, networks, who))
    name = only_network(networks if network is None else [network], who)
    values = np.asarray(group[name])
    require_one_output(name, values.shape[-1])
    flat = values.reshape(-1, values.shape[2])
    if len(flat) < _FEWEST:
        raise FitError(
            f"discover: the posterior has {len(flat)} draws, of which no probability can be told; {_FEWEST} are the least."
        )
    x, given = np.asarray(group[f"{name}_inputs"]), [str(one) for one in group[f"{name}_input"].values]
    counted = given == [f"input {k + 1}" for k in range(len(given))]
    written = tuple(f"x{k + 1}" for k in range(len(given))) if counted else tuple(given)
    out = [str(one) for one in group[f"{name}_output"].values]
    chosen = flat[np.linspace(0, len(flat) - 1, min(draws, len(flat))).astype(int)]
    return Functions(
        name,
        x,
        written,
        () if counted else written,
        () if out == ["output 1"] else tuple(out),
        np.vstack([flat.mean(axis=0), chosen]),
        np.cov(flat.T).reshape(len(x), len(x)),
        int(posterior.observed_data["DV"].size),
        None if model is None else _likeliest(model, posterior),
    )


def _likeliest(model: Model, posterior: Any) -> Model:
    best = int(np.argmax(np.asarray(posterior.sample_stats["lp"])))
    models = posterior_models(model, posterior)
    model = with_numbers(model, standardisation_of(posterior))
    return jax.tree.map(lambda x, like: x[best] if np.ndim(x) > np.ndim(like) else x, models, model)
