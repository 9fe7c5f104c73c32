"""What cannot be asked of learning and of the posterior is said, by what was given and what would have been right."""

from __future__ import annotations

import numpy as np
import optax
import pytest
from learned_effect import Effect, noisy_people

import nlme
from nlme.errors import NLMEError
from nlme.learning.effects import accumulated_effects


@pytest.fixture(scope="module")
def fit():
    return nlme.fit(Effect(), noisy_people(), starts=0, progress=False)


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (lambda fit: nlme.discover(fit, most=0), "most is a whole number of at least 1"),
        (lambda fit: nlme.discover(fit, degree=-1), "degree is a whole number"),
        (lambda fit: nlme.discover(fit, seed="a"), "seed is a whole number"),
        (lambda fit: nlme.discover(fit, library=[]), "library= holds terms"),
        (lambda fit: nlme.discover(fit, library=["x"]), "library= holds terms"),
        (lambda fit: nlme.learned_curves(fit, points=0), "points is a whole number of at least 2"),
        (lambda fit: accumulated_effects(fit, bins=0), "bins is a whole number"),
        (lambda fit: nlme.split(fit.population, 0.2, seed="a"), "seed is a whole number"),
        (lambda fit: nlme.augment(fit, inputs=("x",), starts=0), "starts is a whole number"),
        (lambda fit: nlme.augment(fit, inputs=("x",), seed="a"), "seed is a whole number"),
        (lambda fit: nlme.augment(fit, inputs=("x",), components=0), "components is a whole number"),
        (lambda fit: nlme.Minibatches(held_out="a"), "held_out is a share"),
        (lambda fit: nlme.Minibatches(seed="a"), "seed is a whole number"),
        (lambda fit: nlme.mlp(inputs=1, outputs=1, width=1, depth=1, key=0, initial_scale="a"), "initial_scale is a number"),
        (lambda fit: nlme.mlp(inputs=1, outputs=1, width=1, depth=1, key=0, initial_scale=np.nan), "initial_scale is a number"),
        (lambda fit: nlme.fit(Effect(), fit.population, penalty=3.0), "penalty is nlme.L2"),
        (lambda fit: nlme.fit(Effect(), fit.population, priors=3.0), "priors= is a dict of name"),
        (lambda fit: nlme.fit(Effect(), fit.population, fixed=3), "fixed= holds names of parameters.*got 3"),
        (lambda fit: nlme.evaluate(Effect(), fit.population, fixed=["sd", 3]), "fixed= holds names of parameters.*got 3"),
        (lambda fit: nlme.fit(Effect(), fit.population, starts=-1), "starts is a whole number of at least 0; got -1"),
        (lambda fit: nlme.fit(Effect(), fit.population, tolerance=0.0), "a number above 0 such as 1e-7; got 0.0"),
        (lambda fit: nlme.fit(Effect(), fit.population, tolerance=float("nan")), "a number above 0 such as 1e-7; got nan"),
        (
            lambda fit: nlme.fit(Effect(), fit.population, max_evaluations=2.5),
            "max_evaluations is a whole number of at least 1; got 2.5",
        ),
        (lambda fit: nlme.bootstrap(fit, 3, key=1, max_evaluations=0), "max_evaluations is a whole number of at least 1; got 0"),
        (lambda fit: nlme.fit(Effect(), fit.population, shooting=nlme.MultipleShooting), "shooting is nlme.MultipleShooting"),
        (lambda fit: nlme.fit(Effect(), fit.population, optimiser=optax.lbfgs(), progress=False), "steps by the gradient alone"),
        (lambda fit: nlme.sample(Effect(), fit.population, {}, key=1, target_acceptance=1.5), "between 0 and 1"),
        (lambda fit: nlme.sample(Effect(), fit.population, {}, key=1, max_tree_depth=0), "max_tree_depth is a whole number"),
        (lambda fit: nlme.sample(Effect(), fit.population, {}, key=1, max_tree_depth="a"), "max_tree_depth is a whole number"),
        (lambda fit: nlme.sample(Effect(), fit.population, None, key=1), "priors"),
        (lambda fit: nlme.weakly_informative(Effect), "class"),
    ],
)
def test_arguments(fit, asked, seen):
    with pytest.raises(NLMEError, match=seen):
        asked(fit)


def test_a_posterior_where_a_fit_is_needed_is_said(fit):
    posterior = nlme.sample(
        Effect(), fit.population, nlme.weakly_informative(fit.model), key=1, warmup=20, draws=20, chains=1, progress=False
    )
    for asked in (nlme.plots.forest, nlme.plots.accumulated, nlme.plots.held_out):
        with pytest.raises(NLMEError, match="InferenceData"):
            asked(posterior)
    assert nlme.discover(posterior, model=Effect()).model().net is not None  # standardised by numbers that only the posterior has
