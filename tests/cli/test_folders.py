"""The folder of a fit: what it holds is of one fit, is found by its name, and takes nothing of the user's."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

import nlme
from nlme import cli, datasets
from nlme.cli import command, output

MODEL = """
import jax.numpy as jnp
import nlme
from nlme import Scalar
from exponents_of_a_test import size


class Theophylline(nlme.Model):
    ka: Scalar = nlme.positive(1.5)
    cl: Scalar = nlme.positive(2.8)
    v: Scalar = nlme.positive(32.0)
    omega: nlme.Covariance = nlme.covariance(cl=0.07)
    add: Scalar = nlme.positive(0.7)

    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(ka=self.ka, cl=self.cl * size(cov.wt) * jnp.exp(eta.cl), v=self.v)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.add)}
"""
HELPER = "from powers_of_a_test.numbers import POWER\n\ndef size(wt):\n    return (wt / 70.0) ** POWER\n"
NAME = "helped_model_of_a_test"


def nlme_command(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def assert_refused(result, *phrases):
    assert result.exit_code == 1 and "Traceback" not in result.output, result.output
    for phrase in phrases:
        assert phrase in result.stderr


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a model that imports its neighbours, data, and the folder of a fit."""
    folder = tmp_path_factory.mktemp("helped")
    (folder / f"{NAME}.py").write_text(MODEL)
    (folder / "exponents_of_a_test.py").write_text(HELPER)
    (folder / "powers_of_a_test").mkdir()
    (folder / "powers_of_a_test" / "__init__.py").write_text("")
    (folder / "powers_of_a_test" / "numbers.py").write_text("POWER = 0.75\n")
    (folder / "not_imported.py").write_text("")
    data = pd.read_csv(datasets.path("theophylline"), dtype=str)
    data[data["ID"].astype(int) <= 3].to_csv(folder / "data.csv", index=False)
    result = nlme_command("fit", folder / f"{NAME}.py", folder / "data.csv", "--method", "fo", "--out", folder / "fit")
    assert result.exit_code in (0, 3), result.output
    return folder


def test_a_model_is_kept_with_the_files_that_it_imports(fitted):
    kind = cli.load_model(fitted / f"{NAME}.py")
    own = {f"{NAME}.py", "exponents_of_a_test.py", "powers_of_a_test/__init__.py", "powers_of_a_test/numbers.py"}
    assert set(output.files_of(kind)) == own and all((fitted / "fit" / name).is_file() for name in own)
    assert not (fitted / "fit" / "not_imported.py").exists()


def test_the_results_of_every_fit_are_known_beforehand(fitted):
    out = fitted / "fit"
    found = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.suffix in (".csv", ".html", ".png", ".md")}
    assert found <= set(output.RESULTS) and {"sites.csv"} == {n for n in output.RESULTS if not (out / n).exists()}


def test_a_fit_is_opened_where_its_model_lies_beside_it(fitted, tmp_path):
    """In a process of its own, elsewhere, after the files that the model came from have changed."""
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", fitted / "fit", moved], check=True)
    script = (
        "from pathlib import Path; from nlme.cli.command import opened; print(float(opened('report', PLACE, None)[1].model.cl))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script.replace("PLACE", repr(str(moved)))], capture_output=True, text=True, cwd=tmp_path
    )
    estimate = command.estimates_of(fitted / "fit")["cl"]
    assert done.returncode == 0 and float(done.stdout) == pytest.approx(estimate, rel=1e-12), done.stderr


def test_a_new_fit_takes_the_place_of_all_that_was_of_the_earlier(fitted, tmp_path):
    """Results that commands wrote are gone; the user's file, a model's copy and data that were fitted stay."""
    model = cli.load_model(fitted / f"{NAME}.py")
    fit = nlme.load(fitted / "fit" / "fit.nlme", model=model)
    out = tmp_path / "fit"
    output.keep(fit, out)
    from nlme.cli.written import Folder

    for group, name in (("bootstrap", "bootstrap.csv"), ("vpc", "vpc_conc.png"), ("report", "figures/individual_fits_2.png")):
        Folder(out, group).add(name, lambda path: path.write_text("of the earlier fit"))
    Folder(out, "export").add("run1.csv", lambda path: path.write_text("the data"))
    Folder(out, "data").add("nca.csv", lambda path: path.write_text("of the data"))
    (out / "notes.txt").write_text("mine")
    output.require_room(model, out)
    output.keep(fit, out, read=[out / "run1.csv"])
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert left == {"fit.nlme", "run1.csv", "nca.csv", "notes.txt", *output.files_of(model)}


def test_a_fit_replaces_no_file_of_the_users(fitted, tmp_path):
    """Said before anything is computed: another model of that name, a table of that name."""
    for name, words in ((f"{NAME}.py", "# another model"), ("predictions.csv", "ID\n1\n")):
        out = tmp_path / name
        out.mkdir()
        (out / name).write_text(words)
        result = nlme_command("fit", fitted / f"{NAME}.py", fitted / "data.csv", "--method", "fo", "--out", out)
        assert_refused(result, name, "would be lost", "--out")
        assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == words


def test_units_and_the_form_of_a_report_are_checked_before_the_work(fitted, tmp_path, monkeypatch):
    for name in ("fit", "report"):
        monkeypatch.setattr(nlme, name, lambda *arguments, **more: pytest.fail("it was done"))
    model = fitted / f"{NAME}.py"
    asked = ["fit", model, fitted / "data.csv", "--out", tmp_path / "new", "--units", "foo=mg"]
    assert_refused(nlme_command(*asked), "No quantity named 'foo'")
    assert_refused(nlme_command("report", model, fitted / "fit", "--out", tmp_path / "r.pdf"), f"'{tmp_path / 'r.pdf'}'")
    assert_refused(nlme_command("check", tmp_path), "is a folder; a data set is a text file")


def test_a_simulation_replaces_nothing_that_it_reads(fitted, monkeypatch):
    monkeypatch.setattr(nlme, "simulate", lambda *arguments, **more: pytest.fail("it was simulated"))
    model, data, fit = fitted / f"{NAME}.py", fitted / "data.csv", fitted / "fit"
    before = data.read_text()
    assert_refused(nlme_command("simulate", model, data, "--out", data), "data.csv is a file that is read here")
    assert_refused(nlme_command("simulate", f"{model}:Theophylline", data, "--out", model), "is a file that is read here")
    assert_refused(nlme_command("simulate", model, fit, "--out", fit / "fit.nlme"), "is a file that is read here")
    assert_refused(nlme_command("simulate", model, fit, "--design", data, "--out", data), "is a file that is read here")
    assert_refused(nlme_command("simulate", model, data, "--out", fit), "is a folder; name a file")
    assert data.read_text() == before


def test_an_analysis_replaces_no_data_of_its_name(fitted, tmp_path):
    (tmp_path / "nca.csv").write_text((fitted / "data.csv").read_text())
    assert_refused(nlme_command("nca", tmp_path / "nca.csv", "--route", "extravascular", "--out", tmp_path), "nca.csv")
    (tmp_path / "forecast.csv").write_text("ID,TIME,DV,AMT,wt\n7,0,.,320,70\n")
    asked = ["forecast", fitted / f"{NAME}.py", tmp_path / "forecast.csv", "--times", "12", "--out", tmp_path]
    assert_refused(nlme_command(*asked), "forecast.csv")


def test_an_exported_model_replaces_none_of_the_users(fitted, tmp_path):
    model, fit = fitted / f"{NAME}.py", fitted / "fit"
    (tmp_path / "run1.mod").write_text("$PROBLEM of the user's")
    assert_refused(nlme_command("export", model, fit, "--out", tmp_path / "run1.mod"), "run1.mod was not written")
    assert not (tmp_path / "run1_nonmem.csv").exists()
    for _ in range(2):
        done = nlme_command("export", model, fit, "--out", tmp_path / "run2.mod")
        assert done.exit_code == 0 and f"{tmp_path / 'run2.mod'}" in "".join(done.stdout.split("\n")), done.output
    assert (tmp_path / "run2_nonmem.csv").exists() and (tmp_path / "run2.mod").read_text().startswith("$PROB")
    # the data of each program stay with its model, and with those of the user
    (tmp_path / "run2.csv").write_text("ID\n")
    written = {path: path.read_bytes() for path in tmp_path.glob("run2*")}
    for program, name in (("monolix", "run2.mlxtran"), ("nlmixr2", "run2.R")):
        done = nlme_command("export", model, fit, "--to", program, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    assert {path: path.read_bytes() for path in written} == written and len(list(tmp_path.glob("run2*.csv"))) == 4


def test_what_was_written_before_an_interrupt_is_said(fitted, tmp_path, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    arguments = ["fit", fitted / f"{NAME}.py", fitted / "data.csv", "--method", "fo", "--out", tmp_path / "new"]
    with monkeypatch.context() as patch:
        patch.setattr(nlme, "fit", interrupted)
        result = nlme_command(*arguments)
    assert result.exit_code == 130 and "Nothing was written." in result.stderr and not (tmp_path / "new").exists()
    fit = nlme.load(fitted / "fit" / "fit.nlme", model=fitted / f"{NAME}.py")
    monkeypatch.setattr(nlme, "fit", lambda *arguments, **more: fit)
    monkeypatch.setattr(nlme, "report", interrupted)
    result = nlme_command(*arguments)
    assert result.exit_code == 130 and f"Written before: {tmp_path / 'new' / 'fit.nlme'}" in result.stderr
    assert not (tmp_path / "new" / "report.html").exists() and "predictions" not in result.stderr


INTERRUPTED = """
import os, signal, sys
import nlme.cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

def run(*arguments):
    print("computing")
    os.kill(os.getpid(), signal.SIGINT)
    while True:
        pass

WHEN
sys.argv = ["nlme", "describe", "vancomycin"]
nlme.cli.main()
"""


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("from nlme.cli import fits; fits.model_class = run", "Nothing was written."),
        ("import importlib; importlib.import_module = run", "Interrupted"),  # while the commands are loaded
    ],
)
def test_an_interrupted_command_ends_without_a_traceback(when, said):
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.replace("WHEN", when)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130 and done.stdout == "computing\n", done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_a_published_model_that_is_misspelled():
    assert_refused(nlme_command("describe", "vancomycinn"), "No published model named", "Did you mean 'vancomycin'?")
    assert_refused(nlme_command("describe", "nothing_like_it_at_all"), "There is no file")


def test_a_fit_of_a_script_asks_for_a_file(tmp_path):
    """The module of a class that was written in a script is no name of a file."""
    script = f"{MODEL.replace('from exponents_of_a_test import size', 'def size(wt): return wt / 70')}\n" + (
        "data = nlme.datasets.load('theophylline')\n"
        "nlme.fit(Theophylline(), data, nlme.FO(), max_evaluations=1, progress=False)"
        ".save('script.nlme')\n"
    )
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env={**os.environ, "PYTHONWARNINGS": "ignore"}, check=True)
    result = nlme_command("report", tmp_path / "script.nlme")
    assert_refused(result, "nlme report FILE.py")
    assert "__main__.py" not in result.stderr
