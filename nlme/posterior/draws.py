"""What draws of Markov chains are worth: R-hat and effective sizes by ranks, which are the same on every scale of a parameter.

With z = Phi^-1((r - 3/8) / (S + 1/4)), r the rank of a draw among all S of all chains, and every chain split in two:

    R-hat   the larger of split R-hat of z and of z of abs(x - median), which sees chains that differ in width alone
    ESS     the smaller of the bulk's, of z, and the tails', of the indicators x <= q_0.05 and x <= q_0.95, on which quantiles rest

Source: Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), Bayesian Anal 16:667, doi:10.1214/20-BA1221.
"""

from __future__ import annotations

import warnings

import numpy as np
from jaxtyping import Float

_ALL = 1e6  # R-hat of chains that did not move but for rounding
_UNSTABLE = 0.7  # Pareto k above which importance sampling does not settle
LEAST = 4  # draws of a chain, below which nothing can be said


def r_hat(values: Float[np.ndarray, "C D *V"]) -> Float[np.ndarray, "*V"]:
    """Rank-normalised split R-hat of every number; NaN of one that never moved, infinite where only its chains differ."""
    from numpyro.diagnostics import split_gelman_rubin

    folded = np.abs(values - np.median(values, axis=(0, 1)))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.maximum(*(np.nan_to_num(split_gelman_rubin(_scores(x)), nan=0.0) for x in (values, folded)))
    found = np.where((found > 0.0) & (found < _ALL), found, np.inf)
    return np.where(np.ptp(values, axis=(0, 1)) > 0, found, np.nan)


def effective_size(values: Float[np.ndarray, "C D *V"]) -> Float[np.ndarray, "*V"]:
    """Effective draws of every number, in the bulk or the tails, whichever are fewer; 0 of one that never moved."""
    from numpyro.diagnostics import effective_sample_size

    moved = np.ptp(values, axis=(0, 1)) > 0
    low, high = np.quantile(values, [0.05, 0.95], axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = [effective_sample_size(_split(x)) for x in (_scores(values), 1.0 * (values <= low), 1.0 * (values <= high))]
    # a tail in which no chain ever is, but for one draw, says nothing of itself
    found = np.nanmin([np.where(np.isfinite(one), one, np.inf) for one in found], axis=0)
    return np.where(moved & np.isfinite(found), found, 0.0)


def worth(values: Float[np.ndarray, "C D V"]) -> tuple[float, float]:
    """Largest R-hat and least effective size of numbers at draws; one that never moved is worth no draw at all."""
    return float(np.max(r_hat(values))), float(np.min(effective_size(values)))


def scalars(posterior) -> dict[str, np.ndarray]:
    """(chains, draws) of every number of a posterior, by the names of tables."""
    found = {}
    for name, variable in posterior.posterior.data_vars.items():
        values = np.asarray(variable)
        if values.ndim == 2:
            found[str(name)] = values
        elif values.ndim == 3 and str(variable.dims[-1]) == f"{name}_element":
            found |= {str(label): values[:, :, k] for k, label in enumerate(variable.coords[variable.dims[-1]].values)}
    return found


def each_left_out(posterior) -> tuple[float, float, int]:
    """The log predictive density of every subject given the others, summed, with its standard error, by Pareto-smoothed importance
    sampling of a marginal run's draws; and for how many subjects k is above 0.7.

    Source: Vehtari, Gelman & Gabry (2017), Stat Comput 27:1413, doi:10.1007/s11222-016-9696-4 (by ArviZ).
    """
    import arviz

    likelihood = np.asarray(posterior.log_likelihood["marginal"])
    worth = (
        float(np.mean(effective_size(likelihood))) / likelihood[..., 0].size
    )  # ArviZ would take that of all draws, names among them
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of large k, which are counted
        found = arviz.loo(posterior, var_name="marginal", pointwise=True, reff=min(worth, 1.0))
    return float(found.elpd_loo), float(found.se), int((np.asarray(found.pareto_k) > _UNSTABLE).sum())


def _split(values: np.ndarray) -> np.ndarray:
    """Every chain as two."""
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]])


def _scores(values: np.ndarray) -> np.ndarray:
    """z of the draws."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    chains, draws, *rest = values.shape
    ranks = rankdata(values.reshape(chains * draws, *rest), axis=0)
    return ndtri((ranks - 0.375) / (chains * draws + 0.25)).reshape(values.shape)


def messages_in(posterior) -> list[str]:
    """What the sampler said of a posterior; a file keeps a single sentence as text."""
    found = posterior.attrs.get("messages", [])
    return [found] if isinstance(found, str) else [str(one) for one in found]
