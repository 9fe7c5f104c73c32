"""The error of an objective by importance sampling, against what repeated sampling shows."""

from __future__ import annotations

import numpy as np

from nlme.fitting.monte_carlo import errors_of


def test_errors_are_those_that_repetition_shows():
    """-2 log of a mean of stratified log-normal weights, 5 draws of one part and 10 of another."""
    random = np.random.default_rng(1)
    strata = np.repeat([0, 1], [5, 10])
    weights = np.exp(0.2 * random.normal(size=(20000, 15)) + strata)
    found = -2.0 * np.log(weights.mean(axis=1))
    np.testing.assert_allclose(np.sqrt(np.mean(errors_of(weights, strata) ** 2)), found.std(), rtol=0.03)


def test_a_part_with_one_draw_says_nothing_of_its_spread():
    assert np.isinf(errors_of(np.ones((2, 3)), np.array([0, 0, 1]))).all()
