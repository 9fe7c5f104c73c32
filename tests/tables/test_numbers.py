"""Numbers as text: significant digits survive rounding, missing values show as a dash."""

import pytest

from nlme.tables.numbers import alike, fixed_point, seconds, significant


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (32.0, 4, "32.00"),
        (0.0158, 4, "0.01580"),
        (9.99996, 4, "10.00"),  # rounding moves the decimal point
        (0.00099999, 3, "0.00100"),
        (-2.5, 3, "-2.50"),
        (123456.0, 4, "123456"),
        (1234567890.0, 4, "1.235e+09"),
        (1.23456e-7, 4, "1.235e-07"),
        (0.0, 4, "0"),
        (float("nan"), 4, "–"),
        (None, 4, "–"),
        (float("inf"), 4, "∞"),
        (float("-inf"), 4, "-∞"),
    ],
)
def test_significant(value, digits, text):
    assert significant(value, digits) == text


@pytest.mark.parametrize("magnitude", range(-4, 7))
@pytest.mark.parametrize("digits", [2, 3, 4, 5])
def test_significant_rounds_to_the_digits_it_shows(magnitude, digits):
    value = 1.2345678 * 10.0**magnitude
    shown = significant(value, digits)
    assert abs(float(shown) / value - 1) <= 0.51 * 10.0 ** (1 - digits) / 1.2345678
    assert len(shown.replace(".", "").lstrip("0")) >= digits


@pytest.mark.parametrize(
    ("value", "model", "text"),
    [
        (-0.000634, "0.01582", "-0.00063"),
        (29.0912, "32.00", "29.09"),
        (-0.001, "32.00", "0.00"),
        (2.0e-7, "1.235e-07", "2.000e-07"),
        (123.4, "123456", "123.4"),
        (float("nan"), "1.0", "–"),
    ],
)
def test_ends_of_an_interval_look_like_its_estimate(value, model, text):
    assert alike(value, model) == text


@pytest.mark.parametrize(
    ("value", "text"), [(12.345, "12.3"), (-0.01, "0.0"), (-0.06, "-0.1"), (float("nan"), "–"), (float("inf"), "∞")]
)
def test_fixed_point(value, text):
    assert fixed_point(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.0123, "12 ms"), (3.456, "3.5 s"), (200, "3 min 20 s"), (float("nan"), "–")])
def test_seconds(value, text):
    assert seconds(value) == text
