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

import jax
import numpy as np

from nlme.data.frames import of_records
from nlme.errors import ModelError
from nlme.keys import key_of
from nlme.language.layout import lay_out
from nlme.language.model import Model, require_model
from nlme.parameters.domains import require_whole
from nlme.parameters.priors import Priors
from nlme.posterior.inference_data import predictive_group
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
        Neither priors nor a posterior; a posterior of other subjects or with fewer draws.
    """
    import arviz
    import pandas as pd

    require_whole("nlme.predictive", "draws", draws, 2)
    if priors is None and posterior is None:
        raise ModelError("nlme.predictive needs priors=, posterior=, or both.")
    model = lay_out(require_model(model), population).model
    of_prior, of_theta, of_posterior = jax.random.split(key_of(key), 3)
    found = arviz.InferenceData(attrs={} if posterior is None else dict(posterior.attrs))
    if posterior is not None:
        found.extend(posterior)
        values = _of_posterior(model, population, posterior, draws, of_posterior)
        found.add_groups({"posterior_predictive": predictive_group(values)})
    if priors is not None:
        prior = Priors(model, priors, fixed)
        u = prior.drawn(of_theta, draws)
        natural = jax.jit(jax.vmap(lambda u: prior.inventory.natural(prior.model_and_density(u)[0])))(u)
        table = pd.DataFrame(np.asarray(natural), columns=prior.inventory.names)
        found.add_groups({"prior": arviz.dict_to_dataset({name: table[name].to_numpy()[None] for name in table})})
        values = simulated_values(model, population, table, "new", draws, of_prior)
        found.add_groups({"prior_predictive": predictive_group(values)})
        units = {row.name: row.unit for row in prior.inventory.rows(model) if row.unit}
        found.prior.attrs["units"] = json.dumps(units)
    if "observed_data" not in found.groups():
        observed = np.concatenate([s.dv[s.is_observation] for s in population])
        found.add_groups(
            {"observed_data": arviz.dict_to_dataset({"DV": observed}, dims={"DV": ["observation"]}, default_dims=[])}
        )
    return found


def _of_posterior(model: Model, population, posterior: InferenceData, draws: int, key) -> np.ndarray:
    if posterior.attrs.get("data_hash") != population.hash:
        raise ModelError("nlme.predictive: the posterior is of other data than this population.")
    total = posterior.posterior.sizes["chain"] * posterior.posterior.sizes["draw"]
    if total < draws:
        raise ModelError(f"nlme.predictive: the posterior has {total} draws, and {draws} are asked for.")
    own = "estimated" if "eta" in posterior.posterior else "typical"  # a model without random effects has none
    return simulated_values(model, population, posterior, own, draws, key)


def simulated_values(model: Model, population, uncertainty, eta: str, draws: int, key) -> np.ndarray:
    """(D, observations) simulated values in file order; NaN after a subject's only event."""
    frame = simulate(model, population, key=key, eta=eta, replicates=draws, uncertainty=uncertainty, as_data=True)
    observed = np.concatenate([s.is_observation for s in population])
    return frame["DV"].to_numpy(float)[of_records(frame)].reshape(draws, -1)[:, observed]
