"""Commands about a data set alone: check, nca."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli import options
from nlme.cli.command import Data, Units, app
from nlme.cli.errors import reported
from nlme.cli.options import ADDS, arguments_of, reads_data
from nlme.cli.output import FORMATS, in_every_format
from nlme.cli.written import Folder, require_writable
from nlme.tables import formats


@app.command()
@reported
@reads_data
def check(
    data: Data,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: every violation with all its rows.")] = False,
    *,
    reading: dict,
) -> None:
    """List everything that is wrong with a data set, with row numbers and remedies."""
    report = nlme.check(data, **arguments_of(reading))
    typer.echo(report.to_json() if as_json else str(report))
    if not report.ok:
        raise typer.Exit(1)


@app.command()
@reported
@reads_data
def nca(
    data: Data,
    endpoint: Annotated[str, typer.Option(help="Which of several endpoints.")] = "",
    route: Annotated[
        str, typer.Option(help="extravascular or intravenous; by compartment of the doses: 1=extravascular,2=intravenous"), ADDS
    ] = "",
    rule: Annotated[str, typer.Option(help="Of the areas: 'linear-up log-down', linear, 'linear log'.")] = "linear-up log-down",
    lambda_z: Annotated[
        str, typer.Option(help="Terminal line from-to, in time after the dose: 8-24; by ID: 1=8-24,7=6-24"), ADDS
    ] = "",
    partial: Annotated[str, typer.Option(help="Partial areas: 0-12,0-24"), ADDS] = "",
    tau: Annotated[float, typer.Option(help="Dosing interval, where II does not say it.", show_default=False)] = None,
    steady_state: Annotated[
        int, typer.Option(help="Dose number from which on it is a steady state, where SS does not say it.", show_default=False)
    ] = None,
    lloq: Annotated[float, typer.Option(help="Limit of quantification, where CENS does not say it.", show_default=False)] = None,
    below: Annotated[
        str, typer.Option(help="Below the limit: zero, missing, half, limit; by place: before=zero,first after=half"), ADDS
    ] = "",
    by: Annotated[
        str,
        typer.Option(
            help="Column of the results, or covariate (named in --covariates), within whose values the summary is made."
        ),
    ] = "",
    units: Units = "",
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("nca"),
    *,
    reading: dict,
) -> None:
    """Non-compartmental analysis of a data set: parameters of every profile, their summary, a picture."""
    require_writable(out)
    folder = Folder(out, "data")
    folder.require_own([*(f"nca.{suffix}" for _, suffix in FORMATS), "nca_summary.csv", "nca_reasons.csv", "nca_profiles.png"])
    asked = dict(
        route=options.one_or_each(route, "--route"), rule=rule, lambda_z=options.terminal_points(lambda_z),
        partial=options.spans(partial, "--partial"), tau=tau, steady_state=steady_state, lloq=lloq,
        below=options.one_or_each(below, "--below"), units=options.pairs(units, "--units"),
    )  # fmt: skip
    found = nlme.nca(nlme.read_nonmem(data, **arguments_of(reading)), endpoint or None, **asked)
    summary = found.summary(by or None)
    in_every_format(found, folder, "nca")
    folder.add("nca_summary.csv", lambda path: formats.csv(summary, path, index=False))
    folder.add("nca_reasons.csv", lambda path: formats.csv(found.reasons, path, index=False))
    drawn = ""
    if found.drawable:
        folder.add("nca_profiles.png", nlme.plots.nca(found, max_profiles=24).savefig)
        drawn = ", nca_profiles.png"
    typer.echo(repr(found))
    typer.echo(f"\nWritten to {out}: nca (.csv .md .html .tex .rtf), nca_summary.csv, nca_reasons.csv{drawn}")
