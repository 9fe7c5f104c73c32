"""Errors of a command: one readable block on stderr instead of a traceback."""

from __future__ import annotations

import functools
import inspect
import textwrap
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from nlme.cli import INTERRUPTED
from nlme.cli.written import begin, so_far
from nlme.errors import DataError, FitError, ModelError, NLMEError
from nlme.language.files import place_of

_TITLES = {DataError: "Data error", ModelError: "Model error", FitError: "Fit error"}


def reported(command: Callable) -> Callable:
    """Turn errors of a command into one readable block on stderr and exit code 1; ``--debug`` shows the traceback instead."""

    @functools.wraps(command)
    def run(*args, debug: bool = False, **options):
        begin()
        try:
            return _with_warnings(command, args, options)
        except NLMEError as error:
            if debug:
                raise
            title = next((title for kind, title in _TITLES.items() if isinstance(error, kind)), "Error")
            block(title, str(error), "red")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            written = ", ".join(map(str, so_far()))
            block("Interrupted", f"Written before: {written}." if written else "Nothing was written.", "yellow")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if debug or isinstance(error, (typer.Exit, typer.BadParameter)) or type(error).__name__ in ("UsageError", "Abort"):
                raise
            block("Unexpected error", place_of(error) + "\nRun again with --debug for the full traceback.", "red")
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


def _with_warnings(command: Callable, args, options):
    """Run a command; what it warned of is said at its end."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            return command(*args, **options)
        finally:
            for warning in caught:
                if issubclass(warning.category, UserWarning):
                    block("Warning", str(warning.message), "yellow")


def block(title: str, message: str, colour: str) -> None:
    """Title and message on stderr, the message indented and never wrapped inside a word or a number."""
    typer.secho(f"\n{title}", fg=colour, bold=True, err=True)
    typer.echo(textwrap.indent(message.rstrip(), "  "), err=True)
