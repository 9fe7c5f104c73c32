"""All cases on this machine, and what is written of them."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import jax

from nlme.errors import DataError, name_error
from nlme.qualify.checks import Case, Outcome, outcome_of
from nlme.qualify.folders import cases_in
from nlme.qualify.page import page
from nlme.qualify.shipped import CASES
from nlme.versions import now, versions


@dataclass(frozen=True)
class Qualification:
    """The outcomes of all cases, and on what they were computed."""

    outcomes: tuple[Outcome, ...]
    mode: str
    date: str = field(default_factory=now)
    versions: dict[str, str] = field(default_factory=versions)
    machine: dict[str, str] = field(default_factory=lambda: _machine())

    @property
    def passed(self) -> bool:
        """Every case passed, and there was one."""
        return bool(self.outcomes) and all(outcome.passed for outcome in self.outcomes)

    @property
    def verdict(self) -> str:
        failed = [outcome.case.name for outcome in self.outcomes if not outcome.passed]
        count = f"{len(self.outcomes) - len(failed)} of {len(self.outcomes)} cases passed"
        return f"{'PASS' if self.passed else 'FAIL'}: {count}" + (f"; failed: {', '.join(failed)}." if failed else ".")

    def __repr__(self) -> str:
        return "\n".join([*map(str, self.outcomes), self.verdict])

    def facts(self) -> dict:
        """Everything as JSON has it."""
        return {
            "verdict": "PASS" if self.passed else "FAIL",
            "mode": self.mode,
            "date": self.date,
            "versions": self.versions,
            "machine": self.machine,
            "cases": [_facts(outcome) for outcome in self.outcomes],
        }

    def write(self, folder: str | Path) -> Path:
        """Write ``qualification.html`` and ``qualification.json`` into a folder; the path of the page.

        Raises
        ------
        DataError
            The folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "qualification.json").write_text(json.dumps(self.facts(), indent=2) + "\n", encoding="utf-8")
            (folder / "qualification.html").write_text(page(self.facts(), self.verdict), encoding="utf-8")
        except OSError as error:
            raise DataError(f"The qualification cannot be written to {folder}: {error.strerror or error}.") from None
        return folder / "qualification.html"


def qualify(
    out: str | Path | None = None,
    *,
    full: bool = False,
    cases: str | Path | None = None,
    only: Iterable[str] = (),
    shown: Callable[[Outcome], None] = lambda outcome: None,
) -> Qualification:
    """Run the cases with known answers on this machine.

    Parameters
    ----------
    out : folder for ``qualification.html`` and ``qualification.json``; nothing is written by default
    full : the cases that take minutes too (fits)
    cases : a folder with a case of your own, or with several (see :func:`nlme.qualify.case_of`), run after the library's
    only : names of the cases wanted; the page says that they are a selection
    shown : called with every outcome as it comes

    Raises
    ------
    DataError
        A case that does not exist or is not well formed; ``out`` cannot be written.
    """
    known = (*CASES, *(cases_in(cases) if cases is not None else ()))
    names = [case.name for case in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Two cases have the name {twice[0]!r}; rename your folder.")
    only = (only,) if isinstance(only, str) else tuple(only)
    for name in only:
        if name not in names:
            raise DataError(name_error("case", name, names, "The qualification"))
    chosen = [case for case in known if (case.name in only if only else full or not case.full)]
    mode = f"selected cases only: {', '.join(only)}" if only else ("full" if full else "quick")
    found = Qualification(tuple(_run(case, shown) for case in chosen), mode)
    if out is not None:
        found.write(out)
    return found


def _run(case: Case, shown: Callable[[Outcome], None]) -> Outcome:
    outcome = outcome_of(case)
    shown(outcome)
    return outcome


def _facts(outcome: Outcome) -> dict:
    checks = [
        {
            "quantity": check.quantity,
            "result": check.result if abs(check.result) < float("inf") else str(check.result),
            "reference": check.reference,
            "difference": check.difference if check.difference < float("inf") else str(check.difference),
            "tolerance": check.tolerance,
            "relative": check.relative,
            "verdict": "PASS" if check.passed else "FAIL",
        }
        for check in outcome.checks
    ]
    return {
        "name": outcome.case.name,
        "title": outcome.case.title,
        "source": outcome.case.source,
        "verdict": "PASS" if outcome.passed else "FAIL",
        "error": outcome.error,
        "seconds": round(outcome.seconds, 2),
        "checks": checks,
    }


def _machine() -> dict[str, str]:
    devices = jax.devices()
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "devices": f"{len(devices)} {devices[0].platform}",
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
    }
