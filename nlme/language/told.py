"""Numbers that a model is told, and what they mean: none of them is a word, so a comparison with one is refused.

JAX's stand-ins for numbers answer ``cov.sex == "male"`` with False, for everybody.  So every method of a model is run once on
numbers that know better, before it is traced.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from nlme.data.covariates import CovariateInfo
from nlme.errors import ModelError


class Told(np.float64):
    """A number with the name under which a model knows it."""

    def __new__(cls, value: float, name: str, holds: str) -> Told:
        self = super().__new__(cls, value)
        self.name, self.holds = name, holds
        return self

    def __eq__(self, other: Any):
        self._require_number(other)
        return np.float64.__eq__(self, other)

    def __ne__(self, other: Any):
        self._require_number(other)
        return np.float64.__ne__(self, other)

    __hash__ = None  # like the numbers of a trace

    def _require_number(self, other: Any) -> None:
        if not isinstance(other, (bool, int, float, complex, np.generic, np.ndarray, jax.Array, type(None))) or isinstance(
            other, str
        ):
            raise TextComparison(f"{self.name} is compared with {other!r}, but it is a number: {self.holds}.")


class TextComparison(ModelError):
    """A number of the model is compared with something that is none."""


def told(prefix: str, names: Iterable[str], holds: Callable[[str], str], value: float = 1.0) -> dict[str, Told]:
    """Numbers named ``prefix.name``."""
    return {name: Told(value, f"{prefix}.{name}", holds(name)) for name in names}


def covariate_holds(infos: Mapping[str, CovariateInfo] | None) -> Callable[[str], str]:
    """What ``cov.name`` is, as far as the data are known."""

    def holds(name: str) -> str:
        info = (infos or {}).get(name)
        if info is not None and info.categories:
            codes = ", ".join(f"{i} for {c!r}" for i, c in enumerate(info.categories))
            return f"{codes}. Compare with the number, such as cov.{name} == 0"
        if info is not None:
            return f"what stands in the data's column {info.column or name}"
        return f"the code 0, 1, 2 ... of a category in the order of categories={{{name!r}: [...]}}, or what the data hold"

    return holds


@contextlib.contextmanager
def comparisons_refused():
    """Around a trial run of a model's methods: whatever else is wrong with them is told by the run that counts.

    Raises
    ------
    ModelError
        A number was compared with a word.
    """
    try:
        yield
    except Exception as error:
        if isinstance(
            error.__context__, TextComparison
        ):  # of which nlme.language.mistakes made a sentence with the method and the line
            raise error from None
