"""Commands about the installation: demo, qualify."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nlme.cli.command import app
from nlme.cli.errors import reported
from nlme.cli.options import ADDS, names
from nlme.cli.written import note, require_writable


@app.command()
@reported
def demo(out: Annotated[Path, typer.Option(help="Folder for tables, pictures and reports.")] = Path("nlme-demo")) -> None:
    """Fit real clinical trials: parameter tables, pictures and an HTML report."""
    from nlme.demo import run

    began = time.time()
    try:
        run(out)
    finally:  # its parts are written in processes of their own
        note(*(path for path in sorted(out.rglob("*")) if path.is_file() and path.stat().st_mtime >= began))


@app.command()
@reported
def qualify(
    out: Annotated[Path, typer.Option(help="Folder for qualification.html and .json.")] = Path("nlme-qualification"),
    full: Annotated[bool, typer.Option("--full", help="The cases that take minutes too.")] = False,
    cases: Annotated[
        Path, typer.Option(help="A folder with a case of your own (case.json, case.py, data.csv), or with several.")
    ] = None,
    only: Annotated[str, typer.Option(help="Names of the cases wanted: steady-state,censored"), ADDS] = "",
) -> None:
    """Run cases with known answers on this machine and write the page about it; exit code 1 where one fails."""
    from nlme.qualify import qualify as run

    require_writable(out)
    found = run(out, full=full, cases=cases, only=names(only), shown=lambda outcome: typer.echo(str(outcome)))
    typer.echo(f"\n{found.verdict}\nWritten to {out}: qualification.html, qualification.json")
    if not found.passed:
        raise typer.Exit(1)
