"""How numbers are written for a reader: significant digits, no exponent where none is needed."""

from __future__ import annotations

import math

MISSING = "–"


def significant(value: float, digits: int = 4) -> str:
    """``value`` with this many significant digits, trailing zeros kept; '–' for NaN or None.

    >>> [significant(x) for x in (32.0, 0.0158, 123456.0, 1.23456e-07, 0.0)]
    ['32.00', '0.01580', '123456', '1.235e-07', '0']
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    # The magnitude after rounding: 9.9996 with four digits is 10.00, not 10.000.
    magnitude = int(f"{abs(value):.{digits - 1}e}".partition("e")[2])
    if magnitude < -4 or magnitude > 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - magnitude, 0)}f}"


def alike(value: float, model: str) -> str:
    """``value`` with as many decimals as the text ``model`` has; with four significant digits where that has none to copy.

    >>> alike(-0.000634, "0.01582"), alike(29.0912, "32.00"), alike(2.0e-7, "1.235e-07"), alike(2.0e9, "32.00")
    ('-0.00063', '29.09', '2.000e-07', '2.000e+09')
    """
    if "." not in model or "e" in model or abs(value) >= 1e7:
        return significant(value)
    return fixed_point(value, len(model.partition(".")[2]))


def fixed_point(value: float, decimals: int = 1) -> str:
    """``value`` with this many decimals; '–' for NaN or None.

    >>> fixed_point(12.345), fixed_point(float("nan")), fixed_point(-0.01)
    ('12.3', '–', '0.0')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text


def seconds(value: float) -> str:
    """A duration for a reader.

    >>> seconds(0.0123), seconds(3.456), seconds(200)
    ('12 ms', '3.5 s', '3 min 20 s')
    """
    if value is None or math.isnan(value):
        return MISSING
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {value % 60:.0f} s"
