"""$ESTIMATION: the steps of a run, and the one whose objective can be compared with ours.

What a step does not say holds from the step before it (METHOD, INTERACTION, LAPLACIAN, NOPRIOR, the kind of likelihood).

Source: NONMEM Users Guide Part VIII, $ESTIMATION.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from nlme.exchange.nonmem.methods import Written
from nlme.exchange.nonmem.program import Program
from nlme.exchange.nonmem.records import Record, has_word, of_name, option
from nlme.exchange.nonmem.results import NonmemResults, Step
from nlme.marginal.base import Method
from nlme.marginal.first_order import FO
from nlme.marginal.foce import FOCE, FOCEI
from nlme.marginal.laplace import Laplace
from nlme.marginal.quadrature import ImportanceSampling

_MONTE_CARLO = ("IMP", "IMPMAP")
_MOST = 1000  # samples of ours for each subject


@dataclass(frozen=True)
class Estimation:
    """One step: its method (0, 1 or a name), and what else decides what its objective is."""

    method: str = "0"
    interaction: bool = False
    laplacian: bool = False
    prior: bool = True
    samples: int = 300
    variant: str = ""  # HYBRID, CENTERING

    @property
    def kind(self) -> str:
        """FO, FOCE, LAPLACE, or another by its name."""
        if self.method == "0":
            return "FO"
        if self.method != "1":
            return self.method
        return "LAPLACE" if self.laplacian else self.variant or "FOCE"


def estimations_of(records: list[Record]) -> list[Estimation]:
    """The steps in order."""
    found: list[Estimation] = []
    for record in of_name(records, "ESTIMATION"):
        step = _step(record.text.upper(), found[-1] if found else Estimation())
        if step.method != "CHAIN":  # initial values, not an estimation: there is no table of it
            found.append(step)
    return found


def _step(text: str, before: Estimation) -> Estimation:
    step = before
    method = option(text, "METHOD")
    if method is not None:
        step = replace(step, method=_method(method.upper()))
    for yes, no, name in (("INTERACTION", "NOINTERACTION", "interaction"), ("LAPLACIAN", "NOLAPLACIAN", "laplacian")):
        if has_word(text, yes, yes.replace("IAN", "E")):
            step = replace(step, **{name: True})
        if has_word(text, no, no.replace("IAN", "E")):
            step = replace(step, **{name: False})
    if step.laplacian and step.method == "0":
        step = replace(step, method="1")  # NM-TRAN supplies METHOD=1
    if (without := option(text, "NOPRIOR")) is not None:
        step = replace(step, prior=without == "0")
    if (samples := option(text, "ISAMPLE")) is not None and samples.isdigit():
        step = replace(step, samples=max(int(samples), 2))
    variant = next((w for w in ("HYBRID", "CENTERING") if re.search(rf"(?<!NO)\b{w}", text)), None)
    return step if variant is None else replace(step, variant=variant)


def _method(word: str) -> str:
    if word in ("0", "ZERO", "FO"):
        return "0"
    return "1" if word in ("1", "FOCE") or "CONDITIONAL".startswith(word) else word


_METHODS = {"FO": lambda inter: FO(), "FOCE": lambda inter: FOCEI() if inter else FOCE(), "LAPLACE": lambda inter: Laplace()}


def compared(
    program: Program, written: Written, results: NonmemResults | None, messages: list[str]
) -> tuple[Step | None, Method]:
    """The last step whose objective can be computed here (None: no results of it), and its method.

    Why an objective is not compared is added to ``messages``.
    """
    steps = estimations_of(program.records)
    if not steps:
        messages.append("There is no $ESTIMATION of a model: the method is FOCEI.")
        return (results.steps[-1] if results and results.steps else None), FOCEI()
    pairs = _with_results(steps, results)
    possible = [(e, s) for e, s in pairs if e.kind in _METHODS and (s is None or s.objective is not None or len(pairs) == 1)]
    if possible:
        estimation, step = possible[-1]
        why = _differs(estimation, program, written)
        if why:
            messages.append(f"{why}: not compared.")
            step = without_objective(step)
        return step, _METHODS[estimation.kind](estimation.interaction)
    estimation, step = pairs[-1]
    if estimation.method in _MONTE_CARLO:
        method = ImportanceSampling(samples=min(estimation.samples, _MOST))
        return (without_objective(step) if program.prior and estimation.prior else step), method
    messages.append(
        f"METHOD={estimation.kind}: its objective is not the marginal likelihood's, so it is not compared; "
        "the method here is FOCEI."
    )
    return without_objective(step), FOCEI()


def _differs(estimation: Estimation, program: Program, written: Written) -> str:
    """Why NONMEM's objective of this step is another than ours; "" if it is not."""
    if program.prior is not None and estimation.prior:
        return "The prior has a part in NONMEM's objective, whose constants are not known"
    if estimation.kind == "LAPLACE" and not estimation.interaction and not _constant_variance(written):
        return "LAPLACE without INTERACTION takes the residual variance at eta = 0, and Laplace() does not"
    if estimation.kind == "FO" and estimation.interaction:
        return "FO with INTERACTION is not computed here, FO() is without"
    return ""


def _with_results(steps: list[Estimation], results: NonmemResults | None) -> list[tuple[Estimation, Step | None]]:
    """Each step with its table: that of its number; where tables have other numbers, as many last ones as there are."""
    tables = [table for table in results.steps if table.number] if results else []  # 0: METHOD=CHAIN
    by = {table.number: table for table in tables}
    if by and set(by) <= set(range(1, len(steps) + 1)) and len(by) == len(tables):
        return [(step, by[k]) for k, step in enumerate(steps, start=1) if k in by]
    tables = tables[-len(steps) :]
    return list(zip(steps[-len(tables) :], tables, strict=True)) if tables else [(step, None) for step in steps]


def without_objective(step: Step | None) -> Step | None:
    """The step's values alone."""
    return None if step is None else replace(step, objective=None, iterations=None)


def _constant_variance(written: Written) -> bool:
    """Whether no residual variance depends on anything."""
    texts = written.endpoints.values()
    return all(t.startswith("nlme.loglik(") or re.fullmatch(r"nlme\.additive\(.*, self\.\w+\)", t) for t in texts)
