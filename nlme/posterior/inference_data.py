"""Draws as arviz InferenceData, with the names and units of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.dynamics.solvers import Tolerances
from nlme.language.density import effects_from
from nlme.language.layout import Layout
from nlme.language.model import Model
from nlme.language.ragged import over_subjects
from nlme.marginal.joint import pointwise
from nlme.parameters.covariance import Covariance
from nlme.parameters.priors import Priors

if TYPE_CHECKING:
    from arviz import InferenceData


def inference_data(
    model: Model, prior: Priors, layout: Layout, ode: Tolerances, w: dict[str, np.ndarray], stats: dict[str, np.ndarray]
) -> InferenceData:
    """Of draws ``w``, and what the sampler noted of them (``stats``).

    ``w`` holds u (chains, draws, P) and b (chains, draws, N, q), in a mixture ``member``, and ``marginal`` log L_i where random
    effects were integrated, both (chains, draws, N)."""
    import arviz

    variables, likelihood = _at_draws(model, prior, layout, ode, w)
    subjects = list(layout.population)
    who, place, record = _observations(layout)
    endpoints = layout.anatomy.endpoints if len(layout.population.endpoints) == 1 else layout.population.endpoints
    posterior, coords, dims = {}, {"subject": [s.id for s in subjects], "random_effect": list(layout.anatomy.effects)}, {}
    for name, (values, dim, labels) in variables.items():
        posterior[name] = values
        if dim is not None:
            dims[name] = dim
            coords.update(labels)
    by_observation = likelihood[:, :, who, place]
    log_likelihood = {"DV": by_observation, "conditional": likelihood.sum(axis=-1)}
    if "marginal" in w:
        log_likelihood["marginal"] = w["marginal"]
    return arviz.from_dict(
        posterior=posterior,
        log_likelihood=log_likelihood,
        sample_stats=stats,
        observed_data={"DV": layout.observed[who, place]},
        constant_data={
            "ID": np.array([subjects[i].id for i in who]),
            "TIME": np.array([subjects[i].time[j] for i, j in zip(who, record, strict=True)], dtype=float),
            "ENDPOINT": np.array([endpoints[int(subjects[i].endpoint[j])] for i, j in zip(who, record, strict=True)]),
        },
        coords={**coords, "observation": np.arange(len(who))},
        dims={
            **dims,
            **dict.fromkeys(("DV", "ID", "TIME", "ENDPOINT"), ["observation"]),
            **dict.fromkeys(("conditional", "marginal"), ["subject"]),
        },
    )


def scale_names(name: str, labels: tuple[str, ...]) -> list[str]:
    """Names of the scales learned with a network's weights: "net.weight_scale[layer 1]"."""
    return [f"{name}[{label}]" for label in labels]


def add_by_subject(found: InferenceData, group: str, values: dict[str, np.ndarray], ids) -> None:
    """Numbers by subject (N,) as a group of their own."""
    import arviz

    dims = dict.fromkeys(values, ["subject"])
    found.add_groups({group: arviz.dict_to_dataset(values, coords={"subject": list(ids)}, dims=dims, default_dims=[])})


def _observations(layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(subject, sample, record) of every observation, in the order of the data file."""
    who, place = np.nonzero(layout.positions >= 0)
    record = layout.positions[who, place]
    order = np.lexsort((record, who))
    return who[order], place[order], record[order]


def _at_draws(model: Model, prior: Priors, layout: Layout, ode: Tolerances, drawn: dict[str, np.ndarray]):
    """Posterior variables as name -> (values, dims, coords), and log likelihoods (chains, draws, N, T)."""
    inventory = prior.inventory
    entries = [e for e in inventory.entries if not all(n in inventory.fixed for n in e.names)]

    def at(w):
        (one, _), b = prior.model_and_density(w["u"]), w["b"]
        eta = jax.vmap(lambda b: effects_from(layout.anatomy, one, b))(b)

        def of_subject(data, b, member):
            own = data.belonging(member) if layout.anatomy.mixture else data
            return (), pointwise(one, layout.anatomy, own, b, 0, ode)[0]

        _, terms = over_subjects(of_subject, layout.arrays, b, w["member"] if "member" in w else jnp.zeros(len(b), int))
        spreads = {
            ".".join(e.path): (e.get(one).sd, e.get(one).correlation) for e in entries if isinstance(e.get(one), Covariance)
        }
        return [e.natural(one) for e in entries], spreads, prior.learned_scales(w["u"]), eta, terms

    # one draw of all chains at a time: 1,000 draws at once would need 1,000 times the memory of a solve
    by_draw = jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 0, 1), drawn)
    found = eqx.filter_jit(lambda w: jax.lax.map(jax.vmap(at), w))(by_draw)
    natural, spreads, scales, eta, terms = jax.tree.map(lambda x: np.moveaxis(np.asarray(x), 0, 1), found)

    variables: dict[str, tuple] = {}
    for entry, values in zip(entries, natural, strict=True):
        field, name = entry.get(model), ".".join(entry.path)
        if not isinstance(field, Covariance) and entry.size > 1:
            dim = f"{name}_element"
            variables[name] = (values, [dim], {dim: list(entry.names)})
            continue
        for k, element in enumerate(entry.names):
            if element not in inventory.fixed:
                variables[element] = (values[:, :, k], None, None)
        if isinstance(field, Covariance):
            sd, correlation = spreads[name]
            dim = "random_effect" if field.names == layout.anatomy.effects else f"{name}_effect"
            variables[f"{name}.sd"] = (sd, [dim], {dim: list(field.names)})
            pairs = [(i, j) for i, j in field.positions() if i != j]
            if pairs:
                labels = [f"{field.names[i]},{field.names[j]}" for i, j in pairs]
                rows, columns = zip(*pairs, strict=True)
                variables[f"{name}.correlation"] = (correlation[:, :, rows, columns], [f"{name}_pair"], {f"{name}_pair": labels})
    for name, labels in prior.scale_labels.items():
        dim = f"{name}_element"
        variables[name] = (scales[name], [dim], {dim: scale_names(name, labels)})
    if layout.anatomy.effects:
        variables["eta"] = (eta, ["subject", "random_effect"], {})
    if layout.anatomy.mixture:
        names = np.array(layout.anatomy.subpopulations)
        variables["subpopulation"] = (names[drawn["member"]], ["subject"], {})
    return variables, terms


def predictive_group(values: np.ndarray):
    """Simulated observations (D, observations) as a group of an InferenceData: DV."""
    import arviz

    return arviz.dict_to_dataset({"DV": values[None]}, dims={"DV": ["observation"]})
