"""A report as a Word document on A4: native tables and headings, numbered captions, contents, header and footer.

The one door of python-docx, and of mathml2omml, which makes equations Word's own.  What Word counts itself (numbers of tables, figures
and pages, the contents) are its own fields, so that what is pasted into a submission is numbered anew there.  OOXML: ECMA-376, part 1,
17.16 (fields), 17.4 (tables), 22.1 (equations).
"""

from __future__ import annotations

import importlib.util
import io
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nlme.errors import FitError
from nlme.reporting.blocks import (
    Block,
    Code,
    Correlations,
    Formulas,
    Pairs,
    Paragraph,
    Picture,
    Section,
    Table,
    Verdict,
    cannot_be_shown,
    shade,
)
from nlme.reporting.blocks import Document as Report
from nlme.reporting.columns import fitting_size, parts, widths
from nlme.reporting.formulas import formulas
from nlme.tables.numbers import MISSING, fixed_point
from nlme.tables.shown import Panel

if TYPE_CHECKING:
    from nlme.language.equations import Equations

DOTS = 200  # an inch, of figures
_MATHEMATICS = "http://schemas.openxmlformats.org/officeDocument/2006/math"
FONT, FIXED_FONT = "Arial", "Courier New"
PAGE, MARGIN = (210.0, 297.0), 20.0  # mm
WIDTH, HEIGHT = PAGE[0] - 2 * MARGIN, PAGE[1] - 2 * MARGIN
TALLEST = 200.0  # mm, of a figure: its caption and heading stand on the same page
_COLOURS = {"good": ("EEF8F4", "00805C"), "warn": ("FDF6E8", "C77C00"), "bad": ("FCEFEB", "B02A00")}
_CORRELATIONS = 16  # columns of a page


def require() -> None:
    """Refuse before anything is computed.

    Raises
    ------
    FitError
        python-docx or mathml2omml is not installed.
    """
    missing = [name for name, module in (("python-docx", "docx"), ("mathml2omml", "mathml2omml")) if not _installed(module)]
    if missing:
        raise FitError(
            f"A report as a Word document needs {' and '.join(missing)}: pip install 'nlme[word]'. An .html needs nothing."
        )


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def document(report: Report) -> bytes:
    """The .docx file."""
    return _Writer(report).written()


class _Writer:
    """One document in the making."""

    def __init__(self, report: Report) -> None:
        import docx

        self.report, self.file = report, docx.Document()
        self.tables, self.figures, self.bookmarks = itertools.count(1), itertools.count(1), itertools.count(1)
        _styles(self.file)
        self._page()

    def written(self) -> bytes:
        self.file.add_paragraph(_clean(self.report.title), style="Title")
        for block in self.report.opening:
            self.block(block)
        first, *rest = self.report.sections
        self.section(first)  # the verdict stands before the contents
        self._contents()
        for one in rest:
            self.section(one)
        out = io.BytesIO()
        self.file.save(out)
        return out.getvalue()

    def _page(self) -> None:
        from docx.enum.text import WD_ALIGN_PARAGRAPH
        from docx.shared import Mm

        area, properties = self.file.sections[0], self.file.core_properties
        area.page_width, area.page_height = Mm(PAGE[0]), Mm(PAGE[1])
        area.left_margin = area.right_margin = area.top_margin = area.bottom_margin = Mm(MARGIN)
        area.header_distance = area.footer_distance = Mm(10)
        properties.title, properties.author, properties.comments = _clean(self.report.title), "", ""
        area.header.paragraphs[0].text = _clean(self.report.title)
        foot = area.footer.paragraphs[0]
        foot.alignment = WD_ALIGN_PARAGRAPH.RIGHT
        foot.add_run("Page ")
        _field(foot, "PAGE", "1")
        foot.add_run(" of ")
        _field(foot, "NUMPAGES", "1")

    def _contents(self) -> None:
        """The contents as a field that Word fills with pages on opening; until then it shows the headings, as links."""
        self.file.add_paragraph("Contents", style="Contents Heading")
        names = [one.name for one in self.report.sections]
        for k, name in enumerate(names, 1):
            line = self.file.add_paragraph(style="Contents")
            if k == 1:
                _field_begins(line, r'TOC \o "1-1" \h \z \u', dirty="true")
            link = _element("hyperlink", anchor=f"_Toc{k:04d}", history="1")
            link.append(line.add_run(_clean(name))._r)
            line._p.append(link)
            if k == len(names):
                _field_ends(line)

    def section(self, one: Section) -> None:
        heading, number = self.file.add_heading(_clean(one.name), level=1), next(self.bookmarks)
        _bookmark(heading, number, f"_Toc{number:04d}")
        for block in one.blocks:
            self.block(block)

    def block(self, block: Block) -> None:
        match block:
            case Paragraph(text, kind):
                style = {"text": "Normal", "lead": "Subtitle", "long": "Normal", "small": "Note"}[kind]
                self.file.add_paragraph(_clean(text), style=style)
            case Verdict():
                self._verdict(block)
            case Pairs(rows, title):
                self._pairs(rows, title)
            case Table(panel):
                self._table(panel)
            case Correlations():
                self._correlations(block)
            case Picture():
                self._picture(block)
            case Formulas(equations):
                self._equations(equations)
            case Code(title, text):
                self.file.add_heading(_clean(title), level=2)
                for line in text.splitlines():
                    self.file.add_paragraph(_clean(line), style="Code")

    def _equations(self, equations: Equations) -> None:
        self.file.add_heading("Equations", level=2)
        found, notes = formulas(equations)
        for heading, rows in found.items():
            self.file.add_paragraph(_clean(heading), style="Equations Heading")
            for one in rows:
                place = self.file.add_paragraph(_clean(one.text), style="Equation")
                if one.mathml:
                    place._p.append(_mathematics(one.mathml))
        for note in notes:
            self.file.add_paragraph(_clean(note), style="Note")

    def _caption(self, label: str, number: int, text: str, above: bool) -> None:
        caption = self.file.add_paragraph(style="Caption")
        caption.add_run(f"{label} ")
        _field(caption, f"SEQ {label} \\* ARABIC", str(number))
        caption.add_run(f". {_clean(text)}")
        caption.paragraph_format.keep_with_next = above

    def _verdict(self, block: Verdict) -> None:
        fill, edge = _COLOURS[block.state]
        box = self.file.add_table(1, 1)
        cell = box.cell(0, 0)
        _shade(cell, fill)
        _edges(cell, left=(36, edge), top=(6, edge), bottom=(6, edge), right=(6, edge))
        cell.paragraphs[0].add_run(_clean(f"{block.mark} {block.sentence}")).bold = True
        for problem in block.problems:
            cell.add_paragraph(_clean(problem), style="List Bullet")
        self._gap()

    def _pairs(self, rows: Sequence[tuple[str, str]], title: str) -> None:
        if title:
            self.file.add_heading(_clean(title), level=2)
        longest = max((len(name) for name, _ in rows), default=1)
        first = min(70.0, 4.0 + 1.9 * longest)
        grid = self._grid(len(rows), (first, WIDTH - first))
        for line, (name, value) in zip(grid.rows, rows, strict=True):
            _unbroken(line)
            _write(line.cells[0], str(name), 9.0)
            _write(line.cells[1], str(value), 9.0)
        self._gap()

    def _grid(self, rows: int, columns: Sequence[float]):
        """An empty table whose columns are so many mm wide, in Word and in what reads the grid alone."""
        from docx.shared import Mm

        grid = self.file.add_table(rows, len(columns))
        grid.autofit = False
        _margins(grid)
        for k, width in enumerate(columns):
            grid.columns[k].width = Mm(width)
            for cell in grid.columns[k].cells:
                cell.width = Mm(width)
                cell.paragraphs[0].style = self.file.styles["Cell"]
        return grid

    def _table(self, panel: Panel) -> None:
        """A panel; one too wide for the page in several, each with the first column before it, under one number."""
        number, size = next(self.tables), fitting_size(panel, WIDTH)
        pieces = parts(panel, WIDTH, size)
        for k, piece in enumerate(pieces):
            title = panel.title if k == 0 else f"{panel.title} (continued)"
            if k == 0:
                self._caption("Table", number, title, above=True)
            else:
                self.file.add_paragraph(_clean(f"Table {number}, continued"), style="Note").paragraph_format.keep_with_next = True
            self._cells(piece, size)
        for note in panel.notes:
            self.file.add_paragraph(_clean(note), style="Note")
        self._gap()

    def _cells(self, panel: Panel, size: float) -> None:
        grid = self._grid(1 + len(panel.rows), widths(panel, WIDTH, size))
        lines = zip(grid._tbl.tr_lst, [panel.header, *panel.rows], strict=True)
        for k, (line, texts) in enumerate(lines):
            _row(grid, line, texts, size, panel.left, head=k == 0, last=k == len(panel.rows))

    def _correlations(self, block: Correlations) -> None:
        number, n = next(self.tables), len(block.names)
        self._caption("Table", number, block.caption, above=True)
        for start in range(0, n, _CORRELATIONS):
            if start:
                self.file.add_paragraph(f"Table {number}, continued", style="Note").paragraph_format.keep_with_next = True
            self._triangle(block, range(start, min(n, start + _CORRELATIONS)))
        self._gap()

    def _triangle(self, block: Correlations, columns: range) -> None:
        from docx.shared import Mm

        rows = range(columns.start, len(block.names))
        first = min(38.0, 4.0 + 1.5 * max(map(len, block.names)))
        grid = self._grid(1 + len(rows), (first, *[min(12.0, (WIDTH - first) / len(columns))] * len(columns)))
        _repeated(grid.rows[0])
        grid.rows[0].height = Mm(min(34.0, 5.0 + 1.5 * max(len(block.names[j]) for j in columns)))
        head = grid.rows[0].cells
        for k, j in enumerate(columns, 1):
            _write(head[k], block.names[j], 7.0)
            _upward(head[k])
        for line, i in zip(list(grid.rows)[1:], rows, strict=True):
            _unbroken(line)
            cells = line.cells
            _write(cells[0], block.names[i], 7.0)
            for k, j in enumerate(columns, 1):
                if j < i:
                    _heat(cells[k], block.values[i][j], block.strong)
                elif j == i:
                    _shade(cells[k], "EEEEEE")

    def _picture(self, block: Picture) -> None:
        from docx.shared import Mm

        from nlme.plots.style import png

        try:
            image = png(block.figure, DOTS)
        except Exception as error:
            self.block(Paragraph(cannot_be_shown(block.caption, error)))
            return
        wide, high = (25.4 * inches for inches in block.figure.get_size_inches())
        scale = min(1.0, WIDTH / wide, TALLEST / high)
        place = self.file.add_paragraph(style="Figure")
        shape = place.add_run().add_picture(io.BytesIO(image), width=Mm(wide * scale))
        properties, number = shape._inline.docPr, next(self.figures)
        properties.set("descr", _clean(block.alt or block.caption))
        properties.set("name", f"Figure {number}")
        self._caption("Figure", number, block.caption, above=False)

    def _gap(self) -> None:
        """Two tables without a paragraph between them would be one to Word."""
        self.file.add_paragraph(style="Gap")


def _styles(file) -> None:
    """The look: sans serif, black headings, small notes and captions."""
    from docx.enum.style import WD_STYLE_TYPE
    from docx.shared import Mm

    def style(name: str, size: float, before: float = 0, after: float = 0, bold=None, font: str = FONT, colour: str = "222222"):
        from docx.oxml.ns import qn
        from docx.shared import Pt, RGBColor

        known = name in [one.name for one in file.styles]
        one = file.styles[name] if known else file.styles.add_style(name, WD_STYLE_TYPE.PARAGRAPH)
        one.font.name, one.font.size, one.font.bold, one.font.italic = font, Pt(size), bold, False
        one.font.color.rgb = RGBColor.from_string(colour)
        fonts = one.element.get_or_add_rPr().get_or_add_rFonts()
        for key in [key for key in fonts.attrib if key.endswith("Theme")]:
            del fonts.attrib[key]
        for spread in one.element.rPr.findall(qn("w:spacing")):  # of letters
            one.element.rPr.remove(spread)
        for key in ("w:ascii", "w:hAnsi", "w:eastAsia", "w:cs"):
            fonts.set(qn(key), font)
        one.paragraph_format.space_before, one.paragraph_format.space_after = Pt(before), Pt(after)
        return one

    style("Normal", 10, after=4)
    style("Title", 20, after=4, bold=True)
    style("Subtitle", 11, after=6)
    style("Heading 1", 14, 16, 6, True)
    style("Heading 2", 11, 10, 4, True)
    style("List Bullet", 9.5)
    style("Caption", 9, 4, 4, True)
    style("Note", 8, 2, 2, colour="555555")
    style("Code", 8, font=FIXED_FONT).paragraph_format.line_spacing = 1.0
    style("Equations Heading", 9.5, 6, 2, True).paragraph_format.keep_with_next = True
    style("Equation", 10, 1, 1).paragraph_format.left_indent = Mm(5)
    style("Gap", 5)
    style("Cell", 7, 1.5, 1)  # an empty one makes no row higher
    style("Header", 8.5, colour="555555")
    style("Footer", 8.5, colour="555555")
    style("Contents Heading", 12, 10, 4, True)
    style("Figure", 10, 4).paragraph_format.keep_with_next = True
    style("Contents", 10, after=1)


def _row(grid, line, texts: Sequence[str], size: float, left, head: bool, last: bool) -> None:
    from docx.table import _Cell, _Row

    row = _Row(line, grid)
    _unbroken(row)
    if head:
        _repeated(row)
    for k, (found, text) in enumerate(zip(line.tc_lst, texts, strict=True)):
        cell = _Cell(found, grid)
        _write(cell, text, size, right=k not in left, bold=head)
        if head:
            _edges(cell, top=(12, "000000"), bottom=(6, "000000"))
        elif last:
            _edges(cell, bottom=(12, "000000"))


def _write(cell, text: str, size: float, right: bool = False, bold: bool = False, colour: str = "") -> None:
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.shared import Pt, RGBColor

    place = cell.paragraphs[0]
    place.alignment = WD_ALIGN_PARAGRAPH.RIGHT if right else WD_ALIGN_PARAGRAPH.LEFT
    run = place.add_run(_clean(text))
    run.font.size, run.bold = Pt(size), bold or None
    if colour:
        run.font.color.rgb = RGBColor.from_string(colour)


def _heat(cell, value: float, strong: float) -> None:
    if not np.isfinite(value):
        _write(cell, MISSING, 7.0)
        return
    colour, light = shade(value)
    _shade(cell, "".join(f"{part:02X}" for part in colour))
    _write(cell, fixed_point(value, 2), 7.0, bold=abs(value) > strong, colour="FFFFFF" if light else "")


def _clean(text: str) -> str:
    """Text without the control characters that XML cannot hold."""
    return "".join(sign for sign in str(text) if sign in "\t\n" or (sign >= " " and not "\ud800" <= sign <= "\udfff"))


def _element(kind: str, /, **attributes: str):
    from docx.oxml import OxmlElement
    from docx.oxml.ns import qn

    made = OxmlElement(f"w:{kind}")
    for key, value in attributes.items():
        made.set(qn(f"w:{key}"), value)
    return made


def _mathematics(mathml: str):
    """An equation in MathML as one of Word's, which can be edited there."""
    from docx.oxml import parse_xml
    from mathml2omml import convert

    made = parse_xml(convert(_clean(mathml)).replace("<m:oMath>", f'<m:oMath xmlns:m="{_MATHEMATICS}">', 1))
    for run in made.iter(f"{{{_MATHEMATICS}}}r"):
        look, shown = run.find(f"{{{_MATHEMATICS}}}rPr"), run.find(f"{{{_MATHEMATICS}}}t")
        if look is not None and shown is not None and len(shown.text or "") > 1 and shown.text.isidentifier():
            # names are text: LibreOffice reads some of them, such as "prop" and "over", as commands otherwise
            look.clear()
            look.append(look.makeelement(f"{{{_MATHEMATICS}}}nor", {}))
    return made


def _field(paragraph, instruction: str, shown: str) -> None:
    """A field of Word with what it shows until it is computed anew."""
    _field_begins(paragraph, instruction)
    paragraph.add_run(shown)
    _field_ends(paragraph)


def _field_begins(paragraph, instruction: str, **state: str) -> None:
    said = _element("instrText")
    said.text = f" {instruction} "
    for part in (_element("fldChar", fldCharType="begin", **state), said, _element("fldChar", fldCharType="separate")):
        paragraph.add_run()._r.append(part)


def _field_ends(paragraph) -> None:
    paragraph.add_run()._r.append(_element("fldChar", fldCharType="end"))


def _bookmark(paragraph, number: int, name: str) -> None:
    paragraph._p.insert(1, _element("bookmarkStart", id=str(number), name=name))
    paragraph._p.append(_element("bookmarkEnd", id=str(number)))


def _shade(cell, fill: str) -> None:
    cell._tc.get_or_add_tcPr().append(_element("shd", val="clear", color="auto", fill=fill))


def _margins(grid) -> None:
    """Of all cells: 1.2 mm (68 twentieths of a point) left and right."""
    margins = _element("tblCellMar")
    for side in ("left", "right"):
        margins.append(_element(side, w="68", type="dxa"))
    look = grid._tbl.tblPr.find(_qualified("tblLook"))
    if look is None:
        grid._tbl.tblPr.append(margins)
    else:
        look.addprevious(margins)


def _qualified(name: str) -> str:
    from docx.oxml.ns import qn

    return qn(f"w:{name}")


def _upward(cell) -> None:
    from docx.shared import Mm

    cell._tc.get_or_add_tcPr().append(_element("textDirection", val="btLr"))
    cell.paragraphs[0].paragraph_format.left_indent = Mm(1)


def _edges(cell, **edges: tuple[int, str]) -> None:
    """Rules of a cell: eighths of a point, and colour, in the order that the schema wants."""
    borders = _element("tcBorders")
    for side in ("top", "left", "bottom", "right"):
        if side in edges:
            size, colour = edges[side]
            borders.append(_element(side, val="single", sz=str(size), space="0", color=colour))
    properties = cell._tc.get_or_add_tcPr()
    shading = [child for child in properties if child.tag.endswith("}shd")]
    properties.append(borders)
    for child in shading:  # behind the borders
        properties.append(child)


def _unbroken(row) -> None:
    row._tr.get_or_add_trPr().append(_element("cantSplit"))


def _repeated(row) -> None:
    row._tr.get_or_add_trPr().append(_element("tblHeader"))
