"""How wide the columns of a printed table are: the size of its letters, and where it is cut when the page is too narrow.

Numbers stand on one line; words may be broken.  Widths are estimated by Arial's: a digit is 0.556 of its size wide.
"""

from __future__ import annotations

from nlme.tables.shown import Panel

SIZES = (9.0, 8.5, 8.0, 7.5, 7.0)  # pt
_MM = 25.4 / 72  # of a point
_NARROW, _LETTER, _WIDE = 0.33, 0.57, 0.8  # of the size
_BOLD = 1.06
_PADDING = 3.0  # mm: the margins of a cell, and a little
_WORDS = 20.0  # mm that a column of words is left at least, where it has so much


def fitting_size(panel: Panel, width: float) -> float:
    """The largest size at which the table fits between the margins with its words broken; the smallest where none does."""
    return next((size for size in SIZES if sum(_least(panel, size)) <= width), SIZES[-1])


def parts(panel: Panel, width: float, size: float) -> list[Panel]:
    """The table, cut into several by columns where it is too wide, each with the first column before it."""
    least = _least(panel, size)
    pieces, own, used = [], [0], least[0]
    for k in range(1, len(least)):
        if used + least[k] > width and len(own) > 1:
            pieces.append(own)
            own, used = [0], least[0]
        own.append(k)
        used += least[k]
    return [_of(panel, columns) for columns in [*pieces, own]]


def _of(panel: Panel, columns: list[int]) -> Panel:
    return panel._replace(
        header=[panel.header[k] for k in columns],
        rows=[[row[k] for k in columns] for row in panel.rows],
        left=[j for j, k in enumerate(columns) if k in panel.left],
    )


def widths(panel: Panel, width: float, size: float) -> list[float]:
    """mm of every column: as wide as its text, words narrower where the page asks for it."""
    natural, least = _natural(panel, size), _least(panel, size)
    if sum(natural) <= width:
        return natural
    spare, wish = width - sum(least), [a - b for a, b in zip(natural, least, strict=True)]
    share = max(0.0, spare) / sum(wish) if sum(wish) else 0.0
    found = [low + share * more for low, more in zip(least, wish, strict=True)]
    return [one * min(1.0, width / sum(found)) for one in found]


def _natural(panel: Panel, size: float) -> list[float]:
    """Every text on one line."""
    longest = [max(_BOLD * _long(head), *(_long(row[k]) for row in panel.rows), 0.5) for k, head in enumerate(panel.header)]
    return [_PADDING + size * _MM * one for one in longest]


def _least(panel: Panel, size: float) -> list[float]:
    """Of numbers the whole width; of words that of the longest one, or a column of a few words."""
    found = []
    for k, natural in enumerate(_natural(panel, size)):
        words = max((_long(word[:40]) for row in [panel.header, *panel.rows] for word in row[k].split()), default=1.0)
        word = _PADDING + _BOLD * words * size * _MM
        found.append(min(natural, max(word, _WORDS)) if k in panel.left else natural)
    return found


def _long(text: str) -> float:
    """How long a text of size 1 is."""
    return sum(
        _NARROW if sign in " .,:;[]()|/'!iljtfI-" else _WIDE if sign.isupper() or sign in "%mwMW−" else _LETTER for sign in text
    )
