"""The commands themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli import options
from nlme.cli.errors import reported
from nlme.cli.options import arguments_of, reads_data
from nlme.cli.output import in_every_format, keep, require_writable, write
from nlme.errors import FitError
from nlme.language.files import load_model
from nlme.language.model import covariate_units
from nlme.parameters.inventory import Inventory
from nlme.tables import formats
from nlme.versions import versions

NOT_CONVERGED = 3

app = typer.Typer(
    name="nlme",
    help="Nonlinear mixed-effects pharmacometrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="NONMEM-style data file.", show_default=False)]
ModelFile = Annotated[
    str, typer.Argument(metavar="MODEL", help="Python file with an nlme.Model, or file.py:Name.", show_default=False)
]
FitFile = Annotated[
    Path, typer.Argument(metavar="FIT", help="A fit: the folder that nlme fit wrote, or its fit.nlme.", show_default=False)
]
Key = Annotated[int, typer.Option(help="Seed; the same gives the same numbers.")]
Units = Annotated[str, typer.Option(help="Units for pictures and report: conc=mg/L,time=h,dose=mg")]


def main() -> None:
    """Entry point of the console script."""
    app()


def _version(asked: bool) -> None:
    if asked:
        found = versions()
        others = ", ".join(f"{name} {found[name]}" for name in ("jax", "equinox", "numpy", "python"))
        typer.echo(f"nlme {found['nlme']} ({others})")
        raise typer.Exit()


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
):
    """Nonlinear mixed-effects pharmacometrics."""


@app.command()
@reported
def demo(out: Annotated[Path, typer.Option(help="Folder for tables, pictures and reports.")] = Path("nlme-demo")) -> None:
    """Fit real clinical trials: parameter tables, pictures and an HTML report."""
    from nlme.demo import run

    run(out)


@app.command()
@reported
@reads_data
def check(data: Data, *, reading: dict) -> None:
    """List everything that is wrong with a data set, with row numbers and remedies."""
    report = nlme.check(data, **arguments_of(reading))
    typer.echo(str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
@reported
def describe(model: ModelFile) -> None:
    """Show a model's parameters, domains, units, random effects, inputs and outputs; no data needed."""
    chosen = load_model(model)
    typer.echo(str(nlme.describe(chosen())))


@app.command()
@reported
@reads_data
def fit(
    model: ModelFile,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for what the fit writes.", show_default="MODEL-fit")] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(options.METHODS)}.")] = "focei",
    method_options: Annotated[
        str, typer.Option("--options", help="The method's own: points=5, or chains=3,smoothing=400-2000,seed=7")
    ] = "",
    fixed: Annotated[str, typer.Option(help="Parameters to hold fixed: ka,omega.cl")] = "",
    start: Annotated[str, typer.Option(help="Starting values: cl=2.5,omega.cl=0.1")] = "",
    start_from: Annotated[Path, typer.Option(help="Another fit, whose values are taken where names agree.")] = None,
    units: Units = "",
    *,
    reading: dict,
) -> None:
    """Fit a model to a data set; write parameters, predictions, pictures, a report and the fit itself."""
    by, values = options.method_of(method, method_options), options.starting_values(start)
    chosen = load_model(model)
    folder = out or Path(f"{chosen.__name__.lower()}-fit")
    require_writable(folder)
    instance = chosen() if start_from is None else chosen.from_fit(_estimates(start_from))
    instance = Inventory(instance).with_values(instance, values)
    named_units = options.pairs(units, "--units")
    population = _population(data, reading, instance)
    result = nlme.fit(instance, population, by, fixed=options.names(fixed))
    keep(result, folder)
    typer.echo(repr(result.table()))
    _say(result)
    typer.echo(f"\nWritten to {folder}: {', '.join(write(result, folder, units=named_units))}")
    if not result.converged:
        raise typer.Exit(NOT_CONVERGED)


@app.command()
@reported
def report(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]", help="Python file with the nlme.Model; found by its name when left out.", show_default=False
        ),
    ],
    fit: Annotated[
        Path, typer.Argument(metavar="FIT", help="A fit: the folder that nlme fit wrote, or its fit.nlme.", show_default=False)
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder to write to (that of the fit by default), or one .html or .docx file.", show_default=False),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the report; the model's name by default.")] = "",
    units: Units = "",
) -> None:
    """Write the tables, pictures and report of a saved fit again; with --out x.docx or x.html the report alone."""
    saved = _file(Path(model) if fit is None else fit)
    found = nlme.load(saved, model=None if fit is None else load_model(model))
    named_units = options.pairs(units, "--units")
    if out is not None and out.suffix and not out.is_dir():
        require_writable(out.parent)
        written = nlme.report(found, out, title=title or None, units=named_units)
        _say(found)
        typer.echo(f"\nWritten to {written}")
        return
    folder = out or saved.parent
    require_writable(folder)
    names = write(found, folder, units=named_units, title=title or None)
    _say(found)
    typer.echo(f"\nWritten to {folder}: {', '.join(name for name in names if name != 'fit.nlme')}")


@app.command()
@reported
def bootstrap(
    model: ModelFile,
    fit: FitFile,
    replicates: Annotated[int, typer.Option(help="How many refits.")] = 200,
    key: Key = 1,
    stratify: Annotated[str, typer.Option(help="A covariate within whose values subjects are drawn.")] = "",
    parametric: Annotated[bool, typer.Option("--parametric", help="Simulate data instead of resampling subjects.")] = False,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    out: Annotated[Path, typer.Option(help="Folder to write to; that of the fit by default.", show_default=False)] = None,
) -> None:
    """Refit a saved fit to resampled subjects; write the replicates and the parameter table with their intervals."""
    found = nlme.load(_file(fit), model=load_model(model))
    folder = out or _file(fit).parent
    require_writable(folder)
    boot = nlme.bootstrap(found, replicates, key=key, stratify=stratify or None, parametric=parametric)
    folder.mkdir(parents=True, exist_ok=True)
    formats.csv(boot.replicates, folder / "bootstrap_replicates.csv")
    in_every_format(boot, folder / "bootstrap")
    table = nlme.table(found, intervals=boot, level=level)
    in_every_format(table, folder / "parameters_bootstrap")
    typer.echo(repr(table))
    typer.echo(f"\nWritten to {folder}: bootstrap_replicates.csv, bootstrap and parameters_bootstrap (.csv .md .html .tex .rtf)")


@app.command()
@reported
@reads_data
def simulate(
    model: ModelFile,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FIT|DATA", help="A fit (folder or fit.nlme), or data whose design is simulated.", show_default=False
        ),
    ],
    replicates: Annotated[int, typer.Option(help="Number of simulated data sets.")] = 1,
    key: Key = 1,
    eta: Annotated[str, typer.Option(help="Random effects: new, typical, or (of a fit's own subjects) estimated.")] = "new",
    noise: Annotated[bool, typer.Option(help="Add residual error.")] = True,
    design: Annotated[Path, typer.Option(help="Simulate a fit's model on these data instead of its own.")] = None,
    start: Annotated[str, typer.Option(help="Values of parameters: cl=2.5,omega.cl=0.1")] = "",
    fixed_form: Annotated[
        bool,
        typer.Option(
            "--long", help="One row per simulated value with prediction and random effects, instead of whole data sets."
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("simulated.csv"),
    *,
    reading: dict,
) -> None:
    """Simulate data sets from a fit, or from a model with its own values."""
    require_writable(out.parent)
    chosen, values = load_model(model), options.starting_values(start)
    if _is_fit(source):
        found = nlme.load(_file(source), model=chosen)
        instance, population = found.model, found.population
    else:
        found, instance, population = None, chosen(), None
        design = design or source
    instance = Inventory(instance).with_values(instance, values)
    if design is not None:
        population = _population(design, reading, instance)
    given = found if found is not None and not values else instance
    frame = nlme.simulate(given, population, key=key, eta=eta, replicates=replicates, noise=noise, as_data=not fixed_form)
    out.parent.mkdir(parents=True, exist_ok=True)
    formats.csv(frame, out, index=False, na_rep=".")
    typer.echo(
        f"Written to {out}: {replicates} data set{'s' if replicates > 1 else ''} of {len(population)} subjects, {len(frame):,} rows."
    )


def _population(data: Path, reading: dict, model) -> nlme.Population:
    declared = {name: unit or None for name, unit in covariate_units(model).items()}
    return nlme.read_nonmem(data, **arguments_of(reading, declared))


def _say(fit) -> None:
    """The verdict, and the messages that are not in it."""
    typer.echo(f"\n{fit.verdict}")
    for message in fit.messages:
        if message not in fit.verdict:
            typer.echo(f"  ! {message}")


def _is_fit(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".nlme"


def _file(path: Path) -> Path:
    """The saved fit that a path means.

    Raises
    ------
    FitError
        A folder without one.
    """
    if not path.is_dir():
        return path
    if not (path / "fit.nlme").is_file():
        raise FitError(f"There is no fit.nlme in {path}: it is what `nlme fit MODEL DATA` writes.")
    return path / "fit.nlme"


def _estimates(path: Path) -> dict[str, float]:
    """The estimates of a saved fit by name, without its model."""
    from nlme.fitting.storage import estimates_in

    return estimates_in(_file(path))
