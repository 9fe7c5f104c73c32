"""What a report is made of, as data: sections of blocks, which every writer (HTML, Word) sets in its own way.

All text is plain text; what a format would read as its own is the writer's to escape.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nlme.tables.shown import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nlme.language.equations import Equations


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Running text; ``kind`` is how it is set."""

    text: str
    kind: Literal["text", "lead", "long", "small"] = "text"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The judgement on a fit, and what stands against it."""

    state: Literal["good", "warn", "bad"]
    sentence: str
    problems: Sequence[str] = ()

    @property
    def mark(self) -> str:
        """A sign that says it without colour."""
        return {"good": "✓", "warn": "!", "bad": "✗"}[self.state]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Names and values; no numbered table."""

    rows: Sequence[tuple[str, str]]
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A numbered table: the panel's title is its caption."""

    panel: Panel


@dataclasses.dataclass(frozen=True)
class Correlations:
    """A numbered table: the lower triangle of a correlation matrix, shaded by size.  values : (n, n), NaN where unknown."""

    caption: str
    names: Sequence[str]
    values: Sequence[Sequence[float]]
    strong: float


@dataclasses.dataclass(frozen=True)
class Picture:
    """A numbered figure; ``alt`` says in words what it shows, for who cannot see it (the caption by default)."""

    figure: Figure
    caption: str
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Code:
    """Lines set as they stand, under a heading of their own."""

    title: str
    text: str


@dataclasses.dataclass(frozen=True)
class Formulas:
    """The equations of a model."""

    equations: Equations


@dataclasses.dataclass(frozen=True)
class Fragment:
    """A piece of HTML with a sentence about it: of a page only, for paper has nothing to point at."""

    html: str
    text: str


Block = Paragraph | Verdict | Pairs | Table | Correlations | Picture | Code | Formulas | Fragment


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with its blocks; ``key`` is its anchor."""

    key: str
    name: str
    blocks: Sequence[Block]


@dataclasses.dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    opening: Sequence[Block]
    sections: Sequence[Section]


def shade(value: float) -> tuple[tuple[int, int, int], bool]:
    """Background of a correlation (blue for negative, vermilion for positive), and whether its ink is to be white."""
    base = (213, 94, 0) if value > 0 else (0, 114, 178)
    depth = min(abs(value), 1.0) * 0.85
    red, green, blue = (round(255 - depth * (255 - part)) for part in base)
    return (red, green, blue), depth > 0.6


def cannot_be_shown(what: str, error: Exception) -> str:
    """The sentence in the place of what could not be made, so that the rest is not lost with it."""
    said = (str(error).strip().splitlines() or [""])[0]
    return f"{what} cannot be shown for this fit ({type(error).__name__}: {said})."
