"""The equations of a model as a report sets them: numbers to six significant digits, and what is too long for a line as text.

A formula in MathML, or of Word's, is one line however long; text is broken where the page ends.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlme.language.typeset import Text

if TYPE_CHECKING:
    from nlme.language.equations import Equations

DIGITS = 6
LONGEST = 100  # characters of a formula in text that is set in one line
SHORTENED = f"Numbers to {DIGITS} significant digits; nlme.equations(model) has all of them."
_NUMBER = re.compile(r"(?<![\w.])(\d+\.\d+)(?=e[+-]?\d|(?![\w.]))")


@dataclasses.dataclass(frozen=True)
class Formula:
    """One equation: a ``<math>`` element, or, where that would be too long, a line of text (the other is "")."""

    mathml: str
    text: str = ""


def formulas(equations: Equations) -> tuple[Mapping[str, list[Formula]], tuple[str, ...]]:
    """Heading -> its equations, and the notes below them."""
    texts = {heading: [f"{left} = {right}" for left, right in rows] for heading, rows in equations._lines(Text())}
    found, short = {}, False
    for heading, rows in equations.mathml().items():
        written = texts.get(heading, [""] * len(rows))
        short = short or any(shortened(one) != one for one in (heading, *rows))
        found[shortened(heading)] = [_formula(shortened(one), shortened(text)) for one, text in zip(rows, written, strict=True)]
    return found, (*equations.notes, *([SHORTENED] if short else []))


def _formula(mathml: str, text: str) -> Formula:
    return Formula("", text) if len(text) > LONGEST else Formula(mathml)


def shortened(written: str) -> str:
    """Text or MathML with its decimals to at most six significant digits; digits before the point all stay.

    >>> shortened("12.5·x + 0.09367417437398806^2 - 5.446292459155954e-17 + net.w[0]"), shortened("1234567.25")
    ('12.5·x + 0.0936742^2 - 5.44629e-17 + net.w[0]', '1234567')
    """
    return _NUMBER.sub(lambda found: _rounded(found[1]), written)


def _rounded(decimal: str) -> str:
    value = float(decimal)
    if value == 0 or len(decimal.replace(".", "").lstrip("0")) <= DIGITS:
        return decimal
    places = max(DIGITS - 1 - math.floor(math.log10(value)), 0)
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text
