"""Commands that simulate: simulate, vpc, forecast."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli import options
from nlme.cli.command import Data, Key, ModelFile, Start, Units, app, estimates_of, is_fit, model_class, population_of, saved_file
from nlme.cli.errors import reported
from nlme.cli.options import ADDS, reads_data
from nlme.cli.written import Folder, put, require_file, require_writable
from nlme.diagnostics.replicated import endpoints_of
from nlme.parameters.inventory import Inventory
from nlme.tables import formats


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
    start: Start = "",
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
    read = [
        saved_file(source) if is_fit(source) else source,
        *([design] if design else []),
        Path(model.rpartition(":")[0] or model),
    ]
    require_file(out, read)
    chosen, values = model_class(model), options.starting_values(start)
    if is_fit(source):
        found = nlme.load(saved_file(source), model=chosen)
        instance, population = found.model, found.population
    else:
        found, instance, population = None, chosen(), None
        design = design or source
    instance = Inventory(instance).with_values(instance, values)
    if design is not None:
        population = population_of(design, reading, instance)
    given = found if found is not None and not values else instance
    uncertainty = "covariance" if uncertain else None
    frame = nlme.simulate(
        given, population, key=key, eta=eta, replicates=replicates, noise=noise, as_data=not fixed_form, uncertainty=uncertainty
    )
    put(out, lambda path: formats.csv(frame, path, index=False, na_rep="."))
    typer.echo(
        f"Written to {out}: {replicates} data set{'s' if replicates > 1 else ''} of {len(population)} subjects, {len(frame):,} rows."
    )


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
    bins: Annotated[str, typer.Option(help="auto, a number of bins, or their edges: 0,1,4,12,24"), ADDS] = "auto",
    percentiles: Annotated[str, typer.Option(help="Of continuous endpoints."), ADDS] = "5,50,95",
    level: Annotated[float, typer.Option(help="Of the bands.")] = 0.90,
    corrected: Annotated[
        str, typer.Option("--prediction-corrected", help="proportional, or additive for data on a log scale.", show_default="no")
    ] = "",
    stratify: Annotated[str, typer.Option(help="Columns, with the points that cut them if you like: sex,wt=60-80"), ADDS] = "",
    time: Annotated[str, typer.Option(help="time, or tad for the time after the last dose.")] = "time",
    lloq: Annotated[
        str, typer.Option(help="Lower limit of quantification: a number or a column.", show_default="as in the data")
    ] = "",
    uncertain: Annotated[
        bool, typer.Option("--uncertain", help="Draw the parameters of each data set from the covariance of the fit's estimates.")
    ] = False,
    log: Annotated[bool, typer.Option("--log/--linear", help="Axis of the values.", show_default="by the data")] = None,
    start: Start = "",
    units: Units = "",
    out: Annotated[Path, typer.Option(help="Folder to write to; that of the fit, or here.", show_default=False)] = None,
    *,
    reading: dict,
) -> None:
    """Visual predictive check of a fit, or of a model on data: a table and a picture for each endpoint."""
    chosen, values = model_class(model), options.starting_values(start)
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
        uncertainty="covariance" if uncertain else None,
    )
    named_units = options.pairs(units, "--units")
    folder = Folder(out or (saved_file(source).parent if is_fit(source) else Path(".")), "vpc" if is_fit(source) else "data")
    require_writable(folder.path)
    if is_fit(source):
        found = nlme.load(saved_file(source), model=chosen)
        population = found.population
        given = Inventory(found.model).with_values(found.model, values) if values else found
    else:
        instance = chosen()
        given = Inventory(instance).with_values(instance, values)
        population = population_of(source, reading, given)
    stems = {
        name: f"vpc_{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"
        for name in ([endpoint] if endpoint else endpoints_of(given, population))
    }
    folder.require_own(f"{stem}.{suffix}" for stem in stems.values() for suffix in ("csv", "png"))
    for name, stem in stems.items():
        check = nlme.vpc(given, population, endpoint=name, **asked)
        folder.add(f"{stem}.csv", functools.partial(formats.csv, check.table, index=False))
        looks = {"log": log} if check.kind == "continuous" else {}
        folder.add(f"{stem}.png", check.plot(units=named_units, **looks).savefig)
        for message in check.messages:
            typer.echo(f"  ! {name}: {message}")
        typer.echo(
            f"{name}: {100 * check.inside:.0f} % of the observed quantities lie within their {100 * level:g} % bands. "
            f"Written to {folder.path}: {stem}.csv, {stem}.png"
        )


@app.command()
@reported
@reads_data
def forecast(
    model: ModelFile,
    patient: Data,
    times: Annotated[
        str, typer.Option(help="When to predict: 12,24,36, from-to/step: 0-72/0.5, or both.", show_default=False), ADDS
    ],
    doses: Annotated[
        list[str], typer.Option("--dose", help="A further dose: amount=1000,time=48,every=12,n=6,duration=1; may be repeated.")
    ] = [],  # noqa: B006 (typer reads it)
    start: Start = "",
    start_from: Annotated[Path, typer.Option(help="A fit, whose values are taken where names agree.")] = None,
    draws: Annotated[int, typer.Option(help="Of each patient's random effects.")] = 1000,
    level: Annotated[float, typer.Option(help="Of the bands.")] = 0.90,
    key: Key = 1,
    target: Annotated[str, typer.Option(help="A range to shade in the picture: 10-20")] = "",
    units: Units = "",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("."),
    *,
    reading: dict,
) -> None:
    """What a few samples say of a patient, and what follows: bands of the patient's curve and of new observations."""
    at, regimen = options.times_of(times, "--times"), options.regimen_of(doses)
    values, shaded = options.starting_values(start), options.span_of(target, "--target")
    require_writable(out)
    folder = Folder(out, "data")
    folder.require_own(["forecast.csv", "forecast.png"])
    chosen = model_class(model)
    instance = chosen() if start_from is None else chosen.from_fit(estimates_of(start_from))
    instance = Inventory(instance).with_values(instance, values)
    population = population_of(patient, reading, instance)
    found = nlme.forecast(instance, population, times=at, doses=regimen, draws=draws, level=level, key=key)
    folder.add("forecast.csv", lambda path: formats.csv(found.frame, path, index=False))
    folder.add("forecast.png", nlme.plots.forecast(found, units=options.pairs(units, "--units"), target=shaded).savefig)
    typer.echo(repr(found))
    typer.echo(f"\nWritten to {out}: forecast.csv, forecast.png")
