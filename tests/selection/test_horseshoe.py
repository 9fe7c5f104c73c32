"""Selection of covariates by a horseshoe: what matters keeps its size, the rest is next to nothing."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from levels_by_covariates import Level, data

import nlme


@pytest.mark.slow
def test_a_horseshoe_keeps_what_matters_and_shrinks_the_rest():
    base = nlme.fit(Level(), data(), progress=False)
    found = nlme.augment(base, "linear", inputs=("wt", "age", "sex", "arm"))
    model = found.model
    priors = {name: p for name, p in nlme.weakly_informative(model).items() if not name.startswith("shift")}
    priors["shift"] = nlme.weight_prior("horseshoe", 0.1, fan_in=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short chains
        drawn = nlme.sample(
            model, base.population, priors, key=1, random_effects="marginal", warmup=300, draws=300, chains=2, progress=False
        )
    weights = drawn.posterior["shift.term.weights"].to_numpy().reshape(600, -1)
    terms = model.shift.term.terms
    assert weights.shape[1] == len(terms)
    low, high = np.quantile(weights, [0.05, 0.95], axis=0)
    told = {name for name, a, b in zip(terms, low, high, strict=True) if a > 0 or b < 0}
    size = dict(zip(terms, np.abs(np.median(weights, axis=0)), strict=True))
    matter = {"wt", "arm_1"}
    assert told == matter, (told, size)
    assert max(size[name] for name in terms if name not in matter) < 0.5 * min(size[name] for name in matter)
