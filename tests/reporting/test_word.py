"""The Word document: what the HTML page says, natively; every number of the parameter table; what is missing is said."""

from __future__ import annotations

import importlib.util
import io
import re
import xml.etree.ElementTree
from html.parser import HTMLParser

import docx
import matplotlib.figure
import pandas as pd
import pytest
from docx.oxml.ns import qn
from fit_stand_in import theophylline_fit

import nlme
from nlme.plots import curves, individuals
from nlme.reporting.blocks import Document, Formulas, Section
from nlme.reporting.columns import fitting_size, parts, widths
from nlme.reporting.page import report
from nlme.reporting.word import document
from nlme.tables.shown import Panel


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A fit, its document, and its page."""
    folder, fit = tmp_path_factory.mktemp("word"), theophylline_fit(endpoints=("conc", "effect"), subjects=6)
    fit.predictions.loc[[5, 40], "CWRES"] = [4.4, -9.25]
    added = {"Exposure": pd.DataFrame({"dose": [100, 200], "AUC": [1.23456, 22.3344]})}
    drawn = matplotlib.figure.Figure(figsize=(14, 30))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(individuals, "fine_curves", curves.at_observations)
        given = dict(units={"conc": "mg/L"}, simulations=added, checks={"VPC of conc": drawn})
        page = report(fit, folder / "a.html", **given).read_text(encoding="utf-8")
        made = docx.Document(str(report(fit, folder / "new" / "a.docx", **given)))
    return fit, made, page


def _captions(document):
    return [p.text for p in document.paragraphs if p.style.name == "Caption"]


def _texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def _headings(document):
    return [p.text for p in document.paragraphs if p.style.name == "Heading 1"]


class _Captions(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.headings, self.captions, self.open = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if tag in ("h2", "caption", "figcaption"):
            self.open = tag
            (self.headings if tag == "h2" else self.captions).append("")

    def handle_endtag(self, tag):
        self.open = "" if tag == self.open else self.open

    def handle_data(self, data):
        if self.open:
            (self.headings if self.open == "h2" else self.captions)[-1] += data


def test_both_forms_have_the_same_sections_and_captions_in_the_same_order(both):
    _, document, page = both
    seen = _Captions(page)
    assert _headings(document) == seen.headings
    assert {"Summary of the run", "Data", "Simulations", "Predictive checks", "To do it again"} <= set(seen.headings)
    assert _captions(document) == [text for text in seen.captions if re.match(r"(Table|Figure) \d+\.", text)]


def test_every_number_of_the_parameter_table_is_that_of_table(both):
    fit, document, _ = both
    shown = nlme.table(fit).display()
    found = [_texts(table) for table in document.tables if table.cell(0, 0).text == "Parameter"]
    columns = {head: [row[k] for row in one[1:]] for one in found for k, head in enumerate(one[0])}
    assert list(columns) == list(shown.columns)
    for head, texts in columns.items():
        assert texts == shown[head].tolist(), head


def test_tables_and_figures_are_numbered_by_fields_of_word(both):
    _, document, _ = both
    for label in ("Table", "Figure"):
        own = [p for p in document.paragraphs if p.style.name == "Caption" and p.text.startswith(label)]
        assert [p.text.split(".")[0] for p in own] == [f"{label} {k}" for k in range(1, len(own) + 1)]
        assert all(f" SEQ {label} \\* ARABIC " in [t.text for t in p._p.iter(qn("w:instrText"))] for p in own)
    assert len(document.inline_shapes) == sum(text.startswith("Figure") for text in _captions(document))


def test_figures_lie_between_the_margins_and_say_what_they_show(both):
    _, document, _ = both
    area = document.sections[0]
    assert round(area.page_width.mm) == 210 and round(area.page_height.mm) == 297
    room = area.page_width - area.left_margin - area.right_margin
    captions = [text.split(". ", 1)[1] for text in _captions(document) if text.startswith("Figure")]
    for shape, caption in zip(document.inline_shapes, captions, strict=True):
        assert shape.width <= room + 1000 and shape.height.mm <= 201  # EMU: a micrometre is 36
        assert shape._inline.docPr.get("descr") == caption


def test_every_table_lies_between_the_margins_and_repeats_its_header(both):
    _, document, _ = both
    area = document.sections[0]
    room = area.page_width - area.left_margin - area.right_margin
    for table in document.tables:
        assert sum(column.width or 0 for column in table.columns) <= room + 5000
    numbered = [table for table in document.tables if table.cell(0, 0).text in ("Parameter", "Subject", "dose", "")]
    assert len(numbered) >= 4 and all(table.rows[0]._tr.trPr.find(qn("w:tblHeader")) is not None for table in numbered)


def test_contents_header_and_page_numbers_are_fields(both):
    _, document, _ = both
    said = [t.text.strip() for t in document.element.body.iter(qn("w:instrText"))]
    assert any(text.startswith("TOC ") for text in said)
    area = document.sections[0]
    assert area.header.paragraphs[0].text == "Theophylline"
    foot = [t.text.strip() for t in area.footer._element.iter(qn("w:instrText"))]
    assert foot == ["PAGE", "NUMPAGES"]
    begun = [c.get(qn("w:fldCharType")) for c in document.element.body.iter(qn("w:fldChar"))]
    assert begun.count("begin") == begun.count("separate") == begun.count("end")


def test_the_verdict_stands_before_every_number(tmp_path, monkeypatch):
    monkeypatch.setattr(individuals, "fine_curves", curves.at_observations)
    fit = theophylline_fit(problems=True, subjects=4)
    fit.messages = ["a \x00 control \x0b sign <&>"]
    document = docx.Document(str(report(fit, tmp_path / "x.docx")))
    first = document.tables[0].cell(0, 0).text
    assert "The search stopped before it converged." in first and "a  control  sign <&>" in first


def test_equations_are_words_own():
    found = nlme.equations(nlme.models.load("vancomycin")())
    written = document(Document("Equations", [], [Section("equations", "Equations", [Formulas(found)])]))
    made, space = docx.Document(io.BytesIO(written)), "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
    shown = ["".join(t.text for t in one.iter(f"{space}t")) for one in made.element.body.iter(f"{space}oMath")]
    rows = [row for rows in found.mathml().values() for row in rows]
    read = ["".join(xml.etree.ElementTree.fromstring(row).itertext()) for row in rows]
    assert len(shown) == len(rows) > 5
    for word, row in zip(shown, read, strict=True):  # brackets are not text in Word's
        assert sorted(re.sub(r"[\s()]", "", word)) == sorted(re.sub(r"[\s()\u2061\u2062]", "", row))
    assert [p.text for p in made.paragraphs if p.style.name == "Equations Heading"] == list(found.mathml())


@pytest.mark.parametrize(("module", "name"), [("docx", "python-docx"), ("mathml2omml", "mathml2omml")])
def test_a_missing_library_is_a_sentence_before_anything_is_computed(tmp_path, monkeypatch, module, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *rest: None if asked == module else found(asked, *rest))
    with pytest.raises(nlme.FitError, match=rf"needs {name}: pip install 'nlme\[word\]'"):
        report(theophylline_fit(), tmp_path / "new" / "x.docx")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["x.pdf", "x.doc", "x"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(nlme.FitError, match=r"\.html or \.docx"):
        report(theophylline_fit(), tmp_path / name)


@pytest.mark.parametrize("given", [{"simulations": {"x": 3}}, {"checks": "vpc"}, {"checks": [object()]}, {"checks": 1.5}])
def test_what_cannot_be_shown_is_refused(tmp_path, given):
    with pytest.raises(nlme.FitError, match=next(iter(given))):
        report(theophylline_fit(), tmp_path / "x.docx", **given)


def test_a_wide_table_is_cut_by_columns_and_loses_none():
    panel = Panel("", ["Parameter", *(f"c{k}" for k in range(40))], [["cl", *(f"{k}.12345" for k in range(40))]])
    size = fitting_size(panel, 170.0)
    pieces = parts(panel, 170.0, size)
    assert size == 7.0 and len(pieces) > 1
    assert [head for piece in pieces for head in piece.header[1:]] == panel.header[1:]
    assert [cell for piece in pieces for cell in piece.rows[0][1:]] == panel.rows[0][1:]
    for piece in pieces:
        assert piece.header[0] == "Parameter" and sum(widths(piece, 170.0, size)) <= 170.0 + 1e-9


def test_long_words_take_no_room_from_numbers():
    panel = Panel("", ["Name", "Label", "Value"], [["a", "word " * 80, "[0.1234, 0.5678]"]], left=(0, 1))
    found = widths(panel, 170.0, fitting_size(panel, 170.0))
    assert sum(found) == pytest.approx(170.0) and found[2] > 20
    assert widths(Panel("", ["A"], [["x" * 400]], left=(0,)), 170.0, 9.0)[0] <= 170.0
    assert widths(Panel("", ["A"], []), 170.0, 9.0)[0] > 0


@pytest.mark.slow
def test_a_picture_that_fails_while_it_is_written_costs_itself_alone(tmp_path, monkeypatch):
    class Broken(matplotlib.figure.Figure):
        def savefig(self, *arguments, **options):
            raise RuntimeError("no ink")

    monkeypatch.setattr(individuals, "fine_curves", curves.at_observations)
    fit = theophylline_fit(subjects=2)
    page = report(fit, tmp_path / "a.html", simulations={"Spilled": Broken()}).read_text(encoding="utf-8")
    assert "Spilled cannot be shown for this fit (RuntimeError: no ink)." in page and "To do it again" in page
    made = docx.Document(str(report(fit, tmp_path / "a.docx", simulations={"Spilled": Broken()})))
    assert any("Spilled cannot be shown" in p.text for p in made.paragraphs) and "To do it again" in _headings(made)
