"""A case with known answers, and what became of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nlme.errors import NLMEError


@dataclass(frozen=True)
class Check:
    """One number against its reference: passed if |result - reference| <= tolerance, times |reference| where ``relative``.

    A result that is not a finite number, or a tolerance that is none, never passes.
    """

    quantity: str
    result: float
    reference: float
    tolerance: float
    relative: bool = False

    @property
    def difference(self) -> float:
        """|result - reference|, over |reference| where ``relative``."""
        gap = abs(self.result - self.reference)
        return gap / abs(self.reference) if self.relative and self.reference else gap

    @property
    def passed(self) -> bool:
        return math.isfinite(self.result) and self.difference <= self.tolerance


@dataclass(frozen=True)
class Case:
    """Checks with one source; ``run()`` computes them.  ``full``: only with ``--full``, for what takes minutes."""

    name: str
    title: str
    source: str
    run: Callable[[], Iterable[Check]]
    full: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of a case: its checks, or the sentence of the error that ended it."""

    case: Case
    checks: tuple[Check, ...]
    seconds: float
    error: str = ""

    @property
    def passed(self) -> bool:
        """Every check passed; a case that ended in an error, or checked nothing, did not."""
        return bool(self.checks) and not self.error and all(check.passed for check in self.checks)

    def __str__(self) -> str:
        failed = next((check for check in self.checks if not check.passed), None)
        why = f": {failed.quantity} is {failed.result:.10g}, reference {failed.reference:.10g}" if failed else ""
        why = f": {self.error}" if self.error else why
        return f"{'PASS' if self.passed else 'FAIL'}  {self.case.name:24} {self.case.title}{why}"


def outcome_of(case: Case) -> Outcome:
    """Run a case.  Whatever ends it early, bugs of the case too, is a failure of the case and not of the qualification."""
    started, checks, error = time.perf_counter(), [], ""
    try:
        for check in case.run():
            checks.append(check)
    except NLMEError as stopped:
        error = str(stopped)
    except Exception as stopped:
        error = f"{type(stopped).__name__}: {stopped}"
    return Outcome(case, tuple(checks), time.perf_counter() - started, error)
