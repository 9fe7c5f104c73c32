"""How each random effect enters the individual parameters: log-normally, normally or otherwise."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from nlme.language.model import Model
from nlme.language.anatomy import Anatomy, individual_row, named
from nlme.typing import Named

_PROBES = (-0.3, 0.2, 0.5)


def effect_transforms(model: Model, population, anatomy: Anatomy) -> dict[str, str]:
    """Random effect -> "log-normal" (p = p0 exp(eta)), "normal" (p = p0 + c eta) or "other", seen at the first subject's values.

    Decides whether a table may show a variance as a coefficient of variation.
    """
    subject = next(iter(population))
    cov = Named({name: jnp.asarray(subject.covariates[name][0]) for name in anatomy.covariates}, "covariate")

    def at(k, x):
        eta = jnp.zeros(len(anatomy.effects)).at[k].set(x)
        ind = individual_row(model, named("random effect", anatomy.effects, list(eta)), cov)
        return np.array([float(ind[name]) for name in anatomy.individual])

    found = {}
    base = at(0, 0.0) if anatomy.effects else np.zeros(0)
    for k, effect in enumerate(anatomy.effects):
        moved = np.array([at(k, x) for x in _PROBES])
        depends = np.any(moved != base, axis=0)
        moved, start = moved[:, depends], base[depends]
        x = np.array(_PROBES)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            lognormal = start.size and np.allclose(moved / start, np.exp(x), rtol=1e-9)
        normal = start.size and np.allclose((moved - start) / x, ((moved - start) / x)[0], rtol=1e-7)
        found[effect] = "log-normal" if lognormal else "normal" if normal else "other"
    return found
