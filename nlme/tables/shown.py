"""What a result shows as a table: one mixin gives it every format.

A class says what it shows by ``_panels``: one or more tables of text cells, each with its notes.  What is exported is what is
printed, but for CSV, which has the numbers of ``_exact`` at full precision.
"""

from __future__ import annotations

import abc
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nlme.tables import formats
from nlme.tables.numbers import MISSING, alike, significant

if TYPE_CHECKING:
    import pandas as pd


class Panel(NamedTuple):
    """One table of text cells: title, headers, rows, notes below, and which columns are words."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: Collection[int] = (0,)


class Shown(abc.ABC):
    """Mixin of results that are read as tables."""

    @abc.abstractmethod
    def _panels(self) -> list[Panel]:
        """The tables shown."""

    @abc.abstractmethod
    def _exact(self) -> pd.DataFrame:
        """The numbers behind the first of them."""

    def to_csv(self, path_or_buf: str | Path | None = None, **options) -> str | None:
        """Comma-separated values at full precision (options as of ``DataFrame.to_csv``); no cell is a formula to a spreadsheet."""
        return formats.csv(self._exact(), path_or_buf, **options)

    def to_markdown(self, path: str | Path | None = None) -> str:
        """Pipe tables with their notes; written to ``path`` when one is given."""
        parts = [formats.markdown(p.header, p.rows, p.notes, p.left) for p in self._panels()]
        return _written("\n".join(parts), path)

    def to_html(self, path: str | Path | None = None) -> str:
        """HTML fragment with inline styles; pasted from a browser into Word it stays a table."""
        parts = [formats.html_table(p.header, p.rows, p.notes, p.left, p.title) for p in self._panels()]
        return _written("".join(parts), path)

    def to_latex(self, path: str | Path | None = None, caption: str | None = None, label: str = "") -> str:
        """LaTeX ``table``; the preamble needs booktabs.  ``caption`` and ``label`` are those of the first one."""
        parts = []
        for k, p in enumerate(self._panels()):
            title = p.title if k or caption is None else caption
            parts.append(formats.latex(p.header, p.rows, p.notes, p.left, title, "" if k else label))
        return _written("\n".join(parts), path)

    def to_rtf(self, path: str | Path | None = None) -> str:
        """Rich Text Format: Word opens it, and inserts or pastes it as a Word table."""
        parts = [formats.rtf(p.header, p.rows, p.notes, p.left, p.title) for p in self._panels()]
        return _written(formats.rtf_document(parts), path)

    def __repr__(self) -> str:
        return "\n\n".join(_plain(panel) for panel in self._panels())

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return self.to_html()


def numbers_shown(
    frame: pd.DataFrame, title: str = "", notes: Sequence[str] = (), index: str = "Parameter", digits: int = 4
) -> Panel:
    """A frame of numbers as a panel: its index first, every number of a row with as many decimals as the row's first."""

    def row(name, values) -> list[str]:
        first = significant(values[0], digits) if values and isinstance(values[0], (int, float)) else MISSING
        return [str(name), *(v if isinstance(v, str) else alike(v, first) for v in values)]

    rows = [
        row(name, [v if isinstance(v, str) else float(v) for v in values])
        for name, values in zip(frame.index, frame.to_numpy(object).tolist(), strict=True)
    ]
    return Panel(title, [index, *map(str, frame.columns)], rows, notes)


def _plain(panel: Panel) -> str:
    """A panel as text: its columns aligned, its notes as wide as it is."""
    cells = [list(panel.header), *map(list, panel.rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(panel.header))]
    pad = [
        [c.ljust(w) if k in panel.left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths, strict=True))] for row in cells
    ]
    lines = [" ".join(row).rstrip() for row in pad]
    width = max(80, *(len(line) for line in lines))
    notes = [textwrap.fill(note, width) for note in panel.notes]
    return "\n".join([*([panel.title] if panel.title else []), *lines, *notes])


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text
