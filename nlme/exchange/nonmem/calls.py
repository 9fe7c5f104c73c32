"""CALLFL and the calling protocols, and A_0FLG: with which records $PK and $ERROR are called, and where states begin.

Source: NONMEM Users Guide Part VIII, CALLFL and A_0FLG.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nlme.exchange.nonmem import expressions as ex
from nlme.exchange.nonmem.abbreviated import EVERY_RECORD, Assignment, Code
from nlme.exchange.nonmem.assignments import chosen
from nlme.exchange.nonmem.formulas import unset
from nlme.exchange.nonmem.items import Items


def uncalled(error: Code, items: Items) -> np.ndarray:
    """(n,) the records with which $ERROR is not called.

    Raises
    ------
    ModelError
        CALLFL=1.
    """
    if error.calls == 1:
        raise error.refuse("CALLFL=1 is not imported: $ERROR would be called once for each individual.")
    return items.evid != 0 if error.calls == 0 else np.zeros(len(items), bool)


def as_called(code: Code, items: Items) -> tuple[Code, dict[str, np.ndarray]]:
    """$PK as it is with its calling protocol (CALLFL): the data items that it reads are those of the record of its last call."""
    if code.calls == EVERY_RECORD:
        return code, {}
    reads = sorted({n for a in code.assignments for n in ex.names_in(a.value)})
    called = np.diff(items.subject, prepend=-1) != 0
    if code.calls == 0:
        called = called | (np.diff(items.time, prepend=0.0) != 0)
    record = np.maximum.accumulate(np.where(called, np.arange(len(items)), 0))
    held = {n: v[record] for n in reads if (v := items.columns.get(n)) is not None and np.any(v != v[record])}
    if code.calls == -2:
        if held and _doses_between(code, items):
            raise code.refuse(f"CALLFL=-2 where the code reads {min(held)}, which changes in time, is not imported.")
        return code, {}
    for name in ("NEWIND", "A_0FLG"):
        if name in reads:
            raise code.refuse(f"CALLFL={code.calls} where the code reads {name} is not imported.")
    names = {n: ex.name(f"{n}_HELD") for n in held}
    assignments = [Assignment(a.target, ex.replaced(a.value, names), a.line) for a in code.assignments]
    return replace(code, assignments=assignments), {f"{n}_HELD": v for n, v in held.items()}


def at_starts(code: Code, items: Items) -> Code:
    """$PK with A_0FLG as 1 where that is all that counts: in A_0 itself, and in what is the same at all records of an individual.

    What is left of it is a memory, of what the record at which the states began had.
    """
    if not any("A_0FLG" in ex.names_in(a.value) for a in code.assignments):
        return code
    epoch = np.cumsum(items.begins)
    first = np.flatnonzero(np.diff(epoch, prepend=0))
    changing = {n for n, v in items.columns.items() if np.any(v != v[first][epoch - 1])} | {"NEWIND", "T"}
    made: set[str] = set()
    assignments = []
    for a in code.assignments:
        begun = chosen(ex.replaced(a.value, {"A_0FLG": ex.number(1)}))
        reads = ex.names_in(begun)
        if any(n in changing or unset(n) is not None or n in code.targets - made for n in reads):
            changing.add(a.target)
        else:
            changing.discard(a.target)
        made.add(a.target)
        plain = a.target.startswith("A_0(") or a.target not in changing
        assignments.append(Assignment(a.target, begun, a.line) if plain else a)
    return replace(code, assignments=assignments)


def _doses_between(code: Code, items: Items) -> bool:
    """Whether $PK would be called between records: at additional or lagged doses."""
    return bool(np.any(items.column("ADDL") > 0)) or any(t.startswith("ALAG") for t in code.targets)
