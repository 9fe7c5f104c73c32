"""How a network should read covariates and features: decided once, from the subjects that it is trained on.

* a covariate with more than two categories: one number for each but the first;
* a positive covariate that varies by a factor of two or more and whose logarithm is less skewed: its logarithm;
* any other covariate: as it is;
* features: flattened, or their first principal components, or random projections (Gaussian; Johnson-Lindenstrauss).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nlme.data.population import Population
from nlme.errors import ModelError, name_error
from nlme.language.reading import LOG, PLAIN, Projection, Reading
from nlme.parameters.domains import require_whole

REDUCTIONS = ("pca", "random", None)
_FACTOR = 2.0


def reading_of(
    population: Population,
    inputs: Sequence[str],
    reduce: str | None = "pca",
    components: int = 10,
    encoded: Sequence[str] = (),
    seed: int = 0,
) -> Reading:
    """The recipe for ``inputs``, names of covariates and features; ``encoded`` are features that encoders take.

    Raises
    ------
    ModelError
        An unknown or repeated name, another way to reduce, a covariate that is missing for somebody or the same for everybody.
    """
    inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    known = (*population.covariates, *population.features)
    for name in inputs:
        if name not in known:
            raise ModelError("augment, inputs: " + name_error("covariate", str(name), known, "The population"))
    if not inputs or len(set(inputs)) < len(inputs):
        raise ModelError(f"augment: inputs are different names of covariates and features; got {inputs!r}.")
    if reduce not in REDUCTIONS:
        raise ModelError(f'augment: reduce is "pca", "random" or None; got {reduce!r}.')
    covariates, features, whole = [], [], []
    for name in inputs:
        if name in population.covariates:
            covariates += _covariate(population, name)
        elif name in encoded:
            values = np.stack([s.features[name] for s in population])
            whole.append((name, float(values.mean()), float(values.std()) or 1.0))
        else:
            features.append((name, _projection(population, name, reduce, components, seed)))
    return Reading(tuple(covariates), tuple(features), tuple(whole))


def _covariate(population: Population, name: str) -> list[tuple[str, str | float]]:
    x = np.array([subject.covariates[name][0] for subject in population], dtype=float)
    if not np.isfinite(x).all():
        missing = [s.id for s, value in zip(population, x, strict=True) if not np.isfinite(value)]
        raise ModelError(
            f"augment: covariate {name!r} is missing for subject {missing[0]!r}; read the data with fill={{{name!r}: ...}}."
        )
    if np.ptp(x) == 0:
        raise ModelError(f"augment: covariate {name!r} is {x[0]:g} for every subject: a network can learn nothing from it.")
    categories = population.covariates[name].categories
    if categories and len(categories) > 2:
        return [(name, float(code)) for code in range(1, len(categories)) if np.any(x == code)]
    if categories or len(np.unique(x)) == 2 or x.min() <= 0 or x.max() < _FACTOR * x.min():
        return [(name, PLAIN)]
    return [(name, LOG if abs(_skewness(np.log(x))) < abs(_skewness(x)) else PLAIN)]


def _skewness(x: np.ndarray) -> float:
    z = (x - x.mean()) / x.std()
    return float(np.mean(z**3))


def _projection(population: Population, name: str, reduce: str | None, components: int, seed: int) -> Projection | None:
    x = np.stack([subject.features[name].ravel() for subject in population])
    if reduce is None or x.shape[1] <= components:
        return None
    require_whole("augment", "components", components, 1)
    center, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, np.inf)  # what does not vary says nothing
    if reduce == "random":
        directions = np.random.default_rng(seed).normal(size=(components, x.shape[1])) / np.sqrt(x.shape[1])
        return Projection(center, directions / scale)
    z = (x - center) / scale
    _, lengths, right = np.linalg.svd(z, full_matrices=False)
    kept = min(components, int(np.sum(lengths > 1e-8 * lengths[0])))
    return Projection(center, right[:kept] / scale)
