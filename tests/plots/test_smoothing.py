"""lowess: exact on straight lines, equal to the formula written out, at home with ties."""

import numpy as np
import pytest

from nlme.plots.smoothing import lowess


def test_a_straight_line_comes_back_exactly():
    x = np.random.default_rng(1).uniform(0, 10, 50)
    at, smooth = lowess(x, 3.0 - 2.0 * x, fraction=0.3)
    np.testing.assert_allclose(smooth, 3.0 - 2.0 * at, atol=1e-10)


def test_one_place_against_weighted_least_squares_written_out():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(0, 10, 40), rng.normal(size=40)
    place, count = 4.2, 20
    distance = np.abs(x - place)
    weight = np.clip(1 - (distance / np.sort(distance)[count - 1]) ** 3, 0, None) ** 3
    design = np.stack([np.ones_like(x), x], axis=1)
    root = np.sqrt(weight)
    (intercept, slope), *_ = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)
    _, smooth = lowess(x, y, fraction=0.5, at=[place])
    assert smooth[0] == pytest.approx(intercept + slope * place, abs=1e-12)


def test_nominal_times_with_many_ties():
    x = np.repeat([0.0, 1.0, 24.0], 100)
    y = np.repeat([1.0, 2.0, 5.0], 100) + np.tile([-0.5, 0.5], 150)
    at, smooth = lowess(x, y, at=[0.0, 1.0, 24.0], fraction=0.1)
    np.testing.assert_allclose(smooth, [1.0, 2.0, 5.0], atol=1e-2)


def test_missing_values_are_left_out():
    x = np.array([0.0, 1.0, np.nan, 2.0, 3.0, 4.0])
    y = np.array([0.0, 1.0, 5.0, np.nan, 3.0, 4.0])
    at, smooth = lowess(x, y)
    np.testing.assert_allclose(smooth, at, atol=1e-12)


@pytest.mark.parametrize("x", [[], [1.0, 2.0], [3.0] * 9])
def test_too_little_to_smooth_gives_nothing(x):
    at, smooth = lowess(x, np.zeros(len(x)))
    assert len(at) == len(smooth) == 0
