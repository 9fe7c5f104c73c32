"""Qualification: the library's cases pass, a broken one fails with exit code 1, users' folders are cases or refused in words."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from typer.testing import CliRunner

import nlme
from nlme import cli
from nlme.qualify import CASES, Case, Check, exact, qualification, qualify
from nlme.qualify.checks import outcome_of

MODEL = '''
import jax.numpy as jnp
import nlme


class Decay(nlme.Model):
    """Exponential decay with a constant error."""

    a: nlme.Scalar = nlme.positive(10.0)
    k: nlme.Scalar = nlme.positive(0.3)
    sd: nlme.Scalar = nlme.positive(0.5)

    def individual(self, eta, cov):
        return dict(a=self.a, k=self.k)

    def observe(self, ind, state, t):
        return {"y": nlme.additive(ind.a * jnp.exp(-ind.k * t), self.sd)}
'''
TIMES, VALUES = (0.0, 1.0, 3.0), (10.5, 7.0, 4.5)
SQUARES = sum(((y - 10.0 * math.exp(-0.3 * t)) / 0.5) ** 2 + 2 * math.log(0.5) for t, y in zip(TIMES, VALUES, strict=True))
SAID = {
    "title": "Decay <by hand>",
    "source": "sum of squares",
    "method": "NaivePooled",
    "parameters": {"k": 0.3},
    "expected": [
        {"quantity": "objective", "reference": SQUARES, "tolerance": 1e-9},
        {"quantity": "objective_full", "reference": SQUARES + 3 * math.log(2 * math.pi), "tolerance": 1e-9},
        {"quantity": "estimate.k", "reference": 0.3, "tolerance": 1e-12, "relative": True},
    ],
}


@pytest.fixture
def folder(tmp_path):
    """A folder with one case of a user's own, right to the last digit."""
    case = tmp_path / "mine" / "decay"
    case.mkdir(parents=True)
    (case / "case.py").write_text(MODEL)
    rows = "".join(f"1,{t},{y}\n" for t, y in zip(TIMES, VALUES, strict=True))
    (case / "data.csv").write_text("ID,TIME,DV\n" + rows)
    (case / "case.json").write_text(json.dumps(SAID))
    return case


def say(folder, **changes):
    (folder / "case.json").write_text(json.dumps(SAID | changes))


def command(*arguments):
    return CliRunner().invoke(cli.app, ["qualify", *map(str, arguments)])


@pytest.mark.parametrize("name", ["one-compartment", "steady-state", "equations", "censored"])
def test_exact_cases_pass(name):
    found = qualify(only=name)
    assert found.passed, repr(found)
    assert found.mode == f"selected cases only: {name}" and "PASS: 1 of 1 cases passed" in found.verdict


@pytest.mark.slow
def test_all_quick_cases_pass(tmp_path):
    found = qualify(tmp_path)
    assert found.passed, repr(found)
    assert len(found.outcomes) == sum(not case.full for case in CASES) >= 10


@pytest.mark.slow
def test_fits_pass():
    found = qualify(only=[case.name for case in CASES if case.full])
    assert found.passed, repr(found)


def test_every_case_names_its_source():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and all(case.source and case.title for case in CASES)


def test_a_broken_tolerance_fails_with_exit_code_1(tmp_path, monkeypatch):
    def broken():
        return (dataclasses.replace(check, tolerance=0.0) for check in exact.equations())

    monkeypatch.setattr(qualification, "CASES", (Case("equations", "Broken on purpose", "this test", broken),))
    done = command("--out", tmp_path)
    assert done.exit_code == 1 and "FAIL: 0 of 1 cases passed; failed: equations." in done.output
    assert json.loads((tmp_path / "qualification.json").read_text())["verdict"] == "FAIL"


def test_a_folder_is_a_case_and_its_page_says_everything(folder, tmp_path):
    out = tmp_path / "out"
    done = command("--out", out, "--cases", folder.parent, "--only", "decay")
    assert done.exit_code == 0, done.output
    facts = json.loads((out / "qualification.json").read_text())
    assert facts["verdict"] == "PASS" and facts["mode"] == "selected cases only: decay"
    assert facts["versions"]["jax"] and facts["machine"]["precision"] == "float64" and "UTC" in facts["date"]
    (case,) = facts["cases"]
    assert [check["verdict"] for check in case["checks"]] == ["PASS"] * 3 and case["source"] == "sum of squares"
    page = (out / "qualification.html").read_text()
    assert "Decay &lt;by hand&gt;" in page and "<by hand>" not in page
    assert "PASS: 1 of 1 cases passed" in page and facts["versions"]["jax"] in page and "estimate.k" in page


def test_a_wrong_reference_in_a_folder_fails(folder, tmp_path):
    say(folder, expected=[{"quantity": "objective", "reference": SQUARES + 0.01, "tolerance": 0.001}])
    done = command("--out", tmp_path, "--cases", folder, "--only", "decay")
    assert (
        done.exit_code == 1 and "objective is" in done.output and 'class="bad"' in (tmp_path / "qualification.html").read_text()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(parameters={"kk": 0.3}), "kk"),
        (dict(expected=[{"quantity": "estimate.ke", "reference": 0.3, "tolerance": 0.1}]), "No quantity named 'estimate.ke'"),
        (dict(data="other.csv"), "other.csv"),
        (dict(model="other.py"), "other.py"),
    ],
)
def test_a_case_that_cannot_be_computed_fails_and_says_why(folder, changes, words):
    say(folder, **changes)
    found = qualify(cases=folder, only="decay")
    assert not found.passed and words in found.outcomes[0].error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(tolerance=1.0), "No word named 'tolerance'"),
        (dict(source=""), "has no source"),
        (dict(method="SAEMM"), "No method named 'SAEMM'"),
        (dict(expected=[{"quantity": "objective", "reference": "12", "tolerance": 1}]), "reference"),
        (dict(expected=[{"quantity": "objective", "reference": 12.0}]), "tolerance"),
        (dict(expected=[{"quantity": "objective", "reference": 12.0, "tolerance": -1.0}]), "from 0 on"),
        (dict(expected={"objective": 12.0}), "list of quantities"),
    ],
)
def test_a_case_that_is_not_well_formed_is_refused(folder, changes, words):
    say(folder, **changes)
    with pytest.raises(nlme.DataError, match="case.json") as refused:
        qualify(cases=folder, only="decay")
    assert words in str(refused.value)


def test_folders_without_a_case_and_unknown_names_are_refused(tmp_path, folder):
    with pytest.raises(nlme.DataError, match="There is no case in"):
        qualify(cases=tmp_path / "nothing")
    (folder / "case.json").write_text("{")
    with pytest.raises(nlme.DataError, match="is no JSON"):
        qualify(cases=folder)
    with pytest.raises(nlme.DataError, match="No case named 'steady'.*steady-state"):
        qualify(only="steady")


@pytest.mark.parametrize("result", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_passes(result):
    assert not Check("x", result, 1.0, math.inf).passed


def test_a_case_that_checks_nothing_or_breaks_is_no_pass():
    assert not outcome_of(Case("empty", "", "", tuple)).passed
    broken = outcome_of(Case("bug", "", "", lambda: [1 / 0]))
    assert not broken.passed and broken.error == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        (dict(fit="false"), "fit is true or false; got 'false'"),
        (dict(full=1), "full is true or false"),
        (dict(title=5), "title is text"),
        (dict(parameters=[1, 2]), "parameters is an object"),
        (dict(expected=[dict(quantity=3, reference=1.0, tolerance=0.0)]), "quantity is text"),
        (dict(expected=[dict(quantity="objective", reference=1.0, tolerance=0.0, relative="false")]), "relative true or false"),
        (dict(expected=[dict(quantity="objective", reference=math.nan, tolerance=0.0)]), "the reference of 'objective' is nan"),
    ],
)
def test_words_of_another_kind_are_refused_before_anything_runs(folder, changes, seen):
    say(folder, **changes)
    done = command("--cases", folder.parent)
    assert done.exit_code != 0 and seen in " ".join(done.output.split())


def test_a_folder_among_cases_that_is_none_is_refused(folder):
    """A case that lost its file would otherwise not be missed."""
    (folder.parent / "lost").mkdir()
    (folder.parent / "lost" / "case.jsn").write_text(json.dumps(SAID))
    done = command("--cases", folder.parent)
    assert done.exit_code != 0 and "There is no case.json in" in " ".join(done.output.split())
