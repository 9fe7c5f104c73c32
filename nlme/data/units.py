"""Units as people write them: whether two texts mean the same."""

from __future__ import annotations

import re

_NO_UNIT = frozenset({"", "-", "1", ".", "none", "na", "n/a", "unitless", "dimensionless", "no unit"})
_WORDS = {
    "year": "years yr yrs y a",
    "month": "months mo",
    "week": "weeks wk wks",
    "day": "days d",
    "h": "hour hours hr hrs",
    "min": "minute minutes mins",
    "s": "second seconds sec secs",
    "l": "liter litre liters litres",
    "g": "gram grams gm",
    "kg": "kilogram kilograms kgs",
    "mg": "milligram milligrams mgs",
    "ug": "mcg microgram micrograms",
    "cm": "centimeter centimetre centimeters centimetres",
    "m": "meter metre meters metres",
    "in": "inch inches",
    "%": "percent",
}
_SAME = {word: unit for unit, words in _WORDS.items() for word in words.split()}
_SIGNS = str.maketrans({"µ": "u", "μ": "u", "²": "2", "³": "3", "·": "", "*": "", "^": "", " ": "", "_": ""})


def differ(one: str | None, other: str | None) -> bool:
    """Whether two units are known and are not the same in other letters (yr and years, mL/min and ml/min).

    >>> differ("kg", "g"), differ("yr", "Years"), differ("kg", None)
    (True, False, False)
    """
    return None not in (found := (_plain(one), _plain(other))) and found[0] != found[1]


def _plain(unit: str | None) -> str | None:
    text = (unit or "").strip().casefold()
    if text in _NO_UNIT:
        return None
    text = re.sub(r"([a-z]+)(?:\^|\*\*)?-1(?![0-9])", r"/\1", text).translate(_SIGNS)  # h-1 is 1/h
    parts = [_SAME.get(part, part) for part in text.split("/")]
    return "/".join(["1" if not parts[0] else parts[0], *parts[1:]])
