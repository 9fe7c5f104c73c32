"""The ways this library says no: one exception family, each message naming what was seen and what would have been right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NLMEError(Exception):
    """Base of every error raised on purpose by nlme; catch this one to catch them all."""


class DataError(NLMEError):
    """A data set cannot be read as a population.

    Attributes
    ----------
    violations : tuple
        Every rule broken, with row numbers (see :func:`nlme.check`); empty for errors that are not about records.
    """

    def __init__(self, message: str, violations: Iterable = ()):
        super().__init__(message)
        self.violations = tuple(violations)


class ModelError(NLMEError):
    """A model is not well formed, or does not fit the data it is asked to describe."""


class FitError(NLMEError):
    """An estimation or a solve could not produce a number that may be shown."""


def name_error(kind: str, wrong: str, offered: Iterable[str], owner: str = "The model") -> str:
    """Sentence for a misspelled name: what was asked for, what is on offer, and the closest match.

    >>> name_error("random effect", "vv", ["cl", "v"])
    "No random effect named 'vv'. The model declares: cl, v. Did you mean 'v'?"
    """
    offered = list(offered)
    listed = ", ".join(offered) if offered else "none"
    sentence = f"No {kind} named {wrong!r}. {owner} declares: {listed}."
    lowered = {name.lower(): name for name in offered}
    close = difflib.get_close_matches(wrong.lower(), lowered, n=1, cutoff=0.4)
    return f"{sentence} Did you mean {lowered[close[0]]!r}?" if close else sentence
