"""Every system of the gallery runs in its fast mode and gives its numbers; what the page says of them is what was computed."""

from __future__ import annotations

import importlib

import pytest

from nlme.errors import ModelError
from nlme.models import science
from nlme.models.science.__main__ import main

LONG = (  # more than five seconds in the fast mode
    "black_holes",
    "deep_covariates",
    "echo_state",
    "fisher_kpp",
    "frank_trajectory",
    "lorenz_parameters",
    "losses",
    "lotka_volterra_bayes",
    "quarantine",
    "reaction_network",
    "robertson_dae",
    "robertson_ensemble",
    "seir",
    "sensitivities",
    "sird",
    "small_networks",
    "sorption",
    "twin",
)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in science.names()])
def test_a_system_gives_its_numbers(name):
    shown = science.run(name, fast=True)
    assert shown.numbers
    assert shown.table["passes"].all(), shown.table.to_string()


@pytest.mark.parametrize("name", science.names())
def test_a_system_says_where_it_is_from(name):
    said = importlib.import_module(f"nlme.models.science.{name}").__doc__
    assert "Reference" in said


def test_an_unknown_system_is_refused():
    with pytest.raises(ModelError, match="No system 'nothing'"):
        science.run("nothing")


def test_the_page_has_the_numbers_and_fails_where_one_does_not_pass(tmp_path, monkeypatch, capsys):
    numbers = (science.Number("a rate", 2.0, 2.125, 1.9, 2.2, "Somebody 1999, table 1"),)
    monkeypatch.setattr(science, "names", lambda: ("rates",))
    monkeypatch.setattr(science, "run", lambda name, fast: science.Shown("Rates <1>", numbers))
    assert main(["--out", str(tmp_path)]) == 0
    page = (tmp_path / "index.html").read_text()
    assert "Rates &lt;1&gt;" in page and "2.125" in page and "Somebody 1999" in page
    monkeypatch.setattr(science, "run", lambda name, fast: science.Shown("Rates", (numbers[0]._replace(here=2.3),)))
    assert main(["--out", str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.slow
def test_systems_run_side_by_side_give_the_same_page(tmp_path, capsys):
    names = ["lorenz_shadowing", "frank_trajectory"]
    assert main(["--fast", "--jobs", "2", "--out", str(tmp_path), *names]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[:2]] == [["PASS", name] for name in names]
    page = (tmp_path / "index.html").read_text()
    assert 0 < page.index("id='lorenz_shadowing'") < page.index("id='frank_trajectory'")
