"""Prior and posterior predictive data sets: what the model says before and after it has seen the data.

    prior:      theta_d ~ p(theta),      eta_d ~ N(0, Omega(theta_d)),                  y_d ~ p(y | theta_d, eta_d)
    posterior:  (theta_d, eta_d) ~ p(theta, eta | y),                                    y_d ~ p(y | theta_d, eta_d)

on the population's own records.  Sources: Gelman, Meng & Stern (1996), Statistica Sinica 6:733; Gabry et al. (2019), J R Stat Soc A
182:389, doi:10.1111/rssa.12378.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from nlme.errors import ModelError
from nlme.keys import key_of
from nlme.language.layout import lay_out
from nlme.language.model import Model, require_model
from nlme.parameters.domains import require_whole
from nlme.parameters.priors import Priors
from nlme.posterior.inference_data import predictive_group
from nlme.posterior.nuts import posterior_models
from nlme.simulation.simulate import simulate

if TYPE_CHECKING:
    from arviz import InferenceData


def predictive(
    model: Model,
    population,
    priors: Mapping[str, Any] | None = None,
    posterior: InferenceData | None = None,
    *,
    key,
    draws: int = 200,
    fixed: Iterable[str] = (),
) -> InferenceData:
    """Data sets simulated from the prior, from the posterior, or from both.

    Parameters
    ----------
    model, population : as of :func:`nlme.sample`
    priors, fixed : as of :func:`nlme.sample`, for the prior's data sets
    posterior : what ``nlme.sample`` returned for this population, for the posterior's; its groups are in the result, too
    key : seed, an int or a JAX key
    draws : data sets of each kind

    Returns
    -------
    arviz.InferenceData
        ``prior`` (parameters by name, natural scale) and ``prior_predictive``, ``posterior_predictive`` (DV by observation, in the order
        of the data file), with ``observed_data``: what ``arviz.plot_ppc`` takes.  Simulated values are not censored

    Raises
    ------
    ModelError
        Neither priors nor a posterior; a mixture; a posterior of other subjects or with fewer draws.
    """
    import arviz

    require_whole("nlme.predictive", "draws", draws, 1)
    if priors is None and posterior is None:
        raise ModelError("nlme.predictive needs priors=, posterior=, or both.")
    layout = lay_out(require_model(model), population)
    if layout.anatomy.mixture:
        raise ModelError(
            "nlme.predictive has no mixtures of subpopulations yet; nlme.simulate(model, population, eta='new') has."
        )
    key = key_of(key)
    of_prior, of_theta, of_posterior = jax.random.split(key, 3)
    found = arviz.InferenceData(attrs={} if posterior is None else dict(posterior.attrs))
    if posterior is not None:
        found.extend(posterior)
        models, eta = _drawn(layout.model, population, posterior, draws)
        found.add_groups({"posterior_predictive": predictive_group(_values(models, population, eta, of_posterior, draws))})
    if priors is not None:
        prior = Priors(layout.model, priors, fixed)
        u = prior.drawn(of_theta, draws)
        models, natural = jax.jit(jax.vmap(lambda u: (m := prior.model_and_density(u)[0], prior.inventory.natural(m))))(u)
        names = {name: np.asarray(natural)[None, :, k] for k, name in enumerate(prior.inventory.names)}
        found.add_groups({"prior": arviz.dict_to_dataset(names)})
        found.add_groups({"prior_predictive": predictive_group(_values(models, population, None, of_prior, draws))})
        units = {row.name: row.unit for row in prior.inventory.rows(layout.model) if row.unit}
        found.prior.attrs["units"] = json.dumps(units)
    if "observed_data" not in found.groups():
        observed = np.concatenate([s.dv[s.is_observation] for s in population])
        found.add_groups(
            {"observed_data": arviz.dict_to_dataset({"DV": observed}, dims={"DV": ["observation"]}, default_dims=[])}
        )
    return found


def _drawn(model: Model, population, posterior: InferenceData, draws: int):
    """(models, eta (D, N, q) or None) of draws spread over all chains."""
    if posterior.attrs.get("data_hash") != population.hash:
        raise ModelError("nlme.predictive: the posterior is of other data than this population.")
    total = posterior.posterior.sizes["chain"] * posterior.posterior.sizes["draw"]
    if total < draws:
        raise ModelError(f"nlme.predictive: the posterior has {total} draws, and {draws} are asked for.")
    chosen = np.linspace(0, total - 1, draws).astype(int)
    models = jax.tree.map(lambda x: x[chosen] if eqx.is_array(x) else x, posterior_models(model, posterior))
    if "eta" not in posterior.posterior:
        return models, np.zeros((draws, len(population), 0))
    eta = posterior.posterior["eta"].values
    return models, eta.reshape(-1, *eta.shape[2:])[chosen]


def _values(models: Model, population, eta: np.ndarray | None, key, draws: int) -> np.ndarray:
    """(D, observations) simulated values in file order."""
    arrays, rest = eqx.partition(models, eqx.is_array)
    keys, found = jax.random.split(key, draws), []
    for d in range(draws):
        model = eqx.combine(jax.tree.map(lambda x: jnp.asarray(x[d]), arrays), rest)  # noqa: B023 (used at once)
        frame = simulate(model, population, key=keys[d], eta="new" if eta is None else eta[d])
        found.append(frame.loc[frame["MDV"] == 0, "DV"].to_numpy(float))
    return np.stack(found)
