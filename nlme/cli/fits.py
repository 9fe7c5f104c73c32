"""Commands about a model and its fit: describe, fit, report, bootstrap, export, import."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli import options
from nlme.cli.command import (
    Data,
    FitFile,
    Key,
    MaybeModelFile,
    ModelFile,
    Units,
    app,
    estimates_of,
    model_class,
    opened,
    population_of,
    saved_file,
    say,
)
from nlme.cli.errors import reported
from nlme.cli.options import ADDS, reads_data
from nlme.cli.output import FORMATS, RESULTS, in_every_format, keep, require_room, write
from nlme.cli.written import Folder, note, put, require_file, require_writable
from nlme.errors import FitError
from nlme.language.layout import lay_out
from nlme.parameters.inventory import Inventory
from nlme.plots.style import known_units
from nlme.tables import formats

NOT_CONVERGED = 3
DISAGREES = 4


@app.command()
@reported
def describe(model: ModelFile) -> None:
    """Show a model's parameters, domains, units, random effects, inputs and outputs; no data needed."""
    chosen = model_class(model)
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
        str, typer.Option("--options", help="The method's own: points=5, or chains=3,smoothing=400-2000,seed=7"), ADDS
    ] = "",
    fixed: Annotated[str, typer.Option(help="Parameters to hold fixed: ka,omega.cl"), ADDS] = "",
    start: Annotated[str, typer.Option(help="Starting values: cl=2.5,omega.cl=0.1"), ADDS] = "",
    start_from: Annotated[Path, typer.Option(help="Another fit, whose values are taken where names agree.")] = None,
    starts: Annotated[
        int, typer.Option(help="How many other starts to search from; 0 for none.", show_default="some if needed")
    ] = None,
    penalty: Annotated[
        str, typer.Option(help="Strength of a penalty on squared weights of networks: 1.0, of one net=1.0, or 'cross-validated'.")
    ] = "",
    shooting: Annotated[
        str,
        typer.Option(help=f"Training before the fit: {', '.join(options.AIDS)}; with its own, multiple-shooting,segments=12"),
        ADDS,
    ] = "",
    units: Units = "",
    *,
    reading: dict,
) -> None:
    """Fit a model to a data set; write parameters, predictions, pictures, a report and the fit itself."""
    by, values = options.method_of(method, method_options), options.starting_values(start)
    how = {"starts": starts} if starts is not None else {}
    how |= {"penalty": options.penalty_of(penalty)} if penalty else {}
    how |= {"shooting": options.aid_of(shooting)} if shooting else {}
    chosen = model_class(model)
    folder = out or Path(f"{chosen.__name__.lower()}-fit")
    require_writable(folder)
    instance = chosen() if start_from is None else chosen.from_fit(estimates_of(start_from))
    instance = Inventory(instance).with_values(instance, values)
    named_units = options.pairs(units, "--units")
    require_room(type(instance), folder)
    population = population_of(data, reading, instance)
    if named_units:  # before the search, not after it
        known_units(named_units, [*lay_out(instance, population).anatomy.endpoints, *population.endpoints])
    result = nlme.fit(instance, population, by, fixed=options.names(fixed), **how)
    keep(result, folder, read=[data] if start_from is None else [data, saved_file(start_from)])
    typer.echo(repr(result.table()))
    say(result)
    typer.echo(f"\nWritten to {folder}: {', '.join(write(result, folder, units=named_units))}")
    if not result.converged:
        raise typer.Exit(NOT_CONVERGED)


@app.command()
@reported
def report(
    model: MaybeModelFile,
    fit: FitFile = None,
    out: Annotated[
        Path,
        typer.Option(help="Folder to write to (that of the fit by default), or one .html or .docx file.", show_default=False),
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the report; the model's name by default.")] = "",
    interactive: Annotated[
        bool, typer.Option("--interactive", help="With --out x.html: observations to point at and to choose from, too.")
    ] = False,
    units: Units = "",
) -> None:
    """Write the tables, pictures and report of a saved fit again; with --out x.docx or x.html the report alone."""
    saved, found = opened("report", model, fit)
    named_units = options.pairs(units, "--units")
    if out is not None and out.suffix and not out.is_dir():
        from nlme.reporting.page import require_ending  # nlme --help need not wait for it

        require_ending(out)
        require_file(out, [saved])
        put(out, lambda path: nlme.report(found, path, title=title or None, units=named_units, interactive=interactive))
        say(found)
        typer.echo(f"\nWritten to {out}")
        return
    if interactive:
        raise FitError("--interactive is for one page: --out x.html.")
    folder = out or saved.parent
    require_writable(folder)
    Folder(folder, "report").require_own(RESULTS)
    names = write(found, folder, units=named_units, title=title or None)
    say(found)
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
    found = nlme.load(saved_file(fit), model=model_class(model))
    folder = Folder(out or saved_file(fit).parent, "bootstrap")
    require_writable(folder.path)
    named = [f"{stem}.{suffix}" for stem in ("bootstrap", "parameters_bootstrap") for _, suffix in FORMATS]
    folder.require_own(["bootstrap_replicates.csv", *named])
    boot = nlme.bootstrap(found, replicates, key=key, stratify=stratify or None, parametric=parametric)
    folder.add("bootstrap_replicates.csv", lambda path: formats.csv(boot.replicates, path))
    in_every_format(boot, folder, "bootstrap")
    table = nlme.table(found, intervals=boot, level=level)
    in_every_format(table, folder, "parameters_bootstrap")
    typer.echo(repr(table))
    typer.echo(
        f"\nWritten to {folder.path}: bootstrap_replicates.csv, bootstrap and parameters_bootstrap (.csv .md .html .tex .rtf)"
    )


@app.command()
@reported
def export(
    model: MaybeModelFile,
    fit: FitFile = None,
    to: Annotated[str, typer.Option(help=f"One of {', '.join(options.PROGRAMS)}.")] = "nonmem",
    out: Annotated[
        Path, typer.Option(help="Folder to write to, or the model's file (run1.mod, run1.R, run1.mlxtran).", show_default="TO")
    ] = None,
) -> None:
    """Write a saved fit for NONMEM, nlmixr2 or Monolix: the model with its estimates, and the data."""
    writer = options.program_of(to)
    saved, found = opened("export", model, fit)
    target = out or Path(to.lower())
    place = target.parent if target.suffix else target
    require_writable(place)
    folder = Folder(place, "export" if place.resolve() == saved.parent.resolve() else "data")
    with tempfile.TemporaryDirectory() as scratch:  # what it is called is known once it is written
        made = getattr(nlme, writer)(found, Path(scratch, target.name) if target.suffix else Path(scratch))
        files = {file.relative_to(scratch).as_posix(): file for file in made.files}
        folder.require_own(files)
        for name, file in files.items():
            folder.add_copy(file, name)
    typer.echo(repr(dataclasses.replace(made, files=tuple(place / name for name in files))))


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
    typer.echo(repr(found))
    note(found.write(folder), folder / "data.csv")
    fixed = f" --fixed {','.join(found.fixed)}" if found.fixed else ""
    typer.echo(f"\nWritten to {folder}: model.py, data.csv. To fit:")
    typer.echo(f"nlme fit {folder}/model.py {folder}/data.csv --time-varying auto{fixed}")
    if found.agrees is False:
        raise typer.Exit(DISAGREES)
