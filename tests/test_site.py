"""The site has every guide, notebook and public word, and its links lead somewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nlme

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "docs" / "site"


def pages():
    spec = importlib.util.spec_from_file_location("pages_of_the_site", SITE / "pages.py")
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


def test_every_guide_stands_in_the_navigation():
    navigation = (SITE / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r"- (\w+\.md)", navigation)) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_public_word_has_a_page_under_a_heading():
    words = pages().public_words()
    assert "Others" not in words  # a new room of the package needs a heading in docs/site/pages.py
    assert sorted(word for of in words.values() for word in of) == sorted(nlme.__all__)


def test_links_between_guides_notebooks_and_files_lead_somewhere():
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"


def test_a_notebook_becomes_a_page_with_its_cells_in_order(tmp_path):
    path = tmp_path / "99_a_test.ipynb"
    cell = '{{"cell_type": "{}", "source": ["{}", "{}"]}}'.format
    path.write_text(
        f'{{"cells": [{cell("markdown", "# Title", "")}, {cell("code", "x = 1", "")}, {cell("markdown", "End.", "")}]}}'
    )
    text = pages().notebook_page(path)
    assert text.startswith("# Title\n")
    assert text.index("(99_a_test.ipynb)") < text.index("```python\nx = 1\n```") < text.index("End.")
