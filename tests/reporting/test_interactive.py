"""Linked views of the observations: in the page, which stays one file; refused where there is nothing to point at."""

from __future__ import annotations

import json
import re

import pytest
from fit_stand_in import theophylline_fit

import nlme
from nlme.errors import FitError
from nlme.plots import curves, individuals
from nlme.reporting import interactive
from nlme.reporting.page import report


@pytest.fixture(autouse=True)
def _curves_at_observations(monkeypatch):
    """The stand-in has no model to predict with."""
    monkeypatch.setattr(individuals, "fine_curves", curves.at_observations)


def _views(page: str) -> list[list[dict]]:
    """The figures of every endpoint, as Bokeh has them."""
    found = re.findall(r"const docs_json = '(.*?)';\n", page)
    return [[m for m in _models(json.loads(one.replace("\\\\", "\\"))) if m.get("name") == "Figure"] for one in found]


def _models(node):
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from _models(value)
    elif isinstance(node, list):
        for value in node:
            yield from _models(value)


@pytest.mark.slow
def test_every_endpoint_has_its_views_and_the_script_once(tmp_path):
    fit = theophylline_fit(endpoints=("conc", "effect"))
    page = report(fit, tmp_path / "views.html", units={"conc": "mg/L"}, interactive=True).read_text(encoding="utf-8")
    assert page.count("Bokeh") and [len(views) for views in _views(page)] == [5, 5]
    assert "Observed conc (mg/L)" in page and "CWRES of effect" in page
    assert len(page.encode()) < 5_000_000
    assert not re.search(r"<(?:script|link)[^>]*(?:src|href)=.http", page)  # nothing is fetched
    plain = report(fit, tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "Observations to explore" in page and "Observations to explore" not in plain and "Bokeh" not in plain


def test_its_numbers_are_the_predictions(tmp_path):
    fit = theophylline_fit()
    (one,) = interactive.observations(fit, None)
    (document,) = re.findall(r"const docs_json = '(.*?)';\n", one.html)
    sources = [m for m in _models(json.loads(document.replace("\\\\", "\\"))) if m.get("name") == "ColumnDataSource"]
    assert len(sources) == 1  # so that what is chosen in one view is chosen in all
    entries = dict(sources[0]["attributes"]["data"]["entries"])
    assert set(entries) == {"ID", "TIME", "DV", "PRED", "IPRED", "CWRES"}
    assert str(fit.predictions["ID"].iloc[0]) in json.dumps(entries["ID"])


def test_too_many_observations_are_said(monkeypatch):
    monkeypatch.setattr(interactive, "MOST", 10)
    (one,) = interactive.observations(theophylline_fit(), None)
    assert not one.html and "at most 10" in one.text


def test_refused(tmp_path, monkeypatch):
    with pytest.raises(FitError, match="for a page"):
        nlme.report(theophylline_fit(), tmp_path / "x.docx", interactive=True)
    monkeypatch.setitem(__import__("sys").modules, "bokeh", None)
    with pytest.raises(FitError, match=r"nlme\[interactive\]"):
        nlme.report(theophylline_fit(), tmp_path / "x.html", interactive=True)
