"""Text comes out of every format as it went in, and no cell of a CSV file is a formula."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlme.tables import formats
from nlme.tables.shown import Panel, Shown, numbers_shown

SIGNS = st.text(alphabet="$_^\\{}%#&<>|~*`[]=+-@'\"a1 é–", max_size=12)
tables = st.lists(st.tuples(SIGNS, SIGNS), min_size=1, max_size=4)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows=tables)
def test_text_comes_out_of_html_as_it_went_in(rows):
    tree = ElementTree.fromstring(f"<div>{formats.html_table(('a$b', '<c>'), rows, notes=('1 & 2',))}</div>")
    assert [cell.text for cell in tree.iter("th")] == ["a$b", "<c>"]
    assert [[cell.text or "" for cell in row] for row in tree.find(".//tbody")] == [list(row) for row in rows]
    assert {"mathjax_ignore", "tex2jax_ignore"} <= set(tree.find("table").attrib["class"].split())  # $ is no mathematics


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows=tables)
def test_text_comes_out_of_markdown_as_it_went_in(rows):
    lines = formats.markdown(("a", "b"), rows).splitlines()[2:]
    for line, row in zip(lines, rows, strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]] if "\\" not in line else None
        plain = re.sub(r"\\(.)", r"\1", line)
        assert all(cell.strip() in plain for cell in row)
        assert cells is None or cells == [cell.strip() for cell in row]
        assert not re.search(r"(?<!\\)[$*_`<>]", re.sub(r"\\\\", "", line))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(rows=tables)
def test_latex_stays_balanced_and_rtf_one_table(rows):
    body = formats.latex(("a", "b"), rows).split("\\midrule\n")[1].split("\\bottomrule")[0]
    plain = re.sub(r"\\[&%$#_{}]", "", body)
    assert plain.count("{") == plain.count("}") and plain.count("&") == len(rows)
    assert not re.search(r"[%#_]", plain) and "^" not in plain.replace("$^{", "")
    rtf = formats.rtf_document([formats.rtf(("a", "b"), rows), formats.rtf(("c",), [("d",)])])
    bare = re.sub(r"\\[\\{}]", "", rtf)
    assert bare.count("{") == bare.count("}") and rtf.count("\\cell\n") == 2 * (len(rows) + 1) + 2


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_a_cell_that_a_spreadsheet_would_compute_is_text(start):
    assert formats.harmless(f"{start}cmd") == f"'{start}cmd"


@pytest.mark.parametrize("cell", ["-1", "+2.5", "-1e-5", "1=1", "a", "", -1, -1.5, None, "'=1"])
def test_numbers_and_other_text_stay_as_they_are(cell):
    assert formats.harmless(cell) == cell


def test_csv_has_no_formula_in_cells_names_and_index(tmp_path):
    frame = pd.DataFrame({"=x": ["=1+1", "b", "-2"], "y": [-1.5, 0.1 + 0.2, 3]}, index=pd.Index(["@a", "b", "+c"], name="=ID"))
    formats.csv(frame, tmp_path / "x.csv")
    rows = list(csv.reader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert rows == [["'=ID", "'=x", "y"], ["'@a", "'=1+1", "-1.5"], ["b", "b", "0.30000000000000004"], ["'+c", "-2", "3.0"]]
    assert frame.iloc[0, 0] == "=1+1"  # the frame itself is as it was


class _Made(Shown):
    def _exact(self):
        return pd.DataFrame({"estimate": [1.23456, 100.0], "SE": [0.1, 20.0]}, index=["cl", "=v"])

    def _panels(self):
        return [numbers_shown(self._exact(), "First", ["A note."]), Panel("Second", ["a"], [["b"]])]


def test_every_format_of_what_is_shown(tmp_path):
    made = _Made()
    assert repr(made).splitlines()[:3] == ["First", "Parameter estimate    SE", "cl           1.235 0.100"]
    for form, pieces in {
        "markdown": ("| cl ", "| b "),
        "html": ("First", "Second"),
        "latex": (r"\caption{First}", "=v"),
        "rtf": (r"{\b First}", "A note."),
    }.items():
        text = getattr(made, f"to_{form}")(tmp_path / form)
        assert (tmp_path / form).read_text(encoding="utf-8") == text and all(piece in text for piece in pieces)
    assert made.to_csv() == ",estimate,SE\ncl,1.23456,0.1\n'=v,100.0,20.0\n"
    assert r"\label{tab:x}" in made.to_latex(caption="Other", label="tab:x") and "Other" in made.to_latex(caption="Other")
