"""nlmixr2's and Monolix' texts say what the model computes: their right-hand sides are evaluated and compared with it."""

from __future__ import annotations

import math
import re

import jax.numpy as jnp
import numpy as np
import pytest
from exported_models import CASES, One, cases

import nlme
from nlme.errors import ModelError
from nlme.language.anatomy import anatomy_of, individual_row, named, observation_row, structure_of
from nlme.language.layout import lay_out
from nlme.models.theophylline import Theophylline
from nlme.observation.base import Record
from nlme.structure.assembly import as_linear
from nlme.structure.base import DOSE_RULES
from nlme.structure.ode import ODE
from nlme.typing import Named

pytest.importorskip("sympy")

FUNCTIONS = {
    "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "tanh": math.tanh, "abs": abs, "lgamma": math.lgamma, "gammaln": math.lgamma,
    "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
}  # fmt: skip
RULES = {"lag": "alag", "bioavailability": "f", "duration": "dur", "rate": "rate"}
T, Y = 1.7, 2.0


def python_of(expression: str) -> str:
    """An expression of R or Mlxtran as one of Python."""
    return expression.replace("^", "**").replace("&&", " and ").replace("||", " or ").replace("!(", " not (")


def run(lines: list[str], known: dict) -> dict:
    """Execute the assignments and choices of a text; what is assigned, by the text of its target."""
    code = ["_ = {}"]
    for line in lines:
        indent, text = " " * (len(line) - len(line.lstrip())), line.strip()
        if text in ("}", "end", ""):
            continue
        if found := re.fullmatch(r"(?:\} )?(if|else if|elseif) \(?(.*?)\)?(?: \{)?", text):
            head, test = found[1], found[2]
            test = text.split(" ", 1)[1].removesuffix(" {") if head == "if" else text.split("if ", 1)[1].removesuffix(" {")
            code.append(f"{indent}{'if' if head == 'if' else 'elif'} {python_of(test)}:")
        elif re.fullmatch(r"(\} )?else( \{)?", text):
            code.append(f"{indent}else:")
        elif (parts := re.split(r" <- | = ", text, maxsplit=1)) and len(parts) == 2:
            target, value = parts[0], python_of(parts[1].split(";")[0])
            code.append(f'{indent}_["{target}"] = ' + (f"{target} = " if target.isidentifier() else "") + value)
    space = dict(FUNCTIONS) | known
    base = min((len(c) - len(c.lstrip()) for c in code[1:]), default=0)
    exec("\n".join([code[0], *(c[base:] for c in code[1:])]), space)
    return space["_"]


def numbers(name: str) -> dict:
    """A model of the table at random effects, covariates, amounts and a time: what it is made of there."""
    model = lay_out(CASES[name].model, CASES[name].population).model
    anatomy = anatomy_of(model)
    eta = {word: 0.1 * (k + 1) for k, word in enumerate(anatomy.words)}
    cov = {word: value for word, value in zip(anatomy.covariates, (64.0, 1.0, 2.0, 51.0), strict=False)}
    if anatomy.covariates == ("wt", "age"):
        cov["age"] = 51.0
    amounts = {state: 3.0 + 2.0 * k for k, state in enumerate(anatomy.states)}
    told = {word: jnp.asarray(value) for word, value in cov.items()}
    ind = individual_row(model, named("random effect", anatomy.words, list(eta.values())), Named(told, "covariate"))
    structure = structure_of(model, ind)
    found = {"model": model, "eta": eta, "cov": cov, "amounts": amounts, "rates": {}, "rules": {}, "start": {}}
    if structure is not None:
        body = structure if isinstance(structure, ODE) else as_linear(structure)
        found["rates"] = dict(zip(structure.states, body.flow(T, tuple(amounts.values())), strict=True))
        found["rules"] = {(rule, state): x for rule in DOSE_RULES for state, x in structure.rule(rule).items()}
        found["start"] = getattr(body, "initial", None) or {}
    state = jnp.asarray(list(amounts.values())) if amounts else jnp.zeros(0)
    found["observed"] = observation_row(model, ind, anatomy.states, state, T)
    return found


def close(a, b) -> None:
    assert float(a) == pytest.approx(float(b), rel=1e-9)


# -- nlmixr2 -------------------------------------------------------------------------------------------------------

NOT_IN_NLMIXR2 = {"mixture": "subpopulations", "left out": "M1", "interval": "interval", "event": "several records"}


def block_of(text: str, name: str) -> list[str]:
    inside = text.split(f"  {name}({{\n", 1)[1].split("\n  })", 1)[0]
    return inside.splitlines()


def initial_values(lines: list[str]) -> tuple[dict[str, float], dict[str, str]]:
    """Fixed effects and the texts of the random effects' variances."""
    values, effects = {}, {}
    for line in lines:
        if " ~ " in line:
            left, right = line.strip().split(" ~ ")
            effects[left] = right
            continue
        name, value = line.split("; label(")[0].strip().split(" <- ")
        value = re.sub(r"^fixed\((.*)\)$", r"\1", value)
        if value.startswith("c("):
            value = value[2:-1].split(", ")[1]
        values[name] = float(eval(value, dict(FUNCTIONS)))
    return values, effects


@pytest.mark.parametrize("name", cases(NOT_IN_NLMIXR2))
def test_nlmixr2_computes_the_same(name):
    case = CASES[name]
    out = nlme.to_nlmixr2(case.model, population=case.population)
    values, effects = initial_values(block_of(out.text, "ini"))
    here = numbers(name)
    words = [w for left in effects for w in left.split(" + ")]
    etas = {}
    for word, value in here["eta"].items():
        plain = word.removesuffix("_occ")
        etas[f"iov_{plain}" if word.endswith("_occ") else f"eta_{plain}"] = value
    assert sorted(etas) == sorted(words)
    lines = block_of(out.text, "model")
    y = 1.0 if name == "binary" else Y
    given = values | etas | here["cov"] | here["amounts"] | {"t": T, "DV": y}
    found = run([line for line in lines if " ~ " not in line], given)
    for state, rate in here["rates"].items():
        close(found[f"d/dt({state})"], rate)
    for state, x in here["start"].items():
        close(found[f"{state}(0)"], x)
    for (rule, state), x in here["rules"].items():
        close(found[f"{RULES[rule]}({state})"], x)
    laws = dict(line.strip().split(" ~ ") for line in lines if " ~ " in line)
    assert len(laws) == len(here["observed"])
    for (endpoint, observed), (left, right) in zip(here["observed"].items(), laws.items(), strict=True):
        if left.startswith("ll("):
            terms = observed.terms(Record(jnp.asarray(y), jnp.asarray(0.0), jnp.asarray(jnp.nan)))
            if endpoint == "event":  # D is that since 0
                continue
            close(found[right], terms.log_factor)
        else:
            close(found[left], observed.prediction())
    assert out.text.count("(") == out.text.count(")") and out.text.count("{") == out.text.count("}")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "why"), NOT_IN_NLMIXR2.items())
def test_what_nlmixr2_cannot_say_is_refused(name, why):
    with pytest.raises(ModelError, match=f"cannot be written for nlmixr2: .*{why}"):
        nlme.to_nlmixr2(CASES[name].model, population=CASES[name].population)


def test_a_script_as_one_would_write_it(tmp_path):
    out = nlme.to_nlmixr2(Theophylline(), tmp_path / "theo.R", population=nlme.datasets.load("theophylline")[:2], fixed=["prop"])
    assert [f.name for f in out.files] == ["theo.R", "theo_nlmixr2.csv"]
    assert out.text.splitlines()[2:] == [
        "library(nlmixr2)",
        "",
        "theophylline <- function() {",
        "  ini({",
        '    lka <- log(1.567); label("Absorption rate constant [1/h]")',
        '    lcl <- log(2.77); label("Clearance / F [L/h]")',
        '    lv <- log(31.475); label("Volume / F [L]")',
        '    add_pop <- c(0, 0.433); label("Additive error [mg/L]")',
        '    prop_pop <- fixed(0.054); label("Proportional error")',
        "    eta_ka ~ 0.388",
        "    eta_cl ~ 0.07",
        "    eta_v ~ 0.015",
        "  })",
        "  model({",
        "    ka <- exp(lka + eta_ka)",
        "    cl <- exp(lcl + eta_cl)",
        "    v <- exp(lv + eta_v)",
        "    d/dt(depot) <- -ka*depot",
        "    d/dt(central) <- -(cl/v)*central + ka*depot",
        "    conc <- central/v",
        "    conc ~ add(add_pop) + prop(prop_pop) + combined2()",
        "  })",
        "}",
        "",
        'data <- read.csv("theo_nlmixr2.csv", na.strings = ".")',
        'fit <- nlmixr2(theophylline, data, est = "focei",',
        '               control = foceiControl(rxControl = rxControl(covsInterpolation = "nocb")))',
    ]
    assert (tmp_path / "theo_nlmixr2.csv").read_text().splitlines()[:3] == [
        "ID,TIME,DV,EVID,MDV,AMT,CMT", "1,0,.,1,1,319.992,depot", "1,0,0.74,0,0,0,conc",
    ]  # fmt: skip


def test_blocks_and_occasions_of_nlmixr2():
    out = nlme.to_nlmixr2(CASES["occasions"].model, population=CASES["occasions"].population)
    assert "iov_cl + iov_v ~ c(0.02, 0.005, 0.03) | OCC" in out.text and "eta_cl ~ 0.09" in out.text


# -- Monolix -------------------------------------------------------------------------------------------------------

NOT_IN_MONOLIX = {
    "mixture": "subpopulations", "left out": "M1", "varying covariates": "changes in time", "variance": "error model",
    "boxcox": "error model", "student": "error model", "own": "error model", "event": "error model", "event once": "error model",
    "switched": "event times", "duration in the data": "bioavailability", "duration": "the rate of doses",
    "logitnormal": "sd of the endpoint", "below, log": "sd of the endpoint", "below, proportional": "prop of the endpoint",
}  # fmt: skip


def section(text: str, head: str) -> list[str]:
    """The lines below a heading, up to the next one."""
    lines = text.split(f"{head}\n", 1)[1].splitlines()
    end = next((k for k, line in enumerate(lines) if re.match(r"(\[|<|[A-Z]+:$)", line)), len(lines))
    return [line for line in lines[:end] if line.strip()]


@pytest.mark.parametrize("name", cases(NOT_IN_MONOLIX))
def test_monolix_computes_the_same(name):
    case = CASES[name]
    out = nlme.to_monolix(case.model, population=case.population)
    project, model = out.texts["run1.mlxtran"], out.texts["run1_model.txt"]
    values = {}
    for line in section(project, "<PARAMETER>"):
        found = re.fullmatch(r"(\w+) = \{value=([^,]+), method=(MLE|FIXED)\}", line)
        values[found[1]] = float(found[2])
    here = numbers(name)
    individual, used = {}, []
    for line in section(project.split("[INDIVIDUAL]")[1], "DEFINITION:"):
        found = re.fullmatch(r"(\w+) = \{distribution=(\w+), (?:min=[^,]+, max=[^,]+, )?typical=(\w+), (.*)\}", line)
        if found is None:
            assert line.startswith("correlation = {level=")
            continue
        spreads = re.findall(r"(?:omega|gamma)_\w+", found[4])
        used += spreads
        eta = sum(
            here["eta"][s.removeprefix("omega_").removeprefix("eta_") if s.startswith("omega_") else f"{s[6:]}_occ"]
            for s in spreads
        )
        typical = values[found[3]]
        individual[found[1]] = {"logNormal": typical * math.exp(eta), "normal": typical + eta, "logitNormal": typical}[found[2]]
        assert found[2] != "logitNormal" or not spreads
    assert len(used) == len(here["eta"])
    inputs = re.search(r"input = \{(.*)\}", model)[1].split(", ")
    assert sorted(inputs) == sorted([*individual, *here["cov"]])
    state_of = dict(zip(re.findall(r"ddt_(\w+) =", model), here["amounts"], strict=True))
    amounts = {word: here["amounts"][state] for word, state in state_of.items()}
    found = run(section(model, "EQUATION:"), individual | here["cov"] | amounts | {"t": T})
    for word, state in state_of.items():
        close(found[f"ddt_{word}"], here["rates"][state])
        assert (f"{word}_0" in found) == (state in here["start"])
        if state in here["start"]:
            close(found[f"{word}_0"], here["start"][state])
    for line in section(model, "PK:") if "PK:\n" in model else ():
        told = dict(part.split("=") for part in re.fullmatch(r"depot\((.*)\)", line)[1].split(", "))
        for word, rule in (("Tlag", "lag"), ("p", "bioavailability"), ("Tk0", "duration")):
            if word in told:
                close(eval(python_of(told[word]), dict(FUNCTIONS) | individual), here["rules"][rule, state_of[told["target"]]])
    outputs = re.search(r"output = \{(.*)\}", model)[1].split(", ")
    for (endpoint, observed), word in zip(here["observed"].items(), outputs, strict=True):
        if endpoint != "count":
            close(found[word], observed.prediction())
        else:
            _close_probabilities(model, word, found, observed)


def _close_probabilities(model: str, word: str, found: dict, observed) -> None:
    definition = next(line for line in section(model, "DEFINITION:") if line.startswith(word))
    density = observed.terms(Record(jnp.asarray(Y), jnp.asarray(0.0), jnp.asarray(jnp.nan))).log_factor
    if "type=count" in definition:
        formula = definition.split(f"log(P({word}=k)) = ")[1][:-1]
        close(eval(python_of(formula), dict(FUNCTIONS) | found | {"k": Y}), density)
        return
    last = int(Y) if f"P({word}={int(Y)})" in definition else 1
    formula = re.search(rf"P\({word}={last}\)=([^,}}]+)", definition)[1]
    density = observed.terms(Record(jnp.asarray(float(last)), jnp.asarray(0.0), jnp.asarray(jnp.nan))).log_factor
    close(eval(formula, dict(found)), np.exp(density))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "why"), NOT_IN_MONOLIX.items())
def test_what_monolix_cannot_say_is_refused(name, why):
    with pytest.raises(ModelError, match=f"(?s)cannot be written for Monolix: .*{why}"):
        nlme.to_monolix(CASES[name].model, population=CASES[name].population)


def test_a_project_as_monolix_writes_it(tmp_path):
    out = nlme.to_monolix(Theophylline(), tmp_path, population=nlme.datasets.load("theophylline")[:2], fixed=["prop"])
    assert [f.name for f in out.files] == ["run1.mlxtran", "run1_model.txt", "run1_monolix.csv"]
    assert out.texts["run1_model.txt"].splitlines()[2:] == [
        "[LONGITUDINAL]",
        "input = {ka, cl, v}",
        "",
        "PK:",
        "depot(adm=1, target=depot_cmt)",
        "",
        "EQUATION:",
        "ddt_depot_cmt = -ka*depot_cmt",
        "ddt_central = -(cl/v)*central + ka*depot_cmt",
        "conc = central/v",
        "",
        "OUTPUT:",
        "output = {conc}",
    ]
    assert out.text.splitlines()[3:] == [
        "<DATAFILE>", "", "[FILEINFO]", "file='run1_monolix.csv'", "delimiter = comma", "header={ID, TIME, AMT, ADM, EVID, DV}", "",
        "[CONTENT]", "ID = {use=identifier}", "TIME = {use=time}", "AMT = {use=amount}", "ADM = {use=administration}",
        "EVID = {use=eventidentifier}", "DV = {use=observation, name=y_conc, type=continuous}", "",
        "<MODEL>", "", "[INDIVIDUAL]", "input = {ka_pop, omega_ka, cl_pop, omega_cl, v_pop, omega_v}", "", "DEFINITION:",
        "ka = {distribution=logNormal, typical=ka_pop, sd=omega_ka}", "cl = {distribution=logNormal, typical=cl_pop, sd=omega_cl}",
        "v = {distribution=logNormal, typical=v_pop, sd=omega_v}", "", "[LONGITUDINAL]", "input = {add, prop}", "",
        "file = 'run1_model.txt'", "", "DEFINITION:",
        "y_conc = {distribution=normal, prediction=conc, errorModel=combined2(add, prop)}", "",
        "<FIT>", "data = {y_conc}", "model = {y_conc}", "", "<PARAMETER>",
        "ka_pop = {value=1.567, method=MLE}", "cl_pop = {value=2.77, method=MLE}", "v_pop = {value=31.475, method=MLE}",
        "add = {value=0.433, method=MLE}", "prop = {value=0.054, method=FIXED}",
        f"omega_ka = {{value={math.sqrt(0.388):.15g}, method=MLE}}", f"omega_cl = {{value={math.sqrt(0.07):.15g}, method=MLE}}",
        f"omega_v = {{value={math.sqrt(0.015):.15g}, method=MLE}}", "",
        "<MONOLIX>", "", "[TASKS]", "populationParameters()", "individualParameters(method = {conditionalMean, conditionalMode })",
        "fim(method = StochasticApproximation)", "logLikelihood(method = ImportanceSampling)", "", "[SETTINGS]", "GLOBAL:",
        "exportpath = 'run1'",
    ]  # fmt: skip


def test_levels_and_correlations_of_monolix():
    text = nlme.to_monolix(CASES["occasions"].model, population=CASES["occasions"].population).text
    assert "cl = {distribution=logNormal, typical=cl_pop, varlevel={id, id*OCC}, sd={omega_cl, gamma_cl}}" in text
    assert "correlation = {level=id*OCC, r(cl, v)=corr_v_cl_occ}" in text and "OCC = {use=occasion}" in text
    text = nlme.to_monolix(CASES["two"].model, population=CASES["two"].population).text
    assert "correlation = {level=id, r(cl, v)=corr_v_cl}" in text


@pytest.mark.slow
def test_command_line(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from nlme.cli import app

    monkeypatch.chdir(tmp_path)
    case = CASES["one"]
    at = nlme.evaluate(case.model, case.population, nlme.FOCEI())
    monkeypatch.setattr(nlme, "load", lambda path, model=None: at)
    for program, files in (("nonmem", ["run1.mod", "run1_nonmem.csv"]), ("nlmixr2", ["run1.R", "run1_nlmixr2.csv"]),
                           ("Monolix", ["run1.mlxtran", "run1_model.txt", "run1_monolix.csv"])):  # fmt: skip
        done = CliRunner().invoke(app, ["export", "run.nlme", "--to", program, "--out", program])
        assert done.exit_code == 0, done.output
        assert sorted(p.name for p in (tmp_path / program).glob("run1*")) == sorted(files) and "written to" in done.output
    done = CliRunner().invoke(app, ["export", "run.nlme", "--to", "phoenix"])
    assert done.exit_code != 0 and "nonmem, nlmixr2, monolix" in done.output + str(done.stderr)


def test_nothing_is_written_without_a_path():
    out = nlme.to_nlmixr2(One(), population=CASES["one"].population)
    assert not out.files and "not written" in repr(out)
