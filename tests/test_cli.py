"""The command line: exit codes, one readable block for every error, and everything a fit writes."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

import nlme
from nlme import cli, datasets

MODEL = '''
import jax.numpy as jnp
import nlme
from nlme import Scalar


class Theophylline(nlme.Model):
    """Theophylline after one oral dose."""

    ka: Scalar = nlme.positive(1.5, unit="1/h", label="Absorption rate")
    cl: Scalar = nlme.positive(2.8, unit="L/h", label="Clearance")
    v: Scalar = nlme.positive(32.0, unit="L", label="Volume")
    omega: nlme.Covariance = nlme.covariance(ka=0.4, cl=0.07)
    add: Scalar = nlme.positive(0.7, unit="mg/L", label="Additive error")

    covariates = {"wt": "kg"}

    def individual(self, eta, cov):
        return dict(ka=self.ka * jnp.exp(eta.ka), cl=self.cl * jnp.exp(eta.cl), v=self.v * cov.wt / 70)

    def dynamics(self, ind):
        return nlme.pk.OneCompartmentOral(cl=ind.cl, v=ind.v, ka=ind.ka)

    def observe(self, ind, state, t):
        return {"conc": nlme.additive(state.central / ind.v, self.add)}
'''


def nlme_command(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "theophylline_oral.py"
    path.write_text(MODEL)
    return path


def assert_one_block(result, *phrases):
    assert result.exit_code == 1
    for phrase in phrases:
        assert phrase in result.stderr
    assert "Traceback" not in result.output and len(result.stderr.strip().splitlines()) <= 12


def test_check_passes_a_good_file():
    result = nlme_command("check", datasets.path("theophylline"), "--covariates", "wt=kg")
    assert result.exit_code == 0, result.output


def test_check_lists_rows_of_a_bad_file(tmp_path):
    (tmp_path / "bad.csv").write_text("ID,TIME,DV,AMT,wt\n1,0,.,100,70\n1,2,3.1,.,70\n1,1,abc,.,71\n")
    result = nlme_command("check", tmp_path / "bad.csv", "--covariates", "wt")
    assert result.exit_code == 1
    assert "abc" in result.stdout and "row 3" in result.stdout and "time_varying" in result.stdout
    result = nlme_command("check", tmp_path / "bad.csv", "--covariates", "wt", "--time-varying", "auto")
    assert "covariate wt changes" not in result.stdout


EUROPEAN = "ID;TIME;DV;AMT;wt;sex\n1;0;.;100;70,5;female\n1;1;3,1;.;.;female\n1;2;2,5;.;71,5;female\n"


def test_options_say_how_data_are_read(tmp_path):
    """Decimal commas, words of categories, missing covariates, what holds between records, and as many rows read."""
    path = tmp_path / "european.csv"
    path.write_text(EUROPEAN)
    options = ["--covariates", "wt=kg,sex", "--decimal", ",", "--categories", "sex=male|female", "--time-varying", "wt"]
    refused = nlme_command("check", path, *options)
    assert refused.exit_code == 1 and "fill" in refused.stdout
    accepted = nlme_command("check", path, *options, "--fill", "wt=locf")
    assert accepted.exit_code == 0, accepted.output
    (tmp_path / "model.py").write_text(MODEL)
    ode = ["--fill", "wt=locf", "--interpolation", "wt=linear"]
    closed = nlme_command("fit", tmp_path / "model.py", path, *options, *ode, "--out", tmp_path / "out")
    assert_one_block(closed, "'wt' is interpolated linearly", "nlme.ODE")


def test_a_missing_data_file(tmp_path):
    assert_one_block(nlme_command("check", tmp_path / "none.csv"), "Data error", "none.csv")


@pytest.mark.parametrize(
    ("source", "phrases"),
    [
        ("x = 1\n", ("defines no subclass of nlme.Model", "class Name(nlme.Model):")),
        ("class A(nlme.Model):\n    pass\n", ("NameError", "line 1")),
        ("import nlme\n\nclass A(nlme.Model)\n    pass\n", ("line 3",)),
        ("import nlme\nclass A(nlme.Model): pass\nclass B(nlme.Model): pass\n", ("A, B", ".py:A")),
    ],
)
def test_a_model_file_that_will_not_do(tmp_path, source, phrases):
    path = tmp_path / "model_of_a_beginner.py"
    path.write_text(source)
    assert_one_block(nlme_command("describe", path), "Model error", "model_of_a_beginner.py", *phrases)


def test_a_model_file_that_is_not_there(tmp_path):
    assert_one_block(nlme_command("describe", tmp_path / "nope.py"), "Model error", "nope.py")


def test_one_of_several_models_is_chosen_by_name(tmp_path):
    path = tmp_path / "two.py"
    path.write_text("import nlme\nfrom nlme import Model\nclass A(nlme.Model): pass\nclass B(nlme.Model): pass\n")
    assert cli.load_model(f"{path}:B").__name__ == "B"
    with pytest.raises(nlme.ModelError, match="No model named 'C'.*A, B"):
        cli.load_model(f"{path}:C")


def test_a_model_may_import_its_neighbour(tmp_path):
    (tmp_path / "shared_constants_of_a_test.py").write_text("SIZE = 70.0\n")
    path = tmp_path / "neighbour.py"
    path.write_text("import nlme\nfrom shared_constants_of_a_test import SIZE\nclass A(nlme.Model): size = SIZE\n")
    assert cli.load_model(str(path)).size == 70.0
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["--method", "focie"], "focei"),
        (["--start", "cl"], "name=value"),
        (["--start", "cl=much"], "much"),
        (["--sigma"], "--sigma"),
    ],
)
def test_a_command_that_is_not_understood_exits_with_2(model_file, arguments, phrase):
    result = nlme_command("fit", model_file, datasets.path("theophylline"), *arguments)
    assert result.exit_code == 2 and phrase in result.stderr


def test_a_fit_whose_names_are_wrong(model_file, tmp_path):
    out = tmp_path / "out"
    data = datasets.path("theophylline")
    assert_one_block(nlme_command("fit", model_file, data, "--out", out, "--fixed", "kaa"), "Model error", "kaa", "'ka'")
    assert_one_block(nlme_command("fit", model_file, data, "--out", out, "--start", "cl=-1"), "Model error", "cl")
    assert_one_block(nlme_command("fit", model_file, data, "--out", out, "--covariates", "weight=kg"), "Data error", "weight")
    assert not out.exists()


def test_an_error_of_the_model_itself_names_its_line(tmp_path):
    path = tmp_path / "typing_error.py"
    path.write_text(MODEL.replace("cov.wt / 70", "weight / 70"))
    result = nlme_command("fit", path, datasets.path("theophylline"), "--out", tmp_path / "out")
    assert_one_block(result, "weight", "typing_error.py")
    debugged = nlme_command("fit", path, datasets.path("theophylline"), "--out", tmp_path / "out", "--debug")
    assert (
        debugged.exit_code == 1 and isinstance(debugged.exception, Exception) and not isinstance(debugged.exception, SystemExit)
    )


def test_a_fit_writes_everything(model_file, tmp_path):
    out = tmp_path / "new" / "out"
    result = nlme_command(
        "fit", model_file, datasets.path("theophylline"), "--out", out, "--fixed", "omega.cl", "--units", "conc=mg/L"
    )
    assert result.exit_code == 0, result.output
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() or path.suffix == ".nlme"}
    assert {
        "report.html",
        "parameters.csv",
        "parameters.md",
        "parameters.html",
        "parameters.tex",
        "parameters.rtf",
        "predictions.csv",
        "individual.csv",
        "figures/goodness_of_fit.png",
        "figures/individual_fits.png",
        "figures/eta_distributions.png",
        "figures/eta_covariates.png",
        "figures/objective_history.png",
    } <= names
    parameters = pd.read_csv(out / "parameters.csv", index_col="parameter")
    assert parameters.loc["omega.cl", "fixed"] and parameters.loc["omega.cl", "estimate"] == pytest.approx(0.07)
    predictions = pd.read_csv(out / "predictions.csv")
    assert len(predictions) == 132 and predictions["IPRED"].notna().all()
    assert len(pd.read_csv(out / "individual.csv")) == 12
    assert "Absorption rate" in result.stdout and "Written to" in result.stdout
    script = "import nlme; print(float(nlme.load('fit.nlme').model.cl))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=out)
    assert float(done.stdout) == pytest.approx(parameters.loc["cl", "estimate"], rel=1e-12), done.stderr


def test_describe(model_file):
    result = nlme_command("describe", model_file)
    assert result.exit_code == 0, result.output
    for word in ("Clearance", "L/h", "positive", "wt"):
        assert word in result.stdout


def test_the_console_script_gives_its_exit_code_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "nlme.cli", "describe", str(tmp_path / "nope.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().startswith("Model error") and done.stdout == ""
    assert subprocess.run([*command[:3], "fit"], capture_output=True).returncode == 2
