"""The command ``nlme``: demo, check, fit, describe.

Exit codes: 0 done; 1 the data, the model or the fit would not do (one block on stderr says why); 2 the command was not
understood; 3 the fit was written but did not converge.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import shutil
import sys
import textwrap
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

import nlme
from nlme.errors import DataError, FitError, ModelError, NLMEError, name_error

NOT_CONVERGED = 3
METHODS = {
    "fo": "FO", "foce": "FOCE", "focei": "FOCEI", "laplace": "Laplace", "agq": "AGQ", "imp": "ImportanceSampling",
}  # fmt: skip
_TITLES = {DataError: "Data error", ModelError: "Model error", FitError: "Fit error"}

app = typer.Typer(
    name="nlme",
    help="Nonlinear mixed-effects pharmacometrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point of the console script."""
    app()


def _reported(command: Callable) -> Callable:
    """Turn errors of a command into one readable block on stderr and exit code 1; ``--debug`` shows the traceback instead."""

    @functools.wraps(command)
    def run(*args, debug: bool = False, **options):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("default")
                try:
                    return command(*args, **options)
                finally:
                    for warning in caught:
                        if issubclass(warning.category, UserWarning):
                            _block("Warning", str(warning.message), "yellow")
        except NLMEError as error:
            if debug:
                raise
            title = next((title for kind, title in _TITLES.items() if isinstance(error, kind)), "Error")
            _block(title, str(error), "red")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _block("Interrupted", "Nothing was written.", "yellow")
            raise typer.Exit(130) from None
        except Exception as error:
            if debug or isinstance(error, (typer.Exit, typer.BadParameter)) or type(error).__name__ in ("UsageError", "Abort"):
                raise
            _block("Unexpected error", _where(error) + "\nRun again with --debug for the full traceback.", "red")
            raise typer.Exit(1) from None

    signature = inspect.signature(command, eval_str=True)
    option = inspect.Parameter(
        "debug",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")],
    )
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])
    run.__annotations__ = {name: parameter.annotation for name, parameter in run.__signature__.parameters.items()}
    return run


def _block(title: str, message: str, colour: str) -> None:
    """Title and message on stderr, the message indented and never wrapped inside a word or a number."""
    typer.secho(f"\n{title}", fg=colour, bold=True, err=True)
    typer.echo(textwrap.indent(message.rstrip(), "  "), err=True)


def _where(error: BaseException) -> str:
    """'NameError: name 'jnp' is not defined (model.py, line 12)': the deepest place outside installed packages."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    library = str(Path(nlme.__file__).parent)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and not frame.filename.startswith((library, "<", sys.base_prefix)):
            return f"{text}\n({frame.filename}, line {frame.lineno}: {frame.line})"
    return text


# -- options ----------------------------------------------------------------------------------------------------------


def _names(text: str | None) -> list[str]:
    """'wt,age' -> ['wt', 'age']."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _pairs(text: str | None, option: str, need_value: bool = True) -> dict[str, str | None]:
    """'wt=kg,age=years' -> {'wt': 'kg', 'age': 'years'}; a bare name maps to None where that is allowed."""
    found: dict[str, str | None] = {}
    for part in _names(text):
        name, equals, value = part.partition("=")
        if need_value and not (equals and value.strip()):
            raise typer.BadParameter(f"expected name=value pairs separated by commas; got {part!r}", param_hint=option)
        found[name.strip()] = value.strip() or None
    return found


def _number(text: str) -> int | float | str:
    """The number a text stands for, the text itself where it stands for none."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


Data = Annotated[Path, typer.Argument(metavar="DATA", help="NONMEM-style data file.", show_default=False)]
ModelFile = Annotated[
    str, typer.Argument(metavar="MODEL", help="Python file with an nlme.Model, or file.py:Name.", show_default=False)
]

#: options of every command that reads data -> what they say
READING = {
    "covariates": "Covariate columns, with units if you like: wt=kg,age=years",
    "time_varying": "Covariates that change within a subject, or 'auto'.",
    "interpolation": "What holds between records of a covariate: nocb, locf or linear; or wt=linear,crcl=locf",
    "categories": "Words of categorical covariates in the order of their numbers: sex=male|female,race=white|black|other",
    "fill": "What to do about missing covariates: locf, nocb, a number; or wt=nocb,sex=male",
    "dvid": "Endpoint of each DVID value: 1=conc,2=effect",
    "rename": "Columns under other names: CONC=DV,SUBJECT=ID",
    "compartments": "The model's compartments, to check CMT: depot,central or their number.",
    "allow": "Rules whose violations only warn: 'duplicated record'",
    "ignore": "Leave out rows that start with this character; @ for any letter.",
    "decimal": "Decimal mark, a comma in much of Europe.",
    "separator": "Character between columns, when it is not found by itself.",
}


def _reads_data(command):
    """Give ``command`` the options of ``READING``; it gets them together as ``reading``."""

    @functools.wraps(command)
    def run(**arguments):
        reading = {name: arguments.pop(name) for name in READING}
        return command(**arguments, reading=reading)

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "reading"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default="", annotation=Annotated[str, typer.Option(help=text)])
        for name, text in READING.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *options])
    return run


def _arguments(reading: dict[str, str], declared: dict | None = None) -> dict[str, Any]:
    """Arguments of ``read_nonmem`` from the options; the covariates that a model declares need not be named again."""

    def of_each(name, value=lambda text: text):
        """One value for all covariates, or one for each."""
        text = reading[name]
        if "=" in text:
            return {key: value(part) for key, part in _pairs(text, "--" + name).items()}
        return value(text) if text else None

    wanted = {**(declared or {}), **_pairs(reading["covariates"], "--covariates", need_value=False)}
    varying = reading["time_varying"]
    compartments = _number(reading["compartments"])
    return dict(
        covariates=wanted or None,
        time_varying=varying if varying == "auto" else _names(varying) or None,
        categories={name: words.split("|") for name, words in _pairs(reading["categories"], "--categories").items()} or None,
        fill=of_each("fill", _number),
        dvid={_number(code): name for code, name in _pairs(reading["dvid"], "--dvid").items()} or None,
        rename=_pairs(reading["rename"], "--rename") or None,
        compartments=(compartments if isinstance(compartments, int) else _names(compartments)) or None,
        allow=_names(reading["allow"]),
        ignore=reading["ignore"] or None,
        decimal=reading["decimal"] or ".",
        separator=reading["separator"] or None,
    )


def _interpolation(reading: dict[str, str]) -> dict[str, str] | str | None:
    text = reading["interpolation"]
    return (_pairs(text, "--interpolation") if "=" in text else text) or None


def load_model(where: str):
    """The model class in a Python file.

    Parameters
    ----------
    where : "path/to/file.py", or "path/to/file.py:Name" to choose one of several

    Raises
    ------
    ModelError
        No such file, a file that does not run, no model in it, several and none chosen.
    """
    text, _, name = where.rpartition(":") if where.rpartition(":")[0].endswith(".py") else (where, "", "")
    path = Path(text)
    if not path.is_file():
        raise ModelError(f"There is no file {text!r}. Give the path of a Python file that defines a subclass of nlme.Model.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{text} is not a Python file (its name must end in .py).")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses and pickle look a class up by the name of its module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except NLMEError:
        raise
    except SyntaxError as error:
        raise ModelError(f"{text}, line {error.lineno}: {error.msg}\n    {(error.text or '').strip()}") from error
    except Exception as error:
        raise ModelError(f"{text} does not run.\n{_where(error)}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    found = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, nlme.Model) and value.__module__ == module.__name__
    }
    if name:
        if name not in found:
            raise ModelError(name_error("model", name, found, text))
        return found[name]
    if not found:
        raise ModelError(f"{text} defines no subclass of nlme.Model. A model starts with:  class Name(nlme.Model):")
    if len(found) > 1:
        raise ModelError(f"{text} defines several models: {', '.join(found)}. Choose one, for example {text}:{next(iter(found))}")
    return next(iter(found.values()))


# -- commands ---------------------------------------------------------------------------------------------------------


@app.command()
@_reported
def demo(out: Annotated[Path, typer.Option(help="Folder for tables, pictures and reports.")] = Path("nlme-demo")) -> None:
    """Fit real clinical trials: parameter tables, pictures and an HTML report."""
    from nlme.demo import run

    run(out)


@app.command()
@_reported
@_reads_data
def check(data: Data, *, reading: dict) -> None:
    """List everything that is wrong with a data set, with row numbers and remedies."""
    report = nlme.check(data, **_arguments(reading))
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
@_reported
def describe(model: ModelFile) -> None:
    """Show a model's parameters, domains, units, random effects, inputs and outputs; no data needed."""
    chosen = load_model(model)
    typer.echo(str(nlme.describe(chosen())))


@app.command()
@_reported
@_reads_data
def fit(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for what the fit writes.", show_default="MODEL-fit")] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "focei",
    fixed: Annotated[str, typer.Option(help="Parameters to hold fixed: ka,omega.cl")] = "",
    start: Annotated[str, typer.Option(help="Starting values: cl=2.5,v=30")] = "",
    units: Annotated[str, typer.Option(help="Units for the axes of pictures: conc=mg/L,time=h")] = "",
    *,
    reading: dict,
) -> None:
    """Fit a model to a data set; write parameters, predictions, pictures, a report and the fit itself."""
    if method.lower() not in METHODS:
        raise typer.BadParameter(f"{method!r} is none of: {', '.join(METHODS)}", param_hint="--method")
    values = {name: _value(name, text) for name, text in _pairs(start, "--start").items()}
    chosen = load_model(model)
    instance = chosen(**values)
    declared = chosen.covariates if isinstance(chosen.covariates, dict) else dict.fromkeys(chosen.covariates)
    population = nlme.read_nonmem(data, **_arguments(reading, declared), interpolation=_interpolation(reading))
    result = nlme.fit(instance, population, getattr(nlme, METHODS[method.lower()])(), fixed=_names(fixed))
    folder = out or Path(f"{chosen.__name__.lower()}-fit")
    written = write(result, folder, units=_pairs(units, "--units"))
    source = Path(inspect.getfile(chosen))
    if source.resolve().parent != folder.resolve():
        shutil.copy(source, folder)  # nlme.load, run in the folder, finds the model's class there
    written.append(source.name)
    typer.echo(repr(result.table()))
    typer.echo(f"\n{result.verdict}")
    for message in result.messages:
        if message not in result.verdict:
            typer.echo(f"  ! {message}")
    typer.echo(f"\nWritten to {folder}: {', '.join(written)}")
    if not result.converged:
        raise typer.Exit(NOT_CONVERGED)


def _value(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"the starting value of {name} must be a number; got {text!r}", param_hint="--start") from None


def write(fit, folder: Path, units: dict[str, str] | None = None) -> list[str]:
    """Everything a fit has to show, into a folder; the names of what was written."""
    from nlme import plots

    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    table = fit.table()
    table.to_csv(folder / "parameters.csv")
    table.to_markdown(folder / "parameters.md")
    table.to_html(folder / "parameters.html")
    table.to_latex(folder / "parameters.tex")
    table.to_rtf(folder / "parameters.rtf")
    fit.predictions.to_csv(folder / "predictions.csv", index=False)
    fit.individual.join(fit.eta.add_prefix("eta_")).to_csv(folder / "individual.csv")
    if fit.layout.sites is not None:
        fit.sites.to_csv(folder / "sites.csv")
    nlme.report(fit, folder / "report.html", units=units)
    plots.goodness_of_fit(fit, units=units).savefig(figures / "goodness_of_fit.png")
    plots.individual_fits(fit, units=units).savefig(figures / "individual_fits.png")
    plots.objective_history(fit).savefig(figures / "objective_history.png")
    if fit.eta.shape[1]:
        plots.eta_distributions(fit).savefig(figures / "eta_distributions.png")
        if fit.population.covariates:
            plots.eta_covariates(fit).savefig(figures / "eta_covariates.png")
    fit.save(folder / "fit.nlme")
    return ["report.html", "parameters (.csv .md .html .tex .rtf)", "predictions.csv", "individual.csv", "figures/", "fit.nlme"]


if __name__ == "__main__":
    main()
