"""Units in other letters are the same; other units are not."""

from __future__ import annotations

import pytest

from nlme.data.units import differ


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("kg", "g", True), ("years", "months", True), ("mg/kg", "mg", True), ("mL/min", "L/h", True), ("ug/L", "mg/L", True),
        ("yr", "Years", False), ("mL/min/1.73m2", "ml / min / 1.73 m²", False), ("1/h", "h-1", False), ("h^-1", "/h", False),
        ("µg/L", "mcg/l", False), ("kg", None, False), ("", "kg", False), ("-", "kg", False), ("inch", "in", False),
    ],
)  # fmt: skip
def test_units(one, other, expected):
    assert differ(one, other) is expected
    assert differ(other, one) is expected
