"""Center and scale of covariates from a population, to be written down in a model's declaration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlme.errors import ModelError, name_error


def standardise(population, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """``center`` and ``scale`` for :func:`nlme.mlp` and the other terms: mean and standard deviation of covariates over the
    subjects' first records.

    Returns {"center": {name: mean}, "scale": {name: sd}}, so that ``nlme.mlp(inputs=names, **standardise(...), ...)``.

    Raises
    ------
    ModelError
        A covariate the population does not have, or one that is the same for everybody.
    """
    center, scale = {}, {}
    for name in names:
        if name not in population.covariates:
            raise ModelError(name_error("covariate", name, population.covariates, "The population"))
        values = np.array([subject.covariates[name][0] for subject in population], dtype=float)
        center[name], scale[name] = float(np.mean(values)), float(np.std(values))
        if not scale[name] > 0:
            raise ModelError(f"Covariate {name!r} is {center[name]:g} for every subject: a network can learn nothing from it.")
    return {"center": center, "scale": scale}
