"""The command line: exit codes, one readable block for every error, and everything a fit writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Annotated

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import nlme
from nlme import cli, datasets
from nlme.cli import command, fits, options
from nlme.fitting import storage

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


def test_check_for_programs(tmp_path):
    (tmp_path / "bad.csv").write_text("ID,TIME,DV,AMT\n1,0,.,100\n1,2,3.1,.\n1,1,abc,.\n")
    result = nlme_command("check", tmp_path / "bad.csv", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1 and not found["ok"] and found["records"] == 3 and found["subjects"] == 1
    (of_value,) = (v for v in found["violations"] if "abc" in v["seen"])
    assert of_value["rows"] == [3] and of_value["column"] == "DV" and of_value["level"] == "error"
    good = nlme_command("check", datasets.path("theophylline"), "--covariates", "wt=kg", "--json")
    assert good.exit_code == 0 and json.loads(good.stdout)["ok"]


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


SHADOWS = {"numpy.py": "numpy", "random.py": "random", "leaves.py": r"sys.exit(0)"}


def test_a_model_file_that_would_take_another_modules_place_or_ends_python(tmp_path):
    for name, phrase in SHADOWS.items():
        (tmp_path / name).write_text("import sys\nsys.exit(0)\n" if name == "leaves.py" else MODEL)
        assert_one_block(nlme_command("describe", tmp_path / name), "Model error", name, phrase)


@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (
            ('v: Scalar = nlme.positive(32.0, unit="L", label="Volume")', "v: Scalar"),
            "Theophylline.v is declared without a value",
        ),
        (("v: Scalar = nlme", "v = nlme"), "Theophylline.v has no annotation"),
        (('nlme.positive(32.0, unit="L", label="Volume")', "32.0"), "Theophylline.v = 32.0 has no domain"),
    ],
)
def test_a_field_that_is_none(tmp_path, change, phrase):
    (tmp_path / "fields_of_a_test.py").write_text(MODEL.replace(*change))
    assert_one_block(
        nlme_command("describe", tmp_path / "fields_of_a_test.py"), "Model error", phrase, "fields_of_a_test.py, line"
    )


def test_the_version():
    result = nlme_command("--version")
    assert result.exit_code == 0 and result.stdout.startswith("nlme ") and "jax " in result.stdout
    assert result.stdout.split()[1].rstrip(",") == nlme.__version__


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("cl=2.5", {"cl": 2.5}),
        ("cl=2.5, omega.cl=0.1,beta[0]=-1e-3", {"cl": 2.5, "omega.cl": 0.1, "beta[0]": -1e-3}),
        ("omega.v,cl=0.02,omega.cl=0.1", {"omega.v,cl": 0.02, "omega.cl": 0.1}),
        ("net.weights[0][1,0]=0.5,cl=1", {"net.weights[0][1,0]": 0.5, "cl": 1.0}),
    ],
)
def test_starting_values_of_every_parameter(text, values):
    assert options.starting_values(text) == values


def test_an_option_that_is_given_again_adds_up_or_is_refused(model_file, monkeypatch):
    """Nothing that was said is forgotten: lists and name=value pairs add up, one value is said once."""
    seen = {}
    monkeypatch.setattr(fits, "population_of", lambda data, reading, model: seen.update(reading, model=model))
    monkeypatch.setattr(nlme, "fit", lambda model, population, by, fixed: seen.update(by=by, fixed=fixed) or sys.exit(7))
    told = ["--fixed", "add", "--fixed", "ka,v", "--start", "cl=2.5", "--start", "omega.cl=0.1,"]
    told += ["--options", "points=3", "--options", "solver=stiff"]
    told += ["--rename", "CONC=DV", "--rename", "PATIENT=ID", "--allow", "duplicated record", "--decimal", ","]
    result = nlme_command("fit", model_file, "data.csv", "--method", "agq", *told)
    assert result.exit_code == 7, result.output
    assert (
        seen["fixed"] == ["add", "ka", "v"] and float(seen["model"].cl) == 2.5 and float(seen["model"].omega.matrix[1, 1]) == 0.1
    )
    assert seen["by"] == nlme.AGQ(3, ode=nlme.Tolerances(solver="stiff"))
    assert (seen["rename"], seen["allow"], seen["decimal"], seen["dvid"]) == ("CONC=DV,PATIENT=ID", "duplicated record", ",", "")
    for again, words in {
        ("--method", "fo", "--method", "saem"): ("--method", "2 times"),
        ("--decimal", ",", "--decimal", "."): ("--decimal", "one value"),
        ("--start", "cl=1", "--start", "cl=2"): ("--start", "cl is given twice"),
        ("--options", "seed=1,seed=2"): ("--options", "seed is given twice"),
    }.items():
        refused = nlme_command("fit", model_file, datasets.path("theophylline"), *again)
        assert refused.exit_code == 2 and all(word in refused.stderr for word in words), refused.stderr


def test_options_of_several_values_keep_their_defaults():
    seen = {}
    app = options.App()

    @app.command()
    def one(bins: Annotated[str, typer.Option(), options.ADDS] = "auto", only: Annotated[str, typer.Option(), options.ADDS] = ""):
        seen.update(bins=bins, only=only)

    for told, found in (([], ("auto", "")), (["--bins", "1,2", "--bins", "3", "--only", "a"], ("1,2,3", "a"))):
        assert CliRunner().invoke(app, told).exit_code == 0 and tuple(seen.values()) == found


def test_methods_with_their_options():
    assert options.method_of("SAEM", "chains=3,smoothing=400-2000,seed=7,solver=stiff") == nlme.SAEM(
        chains=3, smoothing=(400, 2000), seed=7, ode=nlme.Tolerances(solver="stiff")
    )
    assert options.method_of("agq", "points=3") == nlme.AGQ(3) and options.method_of("pooled", "") == nlme.NaivePooled()
    for wrong, words in {
        "pts=3": "No option named 'pts'",
        "points=x": "takes a value such as 5",
        "points=0": "at least 1",
    }.items():
        with pytest.raises(nlme.errors.NLMEError, match=words):
            options.method_of("agq", wrong)


def test_how_a_fit_is_trained_penalised_and_started(model_file, monkeypatch):
    seen = {}
    monkeypatch.setattr(fits, "population_of", lambda data, reading, model: None)
    monkeypatch.setattr(nlme, "fit", lambda model, population, by, fixed, **how: seen.update(how) or sys.exit(7))
    told = ["--starts", "3", "--penalty", "net=0.5", "--shooting", "multiple-shooting", "--shooting", "segments=12"]
    assert nlme_command("fit", model_file, "data.csv", *told).exit_code == 7
    assert seen == {"starts": 3, "penalty": nlme.L2(0.5, on="net"), "shooting": nlme.MultipleShooting(12)}
    assert options.penalty_of("1e-2") == nlme.L2(0.01) and options.penalty_of("cross-validated") == "cross-validated"
    aids = {getattr(nlme, name) for name in options.AIDS.values()}
    public = {one for name in nlme.__all__ if hasattr(one := getattr(nlme, name), "trained")}
    assert aids == public
    for told, words in (
        (("--penalty", "strong"), "or of one network net=1.0"),
        (("--penalty", "-1"), "at least 0"),
        (("--shooting", "multiple"), "none of: multiple-shooting"),
        (("--shooting", "growing-horizon,segments=2"), "No option named 'segments'"),
    ):
        refused = nlme_command("fit", model_file, datasets.path("theophylline"), *told)
        assert refused.exit_code in (1, 2) and words in " ".join(refused.stderr.split()), refused.stderr


def test_there_is_no_method_that_the_command_line_lacks():
    from nlme.marginal.base import Method

    public = {name for name in nlme.__all__ if isinstance(getattr(nlme, name), type) and issubclass(getattr(nlme, name), Method)}
    assert public == set(options.METHODS.values())


def test_endpoints_that_are_left_out():
    reading = dict.fromkeys(options.READING, "")
    found = options.arguments_of(reading | {"dvid": "1=conc,2=", "cmt": "3=effect,4", "skip": "2", "encoding": "latin-1"})
    assert found["dvid"] == {1: "conc", 2: None} and found["cmt"] == {3: "effect", 4: None} and found["skip"] == 2


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a model's file, data of four subjects whose IDs are formulas, and the folder of its fit."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "quick_model_of_a_test.py").write_text(MODEL)
    data = pd.read_csv(datasets.path("theophylline"), dtype=str)
    data[data["ID"].astype(int) <= 4].assign(ID=lambda d: "=" + d["ID"]).to_csv(folder / "data.csv", index=False)
    written = []
    with pytest.MonkeyPatch.context() as patch:
        write = fits.write
        patch.setattr(
            fits, "write", lambda fit, out, units: (written.append((out / "fit.nlme").exists()), write(fit, out, units))[1]
        )
        result = nlme_command(
            "fit", folder / "quick_model_of_a_test.py", folder / "data.csv", "--out", folder / "new" / "fit", "--method",
            "focei", "--options", "inner_iterations=50", "--fixed", "omega,ka", "--start", "omega.cl=0.1,cl=3", "--units", "conc=mg/L",
        )  # fmt: skip
    assert result.exit_code == 0 and written == [True], result.output  # saved before anything is drawn
    assert "Absorption rate" in result.stdout and "Written to" in result.stdout
    return folder


def test_a_fit_writes_everything(fitted):
    out = fitted / "new" / "fit"
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() or path.suffix == ".nlme"}
    tables = {f"parameters.{kind}" for kind in ("csv", "md", "html", "tex", "rtf")} | {"predictions.csv", "individual.csv"}
    drawn = ("goodness_of_fit", "individual_fits", "eta_distributions", "eta_covariates", "objective_history")
    assert {"report.html"} | tables | {f"figures/{name}.png" for name in drawn} <= names
    parameters = pd.read_csv(out / "parameters.csv", index_col="parameter")
    assert parameters.loc["omega.cl", "fixed"] and parameters.loc["omega.cl", "estimate"] == pytest.approx(0.1)
    predictions = pd.read_csv(out / "predictions.csv")
    assert len(predictions) == 44 and predictions["IPRED"].notna().all()
    assert len(pd.read_csv(out / "individual.csv")) == 4
    script = "import nlme; print(float(nlme.load('fit.nlme').model.cl))"  # the model's file lies beside it
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=out)
    assert float(done.stdout) == pytest.approx(parameters.loc["cl", "estimate"], rel=1e-12), done.stderr


def test_a_fit_starts_where_it_is_told(fitted):
    fit = nlme.load(fitted / "new" / "fit" / "fit.nlme", model=fitted / "quick_model_of_a_test.py")
    assert (
        fit.method == nlme.FOCEI(inner_iterations=50)
        and fit.estimates["omega.cl"] == pytest.approx(0.1)
        and float(fit.start.cl) == 3.0
    )
    assert fit.population.source == "data.csv" and fit.population.ids == ("=1", "=2", "=3", "=4")


def test_cells_of_what_is_written_are_no_formulas(fitted):
    for name in ("predictions.csv", "individual.csv"):
        assert set(pd.read_csv(fitted / "new" / "fit" / name, dtype=str)["ID"]) == {f"'={k}" for k in range(1, 5)}


@pytest.mark.slow
def test_a_saved_fit_is_shown_again_and_a_picture_that_fails_takes_no_other_with_it(fitted, tmp_path, monkeypatch):
    from nlme import plots

    def fails(*arguments, **more):
        raise RuntimeError("no ink")

    monkeypatch.setattr(plots, "goodness_of_fit", fails)
    model, out = fitted / "quick_model_of_a_test.py", tmp_path / "again"
    result = nlme_command("report", model, fitted / "new" / "fit", "--out", out, "--units", "conc=mg/L,dose=mg")
    assert result.exit_code == 0 and "figures/goodness_of_fit.png could not be written (RuntimeError: no ink)" in " ".join(
        result.stderr.split()
    )
    page = (out / "report.html").read_text()
    assert re.search(r"amount [\d.]+ to [\d.]+ mg\)", page)
    assert "Goodness of fit cannot be shown for this fit (RuntimeError: no ink)." in page
    assert (
        (out / "figures" / "individual_fits.png").exists()
        and (out / "parameters.rtf").exists()
        and not (out / "fit.nlme").exists()
    )


def test_a_saved_fit_whose_model_is_not_found_says_what_to_add_to_the_command(fitted, tmp_path, monkeypatch):
    """A file that is named as the model's module is said before the fit."""
    monkeypatch.chdir(tmp_path)
    saved = fitted / "new" / "fit" / "fit.nlme"
    monkeypatch.setattr(storage, "class_named", lambda module, name: None)
    for name in ("report", "export"):
        result = nlme_command(name, saved)
        assert_one_block(result, "Model error", f"nlme {name} quick_model_of_a_test.py {saved}")
        assert "nlme.load" not in result.stderr


def test_a_fit_starts_from_the_estimates_of_another(fitted):
    given = command.estimates_of(fitted / "new" / "fit")
    fit = nlme.load(fitted / "new" / "fit" / "fit.nlme", model=fitted / "quick_model_of_a_test.py")
    assert given == pytest.approx(fit.estimates.to_dict(), rel=1e-15)


@pytest.mark.slow
def test_bootstrap_of_a_saved_fit(fitted, tmp_path):
    arguments = ["--replicates", "4", "--key", "3", "--out", tmp_path / "boot"]
    result = nlme_command("bootstrap", fitted / "quick_model_of_a_test.py", fitted / "new" / "fit", *arguments)
    assert result.exit_code == 0, result.output
    assert "bootstrap, subjects resampled: percentiles of 4 of 4 replicates" in " ".join(result.stdout.split())
    assert len(pd.read_csv(tmp_path / "boot" / "bootstrap_replicates.csv")) == 4
    table = pd.read_csv(tmp_path / "boot" / "parameters_bootstrap.csv", index_col="parameter")
    assert table.loc["cl", "lower"] < table.loc["cl", "upper"] and (tmp_path / "boot" / "bootstrap.tex").exists()


@pytest.mark.slow
def test_simulate_from_a_fit_and_from_a_model(fitted, tmp_path):
    model, out = fitted / "quick_model_of_a_test.py", tmp_path / "new" / "s.csv"
    result = nlme_command("simulate", model, fitted / "new" / "fit" / "fit.nlme", "--replicates", "2", "--out", out)
    assert result.exit_code == 0 and "2 data sets of 4 subjects" in result.stdout, result.output
    frame = pd.read_csv(out, na_values=".")
    assert len(frame) == 96 and (frame["AMT"] > 0).sum() == 8
    one = nlme.read_nonmem(frame[frame["REPLICATE"] == 2].drop(columns="REPLICATE"), covariates={"wt": "kg"})
    assert one.n_observations == 44 and one.ids[0] == "'=1"
    result = nlme_command(
        "simulate", model, fitted / "data.csv", "--start", "cl=5", "--eta", "typical", "--no-noise", "--long", "--out", out
    )
    assert result.exit_code == 0, result.output
    long = pd.read_csv(out)
    population = nlme.read_nonmem(fitted / "data.csv", covariates={"wt": "kg"})
    expected = nlme.simulate(cli.load_model(model)(cl=5.0), population, key=1, eta="typical", noise=False)
    assert long["DV"].to_numpy() == pytest.approx(expected["DV"].to_numpy(), rel=1e-12)


@pytest.mark.slow
def test_vpc_of_a_fit_and_of_a_model(fitted, tmp_path):
    model = fitted / "quick_model_of_a_test.py"
    result = nlme_command(
        "vpc", model, fitted / "new" / "fit", "--replicates", "20", "--bins", "0,1,5,13,25", "--stratify", "wt=75", "--percentiles", "10,90",
        "--out", tmp_path, "--units", "conc=mg/L",
    )  # fmt: skip
    assert result.exit_code == 0 and "of the observed quantities lie within their 90 % bands" in result.stdout, result.output
    written = pd.read_csv(tmp_path / "vpc_conc.csv")
    assert (tmp_path / "vpc_conc.png").stat().st_size > 10_000
    fit = nlme.load(fitted / "new" / "fit" / "fit.nlme", model=model)
    expected = nlme.vpc(fit, key=1, replicates=20, bins=[0, 1, 5, 13, 25], stratify={"wt": [75]}, percentiles=(10, 90))
    pd.testing.assert_frame_equal(written, expected.table, check_dtype=False)
    result = nlme_command(
        "vpc", model, fitted / "data.csv", "--replicates", "20", "--start", "cl=5", "--out", tmp_path / "of_data"
    )
    assert result.exit_code == 0 and (tmp_path / "of_data" / "vpc_conc.csv").exists(), result.output


def test_bins_and_strata_of_the_command_line():
    assert options.bins_of("auto") == "auto" and options.bins_of("8") == 8 and options.bins_of("0,1.5,4") == (0.0, 1.5, 4.0)
    assert options.strata_of("sex,wt=60-80") == {"sex": None, "wt": [60.0, 80.0]} and options.strata_of("") is None


@pytest.mark.parametrize(
    ("command", "title", "phrase"),
    [
        (["bootstrap", "MODEL", "DATA"], "Fit error", "not a fit saved by nlme"),
        (["bootstrap", "MODEL", "EMPTY"], "Fit error", "There is no fit.nlme in"),
        (["bootstrap", "MODEL", "FIT", "--replicates", "1"], "Model error", "at least 2"),
        (["bootstrap", "MODEL", "FIT", "--stratify", "sex"], "Data error", "No covariate named 'sex'"),
        (["simulate", "MODEL", "FIT", "--eta", "none"], "Data error", "'new'"),
        (["simulate", "MODEL", "DATA", "--eta", "estimated"], "Data error", "needs a fit"),
        (["simulate", "MODEL", "FIT", "--start", "clr=1"], "Model error", "No parameter named 'clr'"),
        (["vpc", "MODEL", "FIT", "--endpoint", "con"], "Data error", "No endpoint named 'con'"),
        (["vpc", "MODEL", "FIT", "--stratify", "sex"], "Data error", "No column named 'sex'"),
        (["fit", "MODEL", "DATA", "--out", "MODEL"], "Fit error", "is a file, not a folder"),
        (["fit", "MODEL", "DATA", "--start", "omega.cl=0"], "Model error", "exactly 0"),
        (["fit", "MODEL", "DATA", "--options", "pts=3"], "Fit error", "No option named 'pts'"),
    ],
)
def test_a_command_that_will_not_do(fitted, tmp_path, command, title, phrase):
    places = {
        "MODEL": fitted / "quick_model_of_a_test.py",
        "DATA": fitted / "data.csv",
        "FIT": fitted / "new" / "fit",
        "EMPTY": tmp_path,
    }
    assert_one_block(nlme_command(*(places.get(word, word) for word in command)), title, phrase)


@pytest.mark.slow
def test_forecast_of_a_patient(model_file, tmp_path):
    (tmp_path / "patient.csv").write_text("ID,TIME,DV,AMT,wt\n7,0,.,320,70\n7,2,8.1,.,70\n7,9,5.2,.,70\n")
    result = nlme_command(
        "forecast", model_file, tmp_path / "patient.csv", "--times", "0-48/12,50", "--dose", "amount=160,time=24,every=12,n=2",
        "--draws", "50", "--target", "5-15", "--units", "time=h,conc=mg/L", "--start", "cl=3", "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0 and "90 % bands of 50 draws" in result.stdout, result.output
    assert (tmp_path / "out" / "forecast.png").stat().st_size > 10_000
    written = pd.read_csv(tmp_path / "out" / "forecast.csv")
    model = command.model_class(str(model_file))(cl=3.0)
    patient = nlme.read_nonmem(tmp_path / "patient.csv", covariates={"wt": "kg"})
    doses = nlme.dose(160, time=24).every(12, n=2)
    expected = nlme.forecast(model, patient, times=[0, 12, 24, 36, 48, 50], doses=doses, draws=50, key=1)
    pd.testing.assert_frame_equal(written, expected.frame, check_dtype=False)


def test_a_published_model_is_known_by_its_name(model_file, monkeypatch):
    assert command.model_class("vancomycin") is nlme.models.load("vancomycin")
    assert "mL/min" in nlme_command("describe", "vancomycin").stdout
    monkeypatch.chdir(model_file.parent)
    (model_file.parent / "vancomycin").mkdir()  # what stands here goes first
    assert_one_block(nlme_command("describe", "vancomycin"), "no file 'vancomycin'")


def test_times_and_doses_of_the_command_line():
    assert options.times_of("24,0-2/0.5,2", "--times") == [0.0, 0.5, 1.0, 1.5, 2.0, 24.0]
    assert options.times_of("0-0.3/0.1", "--times") == pytest.approx([0.0, 0.1, 0.2, 0.3])
    for wrong in ("", "0-5/0", "5-0/1", "0-5/x", "a"):
        with pytest.raises(typer.BadParameter):
            options.times_of(wrong, "--times")
    assert options.regimen_of([]) is None
    asked = options.regimen_of(["amount=400,time=24", "amount=100,time=36,into=2,duration=1.5,every=12,n=3"])
    assert repr(asked) == repr(nlme.dose(400, time=24) + nlme.dose(100, 2, time=36, duration=1.5).every(12, n=3))
    for wrong in ("time=3", "100", "amount=1,dur=2"):
        with pytest.raises(typer.BadParameter):
            options.regimen_of([wrong])


def test_describe(model_file):
    result = nlme_command("describe", model_file)
    assert result.exit_code == 0, result.output
    for word in ("Clearance", "L/h", "positive", "wt"):
        assert word in result.stdout


@pytest.mark.slow
def test_the_console_script_gives_its_exit_code_to_the_shell(tmp_path):
    command = [sys.executable, "-m", "nlme", "describe", str(tmp_path / "nope.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().startswith("Model error") and done.stdout == ""
    assert subprocess.run([*command[:3], "fit"], capture_output=True).returncode == 2


def test_nca_writes_tables_summary_reasons_and_a_picture(tmp_path):
    out = tmp_path / "out"
    result = nlme_command(
        "nca", datasets.path("theophylline"), "--route", "extravascular", "--units", "time=h,conc=mg/L,dose=mg", "--partial", "0-12",
        "--lambda-z", "1=5-25", "--below", "before=zero,after=half", "--covariates", "wt=kg", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Cl_F_obs (L/h)" in result.stdout and "AUC_0_12 (h·mg/L)" in result.stdout
    table = pd.read_csv(out / "nca.csv", index_col="ID")
    assert len(table) == 12 and table.loc[1, "Lambda_z_lower"] == 5.1
    assert {"nca.md", "nca.rtf", "nca_summary.csv", "nca_reasons.csv", "nca_profiles.png"} <= {p.name for p in out.iterdir()}


def test_nca_asks_for_the_route(tmp_path):
    assert_one_block(nlme_command("nca", datasets.path("theophylline"), "--out", tmp_path / "out"), "Subject 1", "route=")
    assert nlme_command("nca", datasets.path("theophylline"), "--partial", "0:12").exit_code == 2
    assert not (tmp_path / "out").exists()
