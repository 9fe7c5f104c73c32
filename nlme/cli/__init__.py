"""The command ``nlme``: demo, qualify, check, describe, fit, report, bootstrap, simulate, vpc, nca, import.

Exit codes: 0 done; 1 the data, the model or the fit would not do (one block on stderr says why), or a case
of qualify failed; 2 the command was not understood; 3 the fit was written but did not converge.
"""

from nlme.cli.commands import app, main
from nlme.cli.output import write
from nlme.language.files import load_model

__all__ = ["app", "load_model", "main", "write"]
