"""The command ``nlme``: demo, qualify, check, nca, describe, fit, report, bootstrap, export, import, simulate, vpc, forecast.

Exit codes: 0 done; 1 the data, the model or the fit would not do (one block on stderr says why), or a case
of qualify failed; 2 the command was not understood; 3 the fit was written but did not converge; 130 interrupted.

An option that takes a list or name=value pairs adds up where it is given again; one that takes a single value is given once.
What a command writes into a folder is recorded there (:mod:`nlme.cli.written`): a new fit removes the results of an earlier one, and
a file that is not nlme's is neither replaced nor removed.
"""

import importlib
import os
import sys

INTERRUPTED = 130  # the exit code that a shell expects after Ctrl-C

_HOMES = {"app": "nlme.cli.command", "load_model": "nlme.language.files", "write": "nlme.cli.output"}
_COMMANDS = ("fits", "installation", "simulations", "tables")  # they are loaded so that the app has them

__all__ = [*_HOMES, "main"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in _COMMANDS:
        importlib.import_module(f"{__name__}.{module}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def main() -> None:
    """Entry point of the console script; the commands are loaded here, so that Ctrl-C ends this too without a traceback."""
    try:
        __getattr__("app")()
    except KeyboardInterrupt:  # before a command ran, which says itself what it has written
        print("\nInterrupted", file=sys.stderr)
        _leave(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _leave(INTERRUPTED)
        raise


def _leave(code: int) -> None:
    """End the process at once: XLA may still compile in threads of its own, and they crash where Python takes itself down beneath them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
