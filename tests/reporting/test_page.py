"""The report page: complete, self-contained, escaped, and honest about problems."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from fit_stand_in import theophylline_fit

import nlme
from nlme.plots import curves, individuals
from nlme.reporting.page import report

VOID = {"meta", "img", "br", "link", "input", "hr"}


@pytest.fixture(autouse=True, scope="module")
def _curves_at_observations():
    """The stand-in has no model to predict with."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(individuals, "fine_curves", curves.at_observations)
        yield


class _Reader(HTMLParser):
    """Text, tags and attributes of a page; raises where tags do not nest."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.references, self.tags, self.sections = [], [], [], [], []
        self.feed(page)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.references += [value for name, value in attributes.items() if name in ("src", "href")]
        if tag == "section":
            self.sections.append(attributes["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def _read(path):
    page = path.read_text(encoding="utf-8")
    return page, _Reader(page)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def good(folder):
    return _read(report(theophylline_fit(), folder / "new" / "folder" / "good.html", units={"conc": "mg/L"}))


@pytest.fixture(scope="module")
def bad(folder):
    return _read(report(theophylline_fit(endpoints=("conc", "effect"), problems=True), folder / "bad.html"))


def test_every_section_is_there(good):
    _, reader = good
    expected = "summary data model parameters precision goodness individuals effects covariates attention search again".split()
    assert reader.sections == expected
    assert [link for link in reader.references if link.startswith("#")] == [f"#{name}" for name in expected]
    text = " ".join(reader.text)
    for piece in ("Theophylline after one oral dose", "104.322", "362.92", "FOCEI()", "Clearance", "CV 25.8 %", "3f" * 32):
        assert piece in text
    assert "class Theophylline" in text  # the model as it was written


def test_nothing_is_fetched_from_elsewhere(good, bad):
    for page, reader in (good, bad):
        assert all(link.startswith(("#", "data:image/svg+xml;base64,")) for link in reader.references)
        assert not {"script", "link", "iframe", "object"} & set(reader.tags)
        assert "@import" not in page and "url(" not in page


def test_figures_are_readable_vector_images_without_outside_references(good):
    _, reader = good
    images = [base64.b64decode(link.partition(",")[2]) for link in reader.references if link.startswith("data:")]
    assert len(images) == 5
    for image in images:
        assert ElementTree.fromstring(image).tag.endswith("svg")
        assert not re.findall(rb'href="(?!#|data:)', image)


def test_a_good_fit_says_so(good):
    page, reader = good
    assert 'class="verdict good"' in page and "✓" in page
    assert "Every subject's mode was found" in " ".join(reader.text)


def test_problems_come_first(bad):
    page, _ = bad
    assert 'class="verdict bad"' in page
    verdict = page.index("The search stopped before it converged.")
    mode = page.index("1 of 12 subjects has no mode")
    singular = page.index("The information matrix is singular")
    assert verdict < mode < singular < page.index('id="parameters"')
    assert "Subjects without a mode" in page and "the mode search stopped at 60 iterations" in page


def test_a_doubtful_covariance_is_a_problem(tmp_path):
    fit = theophylline_fit()
    fit.covariance.condition_number, fit.covariance.verdict = 2.4e4, "Strongly correlated: condition number 2.4e+04."
    page = report(fit, tmp_path / "x.html", max_subjects=1).read_text(encoding="utf-8")
    assert 'class="verdict warn"' in page
    assert page.index(fit.covariance.verdict) < page.index('id="parameters"')


def test_a_remark_inside_the_verdict_is_not_repeated_but_seen(tmp_path):
    fit = theophylline_fit()
    fit.messages = ["Shrinkage above 30 % (v 64 %)."]
    fit.verdict = "Converged, with 1 remark: Shrinkage above 30 % (v 64 %)."
    page = report(fit, tmp_path / "x.html", max_subjects=1).read_text(encoding="utf-8")
    assert 'class="verdict warn"' in page and page.count("Shrinkage above 30 %") == 1


def test_text_from_outside_is_escaped(bad, tmp_path):
    page, reader = bad
    assert "<3>" not in page and "&lt;3&gt; &amp; others" in page
    assert any("<3>" in text for text in reader.text)
    page, reader = _read(report(theophylline_fit(), tmp_path / "x.html", max_subjects=1, title='<script>alert("x")</script>'))
    assert "script" not in reader.tags and '<script>alert("x")</script>' in " ".join(reader.text)


def test_strong_correlations_are_named_and_weights_left_out(tmp_path):
    fit = theophylline_fit(weights=200)
    fit.covariance.correlation.loc["v", "cl"] = fit.covariance.correlation.loc["cl", "v"] = -0.97
    page, reader = _read(report(fit, tmp_path / "x.html", max_subjects=1))
    assert "v and cl (-0.97)" in page
    assert "net.layers" not in page and "200 network weights" in page
    assert len(page) < 3e6


def test_large_residuals_are_listed_largest_first(tmp_path):
    fit = theophylline_fit()
    fit.predictions.loc[[5, 40, 77], "CWRES"] = [4.4, -9.25, 5.5]
    page = report(fit, tmp_path / "x.html", max_subjects=1).read_text(encoding="utf-8")
    assert page.index(">-9.25<") < page.index(">5.50<") < page.index(">4.40<")


@pytest.mark.slow
def test_without_covariates_or_random_effects_their_sections_are_left_out(tmp_path):
    fit = theophylline_fit()
    fit.population.covariates = {}
    _, reader = _read(report(fit, tmp_path / "x.html", max_subjects=1))
    assert "covariates" not in reader.sections and "effects" in reader.sections
    fit.eta, fit.shrinkage = fit.eta.iloc[:, :0], fit.shrinkage.iloc[:0]
    _, reader = _read(report(fit, tmp_path / "y.html", max_subjects=1))
    assert "effects" not in reader.sections


@pytest.mark.slow
def test_a_model_without_a_docstring_has_no_lead(tmp_path):
    """Instead of the signature that dataclasses put there."""

    class Bare(nlme.Model):
        ka: nlme.Scalar = nlme.positive(1.0)

    class Explained(nlme.Model):
        """What it is."""

        ka: nlme.Scalar = nlme.positive(1.0)

    fit = theophylline_fit()
    for model, lead in ((Bare(), None), (Explained(), '<p class="lead">What it is.</p>')):
        fit.model = model
        page, _ = _read(report(fit, tmp_path / "x.html", max_subjects=1))
        assert "factory" not in page and (lead in page if lead else 'class="lead"' not in page)


def test_many_subjects_are_not_all_drawn(tmp_path):
    page, reader = _read(report(theophylline_fit(subjects=40), tmp_path / "x.html", max_subjects=20))
    assert "The first 20 of 40 subjects." in page and "Individual fits, continued (2)." in page


@pytest.mark.slow
def test_every_subject_is_drawn_page_by_page_and_figures_are_numbered(tmp_path):
    page, _ = _read(report(theophylline_fit(subjects=34), tmp_path / "x.html"))
    assert "All 34 subjects." in page and "Individual fits, continued (3)." in page and "continued (4)" not in page
    assert [int(k) for k in re.findall(r"<b>Figure (\d+)\.</b>", page)] == list(range(1, 1 + page.count("<figure>")))


@pytest.mark.slow
def test_the_data_file_dates_units_priors_and_penalty_are_there(tmp_path):
    fit = theophylline_fit()
    fit.population.source, fit.date = "warfarin <1>.csv", "2026-03-01 14:05 UTC"
    fit.priors, fit.penalty = {"cl": "LogNormal(loc=1, scale=0.3)"}, 1.2345
    seen = {}
    fit.population.summary = lambda units: [("doses", seen.setdefault("units", units)["dose"])]
    page, reader = _read(report(fit, tmp_path / "x.html", units={"dose": "mg", "conc": "mg/L"}))
    text = " ".join(reader.text)
    for piece in (
        "warfarin <1>.csv",
        "Fitted 2026-03-01 14:05 UTC.",
        "Page written 20",
        "Prior of cl",
        "LogNormal(loc=1, scale=0.3)",
    ):
        assert piece in text
    assert "−2 log prior (not part of the objective)" in text and "1.234" in text
    assert seen["units"] == {"dose": "mg", "conc": "mg/L"}
    fit.priors = {}
    _, reader = _read(report(fit, tmp_path / "x.html", max_subjects=1))
    assert "Penalty (not part of the objective)" in " ".join(reader.text)


def test_the_criteria_have_equally_many_decimals(good):
    _, reader = good
    text = "|".join(reader.text)
    assert "|104.322|" in text and "|346.920|" in text and "|362.920|" in text and "|385.980|" in text


def test_a_section_that_cannot_be_made_leaves_the_others(tmp_path, monkeypatch):
    fit = theophylline_fit()
    fit.history = fit.history.drop(columns="gradient")
    page, reader = _read(report(fit, tmp_path / "x.html", max_subjects=1))
    assert "The search cannot be shown for this fit (KeyError: 'gradient')." in " ".join(reader.text)
    assert {"goodness", "attention", "again"} <= set(reader.sections)


@pytest.mark.parametrize("what", [3, None, theophylline_fit().model, theophylline_fit().population])
def test_what_has_no_report_is_said(tmp_path, what):
    with pytest.raises(nlme.FitError, match="report takes a fit, what nlme.evaluate returned, or a posterior"):
        report(what, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(nlme.FitError, match="cannot be written"):
        report(theophylline_fit(), tmp_path / "taken" / "x.html", max_subjects=1)


SIGNS = r"$x_1^2$ & {a}\b %d #1 <b> ~ =1|`c`*e*"


@pytest.mark.slow
def test_signs_in_ids_units_labels_and_endpoints_are_letters(tmp_path):
    fit = theophylline_fit(endpoints=("_$c^2$", SIGNS))
    for k, subject in enumerate(fit.population):
        subject.id = f"{SIGNS}{k}"
    names = {k + 1: subject.id for k, subject in enumerate(fit.population)}
    fit.predictions["ID"] = fit.predictions["ID"].map(names)
    fit.subjects.index = fit.individual.index = fit.eta.index = list(names.values())
    fit.parameters[1].label, fit.parameters[1].unit = SIGNS, "$L/h$"
    fit.population.covariates["wt"].unit = "$kg$"
    page, reader = _read(report(fit, tmp_path / "x.html", title=SIGNS, units={SIGNS: "$", "time": "h_$1$"}))
    text = " ".join(reader.text)
    assert text.count(SIGNS) >= 3 and "$L/h$" in text and "b" not in reader.tags[: reader.tags.index("header")]
    assert "cannot be shown" not in text and page.count("<figure>") == len(re.findall("Figure", text))
