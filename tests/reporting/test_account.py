"""The account of a run: a verdict in one voice, criteria with their error, lines that make it again or say what they lack."""

from __future__ import annotations

import ast
import re
from types import SimpleNamespace

import numpy as np
import pytest
from fit_stand_in import theophylline_fit

import nlme
from nlme.reporting import account, sections
from nlme.reporting.page import report
from nlme.reporting.table import table

DOUBTFUL = "Obtained (sandwich), but the estimates are strongly correlated: condition number inf (> 1000)."


def _lines(fit):
    text = account.again(fit)[-1].text
    ast.parse(text)  # it is Python in any case
    return text


def _run(fit, **known):
    """What the lines come to, ``...`` filled in by what is known, and nlme by a stand-in that returns what it was asked."""
    asked = SimpleNamespace(
        read_nonmem=lambda source, **said: ("read", source, said),
        datasets=SimpleNamespace(load=lambda name: ("load", name)),
        fit=lambda *given, **options: (given, options),
        FOCEI=lambda: "FOCEI",
    )
    space = {"nlme": asked} | known
    for line in _lines(fit).splitlines():
        if not line.startswith(("import", "assert", "#")) and not line.partition("#")[0].rstrip().endswith("..."):
            exec(line, space)  # noqa: S102
    return space


def test_a_file_is_read_again():
    fit = theophylline_fit()
    fit.population.source = "warfarin.csv"
    source = _run(fit, start="S")["population"]
    assert source[:2] == ("read", "warfarin.csv") and source[2]["covariates"] == {"wt": "kg", "sex": None}


def test_a_data_set_of_the_library_is_loaded_again():
    fit = theophylline_fit()
    fit.population.source = "nlme.datasets: theophylline"
    space = _run(fit, start="S")
    assert space["population"] == ("load", "theophylline")
    assert space["fit"] == (("S", ("load", "theophylline"), "FOCEI"), {"fixed": ["f"]})


@pytest.mark.parametrize("source", ["the data frame", "virtual", ""])
def test_what_is_no_file_is_not_read_as_one(source):
    fit = theophylline_fit()
    fit.population.source = source
    lines = _lines(fit)
    assert f"population = ...  # from {source or 'an unknown source'}" in lines and "read_nonmem('" not in lines


def test_a_penalty_is_an_argument_with_its_value():
    fit = theophylline_fit()
    fit.penalty, fit.population.source = 1.4680123456789012, "a.csv"
    assert "penalty = ...  # its value at the estimate was 1.4680123456789012" in _lines(fit)
    assert _run(fit, start="S", penalty="P")["fit"][1] == {"fixed": ["f"], "penalty": "P"}
    fit.penalty, fit.penalty_slopes = 0.0, (np.zeros(1), np.zeros((1, 1)))  # one that happens to be zero there
    assert "penalty=penalty" in _lines(fit)


def test_priors_are_an_argument_with_what_is_known_of_them():
    fit = theophylline_fit()
    fit.priors, fit.penalty = {"cl": "LogNormal(loc=1.163, scale=0.1)"}, 2.0
    lines = _lines(fit)
    assert "'cl': ...,  # LogNormal(loc=1.163, scale=0.1)" in lines and "priors=priors" in lines and "penalty" not in lines


@pytest.mark.parametrize("added", ["", "penalty", "−2 log prior"])
def test_the_search_says_what_its_objective_includes(added):
    fit = theophylline_fit()
    if added:
        fit.penalty, fit.priors = 1.5, {"cl": "LogNormal()"} if "prior" in added else {}
    text = sections.search(fit)[0].text
    assert ("objective from" in text) == (not added) and (not added or f"objective ({added} included) from" in text)


# -- the verdict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remarks", [[], ["Shrinkage above 30 % (v 64 %)."]])
@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize("problem", [False, True])
def test_the_mark_and_the_first_words_of_the_verdict_agree(remarks, doubtful, problem):
    fit = theophylline_fit()
    kinds = [("problem", "No minimum.")] * problem + [("remark", one) for one in remarks]
    audit = account.Audit("", tuple(account.Check("", kind, 0.0, words) for kind, words in kinds))
    fit.converged, fit.verdict, fit.messages = not problem, audit.headline, audit.problems + audit.remarks
    if doubtful:
        fit.covariance.condition_number, fit.covariance.verdict = np.inf, DOUBTFUL
    found = account.summary(fit)[0]
    count = len(remarks) + doubtful
    begins = {
        "bad": "Do not use as it is: ",
        "warn": f"Converged, with {count} remark{'s' if count > 1 else ''}: ",
        "good": "Converged; no problems found",
    }
    assert found.state == ("bad" if problem else "warn" if count else "good")
    assert found.sentence.startswith(begins[found.state])
    for words in [*fit.messages, *([DOUBTFUL] if doubtful else [])]:  # each is said once
        assert (words in found.sentence) + (words in found.problems) == 1


# -- the error of importance sampling ----------------------------------------------------------------------------------


def test_criteria_by_importance_sampling_have_their_error(tmp_path):
    fit = theophylline_fit()
    fit.monte_carlo = SimpleNamespace(error=0.0512)
    rows = dict(account.summary(fit)[1].rows)
    assert rows["AIC"] == "362.920 ± 0.051" and [text.endswith(" ± 0.051") for text in rows.values()].count(True) == 4
    assert "standard error by importance sampling" in account.summary(fit)[2].text
    found = table(fit)
    assert found.title.endswith("objective 104.322 ± 0.051") and found.notes[0].startswith("± of the objective")
    both = table({"saem": fit, "focei": theophylline_fit()})
    assert re.search(r"Objective +104\.322 ± 0\.051 +104\.322\n", repr(both)) and "saem: ± of the objective" in repr(both)
    page = report(fit, tmp_path / "x.html", max_subjects=0).read_text(encoding="utf-8")
    assert "<td>362.920 ± 0.051</td>" in page


def test_without_sampling_nothing_has_an_error():
    assert "±" not in table(theophylline_fit()).title and "±" not in str(account.summary(theophylline_fit()))


# -- a method without random effects -----------------------------------------------------------------------------------


def test_omega_is_not_listed_where_it_has_no_use():
    fit = theophylline_fit()
    fit.method = nlme.NaivePooled()
    names = ["omega.ka", "omega.cl", "omega.v,cl", "omega.v"]
    for row in fit.parameters:
        row.fixed = row.fixed or row.name in names
    found = table(fit)
    assert not set(names) & set(found.index) and "IIV" not in found.display()
    assert any(note.startswith(f"Not listed: {', '.join(names)}") for note in found.notes)
    assert dict(account.again(fit)[0].rows)["Fixed parameters"] == "f" and "fixed=['f']" in _lines(fit)


def test_a_unit_of_what_is_not_there_is_refused_before_anything_is_written(tmp_path):
    for given in ({"Time": "h"}, {"cp": "mg/L"}):
        with pytest.raises(nlme.DataError, match="units=: No quantity named .*: conc, time, dose"):
            report(theophylline_fit(), tmp_path / "x.html", units=given)
    assert not (tmp_path / "x.html").exists()
