"""A report as one HTML page that holds everything, opens offline and prints on A4."""

from __future__ import annotations

import base64
import html
import itertools
from typing import TYPE_CHECKING

import numpy as np

from nlme.reporting.blocks import (
    Block,
    Code,
    Correlations,
    Document,
    Formulas,
    Fragment,
    Pairs,
    Paragraph,
    Picture,
    Section,
    Table,
    Verdict,
    cannot_be_shown,
    shade,
)
from nlme.reporting.formulas import formulas
from nlme.reporting.style import STYLE
from nlme.tables.formats import html_table
from nlme.tables.numbers import MISSING, fixed_point

if TYPE_CHECKING:
    from nlme.language.equations import Equations


def page(document: Document) -> str:
    """The page."""
    title, numbers = html.escape(document.title), _Numbers()
    links = " ".join(f'<a href="#{one.key}">{html.escape(one.name)}</a>' for one in document.sections)
    opening = "\n".join(numbers.block(block) for block in document.opening)
    body = "\n".join(numbers.section(one) for one in document.sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{title}</h1>\n{opening}</header>\n<nav>{links}</nav>\n{body}\n</body>\n</html>\n"
    )


class _Numbers:
    """Blocks as HTML, tables and figures numbered from 1 in the order in which they are written."""

    def __init__(self) -> None:
        self.tables, self.figures = itertools.count(1), itertools.count(1)

    def section(self, one: Section) -> str:
        content = "\n".join(self.block(block) for block in one.blocks)
        return f'<section id="{one.key}"><h2>{html.escape(one.name)}</h2>\n{content}</section>'

    def block(self, block: Block) -> str:
        match block:
            case Paragraph(text, kind):
                return _paragraph(text, kind)
            case Verdict():
                return _verdict(block)
            case Pairs(rows, title):
                return _pairs(rows, title)
            case Table(panel):
                caption = f"Table {next(self.tables)}. {panel.title}"
                return f'<div class="wide">{html_table(panel.header, panel.rows, panel.notes, panel.left, caption)}</div>'
            case Correlations():
                return _correlations(block, next(self.tables))
            case Picture():
                return self._picture(block)
            case Formulas(equations):
                return _equations(equations)
            case Fragment(fragment, text):
                return _paragraph(text, "text") + fragment
            case Code(title, text):
                return f'<p class="over">{html.escape(title)}</p><pre class="code">{html.escape(text)}</pre>'

    def _picture(self, block: Picture) -> str:
        """A figure inside the page, as a vector image of its own so that its names cannot meet those of another."""
        from nlme.plots.style import svg

        try:
            data = base64.b64encode(svg(block.figure).encode()).decode()
        except Exception as error:
            return _paragraph(cannot_be_shown(block.caption, error), "text")
        width = round(96 * block.figure.get_figwidth())
        alt = html.escape(block.alt or block.caption)
        return (
            f'<figure><img style="width:{width}px" src="data:image/svg+xml;base64,{data}" alt="{alt}">'
            f"<figcaption><b>Figure {next(self.figures)}.</b> {html.escape(block.caption)}</figcaption></figure>"
        )


def _paragraph(text: str, kind: str) -> str:
    if kind == "long":
        return f'<pre class="doc">{html.escape(text)}</pre>'
    name = {"text": "", "lead": ' class="lead"', "small": ' class="made"'}[kind]
    return f"<p{name}>{html.escape(text)}</p>"


def _equations(equations: Equations) -> str:
    found, notes = formulas(equations)
    parts = []
    for heading, rows in found.items():
        parts.append(f"<h5>{html.escape(heading)}</h5>")
        parts += [f'<p class="formula">{one.mathml}</p>' if one.mathml else _as_text(one.text) for one in rows]
    parts += [f"<p>{html.escape(note)}</p>" for note in notes]
    return f'<div class="wide"><p class="over">Equations</p><div class="equations">{"".join(parts)}</div></div>'


def _as_text(formula: str) -> str:
    return f'<p class="formula text">{html.escape(formula)}</p>'


def _verdict(block: Verdict) -> str:
    listed = "".join(f"<li>{html.escape(problem)}</li>" for problem in block.problems)
    sentence = f'<span class="mark">{block.mark}</span> {html.escape(block.sentence)}'
    return f'<div class="verdict {block.state}"><p>{sentence}</p>{f"<ul>{listed}</ul>" if listed else ""}</div>'


def _pairs(rows, title: str) -> str:
    body = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    caption = f"<caption>{html.escape(title)}</caption>" if title else ""
    return f'<table class="pairs">{caption}{body}</table>'


def _correlations(block: Correlations, number: int) -> str:
    head = "".join(f'<th class="up"><span>{html.escape(name)}</span></th>' for name in block.names)
    rows = []
    for i, name in enumerate(block.names):
        cells = "".join(_heat(block.values[i][j], block.strong) for j in range(i))
        cells += '<td class="diagonal"></td>' + "<td></td>" * (len(block.names) - i - 1)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    caption = html.escape(f"Table {number}. {block.caption}")
    return (
        f'<div class="wide"><table class="heat"><caption>{caption}</caption><tr><td></td>{head}</tr>{"".join(rows)}</table></div>'
    )


def _heat(value: float, strong: float) -> str:
    """One cell of the correlation table: the number is always in it."""
    if not np.isfinite(value):
        return f"<td>{MISSING}</td>"
    colour, light = shade(value)
    bold = ";font-weight:bold" if abs(value) > strong else ""
    ink = ";color:#fff" if light else ""
    return f'<td style="background:rgb({",".join(map(str, colour))}){bold}{ink}">{fixed_point(value, 2)}</td>'
