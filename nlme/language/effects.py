"""How each random effect enters the individual parameters: log-normally, normally or otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nlme.language.anatomy import Anatomy, individual_row, named
from nlme.language.model import Model
from nlme.typing import Named

_PROBES = (-0.3, 0.2, 0.5)


def effect_transforms(model: Model, population, anatomy: Anatomy) -> dict[str, str]:
    """Random effect -> "log-normal" (p = p0 exp(eta)), "normal" (p = p0 + c eta) or "other", seen at the first subject's values.

    Decides whether a table may show a variance as a coefficient of variation.
    """
    subject = next(iter(population))
    return transforms_at(model, anatomy, anatomy.told_at(subject))


def transforms_at(model: Model, anatomy: Anatomy, covariates: Mapping[str, Any]) -> dict[str, str]:
    """The same at given covariates; "unknown" where the individual parameters are not numbers there."""
    cov = Named({name: jnp.asarray(value, dtype=jnp.float64) for name, value in covariates.items()}, "covariate")

    @jax.jit
    def table(etas):
        def at(eta):
            ind = individual_row(model, named("random effect", anatomy.words, list(eta)), cov)
            return jnp.stack(list(ind.values()))

        return jax.vmap(at)(etas)

    count = len(anatomy.words)
    if not count:
        return {}
    etas = np.zeros((1 + count * len(_PROBES), count))
    for k in range(count):
        etas[1 + k * len(_PROBES) : 1 + (k + 1) * len(_PROBES), k] = _PROBES
    values = np.asarray(table(jnp.asarray(etas)))
    base, x = values[0], np.array(_PROBES)[:, None]
    found = {}
    for k, effect in enumerate(anatomy.words):
        moved = values[1 + k * len(_PROBES) : 1 + (k + 1) * len(_PROBES)]
        depends = np.any((moved != base) | ~np.isfinite(moved), axis=0)
        moved, start = moved[:, depends], base[depends]
        if not (np.all(np.isfinite(moved)) and np.all(np.isfinite(start))):
            found[effect] = "unknown"
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            lognormal = start.size and np.allclose(moved / start, np.exp(x), rtol=1e-9)
        normal = start.size and np.allclose((moved - start) / x, ((moved - start) / x)[0], rtol=1e-7)
        found[effect] = "log-normal" if lognormal else "normal" if normal else "other"
    return found
