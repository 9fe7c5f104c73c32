"""The command ``nlme``: demo, qualify, check, nca, describe, fit, report, bootstrap, export, import, simulate, vpc, forecast.

Exit codes: 0 done; 1 the data, the model or the fit would not do (one block on stderr says why), or a case
of qualify failed; 2 the command was not understood; 3 the fit was written but did not converge.

An option that takes a list or name=value pairs adds up where it is given again; one that takes a single value is given once.
"""

# the modules of the commands are imported so that the app has them
from nlme.cli import fits, installation, simulations, tables  # noqa: F401
from nlme.cli.command import app, main
from nlme.cli.output import write
from nlme.language.files import load_model

__all__ = ["app", "load_model", "main", "write"]
