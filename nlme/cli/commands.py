"""The commands themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli import options
from nlme.cli.errors import reported
from nlme.cli.options import arguments_of, reads_data
from nlme.cli.output import in_every_format, keep, require_writable, write
from nlme.diagnostics.replicated import endpoints_of
from nlme.errors import FitError
from nlme.language.files import load_model
from nlme.language.model import covariate_units
from nlme.parameters.inventory import Inventory
from nlme.tables import formats
from nlme.versions import versions

NOT_CONVERGED = 3
DISAGREES = 4

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
def qualify(
    out: Annotated[Path, typer.Option(help="Folder for qualification.html and .json.")] = Path("nlme-qualification"),
    full: Annotated[bool, typer.Option("--full", help="The cases that take minutes too.")] = False,
    cases: Annotated[
        Path, typer.Option(help="A folder with a case of your own (case.json, case.py, data.csv), or with several.")
    ] = None,
    only: Annotated[str, typer.Option(help="Names of the cases wanted: steady-state,censored")] = "",
) -> None:
    """Run cases with known answers on this machine and write the page about it; exit code 1 where one fails."""
    from nlme.qualify import qualify as run

    require_writable(out)
    names = [name.strip() for name in only.split(",") if name.strip()]
    found = run(out, full=full, cases=cases, only=names, shown=lambda outcome: typer.echo(str(outcome)))
    typer.echo(f"\n{found.verdict}\nWritten to {out}: qualification.html, qualification.json")
    if not found.passed:
        raise typer.Exit(1)


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
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="Draw the parameters of each data set from the covariance of the fit's estimates.")
    ] = False,
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
    uncertainty = "covariance" if uncertain else None
    frame = nlme.simulate(
        given, population, key=key, eta=eta, replicates=replicates, noise=noise, as_data=not fixed_form, uncertainty=uncertainty
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    formats.csv(frame, out, index=False, na_rep=".")
    typer.echo(
        f"Written to {out}: {replicates} data set{'s' if replicates > 1 else ''} of {len(population)} subjects, {len(frame):,} rows."
    )


@app.command()
@reported
@reads_data
def nca(
    data: Data,
    endpoint: Annotated[str, typer.Option(help="Which of several endpoints.")] = "",
    route: Annotated[
        str, typer.Option(help="extravascular or intravenous; by compartment of the doses: 1=extravascular,2=intravenous")
    ] = "",
    rule: Annotated[str, typer.Option(help="Of the areas: 'linear-up log-down', linear, 'linear log'.")] = "linear-up log-down",
    lambda_z: Annotated[str, typer.Option(help="Terminal line from-to, in time after the dose: 8-24; by ID: 1=8-24,7=6-24")] = "",
    partial: Annotated[str, typer.Option(help="Partial areas: 0-12,0-24")] = "",
    tau: Annotated[float, typer.Option(help="Dosing interval, where II does not say it.", show_default=False)] = None,
    steady_state: Annotated[
        int, typer.Option(help="Dose number from which on it is a steady state, where SS does not say it.", show_default=False)
    ] = None,
    lloq: Annotated[float, typer.Option(help="Limit of quantification, where CENS does not say it.", show_default=False)] = None,
    below: Annotated[
        str, typer.Option(help="Below the limit: zero, missing, half, limit; by place: before=zero,first after=half")
    ] = "",
    by: Annotated[str, typer.Option(help="Column or covariate within whose values the summary is made.")] = "",
    units: Units = "",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("nca"),
    *,
    reading: dict,
) -> None:
    """Non-compartmental analysis of a data set: parameters of every profile, their summary, a picture."""
    require_writable(out)
    asked = dict(
        route=options.one_or_each(route, "--route"), rule=rule, lambda_z=options.terminal_points(lambda_z),
        partial=options.spans(partial, "--partial"), tau=tau, steady_state=steady_state, lloq=lloq,
        below=options.one_or_each(below, "--below"), units=options.pairs(units, "--units"),
    )  # fmt: skip
    found = nlme.nca(nlme.read_nonmem(data, **arguments_of(reading)), endpoint or None, **asked)
    summary = found.summary(by or None)
    out.mkdir(parents=True, exist_ok=True)
    in_every_format(found, out / "nca")
    formats.csv(summary, out / "nca_summary.csv", index=False)
    formats.csv(found.reasons, out / "nca_reasons.csv", index=False)
    drawn = ""
    if found.drawable:
        nlme.plots.nca(found, max_profiles=24).savefig(out / "nca_profiles.png")
        drawn = ", nca_profiles.png"
    typer.echo(repr(found))
    typer.echo(f"\nWritten to {out}: nca (.csv .md .html .tex .rtf), nca_summary.csv, nca_reasons.csv{drawn}")


@app.command()
@reported
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="[MODEL]", help="Python file with the nlme.Model; found by its name when left out.", show_default=False
        ),
    ],
    fit: Annotated[
        Path, typer.Argument(metavar="FIT", help="A fit: the folder that nlme fit wrote, or its fit.nlme.", show_default=False)
    ] = None,
    to: Annotated[str, typer.Option(help=f"One of {', '.join(options.PROGRAMS)}.")] = "nonmem",
    out: Annotated[
        Path, typer.Option(help="Folder to write to, or the model's file (run1.mod, run1.R, run1.mlxtran).", show_default="TO")
    ] = None,
) -> None:
    """Write a saved fit for NONMEM, nlmixr2 or Monolix: the model with its estimates, and the data."""
    writer = options.program_of(to)
    found = nlme.load(_file(Path(model) if fit is None else fit), model=None if fit is None else load_model(model))
    target = out or Path(to.lower())
    require_writable(target.parent if target.suffix else target)
    typer.echo(repr(getattr(nlme, writer)(found, target)))


@app.command(name="import")
@reported
def import_(
    source: Annotated[Path, typer.Argument(metavar="RUN", help="A NONMEM control stream.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for model.py and data.csv.", show_default="RUN-nlme")] = None,
    evaluate: Annotated[bool, typer.Option(help="Compare the objective with NONMEM's results beside it.")] = True,
) -> None:
    """Bring a NONMEM control stream: write the model and its data, and compare the objective at NONMEM's estimates."""
    folder = out or Path(f"{source.stem}-nlme")
    require_writable(folder)
    found = nlme.from_nonmem(source, evaluate=evaluate)
    found.write(folder)
    typer.echo(repr(found))
    fixed = f" --fixed {','.join(found.fixed)}" if found.fixed else ""
    typer.echo(f"\nWritten to {folder}: model.py, data.csv. To fit:")
    typer.echo(f"nlme fit {folder}/model.py {folder}/data.csv --time-varying auto{fixed}")
    if found.agrees is False:
        raise typer.Exit(DISAGREES)


@app.command()
@reported
@reads_data
def vpc(
    model: ModelFile,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FIT|DATA", help="A fit (folder or fit.nlme), or data to check the model's own values on.", show_default=False
        ),
    ],
    endpoint: Annotated[str, typer.Option(help="Which endpoint; all of them by default.", show_default=False)] = "",
    replicates: Annotated[int, typer.Option(help="Number of simulated data sets.")] = 1000,
    key: Key = 1,
    bins: Annotated[str, typer.Option(help="auto, a number of bins, or their edges: 0,1,4,12,24")] = "auto",
    percentiles: Annotated[str, typer.Option(help="Of continuous endpoints.")] = "5,50,95",
    level: Annotated[float, typer.Option(help="Of the bands.")] = 0.90,
    corrected: Annotated[
        str, typer.Option("--prediction-corrected", help="proportional, or additive for data on a log scale.", show_default="no")
    ] = "",
    stratify: Annotated[str, typer.Option(help="Columns, with the points that cut them if you like: sex,wt=60-80")] = "",
    time: Annotated[str, typer.Option(help="time, or tad for the time after the last dose.")] = "time",
    lloq: Annotated[
        str, typer.Option(help="Lower limit of quantification: a number or a column.", show_default="as in the data")
    ] = "",
    log: Annotated[bool, typer.Option("--log/--linear", help="Axis of the values.", show_default="by the data")] = None,
    start: Annotated[str, typer.Option(help="Values of parameters: cl=2.5,omega.cl=0.1")] = "",
    units: Units = "",
    out: Annotated[Path, typer.Option(help="Folder to write to; that of the fit, or here.", show_default=False)] = None,
    *,
    reading: dict,
) -> None:
    """Visual predictive check of a fit, or of a model on data: a table and a picture for each endpoint."""
    chosen, values = load_model(model), options.starting_values(start)
    asked = dict(
        replicates=replicates,
        key=key,
        bins=options.bins_of(bins),
        percentiles=options.numbers(percentiles, "--percentiles"),
        level=level,
        prediction_corrected=corrected,
        stratify=options.strata_of(stratify),
        time=time,
        lloq=options.number(lloq) if lloq else None,
    )
    named_units = options.pairs(units, "--units")
    folder = out or (_file(source).parent if _is_fit(source) else Path("."))
    require_writable(folder)
    if _is_fit(source):
        found = nlme.load(_file(source), model=chosen)
        population = found.population
        given = Inventory(found.model).with_values(found.model, values) if values else found
    else:
        instance = chosen()
        given = Inventory(instance).with_values(instance, values)
        population = _population(source, reading, given)
    folder.mkdir(parents=True, exist_ok=True)
    for name in [endpoint] if endpoint else endpoints_of(given, population):
        check = nlme.vpc(given, population, endpoint=name, **asked)
        stem = f"vpc_{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"
        formats.csv(check.table, folder / f"{stem}.csv", index=False)
        looks = {"log": log} if check.kind == "continuous" else {}
        check.plot(units=named_units, **looks).savefig(folder / f"{stem}.png")
        for message in check.messages:
            typer.echo(f"  ! {name}: {message}")
        typer.echo(
            f"{name}: {100 * check.inside:.0f} % of the observed quantities lie within their {100 * level:g} % bands. "
            f"Written to {folder}: {stem}.csv, {stem}.png"
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
