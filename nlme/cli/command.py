"""The command itself, what its arguments are, and what several commands do: open a fit, read data, say the verdict."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer

import nlme
from nlme.cli.options import ADDS, App, arguments_of
from nlme.errors import FitError, ModelError, name_error
from nlme.fitting.storage import ClassNotFound
from nlme.language.files import load_model
from nlme.language.model import covariate_units
from nlme.versions import versions

app = App(
    name="nlme",
    help="Nonlinear mixed-effects pharmacometrics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Argument(metavar="DATA", help="NONMEM-style data file.", show_default=False)]
ModelFile = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Python file with an nlme.Model, file.py:Name, or a published one: vancomycin.", show_default=False
    ),
]
MaybeModelFile = Annotated[  # before a FIT: where it is left out, this one is the fit
    str,
    typer.Argument(
        metavar="[MODEL]", help="Python file with the nlme.Model; found by its name when left out.", show_default=False
    ),
]
FitFile = Annotated[
    Path, typer.Argument(metavar="FIT", help="A fit: the folder that nlme fit wrote, or its fit.nlme.", show_default=False)
]
Key = Annotated[int, typer.Option(help="Seed; the same gives the same numbers.")]
Units = Annotated[str, typer.Option(help="Units for pictures and report: conc=mg/L,time=h,dose=mg"), ADDS]
Start = Annotated[str, typer.Option(help="Values of parameters: cl=2.5,omega.cl=0.1"), ADDS]


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


def model_class(where: str) -> type[nlme.Model]:
    """The model of a Python file, or the published one of that name.

    Raises
    ------
    ModelError
        Neither; a word that is close to the name of a published model is told so.
    """
    if Path(where).exists() or not where.isidentifier():
        return load_model(where)
    published = nlme.models.names()
    if where not in published and difflib.get_close_matches(where.lower(), published, n=1):
        raise ModelError(f"There is no file {where!r}. {name_error('published model', where, published, 'nlme.models')}")
    return nlme.models.load(where) if where in published else load_model(where)


def population_of(data: Path, reading: dict, model) -> nlme.Population:
    declared = {name: unit or None for name, unit in covariate_units(model).items()}
    return nlme.read_nonmem(data, **arguments_of(reading, declared))


def say(fit) -> None:
    """The verdict, and the messages that are not in it."""
    typer.echo(f"\n{fit.verdict}")
    for message in fit.messages:
        if message not in fit.verdict:
            typer.echo(f"  ! {message}")


def is_fit(path: Path) -> bool:
    return path.is_dir() or path.suffix == ".nlme"


def opened(command: str, model: str, fit: Path | None):
    """The file of a saved fit, and the fit: of arguments [MODEL] FIT of a command.

    Raises
    ------
    FitError, ModelError
        As :func:`nlme.load`; a model that is found only where its file is named.
    """
    saved = saved_file(Path(model) if fit is None else fit)
    if fit is not None:
        return saved, nlme.load(saved, model=model_class(model))
    try:
        with _found_beside(saved):
            return saved, nlme.load(saved)
    except ClassNotFound as error:
        raise ModelError(
            f"{error.seen} Name the file that defines it before the fit: nlme {command} {error.file} {saved}"
        ) from None


@contextlib.contextmanager
def _found_beside(file: Path):
    """Python finds modules in a file's folder first: the copy of a model there is the one that was fitted."""
    folder = str(file.parent.resolve())
    importlib.invalidate_caches()  # the folder may be younger than what Python remembers of it
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def saved_file(path: Path) -> Path:
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


def estimates_of(path: Path) -> dict[str, float]:
    """The estimates of a saved fit by name, without its model."""
    from nlme.fitting.storage import estimates_in

    return estimates_in(saved_file(path))
